# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Callable

import pytest
from ansible_collections.matrixops.synapse.tests.unit.helpers import ROOMS, Json, Server, matrix_error, room

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


def test_an_error(server: Server, run: Run) -> None:
    server.whoami()
    query = {"limit": "1000", "order_by": "joined_local_members"}
    server.get(ROOMS, matrix_error("M_FORBIDDEN", "You are not a server admin"), status=403, query=query)
    result = run("synapse_rooms_info")
    assert result["failed"]
    assert (result["status"], result["errcode"]) == (403, "M_FORBIDDEN")
