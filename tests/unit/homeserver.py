# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A homeserver with federated rooms, as far as its API is asked for what is left of us on remote servers."""

from __future__ import annotations

import json
import re
import threading
from email.utils import formatdate
from typing import Any, Tuple
from urllib.parse import unquote, urlsplit

import responses
from ansible_collections.matrixops.synapse.tests.unit.helpers import (
    BASE_URL,
    NOW,
    OPERATOR,
    SERVER,
    TOKEN,
    Json,
    matrix_error,
    user,
)

Reply = Tuple[int, Json]
Key = Tuple[str, ...]
NOT_FOUND: Reply = (404, matrix_error("M_NOT_FOUND", "not found"))
BROKEN: Reply = (500, matrix_error("M_UNKNOWN", "Internal server error"))
IGNORED = "m.ignored_user_list"
RECORD = "io.github.matrixops.decommission"


def stripped(sender: Any, kind: str = "m.room.member") -> Json:
    """An event of the state that comes with an invite or a knock."""
    return {"type": kind, "sender": sender, "state_key": "", "content": {}}


class Homeserver:
    """Answers as Synapse does, of what is in these attributes.

    :ivar accounts: as the admin API lists them.
    :ivar members: membership by user ID, by room ID.
    :ivar state: more state events, by room ID.
    :ivar destinations: the rooms that the sender has recorded, by server.
    :ivar pending: the events of an invite or a knock, by user ID, C(invite) or C(knock), and room ID.
    :ivar account_data: by user ID and type.
    :ivar errors: what is answered instead, by method and the last parts of the path, however often.
    :ivar last_write: after so many PUT requests to account data, nothing is carried out any more: as for a run that was
        killed.
    """

    def __init__(self, mock: responses.RequestsMock) -> None:
        self.accounts: dict[str, Json] = {OPERATOR: user("op", admin=True)}
        self.members: dict[str, dict[str, str]] = {}
        self.state: dict[str, list[Json]] = {}
        self.destinations: dict[str, list[str]] = {}
        self.pending: dict[str, dict[str, dict[str, list[Json]]]] = {}
        self.account_data: dict[tuple[str, str], Json] = {}
        self.errors: dict[str, Reply] = {}
        self.last_write: int | None = None
        self.now = NOW
        self.requests: list[str] = []
        self.puts: list[tuple[str, int]] = []
        """The type and size of what was put into the operator's account data."""
        self._tokens = {TOKEN: OPERATOR}
        self._lock = threading.Lock()
        for method in ("GET", "POST", "PUT", "DELETE"):
            mock.add_callback(method, re.compile(f"{BASE_URL}/.*"), self._answer)

    def register(self, *names: str, **more: Any) -> list[str]:
        """Add accounts of this server; their user IDs."""
        added = [user(name, **more) for name in names]
        self.accounts.update({account["name"]: account for account in added})
        return [account["name"] for account in added]

    def leave_all(self) -> None:
        """Let all accounts of this server leave, without telling anybody."""
        for members in self.members.values():
            members.update(dict.fromkeys(self._of_ours(members), "leave"))

    def left_at(self, time: int | None) -> None:
        """Record when all accounts have left the federated rooms."""
        milestones = {} if time is None else {"left_federated_rooms": time}
        self.account_data[OPERATOR, RECORD] = {"milestones": milestones, "server_name": SERVER}

    def count(self, what: str) -> int:
        """How many requests there were with this in them."""
        return sum(what in request for request in self.requests)

    @property
    def writes(self) -> list[str]:
        return [request for request in self.requests if not request.startswith("GET")]

    def _answer(self, request: Any) -> tuple[int, dict[str, str], str]:
        with self._lock:
            parts = tuple(unquote(part) for part in urlsplit(request.url).path.split("/")[2:])
            asked = f"{request.method} {'/'.join(parts)}"
            self.requests.append(asked)
            account = self._tokens.get(request.headers.get("Authorization", "").partition(" ")[2])
            body = json.loads(request.body or "{}")
            status, answer = self._reply(request.method, asked, parts, account, body)
            return status, {"Date": formatdate(self.now, usegmt=True)}, json.dumps(answer)

    def _reply(self, method: str, asked: str, parts: Key, account: str | None, body: Json) -> Reply:
        for what, error in self.errors.items():
            if asked.endswith(what):
                return error
        if account is None:
            return 401, matrix_error("M_UNKNOWN_TOKEN", "Invalid access token")
        if self.accounts[account]["locked"] and parts[-1] != "logout":
            return 401, matrix_error("M_USER_LOCKED", "User account has been locked")
        last = parts[-1]
        if last == "whoami":
            return 200, {"user_id": account}
        if "account_data" in parts:
            assert parts[-3] == account
            return self._account_data(method, account, last, body)
        if last == "sync":
            return 200, {"rooms": self._sync(account)}
        if last == "logout":
            return 200, {}
        if parts[0] == "client":
            return 200, {}
        return self._admin(method, parts[1:], body)

    def _account_data(self, method: str, account: str, kind: str, body: Json) -> Reply:
        if method == "PUT":
            if self.last_write is not None and len(self.puts) >= self.last_write:
                return 401, matrix_error("M_UNKNOWN_TOKEN", "killed")
            self.account_data[account, kind] = body
            self.puts.append((kind, len(json.dumps(body))))
            return 200, {}
        found = self.account_data.get((account, kind))
        return NOT_FOUND if found is None else (200, found)

    def _sync(self, account: str) -> Json:
        ignored = self.account_data.get((account, IGNORED), {}).get("ignored_users", {})
        found: Json = {}
        for membership, rooms in self.pending.get(account, {}).items():
            shown = {
                room: events for room, events in rooms.items() if not any(e.get("sender") in ignored for e in events)
            }
            found[membership] = {room: {f"{membership}_state": {"events": events}} for room, events in shown.items()}
        return found

    def _admin(self, method: str, parts: Key, body: Json) -> Reply:
        """What is below C(/_synapse/admin)."""
        _version, kind, *rest = parts
        if kind == "users":
            return self._users(method, rest, body)
        if kind == "rooms":
            return self._rooms(rest)
        if kind == "federation":
            if len(rest) == 1:
                return 200, {"destinations": [{"destination": name} for name in self.destinations]}
            rooms = self.destinations[rest[1]]
            return 200, {"rooms": [{"room_id": room_id} for room_id in rooms], "total": len(rooms)}
        assert kind == "registration_tokens", parts
        return 200, {"registration_tokens": []}

    def _users(self, method: str, rest: list[str], body: Json) -> Reply:
        if not rest:
            return 200, {"users": list(self.accounts.values())}
        user_id, *what = rest
        if what == ["joined_rooms"]:
            return 200, {"joined_rooms": [room for room, who in self.members.items() if who.get(user_id) == "join"]}
        if what == ["login"]:
            token = f"as_{user_id}".encode().hex()
            self._tokens[token] = user_id
            return 200, {"access_token": token}
        if method == "PUT":
            self.accounts[user_id].update(body)
        return 200, self.accounts[user_id]

    def _rooms(self, rest: list[str]) -> Reply:
        if not rest:
            return 200, {"rooms": [self._listed(room_id) for room_id in self._most_local_first()]}
        room_id, what = rest[:2]
        members = self.members.get(room_id)
        if members is None:
            return NOT_FOUND
        occupied = any(members[user_id] == "join" for user_id in self._of_ours(members))
        if what == "members":
            return 200, {"members": [user_id for user_id, its in members.items() if its == "join"] if occupied else []}
        if what == "forward_extremities":
            return 200, {"results": [{"event_id": "$newest"}]}
        assert what in ("state", "context")
        events = [
            {"type": "m.room.member", "state_key": user_id, "sender": user_id, "content": {"membership": its}}
            for user_id, its in members.items()
        ]
        # Synapse forgets the state as soon as nobody of its own is in the room, but for that at an event.
        return 200, {"state": [*events, *self.state.get(room_id, ())] if occupied or what == "context" else []}

    def _most_local_first(self) -> list[str]:
        return sorted(self.members, key=lambda room_id: -self._listed(room_id)["joined_local_members"])

    def _listed(self, room_id: str) -> Json:
        joined = {user_id: its for user_id, its in self.members[room_id].items() if its == "join"}
        return {
            "room_id": room_id,
            "joined_members": len(joined),
            "joined_local_members": len(self._of_ours(joined)),
        }

    @staticmethod
    def _of_ours(members: dict[str, str]) -> list[str]:
        return [user_id for user_id in members if user_id.partition(":")[2] == SERVER]
