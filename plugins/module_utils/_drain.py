# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The drain: close many accounts, and see all of them out of every room."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Callable, Iterable, Iterator, Sequence

from ._client import Client, SynapseError
from ._pool import each
from ._rooms import still_joined, wait_until_parted
from ._users import Account, deactivate, find_accounts, list_accounts, refuse

Log = Callable[..., None]


@dataclass
class Drain:
    """What came of a drain. I(closed) maps the accounts that it closed to the state that they were in before."""

    closed: dict[str, str] = field(default_factory=dict)
    unchanged: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    not_parted: dict[str, list[str]] = field(default_factory=dict)
    passes: int = 0
    aborted: str | None = None


@contextmanager
def json_lines(path: str | None) -> Iterator[Log]:
    """A log of one JSON line for each thing that happens to an account. Without I(path), of nothing."""
    if path is None:
        yield _ignore
        return
    with open(path, "a", buffering=1, encoding="utf-8") as file:

        def write(user_id: str, result: str, **more: object) -> None:
            line = {"time": round(time.time(), 3), "user_id": user_id, "result": result, **more}
            file.write(json.dumps(line) + "\n")

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
    wait: bool = True,
    wait_timeout: float = 600.0,
    max_passes: int = 5,
    concurrency: int = 8,
    log: Log,
    dry_run: bool = False,
) -> Drain:
    """Deactivate accounts, and wait until all of them have left all rooms, those too that were closed before.

    All accounts are looked at before the first is changed. Without I(user_ids), that is repeated until no open account
    is found, since somebody may have come in the meantime.

    :param user_ids: the accounts, or C(None) for every account of the server but admins and those in I(keep).
    :param wait_timeout: seconds without any progress, after which to stop waiting for accounts to part.
    :param max_passes: after how many passes an account that came in the meantime counts as failed.
    :param dry_run: only say what would be done.
    :raises SynapseError: before anything is changed, for an account that does not exist or must not be closed.
    """
    result = Drain()
    while True:
        accounts = _select(client, user_ids, set(keep), allow_admins)
        still_open = [account for account in accounts if not _is_closed(account, erase)]
        todo = [account for account in still_open if account.user_id not in result.failed]
        if result.passes == 0:
            result.unchanged = len(accounts) - len(todo)
            if dry_run:
                result.closed = {account.user_id: account.state for account in todo}
                return result
        elif not todo:
            return result
        elif result.passes == max_passes:
            for account in todo:
                result.failed[account.user_id] = f"is open after {max_passes} passes: who keeps bringing it back?"
            return result
        result.passes += 1
        try:
            waiting: list[str] = []
            if wait:
                closed_before = {account.user_id for account in accounts} - {account.user_id for account in still_open}
                waiting = list(still_joined(client, closed_before, concurrency))
            waiting += _close(client, todo, erase, concurrency, log, result)
            if wait:
                _see_out(client, waiting, wait_timeout, concurrency, log, result)
        except SynapseError as error:
            result.aborted = str(error)
            return result
        if user_ids is not None:
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
        elif account.account_class == "admin" and not allow_admins:
            refused[account.user_id] = "is an admin, and allow_admins is not set"
    refuse(refused)
    return list(accounts.values())


def _close(
    client: Client, accounts: Iterable[Account], erase: bool, concurrency: int, log: Log, result: Drain
) -> list[str]:
    def close(account: Account) -> str | None:
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


def _see_out(
    client: Client, user_ids: Sequence[str], timeout: float, concurrency: int, log: Log, result: Drain
) -> None:
    not_parted = wait_until_parted(
        client,
        user_ids,
        timeout=timeout,
        concurrency=concurrency,
        on_parted=lambda user_id: log(user_id, "parted"),
    )
    for user_id, room_ids in not_parted.items():
        log(user_id, "not parted", rooms=room_ids)
    result.not_parted.update(not_parted)
