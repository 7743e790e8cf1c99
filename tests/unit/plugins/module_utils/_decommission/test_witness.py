# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import Room
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.witness import WitnessError, read_witness
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import KnownAccounts
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    OPERATOR,
    WHOAMI,
    Json,
    Server,
    matrix_error,
    quoted,
    room_id,
)

CLIENT = "/_matrix/client/v3"
GONE = "old.example"
GHOST, INVITED, KNOCKING = (f"@{name}:{GONE}" for name in ("ghost", "invited", "knocking"))


def rooms(server: Server, *names: str) -> None:
    server.whoami()
    server.get(f"{CLIENT}/joined_rooms", {"joined_rooms": [room_id(name) for name in names]})


def room(
    server: Server, name: str, *joined: str, invited: tuple[Any, ...] = (), knocking: tuple[Any, ...] = ()
) -> None:
    path = f"{CLIENT}/rooms/{quoted(room_id(name))}"
    server.get(f"{path}/joined_members", {"joined": {user_id: {} for user_id in joined}})
    for membership, user_ids in (("invite", invited), ("knock", knocking)):
        events: list[Json] = [{"type": "m.room.member", "state_key": each, "content": {}} for each in user_ids]
        server.get(f"{path}/members", {"chunk": events}, query={"membership": membership})


@pytest.fixture
def witness(server: Server, fresh_client: Client) -> Client:
    fresh_client.connections = 1
    return fresh_client


def test_rooms_with_accounts_of_the_server(server: Server, witness: Client) -> None:
    rooms(server, "a", "b", "c")
    room(server, "a", OPERATOR, GHOST, "@x:third.example", "@y:third.example")
    room(server, "b", OPERATOR, "@other:old.example.org", "@x:third.example")
    room(server, "c", OPERATOR, invited=(INVITED, "@x:third.example"), knocking=(KNOCKING,))
    assert read_witness(witness, GONE) == [
        Room(room_id("a"), ("example.org", "third.example"), KnownAccounts((GHOST,))),
        Room(room_id("c"), ("example.org",), KnownAccounts((), (INVITED, KNOCKING))),
    ]


def test_names_are_hostile(server: Server, witness: Client) -> None:
    rooms(server, "a")
    room(server, "a", OPERATOR, GHOST, "@x:-_.example:0", "nobody", f"{GHOST}\u202e", invited=(7, "\x1b[2J", None))
    assert read_witness(witness, GONE) == [Room(room_id("a"), ("example.org",), KnownAccounts((GHOST,)))]


def test_a_token_that_is_invalid(server: Server, witness: Client) -> None:
    server.get(WHOAMI, matrix_error("M_UNKNOWN_TOKEN", "Invalid access token passed."), status=401)
    with pytest.raises(WitnessError, match=r"^witness_token: .*401 M_UNKNOWN_TOKEN.*: set a valid access token$"):
        read_witness(witness, GONE)


def test_a_room_that_cannot_be_read(server: Server, witness: Client) -> None:
    rooms(server, "a")
    path = f"{CLIENT}/rooms/{quoted(room_id('a'))}/joined_members"
    server.get(path, matrix_error("M_FORBIDDEN", "You aren't a member of the room."), status=403)
    with pytest.raises(WitnessError, match=r"403 M_FORBIDDEN.*: check witness_url, then run again"):
        read_witness(witness, GONE)


def test_an_account_of_the_server_itself(server: Server, witness: Client) -> None:
    server.whoami()
    with pytest.raises(WitnessError, match=r"is of an account of example\.org itself: set that of another server"):
        read_witness(witness, "example.org")
