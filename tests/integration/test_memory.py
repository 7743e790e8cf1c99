# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the drain of 200,000 accounts takes of the managed host's memory, and what it passes back to the controller.

The server is a stub that answers at once. On a real Synapse, it would take hours only to register so many accounts, and
what is measured here is not the server, but the module, in a process of its own.

Even so, each request costs about a millisecond, so that here only some of the 200,000 are open. For a drain of all of
them, which takes about a quarter of an hour, set MEMORY_TEST_OPEN=200000.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
ACCOUNTS = 200_000
OPEN = int(os.environ.get("MEMORY_TEST_OPEN", "2000"))
# To wait is to read the rooms also of those who were deactivated before.
WAIT_FOR = "all" if OPEN == ACCOUNTS else "none"
ROOMS = 1000
MOST_MEMORY = 250 * 2**20
MOST_RESULT = 2**20

# The peak is read by the process itself: what its parent is told includes that of the parent, from before the exec.
RUN_MODULE = r"""
import atexit, re, runpy, sys

@atexit.register
def tell_peak():
    with open("/proc/self/status") as status:
        print("peak", re.search(r"VmHWM:\s+(\d+) kB", status.read())[1], file=sys.stderr)

name = "ansible_collections.matrixops.synapse.plugins.modules.synapse_user_deactivate"
runpy.run_module(name, run_name="__main__", alter_sys=True)
"""


class Stub:
    """A server with so many accounts, the first of which are open and in a room each, as somebody of another server is.
    It knows what a drain asks for.

    With I(refusing), it deactivates nobody.
    """

    def __init__(self, opened: int, *, refusing: bool = False) -> None:
        self.open = bytearray(b"\1" * opened + b"\0" * (ACCOUNTS - opened))
        self.in_room = bytearray(self.open)
        self.refusing = refusing
        self.requests = 0

    def answer(self, method: str, url: str, token: str) -> tuple[int, Any]:
        self.requests += 1
        parts = urlsplit(url)
        *_start, before, last = map(unquote, parts.path.split("/"))
        if last == "joined_rooms":
            number = _number(before)
            return 200, {"joined_rooms": [_room(number)] if self.in_room[number] else []}
        if before == "users":
            return 200, self._user(_number(last))
        if before == "deactivate":
            if self.refusing:
                return 403, {"errcode": "M_FORBIDDEN", "error": "A module of this server does not let it happen"}
            self.open[_number(last)] = 0
            return 200, {"id_server_unbind_result": "success"}
        if last == "login":
            return 200, {"access_token": f"as_{_number(before)}"}
        if last == "leave":
            self.in_room[int(token.rpartition("_")[2])] = 0
            return 200, {}
        if last == "users":
            return 200, self._page(int(parse_qs(parts.query).get("from", ["0"])[0]))
        if last == "rooms":
            return 200, {"rooms": self._occupied()}
        if last == "members":
            room = int(before[1:].partition(":")[0])
            members = [_user_id(n) for n in range(room, ACCOUNTS, ROOMS) if self.in_room[n]]
            return 200, {"members": [*members, "@someone:other.example"] if members else []}
        if last == "whoami":
            return 200, {"user_id": "@operator:example.org"}
        if last in ("versions", "logout", "override_ratelimit"):
            return 200, {}
        return 404, {"errcode": "M_UNRECOGNIZED", "error": f"{method} {url}"}

    def _page(self, start: int) -> dict[str, Any]:
        end = start + 1000
        users = [self._user(number) for number in range(start, min(end, ACCOUNTS))]
        page: dict[str, Any] = {"users": users, "total": ACCOUNTS}
        if end < ACCOUNTS:
            page["next_token"] = str(end)
        return page

    def _user(self, number: int) -> dict[str, Any]:
        closed = not self.open[number]
        return {
            "name": _user_id(number),
            "user_type": None,
            "is_guest": False,
            "admin": False,
            "deactivated": closed,
            "erased": closed,
            "shadow_banned": False,
            "displayname": f"Account number {number}",
            "avatar_url": f"mxc://example.org/{number:024}",
            "creation_ts": 1795416000000 + number,
            "approved": True,
            "last_seen_ts": 1795416000000 + number,
            "locked": False,
        }

    def _occupied(self) -> list[dict[str, Any]]:
        counts = ((_room(room), sum(self.in_room[room::ROOMS])) for room in range(ROOMS))
        return [{"room_id": room_id, "joined_local_members": count} for room_id, count in counts if count]


