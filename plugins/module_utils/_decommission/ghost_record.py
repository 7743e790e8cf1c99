# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was answered about which pair, as it is answered: a file that a run which was killed goes on from."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from typing import Any, BinaryIO, Iterator

from .._federation.checks import STATES, Pair, PairResult
from .._federation.errors import FederationError
from .._progress import ProgressFile

FORMAT = 1
MAX_LINE = 1024 * 1024
"""Size limit of a line in bytes: a room in which a thousand accounts are listed has some 100,000."""


class RecordError(FederationError):
    """The record can't be read or written, or is of another server."""


class GhostRecord:
    """One line of JSON for each result, in a file or nowhere, and the progress. Use it as a context manager.

    The first line says whose record it is. A last line that was cut off is dropped.
    """

    def __init__(self, path: str | None, server_name: str, *, progress_path: str | None = None) -> None:
        """
        :param path: is read, and written to if the record is entered as a context.
        :raises RecordError: the file is no record, or that of another server.
        """
        self._path = path
        self._server_name = server_name
        self._progress = ProgressFile(progress_path)
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()
        self._states: dict[Pair, str] = {}
        self._total = 0
        self._end = 0
        self.confirmed: dict[Pair, PairResult] = dict(self._read())
        """The pairs that were confirmed before."""

    def __enter__(self) -> GhostRecord:
        if self._path is not None:
            try:
                # Only the owner: it has the names of accounts.
                self._file = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
                self._file.truncate(self._end)
                self._file.seek(self._end)
            except OSError as error:
                raise RecordError(f"record_path can't be written: {error}") from error
            if self._end == 0:
                self._append({"server_name": self._server_name, "format": FORMAT})
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._file is not None:
            self._file.close()
        self._progress.remove()

    def expect(self, pairs: int) -> None:
        """So many pairs are to be asked about."""
        self._total = pairs
        self._show()

    def add(self, result: PairResult) -> None:
        """Keep a result, and show how far the run has come."""
        with self._lock:
            self._states[result.pair] = result.state
            self._append(
                {
                    "time": round(time.time(), 3),
                    "server": result.pair.server,
                    "room_id": result.pair.room_id,
                    "state": result.state,
                    "reason": result.reason,
                    "ghosts": result.ghosts,
                    "removed": list(result.removed),
                }
            )
            if self._progress.is_due:
                self._show()

    def _show(self) -> None:
        states = Counter(self._states.values())
        self._progress.write(pairs=self._total, **{state: states[state] for state in STATES})

    def _append(self, line: dict[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise RecordError(f"record_path can't be written: {error}") from error

    def _read(self) -> Iterator[tuple[Pair, PairResult]]:
        for line in self._lines():
            pair = Pair(str(line.get("server")), str(line.get("room_id")))
            if line.get("state") == "confirmed":
                yield pair, PairResult(pair, "confirmed", {})

    def _lines(self) -> Iterator[dict[str, Any]]:
        """The lines after the first, which must say that this is a record of this server."""
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
            raise RecordError(f"record_path can't be read: {error}") from error

    def _parse(self, text: bytes) -> dict[str, Any]:
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if not isinstance(line, dict):
            raise RecordError(f"{self._path} is damaged, or no record: set another record_path")
        return line
