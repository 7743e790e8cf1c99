# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many calls side by side, and how many of them a server takes well."""

from __future__ import annotations

import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Callable, Iterable, Iterator, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

FIRST_LIMIT = 2
"""How many requests are under way at the same time before anything is known of the server."""
SLOW = 1.0
"""The mean time to an answer, in seconds, from which on a server counts as having too much to do."""
WEIGHT = 1 / 8
"""How much of the mean is the newest answer's."""


def each(function: Callable[[Item], Result], items: Iterable[Item], concurrency: int) -> Iterator[tuple[Item, Result]]:
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


@dataclass
class Turn:
    """One request's turn. Whoever has it sets I(refused) when the server had no time for the request."""

    began: float
    refused: bool = False


class Pace:
    """How many requests may be under way at the same time: as many as the server takes well.

    Additive increase, multiplicative decrease. Each round of answers that came in good time allows for one more
    request, up to I(most). A request that the server had no time for, and answers that take C(SLOW) seconds on
    average, halve the number; once only for all that were under way together, since they tell of the same jam.
    """

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._limit = min(float(FIRST_LIMIT), self._most)
        self._under_way = 0
        self._mean = 0.0
        self._halved = float("-inf")
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """How many requests may be under way now."""
        return int(self._limit)

    @contextmanager
    def turn(self) -> Iterator[Turn]:
        """Wait for a turn, and have it for as long as the context lasts."""
        with self._changed:
            self._changed.wait_for(lambda: self._under_way < self.limit)
            self._under_way += 1
        turn = Turn(time.monotonic())
        try:
            yield turn
        finally:
            with self._changed:
                self._under_way -= 1
                self._learn(turn)
                self._changed.notify_all()

    def _learn(self, turn: Turn) -> None:
        now = time.monotonic()
        # No single answer, however late, is a trend.
        self._mean += (min(now - turn.began, 2 * SLOW) - self._mean) * WEIGHT
        if not turn.refused and self._mean < SLOW:
            self._limit = min(self._limit + 1 / self._limit, self._most)
        elif turn.began >= self._halved:
            self._limit = max(self._limit / 2, 1.0)
            self._halved = now
