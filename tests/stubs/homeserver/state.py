# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the fake homeserver knows: accounts, rooms, aliases, account data, and which accounts are yet to leave."""

from __future__ import annotations

import itertools
import sys
from collections import Counter, deque
from typing import Any, Iterable, NamedTuple

from ..helpers import NOW, SERVER, TOKEN, Json, room_id, user
from .answers import RefusalError
from .power_levels import content_of

CANONICAL_ALIAS = "m.room.canonical_alias"
IGNORED_USERS = "m.ignored_user_list"
RECORD = "io.github.matrixops.decommission"
NOTICES = f"@notices:{SERVER}"
"""The account that sends server notices. No listing of accounts has it."""


def stripped(sender: Any, kind: str = "m.room.member") -> Json:
    """An event of the state that comes with an invite or a knock."""
    return {"type": kind, "sender": sender, "state_key": "", "content": {}}


class Session:
    """An access token, and until when it is valid, in milliseconds since 1970."""

    def __init__(self, user_id: str, valid_until_ms: float = float("inf"), *, by_admin: bool = False) -> None:
        self.user_id = user_id
        self.valid_until_ms = valid_until_ms
        self.by_admin = by_admin


class Upload(NamedTuple):
    """A file that an account has uploaded.

    :ivar length: in bytes, as the server announces it; C(None) if the file was never uploaded.
    """

    content: bytes
    content_type: str
    length: int | None
    quarantined: bool


