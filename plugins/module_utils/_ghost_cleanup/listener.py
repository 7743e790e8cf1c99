# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sockets on which an application of aiohttp listens, and what aiohttp itself does not bound.

- The number of connections, in all and of one client, also during the TLS handshake.
- The time of a TLS handshake, of a head (request line and headers), of a whole request, and between requests.
- Requests that are sent without waiting for answers (pipelining): aiohttp before 3.14 parses them all at once.
- Bodies: nothing of a body is received before the application asks for it.

A head reaches the parser of aiohttp as a whole, once it is known to be unambiguous, so that this server and a proxy in
front of it cannot disagree about where a request ends.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
import ssl
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable

try:
    from aiohttp import web
    from aiohttp.web import RequestHandler
except ImportError:
    HAS_AIOHTTP = False
    RequestHandler = object  # type: ignore[assignment, misc]
else:
    HAS_AIOHTTP = True

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

MAX_CONNECTIONS = 512
"""Maximum number of connections. With the files of the service it stays below 1,024, the usual limit of open files."""
MAX_CONNECTIONS_OF_CLIENT = 128
"""Maximum number of connections of one address, but for loopback, where a proxy connects from."""
BACKLOG = 512
HANDSHAKE_TIMEOUT = 10.0
"""Maximum time of a TLS handshake in seconds."""
HEAD_TIMEOUT = 10.0
"""Maximum time in seconds from the first byte of a head, or from the connection, to its last byte."""
IDLE_TIMEOUT = 75.0
"""Maximum time in seconds between an answer and the next request."""
REQUEST_TIMEOUT = 180.0
"""Maximum time of a request in seconds, from its head to the last byte of the answer. C(Gate.extend) begins it anew."""
LINGER = 5.0
"""Maximum time in seconds to receive what is left of a refused body, so that its sender reads the answer."""
MAX_HEAD = 64 * 1024
MAX_HEADERS = 100
MAX_PENDING = 1024 * 1024
"""Maximum number of bytes to hold back. Reading pauses with the first one, so these are what one read may bring."""
SWEEP = 1.0
"""Interval in seconds of the search for connections that took too long."""
ACCEPT_DELAY = 0.2
"""Seconds to wait after a connection could not be accepted, for lack of open files."""

REQUEST_LINE = re.compile(rb"(?:GET|HEAD|POST|PUT|DELETE|PATCH|OPTIONS|TRACE|PROPFIND) /[!-~]* HTTP/1\.([01])")
HEADER = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}):[ \t]*((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)[ \t]*"
)
LENGTH = re.compile(rb"[0-9]{1,15}")
REFUSAL = b'{"errcode": "M_UNKNOWN", "error": "The HTTP request is malformed."}\n'
REFUSED = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
    % (len(REFUSAL), REFUSAL)
)
SILENT = logging.Logger("aiohttp.server")
"""Requests that are no HTTP are no news. Errors of the application are logged by the application."""
SILENT.addHandler(logging.NullHandler())


class MalformedHeadError(Exception):
    """The head of a request is malformed or ambiguous."""


@dataclass(frozen=True)
class Head:
    """The head of a request, to pass on. C(length) is that of its body in bytes; C(None) if it is chunked."""

    content: bytes
    length: int | None


def read_head(content: bytes) -> Head:
    """Check the head of a request.

    :param content: with the empty line at its end.
    :raises MalformedHeadError: if it is not valid HTTP/1, or could be understood in two ways.
    """
    first, *lines = content[:-4].split(b"\r\n")
    request = REQUEST_LINE.fullmatch(first)
    headers = [HEADER.fullmatch(line) for line in lines]
    if request is None or len(headers) > MAX_HEADERS:
        raise MalformedHeadError
    values: dict[bytes, list[bytes]] = {}
    kept = [first]
    for line, header in zip(lines, headers):
        if header is None:
            raise MalformedHeadError
        name = header[1].lower()
        values.setdefault(name, []).append(header[2])
        # An upgrade to another protocol is always declined, and aiohttp would begin it.
        if name != b"upgrade":
            kept.append(line)
    hosts = values.get(b"host", [])
    if len(hosts) > 1 or (request[1] == b"1" and not hosts):
        raise MalformedHeadError
    return Head(b"\r\n".join([*kept, b"", b""]), _length(values, is_old=request[1] == b"0"))


def _length(values: dict[bytes, list[bytes]], *, is_old: bool) -> int | None:
    lengths, codings = values.get(b"content-length", []), values.get(b"transfer-encoding", [])
    if len(lengths) > 1 or len(codings) > 1 or (lengths and codings) or (is_old and codings):
        raise MalformedHeadError
    if codings:
        return None
    if not lengths:
        return 0
    if LENGTH.fullmatch(lengths[0]) is None:
        raise MalformedHeadError
    return int(lengths[0])


