# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rooms of a stub server: members, and events with the hashes, signatures and IDs that the specification asks for.

This code shares nothing with the collection's own code for events, since it is used to check it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from threading import RLock
from typing import Any, Dict, Iterable, Mapping

from canonicaljson import encode_canonical_json
from signedjson.key import (
    decode_signing_key_base64,
    decode_verify_key_bytes,
    encode_verify_key_base64,
    get_verify_key,
)
from signedjson.sign import SignatureVerifyException, sign_json, verify_signed_json
from signedjson.types import SigningKey, VerifyKey
from unpaddedbase64 import decode_base64, encode_base64

Json = Dict[str, Any]

#: Room versions whose events the stub can build and verify.
ROOM_VERSIONS = tuple(str(number) for number in range(1, 13))
_START = 1_700_000_000_000  # origin_server_ts of the first event, in milliseconds
_FOREVER = 4_000_000_000_000  # a time in 2096, in milliseconds


class InvalidEventError(Exception):
    """An event with a wrong hash, signature or reference."""


@dataclass(frozen=True)
class ServerKey:
    """A server name and its ed25519 signing key. The key is derived from both fields, so it is the same in each run."""

    server_name: str
    key_id: str = "ed25519:a_stub"

    @property
    def _version(self) -> str:
        return self.key_id.partition(":")[2]

    @cached_property
    def _seed(self) -> str:
        return encode_base64(hashlib.sha256(f"{self.server_name} {self.key_id}".encode()).digest())

    @cached_property
    def _key(self) -> SigningKey:
        return decode_signing_key_base64("ed25519", self._version, self._seed)

    @property
    def key_file(self) -> str:
        """The text of Synapse's signing key file for this key."""
        return f"ed25519 {self._version} {self._seed}\n"

    @property
    def verify_keys(self) -> dict[str, Json]:
        """The public key as ``verify_keys`` of a key answer has it."""
        return {self.key_id: {"key": encode_verify_key_base64(get_verify_key(self._key))}}

    def sign(self, content: Mapping[str, Any]) -> Json:
        """A copy of a JSON object with a signature of this server added to ``signatures``."""
        copy = dict(content)
        copy["signatures"] = dict(copy.get("signatures", {}))
        signed: Json = sign_json(copy, self.server_name, self._key)
        return signed

    def key_answer(self, old_verify_keys: Mapping[str, Json] | None = None) -> Json:
        """What this server answers to ``GET /_matrix/key/v2/server``."""
        answer = {
            "server_name": self.server_name,
            "valid_until_ts": _FOREVER,
            "verify_keys": self.verify_keys,
            "old_verify_keys": dict(old_verify_keys or {}),
        }
        return self.sign(answer)


def public_keys(key_answer: Json) -> dict[str, VerifyKey]:
    """The current and the old keys in a key answer, by ID."""
    listed = {**key_answer.get("old_verify_keys", {}), **key_answer["verify_keys"]}
    return {key_id: decode_verify_key_bytes(key_id, decode_base64(entry["key"])) for key_id, entry in listed.items()}


def verify(content: Json, server_name: str, keys: Mapping[str, VerifyKey]) -> None:
    """Raise ``InvalidEventError`` unless ``content`` has a valid signature of the server, whose ``keys`` are by ID."""
    signatures = content.get("signatures", {}).get(server_name, {})
    for key_id in signatures:
        if key_id in keys:
            try:
                verify_signed_json(content, server_name, keys[key_id])
            except SignatureVerifyException as error:
                raise InvalidEventError(str(error)) from None
            return
    raise InvalidEventError(f"no signature of {server_name} by a known key")


# Events (https://spec.matrix.org/latest/rooms/ and the server-server API, "Signing events")

_KEPT = {
    *("event_id", "type", "room_id", "sender", "state_key", "content", "hashes", "signatures", "depth"),
    *("prev_events", "auth_events", "origin_server_ts"),
}
_KEPT_BEFORE_11 = {"origin", "membership", "prev_state"}
_POWER_LEVELS = {
    *("ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default"),
}


def _kept_content(kind: str, content: Json, version: int) -> Json:
    if kind == "m.room.create" and version >= 11:
        return content
    kept = {
        "m.room.create": {"creator"},
        "m.room.member": {"membership"} | ({"join_authorised_via_users_server"} if version >= 9 else set()),
        "m.room.join_rules": {"join_rule"} | ({"allow"} if version >= 8 else set()),
        "m.room.power_levels": _POWER_LEVELS | ({"invite"} if version >= 11 else set()),
        "m.room.aliases": {"aliases"} if version < 6 else set(),
        "m.room.history_visibility": {"history_visibility"},
        "m.room.redaction": {"redacts"} if version >= 11 else set(),
    }.get(kind, set())
    redacted = {name: value for name, value in content.items() if name in kept}
    invite = content.get("third_party_invite")
    if kind == "m.room.member" and version >= 11 and isinstance(invite, dict) and "signed" in invite:
        redacted["third_party_invite"] = {"signed": invite["signed"]}
    return redacted


