# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Synapse, Dendrite, Conduit and tuwunel answer to the requests of the federation client.

Facts only, as measured or read in their sources. The endpoints are in the server-server API of the specification.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Callable, Iterable, Iterator, Mapping
from urllib.parse import parse_qsl, unquote, urlsplit

from .rooms import InvalidEventError, Json, Room, ServerKey, event_id, public_keys, server_of, verify_event

_FEDERATION = ("/_matrix/federation/v1/", "/_matrix/federation/v2/")
_QUERY_KEYS = "/_matrix/key/v2/query/"
_ENDPOINTS = {"/_matrix/key/v2/server": "server_keys"}
#: Memberships that a leave event can end.
CURRENT = ("join", "invite", "knock")


@dataclass
class Request:
    """A request as a stub server has received it."""

    method: str
    #: Path and query as they were sent.
    target: str
    #: Names in lower case.
    headers: Mapping[str, str]
    body: bytes
    #: The server that has signed the request; ``None`` if nobody has, or not validly.
    origin: str | None = None
    #: The status of the answer, once it is known.
    status: int | None = None
    #: What is asked for ("state_ids", "query_keys", ...); the path itself if it is none of the federation API's.
    endpoint: str = field(init=False)
    #: What the path has after the endpoint, decoded: room ID, user ID or event ID.
    arguments: tuple[str, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        path = urlsplit(self.target).path
        self.endpoint = _ENDPOINTS.get(path, path)
        if path.startswith(_FEDERATION):
            self.endpoint, *arguments = path.split("/")[4:]
            self.arguments = tuple(map(unquote, arguments))
        elif path.startswith(_QUERY_KEYS):
            self.endpoint, self.arguments = "query_keys", (unquote(path[len(_QUERY_KEYS) :]),)

    @property
    def query(self) -> dict[str, str]:
        """The parameters of the query."""
        return dict(parse_qsl(urlsplit(self.target).query))

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """An answer of a stub server."""

    #: ``None`` sends the body alone, without a status line and headers of our own, and closes the connection.
    status: int | None
    #: Bytes are sent with their length; pieces until there are no more, and then the connection is closed.
    body: bytes | Iterable[bytes] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    #: Seconds to wait before the answer, and between two pieces of the body.
    delay: float = 0.0
    pause: float = 0.0

    @classmethod
    def of(cls, status: int, content: Any, **headers: str) -> Answer:
        """An answer in JSON."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, json.dumps(content).encode(), {"Content-Type": "application/json", **named})

    @property
    def head(self) -> bytes:
        """Status line and headers; nothing if there is no status."""
        if self.status is None:
            return b""
        framing = {"Content-Length": len(self.body)} if isinstance(self.body, bytes) else {"Connection": "close"}
        headers = {**self.headers, **framing}
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()

    @property
    def pieces(self) -> Iterable[bytes]:
        """The body, in pieces."""
        return [self.body] if isinstance(self.body, bytes) else self.body

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(b"".join(self.pieces))


class Synapse:
    """The answers of Synapse 1.163, on which those of the others are built."""

    name, version = "Synapse", "1.163.2"
    #: Whether ``state`` at an event has that event itself.
    inclusive_state = False

    def __init__(self, key: ServerKey, rooms: Mapping[str, Room], known_keys: Mapping[str, Json]) -> None:
        """``known_keys`` has the key answers of other servers, by their names."""
        self.key = key
        self.rooms = rooms
        self.known_keys = known_keys

    def answer(self, request: Request) -> Answer:
        """The answer to a request."""
        public: dict[str, Callable[[Request], Answer]] = {
            "version": self._version,
            "server_keys": lambda _: Answer.of(200, self.key.key_answer()),
            "query_keys": self._query_keys,
        }
        signed: dict[str, Callable[[Request, str], Answer]] = {
            "state_ids": self._state_ids,
            "state": self._state,
            "timestamp_to_event": self._timestamp_to_event,
            "event": self._event,
            "make_leave": self._make_leave,
            "send_leave": self._send_leave,
        }
        if request.endpoint in public:
            return public[request.endpoint](request)
        if request.endpoint not in signed:
            return self.error(404, "M_UNRECOGNIZED", "Unrecognized request")
        if request.origin is None:
            return self.error(401, "M_UNAUTHORIZED", "Invalid signature")
        return signed[request.endpoint](request, request.origin)

    def error(self, status: int, errcode: str, text: str) -> Answer:
        """An error as this implementation words it."""
        return Answer.of(status, {"errcode": errcode, "error": text})

    # Keys and version

    def _version(self, request: Request) -> Answer:
        return Answer.of(200, {"server": {"name": self.name, "version": self.version}})

    def _query_keys(self, request: Request) -> Answer:
        known = self.known_keys.get(request.arguments[0])
        return Answer.of(200, {"server_keys": [self.key.sign(known)] if known else []})

    # Reading rooms

    def _refused(self, room: Room | None, origin: str, at: str | None = None) -> Answer | None:
        """The refusal of a server that may not read the room, or not its state at an event."""
        if room is not None and room.partial_state:
            errcode = "ORG.MATRIX.MSC3895_UNABLE_DUE_TO_PARTIAL_STATE"
            return self.error(403, errcode, "Unable to authorise you right now; room is partial-stated here.")
        if room is None or not room.has_joined(origin):
            return self.error(403, "M_FORBIDDEN", "Host not in room.")
        return self._banned(room, origin)

    def _banned(self, room: Room, origin: str) -> Answer | None:
        text = "Server is banned from room"
        return self.error(403, "M_FORBIDDEN", text) if origin in room.banned_servers else None

    def _no_event(self, wanted: str) -> Answer:
        return self.error(404, "M_NOT_FOUND", f"Could not find event {wanted}")

    def _state_at(self, request: Request, origin: str) -> Answer | tuple[list[Json], list[Json], Room]:
        room = self.rooms.get(request.arguments[0])
        at = request.query.get("event_id", "")
        refused = self._refused(room, origin)
        if refused or room is None:
            return refused or self._no_event(at)
        if room.event(at) is None:
            return self._no_event(at)
        refused = self._refused(room, origin, at)
        if refused:
            return refused
        state = room.state(at, inclusive=self.inclusive_state)
        return state, room.auth_chain(state), room

    def _state_ids(self, request: Request, origin: str) -> Answer:
        found = self._state_at(request, origin)
        if isinstance(found, Answer):
            return found
        state, chain, room = found
        named = {"pdu_ids": state, "auth_chain_ids": chain}
        return Answer.of(
            200, {name: [event_id(each, room.version) for each in events] for name, events in named.items()}
        )

    def _state(self, request: Request, origin: str) -> Answer:
        found = self._state_at(request, origin)
        if isinstance(found, Answer):
            return found
        return Answer.of(200, {"pdus": found[0], "auth_chain": found[1]})

    def _timestamp_to_event(self, request: Request, origin: str) -> Answer:
        room = self.rooms.get(request.arguments[0])
        refused = self._refused(room, origin)
        if refused or room is None:
            return refused or self._no_event("")
        newest = room.newest()
        event = room.event(newest) or {}
        return Answer.of(200, {"event_id": newest, "origin_server_ts": event["origin_server_ts"]})

    def _event(self, request: Request, origin: str) -> Answer:
        wanted = request.arguments[0]
        for room in list(self.rooms.values()):
            event = room.event(wanted)
            if event is not None:
                now = event["origin_server_ts"]
                found = Answer.of(200, {"origin": self.key.server_name, "origin_server_ts": now, "pdus": [event]})
                return self._refused_event(room, origin, wanted) or found
        return self._no_such_event(wanted)

    def _refused_event(self, room: Room, origin: str, wanted: str) -> Answer | None:
        return None if room.has_joined(origin) else self.error(403, "M_FORBIDDEN", "Host not in room.")

    def _no_such_event(self, wanted: str) -> Answer:
        return Answer.of(404, "")

    # Leaving

    def _make_leave(self, request: Request, origin: str) -> Answer:
        room_id, user_id = request.arguments
        room = self.rooms.get(room_id)
        if room is None:
            return self._unknown_room(room_id)
        refused = self._banned(room, origin) or self._no_leave(room, origin, user_id)
        if refused:
            return refused
        return Answer.of(200, {"room_version": room.version, "event": self._template(room, user_id)})

    def _unknown_room(self, room_id: str) -> Answer:
        return self.error(404, "M_NOT_FOUND", f"Could not find room_version for {room_id}")

    def _no_leave(self, room: Room, origin: str, user_id: str) -> Answer | None:
        """The refusal to make a leave event for a user."""
        if server_of(user_id) != origin:
            return self.error(403, "M_FORBIDDEN", "User not from origin")
        if room.membership(user_id) not in CURRENT:
            return self.error(403, "M_FORBIDDEN", f"{user_id} not in room {room.room_id}.")
        return None

    def _template(self, room: Room, user_id: str) -> Json:
        return room.leave_template(user_id)

    def _send_leave(self, request: Request, origin: str) -> Answer:
        room_id, sent_id = request.arguments
        room = self.rooms.get(room_id)
        if room is None:
            return self._unknown_room(room_id)
        event: Json = request.json
        wrong = next(_faults(event, room, sent_id), None)
        if wrong:
            return self.error(400, "M_BAD_JSON", wrong)
        refused = self._banned(room, origin) or self._unauthorized(room, origin, event)
        if refused:
            return refused
        try:
            verify_event(event, room.version, origin, public_keys(self.known_keys[origin]))
        except InvalidEventError as error:
            return self.error(403, "M_FORBIDDEN", f"event id {sent_id}: {error}")
        # Of a second leave nothing more comes, whatever the answer is.
        if room.membership(event["sender"]) in CURRENT:
            room.accept(event)
        return Answer.of(200, {})

    def _unauthorized(self, room: Room, origin: str, event: Json) -> Answer | None:
        """The refusal of a leave event, which goes by the membership in its auth_events: not by that of now."""
        authorizing = [room.event(each) or {} for each in room.referred(event["auth_events"])]
        own = [each["content"]["membership"] for each in authorizing if each.get("state_key") == event["sender"]]
        if server_of(event["sender"]) == origin and own and own[0] in CURRENT:
            return None
        return self._no_leave(room, origin, event["sender"]) or self.error(403, "M_FORBIDDEN", "Not authorized")


def _faults(event: Json, room: Room, sent_id: str) -> Iterator[str]:
    """What is wrong with a leave event, but for hash and signature."""
    if event.get("room_id") != room.room_id:
        yield "Room ID in body does not match that in request path"
    if event.get("type") != "m.room.member" or event.get("content", {}).get("membership") != "leave":
        yield "Not a leave event"
    if event.get("state_key") != event.get("sender"):
        yield "Event state key must match the event sender."
    if event_id(event, room.version) != sent_id:
        yield "The event ID in the request path must match the event ID in the leave event JSON"
    for name in ("prev_events", "auth_events"):
        if not event[name] or not all(room.event(each) for each in room.referred(event[name])):
            yield f"Unknown {name}"


class Dendrite(Synapse):
    """The answers of Dendrite 0.13.8.

    It does not look at who asks, but at whether the server may see the event that is asked for.
    """

    name, version = "Dendrite", "0.13.8"
    inclusive_state = True

    def answer(self, request: Request) -> Answer:
        """The answer to a request, whose body must be said to be JSON."""
        if request.body and request.headers.get("content-type") != "application/json":
            return Answer.of(400, {"message": "Bad Request"})
        return super().answer(request)

    def _refused(self, room: Room | None, origin: str, at: str | None = None) -> Answer | None:
        if room is None:
            return self.error(404, "M_NOT_FOUND", "This server is not joined to room")
        return self._banned(room, origin) or (self._refused_event(room, origin, at) if at else None)

    def _banned(self, room: Room, origin: str) -> Answer | None:
        text = "Forbidden by server ACLs"
        return self.error(403, "M_FORBIDDEN", text) if origin in room.banned_servers else None

    def _refused_event(self, room: Room, origin: str, wanted: str) -> Answer | None:
        if room.world_readable or (room.history_visibility == "shared" and room.has_joined(origin)):
            return None
        for event in room.state(wanted, inclusive=False):
            if event["type"] == "m.room.member" and server_of(event["state_key"]) == origin:
                membership = event["content"]["membership"]
                if membership == "join" or (membership, room.history_visibility) == ("invite", "invited"):
                    return None
        return Answer.of(403, {"message": "server not allowed to see event"})

    def _no_event(self, wanted: str) -> Answer:
        return self.error(404, "M_NOT_FOUND", "Event not found")

    _no_such_event = _no_event

    def _timestamp_to_event(self, request: Request, origin: str) -> Answer:
        return self.error(404, "M_UNRECOGNIZED", "Unrecognized request")

    def _unknown_room(self, room_id: str) -> Answer:
        return Answer.of(500, {"Err": ""})

    def _no_leave(self, room: Room, origin: str, user_id: str) -> Answer | None:
        if server_of(user_id) != origin:
            text = f"The leave must be sent by the server of the user. Origin {origin} != {server_of(user_id)}"
            return self.error(403, "M_FORBIDDEN", text)
        if room.membership(user_id) == "ban":
            return self.error(403, "M_FORBIDDEN", "eventauth: the user is banned")
        return None

    def _unauthorized(self, room: Room, origin: str, event: Json) -> Answer | None:
        return self._no_leave(room, origin, event["sender"])

    def _template(self, room: Room, user_id: str) -> Json:
        template = room.leave_template(user_id)
        del template["origin_server_ts"]
        return template


class Conduit(Synapse):
    """The answers of Conduit 0.11."""

    name, version = "Conduit", "0.11.0-alpha"

    def error(self, status: int, errcode: str, text: str) -> Answer:
        """An error, whose text repeats the errcode."""
        return super().error(status, errcode, f"{errcode}: {text}")

    def _refused(self, room: Room | None, origin: str, at: str | None = None) -> Answer | None:
        if room is None or not room.has_joined(origin):
            return self.error(403, "M_FORBIDDEN", "Server is not in room.")
        return self._banned(room, origin)

    def _banned(self, room: Room, origin: str) -> Answer | None:
        text = "Server was denied by ACL"
        return self.error(403, "M_FORBIDDEN", text) if origin in room.banned_servers else None

    def _refused_event(self, room: Room, origin: str, wanted: str) -> Answer | None:
        return self._refused(room, origin)

    def _no_event(self, wanted: str) -> Answer:
        return self.error(404, "M_NOT_FOUND", "Pdu state not found.")

    def _no_such_event(self, wanted: str) -> Answer:
        return self.error(404, "M_NOT_FOUND", "Event not found.")

    def _timestamp_to_event(self, request: Request, origin: str) -> Answer:
        return super().error(404, "M_UNRECOGNIZED", "Unrecognized request")

    def _unknown_room(self, room_id: str) -> Answer:
        return self.error(404, "M_NOT_FOUND", "Room is unknown to this server.")

    def _no_leave(self, room: Room, origin: str, user_id: str) -> Answer | None:
        if server_of(user_id) == origin and room.membership(user_id) in CURRENT:
            return None
        return self.error(403, "M_FORBIDDEN", "Event is not authorized.")

    def _template(self, room: Room, user_id: str) -> Json:
        """A whole event, with hashes and a signature of Conduit's own."""
        template = {**room.leave_template(user_id), "origin": self.key.server_name}
        return self.key.sign({**template, "hashes": {"sha256": "A" * 43}})


class Tuwunel(Conduit):
    """The answers of tuwunel, a descendant of Conduit."""

    name, version = "Tuwunel", "1.5.0"

    def _refused(self, room: Room | None, origin: str, at: str | None = None) -> Answer | None:
        if room is not None and origin in room.banned_servers:
            return self.error(403, "M_FORBIDDEN", "Server access denied.")
        if room is None or not (room.world_readable or room.has_joined(origin) or room.members(None, "knock")):
            return self.error(403, "M_FORBIDDEN", "Server is not in room.")
        return None

    def _banned(self, room: Room, origin: str) -> Answer | None:
        text = "Server was denied by room ACL"
        return self.error(403, "M_FORBIDDEN", text) if origin in room.banned_servers else None

    _no_event = Conduit._no_such_event
    _timestamp_to_event = Synapse._timestamp_to_event


IMPLEMENTATIONS: dict[str, type[Synapse]] = {
    "synapse": Synapse,
    "dendrite": Dendrite,
    "conduit": Conduit,
    "tuwunel": Tuwunel,
}
