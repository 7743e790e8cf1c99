# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import threading
from contextlib import ExitStack, suppress
from typing import Any, Callable, Iterable, Iterator

import pytest
import requests
from ansible_collections.matrixops.synapse.plugins.module_utils import _client
from ansible_collections.matrixops.synapse.plugins.module_utils._client import Client, SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._pool import FIRST_LIMIT, SLOW, Pace, each
from ansible_collections.matrixops.synapse.tests.unit.helpers import BASE_URL, PATIENCE, TOKEN, Clock, Server


@pytest.mark.parametrize("concurrency", [1, 2, 8, 100])
def test_every_item_comes_once_with_its_result(concurrency: int) -> None:
    results = list(each(lambda item: item * item, range(50), concurrency))
    assert sorted(results) == [(item, item * item) for item in range(50)]


def test_nothing_to_do() -> None:
    assert list(each(str, [], 4)) == []


def test_one_thread_takes_one_item_after_the_other() -> None:
    called: list[int] = []
    assert [item for item, _result in each(called.append, range(200), 1)] == list(range(200))
    assert called == list(range(200))


def test_equal_items_are_called_for_each() -> None:
    assert list(each(str, [1, 1, 1], 2)) == [(1, "1")] * 3


@pytest.mark.parametrize("concurrency", [1, 3])
def test_so_many_at_once_and_no_more(concurrency: int) -> None:
    lock = threading.Lock()
    barrier = threading.Barrier(concurrency)
    running = most = 0

    def function(_item: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait(timeout=PATIENCE)
        with lock:
            running -= 1

    assert len(list(each(function, range(12), concurrency))) == 12
    assert most == concurrency


def test_items_are_taken_as_needed() -> None:
    taken = itertools.count()
    results: Any = each(lambda item: item, (next(taken) for _forever in itertools.repeat(None)), 2)
    for _result in range(100):
        next(results)
    results.close()
    assert next(taken) <= 110


def take(results: Iterable[tuple[Any, Any]], seen: Callable[[Any], object]) -> None:
    for item, _result in results:
        seen(item)


def test_an_exception_comes_out_and_the_rest_is_dropped() -> None:
    started = []
    all_before_are_seen = threading.Event()

    def function(item: int) -> int:
        started.append(item)
        if item == 3:
            assert all_before_are_seen.wait(timeout=PATIENCE)
            raise ValueError("item 3")
        return item

    seen = set()

    def see(item: int) -> None:
        seen.add(item)
        if len(seen) == 3:
            all_before_are_seen.set()

    with pytest.raises(ValueError, match="item 3"):
        take(each(function, range(1000), 1), see)
    assert seen >= {0, 1, 2}
    assert 3 not in seen
    assert len(started) < 10


def test_what_no_thread_has_taken_up_is_dropped() -> None:
    started = []

    def function(item: int) -> None:
        started.append(item)
        if item == 0:
            raise ValueError("item 0")
        threading.Event().wait(timeout=1)

    with pytest.raises(ValueError, match="item 0"):
        list(each(function, range(4), 2))
    assert 3 not in started


def test_an_exception_of_the_supply_comes_out() -> None:
    def supply() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(each(str, supply(), 2))


def test_who_stops_listening_drops_the_rest() -> None:
    started: list[int] = []
    results: Any = each(started.append, range(1000), 2)
    next(results)
    results.close()
    assert len(started) < 10


def test_what_succeeds_is_not_lost_to_an_exception() -> None:
    both = threading.Barrier(2)
    succeeded = []

    def function(item: str) -> None:
        both.wait(timeout=PATIENCE)
        if item == "bad":
            raise ValueError(item)
        threading.Event().wait(timeout=0.1)
        succeeded.append(item)

    seen: list[str] = []
    with pytest.raises(ValueError, match="bad"):
        take(each(function, ["good", "bad"], 2), seen.append)
    assert seen == succeeded == ["good"]


# Pace


def answer(pace: Pace, clock: Clock, seconds: float = 0.01, *, refused: bool = False) -> None:
    with pace.turn() as turn:
        clock.sleep(seconds)
        turn.refused = refused


def paced(clock: Clock, limit: int, most: int = 100) -> Pace:
    """A pace that has come to this limit."""
    pace = Pace(most)
    while pace.limit < limit:
        answer(pace, clock)
    return pace


@pytest.mark.parametrize(("most", "first"), [(1, 1), (2, 2), (3, 2), (100, 2)])
def test_the_pace_starts_low(most: int, first: int) -> None:
    assert Pace(most).limit == first


def test_each_round_of_answers_in_good_time_allows_for_one_more(clock: Clock) -> None:
    pace = Pace(100)
    for limit in range(FIRST_LIMIT, 20):
        assert pace.limit == limit
        answers = 0
        while pace.limit == limit:
            answer(pace, clock)
            answers += 1
        assert pace.limit == limit + 1
        assert limit <= answers <= limit + 2


@pytest.mark.parametrize("most", [1, 2, 5])
def test_the_pace_has_an_upper_limit(clock: Clock, most: int) -> None:
    pace = Pace(most)
    for _answer in range(100):
        answer(pace, clock)
    assert pace.limit == most


def test_a_refused_request_halves_the_pace(clock: Clock) -> None:
    pace = paced(clock, 8)
    answer(pace, clock, refused=True)
    assert pace.limit == 4
    answer(pace, clock, refused=True)
    assert pace.limit == 2


def test_requests_that_were_under_way_together_halve_the_pace_once(clock: Clock) -> None:
    pace = paced(clock, 8)
    with ExitStack() as stack:
        for _request in range(5):
            stack.enter_context(pace.turn()).refused = True
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
    pace = Pace(2)
    entered = threading.Semaphore(0)
    leave = [threading.Event() for _thread in range(3)]

    def work(may_leave: threading.Event) -> None:
        with pace.turn() as turn:
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
    pace = Pace(1)
    with pytest.raises(ValueError, match="in the middle"), pace.turn():
        raise ValueError("in the middle")
    answer(pace, clock)


# The pace of a client


@pytest.fixture
def pace(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Pace:
    """The pace of whatever client comes next, at eight."""
    started = paced(clock, 8)
    monkeypatch.setattr(_client, "Pace", lambda _most: started)
    return started


def send(client: Client) -> None:
    """Send one request, which may fail, but is not sent again."""
    with suppress(SynapseError):
        client.post("/path", repeat=False)


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504])
def test_a_server_in_trouble_slows_its_client_down(server: Server, pace: Pace, status: int) -> None:
    server.post("/path", {}, status=status)
    with Client(BASE_URL, TOKEN) as client:
        send(client)
    assert pace.limit == 4


