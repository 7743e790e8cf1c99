# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The web part of ghost_cleanup on sockets: signed requests of stubs of remote servers, and hostile bytes."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest
import trustme
from aiohttp.web import RequestHandler
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.connect import Settings
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.signing import (
    read_signing_key,
    sign_request,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup import listener, web
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.config import Config
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.inbound import Verifier
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.listener import Listener
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.status import Heard, Status
from lab.waiting import wait_until
from stubs import faults
from stubs.remote_server import RemoteServer
from stubs.rooms import ServerKey

from .conftest import OURS, StartServer

NAME = OURS.server_name
KEYS = json.dumps(OURS.key_answer()).encode()
SEND = "/_matrix/federation/v1/send/"
TRANSACTION: dict[str, Any] = {
    "pdus": [{"room_id": "!a:far.example", "prev_events": ["$1"]}, {"type": "m.room.create"}],
    "edus": [{"edu_type": "m.typing", "content": {"room_id": "!b"}}],
}
ROOMS = (Heard("!a:far.example", ("$1",)), Heard("!b"))
INVITE = {
    "type": "m.room.member",
    "room_id": "!i:far.example",
    "state_key": f"@alice:{NAME}",
    "content": {"membership": "invite"},
}
STATUS = Status(NAME, "ed25519:x", 1, 2, "", (), 0, 0, {}, 0, 0, 0, 0, 0, 0, None, None, False)


@dataclass
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["Content-Type"] == "application/json", self.body
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str]:
        assert self.headers["Access-Control-Allow-Origin"] == "*"
        assert set(self.json) >= {"errcode", "error"}
        return self.status, self.json["errcode"]