class Gate:
    """Lets the bytes of one connection through to aiohttp: one head, then its body if the application asks for it.

    :ivar is_idle: whether no request is being handled.
    :ivar since: the time of the loop at which that began.
    :ivar deadline: the time of the loop at which the connection is closed.
    """

    def __init__(self, feed: Callable[[bytes], None], clock: Callable[[], float]) -> None:
        self._feed = feed
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._pending = bytearray()
        self._is_paused = False
        self._is_discarding = False
        self._body: int | None = 0
        """The bytes of the body that were not let through yet. C(None) if it is chunked."""
        self._wants_body = False
        self.is_idle = True
        self.since = clock()
        self.deadline = self.since + HEAD_TIMEOUT

    def opened(self, transport: asyncio.Transport) -> None:
        """Begin with a connection."""
        self._transport = transport
        self.since = self._clock()
        self.deadline = self.since + HEAD_TIMEOUT

    def received(self, data: bytes) -> None:
        """Take what the client has sent."""
        if self._is_discarding:
            return
        if self.is_idle and not self._pending:
            self.deadline = min(self.deadline, self._clock() + HEAD_TIMEOUT)
        self._pending += data
        if len(self._pending) > MAX_PENDING:
            self.abort()
            return
        self._let_through()

    @property
    def unread(self) -> int | None:
        """Return the number of bytes of the body that were not let through; C(None) if it is chunked."""
        return self._body

    def receive_body(self) -> None:
        """Let the body of the current request through."""
        self._wants_body = True
        self._let_through()

    def extend(self) -> None:
        """Begin the time of the current request anew: the client has received a part of the answer."""
        self.deadline = self._clock() + REQUEST_TIMEOUT

    def finished(self, most: int) -> None:
        """End the current request: it is answered.

        :param most: how many bytes of a body that was not asked for to let through, for nothing. The application must
            close the connection if there are more.
        """
        self.is_idle = True
        self.since = self._clock()
        if self._body is None or self._body > most:
            self._is_discarding = True
            self._pending.clear()
            self.deadline = self.since + LINGER
        else:
            self._wants_body = True
            self.deadline = self.since + (IDLE_TIMEOUT if self._body == 0 else LINGER)
        self._let_through()

    def abort(self) -> None:
        """Close the connection at once."""
        self._is_discarding = True
        self._pending.clear()
        if self._transport is not None:
            self._transport.abort()

    def _let_through(self) -> None:
        if self._wants_body and self._body and self._pending:
            part = bytes(self._pending[: self._body])
            del self._pending[: len(part)]
            self._body -= len(part)
            if self.is_idle and self._body == 0:
                self.deadline = self._clock() + IDLE_TIMEOUT
            self._feed(part)
        if self.is_idle and self._body == 0 and not self._is_discarding:
            self._begin()
        self._pause_or_resume()

    def _begin(self) -> None:
        """Let a head through if there is one."""
        while self._pending.startswith(b"\r\n"):
            del self._pending[:2]
        end = self._pending.find(b"\r\n\r\n") + 4
        if end < 4 and len(self._pending) <= MAX_HEAD:
            return
        try:
            if not 4 <= end <= MAX_HEAD:
                raise MalformedHeadError
            head = read_head(bytes(self._pending[:end]))
        except MalformedHeadError:
            self._refuse()
            return
        del self._pending[:end]
        self._body = head.length
        self._wants_body = False
        self.is_idle = False
        self.since = self._clock()
        self.deadline = self.since + REQUEST_TIMEOUT
        self._feed(head.content)

    def _refuse(self) -> None:
        self._is_discarding = True
        self._pending.clear()
        if self._transport is not None:
            self._transport.write(REFUSED)
            self._transport.close()

    def _pause_or_resume(self) -> None:
        if self._transport is None:
            return
        with suppress(RuntimeError):  # the connection is being closed
            if self._pending and not self.is_idle:
                # Also if it is paused: aiohttp may have resumed it.
                self._transport.pause_reading()
                self._is_paused = True
            elif self._is_paused:
                self._transport.resume_reading()
                self._is_paused = False


class _Connection(RequestHandler):
    """A connection, as aiohttp handles it, behind a gate."""

    def __init__(self, server: Any, slot: _Slot, ended: Callable[[_Slot], None]) -> None:
        loop = asyncio.get_event_loop()
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=IDLE_TIMEOUT,
            lingering_time=LINGER,
            max_line_size=MAX_HEAD,
            max_field_size=MAX_HEAD,
            access_log=None,  # type: ignore[arg-type]
            logger=SILENT,
        )
        self.gate = Gate(super().data_received, loop.time)
        self._slot = slot
        self._ended = ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.gate.opened(transport)  # type: ignore[arg-type]
        # Not before the end of the handshake: until then, the gate has no connection that it could close.
        self._slot.gate = self.gate

    def data_received(self, data: bytes) -> None:
        self.gate.received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._ended(self._slot)
        super().connection_lost(exc)


def gate_of(request: web.Request) -> Gate:
    """Return the gate of the connection of a request.

    :raises RuntimeError: if the application is not served by a C(Listener), without which it is not protected.
    """
    if not isinstance(request.protocol, _Connection):
        raise RuntimeError("serve this application with Listener")
    return request.protocol.gate


