# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests to the fake homeserver, and the table of its endpoints."""

from __future__ import annotations

import json
from typing import Any, Callable, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from ..helpers import Json
from .answers import Reply


class Request(NamedTuple):
    """A request. I(path) has neither C(/_matrix) or C(/_synapse) nor encoded characters, I(parts) are its segments.

    As text, it is the method with the last two segments, the one that says what is asked for first: C(POST leave
    !r:example.org), C(GET users v2), C(PUT users @a:example.org), C(PUT state !r:example.org).
    """

    method: str
    parts: tuple[str, ...]
    user_id: str
    token: str
    query: dict[str, str]
    body: Json

    @property
    def path(self) -> str:
        return "/".join(self.parts)

    def __str__(self) -> str:
        kind, before, last = self.parts[-3:] if len(self.parts) > 2 else ("", *self.parts[-2:])
        if last == "users" and self.query.get("limit") == "1":
            # Not the listing of accounts, but the client's question whether there is a database.
            return f"{self.method} users limit=1"
        if kind == "redact":
            return f"{self.method} redact {before}"
        if before == "state":
            return f"{self.method} state {kind}"
        if before == "send_server_notice":
            # The transaction ID says nothing to anybody.
            return f"{self.method} {before} {self.body.get('user_id')}"
        if before in ("users", "deactivate"):
            return f"{self.method} {before} {last}"
        return f"{self.method} {last} {before}"


def request_of(sent: Any, user_id: str, token: str) -> Request:
    """What was sent with I(requests), or anything with the same method, URL and body."""
    url = urlsplit(sent.url)
    parts = tuple(unquote(part) for part in url.path.split("/")[1:])
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    return Request(sent.method, parts[1:], user_id, token, query, json.loads(sent.body or "{}"))


Handler = Callable[..., Reply]
"""Answers a request. Is called with the state of the server, the request, and what stands for each C({})."""


class Endpoints:
    """Handlers by method and path, with C({}) for any segment."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[str, int], list[tuple[tuple[str, ...], Handler]]] = {}

    def __call__(self, *endpoints: str) -> Callable[[Handler], Handler]:
        """Decorate the handler of these endpoints, for example C(GET client/v3/sync)."""

        def add(handler: Handler) -> Handler:
            for endpoint in endpoints:
                method, _blank, path = endpoint.partition(" ")
                parts = tuple(path.split("/"))
                self._handlers.setdefault((method, len(parts)), []).append((parts, handler))
            return handler

        return add

    def find(self, request: Request) -> tuple[Handler, list[str]]:
        """The handler of a request, and the segments that stand for C({}).

        :raises AssertionError: if there is none, so that no test takes its absence for an answer.
        """
        for parts, handler in self._handlers.get((request.method, len(request.parts)), ()):
            if all(part in ("{}", given) for part, given in zip(parts, request.parts)):
                return handler, [given for part, given in zip(parts, request.parts) if part == "{}"]
        raise AssertionError(f"the fake homeserver has no {request.method} {request.path}")
