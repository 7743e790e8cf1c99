# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signed requests to remote servers: rate-limited for each server, with retries after 429, and none to a server that is
down.

Not urllib3's C(Retry): that shares neither the rate limit nor a failure between threads and hosts.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict, Iterator, Mapping
from urllib.parse import quote, urlencode

from .._http import http_date, retry_after, seconds_until
from .discovery import Discovery
from .errors import AnswerError, InvalidNameError, UnreachableError
from .pacing import Limiters
from .signing import SigningKey, sign_request
from .transport import HttpAnswer, HttpStream, Transport

JsonDict = Dict[str, Any]

FEDERATION = "/_matrix/federation"
KEY = "/_matrix/key/v2"

REQUEST_TIMEOUT = 30.0
"""Total time of one request in seconds, from the connection to the last byte of the answer."""
MAX_ANSWER = 512 * 1024
"""Maximum size of an answer in bytes. The largest valid one, a template or an event, has 64 KiB."""
MAX_RATE_LIMITED = 3
"""Maximum number of times to send a request that is answered with 429."""
MAX_RETRY_AFTER = 60.0
"""Maximum delay in seconds that a remote server can ask for with 429."""
GATEWAY_ERRORS = (502, 503, 504)
MAX_ERROR_TEXT = 300
"""Maximum length of an error code or text in characters."""


@dataclass(frozen=True)
class Answer:
    """An answer with a JSON object, of any status. I(errcode) and I(error) are shortened, and hostile."""

    status: int
    errcode: str
    error: str
    body: JsonDict

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.status, self.errcode, self.error) if part)


