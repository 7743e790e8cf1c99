# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rate and concurrency of the requests to each remote server.

Not a library: that would be one more package to install on each host, for less than a hundred lines.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Iterator

MAX_PAUSE = 300.0
"""Maximum time in seconds for which a remote server can stop the requests to it."""


@dataclass(frozen=True)
class Pacing:
    """Limits for each remote server: concurrent requests, and requests per second.

    The defaults stay below Synapse's C(rc_federation), which delays requests from 10 a second on.
    """

    max_concurrent: int = 3
    max_rate: float = 8.0


class ServerLimiter:
    """Lets requests to one server begin in the order of their arrival. May be shared between threads."""

    def __init__(self, pacing: Pacing) -> None:
        self._pacing = pacing
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        self._running = 0
        self._answers = False
        self._not_before = float("-inf")

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait until a request may begin. It ends with the context."""
        self._enter()
        answers = False
        try:
            yield
            answers = True
        finally:
            with self._changed:
                self._answers = answers
                self._running -= 1
                self._changed.notify_all()

    @property
    def max_concurrent(self) -> int:
        """How many requests may be under way now: one until the first answer, and after a request without an answer.

        So a server that is down takes up a single thread.
        """
        return self._pacing.max_concurrent if self._answers else 1

    def pause(self, seconds: float) -> None:
        """Let no request begin for that time, at most C(MAX_PAUSE): the server has asked for it with 429."""
        with self._changed:
            self._not_before = max(self._not_before, time.monotonic() + min(seconds, MAX_PAUSE))

    def _enter(self) -> None:
        request = object()
        with self._changed:
            self._queue.append(request)
            try:
                self._changed.wait_for(lambda: self._queue[0] is request and self._running < self.max_concurrent)
                self._wait_for_time()
                self._running += 1
                self._not_before = time.monotonic() + 1 / self._pacing.max_rate
            finally:
                self._queue.remove(request)
                self._changed.notify_all()

    def _wait_for_time(self) -> None:
        # Only the first in the queue sleeps. The time may be later by then, after a 429.
        while True:
            seconds = self._not_before - time.monotonic()
            if seconds <= 0:
                return
            self._changed.release()
            try:
                time.sleep(seconds)
            finally:
                self._changed.acquire()


class Limiters:
    """The limiters of all servers. May be shared between threads."""

    def __init__(self, pacing: Pacing) -> None:
        self._pacing = pacing
        self._lock = threading.Lock()
        self._limiters: dict[str, ServerLimiter] = {}

    def of(self, server_name: str) -> ServerLimiter:
        """Return the limiter of that server."""
        with self._lock:
            if server_name not in self._limiters:
                self._limiters[server_name] = ServerLimiter(self._pacing)
            return self._limiters[server_name]
