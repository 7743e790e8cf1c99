# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deactivate the admins of a drained server, and the operator after all others.

Each is named, and the names must be all that are left: an admin that was made after the plan is neither deactivated
without its name, nor left behind without a word.
"""

from __future__ import annotations

from typing import Collection, Iterator, Sequence

from .._synapse.accounts import Account, deactivate_in_synapse, list_accounts, localpart_of
from .._synapse.client import Client
from .._synapse.errors import FatalError, RefusedError, SynapseError
from .._text import join_names
from .closing import ClosingResult, Options, close_accounts, service_only_accounts
from .eligibility import Eligibility, find_accounts, refuse

ADMIN_CLASSES = ("operator", "admin")
OPTION = "user_ids (in the role: decommission_deactivate_admins)"


def deactivate_admins(
    client: Client, user_ids: Sequence[str], *, keep: Collection[str] = (), erase: bool = True, dry_run: bool = False
) -> ClosingResult:
    """Deactivate the admins of the server, the operator last. Its access token is invalid afterwards.

    The operator is deactivated only if no other admin is active any more, except those to keep.

    :param user_ids: all admins that are active and not to be kept. They may include some that are deactivated already.
    :param keep: user IDs of accounts that stay active.
    :raises FatalError: before anything is changed, if the names are not those of the admins that are left; or before
        the operator is deactivated, if another account has become an admin meanwhile.
    """
    _check_names(client, user_ids, keep)
    others = [user_id for user_id in user_ids if user_id != client.user_id]
    options = Options(Eligibility(keep, allow_admins=True), erase=erase, dry_run=dry_run)
    result = close_accounts(client, others, options)
    if client.user_id not in user_ids or result.failed or result.aborted is not None:
        return result
    if not dry_run:
        _check_that_operator_is_last(client, keep)
        deactivate_operator(client, erase=erase)
    result.deactivated[client.user_id] = "active"
    return result


def active_admins(client: Client, keep: Collection[str] = ()) -> Iterator[Account]:
    """The admins, of Synapse and of the service that handles login, that are neither deactivated nor to be kept."""
    for accounts in (list_accounts(client), service_only_accounts(client)):
        for account in accounts:
            is_admin = account.account_class in ADMIN_CLASSES and not account.is_deactivated
            if is_admin and account.user_id not in keep:
                yield account


def _check_names(client: Client, user_ids: Sequence[str], keep: Collection[str]) -> None:
    """Assert that the names are those of all admins that are left.

    :raises FatalError: if not.
    """
    left = sorted(account.user_id for account in active_admins(client, keep))
    # The operator at the end, as it is deactivated.
    left = [name for name in left if name != client.user_id] + [name for name in left if name == client.user_id]
    unnamed = [user_id for user_id in left if user_id not in user_ids]
    if unnamed:
        names = ", ".join(f'"{user_id}"' for user_id in left)
        raise FatalError(
            f"No changes made: {OPTION} must name all active admins, but does not name {join_names(unnamed)}. Set it to"
            f" [{names}], or add those that are to stay active to keep (in the role: decommission_keep_users)"
        )
    others = [user_id for user_id in user_ids if user_id not in left]
    refuse({user_id: "is to be kept" for user_id in others if user_id in keep})
    found = {account.user_id: account for account in service_only_accounts(client)}
    found.update(find_accounts(client, [user_id for user_id in others if user_id not in found]))
    refuse({user_id: "is not an admin" for user_id in others if not found[user_id].is_deactivated})


def _check_that_operator_is_last(client: Client, keep: Collection[str]) -> None:
    """Assert that no other admin is left, since no account could deactivate it afterwards.

    :raises FatalError: if one is.
    """
    others = [account.user_id for account in active_admins(client, keep) if account.user_id != client.user_id]
    if others:
        raise FatalError(
            f"{client.user_id}, the operator, is still active, since other admins are: {join_names(others)}. Add them"
            f" to {OPTION} or to keep (in the role: decommission_keep_users), then run again"
        )


def deactivate_operator(client: Client, *, erase: bool) -> None:
    """Deactivate the account that the access token of the client belongs to.

    In Synapse first, as long as its token is valid. The service that handles login has a login of its own.

    API: C(POST /_synapse/admin/v1/deactivate/<user_id>), and that of the service.
    """
    operator = client.user_id
    try:
        deactivate_in_synapse(client, operator, erase=erase)
    except SynapseError as error:
        # The answer was lost, and when the account was to be read, its token had become invalid.
        if (error.method, error.status) != ("GET", 401):
            raise
    if client.service is None:
        return
    try:
        client.service.deactivate(localpart_of(operator), erase=erase)
    except SynapseError as error:
        # The service has ended the session before Synapse could be read.
        if error.status != 401:
            raise
    known = client.service.account(localpart_of(operator))
    if known is not None and not known.deactivated:
        raise RefusedError(
            f"{operator} is deactivated in Synapse, but still active in the Matrix Authentication Service. Deactivate"
            " it there by hand"
        )
