# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rooms of an account of any homeserver, searched for accounts of another one: a witness.

It needs no rights but those of a member, and only reads. Its homeserver may be any implementation.
"""

from __future__ import annotations

from .._federation.checks import KnownAccounts
from .._federation.names import is_server_name, is_user_id, server_of
from .._synapse.client import CLIENT, Client
from .._synapse.errors import SynapseError
from .ghosts import Room
from .pairs import PENDING, member_events


class WitnessError(Exception):
    """The rooms of the witness can't be read."""


def read_witness(client: Client, server_name: str) -> list[Room]:
    """Return the rooms of the witness in which accounts of a server are joined, invited or knocking.

    Each has all servers with joined members. Servers that only the witness's own homeserver takes for gone are
    included: whether they still list an account is for them to answer.

    :param client: with the access token of the witness.
    :param server_name: whose accounts to search for.
    :raises WitnessError: the token is invalid, is of an account of I(server_name), or a room can't be read.

    API: C(GET /_matrix/client/v3/joined_rooms), U(https://spec.matrix.org/latest/client-server-api/).
    """
    try:
        if client.server_name == server_name:
            raise WitnessError(f"witness_token is of an account of {server_name} itself: set that of another server")
        room_ids = sorted(client.get(f"{CLIENT}/v3/joined_rooms").texts("joined_rooms"))
        found = [room for _room_id, room in client.map(lambda room_id: _read(client, room_id, server_name), room_ids)]
    except SynapseError as error:
        advice = "set a valid access token" if error.status == 401 else "check witness_url, then run again"
        raise WitnessError(f"witness_token: the rooms of the witness can't be read: {error}: {advice}") from error
    return [room for room in found if room is not None]


def _read(client: Client, room_id: str, server_name: str) -> Room | None:
    """Return a room if accounts of the server are in it.

    API: C(GET /_matrix/client/v3/rooms/<room_id>/joined_members) and C(…/members).
    """
    room = f"{CLIENT}/v3/rooms/{{}}"
    joined = [name for name in client.get(f"{room}/joined_members", room_id).object("joined") if is_user_id(name)]
    pending = [
        user_id
        for membership in PENDING
        # The events of all members would have 650 bytes each.
        for user_id, _event in member_events(
            client.get(f"{room}/members", room_id, params={"membership": membership}).objects("chunk")
        )
    ]
    ours, invited = (sorted(name for name in names if server_of(name) == server_name) for names in (joined, pending))
    servers = {server_of(name) for name in joined} - {server_name}
    if not (ours or invited) or not servers:
        return None
    return Room(room_id, tuple(sorted(filter(is_server_name, servers))), KnownAccounts(tuple(ours), tuple(invited)))
