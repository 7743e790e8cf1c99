# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The example of tasks that power off a container, on a real one. In it is a shell, since images can't be pulled."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
from lab.waiting import wait_for_exit, wait_until

TASKS = Path(__file__).parents[2] / "docs/examples/tasks/power_off_container.yml"
NAME = "homeserver"
# The first process of a container ignores signals that it has no handler for.
PROGRAM = "trap exit TERM; while :; do busybox sleep 1000 & wait $!; done"


@dataclass
class Container:
    """A container that runs, and the process in it."""

    directory: Path
    podman: list[str]
    pid: int

    @property
    def gone(self) -> bool:
        """Whether the process has ended, by the kernel's word."""
        return wait_for_exit(self.pid, timeout=0)

    @property
    def inspected(self) -> int:
        """How often the tasks have looked."""
        log = self.directory / "engine.log"
        return log.read_text().split().count("inspect") if log.exists() else 0

    def engine(self, before: str = "") -> Path:
        """A program that is podman with this container's options, and notes what it is asked for."""
        script = self.directory / "engine"
        log = shlex.quote(str(self.directory / "engine.log"))
        script.write_text(f'#!/bin/sh\necho "$1" >>{log}\n{before}\nexec {shlex.join(self.podman)} "$@"\n')
        script.chmod(0o700)
        return script

    def start_tasks(self, engine: Path) -> subprocess.Popen[str]:
        """Start the example's tasks for this machine."""
        play = {
            "hosts": "all",
            "gather_facts": False,
            "vars": {"container_engine": str(engine), "container_name": NAME},
            "tasks": [{"ansible.builtin.include_tasks": str(TASKS)}],
        }
        playbook = self.directory / "playbook.json"
        playbook.write_text(json.dumps([play]))
        host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        inventory = self.directory / "inventory.json"
        inventory.write_text(json.dumps({"all": {"hosts": {"host": host}}}))
        return subprocess.Popen(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, playbook],
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture(autouse=True)
def in_controller() -> None:
    """Not here: a container needs none of the machines that the other tests in this directory share."""


@pytest.fixture
def container(tmp_path: Path, skip_or_fail: Callable[[str], NoReturn]) -> Iterator[Container]:
    missing = [program for program in ("podman", "runc", "conmon", "busybox") if not shutil.which(program)]
    if missing:
        skip_or_fail(f"no {', '.join(missing)} here (packages podman, runc, conmon, busybox-static)")
    if os.geteuid() != 0:
        skip_or_fail("only root can start this container")
    root = tmp_path / "rootfs"
    for directory in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (root / directory).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copy2(busybox, root / "bin/busybox")
    # Of its own in all respects: nothing of the machine's podman is touched. vfs, cgroupfs and no network, so that it
    # works within another container or a small virtual machine, too.
    podman = ["podman", "--runtime=runc", "--storage-driver=vfs", "--cgroup-manager=cgroupfs"]
    # podman wants a path of less than 50 characters for --runroot.
    runroot = tempfile.mkdtemp()
    podman += [f"--root={tmp_path / 'storage'}", f"--runroot={runroot}", f"--tmpdir={tmp_path / 'tmp'}"]
    limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1000:1000"]
    run = ["run", "--detach", "--name", NAME, "--network=none", *limits, "--rootfs", str(root)]
    try:
        subprocess.run([*podman, *run, "/bin/busybox", "sh", "-c", PROGRAM], check=True, stdout=subprocess.DEVNULL)
        inspected = json.loads(subprocess.check_output([*podman, "inspect", NAME]))
        yield Container(tmp_path, podman, inspected[0]["State"]["Pid"])
    finally:
        subprocess.run([*podman, "rm", "--force", "--ignore", NAME], check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(runroot)


def test_power_off(container: Container) -> None:
    assert not container.gone
    with container.start_tasks(container.engine()) as process:
        output, _nothing = process.communicate()
    assert process.returncode == 0, output
    assert container.gone


def test_an_engine_that_says_that_it_has_stopped_it(container: Container) -> None:
    """The tasks don't take its word: they end when the container is off, and that is not before somebody stops it."""
    with container.start_tasks(container.engine(before='[ "$1" = stop ] && exit 0')) as process:
        wait_until(lambda: container.inspected >= 2 or process.poll() is not None, "the tasks have looked twice")
        assert process.poll() is None
        assert not container.gone
        subprocess.run([*container.podman, "stop", NAME], check=True, stdout=subprocess.DEVNULL)
        output, _nothing = process.communicate()
    assert process.returncode == 0, output
    assert "RETRYING" in output
    assert container.gone
