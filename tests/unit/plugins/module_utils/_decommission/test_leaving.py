# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from unittest.mock import ANY

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import leaving
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.leaving import Departure
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.unanswered import CHECK_PAUSES
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    OPERATOR,
    OVERRIDE,
    TOKENS,
    Server,
    matrix_error,
    quoted,
    room_id,
    user,
)

ALICE, BOB, CAROL = (f"@{name}:example.org" for name in ("alice", "bob", "carol"))
BOT = "@bot:example.org"
REMOTE = "@remote:example.com"
R1, R2, R3 = (room_id(name) for name in ("r1", "r2", "r3"))
FORBIDDEN = matrix_error("M_FORBIDDEN", "You are banned")


def test_the_operator_sees_all_own_memberships(server: Server, client: Client) -> None:
    server.sync(join=["r1"], invite=["r2"])
    server.joined(OPERATOR, "r1")
    assert leaving.plan_departure(client, OPERATOR) == Departure(OPERATOR, left=[R1], rejected=[R2])


def depart(client: Client, *user_ids: str) -> list[Departure]:
    return list(leaving.leave_all_rooms(client, user_ids))


def test_one_departs_from_everything(server: Server, client: Client) -> None:
    server.user(user(ALICE))
    server.can_act_as(ALICE, "fresh")
    server.sync(token="fresh", join=["r1"], invite=["r3"], knock=["r4"])
    server.joined(ALICE, "r1", "r2")
    server.rate_limit()
    for name in ("r1", "r2", "r3", "r4"):
        server.leave(name, token="fresh")
    server.joined(ALICE)
    server.delete(OVERRIDE)
    server.logout("fresh")
    (departure,) = depart(client, ALICE)
    assert departure == Departure(ALICE, left=[R1, R2], rejected=[R3], retracted=[room_id("r4")])
    assert departure.changed
    assert departure.complete


def test_nothing_to_depart_from_touches_no_rate_limit(server: Server, client: Client) -> None:
    server.user(user(ALICE))
    server.can_act_as(ALICE, "fresh")
    server.sync(token="fresh")
    server.joined(ALICE)
    server.logout("fresh")
    (departure,) = depart(client, ALICE)
    assert departure == Departure(ALICE)
    assert not departure.changed
    assert departure.complete


def test_one_room_that_cannot_be_left_does_not_keep_from_the_others(server: Server, client: Client) -> None:
    server.sync(join=["r1", "r2"], invite=["r3"])
    server.joined(OPERATOR, "r1", "r2")
    server.rate_limit()
    server.leave("r1", FORBIDDEN, status=403)
    server.leave("r2")
    server.leave("r3", matrix_error("M_UNKNOWN", "Failed to reach the server"), status=500)
    server.joined(OPERATOR, "r1")
    server.delete(OVERRIDE)
    (departure,) = depart(client, OPERATOR)
    assert departure.left == [R2]
    assert list(departure.failed) == [R1, R3]
    assert "403 M_FORBIDDEN: You are banned" in departure.failed[R1]
    assert not departure.complete


def test_the_second_look_decides(server: Server, client: Client) -> None:
    server.sync(join=["r1", "r2"])
    server.joined(OPERATOR, "r1", "r2")
    server.rate_limit()
    server.leave("r1", FORBIDDEN, status=403)  # thrown out meanwhile
    server.leave("r2")  # accepted, and yet
    for _read in range(1 + len(CHECK_PAUSES)):
        server.joined(OPERATOR, "r2")
    server.delete(OVERRIDE)
    (departure,) = depart(client, OPERATOR)
    assert departure.left == [R1]
    assert departure.failed == {R2: "the server accepted the leave, but the account is still joined"}


def test_a_look_that_is_late(server: Server, client: Client) -> None:
    """With workers, another process answers it, which learns of the leave by replication."""
    server.sync(join=["r1"])
    server.joined(OPERATOR, "r1")
    server.rate_limit()
    server.leave("r1")
    for _read in CHECK_PAUSES:
        server.joined(OPERATOR, "r1")
    server.joined(OPERATOR)
    server.delete(OVERRIDE)
    (departure,) = depart(client, OPERATOR)
    assert departure.left == [R1] and departure.complete


def test_one_account_that_fails_does_not_keep_from_the_next(server: Server, client: Client) -> None:
    server.user(user(ALICE))
    server.date()
    path = f"/_synapse/admin/v1/users/{quoted(ALICE)}/login"
    server.expect("POST", path, FORBIDDEN, status=403, sent={"valid_until_ms": 1795419600000})
    server.user(user(BOB))
    server.can_act_as(BOB, "fresh", date=False)
    server.sync(token="fresh")
    server.joined(BOB)
    server.logout("fresh")
    failed, fine = depart(client, ALICE, BOB)
    assert failed.error is not None
    assert "banned" in failed.error
    assert not failed.complete
    assert fine == Departure(BOB)


