# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from typing import Any, Dict, Iterable, Iterator
from unittest.mock import ANY
from urllib.parse import parse_qsl, quote, urlsplit

import responses
from responses.registries import OrderedRegistry

BASE_URL = "http://synapse.test"
SERVER = "example.org"
OPERATOR = f"@op:{SERVER}"
TOKEN = "syt_operator"
NOW = 1795416000  # Mon, 23 Nov 2026 06:40:00 GMT

WHOAMI = "/_matrix/client/v3/account/whoami"
VERSIONS = "/_matrix/client/versions"
USERS = "/_synapse/admin/v2/users"
ROOMS = "/_synapse/admin/v1/rooms"
TOKENS = "/_synapse/admin/v1/registration_tokens"
LOGIN = "/_matrix/client/v3/login"
SYNC = "/_matrix/client/v3/sync"
NO_ROOMS = {"filter": ANY, "set_presence": "offline", "timeout": "0"}
WITH_SLASH = (
    f"{USERS}/%40matrixops%2Fsynapse%3Aexample.org",
    "/_matrix/client/v3/directory/room/%23matrixops%2Fsynapse%3Aexample.org",
)
"""The paths by which the client checks that slashes in identifiers reach Synapse."""

Json = Dict[str, Any]

PATIENCE = 300.0
"""Seconds to wait for another thread: generous, since a busy machine is no error."""


class Clock:
    """Time that passes only in C(sleep)."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.waits.append(seconds)
        self.now += seconds


class PassingTime:
    """The real time, and what a test adds to it."""

    def __init__(self) -> None:
        self.added = 0.0
        self._monotonic = time.monotonic

    def monotonic(self) -> float:
        return self._monotonic() + self.added

    def byte_by_byte(self, data: bytes) -> Iterator[bytes]:
        """One byte a second."""
        for byte in data:
            self.added += 1
            yield bytes([byte])


class Declared(OrderedRegistry):
    """Remembers what was asked out of turn, since the client takes the error for one of the network."""

    def __init__(self) -> None:
        super().__init__()
        self.unexpected: list[str] = []

    def find(self, request: Any) -> tuple[Any, list[str]]:
        found, reasons = super().find(request)
        if found is None:
            self.unexpected.append(f"{request.method} {request.url}: {reasons}")
        return found, reasons


class Server:
    """A homeserver that answers exactly the requests that were declared, in that order."""

    def __init__(self, mock: responses.RequestsMock) -> None:
        self._mock = mock

    def expect(
        self,
        method: str,
        path: str,
        answer: Any = None,
        *,
        status: int = 200,
        query: Json | None = None,
        sent: Json | None = None,
        token: str | None = TOKEN,
        headers: dict[str, str] | None = None,
        content_type: str = "application/json",
        verify: bool | str = True,
        has_a_database: bool = True,
    ) -> None:
        """Declare a request, with the percent-encoded path, and its answer: JSON, or bytes, or an exception.

        After a 500 comes the client's question whether there is a database.
        """

        def matches(request: Any) -> tuple[bool, str]:
            body = None if request.body is None else json.loads(request.body)
            found = {
                "url": request.url.partition("?")[0],
                "query": dict(parse_qsl(urlsplit(request.url).query, keep_blank_values=True)),
                "body": body,
                "authorization": request.headers.get("Authorization"),
                "verify": request.req_kwargs["verify"],
            }
            wanted = {
                "url": BASE_URL + path,
                "query": query or {},
                "body": sent,
                "authorization": None if token is None else f"Bearer {token}",
                "verify": verify,
            }
            wrong = [f"{key} is {found[key]!r} and not {wanted[key]!r}" for key in wanted if found[key] != wanted[key]]
            if not request.req_kwargs["timeout"]:
                wrong.append("no timeout")
            return not wrong, "; ".join(wrong)

        if answer is None:
            answer = {}
        body = answer if isinstance(answer, (bytes, Exception)) else json.dumps(answer)
        self._mock.add(
            method,
            BASE_URL + path,
            body=body,
            status=status,
            headers=headers,
            content_type=content_type,
            match=[matches],
        )
        if status == 500 and has_a_database:
            self.get(USERS, {"users": [], "total": 0}, query={"limit": "1", "guests": "false"})

    def get(self, path: str, answer: Any = None, **more: Any) -> None:
        self.expect("GET", path, answer, **more)

    def post(self, path: str, sent: Json, answer: Any = None, **more: Any) -> None:
        self.expect("POST", path, answer, sent=sent, **more)

    def put(self, path: str, sent: Json, answer: Any = None, **more: Any) -> None:
        self.expect("PUT", path, answer, sent=sent, **more)

    def delete(self, path: str, answer: Any = None, **more: Any) -> None:
        self.expect("DELETE", path, answer, **more)

    def whoami(self, user_id: str = OPERATOR, **more: Any) -> None:
        self.get(WHOAMI, {"user_id": user_id}, **more)

    def date(self, date: str = "Mon, 23 Nov 2026 06:40:00 GMT") -> None:
        self.get(VERSIONS, {"versions": []}, headers={"Date": date})

    def users(self, *users: Json, deactivated: str = "true", guests: str = "true", **query: str) -> None:
        """Declare a listing of accounts, on a single page."""
        query = {
            "limit": "10000",
            "order_by": "name",
            "locked": "true",
            "guests": guests,
            "deactivated": deactivated,
            **query,
        }
        self.get(USERS, {"users": list(users), "total": len(users)}, query=query)

    def user(self, user: Json) -> None:
        self.get(f"{USERS}/{quoted(user['name'])}", user)

    def deactivate(self, user_id: str, answer: Any = None, *, erase: bool = True, **more: Any) -> None:
        self.post(f"/_synapse/admin/v1/deactivate/{quoted(user_id)}", {"erase": erase}, answer, **more)

    def check_and_deactivate(self, user_id: str, answer: Any = None, *, erase: bool = True, **more: Any) -> None:
        """Declare that an account is read once more, and then deactivated."""
        self.user(user(user_id))
        self.deactivate(user_id, answer, erase=erase, **more)

    def joined(self, user_id: str, *names: str) -> None:
        path = f"/_synapse/admin/v1/users/{quoted(user_id)}/joined_rooms"
        self.get(path, {"joined_rooms": [room_id(name) for name in names], "total": len(names)})

    def rooms(self, *rooms: Json) -> None:
        query = {"limit": "10000", "order_by": "version"}
        self.get(ROOMS, {"rooms": list(rooms), "total_rooms": len(rooms)}, query=query)

    def members(self, name: str, *user_ids: str) -> None:
        self.get(f"{ROOMS}/{quoted(room_id(name))}/members", {"members": list(user_ids), "total": len(user_ids)})

    def can_act_as(
        self,
        user_id: str,
        token: str,
        answer: Json | None = None,
        *,
        date: bool = True,
        age: float = 0,
        status: int = 200,
    ) -> None:
        """Declare the login as another, I(age) seconds later. The client asks for the date before its first."""
        if date:
            self.date()
        path = f"/_synapse/admin/v1/users/{quoted(user_id)}/login"
        self.post(
            path, {"valid_until_ms": int(NOW + age + 3600) * 1000}, answer or {"access_token": token}, status=status
        )

    def logout(self, token: str) -> None:
        self.post("/_matrix/client/v3/logout", {}, token=token)

    def sync(self, *, token: str = TOKEN, **rooms: list[str]) -> None:
        """Declare what C(/sync) says: C(join), C(invite) and C(knock) with room names."""
        answer: Json = {"rooms": {kind: {room_id(name): {} for name in names} for kind, names in rooms.items()}}
        query = {"filter": ANY, "set_presence": "offline", "timeout": "0"}
        self.get("/_matrix/client/v3/sync", answer, query=query, token=token)

    def leave(self, name: str, answer: Any = None, *, token: str = TOKEN, **more: Any) -> None:
        self.post(f"/_matrix/client/v3/rooms/{quoted(room_id(name))}/leave", {}, answer, token=token, **more)

    def rate_limit(self, before: Json | None = None) -> None:
        """Declare that the operator's rate limit is read and lifted."""
        self.get(OVERRIDE, before)
        self.post(OVERRIDE, UNLIMITED, UNLIMITED)

    def way_to_synapse(self) -> None:
        """Declare the checks that slashes and large requests reach Synapse."""
        for path in WITH_SLASH:
            self.get(path, matrix_error("M_NOT_FOUND", "not found"), status=404)
        self.post("/_matrix/client/v3/keys/query", ANY, {"device_keys": {}, "failures": {}})
        self.get(SYNC, {"next_batch": "s1"}, query=NO_ROOMS)

    @property
    def methods(self) -> list[str]:
        """Of the requests that came."""
        return [str(call.request.method) for call in self._mock.calls]

    @property
    def queries(self) -> list[dict[str, str]]:
        return [dict(parse_qsl(urlsplit(str(call.request.url)).query)) for call in self._mock.calls]


