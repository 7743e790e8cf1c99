# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Callable, Iterator

import pytest
import responses
from ansible_collections.matrixops.synapse.plugins.module_utils import _anchors, _state
from ansible_collections.matrixops.synapse.plugins.module_utils._client import SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._destinations import Ledger, Open
from ansible_collections.matrixops.synapse.plugins.module_utils._propagation import Options, Poll
from ansible_collections.matrixops.synapse.plugins.modules import synapse_propagation as module
from ansible_collections.matrixops.synapse.tests.unit.helpers import (
    NOW,
    OPERATOR,
    SERVER,
    FederatedSimulation,
    Json,
    Server,
    matrix_error,
    room_id,
    user,
)

Run = Callable[..., Json]

A = f"@a:{SERVER}"
R1, R2, R3 = (room_id(f"r{number}") for number in (1, 2, 3))
ENDED = {"period": 600}


class Fake:
    """Stands for what the module calls. I(calls) are the options that it was passed."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.error: SynapseError | None = None
        self.outcome = Poll(NOW, NOW + 600, Ledger(3), {R1: A}, {}, {}, next_poll=30)

    def poll(self, _client: Any, options: Options, *, everything: bool, dry_run: bool) -> Poll:
        self.calls.append((options, everything, dry_run))
        if self.error is not None:
            raise self.error
        return self.outcome

    def begin(self, _client: Any, concurrency: int, *, dry_run: bool) -> bool:
        self.calls.append((concurrency, dry_run))
        return True


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    fake = Fake()
    monkeypatch.setattr(module, "poll", fake.poll)
    monkeypatch.setattr(module, "begin", fake.begin)
    return fake


# What it is asked for


def test_what_is_done_if_nothing_is_said(server: Server, run: Run, fake: Fake) -> None:
    server.whoami()
    run("synapse_propagation", ENDED)
    ((options, everything, dry_run),) = fake.calls
    assert options == Options(period=600) and options.anchors.concurrency == 8
    assert (everything, dry_run) == (False, False)


def test_options_are_passed_on(server: Server, run: Run, fake: Fake) -> None:
    server.whoami()
    run(
        "synapse_propagation",
        {
            "period": 1,
            "settling": 2,
            "last_leaves_timeout": 3,
            "nudge_interval": 4,
            "poll_interval": 5,
            "early_exit": True,
            "everything": True,
            "wait": False,
            "keep": [A],
            "ignore": ["x.net"],
            "erase": False,
            "wait_timeout": 6,
            "concurrency": 7,
        },
        check=True,
    )
    anchors = _anchors.Options(frozenset([A]), frozenset(["x.net"]), erase=False, wait_timeout=6, concurrency=7)
    expected = Options(period=1, settling=2, last_leaves=3, nudge=4, pause=5, early_exit=True, anchors=anchors)
    assert fake.calls == [(expected, True, True)]


@pytest.mark.parametrize("check", [True, False])
def test_begun(server: Server, run: Run, fake: Fake, check: bool) -> None:
    server.whoami()
    result = run("synapse_propagation", {"state": "begun", "concurrency": 3}, check=check)
    assert result["changed"] is True
    assert fake.calls == [(3, check)]


def test_a_period_is_needed(run: Run, fake: Fake) -> None:
    assert "period" in run("synapse_propagation")["msg"]
    assert fake.calls == []


@pytest.mark.parametrize("option", ["period", "settling", "last_leaves_timeout", "nudge_interval"])
def test_what_may_be_nothing_but_not_less(server: Server, run: Run, fake: Fake, option: str) -> None:
    result = run("synapse_propagation", {**ENDED, option: -1})
    assert result["msg"] == f"Nothing was changed: {option} is -1, but must be 0 or more."
    assert fake.calls == []
    server.whoami()
    assert not run("synapse_propagation", {**ENDED, option: 0}).get("failed")
    assert len(fake.calls) == 1


@pytest.mark.parametrize("option", ["poll_interval", "wait_timeout", "concurrency"])
def test_what_must_be_something(run: Run, fake: Fake, option: str) -> None:
    result = run("synapse_propagation", {**ENDED, option: 0})
    assert result["msg"] == f"Nothing was changed: {option} is 0, but must be 1 or more."
    assert fake.calls == []


# Clocks


@pytest.mark.parametrize("options", [ENDED, {"state": "begun"}])
@pytest.mark.parametrize(("by", "refused"), [(0, False), (300, False), (-300, False), (301, True), (-301, True)])
def test_clocks_that_differ(
    server: Server, run: Run, fake: Fake, options: dict[str, Any], by: int, refused: bool
) -> None:
    server.whoami()
    server.date()
    result = run("synapse_propagation", {**options, "clock": NOW + by})
    assert result.get("failed", False) is refused
    assert len(fake.calls) == (0 if refused else 1)
    if by == 301:
        assert result["msg"] == (
            f"Nothing was changed: it is 2026-11-23 06:40:00 UTC by the clock of {SERVER}, and 2026-11-23 06:45:01 UTC"
            " by the controller's. Set the one that is wrong"
        )


# What it says


def test_how_things_stand(server: Server, run: Run, fake: Fake) -> None:
    server.whoami()
    ledger = Ledger(5, 1, {"x.net": Open("x.net", "pending", [R1]), "w.net": Open("w.net", "unreachable", [R1])})
    fake.outcome = Poll(
        NOW,
        NOW + 600,
        ledger,
        {R2: OPERATOR, R1: A},
        {R2: ["w.net", "x.net"]},
        {R3: _anchors.Loss(A, "left by itself")},
        released=[room_id("r4")],
        closed=[A, OPERATOR],
        nudged=7,
        rejoined=4,
        early=True,
        next_poll=30,
        second_wave_ended=NOW - 1,
        history=[[NOW, 5, 1, 1, 0, 2]],
        changed=True,
    )
    result = run("synapse_propagation", ENDED)
    destinations = result.pop("destinations")
    assert [row["destination"] for row in destinations] == ["w.net", "x.net"]
    assert result == {
        "changed": True,
        "message": "5 of 7 servers told; 1 pending; 1 unreachable; 2 rooms still anchored; 1 have lost their anchor;"
        " ends 2026-11-23 06:50:00 UTC",
        "finished": False,
        "early": True,
        "next_poll": 30,
        "now": NOW,
        "ends": NOW + 600,
        "second_wave_ended": NOW - 1,
        "history": [[NOW, 5, 1, 1, 0, 2]],
        "summary": {"delivered": 5, "pending": 1, "unreachable": 1, "unknown": 0, "total": 7, "ignored": 1},
        "destinations_total": 2,
        # Those that wait for somebody first.
        "anchored": [
            {"room_id": R2, "anchor": OPERATOR, "waiting_for": ["w.net", "x.net"], "waiting_for_total": 2},
            {"room_id": R1, "anchor": A, "waiting_for": [], "waiting_for_total": 0},
        ],
        "anchored_total": 2,
        "lost": [{"room_id": R3, "user_id": A, "reason": "left by itself"}],
        "lost_total": 1,
        "released": 1,
        "closed": 2,
        "nudged": 7,
        "rejoined": 4,
        "failures": [],
    }


def test_results_stay_small(server: Server, run: Run, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHOWN", 2)
    monkeypatch.setattr(module, "SHOWN_EACH", 1)
    server.whoami()
    rooms = [room_id(f"r{number}") for number in range(5)]
    loss = _anchors.Loss(A, "why")
    fake.outcome = Poll(
        NOW,
        NOW + 600,
        Ledger(),
        dict.fromkeys(rooms, A),
        {rooms[4]: ["x.net", "y.net"]},
        dict.fromkeys(rooms, loss),
        failed=[(A, room, "why") for room in rooms],
    )
    result = run("synapse_propagation", ENDED)
    assert [entry["room_id"] for entry in result["anchored"]] == [rooms[4], rooms[0]]
    assert (result["anchored"][0]["waiting_for"], result["anchored"][0]["waiting_for_total"]) == (["x.net"], 2)
    assert (result["anchored_total"], len(result["lost"]), result["lost_total"]) == (5, 2, 5)
    assert len(result["failures"]) == 2 and "(5 failures)" in result["msg"]


@pytest.mark.parametrize(("room", "where"), [(R1, f" in {R1}"), (None, "")])
def test_what_could_not_be_done(server: Server, run: Run, fake: Fake, room: str | None, where: str) -> None:
    server.whoami()
    fake.outcome.failed = [(A, room, "banned"), (A, R2, "banned, too")]
    fake.outcome.changed = True
    result = run("synapse_propagation", ENDED)
    assert result["failed"] and result["changed"]
    assert result["msg"] == f"Not everything could be done (2 failures), such as for {A}{where}: banned. Run this again"
    assert result["failures"][0] == {"user_id": A, "room_id": room, "reason": "banned"}
    # The rest is there all the same.
    assert (result["next_poll"], result["anchored_total"], result["summary"]["delivered"]) == (30, 1, 3)


def test_an_error(server: Server, run: Run, fake: Fake) -> None:
    server.whoami()
    fake.error = SynapseError("no", method="GET", url="/", status=401, errcode="M_UNKNOWN_TOKEN")
    result = run("synapse_propagation", ENDED)
    assert result["failed"] and (result["status"], result["errcode"]) == (401, "M_UNKNOWN_TOKEN")
    assert "next_poll" not in result


# All together


class Propagating(FederatedSimulation):
    """One that tells others: each of I(records) is what a server was sent last in which rooms, and has taken."""

    def __init__(self, mock: responses.RequestsMock, *users: Json, **joined: list[str]) -> None:
        super().__init__(mock, *users, **joined)
        self.records: dict[str, dict[str, int]] = {}

    def _act(self, before: str, last: str, user_id: str) -> tuple[int, Any]:
        if last == "destinations":
            taken = "last_successful_stream_ordering"
            rows = [{"destination": name, taken: max(rooms.values())} for name, rooms in self.records.items()]
            return 200, {"destinations": rows, "total": len(rows)}
        if last == "rooms" and before in self.records:
            found = [{"room_id": room, "stream_ordering": number} for room, number in self.records[before].items()]
            return 200, {"rooms": found, "total": len(found)}
        return super()._act(before, last, user_id)


@pytest.fixture
def simulation() -> Iterator[Propagating]:
    """One account is in a federated room by itself, and in one with another that has left."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        simulation = Propagating(mock, user("op", admin=True), user("a"), user("b"), a=["r1", "r2"], b=["r2"])
        simulation.federate("r1", "r2")
        simulation.records["other.example"] = {R2: 9}
        yield simulation


