# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Aliases of this server in its room directory."""

from __future__ import annotations

from .client import CLIENT, Client


def local_aliases(client: Client, room_id: str) -> list[str]:
    """The aliases of this server that point to a room, whether or not a local account is joined to the room.

    API: C(GET /_matrix/client/v3/rooms/<room_id>/aliases).
    """
    return sorted(client.get(f"{CLIENT}/v3/rooms/{{}}/aliases", room_id).texts("aliases"))


def delete_alias(client: Client, alias: str) -> None:
    """Delete an alias of this server.

    API: C(DELETE /_matrix/client/v3/directory/room/<alias>).

    :raises RefusedError: 404 if there is no such alias.
    """
    client.delete(f"{CLIENT}/v3/directory/room/{{}}", alias)
