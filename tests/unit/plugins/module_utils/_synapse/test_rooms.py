# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from unittest.mock import ANY

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse import rooms
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import (
    FatalError,
    RefusedError,
    SynapseError,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.rooms import Memberships
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.unanswered import CHECK_PAUSES
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    OPERATOR,
    OVERRIDE,
    ROOMS,
    UNLIMITED,
    Clock,
    Json,
    Server,
    matrix_error,
    quoted,
    room,
    room_id,
)
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver

ALICE, BOB, CAROL = (f"@{name}:example.org" for name in ("alice", "bob", "carol"))
BOT = "@bot:example.org"
REMOTE = "@remote:example.com"
R1, R2, R3 = (room_id(name) for name in ("r1", "r2", "r3"))
FORBIDDEN = matrix_error("M_FORBIDDEN", "You are banned")
LIST = {"limit": "10000", "order_by": "version"}


# Listing


def test_all_rooms_are_listed(server: Server, client: Client) -> None:
    server.get(ROOMS, {"rooms": [room("r1", 2), room("r2", 0)], "next_batch": 2, "total_rooms": 3}, query=LIST)
    server.get(ROOMS, {"rooms": [room("r3", 0)], "total_rooms": 3}, query={**LIST, "from": "2"})
    assert [found["room_id"] for found in rooms.list_rooms(client)] == [R1, R2, R3]


def test_occupied_rooms_may_be_on_every_page(server: Server, client: Client) -> None:
    server.get(ROOMS, {"rooms": [room("r1", 2), room("r2", 0)], "next_batch": 2, "total_rooms": 3}, query=LIST)
    server.get(ROOMS, {"rooms": [room("r3", 1)], "total_rooms": 3}, query={**LIST, "from": "2"})
    assert [found["room_id"] for found in rooms.list_rooms(client, occupied=True)] == [R1, R3]


def test_memberships_are_counted_up_to_the_first_room_without_local_members(server: Server, client: Client) -> None:
    query = {"limit": "10000", "order_by": "joined_local_members"}
    server.get(ROOMS, {"rooms": [room("r1", 2)], "next_batch": 1}, query=query)
    server.get(ROOMS, {"rooms": [room("r2", 1), room("r3", 0)], "next_batch": 3}, query={**query, "from": "1"})
    assert rooms.count_memberships(client) == 3


def test_local_members_are_those_of_this_server(server: Server, client: Client) -> None:
    server.members("r1", BOB, REMOTE, ALICE, "@x:example.org:8448", "@y:notexample.org", "@z:example.org.test")
    assert rooms.local_members(client, R1) == [ALICE, BOB]


def test_rooms_with_their_local_members(server: Server, client: Client) -> None:
    server.rooms(room("r1", 1), room("r2", 1), room("r3", 0))
    server.members("r1", ALICE, REMOTE)
    server.members("r2", REMOTE)  # statistics lag behind
    assert list(rooms.with_local_members(client)) == [{**room("r1", 1), "local_members": [ALICE]}]


def test_joined_rooms(server: Server, client: Client) -> None:
    server.joined(ALICE, "r2", "r1")
    assert rooms.joined_rooms(client, ALICE) == [R1, R2]


@pytest.mark.parametrize(
    ("members", "federated"),
    [
        ([ALICE, BOB], False),
        ([ALICE, REMOTE], True),
        ([ALICE, "@x:example.org:8448"], True),
        # Somebody has left just now, and was the last.
        ([], False),
    ],
)
def test_federated_rooms(server: Server, client: Client, members: list[str], federated: bool) -> None:
    server.members("r1", *members)
    assert rooms.is_federated(client, R1) is federated


@pytest.mark.parametrize("status", [404, 500])
def test_a_room_that_cannot_be_read_counts_as_federated(server: Server, client: Client, status: int) -> None:
    server.get(f"{ROOMS}/{quoted(R1)}/members", matrix_error("M_UNKNOWN", "broken"), status=status)
    assert rooms.is_federated(client, R1)


def test_a_dead_token_says_nothing_of_a_room(server: Server, client: Client) -> None:
    server.get(f"{ROOMS}/{quoted(R1)}/members", matrix_error("M_UNKNOWN_TOKEN", "dead"), status=401)
    with pytest.raises(SynapseError, match="dead"):
        rooms.is_federated(client, R1)


