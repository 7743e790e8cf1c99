# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a connection reaches aiohttp: heads that are unambiguous, bodies that are asked for."""

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.listener import (
    HEAD_TIMEOUT,
    IDLE_TIMEOUT,
    LINGER,
    MAX_HEAD,
    REQUEST_TIMEOUT,
    Gate,
    MalformedHeadError,
    is_loopback,
    network_of,
    read_head,
)

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
PUT = b"PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"PUT /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def with_headers(*lines: bytes, first: bytes = b"PUT /x HTTP/1.1") -> bytes:
    return b"\r\n".join([first, b"Host: a", *lines, b"", b""])


@pytest.mark.parametrize(
    ("content", "length"),
    [
        (GET, 0),
        (PUT, 5),
        (CHUNKED, None),
        (b"GET / HTTP/1.0\r\n\r\n", 0),
        (with_headers(b"Content-Length: 999999999999999"), 999999999999999),
        (with_headers(b"X:", b"Y: \t", b"Z:\tz\xff z\t"), 0),
        (with_headers(b"Authorization: X-Matrix a", b"Authorization: X-Matrix b"), 0),
    ],
)
def test_heads(content: bytes, length: int | None) -> None:
    head = read_head(content)
    assert (head.content, head.length) == (content, length)


def test_upgrades_are_declined() -> None:
    content = with_headers(b"Connection: upgrade", b"UPGRADE: websocket", b"X: upgrade")
    assert read_head(content).content == with_headers(b"Connection: upgrade", b"X: upgrade")


