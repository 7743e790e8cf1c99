# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file that says how far a module has come, for whoever watches it."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress

INTERVAL = 1.0
"""The shortest time in seconds between two writings."""


class ProgressFile:
    """Numbers as JSON, written anew about once a second, to a path or nowhere.

    That it can't be written is no error: only a line on a screen is missing.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._began = time.monotonic()
        self._written = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether it is time to write it again."""
        return time.monotonic() - self._written >= INTERVAL

    def write(self, **numbers: int) -> None:
        """Write these numbers, and the seconds that have passed as C(elapsed)."""
        self._written = time.monotonic()
        if self._path is None:
            return
        # Whoever reads it sees the old or the new, and never a half.
        fresh = f"{self._path}.new"
        with suppress(OSError):
            with open(fresh, "w", encoding="utf-8") as file:
                json.dump({**numbers, "elapsed": round(self._written - self._began, 3)}, file)
            # Numbers only, for whom the module may not be run as.
            os.chmod(fresh, 0o644)
            os.replace(fresh, self._path)

    def remove(self) -> None:
        """Remove the file."""
        if self._path is not None:
            with suppress(OSError):
                os.remove(self._path)
