# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What takes long with the service ghost_cleanup: 1,000 ghosts in 100 rooms, and a chain of real servers and stubs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise

import pytest
import trustme
from lab import Homeserver, Lab, MissingError, Settings
from lab.ghost_service import NEW_KEY, GhostService
from lab.homeserver import DEFAULT_BACKOFF
from lab.waiting import wait_until
from stubs.remote_server import RemoteServer
from stubs.rooms import Room, ServerKey

from .conftest import ROOT

BASE_PORT = 19010
STATUS_PORT = BASE_PORT + 9
ROOMS, ACCOUNTS = 100, 10
CHAIN = 20


@pytest.fixture
def lab(skip_or_fail: Callable[[str], None]) -> Iterator[Lab]:
    """A, which is about to die, and b and c, which stay."""
    try:
        settings = Settings(extra_config=DEFAULT_BACKOFF)
        directory = ROOT / ".cache/tests/ghost_cleanup_slow"
        with Lab(directory, ["a", "b", "c"], base_port=BASE_PORT, settings=settings) as lab:
            yield lab
    except MissingError as missing:
        skip_or_fail(str(missing))


def kill(lab: Lab, *servers: Homeserver) -> GhostService:
    """Wait until all have settled, and let a be gone."""
    gone = lab["a"]
    wait_until(lambda: not any(server.undelivered() for server in (gone, *servers)), "all servers have settled")
    gone.kill()
    del lab.servers["a"]
    return GhostService.after(gone, STATUS_PORT, servers=[servers[0].server_name])


def ghosts(server: Homeserver, gone: str) -> int:
    return sum(map(len, server.members_of(gone).values()))


@pytest.mark.nightly(category="scale")
def test_a_thousand_ghosts(lab: Lab) -> None:
    """At the default pace, which Synapse's own limits ask for."""
    a, b, c = (lab[name] for name in "abc")
    host, guest = b.register("host"), c.register("guest")
    users = [a.register(f"user{number}") for number in range(ACCOUNTS)]
    rooms = [b.create_room(host.token, preset="public_chat") for _number in range(ROOMS)]

    def fill(room_id: str) -> None:
        c.join(guest.token, room_id, via=b.server_name)
        for user in users:
            a.join(user.token, room_id, via=b.server_name)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fill, rooms))
    c.send(guest.token, rooms[0], "hello")
    service = kill(lab, b, c)
    for room_id in rooms:
        b.send(host.token, room_id, "Is anybody there?")
    assert ghosts(b, a.server_name) == ROOMS * ACCOUNTS
    started = time.monotonic()
    with service:
        # At eight requests a second, for two or three requests each.
        wait_until(lambda: service.status()["removed"] >= ROOMS * ACCOUNTS, "all are removed", timeout=1800, interval=1)
        for server in (b, c):
            wait_until(lambda: ghosts(server, a.server_name) == 0, "a server is clean", interval=1)  # noqa: B023
        seconds = time.monotonic() - started
        wait_until(lambda: service.status()["pairs"] == {"confirmed": 2 * ROOMS}, "all have confirmed")
        status = service.status()
        print(f"{status['removed']} removals, {status['requests']} requests, {seconds:.0f} s, {service.memory:,} bytes")
    assert status["removed"] >= ROOMS * ACCOUNTS


@pytest.mark.nightly(category="scenarios")
def test_a_chain(lab: Lab) -> None:
    """B, c and 18 stubs: each shares rooms with the next one only, and the service knows the name of b."""
    a, b, c = (lab[name] for name in "abc")
    host, guest, user = b.register("host"), c.register("guest"), a.register("user")
    certificate = trustme.LeafCert((b.directory / "tls.key").read_bytes(), (b.directory / "tls.crt").read_bytes(), [])
    new_key = ServerKey(a.server_name, NEW_KEY)
    with ExitStack() as stack:
        stubs = [
            stack.enter_context(RemoteServer(certificate, peers=[new_key.key_answer()], ca_file=str(lab.ca_file)))
            for _number in range(CHAIN - 2)
        ]
        first = f"@guest:{stubs[0].server_name}"
        with_c, with_stub = (
            server.create_room(account.token, preset="public_chat", room_version="10")
            for server, account in ((b, host), (c, guest))
        )
        c.join(guest.token, with_c, via=b.server_name)
        stubs[0].join(first, with_stub, c.server_name)
        for server, room_id in ((b, with_c), (c, with_stub)):
            a.join(user.token, room_id, via=server.server_name)
        # To a server that it has never sent an event to, Synapse sends nothing afterwards but new events.
        c.send(guest.token, with_stub, "hello")
        rooms = [Room({user.user_id: "join", first: "join"}, room_id=with_stub, creator=guest.user_id)]
        for number, (one, other) in enumerate(pairwise(stubs)):
            members = {user.user_id: "join", f"@guest:{other.server_name}": "join"}
            rooms.append(Room(members, name=f"room{number}", creator=f"@host:{one.server_name}"))
        for room, servers in zip(rooms, [stubs[:1], *map(list, pairwise(stubs))], strict=True):
            room.say()
            for stub in servers:
                stub.rooms[room.room_id] = room
        service = kill(lab, b)
        for server, account, room_id in ((b, host, with_c), (c, guest, with_stub)):
            server.send(account.token, room_id, "Is anybody there?")
        with service:
            wait_until(lambda: not any(room.has_joined(a.server_name) for room in rooms), "all stubs are clean")
            wait_until(lambda: ghosts(b, a.server_name) + ghosts(c, a.server_name) == 0, "b and c are clean")
            wait_until(lambda: set(service.status()["pairs"]) == {"confirmed"}, "all have confirmed")
            status = service.status()
    assert {server["server"] for server in status["servers"]} == {server.server_name for server in (b, c, *stubs)}
    assert (status["servers_total"], status["rooms_total"]) == (CHAIN, CHAIN - 1)
    assert not any(stub.unneeded_leaves for stub in stubs)