@dataclass(eq=False)
class _Slot:
    """The place of one connection.

    :ivar gate: what lets its bytes through, after the TLS handshake.
    """

    client: str
    since: float
    connection: socket.socket
    gate: Gate | None = None

    @property
    def idle_since(self) -> float | None:
        """Return the time of the loop since which there is no request; C(None) if there is one."""
        if self.gate is None:
            return self.since
        return self.gate.since if self.gate.is_idle else None

    def abort(self) -> None:
        """Close the connection at once."""
        if self.gate is not None:
            self.gate.abort()
        else:
            # Not closed: asyncio has it. A cancelled handshake could stay open for ever.
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)


@dataclass
class Listener:
    """Serves an application on sockets. Used in the thread of one event loop."""

    app: web.Application
    _sockets: list[socket.socket] = field(default_factory=list)
    _tasks: set[asyncio.Future[None]] = field(default_factory=set)
    _slots: set[_Slot] = field(default_factory=set)
    _of_client: Counter[str] = field(default_factory=Counter)
    _runner: web.AppRunner | None = None

    async def start(self, addresses: Iterable[str], context: ssl.SSLContext | None = None) -> list[int]:
        """Listen. Return the ports.

        :param addresses: C(address:port), IPv6 addresses in brackets.
        :param context: for TLS. A certificate that is loaded into it later is used from then on.
        :raises OSError: if one cannot be listened at. The message names it.
        """
        runner = web.AppRunner(self.app, access_log=None, handle_signals=False)
        await runner.setup()
        self._runner = runner
        self._add(self._sweep())
        for address in addresses:
            self._sockets.append(_listen(address))
            self._add(self._accept(self._sockets[-1], context))
        return [each.getsockname()[1] for each in self._sockets]

    async def close(self) -> None:
        """Close all connections. Requests that are being handled have a second to end."""
        for task in list(self._tasks):
            task.cancel()
        for each in self._sockets:
            each.close()
        if self._runner is not None and self._runner.server is not None:
            await self._runner.server.shutdown(1.0)
            for slot in list(self._slots):
                slot.abort()
            await self._runner.cleanup()

    def _add(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(coroutine)
        # The loop has weak references only.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_event_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError:
                await asyncio.sleep(ACCEPT_DELAY)
                continue
            slot = _Slot(network_of(address[0]), loop.time(), accepted)
            if self._has_room(slot.client):
                self._slots.add(slot)
                self._of_client[slot.client] += 1
                self._add(self._connect(slot, context))
            else:
                accepted.close()
            # While connections wait to be accepted, nothing else would run.
            await asyncio.sleep(0)

    async def _connect(self, slot: _Slot, context: ssl.SSLContext | None) -> None:
        server = self._runner.server if self._runner is not None else None
        handshake = {} if context is None else {"ssl_handshake_timeout": HANDSHAKE_TIMEOUT}
        try:
            await asyncio.get_event_loop().connect_accepted_socket(
                lambda: _Connection(server, slot, self._ended), slot.connection, ssl=context, **handshake
            )
        except (OSError, asyncio.TimeoutError):
            self._ended(slot)
        except BaseException:
            self._ended(slot)
            raise

    def _has_room(self, client: str) -> bool:
        if not is_loopback(client) and self._of_client[client] >= MAX_CONNECTIONS_OF_CLIENT:
            return False
        if len(self._slots) < MAX_CONNECTIONS:
            return True
        # The place of one without a request: of the client that has most, the one that waits for the longest time.
        idle = [
            (-self._of_client[slot.client], slot.idle_since, number, slot)
            for number, slot in enumerate(self._slots)
            if slot.idle_since is not None
        ]
        if not idle:
            return False
        slot = min(idle)[-1]
        self._ended(slot)
        slot.abort()
        return True

    def _ended(self, slot: _Slot) -> None:
        if slot in self._slots:
            self._slots.discard(slot)
            self._of_client[slot.client] -= 1
            if not self._of_client[slot.client]:
                del self._of_client[slot.client]

    async def _sweep(self) -> None:
        loop = asyncio.get_event_loop()
        while True:
            await asyncio.sleep(SWEEP)
            for slot in list(self._slots):
                if slot.gate is not None and slot.gate.deadline < loop.time():
                    slot.gate.abort()


def network_of(address: str) -> str:
    """Return what one client can have many of: an IPv4 address, or the first half of an IPv6 address."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed), 64), strict=False).network_address)


def is_loopback(network: str) -> bool:
    """Return whether C(network_of()) a client says that it is on this host."""
    return ipaddress.ip_address(network).is_loopback or network == LOOPBACK


LOOPBACK = network_of("::1")


def _listen(address: str) -> socket.socket:
    host, _colon, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, int(port)), family=family, backlog=BACKLOG)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen at {address}: {error.strerror}") from error
    listening.setblocking(False)
    return listening
