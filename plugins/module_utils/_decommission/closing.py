# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deactivate accounts of the homeserver and of the service that handles login, and wait until Synapse has made them
leave their rooms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterable, Iterator, Sequence

from .._results import with_reasons
from .._synapse.accounts import (
    Account,
    deactivate,
    existing_accounts,
    list_accounts,
    localpart_of,
    unknown_to_synapse,
)
from .._synapse.answer import JsonDict
from .._synapse.client import Client
from .._synapse.delegation import ServiceAccount
from .._synapse.errors import RefusedError, SynapseError
from .._synapse.rooms import joined_rooms
from .._synapse.server import server_version
from .._synapse.versions import rejoins_when_erased
from .._text import join_names
from .eligibility import Eligibility, refuse
from .waiting import wait_until_left


@dataclass(frozen=True)
class Options:
    """How to deactivate.

    :param eligibility: which accounts may be deactivated.
    :param erase: also erase the accounts.
    :param wait_timeout: seconds without any progress, after which an account that is still joined to rooms has failed.
    :param dry_run: change nothing.
    """

    eligibility: Eligibility
    erase: bool = True
    wait_timeout: float = 60.0
    dry_run: bool = False


@dataclass
class ClosingResult:
    """The result.

    :ivar deactivated: the accounts that were deactivated or erased, with the state that they were in before.
    :ivar unchanged: number of accounts that were deactivated before.
    :ivar failed: the accounts that could not be deactivated, or are still in rooms, with the reason of each.
    :ivar aborted: the error that ended it.
    """

    deactivated: dict[str, str] = field(default_factory=dict)
    unchanged: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    aborted: SynapseError | None = None


def close_accounts(client: Client, user_ids: Sequence[str] | None, options: Options) -> ClosingResult:
    """Deactivate accounts, and wait until they are out of all rooms. All are read before the first is changed, and each
    once more right before it is changed.

    :param user_ids: the accounts, or C(None) for every account, of the homeserver or the service, that may be.
    :raises FatalError: before anything is changed, for an account that does not exist or must not be deactivated.
    """
    service_only = {account.user_id: account for account in service_only_accounts(client)}
    selected = _select(client, user_ids, options.eligibility, service_only)
    to_deactivate = [a for a in selected if not _is_done(a, service_only, erase=options.erase)]
    result = ClosingResult(unchanged=len(selected) - len(to_deactivate))
    if options.dry_run:
        result.deactivated = {account.user_id: account.state for account in to_deactivate}
        return result
    try:
        _Closing(client, options, result, named=user_ids is not None).run(to_deactivate, service_only)
    except SynapseError as error:
        result.aborted = error
    return result


class _Closing:
    """The deactivation of accounts. Fills its I(result)."""

    def __init__(self, client: Client, options: Options, result: ClosingResult, *, named: bool) -> None:
        self._client = client
        self._options = options
        self._result = result
        self._named = named

    def run(self, accounts: Sequence[Account], service_only: dict[str, Account]) -> None:
        in_synapse = [account for account in accounts if account.user_id not in service_only]
        # With an old Synapse, an account that is erased while it is in rooms may join them again.
        erases_later = self._options.erase and rejoins_when_erased(server_version(self._client))
        to_erase = in_synapse if erases_later else []
        only_to_erase = {account.user_id for account in to_erase if account.is_deactivated}
        erase = self._options.erase and not erases_later
        self._each([account for account in accounts if account.user_id not in only_to_erase], erase=erase)
        self._wait([account.user_id for account in in_synapse if account.user_id not in self._result.failed])
        self._each([account for account in to_erase if account.user_id not in self._result.failed], erase=True)

    def _each(self, accounts: Sequence[Account], *, erase: bool) -> None:
        def act(account: Account) -> str | None:
            try:
                _check_again(self._client, account, self._options.eligibility, named=self._named)
                deactivate(self._client, account.user_id, erase=erase)
            except RefusedError as error:
                return error.reason
            return None

        for account, error in self._client.map(act, accounts, step="accounts deactivated"):
            if error is None:
                self._result.deactivated[account.user_id] = account.state
            else:
                self._result.failed[account.user_id] = error

    def _wait(self, user_ids: Iterable[str]) -> None:
        """Wait until these accounts are in no room."""
        stuck = wait_until_left(
            self._client,
            user_ids,
            lambda user_id: joined_rooms(self._client, user_id),
            timeout=self._options.wait_timeout,
            on_left=lambda _user_id: None,
        )
        for user_id, room_ids in stuck.items():
            self._result.failed[user_id] = (
                f"deactivated, but still joined to {join_names(room_ids)}. To make it leave, run"
                " synapse_user_deactivate with the same options"
            )


def service_only_accounts(client: Client) -> Iterator[Account]:
    """The accounts that Synapse does not have; none without a service that handles login."""
    return (_as_account(client, known) for known in unknown_to_synapse(client))


def _as_account(client: Client, known: ServiceAccount) -> Account:
    """An account that Synapse does not have, so that nothing of it can be erased there."""
    user_id = f"@{known.username}:{client.server_name}"
    kind = "operator" if user_id == client.user_id else "admin" if known.admin else "guest" if known.guest else "user"
    return Account(user_id, kind, "deactivated" if known.deactivated else "locked" if known.locked else "active")


def _is_done(account: Account, service_only: dict[str, Account], *, erase: bool) -> bool:
    may_stay = not erase or account.user_id in service_only
    return account.state == "erased" or (account.state == "deactivated" and may_stay)


def _select(
    client: Client, user_ids: Sequence[str] | None, eligibility: Eligibility, service_only: dict[str, Account]
) -> list[Account]:
    if user_ids is None:
        accounts = [*list_accounts(client), *service_only.values()]
        return eligibility.select_all(client, accounts)
    others = [user_id for user_id in user_ids if user_id not in service_only]
    found = {**existing_accounts(client, others), **{u: service_only[u] for u in user_ids if u in service_only}}
    refuse({user_id: "does not exist" for user_id in user_ids if user_id not in found})
    refusals = ((user_id, eligibility.refusal(account, named=True)) for user_id, account in found.items())
    refuse({user_id: reason for user_id, reason in refusals if reason is not None})
    return list(found.values())


def _check_again(client: Client, account: Account, eligibility: Eligibility, *, named: bool) -> None:
    """Refuse an account that must not be deactivated any more.

    :raises RefusedError: if so.
    """
    now = existing_accounts(client, [account.user_id]).get(account.user_id)
    if now is None and client.service is not None:
        known = client.service.account(localpart_of(account.user_id))
        now = None if known is None else _as_account(client, known)
    reason = "does not exist any more" if now is None else eligibility.refusal(now, named=named)
    if reason is not None:
        raise RefusedError(f"not deactivated, since {account.user_id} {reason}")


def as_result(outcome: ClosingResult) -> JsonDict:
    """What the modules always return."""
    return {
        "changed": bool(outcome.deactivated),
        "deactivated": len(outcome.deactivated),
        "unchanged": outcome.unchanged,
        "failures": with_reasons("user_id", outcome.failed),
        "failures_total": len(outcome.failed),
    }


def as_diff(outcome: ClosingResult, erase: bool) -> dict[str, str]:
    """The accounts that were deactivated, with their state before and after."""
    after = "erased" if erase else "deactivated"
    return {
        "before": "".join(f"{user_id} {state}\n" for user_id, state in sorted(outcome.deactivated.items())),
        "after": "".join(f"{user_id} {after}\n" for user_id in sorted(outcome.deactivated)),
    }
