# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Authorization of state events by the rules of Matrix, as far as tests depend on them.

This code shares nothing with the collection's own code for power levels, since it is used to check it.
"""

from __future__ import annotations

import math
from typing import Iterable, Union

from ..helpers import Json

CREATE = "m.room.create"
POWER_LEVELS = "m.room.power_levels"
Level = Union[int, float]


def content_of(events: Iterable[Json], kind: str) -> Json | None:
    """The content of the state event of a type whose state key is empty."""
    for event in events:
        if event["type"] == kind and not event.get("state_key"):
            content: Json = event["content"]
            return content
    return None


def creators(events: Iterable[Json]) -> set[str]:
    """Those with more power than any level gives, which only rooms of version 12 have."""
    return {e["sender"] for e in events if e["type"] == CREATE and e["content"].get("room_version") == "12"}


def may_send(events: list[Json], user_id: str, kind: str, content: Json) -> bool:
    """Whether a member of a room with this state may send a state event."""
    levels = content_of(events, POWER_LEVELS)
    if levels is None:
        return True
    own = _level(levels, creators(events), user_id)
    if own < int(levels.get("events", {}).get(kind, levels.get("state_default", 50))):
        return False
    return kind != POWER_LEVELS or _may_change(levels, content, own, user_id, creators(events))


def _level(levels: Json, creators: set[str], user_id: str) -> Level:
    if user_id in creators:
        return math.inf
    return int(levels.get("users", {}).get(user_id, levels.get("users_default", 0)))


def _may_change(before: Json, after: Json, own: Level, user_id: str, creators: set[str]) -> bool:
    """By section 9 (power levels) of the rules for room versions; an account's own entry comes first in them."""
    old_levels, new_levels = before.get("users", {}), after.get("users", {})
    ruled = [
        not creators & set(new_levels),
        # Nothing here changes the levels of events and actions.
        {**after, "users": 0} == {**before, "users": 0},
        all(isinstance(level, int) for level in new_levels.values()),
    ]
    for other in {*old_levels, *new_levels}:
        old, new = old_levels.get(other), new_levels.get(other)
        if (old is None) != (new is None) or int(old or 0) != int(new or 0):
            ruled.append(old is None or int(old) < own or (other == user_id and int(old) <= own))
            ruled.append(new is None or int(new) <= own)
    return all(ruled)
