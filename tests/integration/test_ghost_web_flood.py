# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What floods of requests do to the web part of ghost_cleanup: its memory, and the key answer meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.signing import (
    read_signing_key,
    sign_request,
)
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site import layout
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site.site import Site
from lab import certificates
from lab.parallel import process_number
from lab.web_servers import GhostCleanup
from stubs.rooms import ServerKey

PORT = 19060 + process_number() % 20
NAME = "old.example"
ORIGINS = [ServerKey(f"{number}.far.example") for number in range(100)]
KEY_ANSWER = "/_matrix/key/v2/server"
RATE = 1000
"""Small requests in a second."""
MAX_MEMORY = 400
"""What the service may take in MiB: three bodies of 10 MiB, two of them parsed, and 512 connections."""


@dataclass
class Measured:
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    closed: int = 0


def request_of(method: str, target: str, body: bytes = b"", authorization: str = "") -> bytes:
    headers = [f"Host: {NAME}", f"Content-Length: {len(body)}"] + [f"Authorization: {authorization}"] * bool(
        authorization
    )
    return "\r\n".join([f"{method} {target} HTTP/1.1", *headers, "", ""]).encode() + body


def transaction(origin: ServerKey, number: int, content: dict[str, Any], *, is_valid: bool = True) -> bytes:
    target = f"/_matrix/federation/v1/send/{number}"
    key = read_signing_key(origin.key_file)
    header = sign_request(origin.server_name, key, NAME, "PUT", target, content if is_valid else {})
    return request_of("PUT", target, json.dumps(content).encode(), header)


def small(origins: list[ServerKey], *, is_valid: bool) -> list[bytes]:
    content = {"pdus": [{"room_id": "!a:b", "prev_events": ["$1"], "content": {"body": "x" * 500}}]}
    return [transaction(origin, number, content, is_valid=is_valid) for number, origin in enumerate(origins * 10)]


def large(origins: list[ServerKey]) -> list[bytes]:
    """Each is a valid transaction of 10 MB, with as many values as the service accepts."""
    edu = {"edu_type": "m.x", "content": {"a": [[]] * 1200, "b": "x" * 98_000}}
    return [transaction(origin, number, {"edus": [edu] * 99}) for number, origin in enumerate(origins)]


class Client:
    """Connections to the service, in one event loop."""

    def __init__(self, server: GhostCleanup) -> None:
        self._port = server.port
        self._trust = ssl.create_default_context(cafile=str(server.directory / "ca.pem"))
        self.measured = Measured()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port, ssl=self._trust, server_hostname=NAME)

    async def send(self, requests: Iterator[bytes], pause: float) -> None:
        """Send one request after the other, and count the answers."""
        while True:
            try:
                reader, writer = await self.connect()
                while True:
                    began = time.monotonic()
                    writer.write(next(requests))
                    self.measured.statuses[(await answer(reader))[0]] += 1
                    await asyncio.sleep(max(0.0, pause - (time.monotonic() - began)))
            except (OSError, EOFError):
                self.measured.statuses[0] += 1

    async def hang(self) -> None:
        """Begin a request again and again, without its end."""
        while True:
            try:
                reader, writer = await self.connect()
                writer.write(b"GET / HTTP/1.1\r\nX: ")
                await reader.read()
                writer.close()
            except OSError:
                pass
            await asyncio.sleep(1)

    async def watch(self) -> None:
        """Ask for the keys ten times in a second, half of the times on a new connection."""
        writer: asyncio.StreamWriter | None = None
        for number in itertools.count():
            began = time.monotonic()
            try:
                if writer is None or number % 2:
                    if writer is not None:
                        writer.close()
                    reader, writer = await self.connect()
                writer.write(request_of("GET", KEY_ANSWER))
                status, body = await answer(reader)
            except (OSError, EOFError):
                self.measured.closed += 1
                writer = None
                continue
            assert (status, json.loads(body)["server_name"]) == (200, NAME)
            self.measured.latencies.append(time.monotonic() - began)
            await asyncio.sleep(0.1)


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    return int(head.split()[1]), await reader.readexactly(length)


def no_flood(_client: Client) -> list[Awaitable[None]]:
    return []


def small_flood(origins: list[ServerKey], *, is_valid: bool) -> Callable[[Client], list[Awaitable[None]]]:
    def begin(client: Client) -> list[Awaitable[None]]:
        requests = itertools.cycle(small(origins, is_valid=is_valid))
        return [client.send(requests, 20 / RATE) for _number in range(20)]

    return begin


def large_flood(client: Client) -> list[Awaitable[None]]:
    requests = itertools.cycle(large(ORIGINS[:8]))
    return [client.send(requests, 0) for _number in range(8)]


def slow_clients(client: Client) -> list[Awaitable[None]]:
    return [client.hang() for _number in range(600)]


def memory_of(server: GhostCleanup) -> tuple[int, int]:
    """What the process takes now, and what it took at most, in MiB."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{server.pid}/status").read_text().splitlines())
    now, most = (int(status[name].split()[0]) // 1024 for name in ("VmRSS", "VmHWM"))
    return now, most


@pytest.mark.nightly(category="scale")
@pytest.mark.parametrize(
    ("begin", "expected"),
    [
        (no_flood, set()),
        (small_flood(ORIGINS[:1], is_valid=True), {200, 429}),
        (small_flood(ORIGINS, is_valid=True), {200}),
        (small_flood(ORIGINS, is_valid=False), {401}),
        (small_flood([ServerKey(f"{number}.none.example") for number in range(1000)], is_valid=True), {401, 503}),
        (large_flood, {200, 503}),
        (slow_clients, set()),
    ],
    ids=["none", "one-origin", "many-origins", "bad-signatures", "unknown-origins", "large-bodies", "slow-clients"],
)
def test_floods(tmp_path: Path, begin: Callable[[Client], list[Awaitable[None]]], expected: set[int]) -> None:
    certificates.issue_for(tmp_path / "ca.pem", {tmp_path: [NAME]})
    layout.write(tmp_path / "site", Site(NAME, {"server_name": NAME}, (), 1_700_000_000, "b0undary" * 4))
    server = GhostCleanup(tmp_path, tmp_path / "site", PORT)
    server.keys = {origin.server_name: origin.key_answer() for origin in ORIGINS}
    with server:
        client = Client(server)
        before, _most = memory_of(server)

        async def flood() -> None:
            tasks = [asyncio.ensure_future(each) for each in [client.watch(), *begin(client)]]
            done, _pending = await asyncio.wait(tasks, timeout=15, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for task in done:
                task.result()

        asyncio.run(flood())
        after, most = memory_of(server)
        cpu = sum(int(each) for each in Path(f"/proc/{server.pid}/stat").read_text().split()[13:15])
    latencies = sorted(client.measured.latencies)
    print(
        f"{before} MiB before, {most} at most, {after} after; CPU {cpu / os.sysconf('SC_CLK_TCK'):.1f} s of 15;"
        f" key answer {1000 * median(latencies):.0f} ms (median), {1000 * latencies[-1]:.0f} ms (slowest of"
        f" {len(latencies)}); {client.measured.closed} connections closed; answers {dict(client.measured.statuses)}"
    )
    assert most < MAX_MEMORY
    assert len(latencies) > 5
    assert set(client.measured.statuses) >= expected