# Who is still joined


def test_still_joined(server: Server, client: Client) -> None:
    server.joined(ALICE, "r2", "r1")
    server.joined(BOB)
    assert rooms.still_joined(client, [ALICE, BOB]) == {ALICE: [R1, R2]}


def test_nobody_is_no_request(client: Client) -> None:
    assert rooms.still_joined(client, set()) == {}


# Memberships


def test_memberships(server: Server, client: Client) -> None:
    server.sync(token="fresh", join=["r1"], invite=["r4", "r3"], knock=["r5"], leave=["r6"])
    server.joined(ALICE, "r2", "r1")  # exact, where /sync may leave a room out
    found = rooms.memberships(client, ALICE, "fresh")
    assert found == Memberships([R1, R2], [R3, room_id("r4")], [room_id("r5")])


@pytest.mark.parametrize("answer", [{}, {"rooms": {}}])
def test_no_memberships(server: Server, client: Client, answer: Json) -> None:
    query = {"filter": ANY, "set_presence": "offline", "timeout": "0"}
    server.get("/_matrix/client/v3/sync", answer, query=query)
    server.joined(OPERATOR)
    found = rooms.memberships(client, OPERATOR)
    assert found == Memberships()
    assert not found


def test_each_sync_asks_anew_and_for_no_events(server: Server, client: Client) -> None:
    for _time in range(2):
        server.sync()
        server.joined(OPERATOR)
        rooms.memberships(client, OPERATOR)
    first, second = (json.loads(query["filter"]) for query in server.queries if "filter" in query)
    assert first != second
    for kind in ("timeline", "state", "ephemeral", "account_data"):
        assert first["room"][kind]["types"] == []
    assert first["presence"] == first["account_data"] == {"types": []}


def test_visible_memberships_of_another(server: Server, client: Client) -> None:
    server.joined(ALICE, "r1")
    known = {R1: "join", R2: "invite", R3: "knock", room_id("r4"): "leave", room_id("r5"): "ban"}
    server.get(f"/_synapse/admin/v1/users/{quoted(ALICE)}/memberships", {"memberships": known})
    assert rooms.visible_memberships(client, ALICE) == Memberships([R1], [R2], [R3])


def test_visible_memberships_on_an_old_version(server: Server, client: Client) -> None:
    server.joined(ALICE, "r1")
    path = f"/_synapse/admin/v1/users/{quoted(ALICE)}/memberships"
    server.get(path, matrix_error("M_UNRECOGNIZED", "Unrecognized request"), status=404)
    assert rooms.visible_memberships(client, ALICE) == Memberships([R1])


def test_visible_memberships_that_cannot_be_read(server: Server, client: Client) -> None:
    server.joined(ALICE, "r1")
    server.get(f"/_synapse/admin/v1/users/{quoted(ALICE)}/memberships", FORBIDDEN, status=403)
    with pytest.raises(SynapseError, match="banned"):
        rooms.visible_memberships(client, ALICE)


# Leaving


def test_leave(server: Server, client: Client) -> None:
    server.leave("r1", token="fresh")
    rooms.leave(client, R1, "fresh")


def test_a_server_notice_is_joined_to_be_left(server: Server, client: Client) -> None:
    refusal = matrix_error("M_CANNOT_LEAVE_SERVER_NOTICE_ROOM", "You cannot reject this invite")
    server.leave("r1", refusal, status=403, token="fresh")
    server.post(f"/_matrix/client/v3/join/{quoted(R1)}", {}, token="fresh")
    server.leave("r1", token="fresh")
    rooms.leave(client, R1, "fresh")


def test_a_refused_leave(server: Server, client: Client) -> None:
    server.leave("r1", FORBIDDEN, status=403)
    with pytest.raises(SynapseError, match="banned"):
        rooms.leave(client, R1)


# The rate limit


def test_without_a_limit_of_its_own_it_is_removed_again(server: Server, client: Client) -> None:
    server.rate_limit()
    server.get("/path")
    server.delete(OVERRIDE)
    with rooms.unlimited_messages(client):
        client.get("/path")


