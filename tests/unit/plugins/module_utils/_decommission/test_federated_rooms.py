# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.federated_rooms import (
    list_federated_rooms,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import Room
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import KnownAccounts
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import OPERATOR, SERVER, matrix_error, room_id
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import BROKEN, Homeserver

ALICE, BOB = f"@alice:{SERVER}", f"@bob:{SERVER}"
REMOTE = "@someone:other.example"
R, Q = room_id("r"), room_id("q")


@pytest.fixture
def homeserver() -> Iterator[Homeserver]:
    with Homeserver.mocked() as homeserver:
        homeserver.register("alice", "bob")
        yield homeserver


@pytest.fixture
def client(homeserver: Homeserver, lone_client: Client) -> Client:
    return lone_client


def listed(client: Client, *, concurrency: int = 1) -> list[Room]:
    """The rooms, where all can be read."""
    client.connections = concurrency
    found = list_federated_rooms(client)
    assert not found.unreadable
    return found.rooms


# Joined rooms


@pytest.mark.parametrize("concurrency", [1, 4])
def test_joined_rooms(homeserver: Homeserver, client: Client, concurrency: int) -> None:
    homeserver.members = {
        R: {ALICE: "join", BOB: "join", REMOTE: "join", "@b:port.example:8448": "join", "@c:gone.example": "leave"},
        Q: {BOB: "join", OPERATOR: "leave", "@a:a.example": "join"},
        room_id("ours"): {ALICE: "join", BOB: "join"},
        room_id("left"): {ALICE: "leave", REMOTE: "join"},
    }
    client.connections = concurrency
    found = list_federated_rooms(client)
    assert {user_id: sorted(rooms) for user_id, rooms in found.joined.items()} == {
        ALICE: sorted([R, room_id("ours")]),
        BOB: sorted([R, Q, room_id("ours")]),
        OPERATOR: [],
    }
    assert found.federated == {R: True, Q: True, room_id("ours"): False}
    assert sorted(found.rooms) == [
        Room(Q, ("a.example",), KnownAccounts((BOB,))),
        Room(R, ("other.example", "port.example:8448"), KnownAccounts((ALICE, BOB))),
    ]
    assert homeserver.writes == []


def test_rooms_that_statistics_lack(homeserver: Homeserver, client: Client) -> None:
    homeserver.members = {R: {ALICE: "join", REMOTE: "join"}, Q: {OPERATOR: "join", REMOTE: "join"}}
    homeserver.unlisted_rooms = {R, Q}
    assert [room.room_id for room in listed(client)] == [Q, R]


def test_rooms_of_accounts_in_no_listing(homeserver: Homeserver, client: Client) -> None:
    """For example the sender of an application service, or a deactivated account that is still joined."""
    (gone,) = homeserver.register("gone", deactivated=True)
    homeserver.members = {R: {f"@bridge:{SERVER}": "join", REMOTE: "join"}, Q: {gone: "join", REMOTE: "join"}}
    assert [room.known.joined for room in listed(client)] == [(gone,), (f"@bridge:{SERVER}",)]
    assert homeserver.count(f"{gone}/joined_rooms") == 0


def test_members_that_cannot_be(homeserver: Homeserver, client: Client) -> None:
    odd = [
        "@a:evil.example\r\nHost: a",
        "@\x1b[2J:x.example",
        "nobody",
        "@a:",
        "@a:evil.example/../",
        f"@{'a' * 300}:{SERVER}",
    ]
    homeserver.members = {R: {**dict.fromkeys(odd, "join"), ALICE: "join", REMOTE: "join"}}
    assert listed(client) == [Room(R, ("other.example",), KnownAccounts((ALICE,)))]


def test_a_room_whose_members_cannot_be_listed(homeserver: Homeserver, client: Client) -> None:
    homeserver.members = {R: {ALICE: "join", BOB: "leave", REMOTE: "join"}}
    homeserver.faults[f"GET members {R}"] = BROKEN
    assert listed(client) == [Room(R, ("other.example",), KnownAccounts((ALICE, BOB)))]


def test_a_room_that_cannot_be_read_leaves_the_others_alone(homeserver: Homeserver, client: Client) -> None:
    homeserver.members = {R: {ALICE: "join", REMOTE: "join"}, Q: {ALICE: "join", REMOTE: "join"}}
    homeserver.faults.update({f"GET {what} {R}": BROKEN for what in ("members", "state")})
    found = list_federated_rooms(client)
    assert [room.room_id for room in found.rooms] == [Q]
    assert list(found.unreadable) == [R] and "M_UNKNOWN" in found.unreadable[R]
    assert found.federated == {Q: True, R: True}


@pytest.mark.parametrize("what", ["members", "state"])
def test_an_invalid_token_is_no_broken_room(homeserver: Homeserver, client: Client, what: str) -> None:
    homeserver.members = {R: {ALICE: "join", REMOTE: "join"}}
    homeserver.faults[f"GET members {R}"] = BROKEN
    homeserver.faults[f"GET {what} {R}"] = (401, matrix_error("M_UNKNOWN_TOKEN", "gone"))
    with pytest.raises(SynapseError, match="M_UNKNOWN_TOKEN"):
        listed(client)
