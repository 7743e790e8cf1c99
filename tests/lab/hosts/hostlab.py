# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Some hosts whose servers federate with each other, and a controller beside them."""

from __future__ import annotations

import atexit
import fcntl
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from .. import certificates
from ..errors import LabError, MissingError
from ..files import write_private
from ..homeserver import Settings
from ..waiting import wait_until
from .base import build, require_machine, unmount_below
from .host import Host
from .network import Network

_LONGEST_NAME = 11  # of a host: nspawn makes an interface of it


class HostLab:
    """Hosts by name (``lab["a"]``). As a context manager: made anew, running; gone at the end, but for the disks."""

    def __init__(
        self, directory: Path | str, hosts: Sequence[str] = ("a", "b"), *, settings: Settings | None = None
    ) -> None:
        self.directory = Path(directory).resolve()
        self.settings = settings or Settings()
        #: By it, another checkout's namespaces and cgroups are told from these.
        self.name = f"lab-{hashlib.sha256(str(self.directory).encode()).hexdigest()[:8]}"
        self.network = Network(self.name)
        self.key = self.directory / "key"
        self.ca_file = self.directory / "ca.pem"
        self.state_file = self.directory / "hosts.json"
        self.inventory_file = self.directory / "inventory.json"
        self._base: Path | None = None
        self._in_use = ExitStack()
        self._cgroup = _cgroups() / self.name
        # ssh's sockets need a short path, and no other lab's: the addresses are the same in all.
        self._sockets = Path("/run", self.name)
        if too_long := [name for name in hosts if len(name) > _LONGEST_NAME]:
            raise LabError(f"names of hosts have up to {_LONGEST_NAME} characters: not {', '.join(too_long)}")
        self.hosts = {
            name: Host(
                name,
                self.network.address(number),
                self.directory / name,
                network=self.network,
                cgroup=self._cgroup / f"{self.name}-{name}",
                key=self.key,
            )
            for number, name in enumerate(hosts, start=1)
        }

    @classmethod
    def load(cls, directory: Path | str) -> HostLab:
        """The lab that was made in a directory, up or not."""
        try:
            state = json.loads((Path(directory) / "hosts.json").read_text())
        except FileNotFoundError:
            raise LabError(f"no hosts in {directory}") from None
        lab = cls(directory, list(state["hosts"]), settings=Settings(**state["settings"]))
        lab._base = Path(state["base"])
        return lab

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def __enter__(self) -> HostLab:
        with ExitStack() as stack:
            stack.enter_context(self.alone())
            self.create()
            atexit.register(self.down)
            self._in_use = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._in_use:
            self.down()
        atexit.unregister(self.down)

    @property
    def running(self) -> bool:
        """Whether any of the hosts is."""
        return any(host.running for host in self.hosts.values())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else who asks, too, makes or removes the lab in this directory meanwhile."""
        require_machine()
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with self.directory.with_name(f"{self.directory.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LabError(f"somebody else is using {self.directory}") from None
            yield

    # From nothing to running, and back

    def create(self) -> None:
        """Make the lab anew and boot it; what an earlier one in the directory, or its crash, has left is removed."""
        self._base = build()
        self._clear()
        try:
            self._lay_out(self._base)
            self.network.create()
            self._sockets.mkdir(mode=0o700)
            write_private(self.inventory_file, self.inventory())
            self.start()
        except BaseException:
            self.down()
            raise

    def _clear(self) -> None:
        if self.directory.exists() and any(self.directory.iterdir()) and not self.state_file.exists():
            raise LabError(f"{self.directory} is in use and has no hosts: not touching it")
        self.down()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self._write_state()

    def _lay_out(self, base: Path) -> None:
        make_key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", str(self.key)]
        subprocess.run(make_key, check=True)
        for host in self.hosts.values():
            host.mount(base)
        certificates.issue_for(self.ca_file, {host.directory: [host.server_name] for host in self.hosts.values()})
        names = {host.server_name: host.address for host in self.hosts.values()}
        for host in self.hosts.values():
            host.install(names, self.settings, ca_file=self.ca_file, certificate=host.directory)

    def start(self) -> None:
        """Boot all hosts that are off, side by side, and return once all servers answer."""
        for host in self.hosts.values():
            host.boot()
        self._each(Host.wait_until_up)
        self._each(lambda host: host.homeserver.make_operator())
        self._write_state()

    def stop(self) -> None:
        """Shut all hosts down in good order."""
        self._each(Host.power_off)

    def _each(self, action: Callable[[Host], None]) -> None:
        with ThreadPoolExecutor(max(1, len(self.hosts))) as pool:
            list(pool.map(action, self.hosts.values()))

    def down(self) -> None:
        """Pull all plugs, and remove everything but the files; works after a crash of whoever made it, too."""
        with suppress(FileNotFoundError):
            (self._cgroup / "cgroup.kill").write_text("1")
        for host in self.hosts.values():  # no threads: at exit there are none to be had
            host.unplug()
        wait_until(lambda: _removed(self._cgroup), f"{self._cgroup} is removed")
        self.network.remove()
        unmount_below(self.directory)
        shutil.rmtree(self._sockets, ignore_errors=True)

    # Snapshots

    def snapshot(self, name: str) -> None:
        """Keep a copy of all disks; the hosts are shut down for it and booted again."""
        target = self._snapshot(name)
        self.stop()
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for host in self.hosts.values():
            _copy(host.disk, target / host.name)
            host.forget_exits()
        self.start()

    def restore(self, name: str) -> None:
        """Put a snapshot back; the hosts are unplugged for it and booted again."""
        source = self._snapshot(name)
        if not source.exists() or self._base is None:
            raise LabError(f"no snapshot {name}")
        self._each(Host.unplug)
        for host in self.hosts.values():
            host.unmount()
            shutil.rmtree(host.disk)
            _copy(source / host.name, host.disk)
            host.forget_exits()
            host.mount(self._base)
        for socket in self._sockets.iterdir():
            socket.unlink()  # of connections to what is no more
        self.plug_in_controller()
        self.start()

    def _snapshot(self, name: str) -> Path:
        return self.directory / "snapshots" / name

    # The controller

    @contextmanager
    def in_controller(self) -> Iterator[None]:
        """This thread, and processes and threads that it starts meanwhile, are on the controller's network."""
        with self.network.inside(self.network.controller):
            yield

    def unplug_controller(self) -> None:
        """Cut the controller off from all hosts; they still have each other."""
        self.network.unplug()

    def plug_in_controller(self) -> None:
        """Undo ``unplug_controller``."""
        self.network.plug_in()

    def inventory(self, group: str = "matrix_decommission", *, user: str = "root") -> dict[str, Any]:
        """An inventory for Ansible on the controller, with all hosts in a group."""
        options = next(iter(self.hosts.values())).ssh_options
        common = {
            "ansible_user": user,
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": " ".join(options),
            "ansible_control_path_dir": str(self._sockets),
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        hosts = {host.name: {"ansible_host": host.address} for host in self.hosts.values()}
        return {group: {"hosts": hosts, "vars": common}}

    def describe(self) -> dict[str, Any]:
        """What hosts.json says: how the lab was made, and how to reach each host and server."""
        return {
            "base": str(self._base),
            "settings": asdict(self.settings),
            "controller": self.network.controller,
            "key": str(self.key),
            "hosts": {
                host.name: {
                    "address": host.address,
                    "base_url": host.homeserver.base_url,
                    "server_name": host.server_name,
                    "admin_user": host.homeserver.operator.user_id,
                    "admin_token": host.homeserver.operator.token,
                    "disk": str(host.disk),
                }
                for host in self.hosts.values()
            },
        }

    def _write_state(self) -> None:
        write_private(self.state_file, self.describe())


def _cgroups() -> Path:
    """Where the version of cgroups is mounted that can be killed as a whole."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2":
            return Path(fields[4])
    raise MissingError("hosts that boot need cgroups of version 2, and none are mounted here")


def _removed(cgroup: Path) -> bool:
    with suppress(OSError):  # what was killed takes a moment to go
        for directory in sorted(cgroup.rglob("*/"), reverse=True):
            if directory.is_dir():
                directory.rmdir()
        cgroup.rmdir()
    return not cgroup.exists()


def _copy(source: Path, target: Path) -> None:
    # cp, since an overlay's own marks are in special files and extended attributes.
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)
