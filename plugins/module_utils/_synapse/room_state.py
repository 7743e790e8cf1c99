# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of a room, and the power levels in it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Collection, Iterable, Mapping, Tuple, TypeVar, Union

from .answer import Answer, JsonDict
from .client import ADMIN, CLIENT, Client
from .rooms import joined_members

ROOM = f"{ADMIN}/v1/rooms/{{}}"
FULL_STATE_LIMIT = 200
"""Maximum number of state events that are read in one request. For a room with more, each type takes one request."""

CREATE = "m.room.create"
POWER_LEVELS = "m.room.power_levels"
CANONICAL_ALIAS = "m.room.canonical_alias"
TOMBSTONE = "m.room.tombstone"
SPACE_PARENT = "m.space.parent"
SPACE_CHILD = "m.space.child"
MEMBER = "m.room.member"

Default = TypeVar("Default")
Level = Union[int, float]
"""A power level. C(math.inf) is the level of a creator in room version 12 and above: higher than any number."""

State = Mapping[Tuple[str, str], JsonDict]
"""Contents of state events, by type and state key. The content of the create event always has a C(creator)."""

_WITHOUT_CREATORS = frozenset(str(version) for version in range(1, 12))
"""The room versions in which creators have no power of their own. Unknown versions are treated as newer ones."""
_NAMING_CREATOR = _WITHOUT_CREATORS - {"11"}
"""The room versions whose create event names the creator. In the others, its sender is the creator."""


def read_state(client: Client, room_id: str, types: Iterable[str], state_events: int) -> State:
    """The state events of these types; empty for a room that no local account is joined to.

    :param state_events: the number of state events of the room, from the listing of rooms.

    API: C(GET /_synapse/admin/v1/rooms/<room_id>/state). Old versions ignore C(type) and return all events.
    """
    wanted = tuple(types)
    queries: list[JsonDict] = [{}] if state_events <= FULL_STATE_LIMIT else [{"type": kind} for kind in wanted]
    state: dict[tuple[str, str], JsonDict] = {}
    for query in queries:
        events = client.get(f"{ROOM}/state", room_id, params=query).objects("state")
        state.update(as_state(events, wanted))
        if query and any(event.get("type") != query["type"] for event in events):
            break
    return state


def as_state(events: Iterable[Answer], types: Collection[str]) -> dict[tuple[str, str], JsonDict]:
    """The contents of the events of these types."""
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
    """Send a state event with an empty state key, as the account of I(token). Synapse drops it if it changes nothing.

    API: C(PUT /_matrix/client/v3/rooms/<room_id>/state/<type>).
    """
    client.put(f"{CLIENT}/v3/rooms/{{}}/state/{{}}", room_id, kind, json=content, token=token)


def version_of(state: State) -> str:
    """The version of a room. Rooms of version 1 do not state it."""
    return _version(state.get((CREATE, ""), {}))


def _version(create: JsonDict) -> str:
    version = create.get("room_version", "1")
    return version if isinstance(version, str) else "1"


