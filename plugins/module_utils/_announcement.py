# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server notice to every account that somebody uses, once to each.

Who has had it is read from the events themselves. Each carries a marker with the announcement's name, and is in a room
that the account of server notices has made. Nothing names that account, but like the bots of application services, it
makes rooms and is in no listing of accounts.
"""

from __future__ import annotations

import hashlib
import json
import time
from typing import Iterator, NamedTuple

from ._client import ADMIN, PAGE_SIZE, Client, JsonDict, SynapseError
from ._pool import each
from ._rooms import joined_rooms, list_rooms, memberships
from ._users import LOOKS, Account, account_class, account_state, acting_as, get_user, list_accounts

MARKER = "io.github.matrixops.announcement"
NOTICE = f"{ADMIN}/v1/send_server_notice"
NOBODY = "@nobody:matrixops.invalid"
CLASSES = ("operator", "admin", "user")
STATES = ("active", "suspended")
"""To whom it is sent. Guests are not told: nobody comes back to such an account."""


class Told(NamedTuple):
    """What came of one account: told now, or why not."""

    user_id: str
    reason: str | None = None


class Announcement:
    """One announcement. C(tell) sends it to those who have not had it."""

    def __init__(self, client: Client, name: str, message: str, concurrency: int) -> None:
        """
        :raises SynapseError: if the server is not set up to send notices.
        """
        self._client = client
        self._name = name
        self._message = message
        self._concurrency = concurrency
        self._sender: str | None = None
        _require_notices(client)
        self._accounts = list(list_accounts(client))
        had = self._had()
        addressed = [account.user_id for account in self._accounts if _may_be_addressed(account)]
        self.unchanged = len(had.intersection(addressed))
        """How many have had it before."""
        self._waiting = sorted(set(addressed) - had, key=lambda user_id: (user_id != client.user_id, user_id))

    def planned(self) -> Iterator[Told]:
        """Whom C(tell) would tell, from reads alone."""
        for user_id, addressed in each(self._is_addressed, self._waiting, self._concurrency):
            if addressed:
                yield Told(user_id)

    def tell(self) -> Iterator[Told]:
        """Send it to those who have not had it, the operator first.

        Until one has been seen to have it, nobody else is told: what can't be seen would be sent again and again.
        """
        waiting = list(self._waiting)
        while waiting and self._sender is None:
            told = self._tell(waiting.pop(0))
            if told is not None:
                yield told
                if told.reason is None:
                    self._see(told.user_id)
        for _user_id, told in each(self._tell, waiting, self._concurrency):
            if told is not None:
                yield told

    def _is_addressed(self, user_id: str) -> bool:
        # The listing does not say who is an application service's, and somebody may have closed the account since.
        user = get_user(self._client, user_id)
        return account_class(user, self._client.user_id) in CLASSES and account_state(user) in STATES

    def _tell(self, user_id: str) -> Told | None:
        try:
            if not self._is_addressed(user_id):
                return None
            self._send(user_id)
        except SynapseError as error:
            if error.fatal:
                raise
            return Told(user_id, str(error))
        return Told(user_id)

    def _send(self, user_id: str) -> None:
        """Send it to one account. A request without an answer is not sent again before the account has been looked at.

        API: C(PUT /_synapse/admin/v1/send_server_notice/<transaction_id>). Synapse remembers a transaction for half an
        hour, as long as it is not restarted.
        """
        marker = {"name": self._name, "user_id": user_id}
        content = {"msgtype": "m.text", "body": self._message, MARKER: marker}
        transaction = hashlib.sha256(json.dumps(marker).encode()).hexdigest()
        for attempt in (1, 2):
            try:
                request: JsonDict = {"user_id": user_id, "content": content}
                self._client.request("PUT", f"{NOTICE}/{{}}", transaction, json=request, repeat=False)
                return
            except SynapseError as error:
                if not error.unanswered:
                    raise
                for pause in LOOKS:
                    time.sleep(pause)
                    if self._has(user_id):
                        return
                if attempt == 2:
                    raise

    def _has(self, user_id: str) -> bool:
        try:
            if self._sender is None:
                return user_id in self._had()
            with acting_as(self._client, user_id) as token:
                found = memberships(self._client, user_id, token)
            rooms = {*found.joined, *found.invited}.intersection(joined_rooms(self._client, self._sender))
            return any(user_id in self._had_in(room_id, self._sender) for room_id in rooms)
        except SynapseError as error:
            error.lost = error.unanswered
            raise

    def _see(self, user_id: str) -> None:
        for pause in (0.0, *LOOKS, *LOOKS):
            time.sleep(pause)
            if user_id in self._had():
                return
        raise SynapseError(
            f"A notice was sent to {user_id}, but is in no room that Synapse lists. Nobody else was sent one, since"
            " nobody could tell later who has had it. Either Synapse's statistics are switched off (stats: enabled:"
            " false in homeserver.yaml), or system_mxid_localpart of server_notices names an ordinary account"
        )

    def _had(self) -> set[str]:
        """Who has had it, at the price of one request per room with notices."""
        listed = {account.user_id for account in self._accounts}
        rooms = {}
        for room in list_rooms(self._client):
            creator = room.get("creator")
            if isinstance(creator, str) and self._is_unlisted(creator, listed) and _may_have_notices(room):
                rooms[room["room_id"]] = creator
        had = self._had_in_any(rooms)
        if self._sender is not None:
            # These are exact, but statistics, which list the rooms, lag behind.
            newer = set(joined_rooms(self._client, self._sender)).difference(rooms)
            had |= self._had_in_any(dict.fromkeys(newer, self._sender))
        return had

    def _is_unlisted(self, user_id: str, listed: set[str]) -> bool:
        return user_id not in listed and user_id.partition(":")[2] == self._client.server_name

    def _had_in_any(self, rooms: dict[str, str]) -> set[str]:
        had: set[str] = set()
        looks = each(lambda item: self._had_in(*item), rooms.items(), self._concurrency)
        for (_room_id, creator), user_ids in looks:
            if user_ids:
                self._sender = creator
                had |= user_ids
        return had

    def _had_in(self, room_id: str, sender: str) -> set[str]:
        """API: C(GET /_synapse/admin/v1/rooms/<room_id>/messages), which also has what nobody of us is in any more."""
        event_filter = json.dumps({"types": ["m.room.message"], "senders": [sender]})
        # Backwards, Synapse might ask other servers for what it misses.
        query: JsonDict = {"dir": "f", "limit": PAGE_SIZE, "filter": event_filter}
        found: set[str] = set()
        while True:
            try:
                page = self._client.get(f"{ADMIN}/v1/rooms/{{}}/messages", room_id, params=query)
            except SynapseError as error:
                if error.status != 404:
                    raise
                return found  # the room was purged meanwhile
            for event in page.objects("chunk"):
                marker = event.object("content").get(MARKER)
                if event.get("sender") == sender and isinstance(marker, dict) and marker.get("name") == self._name:
                    found.add(str(marker.get("user_id")))
            following = page.get("end")
            if following is None or following == query.get("from"):
                return found
            query["from"] = following


def _may_be_addressed(account: Account) -> bool:
    return account.account_class in CLASSES and account.state in STATES


def _may_have_notices(room: JsonDict) -> bool:
    members = room.get("joined_members")
    return members in (0, 1, 2) and members == room.get("joined_local_members")


def _require_notices(client: Client) -> None:
    """Ask for a notice that can't be sent. Synapse says first whether it could send any."""
    try:
        client.post(NOTICE, json={"user_id": NOBODY, "content": {}}, repeat=False)
    except SynapseError as error:
        if "not enabled" in error.error:
            raise SynapseError(
                f"Nothing was sent: {client.server_name} is not set up to send server notices. Add server_notices to"
                " homeserver.yaml, with at least a system_mxid_localpart that no account has, such as 'notices', and"
                " restart Synapse"
            ) from error
        if error.status not in (400, 404):
            raise
