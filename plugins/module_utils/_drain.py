# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The drain: close many accounts, and see all of them out of every room."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Callable, Iterable, Iterator, Sequence

from ._client import Client, SynapseError
from ._pool import each
from ._rooms import depart_all, joined_rooms, still_joined, try_to_leave, unlimited_messages, wait_until_parted
from ._users import Account, acting_as, deactivate, find_accounts, list_accounts, refuse

Log = Callable[..., None]


@dataclass
class Drain:
    """What came of a drain.

    I(closed) maps the accounts that it closed to the state that they were in before, I(failed) those that it could not
    close to the reason, and I(not_parted) those that could not be made to leave to their rooms and the reason of each.
    """

    closed: dict[str, str] = field(default_factory=dict)
    unchanged: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    not_parted: dict[str, dict[str, str]] = field(default_factory=dict)
    passes: int = 0
    aborted: SynapseError | None = None


@contextmanager
def json_lines(path: str | None) -> Iterator[Log]:
    """A log of one JSON line for each thing that happens to an account. Without I(path), of nothing."""
    if path is None:
        yield _ignore
        return
    # Without a buffer: what has been written is there for tail -f, and after a crash.
    with open(path, "ab", buffering=0) as file:

        def write(user_id: str, result: str, **more: object) -> None:
            line = {"time": round(time.time(), 3), "user_id": user_id, "result": result, **more}
            try:
                file.write(json.dumps(line).encode() + b"\n")
            except OSError as error:
                raise SynapseError(f"the log can't be written: {error}") from error

        yield write


def _ignore(*_what: object, **_more: object) -> None:
    pass


def drain(
    client: Client,
    user_ids: Sequence[str] | None,
    *,
    keep: Iterable[str] = (),
    erase: bool = True,
    allow_admins: bool = False,
    leave_first: bool = False,
    wait: bool = True,
    wait_timeout: float = 60.0,
    max_passes: int = 5,
    concurrency: int = 8,
    log: Log,
    dry_run: bool = False,
) -> Drain:
    """Deactivate accounts, and wait until all of them have left all rooms, those too that were closed before.

    All accounts are looked at before the first is changed. Without I(user_ids), that is repeated until no open account
    is found, since somebody may have come in the meantime.

    :param user_ids: the accounts, or C(None) for every account of the server but admins and those in I(keep).
    :param leave_first: make each account leave its rooms itself before it is deactivated, many at the same time. What
        that misses is left to Synapse, which does it after the deactivation, one room after the other.
    :param wait_timeout: seconds without any progress, after which Synapse has forgotten those that are still in rooms.
    :param max_passes: after how many passes an account that came in the meantime counts as failed.
    :param dry_run: only say what would be done.
    :raises SynapseError: before anything is changed, for an account that does not exist or must not be closed.
    """

    def look() -> tuple[list[Account], set[str]]:
        """The accounts to close, and those that are closed."""
        accounts = _select(client, user_ids, set(keep), allow_admins)
        to_close = [account for account in accounts if not _is_closed(account, erase)]
        return to_close, {account.user_id for account in accounts}.difference(a.user_id for a in to_close)

    to_close, closed = look()
    result = Drain(unchanged=len(closed))
    if dry_run:
        result.closed = {account.user_id: account.state for account in to_close}
        return result
    try:
        while result.passes < max_passes:
            result.passes += 1
            _let_leave(client, to_close, wait_timeout, concurrency)
            in_rooms = list(still_joined(client, closed, concurrency)) if wait else []
            with unlimited_messages(client) if leave_first and to_close else nullcontext():
                in_rooms += _close(client, to_close, erase, leave_first, concurrency, log, result)
            if wait:
                result.not_parted = _see_out(client, in_rooms, erase, wait_timeout, concurrency, log)
            if user_ids is not None:
                return result
            to_close, closed = look()
            to_close = [account for account in to_close if account.user_id not in result.failed]
            if not to_close:
                return result
        for account in to_close:
            result.failed[account.user_id] = f"is open after {max_passes} passes: who keeps bringing it back?"
    except SynapseError as error:
        result.aborted = error
    return result


