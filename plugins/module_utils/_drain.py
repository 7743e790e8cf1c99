# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The drain: close many accounts, and see all of them out of every room."""

from __future__ import annotations

import time
import zlib
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Callable, Iterable, Sequence

from ._client import Client, SynapseError
from ._journal import Journal
from ._known_issues import rejoins_when_erased
from ._pool import each
from ._redaction import redact_events
from ._rooms import (
    JOINED_ROOMS,
    Departure,
    depart_all,
    joined_rooms,
    still_joined,
    try_to_leave,
    unlimited_messages,
    wait_until_parted,
)
from ._server import server_version
from ._users import Account, acting_as, deactivate, find_accounts, list_accounts, refuse, set_locked, unlocked

RETURN_PAUSE = 1.0
"""For how long, in seconds, whoever brings accounts back may do so before they are looked at once more."""


@dataclass(frozen=True)
class Options:
    """How to drain.

    :param erase: also erase the accounts.
    :param redact: redact what each account has sent before it is deactivated.
    :param leave_first: make each account leave its rooms before it is deactivated, many at the same time. What that
        misses is left to Synapse, which does it after the deactivation, one room after the other.
    :param wait: wait until all of them have left all rooms.
    :param wait_timeout: seconds without any progress, after which Synapse has forgotten those that are still in rooms.
    :param max_passes: after how many passes an account that came in the meantime counts as failed.
    """

    erase: bool = True
    redact: bool = False
    leave_first: bool = True
    wait: bool = True
    wait_timeout: float = 60.0
    max_passes: int = 5
    concurrency: int = 8


@dataclass
class Drain:
    """What came of a drain.

    I(closed) maps the accounts that it closed to the state that they were in before, I(failed) those that it could not
    close to the reason, I(not_parted) those that could not be made to leave to their rooms and the reason of each, and
    I(not_redacted) those with events that could not be redacted to how many these are and the reason of one. I(parted)
    is how many left their rooms meanwhile, and I(proven) how many accounts were seen, each by itself, to be in no room.
    """

    closed: dict[str, str] = field(default_factory=dict)
    unchanged: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    not_parted: dict[str, dict[str, str]] = field(default_factory=dict)
    not_redacted: dict[str, tuple[int, str]] = field(default_factory=dict)
    parted: int = 0
    proven: int = 0
    reads: int = 0
    passes: int = 0
    aborted: SynapseError | None = None


def drain(
    client: Client,
    user_ids: Sequence[str] | None,
    options: Options,
    journal: Journal,
    *,
    keep: Iterable[str] = (),
    allow_admins: bool = False,
    dry_run: bool = False,
) -> Drain:
    """Deactivate accounts, and wait until all of them have left all rooms, those too that were closed before.

    All accounts are looked at before the first is changed. Without I(user_ids), that is repeated until nobody is found
    who is open or has come back to a room, since the server is still running; after each pass, every account that is
    closed is looked at once more.

    :param user_ids: the accounts, or C(None) for every account of the server but admins and those in I(keep).
    :param dry_run: only say what would be done.
    :raises SynapseError: before anything is changed, for an account that does not exist or must not be closed.
    """
    work = _Work(client, options, journal, looks_again=options.wait and user_ids is None)
    accounts = _select(client, user_ids, set(keep), allow_admins)
    to_close, closed = work.sort(accounts)
    work.result.unchanged = len(closed)
    if dry_run:
        work.result.closed = {account.user_id: account.state for account in to_close}
        return work.result
    try:
        in_rooms = work.look_again(closed) if options.wait else {}
        work.run(to_close, {user_id: len(room_ids) for user_id, room_ids in in_rooms.items()})
        if user_ids is None:
            _until_nobody_is_found(work, set(keep))
    except SynapseError as error:
        work.result.aborted = error
    work.result.proven = len(work.proven.difference(work.result.not_parted))
    work.result.reads = client.sent[JOINED_ROOMS]
    return work.result


