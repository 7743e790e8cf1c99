# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stub of a large homeserver for runs in check mode: what it answers is computed, so that no size takes long to make.

Each answer takes some milliseconds, as those of Synapse do. C(GET /counts) returns the requests so far, by path.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import multiprocessing
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

NAME = "example.org"
OPERATOR = f"@operator:{NAME}"
DELAY = 0.005
"""Seconds that an answer takes."""
MEMBERS = 3
"""Local members of each room."""
SERVERS = 3
"""Remote servers in each federated room, with an account each."""
NEVER_SEEN = 50
"""One of so many accounts has never been seen."""
ALIASES = 10
"""One of so many rooms has an alias."""
PLACE = re.compile(r"^[!@#$]|%|\.example|^@")

Json = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How large the server is: its accounts, its rooms, those of them that are federated, and remote servers."""

    accounts: int
    rooms: int
    federated: int
    servers: int


@dataclass
class LargeServer:
    """The answers of the server, to GET requests and the POST requests that change nothing.

    :ivar counts: number of requests by method and path, with C({}) for identifiers.
    """

    size: Size
    counts: Counter[str] = field(default_factory=Counter)

    def answer(self, method: str, url: str) -> tuple[int, Json]:
        """Return the status and the body of an answer, and count the request."""
        parts = urlsplit(url)
        segments = [unquote(segment) for segment in parts.path.split("/")[1:]]
        if segments == ["counts"]:
            return 200, dict(self.counts)
        names = [segment for segment in segments if PLACE.search(segment)]
        path = "/".join("{}" if segment in names else segment for segment in segments)
        self.counts[f"{method} /{path}"] += 1
        return self._answer(path.partition("/")[2], names, dict(parse_qsl(parts.query)))

    def _answer(self, path: str, names: list[str], query: dict[str, str]) -> tuple[int, Json]:
        listings = {"admin/v2/users": self._users, "admin/v1/rooms": self._rooms}
        listings["admin/v1/federation/destinations"] = self._destinations
        if path in listings:
            return 200, listings[path](query)
        kind = re.sub(r"^admin/v\d/(users/)?|^client/v\d/", "", path)
        if kind in self._fixed:
            return 200, self._fixed[kind]
        by_name = self._by_name.get(kind)
        return (404, {"errcode": "M_NOT_FOUND", "error": "not found"}) if by_name is None else by_name(names[0])

    @cached_property
    def _fixed(self) -> dict[str, Json]:
        return {
            "account/whoami": {"user_id": OPERATOR},
            "client/versions": {"versions": ["v1.11"]},
            "server_version": {"server_version": "1.163.2"},
            "registration_tokens": {"registration_tokens": []},
            "login": {"flows": [{"type": "m.login.password"}]},
            "sync": {"rooms": {"join": {}, "invite": {}, "knock": {}}},
            "keys/query": {"device_keys": {}, "failures": {}},
            "statistics/users/media": {"users": [], "total": 0},
            "media": {"media": [], "total": 0},
        }

    @cached_property
    def _by_name(self) -> dict[str, Callable[[str], tuple[int, Json]]]:
        return {
            "{}": self._user,
            "{}/joined_rooms": lambda user_id: (200, {"joined_rooms": self._joined_rooms(user_id)}),
            "{}/memberships": lambda user_id: (
                200,
                {"memberships": dict.fromkeys(self._joined_rooms(user_id), "join")},
            ),
            "rooms/{}/members": lambda room_id: (200, {"members": self._members(_number(room_id))}),
            "rooms/{}/state": lambda room_id: (200, {"state": self._state(_number(room_id))}),
            "rooms/{}/aliases": lambda room_id: (200, {"aliases": self._aliases(_number(room_id))}),
            "rooms/{}/forward_extremities": lambda _room_id: (
                200,
                {"count": 1, "results": [{"event_id": "$newest", "received_ts": 0}]},
            ),
            "federation/destinations/{}/rooms": lambda server: (200, self._rooms_of(_number(server))),
        }

    # Listings

    def _users(self, query: dict[str, str]) -> Json:
        return _page(query, "users", "next_token", "total", self.size.accounts + 1, self._listed_user)

    def _listed_user(self, number: int) -> Json:
        is_operator = number == self.size.accounts
        return {
            "name": OPERATOR if is_operator else _user_id(number),
            "user_type": None,
            "is_guest": False,
            "admin": is_operator,
            "deactivated": False,
            "erased": False,
            "shadow_banned": False,
            "displayname": f"Account number {number}",
            "avatar_url": f"mxc://example.org/{number:024}",
            "creation_ts": 1_795_416_000_000 + number,
            "approved": True,
            "last_seen_ts": None if number % NEVER_SEEN == 0 and not is_operator else 1_795_416_000_000 + number,
            "locked": False,
        }

    def _user(self, user_id: str) -> tuple[int, Json]:
        if "/" in user_id:
            return 404, {"errcode": "M_NOT_FOUND", "error": "User not found"}
        number = self.size.accounts if user_id == OPERATOR else _number(user_id)
        return 200, {**self._listed_user(number), "suspended": False, "appservice_id": None}

    def _rooms(self, query: dict[str, str]) -> Json:
        return _page(query, "rooms", "next_batch", "total_rooms", self.size.rooms, self._listed_room)

    def _listed_room(self, number: int) -> Json:
        aliases = self._aliases(number)
        return {
            "room_id": _room_id(number),
            "name": f"Room number {number}",
            "canonical_alias": aliases[0] if aliases else None,
            "joined_members": MEMBERS + (SERVERS if self._is_federated(number) else 0),
            "joined_local_members": MEMBERS,
            "version": "11",
            "creator": _user_id(number % self.size.accounts),
            "encryption": None,
            "federatable": True,
            "public": False,
            "join_rules": "invite",
            "guest_access": None,
            "history_visibility": "shared",
            "state_events": 12,
            "room_type": None,
        }

    def _destinations(self, query: dict[str, str]) -> Json:
        def destination(number: int) -> Json:
            return {"destination": _server(number), "retry_last_ts": 0, "retry_interval": 0, "failure_ts": None}

        return _page(query, "destinations", "next_token", "total", self.size.servers, destination)

    # Rooms

    def _is_federated(self, number: int) -> bool:
        return number < self.size.federated

    def _aliases(self, number: int) -> list[str]:
        return [f"#room-{number}:{NAME}"] if number % ALIASES == 0 else []

    def _joined_rooms(self, user_id: str) -> list[str]:
        if user_id == OPERATOR:
            return []
        firsts = {(_number(user_id) - place) % self.size.accounts for place in range(MEMBERS)}
        rooms = (room for first in firsts for room in range(first, self.size.rooms, self.size.accounts))
        return [_room_id(room) for room in rooms]

    def _members(self, number: int) -> list[str]:
        local = [_user_id((number + place) % self.size.accounts) for place in range(MEMBERS)]
        return local + [f"@peer:{_server(server)}" for server in self._servers_in(number)]

    def _servers_in(self, number: int) -> list[int]:
        if not self._is_federated(number):
            return []
        return sorted({(number + place * (number + 1)) % self.size.servers for place in range(SERVERS)})

    def _state(self, number: int) -> list[Json]:
        creator = _user_id(number % self.size.accounts)
        state: dict[str, Json] = {
            "m.room.create": {"room_version": "11"},
            "m.room.power_levels": {"users": {creator: 100}, "users_default": 0},
        }
        events = [{"type": kind, "state_key": "", "sender": creator, "content": state[kind]} for kind in state]
        for member in self._members(number):
            content = {"membership": "join", "displayname": "Somebody"}
            events.append({"type": "m.room.member", "state_key": member, "sender": member, "content": content})
        return events

    def _rooms_of(self, server: int) -> Json:
        near = range(server, self.size.federated, self.size.servers)
        rooms = [{"room_id": _room_id(room), "stream_ordering": 1} for room in near]
        return {"rooms": rooms, "total": len(rooms)}


def _page(
    query: dict[str, str], key: str, next_key: str, total_key: str, total: int, item: Callable[[int], Json]
) -> Json:
    start = int(query.get("from", 0))
    end = min(start + int(query.get("limit", 100)), total)
    page: Json = {key: [item(number) for number in range(start, end)], total_key: total}
    if end < total:
        page[next_key] = str(end) if next_key == "next_token" else end
    return page


def _user_id(number: int) -> str:
    return f"@account-{number:06}:{NAME}"


def _room_id(number: int) -> str:
    return f"!room-{number:06}:{NAME}"


def _server(number: int) -> str:
    return f"server-{number:06}.example"


def _number(name: str) -> int:
    return int(re.split("[-.:]", name)[1])


class _Connection(asyncio.Protocol):
    """As much of HTTP as the client speaks."""

    def __init__(self, server: LargeServer) -> None:
        self._server = server
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if not separator or len(body) < (int(length[1]) if length else 0):
            return
        self._received = b""
        method, url, _version = head.decode().split("\r\n", 1)[0].split()
        asyncio.get_running_loop().call_later(DELAY, self._answer, method, url)

    def _answer(self, method: str, url: str) -> None:
        status, answer = self._server.answer(method, url)
        content = json.dumps(answer).encode()
        date = email.utils.formatdate(usegmt=True)
        head = f"Content-Type: application/json\r\nDate: {date}\r\nContent-Length: {len(content)}\r\n\r\n"
        self._transport.write(f"HTTP/1.1 {status} Status\r\n{head}".encode() + content)


@contextmanager
def large_server(size: Size, port: int = 0) -> Iterator[str]:
    """Run the stub as a process of its own, and return its base URL."""
    context = multiprocessing.get_context("fork")
    ours, its = context.Pipe()
    process = context.Process(target=_serve, args=(its, size, port), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Any, size: Size, port: int) -> None:
    async def serve() -> None:
        large = LargeServer(size)
        start = asyncio.get_running_loop().create_server(lambda: _Connection(large), "127.0.0.1", port)
        async with await start as server:
            pipe.send(server.sockets[0].getsockname()[1])
            await server.serve_forever()

    asyncio.run(serve())
