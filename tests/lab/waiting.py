# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wait for a condition by polling it, instead of sleeping for a guessed time."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

PATIENCE = 300.0
"""Seconds to wait for what must happen. Generous, since a busy machine is no error, and what happens ends the wait."""


def wait_until(condition: Callable[[], bool], what: str, timeout: float = PATIENCE, interval: float = 0.03) -> None:
    """Return as soon as ``condition()`` holds; ``TimeoutError`` naming ``what`` when it never does."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not so after {timeout:g} s")
        time.sleep(interval)


def wait_for_exit(pid: int, timeout: float = PATIENCE) -> bool:
    """Whether the process ended within ``timeout`` seconds; works for those that aren't our children, too."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout)[0])
    finally:
        os.close(descriptor)
