# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many pairs of server and room: who is asked when, how often, and in which order."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import ghosts
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import GhostRun
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import Room as Shared
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import (
    KnownAccounts,
    Pair,
    PairResult,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.client import FederationClient
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.pacing import Pacing, ServerLimiter
from stubs import faults
from stubs.answers import Answer
from stubs.remote_server import RemoteServer
from stubs.rooms import Room

from .conftest import MakeClient, StartServer

ALICE, BOB = "@alice:gone.example", "@bob:gone.example"
KNOWN = KnownAccounts((ALICE, BOB))
GENEROUS = 60.0
PARTIAL = faults.error(403, "M_UNABLE_DUE_TO_PARTIAL_STATE", "not yet")


@pytest.fixture(autouse=True)
def _no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ghosts, "FORWARD_DELAY", 0.0)


def run_of(client: FederationClient, *, rounds: int = 3, **more: Any) -> GhostRun:
    return GhostRun(client, more.pop("on_result", lambda _result: None), retry_delays=(0.0,) * (rounds - 1), **more)


def shared(servers: list[RemoteServer], *rooms: Room) -> list[Shared]:
    return [Shared(room.room_id, tuple(server.server_name for server in servers), KNOWN) for room in rooms]


def several(number: int, membership: str = "leave", prefix: str = "room") -> list[Room]:
    return [Room({ALICE: membership}, name=f"{prefix}{each}") for each in range(number)]


def anybody(_user_id: str, _room_id: str, _membership: str) -> bool:
    return True


def endpoints(server: RemoteServer) -> Counter[str]:
    return Counter(request.endpoint for request in server.requests)


def watched(server: RemoteServer, *names: str, call: Callable[[str], object]) -> None:
    """Call a function with the endpoint of each request to these endpoints, before it is answered."""
    for name in names:

        def fault(normal: Callable[[], Answer], name: str = name) -> Answer:
            call(name)
            return normal()

        server.inject(name, fault)


# Rounds


def test_each_pair_is_asked_once(client: FederationClient, remote: StartServer) -> None:
    rooms = several(5)
    servers = [remote(*rooms), remote(*rooms)]
    for start in (lambda run: run.check, lambda run: lambda rooms: run.remove(rooms, anybody)):
        run = run_of(client)
        start(run)(shared(servers, *rooms))
        assert run.counts() == {"confirmed": 10}
        for server in servers:
            assert endpoints(server) == {"state_ids": 5}
            server.requests.clear()


def test_only_transient_results_are_retried(client: FederationClient, remote: StartServer) -> None:
    barred, odd = several(2, "join")
    barred.banned_servers.add("gone.example")
    server = remote(barred, odd)
    server.inject("make_leave", faults.page())
    run = run_of(client)
    run.check(shared([server], barred, odd))
    assert run.counts() == {"refused": 1, "unconfirmed": 1}
    assert max(Counter(request.target for request in server.requests).values()) == 1


def test_transient_results_are_retried(client: FederationClient, remote: StartServer) -> None:
    first, second = several(2)
    server = remote(first, second)
    first.partial_state = True
    results: list[PairResult] = []

    def on_result(result: PairResult) -> None:
        results.append(result)
        # The third one is that of the second try.
        first.partial_state = len(results) < 3

    run = run_of(client, on_result=on_result)
    run.check(shared([server], first, second))
    assert run.counts() == {"confirmed": 2}
    assert len(server.asked("state_ids", first.room_id)) == 3
    assert len(server.asked("state_ids", second.room_id)) == 1


@pytest.mark.parametrize("removes", [False, True])
def test_a_server_that_is_down_costs_one_request_a_round(
    client: FederationClient, remote: StartServer, removes: bool
) -> None:
    rooms = several(20)
    down, up = remote(*rooms), remote(*rooms)
    down.stop()
    run = run_of(client, rounds=3)
    if removes:
        run.remove(shared([down, up], *rooms), anybody)
    else:
        run.check(shared([down, up], *rooms))
    assert run.counts() == {"unreachable": 20, "confirmed": 20}
    assert endpoints(up) == {"state_ids": 20}
    assert client.sent == 20 + 3


