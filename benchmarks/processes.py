# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a process takes: time, CPU and memory, as the kernel accounts for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
OVERDUE = 7200.0
"""Seconds after which a contender is ended, and not counted."""

# A program's peak of memory counts what its parent had before the exec: the parent must be small, too.
LAUNCHER = """
import json, os, sys, time
began = time.monotonic()
pid = os.spawnvp(os.P_NOWAIT, sys.argv[2], sys.argv[2:])
status, usage = os.wait4(pid, 0)[1:]
seconds = time.monotonic() - began
with open(sys.argv[1], "w") as report:
    json.dump([os.waitstatus_to_exitcode(status), seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss], report)
"""


@dataclass(frozen=True)
class Usage:
    """Seconds of the clock and of CPU, of a process and all that it waited for; and the most memory of one of them, in
    bytes (10 MB are the least that can be seen)."""

    code: int
    seconds: float
    cpu: float
    memory: int


def timed(command: Sequence[str | Path], directory: Path, environment: Mapping[str, str] | None = None) -> Usage:
    """Run a command to its end. What it prints goes to C(output) in the directory."""
    report = directory / "usage.json"
    launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(report), *map(str, command)]
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            launcher,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        try:
            process.wait(OVERDUE)
        except BaseException as problem:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
            if isinstance(problem, subprocess.TimeoutExpired):
                raise TimeoutError(f"it did not end within {OVERDUE:.0f} s") from None
            raise
    code, seconds, cpu, memory = json.loads(report.read_text())
    return Usage(code, seconds, cpu, memory * 1024)


def cpu_of(pid: int | None) -> float:
    """Seconds of CPU that a process, its children, and those of them that have ended have taken so far."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if pid in (int(path.parent.name), int(fields[1])):
            total += sum(map(int, fields[11:15]))
    return total / TICKS


def busy() -> float:
    """Seconds of CPU that all of the machine has taken so far."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS


def pace() -> float:
    """Seconds of CPU that a fixed piece of work takes: other guests of the host, which can't be seen otherwise, make it
    more."""
    began = time.thread_time()
    for number in range(100_000):
        json.loads(json.dumps({"number": number, "text": "x" * 20, "list": [number] * 5}))
    return time.thread_time() - began
