# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Callable, Iterator

import pytest
import responses
from ansible_collections.matrixops.synapse.plugins.modules import synapse_anchors
from ansible_collections.matrixops.synapse.tests.unit.helpers import (
    OPERATOR,
    SERVER,
    FederatedSimulation,
    Json,
    matrix_error,
    room_id,
    user,
)

Run = Callable[..., Json]

A, B = f"@a:{SERVER}", f"@b:{SERVER}"
R0, R1, R2, R3 = (room_id(f"r{number}") for number in range(4))
CHOSEN = {"state": "chosen", "concurrency": 2}
RELEASED = {"state": "released", "concurrency": 2}


@pytest.fixture
def simulation() -> Iterator[FederatedSimulation]:
    """The operator is in one federated room, one account in two, and a bot in one."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        users = user("op", admin=True), user("a"), user("b")
        simulation = FederatedSimulation(mock, *users, op=["r1"], a=["r0", "r1", "r2"], b=["r1"], bot=["r3"])
        simulation.federate("r1", "r2", "r3")
        yield simulation


def test_chosen(simulation: FederatedSimulation, run: Run) -> None:
    predicted = run("synapse_anchors", CHOSEN, check=True)
    assert simulation.writes == []
    result = run("synapse_anchors", CHOSEN)
    assert result == predicted
    assert result["changed"]
    assert result["user_ids"] == [A, OPERATOR]
    assert result["anchors"] == [
        {"user_id": A, "class": "user", "stays": False, "rooms": [R2], "rooms_total": 1},
        {"user_id": OPERATOR, "class": "operator", "stays": True, "rooms": [R1], "rooms_total": 1},
    ]
    assert [room["room_id"] for room in result["unanchored"]] == [R3]
    numbers = ("rooms_total", "unanchored_total", "barred", "held", "left", "lost_total", "replaced_total", "released")
    assert [result[name] for name in numbers] == [2, 1, 0, 1, 2, 0, 0, 0]
    assert result["diff"] == {"before": "", "after": f"{A} {R2}\n{OPERATOR} {R1}\n"}
    again = run("synapse_anchors", CHOSEN, diff=False)
    assert not again["changed"] and again["anchors"] == result["anchors"] and "diff" not in again


def test_read_only(simulation: FederatedSimulation, run: Run) -> None:
    nothing = run("synapse_anchors")
    assert not nothing["changed"] and nothing["anchors"] == nothing["user_ids"] == [] and "unanchored" not in nothing
    chosen = run("synapse_anchors", CHOSEN)
    simulation.remove(A, "r2", "@mod:other.example")
    before = list(simulation.writes)
    result = run("synapse_anchors")
    assert simulation.writes == before and not result["changed"]
    assert result["anchors"] == chosen["anchors"][1:]
    loss = {"room_id": R2, "user_id": A, "reason": "was kicked by @mod:other.example"}
    assert result["lost"] == [loss] and result["lost_total"] == 1
    assert run("synapse_anchors", CHOSEN)["lost"] == [loss]


def test_replaced(simulation: FederatedSimulation, run: Run) -> None:
    run("synapse_anchors", CHOSEN)
    simulation.remove(OPERATOR, "r1", OPERATOR)
    result = run("synapse_anchors", CHOSEN)
    loss = {"room_id": R1, "user_id": OPERATOR, "reason": "left by itself", "replacement": B}
    assert result["replaced"] == [loss] and result["replaced_total"] == 1 and result["lost"] == []


def test_released(simulation: FederatedSimulation, run: Run) -> None:
    run("synapse_anchors", CHOSEN)
    before = list(simulation.writes)
    predicted = run("synapse_anchors", {**RELEASED, "rooms": [R2]}, check=True)
    assert simulation.writes == before
    result = run("synapse_anchors", {**RELEASED, "rooms": [R2]})
    assert result == predicted
    assert (result["released"], result["closed"], result["user_ids"]) == (1, 1, [OPERATOR])
    assert result["diff"] == {"before": f"{A} {R2}\n{OPERATOR} {R1}\n", "after": f"{OPERATOR} {R1}\n"}
    assert simulation.users[A]["erased"]
    result = run("synapse_anchors", RELEASED)
    assert (result["released"], result["closed"], result["anchors"]) == (1, 0, [])
    assert not run("synapse_anchors", RELEASED)["changed"]


def test_what_could_not_be_done(simulation: FederatedSimulation, run: Run) -> None:
    simulation.errors[f"PUT users {A}"] = [(500, matrix_error("M_UNKNOWN", "broken"))]
    result = run("synapse_anchors", CHOSEN)
    assert result["failed"] and result["changed"]
    assert result["failures_total"] == 1
    assert (result["failures"][0]["user_id"], result["failures"][0]["room_id"]) == (A, None)
    assert result["msg"].startswith(f"Not everything could be done (1 failures), such as for {A}: ")
    simulation.banned.add(A)
    result = run("synapse_anchors", RELEASED)
    assert result["failed"] and result["released"] == 1
    assert f"such as for {A} in {R2}: " in result["msg"]


def test_stopped_in_the_middle(simulation: FederatedSimulation, run: Run) -> None:
    simulation.last_write = 3
    result = run("synapse_anchors", CHOSEN)
    assert result["failed"] and result["changed"]
    assert result["msg"].startswith("Stopped: ") and result["status"] == 401
    assert result["user_ids"] == [A, OPERATOR]


@pytest.mark.parametrize("options", [{"rooms": [R1]}, {**CHOSEN, "rooms": [R1]}])
def test_rooms_are_for_releasing(run: Run, options: Json) -> None:
    assert run("synapse_anchors", options)["msg"] == "Nothing was changed: rooms goes with state=released only."


def test_results_stay_small(simulation: FederatedSimulation, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOST_ANCHORS", "MOST_ROOMS", "SHOWN"):
        monkeypatch.setattr(synapse_anchors, name, 1)
    simulation.join(B, "r4", "r5")
    simulation.join(f"@bot:{SERVER}", "r3", "r6")
    simulation.federate("r4", "r5", "r6")
    result = run("synapse_anchors", CHOSEN)
    assert len(result["user_ids"]) == 3 and len(result["anchors"]) == 1 and result["rooms_total"] == 4
    assert len(result["unanchored"]) == 1 and result["unanchored_total"] == 2
    simulation.joined[A].clear()
    simulation.joined[B].clear()
    result = run("synapse_anchors")
    assert len(result["lost"]) == 1 and result["lost_total"] == 3