OVERRIDE = "/_synapse/admin/v1/users/%40op%3Aexample.org/override_ratelimit"
UNLIMITED = {"messages_per_second": 0, "burst_count": 0}


def quoted(identifier: str) -> str:
    return quote(identifier, safe="")


def user(name: str, **more: Any) -> Json:
    """An account as Synapse lists it. A name without a server is of this one."""
    user_id = name if name.startswith("@") else f"@{name}:{SERVER}"
    plain = {"admin": False, "is_guest": False, "deactivated": False, "erased": False, "locked": False}
    return {"name": user_id, **plain, **more}


def room_id(name: str) -> str:
    return f"!{name}:{SERVER}"


def room(name: str, local_members: int = 1) -> Json:
    return {"room_id": room_id(name), "joined_local_members": local_members}


def message(event_id: str, sender: str, **more: Any) -> Json:
    """An event as Synapse lists it."""
    return {"event_id": event_id, "type": "m.room.message", "sender": sender, "content": {"body": "hello"}, **more}


def matrix_error(errcode: str, error: str) -> Json:
    return {"errcode": errcode, "error": error}


class Wire:
    """A real socket that gives one answer to each connection, or with C(None) hangs up. Keeps what it was sent."""

    def __init__(self, answers: Iterable[bytes | None]) -> None:
        self.requests: list[str] = []
        self._answers = deque(answers)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while self._answers:
            try:
                connection, _address = self._socket.accept()
            except OSError:
                return
            with connection:
                self.requests.append(connection.recv(65536).decode("latin-1"))
                answer = self._answers.popleft()
                if answer is not None:
                    connection.sendall(answer)

    def close(self) -> None:
        self._socket.close()
        self._answers.clear()


def http(body: bytes = b"{}", status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode() + body
