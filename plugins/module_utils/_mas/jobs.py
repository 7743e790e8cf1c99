# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deactivation by the service, seen on the homeserver: the service drops a job that has failed ten times."""

from __future__ import annotations

import time
from typing import Callable

from .._synapse.errors import SynapseError
from .client import MasClient
from .users import MasUser, request_deactivation

MAX_REQUESTS = 3
"""How many times the service is asked, before the account is deactivated in Synapse directly."""
JOB_TIMEOUT = 30.0
"""Seconds to wait for a job. It takes 0.3 seconds, or 15 seconds after the homeserver was down."""
FIRST_PAUSE, MAX_PAUSE = 0.1, 2.0
"""Seconds between two looks, which double from the first to the last."""


def deactivate_user(
    client: MasClient,
    user: MasUser,
    *,
    erase: bool,
    is_done: Callable[[], bool],
    deactivate_in_synapse: Callable[[], object],
) -> None:
    """Deactivate a user in the service, and wait until it is deactivated on the homeserver.

    :param is_done: reads from the homeserver whether the account is deactivated, and erased if that is asked for.
    :param deactivate_in_synapse: does it there, for when the jobs of the service have no effect.
    """
    for _request in range(MAX_REQUESTS):
        request_deactivation(client, user.user_id, erase=erase)
        if _becomes_true(is_done):
            return
    deactivate_in_synapse()


def _becomes_true(is_done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + JOB_TIMEOUT
    pause = FIRST_PAUSE
    while True:
        try:
            if is_done():
                return True
        except SynapseError as error:
            # The homeserver may be restarting: the job is tried again as well.
            if not error.unanswered:
                raise
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, MAX_PAUSE)
