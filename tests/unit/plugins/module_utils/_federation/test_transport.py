# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import gzip
import socket
import ssl
import subprocess
import sys
import threading
import tracemalloc
from itertools import repeat
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils import _http
from ansible_collections.matrixops.synapse.plugins.module_utils._federation import transport as module
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.discovery import Endpoint
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import (
    AnswerError,
    MissingRequirementError,
    RedirectError,
    UnreachableError,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.transport import HttpAnswer, Transport
from ansible_collections.matrixops.synapse.tests.stubs.helpers import PassingTime
from ansible_collections.matrixops.synapse.tests.stubs.tls_server import Request, TlsServer, http

Serve = Callable[..., TlsServer]

GENEROUS = 60.0
SHORT = 0.5


@pytest.fixture(autouse=True)
def clock(passing_time: PassingTime) -> PassingTime:
    return passing_time


def endpoint(*servers: TlsServer, name: str = "example.org") -> Endpoint:
    return Endpoint(tuple(server.address for server in servers), f"{name}:8448", name)


def get(transport: Transport, server: TlsServer, *, timeout: float = GENEROUS, **options: Any) -> HttpAnswer:
    return transport.request(endpoint(server), "GET", "/", headers={}, timeout=timeout, **options)


@pytest.fixture
def closed_port() -> Iterator[tuple[str, int]]:
    """An address at which nothing listens, and nothing can begin to."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.2", 0))
        yield reserved.getsockname()


# What is sent and received


def test_a_request_arrives_as_it_was_made_and_its_answer_is_returned(transport: Transport, serve: Serve) -> None:
    server = serve(lambda request: http({"a": 1}, "418 Teapot", "X-Test: 1", "x-test: 2", "Set-Cookie: a=b"))
    for _time in range(2):
        answer = transport.request(
            endpoint(server),
            "PUT",
            "/_matrix/a%2Fb%2E%2E/../%3A?c=d%20&e",
            headers={"Authorization": 'X-Matrix origin="a"', "Content-Type": "application/json"},
            body=b'{"x": 1}',
            timeout=GENEROUS,
        )
        assert (answer.status, answer.content) == (418, b'{"a": 1}')
        assert answer.headers["x-test"] == "1, 2"
    assert server.connections == 1
    assert server.tls_names == ["example.org"]
    first, second = server.requests
    assert first == second  # no cookie either
    assert (first.method, first.target, first.body) == ("PUT", "/_matrix/a%2Fb%2E%2E/../%3A?c=d%20&e", b'{"x": 1}')
    assert first.headers == {
        "host": "example.org:8448",
        "user-agent": "matrixops.synapse",
        "accept-encoding": "identity",
        "authorization": 'X-Matrix origin="a"',
        "content-type": "application/json",
        "content-length": "8",
    }


@pytest.mark.parametrize("target", ["", "path", "/a b", "/a\r\nX: y", "/\u00fc", "/\x00", "https://example.org/"])
def test_a_target_that_is_not_encoded_is_not_sent(transport: Transport, serve: Serve, target: str) -> None:
    server = serve(lambda request: http())
    with pytest.raises(ValueError, match="target"):
        transport.request(endpoint(server), "GET", target, headers={}, timeout=GENEROUS)
    assert server.connections == 0


def test_the_environment_is_not_asked(
    serve: Serve, ca_path: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closed_port: tuple[str, int]
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.2:{closed_port[1]}")
    monkeypatch.delenv("no_proxy")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(tmp_path / "missing.pem"))
    (tmp_path / "netrc").write_text("default login alice password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server = serve(lambda request: http())
    assert get(Transport(ca_path=ca_path), server).status == 200
    assert "authorization" not in server.requests[0].headers


def chunked(*chunks: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


@pytest.mark.parametrize(
    ("sent", "content"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (http(b""), b""),
        (chunked(b"ab", b"c" * 100_000), b"ab" + b"c" * 100_000),
        (chunked(), b""),
        (http(b"ab", "200 OK", "Content-Encoding: identity"), b"ab"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + http(b"ab"), b"ab"),
    ],
    ids=["no content", "empty", "chunks", "no chunks", "identity", "interim"],
)
def test_a_connection_is_kept_after_any_complete_answer(
    transport: Transport, serve: Serve, sent: bytes, content: bytes
) -> None:
    server = serve(lambda request: sent)
    assert [get(transport, server).content for _time in range(3)] == [content] * 3
    assert server.connections == 1


def test_an_answer_that_ends_with_the_connection(transport: Transport, serve: Serve) -> None:
    server = serve(lambda request: [b"HTTP/1.0 200 OK\r\n\r\n", b"ab", b"c"])
    assert [get(transport, server).content for _time in range(2)] == [b"abc"] * 2


def test_a_connection_that_the_server_closed_is_made_again(transport: Transport, serve: Serve) -> None:
    server = serve(lambda request: http())
    for _time in range(3):
        assert get(transport, server).status == 200
        server.drop_connections()
    assert server.connections == 3


def test_a_get_is_repeated_once_if_the_server_hangs_up(transport: Transport, serve: Serve) -> None:
    answers = iter([None, http()])
    server = serve(lambda request: next(answers))
    assert get(transport, server).status == 200
    assert len(server.requests) == 2

    always = serve(lambda request: None)
    with pytest.raises(UnreachableError, match=r"example\.org:8448"):
        get(transport, always)
    assert len(always.requests) == 2


def test_a_put_is_not_repeated(transport: Transport, serve: Serve) -> None:
    server = serve(lambda request: None)
    with pytest.raises(UnreachableError):
        transport.request(endpoint(server), "PUT", "/", headers={}, body=b"{}", timeout=GENEROUS)
    assert len(server.requests) == 1


def test_a_stream_is_read_as_it_comes(transport: Transport, serve: Serve) -> None:
    go_on = threading.Event()

    def pieces(_request: Request) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * _http.CHUNK
        go_on.wait(GENEROUS)
        yield b"b" * 10

    server = serve(pieces)
    with transport.stream(endpoint(server), "GET", "/", headers={}, timeout=GENEROUS, max_bytes=10**6) as answer:
        assert answer.status == 200
        first = next(answer.chunks)
        go_on.set()
        assert first + b"".join(answer.chunks) == b"a" * _http.CHUNK + b"b" * 10


def test_a_stream_that_is_left_does_not_spoil_the_next_request(transport: Transport, serve: Serve) -> None:
    server = serve(lambda request: http(b"x" * 1_000_000) if request.target == "/large" else http(b"small"))
    with transport.stream(endpoint(server), "GET", "/large", headers={}, timeout=GENEROUS, max_bytes=10**7) as answer:
        next(answer.chunks)
    assert get(transport, server).content == b"small"
    assert server.connections == 2


def test_two_requests_while_a_stream_is_read(transport: Transport, serve: Serve) -> None:
    server = serve(lambda request: http(b"x" * 200_000) if request.target == "/large" else http(b"small"))
    with transport.stream(endpoint(server), "GET", "/large", headers={}, timeout=GENEROUS) as answer:
        content = b""
        for chunk in answer.chunks:
            content += chunk
            assert get(transport, server).content == b"small"
    assert content == b"x" * 200_000


def test_many_threads_share_a_transport(transport: Transport, serve: Serve) -> None:
    server = serve(lambda request: http(request.target.encode()))
    wrong: list[str] = []

    def work(number: int) -> None:
        for turn in range(10):
            target = f"/{number}/{turn}"
            answer = transport.request(endpoint(server), "GET", target, headers={}, timeout=GENEROUS)
            if answer.content != target.encode():
                wrong.append(target)

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(server.requests) == 80


def test_connections_of_the_least_recently_used_endpoint_are_closed(
    transport: Transport, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_POOLS", 2)
    servers = [serve(lambda request: http()) for _number in range(3)]
    for number in (0, 1, 0, 2, 0, 1):
        get(transport, servers[number])
    assert [server.connections for server in servers] == [1, 2, 1]


# Certificates and addresses


@pytest.mark.parametrize("name", ["example.org", "127.0.0.2"])
def test_a_certificate_for_the_name_is_accepted(transport: Transport, serve: Serve, name: str) -> None:
    server = serve(lambda request: http(), name)
    answer = transport.request(endpoint(server, name=name), "GET", "/", headers={}, timeout=GENEROUS)
    assert answer.status == 200


def test_an_ipv6_literal(transport: Transport, serve: Serve) -> None:
    try:
        server = serve(lambda request: http(), "::1", host="::1")
    except OSError:
        pytest.skip("no IPv6 on this machine")
    there = Endpoint((server.address,), "[::1]", "::1")
    assert transport.request(there, "GET", "/", headers={}, timeout=GENEROUS).status == 200
    assert server.requests[0].headers["host"] == "[::1]"


@pytest.mark.parametrize("names", [["other.example"], ["sub.example.org"], ["127.0.0.2"], ["*.org.example"]])
def test_a_certificate_for_another_name_is_refused(transport: Transport, serve: Serve, names: list[str]) -> None:
    server = serve(lambda request: http(), *names)
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.2 port \d+: the certificate is not valid: .*ismatch"):
        get(transport, server)
    assert server.requests == []


def test_a_certificate_of_an_unknown_ca_is_refused(serve: Serve) -> None:
    server = serve(lambda request: http())
    with pytest.raises(UnreachableError, match="the certificate is not valid: unable to get local issuer"):
        get(Transport(), server)
    assert server.requests == []


def test_a_server_without_tls(transport: Transport) -> None:
    with socket.create_server(("127.0.0.2", 0)) as listening:

        def answer() -> None:
            connection, _address = listening.accept()
            with connection:
                connection.sendall(http())
                connection.recv(65536)

        threading.Thread(target=answer, daemon=True).start()
        there = Endpoint((listening.getsockname(),), "example.org", "example.org")
        with pytest.raises(UnreachableError, match=r"cannot connect to 127\.0\.0\.2 port \d+: TLS failed"):
            transport.request(there, "GET", "/", headers={}, timeout=GENEROUS)


def test_the_addresses_are_tried_one_after_the_other(
    transport: Transport, serve: Serve, closed_port: tuple[str, int]
) -> None:
    wrong = serve(lambda request: http(), "other.example")
    right = serve(lambda request: http())
    there = Endpoint((closed_port, wrong.address, right.address), "example.org", "example.org")
    assert transport.request(there, "GET", "/", headers={}, timeout=GENEROUS).status == 200


def test_an_address_that_does_not_answer_leaves_time_for_the_next(transport: Transport, serve: Serve) -> None:
    right = serve(lambda request: http())
    with socket.create_server(("127.0.0.2", 0)) as silent:
        there = Endpoint((silent.getsockname(), right.address), "example.org", "example.org")
        assert transport.request(there, "GET", "/", headers={}, timeout=5).status == 200


def test_nobody_listens(transport: Transport, closed_port: tuple[str, int]) -> None:
    there = Endpoint((closed_port,), "example.org", "example.org")
    with pytest.raises(
        UnreachableError, match=rf"cannot connect to 127\.0\.0\.2 port {closed_port[1]}: Connection ref"
    ):
        transport.request(there, "GET", "/", headers={}, timeout=GENEROUS)


# Bounded in time


def test_a_handshake_without_an_answer(transport: Transport) -> None:
    with socket.create_server(("127.0.0.2", 0)) as silent:
        there = Endpoint((silent.getsockname(),), "example.org", "example.org")
        with pytest.raises(UnreachableError, match="timed out"):
            transport.request(there, "GET", "/", headers={}, timeout=SHORT)


def test_no_answer(transport: Transport, serve: Serve) -> None:
    server = serve(lambda request: http() if len(server.requests) == 1 else server.hang())
    get(transport, server)
    with pytest.raises(UnreachableError, match=r"example\.org:8448 did not answer in time"):
        get(transport, server, timeout=SHORT)


def test_headers_with_one_byte_a_second(transport: Transport, serve: Serve, clock: PassingTime) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: " + b"x" * 10_000 + b"\r\n\r\n"
    server = serve(lambda request: clock.byte_by_byte(head))
    with pytest.raises(UnreachableError, match=r"example\.org:8448 did not answer in time"):
        get(transport, server)


@pytest.mark.parametrize("head", ["Content-Length: 10000", "Transfer-Encoding: chunked", "Connection: close"])
def test_a_body_with_one_byte_a_second(transport: Transport, serve: Serve, clock: PassingTime, head: str) -> None:
    body = b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n" if "chunked" in head else b"x" * 10_000
    headers_read = threading.Event()

    def answer(_request: Request) -> Iterator[bytes]:
        yield f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode()
        headers_read.wait(GENEROUS)
        yield from clock.byte_by_byte(body)

    with transport.stream(endpoint(serve(answer)), "GET", "/", headers={}, timeout=GENEROUS) as stream:
        headers_read.set()
        with pytest.raises(AnswerError, match="not complete in time"):
            list(stream.chunks)


def test_interim_answers_without_an_end(transport: Transport, serve: Serve) -> None:
    server = serve(lambda request: repeat(b"HTTP/1.1 100 Continue\r\n\r\n"))
    with pytest.raises(AnswerError, match="the headers have more than"):
        get(transport, server)


def test_a_request_that_is_not_taken(transport: Transport, ca: Any) -> None:
    """The server accepts the connection, and never reads what is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("example.org").configure_cert(context)
    with socket.create_server(("127.0.0.2", 0)) as listening:
        done = threading.Event()

        def shake_hands() -> None:
            connection, _address = listening.accept()
            with context.wrap_socket(connection, server_side=True):
                done.wait(GENEROUS)

        threading.Thread(target=shake_hands, daemon=True).start()
        there = Endpoint((listening.getsockname(),), "example.org", "example.org")
        with pytest.raises(UnreachableError, match=r"in time|timed out"):
            transport.request(there, "PUT", "/", headers={}, body=b"x" * 20_000_000, timeout=SHORT)
        done.set()


# Bounded in bytes


class Endless:
    """Sends without end, and counts what the client took."""

    def __init__(self, head: bytes, piece: bytes) -> None:
        self.sent = 0
        self._head = head
        self._piece = piece

    def __call__(self, _request: Request) -> Iterator[bytes]:
        yield self._head
        while True:
            yield self._piece
            self.sent += len(self._piece)


ENDLESS = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 600000000\r\n\r\n", b"x" * 65536),
    "no length": (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
    "chunk size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 65536),
    "chunk extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x" * 65536),
    "status line": (b"HTTP/1.1 200 ", b"x" * 65536),
    "header": (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 65536),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000),
    "large headers": (b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 60_000 + b"\r\n"),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_an_answer_without_an_end_takes_little_memory(transport: Transport, serve: Serve, kind: str) -> None:
    endless = Endless(*ENDLESS[kind])
    server = serve(endless)
    get(transport, serve(lambda request: http()))
    tracemalloc.start()
    try:
        with pytest.raises(AnswerError):
            get(transport, server)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
    # What is more lies in the buffers of the two sockets.
    assert endless.sent < 50_000_000


