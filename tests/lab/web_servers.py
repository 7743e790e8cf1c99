# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real nginx or Caddy, or the service ghost_cleanup, on loopback: serves a static site as an ordinary process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from ansible_collections.matrixops.synapse.plugins.plugin_utils._site import layout, web_servers

from .errors import LabError
from .nginx import find_program, nginx_command, nginx_config
from .waiting import wait_for_exit, wait_until


class WebServer(ABC):
    """A web server for one site, with the certificate ``tls.crt`` and ``tls.key`` of its directory.

    As a context manager: running, stopped at the end. ``MissingError`` if the program is not installed.
    """

    program: ClassVar[str]
    aliases: ClassVar[str]

    def __init__(self, directory: Path, site: Path, port: int, *, tls: bool = True) -> None:
        self.directory = directory
        self.site = site
        self.port = port
        self.transactions = directory / "transactions.log"
        self.errors = directory / "errors.log"
        certificate = (str(directory / "tls.crt"), str(directory / "tls.key")) if tls else ("", "")
        self.paths = web_servers.Paths(
            www=str(site / layout.WWW),
            aliases_file=str(site / self.aliases),
            log_file=str(self.transactions),
            ports=(port,),
            certificate=certificate[0],
            certificate_key=certificate[1],
            tls=tls,
            addresses=("127.0.0.1",),
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def executable(self) -> str:
        """The path of the program; Debian has nginx where only root looks for it."""
        return find_program(self.program)

    @property
    def environment(self) -> dict[str, str]:
        """All that the program needs in its environment."""
        return {"HOME": str(self.directory), "XDG_DATA_HOME": str(self.directory), "PATH": os.environ.get("PATH", "")}

    @abstractmethod
    def configuration(self, summary: dict[str, Any]) -> str:
        """The configuration of the site, given its ``site.json``."""

    @abstractmethod
    def write(self, configuration: str) -> None:
        """Write all configuration files."""

    @abstractmethod
    def command(self, *, check: bool = False) -> list[str]:
        """The program and its arguments: to run in the foreground, or to check the configuration only."""

    def check(self) -> subprocess.CompletedProcess[str]:
        """Let the program check its configuration."""
        self._prepare()
        return subprocess.run(
            self.command(check=True), capture_output=True, text=True, env=self.environment, check=False
        )

    def start(self) -> None:
        """Start the server, and return once it listens."""
        self._prepare()
        if self._listens():
            raise LabError(f"port {self.port} is in use")
        with self.errors.open("ab") as errors:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, env=self.environment
            )
        try:
            wait_until(self._listens, f"{self.program} listens on port {self.port}")
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """The process ID while it runs."""
        if self._process is None:
            raise LabError(f"{self.program} is not running")
        return self._process.pid

    def stop(self) -> None:
        """End the server if it runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            if not wait_for_exit(self._process.pid):
                raise TimeoutError(f"{self.program} (pid {self._process.pid}) is still there long after SIGTERM")
            self._process.wait()
            self._process = None

    def __enter__(self) -> WebServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _prepare(self) -> None:
        summary = layout.read_summary(self.site)
        if summary is None:
            raise LabError(f"{self.site} has no static site")
        self.write(self.configuration(summary))

    def _listens(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise LabError(f"{self.program} ended at its start: {self.errors.read_text(errors='replace')[-2000:]}")
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except OSError:
            return False
        return True


class Nginx(WebServer):
    """nginx, with an ``http {}`` like that of Debian."""

    program = "nginx"
    aliases = layout.NGINX_ALIASES

    def configuration(self, summary: dict[str, Any]) -> str:
        return web_servers.nginx_conf(summary, self.paths)

    def write(self, configuration: str) -> None:
        d = self.directory
        (d / "site.conf").write_text(configuration)
        http = f"include /etc/nginx/mime.types; default_type application/octet-stream; gzip on; include {d}/site.conf;"
        (d / "nginx.conf").write_text(nginx_config(d, self.errors, http))

    def command(self, *, check: bool = False) -> list[str]:
        return nginx_command(self.directory, self.errors, check=check)


class Caddy(WebServer):
    """Caddy, without its admin API and without requests to a certificate authority."""

    program = "caddy"
    aliases = layout.CADDY_ALIASES

    def configuration(self, summary: dict[str, Any]) -> str:
        return web_servers.caddyfile(summary, self.paths)

    def write(self, configuration: str) -> None:
        (self.directory / "site.caddy").write_text(configuration)
        (self.directory / "Caddyfile").write_text(
            f"{{\n\tadmin off\n\tauto_https disable_redirects\n}}\nimport {self.directory}/site.caddy\n"
        )

    def command(self, *, check: bool = False) -> list[str]:
        config = ["--adapter", "caddyfile", "--config", str(self.directory / "Caddyfile")]
        return [self.executable, "validate" if check else "run", *config]


class GhostCleanup(WebServer):
    """The web part of the service ``ghost_cleanup``, which serves a static site as well.

    ``keys``, key answers of remote servers by name, may be set before the start.
    """

    program = "ghost_cleanup"
    aliases = layout.CADDY_ALIASES
    keys: dict[str, dict[str, Any]] = {}

    @property
    def executable(self) -> str:
        return sys.executable

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

    def configuration(self, summary: dict[str, Any]) -> str:
        return json.dumps(
            {
                "server_name": summary["server_name"],
                "site_path": self.paths.www,
                "key_answer_path": f"{self.paths.www}/_matrix/key/v2/server",
                "listen": [f"127.0.0.1:{self.port}"],
                "tls": [self.paths.certificate, self.paths.certificate_key] if self.paths.tls else None,
                "keys": self.keys,
            }
        )

    def write(self, configuration: str) -> None:
        (self.directory / "ghost_cleanup.json").write_text(configuration)

    def command(self, *, check: bool = False) -> list[str]:
        if check:
            raise LabError(f"{self.program} cannot check its configuration")
        return [self.executable, "-m", "lab.ghost_web", str(self.directory / "ghost_cleanup.json")]
