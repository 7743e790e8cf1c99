# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decommission three of four real machines: ``make demo-hosts``, as root.

Machines that boot systemd run on this one, in network namespaces of their own, each with a Synapse. Three of them are
decommissioned over SSH with the playbook of this collection. The fourth one is the remote server.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from lab.errors import MissingError
from lab.files import write_private
from lab.hosts import HostLab, populate
from lab.show import table

from .__main__ import remote_servers, run_playbook, title

DIRECTORY = Path(__file__).parents[2] / ".cache/demo-hosts"
DECOMMISSIONED = ("one", "two", "three")
STAYING = "stays"
USERS = 12
EXITS = {0: "powered off", 133: "rebooted", 137: "unplugged"}


def main() -> int:
    started = time.monotonic()
    title("Boot four machines, each with a homeserver")
    try:
        with HostLab(DIRECTORY, (*DECOMMISSIONED, STAYING)) as lab:
            done = decommission(lab)
    except MissingError as missing:
        print(f"This can't be shown here: {missing}.", file=sys.stderr)
        return 1
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    print(f"\n{'Done' if done else 'FAILED'}, in {minutes} min {seconds} s.")
    return 0 if done else 1


def decommission(lab: HostLab) -> bool:
    for host in lab.hosts.values():
        print(f"{host.server_name} is up, at {host.address}.")
    title(f"Fill them: {USERS} accounts each, in rooms that they share")
    populate(lab, STAYING, users=USERS)
    before = {name: seen(lab, name) for name in DECOMMISSIONED}

    title("ansible-playbook matrixops.synapse.decommission, over SSH")
    with lab.in_controller():
        exit_code = run_playbook(inventory(lab))

    title("Result")
    print(f"Memberships of each server's accounts are as {lab[STAYING].server_name} sees them, by its own admin API.")
    after = {name: seen(lab, name) for name in DECOMMISSIONED}
    table(
        ["machine", "server", "state", "memberships before", "now"],
        [[name, lab[name].server_name, state(lab, name), before[name], after[name]] for name in DECOMMISSIONED]
        + [[STAYING, lab[STAYING].server_name, state(lab, STAYING), "", ""]],
    )
    print(f"\nThe playbook ended with exit code {exit_code}.")
    remote = {name: remote_servers(lab.directory, lab[name].homeserver) for name in DECOMMISSIONED}
    for name, servers in remote.items():
        for server in servers:
            print(f"{lab[name].server_name}: {server['text']}")
    confirmed = all([row["state"] for row in servers] == ["confirmed"] for servers in remote.values())
    off = all(lab[name].exits == [0] for name in DECOMMISSIONED) and lab[STAYING].running
    return exit_code == 0 and off and confirmed and not any(after.values())


def seen(lab: HostLab, name: str) -> int:
    """Number of memberships of a server's accounts on the remote server."""
    return sum(map(len, lab[STAYING].homeserver.members_of(lab[name].server_name).values()))


def state(lab: HostLab, name: str) -> str:
    """Whether a machine is on, or how it was switched off."""
    host = lab[name]
    return "on" if host.running else ", ".join(EXITS.get(number, str(number)) for number in host.exits)


def inventory(lab: HostLab) -> Path:
    """Write an inventory, as in an infrastructure repository."""
    inventory = lab.inventory(user="deploy")
    group = inventory["matrix_decommission"]
    group["vars"] |= {
        "decommission_propagation_period": "10m",
        "decommission_early_exit": True,
        "decommission_poll_interval": 2,
        "decommission_report_dir": str(lab.directory / "decommission-reports"),
    }
    group["hosts"] = {name: {**group["hosts"][name], **lab[name].role_variables} for name in DECOMMISSIONED}
    path = lab.directory / "demo.yml"
    write_private(path, inventory)
    return path


if __name__ == "__main__":
    sys.exit(main())
