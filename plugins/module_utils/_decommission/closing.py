# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deactivate accounts of the homeserver and of the service that handles login, without letting them leave first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Sequence

from .._synapse.accounts import (
    Account,
    deactivate,
    existing_accounts,
    list_accounts,
    localpart_of,
    unknown_to_synapse,
)
from .._synapse.client import Client
from .._synapse.delegation import ServiceAccount
from .._synapse.errors import RefusedError, SynapseError
from .eligibility import Eligibility, refuse


@dataclass
class ClosingResult:
    """The result.

    :ivar deactivated: the accounts that were deactivated or erased, with the state that they were in before.
    :ivar unchanged: number of accounts that were deactivated before.
    :ivar failed: the accounts that could not be deactivated, with the reason of each.
    :ivar aborted: the error that ended it.
    """

    deactivated: dict[str, str] = field(default_factory=dict)
    unchanged: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    aborted: SynapseError | None = None


def close_accounts(
    client: Client, user_ids: Sequence[str] | None, eligibility: Eligibility, *, erase: bool, dry_run: bool
) -> ClosingResult:
    """Deactivate accounts. All are read before the first is changed, and each once more right before it is changed.

    :param user_ids: the accounts, or C(None) for every account, of the homeserver or the service, that may be.
    :raises FatalError: before anything is changed, for an account that does not exist or must not be deactivated.
    """
    service_only = {a.user_id: a for a in (_as_account(client, known) for known in unknown_to_synapse(client))}
    selected = _select(client, user_ids, eligibility, service_only)
    to_deactivate = [a for a in selected if not _is_done(a, service_only, erase=erase)]
    result = ClosingResult(unchanged=len(selected) - len(to_deactivate))
    if dry_run:
        result.deactivated = {account.user_id: account.state for account in to_deactivate}
        return result

    def close(account: Account) -> str | None:
        try:
            _check_again(client, account, eligibility, named=user_ids is not None)
            deactivate(client, account.user_id, erase=erase)
        except RefusedError as error:
            return error.reason
        return None

    try:
        for account, error in client.map(close, to_deactivate):
            if error is None:
                result.deactivated[account.user_id] = account.state
            else:
                result.failed[account.user_id] = error
    except SynapseError as error:
        result.aborted = error
    return result


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
        missing = set(eligibility.keep).difference(account.user_id for account in accounts)
        refuse(dict.fromkeys(sorted(missing), "is to be kept, but does not exist: use the full ID of an account"))
        return eligibility.eligible(accounts)
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
