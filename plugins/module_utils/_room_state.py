# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of a room, and what power it gives to whom."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Iterable, Mapping, Tuple, Union

from ._client import ADMIN, CLIENT, Client, JsonDict

ROOM = f"{ADMIN}/v1/rooms/{{}}"
FEW_EVENTS = 200
"""Up to how many state events a room's whole state is one request; of a room with more, each type is one."""

CREATE = "m.room.create"
POWER_LEVELS = "m.room.power_levels"
CANONICAL_ALIAS = "m.room.canonical_alias"
TOMBSTONE = "m.room.tombstone"
SPACE_PARENT = "m.space.parent"
SPACE_CHILD = "m.space.child"

Level = Union[int, float]
"""A power level; C(math.inf) is that of a creator in room version 12 and above, which is greater than any number."""

State = Mapping[Tuple[str, str], JsonDict]
"""Contents of state events, by type and state key."""

_WITHOUT_CREATORS = {str(version) for version in range(1, 12)}
"""The room versions in which creators are like anybody else. Those that are not known are taken to be newer."""


def read_state(client: Client, room_id: str, types: Iterable[str], state_events: int) -> State:
    """The state events of these types, of a room that somebody of this server is in.

    :param state_events: how many state events there are in all, by the listing of rooms.

    API: C(GET /_synapse/admin/v1/rooms/<room_id>/state). Versions that don't know its C(type) return everything.
    """
    wanted = tuple(types)
    queries: list[JsonDict] = [{}] if state_events <= FEW_EVENTS else [{"type": kind} for kind in wanted]
    state: dict[tuple[str, str], JsonDict] = {}
    for query in queries:
        for event in client.get(f"{ROOM}/state", room_id, params=query).objects("state"):
            kind, key = event.get("type"), event.get("state_key")
            if kind in wanted and isinstance(key, str):
                state[kind, key] = dict(event.object("content"))
    return state


def send_state(client: Client, room_id: str, kind: str, content: JsonDict, token: str | None) -> None:
    """Send a state event with an empty state key, as the account of I(token). If it changes nothing, Synapse drops it.

    API: C(PUT /_matrix/client/v3/rooms/<room_id>/state/<type>).
    """
    client.put(f"{CLIENT}/v3/rooms/{{}}/state/{{}}", room_id, kind, json=content, token=token)


def version_of(state: State) -> str:
    """The version of a room; in the very first one, nothing says so."""
    version = state.get((CREATE, ""), {}).get("room_version", "1")
    return version if isinstance(version, str) else "1"


@dataclass(frozen=True)
class Powers:
    """What power a room gives to whom, as the Matrix specification has it.

    I(creators) have more than any level gives, and can't be deprived of it: nobody in room versions before 12.
    """

    content: JsonDict
    creators: frozenset[str]

    @classmethod
    def in_room(cls, state: State, creator: str) -> Powers:
        """
        :param creator: who has sent the create event. The state as the admin API has it says so, the listing too.
        """
        create = state.get((CREATE, ""), {})
        more = create.get("additional_creators")
        creators = frozenset([creator, *(more if isinstance(more, list) else [])])
        versioned = version_of(state) not in _WITHOUT_CREATORS
        content = state.get((POWER_LEVELS, ""))
        if content is None:
            # Without such an event, whoever has created the room may do everything, and anybody sends state.
            content = {"users": {} if versioned else {creator: 100}, "state_default": 0}
        return cls(content, creators if versioned else frozenset())

    def of(self, user_id: str) -> Level:
        """The power level of an account, be it in the room or not."""
        if user_id in self.creators:
            return math.inf
        return _level(self.users.get(user_id), _level(self.content.get("users_default"), 0))

    @property
    def users(self) -> JsonDict:
        """The levels of those who have one of their own."""
        return _object(self.content.get("users"))

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

    def administers(self, user_id: str) -> bool:
        """Whether an account has the power to say who may do what."""
        return self.of(user_id) >= self.to_send(POWER_LEVELS)


_ACTIONS = {"ban": 50, "kick": 50, "redact": 50, "invite": 0, "events_default": 0, "state_default": 50}
"""What takes a level, and which if the room does not say so."""


def _object(value: object) -> JsonDict:
    return value if isinstance(value, dict) else {}


def _level(value: object, default: int) -> int:
    """A power level. Old room versions allow for text, and for numbers with a fraction."""
    try:
        return int(value) if isinstance(value, (int, float, str)) else default
    except (ValueError, OverflowError):
        return default
