# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Callable
from unittest.mock import ANY

import pytest
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    OPERATOR,
    OVERRIDE,
    TOKENS,
    USERS,
    Json,
    Server,
    matrix_error,
    quoted,
    room_id,
    user,
)

Run = Callable[..., Json]

ROOT = "@root:example.org"
R1, R2, R3 = (room_id(name) for name in ("r1", "r2", "r3"))
NOTHING: Json = {"left": [], "rejected": [], "retracted": [], "failed": [], "not_listed": None, "error": None}


def admins(server: Server) -> None:
    server.whoami()
    server.users(user("alice"), user("op", admin=True), user("root", admin=True))


def no_account(server: Server, user_id: str) -> None:
    server.get(f"{USERS}/{quoted(user_id)}", matrix_error("M_NOT_FOUND", "User not found"), status=404)


def test_all_admins_leave(server: Server, run: Run) -> None:
    admins(server)
    server.sync(invite=["r3"])
    server.joined(OPERATOR, "r1")
    server.rate_limit()
    server.leave("r1")
    server.leave("r3")
    server.joined(OPERATOR)
    server.delete(OVERRIDE)
    server.user(user("root", admin=True))
    server.can_act_as(ROOT, "fresh")
    server.sync(token="fresh", knock=["r2"])
    server.joined(ROOT)
    server.rate_limit()
    server.leave("r2", token="fresh")
    server.joined(ROOT)
    server.delete(OVERRIDE)
    server.logout("fresh")
    result = run("synapse_admin_leave_rooms", {"concurrency": 1})
    assert result["changed"]
    assert result["accounts"] == [
        {**NOTHING, "user_id": OPERATOR, "left": [R1], "rejected": [R3]},
        {**NOTHING, "user_id": ROOT, "retracted": [R2]},
    ]
    before = f"{OPERATOR} joined {R1}\n{OPERATOR} invited {R3}\n{ROOT} knocked {R2}\n"
    assert result["diff"] == {"before": before, "after": ""}


@pytest.mark.parametrize("unlisted", [True, False])
def test_check_mode_only_reads(server: Server, run: Run, unlisted: bool) -> None:
    admins(server)
    server.sync(invite=["r3"])
    server.joined(OPERATOR, "r1")
    server.joined(ROOT, "r1")
    path = f"/_synapse/admin/v1/users/{quoted(ROOT)}/memberships"
    server.get(path, {"memberships": {R1: "join", R2: "knock"}})
    server.get(TOKENS, {"registration_tokens": []})
    if unlisted:
        server.users(user("alice"), user("op", admin=True), user("root", admin=True))
        server.rooms(*({"room_id": room, "joined_local_members": 1} for room in (R1, R2, R3)))
        server.members("r1", ROOT, "@bot:example.org")
        server.members("r2", "@bot:example.org", "@someone:other.example")
        server.members("r3", "@bot:example.org")
        no_account(server, "@bot:example.org")
    result = run("synapse_admin_leave_rooms", {"unlisted": unlisted, "concurrency": 1}, check=True)
    assert result["changed"]
    bots = [{**NOTHING, "user_id": "@bot:example.org", "left": [R2, R3]}]
    assert result["accounts"] == [
        {**NOTHING, "user_id": OPERATOR, "left": [R1], "rejected": [R3]},
        {**NOTHING, "user_id": ROOT, "left": [R1], "retracted": [R2]},
        *(bots if unlisted else []),
    ]
    assert set(server.methods) == {"GET"}


@pytest.mark.parametrize("check", [True, False])
def test_nothing_to_leave(server: Server, run: Run, check: bool) -> None:
    server.whoami()
    server.user(user("op", admin=True))
    server.sync()
    server.joined(OPERATOR)
    result = run("synapse_admin_leave_rooms", {"user_ids": [OPERATOR]}, check=check)
    assert not result["changed"]
    assert result["diff"] == {"before": "", "after": ""}


@pytest.mark.parametrize("check", [True, False])
def test_an_unknown_account_stops_it_before_it_begins(server: Server, run: Run, check: bool) -> None:
    server.whoami()
    unknown = matrix_error("M_NOT_FOUND", "User not found")
    server.get(f"/_synapse/admin/v2/users/{quoted(ROOT)}", unknown, status=404)
    server.user(user("op", admin=True))
    result = run("synapse_admin_leave_rooms", {"user_ids": [ROOT, OPERATOR]}, check=check)
    assert result["failed"]
    assert result["msg"] == f"No changes made: {ROOT} does not exist"