def test_nothing_waits_for_a_server_that_is_down(
    client: FederationClient, remote: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At eight requests a second, 1,000 rooms would take two minutes in which nothing is sent."""
    rooms = several(20)
    down = remote(*rooms)
    down.stop()
    slots: list[ServerLimiter] = []
    slot = ServerLimiter.slot

    def counted(limiter: ServerLimiter) -> AbstractContextManager[None]:
        slots.append(limiter)
        return slot(limiter)

    monkeypatch.setattr(ServerLimiter, "slot", counted)
    run = run_of(client, rounds=1, workers=1)
    run.check(shared([down], *rooms))
    assert run.counts() == {"unreachable": 20}
    assert len(slots) == 1


def test_a_server_that_comes_back_between_two_rounds(client: FederationClient, remote: StartServer) -> None:
    rooms = several(3)
    server = remote(*rooms)
    server.stop()
    results: list[PairResult] = []

    def on_result(result: PairResult) -> None:
        results.append(result)
        if len(results) == len(rooms):
            server.start()

    run = run_of(client, on_result=on_result)
    run.check(shared([server], *rooms))
    assert [result.state for result in results] == ["unreachable"] * 3 + ["confirmed"] * 3
    assert endpoints(server) == {"state_ids": 3}


@pytest.mark.parametrize("removes", [False, True])
def test_confirmed_pairs_are_not_checked_again(client: FederationClient, remote: StartServer, removes: bool) -> None:
    first, second = rooms = several(2)
    server = remote(*rooms)
    pair = Pair(server.server_name, first.room_id)
    run = run_of(client, results={pair: PairResult(pair, "confirmed", {})})
    if removes:
        run.remove(shared([server], *rooms), anybody)
    else:
        run.check(shared([server], *rooms))
    assert [request.arguments[0] for request in server.requests] == [second.room_id]
    assert run.counts() == {"confirmed": 2}


# Removal


def test_servers_that_agree_are_cleared_by_one_removal(client: FederationClient, remote: StartServer) -> None:
    room = Room({ALICE: "join", BOB: "join"})
    servers = [remote(room) for _number in range(3)]
    run = run_of(client)
    run.remove(shared(servers, room), anybody)
    assert run.counts() == {"confirmed": 3}
    assert [len(server.asked("send_leave")) for server in servers] == [2, 0, 0]
    assert sorted(run.results[Pair(servers[0].server_name, room.room_id)].removed) == [ALICE, BOB]
    for server in servers[1:]:
        assert endpoints(server) == {"state_ids": 2}, "before and after the removal on the first"


def test_one_server_after_the_other_in_a_room(client: FederationClient, remote: StartServer) -> None:
    """Servers that never hear of each other are cleared each, and never two at once."""
    rooms = [Room({ALICE: "join"}), Room({ALICE: "join"}), Room({ALICE: "join"})]
    servers = [remote(room) for room in rooms]
    log: list[tuple[str, str]] = []
    for server in servers:
        name = server.server_name
        watched(server, "state_ids", "send_leave", call=lambda what, name=name: log.append((name, what)))  # type: ignore[misc]
    run = run_of(client)
    run.remove(shared(servers, rooms[0]), anybody)
    assert run.counts() == {"confirmed": 3}
    assert all(len(server.leaves) == 1 and not server.unneeded_leaves for server in servers)
    names = [server.server_name for server in servers]
    assert sorted(log[:3]) == sorted((name, "state_ids") for name in names), "all are asked at first"
    assert log[3:] == [(name, what) for name in names for what in ("state_ids", "send_leave", "state_ids")], (
        "then one is cleared, and confirms, before the next"
    )


def test_rooms_are_cleared_side_by_side(client: FederationClient, remote: StartServer) -> None:
    rooms = several(3, "join")
    together = threading.Barrier(2, timeout=GENEROUS)
    servers = [remote(rooms[0]), remote(rooms[1])]
    for server in servers:
        watched(server, "send_leave", call=lambda _what: together.wait())
    run = run_of(client)
    run.remove([*shared(servers[:1], rooms[0]), *shared(servers[1:], rooms[1])], anybody)
    assert run.counts() == {"confirmed": 2}


def test_removals_of_earlier_rounds_are_kept(client: FederationClient, remote: StartServer) -> None:
    room = Room({ALICE: "join", BOB: "leave"})
    server = remote(room)
    # During all checks after the removal, the server has only partial state.
    watched(server, "send_leave", call=lambda _what: server.inject("state_ids", PARTIAL, times=4))
    results: list[PairResult] = []
    run = run_of(client, on_result=results.append)
    run.remove(shared([server], room), anybody)
    assert [(result.state, result.removed) for result in results] == [
        ("unconfirmed", (ALICE,)),
        ("confirmed", (ALICE,)),
    ]
    assert len(server.asked("send_leave")) == 1


def test_may_leave_is_called_right_before_each_leave(client: FederationClient, remote: StartServer) -> None:
    room = Room({ALICE: "join", BOB: "join"})
    server = remote(room)
    asked: list[tuple[str, str, int]] = []

    def may_leave(user_id: str, room_id: str, membership: str) -> bool:
        assert membership == "join"
        asked.append((user_id, room_id, len(server.asked("make_leave"))))
        return user_id == BOB

    run = run_of(client)
    run.remove(shared([server], room), may_leave)
    assert asked == [(ALICE, room.room_id, 1), (BOB, room.room_id, 2)]
    result = run.results[Pair(server.server_name, room.room_id)]
    assert (result.state, result.ghosts, result.removed) == ("ghosts", {ALICE: "join"}, (BOB,))


# Errors of our own


@pytest.mark.parametrize("error", [IndexError, KeyError, RuntimeError, OSError])
def test_an_error_of_ours_is_raised(
    client: FederationClient, remote: StartServer, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    rooms = several(4, "join")
    server = remote(*rooms)

    def check(_client: FederationClient, pair: Pair, _known: KnownAccounts, *, state_limit: int = 0) -> PairResult:
        if pair.room_id == rooms[1].room_id:
            raise error("a fault")
        return PairResult(pair, "confirmed", {})

    monkeypatch.setattr(ghosts, "check", check)
    monkeypatch.setattr(ghosts, "check_if_joined", check)
    for start in (lambda run: run.check, lambda run: lambda rooms: run.remove(rooms, anybody)):
        with pytest.raises(error, match="a fault"):
            start(run_of(client))(shared([server], *rooms))


def test_an_error_of_the_callers_is_raised(client: FederationClient, remote: StartServer) -> None:
    room = Room({ALICE: "join"})
    server = remote(room)

    def fails(*_arguments: object) -> bool:
        raise IndexError("a fault")

    with pytest.raises(IndexError):
        run_of(client, on_result=fails).check(shared([server], room))
    with pytest.raises(IndexError):
        run_of(client).remove(shared([server], room), fails)
    assert not server.leaves


# Order


def test_the_server_with_most_rooms_comes_first(make_client: MakeClient, remote: StartServer) -> None:
    client = make_client(pacing=Pacing(max_concurrent=1, max_rate=1e6))
    rooms = several(3)
    few, most, some = remote(*rooms), remote(*rooms), remote(*rooms)
    order: list[str] = []
    run = run_of(client, workers=1, on_result=lambda result: order.append(result.pair.server))
    run.check([*shared([few, most, some], rooms[0]), *shared([most, some], rooms[1]), *shared([most], rooms[2])])
    assert order == [*[most.server_name] * 3, *[some.server_name] * 2, few.server_name]


def test_as_many_requests_to_a_server_at_once_as_are_allowed(make_client: MakeClient, remote: StartServer) -> None:
    rooms = several(10)
    server = remote(*rooms)
    together = threading.Barrier(3, timeout=GENEROUS)
    lock, under_way, most = threading.Lock(), 0, 0

    def three_at_once(normal: Callable[[], Answer]) -> Answer:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        together.wait()
        with lock:
            under_way -= 1
        return normal()

    # The first one is alone: perhaps the server is down.
    server.inject("state_ids", lambda normal: normal(), times=1)
    server.inject("state_ids", three_at_once)
    run = run_of(make_client(pacing=Pacing(max_concurrent=3, max_rate=1e6)))
    run.check(shared([server], *rooms))
    assert run.counts() == {"confirmed": 10}
    assert most == 3
