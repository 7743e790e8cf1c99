# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults at all stages: no damage, a message with the next step, and a next run that succeeds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.retries import RETRY_TIMEOUT
from lab.proxy import Fault as ProxyFault
from lab.waiting import wait_until

from .cases import CASES, DEACTIVATE, PROPAGATE, Case
from .injected import FAULTS, Step, Strikes, points, stages
from .runs import FaultLab, Run

SEQUENCES = 200
"""Number of decommissionings with random faults in a nightly run."""
MOST = 2
"""Maximum number of faults in one of them."""

nightly = pytest.mark.nightly(category="faults")

Record = Callable[[list[dict[str, Any]]], None]


def hands(chance: random.Random) -> Iterator[list[str]]:
    """The faults of each decommissioning. None is repeated before all were used."""
    deck: list[str] = []
    while True:
        hand = []
        for _card in range(chance.randint(1, MOST)):
            deck = deck or chance.sample(list(FAULTS), len(FAULTS))
            hand.append(deck.pop())
        yield hand


def step(chance: random.Random, stage: str, name: str) -> Step:
    return Step(stage, FAULTS[name], chance.choice(points(stage) or [""]))


def decommission(fault_lab: FaultLab, chance: random.Random, steps: list[Step], record: Record) -> None:
    """Run the playbook until all faults were injected, and once more. In the last run, the remote server confirms."""
    strikes = Strikes(fault_lab, chance, steps)
    held = False
    try:
        is_done = False
        while strikes or not is_done:
            is_last = not strikes
            run = fault_lab.start(strikes)
            code = run.wait()
            messages = run.messages
            strikes.over(code, messages)
            print(f"{[(step.stage, step.task, step.outcome) for step in steps]}: {code} {messages}")
            if code in (0, 2):
                fault_lab.check(run, code)
            else:
                fault_lab.check_safety(run)
            is_done = code == 0 and not fault_lab.is_unconfirmed(run)
            assert is_done or not is_last, run.output
        held = True
    finally:
        record([{**vars(step), "fault": step.fault.name, "held": held} for step in steps])


@nightly
@pytest.mark.parametrize("name", FAULTS)
def test_matrix(fault_lab: FaultLab, seed: int, record: Record, name: str) -> None:
    chance = random.Random(f"{seed} {name}")
    decommission(fault_lab, chance, [step(chance, stage, name) for stage in stages()], record)


@nightly
@pytest.mark.parametrize("number", range(SEQUENCES))
def test_sequence_by_chance(fault_lab: FaultLab, seed: int, record: Record, number: int) -> None:
    """One that fails is to be added to ``CASES``."""
    start = f"{seed} {number}"
    chance = random.Random(start)
    names = next(islice(hands(random.Random(seed)), number, None))
    where = sorted(chance.sample(range(len(stages())), len(names)))
    steps = [step(chance, stages()[index], name) for index, name in zip(where, names, strict=True)]
    case = [(step.stage, step.fault.name, step.task) for step in steps]
    print(f'Case("{start}", {case}),')
    decommission(fault_lab, random.Random(start), steps, record)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sequence(fault_lab: FaultLab, record: Record, case: Case) -> None:
    for stage, _name, task in case.steps:
        assert task in ("", *points(stage)), f"no task of the stage {stage} is named {task!r} any more: choose another"
    steps = [Step(stage, FAULTS[name], task) for stage, name, task in case.steps]
    decommission(fault_lab, random.Random(case.start), steps, record)


def test_two_controllers(fault_lab: FaultLab) -> None:
    """The first run continues, and the other one stops at the first change."""
    at_work = fault_lab.proxy.rule(ProxyFault.DELAY_BEFORE, path="/deactivate/", first=1, seconds=120)
    others: list[Run] = []
    lease = 60  # renewed every five seconds: a busy machine must not lose it

    def begin_another(file: str, task: str) -> None:
        if task.startswith(DEACTIVATE) and not others:
            others.append(Run(fault_lab.lab.directory, fault_lab.variables, lease=lease))

    first = fault_lab.start(begin_another, lease=lease)
    wait_until(lambda: bool(others), "there is another")
    (other,) = others
    assert other.wait() == 2, other.output
    at_work.over.set()
    code = first.wait()
    assert "Another run has the lease" in other.messages[-1], other.output
    assert "changed=0 " in other.output
    assert code == 0, first.output
    fault_lab.check(first, code)


@nightly
def test_who_only_waits_gives_way(fault_lab: FaultLab) -> None:
    """A run that only waits gives way, and does not power off when its period is over."""
    others: list[Run] = []

    def begin_another(file: str, task: str) -> None:
        if task.startswith(PROPAGATE) and not others:
            others.append(Run(fault_lab.lab.directory, fault_lab.variables))

    period = {"decommission_propagation_period": "90s", "decommission_poll_interval": 12}
    first = fault_lab.start(begin_another, **period)
    assert first.wait() == 2, first.output
    assert "Another run has taken over the lease" in first.messages[-1], first.output
    (other,) = others
    code = other.wait()
    fault_lab.check(other, code)
    assert code == 0, other.output


@nightly
def test_the_url_leads_elsewhere_in_the_middle_of_the_drain(fault_lab: FaultLab) -> None:
    """To a server that takes the token, and the requests: none of its own accounts is touched."""
    proxy = fault_lab.proxy
    here, there = proxy.upstream, fault_lab.staying.base_url.removeprefix("http://")
    on_its_way = proxy.rule(ProxyFault.DELAY_BEFORE, path="/deactivate/", first=1, seconds=60)
    run = fault_lab.start()
    wait_until(lambda: on_its_way.injected > 0, "somebody is being closed")
    proxy.upstream = there
    on_its_way.over.set()
    code = run.wait()
    proxy.upstream = here
    fault_lab.check(run, code)
    assert code == 2, run.output
    again = fault_lab.start()
    code = again.wait()
    assert code == 0, again.output
    fault_lab.check(again, code)


@nightly
def test_the_database_is_gone_for_a_minute(on_postgresql: FaultLab) -> None:
    """The run has the patience that it has with real administrators, and goes on when the database is back."""
    cluster = on_postgresql.lab.cluster
    assert cluster
    struck: list[str] = []

    def restart() -> None:
        cluster.stop()
        time.sleep(60)
        cluster.start()

    def strike(file: str, task: str) -> None:
        if task.startswith(DEACTIVATE) and not struck:
            struck.append(task)
            on_postgresql.later(0.2, restart)

    run = on_postgresql.start(strike, patience=RETRY_TIMEOUT)
    code = run.wait()
    assert struck
    assert code == 0, run.output
    on_postgresql.check(run, code)
