# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One real homeserver: its process, and the calls to it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import requests

from .api import Account, Api
from .files import write_private
from .process import Process


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
        self._operator_file = directory / "operator.json"
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
    def all_ports(self) -> Sequence[int]:
        """All ports that the server listens on."""
        return self.ports

    @cached_property
    def process(self) -> Process:
        """The program, which answers for the whole server."""
        return Process(self.server_name, self.config_file, self.command, self._is_healthy, environment=self.environment)

    @property
    def log(self) -> Path:
        """The log of the program."""
        return self.process.log

    @property
    def pid(self) -> int | None:
        """The process ID while the program runs, whoever started it."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the program runs."""
        return self.process.running

    def start(self) -> None:
        """Start the server and return once it answers."""
        self.process.start()
        self._register_operator()

    def _register_operator(self) -> None:
        if not self._operator_file.exists():
            self.operator = self.register("operator", admin=True)
            write_private(self._operator_file, asdict(self.operator))

    def _is_healthy(self) -> bool:
        try:
            return self._session.get(self.base_url + self.health_path, timeout=5).ok
        except requests.RequestException:
            return False

    def stop(self) -> None:
        """End the server in good order (SIGTERM) if it runs."""
        self.process.stop()

    def kill(self) -> None:
        """End the server on the spot (SIGKILL) if it runs."""
        self.process.kill()

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()
