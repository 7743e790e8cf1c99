# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A remote Matrix server over TLS on loopback that answers as Synapse and others do, until it is told to lie.

with LyingServer(context, rooms=[Room({"@alice:gone.example": "join"})], peers=[our_key.key_answer()]) as server:
    server.lie("make_leave", lies.template(type="m.room.message"))
    ...
    assert not server.unneeded_leaves
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any

from lab import certificates

from .answers import CURRENT, IMPLEMENTATIONS, Answer, Request
from .lies import Lie
from .rooms import InvalidEventError, Json, Room, ServerKey, public_keys, verify

_PARAMETER = re.compile(r'(\w+)=(?:"([^"]*)"|([^",]*))')


def server_context(directory: Path) -> ssl.SSLContext:
    """A TLS context for localhost, for any number of stubs; the authority's certificate is ``ca.pem`` there."""
    certificates.issue(directory / "ca.pem", [directory])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "tls.crt", directory / "tls.key")
    return context


@dataclass
class _Planned:
    endpoint: str
    lie: Lie
    left: int | None  # how often it is still to be told; None: always


class LyingServer:
    """A remote server named ``localhost:PORT``. As a context manager: listening."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        rooms: Iterable[Room] = (),
        peers: Iterable[Json] = (),
        implementation: str = "synapse",
        latency: float = 0.0,
        port: int = 0,
    ) -> None:
        """``peers`` are the key answers of the servers whose signatures it accepts; ``latency`` is in seconds."""
        self.context = context
        self.latency = latency
        self.rooms = {room.room_id: room for room in rooms}
        self.known_keys: dict[str, Json] = {answer["server_name"]: answer for answer in peers}
        #: All requests so far, in the order in which they arrived.
        self.requests: list[Request] = []
        #: The leave events that it was sent and has answered with 200.
        self.leaves: list[Json] = []
        #: Room ID and user ID of each leave event that it was sent though the user was not in the room.
        self.unneeded_leaves: list[tuple[str, str]] = []
        self._lies: list[_Planned] = []
        self._lock = Lock()
        self._stopping = Event()
        self._connections: set[socket.socket] = set()
        self._listener = self._listen(port)
        self.port: int = self._listener.getsockname()[1]
        self.server_name = f"localhost:{self.port}"
        self.key = ServerKey(self.server_name)
        self._honest = IMPLEMENTATIONS[implementation](self.key, self.rooms, self.known_keys)

    # Running

    @staticmethod
    def _listen(port: int) -> socket.socket:
        return socket.create_server(("127.0.0.1", port), backlog=128)

    def __enter__(self) -> LyingServer:
        Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Refuse connections from now on, and end those that there are."""
        self._stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def start(self) -> None:
        """Listen again at the same port after ``stop``."""
        self._stopping.clear()
        self._listener = self._listen(self.port)
        Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, address = listener.accept()
                Thread(target=self._serve, args=(connection, address), daemon=True).start()

    def _serve(self, connection: socket.socket, address: Any) -> None:
        # The handshake is made here, so that a client which is slow at it holds up nobody else.
        with suppress(OSError), self.context.wrap_socket(connection, server_side=True) as secured:
            with self._lock:
                self._connections.add(secured)
            try:
                _Handler(self, secured, address)
            finally:
                with self._lock:
                    self._connections.discard(secured)

    def wait(self, seconds: float) -> None:
        """Wait, but not beyond the stop of the server."""
        if seconds > 0:
            self._stopping.wait(seconds)

    # Lying

    def lie(self, endpoint: str, lie: Lie, times: int | None = None) -> None:
        """Lie to the next requests, or to all, at an endpoint ("make_leave", "*" for any, or a path).

        Of several lies at an endpoint, the one that was added first comes first.
        """
        with self._lock:
            self._lies.append(_Planned(endpoint, lie, times))

    def be_honest(self) -> None:
        """Forget all lies."""
        with self._lock:
            self._lies.clear()

    def _next_lie(self, endpoint: str) -> Lie | None:
        with self._lock:
            for planned in self._lies:
                if planned.endpoint in (endpoint, "*") and planned.left != 0:
                    if planned.left:
                        planned.left -= 1
                    return planned.lie
        return None

    # Answering

    def respond(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """The answer to a request, which is recorded."""
        request = Request(method, target, headers, body)
        request.origin = self._authenticated(request)
        with self._lock:
            self.requests.append(request)
        if request.endpoint == "send_leave":
            self._watch_leave(request)
        lie = self._next_lie(request.endpoint)
        answer = lie(lambda: self._honest.answer(request)) if lie else self._honest.answer(request)
        request.status = answer.status
        if request.endpoint == "send_leave" and answer.status == 200:
            self.leaves.append(request.json)
        self.wait(self.latency)
        return answer

    def _watch_leave(self, request: Request) -> None:
        room = self.rooms.get(request.arguments[0])
        user_id = request.json.get("state_key")
        if room is None or room.membership(user_id) not in CURRENT:
            self.unneeded_leaves.append((request.arguments[0], user_id))

    def _authenticated(self, request: Request) -> str | None:
        """The server that signed the request ("Request Authentication" in the server-server API)."""
        scheme, _, parameters = request.headers.get("authorization", "").partition(" ")
        given = {name: quoted or bare for name, quoted, bare in _PARAMETER.findall(parameters)}
        if scheme != "X-Matrix" or not {"origin", "destination", "key", "sig"} <= given.keys():
            return None
        origin: str = given["origin"]
        if origin not in self.known_keys or given["destination"] != self.server_name:
            return None
        signed: Json = {
            "method": request.method,
            "uri": request.target,
            "origin": origin,
            "destination": self.server_name,
            "signatures": {origin: {given["key"]: given["sig"]}},
        }
        if request.body:
            signed["content"] = request.json
        try:
            verify(signed, origin, public_keys(self.known_keys[origin]))
        except InvalidEventError:
            return None
        return origin

    # What it was asked

    def asked(self, endpoint: str, *arguments: str) -> list[Request]:
        """The requests at an endpoint; with arguments, those about that room, user or event."""
        with self._lock:
            requests = list(self.requests)
        return [
            each for each in requests if each.endpoint == endpoint and each.arguments[: len(arguments)] == arguments
        ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body in one packet, and at once.
    wbufsize = -1
    disable_nagle_algorithm = True

    def __init__(self, stub: LyingServer, connection: socket.socket, address: Any) -> None:
        self._stub = stub
        super().__init__(connection, address, None)  # type: ignore[arg-type] # nothing of the server is used

    def _respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self._stub.respond(self.command, self.path, headers, body)
        self._stub.wait(answer.delay)
        whole = isinstance(answer.body, bytes)
        self.close_connection = self.close_connection or not whole or answer.status is None
        if answer.status is not None:
            self._send_head(answer)
        for piece in [answer.body] if isinstance(answer.body, bytes) else answer.body:
            self.wfile.write(piece)
            self.wfile.flush()
            if not whole:
                self._stub.wait(answer.pause)

    def _send_head(self, answer: Answer) -> None:
        self.send_response(answer.status or 200)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if isinstance(answer.body, bytes):
            self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    do_GET = do_PUT = do_POST = _respond  # noqa: N815 # http.server's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""
