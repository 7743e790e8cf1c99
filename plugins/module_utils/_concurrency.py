# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many calls side by side."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Callable, Iterable, Iterator, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_concurrent(
    function: Callable[[Item], Result], items: Iterable[Item], concurrency: int
) -> Iterator[tuple[Item, Result]]:
    """Call I(function) for each item in up to I(concurrency) threads; yield items with results as they come.

    Items are taken as threads get free, so that an endless supply costs no memory. If I(function) raises, then what no
    thread has taken up yet is dropped, what is under way is still yielded, and the exception is raised here. What is
    done at the same time comes in the order of the items, so that with one thread everything does.
    """
    if concurrency == 1:
        for item in items:
            yield item, function(item)
        return
    running: dict[Future[Result], Item] = {}
    failures: list[BaseException] = []

    def finished() -> Iterator[tuple[Item, Result]]:
        done = wait(running, return_when=FIRST_COMPLETED).done
        for future in [future for future in running if future in done]:
            item = running.pop(future)
            failure = None if future.cancelled() else future.exception()
            if failure is not None:
                failures.append(failure)
            elif not future.cancelled():
                yield item, future.result()

    with ThreadPoolExecutor(max_workers=concurrency) as executor:
        try:
            for item in items:
                running[executor.submit(function, item)] = item
                if len(running) >= 2 * concurrency:
                    yield from finished()
                if failures:
                    break
            while running and not failures:
                yield from finished()
        finally:
            for future in running:
                future.cancel()
        while running:
            yield from finished()
    if failures:
        raise failures[0]
