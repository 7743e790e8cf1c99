# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a failed request to the homeserver is sent again.

Our own, since urllib3's retries neither know C(retry_after_ms) nor whether the server was ever reached.
"""

from __future__ import annotations

import time

from .errors import SynapseError

RETRY_TIMEOUT = 120.0
"""Seconds for which an unanswered request is retried."""
THROTTLED_RETRY_TIMEOUT = 600.0
"""Seconds for which a request is retried that the server refuses for its rate (429): the server is up, only busy."""
MAX_PAUSE = 16.0
"""Maximum pause in seconds between two attempts, unless the server asks for a longer one."""


class Retries:
    """The attempts of one request: exponential backoff from one second, or what the server asks for."""

    def __init__(self, patience: float | None = None) -> None:
        """
        :param patience: seconds for which an unanswered request is sent again; by default, C(RETRY_TIMEOUT).
        """
        self._patience = RETRY_TIMEOUT if patience is None else min(patience, RETRY_TIMEOUT)
        self._began = time.monotonic()
        self._pause = 1.0

    def pause_after(self, error: SynapseError) -> float:
        """Return how many seconds to wait before the next attempt.

        :raises SynapseError: I(error) itself, if the next attempt would be too late.
        """
        throttled = error.status == 429
        asked = error.retry_after or 0.0
        pause = asked if asked > 0 else self._pause
        waited = time.monotonic() - self._began
        if pause > RETRY_TIMEOUT:
            error.error += f" (the server asks to wait {pause:.0f} s)"
            raise error
        if waited + pause > (THROTTLED_RETRY_TIMEOUT if throttled else self._patience):
            error.error += f" (after {waited:.0f} s of retries)"
            raise error
        self._pause = min(2 * self._pause, MAX_PAUSE)
        return pause