class FederationClient:
    """Sends requests as one server, signed with its key. May be shared between threads.

    A server that could not be reached is marked as down, and requests to it fail at once until C(mark_up). So a
    thousand rooms on such a server cost a single timeout.

    :ivar sent: how many requests were sent.
    :ivar written: how many of them may have changed something on a remote server.
    """

    def __init__(
        self,
        server_name: str,
        key: SigningKey,
        transport: Transport,
        discovery: Discovery,
        limiters: Limiters,
        *,
        timeout: float = REQUEST_TIMEOUT,
    ) -> None:
        self.server_name = server_name
        self.key = key
        self._transport = transport
        self._discovery = discovery
        self._limiters = limiters
        self._timeout = timeout
        self._down: dict[str, UnreachableError] = {}
        self._lock = threading.Lock()
        self.sent = 0
        self.written = 0
        self._clock_offsets: dict[str, float] = {}

    @property
    def clock_offsets(self) -> list[float]:
        """For each server that has answered, how many seconds its clock is ahead of that of this machine."""
        with self._lock:
            return list(self._clock_offsets.values())

    def _note_clock(self, server: str, date: str) -> None:
        parsed = http_date(date)
        if parsed is None:
            return
        with self._lock:
            self._clock_offsets[server] = seconds_until(parsed)

    def max_concurrent(self, server: str) -> int:
        """Return how many requests to this server may be under way at this moment."""
        return self._limiters.of(server).max_concurrent

    def get(
        self, server: str, path: str, *segments: str, params: Mapping[str, str | list[str]] | None = None
    ) -> Answer:
        """Send a GET. Arguments and errors: see C(put)."""
        return self._request("GET", server, _target(path, segments, params), None)

    def put(self, server: str, path: str, *segments: str, json: JsonDict) -> Answer:
        """Send a PUT.

        :param path: with C({}) in the place of each of I(segments), which is percent-encoded.
        :raises UnreachableError: there is no answer, or only that of a reverse proxy whose server is down.
        :raises AnswerError: the answer is no JSON object, too large, or too slow.
        """
        self.written += 1
        return self._request("PUT", server, _target(path, segments, None), json)

    @contextmanager
    def stream(
        self,
        server: str,
        path: str,
        *segments: str,
        params: Mapping[str, str | list[str]],
        max_bytes: int,
        timeout: float,
    ) -> Iterator[HttpStream]:
        """Send a GET, and read the answer piece by piece. It must be 200.

        :param max_bytes: maximum size of the answer in bytes.
        :param timeout: total time of the request in seconds.
        """
        target = _target(path, segments, params)
        self._raise_if_down(server)
        with self._note_failure(server), self._limiters.of(server).slot():
            self.sent += 1
            endpoint = self._discovery.endpoint(server)
            with self._transport.stream(
                endpoint,
                "GET",
                target,
                headers=self._headers(server, "GET", target, None),
                body=None,
                timeout=timeout,
                max_bytes=max_bytes,
            ) as answer:
                if answer.status != 200:
                    raise AnswerError(f"{path.format(*segments)}: {answer.status}")
                yield answer

    def mark_up(self, server: str) -> None:
        """Send requests to this server again, although an earlier one did not reach it."""
        with self._lock:
            self._down.pop(server, None)

    def _request(self, method: str, server: str, target: str, content: JsonDict | None) -> Answer:
        # Also before the wait for a slot: requests to a server that is down must not be rate-limited.
        self._raise_if_down(server)
        headers = self._headers(server, method, target, content)
        body = None if content is None else json.dumps(content).encode()
        for _attempt in range(MAX_RATE_LIMITED):
            answer = self._send(method, server, target, headers, body)
            if answer.status != 429:
                break
            self._limiters.of(server).pause(_retry_after(answer))
        return _parsed(answer)

    def _send(
        self, method: str, server: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> HttpAnswer:
        with self._note_failure(server), self._limiters.of(server).slot():
            self._raise_if_down(server)
            self.sent += 1
            endpoint = self._discovery.endpoint(server)
            answer = self._transport.request(
                endpoint, method, target, headers=headers, body=body, timeout=self._timeout, max_bytes=MAX_ANSWER
            )
            self._note_clock(server, answer.headers.get("date", ""))
            if answer.status in GATEWAY_ERRORS:
                raise UnreachableError(f"its reverse proxy answered with HTTP {answer.status}")
            return answer

    def _headers(self, server: str, method: str, target: str, content: JsonDict | None) -> dict[str, str]:
        authorization = sign_request(self.server_name, self.key, server, method, target, content)
        headers = {"Authorization": authorization}
        if content is not None:
            headers["Content-Type"] = "application/json"
        return headers

    def _raise_if_down(self, server: str) -> None:
        with self._lock:
            error = self._down.get(server)
        if error is not None:
            raise error

    @contextmanager
    def _note_failure(self, server: str) -> Iterator[None]:
        try:
            yield
        except UnreachableError as error:
            with self._lock:
                self._down.setdefault(server, error)
            raise


def _target(path: str, segments: tuple[str, ...], params: Mapping[str, str | list[str]] | None) -> str:
    for segment in segments:
        # Proxies remove a dot segment, percent-encoded or not, and the segment before it.
        if segment in ("", ".", ".."):
            raise InvalidNameError(f"{segment!r} is not allowed as a segment of a path")
    target = path.format(*(quote(segment, safe="") for segment in segments))
    return f"{target}?{urlencode(params, doseq=True)}" if params else target


def _parsed(answer: HttpAnswer) -> Answer:
    try:
        body = json.loads(answer.content)
    except (ValueError, RecursionError):
        body = None
    if body == "" and answer.status == 404:
        # Synapse's answer about an unknown event.
        body = {}
    if not isinstance(body, dict):
        kind = answer.headers.get("content-type", "nothing").partition(";")[0]
        raise AnswerError(f"answered with HTTP {answer.status} and {kind} instead of a JSON object")
    texts = [
        value[:MAX_ERROR_TEXT] if isinstance(value := body.get(name), str) else "" for name in ("errcode", "error")
    ]
    return Answer(answer.status, texts[0], texts[1], body)


def _retry_after(answer: HttpAnswer) -> float:
    """Return the seconds without a request that a server asks for by its 429."""
    try:
        body = json.loads(answer.content)
    except (ValueError, RecursionError):
        body = None
    seconds = retry_after(answer.headers.get("retry-after", ""), body)
    return min(max(seconds or 0.0, 1.0), MAX_RETRY_AFTER)
