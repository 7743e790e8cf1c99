# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A proxy in front of a homeserver that spoils some of its answers, as busy servers, networks and real proxies do."""

from __future__ import annotations

import json
import math
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from types import TracebackType
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from .homeserver import Homeserver

_PATIENCE = 300.0  # with the homeserver: that of the client should end first
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


class Fault(Enum):
    """What happens to a request. The homeserver gets to see it where "after" or "delay" is said, and otherwise not."""

    TOO_MANY_REQUESTS = "429, and no word on when to come again"
    RETRY_AFTER = "429 with Retry-After"
    RETRY_AFTER_MS = "429 with retry_after_ms"
    BAD_GATEWAY = "502"
    UNAVAILABLE = "503"
    GATEWAY_TIMEOUT = "504"
    HTML = "200 with a page of HTML"
    CUT = "the connection is closed"
    BAD_GATEWAY_AFTER = "502 after the work was done"
    UNAVAILABLE_AFTER = "503 after the work was done"
    GATEWAY_TIMEOUT_AFTER = "504 after the work was done"
    TORN = "the connection is closed after the work was done"
    HALF_ANSWERED = "the connection is closed after half of the answer"
    DELAY_BEFORE = "a delay, and only then the work"
    DELAY_AFTER = "a delay after the work was done"
    WRONG_SHAPE = "200 with JSON of another shape"
    ENDLESS = "a page token that comes again and again"
    WRONG_TIME = "a Date that is off by so many seconds"


_FORWARDED = {
    Fault.ENDLESS,
    Fault.WRONG_TIME,
    Fault.BAD_GATEWAY_AFTER,
    Fault.UNAVAILABLE_AFTER,
    Fault.GATEWAY_TIMEOUT_AFTER,
    Fault.TORN,
    Fault.HALF_ANSWERED,
    Fault.DELAY_BEFORE,
    Fault.DELAY_AFTER,
}
_PAGES = {
    Fault.TOO_MANY_REQUESTS: HTTPStatus.TOO_MANY_REQUESTS,
    Fault.BAD_GATEWAY: HTTPStatus.BAD_GATEWAY,
    Fault.BAD_GATEWAY_AFTER: HTTPStatus.BAD_GATEWAY,
    Fault.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Fault.UNAVAILABLE_AFTER: HTTPStatus.SERVICE_UNAVAILABLE,
    Fault.GATEWAY_TIMEOUT: HTTPStatus.GATEWAY_TIMEOUT,
    Fault.GATEWAY_TIMEOUT_AFTER: HTTPStatus.GATEWAY_TIMEOUT,
    Fault.HTML: HTTPStatus.OK,
}


@dataclass
class Rule:
    """A fault, and which requests it strikes: see ``Proxy.rule``."""

    fault: Fault
    method: str
    path: re.Pattern[str]
    after: int
    every: int
    first: float
    share: float
    lasting: float
    seconds: float
    chance: random.Random
    #: May be set at any time.
    on: bool = True
    #: How often it has struck.
    injected: int = field(default=0, init=False)
    #: Set it to end its delays.
    over: Event = field(default_factory=Event, init=False)
    _matched: int = field(default=0, init=False)
    _ends: float = field(default=math.inf, init=False)

    def strikes(self, method: str, path: str) -> bool:
        """Whether it strikes this request, which is counted; not to be asked by two threads at once."""
        if not self.on or self.method not in ("", method) or not self.path.search(path):
            return False
        if self.after:
            self.after -= 1
            return False
        self._matched += 1
        now = time.monotonic()
        if self._matched == 1:
            self._ends = now + self.lasting
        struck = (
            self._matched % self.every == 0
            and self._matched <= self.first
            and now < self._ends
            and self.chance.random() < self.share
        )
        self.injected += struck
        return struck


@dataclass
class Exchange:
    """A request that came, with its path decoded and without the query."""

    method: str
    path: str
    fault: Fault | None
    #: What the homeserver answered, whatever the client was told; ``None`` if it was not asked, or has not answered.
    status: int | None = None
    body: bytes = b""


class Proxy:
    """Forwards HTTP on loopback to a homeserver's client port, but for the faults of its rules.

    A context manager: it answers for as long as the context lasts.
    """

    def __init__(self, homeserver: Homeserver, port: int = 0) -> None:
        """Listen on ``port``, or on one that is free."""
        self._server = _Server(port, self)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}"
        self.upstream = urlsplit(homeserver.base_url).netloc
        self._rules: list[Rule] = []
        self._hooks: list[tuple[re.Pattern[str], Callable[[], object]]] = []
        self._exchanges: list[Exchange] = []
        self._lock = Lock()
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def rule(
        self,
        fault: Fault,
        *,
        method: str = "",
        path: str = "",
        after: int = 0,
        every: int = 1,
        first: float = math.inf,
        share: float = 1.0,
        seed: int = 0,
        lasting: float = math.inf,
        seconds: float = 1.0,
    ) -> Rule:
        """From now on, inject a fault into all requests that match, or into those of them that all of these choose.

        If more than one rule strikes a request, the one that was made first counts.

        :param method: of the requests that match; empty for any.
        :param path: a regular expression, to be found in the decoded path, without the query.
        :param after: how many that match to let pass, and not to count.
        :param every: the n-th that matches, and so on.
        :param first: only the first n that match.
        :param share: this part of those that match, at random.
        :param seed: of that chance.
        :param lasting: only those in so many seconds from the first that matches.
        :param seconds: of the delay, or of the time that a 429 asks to wait; whole ones in ``Retry-After``. Or by how
            many the time is wrong.
        """
        rule = Rule(
            fault, method, re.compile(path), after, every, first, share, lasting, seconds, chance=random.Random(seed)
        )
        with self._lock:
            self._rules.append(rule)
        return rule

    def before(self, path: str, action: Callable[[], object]) -> None:
        """From now on, call ``action`` before each request whose decoded path matches is passed on.

        A ``ConnectionError`` that it raises closes the connection, and the request is not passed on.
        """
        self._hooks.append((re.compile(path), action))

    def clear(self) -> None:
        """Forget all rules and actions, and end their delays. What has been injected stays counted."""
        with self._lock:
            for rule in self._rules:
                rule.over.set()
            self._rules.clear()
            self._hooks.clear()

    @property
    def exchanges(self) -> list[Exchange]:
        """The requests so far, in the order in which they came."""
        with self._lock:
            return list(self._exchanges)

    @property
    def injected(self) -> Counter[Fault]:
        """How often each fault has struck."""
        return Counter(exchange.fault for exchange in self.exchanges if exchange.fault is not None)

    def take(self, method: str, target: str) -> tuple[Exchange, Rule | None]:
        """Note a request that has come, and choose what becomes of it."""
        path = unquote(urlsplit(target).path)
        for pattern, action in list(self._hooks):
            if pattern.search(path):
                action()
        with self._lock:
            rule = next((rule for rule in self._rules if rule.strikes(method, path)), None)
            exchange = Exchange(method, path, rule.fault if rule else None)
            self._exchanges.append(exchange)
        return exchange, rule


