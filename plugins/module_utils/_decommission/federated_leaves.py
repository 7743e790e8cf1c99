# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Accounts leave their federated rooms, many side by side, before they are deactivated."""

from __future__ import annotations

import zlib
from collections import defaultdict
from typing import Callable, Sequence

from .._synapse.accounts import Account, localpart_of
from .._synapse.client import Client
from .._synapse.errors import RefusedError
from .._synapse.redaction import is_permanent, redact_events
from .._synapse.rooms import leave
from .._synapse.sessions import Session, end_all
from .room_tracker import Rooms, RoomTracker

MAX_SESSIONS = 1000
"""Maximum number of accounts that the operator acts as at the same time."""
MAX_FAILURES = 3
"""Number of leaves of a room that fail with a server error, after which no more accounts try to leave it: a leave that
ends in an error slows down all others."""

MAX_UNANSWERED = 3
"""Number of leaves in sequence, of any rooms, that stay without an answer, after which no more are sent. What answers
them is down then. The accounts leave with their deactivation, which another process of Synapse may carry out."""
PATIENCE = 40.0
"""Seconds for which a leave without an answer is sent again."""

Event = Callable[..., None]
"""Records an event of an account: its user ID, the result, and more values for the log."""


class FederatedLeaves:
    """Sends the leaves of accounts, and before them the redactions that are asked for."""

    def __init__(self, client: Client, tracker: RoomTracker, record: Event, fail: Callable[[str, str], None]) -> None:
        """
        :param record: records an event of an account.
        :param fail: records that an account can't be deactivated, with the reason.
        """
        self._client = client
        self._tracker = tracker
        self._record = record
        self._fail = fail
        self._sessions: list[Session] = []
        self._failures: defaultdict[str, list[str]] = defaultdict(list)
        self._unanswered: list[str] = []
        self.not_redacted: dict[str, tuple[int, str]] = {}
        """The accounts with events that could not be redacted: how many, and the reason of one."""
        self.left_to_deactivation: dict[str, str] = {}
        """The accounts that have to leave with their deactivation, since leaves got no answer, with the reason."""

    def send(self, accounts: Sequence[Account], rooms: Rooms, redacting: set[Account]) -> None:
        """Let accounts leave their federated rooms, as far as possible.

        :param rooms: the rooms of the accounts. Updated, and without the accounts whose redaction failed as a whole.
        :param redacting: the accounts whose events are redacted before they leave.
        """
        for start in range(0, len(accounts), MAX_SESSIONS):
            self._send_batch(accounts[start : start + MAX_SESSIONS], rooms, redacting)

    def _send_batch(self, accounts: Sequence[Account], rooms: Rooms, redacting: set[Account]) -> None:
        # The leaves come first. Reading the rooms again and ending the sessions would only delay them.
        def send(account: Account) -> None:
            self._send_leaves(account, rooms, redacts=account in redacting)

        def read_again(account: Account) -> None:
            reason_of(lambda: rooms.update({account: self._tracker.read(account.user_id)}))

        try:
            self._client.for_each(send, accounts)
            sent = [a for a in accounts if self._tracker.federated_of(rooms.get(a, ())) and not is_barred(a)]
            self._client.for_each(read_again, sent)
        finally:
            sessions, self._sessions = self._sessions, []
            end_all(self._client, sessions)

    def _send_leaves(self, account: Account, rooms: Rooms, *, redacts: bool) -> None:
        user_id = account.user_id
        to_redact = rooms[account] if redacts else []
        federated = self._tracker.federated_of(rooms[account])
        to_leave = [] if is_barred(account) else sorted(federated, key=lambda room_id: scatter(user_id + room_id))
        session = Session(self._client, user_id, locked=self._may_unlock(account))
        self._sessions.append(session)
        if to_redact:
            error = reason_of(lambda: self._redact(account, session, to_redact))
            if error is not None:
                self._fail(user_id, error)
                del rooms[account]
                return
        not_left: dict[str, str | None] = dict.fromkeys(federated)

        def leave_rooms() -> None:
            for room_id in to_leave:
                not_left[room_id] = self._leave(session, room_id)
                if not_left[room_id] is None:
                    del not_left[room_id]

        error = reason_of(leave_rooms)
        reasons = {room_id: reason or error or "left to Synapse" for room_id, reason in not_left.items()}
        left = len(federated) - len(not_left)
        if not_left and len(self._unanswered) >= MAX_UNANSWERED:
            self.left_to_deactivation[user_id] = self._unanswered[-1]
            self._record(user_id, "left_to_deactivation")
        self._record(user_id, "not_left" if not_left else "left", rooms_left=left, not_left=reasons or None)

    def _may_unlock(self, account: Account) -> bool:
        """Whether to unlock an account while the operator acts as it.

        Only a service that handles login can end all other sessions first, so that its owner does not use it then.
        """
        return account.state == "locked" and self._client.service is not None

    def _redact(self, account: Account, session: Session, room_ids: list[str]) -> None:
        """Redact the events of an account.

        :raises RefusedError: if some could still be redacted later. Only the account can do that, as long as it is
            active and in the rooms, so it must stay so.
        """
        user_id = session.user_id
        if self._client.service is not None and self._may_unlock(account):
            self._client.service.end_all_sessions(localpart_of(user_id))
        failed = redact_events(self._client, session, room_ids)
        if not failed:
            self.not_redacted.pop(user_id, None)
            return
        reasons = {event_id: error.reason for event_id, error in failed.items()}
        self.not_redacted[user_id] = (len(failed), next(iter(reasons.values())))
        self._record(user_id, "not_redacted", not_redacted=reasons)
        repeatable = [error for error in failed.values() if not is_permanent(error)]
        if repeatable:
            raise RefusedError(
                f"{len(repeatable):,} of its events are not redacted yet, so it stays active. The reason of one:"
                f" {repeatable[0].reason}"
            )

    def _leave(self, session: Session, room_id: str) -> str | None:
        """Leave a room, unless too many leaves of it have failed. Return why it was not left."""
        # Outside of the handler: an error of the session is one of all rooms.
        token = session.token
        failures = self._failures[room_id]
        if len(failures) >= MAX_FAILURES:
            return failures[-1]
        if len(self._unanswered) >= MAX_UNANSWERED:
            return self._unanswered[-1]
        try:
            leave(self._client, room_id, token, patience=PATIENCE)
        except RefusedError as error:
            if error.unanswered or (error.status or 0) >= 500:
                failures.append(error.reason)
            if error.unanswered:
                self._unanswered.append(error.reason)
            else:
                self._unanswered.clear()
            return error.reason
        self._unanswered.clear()
        return None


def is_barred(account: Account) -> bool:
    """Whether an account can't leave rooms before its deactivation.

    A guest's session can't be ended, and a locked account stays locked.
    """
    return account.account_class == "guest" or account.state == "locked"


def scatter(name: str) -> int:
    """A sort key. Accounts that were created together share rooms, which only one at a time can leave."""
    return zlib.crc32(name.encode())


def reason_of(action: Callable[[], object]) -> str | None:
    """Do something about one account, and return why it was refused, or C(None)."""
    try:
        action()
    except RefusedError as error:
        return error.reason
    return None
