# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file of results: a line of JSON that says on what they were measured, and one for each run.

A run that was ended in the middle is taken up again with the same file; what is in it is not measured twice.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]

KEY = ("point", "database", "accounts", "contender", "run")
"""What tells one measurement from another."""


class ResultsError(Exception):
    """A file of results that can't be used."""


def key_of(record: Record) -> tuple[Any, ...]:
    """The values of KEY."""
    return tuple(record.get(name) for name in KEY)


class Results:
    """The runs of a file, and where further ones are appended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.machine: Record = {}
        self.runs: list[Record] = []
        whole = 0
        if path.exists():
            for line in path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break  # whoever wrote it was killed
                whole += len(line)
                record = json.loads(line)
                if "machine" in record:
                    self.machine = record["machine"]
                else:
                    self.runs.append(record)
        self._whole = whole
        self._done = {key_of(run) for run in self.runs}

    def open_for(self, machine: Record) -> None:
        """Go on with the file, which must be of this machine, or begin it."""
        if self.machine:
            different = [name for name in machine if machine[name] != self.machine.get(name) and name != "date"]
            if different:
                raise ResultsError(f"{self.path} was measured with another {', '.join(different)}: take another file")
            os.truncate(self.path, self._whole)
        else:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_bytes(b"")
            self.machine = machine
            self._write({"machine": machine})

    def __contains__(self, record: Record) -> bool:
        return key_of(record) in self._done

    def append(self, run: Record) -> None:
        """Keep a run, also when the machine fails right after."""
        self._write(run)
        self.runs.append(run)
        self._done.add(key_of(run))

    def _write(self, record: Record) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def of(self, point: str, **wanted: Any) -> list[Record]:
        """The runs of a point of the plan with these values."""
        wanted["point"] = point
        return [run for run in self.runs if all(run.get(name) == value for name, value in wanted.items())]


def machine(synapse: Path, synadm: Path, postgresql: Path | None, settings: str) -> Record:
    """What the results depend on. The programs are a Python that has Synapse, synadm, and PostgreSQL's C(postgres)."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _first(r"model name\s*: (.*)", "/proc/cpuinfo"),
        "cores": os.cpu_count(),
        "memory_gib": round(int(_first(r"MemTotal: *(\d+)", "/proc/meminfo")) / 2**20, 1),
        "kernel": platform.release(),
        "versions": {
            "Synapse": _version(synapse, "-c", "import importlib.metadata as m; print(m.version('matrix-synapse'))"),
            "PostgreSQL": _version(postgresql, "--version") if postgresql else "none",
            "SQLite": _version(synapse, "-c", "import sqlite3; print(sqlite3.sqlite_version)"),
            "Python": platform.python_version(),
            "ansible-core": importlib.metadata.version("ansible-core"),
            "requests": importlib.metadata.version("requests"),
            "synadm": _version(synadm, "--version"),
            "curl": _version(Path("curl"), "--version"),
            "jq": _version(Path("jq"), "--version"),
        },
        "settings": settings,
    }


def _first(pattern: str, file: str) -> str:
    found = re.search(pattern, Path(file).read_text())
    return found[1] if found else "unknown"


def _version(*command: str | Path) -> str:
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "none"
    found = re.search(r"\d+(\.\d+)+", output)
    return found[0] if found else output.strip()


def sizes(runs: list[Record]) -> Iterator[tuple[str, int]]:
    """The databases and numbers of accounts that occur, in order."""
    yield from sorted({(run["database"], run["accounts"]) for run in runs})
