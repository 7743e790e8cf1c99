# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The progress of a module: a log of each account, and a file of numbers that the action plugin displays."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from contextlib import suppress
from typing import BinaryIO, Sequence, TypeVar

from .._synapse.errors import FatalError

MAX_POINTS = 100
"""Maximum number of points of the timeline."""
WRITE_INTERVAL = 1.0
"""Minimum number of seconds between two writes of a progress file."""

NOTICE = ".notice"
"""What the name of the file of a C(Notice) adds to that of a progress file."""

T = TypeVar("T", bound=Sequence[float])


class ProgressFile:
    """A file with a JSON object of numbers and words, replaced about once a second.

    Errors are ignored: without the file, only the progress on the terminal is missing.
    """

    def __init__(self, path: str | None) -> None:
        """
        :param path: of the file; C(None) writes nothing.
        """
        self._path = path
        self._began = time.monotonic()
        self._written = float("-inf")

    @property
    def is_due(self) -> bool:
        """Whether the last write is old enough for the next."""
        return time.monotonic() - self._written >= WRITE_INTERVAL

    def write(self, **values: int | str | None) -> None:
        """Replace the file with these values, and the seconds since the start as C(elapsed)."""
        self._written = time.monotonic()
        if self._path is None:
            return
        content = json.dumps({**values, "elapsed": round(self._written - self._began, 3)})
        with suppress(OSError):
            _replace(self._path, content.encode())

    def remove(self) -> None:
        """Remove the file."""
        if self._path is not None:
            with suppress(OSError):
                os.remove(self._path)


class StepProgress:
    """Writes how many items of the current step of a module are done to a progress file."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._step = ""
        self._file = ProgressFile(path)

    def __call__(self, step: str, done: int, total: int | None) -> None:
        """Write the numbers, unless that was done just now. For the parameters see C(Client.on_step)."""
        if step != self._step:
            self._step, self._file = step, ProgressFile(self._path)
        if self._file.is_due:
            self._file.write(step=step, done=done, total=total)

    def remove(self) -> None:
        """Remove the file."""
        self._file.remove()


class Notice:
    """A file with a line for the terminal, next to a progress file, as long as something prevents progress.

    The line has no names of accounts and rooms. Errors are ignored.
    """

    def __init__(self, progress_path: str | None) -> None:
        """
        :param progress_path: of the progress file; C(None) writes nothing.
        """
        self._path = None if progress_path is None else f"{progress_path}{NOTICE}"

    def show(self, line: str) -> None:
        """Replace the line. An empty one removes the file."""
        if self._path is not None:
            with suppress(OSError):
                if line:
                    _replace(self._path, line.encode())
                else:
                    os.remove(self._path)


def _replace(path: str, content: bytes) -> None:
    """Replace a file, so that a reader gets the old or the new content as a whole."""
    new = f"{path}.new"
    with suppress(FileNotFoundError):
        os.remove(new)
    # The directory may be /tmp: a file or link that another user has put there is not written to.
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with open(descriptor, "wb") as file:
        # Readable by all, since the reader may be another user than the module's. It has no names.
        os.fchmod(descriptor, 0o644)
        file.write(content)
    os.replace(new, path)


class DrainLog:
    """What happens to accounts: a log with one line of JSON for each event, and a progress file.

    Use it as a context manager. Without a path, either is left out.
    """

    def __init__(self, log_path: str | None = None, progress_path: str | None = None) -> None:
        self._log_path = log_path
        self._progress = ProgressFile(progress_path)
        self._log: BinaryIO | None = None
        self._expected = 0
        self._results: Counter[str] = Counter()
        self._began = time.monotonic()
        self._timeline: list[list[float]] = [[0.0, 0, 0]]

    def __enter__(self) -> DrainLog:
        if self._log_path is not None:
            # Unbuffered: each line can be followed with tail -f, and survives a kill.
            self._log = open(self._log_path, "ab", buffering=0)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._log is not None:
            self._log.close()
        self._progress.remove()

    def expect(self, accounts: int) -> None:
        """Add a number of accounts that are still to be deactivated, or to leave."""
        self._expected += accounts
        self._write_progress()

    def write(self, user_id: str, result: str, **more: object) -> None:
        """Record an event of an account. Values of C(None) are left out.

        :raises FatalError: if the log can't be written, so that nothing happens that is not in it.
        """
        self._results[result] += 1
        self._timeline = downsample([*self._timeline, self._point()], MAX_POINTS)
        line = {"time": round(time.time(), 3), "user_id": user_id, "result": result}
        line.update((key, value) for key, value in more.items() if value is not None)
        try:
            if self._log is not None:
                self._log.write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise FatalError(
                f"cannot write the log {self._log_path}: {error}. Free space or set another log_path, then run again"
            ) from error
        if self._progress.is_due:
            self._write_progress()

    @property
    def timeline(self) -> list[list[float]]:
        """Points of seconds since the start, accounts deactivated, and accounts that have left all rooms."""
        return self._timeline

    def _point(self) -> list[float]:
        elapsed = round(time.monotonic() - self._began, 3)
        return [elapsed, self._results["deactivated"], self._results["left_all_rooms"]]

    def _write_progress(self) -> None:
        results = ("left", "deactivated", "left_all_rooms", "failed", "left_to_deactivation")
        self._progress.write(accounts=self._expected, **{result: self._results[result] for result in results})


def downsample(points: list[T], most: int) -> list[T]:
    """Remove one point, if there are more than I(most).

    It is the one whose neighbours are closest together by their first number, and never the first or last: so the
    points stay evenly spread.
    """
    if len(points) <= most:
        return points
    least = min(range(1, len(points) - 1), key=lambda i: points[i + 1][0] - points[i - 1][0])
    return [*points[:least], *points[least + 1 :]]
