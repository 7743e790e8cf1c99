# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections import deque
from typing import Callable, Sequence

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.retry_schedule import (
    MAX_BACKOFF,
    Schedule,
    Slot,
    backoff,
)
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Clock


def schedule(
    *, retry_delays: Sequence[float] = (), max_workers: Callable[[str], int] = lambda _name: 1, **items: int
) -> Schedule[int]:
    """A schedule with a number of items for each server."""
    queues = {name: deque(range(number)) for name, number in items.items()}
    return Schedule(queues, retry_delays, max_workers)


def ask_all(slot: Slot[int], *, again: bool = False) -> None:
    while slot.queue.items:
        item = slot.queue.items.popleft()
        if again:
            slot.queue.retry_items.append(item)


def test_the_server_with_most_items_comes_first() -> None:
    plan = schedule(few=1, most=3, some=2)
    slots = [next(iter(plan)) for _server in range(3)]
    assert [slot.queue.name for slot in slots] == ["most", "some", "few"]


def test_a_server_has_one_worker_until_it_may_have_more() -> None:
    limits = {"a": 1, "b": 1}
    plan = schedule(max_workers=limits.__getitem__, a=9, b=9)
    slots = iter(plan)
    first, second = next(slots), next(slots)
    plan.add_workers(first.queue)
    assert (first.queue.workers, second.queue.workers) == (1, 1) and not plan._heap
    limits["a"] = 3
    plan.add_workers(first.queue)
    plan.add_workers(first.queue)
    plan.add_workers(second.queue)
    more = [next(slots), next(slots)]
    assert [slot.queue.name for slot in more] == ["a", "a"] and not any(slot.is_retry for slot in more)
    for slot in (first, second, *more):
        ask_all(slot)
        plan.end(slot)
    assert next(slots, None) is None


def test_no_more_workers_for_an_empty_queue() -> None:
    plan = schedule(max_workers=lambda _name: 3, a=1)
    slot = next(iter(plan))
    ask_all(slot)
    plan.add_workers(slot.queue)
    plan.end(slot)
    assert next(iter(plan), None) is None


def test_items_are_retried_as_often_as_there_are_delays() -> None:
    plan = schedule(retry_delays=(0.0, 0.0), a=2)
    seen = []
    for slot in plan:
        seen.append((slot.is_retry, list(slot.queue.items)))
        ask_all(slot, again=True)
        plan.end(slot)
    assert seen == [(False, [0, 1]), (True, [0, 1]), (True, [0, 1])]


@pytest.mark.parametrize("has_begun", [True, False])
def test_a_retry_waits_for_the_last_worker(has_begun: bool) -> None:
    plan = schedule(retry_delays=(0.0,), max_workers=lambda _name: 2, a=2, b=1)
    slots = iter(plan)
    a, b = next(slots), next(slots)
    plan.add_workers(a.queue)
    other = next(slots) if has_begun else None
    ask_all(a, again=True)
    plan.end(a)
    ask_all(b, again=True)
    plan.end(b)
    other = other or next(slots)
    assert (other.queue.name, other.is_retry) == ("a", False)
    retry = next(slots)
    assert (retry.queue.name, retry.is_retry) == ("b", True)
    plan.end(other)
    retry = next(slots)
    assert (retry.queue.name, retry.is_retry) == ("a", True)


def test_retries_do_not_delay_other_servers() -> None:
    plan = schedule(retry_delays=(0.0,), a=2, b=1)
    slots = iter(plan)
    a = next(slots)
    ask_all(a, again=True)
    plan.end(a)
    assert next(slots).queue.name == "b"
    assert next(slots).is_retry


def test_an_empty_schedule() -> None:
    assert list(schedule()) == []


def test_a_retry_is_due_after_its_delay(clock: Clock) -> None:
    plan = schedule(retry_delays=(20.0,), a=1)
    slot = next(iter(plan))
    ask_all(slot, again=True)
    plan.end(slot)
    assert [due for due, _number, _slot in plan._heap] == [clock.now + 20]
    clock.now += 20
    assert next(iter(plan)).is_retry


@pytest.mark.parametrize(
    ("tries", "seconds"), [(1, 30), (2, 60), (3, 120), (7, 1920), (8, MAX_BACKOFF), (99, MAX_BACKOFF)]
)
def test_backoff(tries: int, seconds: int) -> None:
    assert backoff(tries, 30) == seconds


def test_backoff_with_another_limit() -> None:
    assert [backoff(tries, 60, 86_400) for tries in (1, 5, 12, 10**6)] == [60, 960, 86_400, 86_400]
