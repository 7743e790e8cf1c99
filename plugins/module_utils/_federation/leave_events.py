# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The leave events that are signed: how they are built, hashed and identified in each room version.

A remote server proposes a leave event (C(make_leave)). It is never signed as it is. The signed event is built here, and
takes only the room version, the references to other events and the depth from the proposal, after validation.

Specified in U(https://spec.matrix.org/latest/rooms/) for each room version, and in
U(https://spec.matrix.org/latest/server-server-api/), "Signing Events". Unstable versions follow Synapse.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass, replace
from typing import Any, Collection, Mapping, NamedTuple

from .errors import EventError, InvalidNameError
from .names import check_event_id, check_room_id, check_user_id
from .signing import JsonDict, SigningKey, canonical_json

MAX_PREV_EVENTS = 20
MAX_AUTH_EVENTS = 10
"""Maximum numbers of references in an event, by the specification of PDUs."""


@dataclass(frozen=True)
class RoomVersion:
    """How events are formed in a room version.

    C(altchars): the last two characters of the base64 alphabet of event IDs, which are hashes of the event. C(None) in
    versions 1 and 2: the sending server chooses the ID, and references contain a hash next to the ID.
    C(keys), C(content): the keys of an event, and the keys of its content by event type, that a redaction keeps.
    C(None): the whole content.
    C(auth_key): the key of the references to the events that authorize an event.
    """

    altchars: str | None
    max_depth: int
    keys: frozenset[str]
    content: Mapping[str, frozenset[str] | None]
    auth_key: str = "auth_events"
    create_has_room_id: bool = True

    @property
    def event_id_pattern(self) -> re.Pattern[str]:
        """The form of event IDs that are hashes."""
        return re.compile(rf"\$[A-Za-z0-9{re.escape(self.altchars or '')}]{{43}}")


def _keys(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _with(version: RoomVersion, content: Mapping[str, frozenset[str] | None], **changes: Any) -> RoomVersion:
    return replace(version, content={**version.content, **content}, **changes)


_V1 = RoomVersion(
    altchars=None,
    max_depth=2**63 - 1,
    keys=_keys(
        "event_id type room_id sender state_key content hashes signatures depth prev_events prev_state auth_events "
        "origin origin_server_ts membership"
    ),
    content={
        "m.room.member": _keys("membership"),
        "m.room.create": _keys("creator"),
        "m.room.join_rules": _keys("join_rule"),
        "m.room.power_levels": _keys("ban events events_default kick redact state_default users users_default"),
        "m.room.aliases": _keys("aliases"),
        "m.room.history_visibility": _keys("history_visibility"),
    },
)
_V3 = replace(_V1, altchars="+/")
_V4 = replace(_V1, altchars="-_")
_V6 = _with(_V4, {"m.room.aliases": _keys("")}, max_depth=2**53 - 1)
_V8 = _with(_V6, {"m.room.join_rules": _keys("join_rule allow")})
_V9 = _with(_V8, {"m.room.member": _keys("membership join_authorised_via_users_server")})
_V11 = _with(
    _V9,
    {
        "m.room.member": _keys("membership join_authorised_via_users_server third_party_invite"),
        "m.room.create": None,
        "m.room.power_levels": _keys("ban events events_default invite kick redact state_default users users_default"),
        "m.room.redaction": _keys("redacts"),
    },
    keys=_V9.keys - _keys("prev_state origin membership"),
)
_V12 = replace(_V11, create_has_room_id=False)
_MSC4242 = replace(
    _V12, auth_key="prev_state_events", keys=_V12.keys - _keys("auth_events") | _keys("prev_state_events")
)

ROOM_VERSIONS: Mapping[str, RoomVersion] = {
    "1": _V1,
    "2": _V1,
    "3": _V3,
    "4": _V4,
    "5": _V4,
    "6": _V6,
    "7": _V6,
    "8": _V8,
    "9": _V9,
    "10": _V9,
    "11": _V11,
    "12": _V12,
    "org.matrix.hydra.11": _V12,
    "org.matrix.msc1767.10": _V9,
    "org.matrix.msc3757.10": _V9,
    "org.matrix.msc3757.11": _V11,
    "org.matrix.msc4242.12": _MSC4242,
}
"""All versions that Synapse 1.163 supports, including those that need an experimental option."""


class EventReference(NamedTuple):
    """A reference to an event: its ID, and in room versions 1 and 2 also its hash in unpadded base64."""

    event_id: str
    sha256: str | None = None

    def to_json(self) -> Any:
        """Return the reference in the form in which an event contains it."""
        return self.event_id if self.sha256 is None else [self.event_id, {"sha256": self.sha256}]


@dataclass(frozen=True)
class LeaveTemplate:
    """The validated parts of a leave event that a remote server proposes.

    In room version org.matrix.msc4242.12, C(auth_events) has the C(prev_state_events).
    """

    room_version: str
    prev_events: tuple[EventReference, ...]
    auth_events: tuple[EventReference, ...]
    depth: int


def room_version_of(identifier: Any) -> RoomVersion:
    """Look up a room version in C(ROOM_VERSIONS).

    :raises EventError: if it is not supported.
    """
    if not isinstance(identifier, str) or identifier not in ROOM_VERSIONS:
        shown = repr(identifier[:40]) if isinstance(identifier, str) else f"of type {type(identifier).__name__}"
        raise EventError(f"room version {shown} is not supported")
    return ROOM_VERSIONS[identifier]


def read_template(answer: JsonDict, room_id: str, user_id: str) -> LeaveTemplate:
    """Validate the answer to C(GET /_matrix/federation/v1/make_leave/<room_id>/<user_id>).

    Without C(room_version), the version is 1 or 2, which have the same event format. Other keys are ignored.

    :raises EventError: if the room version is not supported, if the event is not a leave of this account from this
        room, if the depth or a reference has the wrong form, or if there are too many references.
    """
    identifier = answer.get("room_version", "1")
    version = room_version_of(identifier)
    event = answer.get("event")
    if not isinstance(event, dict):
        raise EventError("make_leave template: event is not an object")
    _assert_leave(event, room_id, user_id)
    depth = event.get("depth")
    if not isinstance(depth, int) or isinstance(depth, bool) or not 1 <= depth <= version.max_depth:
        raise EventError(f"make_leave template: depth is not an integer from 1 to {version.max_depth}")
    prev_events = _read_references(event, "prev_events", version, MAX_PREV_EVENTS)
    if not prev_events:
        raise EventError("make_leave template: prev_events is empty")
    auth_limit = MAX_AUTH_EVENTS if version.auth_key == "auth_events" else MAX_PREV_EVENTS
    return LeaveTemplate(identifier, prev_events, _read_references(event, version.auth_key, version, auth_limit), depth)


def _assert_leave(event: JsonDict, room_id: str, user_id: str) -> None:
    """Refuse any event but the requested leave. Its values are not used, but the server is faulty or hostile."""
    content = event.get("content", {})
    if not isinstance(content, dict):
        raise EventError("make_leave template: content is not an object")
    expected = {"type": "m.room.member", "room_id": room_id, "sender": user_id, "state_key": user_id}
    for key, value in expected.items():
        if event.get(key, value) != value:
            raise EventError(f"make_leave template: {key} is not {value}")
    if content.get("membership", "leave") != "leave":
        raise EventError("make_leave template: membership is not leave")


def _read_references(event: JsonDict, key: str, version: RoomVersion, limit: int) -> tuple[EventReference, ...]:
    values = event.get(key)
    if not isinstance(values, list) or len(values) > limit:
        raise EventError(f"make_leave template: {key} is not a list of at most {limit} references")
    references = tuple(_read_reference(value, key, version) for value in values)
    if len({reference.event_id for reference in references}) < len(references):
        raise EventError(f"make_leave template: {key} contains duplicates")
    return references


def _read_reference(value: Any, key: str, version: RoomVersion) -> EventReference:
    if version.altchars is not None:
        if isinstance(value, str) and version.event_id_pattern.fullmatch(value) is not None:
            return EventReference(value)
    elif isinstance(value, list) and len(value) == 2:
        event_id, hashes = value
        if _is_chosen_event_id(event_id) and _is_sha256(hashes):
            return EventReference(event_id, hashes["sha256"])
    raise EventError(f"make_leave template: {key} contains an invalid reference")


def _is_chosen_event_id(value: Any) -> bool:
    """Whether a value is an event ID of room versions 1 and 2, C($<opaque>:<server name>)."""
    if not isinstance(value, str) or ":" not in value:
        return False
    try:
        check_event_id(value)
    except InvalidNameError:
        return False
    return True


def _is_sha256(value: Any) -> bool:
    """Whether a value is an object with a SHA-256 hash in unpadded base64 as its only key."""
    if not isinstance(value, dict) or set(value) != {"sha256"} or not isinstance(value["sha256"], str):
        return False
    return re.fullmatch(r"[A-Za-z0-9+/]{43}", value["sha256"]) is not None


def build_leave(
    template: LeaveTemplate,
    room_id: str,
    user_id: str,
    server_name: str,
    key: SigningKey,
    now_ms: int,
    event_id_random: str | None = None,
) -> tuple[str, JsonDict]:
    """Build and sign the event with which a local account leaves a room. Return event ID and event.

    The event is sent with C(PUT /_matrix/federation/v2/send_leave/<room_id>/<event_id>).

    :param now_ms: the time of the event in ms since 1970.
    :param event_id_random: the opaque part of the event ID in room versions 1 and 2. Default: random.
    :raises InvalidNameError: if the account is not of I(server_name), or the room ID is invalid.
    :raises MissingRequirementError: if signedjson cannot be imported.
    """
    check_room_id(room_id)
    check_user_id(user_id, server_name)
    version = ROOM_VERSIONS[template.room_version]
    event: JsonDict = {
        "type": "m.room.member",
        "room_id": room_id,
        "sender": user_id,
        "state_key": user_id,
        "content": {"membership": "leave"},
        "depth": template.depth,
        "origin_server_ts": now_ms,
        "prev_events": [reference.to_json() for reference in template.prev_events],
        version.auth_key: [reference.to_json() for reference in template.auth_events],
    }
    if version.altchars is None:
        event["event_id"] = f"${event_id_random or secrets.token_urlsafe(15)}:{server_name}"
    event["hashes"] = {"sha256": content_hash(event)}
    event["signatures"] = key.sign(redact(event, version), server_name)["signatures"]
    return event_id(event, template.room_version), event


def content_hash(event: JsonDict) -> str:
    """Return the content hash of an event in unpadded base64: SHA-256 without hashes, signatures and unsigned.

    :raises EventError: if the event cannot be encoded.
    :raises MissingRequirementError: if signedjson cannot be imported.
    """
    return _sha256(event, without=("hashes", "signatures", "unsigned"), altchars="+/")


def event_id(event: JsonDict, room_version: str) -> str:
    """Return the ID of an event, which is its reference hash since room version 3.

    :raises EventError: if the room version is not supported, or the event is malformed.
    :raises MissingRequirementError: if signedjson cannot be imported.
    """
    version = room_version_of(room_version)
    if version.altchars is None:
        chosen = event.get("event_id")
        if not _is_chosen_event_id(chosen):
            raise EventError("event_id is missing or invalid")
        return str(chosen)
    return "$" + _sha256(redact(event, version), without=("signatures",), altchars=version.altchars)


def redact(event: JsonDict, version: RoomVersion) -> JsonDict:
    """Return the redacted form of an event, over which signatures and reference hashes are computed.

    C(unsigned) is removed: it is neither signed nor hashed.

    :raises EventError: if C(type) is not a string or C(content) not an object.
    """
    kind, content = event.get("type"), event.get("content")
    if not isinstance(kind, str) or not isinstance(content, dict):
        raise EventError("event without a type or without content")
    keys = version.keys
    if kind == "m.room.create" and not version.create_has_room_id:
        keys -= {"room_id"}
    kept = version.content.get(kind, frozenset())
    redacted = dict(content) if kept is None else _only(content, kept)
    if kind == "m.room.member" and "third_party_invite" in redacted:
        invite = redacted.pop("third_party_invite")
        if isinstance(invite, dict):
            redacted["third_party_invite"] = _only(invite, {"signed"})
    return {**_only(event, keys), "content": redacted}


def _only(values: JsonDict, keys: Collection[str]) -> JsonDict:
    return {key: value for key, value in values.items() if key in keys}


def _sha256(event: JsonDict, without: tuple[str, ...], altchars: str) -> str:
    """Return the SHA-256 hash of an event without some of its keys, in unpadded base64."""
    try:
        encoded = canonical_json({key: value for key, value in event.items() if key not in without})
    except (ValueError, TypeError, RecursionError):
        raise EventError("event cannot be encoded as canonical JSON") from None
    return base64.b64encode(hashlib.sha256(encoded).digest(), altchars.encode()).rstrip(b"=").decode()