@dataclass
class Service:
    """Both applications in a thread, and what the public one has heard."""

    verifier: Verifier
    heard: list[tuple[str, tuple[Heard, ...]]] = field(default_factory=list)
    status_is_broken: bool = False
    port: int = 0
    status_port: int = 0
    status_port_6: int = 0

    async def run(self, ready: Future[asyncio.Event], context: ssl.SSLContext | None) -> None:
        config = Config(NAME, "", "", "")
        public = Listener(web.public_app(config, KEYS, self.verifier, self._hear))
        status = Listener(web.status_app(self._status))
        [self.port] = await public.start(["127.0.0.1:0"], context)
        self.status_port, self.status_port_6 = await status.start(["127.0.0.1:0", "[::1]:0"])
        ending = asyncio.Event()
        ready.set_result(ending)
        await ending.wait()
        await public.close()
        await status.close()
        self.verifier.close()

    def _hear(self, origin: str, rooms: Any) -> None:
        self.heard.append((origin, tuple(rooms)))

    def _status(self) -> Status:
        if self.status_is_broken:
            raise ZeroDivisionError("a secret")
        return STATUS

    def ask(self, method: str, target: str, body: bytes | None = None, *, port: int = 0, **headers: str) -> Answer:
        connection = HTTPConnection("::1" if port == self.status_port_6 else "127.0.0.1", port or self.port, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest(method, target, skip_host="Host" in headers, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            if body is not None and "Content_Length" not in headers:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(answer.status, answer.msg, answer.read())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def send(self, data: bytes) -> list[tuple[int, bytes]]:
        """Send bytes, and return status and body of each answer until the connection is closed."""
        with self.connect() as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
            return list(answers(connection))


def answers(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    with connection.makefile("rb") as stream, contextlib.suppress(ConnectionError):
        while stream.peek(1):
            answer = HTTPResponse(Fake(stream))  # type: ignore[arg-type]
            answer.begin()
            yield answer.status, answer.read()


class Fake:
    """A socket whose answers are read one after the other."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def makefile(self, _mode: str) -> Any:
        kept = self._stream

        class Kept:
            def __getattr__(self, name: str) -> Any:
                return (lambda: None) if name == "close" else getattr(kept, name)

        return Kept()


Start = Callable[..., Service]


@pytest.fixture
def start(ca_file: str) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def begin(context: ssl.SSLContext | None = None) -> Service:
            settings = Settings(ca_path=ca_file, ip_allowlist=("127.0.0.1/32", "::1"))
            service = Service(Verifier.open(NAME, settings))
            ready: Future[asyncio.Event] = Future()
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=lambda: loop.run_until_complete(service.run(ready, context)))
            thread.start()
            ending = ready.result(60)
            stack.callback(loop.close)
            stack.callback(thread.join)
            stack.callback(loop.call_soon_threadsafe, ending.set)
            return service

        yield begin


@pytest.fixture
def service(start: Start) -> Service:
    return start()


@pytest.fixture
def far(remote: StartServer) -> RemoteServer:
    return remote()


def authorization(key: ServerKey, method: str, uri: str, content: Any) -> str:
    return sign_request(key.server_name, read_signing_key(key.key_file), NAME, method, uri, content)


def put(service: Service, far: RemoteServer, content: Any = None, uri: str = SEND + "1", **more: Any) -> Answer:
    """Send a signed request, by default a transaction. More arguments replace what is sent, not what is signed."""
    content = TRANSACTION if content is None else content
    body = more.pop("body", json.dumps(content).encode())
    header = more.pop("header", authorization(far.key, "PUT", uri, content))
    return service.ask("PUT", more.pop("sent_uri", uri), body, Authorization=header, **more)


# What is verified


def test_a_transaction(service: Service, far: RemoteServer) -> None:
    answer = put(service, far)
    assert (answer.status, answer.json) == (200, {"pdus": {}})
    assert service.heard == [(far.server_name, ROOMS)]
    assert put(service, far, {"pdus": [], "edus": []}, uri=SEND + "%2Fa%20b?x=%C3%A4+%20").status == 200
    assert service.heard[1:] == [(far.server_name, ())]
    assert len(far.asked("server_keys")) == len(far.requests) == 1
    # Requests of the service itself go over other connections, and there are 10,000 servers.
    assert far.requests[0].headers["connection"] == "close"
    assert service.verifier.rejected == 0


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_invites(service: Service, far: RemoteServer, version: str) -> None:
    uri = f"/_matrix/federation/{version}/invite/%21i%3Afar.example/%241"
    content = INVITE if version == "v1" else {"event": INVITE, "room_version": "10"}
    answer = put(service, far, content, uri)
    assert answer.error == (403, "M_FORBIDDEN")
    assert answer.json["error"] == f"The homeserver {NAME} is decommissioned."
    assert service.heard == [(far.server_name, (Heard("!i:far.example", (), (f"@alice:{NAME}",)),))]
    # Without a signature the answer is the same, but nothing is believed.
    assert service.ask("PUT", uri, json.dumps(content).encode()).error == (403, "M_FORBIDDEN")
    assert put(service, far, content, uri, body=b"x" * 2_000_000).error == (403, "M_FORBIDDEN")
    assert len(service.heard) == 1


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    "more",
    [
        {"header": "garbage"},
        {"header": ""},
        {"header": "X-Matrix " + "a" * 5000},
        {"sent_uri": SEND + "2"},
        {"sent_uri": SEND + "1?"},
        {"sent_uri": SEND + "%31"},
        {"body": b'{"pdus": [], "edus": []}'},
    ],
)
def test_requests_that_are_not_what_was_signed(service: Service, far: RemoteServer, more: dict[str, Any]) -> None:
    answer = put(service, far, **more)
    assert answer.error == (401, "M_UNAUTHORIZED")
    assert answer.json["error"].isprintable()
    assert not service.heard


def test_another_destination(service: Service, far: RemoteServer) -> None:
    header = sign_request(
        far.server_name, read_signing_key(far.key.key_file), "other.example", "PUT", SEND + "1", TRANSACTION
    )
    assert put(service, far, header=header).error == (401, "M_UNAUTHORIZED")
    header = changed(header, ',destination="other.example"', "")
    assert put(service, far, header=header).error == (401, "M_UNAUTHORIZED")
    assert not service.heard


@pytest.mark.parametrize(
    "fault",
    [
        faults.error(404, "M_UNRECOGNIZED", "no"),
        faults.page(),
        faults.error(503, "M_UNKNOWN", "\x1b[2J"),
    ],
)
def test_an_origin_without_keys(service: Service, far: RemoteServer, fault: faults.Fault) -> None:
    far.inject("*", fault)
    assert put(service, far).error == (401, "M_UNAUTHORIZED")
    assert put(service, far).error == (401, "M_UNAUTHORIZED")
    assert len(far.requests) == 1


def test_an_origin_that_is_on_no_public_address(service: Service) -> None:
    key = ServerKey("10.0.0.1:8448")
    answer = service.ask("PUT", SEND + "1", b"{}", Authorization=authorization(key, "PUT", SEND + "1", {}))
    assert answer.error == (401, "M_UNAUTHORIZED")
    assert "has no public IP address" in answer.json["error"]


def test_too_many_events(service: Service, far: RemoteServer) -> None:
    assert put(service, far, {"pdus": [{}] * 51}).error == (400, "M_BAD_JSON")
    assert put(service, far, {"edus": [{}] * 101}).error == (400, "M_BAD_JSON")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"a":' * 100_000,
        b'{"a":[' + b"[]," * 1_000_000 + b"0]}",
        b'{"a": ' + b"9" * 1_000_000 + b"}",
    ],
)
def test_bodies_that_are_not_json(service: Service, far: RemoteServer, body: bytes) -> None:
    assert put(service, far, body=body).error == (400, "M_NOT_JSON")


def test_a_large_transaction(service: Service, far: RemoteServer) -> None:
    content = {"pdus": [{"room_id": f"!{number}", "content": {"body": "x" * 64_000}} for number in range(50)]}
    content["edus"] = [{"edu_type": "m.x", "content": "y" * 60_000} for _number in range(100)]
    assert put(service, far, content).status == 200
    assert len(service.heard[0][1]) == 50


# What is refused before the body


def test_a_body_that_is_too_large(service: Service, far: RemoteServer) -> None:
    """The answer comes before the body."""
    with service.connect() as connection:
        connection.sendall(
            f"PUT {SEND}1 HTTP/1.1\r\nHost: a\r\nContent-Length: {web.MAX_TRANSACTION + 1}\r\n\r\n".encode()
        )
        assert next(answers(connection))[0] == 413
    refused = put(service, far, body=b"x" * (web.MAX_TRANSACTION + 1))
    assert refused.error == (413, "M_TOO_LARGE")
    assert refused.headers["Connection"] == "close"
    assert not far.requests


def test_a_body_that_is_not_verified_is_not_received(service: Service) -> None:
    with service.connect() as connection:
        connection.sendall(f"PUT {SEND}1 HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n".encode())
        assert next(answers(connection))[0] == 401


def test_a_compressed_body(start: Start, far: RemoteServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old versions of aiohttp expand it in memory, even if nobody reads it."""
    received: list[bytes] = []
    receive = RequestHandler.data_received

    def record(self: RequestHandler, data: bytes) -> None:
        received.append(data)
        receive(self, data)

    monkeypatch.setattr(RequestHandler, "data_received", record)
    service = start()
    body = gzip.compress(b'{"a": "' + b"0" * 100_000_000 + b'"}')
    assert len(body) < web.SMALL
    assert put(service, far, body=body, Content_Encoding="gzip").error == (415, "M_UNKNOWN")
    assert put(service, far, Content_Encoding="identity").error == (415, "M_UNKNOWN")
    assert len(received) == 2 and b"".join(received).count(b"PUT ") == 2
    assert body[:10] not in b"".join(received)


def test_a_chunked_body_without_end(start: Start, far: RemoteServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "LINGER", 0.2)
    service = start()
    header = authorization(far.key, "PUT", SEND + "1", TRANSACTION)
    with service.connect() as connection:
        connection.sendall(
            f"PUT {SEND}1 HTTP/1.1\r\nHost: a\r\nAuthorization: {header}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        found = answers(connection)
        status, body = next(found)
        assert (status, json.loads(body)["errcode"]) == (411, "M_UNKNOWN")
        with contextlib.suppress(ConnectionError):
            while True:
                connection.sendall(b"ffff\r\n" + b"x" * 0xFFFF + b"\r\n")
        assert list(found) == []


def test_a_flood_of_one_origin(service: Service, far: RemoteServer) -> None:
    found = [put(service, far) for _number in range(150)]
    limited = [answer for answer in found if answer.status == 429]
    assert len(limited) >= 1 and {answer.status for answer in found} == {200, 429}
    assert limited[0].error == (429, "M_LIMIT_EXCEEDED")
    assert 0 < limited[0].json["retry_after_ms"] <= 100
    assert limited[0].headers["Retry-After"] == "1"
    # Behind a proxy on this host, each client has its own limit.
    assert put(service, far, X_Forwarded_For="198.51.100.1").status == 200
    # It is the proxy that has added the last one.
    found = [put(service, far, X_Forwarded_For=f"198.51.100.{number}, 192.0.2.1") for number in range(150)]
    assert {answer.status for answer in found} == {200, 429}


def test_large_bodies_in_memory_are_bounded(
    service: Service, far: RemoteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "SMALL", 10)
    header = authorization(far.key, "PUT", SEND + "1", TRANSACTION)
    with contextlib.ExitStack() as stack:

        def begin(client: str, length: int = web.MAX_TRANSACTION) -> socket.socket:
            """Begin a request whose body never comes."""
            connection = stack.enter_context(service.connect())
            connection.sendall(
                f"PUT {SEND}1 HTTP/1.1\r\nHost: a\r\nAuthorization: {header}\r\nX-Forwarded-For: {client}\r\n"
                f"Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n".encode()
            )
            with connection.makefile("rb") as stream:
                assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
                stream.readline()
            return connection

        held = [begin(f"192.0.2.{number}") for number in range(3)]
        # In a second. The rate limit would say a tenth of that.
        wait_until(
            lambda: put(service, far, X_Forwarded_For="192.0.2.1").json.get("retry_after_ms") == 1000,
            "one client has one large body at most",
        )
        wait_until(lambda: put(service, far, X_Forwarded_For="192.0.2.9").status == 503, "there is room for three")
        assert put(service, far, X_Forwarded_For="192.0.2.8").error == (503, "M_UNKNOWN")
        assert service.ask("GET", "/_matrix/key/v2/server").body == KEYS
        for connection in held:
            connection.close()
        wait_until(lambda: put(service, far, X_Forwarded_For="192.0.2.7").status == 200, "there is room again")


def test_a_client_that_goes_away(service: Service, far: RemoteServer) -> None:
    header = authorization(far.key, "PUT", SEND + "1", TRANSACTION)
    head = f"PUT {SEND}1 HTTP/1.1\r\nHost: a\r\nAuthorization: {header}\r\nContent-Length: 1000\r\n\r\n{{".encode()
    for _number in range(20):
        with service.connect() as connection:
            connection.sendall(head)
    wait_until(lambda: put(service, far).status == 200, "the service goes on")


# Bytes that are no HTTP


def test_smuggled_requests(service: Service) -> None:
    get = b"GET /_matrix/key/v2/server HTTP/1.1\r\nHost: a\r\n\r\n"
    for head in (
        b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n" % (5 + len(get)),
        b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(get),
        b"Content-Length : 5\r\n",
        b"X: 1\nContent-Length: 5\r\n",
        b"Transfer-Encoding: xchunked\r\nTransfer-Encoding: chunked\r\n",
        b" Folded: 1\r\n",
    ):
        found = service.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n0\r\n\r\n" + get)
        assert [status for status, _body in found] == [400], head
    # One whose length is plain is not smuggled.
    last = get.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    found = service.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(get) + get + last)
    assert [status for status, _body in found] == [404, 200]


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9000,
        b"\0" * 100_000,
        b"\r\n" * 10 + b"x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 1000 + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_what_is_no_request(service: Service, data: bytes) -> None:
    assert [status for status, _body in service.send(data)] == [400]


def test_http_1_0(service: Service) -> None:
    [(status, body)] = service.send(b"GET /_matrix/key/v2/server HTTP/1.0\r\n\r\n")
    assert (status, body) == (200, KEYS)
    kept = b"GET /_matrix/key/v2/server HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    assert len(service.send(kept + b"GET / HTTP/1.0\r\n\r\n")) == 2


def test_an_upgrade_is_declined(service: Service) -> None:
    upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: %b\r\n\r\n"
    for protocol in (b"websocket", b"h2c"):
        found = service.send(upgrade % protocol + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert [status for status, _body in found] == [404, 404]


def test_many_requests_without_waiting(service: Service) -> None:
    get = b"GET /_matrix/federation/v1/version HTTP/1.1\r\nHost: a\r\n\r\n"
    with service.connect() as connection:
        sending = threading.Thread(target=lambda: connection.sendall(get * 2000))
        sending.start()
        found = answers(connection)
        assert {next(found)[0] for _number in range(2000)} == {200}
        sending.join()


# Slow clients, and many


@pytest.fixture
def _fast_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "SWEEP", 0.05)
    monkeypatch.setattr(listener, "HEAD_TIMEOUT", 0.2)
    monkeypatch.setattr(listener, "IDLE_TIMEOUT", 0.2)
    monkeypatch.setattr(listener, "HANDSHAKE_TIMEOUT", 0.2)
    monkeypatch.setattr(web, "BODY_TIMEOUT", 0.2)


def is_ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(65536) == b""
    except ConnectionError:
        return True


@pytest.mark.usefixtures("_fast_clock")
def test_slow_clients_are_disconnected(start: Start, far: RemoteServer) -> None:
    service = start()
    header = authorization(far.key, "PUT", SEND + "1", TRANSACTION)
    for sent in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n"):
        with service.connect() as connection:
            connection.sendall(sent)
            assert is_ended(connection)
    with service.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert next(answers(connection))[0] == 404
        assert is_ended(connection)
    with service.connect() as connection:
        connection.sendall(
            f"PUT {SEND}1 HTTP/1.1\r\nHost: a\r\nAuthorization: {header}\r\nContent-Length: 10\r\n\r\n{{".encode()
        )
        assert next(answers(connection))[0] == 408


@pytest.mark.usefixtures("_fast_clock")
def test_handshakes_that_do_not_end(start: Start, certificate: trustme.LeafCert, ca: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    service = start(context)
    with service.connect() as connection:
        assert is_ended(connection)
    trust = ssl.create_default_context()
    ca.configure_trust(trust)
    with service.connect() as connection, trust.wrap_socket(connection, server_hostname="localhost") as wrapped:
        wrapped.sendall(b"GET /_matrix/key/v2/server HTTP/1.0\r\n\r\n")
        assert next(answers(wrapped)) == (200, KEYS)


def test_connections_are_bounded(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that has been idle for the longest time makes room for the next one."""
    monkeypatch.setattr(listener, "MAX_CONNECTIONS", 10)
    monkeypatch.setattr(listener, "HEAD_TIMEOUT", 3600.0)
    service = start()
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(service.connect()) for _number in range(30)]
        assert service.ask("GET", "/_matrix/key/v2/server").body == KEYS
        assert all(is_ended(connection) for connection in idle[:20])
        for connection in idle[21:]:
            connection.sendall(b"GET /_matrix/key/v2/server HTTP/1.1\r\nHost: a\r\n\r\n")
            assert next(answers(connection)) == (200, KEYS)


def test_handshakes_make_room_as_well(
    start: Start, certificate: trustme.LeafCert, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are closed, and not forgotten: the process would run out of open files."""
    monkeypatch.setattr(listener, "MAX_CONNECTIONS", 10)
    monkeypatch.setattr(listener, "HANDSHAKE_TIMEOUT", 3600.0)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    service = start(context)
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(service.connect()) for _number in range(30)]
        assert all(is_ended(connection) for connection in connections[:20])


def test_connections_of_one_client_are_bounded(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MAX_CONNECTIONS_OF_CLIENT", 5)
    monkeypatch.setattr(listener, "is_loopback", lambda _network: False)
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(service.connect()) for _number in range(5)]
        for connection in kept:
            connection.sendall(b"GET /_matrix/key/v2/server HTTP/1.1\r\nHost: a\r\n\r\n")
            assert next(answers(connection))[0] == 200
        assert is_ended(stack.enter_context(service.connect()))
        kept[0].close()

        def is_served() -> bool:
            with contextlib.suppress(OSError):
                return service.ask("GET", "/_matrix/key/v2/server").body == KEYS
            return False

        wait_until(is_served, "there is room again")


# The status


@pytest.mark.parametrize(
    ("target", "accept", "content_type"),
    [
        ("/status", "", "application/json"),
        ("/status?x=1", "text/html,application/xhtml+xml", "text/html; charset=utf-8"),
        ("/status.json", "text/html", "application/json"),
        ("/status.html", "", "text/html; charset=utf-8"),
        ("/metrics", "", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_status(service: Service, target: str, accept: str, content_type: str) -> None:
    answer = service.ask("GET", target, port=service.status_port, Accept=accept)
    assert (answer.status, answer.headers["Content-Type"]) == (200, content_type)
    assert NAME in answer.body.decode()
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Access-Control-Allow-Origin"] is None
    assert service.ask("HEAD", target, port=service.status_port, Accept=accept).status == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8449", "", "[::2]"])
def test_a_name_that_was_rebound_to_loopback(service: Service, host: str) -> None:
    answer = service.ask("GET", "/status", port=service.status_port, Host=host)
    assert answer.status == 403 and NAME not in answer.body.decode()


@pytest.mark.parametrize("host", ["localhost:8449", "127.0.0.1:8449", "[::1]:8449", "localhost"])
def test_local_names(service: Service, host: str) -> None:
    assert service.ask("GET", "/status", port=service.status_port, Host=host).status == 200
    assert service.ask("GET", "/status", port=service.status_port_6, Host=host).status == 200


@pytest.mark.parametrize(("method", "target"), [("POST", "/status"), ("GET", "/"), ("GET", "/_matrix/key/v2/server")])
def test_nothing_else_is_there(service: Service, method: str, target: str) -> None:
    assert service.ask(method, target, port=service.status_port).status == 404


def test_a_status_that_fails(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    service.status_is_broken = True
    answer = service.ask("GET", "/status", port=service.status_port)
    assert answer.status == 500 and b"secret" not in answer.body
    [record] = caplog.records
    assert record.getMessage().startswith("cannot answer a request: Traceback") and record.getMessage().isprintable()


def test_the_status_is_not_public(service: Service) -> None:
    for target in ("/status", "/status.json", "/metrics"):
        assert service.ask("GET", target).error == (404, "M_UNRECOGNIZED")


@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
def test_other_methods(service: Service, method: str) -> None:
    assert service.ask(method, SEND + "1").error == (404, "M_UNRECOGNIZED")


def test_the_application_needs_its_listener(start: Start) -> None:
    """Served by aiohttp alone, it would not be protected."""
    request = type("Request", (), {"protocol": object()})()
    with pytest.raises(RuntimeError, match="serve this application with Listener"):
        listener.gate_of(request)
