# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done with each ansible-core and each Synapse. A check raises CheckError, or returns what it has seen."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lab import Lab, populate
from lab.waiting import wait_until

from .environments import ROOT, ansible_test, target

BASE_PORT = 18730
USERS = 8
#: Collections work with nothing but these.
NEEDED = {"meta", "playbooks", "plugins", "roles"}

_POWER_OFF = [
    {"name": "Leave a mark", "ansible.builtin.file": {"path": "{{ mark }}", "state": "touch", "mode": "0600"}}
]


class CheckError(Exception):
    """What was tried does not work; with the output."""


def sanity(python: Path, directory: Path) -> str:
    """All sanity tests, on all Pythons that this ansible-core and the collection know."""
    done = ansible_test(python, directory, "sanity")
    if done.returncode:
        raise CheckError(done.stdout)
    if missing := re.findall(r"on Python ([\d.]+) because it could not be found", done.stdout):
        return f"passed, but for Python {', '.join(sorted(set(missing)))}, which is not here"
    return "passed"


def units(python: Path, directory: Path, version: str) -> str:
    """The unit tests on one Python: on a controller's all of them, on others those of what runs on managed hosts."""
    done = ansible_test(python, directory, "units", "--venv", "--python", version)
    passed = sum(map(int, re.findall(r"(\d+) passed", done.stdout)))
    if done.returncode or not passed:
        raise CheckError(done.stdout)
    return f"{passed} passed"


def built(directory: Path) -> Path:
    """The tarball, as it would be published."""
    galaxy = Path(sys.executable).with_name("ansible-galaxy")
    subprocess.run(
        [galaxy, "collection", "build", "--output-path", directory], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    (tarball,) = directory.glob("*.tar.gz")
    return tarball


def playbook(python: Path, target_version: str, synapse: Path, database: str) -> str:
    """The same as ``Playbook`` with one Synapse."""
    with tempfile.TemporaryDirectory(prefix="compatibility-") as directory:
        servers = Playbook(Path(directory), synapse, database)
        try:
            return servers.check(python, target_version)
        finally:
            servers.close()


class Playbook:
    """Two homeservers, one of which is retired with each ansible-core, from the tarball, cut down to what is needed."""

    def __init__(self, directory: Path, synapse: Path | None = None, database: str = "sqlite") -> None:
        self.directory = directory
        self.tarball = built(directory)
        self.lab = Lab(
            ROOT / ".cache/tests/compatibility", base_port=BASE_PORT, synapse_python=synapse, database=database
        )
        self.lab.create()
        try:
            self.population = populate(self.lab["a"], self.lab["b"], users=USERS, big_room=USERS)
            self.lab.snapshot("filled")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.lab.stop()

    def check(self, python: Path, target_version: str) -> str:
        """Look, retire, and retire again."""
        self.lab.restore("filled")
        retiring, staying = self.lab["a"], self.lab["b"]
        directory = self.directory / python.parents[1].name
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(directory),
            "ANSIBLE_HOME": str(directory / "home"),
        }
        subprocess.run(
            [python.with_name("ansible-galaxy"), "collection", "install", self.tarball, "-p", directory],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        for path in (directory / "ansible_collections/matrixops/synapse").iterdir():
            if path.name not in NEEDED:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        mark, tasks, inventory = (directory / name for name in ("mark", "tasks.json", "inventory.json"))
        tasks.write_text(json.dumps(_POWER_OFF))
        variables = {
            "ansible_connection": "local",
            "ansible_python_interpreter": str(target(target_version)),
            **retiring.role_variables,
            "decommission_propagation_period": "3s",
            "decommission_poll_interval": 1,
            "decommission_power_off_tasks": str(tasks),
            # These tasks leave the homeserver running.
            "decommission_power_off_timeout": 0,
            "mark": str(mark),
        }
        inventory.write_text(json.dumps({"matrix_decommission": {"hosts": {"a": variables}}}))

        def run(*options: str) -> str:
            done = subprocess.run(
                [python.with_name("ansible-playbook"), "-i", inventory, *options],
                cwd=directory,
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            if done.returncode or "[DEPRECATION WARNING]" in done.stdout:
                raise CheckError(done.stdout)
            return done.stdout

        def ghosts() -> int:
            return sum(map(len, staying.members_of(retiring.server_name).values()))

        before = ghosts()
        output = run("matrixops.synapse.decommission", "--check", "--diff")
        if ghosts() != before or mark.exists():
            raise CheckError(f"check mode has changed something\n{output}")
        output = run("matrixops.synapse.decommission")
        if not mark.exists():
            raise CheckError(f"not powered off\n{output}")
        confirmed = rf"{re.escape(staying.server_name)}: (ghosts removed \(\d+\); )?confirmed, (\d+) of \2 rooms"
        if not re.search(confirmed, output):
            raise CheckError(f"the other server has not confirmed\n{output}")
        wait_until(lambda: not ghosts(), "the other server lists nobody")
        output = run("matrixops.synapse.decommission", "-e", "decommission_power_off=false")
        if "changed=0 " not in output:
            raise CheckError(f"the second run has changed something\n{output}")
        run("matrixops.synapse.status")
        return "passed"