def test_a_server_that_turns_requests_away_slows_its_client_down(server: Server, pace: Pace) -> None:
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
def test_a_server_that_does_not_answer_slows_its_client_down(server: Server, pace: Pace, exception: Exception) -> None:
    server.post("/path", {}, exception)
    with Client(BASE_URL, TOKEN) as client:
        send(client)
    assert pace.limit == 4


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404])
def test_a_server_that_says_yes_or_no_does_not(server: Server, pace: Pace, status: int) -> None:
    for _request in range(10):
        server.post("/path", {}, status=status)
    with Client(BASE_URL, TOKEN) as client:
        for _request in range(10):
            send(client)
    assert pace.limit == 9


def test_who_waits_to_send_again_has_no_turn(server: Server, pace: Pace, monkeypatch: pytest.MonkeyPatch) -> None:
    server.post("/path", {}, status=429)
    server.post("/path", {})
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        with ExitStack() as stack:
            for _turn in range(pace.limit):
                stack.enter_context(pace.turn())
        waits.append(seconds)

    monkeypatch.setattr("time.sleep", sleep)
    with Client(BASE_URL, TOKEN) as client:
        client.post("/path")
    assert waits == [1]


def test_a_client_has_no_more_requests_under_way_than_its_pace_allows(
    answering: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = threading.Lock()
    under_way = 0
    seen = []

    def look(_before: str, _last: str) -> dict[str, Any]:
        nonlocal under_way
        with lock:
            under_way += 1
            seen.append(under_way)
        threading.Event().wait(timeout=0.02)
        with lock:
            under_way -= 1
        return {}

    answering(look)
    with Client(BASE_URL, TOKEN, connections=4) as client:
        for _result in each(lambda _item: client.get("/before/last"), range(60), 16):
            pass
    assert max(seen[:2]) <= FIRST_LIMIT
    assert max(seen) == 4
