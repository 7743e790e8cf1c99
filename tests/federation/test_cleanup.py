# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine of the service for a homeserver that is gone: which servers it finds, what it removes, and how often."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import Room as Source
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import (
    KnownAccounts,
    Pair,
    PairResult,
    check_if_joined,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.client import FederationClient
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup import cleanup as engine
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.cleanup import Cleanup, Timing
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.config import parse_config
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.status import Heard
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.store import Limits, Store
from lab.waiting import wait_until
from stubs import faults
from stubs.answers import Answer
from stubs.remote_server import RemoteServer
from stubs.rooms import Room

from .conftest import OURS, StartServer

ALICE, BOB, CAROL = (f"@{name}:gone.example" for name in ("alice", "bob", "carol"))
IMPLEMENTATIONS = ("synapse", "dendrite", "conduit", "tuwunel")
NEVER = 10**9
QUICK = Timing(
    wake=NEVER,
    recheck=1,
    most_rechecks=1,
    transient=NEVER,
    unconfirmed=NEVER,
    refused=NEVER,
    unreachable=NEVER,
    most=NEVER,
    forward=0.0,
)
"""Nothing is done a second time, but on news."""


class Service:
    """The engine without the web part: a test says what it hears."""

    def __init__(self, client: FederationClient, path: Path, *servers: RemoteServer, **more: Any) -> None:
        self.client = client
        self.path = path
        timing, workers = more.pop("timing", QUICK), more.pop("workers", 8)
        values = {"server_name": OURS.server_name, "servers": [server.server_name for server in servers], **more}
        paths = dict.fromkeys(("signing_key_path", "key_answer_path", "state_path"), str(path))
        self.config = parse_config({**paths, **values})
        self.store = Store(
            str(path), OURS.server_name, Limits(self.config.max_servers, self.config.max_rooms), time.time()
        )
        self.cleanup = Cleanup(self.config, self.store, timing=timing, workers=workers)

    def start(self, *sources: Source) -> Service:
        self.cleanup.add_sources(sources)
        self.cleanup.start(self.client)
        return self

    def stop(self) -> None:
        assert self.cleanup.stop(60.0)
        self.store.close()

    @property
    def pairs(self) -> dict[str, int]:
        return dict(self.cleanup.status().pairs)

    def wait(self, **pairs: int) -> None:
        """Wait until there are these pairs, and nothing is left to do."""
        try:
            wait_until(lambda: self.pairs == pairs, f"{pairs}", timeout=20)
        except TimeoutError:
            pytest.fail(f"{self.cleanup.status()} instead of {pairs}")


StartService = Callable[..., Service]


@pytest.fixture
def make_service(client: FederationClient, tmp_path: Path) -> Iterator[StartService]:
    with ExitStack() as stack:

        def make(*servers: RemoteServer, **more: Any) -> Service:
            service = Service(client, tmp_path / "state.db", *servers, **more)
            stack.callback(service.stop)
            return service

        yield make


@pytest.fixture
def start_service(make_service: StartService) -> StartService:
    return lambda *servers, **more: make_service(*servers, **more).start()


def woken(server: RemoteServer, call: Callable[[], object]) -> None:
    """Call a function with the first signed request of ours, as a server that wakes does."""

    def fault(normal: Callable[[], Answer]) -> Answer:
        threading.Thread(target=call, daemon=True).start()
        return normal()

    server.inject("*", fault, times=1)


def tell(service: Service, server: RemoteServer, *rooms: Room, **more: Any) -> None:
    service.cleanup.heard(server.server_name, [Heard(room.room_id, (room.newest(),), **more) for room in rooms])


# From one name to all servers


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_from_one_name(make_service: StartService, remote: StartServer, implementation: str) -> None:
    """A server is woken, and tells a room. Its members' servers are the next ones, which do not hear of the leaves."""
    others = [remote(implementation=implementation) for _number in range(2)]
    members = {f"@u:{server.server_name}": "join" for server in others}
    rooms = [Room({**members, ALICE: "join", BOB: "join"}) for _number in range(3)]
    first = remote(rooms[0], implementation=implementation)
    service = make_service(first)

    def tells(server: RemoteServer, room: Room) -> Callable[[], None]:
        return lambda: tell(service, server, room)

    for server, room in zip(others, rooms[1:], strict=True):
        server.rooms[room.room_id] = room
        woken(server, tells(server, room))
    woken(first, tells(first, rooms[0]))
    service.start()
    # The server of the rooms' creator does not exist.
    service.wait(confirmed=3, unreachable=1)
    for server in (first, *others):
        assert not server.unneeded_leaves
        assert len(server.leaves) == 2
    status = service.cleanup.status()
    assert (status.ghosts, status.removed, status.transactions) == (0, 6, 3)
    assert status.servers[0].server == "rooms.example" and status.servers[0].state == "unreachable"
    assert {server.state for server in status.servers[1:]} == {"confirmed"}


def test_a_server_without_news(start_service: StartService, remote: StartServer) -> None:
    server = remote()
    running = start_service(server)
    wait_until(lambda: running.cleanup.status().servers[0].woken is not None, "it is woken")
    (state,) = running.cleanup.status().servers
    assert (state.state, state.rooms) == ("waiting", 0)
    assert [request.endpoint for request in server.requests] == ["state_ids"]
    assert server.requests[0].origin == OURS.server_name


def test_rooms_that_are_known_beforehand(make_service: StartService, remote: StartServer) -> None:
    room = Room({ALICE: "join", CAROL: "invite"})
    server = remote(room)
    running = make_service()
    running.start(Source(room.room_id, (server.server_name,), KnownAccounts((ALICE,), (CAROL,))))
    running.wait(confirmed=1, unreachable=1)
    assert room.membership(ALICE) == room.membership(CAROL) == "leave"


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_an_invite(start_service: StartService, remote: StartServer, implementation: str) -> None:
    """No answer about the room covers it, so its verified request is what tells."""
    room = Room({CAROL: "invite"})
    server = remote(room, implementation=implementation)
    running = start_service()
    running.cleanup.heard(server.server_name, [Heard(room.room_id, (), (CAROL,))])
    running.wait(confirmed=1)
    assert room.membership(CAROL) == "leave"
    # Invited once more, it is removed once more.
    room.set_membership(CAROL, "invite")
    running.store.close()


def test_a_room_that_the_server_has_left(start_service: StartService, remote: StartServer) -> None:
    server = remote(implementation="dendrite")
    running = start_service()
    running.cleanup.heard(server.server_name, [Heard("!unknown:rooms.example")])
    running.wait(confirmed=1)


def test_a_server_acl(start_service: StartService, remote: StartServer) -> None:
    room = Room({ALICE: "join"})
    room.banned_servers.add(OURS.server_name)
    server = remote(room)
    running = start_service()
    tell(running, server, room)
    running.wait(refused=1)
    (state,) = running.cleanup.status().servers
    assert (state.state, "server ACL" in state.reason) == ("refused", True)


def test_partial_state(start_service: StartService, remote: StartServer) -> None:
    room = Room({ALICE: "join", BOB: "leave"}, creator="@creator:localhost:1")
    room.partial_state = True
    server = remote(room)
    running = start_service(timing=Timing(transient=1, forward=0.0))
    tell(running, server, room)
    wait_until(lambda: running.pairs.get("unconfirmed") == 1, "it cannot tell yet")
    room.partial_state = False
    wait_until(lambda: running.pairs.get("confirmed") == 1, "it is asked again")
    assert room.membership(ALICE) == "leave"


def test_a_signature_that_is_not_accepted(start_service: StartService, remote: StartServer) -> None:
    server = remote()
    server.known_keys.clear()
    running = start_service(server)
    wait_until(lambda: running.cleanup.status().servers[0].state == "refused", "it refuses")
    assert "does not accept the signature" in running.cleanup.status().servers[0].reason


# Order and pace


def test_one_removal_in_a_room_at_a_time(start_service: StartService, remote: StartServer) -> None:
    """Two servers share a view: the second one is asked again once the first has forwarded the leaves."""
    names = [f"@u{number}:gone.example" for number in range(5)]
    room = Room(dict.fromkeys(names, "join"))
    servers = [remote(room), remote(room)]
    both_were_asked = threading.Barrier(2, timeout=20)

    def fault(normal: Callable[[], Answer]) -> Answer:
        answer = normal()
        both_were_asked.wait()
        return answer

    for server in servers:
        server.inject("state_ids", fault, times=1)
    running = start_service()
    for server in servers:
        tell(running, server, room)
    running.wait(confirmed=2, unreachable=1)
    assert sorted(len(server.leaves) for server in servers) == [0, 5]
    assert not any(server.unneeded_leaves for server in servers)


def test_news_about_a_confirmed_room_is_checked_once_in_an_interval(
    start_service: StartService, remote: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Room({ALICE: "leave"})
    server = remote(room)
    running = start_service(timing=Timing(recheck=3600))
    tell(running, server, room)
    running.wait(confirmed=1)
    for _number in range(100):
        tell(running, server, room)
    other = Room({BOB: "leave"}, name="other")
    server.rooms[other.room_id] = other
    tell(running, server, other)
    running.wait(confirmed=2)
    assert len(server.asked("state_ids", room.room_id)) == 1
    assert len(server.asked("state_ids", other.room_id)) == 1
    following = running.store.next(server.server_name)
    assert following is not None and following.due > time.time() + 3000


def test_a_ghost_in_a_confirmed_room_is_found_on_news(start_service: StartService, remote: StartServer) -> None:
    room = Room({ALICE: "leave"}, creator="@creator:localhost:1")
    server = remote(room)
    running = start_service(timing=Timing(recheck=1, forward=0.0))
    tell(running, server, room)
    wait_until(lambda: running.pairs.get("confirmed") == 1, "the room is confirmed")
    room.set_membership(ALICE, "join")
    room.say()
    tell(running, server, room)
    wait_until(lambda: room.membership(ALICE) == "leave", "the ghost is removed")


def test_a_server_that_comes_back(start_service: StartService, remote: StartServer) -> None:
    room = Room({ALICE: "join"}, creator="@creator:localhost:1")
    server = remote(room)
    server.stop()
    running = start_service(server, timing=Timing(unreachable=1, recheck=1, forward=0.0))
    tell(running, server, room)
    wait_until(lambda: running.pairs.get("unreachable") == 1, "it is down")
    server.start()
    wait_until(lambda: room.membership(ALICE) == "leave", "the ghost is removed")
    wait_until(lambda: running.pairs.get("confirmed") == 1, "it has confirmed")


def test_servers_that_do_not_exist_do_not_hold_up_others(
    start_service: StartService, remote: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most a part of the threads waits for servers that have never answered."""
    hanging = [remote() for _number in range(6)]
    for server in hanging:
        server.inject("*", lambda _normal: Answer.of(200, {}), times=0)
        server.latency = 3600.0
    room = Room({ALICE: "join"}, creator="@creator:localhost:1")
    good = remote(room)
    running = start_service(good, workers=4)
    wait_until(lambda: running.cleanup.status().servers[0].woken is not None, "the good one has answered")
    for server in hanging:
        running.cleanup.heard(server.server_name, [Heard("!room:hanging.example")])
    wait_until(lambda: sum(len(server.requests) for server in hanging) == 2, "two of four threads hang")
    tell(running, good, room)
    wait_until(lambda: room.membership(ALICE) == "leave", "the ghost is removed")
    assert sum(len(server.requests) for server in hanging) == 2
    for server in hanging:
        server.stop()


# Hostile and broken input


def test_rooms_and_servers_are_bounded(start_service: StartService, remote: StartServer) -> None:
    server = remote()
    running = start_service(max_rooms=6, max_servers=2)
    running.cleanup.heard("no name", [Heard("!a:b")])
    running.cleanup.heard(OURS.server_name, [Heard("!a:b")])
    running.cleanup.heard(server.server_name, [Heard(f"!{number}:b") for number in range(10)])
    running.cleanup.heard("localhost:1", [Heard("!0:b")])
    running.cleanup.heard("localhost:2", [Heard("!0:b")])
    status = running.cleanup.status()
    assert (status.servers_total, status.rooms_total, status.transactions) == (2, 3, 5)
    assert status.dropped == 7 + 1
    running.wait(confirmed=3, unreachable=1)
    assert not server.asked("make_leave")


def test_an_error_of_this_program_ends_nothing(
    make_service: StartService, remote: StartServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rooms = [Room({ALICE: "join"}, name=name, creator="@creator:localhost:1") for name in ("bad", "good")]
    server = remote(*rooms)

    def fails(client: FederationClient, pair: Pair, known: KnownAccounts) -> PairResult | None:
        if pair.room_id == rooms[0].room_id:
            raise KeyError("a fault")
        return check_if_joined(client, pair, known)

    monkeypatch.setattr(engine, "check_if_joined", fails)
    running = make_service(workers=1).start()
    with caplog.at_level(logging.ERROR):
        tell(running, server, *rooms)
        wait_until(lambda: rooms[1].membership(ALICE) == "leave", "the ghost in the other room is removed")
    assert "internal error" in caplog.text


def test_a_server_that_accepts_leaves_and_does_nothing(start_service: StartService, remote: StartServer) -> None:
    room = Room({ALICE: "join"})
    server = remote(room)
    server.inject("send_leave", faults.instead(Answer.of(200, {})))
    running = start_service()
    tell(running, server, room)
    running.wait(ghosts=1, unreachable=1)
    status = running.cleanup.status()
    assert (status.ghosts, status.removed) == (1, 1)
    assert "still listed" in status.servers[0].reason
    assert len(server.leaves) == 1


# Pauses and ends


def test_nothing_is_sent_while_paused(make_service: StartService, remote: StartServer) -> None:
    room = Room({ALICE: "join"})
    server = remote(room)
    running = make_service()
    running.cleanup.add_sources([])
    running.cleanup.start(running.client)
    running.cleanup.pause("a homeserver answers")
    tell(running, server, room)
    assert running.cleanup.status().problem == "a homeserver answers"
    time.sleep(0.2)  # nothing happens in it
    assert not server.requests
    running.cleanup.resume()
    running.wait(confirmed=1, unreachable=1)


def test_a_stop_interrupts_a_removal(start_service: StartService, remote: StartServer) -> None:
    """What was not removed is removed by the next process."""
    names = [f"@u{number}:gone.example" for number in range(5)]
    room = Room(dict.fromkeys(names, "join"), creator="@creator:localhost:1")
    server = remote(room)
    second = threading.Event()
    go_on = threading.Event()

    def fault(normal: Callable[[], Answer]) -> Answer:
        second.set()
        assert go_on.wait(60)
        return normal()

    server.inject("send_leave", lambda normal: normal(), times=1)
    server.inject("send_leave", fault, times=1)
    running = start_service()
    tell(running, server, room)
    assert second.wait(60)
    running.cleanup._stopping.set()
    go_on.set()
    assert running.cleanup.stop(60)
    assert len(server.leaves) == 2
    running.store.close()
    again = Service(running.client, running.path).start()
    again.wait(confirmed=1, unreachable=1)
    again.stop()
    assert len(server.leaves) == 5 and not server.unneeded_leaves
