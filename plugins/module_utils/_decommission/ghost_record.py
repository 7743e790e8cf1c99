# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The results of all pairs and of each run in a file, line by line, from which a run that was killed is resumed."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from typing import Any, BinaryIO, Iterator

from .._federation.checks import STATES, Pair, PairResult
from .._federation.errors import FederationError
from .progress import ProgressFile

FORMAT = 1
RESULT_KEYS = ("state", "reason", "ghosts", "removed")
MAX_LINE = 1024 * 1024
"""Maximum size of a line in bytes. A pair with a thousand ghosts has about 100,000."""


class RecordError(FederationError):
    """The record can't be read or written, or belongs to another server."""


class GhostRecord:
    """One line of JSON for each result that is new, and for each run; and the progress. A context manager.

    The first line names the server that the record belongs to. An incomplete last line is dropped.

    :ivar confirmed: the pairs that an earlier run has confirmed.
    """

    def __init__(self, path: str | None, server_name: str, *, progress_path: str | None = None) -> None:
        """
        :param path: is read, and appended to in the context.
        :raises RecordError: the file is no record, or belongs to another server.
        """
        self._path = path
        self._server_name = server_name
        self._progress = ProgressFile(progress_path)
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()
        self._states: dict[Pair, str] = {}
        self._total = 0
        self._end = 0
        self._digests: dict[Pair, int] = {}
        """Of the last result of each pair."""
        self.confirmed = self._read()

    def __enter__(self) -> GhostRecord:
        if self._path is not None:
            try:
                # Readable by the owner only, since it has user IDs.
                self._file = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
                self._file.truncate(self._end)
                self._file.seek(self._end)
            except OSError as error:
                raise RecordError(f"record_path can't be written: {error}: set another record_path") from error
            if self._end == 0:
                self._append({"server_name": self._server_name, "format": FORMAT})
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._file is not None:
            self._file.close()
        self._progress.remove()

    def expect(self, pairs: int) -> None:
        """Set the number of pairs that will be checked."""
        self._total = pairs
        self._show()

    def add(self, result: PairResult) -> None:
        """Append a result unless it is the last one of this pair, and update the progress."""
        line = {
            "server": result.pair.server,
            "room_id": result.pair.room_id,
            "state": result.state,
            "reason": result.reason,
            "ghosts": result.ghosts,
            "removed": list(result.removed),
        }
        with self._lock:
            self._states[result.pair] = result.state
            # A server that is unreachable for a year must not make the file grow in each run.
            if self._digests.get(result.pair) != (digest := _digest(line)):
                self._append({"time": round(time.time(), 3), **line})
                self._digests[result.pair] = digest
            if self._progress.is_due:
                self._show()

    def end(self, result: dict[str, Any]) -> None:
        """Append the result of the run.

        :param result: of the module. Its lists are left out.
        """
        summary = {key: value for key, value in result.items() if not isinstance(value, list)}
        with self._lock:
            self._append({"time": round(time.time(), 3), "run": summary})

    def _show(self) -> None:
        states = Counter(self._states.values())
        self._progress.write(pairs=self._total, **{state: states[state] for state in STATES})

    def _append(self, line: dict[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise RecordError(f"record_path can't be written: {error}: set another record_path") from error

    def _read(self) -> dict[Pair, PairResult]:
        """Return the pairs whose last result is a confirmation."""
        confirmed: dict[Pair, PairResult] = {}
        for line in self._lines():
            if "server" not in line:
                continue
            pair = Pair(str(line.get("server")), str(line.get("room_id")))
            self._digests[pair] = _digest(line)
            if line.get("state") == "confirmed":
                confirmed[pair] = PairResult(pair, "confirmed", {})
            else:
                # It was confirmed before, and checked again since.
                confirmed.pop(pair, None)
        return confirmed

    def _lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines. The first one must name this server."""
        if self._path is None:
            return
        try:
            with open(self._path, "rb") as file:
                while (text := file.readline(MAX_LINE)).endswith(b"\n"):
                    line = self._parse(text)
                    if self._end == 0 and (line.get("server_name"), line.get("format")) != (self._server_name, FORMAT):
                        raise RecordError(
                            f"{self._path} is not a record of {self._server_name}: set another record_path"
                        )
                    self._end += len(text)
                    yield line
        except FileNotFoundError:
            return
        except OSError as error:
            raise RecordError(f"record_path can't be read: {error}: set another record_path") from error

    def _parse(self, text: bytes) -> dict[str, Any]:
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not isinstance(line, dict):
            raise RecordError(f"{self._path} is damaged, or not a record: set another record_path")
        return line


def _digest(line: dict[str, Any]) -> int:
    """Return a hash of a result without its time, for comparisons within this process."""
    return hash(json.dumps({key: line.get(key) for key in RESULT_KEYS}, sort_keys=True))
