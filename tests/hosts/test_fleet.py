# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet of real machines over SSH: a, b and c retire and are powered off; d stays, and tells what it sees."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from lab.api import Account
from lab.hosts import Host, HostLab, populate
from lab.waiting import wait_until

PLAYBOOK = "matrixops.synapse.decommission"
RETIRING = ("a", "b", "c")
STAYING = "d"
# As docs/examples/ansible.cfg sets it: a connection to a host that is off ends.
SSH_ARGS = "-C -o ControlMaster=auto -o ControlPersist=60s -o ServerAliveInterval=5 -o ServerAliveCountMax=3"
DRAIN_LOG = "/var/tmp/drain.jsonl"
AT_ONCE = {"decommission_propagation_period": "5s"}
LONGEST_RUN = 1800.0
"""Seconds after which a run counts as one that never ends."""
Variables = dict[str, dict[str, Any]]

nightly = pytest.mark.nightly(category="hosts")


@dataclass
class Fleet:
    """The machines, who is on their servers, and Ansible on the controller."""

    lab: HostLab
    users: dict[str, list[Account]]
    directory: Path

    def __getitem__(self, name: str) -> Host:
        return self.lab[name]

    def variables(self, name: str) -> dict[str, Any]:
        """Those of a host whose server is to retire."""
        return {
            **self[name].role_variables,
            "decommission_propagation_period": "30m",
            # Long before that, when the one that stays has confirmed.
            "decommission_early_exit": True,
            "decommission_poll_interval": 2,
        }

    def start(
        self, hosts: Variables, *arguments: str, user: str = "root", python: str = sys.executable, **environment: str
    ) -> subprocess.Popen[str]:
        """Start the playbook on the controller, by the Ansible that belongs to ``python``."""
        inventory = self.lab.inventory(user=user)
        group = inventory["matrix_decommission"]
        group["hosts"] = {name: {**group["hosts"][name], **more} for name, more in hosts.items()}
        return self.start_with(inventory, *arguments, python=python, **environment)

    def start_with(
        self, inventory: dict[str, Any], *arguments: str, python: str = sys.executable, **environment: str
    ) -> subprocess.Popen[str]:
        """Start the playbook with an inventory."""
        file = self.directory / "inventory.json"
        file.write_text(json.dumps(inventory))
        with self.lab.in_controller():
            return subprocess.Popen(
                [Path(python).with_name("ansible-playbook"), "-i", file, PLAYBOOK, *arguments],
                env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_SSH_ARGS": SSH_ARGS, **environment},
                cwd=self.directory,
                text=True,
                stdout=self.output.open("w"),
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> Path:
        """What the last playbook has printed so far."""
        return self.directory / "output.txt"

    def run(self, hosts: Variables, *arguments: str, **options: str) -> int:
        """Run the playbook to its end; return its exit code."""
        return self.start(hosts, *arguments, **options).wait(LONGEST_RUN)

    def said(self, pattern: str) -> bool:
        """Whether the playbook has printed that, wherever its lines break."""
        return re.search(pattern, re.sub(r"\s+", " ", self.output.read_text())) is not None

    def closed(self, name: str) -> int:
        """How many accounts of a server are deactivated, as it says itself."""
        return sum(account["deactivated"] for account in self[name].homeserver.accounts())

    def ghosts(self, name: str) -> dict[str, list[str]]:
        """Who of a server is in which room, as the one that stays sees it."""
        return self[STAYING].homeserver.members_of(self[name].server_name)

    def assert_no_ghosts(self, *names: str) -> None:
        """Give the one that stays time to act on what it was sent; then it must see nobody."""
        with suppress(TimeoutError):
            wait_until(lambda: not any(map(self.ghosts, names)), "nobody is seen")
        assert {name: self.ghosts(name) for name in names} == {name: {} for name in names}


@pytest.fixture(scope="module")
def oldest(ansible_core: Callable[[str, str], str]) -> str:
    return ansible_core("2.16", "3.10")


@pytest.fixture(scope="module")
def newest(ansible_core: Callable[[str, str], str]) -> str:
    return ansible_core("2.21", "3.13")


@pytest.fixture(scope="module")
def filled(host_lab: HostLab) -> dict[str, list[Account]]:
    users = populate(host_lab, STAYING)
    host_lab.snapshot("filled")
    return users


@pytest.fixture(scope="module")
def package_of_requests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Debian's, which the machine that the tests run on can get."""
    directory = tmp_path_factory.mktemp("package")
    subprocess.run(["apt-get", "download", "python3-requests"], cwd=directory, check=True)
    return next(directory.glob("*.deb"))


@pytest.fixture
def fleet(host_lab: HostLab, filled: dict[str, list[Account]], tmp_path: Path) -> Iterator[Fleet]:
    host_lab.restore("filled")
    fleet = Fleet(host_lab, filled, tmp_path)
    yield fleet
    if fleet.output.exists():
        print(fleet.output.read_text())


def found_on_disk(host: Host, text: bytes) -> list[Path]:
    """The files of a host that have it, but for those of the homeserver's own database."""
    found = []
    for path in host.disk.rglob("*"):
        plain = path.is_file() and not path.is_symlink() and not path.name.startswith("homeserver.db")
        if plain and text in path.read_bytes():
            found.append(path.relative_to(host.disk))
    return found


def drain_times(host: Host) -> tuple[float, float]:
    """When the first and the last account of its server was closed, by the log of the drain."""
    times = [json.loads(line)["time"] for line in (host.root / DRAIN_LOG[1:]).read_text().splitlines()]
    return min(times), max(times)


@nightly
def test_three_retire_and_one_stays(fleet: Fleet, oldest: str) -> None:
    """In one run, by an unprivileged user; the one that stays is unplugged meanwhile, and so is the controller."""
    hosts = {
        name: {**fleet.variables(name), "decommission_serial": 1, "decommission_log_path": DRAIN_LOG}
        for name in RETIRING
    }
    run = fleet.start(hosts, user="deploy", python=oldest, ANSIBLE_PIPELINING="false")
    wait_until(lambda: fleet.closed("a") > 0, "the drain has begun")
    fleet[STAYING].unplug()
    for name in RETIRING:
        waits = f"{name}: 0 of 1 remote servers confirmed; 1 unreachable"
        wait_until(lambda: fleet.said(waits), f"{name} waits")  # noqa: B023
    # Nothing was sent, and every homeserver forgets what it has to send.
    for name in RETIRING:
        assert fleet[name].running
        fleet[name].ssh("systemctl restart matrix-synapse")
    fleet[STAYING].boot()
    fleet[STAYING].wait_until_up()
    fleet.lab.unplug_controller()
    wait_until(lambda: fleet.said("retrying"), "a poll has failed")
    fleet.lab.plug_in_controller()
    assert run.wait(LONGEST_RUN) == 0
    drained = sorted(drain_times(fleet[name]) for name in RETIRING)
    assert all(ended <= begun for (_begun, ended), (begun, _ended) in pairwise(drained)), "one at a time"
    for name in RETIRING:
        assert fleet[name].exits == [0], "powered off: not unplugged, not rebooted"
        assert not fleet[name].running
        assert fleet.ghosts(name) == {}
        token = fleet[name].homeserver.admin_token
        assert found_on_disk(fleet[name], token.encode()) == []
        assert found_on_disk(fleet[name], b"syt_") == []
        # Those of the sessions that were opened as somebody else are as dead as the accounts.
        assert fleet[name].homeserver.database.count("SELECT count(*) FROM access_tokens") == 1, "the operator's"
    assert fleet[STAYING].running
    assert fleet[STAYING].exits == [137]


def fail_to_deactivate(host: Host, user: Account, *, fail: bool) -> None:
    """Have Synapse refuse to deactivate an account, since its identity server can't be reached; or no longer."""
    host.ssh("systemctl stop matrix-synapse")
    host.homeserver.database.execute(
        f"INSERT INTO user_threepid_id_server VALUES ('{user.user_id}', 'email', 'a@example.org', 'localhost:1')"  # noqa: S608
        if fail
        else "DELETE FROM user_threepid_id_server"
    )
    host.ssh("systemctl start matrix-synapse")


@nightly
def test_what_goes_wrong_on_a_host_is_its_own(fleet: Fleet) -> None:
    """One loses power in the drain, one fails in it, one is named wrongly; the fourth is retired all the same."""
    hosts = {name: {**fleet.variables(name), **AT_ONCE} for name in fleet.lab.hosts}
    hosts[STAYING]["decommission_confirm"] = "d.example.org"
    members = fleet[STAYING].homeserver.members_of(fleet[STAYING].server_name)
    victim = fleet.users["b"][3]
    fail_to_deactivate(fleet["b"], victim, fail=True)
    run = fleet.start(hosts, ANSIBLE_PIPELINING="true")
    wait_until(lambda: fleet.closed("a") > 0, "the drain of a has begun")
    fleet["a"].unplug()
    assert run.wait(LONGEST_RUN) != 0
    assert fleet.said("decommission_confirm is 'd.example.org'")
    assert fleet.closed(STAYING) == 0
    assert fleet[STAYING].homeserver.members_of(fleet[STAYING].server_name) == members
    assert fleet.said(f"{victim.user_id}.*Failed to remove threepid from ID server")
    assert fleet["b"].running and not fleet["b"].homeserver.account(victim.user_id)["deactivated"]
    assert {name: fleet[name].exits for name in fleet.lab.hosts} == {"a": [137], "b": [], "c": [0], "d": []}

    fleet["a"].boot()
    fail_to_deactivate(fleet["b"], victim, fail=False)
    fleet["a"].wait_until_up()
    again = fleet.run(hosts, "--limit", "a,b", user="deploy", ANSIBLE_PIPELINING="true")
    assert again == 0
    assert {name: fleet[name].exits for name in fleet.lab.hosts} == {"a": [137, 0], "b": [0], "c": [0], "d": []}
    fleet.assert_no_ghosts(*RETIRING)


@nightly
def test_from_the_controller_and_a_host_that_does_not_go_down(fleet: Fleet, newest: str) -> None:
    """The modules run where Ansible runs; only the power-off goes to the host. That of this one is held up."""
    host = fleet["a"]
    host.ssh("rm -r /usr/lib/python3/dist-packages/requests")
    variables = {
        **fleet.variables("a"),
        "decommission_propagation_period": "1s",
        "decommission_delegate": "localhost",
        # Neither the key nor the names of the other servers are there.
        "decommission_ghost_checks": False,
        "decommission_base_url": host.homeserver.base_url,
        "decommission_power_off_timeout": 16,
    }
    stop = "/bin/sh -c 'until [ -e /root/go-on ]; do sleep 0.2; done'"
    host.ssh(f'systemd-run --unit=stuck -p ExecStop="{stop}" -p TimeoutStopSec=infinity /bin/sleep infinity')
    code = fleet.run({"a": variables}, user="deploy", python=newest)
    assert code == 2
    assert fleet.said("The host still answers 16 s after the command to power off: .*Connection refused")
    # Nobody was asked, so that there may be ghosts.
    assert fleet.said("3 remote servers not checked")
    (host.root / "root/go-on").touch()
    host.wait_off()
    assert host.exits == [0]


@nightly
def test_requests_is_missing(fleet: Fleet, package_of_requests: Path) -> None:
    """That is said; and it is installed where that is asked for, from a mirror on the host, which has no other."""
    host, package = fleet["a"], package_of_requests
    control = subprocess.run(["dpkg-deb", "--field", package], capture_output=True, text=True, check=True).stdout
    content = package.read_bytes()
    place = f"Filename: ./{package.name}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n"
    mirror = host.root / "srv/mirror"
    mirror.mkdir()
    (mirror / package.name).write_bytes(content)
    (mirror / "Packages").write_text(control + place)
    (host.root / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/srv/mirror ./\n")
    host.ssh("apt-get update && dpkg --remove --force-depends python3-requests")

    assert fleet.run({"a": fleet.variables("a")}, "--tags", "preflight") == 2
    assert fleet.said("python3-requests, which the role decommission installs where decommission_install_requirements")
    variables = {**fleet.variables("a"), "decommission_install_requirements": True}
    assert fleet.run({"a": variables}, "--tags", "preflight", user="deploy") == 0
    assert fleet.said("to deactivate and erase")