class _Answer(NamedTuple):
    status: int
    headers: Iterable[tuple[str, str]]
    body: bytes


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # a full queue would look like a delay of a second

    def __init__(self, port: int, proxy: Proxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one write, or each answer takes as long as a delayed acknowledgement
    server: _Server

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client may have given up
            super().handle()

    def _handle(self) -> None:
        # Without a body there is nothing to read; a client that sends one without its length is none of ours.
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        exchange, rule = self.server.proxy.take(self.command, self.path)
        if rule is None:
            self._send(self._forward(exchange, body))
            return
        if rule.fault is Fault.DELAY_BEFORE:
            rule.over.wait(rule.seconds)
        forwarded = self._forward(exchange, body) if rule.fault in _FORWARDED else None
        if rule.fault is Fault.DELAY_AFTER:
            rule.over.wait(rule.seconds)
        if forwarded is not None and rule.fault in _SPOILED:
            forwarded = _SPOILED[rule.fault](forwarded, rule)
        answer = _own_answer(rule) or forwarded
        if answer is None or rule.fault is Fault.TORN:
            self.close_connection = True
        elif rule.fault is Fault.HALF_ANSWERED:
            self.close_connection = True
            self._send(answer, half=True)
        else:
            self._send(answer)

    # The names are the standard library's.
    do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815

    def _forward(self, exchange: Exchange, body: bytes) -> _Answer:
        # A connection for each request: one that is kept may have been closed, which would be a fault of our own.
        connection = HTTPConnection(self.server.proxy.upstream, timeout=_PATIENCE)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        try:
            connection.request(self.command, self.path, body or None, headers)
            response = connection.getresponse()
            answer = _Answer(response.status, response.getheaders(), response.read())
        except (OSError, HTTPException):
            return _page(HTTPStatus.BAD_GATEWAY)  # the homeserver is down
        finally:
            connection.close()
        exchange.status, exchange.body = answer.status, answer.body
        return answer

    def _send(self, answer: _Answer, *, half: bool = False) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in {"content-length", *_HOP_BY_HOP}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body[: len(answer.body) // 2] if half else answer.body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def _own_answer(rule: Rule) -> _Answer | None:
    """What the client is told in the homeserver's place, if anything. With a time to wait, it is as Synapse says it."""
    if rule.fault in _PAGES:
        return _page(_PAGES[rule.fault])
    if rule.fault is Fault.WRONG_SHAPE:
        return _Answer(HTTPStatus.OK, [("Content-Type", "application/json")], b'{"users": 7, "rooms": null, "ok": []}')
    refusal: dict[str, str | int] = {"errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests"}
    headers = [("Content-Type", "application/json")]
    if rule.fault is Fault.RETRY_AFTER:
        headers.append(("Retry-After", str(math.ceil(rule.seconds))))
    elif rule.fault is Fault.RETRY_AFTER_MS:
        refusal["retry_after_ms"] = round(rule.seconds * 1000)
    else:
        return None
    return _Answer(HTTPStatus.TOO_MANY_REQUESTS, headers, json.dumps(refusal).encode())


def _endless(answer: _Answer, rule: Rule) -> _Answer:
    try:
        content = json.loads(answer.body)
    except ValueError:
        return answer
    return answer._replace(body=json.dumps({**content, "next_token": "1", "next_batch": "1"}).encode())


def _wrong_time(answer: _Answer, rule: Rule) -> _Answer:
    others = [(name, value) for name, value in answer.headers if name.lower() != "date"]
    return answer._replace(headers=[*others, ("Date", formatdate(time.time() + rule.seconds, usegmt=True))])


_SPOILED: dict[Fault, Callable[[_Answer, Rule], _Answer]] = {
    Fault.ENDLESS: _endless,
    Fault.WRONG_TIME: _wrong_time,
}


def _page(status: HTTPStatus) -> _Answer:
    """A page like those of nginx."""
    title = f"{status.value} {status.phrase}"
    page = f"<html>\n<head><title>{title}</title></head>\n<body><center><h1>{title}</h1></center></body>\n</html>\n"
    return _Answer(status, [("Content-Type", "text/html")], page.encode())
