# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A program that runs in the background, and can be killed and frozen."""

from __future__ import annotations

import os
import signal as signals
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .errors import LabError
from .waiting import wait_for_exit, wait_until


class Process:
    """A program with a configuration file, next to which its process ID and its log are kept."""

    def __init__(
        self,
        name: str,
        config_file: Path,
        command: Sequence[str | Path],
        answers: Callable[[], bool],
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """
        :param name: for messages.
        :param command: the program and its arguments, one of them the configuration file.
        :param answers: whether the program is up.
        :param environment: what the program needs besides PATH, HOME and LANG.
        """
        self.name = name
        self.config_file = config_file
        self.command = command
        self.environment = environment or {}
        self.log = config_file.with_suffix(".log")
        self._answers = answers
        self._pid_file = config_file.with_suffix(".pid")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process ID while the program runs, whoever started it."""
        try:
            pid = int(self._pid_file.read_text())
            # A process ID gets reused: the command line tells. A zombie has none.
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        return pid if str(self.config_file).encode() in command.split(b"\0") else None

    @property
    def running(self) -> bool:
        """Whether the program runs."""
        return self.pid is not None

    def start(self) -> None:
        """Start the program, and return once it answers."""
        if self.running:
            raise LabError(f"{self.name} is running already")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.config_file.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Nothing else from ours: a proxy or a PYTHONPATH would get in the way.
                env={
                    **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
                    **self.environment,
                },
                start_new_session=True,
            )
        self._pid_file.write_text(str(self._process.pid))
        wait_until(self._is_up, f"{self.name} answers")

    def _is_up(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise LabError(f"{self.name} ended at its start; the last of {self.log}:\n{self.log_tail()}")
        return self._answers()

    def stop(self) -> None:
        """End the program in good order (SIGTERM) if it runs."""
        self._end(signals.SIGTERM)

    def kill(self) -> None:
        """End the program on the spot (SIGKILL) if it runs."""
        self._end(signals.SIGKILL)

    def freeze(self) -> None:
        """Let the program do nothing until C(thaw): its sockets stay open, and do not answer."""
        self.signal(signals.SIGSTOP)

    def thaw(self) -> None:
        """Let the program continue."""
        self.signal(signals.SIGCONT)

    def signal(self, number: signals.Signals) -> int | None:
        """Send a signal if the program runs. Return its process ID then."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, number)
        return pid

    def _end(self, number: signals.Signals) -> None:
        pid = self.signal(number)
        if pid is not None:
            # A frozen program gets no other signal than SIGKILL.
            self.thaw()
            if not wait_for_exit(pid):
                raise TimeoutError(f"{self.name} (pid {pid}) is still there long after {number.name}")
        if self._process is not None:
            self._process.wait()
            self._process = None
        self._pid_file.unlink(missing_ok=True)

    def log_tail(self, lines: int = 20) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
