# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
from contextlib import ExitStack, suppress

import pytest
import requests
import responses
from ansible_collections.matrixops.synapse.plugins.module_utils._concurrency import map_concurrent
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse import client as client_module
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.limiter import (
    INITIAL_LIMIT,
    SLOW,
    AdaptiveLimiter,
)
from ansible_collections.matrixops.synapse.tests.stubs.helpers import BASE_URL, PATIENCE, TOKEN, Clock, Server

# AdaptiveLimiter


def answer(pace: AdaptiveLimiter, clock: Clock, seconds: float = 0.01, *, refused: bool = False) -> None:
    with pace.slot() as turn:
        clock.sleep(seconds)
        turn.refused = refused


def paced(clock: Clock, limit: int, most: int = 100) -> AdaptiveLimiter:
    """A pace that has come to this limit."""
    pace = AdaptiveLimiter(most)
    while pace.limit < limit:
        answer(pace, clock)
    return pace


@pytest.mark.parametrize(("most", "first"), [(1, 1), (2, 2), (3, 2), (100, 2)])
def test_the_pace_starts_low(most: int, first: int) -> None:
    assert AdaptiveLimiter(most).limit == first


def test_each_round_of_answers_in_good_time_allows_for_one_more(clock: Clock) -> None:
    pace = AdaptiveLimiter(100)
    for limit in range(INITIAL_LIMIT, 20):
        assert pace.limit == limit
        answers = 0
        while pace.limit == limit:
            answer(pace, clock)
            answers += 1
        assert pace.limit == limit + 1
        assert limit <= answers <= limit + 2


@pytest.mark.parametrize("most", [1, 2, 5])
def test_the_pace_has_an_upper_limit(clock: Clock, most: int) -> None:
    pace = AdaptiveLimiter(most)
    for _answer in range(100):
        answer(pace, clock)
    assert pace.limit == most


def test_a_refused_request_halves_the_limiter(clock: Clock) -> None:
    pace = paced(clock, 8)
    answer(pace, clock, refused=True)
    assert pace.limit == 4
    answer(pace, clock, refused=True)
    assert pace.limit == 2


def test_requests_that_were_under_way_together_halve_the_pace_once(clock: Clock) -> None:
    pace = paced(clock, 8)
    with ExitStack() as stack:
        for _request in range(5):
            stack.enter_context(pace.slot()).refused = True
        clock.sleep(0.01)
    assert pace.limit == 4
    answer(pace, clock, refused=True)
    assert pace.limit == 2


@pytest.mark.parametrize("halvings", [3, 10])
def test_the_pace_is_never_below_one(clock: Clock, halvings: int) -> None:
    pace = paced(clock, 5)
    for _request in range(halvings):
        answer(pace, clock, refused=True)
    assert pace.limit == 1
    answer(pace, clock)
    assert pace.limit == 2


def test_a_single_late_answer_does_not_slow_down(clock: Clock) -> None:
    pace = paced(clock, 8)
    answer(pace, clock, 1000.0)
    assert pace.limit == 8
    for _answer in range(10):
        answer(pace, clock)
    assert pace.limit == 9


def test_answers_that_are_slow_on_average_slow_down(clock: Clock) -> None:
    pace = paced(clock, 8)
    for _answer in range(40):
        answer(pace, clock, SLOW * 1.1)
    assert pace.limit == 1


def test_answers_just_in_time_do_not_slow_down(clock: Clock) -> None:
    pace = paced(clock, 8)
    for _answer in range(40):
        answer(pace, clock, SLOW * 0.9)
    assert pace.limit > 8


def test_slow_answers_among_quick_ones_do_not_slow_down(clock: Clock) -> None:
    pace = paced(clock, 8)
    for number in range(40):
        answer(pace, clock, 5.0 if number % 4 == 0 else 0.01)
    assert pace.limit > 8


def test_the_pace_recovers(clock: Clock) -> None:
    pace = paced(clock, 8)
    for _answer in range(40):
        answer(pace, clock, 10 * SLOW)
    assert pace.limit == 1
    for _answer in range(100):
        answer(pace, clock)
    assert pace.limit > 8