class State:
    """The data of the homeserver. Tests read and change it directly, and the APIs answer from it.

    :ivar operator: the admin whose access token is C(TOKEN).
    :ivar notices_user: the account that sends server notices. No listing of accounts has it.
    :ivar accounts: as the admin API lists them, by user ID.
    :ivar members: memberships by user ID, by room ID.
    :ivar state: the state events of each room but its memberships, by room ID.
    :ivar events: what was sent to each room, by room ID.
    :ivar received: when the newest event of each room was received, in milliseconds since 1970, by room ID.
    :ivar media: the local media, by media ID.
    :ivar directory: room IDs by alias.
    :ivar published: the rooms in the public directory.
    :ivar unlisted_rooms: rooms that the listing lacks, since the statistics that it comes from lag behind.
    :ivar pending: events of the invites and knocks that remote servers know of, by user ID, C(invite) or C(knock), and
        room ID.
    :ivar account_data: by user ID and type.
    :ivar puts: type and size of what was put into the operator's account data.
    :ivar destinations: the rooms that the federation sender has recorded, by server.
    :ivar overrides: rate limits by user ID.
    :ivar sessions: by access token.
    :ivar locks: accounts that were locked or unlocked, in order.
    :ivar leaving: deactivated accounts that are yet to leave their rooms, one after the other.
    :ivar dropped_leaves: how many times the background leave of an account is dropped, by user ID.
    :ivar rejoining: the room that an account joins again once it has left, by user ID.
    :ivar banned: accounts that cannot leave any room.
    :ivar broken: rooms that no account can leave.
    :ivar version: of Synapse. Before 1.150, an account that is erased while joined joins one of its rooms again.
    :ivar delegated: whether a Matrix Authentication Service handles login.
    :ivar registration_open: whether registration is open.
    :ivar notices_enabled: whether the server can send server notices.
    :ivar transactions: the server notices that were sent, by transaction ID.
    :ivar page_size: maximum number of items of one page of a listing.
    :ivar now: the server's clock, in seconds since 1970.
    """

    def __init__(self, server_name: str = SERVER) -> None:
        self.server_name = server_name
        self.operator = f"@op:{server_name}"
        self.notices_user = f"@notices:{server_name}"
        self.accounts: dict[str, Json] = {self.operator: user(self.operator, admin=True)}
        self.members: dict[str, dict[str, str]] = {}
        self.state: dict[str, list[Json]] = {}
        self.events: dict[str, list[Json]] = {}
        self.received: dict[str, int] = {}
        self.media: dict[str, Upload] = {}
        self.directory: dict[str, str] = {}
        self.published: set[str] = set()
        self.unlisted_rooms: set[str] = set()
        self.pending: dict[str, dict[str, dict[str, list[Json]]]] = {}
        self.account_data: dict[tuple[str, str], Json] = {}
        self.puts: list[tuple[str, int]] = []
        self.destinations: dict[str, list[str]] = {}
        self.overrides: dict[str, Json] = {}
        self.sessions = {TOKEN: Session(self.operator)}
        self._tokens = itertools.count()
        self.locks: list[tuple[str, bool]] = []
        self.leaving: deque[str] = deque()
        self.dropped_leaves: dict[str, int] = {}
        self.rejoining: dict[str, str] = {}
        self.banned: set[str] = set()
        self.broken: set[str] = set()
        self.version = "1.163.2"
        self.delegated = False
        self.registration_open = False
        self.notices_enabled = True
        self.transactions: set[str] = set()
        self.page_size = sys.maxsize
        self.now = NOW

    def is_local(self, user_id: str) -> bool:
        """Whether an account is of this server."""
        return user_id.partition(":")[2] == self.server_name

    # For the set-up of tests

    def register(self, *names: str, **more: Any) -> list[str]:
        """Add accounts of this server; return their user IDs."""
        return self.add_accounts(*(user(name, **more) for name in names))

    def add_accounts(self, *accounts: Json) -> list[str]:
        """Add accounts as the admin API lists them; return their user IDs."""
        self.accounts.update({account["name"]: account for account in accounts})
        return [account["name"] for account in accounts]

    def add_room(self, name: str, members: Iterable[str], *state: Json, aliases: Iterable[str] = ()) -> str:
        """Add a room with these joined members; return its ID. A name without C(!) is one of this server."""
        room = name if name.startswith("!") else room_id(name)
        self.members[room] = dict.fromkeys(members, "join")
        self.state[room] = list(state)
        self.directory.update(dict.fromkeys(aliases, room))
        return room

    def upload(
        self,
        media_id: str,
        content: bytes = b"content",
        content_type: str = "image/png",
        *,
        length: int | None = -1,
        quarantined: bool = False,
    ) -> str:
        """Add a file; return its URI. By default, the length is that of the content."""
        announced = len(content) if length == -1 else length
        self.media[media_id] = Upload(content, content_type, announced, quarantined)
        return f"mxc://{self.server_name}/{media_id}"

    def join(self, user_id: str, *names: str) -> None:
        """Let an account be joined to rooms of these names, which are made if they do not exist."""
        for name in names:
            self.members.setdefault(room_id(name), {})[user_id] = "join"

    def federate(self, *names: str, server: str = "other.example") -> None:
        """Let a remote account be joined to rooms of these names."""
        for name in names:
            self.join(f"@someone:{server}", name)

    def leave_all(self) -> None:
        """Let all accounts of this server leave, without anything being sent."""
        for members in self.members.values():
            members.update(dict.fromkeys(filter(self.is_local, members), "leave"))

    @property
    def milestones(self) -> Json:
        """The recorded milestones."""
        milestones: Json = self.account_data[self.operator, RECORD]["milestones"]
        return milestones

    def left_at(self, time: int | None) -> None:
        """Record when all accounts have left the federated rooms."""
        milestones = {} if time is None else {"left_federated_rooms": time}
        self.account_data[self.operator, RECORD] = {"milestones": milestones, "server_name": self.server_name}

    def notify(self, user_id: str, content: Json, sender: str | None = None) -> None:
        """Send a server notice, in a room that is made for the account's first."""
        sender = sender or self.notices_user
        room = room_id(f"{sender[1:]}.{user_id[1:]}")
        if room not in self.members:
            self.add_room(room, [sender], {"type": "m.room.create", "state_key": "", "sender": sender, "content": {}})
            self.members[room][user_id] = "invite"
        event = {"sender": sender, "type": "m.room.message", "content": content}
        self.events.setdefault(room, []).append(event)

    def expire_sessions(self, user_id: str) -> None:
        """Let the sessions of an account end, as if their time was over."""
        for session in self.sessions.values():
            if session.user_id == user_id:
                session.valid_until_ms = 0

    # What is true of it

    @property
    def joined(self) -> dict[str, list[str]]:
        """The rooms of each account of this server that is or was in one."""
        found: dict[str, list[str]] = {}
        for room, members in self.members.items():
            for user_id, membership in members.items():
                if self.is_local(user_id) and membership in ("join", "leave"):
                    found.setdefault(user_id, []).extend([room] if membership == "join" else [])
        return found

    @property
    def notices(self) -> Counter[str]:
        """How many notices each account has in the rooms made for them."""
        return Counter(
            user_id
            for room, events in self.events.items()
            for user_id in self.members.get(room, {})
            if room == room_id(f"{events[0]['sender'][1:]}.{user_id[1:]}")
            for _event in events
        )

    @property
    def borrowed(self) -> list[str]:
        """The accounts of the sessions that an admin has opened and not ended."""
        return [session.user_id for session in self.sessions.values() if session.by_admin]

    def content(self, room: str, kind: str = "m.room.power_levels") -> Json:
        """The content of a state event with an empty state key, empty if there is no such event."""
        return content_of(self.state.get(room, ()), kind) or {}

    def set_content(self, room: str, kind: str, content: Json, sender: str = "") -> None:
        """Send a state event with an empty state key."""
        events = self.state.setdefault(room, [])
        events[:] = [event for event in events if (event["type"], event.get("state_key")) != (kind, "")]
        events.append({"type": kind, "state_key": "", "sender": sender, "content": content})

    def joined_to(self, room: str) -> list[str]:
        """The local and remote accounts that are joined to a room."""
        return [user_id for user_id, membership in self.members[room].items() if membership == "join"]

    def is_occupied(self, room: str) -> bool:
        """Whether an account of this server is joined. If not, Synapse says nothing of a room's members and state."""
        return any(map(self.is_local, self.joined_to(room)))

    def account_of(self, token: str | None) -> str:
        """The account of an access token.

        :raises RefusalError: if it is not valid, or has expired.
        """
        if not token:
            raise RefusalError(401, "M_MISSING_TOKEN", "Missing access token")
        session = self.sessions.get(token)
        if session is None:
            raise RefusalError(401, "M_UNKNOWN_TOKEN", "Invalid access token")
        if session.valid_until_ms <= self.now * 1000:
            raise RefusalError(401, "M_UNKNOWN_TOKEN", "Access token has expired", soft_logout=True)
        return session.user_id

    def is_at_least(self, *version: int) -> bool:
        """Whether this is that version of Synapse, or a newer one."""
        return tuple(map(int, self.version.split("."))) >= version

    # What it does

    def log_in_as(self, user_id: str, valid_until_ms: float | None = None) -> str:
        """Open a session of an account for an admin; return its access token, which is another one each time."""
        token = f"syt_{user_id.encode().hex()}_{next(self._tokens)}"
        until = float("inf") if valid_until_ms is None else valid_until_ms
        self.sessions[token] = Session(user_id, until, by_admin=True)
        return token

    def deactivate(self, user_id: str, *, erase: bool) -> None:
        """Deactivate an account; it leaves its rooms later. Twice in a row, it forgets the rest, as old versions do."""
        account = self.accounts[user_id]
        account["deactivated"] = True
        self.sessions = {
            token: session
            for token, session in self.sessions.items()
            if session.user_id != user_id or session.by_admin or account.get("is_guest")
        }
        if erase:
            account["erased"] = True
            rooms = self.joined.get(user_id)
            if rooms and self.version < "1.150":
                self.rejoining[user_id] = rooms[0]
        if user_id in self.leaving:
            self.leaving.remove(user_id)
        elif self.dropped_leaves.get(user_id, 0) > 0:
            self.dropped_leaves[user_id] -= 1
        else:
            self.leaving.append(user_id)

    def leave_step(self) -> None:
        """Let the account whose turn it is leave one more of its rooms."""
        if not self.leaving:
            return
        user_id = self.leaving[0]
        rooms = [room for room in self.joined.get(user_id, ()) if room not in self.broken]
        if rooms:
            self.members[rooms[-1]][user_id] = "leave"
        if len(rooms) <= 1:
            self.leaving.popleft()
            self.pending.pop(user_id, None)
            if user_id in self.rejoining:
                self.members[self.rejoining.pop(user_id)][user_id] = "join"

    def shut_down(self, room: str) -> bool:
        """Let all accounts of this server leave a room; whether that was possible."""
        if room in self.broken:
            return False
        for user_id in filter(self.is_local, self.joined_to(room)):
            self.members[room][user_id] = "leave"
        return True