@dataclass(frozen=True)
class Powers:
    """The power levels in a room, by the rules of the Matrix specification.

    :param content: the content of the C(m.room.power_levels) event.
    :param creators: the accounts whose power exceeds any level and cannot be taken away; none before room version 12.
    """

    content: JsonDict
    creators: frozenset[str]

    @classmethod
    def in_room(cls, state: State, creator: str = "") -> Powers:
        """The power levels of a room with this state.

        :param creator: the creator by the listing of rooms, for a state without a create event.
        """
        create = state.get((CREATE, ""), {})
        more = create.get("additional_creators")
        named = [create.get("creator", creator), *(more if isinstance(more, list) else [])]
        creators = frozenset(user_id for user_id in named if isinstance(user_id, str) and user_id)
        newer = version_of(state) not in _WITHOUT_CREATORS
        content = state.get((POWER_LEVELS, ""))
        if content is None:
            # Without such an event, the creator has level 100, and all members may send state events.
            content = {"users": {} if newer else dict.fromkeys(creators, 100), "state_default": 0}
        return cls(content, creators if newer else frozenset())

    def of(self, user_id: str) -> Level:
        """The power level of an account, joined or not."""
        if user_id in self.creators:
            return math.inf
        return _level(self.users.get(user_id), self.default)

    @property
    def default(self) -> int:
        """The level of accounts that have no level of their own (C(users_default))."""
        return _level(self.content.get("users_default"), 0)

    @property
    def users(self) -> JsonDict:
        """The levels of the accounts that have one of their own."""
        return _object(self.content.get("users"))

    def with_users(self, users: JsonDict) -> JsonDict:
        """The content with other levels of accounts.

        All levels are converted to integers: Synapse requires them in new events, but old rooms may have text.
        """
        content = {**self.content, "users": users}
        for key in ("users", "events", "notifications"):
            if key in content:
                content[key] = {name: _level(level, level) for name, level in _object(content[key]).items()}
        return {key: _level(value, value) if key in _LEVELS else value for key, value in content.items()}

    def to_send(self, kind: str) -> int:
        """The level that is required to send a state event of this type."""
        return _level(_object(self.content.get("events")).get(kind), _level(self.content.get("state_default"), 50))

    @property
    def to_do_everything(self) -> int:
        """The lowest level that permits every action in the room."""
        actions = [_level(self.content.get(action), default) for action, default in _ACTIONS.items()]
        events = [_level(level, 0) for level in _object(self.content.get("events")).values()]
        notifications = [_level(level, 50) for level in _object(self.content.get("notifications")).values()]
        return max(*actions, *events, *notifications, self.to_send(POWER_LEVELS))

    @property
    def to_kick(self) -> int:
        """The level that is required to remove another account from the room."""
        return _level(self.content.get("kick"), _ACTIONS["kick"])

    def administers(self, user_id: str) -> bool:
        """Whether an account may change the power levels."""
        return self.of(user_id) >= self.to_send(POWER_LEVELS)

    @property
    def all_accounts_administer(self) -> bool:
        """Whether accounts without a level of their own may change the power levels."""
        return self.default >= self.to_send(POWER_LEVELS)


@dataclass(frozen=True)
class Room:
    """The current members of a room, local and remote, and a part of its state."""

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
    """A room of the listing, with its state events of these types. A room of usual size takes one request.

    :param unfederated: whether to read the state of a room that no remote account is joined to. If false, each room
        takes a request for its members, and each federated room a second one.
    """
    room_id = listed["room_id"]
    state_events = listed.get("state_events")
    number = state_events if isinstance(state_events, int) else 0
    if unfederated and number <= FULL_STATE_LIMIT:
        return _room_of_state(client, room_id, read_state(client, room_id, (*types, MEMBER), number))
    members = frozenset(joined_members(client, room_id))
    local = _local_accounts(client, members)
    state = read_state(client, room_id, types, number) if local and (unfederated or members != local) else {}
    return Room(room_id, local, members - local, state)


def _room_of_state(client: Client, room_id: str, state: State) -> Room:
    """A room whose members are read from its state."""
    members = frozenset(
        key for (kind, key), content in state.items() if kind == MEMBER and content.get("membership") == "join"
    )
    local = _local_accounts(client, members)
    return Room(room_id, local, members - local, state)


def _local_accounts(client: Client, members: Iterable[str]) -> frozenset[str]:
    return frozenset(user_id for user_id in members if is_of(client.server_name, user_id))


def is_of(server_name: str, identifier: str) -> bool:
    """Whether a user ID or an alias belongs to a server."""
    return identifier.partition(":")[2] == server_name


_ACTIONS = {"ban": 50, "kick": 50, "redact": 50, "invite": 0, "events_default": 0, "state_default": 50}
"""The actions that require a level, each with its default."""
_LEVELS = frozenset([*_ACTIONS, "users_default"])


def _object(value: object) -> JsonDict:
    return value if isinstance(value, dict) else {}


def _level(value: object, default: Default) -> int | Default:
    """A power level as an integer. Old room versions permit text and fractions."""
    try:
        return int(value) if isinstance(value, (int, float, str)) else default
    except (ValueError, OverflowError):
        return default
