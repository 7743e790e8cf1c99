# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Callable

import pytest
from ansible_collections.matrixops.synapse.tests.stubs.helpers import NOW, Json, Server, matrix_error, room_id
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver

Run = Callable[..., Json]

PATH = "/_matrix/client/v3/user/%40op%3Aexample.org/account_data/io.github.matrixops.decommission"


def recorded(server: Server, **milestones: int) -> None:
    server.whoami()
    if milestones:
        server.get(PATH, record(**milestones))
    else:
        server.get(PATH, matrix_error("M_NOT_FOUND", "Account data not found"), status=404)
    server.date()


def record(**milestones: int) -> Json:
    return {"server_name": "example.org", "milestones": milestones}


def test_read(server: Server, run: Run) -> None:
    recorded(server, started=1)
    result = run("synapse_decommission_state")
    assert not result["changed"]
    assert result["milestones"] == {"started": 1}
    assert result["now"] == NOW


def test_mark(server: Server, run: Run) -> None:
    recorded(server)
    server.put(PATH, record(started=NOW))
    server.get(PATH, record(started=NOW))
    result = run("synapse_decommission_state", {"mark": ["started"]})
    assert result["changed"]
    assert result["milestones"] == {"started": NOW}
    assert result["diff"] == {"before": {}, "after": {"started": NOW}}


def test_a_milestone_keeps_its_time(server: Server, run: Run) -> None:
    recorded(server, started=1)
    assert not run("synapse_decommission_state", {"mark": ["started"]})["changed"]


@pytest.mark.parametrize("check", [True, False])
def test_mark_and_clear(server: Server, run: Run, check: bool) -> None:
    recorded(server, started=1, left_federated_rooms=2)
    if not check:
        server.put(PATH, record(started=1))
        server.get(PATH, record(started=1))
    result = run("synapse_decommission_state", {"mark": ["started"], "clear": ["left_federated_rooms"]}, check=check)
    assert result["changed"]
    assert result["diff"] == {"before": {"started": 1, "left_federated_rooms": 2}, "after": {"started": 1}}
    assert result["milestones"] == {"started": 1}


@pytest.mark.parametrize("check", [True, False])
def test_an_account_that_was_in_a_room_since(homeserver: Homeserver, run: Run, check: bool) -> None:
    homeserver.federate("r")
    homeserver.left_at(NOW - 9)
    homeserver.received[room_id("r")] = (NOW - 5) * 1000
    mark = {"mark": ["left_federated_rooms"]}
    result = run("synapse_decommission_state", mark, check=check)
    assert result["diff"] == {
        "before": {"left_federated_rooms": NOW - 9},
        "after": {"left_federated_rooms": NOW - 5},
    }
    assert result["changed"]
    assert homeserver.milestones["left_federated_rooms"] == NOW - (9 if check else 5)
    # The second time, nothing changes.
    assert run("synapse_decommission_state", mark)["changed"] is check


def test_clearing_and_marking_need_no_look_at_the_rooms(homeserver: Homeserver, run: Run) -> None:
    homeserver.left_at(NOW - 9)
    both = ["left_federated_rooms"]
    assert run("synapse_decommission_state", {"mark": both, "clear": both})["milestones"]["left_federated_rooms"] == NOW


def test_an_unknown_milestone(run: Run) -> None:
    assert run("synapse_decommission_state", {"mark": ["finished"]})["failed"]


def test_an_error(server: Server, run: Run) -> None:
    recorded(server)
    server.put(PATH, record(started=NOW), matrix_error("M_FORBIDDEN", "no"), status=403)
    result = run("synapse_decommission_state", {"mark": ["started"]})
    assert result["failed"]
    assert (result["status"], result["errcode"]) == (403, "M_FORBIDDEN")


@pytest.mark.parametrize(
    ("clock", "ok"), [(NOW + 300, True), (NOW - 300, True), (NOW + 301, False), (NOW - 301, False)]
)
def test_a_clock_that_differs(server: Server, run: Run, clock: int, ok: bool) -> None:
    """What is recorded by a wrong clock would end the period too early, or never."""
    server.whoami()
    server.date()
    if ok:
        server.get(PATH, record(started=1))
    result = run("synapse_decommission_state", {"mark": ["started"], "clock": clock})
    assert bool(result.get("failed")) is not ok
    assert ok or "Correct the clock that is wrong" in result["msg"]
