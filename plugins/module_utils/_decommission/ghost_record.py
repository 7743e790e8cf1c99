# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The results of all pairs and of each run in a file, line by line, from which a run that was killed is resumed."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections import Counter
from typing import Any, BinaryIO, Iterable, Iterator

from .._federation.checks import STATES, Pair, PairResult
from .._federation.errors import FederationError
from .ghosts import Room
from .progress import ProgressFile

FORMAT = 1
RESULT_KEYS = ("state", "reason", "ghosts", "removed", "pending")
MAX_LINE = 1024 * 1024
"""Maximum size of a line in bytes. A pair with a thousand ghosts has about 100,000."""


class RecordError(FederationError):
    """The record can't be read or written, or belongs to another server."""


class GhostRecord:
    """One line of JSON for each result that is new, and for each run; and the progress. A context manager.

    The first line names the server that the record belongs to. An incomplete last line is dropped.

    :ivar to_check: number of pairs to check.
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
        self.to_check = 0
        self._end = 0
        """Where the last complete line ends, in bytes."""
        self._size = 0
        self._digests: dict[Pair, int] = {}
        """Of the last result of each pair."""
        self._pending: dict[str, tuple[str, ...]] = {}
        """The accounts that may be invited or knocking, by room ID."""
        self._confirmed = self._read()

    def __enter__(self) -> GhostRecord:
        if self._path is not None:
            try:
                # Readable by the owner only, since it has user IDs.
                self._file = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
                self._lock_file(self._file)
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

    def _lock_file(self, file: BinaryIO) -> None:
        """Assert that no other run uses the file, and that none has written to it since it was read."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            if os.fstat(file.fileno()).st_size == self._size:
                return
        file.close()
        raise RecordError(f"{self._path} is in use by another run: wait until it has ended, then run again")

    def begin(self, rooms: Iterable[Room], *, recheck: bool = False) -> dict[Pair, PairResult]:
        """Set what is to be checked, and return the pairs of it that need no check.

        :param recheck: whether to check confirmed pairs as well.
        """
        done: dict[Pair, PairResult] = {}
        for room in rooms:
            self._pending[room.room_id] = room.known.pending
            for pair in (Pair(server, room.room_id) for server in room.servers):
                # No answer about a whole room covers invites and knocks.
                covered = self._confirmed.get(pair)
                if covered is not None and covered.issuperset(room.known.pending) and not recheck:
                    done[pair] = PairResult(pair, "confirmed", {})
                else:
                    self.to_check += 1
        self._show()
        return done

    def add(self, result: PairResult) -> None:
        """Append a result unless it is the last one of this pair, and update the progress."""
        line = {
            "server": result.pair.server,
            "room_id": result.pair.room_id,
            "state": result.state,
            "reason": result.reason,
            "ghosts": result.ghosts,
            "removed": list(result.removed),
            "pending": list(self._pending.get(result.pair.room_id, ())),
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
        self._progress.write(pairs=self.to_check, **{state: states[state] for state in STATES})

    def _append(self, line: dict[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(line).encode() + b"\n")
        except OSError as error:
            raise RecordError(f"record_path can't be written: {error}: set another record_path") from error

    def _read(self) -> dict[Pair, frozenset[str]]:
        """Return the pairs whose last result is a confirmation, each with the pending accounts that it covers."""
        confirmed: dict[Pair, frozenset[str]] = {}
        for line in self._lines():
            if "server" not in line:
                continue
            pair = Pair(str(line.get("server")), str(line.get("room_id")))
            self._digests[pair] = _digest(line)
            if line.get("state") == "confirmed":
                confirmed[pair] = frozenset(map(str, line.get("pending") or ()))
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
                self._size = os.fstat(file.fileno()).st_size
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
