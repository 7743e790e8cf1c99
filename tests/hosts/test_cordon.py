# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cordon, on a real machine whose Synapse is started as that of Debian's package is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import ApiError, MissingError, Settings
from lab.api import Json
from lab.hosts import Host, HostLab

ROOT = Path(__file__).parents[2]
FILE = "/etc/matrix-synapse/conf.d/zz-matrixops-cordon.yaml"
STATE = "io.github.matrixops.decommission"


@pytest.fixture(scope="module")
def lab(skip_or_fail: Callable[[str], None]) -> Iterator[HostLab]:
    """One machine, where anybody can register."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0")
    try:
        with HostLab(ROOT / f".cache/tests/cordon-{worker}", ("a",), settings=Settings(open_registration=True)) as lab:
            yield lab
    except MissingError as missing:
        skip_or_fail(str(missing))


@pytest.fixture(autouse=True)
def in_controller(lab: HostLab) -> Iterator[None]:
    """On the network of this machine, and not of those that the other tests in this directory share."""
    with lab.in_controller():
        yield


def register(host: Host, name: str) -> None:
    """As anybody can who is let in."""
    body = {"username": name, "password": "a-password-of-mine", "auth": {"type": "m.login.dummy"}}
    host.homeserver.call("POST", "/_matrix/client/v3/register", json=body)


def starts(host: Host) -> int:
    """How often Synapse was started."""
    lines = host.ssh("journalctl -b -u matrix-synapse.service --output=cat --grep '^Started' --no-pager").stdout
    return len(lines.splitlines())


def cordon(lab: HostLab, directory: Path, *arguments: str, user: str = "deploy") -> str:
    """Run its tasks as the role does, which is after the preflight; return what Ansible printed."""
    homeserver = lab["a"].homeserver
    inventory = lab.inventory(user=user)
    inventory["matrix_retiring"]["hosts"]["a"] |= {
        "decommission_confirm": homeserver.server_name,
        "decommission_access_token": homeserver.admin_token,
    }
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
        (directory / name).write_text(json.dumps(content))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", *files, *arguments],
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        cwd=directory,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return f"{done.stdout}\n{done.returncode}"


def test_cordon(lab: HostLab, tmp_path: Path) -> None:
    host = lab["a"]
    homeserver = host.homeserver
    register(host, "early")
    guest = homeserver.register_guest()
    assert homeserver.account("@early:a.lab")["name"] == "@early:a.lab" and guest.user_id
    before = starts(host)

    would = cordon(lab, tmp_path, "--check", "--diff")
    assert would.endswith("\n0") and "Would close registration and guest access, and restart Synapse" in would, would
    assert host.ssh(f"ls {FILE}", check=False).returncode != 0 and starts(host) == before
    register(host, "still-early")

    done = cordon(lab, tmp_path)
    assert done.endswith("\n0") and "Closed registration and guest access, and restarted Synapse" in done, done
    assert starts(host) == before + 1
    with pytest.raises(ApiError, match=r"403.*Registration has been disabled"):
        register(host, "late")
    with pytest.raises(ApiError, match=r"403.*Guest access is disabled"):
        homeserver.register_guest()
    assert "@late:a.lab" not in [account["name"] for account in homeserver.accounts()]

    again = cordon(lab, tmp_path)
    assert again.endswith("\n0") and "changed=0 " in again and starts(host) == before + 1, again

    # Once the drain has begun, what waits for other servers would be lost with a restart.
    host.ssh(f"rm {FILE} && systemctl restart matrix-synapse.service")
    started: Json = {"server_name": homeserver.server_name, "milestones": {"started": 1_795_000_000}}
    path = f"/_matrix/client/v3/user/{homeserver.operator.user_id}/account_data/{STATE}"
    homeserver.call("PUT", path, token=homeserver.admin_token, json=started)
    begun = cordon(lab, tmp_path)
    assert begun.endswith("\n0") and "changed=0 " in begun, begun
    assert "is open, and stays as it is: the drain has begun" in begun
    assert starts(host) == before + 2 and host.ssh(f"ls {FILE}", check=False).returncode != 0
    homeserver.call("PUT", path, token=homeserver.admin_token, json={})

    # Not Debian's package.
    host.ssh("rmdir /etc/matrix-synapse/conf.d")
    other = cordon(lab, tmp_path)
    assert other.endswith("\n2") and "Set enable_registration and allow_guest_access to false" in other, other
    assert starts(host) == before + 2
