# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of a room, and what power it gives to whom."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Collection, Iterable, Mapping, Tuple, TypeVar, Union

from ._client import ADMIN, CLIENT, Answer, Client, JsonDict
from ._rooms import joined_members

ROOM = f"{ADMIN}/v1/rooms/{{}}"
FEW_EVENTS = 200
"""Up to how many state events a room's whole state is one request; of a room with more, each type is one."""

CREATE = "m.room.create"
POWER_LEVELS = "m.room.power_levels"
CANONICAL_ALIAS = "m.room.canonical_alias"
TOMBSTONE = "m.room.tombstone"
SPACE_PARENT = "m.space.parent"
SPACE_CHILD = "m.space.child"
MEMBER = "m.room.member"

Default = TypeVar("Default")
Level = Union[int, float]
"""A power level; C(math.inf) is that of a creator in room version 12 and above, which is greater than any number."""

State = Mapping[Tuple[str, str], JsonDict]
"""Contents of state events, by type and state key. That of the create event always has who is its C(creator)."""

_WITHOUT_CREATORS = frozenset(str(version) for version in range(1, 12))
"""The room versions in which creators are like anybody else. Those that are not known are taken to be newer."""
_NAMING_CREATOR = _WITHOUT_CREATORS - {"11"}
"""The room versions whose create event says who the creator is. In the others, that is who has sent it."""


def read_state(client: Client, room_id: str, types: Iterable[str], state_events: int) -> State:
    """The state events of these types, of a room that somebody of this server is in; of any other, there are none.

    :param state_events: how many state events there are in all, by the listing of rooms.

    API: C(GET /_synapse/admin/v1/rooms/<room_id>/state). Versions that don't know its C(type) return everything.
    """
    wanted = tuple(types)
    queries: list[JsonDict] = [{}] if state_events <= FEW_EVENTS else [{"type": kind} for kind in wanted]
    state: dict[tuple[str, str], JsonDict] = {}
    for query in queries:
        events = client.get(f"{ROOM}/state", room_id, params=query).objects("state")
        state.update(as_state(events, wanted))
        if query and any(event.get("type") != query["type"] for event in events):
            break
    return state


def as_state(events: Iterable[Answer], types: Collection[str]) -> dict[tuple[str, str], JsonDict]:
    """The events of these types as C(State)."""
    return {
        (kind, key): _content(event)
        for event in events
        for kind, key in [(event.get("type"), event.get("state_key"))]
        if isinstance(kind, str) and kind in types and isinstance(key, str)
    }


def _content(event: Answer) -> JsonDict:
    content = dict(event.object("content"))
    if event["type"] == CREATE and _version(content) not in _NAMING_CREATOR:
        content["creator"] = event.take("sender", str)
    return content


def send_state(client: Client, room_id: str, kind: str, content: JsonDict, token: str | None) -> None:
    """Send a state event with an empty state key, as the account of I(token). If it changes nothing, Synapse drops it.

    API: C(PUT /_matrix/client/v3/rooms/<room_id>/state/<type>).
    """
    client.put(f"{CLIENT}/v3/rooms/{{}}/state/{{}}", room_id, kind, json=content, token=token)


def version_of(state: State) -> str:
    """The version of a room; in the very first one, nothing says so."""
    return _version(state.get((CREATE, ""), {}))


def _version(create: JsonDict) -> str:
    version = create.get("room_version", "1")
    return version if isinstance(version, str) else "1"


