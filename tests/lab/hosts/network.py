# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bridge that hosts are attached to, and a controller beside them, in network namespaces of their own."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from ..errors import LabError
from ..waiting import wait_until

BRIDGE = "br0"
PREFIX = "10.77.0"
_CLONE_NEWNET = 0x40000000


class Network:
    """Two network namespaces: the switch, which the lab itself looks in from, and the controller."""

    def __init__(self, name: str) -> None:
        #: The namespace of the switch.
        self.name = name
        #: The namespace of the controller.
        self.controller = f"{name}-ctl"

    @staticmethod
    def address(number: int) -> str:
        """The address of a host."""
        return f"{PREFIX}.{10 + number}"

    @property
    def there(self) -> bool:
        """Whether the namespaces have been made."""
        return Path("/run/netns", self.name).exists() and Path("/run/netns", self.controller).exists()

    def create(self) -> None:
        """Make the namespaces, and plug the controller in."""
        for namespace in (self.name, self.controller):
            _ip("netns", "add", namespace)
            _ip("-n", namespace, "link", "set", "lo", "up")
        _ip("-n", self.name, "link", "add", BRIDGE, "type", "bridge")
        _ip("-n", self.name, "addr", "add", f"{PREFIX}.1/24", "dev", BRIDGE)
        _ip("-n", self.name, "link", "set", BRIDGE, "up")
        peer = ("peer", "name", "eth0", "netns", self.controller)
        _ip("-n", self.name, "link", "add", "controller", "type", "veth", *peer)
        _ip("-n", self.name, "link", "set", "controller", "master", BRIDGE)
        _ip("-n", self.controller, "addr", "add", f"{PREFIX}.2/24", "dev", "eth0")
        _ip("-n", self.controller, "link", "set", "eth0", "up")
        self.plug_in()

    def plug_in(self) -> None:
        """Plug the controller's cable in, and return once it carries."""
        _ip("-n", self.name, "link", "set", "controller", "up")
        ends = ((self.name, "controller"), (self.controller, "eth0"))
        wait_until(lambda: all(_is_up(*end) for end in ends), "a link")
        # What it could not find while it was unplugged, it would not look for again at once.
        _ip("-n", self.controller, "neigh", "flush", "dev", "eth0")

    def unplug(self) -> None:
        """Unplug the controller's cable: packets are lost, connections stay as they are."""
        _ip("-n", self.name, "link", "set", "controller", "down")

    def remove(self) -> None:
        """Remove the namespaces, and end what runs in them, but for this process and those that started it."""
        for namespace in (self.controller, self.name):
            if Path("/run/netns", namespace).exists():
                wait_until(partial(_nothing_runs, namespace), f"nothing runs in {namespace}")
                _ip("netns", "del", namespace)

    @contextmanager
    def inside(self, namespace: str) -> Iterator[None]:
        """This thread, and processes and threads that it starts meanwhile, are in one of the namespaces."""
        try:
            target = os.open(f"/run/netns/{namespace}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise LabError("the hosts' network is not there: the lab is down") from None
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _set_namespace(target)
            try:
                yield
            finally:
                _set_namespace(before)
        finally:
            os.close(before)
            os.close(target)


def _set_namespace(descriptor: int) -> None:
    # os.setns came with Python 3.12.
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _nothing_runs(namespace: str) -> bool:
    """Whether there was nothing to end: a connection that ssh keeps, or what a crash has left."""
    spared = _ancestry()
    listed = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
    found = {int(pid) for pid in listed.stdout.split()} - spared
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return not found


def _ancestry() -> set[int]:
    pid, found = os.getpid(), set()
    while pid:
        found.add(pid)
        status = Path(f"/proc/{pid}/status").read_text()
        pid = int(status.partition("\nPPid:")[2].split()[0])
    return found


def _is_up(namespace: str, link: str) -> bool:
    return "state UP" in _ip("-n", namespace, "link", "show", link)


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