def ended(simulation: Propagating, *, ago: int) -> None:
    """The first wave."""
    simulation.join(f"@b:{SERVER}")
    simulation.records["other.example"][R2] = 10
    wave = {"server_name": SERVER, "milestones": {"first_wave_ended": NOW - ago}}
    simulation.account_data[_state.ACCOUNT_DATA_TYPE] = wave


def rejoined(simulation: Propagating, run: Run) -> None:
    """The anchor has joined once more where another has left."""
    before = len(simulation.writes)
    assert run("synapse_propagation", {"period": 3600})["rejoined"] == 1
    assert [write for write in simulation.writes[before:] if "join" in write] == [f"POST {R2} join"]
    simulation.records["other.example"][R2] = 11


def test_from_the_beginning_to_the_end(simulation: Propagating, run: Run) -> None:
    assert run("synapse_propagation", {"state": "begun"})["changed"]
    assert not run("synapse_propagation", {"state": "begun"})["changed"]
    run("synapse_anchors", {"state": "chosen"})
    ended(simulation, ago=100)
    rejoined(simulation, run)
    waits = {"period": 3600, "settling": 0}
    result = run("synapse_propagation", waits)
    assert (result["released"], result["anchored_total"], result["finished"]) == (0, 2, False)
    assert result["summary"]["delivered"] == 1
    before = list(simulation.writes)
    predicted = run("synapse_propagation", {"period": 0}, check=True)
    assert simulation.writes == before and predicted["released"] == 2
    result = run("synapse_propagation", {"period": 0})
    assert (result["released"], result["closed"], result["second_wave_ended"]) == (2, 1, NOW)
    assert result["changed"] and not result["finished"]
    assert simulation.users[A]["erased"] and simulation.joined[A] == []
    # The last leaves: Synapse has still to look at them.
    result = run("synapse_propagation", {"period": 0})
    assert (result["summary"]["unknown"], result["finished"]) == (1, False)
    simulation.records["other.example"] = {R1: 12, R2: 13}
    assert not run("synapse_propagation", {"period": 0})["finished"]
    before = list(simulation.writes)
    result = run("synapse_propagation", {"period": 0, "last_leaves_timeout": 0})
    assert result["finished"] and not result["changed"] and result["next_poll"] == 0
    assert result["summary"]["delivered"] == result["summary"]["total"] == 1
    # A run that changes nothing changes nothing.
    assert simulation.writes == before


