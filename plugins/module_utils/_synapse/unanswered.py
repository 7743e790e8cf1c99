# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests that must not be repeated blindly when their answer is lost."""

from __future__ import annotations

import time
from typing import Callable

from .errors import FatalError, SynapseError

CHECK_PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before each check whether an unanswered request was carried out: Synapse may still be processing it."""


def send_once(send: Callable[[], object], is_done: Callable[[], bool]) -> None:
    """Send a request. If its answer is lost, check whether it was carried out, and only then send it once more.

    :param is_done: reads from the server whether the request was carried out.
    :raises FatalError: if the server does not answer the check either.
    """
    for is_last in (False, True):
        try:
            send()
            return
        except SynapseError as error:
            if not error.unanswered:
                raise
            if _becomes_true(is_done):
                return
            if is_last:
                raise


def _becomes_true(is_done: Callable[[], bool]) -> bool:
    try:
        for pause in CHECK_PAUSES:
            time.sleep(pause)
            if is_done():
                return True
    except SynapseError as error:
        raise FatalError.of(error) if error.unanswered else error from None
    return False