def _is_closed(account: Account, erase: bool) -> bool:
    return account.state == "erased" or (account.state == "deactivated" and not erase)


def _select(client: Client, user_ids: Sequence[str] | None, keep: set[str], allow_admins: bool) -> list[Account]:
    if user_ids is None:
        accounts = {account.user_id: account for account in list_accounts(client)}
        refuse({user_id: "is to be kept, but does not exist" for user_id in keep if user_id not in accounts})
        spared = ("admin", "operator")
        return [a for a in accounts.values() if a.account_class not in spared and a.user_id not in keep]

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


def _let_leave(client: Client, accounts: Iterable[Account], timeout: float, concurrency: int) -> None:
    """Wait for those who were deactivated, and are to be erased, but may still be leaving their rooms.

    An old Synapse that is told to deactivate an account again while it leaves forgets the rest of its rooms.
    """
    leaving = still_joined(client, [a.user_id for a in accounts if a.state == "deactivated"], concurrency)
    wait_until_parted(client, list(leaving), timeout=timeout, concurrency=concurrency, on_parted=_ignore)


def _close(
    client: Client,
    accounts: Iterable[Account],
    erase: bool,
    leave_first: bool,
    concurrency: int,
    log: Log,
    result: Drain,
) -> list[str]:
    def close(account: Account) -> str | None:
        # Nobody can log out a session that was opened as a guest.
        if leave_first and account.account_class != "guest" and account.state != "deactivated":
            _leave(client, account.user_id)
        try:
            deactivate(client, account.user_id, erase=erase)
        except SynapseError as error:
            if error.fatal:
                raise
            return str(error)
        return None

    closed = []
    for account, error in each(close, accounts, concurrency):
        if error is None:
            closed.append(account.user_id)
            result.closed[account.user_id] = account.state
            log(account.user_id, "deactivated")
        else:
            result.failed[account.user_id] = error
            log(account.user_id, "failed", error=error)
    return closed


def _leave(client: Client, user_id: str) -> None:
    """Make an account leave, as far as it can: when it is deactivated, Synapse goes on with what is left."""
    try:
        with acting_as(client, user_id) as token:
            for room_id in joined_rooms(client, user_id):
                try_to_leave(client, room_id, token)
    except SynapseError as error:
        if error.fatal:
            raise


def _see_out(
    client: Client, user_ids: Sequence[str], erase: bool, timeout: float, concurrency: int, log: Log
) -> dict[str, dict[str, str]]:
    """Wait until all have parted, and help those whose leave Synapse has dropped. Return who is still where and why."""

    def wait_for(user_ids: Sequence[str]) -> list[str]:
        return list(
            wait_until_parted(
                client,
                user_ids,
                timeout=timeout,
                concurrency=concurrency,
                on_parted=lambda user_id: log(user_id, "parted"),
            )
        )

    stuck = wait_for(user_ids)
    if stuck:
        # Synapse tries once more. Not before nothing moves any more: on old versions, an account that is deactivated
        # again while it is leaving stays for good.
        for user_id in stuck:
            try:
                deactivate(client, user_id, erase=erase)
                log(user_id, "queued again")
            except SynapseError as error:
                if error.fatal:
                    raise
                log(user_id, "not queued again", error=str(error))
        stuck = wait_for(stuck)
    not_parted = {}
    for departure in depart_all(client, stuck, concurrency):
        rooms = joined_rooms(client, departure.user_id)
        if rooms:
            reason = departure.error or "the server says nothing"
            not_parted[departure.user_id] = {room_id: departure.failed.get(room_id, reason) for room_id in rooms}
            log(departure.user_id, "not parted", rooms=not_parted[departure.user_id])
        else:
            log(departure.user_id, "parted")
    return not_parted
