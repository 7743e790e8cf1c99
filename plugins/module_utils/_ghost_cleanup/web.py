# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The applications of aiohttp: what answers under the name of the homeserver that is gone, and the status on loopback.

Serve them with C(listener.Listener), which bounds connections and requests.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import re
import traceback
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Awaitable, BinaryIO, Callable, Iterator, Mapping, Sequence, Tuple
from urllib.parse import unquote

from .._text import printable
from .authorization import AuthorizationError
from .bounded_json import JsonDict, JsonError
from .inbound import Verifier
from .limits import Budget, LimitError, OverloadedError
from .listener import Gate, gate_of, is_loopback, network_of
from .static_site import MISSING_FILE, UNKNOWN, Content, StaticSite, json_answer, open_file
from .status import METRICS_TYPE, Heard, Status, to_html, to_json, to_metrics
from .transactions import InvalidTransactionError, rooms_of_invite, rooms_of_transaction

try:
    from aiohttp import web
except ImportError:
    HAS_AIOHTTP = False
else:
    HAS_AIOHTTP = True

if TYPE_CHECKING:
    from aiohttp import StreamReader
    from aiohttp.typedefs import Handler

    from .config import Config

SERVER = "matrixops.synapse"
"""Value of the Server header."""
TRANSACTION = re.compile("/_matrix/federation/v1/send/[^/]+")
INVITE = re.compile("/_matrix/federation/v[12]/invite/([^/]+)/[^/]+")
MAX_TRANSACTION = 10 * 1024 * 1024
"""Maximum size of a transaction in bytes. A valid one has up to 50 events of 64 KiB, and 100 others."""
MAX_INVITE = 1024 * 1024
"""Maximum size of an invite in bytes."""
SMALL = 1024 * 1024
"""Maximum size in bytes of a body for which there is always room, however many larger ones there are."""
SMALL_BODIES, LARGE_BODIES = 16 * 1024 * 1024, 3 * MAX_TRANSACTION
"""Maximum number of bytes of all small and of all large bodies in memory."""
BODY_TIMEOUT = 10.0
"""Time in seconds to receive a body, besides that by its size."""
MIN_BODY_RATE = 100_000
"""Minimum number of bytes of a body in a second."""
CHUNK = 64 * 1024
LOCAL_HOSTS = re.compile(r"(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]{1,5})?")
"""Host headers of the status application. A page with another name that resolves to loopback must not read it."""
STATUS_HEADERS = {
    "Server": SERVER,
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

PUBLIC_HEADERS = {"Server": SERVER, "Access-Control-Allow-Origin": "*"}
"""The second one lets web clients read well-known files and media, without any preflight request."""

AnswerFunction = Callable[["web.Request", Gate], Awaitable[Content]]
HeardFunction = Callable[[str, Sequence[Heard]], None]
ReadFunction = Callable[[JsonDict], Tuple[Heard, ...]]
logger = logging.getLogger("matrix_ghost_cleanup.web")


class _RefusedError(Exception):
    """The request is answered with an error."""

    def __init__(self, status: int, errcode: str, error: str, retry_after: float | None = None) -> None:
        super().__init__(error)
        body: dict[str, Any] = {"errcode": errcode, "error": error}
        if retry_after is not None:
            body["retry_after_ms"] = math.ceil(retry_after * 1000)
        self.content = json_answer(status, body)
        if retry_after is not None:
            headers = {**self.content.headers, "Retry-After": str(math.ceil(retry_after))}
            self.content = replace(self.content, headers=headers)


def public_app(config: Config, key_answer: bytes, verifier: Verifier, heard: HeardFunction) -> web.Application:
    """Return the application that answers under the name of the homeserver.

    :param key_answer: the signed answer to C(/_matrix/key/v2/server).
    :param heard: is called with the origin and the rooms of each verified request, also without rooms.
    :raises SiteError: if the static site cannot be served.
    """
    site = StaticSite.read(config.server_name, key_answer, config.site_path)
    return _application(_Public(site, verifier, heard).answer, PUBLIC_HEADERS)


def status_app(status: Callable[[], Status]) -> web.Application:
    """Return the application that shows the status.

    :param status: is called in a thread, one call at a time.
    """
    return _application(_StatusPages(status).answer, STATUS_HEADERS)


def client_of(request: web.Request) -> str | None:
    """Return the network of the client, also behind a proxy on this host; C(None) if the proxy does not say it."""
    peer = request.transport.get_extra_info("peername") if request.transport is not None else None
    if not peer:
        return None
    network = network_of(peer[0])
    if not is_loopback(network):
        return network
    # The last one is what the proxy itself has seen.
    forwarded = ",".join(request.headers.getall("X-Forwarded-For", [])).rpartition(",")[2].strip()
    try:
        return network_of(forwarded)
    except ValueError:
        return None


class _Public:
    """Answers under the name of the homeserver."""

    def __init__(self, site: StaticSite, verifier: Verifier, heard: HeardFunction) -> None:
        self._site = site
        self._verifier = verifier
        self._heard = heard
        self._small = Budget(SMALL_BODIES)
        self._large = Budget(LARGE_BODIES)
        self._clients_with_large: set[str | None] = set()

    async def answer(self, request: web.Request, gate: Gate) -> Content:
        # As it was sent: this is what is signed.
        target = request.raw_path
        if request.method in ("GET", "HEAD"):
            return self._site.answer(target)
        path = target.partition("?")[0]
        if request.method == "PUT" and TRANSACTION.fullmatch(path):
            name = self._site.server_name
            await self._receive(request, gate, MAX_TRANSACTION, lambda content: rooms_of_transaction(content, name))
            return json_answer(200, {"pdus": {}})
        invite = INVITE.fullmatch(path)
        if request.method == "PUT" and invite is not None:
            return await self._invite(request, gate, unquote(invite[1]))
        return UNKNOWN

    async def _invite(self, request: web.Request, gate: Gate, room_id: str) -> Content:
        name = self._site.server_name
        with suppress(_RefusedError):
            # The answer is the same to all, but only a verified invite is a hint.
            await self._receive(request, gate, MAX_INVITE, lambda content: rooms_of_invite(content, room_id, name))
        return json_answer(403, {"errcode": "M_FORBIDDEN", "error": f"The homeserver {name} is decommissioned."})

    async def _receive(self, request: web.Request, gate: Gate, most: int, read: ReadFunction) -> None:
        """Verify a request, and pass on the rooms that it names."""
        with _refusing():
            length = _length(request, gate, most)
            client = client_of(request)
            admitted = await self._verifier.admit(request.headers.getall("Authorization", []), client)
            with self._room_for(length, client):
                body = await _body(request, gate, length)
                rooms = await self._verifier.verify(admitted, request.method, request.raw_path, body, read)
            self._heard(admitted.claim.origin, rooms)

    @contextmanager
    def _room_for(self, length: int, client: str | None) -> Iterator[None]:
        """Count a body for as long as it is in memory."""
        if length <= SMALL:
            with self._small.hold(length):
                yield
            return
        if client is not None and client in self._clients_with_large:
            raise LimitError(1.0)
        with self._large.hold(length):
            self._clients_with_large.add(client)
            try:
                yield
            finally:
                self._clients_with_large.discard(client)


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn errors of what was sent into answers."""
    try:
        yield
    except AuthorizationError as error:
        raise _RefusedError(401, "M_UNAUTHORIZED", str(error)) from None
    except LimitError as error:
        raise _RefusedError(429, "M_LIMIT_EXCEEDED", str(error), error.retry_after) from None
    except OverloadedError as error:
        raise _RefusedError(503, "M_UNKNOWN", str(error), error.retry_after) from None
    except JsonError as error:
        raise _RefusedError(400, "M_NOT_JSON", str(error)) from None
    except InvalidTransactionError as error:
        raise _RefusedError(400, "M_BAD_JSON", str(error)) from None


def _length(request: web.Request, gate: Gate, most: int) -> int:
    """Return the length of a body that may be received."""
    length = gate.unread
    if length is None:
        raise _RefusedError(411, "M_UNKNOWN", "the request has no Content-Length")
    if length > most:
        raise _RefusedError(413, "M_TOO_LARGE", f"the body has more than {most:,} bytes")
    if "Content-Encoding" in request.headers:
        raise _RefusedError(415, "M_UNKNOWN", "the body is compressed")
    return length


async def _body(request: web.Request, gate: Gate, length: int) -> bytes:
    """Receive the body."""
    gate.receive_body()
    try:
        return await asyncio.wait_for(_read(request.content, length), BODY_TIMEOUT + length / MIN_BODY_RATE)
    except asyncio.TimeoutError:
        raise _RefusedError(408, "M_UNKNOWN", "the body was not received in time") from None
    except (ConnectionError, web.RequestPayloadError, web.PayloadAccessError):
        raise _RefusedError(400, "M_UNKNOWN", "the body is not complete") from None


async def _read(stream: StreamReader, length: int) -> bytes:
    chunks = []
    while length > 0:
        chunk = await stream.readany()
        if not chunk:
            raise ConnectionResetError
        length -= len(chunk)
        chunks.append(chunk)
    return b"".join(chunks)


class _StatusPages:
    """Shows the status to users of this host."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status
        self._lock: asyncio.Lock | None = None

    async def answer(self, request: web.Request, _gate: Gate) -> Content:
        if not LOCAL_HOSTS.fullmatch(request.headers.get("Host", "")):
            return json_answer(403, {"error": "open the status by the name localhost, or by a loopback address"})
        path = request.raw_path.partition("?")[0]
        kind = path.rpartition("/")[2]
        if path == "/status":
            kind = "status.html" if "text/html" in request.headers.get("Accept", "") else "status.json"
        if request.method not in ("GET", "HEAD") or path not in ("/status", "/status.json", "/status.html", "/metrics"):
            return json_answer(404, {"error": "there are /status, /status.json, /status.html and /metrics"})
        status = await self._current()
        if kind == "status.html":
            return Content(200, {"Content-Type": "text/html; charset=utf-8"}, to_html(status).encode())
        if kind == "metrics":
            return Content(200, {"Content-Type": METRICS_TYPE}, to_metrics(status).encode())
        return json_answer(200, to_json(status))

    async def _current(self) -> Status:
        if self._lock is None:
            self._lock = asyncio.Lock()
        async with self._lock:
            return await asyncio.get_event_loop().run_in_executor(None, self._status)


def _application(answer: AnswerFunction, headers: Mapping[str, str]) -> web.Application:
    @web.middleware
    async def respond(request: web.Request, handler: Handler) -> web.StreamResponse:  # noqa: ARG001 - for routes
        # To its end, also if the client goes away: a body is counted for as long as a thread has it.
        return await asyncio.shield(_respond(request, answer, headers))

    # No routes: paths are compared as they were sent.
    return web.Application(middlewares=[respond])


async def _respond(request: web.Request, answer: AnswerFunction, headers: Mapping[str, str]) -> web.StreamResponse:
    gate = gate_of(request)
    content = await _content(request, gate, answer)
    # Nothing that is compressed reaches aiohttp, which would expand it.
    most = -1 if "Content-Encoding" in request.headers else SMALL
    with ExitStack() as stack:
        file = None if content.path is None else open_file(content.path)
        if file is not None:
            stack.enter_context(file)
        elif content.path is not None:
            content = MISSING_FILE
        response = _response(content, {**headers, **content.headers}, file)
        if gate.unread is None or gate.unread > most:
            response.force_close()
        try:
            await _send(request, gate, response, file)
        except Exception:
            if request.transport is not None and not request.transport.is_closing():
                _log("cannot send an answer")
            gate.abort()
        finally:
            gate.finished(most)
        return response


async def _content(request: web.Request, gate: Gate, answer: AnswerFunction) -> Content:
    try:
        return await answer(request, gate)
    except _RefusedError as refused:
        return refused.content
    except Exception:
        _log("cannot answer a request")
        return json_answer(500, {"errcode": "M_UNKNOWN", "error": "internal error"})


def _log(message: str) -> None:
    """Log the current exception, in one line."""
    logger.error("%s: %s", message, printable(traceback.format_exc()))


def _response(content: Content, headers: Mapping[str, str], file: BinaryIO | None) -> web.StreamResponse:
    if file is None:
        return web.Response(status=content.status, headers=headers, body=content.body)
    response = web.StreamResponse(status=content.status, headers=headers)
    response.content_length = os.fstat(file.fileno()).st_size
    return response


async def _send(request: web.Request, gate: Gate, response: web.StreamResponse, file: BinaryIO | None) -> None:
    """Send an answer to its last byte, so that the gate knows when it is there."""
    await response.prepare(request)
    left = 0 if file is None or request.method == "HEAD" else response.content_length or 0
    while file is not None and left > 0:
        chunk = await asyncio.get_event_loop().run_in_executor(None, file.read, min(CHUNK, left))
        if not chunk:
            raise ConnectionAbortedError("the file has become shorter")
        left -= len(chunk)
        await response.write(chunk)
        gate.extend()
    await response.write_eof()
