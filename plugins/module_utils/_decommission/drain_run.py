# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The passes of a drain over the accounts that are still active, or joined to rooms."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Callable, ContextManager, Iterable, Sequence

from .._synapse.accounts import Account, deactivate, get_account, set_locked, suspend
from .._synapse.client import Client
from .._synapse.errors import RefusedError, SynapseError
from .._synapse.rooms import JOINED_ROOMS, unlimited_messages
from .._synapse.server import server_version
from .._synapse.versions import rejoins_when_erased
from .broken_rooms import BrokenRoom, broken_rooms
from .eligibility import Eligibility
from .federated_leaves import FederatedLeaves, is_barred, reason_of, scatter
from .leaving import leave_all_rooms
from .progress import DrainLog
from .recorder import Recorder
from .room_tracker import Rooms, RoomTracker
from .waiting import wait_until_left


@dataclass(frozen=True)
class Options:
    """How to drain.

    :param eligibility: which accounts may be deactivated.
    :param erase: also erase the accounts.
    :param suspend: suspend each account before its deactivation, so that it stays shut out.
    :param redact: redact the events of each account before it leaves any room.
    :param wait_for: wait until the accounts have left C(all) rooms, the C(federated) ones, or C(none).
    :param wait_timeout: seconds without any progress, after which Synapse has dropped the leaves that are missing.
    :param max_passes: number of passes after which an account that is still found has failed.
    """

    eligibility: Eligibility = field(default_factory=Eligibility)
    erase: bool = True
    suspend: bool = False
    redact: bool = False
    wait_for: str = "all"
    wait_timeout: float = 60.0
    max_passes: int = 5

    @property
    def waits(self) -> bool:
        """Whether any rooms are waited for."""
        return self.wait_for != "none"

    def is_done(self, account: Account) -> bool:
        """Whether an account is deactivated, and erased if that is asked for."""
        # A guest's access token outlives the deactivation, but not the lock.
        if account.account_class == "guest" and not account.locked:
            return False
        return account.state == "erased" or (account.state == "deactivated" and not self.erase)


@dataclass
class DrainResult:
    """The result of a drain.

    :ivar deactivated: the accounts that were deactivated or erased, with the state that they were in before.
    :ivar unchanged: number of accounts that were deactivated before.
    :ivar failed: the accounts that could not be deactivated, with the reason.
    :ivar still_joined: the accounts that could not be made to leave, with their rooms and the reason of each.
    :ivar not_redacted: the accounts with events that could not be redacted: how many, and the reason of one.
    :ivar left_to_deactivation: the accounts whose leaves got no answer, so that they had to leave with their
        deactivation, with the reason.
    :ivar broken: the rooms of I(still_joined), without those that accounts joined again.
    :ivar left_federated: number of accounts that left their last federated room.
    :ivar left_all_rooms: number of accounts that left their last room.
    :ivar verified: number of accounts that were read to be in none of the rooms that are waited for.
    :ivar reads: number of requests that read the rooms of an account.
    :ivar passes: number of passes.
    :ivar federated_left_after: seconds until the last account had left its last federated room, if all have.
    :ivar all_left_after: seconds until the last account had left its last room, if all have and were waited for.
    :ivar aborted: the error that ended the drain.
    """

    deactivated: dict[str, str] = field(default_factory=dict)
    unchanged: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    still_joined: dict[str, dict[str, str]] = field(default_factory=dict)
    not_redacted: dict[str, tuple[int, str]] = field(default_factory=dict)
    left_to_deactivation: dict[str, str] = field(default_factory=dict)
    broken: dict[str, BrokenRoom] = field(default_factory=dict)
    left_federated: int = 0
    left_all_rooms: int = 0
    verified: int = 0
    reads: int = 0
    passes: int = 0
    federated_left_after: float | None = None
    all_left_after: float | None = None
    aborted: SynapseError | None = None