@pytest.mark.parametrize(
    "content",
    [
        with_headers(b"Content-Length: 5", b"Content-Length: 5"),
        with_headers(b"Content-Length: 5", b"content-length: 6"),
        with_headers(b"Content-Length: 5, 5"),
        with_headers(b"Content-Length: +5"),
        with_headers(b"Content-Length: -5"),
        with_headers(b"Content-Length: 0x5"),
        with_headers(b"Content-Length: 5_0"),
        with_headers(b"Content-Length:"),
        with_headers(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        with_headers(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"),
        with_headers(b"Transfer-Encoding: chunked", first=b"PUT /x HTTP/1.0"),
        with_headers(b"Content-Length : 5"),
        with_headers(b" Content-Length: 5"),
        with_headers(b"X: 1", b" Content-Length: 5"),
        with_headers(b"X: 1\nContent-Length: 5"),
        with_headers(b"X: 1\rContent-Length: 5"),
        with_headers(b"X: 1\0"),
        with_headers(b"X: \x7f"),
        with_headers(b"X"),
        with_headers(b": 1"),
        with_headers(b"X\xe4: 1"),
        with_headers(b"Host: b"),
        with_headers(*[b"X: 1"] * 100),
        b"GET / HTTP/1.1\r\n\r\n",
        with_headers(first=b"GET / HTTP/2.0"),
        with_headers(first=b"GET / HTTP/1.2"),
        with_headers(first=b"GET /"),
        with_headers(first=b"get / HTTP/1.1"),
        with_headers(first=b"GET  / HTTP/1.1"),
        with_headers(first=b"GET / x HTTP/1.1"),
        with_headers(first=b"GET /\xc3\xa4 HTTP/1.1"),
        with_headers(first=b"GET http://a/ HTTP/1.1"),
        with_headers(first=b"CONNECT a:443 HTTP/1.1"),
        with_headers(first=b"OPTIONS * HTTP/1.1"),
        with_headers(first=b"PRI * HTTP/2.0"),
        with_headers(first=b""),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_malformed_heads(content: bytes) -> None:
    with pytest.raises(MalformedHeadError):
        read_head(content)


class Transport:
    """A connection that only notes what is done with it."""

    def __init__(self) -> None:
        self.written = b""
        self.is_closed = self.is_aborted = self.is_paused = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_aborted = True

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class Client:
    """A gate with a client at one end, and aiohttp at the other."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.fed: list[bytes] = []
        self.transport = Transport()
        self.gate = Gate(self.fed.append, lambda: self.now)
        self.gate.opened(self.transport)  # type: ignore[arg-type]

    def send(self, data: bytes) -> list[bytes]:
        """Send something, and return what has come through."""
        before = len(self.fed)
        self.gate.received(data)
        return self.fed[before:]

    def finish(self, most: int = 100) -> list[bytes]:
        before = len(self.fed)
        self.gate.finished(most)
        return self.fed[before:]

    @property
    def seconds_left(self) -> float:
        return self.gate.deadline - self.now


@pytest.fixture
def client() -> Client:
    return Client()


def test_a_head_comes_through_as_a_whole(client: Client) -> None:
    for number in range(len(GET) - 1):
        assert client.send(GET[number : number + 1]) == []
    assert client.gate.is_idle
    assert client.send(GET[-1:]) == [GET]
    assert not client.gate.is_idle


def test_one_request_at_a_time(client: Client) -> None:
    assert client.send(GET * 3) == [GET]
    assert client.transport.is_paused
    assert client.finish() == [GET]
    assert client.finish() == [GET]
    assert not client.transport.is_paused
    assert client.finish() == []
    assert client.send(b"\r\n" + GET) == [GET]


def test_a_body_comes_through_when_it_is_asked_for(client: Client) -> None:
    assert client.send(PUT + b"12") == [PUT]
    assert client.gate.unread == 5 and client.transport.is_paused
    client.gate.receive_body()
    assert client.fed[1:] == [b"12"] and not client.transport.is_paused
    assert client.send(b"345" + GET) == [b"345"]
    assert client.gate.unread == 0
    assert client.finish() == [GET]


def test_what_aiohttp_resumes_is_paused_again(client: Client) -> None:
    client.send(PUT + b"12345" + GET)
    client.gate.receive_body()
    client.transport.is_paused = False
    client.send(GET)
    assert client.transport.is_paused


def test_a_small_body_that_was_not_asked_for_is_dropped_by_aiohttp(client: Client) -> None:
    client.send(PUT)
    assert client.finish(most=5) == []
    assert client.seconds_left == LINGER
    assert client.send(b"12345" + GET) == [b"12345", GET]


def test_a_large_body_that_was_not_asked_for_is_dropped(client: Client) -> None:
    client.send(PUT + b"1")
    assert client.finish(most=4) == []
    assert client.send(b"2345" + GET) == []
    assert client.seconds_left == LINGER


def test_a_chunked_body_is_dropped(client: Client) -> None:
    assert client.send(CHUNKED + b"5\r\n12345\r\n") == [CHUNKED]
    assert client.gate.unread is None
    assert client.finish() == []
    assert client.send(b"0\r\n\r\n" + GET) == []


def test_a_malformed_head_is_refused(client: Client) -> None:
    assert client.send(with_headers(b"X") + GET) == []
    assert client.transport.written.startswith(b"HTTP/1.1 400 ") and client.transport.is_closed
    assert client.send(GET) == []


@pytest.mark.parametrize("data", [b"x" * (MAX_HEAD + 1), b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 20_000 + b"\r\n"])
def test_a_long_head_is_refused(client: Client, data: bytes) -> None:
    assert client.send(data) == []
    assert client.transport.written.startswith(b"HTTP/1.1 400 ")


def test_what_is_held_back_is_bounded(client: Client) -> None:
    client.send(GET)
    client.send(b"x" * 1_000_000)
    assert not client.transport.is_aborted
    client.send(b"x" * 1_000_000)
    assert client.transport.is_aborted


def test_deadlines(client: Client) -> None:
    assert client.seconds_left == HEAD_TIMEOUT
    client.now += 3
    client.send(b"GET")
    client.now += 3
    client.send(b" / ")
    assert client.seconds_left == HEAD_TIMEOUT - 6
    client.send(GET[6:])
    assert client.seconds_left == REQUEST_TIMEOUT
    client.now += 100
    client.gate.extend()
    assert client.seconds_left == REQUEST_TIMEOUT
    client.finish()
    assert client.seconds_left == IDLE_TIMEOUT
    client.now += 10
    client.send(b"G")
    assert client.seconds_left == HEAD_TIMEOUT


@pytest.mark.parametrize(
    ("address", "network", "local"),
    [
        ("192.0.2.1", "192.0.2.1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "::", True),
        ("::ffff:192.0.2.1", "192.0.2.1", False),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::", False),
        ("fe80::1%eth0", "fe80::", False),
    ],
)
def test_networks(address: str, network: str, local: bool) -> None:
    assert (network_of(address), is_loopback(network)) == (network, local)


@pytest.mark.parametrize("text", ["", "unknown", "192.0.2.1:80", "192.0.2.1, x", "x" * 1000])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        network_of(text)
