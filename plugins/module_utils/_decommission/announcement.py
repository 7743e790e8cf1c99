# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An announcement: a server notice to every active account, sent once to each.

The recipients so far are read from the notices themselves: each has a marker with the name of the announcement. Notices
are in rooms that the notices account of Synapse has created. No API names this account. Like the bots of application
services, it creates rooms and is in no listing of accounts.
"""

from __future__ import annotations

import hashlib
import json
import time
from functools import cached_property
from typing import Iterator, NamedTuple

from .._synapse.accounts import Account, classified_accounts, get_account, list_accounts
from .._synapse.answer import JsonDict
from .._synapse.client import ADMIN, Client
from .._synapse.errors import FatalError, RefusedError, SynapseError
from .._synapse.messages import ADMIN_MESSAGES, list_events
from .._synapse.rooms import joined_rooms, list_rooms, memberships
from .._synapse.sessions import Session, login_is_delegated
from .._synapse.unanswered import CHECK_PAUSES, send_once

MARKER = "io.github.matrixops.announcement"
NOTICE = f"{ADMIN}/v1/send_server_notice"
NO_ACCOUNT = "@nobody:matrixops.invalid"
CLASSES = ("operator", "admin", "user")
STATES = ("active", "suspended")
"""The classes and states of the recipients. Guests are left out, since a guest account is not used again."""


class Sent(NamedTuple):
    """The result for one account: sent, or the reason why not."""

    user_id: str
    error: str | None = None


class Announcement:
    """An announcement to send to the accounts that do not have it yet.

    :ivar unchanged: the number of accounts that have it already.
    """

    def __init__(self, client: Client, name: str, message: str, *, dry_run: bool = False) -> None:
        """Read the accounts, and which of them have the announcement.

        :param dry_run: whether only C(predict) is called.
        :raises FatalError: if the server is not configured to send notices.
        """
        self._client = client
        self._name = name
        self._message = message
        self._sender: str | None = None
        _require_notices(client)
        self._accounts = classified_accounts(client) if dry_run else list(list_accounts(client))
        received = self._received()
        eligible = [account.user_id for account in self._accounts if is_recipient(account)]
        self.unchanged = len(received.intersection(eligible))
        self._pending = sorted(set(eligible) - received, key=lambda user_id: (user_id != client.user_id, user_id))

    @cached_property
    def _is_delegated(self) -> bool:
        return login_is_delegated(self._client)

    def predict(self) -> Iterator[Sent]:
        """The accounts that C(send) would send it to, by the reads of C(__init__)."""
        yield from map(Sent, self._pending)

    def send(self) -> Iterator[Sent]:
        """Send it to the accounts that do not have it, the operator first.

        No second notice is sent before the first was found on the server: notices that cannot be found would be sent
        again by each run.

        :raises FatalError: if the first notice is not found.
        """
        pending = list(self._pending)
        while pending and self._sender is None:
            sent = self._send(pending.pop(0))
            if sent is not None:
                yield sent
                if sent.error is None:
                    self._wait_until_found(sent.user_id)
        for _user_id, sent in self._client.map(self._send, pending, step="notices sent"):
            if sent is not None:
                yield sent

    def _is_recipient(self, user_id: str) -> bool:
        # The listing does not show accounts of application services, and an account may have been deactivated since.
        return is_recipient(get_account(self._client, user_id))

    def _send(self, user_id: str) -> Sent | None:
        try:
            if not self._is_recipient(user_id):
                return None
            self._send_notice(user_id)
        except RefusedError as error:
            return Sent(user_id, error.reason)
        return Sent(user_id)

    def _send_notice(self, user_id: str) -> None:
        """Send it to one account. After a lost answer, it is only sent again if the account does not have it.

        API: C(PUT /_synapse/admin/v1/send_server_notice/<transaction_id>). Synapse remembers a transaction for half an
        hour, and forgets it when it restarts. C(POST) without the transaction ID where login is delegated: Synapse
        answers 500 to a transaction ID that comes with a token without a device.
        """
        marker = {"name": self._name, "user_id": user_id}
        content = {"msgtype": "m.text", "body": self._message, MARKER: marker}
        transaction = hashlib.sha256(json.dumps(marker).encode()).hexdigest()
        request: JsonDict = {"user_id": user_id, "content": content}

        def send() -> None:
            if self._is_delegated:
                self._client.post(NOTICE, json=request, repeat=False)
            else:
                self._client.request("PUT", f"{NOTICE}/{{}}", transaction, json=request, repeat=False)

        send_once(send, lambda: self._has_received(user_id))

    def _has_received(self, user_id: str) -> bool:
        if self._sender is None:
            return user_id in self._received()
        with Session(self._client, user_id) as session:
            found = memberships(self._client, user_id, session.token)
        rooms = {*found.joined, *found.invited}.intersection(joined_rooms(self._client, self._sender))
        return any(user_id in self._received_in(room_id, self._sender) for room_id in rooms)

    def _wait_until_found(self, user_id: str) -> None:
        for pause in (0.0, *CHECK_PAUSES, *CHECK_PAUSES):
            time.sleep(pause)
            if user_id in self._received():
                return
        raise FatalError(
            f"A notice was sent to {user_id}, but it is in no room that Synapse lists. No other notice was sent, since"
            " later runs could not find out which accounts have one. Either enable Synapse's statistics (stats:"
            " enabled: true in homeserver.yaml), or set system_mxid_localpart of server_notices to a name that no"
            " account has; then restart Synapse and run again"
        )

    def _received(self) -> set[str]:
        """The accounts that have the announcement. Takes one request per room with notices."""
        listed = {account.user_id for account in self._accounts}
        rooms = {}
        for room in list_rooms(self._client):
            creator = room.get("creator")
            if isinstance(creator, str) and self._may_be_sender(creator, listed) and _may_have_notices(room):
                rooms[room["room_id"]] = creator
        received = self._received_in_rooms(rooms)
        if self._sender is not None:
            # The listing is based on statistics, which lag behind. The joined rooms of the sender are exact.
            unlisted = set(joined_rooms(self._client, self._sender)).difference(rooms)
            received |= self._received_in_rooms(dict.fromkeys(unlisted, self._sender))
        return received

    def _may_be_sender(self, user_id: str, listed: set[str]) -> bool:
        return user_id not in listed and user_id.partition(":")[2] == self._client.server_name

    def _received_in_rooms(self, rooms: dict[str, str]) -> set[str]:
        """The same, of these rooms with their creators. Remembers the creator of a room with a notice as the sender."""
        received: set[str] = set()
        answers = self._client.map(lambda item: self._received_in(*item), rooms.items(), step="rooms with notices read")
        for (_room_id, creator), user_ids in answers:
            if user_ids:
                self._sender = creator
                received |= user_ids
        return received

    def _received_in(self, room_id: str, sender: str) -> set[str]:
        event_filter = {"types": ["m.room.message"], "senders": [sender]}
        found: set[str] = set()
        try:
            for event in list_events(self._client, ADMIN_MESSAGES, room_id, event_filter):
                marker = event.object("content").get(MARKER)
                if event.get("sender") == sender and isinstance(marker, dict) and marker.get("name") == self._name:
                    found.add(str(marker.get("user_id")))
        except SynapseError as error:
            # The room may have been purged meanwhile.
            if error.status != 404:
                raise
        return found


def is_recipient(account: Account) -> bool:
    """Whether an account is one that an announcement is sent to."""
    return account.account_class in CLASSES and account.state in STATES


def _may_have_notices(room: JsonDict) -> bool:
    members = room.get("joined_members")
    return members in (0, 1, 2) and members == room.get("joined_local_members")


def _require_notices(client: Client) -> None:
    """Request a notice to a remote account. Synapse refuses it, and first reports if it cannot send any notice."""
    try:
        client.post(NOTICE, json={"user_id": NO_ACCOUNT, "content": {}}, repeat=False)
    except SynapseError as error:
        if "not enabled" in error.error:
            raise FatalError(
                f"No changes made: {client.server_name} is not configured to send server notices. Set server_notices"
                " in homeserver.yaml, with at least a system_mxid_localpart that no account has, for example"
                " 'notices', and restart Synapse"
            ) from error
        if error.status not in (400, 404):
            raise