def test_what_could_not_be_left(server: Server, run: Run) -> None:
    server.whoami()
    server.user(user("op", admin=True))
    server.user(user("root", admin=True))
    server.sync()
    server.joined(OPERATOR, "r1", "r2")
    server.rate_limit()
    server.leave("r1")
    server.leave("r2", matrix_error("M_FORBIDDEN", "no"), status=403)
    server.joined(OPERATOR, "r2")
    server.delete(OVERRIDE)
    server.user(user("root", admin=True))
    server.date("no date")
    server.members("r2", OPERATOR)
    result = run("synapse_admin_leave_rooms", {"user_ids": [OPERATOR, ROOT], "concurrency": 1})
    assert result["failed"]
    assert result["changed"]
    operator, root = result["accounts"]
    assert operator["left"] == [R1]
    assert [failure["room_id"] for failure in operator["failed"]] == [R2]
    assert "403 M_FORBIDDEN: no" in operator["failed"][0]["reason"]
    assert "no valid Date" in root["error"]
    assert OPERATOR in result["msg"]
    assert ROOT in result["msg"]
    assert result["diff"]["before"] == f"{OPERATOR} joined {R1}\n"


@pytest.mark.parametrize("allow", [True, False])
def test_a_broken_room(server: Server, run: Run, allow: bool) -> None:
    broken = matrix_error("M_UNKNOWN", "Internal server error")
    server.whoami()
    server.user(user("op", admin=True))
    query = {"filter": ANY, "set_presence": "offline", "timeout": "0"}
    server.get("/_matrix/client/v3/sync", broken, status=500, query=query)
    server.joined(OPERATOR, "r1", "r2")
    server.rate_limit()
    server.leave("r1", broken, status=500)
    server.leave("r2")
    server.joined(OPERATOR, "r1")
    server.delete(OVERRIDE)
    server.members("r1", OPERATOR, "@someone:other.example")
    options = {"user_ids": [OPERATOR], "concurrency": 1, "allow_broken_rooms": allow}
    result = run("synapse_admin_leave_rooms", options)
    assert result.get("failed", False) is not allow
    (operator,) = result["accounts"]
    assert operator["left"] == [R2]
    assert "500 M_UNKNOWN" in operator["not_listed"]
    (room,) = result["broken_rooms"]
    assert (room["room_id"], room["accounts"], room["federated"], result["broken_rooms_total"]) == (R1, 1, True, 1)
    if not allow:
        assert f"{OPERATOR}: 1 rooms, for example {R1}" in result["msg"]


@pytest.mark.parametrize("allow", [True, False])
def test_invites_that_could_not_be_listed(server: Server, run: Run, allow: bool) -> None:
    server.whoami()
    server.user(user("op", admin=True))
    query = {"filter": ANY, "set_presence": "offline", "timeout": "0"}
    server.get("/_matrix/client/v3/sync", matrix_error("M_UNKNOWN", "broken"), status=500, query=query)
    server.joined(OPERATOR)
    result = run("synapse_admin_leave_rooms", {"user_ids": [OPERATOR], "allow_broken_rooms": allow})
    assert result.get("failed", False) is not allow
    if not allow:
        assert f"{OPERATOR}: invites and knocks: " in result["msg"]


def test_broken_rooms_excuse_no_account_that_could_not_be_dealt_with(server: Server, run: Run) -> None:
    server.whoami()
    server.user(user("root", admin=True))
    server.user(user("root", admin=True))
    server.date("no date")
    result = run("synapse_admin_leave_rooms", {"user_ids": [ROOT], "allow_broken_rooms": True})
    assert result["failed"]
    assert "no valid Date" in result["msg"]


def test_unlisted(server: Server, run: Run) -> None:
    server.whoami()
    server.users(user("alice"))
    server.rooms({"room_id": R1, "joined_local_members": 1})
    server.members("r1", "@bot:example.org")
    no_account(server, "@bot:example.org")
    server.whoami()
    sent = {"purge": False, "block": False}
    server.delete(f"/_synapse/admin/v2/rooms/{quoted(R1)}", {"delete_id": "d"}, sent=sent)
    server.get("/_synapse/admin/v2/rooms/delete_status/d", {"status": "complete"})
    server.members("r1")
    result = run("synapse_admin_leave_rooms", {"user_ids": [], "unlisted": True})
    assert result["changed"]
    assert result["accounts"] == [{**NOTHING, "user_id": "@bot:example.org", "left": [R1]}]


def test_an_error_with_the_unlisted_is_reported_with_what_was_done(server: Server, run: Run) -> None:
    server.whoami()
    server.user(user("op", admin=True))
    server.sync()
    server.joined(OPERATOR, "r1")
    server.rate_limit()
    server.leave("r1")
    server.joined(OPERATOR)
    server.delete(OVERRIDE)
    query = {"limit": "10000", "order_by": "name", "locked": "true", "guests": "true", "deactivated": "true"}
    server.get("/_synapse/admin/v2/users", matrix_error("M_UNKNOWN", "broken"), status=500, query=query)
    result = run("synapse_admin_leave_rooms", {"user_ids": [OPERATOR], "unlisted": True})
    assert result["failed"]
    assert result["changed"]
    assert result["accounts"][0]["left"] == [R1]