BROKEN = matrix_error("M_UNKNOWN", "Internal server error")
SYNC = "/_matrix/client/v3/sync"


def test_who_cannot_sync_leaves_the_joined_rooms_all_the_same(server: Server, client: Client) -> None:
    query = {"filter": ANY, "set_presence": "offline", "timeout": "0"}
    server.get(SYNC, BROKEN, status=500, query=query)
    server.joined(OPERATOR, "r1", "r2")
    server.rate_limit()
    server.leave("r1")
    server.leave("r2", BROKEN, status=500)
    server.joined(OPERATOR, "r2")
    server.delete(OVERRIDE)
    (departure,) = depart(client, OPERATOR)
    assert (departure.left, list(departure.failed), departure.error) == ([R1], [R2], None)
    assert "500 M_UNKNOWN: Internal server error" in str(departure.not_listed)
    assert not departure.complete


def test_a_sync_that_is_forbidden_is_no_broken_room(server: Server, client: Client) -> None:
    query = {"filter": ANY, "set_presence": "offline", "timeout": "0"}
    server.get(SYNC, FORBIDDEN, status=403, query=query)
    (departure,) = depart(client, OPERATOR)
    assert "banned" in str(departure.error)
    assert departure.not_listed is None


def test_a_room_that_only_the_sync_has_is_left(server: Server, client: Client) -> None:
    server.sync(join=["r1"])
    server.joined(OPERATOR)
    server.rate_limit()
    server.leave("r1")
    server.joined(OPERATOR)
    server.delete(OVERRIDE)
    assert depart(client, OPERATOR) == [Departure(OPERATOR, left=[R1])]


UNRECOGNIZED = matrix_error("M_UNRECOGNIZED", "Unrecognized request")


def without_login(server: Server) -> None:
    """Declare that a Matrix Authentication Service handles login."""
    server.date()
    path = f"/_synapse/admin/v1/users/{quoted(ALICE)}/login"
    server.post(path, ANY, UNRECOGNIZED, status=404)
    server.get(TOKENS, UNRECOGNIZED, status=404)


def test_where_nobody_can_be_acted_as_rooms_are_shut_down(server: Server, client: Client) -> None:
    server.user(user(ALICE))
    without_login(server)
    server.joined(ALICE, "r1", "r2")
    # The bot is in no listing, and the other account is closed.
    server.members("r1", ALICE, BOT, CAROL, REMOTE)
    server.get(f"/_synapse/admin/v2/users/{quoted(BOT)}", matrix_error("M_NOT_FOUND", "none"), status=404)
    server.user(user("carol", deactivated=True))
    body = {"purge": False, "block": False}
    server.whoami()
    server.expect("DELETE", f"/_synapse/admin/v2/rooms/{quoted(R1)}", {"delete_id": "d"}, sent=body)
    server.get("/_synapse/admin/v2/rooms/delete_status/d", {"status": "complete"})
    server.members("r1", REMOTE)
    server.members("r2", ALICE, BOB)
    server.user(user("bob"))
    (departure,) = leaving.leave_all_rooms(client, [ALICE])
    assert (departure.left, departure.error, list(departure.failed)) == ([R1], None, [R2])
    assert f"for example {BOB}" in departure.failed[R2]


def test_what_would_be_left_where_nobody_can_be_acted_as(server: Server, client: Client) -> None:
    server.joined(ALICE, "r1")
    path = f"/_synapse/admin/v1/users/{quoted(ALICE)}/memberships"
    server.get(path, {"memberships": {R1: "join", R2: "invite", R3: "knock"}})
    server.get(TOKENS, UNRECOGNIZED, status=404)
    assert leaving.plan_departure(client, ALICE) == Departure(ALICE, left=[R1])


def test_an_error_in_the_middle_ends_the_session_and_puts_the_limit_back(server: Server, client: Client) -> None:
    server.user(user(ALICE))
    server.can_act_as(ALICE, "fresh")
    server.sync(token="fresh", join=["r1"])
    server.joined(ALICE, "r1")
    server.rate_limit()
    server.leave("r1", token="fresh")
    path = f"/_synapse/admin/v1/users/{quoted(ALICE)}/joined_rooms"
    server.get(path, matrix_error("M_UNKNOWN", "broken"), status=500)
    server.delete(OVERRIDE)
    server.logout("fresh")
    (departure,) = depart(client, ALICE)
    assert departure.error is not None
    assert "broken" in departure.error
