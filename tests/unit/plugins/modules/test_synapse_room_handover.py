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
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import ALICE, HOST, create, joins, levels

Run = Callable[..., Json]

OPTIONS = {"to": [{"user_id": ALICE}], "concurrency": 1}
USERS = {HOST: 100}
POWER_LEVELS = f"/_matrix/client/v3/rooms/{quoted(room_id('r'))}/state/m.room.power_levels"


def look(server: Server, name: str, *members: str) -> None:
    state = [create("10"), levels(USERS), *joins(*members)]
    server.get(f"{ROOMS}/{quoted(room_id(name))}/state", {"state": state})


def first_look(server: Server, *, check: bool = False) -> None:
    server.whoami()
    server.rooms(room("r", 2), room("bobs", 1), {**room("local", 1), "joined_members": 1}, room("left", 0))
    look(server, "r", OPERATOR, HOST, ALICE)
    look(server, "bobs", HOST, "@bob:other.example")
    if not check:
        # A prediction rests on the statistics.
        server.members("local", HOST)


def act(server: Server) -> None:
    server.rate_limit()
    look(server, "r", OPERATOR, HOST, ALICE)
    server.user(user("host", locked=False))
    server.can_act_as(HOST, "as_host")


@pytest.mark.parametrize("check", [True, False])
def test_handing_over(server: Server, run: Run, check: bool) -> None:
    first_look(server, check=check)
    users = {HOST: 100, ALICE: 100}
    if check:
        server.user(user("host", locked=False))
    else:
        act(server)
        server.put(POWER_LEVELS, levels(users)["content"], {"event_id": "$e"}, token="as_host")
        server.logout("as_host")
        server.delete(OVERRIDE)
    result = run("synapse_room_handover", OPTIONS, check=check)
    assert result["changed"] is True
    assert result["handed_over"] == [{"room_id": room_id("r"), "by": HOST, "to": [ALICE], "level": 100}]
    reason = f"no recipient is joined to the room: {ALICE}"
    assert result["not_handed_over"] == [{"room_id": room_id("bobs"), "reason": reason}]
    assert result["failures"] == []
    assert result["diff"] == {"before": {room_id("r"): USERS}, "after": {room_id("r"): users}}


@pytest.mark.parametrize("check", [True, False])
def test_nothing_to_hand_over_writes_nothing(server: Server, run: Run, check: bool) -> None:
    server.whoami()
    server.rooms({**room("local", 1), "joined_members": 1})
    if not check:
        server.members("local", HOST)
    result = run("synapse_room_handover", {**OPTIONS, "to": []}, check=check)
    assert (result["changed"], result["handed_over"], result["not_handed_over"]) == (False, [], [])


def test_a_failure_is_told_and_fails_the_module(server: Server, run: Run) -> None:
    first_look(server)
    act(server)
    content = levels({HOST: 100, ALICE: 100})["content"]
    server.put(POWER_LEVELS, content, matrix_error("M_UNKNOWN", "Internal server error"), status=500, token="as_host")
    server.logout("as_host")
    server.delete(OVERRIDE)
    result = run("synapse_room_handover", OPTIONS)
    assert result["failed"] and not result["changed"]
    assert [failure["room_id"] for failure in result["failures"]] == [room_id("r")]
    assert "500 M_UNKNOWN: Internal server error" in result["failures"][0]["reason"]
    assert result["msg"].startswith(f"Not all rooms could be handed over. {room_id('r')}: PUT ")


def test_an_error_that_ends_it_is_told(server: Server, run: Run) -> None:
    first_look(server)
    server.get(OVERRIDE, matrix_error("M_FORBIDDEN", "You are not a server admin"), status=403)
    result = run("synapse_room_handover", OPTIONS)
    assert result["failed"] and (result["status"], result["errcode"]) == (403, "M_FORBIDDEN")
    assert result["not_handed_over"] and result["handed_over"] == []


@pytest.mark.parametrize("user_id", [HOST, "alice"])
def test_who_cannot_be_meant_is_refused(server: Server, run: Run, user_id: str) -> None:
    server.whoami()
    result = run("synapse_room_handover", {"to": [{"user_id": user_id}]})
    assert result["failed"] and result["msg"].startswith(f"No changes made: {user_id} is ")
