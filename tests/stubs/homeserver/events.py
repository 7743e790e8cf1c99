# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""State events of rooms, as tests put them into the fake homeserver."""

from __future__ import annotations

from typing import Any

from ..helpers import SERVER, Json

HOST, PEER, MEMBER = (f"@{name}:{SERVER}" for name in ("host", "peer", "member"))
ALICE, BOB = "@alice:other.example", "@bob:other.example"


def create(version: str, creator: str = HOST, **content: Any) -> Json:
    """A create event, as rooms of that version have it."""
    old = {"creator": creator} if version in map(str, range(1, 11)) else {}
    content = {**old, "room_version": version, **content}
    return {"type": "m.room.create", "state_key": "", "sender": creator, "content": content}


def event(kind: str, content: Any, state_key: str = "") -> Json:
    return {"type": kind, "state_key": state_key, "sender": HOST, "content": content}


def joins(*user_ids: str) -> list[Json]:
    """The membership events of joined accounts."""
    return [event("m.room.member", {"membership": "join"}, user_id) for user_id in user_ids]


def levels(users: Json, **more: Any) -> Json:
    """Power levels as Synapse makes them."""
    events = {"m.room.power_levels": 100, "m.room.tombstone": 100, "m.room.name": 50}
    content = {"ban": 50, "events": events, "users_default": 0, "state_default": 50, "users": users}
    return event("m.room.power_levels", {**content, **more})
