# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The number of concurrent requests to the homeserver, adapted to how fast it answers.

Our own, since the libraries for this limit the rate of requests, and how many a homeserver can take is not known.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Iterator

INITIAL_LIMIT = 2
"""Number of concurrent requests before the server has answered any."""
SLOW = 1.0
"""Mean response time in seconds from which on a server counts as overloaded."""
WEIGHT = 1 / 8
"""Weight of the newest response time in the moving mean."""


@dataclass
class Slot:
    """Permission for one request. Set I(refused) if the server was too busy for the request."""

    began: float
    refused: bool = False


class AdaptiveLimiter:
    """Limits the number of concurrent requests: additive increase, multiplicative decrease.

    Each round of fast answers raises the limit by one, up to I(most). A refused request, or a mean response time of
    C(SLOW) seconds, halves it. Requests that were sent before it was halved do not halve it again, since they met the
    same overload.
    """

    def __init__(self, most: int) -> None:
        """
        :param most: maximum number of concurrent requests.
        """
        self._most = float(most)
        self._limit = min(float(INITIAL_LIMIT), self._most)
        self._running = 0
        self._mean = 0.0
        self._halved = float("-inf")
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """The current maximum number of concurrent requests."""
        return int(self._limit)

    @contextmanager
    def slot(self) -> Iterator[Slot]:
        """Wait for a slot, and hold it for as long as the context lasts."""
        with self._changed:
            self._changed.wait_for(lambda: self._running < self.limit)
            self._running += 1
        slot = Slot(time.monotonic())
        try:
            yield slot
        finally:
            with self._changed:
                self._running -= 1
                self._learn(slot)
                self._changed.notify_all()

    def _learn(self, slot: Slot) -> None:
        now = time.monotonic()
        # Bounded, so that a single late answer does not count as overload.
        self._mean += (min(now - slot.began, 2 * SLOW) - self._mean) * WEIGHT
        if not slot.refused and self._mean < SLOW:
            self._limit = min(self._limit + 1 / self._limit, self._most)
        elif slot.began >= self._halved:
            self._limit = max(self._limit / 2, 1.0)
            self._halved = now
