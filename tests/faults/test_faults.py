# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever goes wrong at whatever stage: nothing bad comes of it, the run says so, and the next one ends well.

``FAULTS=matrix`` lets each thing go wrong at each stage. ``FAULTS=200`` retires so many servers, with some of it going
wrong, by chance; ``FAULTS_SECONDS`` is the time after which no more of them are begun.
"""

from __future__ import annotations

import os
import random
import time
from typing import Any

import pytest

from .faults import MISHAPS, Step, Strikes, points, stages
from .retirement import Retirement

CHOICE = os.environ.get("FAULTS", "20")
SECONDS = float(os.environ.get("FAULTS_SECONDS", "200" if "FAULTS" not in os.environ else "inf"))
MOST = 3
"""How much goes wrong in one retirement by chance, at most."""

Results = list[dict[str, Any]]

began = time.monotonic()


def step(chance: random.Random, stage: str, name: str) -> Step:
    return Step(stage, MISHAPS[name], chance.choice(points(stage) or [""]))


def retire(retirement: Retirement, chance: random.Random, steps: list[Step], results: Results) -> None:
    """Run the playbook again and again while something goes wrong, and see what comes of it. The last run ends well."""
    strikes = Strikes(retirement, chance, steps)
    held = False
    try:
        while strikes:
            run = retirement.start(strikes)
            code = run.wait()
            messages = run.messages
            strikes.over(code, messages)
            print(f"{[(step.stage, step.task, step.outcome) for step in steps]}: {code} {messages}")
            if code in (0, 2):
                retirement.check(run, code)
            else:
                retirement.check_safety(run)
        run = retirement.start()
        code = run.wait()
        assert code == 0, run.output
        retirement.check(run, code)
        held = True
    finally:
        for done in steps:
            found = {"stage": done.stage, "mishap": done.mishap.name, "task": done.task, "struck": done.struck}
            results.append({**found, "outcome": done.outcome, "messages": done.messages, "held": held})


@pytest.mark.skipif(CHOICE != "matrix", reason="FAULTS=matrix runs all of them")
@pytest.mark.parametrize("name", MISHAPS)
def test_matrix(retirement: Retirement, seed: int, results: Results, name: str) -> None:
    chance = random.Random(f"{seed} {name}")
    retire(retirement, chance, [step(chance, stage, name) for stage in stages()], results)


@pytest.mark.skipif(CHOICE == "matrix", reason="FAULTS=200 runs so many of them")
@pytest.mark.parametrize("number", range(0 if CHOICE == "matrix" else int(CHOICE)))
def test_sequence(request: pytest.FixtureRequest, seed: int, results: Results, number: int) -> None:
    if time.monotonic() - began > SECONDS:
        pytest.skip(f"{SECONDS:g} s are over; FAULTS={CHOICE} runs all of them")
    chance = random.Random(f"{seed} {number}")
    where = sorted(chance.sample(range(len(stages())), chance.randint(1, MOST)))
    steps = [step(chance, stages()[index], chance.choice(list(MISHAPS))) for index in where]
    print(f"FAULTS_SEED={seed}, {number}")
    retire(request.getfixturevalue("retirement"), chance, steps, results)