def _until_nobody_is_found(work: _Work, keep: set[str]) -> None:
    client, options, result = work.client, work.options, work.result
    hopeless: set[str] = set()
    acted = bool(result.closed or result.parted)
    while True:
        if options.wait and acted:
            time.sleep(RETURN_PAUSE)
        to_close, closed = work.sort(_to_go(list_accounts(client), keep))
        # Who is open may have joined any room since.
        work.proven.difference_update(account.user_id for account in to_close)
        to_close = [account for account in to_close if account.user_id not in hopeless]
        back = work.look_again(closed.difference(result.not_parted)) if options.wait else {}
        if not to_close and not back:
            return
        if result.passes >= options.max_passes:
            for account in to_close:
                reason = f"is open after {options.max_passes} passes: who keeps bringing it back?"
                result.failed.setdefault(account.user_id, reason)
            for user_id, room_ids in back.items():
                reason = f"came back {options.max_passes} times: is its application service still running?"
                result.not_parted[user_id] = dict.fromkeys(room_ids, reason)
            return
        # Whom the server would not close is tried once more: what it said may have been about that moment.
        again = {account.user_id for account in to_close if account.user_id in result.failed}
        work.run(to_close, {user_id: len(room_ids) for user_id, room_ids in back.items()})
        acted = True
        hopeless |= again.intersection(result.failed)


def _is_spared(account: Account, keep: set[str]) -> bool:
    return account.account_class in ("admin", "operator") or account.user_id in keep


def _to_go(accounts: Iterable[Account], keep: set[str]) -> list[Account]:
    return [account for account in accounts if not _is_spared(account, keep)]


def _select(client: Client, user_ids: Sequence[str] | None, keep: set[str], allow_admins: bool) -> list[Account]:
    if user_ids is None:
        everybody = list(list_accounts(client))
        missing = keep.difference(account.user_id for account in everybody)
        refuse(dict.fromkeys(sorted(missing), "is to be kept, but does not exist"))
        return _to_go(everybody, keep)

    refused = {}
    accounts = find_accounts(client, user_ids)
    for account in accounts.values():
        if account.account_class == "operator":
            refused[account.user_id] = "is the operator: its access token would die in the middle of the work"
        elif account.user_id in keep:
            refused[account.user_id] = "is to be kept"
        elif account.account_class == "admin" and not allow_admins:
            refused[account.user_id] = "is an admin, and allow_admins is not set"
    refuse(refused)
    return list(accounts.values())


@dataclass
class _Closing:
    """What came of closing one account."""

    rooms_left: int = 0
    still_in: int = 0
    closed: bool = False
    parted: bool = False
    not_left: dict[str, str] = field(default_factory=dict)
    not_redacted: dict[str, str] = field(default_factory=dict)
    error: str = ""


def _scatter(name: str) -> int:
    """To sort by: accounts that were made together share rooms, and only one at a time can leave a room."""
    return zlib.crc32(name.encode())


