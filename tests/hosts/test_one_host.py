# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One real machine over SSH: registration at its server is closed, and in the end it is powered off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import ApiError, MissingError
from lab.api import Account, Json
from lab.hosts import Host, HostLab, populate

from .test_fleet import AT_ONCE, DRAIN_LOG, STAYING, Fleet, found_on_disk

ROOT = Path(__file__).parents[2]
CORDON = "/etc/matrix-synapse/conf.d/zz-matrixops-cordon.yaml"
OPEN = "/etc/matrix-synapse/conf.d/open.yaml"
KEY_FILE = "etc/matrix-synapse/signing.key"
STATE = "io.github.matrixops.decommission"


@pytest.fixture(scope="module")
def lab(skip_or_fail: Callable[[str], None]) -> Iterator[HostLab]:
    """Two machines, instead of the four of the other tests in this directory, which take longer to boot."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    try:
        with HostLab(ROOT / f".cache/tests/pair-{worker}", ("a", STAYING)) as lab:
            yield lab
    except MissingError as missing:
        skip_or_fail(str(missing))


@pytest.fixture(scope="module")
def users(lab: HostLab) -> dict[str, list[Account]]:
    return populate(lab, STAYING)


@pytest.fixture(autouse=True)
def in_controller(lab: HostLab) -> Iterator[None]:
    """On the network of these machines."""
    with lab.in_controller():
        yield


@pytest.fixture
def fleet(lab: HostLab, users: dict[str, list[Account]], tmp_path: Path) -> Iterator[Fleet]:
    """As the test before has left it."""
    fleet = Fleet(lab, users, tmp_path)
    yield fleet
    if fleet.output.exists():
        print(fleet.output.read_text())


def register(host: Host, name: str) -> None:
    """As anybody can who is let in."""
    body = {"username": name, "password": "a-password-of-mine", "auth": {"type": "m.login.dummy"}}
    host.homeserver.call("POST", "/_matrix/client/v3/register", json=body)


def starts(host: Host) -> int:
    """How often Synapse was started."""
    lines = host.ssh("journalctl -b -u matrix-synapse.service --output=cat --grep '^Started' --no-pager").stdout
    return len(lines.splitlines())


def cordon(fleet: Fleet, *arguments: str) -> str:
    """Run its tasks as the role does, which is after the preflight; return what Ansible printed."""
    inventory = fleet.lab.inventory(user="deploy")
    group = inventory["matrix_decommission"]
    group["hosts"] = {"a": {**group["hosts"]["a"], **fleet.variables("a")}}
    connection = {
        "base_url": "{{ decommission_base_url | default('http://localhost:8008') }}",
        "access_token": "{{ decommission_access_token }}",
        "server_name": "{{ decommission_confirm }}",
    }
    role = {"name": "matrixops.synapse.decommission", "tasks_from": "cordon.yml"}
    play = {
        "hosts": "all",
        "gather_facts": False,
        "module_defaults": {"group/matrixops.synapse.synapse": connection},
        "tasks": [{"ansible.builtin.include_role": role}],
    }
    files = {"inventory.json": inventory, "playbook.json": [play]}
    for name, content in files.items():
        (fleet.directory / name).write_text(json.dumps(content))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", *files, *arguments],
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        cwd=fleet.directory,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return f"{done.stdout}\n{done.returncode}"


def test_cordon(fleet: Fleet) -> None:
    """A server that anybody can register at, and that is started as that of Debian's package is."""
    host = fleet["a"]
    homeserver = host.homeserver
    opened = {"enable_registration": True, "enable_registration_without_verification": True}
    (host.root / OPEN.lstrip("/")).write_text(json.dumps(opened))
    host.ssh("systemctl restart matrix-synapse.service")
    register(host, "early")
    guest = homeserver.register_guest()
    assert homeserver.account("@early:a.lab")["name"] == "@early:a.lab" and guest.user_id
    before = starts(host)

    would = cordon(fleet, "--check", "--diff")
    assert would.endswith("\n0") and "Would close registration and guest access, and restart Synapse" in would, would
    assert host.ssh(f"ls {CORDON}", check=False).returncode != 0 and starts(host) == before
    register(host, "still-early")

    done = cordon(fleet)
    assert done.endswith("\n0") and "Closed registration and guest access, and restarted Synapse" in done, done
    assert starts(host) == before + 1
    with pytest.raises(ApiError, match=r"403.*Registration has been disabled"):
        register(host, "late")
    with pytest.raises(ApiError, match=r"403.*Guest access is disabled"):
        homeserver.register_guest()
    assert "@late:a.lab" not in [account["name"] for account in homeserver.accounts()]

    again = cordon(fleet)
    assert again.endswith("\n0") and "changed=0 " in again and starts(host) == before + 1, again

    # Once the drain has begun, what waits for other servers would be lost with a restart.
    host.ssh(f"rm {CORDON} && systemctl restart matrix-synapse.service")
    started: Json = {"server_name": homeserver.server_name, "milestones": {"started": 1_795_000_000}}
    path = f"/_matrix/client/v3/user/{homeserver.operator.user_id}/account_data/{STATE}"
    homeserver.call("PUT", path, token=homeserver.admin_token, json=started)
    begun = cordon(fleet)
    assert begun.endswith("\n0") and "changed=0 " in begun, begun
    assert "is open and is not changed: the drain has started" in begun
    assert starts(host) == before + 2 and host.ssh(f"ls {CORDON}", check=False).returncode != 0
    homeserver.call("PUT", path, token=homeserver.admin_token, json={})

    # Not Debian's package.
    host.ssh("rm -r /etc/matrix-synapse/conf.d")
    other = cordon(fleet)
    assert other.endswith("\n2") and "Set enable_registration: false and allow_guest_access: false" in other, other
    assert starts(host) == before + 2


def test_power_off(fleet: Fleet) -> None:
    """By an unprivileged user."""
    host = fleet["a"]
    variables = {**fleet.variables("a"), **AT_ONCE, "decommission_log_path": DRAIN_LOG}
    assert fleet.run({"a": variables}, user="deploy", ANSIBLE_PIPELINING="true") == 0
    assert host.exits == [0], "powered off: not unplugged, not rebooted"
    assert not host.running
    assert fleet[STAYING].running
    fleet.assert_no_ghosts("a")
    assert found_on_disk(host, host.homeserver.admin_token.encode()) == []
    assert found_on_disk(host, b"syt_") == []
    key = (host.root / KEY_FILE).read_text().split()[2]
    assert found_on_disk(host, key.encode()) == [Path(KEY_FILE)]