def test_trailers_without_an_end_are_read_until_the_deadline(
    transport: Transport, serve: Serve, clock: PassingTime
) -> None:
    headers_read = threading.Event()

    def answer(_request: Request) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        headers_read.wait(GENEROUS)
        yield b"0\r\n"
        while True:
            clock.added += 0.1
            yield b"X: y\r\n" * 1000

    tracemalloc.start()
    try:
        with transport.stream(endpoint(serve(answer)), "GET", "/", headers={}, timeout=GENEROUS) as stream:
            headers_read.set()
            with pytest.raises(AnswerError, match="not complete in time"):
                list(stream.chunks)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


@pytest.mark.parametrize(
    "sent",
    [http(b"x" * 1001), chunked(b"x" * 1000, b"x"), [b"HTTP/1.0 200\r\n\r\n" + b"x" * 1001]],
    ids=["length", "chunks", "no length"],
)
def test_one_byte_too_many(transport: Transport, serve: Serve, sent: bytes) -> None:
    server = serve(lambda request: sent)
    with pytest.raises(AnswerError, match="more than 1000 bytes"):
        get(transport, server, max_bytes=1000)
    assert len(get(transport, server, max_bytes=1001).content) == 1001


# Answers of no use


USELESS: dict[str, tuple[Any, str]] = {
    "redirect": (http(b"", "302 Found", "Location: https://127.0.0.1/"), r"\(HTTP 302\) to https://127\.0\.0\.1/"),
    "redirect to nowhere": (http(b"", "308 Permanent Redirect"), r"redirected \(HTTP 308\) to nowhere"),
    "redirect to a terminal": (http(b"", "301 x", "Location: \x1b[2J"), r"to \\x1b\[2J"),
    "gzip": (http(b"\x1f\x8b", "200 OK", "Content-Encoding: gzip"), r"is compressed \(gzip\)"),
    "brotli": (http(b"{}", "200 OK", "Content-Encoding: br"), r"is compressed \(br\)"),
    "hidden gzip": (http(b"{}", "200 OK", "Content-Encoding: gzip", "Content-Encoding: identity"), "is compressed"),
    "another protocol": (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "HTTP 101"),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n", "valid HTTP"),
    "no status": (b"HTTP/1.1 abc\r\n\r\n", "valid HTTP"),
    "many headers": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n", "valid HTTP"),
    "short body": ([b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"], "not complete"),
    "short chunk": ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"], "not complete"),
    "bad chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n", "not complete"),
}


@pytest.mark.parametrize("kind", USELESS)
def test_an_answer_of_no_use(transport: Transport, serve: Serve, kind: str) -> None:
    sent, match = USELESS[kind]
    server = serve(lambda request: http() if request.target == "/good" else sent)
    with pytest.raises(AnswerError, match=match):
        get(transport, server)
    assert len(server.requests) == 1
    assert transport.request(endpoint(server), "GET", "/good", headers={}, timeout=GENEROUS).status == 200


def test_a_redirect_has_its_target(transport: Transport, serve: Serve) -> None:
    server = serve(lambda request: http(b"", "307 x", "Location: https://other.example/\x1b"))
    with pytest.raises(RedirectError) as caught:
        get(transport, server)
    assert caught.value.location == "https://other.example/\x1b"


def test_a_gzip_bomb_is_not_unpacked(transport: Transport, serve: Serve) -> None:
    bomb = gzip.compress(b"\0" * 100_000_000)
    server = serve(lambda request: http(bomb, "200 OK", "Content-Encoding: x-gzip"))
    tracemalloc.start()
    try:
        with pytest.raises(AnswerError, match="compressed"):
            get(transport, server)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


# Options


class Proxy:
    """A proxy that knows where hosts are, or answers with something else."""

    def __init__(self, hosts: dict[str, tuple[str, int]], answer: bytes = b"HTTP/1.1 200 Connected\r\n\r\n") -> None:
        self.requests: list[str] = []
        self._hosts = hosts
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.3", 0))
        self.url = f"127.0.0.3:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        client, _address = self._socket.accept()
        request = client.recv(65536).decode()
        self.requests.append(request)
        client.sendall(self._answer)
        server = self._hosts.get(request.split()[1])
        if server is None:
            client.close()
            return
        with socket.create_connection(server) as remote:
            back = threading.Thread(target=self._copy, args=[remote, client], daemon=True)
            back.start()
            self._copy(client, remote)
            back.join(GENEROUS)

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def proxy() -> Iterator[Callable[..., Proxy]]:
    proxies: list[Proxy] = []

    def start(*arguments: Any) -> Proxy:
        proxies.append(Proxy(*arguments))
        return proxies[-1]

    yield start
    for started in proxies:
        started.close()


@pytest.mark.parametrize(
    ("host", "target"), [("example.org", "example.org:8448"), ("2001:db8::1", "[2001:db8::1]:8448")]
)
def test_a_proxy_connects_to_the_name(
    proxy: Callable[..., Proxy], serve: Serve, ca_path: str, host: str, target: str
) -> None:
    server = serve(lambda request: http(b"through"))
    between = proxy({target: server.address})
    client = Transport(ca_path=ca_path, proxy=f"http://al%69ce:p%40ss%3A@{between.url}")
    there = Endpoint(((host, 8448),), "example.org", "example.org")
    for _time in range(2):
        assert client.request(there, "GET", "/", headers={}, timeout=GENEROUS).content == b"through"
    client.close()
    assert between.requests == [
        f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
        f"Proxy-Authorization: Basic {base64.b64encode(b'alice:p@ss:').decode()}\r\n\r\n"
    ]
    assert client.has_proxy


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "the proxy does not connect to a:1: 407 Proxy Auth"),
        (b"nonsense\r\n\r\n", "the proxy does not connect to a:1: the answer is not HTTP"),
        (b"", "the proxy does not connect to a:1: the answer is not HTTP"),
        (b"HTTP/1.1 200" + b"x" * 100_000, "TLS failed|timed out|refused|reset|the proxy"),
    ],
)
def test_a_proxy_that_does_not_connect(proxy: Callable[..., Proxy], ca_path: str, answer: bytes, match: str) -> None:
    client = Transport(ca_path=ca_path, proxy=f"http://{proxy({}, answer).url}/")
    with pytest.raises(UnreachableError, match=match):
        client.request(Endpoint((("a", 1),), "a", "a"), "GET", "/", headers={}, timeout=GENEROUS)