def test_before_the_first_wave_has_ended(simulation: Propagating, run: Run) -> None:
    result = run("synapse_propagation", {"period": 0})
    assert result["msg"].startswith("Nothing was changed: it is not recorded that all accounts have left")
    assert simulation.writes == []


def test_stopped_in_the_middle(simulation: Propagating, run: Run) -> None:
    run("synapse_propagation", {"state": "begun"})
    run("synapse_anchors", {"state": "chosen"})
    ended(simulation, ago=100)
    rejoined(simulation, run)
    simulation.last_write = len(simulation.writes) + 2
    result = run("synapse_propagation", {"period": 0})
    assert result["failed"] and result["status"] == 401
    simulation.last_write = 10_000
    assert run("synapse_propagation", {"period": 0})["anchored_total"] == 0
    assert simulation.users[A]["erased"]


def test_one_that_can_not_leave(simulation: Propagating, run: Run) -> None:
    run("synapse_propagation", {"state": "begun"})
    run("synapse_anchors", {"state": "chosen"})
    ended(simulation, ago=100)
    rejoined(simulation, run)
    simulation.errors[f"POST leave {R1}"] = [(403, matrix_error("M_FORBIDDEN", "no"))] * 9
    result = run("synapse_propagation", {"period": 0})
    assert result["failed"] and (result["released"], result["anchored_total"]) == (1, 1)
    assert f"such as for {A} in {R1}: " in result["msg"]
