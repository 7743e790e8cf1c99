# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One real homeserver: its process, and the calls to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from abc import ABC, abstractmethod
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

import requests

from .api import Account, Api
from .errors import LabError
from .files import write_private
from .waiting import wait_for_exit, wait_until


class Server(Api, ABC):
    """A homeserver in a directory, with an operator's account made at the first start."""

    #: What answers once the server is up.
    health_path: ClassVar[str]

    def __init__(
        self, directory: Path, federation_port: int, client_port: int, *, config_name: str, ca_file: Path
    ) -> None:
        super().__init__(f"http://127.0.0.1:{client_port}", f"localhost:{federation_port}")
        self.directory = directory
        self.ports = (federation_port, client_port)
        self.ca_file = ca_file
        self.config_file = directory / config_name
        self.log = directory / "homeserver.log"
        self._pid_file = directory / "homeserver.pid"
        self._operator_file = directory / "operator.json"
        self._process: subprocess.Popen[bytes] | None = None
        if self._operator_file.exists():
            self.operator = Account(**json.loads(self._operator_file.read_text()))

    @property
    @abstractmethod
    def command(self) -> list[str | Path]:
        """The program and its arguments, one of them the configuration file."""

    @property
    @abstractmethod
    def environment(self) -> dict[str, str]:
        """What the program needs in its environment."""

    @property
    def pid(self) -> int | None:
        """The process id while the server runs, whoever started it."""
        try:
            pid = int(self._pid_file.read_text())
            # A pid gets reused: the command line tells. A zombie has none.
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None
        return pid if str(self.config_file).encode() in command.split(b"\0") else None

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self.pid is not None

    def start(self) -> None:
        """Start the server and return once it answers."""
        if self.running:
            raise LabError(f"{self.server_name} is running already")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.directory,
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
        wait_until(self._answers, f"{self.server_name} answers")
        if not self._operator_file.exists():
            self.operator = self.register("operator", admin=True)
            write_private(self._operator_file, asdict(self.operator))

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise LabError(f"{self.server_name} ended at its start; the last of {self.log}:\n{self.log_tail()}")
        try:
            return self._session.get(self.base_url + self.health_path, timeout=5).ok
        except requests.RequestException:
            return False

    def stop(self) -> None:
        """End the server in good order (SIGTERM) if it runs."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server on the spot (SIGKILL) if it runs."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        pid = self.pid
        if pid is not None:
            os.kill(pid, number)
            if not wait_for_exit(pid):
                raise TimeoutError(f"{self.server_name} (pid {pid}) is still there long after {number.name}")
        if self._process is not None:
            self._process.wait()
            self._process = None
        self._pid_file.unlink(missing_ok=True)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def log_tail(self, lines: int = 20) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
