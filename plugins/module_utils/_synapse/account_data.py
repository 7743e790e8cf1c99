# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The account data of the operator, in which the collection keeps its records.

API: C(/_matrix/client/v3/user/<user_id>/account_data/<type>).
"""

from __future__ import annotations

from .answer import JsonDict
from .client import CLIENT, Client
from .errors import FatalError, SynapseError
from .unanswered import read_again

ACCOUNT_DATA_TYPE = "io.github.matrixops.decommission"
PATH = f"{CLIENT}/v3/user/{{}}/account_data/{{}}"


def read_data(client: Client, kind: str) -> JsonDict:
    """The operator's account data of type I(kind); empty if there is none, or if it names another server.

    :raises SynapseError: if the content was not written by this collection.
    """
    try:
        content = client.get(PATH, client.user_id, kind)
    except SynapseError as error:
        if error.status != 404:
            raise
        return {}
    if content and "server_name" not in content:
        # Not written by this collection. Treated as empty, it would be overwritten.
        raise content.error(f"the account data {kind} was not written by this collection: it has no server_name")
    return content if content.get("server_name") == client.server_name else {}


def write_data(client: Client, kind: str, content: JsonDict) -> None:
    """Replace the operator's account data of type I(kind); the name of the server is added to I(content)."""
    client.put(PATH, client.user_id, kind, json={**content, "server_name": client.server_name})


def write_checked(client: Client, kind: str, content: JsonDict) -> None:
    """As C(write_data), and read the content back: for what decides when the host is powered off.

    The read is repeated for some seconds, since another process of Synapse may answer it, which is behind.

    :raises FatalError: if the server has answered, but does not have the content: a later run would act on an old one.
    """
    write_data(client, kind, content)
    written = {**content, "server_name": client.server_name}
    found = read_again(lambda: client.get(PATH, client.user_id, kind), lambda found: found == written)
    if found == written:
        return
    raise FatalError(
        f"The account data {kind} was written, but the server returns other content. Check the reverse proxy and the"
        " account data writer of Synapse, then run again"
    )
