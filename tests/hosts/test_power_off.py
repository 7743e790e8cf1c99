# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two machines of one server, over SSH. The method host powers them off. The method systemd stops units of all kinds,
and no reboot starts them again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from lab import MissingError
from lab.api import Account, Json
from lab.hosts import Host, HostLab, populate
from lab.parallel import process_number
from lab.waiting import wait_until

from .test_fleet import AT_ONCE, LONGEST_RUN, STAYING, Fleet

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "tests/stubs/commands/systemctl"
MAIN, WORKER, QUADLET, SERVICE = "matrix-synapse", "synapse-worker@sender1", "synapse-proxy", "mas"
UNITS = [f"{name}.service" for name in (WORKER, MAIN, QUADLET, SERVICE)]
UNIT = "[Unit]\nDescription=A part of the homeserver\n[Service]\nExecStart=/bin/sleep infinity\nRestart=always\n"
WANTED = "[Install]\nWantedBy=multi-user.target\n"
# A unit of another program, which wants a unit of the homeserver: at a boot, it would start it, enabled or not.
BRIDGE = f"[Unit]\nWants={' '.join(UNITS)}\n[Service]\nExecStart=/bin/sleep infinity\n{WANTED}"
# As Quadlet does: the unit is generated at each boot, and enabled by a link that is generated as well.
GENERATOR = f"""\
#!/bin/sh
cat >"$1/{QUADLET}.service" <<'END'
{UNIT}END
mkdir -p "$1/multi-user.target.wants"
ln -s "../{QUADLET}.service" "$1/multi-user.target.wants/{QUADLET}.service"
"""


@pytest.fixture(scope="module")
def lab(skip_or_fail: Callable[[str], None]) -> Iterator[HostLab]:
    """The homeserver's host, one with a worker (and a homeserver of its own), and one that stays."""
    try:
        with HostLab(ROOT / f".cache/tests/methods-{process_number()}", ("a", "w", STAYING)) as lab:
            with lab.in_controller():
                for name in ("a", "w"):
                    install_units(lab[name])
                lab.snapshot("installed")
            yield lab
    except MissingError as missing:
        skip_or_fail(str(missing))


def install_units(host: Host) -> None:
    """A unit of each kind: of the administrator, a template, generated; and one that wants them."""
    system = host.root / "etc/systemd/system"
    for name, text in ((SERVICE, UNIT), ("synapse-worker@", UNIT), ("bridge", BRIDGE)):
        (system / f"{name}.service").write_text(text if text is BRIDGE else UNIT + WANTED)
    generator = host.root / "etc/systemd/system-generators/quadlet"
    generator.parent.mkdir(exist_ok=True)
    generator.write_text(GENERATOR)
    generator.chmod(0o755)
    host.ssh("systemctl daemon-reload")
    host.ssh(f"systemctl enable --now bridge.service {WORKER}.service {SERVICE}.service")
    assert active(host, f"{QUADLET}.service")


def active(host: Host, *units: str) -> list[str]:
    """Those of the units that are active."""
    states = host.ssh(f"systemctl is-active {' '.join(units)}", check=False).stdout.split()
    return [unit for unit, state in zip(units, states, strict=True) if state == "active"]


@pytest.fixture(autouse=True)
def in_controller(lab: HostLab) -> Iterator[None]:
    """On the network of these machines."""
    with lab.in_controller():
        yield


@pytest.fixture(scope="module")
def users(lab: HostLab) -> dict[str, list[Account]]:
    return {}


@pytest.fixture
def fleet(lab: HostLab, users: dict[str, list[Account]], tmp_path: Path) -> Iterator[Fleet]:
    lab.restore("installed")
    fleet = Fleet(lab, users, tmp_path)
    yield fleet
    if fleet.output.exists():
        print(fleet.output.read_text())


def variables(fleet: Fleet, **more: object) -> Json:
    method = {"decommission_power_off_method": "systemd", "decommission_power_off_units": UNITS}
    return {**fleet.variables("a"), **AT_ONCE, **method, **more}


def run(fleet: Fleet, host: Json, *arguments: str, worker: Json | None = None) -> int:
    """Run the playbook on the host, with the worker's host in the inventory."""
    inventory = fleet.lab.inventory(user="deploy")
    group = inventory["matrix_decommission"]
    hosts = group.pop("hosts")
    inventory["matrix_decommission"] = {"hosts": {"a": {**hosts["a"], **host}}, "vars": group["vars"]}
    inventory["workers"] = {"hosts": {"w": {**hosts["w"], **(worker or {})}}, "vars": group["vars"]}
    return fleet.start_with(inventory, *arguments).wait(LONGEST_RUN)


