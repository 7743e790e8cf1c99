# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One machine: its disk, its power, its SSH, and the Synapse on it."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import requests

from ..api import Account, Api, Json
from ..database import Sqlite
from ..errors import LabError
from ..files import write_private
from ..homeserver import Settings, configuration, listener, write_files
from ..waiting import PATIENCE, wait_until
from .base import LOGINS, SERVICE_USER
from .network import BRIDGE, PREFIX, Network

SSH_PORT = 22
FEDERATION_PORT = 8448
CLIENT_PORT = 8008

_ETC = Path("/etc/matrix-synapse")
_DATA = Path("/var/lib/matrix-synapse")
_REBOOTED = 133
# Its standard input is a file that it holds a lock on for as long as it watches.
_WATCH = f"""\
name=$1 namespace=$2 cgroup=$3 directory=$4
status={_REBOOTED}
while [ $status = {_REBOOTED} ]; do
  ip -n "$namespace" link delete "vb-$name" 2>/dev/null # of a machine that was unplugged
  sh -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' sh "$cgroup" \\
    ip netns exec "$namespace" sh -c '
      mkdir -p /run/systemd/nspawn && mount -t tmpfs tmpfs /run/systemd/nspawn || exit 99
      umount -R /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 99
      exec systemd-nspawn --quiet --boot --keep-unit --register=no --machine="$1" --hostname="$1" \\
        --directory="$2/root" --network-bridge={BRIDGE} --link-journal=no --resolv-conf=off --timezone=off
    ' sh "$name" "$directory" </dev/null &
  echo $! >"$directory/pid"
  wait $!
  status=$?
  echo $status >>"$directory/exits"
done
"""


class HostedHomeserver(Api):
    """The Synapse of a host. The lab calls it from the switch, whether the controller is plugged in or not."""

    def __init__(self, host: Host) -> None:
        super().__init__(f"http://{host.address}:{CLIENT_PORT}", host.server_name)
        self._network = host.network
        self._operator_file = host.directory / "operator.json"
        #: As files, to be read while the host is off, too.
        self.database = Sqlite(host.root / _DATA.relative_to("/") / "homeserver.db")
        if self._operator_file.exists():
            self.operator = Account(**json.loads(self._operator_file.read_text()))

    def call(self, method: str, path: str, **options: Any) -> Json:
        with self._network.inside(self._network.name):
            return super().call(method, path, **options)

    @property
    def answers(self) -> bool:
        """Whether it does."""
        with self._network.inside(self._network.name):
            try:
                return self._session.get(f"{self.base_url}/health", timeout=2).ok
            except requests.RequestException:
                return False

    def make_operator(self) -> None:
        """Make the operator's account unless there is one."""
        if not self._operator_file.exists():
            self.operator = self.register("operator", admin=True)
            write_private(self._operator_file, asdict(self.operator))