@dataclass(frozen=True)
class Powers:
    """What power a room gives to whom, as the Matrix specification has it.

    I(creators) have more than any level gives, and can't be deprived of it: nobody in room versions before 12.
    """

    content: JsonDict
    creators: frozenset[str]

    @classmethod
    def in_room(cls, state: State, creator: str = "") -> Powers:
        """
        :param creator: who has created the room, by the listing of rooms; for a state without a create event.
        """
        create = state.get((CREATE, ""), {})
        more = create.get("additional_creators")
        named = [create.get("creator", creator), *(more if isinstance(more, list) else [])]
        creators = frozenset(user_id for user_id in named if isinstance(user_id, str) and user_id)
        newer = version_of(state) not in _WITHOUT_CREATORS
        content = state.get((POWER_LEVELS, ""))
        if content is None:
            # Without such an event, whoever has created the room may do everything, and anybody sends state.
            content = {"users": {} if newer else dict.fromkeys(creators, 100), "state_default": 0}
        return cls(content, creators if newer else frozenset())

    def of(self, user_id: str) -> Level:
        """The power level of an account, be it in the room or not."""
        if user_id in self.creators:
            return math.inf
        return _level(self.users.get(user_id), self.default)

    @property
    def default(self) -> int:
        """The level of those who have none of their own."""
        return _level(self.content.get("users_default"), 0)

    @property
    def users(self) -> JsonDict:
        """The levels of those who have one of their own."""
        return _object(self.content.get("users"))

    def with_users(self, users: JsonDict) -> JsonDict:
        """The content, but for who has which level. All levels are whole numbers, as Synapse insists on for new events.

        What old room versions have allowed for, and still may have, is written as it counts.
        """
        content = {**self.content, "users": users}
        for key in ("users", "events", "notifications"):
            if key in content:
                content[key] = {name: _level(level, level) for name, level in _object(content[key]).items()}
        return {key: _level(value, value) if key in _LEVELS else value for key, value in content.items()}

    def to_send(self, kind: str) -> int:
        """The level that it takes to send a state event of this type."""
        return _level(_object(self.content.get("events")).get(kind), _level(self.content.get("state_default"), 50))

    @property
    def to_do_everything(self) -> int:
        """The level from which on there is nothing left that the room's power levels keep anybody from."""
        actions = [_level(self.content.get(action), default) for action, default in _ACTIONS.items()]
        events = [_level(level, 0) for level in _object(self.content.get("events")).values()]
        notifications = [_level(level, 50) for level in _object(self.content.get("notifications")).values()]
        return max(*actions, *events, *notifications, self.to_send(POWER_LEVELS))

    @property
    def to_kick(self) -> int:
        """The level that it takes to remove somebody else from the room."""
        return _level(self.content.get("kick"), _ACTIONS["kick"])

    def administers(self, user_id: str) -> bool:
        """Whether an account has the power to say who may do what."""
        return self.of(user_id) >= self.to_send(POWER_LEVELS)

    @property
    def everybody_administers(self) -> bool:
        """Whether those who have no level of their own have that power."""
        return self.default >= self.to_send(POWER_LEVELS)


@dataclass(frozen=True)
class Room:
    """A room as it is now: who is joined to it, of this server and of others, and a part of its state."""

    room_id: str
    local: frozenset[str]
    remote: frozenset[str]
    state: State

    @cached_property
    def powers(self) -> Powers:
        return Powers.in_room(self.state)

    @property
    def members(self) -> frozenset[str]:
        return self.local | self.remote


def read_room(client: Client, listed: JsonDict, types: Collection[str], *, unfederated: bool = True) -> Room:
    """A room of the listing, with its state events of these types, in one request if it is of the usual size.

    :param unfederated: whether to read the state also if nobody of another server is joined. If not, it takes two.

    API: C(GET /_synapse/admin/v1/rooms/<room_id>/members), which the whole state of a room makes superfluous.
    """
    room_id = listed["room_id"]
    state_events = listed.get("state_events")
    number = state_events if isinstance(state_events, int) else 0
    state: State = {}
    if unfederated and number <= FEW_EVENTS:
        state = read_state(client, room_id, (*types, MEMBER), number)
        memberships = {key: content.get("membership") for (kind, key), content in state.items() if kind == MEMBER}
        members = frozenset(user_id for user_id, membership in memberships.items() if membership == "join")
    else:
        members = frozenset(joined_members(client, room_id))
    local = frozenset(user_id for user_id in members if is_of(client.server_name, user_id))
    if not state and local and (unfederated or members != local):
        state = read_state(client, room_id, types, number)
    return Room(room_id, local, members - local, state)


def is_of(server_name: str, identifier: str) -> bool:
    """Whether an account or an alias belongs to a server."""
    return identifier.partition(":")[2] == server_name


_ACTIONS = {"ban": 50, "kick": 50, "redact": 50, "invite": 0, "events_default": 0, "state_default": 50}
"""What takes a level, and which if the room does not say so."""
_LEVELS = frozenset([*_ACTIONS, "users_default"])


def _object(value: object) -> JsonDict:
    return value if isinstance(value, dict) else {}


def _level(value: object, default: Default) -> int | Default:
    """A power level. Old room versions allow for text, and for numbers with a fraction."""
    try:
        return int(value) if isinstance(value, (int, float, str)) else default
    except (ValueError, OverflowError):
        return default
