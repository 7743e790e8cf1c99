# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client of Synapse against real servers on loopback addresses that answer with anything."""

from __future__ import annotations

import base64
import gzip
import io
import threading
from itertools import repeat
from typing import Any, Callable, Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse import connection as module
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError, SynapseError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import TOKEN, PassingTime, Wire, matrix_error
from ansible_collections.matrixops.synapse.tests.stubs.tls_server import Request, TlsServer, http

Serve = Callable[..., TlsServer]
GENEROUS = 60.0
NAME = "127.0.0.2"


@pytest.fixture(autouse=True)
def clock(passing_time: PassingTime, monkeypatch: pytest.MonkeyPatch) -> PassingTime:
    """Pauses pass at once."""

    def sleep(seconds: float) -> None:
        passing_time.added += seconds

    monkeypatch.setattr("time.sleep", sleep)
    return passing_time


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    scheme: str = request.param
    return scheme


Start = Callable[..., Client]


@pytest.fixture
def start(serve: Serve, ca_path: str, scheme: str) -> Iterator[Start]:
    """Starts a server, with or without TLS, and returns a client of it."""
    clients: list[Client] = []

    def start(answer: Any) -> Client:
        server = serve(answer, NAME, plain=scheme == "http")
        clients.append(Client(url(scheme, server), TOKEN, verify=ca_path, connections=1))
        return clients[-1]

    yield start
    for client in clients:
        client._connections.close()


def url(scheme: str, server: TlsServer) -> str:
    return f"{scheme}://{NAME}:{server.address[1]}"


def failure(client: Client, **more: Any) -> SynapseError:
    with pytest.raises(SynapseError) as caught:
        client.get("/path", **more)
    return caught.value


# Bounded in time


def test_an_answer_in_time(start: Start) -> None:
    client = start(lambda _request: http({"done": True}))
    assert [client.get("/path") for _time in range(3)] == [{"done": True}] * 3


def test_headers_with_one_byte_a_second(start: Start, clock: PassingTime) -> None:
    head = b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000 + b"\r\n\r\n"
    error = failure(start(lambda _request: clock.byte_by_byte(head)))
    assert "no answer within 60 s" in str(error)
    assert error.unanswered
    assert "raise timeout" in error.advice


@pytest.mark.parametrize("head", ["Content-Length: 10000", "Transfer-Encoding: chunked", "Connection: close"])
def test_a_body_with_one_byte_a_second(start: Start, clock: PassingTime, head: str) -> None:
    body = b"1\r\n{\r\n" * 10_000 if "chunked" in head else b"{" * 10_000

    def answer(_request: Request) -> Iterator[bytes]:
        yield f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode()
        yield from clock.byte_by_byte(body)

    error = failure(start(answer))
    # The time may pass before or after the headers are read.
    assert "not complete in time" in str(error) or "no answer within 60 s" in str(error)
    assert error.unanswered


def test_the_time_is_that_of_one_request(start: Start, clock: PassingTime) -> None:
    def answer(_request: Request) -> bytes:
        clock.added += 45
        return http()

    client = start(answer)
    for _time in range(3):
        client.get("/path")


def test_a_server_that_does_not_read(start: Start) -> None:
    server_done = threading.Event()

    def answer(_request: Request) -> Iterator[bytes]:
        server_done.wait(GENEROUS)
        yield b""

    client = start(answer)
    client._connections._timeout = 0.5
    error = failure(client)
    server_done.set()
    assert "no answer within 0.5 s" in str(error)


# Bounded in size


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9000000000\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 65536),
    ],
    ids=["no length", "length", "chunks", "chunk size"],
)
def test_a_body_without_end(start: Start, monkeypatch: pytest.MonkeyPatch, head: bytes, piece: bytes) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1_000_000)
    sent = 0

    def answer(_request: Request) -> Iterator[bytes]:
        nonlocal sent
        yield head
        for part in repeat(piece):
            yield part
            sent += len(part)

    error = failure(start(answer))
    assert "more than 1000000 bytes" in str(error) or "not complete" in str(error)
    assert sent < 20_000_000


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 60_000 + b"\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 ", b"x" * 65536),
    ],
    ids=["headers", "interim answers", "status line"],
)
def test_headers_without_end(start: Start, pieces: tuple[bytes, bytes]) -> None:
    def answer(_request: Request) -> Iterator[bytes]:
        yield pieces[0]
        yield from repeat(pieces[1])

    assert "connection failed: " in str(failure(start(answer)))


