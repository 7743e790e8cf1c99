# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real engine of Docker on a network of its own, with Compose: of Debian's packages, which are not installed."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from types import TracebackType

from .api import Json
from .errors import LabError, MissingError
from .lab import REPOSITORY
from .waiting import wait_until

PROGRAMS = REPOSITORY / ".cache/docker"
IMAGE = "homeserver:lab"
#: Answers 401 to a request without a token, as a homeserver does.
SERVER = ["/bin/busybox", "httpd", "-f", "-p", "8008", "-h", "/www", "-c", "/etc/httpd.conf"]
_REALM = "/_matrix:operator:secret\n"
#: Within another container, there may not be more.
_LIMITS = {"nofile": {"Name": "nofile", "Soft": 1024, "Hard": 1024}}


def programs() -> Path:
    """The directory with the programs, downloaded unless they are there already."""
    needed = ("apt-get", "busybox", "dpkg-deb", "ip", "nsenter", "runc", "unshare")
    if missing := [program for program in needed if not shutil.which(program)]:
        raise MissingError(f"an engine of Docker needs {', '.join(missing)} (Debian: busybox-static, runc)")
    if os.geteuid() != 0:
        raise MissingError("only root can start an engine of Docker")
    PROGRAMS.parent.mkdir(parents=True, exist_ok=True)
    with PROGRAMS.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not PROGRAMS.exists():
            _download(PROGRAMS.with_suffix(".new"))
            PROGRAMS.with_suffix(".new").rename(PROGRAMS)
    return PROGRAMS


def _download(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    archives = target / "archives"
    (archives / "partial").mkdir(parents=True)
    command = ["apt-get", "install", "--download-only", "--reinstall", "--yes", "-qq", "--no-install-recommends"]
    command += ["-o", f"Dir::Cache::archives={archives}", "docker.io", "docker-compose"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    packages = sorted(archives.glob("*.deb"))
    if done.returncode or not packages:
        raise MissingError(f"Debian's packages docker.io and docker-compose cannot be had: {done.stderr.strip()}")
    for package in packages:
        subprocess.run(["dpkg-deb", "--extract", package, target], check=True)
    shutil.rmtree(archives)


class Docker:
    """The engine, as a context manager. Commands run where its containers publish their ports."""

    def __init__(self) -> None:
        self._root = programs()
        # A socket's path is short.
        self.directory = Path(tempfile.mkdtemp(prefix="docker-"))
        self._engine: subprocess.Popen[bytes] | None = None
        path = f"{self._root / 'usr/bin'}:{self._root / 'usr/sbin'}:{self.directory}:{os.environ['PATH']}"
        #: With which the commands find the engine.
        self.environment = {**os.environ, "PATH": path, "DOCKER_HOST": f"unix://{self.directory / 'docker.sock'}"}

    def __enter__(self) -> Docker:
        settings = {"storage-driver": "vfs", "iptables": False, "ip6tables": False, "ip-forward": False}
        settings |= {"ip-masq": False, "default-ulimits": _LIMITS, "hosts": [self.environment["DOCKER_HOST"]]}
        paths = {"data-root": "data", "exec-root": "run", "pidfile": "pid"}
        settings |= {name: str(self.directory / path) for name, path in paths.items()}
        (self.directory / "daemon.json").write_text(json.dumps(settings))
        self.start()
        self._import_image()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if names := self.run("docker", "ps", "--all", "--quiet").split():
            self.run("docker", "rm", "--force", *names)
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self) -> None:
        """Start the engine, and return once it answers."""
        configuration = shlex.quote(str(self.directory / "daemon.json"))
        script = f"ip link set lo up && exec dockerd --config-file {configuration}"
        with (self.directory / "log").open("ab") as log:
            self._engine = subprocess.Popen(
                ["unshare", "--net", "sh", "-c", script], env=self.environment, stdout=log, stderr=log
            )
        wait_until(self._answers, "the engine answers")

    def _answers(self) -> bool:
        assert self._engine
        if self._engine.poll() is not None:
            lines = (self.directory / "log").read_text(errors="replace").splitlines()
            raise LabError("the engine has ended: " + "\n".join(lines[-5:]))
        done = subprocess.run(["docker", "info"], env=self.environment, capture_output=True, check=False)
        return done.returncode == 0

    def stop(self) -> None:
        """Stop the engine, and with it all containers."""
        if self._engine:
            self._engine.terminate()
            self._engine.wait(60)

    def restart(self) -> None:
        """Stop and start the engine, as a reboot does."""
        self.stop()
        self.start()

    def inside(self, *command: str | Path) -> list[str]:
        """A command on the network of the engine."""
        assert self._engine
        return ["nsenter", "--target", str(self._engine.pid), "--net", *map(str, command)]

    def run(self, *command: str | Path, directory: Path | None = None) -> str:
        """Run a command, and return what it has printed."""
        done = subprocess.run(
            self.inside(*command), env=self.environment, cwd=directory, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise LabError(f"{shlex.join(map(str, command))}: {done.returncode} {done.stdout}{done.stderr}")
        return done.stdout

    @property
    def compose(self) -> list[str]:
        """The command of Compose: its plugin if the machine has one, or else that of Debian's package."""
        command = ["docker", "compose", "version"]
        if subprocess.run(command, env=self.environment, capture_output=True, check=False).returncode == 0:
            return ["docker", "compose"]
        script = self.directory / "docker-compose"
        modules, program = self._root / "usr/lib/python3/dist-packages", self._root / "usr/bin/docker-compose"
        script.write_text(f'#!/bin/sh\nPYTHONPATH={modules} exec /usr/bin/python3 {program} "$@"\n')
        script.chmod(0o755)
        return [str(script)]

    def inspect(self, name: str) -> Json:
        """What the engine says of a container."""
        (found,) = json.loads(self.run("docker", "inspect", "--type", "container", name))
        return dict(found)

    def running(self) -> set[str]:
        """The names of the containers that run."""
        return set(self.run("docker", "ps", "--format", "{{.Names}}").split())

    def _import_image(self) -> None:
        busybox = shutil.which("busybox")
        assert busybox
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(busybox, "bin/busybox")
            for name, content in (("etc/httpd.conf", _REALM), ("www/index.html", "")):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content.encode()))
        command = self.inside("docker", "import", "-", IMAGE)
        subprocess.run(command, env=self.environment, input=archive.getvalue(), stdout=subprocess.DEVNULL, check=True)