def redact(event: Json, room_version: str) -> Json:
    """The redacted form of an event: what its signatures and its ID are about."""
    version = int(room_version)
    kept = _KEPT if version >= 11 else _KEPT | _KEPT_BEFORE_11
    redacted = {name: value for name, value in event.items() if name in kept}
    redacted["content"] = _kept_content(event["type"], event["content"], version)
    return redacted


def _sha256(content: Json, without: Iterable[str]) -> bytes:
    rest = {name: value for name, value in content.items() if name not in without}
    return hashlib.sha256(encode_canonical_json(rest)).digest()


def content_hash(event: Json) -> str:
    """The content hash of an event, in unpadded base64."""
    return encode_base64(_sha256(event, ("unsigned", "signatures", "hashes")))


def reference_hash(event: Json, room_version: str) -> bytes:
    """The hash by which other events refer to this one."""
    return _sha256(redact(event, room_version), ("unsigned", "signatures"))


def event_id(event: Json, room_version: str) -> str:
    """The ID of an event."""
    if int(room_version) < 3:
        given: str = event["event_id"]
        return given
    return "$" + encode_base64(reference_hash(event, room_version), urlsafe=int(room_version) > 3)


def verify_event(event: Json, room_version: str, server_name: str, keys: Mapping[str, VerifyKey]) -> None:
    """Raise ``InvalidEventError`` unless hash and signature of a server are right."""
    hashes = event.get("hashes")
    stated = hashes.get("sha256") if isinstance(hashes, dict) else None
    if stated != content_hash(event):
        raise InvalidEventError("the content hash is wrong")
    redacted = redact(event, room_version)
    redacted.pop("unsigned", None)
    verify(redacted, server_name, keys)


def server_of(user_id: str) -> str:
    """The server name in a user ID."""
    return user_id.partition(":")[2]


