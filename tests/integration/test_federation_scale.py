# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ledger of 10,000 destinations of 20 rooms each, from a server in another process."""

from __future__ import annotations

import json
import multiprocessing
import re
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._destinations import Ledger, read_ledger
from ansible_collections.matrixops.synapse.plugins.modules.synapse_federation_info import as_result
from ansible_collections.matrixops.synapse.tests.unit.helpers import OPERATOR, SERVER, TOKEN, Json

pytestmark = pytest.mark.nightly(category="anchors")

DESTINATIONS, ROOMS_EACH, ROOMS, OPEN = 10_000, 20, 2_000, 50
MEGABYTE = 1_000_000


def name_of(number: int) -> str:
    return f"matrix{number:05}.example.net"


def rooms_of(number: int) -> list[str]:
    return [f"!roomnumber{(number * 7 + i * 101) % ROOMS:09}:{SERVER}" for i in range(ROOMS_EACH)]


class Stub(BaseHTTPRequestHandler):
    """All destinations are behind in all rooms, or only the first few, or none."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    connections = requests = behind = 0

    def setup(self) -> None:
        super().setup()
        Stub.connections += 1

    def do_GET(self) -> None:
        Stub.requests += 1
        parts = urlsplit(self.path)
        body = json.dumps(self._found(parts.path.split("/"), dict(parse_qsl(parts.query)))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _found(self, parts: list[str], query: dict[str, str]) -> Json:
        if parts[1] == "stub":
            counted = {"connections": Stub.connections, "requests": Stub.requests}
            Stub.connections = Stub.requests = 0
            Stub.behind = int(parts[2])
            return counted
        if parts[-1] == "whoami":
            return {"user_id": OPERATOR}
        if parts[-1] == "destinations":
            start, limit = int(query.get("from", 0)), int(query["limit"])
            rows: list[Json] = [
                {
                    "destination": name_of(number),
                    "retry_last_ts": 0,
                    "retry_interval": 0,
                    "failure_ts": None,
                    "last_successful_stream_ordering": 1_000_000_000,
                }
                for number in range(start, min(start + limit, DESTINATIONS))
            ]
            more = {"next_token": str(start + limit)} if start + limit < DESTINATIONS else {}
            return {"destinations": rows, "total": DESTINATIONS, **more}
        if parts[-3] == "destinations":
            number = int(re.sub("[^0-9]", "", parts[-2]))
            late = int(number < Stub.behind)
            rows = [{"room_id": r, "stream_ordering": 1_000_000_000 + late} for r in rooms_of(number)]
            return {"rooms": rows, "total": ROOMS_EACH}
        assert parts[-1] == "rooms"
        start, limit = int(query.get("from", 0)), int(query["limit"])
        rows = [
            {"room_id": f"!roomnumber{n:09}:{SERVER}", "joined_members": 1, "joined_local_members": 1}
            for n in range(start, min(start + limit, ROOMS))
        ]
        more = {"next_batch": start + limit} if start + limit < ROOMS else {}
        return {"rooms": rows, "total_rooms": ROOMS, **more}

    def log_message(self, *_arguments: Any) -> None:
        pass


def serve(pipe: Any) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Stub) as server:
        pipe.send(server.server_address[1])
        server.serve_forever()


@pytest.fixture
def stub() -> Iterator[str]:
    context = multiprocessing.get_context("fork")
    ours, its = context.Pipe()
    process = context.Process(target=serve, args=(its,), daemon=True)
    process.start()
    yield f"http://127.0.0.1:{ours.recv()}"
    process.terminate()
    process.join()


def memory(kind: str) -> int:
    """C(VmRSS), what this process has, or C(VmHWM), the most that it had since it was last forgotten; in bytes."""
    return int(re.findall(rf"{kind}:\s+([0-9]+) kB", Path("/proc/self/status").read_text())[0]) * 1024


class Polls:
    """Polls that are counted and measured."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.requests = self.connections = self.grown = 0
        self.seconds = 0.0
        self.result: Json = {}

    def __call__(self, behind: int, known: Json | None = None, **options: Any) -> Ledger:
        self._client.get(f"/stub/{behind}")
        Path("/proc/self/clear_refs").write_text("5")
        began, before = time.perf_counter(), memory("VmRSS")
        ledger = read_ledger(self._client, 8, known=known, **options)
        self.seconds, self.grown = time.perf_counter() - began, memory("VmHWM") - before
        counted = self._client.get("/stub/0")
        # The last one is the question itself.
        self.requests, self.connections = counted["requests"] - 1, counted["connections"]
        self.result = as_result(ledger)
        print(
            f"{behind} behind: {self.seconds:.1f} s, {self.requests} requests, "
            f"{self.connections} new connections, {self.grown / MEGABYTE:.0f} MB more memory, "
            f"{self.size / 1000:.0f} kB of result, {len(json.dumps(ledger.known)) / 1000:.0f} kB of it for the next"
        )
        return ledger

    @property
    def size(self) -> int:
        return len(json.dumps(self.result))


def test_ten_thousand_destinations(stub: str) -> None:
    listings = DESTINATIONS // 1000 + ROOMS // 1000
    with Client(stub, TOKEN, connections=8) as client:
        assert client.server_name == SERVER
        poll = Polls(client)
        first = poll(OPEN)
        assert first.summary["pending"] == OPEN and first.delivered == DESTINATIONS - OPEN
        assert poll.requests == DESTINATIONS + listings
        assert poll.connections <= 8
        assert poll.size < 0.25 * MEGABYTE

        later = poll(OPEN, first.known)
        assert later.summary == first.summary
        assert poll.requests == OPEN + listings
        assert poll.grown < 50 * MEGABYTE

        # The most that there can be: everybody is behind everywhere.
        worst = poll(DESTINATIONS, later.known, everything=True)
        assert worst.summary["pending"] == DESTINATIONS
        assert len(worst.rooms_behind) == ROOMS
        assert poll.requests == DESTINATIONS + listings
        assert poll.size < MEGABYTE
        assert poll.grown < 100 * MEGABYTE
        assert poll.result["destinations_total"] == DESTINATIONS and len(poll.result["destinations"]) == 1000
