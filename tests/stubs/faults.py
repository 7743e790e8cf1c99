# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wrong answers that a stub server can give.

A fault is a function of the normal answer, which is only made, with all its effects, if the function asks for it.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from itertools import repeat
from typing import Any, Callable

from .answers import Answer

Fault = Callable[[Callable[[], Answer]], Answer]

_MEGABYTE = 1 << 20


def instead(answer: Answer) -> Fault:
    """Give this answer; nothing is done for the request."""
    return lambda normal: answer


def error(status: int, errcode: str, text: str, **fields: Any) -> Fault:
    """Give an error of the Matrix API; for example a 403 with words that no implementation has."""
    return instead(Answer.of(status, {"errcode": errcode, "error": text, **fields}))


def rate_limited(retry_after: int | None = None) -> Fault:
    """Give a 429, with ``Retry-After`` in seconds if that is given."""
    headers = {} if retry_after is None else {"Retry_After": str(retry_after)}
    return instead(Answer.of(429, {"errcode": "M_LIMIT_EXCEEDED", "error": "Too Many Requests"}, **headers))


def redirect(url: str, status: int = 302) -> Fault:
    """Send the client to another place."""
    return instead(Answer(status, b"", {"Location": url}))


def page() -> Fault:
    """Give 200 with a page of HTML."""
    return instead(Answer(200, b"<!DOCTYPE html><title>Welcome</title>", {"Content-Type": "text/html"}))


def raw(data: bytes) -> Fault:
    """Send these bytes alone, and close the connection; no bytes at all: hang up."""
    return instead(Answer(None, data))


def big(megabytes: int) -> Fault:
    """Give 200 with so much JSON, of one long string."""

    def fault(normal: Callable[[], Answer]) -> Answer:
        pieces = (b'{"pdus": "', *repeat(b"x" * _MEGABYTE, megabytes), b'"}')
        return Answer(200, pieces, {"Content-Type": "application/json"})

    return fault


def endless(pause: float = 0.0) -> Fault:
    """Give 200 with a body that never ends, a mebibyte each ``pause`` seconds."""
    return instead(Answer(200, repeat(b" " * _MEGABYTE), {"Content-Type": "application/json"}, pause=pause))


def gzip_bomb(megabytes: int) -> Fault:
    """Give 200 with a small compressed body of so many mebibytes."""
    # A gzip stream may have several members: so only one mebibyte is ever in memory here.
    body = gzip.compress(b" " * _MEGABYTE) * megabytes
    return instead(Answer(200, body, {"Content-Type": "application/json", "Content-Encoding": "gzip"}))


def late(seconds: float) -> Fault:
    """Give the normal answer after so many seconds."""
    return lambda normal: replace(normal(), delay=seconds)


def trickled(pause: float, *, headers: bool = False) -> Fault:
    """Give the normal answer one byte at a time; with ``headers``, from the status line on."""

    def fault(normal: Callable[[], Answer]) -> Answer:
        answer = normal()
        body = b"".join(answer.pieces)
        if headers:
            named = {**answer.headers, "Connection": "close"}
            answer, body = replace(answer, status=None), replace(answer, headers=named, body=body).head + body
        return replace(answer, body=tuple(bytes([each]) for each in body), pause=pause)

    return fault


def changed(change: Callable[[Any], Any]) -> Fault:
    """Give the normal answer with its JSON changed by a function."""

    def fault(normal: Callable[[], Answer]) -> Answer:
        answer = normal()
        return replace(answer, body=json.dumps(change(answer.json)).encode())

    return fault


def template(*, room_version: str | None = None, **fields: Any) -> Fault:
    """Give a make_leave answer whose event has other fields: type, room_id, sender, content, prev_events, ..."""

    def change(answer: Any) -> Any:
        version = answer["room_version"] if room_version is None else room_version
        return {**answer, "room_version": version, "event": {**answer["event"], **fields}}

    return changed(change)


def many_prev_events(count: int = 100_000) -> Fault:
    """Give a make_leave answer with so many well-formed prev_events."""
    return template(prev_events=[f"${number:043d}" for number in range(count)])
