# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks and removals on each implementation, as stubs play it: who is listed, what is sent, and what is not."""

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import (
    KnownAccounts,
    Pair,
    PairResult,
    check,
    check_if_joined,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.client import FederationClient
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.removal import remove
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.room_members import RoomMembers
from stubs import faults
from stubs.answers import Answer
from stubs.rooms import ROOM_VERSIONS, Room

from .conftest import StartServer

ALICE, BOB, CAROL, DAVE = (f"@{name}:gone.example" for name in ("alice", "bob", "carol", "dave"))
STRANGER = "@alice:elsewhere.example"
IMPLEMENTATIONS = ("synapse", "dendrite", "conduit", "tuwunel")
everywhere = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
ALL = KnownAccounts((ALICE, BOB), (CAROL, DAVE))


def anybody(_user_id: str, _room_id: str, _membership: str) -> bool:
    return True


# Checks


@everywhere
def test_no_account_is_listed(client: FederationClient, remote: StartServer, implementation: str) -> None:
    room = Room({ALICE: "leave", BOB: "ban", CAROL: "leave", DAVE: "leave", STRANGER: "join"})
    server = remote(room, implementation=implementation)
    result = check(client, Pair(server.server_name, room.room_id), ALL)
    assert (result.state, result.ghosts, result.reason) == ("confirmed", {}, "")
    assert not server.leaves


@everywhere
def test_listed_accounts(client: FederationClient, remote: StartServer, implementation: str) -> None:
    room = Room({ALICE: "join", BOB: "leave", CAROL: "invite", DAVE: "knock"})
    server = remote(room, implementation=implementation)
    result = check(client, Pair(server.server_name, room.room_id), ALL)
    assert (result.state, result.ghosts) == ("ghosts", {ALICE: "join", CAROL: "invite", DAVE: "knock"})
    assert not server.leaves


@everywhere
def test_invites_and_knocks_alone(client: FederationClient, remote: StartServer, implementation: str) -> None:
    room = Room({CAROL: "invite", DAVE: "knock"})
    server = remote(room, implementation=implementation)
    result = check(client, Pair(server.server_name, room.room_id), KnownAccounts((), (CAROL, DAVE)))
    # Dendrite hides invites, so that one can't be distinguished from a leave.
    assert result.state == ("unconfirmed" if implementation == "dendrite" else "ghosts")
    assert set(result.ghosts) == {CAROL, DAVE}


def test_synapse_confirms_in_one_request(client: FederationClient, remote: StartServer) -> None:
    room = Room({ALICE: "leave"})
    server = remote(room)
    result = check_if_joined(client, Pair(server.server_name, room.room_id), KnownAccounts((ALICE, BOB)))
    assert result is not None and result.state == "confirmed"
    assert [request.endpoint for request in server.requests] == ["state_ids"]


@pytest.mark.parametrize("implementation", ["synapse", "tuwunel"])
def test_unknown_members(client: FederationClient, remote: StartServer, implementation: str) -> None:
    room = Room({ALICE: "join", CAROL: "invite", STRANGER: "join"})
    room.say()
    server = remote(room, implementation=implementation)
    result = check(client, Pair(server.server_name, room.room_id), KnownAccounts())
    assert (result.state, result.ghosts) == ("ghosts", {ALICE: "join", CAROL: "invite"})


def test_without_accounts_conduit_cannot_be_asked(client: FederationClient, remote: StartServer) -> None:
    room = Room({ALICE: "join"})
    server = remote(room, implementation="conduit")
    result = check(client, Pair(server.server_name, room.room_id), KnownAccounts())
    assert result.state == "unconfirmed"
    assert "may list accounts that are not known here" in result.reason


def test_without_accounts_the_state_is_read_on_dendrite(client: FederationClient, remote: StartServer) -> None:
    """It proposes a leave for an account that does not exist, too, with the newest event."""
    room = Room({ALICE: "join", BOB: "leave", CAROL: "invite"})
    server = remote(room, implementation="dendrite")
    result = check(client, Pair(server.server_name, room.room_id), KnownAccounts())
    assert (result.state, result.ghosts) == ("ghosts", {ALICE: "join", CAROL: "invite"})


def test_an_unknown_member_is_found_when_all_known_have_left(client: FederationClient, remote: StartServer) -> None:
    room = Room({ALICE: "leave", BOB: "join"})
    room.say()
    server = remote(room)
    result = check(client, Pair(server.server_name, room.room_id), KnownAccounts((ALICE,)))
    assert (result.state, result.ghosts) == ("ghosts", {BOB: "join"})


def test_an_unknown_member_is_not_confirmed_on_conduit(client: FederationClient, remote: StartServer) -> None:
    room = Room({ALICE: "leave", BOB: "join"})
    server = remote(room, implementation="conduit")
    assert check(client, Pair(server.server_name, room.room_id), KnownAccounts((ALICE,))).state == "unconfirmed"


def test_a_join_that_is_the_newest_event(client: FederationClient, remote: StartServer) -> None:
    """The state at an event is the one before it, so the event itself is read."""
    room = Room({ALICE: "join"})
    server = remote(room)
    result = check(client, Pair(server.server_name, room.room_id), KnownAccounts())
    assert (result.state, result.ghosts) == ("ghosts", {ALICE: "join"})


def test_a_joined_account_that_is_not_shown(client: FederationClient, remote: StartServer) -> None:
    room = Room({ALICE: "join"})
    server = remote(room)
    server.inject("event", faults.error(404, "M_NOT_FOUND", "no"), times=1)
    result = check(client, Pair(server.server_name, room.room_id), KnownAccounts())
    assert (result.state, result.is_transient) == ("unconfirmed", True)
    room.say()
    assert check(client, Pair(server.server_name, room.room_id), KnownAccounts()).ghosts == {ALICE: "join"}


@everywhere
def test_world_readable_room(client: FederationClient, remote: StartServer, implementation: str) -> None:
    room = Room({ALICE: "leave", BOB: "leave"}, history_visibility="world_readable")
    server = remote(room, implementation=implementation)
    assert check(client, Pair(server.server_name, room.room_id), KnownAccounts((ALICE, BOB))).state == "confirmed"


@everywhere
def test_server_acl(client: FederationClient, remote: StartServer, implementation: str) -> None:
    room = Room({ALICE: "join"})
    room.banned_servers.add("gone.example")
    server = remote(room, implementation=implementation)
    result = remove(client, Pair(server.server_name, room.room_id), ALL, anybody)
    assert (result.state, result.removed) == ("refused", ())
    assert "server ACL" in result.reason
    assert not server.leaves


def test_partial_state(client: FederationClient, remote: StartServer) -> None:
    room = Room({ALICE: "join"})
    room.partial_state = True
    server = remote(room)
    result = check(client, Pair(server.server_name, room.room_id), ALL)
    assert (result.state, result.is_transient) == ("unconfirmed", True)
    room.partial_state = False
    assert check(client, Pair(server.server_name, room.room_id), ALL).ghosts == {ALICE: "join"}


def test_a_signature_that_is_not_accepted(client: FederationClient, remote: StartServer) -> None:
    room = Room({ALICE: "join"})
    server = remote(room)
    server.known_keys.clear()
    result = check(client, Pair(server.server_name, room.room_id), ALL)
    assert result.state == "refused"
    assert "signature" in result.reason


def test_a_server_that_is_down_is_asked_once(client: FederationClient, remote: StartServer) -> None:
    rooms = [Room({ALICE: "join"}, name=f"room{number}") for number in range(3)]
    server = remote(*rooms)
    server.stop()
    results = [check(client, Pair(server.server_name, room.room_id), ALL) for room in rooms]
    assert {(result.state, result.is_transient) for result in results} == {("unreachable", True)}
    assert client.sent == 1
    server.start()
    client.mark_up(server.server_name)
    assert check(client, Pair(server.server_name, rooms[0].room_id), ALL).state == "ghosts"


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_without_its_server(client: FederationClient, remote: StartServer, status: int) -> None:
    server = remote(Room({}))
    server.inject("*", faults.error(status, "", "Bad Gateway"))
    result = check(client, Pair(server.server_name, "!lounge:rooms.example"), ALL)
    assert result.state == "unreachable"
    assert str(status) in result.reason


# Removals


@everywhere
@pytest.mark.parametrize("version", ROOM_VERSIONS)
def test_ghosts_are_removed(client: FederationClient, remote: StartServer, implementation: str, version: str) -> None:
    room = Room({ALICE: "join", BOB: "leave", CAROL: "invite", STRANGER: "join"}, version=version)
    server = remote(room, implementation=implementation)
    result = remove(client, Pair(server.server_name, room.room_id), ALL, anybody)
    assert (result.state, set(result.removed)) == ("confirmed", {ALICE, CAROL})
    assert [room.membership(user_id) for user_id in (ALICE, BOB, CAROL, STRANGER)] == ["leave"] * 3 + ["join"]
    assert len(server.leaves) == 2 and not server.unneeded_leaves


@everywhere
def test_no_leave_is_sent_for_accounts_that_have_left(
    client: FederationClient, remote: StartServer, implementation: str
) -> None:
    room = Room(dict.fromkeys((ALICE, BOB, CAROL, DAVE), "leave"))
    server = remote(room, implementation=implementation)
    result = remove(client, Pair(server.server_name, room.room_id), ALL, anybody)
    assert (result.state, result.removed) == ("confirmed", ())
    assert server.asked("send_leave") == []


def test_accounts_that_may_not_leave_stay(client: FederationClient, remote: StartServer) -> None:
    room = Room({ALICE: "join", BOB: "join"})
    server = remote(room)
    result = remove(
        client, Pair(server.server_name, room.room_id), ALL, lambda user_id, _room_id, _listed: user_id != BOB
    )
    assert (result.state, result.ghosts, result.removed) == ("ghosts", {BOB: "join"}, (ALICE,))
    assert "joined on this server" in result.reason
    assert room.membership(BOB) == "join"


def test_a_server_that_accepts_a_leave_and_does_nothing(client: FederationClient, remote: StartServer) -> None:
    room = Room({ALICE: "join"})
    server = remote(room)
    server.inject("send_leave", faults.instead(Answer.of(200, {})))
    result = remove(client, Pair(server.server_name, room.room_id), KnownAccounts((ALICE,)), anybody)
    assert (result.state, result.ghosts) == ("ghosts", {ALICE: "join"})
    assert "1 account still listed after an accepted leave" in result.reason
    assert len(server.asked("send_leave")) == 1, "once, with any number of checks"


def test_a_leave_that_takes_effect_late(client: FederationClient, remote: StartServer) -> None:
    room = Room({ALICE: "join"})
    server = remote(room)
    server.inject("state_ids", faults.error(404, "M_NOT_FOUND", "Could not find event $none"), times=3)
    result = remove(client, Pair(server.server_name, room.room_id), KnownAccounts((ALICE,)), anybody)
    assert (result.state, result.removed) == ("confirmed", (ALICE,))


def test_a_leave_that_is_not_accepted(client: FederationClient, remote: StartServer) -> None:
    room = Room({ALICE: "join"})
    server = remote(room)
    server.inject("send_leave", faults.error(403, "M_FORBIDDEN", "no"))
    result = remove(client, Pair(server.server_name, room.room_id), KnownAccounts((ALICE,)), anybody)
    assert (result.state, result.removed, result.is_transient) == ("unconfirmed", (), True)
    assert result.ghosts == {ALICE: "join"}


def test_one_account_does_not_keep_the_others(client: FederationClient, remote: StartServer) -> None:
    room = Room({ALICE: "join", BOB: "join"})
    server = remote(room)
    server.inject("make_leave", faults.template(depth="none"), times=1)
    server.inject("send_leave", faults.error(400, "M_BAD_JSON", "no"), times=1)
    known = KnownAccounts(("@not a name:gone.example\n", ALICE, BOB, CAROL))
    room.set_membership(CAROL, "join")
    result = remove(client, Pair(server.server_name, room.room_id), known, anybody)
    assert result.state == "confirmed"
    # The first check of ALICE failed, and the first leave of BOB was not accepted.
    assert result.removed == (CAROL, ALICE, BOB)


def test_an_account_of_another_server_is_never_asked_about(client: FederationClient, remote: StartServer) -> None:
    room = Room({STRANGER: "join"})
    server = remote(room, implementation="dendrite")
    result = remove(client, Pair(server.server_name, room.room_id), KnownAccounts((STRANGER,)), anybody)
    assert result.state == "unconfirmed"
    assert not server.asked("make_leave") and not server.leaves


# Rooms of which nothing is known but an event


@everywhere
def test_members_are_read_before_a_removal(client: FederationClient, remote: StartServer, implementation: str) -> None:
    room = Room({ALICE: "join", CAROL: "invite", STRANGER: "join", "@gone:left.example": "leave"})
    server = remote(room, implementation=implementation)
    members: list[tuple[RoomMembers, int]] = []
    leaves: list[tuple[str, str, str]] = []
    result = remove(
        client,
        Pair(server.server_name, room.room_id),
        KnownAccounts(),
        anybody,
        event_ids=["$unknown", room.say()],
        on_members=lambda found: members.append((found, len(server.leaves))),
        on_leave=lambda *leave: leaves.append(leave),
    )
    found, sent_before = members[0]
    assert found.listed == {ALICE: "join", CAROL: "invite"}
    assert sorted(found.servers) == ["elsewhere.example", "rooms.example"]
    assert sent_before == 0
    assert set(result.removed) == {ALICE, CAROL} and not server.unneeded_leaves
    assert [user_id for user_id, _event_id, _membership in leaves] == list(result.removed)
    assert all(room.event(event_id) for _user_id, event_id, _membership in leaves)
    assert {user_id: membership == "join" for user_id, _event_id, membership in leaves} == {ALICE: True, CAROL: False}
    # Dendrite has dropped the leave of an invite, and does not say so.
    assert result.state == "confirmed"


def test_an_old_event_does_not_confirm(client: FederationClient, remote: StartServer) -> None:
    """Conduit does not tell its newest event. Here, an account has joined after the one that is known."""
    room = Room({CAROL: "leave"})
    event_id = room.say()
    room.set_membership(ALICE, "join")
    pair = Pair(remote(room, implementation="conduit").server_name, room.room_id)

    def run() -> PairResult:
        return remove(client, pair, KnownAccounts(), anybody, event_ids=[event_id], on_members=lambda _members: None)

    assert (run().state, run().is_transient) == ("unconfirmed", True)
    event_id = room.newest()
    assert (run().state, room.membership(ALICE)) == ("confirmed", "leave")


@everywhere
def test_a_server_that_has_joined_last(client: FederationClient, remote: StartServer, implementation: str) -> None:
    room = Room({ALICE: "join", STRANGER: "join"})
    server = remote(room, implementation=implementation)
    members: list[RoomMembers] = []
    pair = Pair(server.server_name, room.room_id)
    remove(client, pair, KnownAccounts(), anybody, event_ids=[room.newest()], on_members=members.append)
    assert members[0] == ({ALICE: "join"}, ("rooms.example", "elsewhere.example"))


def test_an_invite_is_checked_after_its_removal(client: FederationClient, remote: StartServer) -> None:
    """An answer about the whole room does not cover it."""
    room = Room({ALICE: "join", CAROL: "invite"})
    server = remote(room)
    server.inject("send_leave", faults.instead(Answer.of(200, {})), times=1)
    pair = Pair(server.server_name, room.room_id)
    result = remove(client, pair, KnownAccounts(), anybody, event_ids=[room.say()], on_members=lambda _members: None)
    assert (result.state, result.ghosts) == ("ghosts", {CAROL: "pending"})


def test_members_are_not_read_from_a_server_that_confirms(client: FederationClient, remote: StartServer) -> None:
    room = Room({ALICE: "leave"})
    server = remote(room)
    members: list[RoomMembers] = []
    remove(client, Pair(server.server_name, room.room_id), KnownAccounts(), anybody, on_members=members.append)
    assert not members
    assert [request.endpoint for request in server.requests] == ["state_ids"]


def test_two_requests_for_each_ghost_on_synapse(client: FederationClient, remote: StartServer) -> None:
    """It proposes no leave of an account that it does not list, so that its membership event needs no request."""
    room = Room({f"@u{number}:gone.example": "join" for number in range(20)})
    room.say()
    server = remote(room)
    pair = Pair(server.server_name, room.room_id)
    known = KnownAccounts(tuple(f"@left{number}:gone.example" for number in range(20)))
    result = remove(client, pair, known, anybody, on_members=lambda _members: None)
    assert (result.state, len(result.removed)) == ("confirmed", 20)
    assert len(server.requests) == 2 * 20 + len(("state_ids", "timestamp_to_event", "state", "event", "state_ids"))


def test_leaves_of_an_earlier_run(client: FederationClient, remote: StartServer) -> None:
    """Dendrite hides an invite, and the leave after it: only an accepted leave tells that it is over."""
    room = Room({CAROL: "invite"})
    server = remote(room, implementation="dendrite")
    pair = Pair(server.server_name, room.room_id)
    accepted: dict[str, str] = {}
    known = KnownAccounts((), (CAROL,))

    def run() -> str:
        return remove(
            client,
            pair,
            known,
            anybody,
            earlier_leaves=accepted,
            on_leave=lambda user_id, event_id, _membership: accepted.update({event_id: user_id}),
        ).state

    assert [run(), run()] == ["confirmed", "confirmed"]
    assert len(server.asked("send_leave")) == 1


def test_an_account_that_has_joined_again_has_a_new_leave(client: FederationClient, remote: StartServer) -> None:
    room = Room({ALICE: "join"})
    server = remote(room)
    pair = Pair(server.server_name, room.room_id)
    first = remove(client, pair, KnownAccounts((ALICE,)), anybody)
    room.set_membership(ALICE, "join")
    assert first.removed == (ALICE,)
    earlier = {"$earlier": ALICE}
    assert remove(client, pair, KnownAccounts((ALICE,)), anybody, earlier_leaves=earlier).removed == (ALICE,)
