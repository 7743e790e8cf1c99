# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import threading
from typing import Any, Callable, Iterable, Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._concurrency import map_concurrent, results_by_item
from ansible_collections.matrixops.synapse.tests.stubs.helpers import PATIENCE


@pytest.mark.parametrize("concurrency", [1, 2, 8, 100])
def test_every_item_comes_once_with_its_result(concurrency: int) -> None:
    results = list(map_concurrent(lambda item: item * item, range(50), concurrency))
    assert sorted(results) == [(item, item * item) for item in range(50)]


def test_nothing_to_do() -> None:
    assert list(map_concurrent(str, [], 4)) == []


def test_one_thread_takes_one_item_after_the_other() -> None:
    called: list[int] = []
    assert [item for item, _result in map_concurrent(called.append, range(200), 1)] == list(range(200))
    assert called == list(range(200))


def test_equal_items_are_called_for_each() -> None:
    assert list(map_concurrent(str, [1, 1, 1], 2)) == [(1, "1")] * 3


def test_results_in_the_order_of_the_items() -> None:
    """The first call ends last. Equal items are called once."""
    called: list[int] = []
    last_is_called = threading.Event()

    def function(item: int) -> str:
        called.append(item)
        if item == 9:
            assert last_is_called.wait(PATIENCE)
        elif item == 8:
            last_is_called.set()
        return str(item)

    results = results_by_item(function, [9, 7, 9, 8, 7], 2)
    assert list(results.items()) == [(9, "9"), (7, "7"), (8, "8")]
    assert sorted(called) == [7, 8, 9]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_so_many_at_once_and_no_more(concurrency: int) -> None:
    lock = threading.Lock()
    barrier = threading.Barrier(concurrency)
    running = most = 0

    def function(_item: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait(timeout=PATIENCE)
        with lock:
            running -= 1

    assert len(list(map_concurrent(function, range(12), concurrency))) == 12
    assert most == concurrency


def test_items_are_taken_as_needed() -> None:
    taken = itertools.count()
    results: Any = map_concurrent(lambda item: item, (next(taken) for _forever in itertools.repeat(None)), 2)
    for _result in range(100):
        next(results)
    results.close()
    assert next(taken) <= 110


def take(results: Iterable[tuple[Any, Any]], seen: Callable[[Any], object]) -> None:
    for item, _result in results:
        seen(item)


def test_an_exception_comes_out_and_the_rest_is_dropped() -> None:
    started = []
    all_before_are_seen = threading.Event()

    def function(item: int) -> int:
        started.append(item)
        if item == 3:
            assert all_before_are_seen.wait(timeout=PATIENCE)
            raise ValueError("item 3")
        return item

    seen = set()

    def see(item: int) -> None:
        seen.add(item)
        if len(seen) == 3:
            all_before_are_seen.set()

    with pytest.raises(ValueError, match="item 3"):
        take(map_concurrent(function, range(1000), 1), see)
    assert seen >= {0, 1, 2}
    assert 3 not in seen
    assert len(started) < 10


def test_what_no_thread_has_taken_up_is_dropped() -> None:
    started = []

    def function(item: int) -> None:
        started.append(item)
        if item == 0:
            raise ValueError("item 0")
        threading.Event().wait(timeout=1)

    with pytest.raises(ValueError, match="item 0"):
        list(map_concurrent(function, range(4), 2))
    assert 3 not in started


def test_an_exception_of_the_supply_comes_out() -> None:
    def supply() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(map_concurrent(str, supply(), 2))


def test_who_stops_listening_drops_the_rest() -> None:
    started: list[int] = []
    results: Any = map_concurrent(started.append, range(1000), 2)
    next(results)
    results.close()
    assert len(started) < 10


def test_what_succeeds_is_not_lost_to_an_exception() -> None:
    both = threading.Barrier(2)
    succeeded = []

    def function(item: str) -> None:
        both.wait(timeout=PATIENCE)
        if item == "bad":
            raise ValueError(item)
        threading.Event().wait(timeout=0.1)
        succeeded.append(item)

    seen: list[str] = []
    with pytest.raises(ValueError, match="bad"):
        take(map_concurrent(function, ["good", "bad"], 2), seen.append)
    assert seen == succeeded == ["good"]
