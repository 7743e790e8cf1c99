# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever goes wrong at whatever stage: nothing bad comes of it, the run says so, and the next one ends well."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._client import PATIENCE
from lab.proxy import Fault
from lab.waiting import wait_until

from .cases import CASES, DEACTIVATE, PROPAGATE, Case
from .faults import MISHAPS, Step, Strikes, points, stages
from .retirement import Retirement, Run

SEQUENCES = 200
"""How many retirements there are in a nightly run, with something going wrong by chance in each."""
MOST = 2
"""How much goes wrong in one of them, at most."""

nightly = pytest.mark.nightly(category="faults")

Record = Callable[[list[dict[str, Any]]], None]


def hands(chance: random.Random) -> Iterator[list[str]]:
    """What goes wrong in one retirement after the other: nothing comes again before all has come."""
    deck: list[str] = []
    while True:
        hand = []
        for _card in range(chance.randint(1, MOST)):
            deck = deck or chance.sample(list(MISHAPS), len(MISHAPS))
            hand.append(deck.pop())
        yield hand


def step(chance: random.Random, stage: str, name: str) -> Step:
    return Step(stage, MISHAPS[name], chance.choice(points(stage) or [""]))


def retire(retirement: Retirement, chance: random.Random, steps: list[Step], record: Record) -> None:
    """Run the playbook until all has gone wrong, and once more. In the last run, the remote server confirms."""
    strikes = Strikes(retirement, chance, steps)
    held = False
    try:
        is_done = False
        while strikes or not is_done:
            is_last = not strikes
            run = retirement.start(strikes)
            code = run.wait()
            messages = run.messages
            strikes.over(code, messages)
            print(f"{[(step.stage, step.task, step.outcome) for step in steps]}: {code} {messages}")
            if code in (0, 2):
                retirement.check(run, code)
            else:
                retirement.check_safety(run)
            is_done = code == 0 and not retirement.is_unconfirmed(run)
            assert is_done or not is_last, run.output
        held = True
    finally:
        record([{**vars(step), "mishap": step.mishap.name, "held": held} for step in steps])


@nightly
@pytest.mark.parametrize("name", MISHAPS)
def test_matrix(retirement: Retirement, seed: int, record: Record, name: str) -> None:
    chance = random.Random(f"{seed} {name}")
    retire(retirement, chance, [step(chance, stage, name) for stage in stages()], record)


@nightly
@pytest.mark.parametrize("number", range(SEQUENCES))
def test_sequence_by_chance(retirement: Retirement, seed: int, record: Record, number: int) -> None:
    """One that fails is to be added to ``CASES``."""
    start = f"{seed} {number}"
    chance = random.Random(start)
    names = next(islice(hands(random.Random(seed)), number, None))
    where = sorted(chance.sample(range(len(stages())), len(names)))
    steps = [step(chance, stages()[index], name) for index, name in zip(where, names, strict=True)]
    case = [(step.stage, step.mishap.name, step.task) for step in steps]
    print(f'Case("{start}", {case}),')
    retire(retirement, random.Random(start), steps, record)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sequence(retirement: Retirement, record: Record, case: Case) -> None:
    for stage, _name, task in case.steps:
        assert task in ("", *points(stage)), f"no task of the stage {stage} is named {task!r} any more: choose another"
    steps = [Step(stage, MISHAPS[name], task) for stage, name, task in case.steps]
    retire(retirement, random.Random(case.start), steps, record)


def test_two_controllers(retirement: Retirement) -> None:
    """The one that is at work goes on, and the other stops at the first thing that it would change."""
    at_work = retirement.proxy.rule(Fault.DELAY_BEFORE, path="/deactivate/", first=1, seconds=120)
    others: list[Run] = []
    lease = 60  # renewed each second, and not to be lost by a busy machine

    def begin_another(file: str, task: str) -> None:
        if task.startswith(DEACTIVATE) and not others:
            others.append(Run(retirement.lab.directory, retirement.variables, lease=lease))

    first = retirement.start(begin_another, lease=lease)
    wait_until(lambda: bool(others), "there is another")
    (other,) = others
    assert other.wait() == 2, other.output
    at_work.over.set()
    code = first.wait()
    assert "Another run is at work" in other.messages[-1], other.output
    assert "changed=0 " in other.output
    assert code == 0, first.output
    retirement.check(first, code)


@nightly
def test_who_only_waits_gives_way(retirement: Retirement) -> None:
    """And does not power off when its period is over."""
    others: list[Run] = []

    def begin_another(file: str, task: str) -> None:
        if task.startswith(PROPAGATE) and not others:
            others.append(Run(retirement.lab.directory, retirement.variables))

    period = {"decommission_propagation_period": "90s", "decommission_poll_interval": 12}
    first = retirement.start(begin_another, **period)
    assert first.wait() == 2, first.output
    assert "Another run has taken over" in first.messages[-1], first.output
    (other,) = others
    code = other.wait()
    retirement.check(other, code)
    assert code == 0, other.output


@nightly
def test_the_url_leads_elsewhere_in_the_middle_of_the_drain(retirement: Retirement) -> None:
    """To a server that takes the token, and the requests: none of its own accounts is touched."""
    proxy = retirement.proxy
    here, there = proxy.upstream, retirement.staying.base_url.removeprefix("http://")
    on_its_way = proxy.rule(Fault.DELAY_BEFORE, path="/deactivate/", first=1, seconds=60)
    run = retirement.start()
    wait_until(lambda: on_its_way.injected > 0, "somebody is being closed")
    proxy.upstream = there
    on_its_way.over.set()
    code = run.wait()
    proxy.upstream = here
    retirement.check(run, code)
    assert code == 2, run.output
    again = retirement.start()
    code = again.wait()
    assert code == 0, again.output
    retirement.check(again, code)


@nightly
def test_the_database_is_gone_for_a_minute(on_postgresql: Retirement) -> None:
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

    run = on_postgresql.start(strike, patience=PATIENCE)
    code = run.wait()
    assert struck
    assert code == 0, run.output
    on_postgresql.check(run, code)
