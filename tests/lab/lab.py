# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Some servers that federate with each other, in one directory."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from . import certificates
from .database import Database, Sqlite
from .dendrite import Dendrite
from .errors import LabError, MissingError
from .files import write_private
from .homeserver import Homeserver, Settings
from .postgresql import Cluster
from .server import Server
from .workers import WorkerHomeserver

REPOSITORY = Path(__file__).resolve().parents[2]
DENDRITE = REPOSITORY / ".cache/dendrite/bin"


def default_python() -> Path:
    """The Python that has Synapse: ``LAB_SYNAPSE_PYTHON``, or the repository's own."""
    return Path(os.environ.get("LAB_SYNAPSE_PYTHON", REPOSITORY / ".cache/synapse/bin/python"))


class Lab:
    """Servers by name: Synapse in ``lab["a"]``, Dendrite in ``lab.dendrites["d"]``.

    As a context manager: made anew, running, stopped at the end.
    """

    def __init__(
        self,
        directory: Path | str,
        servers: Sequence[str] = ("a", "b"),
        *,
        dendrites: Sequence[str] = (),
        workers: Sequence[str] = (),
        database: str = "sqlite",
        synapse_python: Path | str | None = None,
        base_port: int = 18400,
        settings: Settings | None = None,
    ) -> None:
        """``workers`` are those of the servers that run as several processes, with PostgreSQL."""
        self.directory = Path(directory).resolve()
        self.kind = database
        self.workers = tuple(workers)
        self.python = Path(synapse_python or default_python()).absolute()
        self.base_port = base_port
        self.settings = settings or Settings()
        self.ca_file = self.directory / "ca.pem"
        self.state_file = self.directory / "lab.json"
        self.on_postgresql = tuple(servers) if database == "postgresql" else self.workers
        self.cluster = Cluster(self.directory / "postgresql", base_port) if self.on_postgresql else None
        self._extra_ports = count(base_port + 2 * (len(servers) + len(dendrites)) + 1)
        self.servers = {name: self._homeserver(name, number) for number, name in enumerate(servers)}
        self.dendrites = {
            name: Dendrite(self.directory / name, *self._ports(number), ca_file=self.ca_file, programs=DENDRITE)
            for number, name in enumerate(dendrites, len(servers))
        }

    def _homeserver(self, name: str, number: int) -> Homeserver:
        directory, ports = self.directory / name, self._ports(number)
        more: dict[str, Any] = {"ca_file": self.ca_file, "database": self._database(name), "python": self.python}
        if name in self.workers:
            return WorkerHomeserver(directory, *ports, process_ports=self._extra_ports, **more)
        return Homeserver(directory, *ports, **more)

    def _ports(self, number: int) -> tuple[int, int]:
        return self.base_port + 2 * number + 1, self.base_port + 2 * number + 2

    @property
    def _all(self) -> list[Server]:
        return [*self.servers.values(), *self.dendrites.values()]

    def _database(self, name: str) -> Database:
        if self.cluster and name in self.on_postgresql:
            return self.cluster.database(name)
        return Sqlite(self.directory / name / "homeserver.db")

    @classmethod
    def load(cls, directory: Path | str) -> Lab:
        """The lab that was made in a directory, running or not."""
        try:
            state = json.loads((Path(directory) / "lab.json").read_text())
        except FileNotFoundError:
            raise LabError(f"no lab in {directory}") from None
        return cls(
            directory,
            list(state["servers"]),
            dendrites=state.get("dendrites", ()),
            workers=state.get("workers", ()),
            database=state["database"],
            synapse_python=state["synapse_python"],
            base_port=state["base_port"],
            settings=Settings(**state["settings"]),
        )

    def __getitem__(self, name: str) -> Homeserver:
        return self.servers[name]

    def with_workers(self, name: str) -> WorkerHomeserver:
        """One of the servers that run as several processes."""
        server = self.servers[name]
        assert isinstance(server, WorkerHomeserver)
        return server

    def __enter__(self) -> Lab:
        self.create()
        atexit.register(self.stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        atexit.unregister(self.stop)

    @property
    def running(self) -> bool:
        """Whether any of the servers is."""
        return any(server.running for server in self._all)

    def create(self) -> None:
        """Make the lab anew and start it; an earlier one in the directory is stopped and removed."""
        if not self.python.exists():
            raise MissingError(f"no Python with Synapse at {self.python}; LAB_SYNAPSE_PYTHON can name another")
        if self.dendrites and not (DENDRITE / "dendrite").exists():
            raise MissingError(f"no Dendrite in {DENDRITE}; `make .cache/dendrite.installed` builds it with Go")
        self._clear()
        self.directory.mkdir(parents=True)
        for server in self._all:
            server.directory.mkdir()
        self._write_state()
        certificates.issue(self.ca_file, (server.directory for server in self._all))
        for homeserver in self.servers.values():
            homeserver.configure(self.settings)
        for dendrite in self.dendrites.values():
            dendrite.configure()
        self._check_ports()
        try:
            if self.cluster:
                self.cluster.create(self.on_postgresql)
            self.start()
        except BaseException:
            self.stop()
            raise

    def _clear(self) -> None:
        if self.state_file.exists():
            Lab.load(self.directory).stop()
            shutil.rmtree(self.directory)
        elif self.directory.exists():
            try:
                self.directory.rmdir()
            except OSError:
                raise LabError(f"{self.directory} is in use and not a lab: not touching it") from None

    def _check_ports(self) -> None:
        ports = [port for server in self._all for port in server.all_ports]
        for port in [*ports, self.base_port] if self.cluster else ports:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    raise LabError(f"port {port} is in use; choose another base port") from None

    def start(self) -> None:
        """Start all servers that are stopped, side by side."""
        if self.cluster:
            self.cluster.start()
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda server: server.start(), (server for server in self._all if not server.running)))
        self._write_state()

    def stop(self) -> None:
        """Stop all servers."""
        if not self.state_file.exists():
            return
        for server in self._all:  # no threads: at exit there are none to be had
            server.stop()
        if self.cluster:
            self.cluster.stop()
        self._write_state()

    def snapshot(self, name: str) -> None:
        """Keep a copy of everything the servers have; they are stopped for it and started again."""
        target = self.directory / "snapshots" / name
        self.stop()
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for part in self._parts():
            _copy(part, target / part.name)
        self.start()

    def restore(self, name: str) -> None:
        """Put a snapshot back; the servers are stopped for it and started again."""
        source = self.directory / "snapshots" / name
        if not source.exists():
            raise LabError(f"no snapshot {name}")
        self.stop()
        for part in self._parts():
            shutil.rmtree(part)
            _copy(source / part.name, part)
        self.start()

    def _parts(self) -> list[Path]:
        clusters = [self.cluster.directory] if self.cluster else []
        return [server.directory for server in self._all] + clusters

    def describe(self) -> dict[str, Any]:
        """What lab.json says: how the lab was made, and how to reach each server."""
        return {
            "database": self.kind,
            "synapse_python": str(self.python),
            "base_port": self.base_port,
            "settings": asdict(self.settings),
            "dendrites": list(self.dendrites),
            "workers": list(self.workers),
            "servers": {
                name: {
                    "base_url": server.base_url,
                    "server_name": server.server_name,
                    "admin_user": server.operator.user_id,
                    "admin_token": server.operator.token,
                    "ca_file": str(server.ca_file),
                    "pid": server.pid,
                }
                for name, server in self.servers.items()
            },
        }

    def _write_state(self) -> None:
        write_private(self.state_file, self.describe())


def _copy(source: Path, target: Path) -> None:
    # cp, since it keeps the owners: PostgreSQL's files aren't root's.
    subprocess.run(["cp", "-a", source, target], check=True)
