# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads that show whether a write was carried out. Synapse may still be processing it, or answer from another process.

With workers, each process learns of a write by replication, which takes some time.
"""

from __future__ import annotations

import time
from typing import Callable, TypeVar

from .errors import FatalError, SynapseError

CHECK_PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds before each further check whether a request was carried out."""

Read = TypeVar("Read")


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


def read_again(read: Callable[[], Read], agrees: Callable[[Read], bool]) -> Read:
    """Read until the result agrees with what was written, but only for some seconds. Return the last result."""
    found = read()
    for pause in CHECK_PAUSES:
        if agrees(found):
            break
        time.sleep(pause)
        found = read()
    return found