@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x-unknown"])
def test_a_compressed_answer_is_refused_and_not_expanded(start: Start, status: str, encoding: str) -> None:
    bomb = gzip.compress(b"x" * 50_000_000)
    error = failure(start(lambda _request: http(bomb, status, f"Content-Encoding: {encoding}")))
    assert f"the answer is compressed ({encoding}), which was not requested" in str(error)
    assert "Disable compression in the reverse proxy" in error.advice


def test_no_compression_is_asked_for(serve: Serve) -> None:
    server = serve(lambda _request: http(), plain=True)
    with Client(url("http", server), TOKEN) as client:
        client.get("/path")
    assert server.requests[0].headers["accept-encoding"] == "identity"


# Secrets


OTHER = "an-access-token-of-another-account"


@pytest.mark.parametrize("token", [None, OTHER])
def test_an_error_that_repeats_the_token_does_not_show_it(serve: Serve, token: str | None) -> None:
    def answer(request: Request) -> bytes:
        sent = request.headers["authorization"]
        return http(matrix_error(f"M_{sent}", f"bad header: Authorization: {sent}"), "400 Bad", f"X: {sent}")

    with Client(url("http", serve(answer, plain=True)), TOKEN) as client:
        error = failure(client, token=token)
    assert str(error).endswith("400 M_Bearer ********: bad header: Authorization: Bearer ********")
    assert (token or TOKEN) not in f"{error!r}{error.error}{error.errcode}{error.reason}"


def test_a_token_of_another_request_is_not_shown_either(serve: Serve) -> None:
    answers = iter([http(), http(matrix_error("M_UNKNOWN", f"earlier: {OTHER}; now: {TOKEN}"), "400 Bad")])
    with Client(url("http", serve(lambda _request: next(answers), plain=True)), TOKEN) as client:
        client.get("/path", token=OTHER)
        assert str(failure(client)).endswith("earlier: ********; now: ********")


@pytest.mark.parametrize(
    "answer",
    [
        lambda sent: http(b"", "302 Found", f"Location: https://evil.example/?{sent}"),
        lambda sent: http(b"", "400 Bad", f"Content-Type: {sent}"),
        lambda sent: http(b"{}", f"400 {sent}"),
        lambda sent: http({"user_id": sent}),
        lambda sent: f"HTTP/1.1 {sent} OK\r\n\r\n".encode(),
        lambda sent: http(b"x", "200 OK", f"Content-Encoding: {sent}"),
    ],
    ids=["redirect", "content type", "reason", "user ID", "status line", "encoding"],
)
def test_no_part_of_an_answer_shows_the_token(serve: Serve, answer: Callable[[str], bytes]) -> None:
    server = serve(lambda request: answer(request.headers["authorization"]), plain=True)
    with Client(url("http", server), TOKEN) as client, pytest.raises(SynapseError) as caught:
        _asked = client.user_id
    assert TOKEN not in str(caught.value)
    assert TOKEN not in str(caught.value.advice)


def test_the_password_is_not_shown(serve: Serve) -> None:
    server = serve(lambda _request: http(matrix_error("M_FORBIDDEN", "no user with hunter2"), "403 No"), plain=True)
    with Client(url("http", server)) as client, pytest.raises(SynapseError, match=r"no user with \*{8}$"):
        client.login("op", "hunter2")


def test_a_long_error_is_cut(serve: Serve) -> None:
    server = serve(lambda _request: http(matrix_error("M_X", "x" * 500_000), "400 Bad"), plain=True)
    with Client(url("http", server), TOKEN) as client:
        assert len(str(failure(client))) < 2_000


# Not HTTP, or not here


def test_tls_to_a_port_without(wire: Callable[..., Wire]) -> None:
    with Client(wire(http()).url.replace("http:", "https:"), TOKEN) as client:
        error = failure(client)
    assert isinstance(error, FatalError)
    assert str(error).partition(": ")[2].startswith("TLS failed: ")
    assert "write http:// instead of https:// in base_url (in the role: decommission_base_url)" in error.advice


