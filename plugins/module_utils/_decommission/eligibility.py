# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which accounts may be deactivated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Collection, Iterable, Sequence

from .._synapse.accounts import Account, existing_accounts, get_account, list_accounts, localpart_of
from .._synapse.client import Client
from .._synapse.errors import FatalError, RefusedError
from .._text import join_names


@dataclass(frozen=True)
class Eligibility:
    """The rule: never the operator, never a kept account, an admin only if admins are allowed.

    :param keep: user IDs of accounts that stay active.
    :param allow_admins: whether admins may be deactivated that are named.
    :param only_deactivated: whether only accounts that are deactivated already may be, to erase them or wait for them.
    """

    keep: Collection[str] = frozenset()
    allow_admins: bool = False
    only_deactivated: bool = False

    def refusal(self, account: Account, *, named: bool) -> str | None:
        """Why an account must not be deactivated, or C(None).

        :param named: whether the account was named, and not only found among all accounts.
        """
        if account.account_class == "operator":
            return "is the operator: its access token would become invalid during the run"
        if account.user_id in self.keep:
            return "is to be kept"
        if self.only_deactivated and not account.is_deactivated:
            return "is active"
        if account.account_class == "admin" and not (named and self.allow_admins):
            return "is an admin: to deactivate admins, name them in user_ids and set allow_admins"
        return None

    def eligible(self, accounts: Iterable[Account]) -> list[Account]:
        """Those of all accounts that may be deactivated."""
        return [account for account in accounts if self.refusal(account, named=False) is None]

    def select_all(self, client: Client, accounts: Sequence[Account]) -> list[Account]:
        """The accounts to deactivate, from all accounts of the server.

        :raises FatalError: if an account to keep does not exist, not even in the service that handles login only.
        """
        missing = set(self.keep).difference(account.user_id for account in accounts)
        reason = "is to be kept, but does not exist: use the full ID of an account"
        refuse({user_id: reason for user_id in sorted(missing) if not _service_knows(client, user_id)})
        return self.eligible(accounts)

    def select(self, client: Client, user_ids: Sequence[str] | None) -> list[Account]:
        """The accounts to deactivate: those that are named, or with C(None) all that may be.

        :raises FatalError: if an account must not be deactivated, or one to keep does not exist.
        """
        if user_ids is None:
            return self.select_all(client, list(list_accounts(client)))
        found = find_accounts(client, user_ids).values()
        reasons = {account.user_id: self.refusal(account, named=True) for account in found}
        refuse({user_id: reason for user_id, reason in reasons.items() if reason is not None})
        return list(found)

    def check_again(self, client: Client, user_id: str, *, named: bool) -> None:
        """Read the account, and refuse it if it must not be deactivated any more: it may have become an admin.

        :raises RefusedError: if so.
        """
        reason = self.refusal(get_account(client, user_id), named=named)
        if reason is not None:
            raise RefusedError(f"not deactivated, since {user_id} {reason}")


def _service_knows(client: Client, user_id: str) -> bool:
    localpart = localpart_of(user_id)
    is_own = user_id == f"@{localpart}:{client.server_name}"
    return is_own and client.service is not None and client.service.account(localpart) is not None


def find_accounts(client: Client, user_ids: Sequence[str]) -> dict[str, Account]:
    """These accounts of the server.

    :raises FatalError: if one is not a user ID, is of another server, or does not exist.
    """
    refused = {}
    for user_id in user_ids:
        if not user_id.startswith("@") or ":" not in user_id:
            refused[user_id] = "is not a user ID (@localpart:server)"
        elif user_id.split(":", 1)[1] != client.server_name:
            refused[user_id] = f"is not an account of {client.server_name}"
    refuse(refused)
    found = existing_accounts(client, user_ids)
    refuse({user_id: "does not exist" for user_id in user_ids if user_id not in found})
    return found


def refuse(reasons: dict[str, str]) -> None:
    """Raise an error with the reason of each account, if there is any.

    :raises FatalError: if so.
    """
    if reasons:
        refused = join_names([f"{user_id} {reason}" for user_id, reason in reasons.items()], "; ")
        raise FatalError(f"No changes made: {refused}")
