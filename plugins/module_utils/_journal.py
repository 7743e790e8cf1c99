# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What happens to the accounts, as it happens: a log to follow, and how far it has come."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import BinaryIO, Sequence, TypeVar

from ._client import SynapseError
from ._progress import ProgressFile

POINTS = 100
"""How many points of the timeline to keep, at most."""

T = TypeVar("T", bound=Sequence[float])


class Journal:
    """A log of one line of JSON for each thing that happens to an account, and a file that says how far it has come.

    Each of the two is kept only if it has a path. Use it as a context manager.

    :raises SynapseError: if the log can't be written. Nothing more should happen then.
    """

    def __init__(self, log_path: str | None = None, progress_path: str | None = None) -> None:
        self._log_path = log_path
        self._progress = ProgressFile(progress_path)
        self._log: BinaryIO | None = None
        self._expected = 0
        self._results: Counter[str] = Counter()
        self._began = time.monotonic()
        self._timeline: list[list[float]] = [[0.0, 0, 0]]

    def __enter__(self) -> Journal:
        if self._log_path is not None:
            # Without a buffer: what has been written is there for tail -f, and after a crash.
            self._log = open(self._log_path, "ab", buffering=0)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._log is not None:
            self._log.close()
        self._progress.remove()

    def expect(self, accounts: int) -> None:
        """There are so many more accounts to deactivate, or to make leave."""
        self._expected += accounts
        self._show()

    def write(self, user_id: str, result: str, **more: object) -> None:
        """This happened to an account. C(None) among I(more) is left out."""
        self._results[result] += 1
        self._timeline = thinned([*self._timeline, self._point()], POINTS)
        line = {"time": round(time.time(), 3), "user_id": user_id, "result": result}
        line.update((key, value) for key, value in more.items() if value is not None)
        try:
            if self._log is not None:
                self._log.write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise SynapseError(f"the log can't be written: {error}") from error
        if self._progress.is_due:
            self._show()

    @property
    def timeline(self) -> list[list[float]]:
        """How it went: seconds since the beginning, and how many were deactivated and had left all rooms by then."""
        return self._timeline

    def _point(self) -> list[float]:
        elapsed = round(time.monotonic() - self._began, 3)
        return [elapsed, self._results["deactivated"], self._results["parted"]]

    def _show(self) -> None:
        self._progress.write(
            accounts=self._expected,
            **{result: self._results[result] for result in ("left", "deactivated", "parted", "failed")},
        )


def thinned(points: list[T], most: int) -> list[T]:
    """The points but one, if there are more than I(most). What goes is neither the first nor the last, but the one
    whose neighbours are closest together by their first number: so that they stay evenly spread, however often.
    """
    if len(points) <= most:
        return points
    least = min(range(1, len(points) - 1), key=lambda i: points[i + 1][0] - points[i - 1][0])
    return [*points[:least], *points[least + 1 :]]