def _user_id(number: int) -> str:
    return f"@account-{number:06}:example.org"


def _number(user_id: str) -> int:
    return int(user_id[9:15])


def _room(number: int) -> str:
    return f"!{number % ROOMS}:example.org"


class Connection(asyncio.Protocol):
    """As much of HTTP as the client speaks."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        request, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        if not separator or len(body) < int(headers.get("content-length", 0)):
            return
        self._received = b""
        method, url, _version = request.split()
        status, answer = self._stub.answer(method, url, headers["authorization"])
        content = json.dumps(answer).encode()
        date = email.utils.formatdate(usegmt=True)
        self._transport.write(
            f"HTTP/1.1 {status} It is so\r\nContent-Type: application/json\r\nDate: {date}\r\n"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
            + content
        )


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


class Drained(dict[str, Any]):
    """What the module said, how much that was, and how much memory it took at most; in bytes."""

    def __init__(self, output: str, errors: str) -> None:
        super().__init__(json.loads(output))
        self.size = len(output)
        self.memory = int(errors.split("peak ")[1]) * 2**10


def drain(loop: asyncio.AbstractEventLoop, stub: Stub, tmp_path: Path, **options: Any) -> Drained:
    start = loop.create_server(lambda: Connection(stub), "127.0.0.1")
    server = asyncio.run_coroutine_threadsafe(start, loop).result()
    base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    arguments = tmp_path / "arguments.json"
    options = {"base_url": base_url, "access_token": "token", "all_users": True, "concurrency": 4, **options}
    arguments.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": options}))
    try:
        process = subprocess.run(
            [sys.executable, "-c", RUN_MODULE, arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT / ".cache")},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        loop.call_soon_threadsafe(server.close)
    drained = Drained(process.stdout, process.stderr)
    print(f"{drained.memory / 2**20:.0f} MB at most, a result of {drained.size} bytes, {stub.requests} requests")
    return drained


nightly = pytest.mark.nightly(category="memory")


@pytest.mark.parametrize("opened", [*(pytest.param(opened, marks=nightly) for opened in (0, ACCOUNTS // 2)), ACCOUNTS])
def test_check_mode(loop: asyncio.AbstractEventLoop, tmp_path: Path, opened: int) -> None:
    stub = Stub(opened)
    drained = drain(loop, stub, tmp_path, _ansible_check_mode=True)
    assert (drained["deactivated"], drained["unchanged"]) == (opened, ACCOUNTS - opened)
    assert sum(stub.open) == opened
    assert drained.memory < MOST_MEMORY
    assert drained.size < MOST_RESULT


@nightly
def test_everybody_leaves(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    stub = Stub(OPEN)
    log = tmp_path / "log"
    drained = drain(loop, stub, tmp_path, wait_for=WAIT_FOR, log_path=str(log))
    assert (drained["deactivated"], drained["left_all_rooms"], drained["unchanged"]) == (OPEN, OPEN, ACCOUNTS - OPEN)
    assert not any(stub.in_room)
    assert not any(stub.open)
    assert len(log.read_text().splitlines()) == 3 * OPEN
    assert drained.memory < MOST_MEMORY
    assert drained.size < MOST_RESULT


@nightly
def test_nobody_can_be_deactivated(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    stub = Stub(OPEN, refusing=True)
    drained = drain(loop, stub, tmp_path, wait_for=WAIT_FOR)
    assert drained["failed"]
    assert (drained["deactivated"], drained["failures_total"], drained["passes"]) == (0, OPEN, 2)
    assert len(drained["failures"]) == min(OPEN, 1000)
    assert sum(stub.open) == OPEN
    assert drained.memory < MOST_MEMORY
    assert drained.size < MOST_RESULT
