# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which remote server is asked next, by how many workers, and when again.

A server that does not answer takes up a worker until the timeout. So it gets a single one, and more only after its
first answer; and it is asked again while others are still asked for the first time.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, Iterator, Mapping, Sequence, TypeVar

Question = TypeVar("Question")
NOW = float("-inf")


@dataclass
class Server(Generic[Question]):
    """What is left to ask a remote server. Workers take from I(left), and add to I(again)."""

    name: str
    left: deque[Question]
    retry_delays: Iterator[float]
    again: deque[Question] = field(default_factory=deque)
    workers: int = 0
    has_answered: bool = False


@dataclass
class Turn(Generic[Question]):
    """One worker's turn with a server, until nothing is left to ask it."""

    server: Server[Question]
    is_retry: bool = False


class Schedule(Generic[Question]):
    """Yields turns as they are due, until no server has any left. Iterate once; the rest may be called by workers.

    Servers with most questions come first, since they take longest, then more workers for them, then retries.
    """

    def __init__(
        self, questions: Mapping[str, deque[Question]], retry_delays: Sequence[float], max_workers: int
    ) -> None:
        """
        :param questions: by server name.
        :param retry_delays: seconds until a server is asked again what workers have put back.
        :param max_workers: how many workers may be at one server.
        """
        self._max_workers = max_workers
        self._changed = threading.Condition()
        self._under_way = 0
        self._numbers = count()
        self._heap: list[tuple[float, int, Turn[Question]]] = []
        with self._changed:
            for name in sorted(questions, key=lambda name: -len(questions[name])):
                self._add(NOW, Turn(Server(name, questions[name], iter(retry_delays))))

    def __iter__(self) -> Iterator[Turn[Question]]:
        while (turn := self._next()) is not None:
            yield turn

    def has_answered(self, server: Server[Question]) -> None:
        """Let more workers ask this server, from its first answer on."""
        with self._changed:
            if not server.has_answered:
                server.has_answered = True
                for _number in range(self._max_workers - 1):
                    self._add(NOW, Turn(server))

    def end(self, turn: Turn[Question]) -> None:
        """End a turn. The last worker at a server puts it back if there is anything to ask it again."""
        server = turn.server
        with self._changed:
            self._under_way -= 1
            server.workers -= 1
            if server.workers == 0 and server.again:
                delay = next(server.retry_delays, None)
                if delay is not None:
                    self._add(time.monotonic() + delay, Turn(server, is_retry=True))
            self._changed.notify_all()

    def _add(self, due: float, turn: Turn[Question]) -> None:
        # The number keeps the order of those that are due at the same time.
        heapq.heappush(self._heap, (due, next(self._numbers), turn))
        self._changed.notify_all()

    def _next(self) -> Turn[Question] | None:
        """Wait for the next turn that is due; C(None) if there are no more."""
        with self._changed:
            while self._heap or self._under_way:
                seconds = self._heap[0][0] - time.monotonic() if self._heap else None
                if seconds is not None and seconds <= 0:
                    turn = heapq.heappop(self._heap)[-1]
                    self._under_way += 1
                    turn.server.workers += 1
                    if turn.is_retry:
                        turn.server.left, turn.server.again = turn.server.again, deque()
                    return turn
                self._changed.wait(seconds)
            return None
