# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import math
from threading import Lock
from typing import Any, Iterable

from ansible_collections.matrixops.synapse.plugins.module_utils._client import Answer, Client, SynapseError
from ansible_collections.matrixops.synapse.tests.unit.helpers import BASE_URL, OPERATOR, SERVER, TOKEN, Json

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
    """The state events that say who is joined."""
    return [event("m.room.member", {"membership": "join"}, user_id) for user_id in user_ids]


def levels(users: Json, **more: Any) -> Json:
    """Power levels as Synapse makes them."""
    events = {"m.room.power_levels": 100, "m.room.tombstone": 100, "m.room.name": 50}
    content = {"ban": 50, "events": events, "users_default": 0, "state_default": 50, "users": users}
    return event("m.room.power_levels", {**content, **more})


class RoomsClient(Client):
    """A client of a homeserver that is made up: with rooms, and the rules of Matrix for changes of their power levels.

    I(accounts) are the admin API's, by user ID; whoever is not among them can't be acted as. I(broken) are the errors
    that requests are answered with, by method and last identifier. I(extremities) are the answers about the forward
    extremities of rooms. I(writes) are the requests that are no GET.
    """

    def __init__(self) -> None:
        super().__init__(BASE_URL, TOKEN)
        self.members: dict[str, list[str]] = {}
        self.state: dict[str, list[Json]] = {}
        self.aliases: dict[str, list[str]] = {}
        self.accounts: dict[str, Json] = {user_id: {} for user_id in (OPERATOR, HOST, PEER, MEMBER)}
        self.broken: dict[tuple[str, str], SynapseError] = {}
        self.extremities: dict[str, Json | SynapseError] = {}
        self.knows_type = True
        self.writes: list[tuple[str, ...]] = []
        self.open: list[str] = []
        self._lock = Lock()

    def add(self, room_id: str, members: Iterable[str], *state: Json, aliases: Iterable[str] = ()) -> None:
        self.members[room_id] = list(members)
        self.state[room_id] = list(state)
        self.aliases[room_id] = list(aliases)

    def content(self, room_id: str, kind: str = "m.room.power_levels") -> Json:
        (found,) = (event["content"] for event in self.state[room_id] if event["type"] == kind)
        content: Json = found
        return content

    def users(self, room_id: str) -> Json:
        users: Json = self.content(room_id)["users"]
        return users

    @property
    def steps(self) -> list[tuple[str, ...]]:
        """Who sent something to which room."""
        return [(write[3], write[2]) for write in self.writes if write[0] == "PUT" and write[1].endswith("/state/{}")]

    def request(
        self,
        method: str,
        path: str,
        *segments: str,
        params: Json | None = None,
        json: Json | None = None,
        token: str | None = None,
        repeat: bool = True,
    ) -> Answer:
        with self._lock:
            self.sent[path] += 1
            user_id = OPERATOR if token is None else token
            if method != "GET":
                self.writes.append((method, path, *segments[:1], user_id))
            error = self.broken.get((method, segments[0] if segments else ""))
            if error is not None:
                raise error
            return Answer(self._act(method, path, segments, params or {}, json or {}, user_id), method, path, DATE)

    def _act(self, method: str, path: str, segments: tuple[str, ...], params: Json, json: Json, user_id: str) -> Json:
        what = path.rpartition("/")[2]
        if what == "whoami":
            return {"user_id": OPERATOR}
        if what == "rooms":
            return {"rooms": [self._listed(room_id) for room_id in sorted(self.members, key=self._local, reverse=True)]}
        if what == "members":
            return {"members": self.members[segments[0]] if self._local(segments[0]) else []}
        if what == "forward_extremities":
            found = self.extremities.get(segments[0], {"count": 1})
            if isinstance(found, SynapseError):
                raise found
            return found
        if what == "aliases":
            return {"aliases": self.aliases[segments[0]]}
        if what == "state":
            wanted = params.get("type") if self.knows_type else None
            return {"state": [event for event in self._state(segments[0]) if wanted in (None, event["type"])]}
        if self.accounts.get(user_id, {}).get("locked") and what != "logout":
            raise locked()
        if path.endswith("/state/{}"):
            self._set_powers(segments[0], json, user_id)
        if path.endswith("/v2/users/{}"):
            return self._account(method, segments[0], json)
        if what == "login":
            self.open.append(segments[0])
            return {"access_token": segments[0]}
        if what == "logout":
            self.open.remove(user_id)
        return {}

    def _account(self, method: str, user_id: str, json: Json) -> Json:
        if user_id not in self.accounts:
            raise error_404()
        if method == "PUT":
            self.accounts[user_id].update(json)
        return {"name": user_id, "admin": False, "is_guest": False, "deactivated": False, **self.accounts[user_id]}

    def _state(self, room_id: str) -> list[Json]:
        """As Synapse has it: of a room that nobody of this server is in, it knows nothing."""
        return [*self.state[room_id], *joins(*self.members[room_id])] if self._local(room_id) else []

    def _local(self, room_id: str) -> int:
        return sum(user_id.endswith(f":{SERVER}") for user_id in self.members[room_id])

    def _listed(self, room_id: str) -> Json:
        number, local = len(self.state[room_id]), self._local(room_id)
        types = [event["content"].get("type") for event in self.state[room_id] if event["type"] == "m.room.create"]
        return {
            "room_id": room_id,
            "joined_local_members": local,
            "state_events": number,
            "public": False,
            "room_type": types[0] if types else None,
        }

    def _set_powers(self, room_id: str, content: Json, user_id: str) -> None:
        """By section 9 (power levels) of the rules for room versions; an account's own entry comes first in them."""
        before = self.content(room_id)
        events = [event for event in self.state[room_id] if event["type"] == "m.room.create"]
        creators = [e["sender"] for e in events if e["content"]["room_version"] == "12"]
        own = math.inf if user_id in creators else int(before["users"].get(user_id, before["users_default"]))
        ruled = [user_id in self.members[room_id], own >= int(before["events"]["m.room.power_levels"])]
        ruled.append(not set(creators) & set(content["users"]))
        ruled.append({**content, "users": 0} == {**before, "users": 0})
        ruled.append(all(isinstance(level, int) for level in content["users"].values()))
        for other in {*before["users"], *content["users"]}:
            old, new = before["users"].get(other), content["users"].get(other)
            if (old is None) != (new is None) or int(old or 0) != int(new or 0):
                ruled.append(old is None or int(old) < own or (other == user_id and int(old) <= own))
                ruled.append(new is None or int(new) <= own)
        if not all(ruled):
            raise SynapseError("no power", method="PUT", url=room_id, status=403, errcode="M_FORBIDDEN")
        before["users"] = dict(content["users"])


DATE = "Mon, 23 Nov 2026 06:40:00 GMT"


def error_404() -> SynapseError:
    return SynapseError("User not found", method="GET", url="users", status=404, errcode="M_NOT_FOUND")


def locked() -> SynapseError:
    error = SynapseError("User account has been locked", method="PUT", url="state", status=401, errcode="M_USER_LOCKED")
    error.borrowed = True
    return error
