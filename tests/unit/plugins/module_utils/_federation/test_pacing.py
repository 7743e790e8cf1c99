# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import Callable

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.pacing import (
    MAX_PAUSE,
    Limiters,
    Pacing,
    ServerLimiter,
)
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Clock

GENEROUS = 60.0


def test_requests_begin_no_faster_than_the_rate(clock: Clock) -> None:
    limiter = ServerLimiter(Pacing(max_rate=8.0))
    began = []
    for _number in range(5):
        with limiter.slot():
            began.append(time.monotonic() - 1000)
    assert began == [0, 0.125, 0.25, 0.375, 0.5]
    assert clock.waits == [0.125] * 4


def test_a_slow_request_is_not_followed_by_a_burst(clock: Clock) -> None:
    limiter = ServerLimiter(Pacing(max_rate=8.0))
    with limiter.slot():
        clock.now += 10
    with limiter.slot():
        assert clock.waits == []
    with limiter.slot():
        assert clock.waits == [0.125]


def test_a_pause_delays_the_next_request(clock: Clock) -> None:
    limiter = ServerLimiter(Pacing())
    limiter.pause(20)
    limiter.pause(5)
    with limiter.slot():
        assert clock.waits == [20]


@pytest.mark.parametrize("seconds", [10.0**12, float("inf")])
def test_a_pause_is_bounded(clock: Clock, seconds: float) -> None:
    limiter = ServerLimiter(Pacing())
    limiter.pause(seconds)
    with limiter.slot():
        assert clock.waits == [MAX_PAUSE]


def test_a_pause_delays_a_request_that_waits_already(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = ServerLimiter(Pacing(max_rate=1.0))
    with limiter.slot():
        pass
    sleep = clock.sleep

    def interrupted(seconds: float) -> None:
        monkeypatch.setattr("time.sleep", sleep)
        sleep(seconds)
        limiter.pause(30)

    monkeypatch.setattr("time.sleep", interrupted)
    with limiter.slot():
        assert clock.waits == [1, 30]


def wait_until(condition: Callable[[], bool]) -> None:
    # The time that passes is not of interest, and time.sleep is not the real one here.
    pause = threading.Event()
    for _time in range(int(GENEROUS * 1000)):
        if condition():
            return
        pause.wait(0.001)
    pytest.fail("the condition did not come true")


class Worker(threading.Thread):
    """Takes a slot, and keeps it until C(finish)."""

    def __init__(self, limiter: ServerLimiter, log: list[str], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.done = threading.Event()
        self._limiter = limiter
        self._log = log
        self.start()

    def run(self) -> None:
        with self._limiter.slot():
            self._log.append(self.name)
            self.done.wait(GENEROUS)

    def finish(self) -> None:
        self.done.set()
        self.join(GENEROUS)


def answered(limiter: ServerLimiter) -> None:
    """Let one request to the server succeed."""
    with limiter.slot():
        pass


def test_no_more_requests_at_once_and_first_come_first_served(clock: Clock) -> None:
    limiter = ServerLimiter(Pacing(max_concurrent=2, max_rate=1e6))
    answered(limiter)
    log: list[str] = []
    workers: list[Worker] = []
    for number in range(6):
        workers.append(Worker(limiter, log, str(number)))
        # One after the other, so that the order is known.
        wait_until(lambda: len(limiter._queue) + len(log) == len(workers))
    assert log == ["0", "1"]
    for ended, worker in enumerate(workers):
        worker.finish()
        wait_until(lambda ended=ended: len(log) == min(6, ended + 3))  # type: ignore[misc]
    assert log == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize("has_failed", [False, True])
def test_one_request_at_once_to_a_server_that_does_not_answer(clock: Clock, has_failed: bool) -> None:
    limiter = ServerLimiter(Pacing(max_concurrent=3, max_rate=1e6))
    if has_failed:
        answered(limiter)
        with pytest.raises(KeyError), limiter.slot():
            raise KeyError
    log: list[str] = []
    workers = [Worker(limiter, log, str(number)) for number in range(3)]
    wait_until(lambda: len(limiter._queue) == 2)
    assert len(log) == 1
    for worker in workers:
        worker.done.set()
    wait_until(lambda: len(log) == 3)
    for worker in workers:
        worker.finish()


def test_a_failed_request_gives_its_slot_back(clock: Clock) -> None:
    limiter = ServerLimiter(Pacing(max_concurrent=1))
    for _time in range(3):
        with pytest.raises(KeyError), limiter.slot():
            raise KeyError


def test_an_interrupted_request_leaves_the_queue(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = ServerLimiter(Pacing(max_concurrent=1))
    limiter.pause(10)
    sleep = clock.sleep

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupted)
    with pytest.raises(KeyboardInterrupt), limiter.slot():
        pass
    monkeypatch.setattr("time.sleep", sleep)
    with limiter.slot():
        assert clock.waits == [10]


def test_each_server_has_a_limiter_of_its_own(clock: Clock) -> None:
    limiters = Limiters(Pacing(max_concurrent=1))
    assert limiters.of("a.example") is limiters.of("a.example")
    with ExitStack() as stack:
        for number in range(10):
            stack.enter_context(limiters.of(f"{number}.example").slot())
    assert clock.waits == []