@pytest.mark.nightly(category="hosts")
def test_refused_before_anything_is_changed(fleet: Fleet) -> None:
    host = fleet["a"]
    host.homeserver.register("user")
    for wrong, message in (
        ({"decommission_power_off_units": [*UNITS, "nosuch.service"]}, "there is no unit nosuch.service"),
        ({"decommission_power_off_units": []}, "no unit is named: set decommission_power_off_units"),
        ({"decommission_power_off_units": ["lab-nosuch@.service"]}, "decommission_power_off_units"),
        ({"decommission_power_off_user": "nosuch"}, "a has no user 'nosuch'"),
        (
            {"decommission_power_off_method": "compose", "decommission_compose_dir": "/root"},
            "No changes made: a: the con",
        ),
        ({"decommission_power_off_method": "docker"}, "no container is named"),
        ({"decommission_worker_hosts": ["nosuch"]}, "nosuch cannot be a worker host"),
        ({"decommission_worker_hosts": ["a"]}, "a cannot be a worker host"),
    ):
        assert run(fleet, variables(fleet, **wrong)) == 2
        assert fleet.said("No changes made: ") and fleet.said(message), message
    worker = {"decommission_power_off_units": ["nosuch.service"]}
    assert run(fleet, variables(fleet, decommission_worker_hosts=["w"]), worker=worker) == 2
    assert fleet.said("No changes made: w: there is no unit nosuch.service")
    assert active(host, *UNITS) == UNITS
    assert not any(account["deactivated"] for account in host.homeserver.accounts())


@pytest.mark.nightly(category="hosts")
def test_the_stand_in_of_systemctl(fleet: Fleet) -> None:
    """With which the guides are tested: it prints what the real one prints."""
    show = ["show", "--property=Id,LoadState,ActiveState,UnitFileState,MainPID", "--"]
    for unit in (f"{SERVICE}.service", "nosuch.service"):
        stub = subprocess.run(
            [sys.executable, STAND_IN, *show, unit],
            env={**os.environ, "STUB_UNITS": f"{SERVICE}.service"},
            capture_output=True,
            text=True,
            check=True,
        )
        real = fleet["a"].ssh(f"systemctl {' '.join(show)} {unit}")
        printed = [dict(line.split("=", 1) for line in text.splitlines()) for text in (real.stdout, stub.stdout)]
        for properties in printed:
            # The number of a process differs.
            properties["MainPID"] = str(properties["MainPID"] != "0")
        assert printed[0] == printed[1]


@pytest.mark.nightly(category="hosts")
def test_hosts(fleet: Fleet, lab: HostLab) -> None:
    """The whole playbook: the worker's host is powered off before that of the homeserver."""
    machines = [fleet["w"], fleet["a"]]
    fleet.users.update(populate(lab, STAYING, users=3))
    assert run(fleet, variables(fleet, decommission_power_off_method="host", decommission_worker_hosts=["w"])) == 0
    for machine in machines:
        assert machine.exits == [0] and not machine.running, f"{machine.name}: not powered off, unplugged or rebooted"
    certificate = json.loads((fleet.directory / "decommission-reports/a.lab.json").read_text())
    assert certificate["power_off"]["verified"] is True
    assert certificate["power_off"]["seen"] == ["host w: nothing answers", "host a: nothing answers"]
    fleet.assert_no_ghosts("a")


@pytest.mark.nightly(category="hosts")
def test_units(fleet: Fleet, lab: HostLab) -> None:
    """The whole playbook: the worker's host first, with its own units, and then those of the homeserver."""
    host, other = fleet["a"], fleet["w"]
    fleet.users.update(populate(lab, STAYING, users=3))
    worker = {"decommission_power_off_units": UNITS[:1]}
    assert run(fleet, variables(fleet, decommission_worker_hosts=["w"]), worker=worker) == 0
    assert fleet.said("power_off: the homeserver has stopped \\(systemd\\)")
    assert host.running and other.running and active(host, *UNITS) == [] and active(other, *UNITS[:1]) == []
    assert active(host, "bridge.service", "ssh.service") and active(other, UNITS[3])
    assert not host.homeserver.answers
    stopped = [inactive_since(machine, UNITS[0]) for machine in (other, host)] + [inactive_since(host, UNITS[1])]
    assert stopped == sorted(stopped), "the worker's host first"
    certificate = json.loads((fleet.directory / "decommission-reports/a.lab.json").read_text())
    power_off = certificate["power_off"]
    assert (certificate["state"], power_off["method"], power_off["verified"]) == ("powered_off", "systemd", True)
    assert f"unit {UNITS[1]} on a: not active, and its start is refused" in power_off["seen"]
    assert any("8008 on a" in seen for seen in power_off["seen"])
    fleet.assert_no_ghosts("a")

    # Again: the homeserver does not answer, and nothing is changed.
    assert run(fleet, variables(fleet, decommission_worker_hosts=["w"])) == 2
    assert fleet.said("changed=0 ")
    for machine in (host, other):
        machine.power_off()
        machine.boot()
        wait_until(partial(is_up, machine), f"{machine.name} is up")
    assert active(host, *UNITS) == [] and active(other, *UNITS[:1]) == []
    assert active(host, "bridge.service") and active(other, f"{QUADLET}.service")
    by_hand = host.ssh(f"systemctl start {UNITS[1]}", check=False)
    assert by_hand.returncode != 0 and "Assertion failed" in by_hand.stderr
    # To undo it.
    host.ssh(f"rm /etc/systemd/system/{UNITS[1]}.d/zz-matrixops-decommissioned.conf && systemctl daemon-reload")
    host.ssh(f"systemctl enable --now {UNITS[1]}")
    assert host.homeserver.answers


def is_up(host: Host) -> bool:
    """Whether the machine has booted: its homeserver does not answer."""
    return host.ssh("systemctl is-system-running", check=False).stdout.strip() in ("running", "degraded")


def inactive_since(host: Host, unit: str) -> int:
    """When a unit has stopped, in microseconds of the kernel's clock that all machines share."""
    return int(host.ssh(f"systemctl show --property=InactiveEnterTimestampMonotonic --value {unit}").stdout)
