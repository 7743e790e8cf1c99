# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many calls at the same time."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Callable, Generic, Iterable, Iterator, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_concurrent(
    function: Callable[[Item], Result], items: Iterable[Item], concurrency: int
) -> Iterator[tuple[Item, Result]]:
    """Call I(function) for each item in up to I(concurrency) threads. Yield items with results as they are ready.

    Items are taken as threads become free, so that an endless supply costs no memory. If I(function) raises, calls that
    have not started are dropped, running ones are still yielded, and then the exception is raised. Results that are
    ready at the same time are yielded in the order of the items; with one thread, all are.
    """
    if concurrency == 1:
        for item in items:
            yield item, function(item)
        return
    with ThreadPoolExecutor(max_workers=concurrency) as executor:
        calls = _Calls(executor, function)
        try:
            yield from _until_failure(calls, items, limit=2 * concurrency)
        finally:
            calls.cancel()
        while calls.running:
            yield from calls.finished()
    if calls.failures:
        raise calls.failures[0]


def results_by_item(function: Callable[[Item], Result], items: Iterable[Item], concurrency: int) -> dict[Item, Result]:
    """Return what C(map_concurrent) yields, in the order of the items. I(function) is called once for equal items."""
    unique = list(dict.fromkeys(items))
    results = dict(map_concurrent(function, unique, concurrency))
    return {item: results[item] for item in unique}


class _Calls(Generic[Item, Result]):
    """The calls that are running or about to, and the errors of those that have ended."""

    def __init__(self, executor: ThreadPoolExecutor, function: Callable[[Item], Result]) -> None:
        self._executor = executor
        self._function = function
        self.running: dict[Future[Result], Item] = {}
        self.failures: list[BaseException] = []

    def start(self, item: Item) -> None:
        self.running[self._executor.submit(self._function, item)] = item

    def finished(self) -> Iterator[tuple[Item, Result]]:
        """Wait until a call has ended, and yield all that have."""
        done = wait(self.running, return_when=FIRST_COMPLETED).done
        for future in [future for future in self.running if future in done]:
            item = self.running.pop(future)
            failure = None if future.cancelled() else future.exception()
            if failure is not None:
                self.failures.append(failure)
            elif not future.cancelled():
                yield item, future.result()

    def cancel(self) -> None:
        """Drop the calls that have not started."""
        for future in self.running:
            future.cancel()


def _until_failure(calls: _Calls[Item, Result], items: Iterable[Item], limit: int) -> Iterator[tuple[Item, Result]]:
    """Start the calls, I(limit) at a time, until all have ended or one has failed."""
    for item in items:
        calls.start(item)
        if len(calls.running) >= limit:
            yield from calls.finished()
        if calls.failures:
            return
    while calls.running and not calls.failures:
        yield from calls.finished()
