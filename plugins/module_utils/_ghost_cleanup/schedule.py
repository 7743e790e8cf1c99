# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which server is next. In memory, and made anew from the state file at each start.

Each server has only as many workers as it may have requests under way, and servers that have not answered have at most
a part of all workers together: names are hostile input, and each that does not exist takes up a worker until the
timeout.
"""

from __future__ import annotations

import heapq
import threading
import time
from dataclasses import dataclass
from itertools import count
from typing import Callable

MAX_WAIT = 60.0
"""Maximum time in seconds to wait at once, so that changes of the clock have an effect."""


@dataclass
class _Entry:
    """One server. I(version) is that of its newest place in the queue."""

    due: float | None = None
    is_up: bool = False
    running: int = 0
    unproven: int = 0
    """How many of the running workers were counted as those of a server that has not answered."""
    version: int = 0


class ServerSchedule:
    """Hands out servers as they are due. Workers call C(take) and C(release); others call C(set)."""

    def __init__(
        self, max_workers: Callable[[str], int], max_unproven: int, clock: Callable[[], float] = time.time
    ) -> None:
        """
        :param max_workers: returns how many workers a server may have at this moment.
        :param max_unproven: how many workers all servers together may have that have not answered.
        """
        self._max_workers = max_workers
        self._max_unproven = max_unproven
        self._clock = clock
        self._changed = threading.Condition()
        self._entries: dict[str, _Entry] = {}
        self._heap: list[tuple[float, int, str, int]] = []
        self._numbers = count()
        self._unproven = 0
        self._at_limit: set[str] = set()
        """Servers that are due, and have as many workers as they may have."""
        self._waiting: dict[str, None] = {}
        """Servers that are due, and wait until a worker of those that have not answered is free."""
        self._is_paused = False
        self._is_stopped = False

    def set(self, name: str, due: float, *, is_up: bool) -> None:
        """Set when the next thing is to be done for a server, and whether it has answered the last time."""
        with self._changed:
            entry = self._entries.setdefault(name, _Entry())
            entry.is_up = is_up
            self._push(name, entry, due)

    def hasten(self, name: str, due: float) -> None:
        """Set the time for a server, unless it is due earlier anyway."""
        with self._changed:
            entry = self._entries.setdefault(name, _Entry())
            if entry.due is None or due < entry.due:
                self._push(name, entry, due)

    def _push(self, name: str, entry: _Entry, due: float) -> None:
        entry.due = due
        entry.version += 1
        heapq.heappush(self._heap, (due, next(self._numbers), name, entry.version))
        self._at_limit.discard(name)
        self._waiting.pop(name, None)
        if len(self._heap) > 2 * len(self._entries) + 100:
            self._heap = [place for place in self._heap if place[-1] == self._entries[place[-2]].version]
            heapq.heapify(self._heap)
        self._changed.notify_all()

    def take(self) -> str | None:
        """Wait for the next server that is due. C(None) after C(stop)."""
        with self._changed:
            while not self._is_stopped:
                name, seconds = self._first()
                if name is not None:
                    self._begin(name)
                    return name
                self._changed.wait(seconds)
            return None

    def _first(self) -> tuple[str | None, float]:
        """Return a server that is due and may have a worker, or the seconds to wait."""
        while self._heap and not self._is_paused:
            due, _number, name, version = self._heap[0]
            entry = self._entries[name]
            seconds = due - self._clock()
            if version == entry.version and seconds > 0:
                return None, min(seconds, MAX_WAIT)
            heapq.heappop(self._heap)
            if version != entry.version:
                continue
            if entry.running >= self._max_workers(name):
                self._at_limit.add(name)
            elif entry.is_up or self._unproven < self._max_unproven:
                return name, 0.0
            else:
                self._waiting[name] = None
        return None, MAX_WAIT

    def _begin(self, name: str) -> None:
        entry = self._entries[name]
        # The worker sets the time anew once it knows what is left to do.
        entry.due = None
        entry.running += 1
        if not entry.is_up:
            entry.unproven += 1
            self._unproven += 1

    def release(self, name: str) -> None:
        """End the work on a server."""
        with self._changed:
            entry = self._entries[name]
            entry.running -= 1
            if name in self._at_limit:
                self._again(name)
            if entry.unproven:
                entry.unproven -= 1
                self._unproven -= 1
                if self._waiting:
                    self._again(next(iter(self._waiting)))

    def _again(self, name: str) -> None:
        entry = self._entries[name]
        if entry.due is not None:
            self._push(name, entry, entry.due)

    def pause(self, is_paused: bool) -> None:
        """Hand out nothing until C(pause) is called with C(False)."""
        with self._changed:
            self._is_paused = is_paused
            self._changed.notify_all()

    def stop(self) -> None:
        """Let C(take) return C(None) from now on."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