class DrainRun:
    """One drain: what is known of the accounts, and the steps of a pass. Fills its I(result)."""

    def __init__(
        self,
        client: Client,
        options: Options,
        log: DrainLog,
        result: DrainResult,
        *,
        named: bool,
        recorder: Recorder | None,
    ) -> None:
        """
        :param named: whether the accounts were named. If not, all are listed again after each pass, so that those that
            have left all rooms by then need not be waited for within the pass.
        """
        self._client = client
        self._options = options
        self._log = log
        self._result = result
        self._named = named
        self._lists_again = options.waits and not named
        self._recorder = recorder
        self._began = self._all_left_at = time.monotonic()
        self._tracker = RoomTracker(client, self._began)
        self._leaves = FederatedLeaves(client, self._tracker, self._record, self._fail)
        result.not_redacted = self._leaves.not_redacted
        result.left_to_deactivation = self._leaves.left_to_deactivation
        self._verified: set[str] = set()
        self._rejoined: set[str] = set()
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._to_erase: set[str] = set()

    # What to do

    @property
    def has_acted(self) -> bool:
        """Whether anything was done to an account."""
        return bool(self._counts)

    def sort(self, accounts: Iterable[Account]) -> tuple[list[Account], list[Account]]:
        """The accounts that are to be deactivated, and those that are."""
        to_deactivate: list[Account] = []
        deactivated: list[Account] = []
        for account in accounts:
            (deactivated if self._options.is_done(account) else to_deactivate).append(account)
        return to_deactivate, deactivated

    def forget(self, active: Iterable[Account]) -> None:
        """Forget that these accounts were out of all rooms: an active account may have joined some since."""
        self._verified.difference_update(account.user_id for account in active)

    def find_stragglers(self, deactivated: Iterable[Account]) -> Rooms:
        """Those of these accounts that are joined to rooms that are waited for, with all their rooms.

        Without those that are only in rooms which they could not be made to leave.
        """
        stragglers = {}
        accounts = sorted(deactivated) if self._options.waits else ()
        for account, room_ids in self._tracker.read_all(accounts, lambda _user_id, act: act()).items():
            awaited = self._awaited(room_ids)
            if awaited:
                self._verified.discard(account.user_id)
            else:
                self._verified.add(account.user_id)
                self._result.still_joined.pop(account.user_id, None)
            if not self._result.still_joined.get(account.user_id, {}).keys() >= set(awaited):
                stragglers[account] = room_ids
        return stragglers

    def give_up(self, active: Iterable[Account], stragglers: Rooms) -> None:
        """Record that these accounts are found again in every pass."""
        passes = self._options.max_passes
        for account in active:
            reason = f"still active after {passes} passes: another process reactivates it. Stop that process"
            self._result.failed.setdefault(account.user_id, reason)
        reason = f"joined again {passes} times: stop its application service"
        for account, room_ids in stragglers.items():
            self._result.still_joined[account.user_id] = dict.fromkeys(self._awaited(room_ids), reason)
            self._rejoined.add(account.user_id)

    def _awaited(self, room_ids: list[str]) -> list[str]:
        """Those of these rooms that are waited for."""
        return room_ids if self._options.wait_for == "all" else self._tracker.federated_of(room_ids)

    def _read_awaited(self, user_id: str) -> list[str]:
        """The rooms that an account has yet to leave, of those that are waited for."""
        return self._awaited(self._tracker.read(user_id))

    def record_joined(self) -> None:
        """Record the federated rooms of all accounts, if that is asked for."""
        if self._recorder is not None:
            found = self._recorder.record_joined()
            self._tracker.learn(found.joined, found.federated)

    # One pass

    def run_pass(self, to_deactivate: Sequence[Account], stragglers: Rooms) -> None:
        """Deactivate accounts, and make them and the stragglers leave their rooms."""
        self._result.passes += 1
        self._let_finish_leaving(to_deactivate)
        rooms = {**stragglers, **self._tracker.read_all(to_deactivate, self._try)}
        self._log.expect(len(to_deactivate) + len(stragglers))
        redacting = set(to_deactivate) if self._options.redact else set()
        order = sorted(rooms, key=lambda account: scatter(account.user_id))
        with self._rate_limit_lifted(rooms, redacting):
            # Barred accounts first: Synapse makes them leave, in the background, while the others leave themselves.
            for barred in (True, False):
                group = [account for account in order if is_barred(account) is barred]
                self._leaves.send(group, rooms, redacting)
                self._deactivate_all([a for a in group if a in rooms and a not in stragglers], rooms)
        self._wait_for(rooms)

    def _let_finish_leaving(self, accounts: Iterable[Account]) -> None:
        """Wait for accounts that were deactivated, and are to be erased, but may still be leaving their rooms.

        An old Synapse drops the rest of the rooms of an account that is deactivated again while it leaves.
        """
        leaving = [account.user_id for account in accounts if account.is_deactivated]
        self._wait(leaving, self._tracker.read, lambda _user_id: None)

    def _rate_limit_lifted(self, rooms: Rooms, redacting: set[Account]) -> ContextManager[None]:
        sends = any(rooms[a] if a in redacting else self._tracker.federated_of(rooms[a]) for a in rooms)
        return unlimited_messages(self._client) if sends else nullcontext()

    def _deactivate_all(self, accounts: list[Account], rooms: Rooms) -> None:
        # Synapse makes accounts leave in the order of their deactivation: those in federated rooms come first.
        accounts.sort(key=lambda account: not self._tracker.federated_of(rooms[account]))
        if self._recorder is not None and accounts:
            self._recorder.record_pending(accounts)
        self._client.for_each(lambda account: self._deactivate_one(account, rooms[account]), accounts)

    def _deactivate_one(self, account: Account, room_ids: list[str]) -> None:
        user_id = account.user_id

        def act() -> None:
            self._options.eligibility.check_again(self._client, user_id, named=self._named)
            if account.account_class == "guest" and not account.locked:
                set_locked(self._client, user_id, True)
            if self._options.suspend:
                suspend(self._client, user_id)
            self._deactivate(user_id, in_rooms=bool(room_ids))

        if self._try(user_id, act):
            self._result.failed.pop(user_id, None)
            self._result.deactivated[user_id] = account.state
            self._record(user_id, "deactivated")

    def _deactivate(self, user_id: str, *, in_rooms: bool) -> None:
        """Deactivate an account, and erase it now, or later where it would join its rooms again otherwise."""
        erase = self._options.erase
        later = in_rooms and erase and self._options.waits and self._rejoins_when_erased
        deactivate(self._client, user_id, erase=erase and not later)
        if later:
            self._to_erase.add(user_id)

    @cached_property
    def _rejoins_when_erased(self) -> bool:
        return rejoins_when_erased(server_version(self._client))

    # Waiting

    def _wait_for(self, rooms: Rooms) -> None:
        """Wait until these accounts, if they did not fail, have left the rooms that are waited for."""
        waiting = {}
        for account in [a for a in rooms if a.user_id not in self._result.failed]:
            awaited = len(self._awaited(rooms[account]))
            if self._options.waits and (awaited or not self._lists_again):
                waiting[account.user_id] = awaited
            elif not rooms[account]:
                self._record_left_all(account.user_id)
        if self._options.waits:
            self._make_leave(waiting)
            self._erase()

    def _make_leave(self, waiting: dict[str, int]) -> None:
        """Wait for accounts, and retry for those whose leaves Synapse has dropped.

        :param waiting: the number of rooms that each is waited for in.
        """

        def on_left(user_id: str) -> None:
            self._result.still_joined.pop(user_id, None)
            if not self._lists_again:
                self._verified.add(user_id)
            if self._options.wait_for == "all":
                self._record_left_all(user_id, waiting[user_id])
            elif waiting[user_id]:
                self._record(user_id, "left", rooms_left=waiting[user_id])

        stuck = self._wait(waiting, self._read_awaited, on_left)
        if stuck:
            for user_id in stuck:
                self._queue_again(user_id)
            stuck = self._wait(stuck, self._read_awaited, on_left)
        with unlimited_messages(self._client) if stuck else nullcontext():
            for user_id, not_left in self._client.map(self._leave_by_session, stuck):
                if not_left:
                    self._result.still_joined[user_id] = not_left
                    self._record(user_id, "still_joined", rooms=not_left)
                else:
                    on_left(user_id)

    def _queue_again(self, user_id: str) -> None:
        """Have Synapse try again to make an account leave.

        Only when nothing progresses any more: an old Synapse drops the rooms of an account that is still leaving.
        """

        def act() -> None:
            self._options.eligibility.check_again(self._client, user_id, named=self._named)
            self._deactivate(user_id, in_rooms=True)

        error = reason_of(act)
        self._record(user_id, "queued_again" if error is None else "not_queued_again", error=error)

    def _leave_by_session(self, user_id: str) -> dict[str, str]:
        """Act as an account that Synapse could not make leave. Return the rooms that it is still in, with reasons."""
        (departure,) = leave_all_rooms(self._client, [user_id])
        reason = departure.error or "the server gives no reason"
        return {room_id: departure.failed.get(room_id, reason) for room_id in self._read_awaited(user_id)}

    def _erase(self) -> None:
        """Erase the accounts that had to leave all their rooms before."""
        to_erase = sorted(self._to_erase)
        self._to_erase.clear()
        in_no_room = [user_id for user_id in to_erase if user_id not in self._result.still_joined]
        self._wait(in_no_room, self._tracker.read, lambda _user_id: None)
        for user_id in to_erase:
            self._try(user_id, partial(self._erase_one, user_id))

    def _erase_one(self, user_id: str) -> None:
        self._options.eligibility.check_again(self._client, user_id, named=self._named)
        deactivate(self._client, user_id, erase=True)

    def _wait(
        self, user_ids: Iterable[str], read: Callable[[str], list[str]], on_left: Callable[[str], None]
    ) -> list[str]:
        """Wait, and return the accounts that are still in rooms when nothing progresses any more."""
        timeout = self._options.wait_timeout
        return list(wait_until_left(self._client, user_ids, read, timeout=timeout, on_left=on_left))

    # Records

    def _record(self, user_id: str, result: str, **more: object) -> None:
        with self._lock:
            self._counts[result] += 1
            self._log.write(user_id, result, **more)

    def _record_left_all(self, user_id: str, rooms_left: int | None = None) -> None:
        self._all_left_at = time.monotonic()
        self._record(user_id, "left_all_rooms", rooms_left=rooms_left)

    def _try(self, user_id: str, action: Callable[[], object]) -> bool:
        """Do something without which the account has failed, and return whether it was possible."""
        error = reason_of(action)
        if error is not None:
            self._fail(user_id, error)
        return error is None

    def _fail(self, user_id: str, error: str) -> None:
        self._result.deactivated.pop(user_id, None)
        self._result.failed[user_id] = error
        self._record(user_id, "failed", error=error)

    def _drop_resolved_failures(self) -> None:
        """Forget failures of accounts that are deactivated by now, for example by another admin."""

        def why_not(user_id: str) -> str | None:
            return reason_of(partial(self._assert_done, user_id))

        for user_id, reason in self._client.map(why_not, list(self._result.failed)):
            if reason is None:
                del self._result.failed[user_id]
                self._result.unchanged += 1

    def _assert_done(self, user_id: str) -> None:
        if not self._options.is_done(get_account(self._client, user_id)):
            raise RefusedError(f"{user_id} is not deactivated")

    def conclude(self) -> None:
        """Fill in the sums of the result."""
        result, tracker = self._result, self._tracker
        if result.aborted is None:
            self._drop_resolved_failures()
        result.left_federated, result.left_all_rooms = len(tracker.left_federated), self._counts["left_all_rooms"]
        result.verified = len(self._verified.difference(result.still_joined))
        result.reads = self._client.sent[JOINED_ROOMS]
        stuck = (rooms for user_id, rooms in result.still_joined.items() if user_id not in self._rejoined)
        result.broken = broken_rooms(stuck, tracker.is_federated)
        if not (result.aborted or result.failed or tracker.in_federated):
            result.federated_left_after = tracker.left_federated_at - self._began
            if self._options.wait_for == "all" and not result.still_joined:
                result.all_left_after = self._all_left_at - self._began