def test_no_tls_to_a_port_with(serve: Serve) -> None:
    with Client(url("http", serve(lambda _request: http())), TOKEN) as client:
        error = failure(client)
    assert "connection failed: " in str(error)
    assert "write https:// instead of http:// in base_url (in the role: decommission_base_url)" in error.advice


def test_a_proxy_that_expects_tls(serve: Serve) -> None:
    page = b"<html>400 The plain HTTP request was sent to HTTPS port</html>"
    with Client(url("http", serve(lambda _request: http(page, "400 Bad Request"), plain=True)), TOKEN) as client:
        assert "write https:// instead of http://" in failure(client).advice


def test_a_certificate_of_an_unknown_ca(serve: Serve) -> None:
    with Client(url("https", serve(lambda _request: http(), NAME)), TOKEN) as client:
        error = failure(client)
    assert "TLS failed: the certificate is not valid: " in str(error)
    assert "set ca_path" in error.advice


def test_a_closed_port(serve: Serve) -> None:
    server = serve(lambda _request: http(), plain=True)
    server.close()
    with Client(url("http", server), TOKEN) as client:
        error = failure(client)
    assert isinstance(error, FatalError)
    assert str(error).endswith("connection failed: Connection refused")
    assert "start Synapse, or correct the host and the port in base_url" in error.advice


def test_a_proxy_of_the_environment(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = serve(lambda request: http({"target": request.target}), plain=True)
    monkeypatch.setenv("http_proxy", url("http", proxy))
    with Client("http://synapse.example:8008", TOKEN) as client:
        assert client.get("/path") == {"target": "http://synapse.example:8008/path"}


# Downloads


def download(client: Client, max_bytes: int = 10**9) -> bytes:
    with io.BytesIO() as file:
        client.download(module.Sink(file, max_bytes), "/path")
        return file.getvalue()


class SlowFile(io.BytesIO):
    """The first write takes that time. Not the server, which cannot know when its client has read the headers."""

    def __init__(self, clock: PassingTime, seconds: float) -> None:
        super().__init__()
        self._clock, self._seconds = clock, seconds

    def write(self, chunk: Any) -> int:
        self._clock.added += self._seconds
        self._seconds = 0
        return super().write(chunk)


@pytest.mark.parametrize(("seconds", "in_time"), [(60 + 19, True), (60 + 21, False)])
def test_a_large_download_may_take_longer_than_other_answers(
    start: Start, clock: PassingTime, seconds: float, in_time: bool
) -> None:
    body = b"x" * module.MIN_RATE * 20
    client = start(lambda _request: http(body))
    with SlowFile(clock, seconds) as file:
        if in_time:
            client.download(module.Sink(file, 10**9), "/path")
            assert file.getvalue() == body
        else:
            with pytest.raises(SynapseError, match="not complete in time"):
                client.download(module.Sink(file, 10**9), "/path")


def test_a_download_without_a_length_is_bounded(start: Start) -> None:
    client = start(lambda _request: iter([b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 1000] * 20]))
    assert len(download(client)) == 20_000
    with pytest.raises(SynapseError, match="more than 19999 bytes"):
        download(client, 19_999)


def test_a_compressed_download_is_refused(start: Start) -> None:
    client = start(lambda _request: http(gzip.compress(b"x" * 10_000), "200 OK", "Content-Encoding: gzip"))
    with pytest.raises(SynapseError, match="compressed"):
        download(client)


def test_the_error_of_a_download_hides_the_token(start: Start) -> None:
    client = start(lambda request: http(matrix_error("M_UNKNOWN", request.headers["authorization"]), "404 Not Found"))
    with pytest.raises(SynapseError, match=r"404 M_UNKNOWN: Bearer \*{8}") as caught:
        download(client)
    assert TOKEN not in str(caught.value)


# Forms


def test_a_form_with_credentials(start: Start) -> None:
    seen: list[Request] = []

    def answer(request: Request) -> bytes:
        seen.append(request)
        return http()

    client = start(answer)
    client._connections.send(
        "POST", f"{client.base_url}/token", form={"scope": "a b"}, token=None, credentials=("name", "wörd: %/")
    )
    [request] = seen
    assert request.headers["authorization"] == "Basic " + base64.b64encode("name:wörd: %/".encode()).decode()
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
