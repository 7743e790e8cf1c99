# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One real Synapse that runs as several processes: workers, with Redis between them and nginx in front."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import requests

from .delay import DelayingProxy
from .homeserver import Homeserver, listener
from .nginx import find_program, nginx_command, nginx_config
from .process import Process

WORKERS = {
    "gateway": ("client", "federation"),
    "persister": (),
    "sender1": (),
    "sender2": (),
    "background": (),
    "writer": ("client",),
}
"""The workers, each with what it serves to nginx: one gateway for most requests of clients and servers, one that
persists events, two federation senders, one for background tasks, and one that writes account data."""
PROCESSES = ("redis", "nginx", "main", *WORKERS)
SENDERS = ("sender1", "sender2")

_MEMBERSHIP = "join|leave|invite|ban|unban|kick|knock|send|state|redact|members|joined_members|messages|event|context"
_CLIENT = "^/_matrix/client/(r0|v1|v3|unstable)/"
_GATEWAY_PATHS = (
    f"{_CLIENT}(sync|createRoom|login|account/whoami|joined_rooms)$",
    f"{_CLIENT}rooms/[^/]+/({_MEMBERSHIP})(/|$)",
    f"{_CLIENT}(join|knock)/",
    "^/_matrix/client/versions$",
)
_FEDERATION_PATHS = ("^/_matrix/federation/v[12]/(send|make_|send_|backfill|event|state|state_ids|get_missing|query)",)
_ACCOUNT_DATA = f"{_CLIENT}user/[^/]+/(rooms/[^/]+/)?account_data/"


def sender_of(server_name: str) -> str:
    """The federation sender for a remote server: by the hash of its name, as Synapse chooses it."""
    digest = hashlib.sha256(server_name.encode()).digest()
    return SENDERS[int.from_bytes(digest, "little") % len(SENDERS)]