class Host:
    """A machine with a directory of the lab's; on the bridge it has a static address."""

    def __init__(self, name: str, address: str, directory: Path, *, network: Network, cgroup: Path, key: Path) -> None:
        self.name = name
        self.address = address
        self.server_name = f"{name}.lab"
        self.directory = directory
        self.network = network
        #: The whole file system, on and off.
        self.root = directory / "root"
        #: What the host itself has written, of that.
        self.disk = directory / "upper"
        self.console = directory / "console.log"
        self._cgroup = cgroup
        self._key = key
        self._watcher: subprocess.Popen[bytes] | None = None
        self.homeserver = HostedHomeserver(self)

    @property
    def role_variables(self) -> dict[str, Any]:
        """What the role needs to know of its server, on the host itself."""
        return {
            "decommission_confirm": self.server_name,
            "decommission_access_token": self.homeserver.admin_token,
            "decommission_signing_key_path": str(_ETC / "signing.key"),
            "decommission_federation_ca_path": str(_ETC / "ca.pem"),
            "decommission_federation_ip_allowlist": [f"{PREFIX}.0/24"],
        }

    # Its disk

    def mount(self, base: Path) -> None:
        """Put the disk together from the shared root and its own."""
        work = self.directory / "work"
        shutil.rmtree(work, ignore_errors=True)
        for part in (self.root, self.disk, work):
            part.mkdir(parents=True, exist_ok=True)
        options = f"lowerdir={base},upperdir={self.disk},workdir={work}"
        command = ["mount", "-t", "overlay", "overlay", "-o", options, str(self.root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"the disk of {self.name} can't be put together: {done.stderr.strip()}")

    def unmount(self) -> None:
        """Take the disk apart."""
        if self.root.is_mount():
            wait_until(self._unmounted, f"{self.root} is unmounted")

    def _unmounted(self) -> bool:
        return subprocess.run(["umount", self.root], stderr=subprocess.DEVNULL, check=False).returncode == 0

    def install(self, names: Mapping[str, str], settings: Settings, *, ca_file: Path, certificate: Path) -> None:
        """Write to the new disk what this host has of its own. The names are those of all hosts, with addresses."""
        etc = self.root / "etc"
        (etc / "hostname").write_text(f"{self.name}\n")
        (etc / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
        known = {"localhost": "127.0.0.1", **names}
        (etc / "hosts").write_text(
            "".join(f"{address} {name} {name.split('.')[0]}\n" for name, address in known.items())
        )
        (etc / "systemd/network/10-host0.network").write_text(
            f"[Match]\nName=host0\n[Network]\nAddress={self.address}/24\nLinkLocalAddressing=no\nLLDP=no\n"
        )
        for user, home in LOGINS.items():
            account = self._account(user)
            folder = self.root / home / ".ssh"
            folder.mkdir(exist_ok=True)
            folder.chmod(0o700)
            shutil.copyfile(self._key.with_name(f"{self._key.name}.pub"), folder / "authorized_keys")
            _hand_over(folder, account)
        self._install_synapse(settings, ca_file, certificate)

    def _install_synapse(self, settings: Settings, ca_file: Path, certificate: Path) -> None:
        if settings.veto:
            raise LabError("hosts have no modules for Synapse")
        place = self.root / _ETC.relative_to("/")
        config = configuration(
            self.server_name,
            _ETC,
            settings,
            listeners=[
                listener(FEDERATION_PORT, "federation", tls=True, address="0.0.0.0"),  # noqa: S104
                listener(CLIENT_PORT, "client", tls=False, address="0.0.0.0"),  # noqa: S104
            ],
            database=Sqlite(_DATA / "homeserver.db"),
            ca_file=_ETC / "ca.pem",
        )
        config |= {"media_store_path": str(_DATA / "media"), **settings.extra_config}
        shutil.copyfile(ca_file, place / "ca.pem")
        for name in ("tls.crt", "tls.key"):
            shutil.copyfile(certificate / name, place / name)
        write_files(place, config)
        for directory in (place, self.root / _DATA.relative_to("/")):
            _hand_over(directory, self._account(SERVICE_USER))

    def _account(self, name: str) -> pwd.struct_passwd:
        for line in (self.root / "etc/passwd").read_text().splitlines():
            user, password, uid, gid, *rest = line.split(":")
            if user == name:
                return pwd.struct_passwd((user, password, int(uid), int(gid), *rest))
        raise LabError(f"{self.name} has no user {name}")

    # Its power

    def boot(self) -> None:
        """Power it on, with the disk as it is; does nothing if it is on."""
        if self.running:
            return
        if not self.root.is_mount():
            raise LabError(f"{self.name} has no disk: the lab is down")
        self._cgroup.mkdir(parents=True, exist_ok=True)
        watch = ["sh", "-c", _WATCH, "sh", self.name, self.network.name, str(self._cgroup), str(self.directory)]
        with self._lock.open("w") as lock, self.console.open("ab") as console:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._watcher = subprocess.Popen(
                watch, stdin=lock, stdout=console, stderr=console, cwd="/", start_new_session=True
            )

    @property
    def _lock(self) -> Path:
        return self.directory / "watched"

    @property
    def _watched(self) -> bool:
        try:
            with self._lock.open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    @property
    def _populated(self) -> bool:
        try:
            return "populated 1" in (self._cgroup / "cgroup.events").read_text()
        except FileNotFoundError:
            return False

    @property
    def running(self) -> bool:
        """Whether it is on, or about to come back from a reboot."""
        return self._watched or self._populated

    @property
    def exits(self) -> list[int]:
        """How it went off each time since it was made or put back: 0 powered off, 133 rebooted, 137 unplugged."""
        try:
            return [int(line) for line in (self.directory / "exits").read_text().split()]
        except FileNotFoundError:
            return []

    def forget_exits(self) -> None:
        """From now on, count anew."""
        (self.directory / "exits").unlink(missing_ok=True)

    def wait_until_up(self, timeout: float = PATIENCE) -> None:
        """Return once all its services run, and Synapse answers."""
        wait_until(lambda: self._up, f"{self.name} is up", timeout)

    @property
    def _up(self) -> bool:
        if not self.running:
            raise LabError(f"{self.name} went off while it was booting {self.exits}:\n{self.console_tail()}")
        with self.network.inside(self.network.controller):
            try:
                socket.create_connection((self.address, SSH_PORT), timeout=0.2).close()
            except OSError:
                return False
        state = self.ssh("systemctl is-system-running --wait", check=False).stdout.strip()
        if state in ("degraded", "maintenance"):
            failed = self.ssh("systemctl --failed --no-legend; journalctl -b -p err -n 20 --no-pager", check=False)
            raise LabError(f"{self.name} is {state}:\n{failed.stdout}{self.console_tail()}")
        return state == "running" and self.homeserver.answers

    def wait_off(self, timeout: float = PATIENCE) -> None:
        """Return once it is off; ``exits`` tells how."""
        wait_until(lambda: not self.running, f"{self.name} is off", timeout)

    def power_off(self, timeout: float = PATIENCE) -> None:
        """Press the button: it shuts down in good order. Does nothing if it is off."""
        if self.running:
            # nspawn passes it on; so early in a boot that nobody listens yet, it is lost.
            wait_until(self._pressed, f"{self.name} is off after its button was pressed", timeout, interval=1)

    def _pressed(self) -> bool:
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int((self.directory / "pid").read_text())
            # The pid may be another's by now.
            if self._cgroup.name in Path(f"/proc/{pid}/cgroup").read_text():
                os.kill(pid, signal.SIGTERM)
        with suppress(TimeoutError):
            self.wait_off(timeout=10)
        return not self.running

    def unplug(self) -> None:
        """Pull its plug: all its processes are gone at once. Does nothing if it is off."""
        wait_until(self._unplugged, f"{self.name} is off")

    def _unplugged(self) -> bool:
        with suppress(FileNotFoundError):
            (self._cgroup / "cgroup.kill").write_text("1")
        return not self.running

    def console_tail(self, lines: int = 20) -> str:
        """The end of what it printed to its console."""
        return "\n".join(self.console.read_text(errors="replace").splitlines()[-lines:])

    # Its SSH

    @property
    def ssh_options(self) -> list[str]:
        """What ``ssh`` needs to get in, and not to take anything from this machine's own settings."""
        options = {"StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "LogLevel": "ERROR"}
        options |= {"BatchMode": "yes", "IdentitiesOnly": "yes", "ConnectTimeout": "30"}
        return ["-F", "/dev/null", *(f"-o{name}={value}" for name, value in options.items())]

    def ssh(
        self, command: str, *, user: str = "root", timeout: float = PATIENCE, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host, from the controller."""
        line = ["ssh", "-n", "-i", str(self._key), *self.ssh_options, f"{user}@{self.address}", command]
        with self.network.inside(self.network.controller):
            try:
                done = subprocess.run(line, capture_output=True, text=True, timeout=timeout, check=False)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"{self.name}: {command}: no end after {timeout:g} s") from None
        if check and done.returncode:
            raise LabError(f"{self.name}: {command}: {done.returncode} {done.stdout}{done.stderr}")
        return done


def _hand_over(directory: Path, account: pwd.struct_passwd) -> None:
    for path in (directory, *directory.iterdir()):
        os.chown(path, account.pw_uid, account.pw_gid)
