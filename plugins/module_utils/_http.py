# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP, as far as the client of Synapse and the federation client share it.

An answer is bounded in bytes and in total time, and so are its headers: a timeout of requests applies to each read, so
a server that sends a byte a second would never exceed it. Compressed answers are refused, since a few bytes of them
may have gigabytes of content.
"""

from __future__ import annotations

import datetime
import email.utils
import http.client
import math
import re
import socket
import ssl
import sys
import threading
import time
from contextlib import contextmanager
from typing import Any, Iterator, Mapping

try:
    import urllib3.exceptions
except ImportError:
    HTTP_ERRORS: tuple[type[Exception], ...] = (OSError, ValueError, http.client.HTTPException)
else:
    HTTP_ERRORS = (urllib3.exceptions.HTTPError, OSError, ValueError, http.client.HTTPException)

MAX_HEADER_BYTES = 64 * 1024
"""Maximum size of status line and headers in bytes, interim answers included."""
CHUNK = 64 * 1024
MIN_YEAR, MAX_YEAR = 1970, 9000
"""The years that a date can be in."""
NO_COMPRESSION = {"Accept-Encoding": "identity"}
"""The header with which a request asks for an answer that is not compressed."""


class HeaderSizeError(http.client.HTTPException):
    """The status line and the headers are larger than C(MAX_HEADER_BYTES)."""


class BodyError(Exception):
    """A body that is compressed, too large or not complete.

    :ivar problem: C(compressed), C(slow) if it was not complete in time, or C(None).
    """

    def __init__(self, error: str, problem: str | None = None) -> None:
        super().__init__(error)
        self.problem = problem


class BodySizeError(BodyError):
    """A body that is larger than what is asked for."""


class _Budget(threading.local):
    """The remaining time and bytes of the request of this thread. C(DeadlineSocket) obeys them."""

    deadline = math.inf
    bytes_left = math.inf

    def remaining(self) -> float:
        """Return the seconds until the deadline.

        :raises socket.timeout: if it has passed.
        """
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise socket.timeout("timed out")
        return seconds

    def timeout(self) -> float | None:
        """Return the seconds until the deadline as the timeout of a socket; C(None) without a deadline."""
        seconds = self.remaining()
        return None if math.isinf(seconds) else seconds

    @contextmanager
    def limit(self, deadline: float, max_bytes: float = math.inf) -> Iterator[None]:
        """Limit what this thread does in the context.

        :param deadline: by C(time.monotonic).
        :param max_bytes: maximum number of bytes to receive.
        """
        before = self.deadline, self.bytes_left
        self.deadline, self.bytes_left = deadline, max_bytes
        try:
            yield
        finally:
            self.deadline, self.bytes_left = before


budget = _Budget()


class _DeadlineMixin:
    """A socket whose operations end when the budget of the thread is spent."""

    __slots__ = ()

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(budget.timeout())  # type: ignore[attr-defined]
        received: int = super().recv_into(*args, **kwargs)  # type: ignore[misc]
        budget.bytes_left -= received
        if budget.bytes_left < 0:
            raise HeaderSizeError(f"the headers have more than {MAX_HEADER_BYTES} bytes")
        return received

    def send(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(budget.timeout())  # type: ignore[attr-defined]
        sent: int = super().send(*args, **kwargs)  # type: ignore[misc]
        return sent


class DeadlineSocket(_DeadlineMixin, socket.socket):
    """A socket without TLS that obeys the budget of the thread."""

    __slots__ = ()

    def sendall(self, data: Any, *args: Any) -> None:
        """Send all data. The timeout applies to the whole of it."""
        self.settimeout(budget.timeout())
        super().sendall(data, *args)


class DeadlineTlsSocket(_DeadlineMixin, ssl.SSLSocket):
    """A socket with TLS that obeys the budget of the thread."""


def read_chunks(raw: Any, headers: Mapping[str, str], deadline: float, max_bytes: int) -> Iterator[bytes]:
    """Read a body. urllib3's own iterator would not bound the length of the line before each chunk.

    :param raw: the answer of urllib3, with its body unread.
    :param headers: of the answer, with names in lower case.
    :param deadline: by C(time.monotonic).
    :param max_bytes: maximum size of the body.
    :raises BodyError: if the body is compressed, too large, or not complete in time.
    """
    encoding = headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise BodyError(f"the answer is compressed ({encoding}), which was not requested", "compressed")
    announced = announced_length(headers) or 0
    too_large = BodySizeError(f"the answer has more than {max_bytes} bytes")
    if announced > max_bytes:
        raise too_large
    size = 0
    while True:
        try:
            with budget.limit(deadline):
                chunk = raw.read(CHUNK, decode_content=False)
        except HTTP_ERRORS as error:
            if time.monotonic() >= deadline:
                raise BodyError(f"the answer was not complete in time ({size} bytes received)", "slow") from error
            raise BodyError(f"the answer is not complete: {reason(error)}") from error
        if not chunk:
            break
        size += len(chunk)
        if size > max_bytes:
            raise too_large
        yield chunk
    if size < announced:
        raise BodyError(f"the answer is not complete: {size} of {announced} bytes")


def announced_length(headers: Mapping[str, str]) -> int | None:
    """Return the size of a body in bytes by its C(Content-Length); C(None) if there is no valid one."""
    length = headers.get("content-length")
    return int(length) if length and re.fullmatch("[0-9]{1,18}", length) else None


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, which urllib3 keeps in the arguments."""
    yield error
    for inner in (*error.args, getattr(error, "reason", None)):
        if isinstance(inner, BaseException):
            yield from causes(inner)


def reason(error: BaseException) -> str:
    """Return the cause of an error, without the names of classes and functions."""
    *_outer, cause = causes(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {cause.verify_message}"
    if isinstance(cause, socket.timeout):
        return "timed out"
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {cause.reason or cause.strerror or cause}"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__


def http_date(text: str) -> datetime.datetime | None:
    """Return a date of RFC 9110 in UTC; C(None) if it is invalid, or outside of the years that can be computed with."""
    try:
        date = email.utils.parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=datetime.timezone.utc)
        date = date.astimezone(datetime.timezone.utc)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return date if MIN_YEAR <= date.year <= MAX_YEAR else None


def seconds_until(date: datetime.datetime) -> float:
    """Return the seconds from now, by the clock of this machine, to a date."""
    return (date - datetime.datetime.now(datetime.timezone.utc)).total_seconds()


def retry_after(header: str, body: object) -> float | None:
    """Return the seconds that a server asks to wait; C(None) if it does not.

    :param header: C(Retry-After): seconds or a date (RFC 9110).
    :param body: the JSON of the answer: C(retry_after_ms), as in the Matrix specification.
    """
    try:
        return float(int(header))
    except (ValueError, OverflowError):
        pass
    date = http_date(header)
    if date is not None:
        return seconds_until(date)
    milliseconds = body.get("retry_after_ms") if isinstance(body, dict) else None
    # A huge integer can't be converted to a float.
    return min(milliseconds, sys.maxsize) / 1000 if isinstance(milliseconds, (int, float)) else None
