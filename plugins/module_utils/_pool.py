# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many calls side by side."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Callable, Iterable, Iterator, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(function: Callable[[Item], Result], items: Iterable[Item], concurrency: int) -> Iterator[tuple[Item, Result]]:
    """Call I(function) for each item in up to I(concurrency) threads; yield items with results as they come.

    Items are taken as threads get free, so that an endless supply costs no memory. What I(function) raises is raised
    here; items that no thread has taken up by then are dropped.
    """
    running: dict[Future[Result], Item] = {}
    with ThreadPoolExecutor(max_workers=concurrency) as executor:
        try:
            for item in items:
                running[executor.submit(function, item)] = item
                if len(running) >= 2 * concurrency:
                    yield from _finished(running)
            while running:
                yield from _finished(running)
        finally:
            for future in running:
                future.cancel()


def _finished(running: dict[Future[Result], Item]) -> Iterator[tuple[Item, Result]]:
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        yield running.pop(future), future.result()