def test_a_limit_of_its_own_is_put_back(server: Server, client: Client) -> None:
    before = {"messages_per_second": 5, "burst_count": 10}
    server.rate_limit(before)
    server.post(OVERRIDE, before, before)
    with rooms.unlimited_messages(client):
        pass


@pytest.mark.parametrize("before", [None, UNLIMITED])
def test_the_limit_is_put_back_after_an_error(server: Server, client: Client, before: Json | None) -> None:
    server.rate_limit(before)
    if before is None:
        server.delete(OVERRIDE)
    else:
        server.post(OVERRIDE, before, before)
    with pytest.raises(SynapseError, match="in the middle"), rooms.unlimited_messages(client):
        raise RefusedError("in the middle")


def clear(server: Server, name: str, *statuses: Json) -> None:
    path = "/_synapse/admin/v2/rooms"
    sent = {"purge": False, "block": False}
    server.whoami()
    server.delete(f"{path}/{quoted(room_id(name))}", {"delete_id": "d/1"}, sent=sent)
    for status in statuses:
        server.get(f"{path}/delete_status/d%2F1", status)


def test_clear_room(server: Server, client: Client, clock: Clock) -> None:
    clear(server, "r1", {"status": "scheduled"}, {"status": "active"}, {"status": "complete"})
    server.members("r1", REMOTE)
    assert rooms.shut_down(client, R1) == {}
    assert len(clock.waits) == 2


def test_a_room_of_another_server_is_not_cleared(server: Server, client: Client) -> None:
    """The URL leads elsewhere by now, where there is a room of that ID as well."""
    server.whoami("@op:example.com")
    with pytest.raises(SynapseError, match="is from another server") as caught:
        rooms.shut_down(client, R1)
    assert isinstance(caught.value, FatalError)


def test_a_room_that_cannot_be_cleared(server: Server, client: Client) -> None:
    clear(server, "r1", {"status": "failed", "error": "corrupt"})
    server.members("r1", BOT)
    assert rooms.shut_down(client, R1) == {BOT: "corrupt"}


def test_a_room_that_is_said_to_be_clear_but_is_not(server: Server, client: Client) -> None:
    clear(server, "r1", {"status": "complete", "shutdown_room": {"failed_to_kick_users": [BOT]}})
    for _read in range(1 + len(CHECK_PAUSES)):
        server.members("r1", BOT)
    assert list(rooms.shut_down(client, R1)) == [BOT]


def test_members_that_are_read_too_early(server: Server, client: Client) -> None:
    """With workers, another process has shut the room down."""
    clear(server, "r1", {"status": "complete", "shutdown_room": {}})
    for members in ([BOT], [BOT], []):
        server.members("r1", *members)
    assert rooms.shut_down(client, R1) == {}


def test_a_room_whose_shutdown_never_ends(homeserver: Homeserver, lone_client: Client) -> None:
    homeserver.join(BOT, "r1")
    homeserver.faults[f"GET {R1} delete_status"] = (200, {"status": "active"})
    homeserver.attach(lone_client)
    remaining = rooms.shut_down(lone_client, R1)
    assert list(remaining) == [BOT]
    assert "did not end" in remaining[BOT]


@pytest.mark.parametrize("occupied", [0, 1, 37, 63, 64])
def test_occupied_rooms_are_counted_without_a_listing(
    homeserver: Homeserver, lone_client: Client, occupied: int
) -> None:
    for number in range(64):
        homeserver.add_room(f"!{number}", [ALICE if number < occupied else REMOTE])
    assert rooms.count_occupied_rooms(lone_client) == occupied
    # The page with the total, and one for each step of a binary search.
    assert lone_client.sent[rooms.ROOMS] <= 1 + 7
    assert all(request.query["limit"] == "1" for request in homeserver.log if request.path.endswith("/rooms"))


@pytest.mark.parametrize(
    ("members", "local", "expected"),
    [(2, 2, False), (3, 2, True), (0, 0, True), (2, 0, True), (None, 2, True), (2, None, True)],
)
def test_only_a_room_of_local_accounts_is_not_shared(members: int | None, local: int | None, expected: bool) -> None:
    assert rooms.may_be_shared({"joined_members": members, "joined_local_members": local}) is expected
