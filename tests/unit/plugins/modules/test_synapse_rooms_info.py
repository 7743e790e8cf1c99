# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Callable

import pytest
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    ROOMS,
    Json,
    Server,
    matrix_error,
    quoted,
    room,
    room_id,
)
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import ALICE, HOST, create, joins, levels

Run = Callable[..., Json]


@pytest.mark.parametrize("check", [True, False])
def test_all_rooms(server: Server, run: Run, check: bool) -> None:
    server.whoami()
    server.rooms(room("b", 2), room("a", 1), room("c", 0))
    result = run("synapse_rooms_info", check=check)
    assert result["changed"] is False
    assert result["rooms"] == [room("a", 1), room("b", 2), room("c", 0)]
    assert result["total"] == 3


def test_local_members(server: Server, run: Run) -> None:
    server.whoami()
    server.rooms(room("b", 2), room("a", 1), room("c", 0))
    server.members("b", "@x:example.org", "@remote:example.com")
    server.members("a", "@remote:example.com")
    result = run("synapse_rooms_info", {"local_members": True, "concurrency": 1})
    assert result["rooms"] == [{**room("b", 2), "local_members": ["@x:example.org"]}]
    assert result["total"] == 1


def test_impact(server: Server, run: Run) -> None:
    server.whoami()
    server.rooms(room("b", 1), room("a", 0))
    server.get(f"/_matrix/client/v3/rooms/{quoted(room_id('b'))}/aliases", {"aliases": []})
    state = [create("10"), levels({HOST: 100}), *joins(HOST, ALICE)]
    server.get(f"{ROOMS}/{quoted(room_id('b'))}/state", {"state": state})
    server.get(f"{ROOMS}/{quoted(room_id('b'))}/forward_extremities", {"count": 0, "results": []})
    server.get(f"/_matrix/client/v3/rooms/{quoted(room_id('a'))}/aliases", {"aliases": ["#a:example.org"]})
    result = run("synapse_rooms_info", {"impact": True, "concurrency": 1})
    found = {kind: room_ids for kind, room_ids in result["impact"].items() if room_ids}
    b = [room_id("b")]
    assert found == {"orphaned": b, "empowered": b, "broken": b, "aliased": [room_id("a")]}
    assert result["rooms"][0] == {**room("a", 0), "aliases": ["#a:example.org"]}
    assert result["rooms"][-1]["administrators"] == {"local": [HOST], "remote": [], "all_accounts": False}
    assert (result["total"], result["changed"]) == (2, False)


def test_impact_of_rooms_with_local_members(run: Run) -> None:
    result = run("synapse_rooms_info", {"impact": True, "local_members": True})
    assert result["failed"] and result["msg"] == "No changes made: set either local_members or impact"


def test_only_the_number_of_occupied_rooms(server: Server, run: Run) -> None:
    server.whoami()
    for start, local in ((0, 9), (5, 0), (2, 1), (4, 1)):
        query = {"order_by": "joined_local_members", "limit": "1", "from": str(start)}
        server.get(ROOMS, {"rooms": [room("r", local)], "total_rooms": 10}, query=query)
    result = run("synapse_rooms_info", {"total_only": True})
    assert (result["rooms"], result["total"]) == ([], 5)


def test_an_error(server: Server, run: Run) -> None:
    server.whoami()
    query = {"limit": "10000", "order_by": "version"}
    server.get(ROOMS, matrix_error("M_FORBIDDEN", "You are not a server admin"), status=403, query=query)
    result = run("synapse_rooms_info")
    assert result["failed"]
    assert (result["status"], result["errcode"]) == (403, "M_FORBIDDEN")
