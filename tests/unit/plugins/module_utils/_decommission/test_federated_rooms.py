# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Iterator, NamedTuple

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.federated_rooms import (
    MAX_INVITING_SERVERS,
    list_federated_rooms,
    record_pending,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import Room
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.record import KIND, read_record
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import KnownAccounts
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.accounts import list_accounts
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import OPERATOR, SERVER, matrix_error, room_id
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import BROKEN, Homeserver, stripped
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import IGNORED_USERS as IGNORED

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
    rooms, unreadable = list_federated_rooms(client)
    assert not unreadable
    return rooms


class Recorded(NamedTuple):
    """What came of recording the invites and knocks of all accounts: servers and accounts by room ID."""

    rooms: dict[str, tuple[list[str], list[str]]]
    unlisted: dict[str, str]


def recorded(client: Client) -> Recorded:
    unlisted = record_pending(client, list_accounts(client))
    rooms = read_record(client).rooms
    assert not any(room.joined for room in rooms.values())
    return Recorded({key: (sorted(room.servers), sorted(room.pending)) for key, room in rooms.items()}, unlisted)


def logins(homeserver: Homeserver) -> list[str]:
    return [path.split("/")[-2] for path in homeserver.paths if path.endswith("/login")]


# Joined rooms


@pytest.mark.parametrize("concurrency", [1, 4])
def test_joined_rooms(homeserver: Homeserver, client: Client, concurrency: int) -> None:
    homeserver.members = {
        R: {ALICE: "join", BOB: "join", REMOTE: "join", "@b:port.example:8448": "join", "@c:gone.example": "leave"},
        Q: {BOB: "join", OPERATOR: "leave", "@a:a.example": "join"},
        room_id("ours"): {ALICE: "join", BOB: "join"},
        room_id("left"): {ALICE: "leave", REMOTE: "join"},
    }
    found = listed(client, concurrency=concurrency)
    assert sorted(found) == [
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
    rooms, unreadable = list_federated_rooms(client)
    assert [room.room_id for room in rooms] == [Q]
    assert list(unreadable) == [R] and "M_UNKNOWN" in unreadable[R]


@pytest.mark.parametrize("what", ["members", "state"])
def test_an_invalid_token_is_no_broken_room(homeserver: Homeserver, client: Client, what: str) -> None:
    homeserver.members = {R: {ALICE: "join", REMOTE: "join"}}
    homeserver.faults[f"GET members {R}"] = BROKEN
    homeserver.faults[f"GET {what} {R}"] = (401, matrix_error("M_UNKNOWN_TOKEN", "gone"))
    with pytest.raises(SynapseError, match="M_UNKNOWN_TOKEN"):
        listed(client)


# Invites and knocks


def invite(homeserver: Homeserver, user_id: str, room: str, *senders: Any, kind: str = "invite") -> None:
    homeserver.pending.setdefault(user_id, {}).setdefault(kind, {})[room] = [stripped(sender) for sender in senders]


def test_invites_and_knocks(homeserver: Homeserver, client: Client) -> None:
    invite(homeserver, ALICE, R, REMOTE, "@b:b.example:8448")
    invite(homeserver, ALICE, Q, f"@c:{SERVER}", "@c:c.example", kind="knock")
    invite(homeserver, OPERATOR, Q, REMOTE)
    invite(homeserver, BOB, "!ours", ALICE)
    assert recorded(client).rooms == {
        Q: (["c.example", "other.example"], [ALICE, OPERATOR]),
        R: (["b.example:8448", "other.example"], [ALICE]),
    }
    assert logins(homeserver) == [ALICE, BOB], "the operator has a session"
    assert homeserver.count("logout") == 2


def test_a_record_without_changes_is_not_written(homeserver: Homeserver, client: Client) -> None:
    invite(homeserver, ALICE, R, REMOTE)
    recorded(client)
    puts = len(homeserver.puts)
    assert puts and recorded(client).rooms == {R: (["other.example"], [ALICE])}
    assert len(homeserver.puts) == puts


def test_without_any_nothing_is_written(homeserver: Homeserver, client: Client) -> None:
    assert recorded(client) == Recorded({}, {})
    assert not [kind for kind, _size in homeserver.puts if kind.startswith(KIND)]


@pytest.mark.parametrize(
    "sender", [None, 7, "", "nobody", "@a:", "@a:evil.example/../", "@a:evil.example\r\nHost: a", "@a:" + "a" * 300]
)
def test_senders_that_cannot_be(homeserver: Homeserver, client: Client, sender: Any) -> None:
    invite(homeserver, ALICE, R, sender)
    assert recorded(client).rooms == {}
    invite(homeserver, ALICE, R, sender, REMOTE)
    assert recorded(client).rooms == {R: (["other.example"], [ALICE])}


def test_an_invite_names_no_more_than_some_servers(homeserver: Homeserver, client: Client) -> None:
    invite(homeserver, ALICE, R, *(f"@a:s{number:04}.example" for number in range(1000)))
    servers, _accounts = recorded(client).rooms[R]
    assert len(servers) == MAX_INVITING_SERVERS


def test_accounts_without_a_session(homeserver: Homeserver, client: Client) -> None:
    """A session that is opened as a guest can't be ended, and a deactivated account has no invites."""
    homeserver.register("guest", is_guest=True)
    homeserver.register("gone", deactivated=True)
    homeserver.register("erased", deactivated=True, erased=True)
    found = recorded(client)
    assert logins(homeserver) == [ALICE, BOB]
    assert found.unlisted == {}


@pytest.mark.parametrize("fails", [False, True])
def test_a_locked_account_is_locked_again(homeserver: Homeserver, client: Client, fails: bool) -> None:
    homeserver.accounts[ALICE]["locked"] = True
    invite(homeserver, ALICE, R, REMOTE)
    if fails:
        homeserver.faults["GET sync v3"] = BROKEN
    found = recorded(client)
    assert list(found.rooms) == ([] if fails else [R])
    assert homeserver.accounts[ALICE]["locked"] is True
    assert homeserver.accounts[BOB]["locked"] is False
    changes = [path for path in homeserver.paths if path.startswith("PUT admin/v2/users")]
    assert changes == [f"PUT admin/v2/users/{ALICE}"] * 2


@pytest.mark.parametrize("fails", [False, True])
def test_invites_by_ignored_users(homeserver: Homeserver, client: Client, fails: bool) -> None:
    ignored = {"ignored_users": {REMOTE: {}}}
    homeserver.account_data[ALICE, IGNORED] = ignored
    homeserver.account_data[BOB, IGNORED] = {"ignored_users": {}}
    invite(homeserver, ALICE, R, REMOTE)
    if fails:
        homeserver.faults["GET sync v3"] = BROKEN
    found = recorded(client)
    assert list(found.rooms) == ([] if fails else [R])
    assert homeserver.account_data[ALICE, IGNORED] == ignored
    assert [path for path in homeserver.paths if path.startswith("PUT") and path.endswith(IGNORED)] == [
        f"PUT client/v3/user/{ALICE}/account_data/{IGNORED}"
    ] * 2


def test_an_account_that_cannot_be_listed_leaves_the_others_alone(homeserver: Homeserver, client: Client) -> None:
    invite(homeserver, BOB, R, REMOTE)
    homeserver.faults[f"POST login {ALICE}"] = (403, matrix_error("M_FORBIDDEN", "no"))
    found = recorded(client)
    assert found.rooms == {R: (["other.example"], [BOB])}
    assert list(found.unlisted) == [ALICE] and "M_FORBIDDEN: no" in found.unlisted[ALICE]


def test_a_list_of_ignored_users_that_cannot_be_read(homeserver: Homeserver, client: Client) -> None:
    homeserver.faults[f"GET client/v3/user/{ALICE}/account_data/{IGNORED}"] = (403, matrix_error("M_FORBIDDEN", "no"))
    assert list(recorded(client).unlisted) == [ALICE]


def test_a_dead_token_ends_it(homeserver: Homeserver, client: Client) -> None:
    homeserver.faults[f"POST login {ALICE}"] = (401, matrix_error("M_UNKNOWN_TOKEN", "gone"))
    with pytest.raises(SynapseError, match="M_UNKNOWN_TOKEN"):
        recorded(client)


def test_where_login_is_delegated(homeserver: Homeserver, client: Client) -> None:
    homeserver.delegated = True
    invite(homeserver, ALICE, R, REMOTE)
    invite(homeserver, OPERATOR, Q, REMOTE)
    found = recorded(client)
    assert found.rooms == {Q: (["other.example"], [OPERATOR])}
    assert sorted(found.unlisted) == [ALICE, BOB]
    assert all("login is delegated" in reason for reason in found.unlisted.values())
    assert logins(homeserver) == []


def test_a_server_that_answers_something_else(homeserver: Homeserver, client: Client) -> None:
    homeserver.faults["GET sync v3"] = (200, {"rooms": {"invite": {R: {"invite_state": 7}}}})
    found = recorded(client)
    assert found.rooms == {} and sorted(found.unlisted) == [ALICE, BOB, OPERATOR]
