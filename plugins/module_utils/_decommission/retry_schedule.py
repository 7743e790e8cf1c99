# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a remote server is asked again: within a run, and from one poll to the next.

Within a run, the C(Schedule) retries a server after a delay, while others are still asked for the first time. A server
that does not answer takes up a worker until the timeout, so each has only as many workers as it may have requests under
way: the pacing of the client allows a single one until the first answer.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import Callable, Generic, Iterator, Mapping, Sequence, TypeVar

MAX_BACKOFF = 3600
"""Maximum time in seconds from one poll of a server to the next."""

Item = TypeVar("Item")
NOW = float("-inf")


def backoff(tries: int, interval: int, most: int = MAX_BACKOFF) -> int:
    """Return the seconds until the next poll of a server: doubled with each try, up to I(most).

    :param tries: the polls in which the server has not confirmed all rooms, at least 1.
    :param interval: the seconds after the first of them.
    """
    # From 30 tries on, it is more than any limit.
    seconds: int = min(interval * 2 ** (min(tries, 30) - 1), most)
    return seconds


@dataclass
class ServerQueue(Generic[Item]):
    """What to ask a remote server. Workers take from I(items), and add to I(retry_items)."""

    name: str
    items: deque[Item]
    retry_delays: Iterator[float]
    retry_items: deque[Item] = field(default_factory=deque)
    workers: int = 0
    """The workers that ask this server now, and those that are scheduled to."""


@dataclass
class Slot(Generic[Item]):
    """The time that one worker spends on a server, until its queue is empty."""

    queue: ServerQueue[Item]
    is_retry: bool = False


class Schedule(Generic[Item]):
    """Yields slots as they are due, until all queues are empty. Iterate once; workers may call the other methods.

    Servers with the longest queues come first, since they take longest, then further workers for them, then retries.
    """

    def __init__(
        self, items: Mapping[str, deque[Item]], retry_delays: Sequence[float], max_workers: Callable[[str], int]
    ) -> None:
        """
        :param items: what to ask, by server name.
        :param retry_delays: seconds before each retry of a server.
        :param max_workers: returns how many workers a server may have at this moment.
        """
        self._max_workers = max_workers
        self._changed = threading.Condition()
        self._active = 0
        self._numbers = count()
        self._heap: list[tuple[float, int, Slot[Item]]] = []
        with self._changed:
            for name in sorted(items, key=lambda name: -len(items[name])):
                self._add(NOW, Slot(ServerQueue(name, items[name], iter(retry_delays))))

    def __iter__(self) -> Iterator[Slot[Item]]:
        while (slot := self._next()) is not None:
            yield slot

    def add_workers(self, queue: ServerQueue[Item]) -> None:
        """Schedule as many workers for a server as it may have, while its queue is not empty."""
        with self._changed:
            while queue.items and queue.workers < self._max_workers(queue.name):
                self._add(NOW, Slot(queue))

    def end(self, slot: Slot[Item]) -> None:
        """End a slot. After the last one of a server, a retry is scheduled if there is anything to retry."""
        queue = slot.queue
        with self._changed:
            self._active -= 1
            queue.workers -= 1
            if queue.workers == 0 and queue.retry_items:
                delay = next(queue.retry_delays, None)
                if delay is not None:
                    self._add(time.monotonic() + delay, Slot(queue, is_retry=True))
            self._changed.notify_all()

    def _add(self, due: float, slot: Slot[Item]) -> None:
        slot.queue.workers += 1
        # The number keeps the order of slots that are due at the same time.
        heapq.heappush(self._heap, (due, next(self._numbers), slot))
        self._changed.notify_all()

    def _next(self) -> Slot[Item] | None:
        """Wait for the next slot that is due; C(None) if there are no more."""
        with self._changed:
            while self._heap or self._active:
                seconds = self._heap[0][0] - time.monotonic() if self._heap else None
                if seconds is not None and seconds <= 0:
                    slot = heapq.heappop(self._heap)[-1]
                    self._active += 1
                    if slot.is_retry:
                        slot.queue.items, slot.queue.retry_items = slot.queue.retry_items, deque()
                    return slot
                self._changed.wait(seconds)
            return None
