# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The drain: many accounts leave their federated rooms, are deactivated, and are seen to have left their rooms.

The rooms that only this server is in are left to Synapse, which leaves them in the background, one at a time.
"""

from __future__ import annotations

import time
from typing import Sequence

from .._synapse.accounts import list_accounts
from .._synapse.client import Client
from .._synapse.errors import SynapseError
from .drain_run import DrainResult, DrainRun, Options
from .progress import DrainLog
from .recorder import Recorder

RETURN_PAUSE = 1.0
"""Seconds to wait before the accounts are listed again, in which another process may reactivate some."""


def drain(
    client: Client,
    user_ids: Sequence[str] | None,
    options: Options,
    log: DrainLog,
    *,
    recorder: Recorder | None = None,
    dry_run: bool = False,
) -> DrainResult:
    """Deactivate accounts, and wait until they have left their rooms, those included that were deactivated before.

    All accounts are read before the first is changed. Without I(user_ids), this is repeated until no account is found
    that is active or has joined a room again, since the server is still running. After each pass, the rooms of every
    deactivated account are read once more.

    :param user_ids: the accounts, or C(None) for every account of the server that may be deactivated.
    :param recorder: records the federated rooms before the accounts leave these, and in each pass invites and knocks
        before the accounts are deactivated.
    :param dry_run: only say which accounts would be deactivated.
    :raises FatalError: before anything is changed, for an account that does not exist or must not be deactivated.
    """
    result = DrainResult()
    run = DrainRun(client, options, log, result, named=user_ids is not None, recorder=recorder)
    to_deactivate, deactivated = run.sort(options.eligibility.select(client, user_ids))
    result.unchanged = len(deactivated)
    if dry_run:
        result.deactivated = {account.user_id: account.state for account in to_deactivate}
        if recorder is not None:
            recorder.predict()
        return result
    try:
        stragglers = run.find_stragglers(deactivated)
        run.record_joined()
        run.run_pass(to_deactivate, stragglers)
        if user_ids is None:
            _repeat_until_none_is_found(client, options, run, result)
    except SynapseError as error:
        result.aborted = error
    run.conclude()
    return result


def _repeat_until_none_is_found(client: Client, options: Options, run: DrainRun, result: DrainResult) -> None:
    failed_again: set[str] = set()
    while True:
        if options.waits and run.has_acted:
            time.sleep(RETURN_PAUSE)
        found, deactivated = run.sort(options.eligibility.eligible(list_accounts(client)))
        run.forget(found)
        to_deactivate = [account for account in found if account.user_id not in failed_again]
        stragglers = run.find_stragglers(deactivated)
        if not to_deactivate and not stragglers:
            return
        if result.passes >= options.max_passes:
            run.give_up(to_deactivate, stragglers)
            return
        # What the server refused is tried once more: the reason may be gone by now.
        retried = {account.user_id for account in to_deactivate if account.user_id in result.failed}
        if to_deactivate:
            run.record_joined()
        run.run_pass(to_deactivate, stragglers)
        failed_again |= retried.intersection(result.failed)