def test_no_more_threads_than_have_a_turn(clock: Clock) -> None:
    pace = AdaptiveLimiter(2)
    entered = threading.Semaphore(0)
    leave = [threading.Event() for _thread in range(3)]

    def work(may_leave: threading.Event) -> None:
        with pace.slot() as turn:
            turn.refused = True  # so that the limit stays
            entered.release()
            assert may_leave.wait(timeout=PATIENCE)

    threads = [threading.Thread(target=work, args=(event,)) for event in leave]
    for thread in threads[:2]:
        thread.start()
    assert entered.acquire(timeout=PATIENCE) and entered.acquire(timeout=PATIENCE)
    threads[2].start()
    assert not entered.acquire(timeout=0.1)
    leave[0].set()
    threads[0].join(timeout=PATIENCE)
    # One left, but one is all that are allowed now.
    assert pace.limit == 1
    assert not entered.acquire(timeout=0.1)
    leave[1].set()
    assert entered.acquire(timeout=PATIENCE)
    leave[2].set()
    for thread in threads:
        thread.join(timeout=PATIENCE)
        assert not thread.is_alive()


def test_an_exception_gives_the_turn_back(clock: Clock) -> None:
    pace = AdaptiveLimiter(1)
    with pytest.raises(ValueError, match="in the middle"), pace.slot():
        raise ValueError("in the middle")
    answer(pace, clock)


# The pace of a client


@pytest.fixture
def pace(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> AdaptiveLimiter:
    """The pace of whatever client comes next, at eight."""
    started = paced(clock, 8)
    monkeypatch.setattr(client_module, "AdaptiveLimiter", lambda _most: started)
    return started


def send(client: Client) -> None:
    """Send one request, which may fail, but is not sent again."""
    with suppress(SynapseError):
        client.post("/path", repeat=False)


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504])
def test_a_server_in_trouble_slows_its_client_down(server: Server, pace: AdaptiveLimiter, status: int) -> None:
    server.post("/path", {}, status=status)
    with Client(BASE_URL, TOKEN) as client:
        send(client)
    assert pace.limit == 4


def test_a_server_that_turns_requests_away_slows_its_client_down(server: Server, pace: AdaptiveLimiter) -> None:
    for _try in range(2):
        server.post("/path", {}, status=429)
    server.post("/path", {})
    with Client(BASE_URL, TOKEN) as client:
        send(client)
    assert pace.limit == 2


@pytest.mark.parametrize(
    "exception",
    [
        requests.exceptions.ReadTimeout(),
        requests.exceptions.ConnectTimeout(),
        requests.exceptions.ConnectionError("Connection aborted."),
    ],
)
def test_a_server_that_does_not_answer_slows_its_client_down(
    server: Server, pace: AdaptiveLimiter, exception: Exception
) -> None:
    server.post("/path", {}, exception)
    with Client(BASE_URL, TOKEN) as client:
        send(client)
    assert pace.limit == 4


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404])
def test_a_server_that_says_yes_or_no_does_not(server: Server, pace: AdaptiveLimiter, status: int) -> None:
    for _request in range(10):
        server.post("/path", {}, status=status)
    with Client(BASE_URL, TOKEN) as client:
        for _request in range(10):
            send(client)
    assert pace.limit == 9


def test_who_waits_to_send_again_has_no_turn(
    server: Server, pace: AdaptiveLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.post("/path", {}, status=429)
    server.post("/path", {})
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        with ExitStack() as stack:
            for _turn in range(pace.limit):
                stack.enter_context(pace.slot())
        waits.append(seconds)

    monkeypatch.setattr("time.sleep", sleep)
    with Client(BASE_URL, TOKEN) as client:
        client.post("/path")
    assert waits == [1]


def test_a_client_has_no_more_requests_under_way_than_its_pace_allows() -> None:
    lock = threading.Lock()
    under_way = 0
    seen = []

    def look(_request: object) -> tuple[int, dict[str, str], str]:
        nonlocal under_way
        with lock:
            under_way += 1
            seen.append(under_way)
        threading.Event().wait(timeout=0.02)
        with lock:
            under_way -= 1
        return 200, {}, "{}"

    with responses.RequestsMock() as mock, Client(BASE_URL, TOKEN, connections=4) as client:
        mock.add_callback("GET", f"{BASE_URL}/path", look)
        for _result in map_concurrent(lambda _item: client.get("/path"), range(60), 16):
            pass
    assert max(seen[:2]) <= INITIAL_LIMIT
    assert max(seen) == 4
