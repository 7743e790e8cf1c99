# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The drain: deactivate many accounts, and see that they have left their rooms.

All accounts leave the rooms that other servers are in, then all are deactivated. The rooms that only this server is in
are left to Synapse, which does that in the background, one account and one room after the other.
"""

from __future__ import annotations

import sys
import threading
import time
import zlib
from collections import Counter, defaultdict
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Callable, Dict, Iterable, List, Sequence

from ._client import Client, SynapseError
from ._journal import Journal
from ._known_issues import rejoins_when_erased
from ._pool import Item, each
from ._redaction import redact_events
from ._rooms import (
    JOINED_ROOMS,
    BrokenRoom,
    Departure,
    broken_rooms,
    depart_all,
    is_federated,
    joined_rooms,
    leave,
    unlimited_messages,
    wait_until_parted,
)
from ._server import server_version
from ._users import (
    Account,
    deactivate,
    find_accounts,
    list_accounts,
    log_in_as,
    log_out,
    refuse,
    set_locked,
    unlocked,
)

RETURN_PAUSE = 1.0
"""For how long, in seconds, whoever brings accounts back may do so before they are looked at once more."""
MOST_SESSIONS = 1000
"""As how many accounts to be logged in at the same time, at most."""
ENOUGH_FAILURES = 3
"""After how many leaves of a room that the server failed at no more accounts try: each would slow down the others."""


@dataclass(frozen=True)
class Options:
    """How to drain.

    :param erase: also erase the accounts.
    :param redact: redact what each account has sent before it leaves any room.
    :param wait_for: wait until the accounts have left C(all) rooms, the C(federated) ones, or C(none).
    :param wait_timeout: seconds without any progress, after which Synapse has forgotten those that are still in rooms.
    :param max_passes: after how many passes an account that came in the meantime counts as failed.
    """

    erase: bool = True
    redact: bool = False
    wait_for: str = "all"
    wait_timeout: float = 60.0
    max_passes: int = 5
    concurrency: int = 8


@dataclass
class Drain:
    """What came of a drain.

    I(closed) maps the accounts that it deactivated to the state that they were in before, I(failed) those that it could
    not deactivate to the reason, I(not_parted) those that could not be made to leave to their rooms and the reason of
    each, and I(not_redacted) those with events that could not be redacted to how many these are and the reason of one.
    I(broken) are the rooms of I(not_parted), without those that accounts came back to. I(left) is how many accounts
    left their last federated room, I(parted) how many their last room of all, and I(proven) how many were seen, each by
    itself, to be in none of the rooms that are waited for. The times are seconds from the start until the last account
    had left its last federated room, and its last room of all; C(None) if not all have, or nobody has looked.
    """

    closed: dict[str, str] = field(default_factory=dict)
    unchanged: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    not_parted: dict[str, dict[str, str]] = field(default_factory=dict)
    not_redacted: dict[str, tuple[int, str]] = field(default_factory=dict)
    broken: dict[str, BrokenRoom] = field(default_factory=dict)
    left: int = 0
    parted: int = 0
    proven: int = 0
    reads: int = 0
    passes: int = 0
    federated_left_after: float | None = None
    all_left_after: float | None = None
    aborted: SynapseError | None = None


def drain(
    client: Client,
    user_ids: Sequence[str] | None,
    options: Options,
    journal: Journal,
    *,
    keep: Iterable[str] = (),
    allow_admins: bool = False,
    before_deactivation: Callable[[Sequence[Account]], object] | None = None,
    dry_run: bool = False,
) -> Drain:
    """Deactivate accounts, and wait until they have left their rooms, those too that were deactivated before.

    All accounts are looked at before the first is changed. Without I(user_ids), that is repeated until nobody is found
    who is active or has come back to a room, since the server is still running; after each pass, every account that is
    deactivated is looked at once more.

    :param user_ids: the accounts, or C(None) for every account of the server but admins and those in I(keep).
    :param before_deactivation: is called in each pass with the accounts that have left their federated rooms, as far as
        that is possible, and are deactivated next.
    :param dry_run: only say what would be done.
    :raises SynapseError: before anything is changed, for an account that does not exist or must not be deactivated.
    """
    looks_again = options.wait_for != "none" and user_ids is None
    run = _Run(client, options, journal, looks_again=looks_again, before_deactivation=before_deactivation)
    accounts = _select(client, user_ids, set(keep), allow_admins)
    to_close, closed = run.sort(accounts)
    run.result.unchanged = len(closed)
    if dry_run:
        run.result.closed = {account.user_id: account.state for account in to_close}
        return run.result
    try:
        run.go(to_close, run.look_again(closed))
        if user_ids is None:
            _until_nobody_is_found(run, set(keep))
    except SynapseError as error:
        run.result.aborted = error
    return run.conclude()


def _until_nobody_is_found(run: _Run, keep: set[str]) -> None:
    options, result = run.options, run.result
    hopeless: set[str] = set()
    while True:
        if run.waits and run.counts:
            time.sleep(RETURN_PAUSE)
        to_close, closed = run.sort(_eligible(list_accounts(run.client), keep))
        # Who is active may have joined any room since.
        run.proven.difference_update(account.user_id for account in to_close)
        to_close = [account for account in to_close if account.user_id not in hopeless]
        back = run.look_again(closed)
        if not to_close and not back:
            return
        if result.passes >= options.max_passes:
            for account in to_close:
                reason = f"is active after {options.max_passes} passes: does another process reactivate it?"
                result.failed.setdefault(account.user_id, reason)
            reason = f"came back {options.max_passes} times: is its application service still running?"
            for account, room_ids in back.items():
                result.not_parted[account.user_id] = dict.fromkeys(run.awaited(room_ids), reason)
                run.came_back.add(account.user_id)
            return
        # Whom the server would not close is tried once more: what it said may have been about that moment.
        again = {account.user_id for account in to_close if account.user_id in result.failed}
        run.go(to_close, back)
        hopeless |= again.intersection(result.failed)


def _eligible(accounts: Iterable[Account], keep: set[str]) -> list[Account]:
    return [a for a in accounts if a.account_class not in ("admin", "operator") and a.user_id not in keep]


def _select(client: Client, user_ids: Sequence[str] | None, keep: set[str], allow_admins: bool) -> list[Account]:
    if user_ids is None:
        everybody = list(list_accounts(client))
        missing = keep.difference(account.user_id for account in everybody)
        refuse(dict.fromkeys(sorted(missing), "is to be kept, but does not exist"))
        return _eligible(everybody, keep)

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


Rooms = Dict[Account, List[str]]


def _scatter(name: str) -> int:
    """To sort by: accounts that were made together share rooms, and only one at a time can leave a room."""
    return zlib.crc32(name.encode())


def _is_barred(account: Account) -> bool:
    """Who can't leave before the deactivation: nobody can log out a session as a guest, or use one as who is locked."""
    return account.account_class == "guest" or account.state == "locked"


