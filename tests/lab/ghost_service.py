# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service ghost_cleanup as a process on loopback, under the name of a homeserver that is gone."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import requests
from stubs.rooms import ServerKey

from .errors import LabError
from .files import write_private
from .homeserver import Homeserver
from .waiting import wait_for_exit, wait_until

PROGRAM = "ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.service"
COLLECTIONS = Path(__file__).resolve().parents[2] / ".cache"
NEW_KEY = "ed25519:a_new"


class GhostService:
    """The service in a directory, with a new key. As a context manager: running, stopped at the end.

    Its name is that of the port where it listens.
    """

    def __init__(
        self,
        directory: Path,
        certificate: Path,
        ca_file: Path,
        port: int,
        status_port: int,
        *,
        old_verify_keys: Mapping[str, Any] | None = None,
        **config: Any,
    ) -> None:
        """``certificate`` is a directory with ``tls.crt`` and ``tls.key``; ``config`` has keys of the configuration."""
        self.directory = directory
        self.server_name = f"localhost:{port}"
        self.log = directory / "service.log"
        self.config_file = directory / "config.json"
        self.key = ServerKey(self.server_name, key_id=NEW_KEY)
        self._status_url = f"http://127.0.0.1:{status_port}/status.json"
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("tls.crt", "tls.key"):
            shutil.copy(certificate / name, directory / name)
        write_private(directory / "key_answer.json", self.key.key_answer(old_verify_keys))
        key_file = directory / "signing.key"
        key_file.touch(0o600)
        key_file.write_text(self.key.key_file)
        self.config: dict[str, Any] = {
            "server_name": self.server_name,
            "signing_key_path": str(key_file),
            "key_answer_path": str(directory / "key_answer.json"),
            "state_path": str(directory / "state.db"),
            "listen": [f"127.0.0.1:{port}"],
            "tls_certificate": str(directory / "tls.crt"),
            "tls_certificate_key": str(directory / "tls.key"),
            "status_listen": f"127.0.0.1:{status_port}",
            "ca_path": str(ca_file),
            "ip_allowlist": ["127.0.0.0/8", "::1"],
            **config,
        }

    @classmethod
    def after(cls, gone: Homeserver, status_port: int, **config: Any) -> GhostService:
        """The service under the name of a homeserver, which has been killed: of it, only the certificate is kept."""
        directory = gone.directory.with_name(f"{gone.directory.name}-ghosts")
        kept = gone.directory.with_name(f"{gone.directory.name}-certificate")
        kept.mkdir()
        for name in ("tls.crt", "tls.key"):
            (gone.directory / name).rename(kept / name)
        shutil.rmtree(gone.directory)
        # The lab writes a file there when it stops the server.
        gone.directory.mkdir()
        return cls(directory, kept, gone.ca_file, gone.ports[0], status_port, **config)

    @property
    def command(self) -> list[str]:
        """The program and its arguments."""
        return [sys.executable, "-m", PROGRAM, "--config", str(self.config_file)]

    @property
    def environment(self) -> dict[str, str]:
        """Where Python finds the collection."""
        return {"PYTHONPATH": str(COLLECTIONS), "PATH": os.environ["PATH"]}

    @property
    def pid(self) -> int:
        """The process ID while it runs."""
        if self._process is None:
            raise LabError("the service is not running")
        return self._process.pid

    @property
    def memory(self) -> int:
        """Resident memory in bytes."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def start(self) -> None:
        """Start the process, and return once it listens."""
        write_private(self.config_file, self.config)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
            )
        wait_until(self._listens, "the service listens")

    def _listens(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise LabError(f"the service ended at its start:\n{self.log.read_text(errors='replace')[-2000:]}")
        try:
            socket.create_connection(("127.0.0.1", int(self._status_url.split(":")[2].split("/")[0]))).close()
        except OSError:
            return False
        return True

    def status(self) -> dict[str, Any]:
        """What the service says of itself."""
        with requests.Session() as session:
            session.trust_env = False
            answer: dict[str, Any] = session.get(self._status_url, timeout=60).json()
            return answer

    def kill(self) -> None:
        """End the process on the spot (SIGKILL)."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the process in good order (SIGTERM) if it runs."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            if not wait_for_exit(self._process.pid):
                raise TimeoutError(f"the service (pid {self._process.pid}) is still there long after {number.name}")
            self._process.wait()
            self._process = None

    def __enter__(self) -> GhostService:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