class _Work:
    """One pass after the other over the accounts that are still open, or in rooms."""

    def __init__(self, client: Client, options: Options, journal: Journal, *, looks_again: bool) -> None:
        """
        :param looks_again: everybody is looked at after the pass, so that who has left all rooms need not be at once.
        """
        self.client = client
        self.options = options
        self.journal = journal
        self.looks_again = looks_again
        self.result = Drain()
        self.proven: set[str] = set()
        self.to_erase: set[str] = set()

    @cached_property
    def _rejoins_when_erased(self) -> bool:
        return rejoins_when_erased(server_version(self.client))

    def sort(self, accounts: Iterable[Account]) -> tuple[list[Account], set[str]]:
        """The accounts that are to be closed, and those that are closed."""
        to_close = []
        closed = set()
        for account in accounts:
            if self._is_closed(account):
                closed.add(account.user_id)
            else:
                to_close.append(account)
        return to_close, closed

    def _is_closed(self, account: Account) -> bool:
        # A guest's access token outlives the deactivation, but not the lock.
        if account.account_class == "guest" and not account.locked:
            return False
        return account.state == "erased" or (account.state == "deactivated" and not self.options.erase)

    def look_again(self, closed: Iterable[str]) -> dict[str, list[str]]:
        """Which of these accounts are in rooms, whatever was seen before: who has left may have come back."""
        user_ids = sorted(closed)
        back = still_joined(self.client, user_ids, self.options.concurrency)
        self.proven.update(user_ids)
        self.proven.difference_update(back)
        return back

    def run(self, to_close: Sequence[Account], in_rooms: dict[str, int]) -> None:
        """Close these accounts, and see them out of their rooms, and those that are closed, but in so many rooms."""
        self.result.passes += 1
        self.journal.expect(len(to_close) + len(in_rooms))
        self._let_leave(to_close)
        in_rooms.update(self._close(to_close))
        if self.options.wait:
            self._see_out(in_rooms)

    def _let_leave(self, accounts: Iterable[Account]) -> None:
        """Wait for those who were deactivated, and are to be erased, but may still be leaving their rooms.

        An old Synapse that is told to deactivate an account again while it leaves forgets the rest of its rooms.
        """
        deactivated = [a.user_id for a in accounts if a.state in ("deactivated", "erased")]
        leaving = still_joined(self.client, deactivated, self.options.concurrency)
        self._wait(list(leaving), lambda _user_id: None)

    def _close(self, accounts: Sequence[Account]) -> dict[str, int]:
        """Return those that are still in rooms, with how many that are."""
        in_rooms = {}
        sends = accounts and (self.options.leave_first or self.options.redact)
        with unlimited_messages(self.client) if sends else nullcontext():
            scattered = sorted(accounts, key=lambda account: _scatter(account.user_id))
            for account, closing in each(self._close_one, scattered, self.options.concurrency):
                user_id = account.user_id
                if closing.not_redacted:
                    first = next(iter(closing.not_redacted.values()))
                    self.result.not_redacted[user_id] = (len(closing.not_redacted), first)
                if not closing.closed:
                    self.result.failed[user_id] = closing.error
                    self.journal.write(user_id, "failed", error=closing.error)
                    continue
                self.result.failed.pop(user_id, None)
                self.result.closed[user_id] = account.state
                self.journal.write(
                    user_id,
                    "deactivated",
                    rooms_left=closing.rooms_left,
                    not_left=closing.not_left or None,
                    not_redacted=closing.not_redacted or None,
                )
                if closing.parted:
                    self._parted(user_id)
                else:
                    in_rooms[user_id] = closing.still_in
        return in_rooms

    def _close_one(self, account: Account) -> _Closing:
        closing = _Closing()
        try:
            self._try_to_close(account, closing)
            closing.closed = True
            has_left = self.options.leave_first and not closing.still_in
            closing.parted = has_left and (self.looks_again or not joined_rooms(self.client, account.user_id))
        except SynapseError as error:
            if error.fatal:
                raise
            closing.error = str(error)
        return closing

    def _try_to_close(self, account: Account, closing: _Closing) -> None:
        client, user_id = self.client, account.user_id
        room_ids = joined_rooms(client, user_id)
        closing.still_in = len(room_ids)
        if self.options.redact and room_ids:
            with acting_as(client, user_id) as token:
                closing.not_redacted = redact_events(client, user_id, room_ids, token)
        # Nobody can log out a session that was opened as a guest.
        if self.options.leave_first and room_ids and account.account_class != "guest":
            closing.not_left = self._leave(user_id, room_ids)
            closing.still_in = len(closing.not_left)
            closing.rooms_left = len(room_ids) - closing.still_in
        if account.account_class == "guest" and not account.locked:
            set_locked(client, user_id, True)
        self._deactivate(user_id, in_rooms=bool(closing.still_in))

    def _deactivate(self, user_id: str, *, in_rooms: bool) -> None:
        """Deactivate an account, and erase it now, or later where it would come back to its rooms otherwise."""
        later = in_rooms and self.options.erase and self.options.wait and self._rejoins_when_erased
        deactivate(self.client, user_id, erase=self.options.erase and not later)
        if later:
            self.to_erase.add(user_id)

    def _leave(self, user_id: str, room_ids: Iterable[str]) -> dict[str, str]:
        """Make an account leave, as far as it can: when it is deactivated, Synapse goes on with what is left."""
        not_left = dict.fromkeys(room_ids, "")
        try:
            with acting_as(self.client, user_id) as token:
                for room_id in sorted(room_ids, key=lambda room_id: _scatter(user_id + room_id)):
                    reason = try_to_leave(self.client, room_id, token)
                    if reason is None:
                        del not_left[room_id]
                    else:
                        not_left[room_id] = reason
        except SynapseError as error:
            if error.fatal:
                raise
            return {room_id: reason or str(error) for room_id, reason in not_left.items()}
        return not_left

    def _parted(self, user_id: str, rooms_left: int | None = None) -> None:
        self.result.parted += 1
        self.result.not_parted.pop(user_id, None)
        if not self.looks_again:
            self.proven.add(user_id)
        self.journal.write(user_id, "parted", rooms_left=rooms_left)

    def _wait(self, user_ids: Sequence[str], on_parted: Callable[[str], None]) -> list[str]:
        """Those who are still in rooms when nobody moves any more."""
        return list(
            wait_until_parted(
                self.client,
                user_ids,
                timeout=self.options.wait_timeout,
                concurrency=self.options.concurrency,
                on_parted=on_parted,
            )
        )

    def _see_out(self, in_rooms: dict[str, int]) -> None:
        """Wait until all have parted, and help those whose leave Synapse has dropped."""

        def on_parted(user_id: str) -> None:
            self._parted(user_id, in_rooms[user_id])

        stuck = self._wait(list(in_rooms), on_parted)
        if stuck:
            # Synapse tries once more. Not before nothing moves any more: on old versions, an account that is
            # deactivated again while it is leaving stays for good.
            for user_id in stuck:
                self._queue_again(user_id)
            stuck = self._wait(stuck, on_parted)
        for user_id in stuck:
            not_parted = self._leave_by_hand(user_id)
            if not_parted:
                self.result.not_parted[user_id] = not_parted
                self.journal.write(user_id, "not parted", rooms=not_parted)
            else:
                on_parted(user_id)
        self._erase()

    def _erase(self) -> None:
        """Erase those who had to be out of their rooms before."""
        for user_id, error in each(self._try_to_erase, sorted(self.to_erase), self.options.concurrency):
            if error:
                self.result.closed.pop(user_id, None)
                self.result.failed[user_id] = error
                self.journal.write(user_id, "failed", error=error)
        self.to_erase.clear()

    def _try_to_erase(self, user_id: str) -> str:
        try:
            deactivate(self.client, user_id, erase=True)
        except SynapseError as error:
            if error.fatal:
                raise
            return str(error)
        return ""

    def _queue_again(self, user_id: str) -> None:
        try:
            self._deactivate(user_id, in_rooms=True)
            self.journal.write(user_id, "queued again")
        except SynapseError as error:
            if error.fatal:
                raise
            self.journal.write(user_id, "not queued again", error=str(error))

    def _leave_by_hand(self, user_id: str) -> dict[str, str]:
        """Return the rooms that it is still in, and why."""
        try:
            with unlocked(self.client, user_id):
                (departure,) = depart_all(self.client, [user_id], self.options.concurrency)
        except SynapseError as error:
            if error.fatal:
                raise
            departure = Departure(user_id, error=str(error))
        reason = departure.error or "the server says nothing"
        return {room_id: departure.failed.get(room_id, reason) for room_id in joined_rooms(self.client, user_id)}
