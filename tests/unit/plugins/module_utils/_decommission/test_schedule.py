# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections import deque
from typing import Sequence

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.schedule import Schedule, Turn
from ansible_collections.matrixops.synapse.tests.unit.helpers import Clock


def schedule(*, retry_delays: Sequence[float] = (), max_workers: int = 3, **questions: int) -> Schedule[int]:
    """So many questions by server name."""
    queues = {name: deque(range(number)) for name, number in questions.items()}
    return Schedule(queues, retry_delays, max_workers)


def ask_all(turn: Turn[int], *, again: bool = False) -> None:
    while turn.server.left:
        question = turn.server.left.popleft()
        if again:
            turn.server.again.append(question)


def test_the_server_with_most_questions_comes_first() -> None:
    plan = schedule(few=1, most=3, some=2)
    turns = [next(iter(plan)) for _server in range(3)]
    assert [turn.server.name for turn in turns] == ["most", "some", "few"]


def test_a_server_has_one_worker_until_it_answers() -> None:
    plan = schedule(a=9, b=9)
    turns = iter(plan)
    first, second = next(turns), next(turns)
    plan.has_answered(first.server)
    plan.has_answered(first.server)
    more = [next(turns), next(turns)]
    assert [turn.server.name for turn in more] == ["a", "a"] and not any(turn.is_retry for turn in more)
    for turn in (first, second, *more):
        ask_all(turn)
        plan.end(turn)
    assert next(turns, None) is None


def test_what_is_put_back_is_asked_again_as_often_as_there_are_delays() -> None:
    plan = schedule(retry_delays=(0.0, 0.0), a=2)
    seen = []
    for turn in plan:
        seen.append((turn.is_retry, list(turn.server.left)))
        ask_all(turn, again=True)
        plan.end(turn)
    assert seen == [(False, [0, 1]), (True, [0, 1]), (True, [0, 1])]


def test_a_retry_waits_for_the_last_worker() -> None:
    plan = schedule(retry_delays=(0.0,), max_workers=2, a=2, b=1)
    turns = iter(plan)
    a, b = next(turns), next(turns)
    plan.has_answered(a.server)
    other = next(turns)
    ask_all(a, again=True)
    plan.end(a)
    ask_all(b, again=True)
    plan.end(b)
    assert next(turns).server.name == "b"
    plan.end(other)
    assert next(turns).server.name == "a"


def test_retries_do_not_hold_up_others() -> None:
    plan = schedule(retry_delays=(0.0,), a=2, b=1)
    turns = iter(plan)
    a = next(turns)
    ask_all(a, again=True)
    plan.end(a)
    assert next(turns).server.name == "b"
    assert next(turns).is_retry


def test_nothing_to_ask() -> None:
    assert list(schedule()) == []


def test_a_retry_is_due_after_its_delay(clock: Clock) -> None:
    plan = schedule(retry_delays=(20.0,), a=1)
    turn = next(iter(plan))
    ask_all(turn, again=True)
    plan.end(turn)
    assert [due for due, _number, _turn in plan._heap] == [clock.now + 20]
    clock.now += 20
    assert next(iter(plan)).is_retry