def test_a_proxy_that_is_not_there(ca_path: str, closed_port: tuple[str, int]) -> None:
    client = Transport(ca_path=ca_path, proxy=f"http://127.0.0.2:{closed_port[1]}")
    with pytest.raises(UnreachableError, match="the proxy failed: Connection refused"):
        client.request(Endpoint((("a", 1),), "a", "a"), "GET", "/", headers={}, timeout=GENEROUS)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "proxy",
        "http://proxy",
        "http://proxy:0",
        "http://proxy:65536",
        "http://proxy:abc",
        "https://proxy:3128",
        "socks5://proxy:1080",
        "http://a:secret@:3128",
        "http://proxy:3128/path",
        "http://[::1:3128",
    ],
)
def test_an_invalid_proxy_is_refused_without_showing_its_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"^proxy: set it to a URL of the form") as caught:
        Transport(proxy=url)
    assert "secret" not in str(caught.value)


def test_ca_path_may_be_a_directory(serve: Serve, ca_path: str) -> None:
    digest = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", ca_path], check=True, capture_output=True, text=True
    ).stdout.strip()
    link = Path(ca_path).with_name(f"{digest}.0")
    link.symlink_to(ca_path)
    try:
        assert get(Transport(ca_path=str(link.parent)), serve(lambda request: http())).status == 200
    finally:
        link.unlink()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_invalid_ca_path_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=f"ca_path: {path}: "):
        Transport(ca_path=str(path))


def test_requests_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HAS_REQUESTS", False)
    with pytest.raises(MissingRequirementError, match="python3-requests"):
        Transport()


def test_the_module_can_be_imported_without_requests() -> None:
    source = Path(module.__file__)
    script = (
        "import sys; sys.modules['requests'] = None; sys.path.insert(0, sys.argv[1]);"
        "import module_utils._federation.transport as t; assert not t.HAS_REQUESTS"
    )
    subprocess.run([sys.executable, "-c", script, str(source.parents[2])], check=True)
