# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decommission a real homeserver: ``make demo``.

Two Synapse servers that federate with each other run on the loopback interface, in ``.cache/demo``. One of them is
filled and then decommissioned with the playbook of this collection. The other one is the remote server, which lists the
accounts that it still sees. Nothing else is changed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from lab import Homeserver, Lab, populate
from lab.api import Api
from lab.files import write_private
from lab.show import show

HERE = Path(__file__).parent
DIRECTORY = HERE.parents[1] / ".cache/demo"
USERS = 60
BASE_PORT = 18500


def main() -> int:
    started = time.monotonic()
    title("Start two Synapse servers that federate with each other")
    with Lab(DIRECTORY, ("retiring", "staying"), base_port=BASE_PORT) as lab:
        retiring, staying = lab["retiring"], lab["staying"]
        print(f"{retiring.server_name} is decommissioned, {staying.server_name} is the remote server.")

        title("Create accounts of every class, shared rooms, invites and knocks")
        populate(retiring, staying, users=USERS, big_room=USERS)
        show(lab)
        before = seen_by(staying, retiring)

        title("ansible-playbook matrixops.synapse.decommission")
        exit_code = run_playbook(inventory(retiring))
        after = seen_by(staying, retiring)
        remote = remote_servers(DIRECTORY, retiring)
        confirmed = [server["state"] for server in remote] == ["confirmed"]
        done = exit_code == 0 and confirmed and after == (0, 0) and not retiring.running

        title("Result")
        show(lab)
        print(f"\nThe playbook ended with exit code {exit_code}.")
        print(f"{retiring.server_name} is {'still running' if retiring.running else 'off'}.")
        print(f"Memberships of {retiring.server_name} on {staying.server_name}, by its admin API:")
        print(f"before: {before[0]} in {before[1]} rooms, now: {after[0]}.")
        minutes, seconds = divmod(round(time.monotonic() - started), 60)
        print(f"\n{'Done' if done else 'FAILED'}, in {minutes} min {seconds} s.", end=" ")
        print("The server is off, and no ghost is left." if done else f"See its log: {retiring.log}.")
        print("Remote servers in the certificate:")
        for server in remote:
            print(server["text"])
        return 0 if done else 1


def run_playbook(inventory: Path) -> int:
    """Run the playbook as its users do, with Ansible's defaults. Return its exit code."""
    return subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, "matrixops.synapse.decommission"],
        env={**os.environ, "ANSIBLE_FORCE_COLOR": str(sys.stdout.isatty())},
        check=False,
    ).returncode


def remote_servers(directory: Path, server: Api) -> list[dict[str, Any]]:
    """The remote servers in the certificate, if there is one."""
    for path in (directory / "decommission-reports").glob("*.json"):
        certificate = json.loads(path.read_text())
        if certificate["server"]["name"] == server.server_name:
            return list(certificate.get("remote_servers", {}).get("servers", []))
    return []


def title(text: str) -> None:
    print(f"\n--- {text}\n", flush=True)


def seen_by(server: Homeserver, other: Homeserver) -> tuple[int, int]:
    """Number of memberships of accounts of the other server on this one, and of their rooms."""
    rooms = server.members_of(other.server_name)
    return sum(map(len, rooms.values())), len(rooms)


def inventory(retiring: Homeserver, directory: Path = DIRECTORY, **more: Any) -> Path:
    """Write an inventory, as in an infrastructure repository."""
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        **retiring.role_variables,
        "decommission_propagation_period": "10m",
        # The run does not wait any more once the remote server has confirmed.
        "decommission_early_exit": True,
        "decommission_poll_interval": 2,
        "decommission_report_dir": str(directory / "decommission-reports"),
        "decommission_power_off_tasks": str(HERE / "power_off.yml"),
        "homeserver_pid": retiring.pid,
        "homeserver_port": retiring.base_url.rpartition(":")[2],
        **more,
    }
    path = directory / "inventory.yml"
    write_private(path, {"matrix_decommission": {"hosts": {"retiring": variables}}})
    return path


if __name__ == "__main__":
    sys.exit(main())