def _reason(action: Callable[[], object]) -> str | None:
    """Do something, and return why it failed, if it did."""
    try:
        action()
    except SynapseError as error:
        if error.fatal:
            raise
        return str(error)
    return None


class _Run:
    """One pass after the other over the accounts that are still active, or in rooms."""

    def __init__(
        self,
        client: Client,
        options: Options,
        journal: Journal,
        *,
        looks_again: bool,
        before_deactivation: Callable[[Sequence[Account]], object] | None,
    ) -> None:
        """
        :param looks_again: everybody is looked at after the pass, so that who has left all rooms need not be at once.
        """
        self.client = client
        self.options = options
        self.journal = journal
        self.waits = options.wait_for != "none"
        self.looks_again = looks_again
        self.before_deactivation = before_deactivation
        self.result = Drain()
        self.proven: set[str] = set()
        self.came_back: set[str] = set()
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self._to_erase: set[str] = set()
        self._tokens: list[str] = []
        self._federated: dict[str, bool] = {}
        self._failures: defaultdict[str, list[str]] = defaultdict(list)
        # Who is in federated rooms, and who was until now; when the last of these left, and when the last left all.
        self._in_federated: set[str] = set()
        self._left_federated: set[str] = set()
        self._began = self._federated_left_at = self._all_left_at = time.monotonic()

    @cached_property
    def _rejoins_when_erased(self) -> bool:
        return rejoins_when_erased(server_version(self.client))

    def sort(self, accounts: Iterable[Account]) -> tuple[list[Account], list[Account]]:
        """The accounts that are to be deactivated, and those that are."""
        to_close: list[Account] = []
        closed: list[Account] = []
        for account in accounts:
            (closed if self._is_closed(account) else to_close).append(account)
        return to_close, closed

    def _is_closed(self, account: Account) -> bool:
        # A guest's access token outlives the deactivation, but not the lock.
        if account.account_class == "guest" and not account.locked:
            return False
        return account.state == "erased" or (account.state == "deactivated" and not self.options.erase)

    def _each(self, function: Callable[[Item], object], items: Iterable[Item]) -> None:
        for _done in each(function, items, self.options.concurrency):
            pass

    def _record(self, user_id: str, result: str, **more: object) -> None:
        with self._lock:
            self.counts[result] += 1
            self.journal.write(user_id, result, **more)

    def _try(self, user_id: str, action: Callable[[], object]) -> bool:
        """Do something without which the account counts as failed, and say whether that was possible."""
        error = _reason(action)
        if error is not None:
            self._fail(user_id, error)
        return error is None

    def _fail(self, user_id: str, error: str) -> None:
        self.result.closed.pop(user_id, None)
        self.result.failed[user_id] = error
        self._record(user_id, "failed", error=error)

    def _read(self, user_id: str) -> list[str]:
        """The rooms that an account is joined to, by a fresh read."""
        joined = joined_rooms(self.client, user_id)
        self._note(user_id, joined)
        return joined

    def _note(self, user_id: str, room_ids: list[str]) -> None:
        if self._federated_of(room_ids):
            self._in_federated.add(user_id)
        elif user_id in self._in_federated:
            self._in_federated.remove(user_id)
            self._left_federated.add(user_id)
            self._federated_left_at = time.monotonic()

    def _read_all(self, accounts: Iterable[Account], attempt: Callable[[str, Callable[[], None]], object]) -> Rooms:
        """The rooms of accounts. Each room is looked at once, and not by each account.

        :param attempt: does something about an account, and decides what it means that it fails.
        """
        rooms: Rooms = {}

        def read(account: Account) -> None:
            def act() -> None:
                # Each room once in memory, too, whoever is in it.
                rooms[account] = list(map(sys.intern, joined_rooms(self.client, account.user_id)))

            attempt(account.user_id, act)

        self._each(read, accounts)
        distinct = sorted({room_id for room_ids in rooms.values() for room_id in room_ids})
        self._each(self._is_federated, distinct)
        for account, room_ids in rooms.items():
            self._note(account.user_id, room_ids)
        return rooms

    def _federated_of(self, room_ids: Iterable[str]) -> list[str]:
        return list(filter(self._is_federated, room_ids))

    def _is_federated(self, room_id: str) -> bool:
        """Asked once: when the last account of ours has left, Synapse does not know any more."""
        if room_id not in self._federated:
            self._federated[room_id] = is_federated(self.client, room_id)
        return self._federated[room_id]

    def awaited(self, room_ids: list[str]) -> list[str]:
        """Those of these rooms that are waited for."""
        return room_ids if self.options.wait_for == "all" else self._federated_of(room_ids)

    def _look(self, user_id: str) -> list[str]:
        """The rooms that an account has yet to leave, of those that are waited for."""
        return self.awaited(self._read(user_id))

    def look_again(self, closed: Iterable[Account]) -> Rooms:
        """Which of these accounts are in rooms, whatever was seen before: who has left may have come back.

        Not those that are only in rooms that they could not be made to leave.
        """
        back = {}
        accounts = sorted(closed) if self.waits else ()
        for account, room_ids in self._read_all(accounts, lambda _user_id, act: act()).items():
            awaited = self.awaited(room_ids)
            if awaited:
                self.proven.discard(account.user_id)
            else:
                self.proven.add(account.user_id)
                self.result.not_parted.pop(account.user_id, None)
            if not self.result.not_parted.get(account.user_id, {}).keys() >= set(awaited):
                back[account] = room_ids
        return back

    def go(self, to_close: Sequence[Account], stragglers: Rooms) -> None:
        """Deactivate accounts, and see them out of their rooms, and those that are deactivated, but in these rooms."""
        self.result.passes += 1
        self.journal.expect(len(to_close) + len(stragglers))
        self._let_leave(to_close)
        rooms = {**stragglers, **self._read_all(to_close, self._try)}
        redacts = set(to_close) if self.options.redact else set()
        scattered = sorted(rooms, key=lambda account: _scatter(account.user_id))
        sends = any(rooms[a] if a in redacts else self._federated_of(rooms[a]) for a in rooms)
        with unlimited_messages(self.client) if sends else nullcontext():
            # Synapse makes the first leave, in the order of their deactivation, while the others leave by themselves.
            for barred in (True, False):
                group = [account for account in scattered if _is_barred(account) is barred]
                for start in range(0, len(group), MOST_SESSIONS):
                    self._leave_federated(group[start : start + MOST_SESSIONS], rooms, redacts)
                closing = [account for account in group if account in rooms and account not in stragglers]
                closing.sort(key=lambda account: not self._federated_of(rooms[account]))
                if self.before_deactivation is not None and closing:
                    self.before_deactivation(closing)
                self._each(lambda account: self._close(account, rooms[account]), closing)
        waiting = {}
        for account in [a for a in rooms if a.user_id not in self.result.failed]:
            awaited = len(self.awaited(rooms[account]))
            if self.waits and (awaited or not self.looks_again):
                waiting[account.user_id] = awaited
            elif not rooms[account]:
                self._left_all(account.user_id)
        if self.waits:
            self._see_out(waiting)

    def _let_leave(self, accounts: Iterable[Account]) -> None:
        """Wait for those who were deactivated, and are to be erased, but may still be leaving their rooms.

        An old Synapse that is told to deactivate an account again while it leaves forgets the rest of its rooms.
        """
        leaving = [a.user_id for a in accounts if a.is_deactivated]
        self._wait(leaving, self._read, lambda _user_id: None)

    def _leave_federated(self, accounts: Sequence[Account], rooms: Rooms, redacts: set[Account]) -> None:
        """Make accounts leave their federated rooms, as far as they can; those in I(redacts) redact before.

        Whose redaction fails stays as it is, and is taken out of I(rooms). The leaves come first: what can be done when
        all are gone, that is to look whether 200 has also meant left, and to log out, would only delay them.
        """

        def look(account: Account) -> None:
            _reason(lambda: rooms.update({account: self._read(account.user_id)}))

        try:
            self._each(lambda account: self._send_leaves(account, rooms, redacts=account in redacts), accounts)
            self._each(look, [a for a in accounts if self._federated_of(rooms.get(a, ())) and not _is_barred(a)])
        finally:
            tokens, self._tokens = self._tokens, []
            self._each(lambda token: _reason(partial(log_out, self.client, token)), tokens)

    def _send_leaves(self, account: Account, rooms: Rooms, *, redacts: bool) -> None:
        user_id = account.user_id
        to_redact = rooms[account] if redacts else []
        federated = self._federated_of(rooms[account])
        to_leave = [] if _is_barred(account) else sorted(federated, key=lambda room_id: _scatter(user_id + room_id))
        not_left: dict[str, str | None] = dict.fromkeys(federated)

        def act() -> None:
            nonlocal to_redact
            token = log_in_as(self.client, user_id)
            self._tokens.append(token)
            if to_redact:
                self._redact(user_id, to_redact, token)
                to_redact = []
            for room_id in to_leave:
                not_left[room_id] = self._try_to_leave(room_id, token)
                if not_left[room_id] is None:
                    del not_left[room_id]

        error = _reason(act) if to_redact or to_leave else None
        if error and to_redact:
            self._fail(user_id, error)
            del rooms[account]
            return
        left = len(federated) - len(not_left)
        reasons = {room_id: reason or error or "Synapse is to do it" for room_id, reason in not_left.items()}
        self._record(user_id, "not left" if not_left else "left", rooms_left=left, not_left=reasons or None)

    def _redact(self, user_id: str, room_ids: list[str], token: str | None) -> None:
        failed = redact_events(self.client, user_id, room_ids, token)
        if failed:
            self.result.not_redacted[user_id] = (len(failed), next(iter(failed.values())))
            self._record(user_id, "not redacted", not_redacted=failed)

    def _try_to_leave(self, room_id: str, token: str | None) -> str | None:
        """Leave a room, unless the server has failed at that so often that trying only slows down the others."""
        failures = self._failures[room_id]
        if len(failures) >= ENOUGH_FAILURES:
            return failures[-1]
        try:
            leave(self.client, room_id, token)
        except SynapseError as error:
            if error.fatal:
                raise
            if error.unanswered or (error.status or 0) >= 500:
                failures.append(str(error))
            return str(error)
        return None

    def _close(self, account: Account, room_ids: list[str]) -> None:
        user_id = account.user_id

        def act() -> None:
            if account.account_class == "guest" and not account.locked:
                set_locked(self.client, user_id, True)
            self._deactivate(user_id, in_rooms=bool(room_ids))

        if self._try(user_id, act):
            self.result.failed.pop(user_id, None)
            self.result.closed[user_id] = account.state
            self._record(user_id, "deactivated")

    def _deactivate(self, user_id: str, *, in_rooms: bool) -> None:
        """Deactivate an account, and erase it now, or later where it would come back to its rooms otherwise."""
        later = in_rooms and self.options.erase and self.waits and self._rejoins_when_erased
        deactivate(self.client, user_id, erase=self.options.erase and not later)
        if later:
            self._to_erase.add(user_id)

    def _left_all(self, user_id: str, rooms_left: int | None = None) -> None:
        self._all_left_at = time.monotonic()
        self._record(user_id, "parted", rooms_left=rooms_left)

    def _wait(
        self, user_ids: Iterable[str], look: Callable[[str], list[str]], on_parted: Callable[[str], None]
    ) -> list[str]:
        """Those who are still in rooms when nobody moves any more."""
        timeout, concurrency = self.options.wait_timeout, self.options.concurrency
        return list(
            wait_until_parted(
                self.client, user_ids, look, timeout=timeout, concurrency=concurrency, on_parted=on_parted
            )
        )

    def _see_out(self, waiting: dict[str, int]) -> None:
        """Wait until these have left the rooms that are waited for, and help those whose leave Synapse has dropped.

        :param waiting: how many such rooms each is in.
        """

        def on_parted(user_id: str) -> None:
            self.result.not_parted.pop(user_id, None)
            if not self.looks_again:
                self.proven.add(user_id)
            if self.options.wait_for == "all":
                self._left_all(user_id, waiting[user_id])
            elif waiting[user_id]:
                self._record(user_id, "left", rooms_left=waiting[user_id])

        stuck = self._wait(waiting, self._look, on_parted)
        if stuck:
            # Synapse tries once more. Not before nothing moves any more: on old versions, an account that is
            # deactivated again while it is leaving stays for good.
            for user_id in stuck:
                error = _reason(partial(self._deactivate, user_id, in_rooms=True))
                self._record(user_id, "queued again" if error is None else "not queued again", error=error)
            stuck = self._wait(stuck, self._look, on_parted)
        with unlimited_messages(self.client) if stuck else nullcontext():
            for user_id, not_left in each(self._leave_by_hand, stuck, self.options.concurrency):
                if not_left:
                    self.result.not_parted[user_id] = not_left
                    self._record(user_id, "not parted", rooms=not_left)
                else:
                    on_parted(user_id)
        self._erase()

    def _leave_by_hand(self, user_id: str) -> dict[str, str]:
        """Return the rooms that it is still in, and why."""
        departure = Departure(user_id)

        def depart() -> None:
            nonlocal departure
            with unlocked(self.client, user_id):
                (departure,) = depart_all(self.client, [user_id], 1)

        reason = _reason(depart) or departure.error or "the server says nothing"
        return {room_id: departure.failed.get(room_id, reason) for room_id in self._look(user_id)}

    def _erase(self) -> None:
        """Erase those who had to be out of all their rooms before."""
        to_erase = sorted(self._to_erase)
        self._to_erase.clear()
        self._wait([u for u in to_erase if u not in self.result.not_parted], self._read, lambda _user_id: None)
        for user_id in to_erase:
            self._try(user_id, partial(deactivate, self.client, user_id, erase=True))

    def conclude(self) -> Drain:
        """Sum up."""
        result = self.result
        result.left, result.parted = len(self._left_federated), self.counts["parted"]
        result.proven = len(self.proven.difference(result.not_parted))
        result.reads = self.client.sent[JOINED_ROOMS]
        stuck = (rooms for user_id, rooms in result.not_parted.items() if user_id not in self.came_back)
        result.broken = broken_rooms(stuck, self._is_federated)
        if not (result.aborted or result.failed or self._in_federated):
            result.federated_left_after = self._federated_left_at - self._began
            if self.options.wait_for == "all" and not result.not_parted:
                result.all_left_after = self._all_left_at - self._began
        return result