class Room:
    """A room as one server sees it; safe to use from several threads.

    Servers that are given the same object agree at all times, as if each event reached them at once; servers with
    objects of their own never hear of each other's events.

    The events are made when one is asked for first, so that thousands of rooms cost nothing until then.
    """

    def __init__(
        self,
        members: Mapping[str, str],
        *,
        name: str = "lounge",
        version: str = "10",
        room_id: str | None = None,
        creator: str = "@creator:rooms.example",
        history_visibility: str = "shared",
    ) -> None:
        """``members`` has the membership (join, invite, knock, leave or ban) by user ID, in the order of the events.

        ``name`` becomes a part of the room ID, or of the event that is hashed to it in version 12, unless there is a
        ``room_id``.
        """
        self.version = version
        self.creator = creator
        self.history_visibility = history_visibility
        #: Names of servers that the room's server ACL bars.
        self.banned_servers: set[str] = set()
        #: Whether the server has joined only just, and does not know all members yet.
        self.partial_state = False
        self._key = ServerKey(server_of(creator))
        self._members = {creator: "join", **members}
        self._lock = RLock()
        self._state: dict[tuple[str, str], str] = {}
        self._known: dict[str, Json] | None = None  # events by ID, oldest first
        self._create = self._create_event(name)
        if self._hashed:
            self.room_id = room_id or "!" + event_id(self._finish(self._create), version)[1:]
        else:
            self.room_id = self._create["room_id"] = room_id or f"!{name}:{server_of(creator)}"

    @property
    def _hashed(self) -> bool:
        return int(self.version) >= 12

    @property
    def world_readable(self) -> bool:
        """Whether anybody may read the room."""
        return self.history_visibility == "world_readable"

    def membership(self, user_id: str) -> str | None:
        """The membership of a user; ``None`` if the user has never been in the room."""
        return self._members.get(user_id)

    def members(self, server_name: str | None = None, membership: str = "join") -> list[str]:
        """The users of a server, or of all servers, that have this membership."""
        return [
            user
            for user, its in list(self._members.items())
            if its == membership and server_name in (None, server_of(user))
        ]

    def has_joined(self, server_name: str) -> bool:
        """Whether a user of the server is joined."""
        return bool(self.members(server_name))

    def set_membership(self, user_id: str, membership: str) -> None:
        """Change a membership, by an event of the user (join, knock, leave) or of the room's creator (invite, ban)."""
        with self._lock:
            self._members[user_id] = membership
            if self._known is not None:
                self._append_member(user_id, membership)

    def say(self, text: str = "hello") -> str:
        """Append a message of the room's creator; its event ID."""
        with self._lock:
            self._events()
            return self._append("m.room.message", self.creator, {"msgtype": "m.text", "body": text})

    def accept(self, event: Json) -> None:
        """Append a membership event of a remote server, which the caller has verified."""
        with self._lock:
            events = self._events()
            self._members[event["state_key"]] = event["content"]["membership"]
            self._state[event["type"], event["state_key"]] = new = event_id(event, self.version)
            events[new] = event

    def newest(self) -> str:
        """The ID of the newest event."""
        with self._lock:
            return next(reversed(self._events()))

    def event(self, wanted: str) -> Json | None:
        """An event by its ID."""
        with self._lock:
            return self._events().get(wanted)

    def state(self, at: str, *, inclusive: bool) -> list[Json]:
        """The state before an event that is there, or with it."""
        state: dict[tuple[str, str], Json] = {}
        with self._lock:
            for each, event in self._events().items():
                if each == at and not inclusive:
                    break
                if "state_key" in event:
                    state[event["type"], event["state_key"]] = event
                if each == at:
                    break
        return list(state.values())

    def auth_chain(self, events: Iterable[Json]) -> list[Json]:
        """All events that authorize these ones, directly or not."""
        with self._lock:
            known = self._events()
            found: dict[str, Json] = {}
            waiting = [each for event in events for each in self.referred(event["auth_events"])]
            while waiting:
                each = waiting.pop()
                if each not in found:
                    found[each] = known[each]
                    waiting.extend(self.referred(known[each]["auth_events"]))
        return list(found.values())

    def referred(self, references: Iterable[Any]) -> list[str]:
        """The event IDs in ``prev_events`` or ``auth_events``, which are pairs with a hash before version 3."""
        return [each[0] for each in references] if int(self.version) < 3 else list(references)

    def leave_template(self, user_id: str) -> Json:
        """The event that an answer to make_leave has, with the fields that all implementations send."""
        with self._lock:
            return self._template("m.room.member", user_id, {"membership": "leave"}, user_id)

    # Making events

    def _events(self) -> dict[str, Json]:
        if self._known is None:
            self._finish(self._create)
            self._known = {event_id(self._create, self.version): self._create}
            self._state["m.room.create", ""] = self.newest()
            self._append_member(self.creator, "join")
            # In version 12 the creator's power is endless, and must not be listed.
            users = {} if self._hashed else {self.creator: 100}
            settings: dict[str, Json] = {
                "m.room.power_levels": {"users": users, "invite": 0},
                "m.room.join_rules": {"join_rule": "public"},
                "m.room.history_visibility": {"history_visibility": self.history_visibility},
            }
            for kind, content in settings.items():
                self._append(kind, self.creator, content, "")
            for user, membership in self._members.items():
                if user != self.creator:
                    if membership in ("leave", "ban"):
                        self._append_member(user, "join")
                    self._append_member(user, membership)
        return self._known

    def _create_event(self, name: str) -> Json:
        content = {"room_version": self.version, "name": name}
        if int(self.version) < 11:
            content["creator"] = self.creator
        event = {
            "type": "m.room.create",
            "state_key": "",
            "sender": self.creator,
            "content": content,
            "depth": 1,
            "origin_server_ts": _START,
            "prev_events": [],
            "auth_events": [],
        }
        if int(self.version) < 3:
            event["event_id"] = f"$1:{server_of(self.creator)}"
        return event

    def _append_member(self, user_id: str, membership: str) -> None:
        sender = self.creator if membership in ("invite", "ban") else user_id
        self._append("m.room.member", sender, {"membership": membership}, user_id)

    def _append(self, kind: str, sender: str, content: Json, state_key: str | None = None) -> str:
        event = self._template(kind, sender, content, state_key)
        events = self._events()
        if int(self.version) < 3:
            event["event_id"] = f"${event['depth']}-{len(events)}:{self._key.server_name}"
        new = event_id(self._finish(event), self.version)
        events[new] = event
        if state_key is not None:
            self._state[kind, state_key] = new
        return new

    def _template(self, kind: str, sender: str, content: Json, state_key: str | None) -> Json:
        newest = self.newest()
        depth = self._events()[newest]["depth"] + 1
        authorizing = [("m.room.power_levels", ""), ("m.room.member", sender)]
        if not self._hashed:  # the room ID tells the event that created it
            authorizing.insert(0, ("m.room.create", ""))
        if kind == "m.room.member" and state_key != sender:
            authorizing.append(("m.room.member", str(state_key)))
        if content.get("membership") in ("join", "invite", "knock"):
            authorizing.append(("m.room.join_rules", ""))
        event = {
            "type": kind,
            "room_id": self.room_id,
            "sender": sender,
            "content": content,
            "depth": depth,
            "origin_server_ts": _START + 1000 * depth,
            "prev_events": self._references([newest]),
            "auth_events": self._references(self._state[each] for each in authorizing if each in self._state),
        }
        return event if state_key is None else {**event, "state_key": state_key}

    def _references(self, ids: Iterable[str]) -> list[Any]:
        if int(self.version) > 2:
            return list(ids)
        events = {each: self._events()[each] for each in ids}
        return [
            [each, {"sha256": encode_base64(reference_hash(event, self.version))}] for each, event in events.items()
        ]

    def _finish(self, event: Json) -> Json:
        event.pop("signatures", None)
        event["hashes"] = {"sha256": content_hash(event)}
        event["signatures"] = self._key.sign(redact(event, self.version))["signatures"]
        return event
