# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The homeserver itself."""

from __future__ import annotations

from ._client import ADMIN, CLIENT, Client, JsonDict, SynapseError


def server_info(client: Client) -> JsonDict:
    """Which server this is, and who is asking.

    :raises SynapseError: 403 if the access token is not an admin's.
    """
    version = client.get(f"{ADMIN}/v1/server_version").take("server_version", str)
    # The version is for everybody to read. This is not, and costs nothing.
    client.get(f"{ADMIN}/v2/users", params={"limit": 1, "guests": "false"})
    return {
        "server_name": client.server_name,
        "version": version,
        "operator": client.user_id,
        "delegated_auth": _exists(client, f"{CLIENT}/v1/auth_metadata"),
        "registration": _registration(client),
    }


def _exists(client: Client, path: str) -> bool:
    try:
        client.get(path)
    except SynapseError as error:
        if error.status != 404:
            raise
        return False
    return True


def _registration(client: Client) -> bool:
    """Whether registration is open: asked in a way that starts none. Gone (404) under delegated authentication."""
    try:
        client.get(f"{CLIENT}/v3/register/available", params={"username": "matrixops.synapse"})
    except SynapseError as error:
        if error.status not in (400, 403, 404):
            raise
        return error.status == 400
    return True
