# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A remote Matrix server over TLS on loopback that answers as Synapse and others do, until a fault is injected.

Example::

    room = Room({"@alice:gone.example": "join"})
    with RemoteServer(certificate, rooms=[room], peers=[our_key.key_answer()]) as server:
        server.inject("make_leave", faults.template(type="m.room.message"))
        ...
        assert not server.unneeded_leaves
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, Iterable, Iterator
from urllib.parse import quote

import requests
import trustme

from . import tls_server
from .answers import CURRENT, IMPLEMENTATIONS, Answer, Request
from .faults import Fault
from .rooms import InvalidEventError, Json, Room, ServerKey, content_hash, event_id, public_keys, redact, verify
from .tls_server import TlsServer

_PARAMETER = re.compile(r'(\w+)=(?:"([^"]*)"|([^",]*))')


@dataclass
class _Planned:
    endpoint: str
    fault: Fault
    left: int | None  # how many times it is still injected; None: always


class RemoteServer:
    """A remote server named ``localhost:PORT``, listening until it is stopped."""

    def __init__(
        self,
        certificate: trustme.LeafCert,
        *,
        rooms: Iterable[Room] = (),
        peers: Iterable[Json] = (),
        implementation: str = "synapse",
        latency: float = 0.0,
        port: int = 0,
        ca_file: str | None = None,
    ) -> None:
        """``peers`` are the key answers of the servers whose signatures it accepts; ``latency`` is in seconds.

        With ``ca_file``, it sends requests as well: a server that it has heard of for the first time is told all rooms
        in which accounts of it are joined, as a server does that has given up on another one.
        """
        self.certificate = certificate
        self.latency = latency
        self.rooms = {room.room_id: room for room in rooms}
        self.known_keys: dict[str, Json] = {answer["server_name"]: answer for answer in peers}
        #: All requests so far, in the order in which they arrived.
        self.requests: list[Request] = []
        #: The leave events that it was sent and has answered with 200.
        self.leaves: list[Json] = []
        #: Room ID and user ID of each leave event that it was sent though the user was not in the room.
        self.unneeded_leaves: list[tuple[str, str]] = []
        self._ca_file = ca_file
        self._woken: set[str] = set()
        self._faults: list[_Planned] = []
        self._lock = Lock()
        self._stopping = Event()
        self._server = TlsServer(certificate, self._answer, "127.0.0.1", port)
        self.port = self._server.address[1]
        self.server_name = f"localhost:{self.port}"
        self.key = ServerKey(self.server_name)
        self._normal = IMPLEMENTATIONS[implementation](self.key, self.rooms, self.known_keys)

    # Running

    def __enter__(self) -> RemoteServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Refuse connections from now on, and end those that there are."""
        self._stopping.set()
        self._server.close()

    def start(self) -> None:
        """Listen again at the same port after ``stop``."""
        self._stopping.clear()
        self._server = TlsServer(self.certificate, self._answer, "127.0.0.1", self.port)

    def _wait(self, seconds: float) -> None:
        """Wait, but not beyond the stop of the server."""
        if seconds > 0:
            self._stopping.wait(seconds)

    # Faults

    def inject(self, endpoint: str, fault: Fault, times: int | None = None) -> None:
        """Answer wrongly to the next requests, or to all, at an endpoint ("make_leave", "*" for any, or a path).

        Of several faults at an endpoint, the one that was added first comes first.
        """
        with self._lock:
            self._faults.append(_Planned(endpoint, fault, times))

    def remove_faults(self) -> None:
        """Answer as usual again."""
        with self._lock:
            self._faults.clear()

    def _next_fault(self, endpoint: str) -> Fault | None:
        with self._lock:
            for planned in self._faults:
                if planned.endpoint in (endpoint, "*") and planned.left != 0:
                    if planned.left:
                        planned.left -= 1
                    return planned.fault
        return None

    # Answering

    def _answer(self, received: tls_server.Request) -> bytes | Iterable[bytes]:
        answer = self._respond(Request(received.method, received.target, received.headers, received.body))
        self._wait(self.latency + answer.delay)
        if answer.status is not None and isinstance(answer.body, bytes):
            return answer.head + answer.body
        return self._pieces(answer)

    def _pieces(self, answer: Answer) -> Iterator[bytes]:
        yield answer.head
        for piece in answer.pieces:
            if self._stopping.is_set():
                return
            yield piece
            self._wait(answer.pause)

    def _respond(self, request: Request) -> Answer:
        """The answer to a request, which is recorded."""
        request.origin = self._authenticated(request)
        with self._lock:
            self.requests.append(request)
            wakes = request.origin is not None and self._ca_file is not None and request.origin not in self._woken
            if wakes:
                self._woken.add(str(request.origin))
        if wakes:
            Thread(target=self.tell, args=[request.origin], daemon=True).start()
        if request.endpoint == "send_leave":
            self._watch_leave(request)
        fault = self._next_fault(request.endpoint)
        answer = fault(lambda: self._normal.answer(request)) if fault else self._normal.answer(request)
        request.status = answer.status
        if request.endpoint == "send_leave" and answer.status == 200:
            self.leaves.append(request.json)
        return answer

    def _watch_leave(self, request: Request) -> None:
        room = self.rooms.get(request.arguments[0])
        user_id = request.json.get("state_key")
        if room is None or room.membership(user_id) not in CURRENT:
            self.unneeded_leaves.append((request.arguments[0], user_id))

    def _authenticated(self, request: Request) -> str | None:
        """The server that signed the request ("Request Authentication" in the server-server API)."""
        scheme, _blank, parameters = request.headers.get("authorization", "").partition(" ")
        given = {name: quoted or bare for name, quoted, bare in _PARAMETER.findall(parameters)}
        if scheme != "X-Matrix" or not {"origin", "destination", "key", "sig"} <= given.keys():
            return None
        origin: str = given["origin"]
        if origin not in self.known_keys or given["destination"] != self.server_name:
            return None
        signed: Json = {
            "method": request.method,
            "uri": request.target,
            "origin": origin,
            "destination": self.server_name,
            "signatures": {origin: {given["key"]: given["sig"]}},
        }
        if request.body:
            signed["content"] = request.json
        try:
            verify(signed, origin, public_keys(self.known_keys[origin]))
        except InvalidEventError:
            return None
        return origin

    # Requests of its own

    def send(self, method: str, destination: str, target: str, content: Json | None = None) -> Any:
        """Send a signed request to another server. The answer must be 200."""
        signed: Json = {"method": method, "uri": target, "origin": self.server_name, "destination": destination}
        if content is not None:
            signed["content"] = content
        ((key_id, signature),) = self.key.sign(signed)["signatures"][self.server_name].items()
        header = f'X-Matrix origin="{self.server_name}",destination="{destination}",key="{key_id}",sig="{signature}"'
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(
                method,
                f"https://{destination}{target}",
                json=content,
                headers={"Authorization": header},
                verify=self._ca_file,
                timeout=300,
            )
        answer.raise_for_status()
        return answer.json()

    def tell(self, destination: str) -> None:
        """Send the newest event of each room in which accounts of another server are joined."""
        shared = [room for room in list(self.rooms.values()) if room.has_joined(destination)]
        pdus = [room.event(room.newest()) for room in shared]
        content = {"origin": self.server_name, "origin_server_ts": int(time.time() * 1000), "pdus": pdus}
        self.send("PUT", destination, f"/_matrix/federation/v1/send/{time.monotonic_ns()}", content)

    def join(self, user_id: str, room_id: str, destination: str, room_version: str = "10") -> None:
        """Let an account of this server join a room of another server."""
        path = f"{quote(room_id, safe='')}/{quote(user_id, safe='')}"
        made = self.send("GET", destination, f"/_matrix/federation/v1/make_join/{path}?ver={room_version}")
        event = {**made["event"], "origin": self.server_name, "origin_server_ts": int(time.time() * 1000)}
        for name in ("signatures", "unsigned", "hashes"):
            event.pop(name, None)
        event["hashes"] = {"sha256": content_hash(event)}
        event["signatures"] = self.key.sign(redact(event, room_version))["signatures"]
        path = f"{quote(room_id, safe='')}/{quote(event_id(event, room_version), safe='')}"
        self.send("PUT", destination, f"/_matrix/federation/v2/send_join/{path}", event)

    # What it was asked

    def asked(self, endpoint: str, *arguments: str) -> list[Request]:
        """The requests at an endpoint; with arguments, those about that room, user or event."""
        with self._lock:
            requests = list(self.requests)
        return [
            each for each in requests if each.endpoint == endpoint and each.arguments[: len(arguments)] == arguments
        ]
