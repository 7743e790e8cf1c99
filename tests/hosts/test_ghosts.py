# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""matrix_ghosts_info over SSH, on a machine where only root may read the signing key; with discovery by names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lab.hosts import HostLab
from lab.waiting import wait_until

from .test_fleet import found_on_disk

pytestmark = pytest.mark.nightly(category="hosts")

KEY_FILE = "/etc/matrix-synapse/signing.key"


def run(hosts: HostLab, directory: Path, options: dict[str, Any], *arguments: str, **environment: str) -> str:
    """What Ansible prints of the module, run by an unprivileged user of host a that may become root."""
    inventory = directory / "inventory.json"
    inventory.write_text(json.dumps(hosts.inventory(user="deploy")))
    return subprocess.run(
        [
            *(Path(sys.executable).with_name("ansible"), "a", "-i", inventory),
            *("-m", "matrixops.synapse.matrix_ghosts_info", "-a", json.dumps(options), *arguments),
        ],
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_PIPELINING": "false", **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    ).stdout


@pytest.fixture
def options(hosts: HostLab) -> dict[str, Any]:
    """An account of a is in a room of b."""
    a, b = hosts["a"].homeserver, hosts["b"].homeserver
    account, host = a.register("checked"), b.register("host")
    room_id = b.create_room(host.token, preset="public_chat")
    a.join(account.token, room_id, via=b.server_name)
    wait_until(lambda: account.user_id in b.joined_members(room_id), "b lists the account")
    return {
        "server_name": a.server_name,
        "signing_key_path": KEY_FILE,
        "rooms": [{"room_id": room_id, "servers": [b.server_name], "accounts": [account.user_id]}],
        "ip_allowlist": [hosts["b"].address],
        "ca_path": "/etc/matrix-synapse/ca.pem",
    }


def test_over_ssh(hosts: HostLab, options: dict[str, Any], tmp_path: Path) -> None:
    """The key is in no output and nowhere else on the disk, and what is missing is said."""
    host = hosts["a"]
    key = (host.root / KEY_FILE[1:]).read_text().split()[2]
    # As Debian's package has it.
    host.ssh(f"chown matrix-synapse {KEY_FILE} && chmod 600 {KEY_FILE}")
    assert "set become: true" in run(hosts, tmp_path, options)
    log = tmp_path / "ansible.log"
    environment = {"ANSIBLE_DEBUG": "1", "ANSIBLE_LOG_PATH": str(log)}
    output = run(hosts, tmp_path, options, "--become", "-vvvv", **environment)
    assert '"ghosts": 1' in output, output
    assert key not in output and key not in log.read_text()
    assert [f"/{path}" for path in found_on_disk(host, key.encode())] == [KEY_FILE]

    private = run(hosts, tmp_path, {**options, "ip_allowlist": []}, "--become")
    assert "ip_allowlist" in private and hosts["b"].address in private
    host.ssh("dpkg --remove --force-depends python3-signedjson")
    assert "python3-signedjson (Debian package) or signedjson (pip)" in run(hosts, tmp_path, options, "--become")