class WorkerHomeserver(Homeserver):
    """A Synapse with workers in a directory. Its URL and its name are those of nginx."""

    def __init__(self, *arguments: Any, process_ports: Iterator[int], **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._main_port, self._redis_port, self._delay_port = (next(process_ports) for _port in range(3))
        self._worker_ports = {name: next(process_ports) for name in WORKERS}
        self.replication = DelayingProxy(self._delay_port, self._redis_port)
        """Between Redis and all processes."""

    @property
    def all_ports(self) -> Sequence[int]:
        return *self.ports, self._main_port, self._redis_port, self._delay_port, *self._worker_ports.values()

    @property
    def main_url(self) -> str:
        """The URL of the main process, past nginx."""
        return _url(self._main_port)

    @cached_property
    def processes(self) -> dict[str, Process]:
        """All processes by name, in the order of their start."""
        d = self.directory
        _federation_port, client_port = self.ports
        redis = Process(
            "redis",
            d / "redis.conf",
            [find_program("redis-server"), str(d / "redis.conf")],
            lambda: _listens(self._redis_port),
        )
        command: Sequence[str | Path] = nginx_command(d, d / "nginx.log")
        nginx = Process("nginx", d / "nginx.conf", command, lambda: _listens(client_port))
        return {"redis": redis, "nginx": nginx, "main": self.process, **{name: self._worker(name) for name in WORKERS}}

    def _worker(self, name: str) -> Process:
        file = self.directory / f"{name}.yaml"
        files: list[str | Path] = ["--config-path", self.config_file, "--config-path", file]
        command: list[str | Path] = [self.python, "-m", "synapse.app.generic_worker", *files]
        return Process(name, file, command, _health(self._worker_ports[name]), environment=self.environment)

    # Configuration

    def configure(self, settings: Any) -> None:
        super().configure(settings)
        for name, resources in WORKERS.items():
            config = {
                "worker_app": "synapse.app.generic_worker",
                "worker_name": name,
                "worker_listeners": [listener(self._worker_ports[name], "replication", *resources, tls=False)],
                "worker_log_config": str(self.directory / "log.yaml"),
            }
            (self.directory / f"{name}.yaml").write_text(json.dumps(config))
        (self.directory / "redis.conf").write_text(
            f'port {self._redis_port}\nbind 127.0.0.1\nsave ""\nset-proc-title no\ndir {self.directory}\n'
        )
        self.route()

    def _listeners(self) -> list[dict[str, Any]]:
        return [listener(self._main_port, "client", "federation", "replication", tls=False)]

    def _own_config(self) -> dict[str, Any]:
        ports = {"main": self._main_port, **self._worker_ports}
        database = self.database.config
        return {
            "redis": {"enabled": True, "host": "127.0.0.1", "port": self._delay_port},
            "worker_replication_secret": "lab-replication-secret",
            "instance_map": {name: {"host": "127.0.0.1", "port": port} for name, port in ports.items()},
            "stream_writers": {"events": ["persister"], "account_data": ["writer"]},
            "federation_sender_instances": list(SENDERS),
            "run_background_tasks_on": "background",
            "database": {**database, "args": {**database["args"], "cp_min": 1, "cp_max": 5}},
        }

    def route(self, *, failover: bool = True, read_account_data_at: str = "writer") -> None:
        """Write the configuration of nginx, and restart nginx if it runs.

        :param failover: whether the main process answers in the place of a gateway that is dead.
        :param read_account_data_at: the process that answers reads of account data.
        """
        ports = {"main": self._main_port, **self._worker_ports}
        spare = f" server 127.0.0.1:{self._main_port} backup;" if failover else ""
        upstreams = "".join(
            f"upstream {name} {{ server 127.0.0.1:{port} max_fails=0;{spare if name == 'gateway' else ''} }}\n"
            for name, port in ports.items()
        )
        federation_port, client_port = self.ports
        tls = f"ssl_certificate {self.directory}/tls.crt; ssl_certificate_key {self.directory}/tls.key;"
        account_data = f"location ~ {_quoted(_ACCOUNT_DATA)} {{ proxy_pass http://$account_data; }}\n"
        http = (
            "client_max_body_size 50m; proxy_http_version 1.1; proxy_set_header Host $host:$server_port;\n"
            f"map $request_method $account_data {{ default writer; GET {read_account_data_at}; }}\n"
            f"{upstreams}"
            f"server {{ listen 127.0.0.1:{client_port};\n{account_data}{_locations(_GATEWAY_PATHS)} }}\n"
            f"server {{ listen 127.0.0.1:{federation_port} ssl; {tls}\n{_locations(_FEDERATION_PATHS)} }}\n"
        )
        (self.directory / "nginx.conf").write_text(nginx_config(self.directory, self.directory / "nginx.log", http))
        nginx = self.processes["nginx"]
        if nginx.running:
            nginx.stop()
            nginx.start()

    # Processes

    @property
    def running(self) -> bool:
        return all(process.running for process in self.processes.values())

    def start(self) -> None:
        """Start all processes that do not run."""
        self.replication.start()
        # The main process makes the tables of the database.
        for name in ("redis", "nginx", "main"):
            if not self.processes[name].running:
                self.processes[name].start()
        with ThreadPoolExecutor() as pool:
            list(pool.map(Process.start, [process for process in self.processes.values() if not process.running]))
        self._register_operator()

    def stop(self) -> None:
        self._end_all(signal.SIGTERM)

    def kill(self) -> None:
        self._end_all(signal.SIGKILL)

    def _end_all(self, number: signal.Signals) -> None:
        processes = list(reversed(self.processes.values()))
        for process in processes:
            process.signal(number)
            process.thaw()
        for process in processes:
            process.stop()
        self.replication.stop()


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def _health(port: int) -> Callable[[], bool]:
    def answers() -> bool:
        with requests.Session() as session:
            session.trust_env = False
            try:
                return session.get(f"{_url(port)}/health", timeout=5).ok
            except requests.RequestException:
                return False

    return answers


def _locations(paths: Sequence[str]) -> str:
    """The paths that the gateway answers. The main process answers all others."""
    gateway = "".join(f"location ~ {_quoted(path)} {{ proxy_pass http://gateway; }}\n" for path in paths)
    return f"{gateway}location / {{ proxy_pass http://main; }}"


def _quoted(pattern: str) -> str:
    return f'"{pattern}"'
