# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Callable

import pytest
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    OPERATOR,
    OVERRIDE,
    ROOMS,
    Json,
    Server,
    matrix_error,
    quoted,
    room,
    room_id,
    user,
)
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import (
    ALICE,
    HOST,
    MEMBER,
    PEER,
    create,
    joins,
    levels,
)

Run = Callable[..., Json]

OPTIONS = {"concurrency": 1}
USERS = {OPERATOR: 100, HOST: 100, PEER: 100, MEMBER: 50, ALICE: 100}
POWER_LEVELS = f"/_matrix/client/v3/rooms/{quoted(room_id('r'))}/state/m.room.power_levels"
NOT_THERE = "is not joined to the room, and there is no account of this server with a higher level that can be acted as"
CREATOR = "is a creator, and creators of this room version keep their power"


def look(server: Server, name: str, version: str, users: Json) -> None:
    state = [create(version), levels(users), *joins(OPERATOR, HOST, ALICE)]
    server.get(f"{ROOMS}/{quoted(room_id(name))}/state", {"state": state})


def first_look(server: Server, *, check: bool = False) -> None:
    server.whoami()
    server.rooms(room("r", 2), room("new", 2), {**room("local", 1), "joined_members": 1})
    look(server, "r", "10", USERS)
    look(server, "new", "12", {})
    if not check:
        # A prediction rests on the statistics.
        server.members("local", HOST)


@pytest.mark.parametrize("check", [True, False])
def test_giving_up(server: Server, run: Run, check: bool) -> None:
    first_look(server, check=check)
    if not check:
        server.rate_limit()
        look(server, "r", "10", USERS)
    server.user(user("op", admin=True))
    if not check:
        without_lower = {HOST: 100, PEER: 100, ALICE: 100}
        server.put(POWER_LEVELS, levels(without_lower)["content"], {"event_id": "$e"})
    server.user(user("host"))
    if not check:
        server.can_act_as(HOST, "as_host")
        server.put(POWER_LEVELS, levels({PEER: 100, ALICE: 100})["content"], {"event_id": "$f"}, token="as_host")
        server.logout("as_host")
        server.delete(OVERRIDE)
    result = run("synapse_room_demotion", OPTIONS, check=check)
    assert result["changed"] is True
    assert result["demoted"] == [{"room_id": room_id("r"), "user_ids": sorted([OPERATOR, HOST, MEMBER])}]
    assert result["remaining"] == [
        {"room_id": room_id("new"), "user_id": HOST, "reason": CREATOR},
        {"room_id": room_id("r"), "user_id": PEER, "reason": NOT_THERE},
    ]
    assert result["failures"] == []
    after = {PEER: 100, ALICE: 100}
    assert result["diff"] == {"before": {room_id("r"): USERS}, "after": {room_id("r"): after}}


@pytest.mark.parametrize("check", [True, False])
def test_nothing_to_give_up_writes_nothing(server: Server, run: Run, check: bool) -> None:
    server.whoami()
    server.rooms(room("r", 2))
    look(server, "r", "10", {ALICE: 100, HOST: 0})
    result = run("synapse_room_demotion", OPTIONS, check=check)
    assert (result["changed"], result["demoted"], result["remaining"]) == (False, [], [])


def test_a_failure_is_told_and_fails_the_module(server: Server, run: Run) -> None:
    first_look(server)
    server.rate_limit()
    error = matrix_error("M_UNKNOWN", "Internal server error")
    server.get(f"{ROOMS}/{quoted(room_id('r'))}/state", error, status=500)
    server.delete(OVERRIDE)
    result = run("synapse_room_demotion", OPTIONS)
    assert result["failed"] and not result["changed"]
    assert [failure["room_id"] for failure in result["failures"]] == [room_id("r")]
    assert result["msg"].startswith(f"Not all accounts could be demoted. {room_id('r')}: GET ")


def test_an_error_that_ends_it_is_told(server: Server, run: Run) -> None:
    first_look(server)
    server.get(OVERRIDE, matrix_error("M_FORBIDDEN", "You are not a server admin"), status=403)
    result = run("synapse_room_demotion", OPTIONS)
    assert result["failed"] and (result["status"], result["errcode"]) == (403, "M_FORBIDDEN")
    assert [one["room_id"] for one in result["remaining"]] == [room_id("new")] and result["demoted"] == []
