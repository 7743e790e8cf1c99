# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long until nobody is in a room any more: this collection beside what else one would use.

Everything runs on the same snapshot of a real server, restored before each run. Whether an account is still in a room,
and whether it is erased, is what the server's database says, and not what the contender believes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from ansible_collections.matrixops.synapse.plugins.module_utils._client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._drain import Options, drain
from ansible_collections.matrixops.synapse.plugins.module_utils._journal import Journal
from lab import Homeserver, Lab
from lab.lab import REPOSITORY
from lab.waiting import wait_until

PORTS = {"sqlite": 18760, "postgresql": 18750}
OVERDUE = 3600.0
"""Seconds after which a contender has not done it."""

JOINED = "SELECT count(*) FROM local_current_membership WHERE membership = 'join' AND user_id NOT LIKE '@operator:%'"
NOT_ERASED = (
    "SELECT count(*) FROM users LEFT JOIN erased_users ON name = user_id"
    " WHERE name NOT LIKE '@operator:%' AND (deactivated = 0 OR user_id IS NULL)"
)


@dataclass
class Run:
    """One contender's run: seconds until it claimed to be done, and until it was."""

    contender: str
    claimed: float
    memberships_then: int
    done: float
    not_erased: int
    synapse_cpu: float


def populate(server: Homeserver, accounts: int) -> None:
    """One room with everybody, rooms of 20, and rooms of two: three memberships for each account."""
    with ThreadPoolExecutor(8) as pool:
        users = list(pool.map(server.register, (f"user{number:05}" for number in range(accounts))))

        def room(size: int, first: int) -> None:
            host, *members = users[first : first + size]
            room_id = server.create_room(host.token, preset="public_chat")
            for member in members:
                server.join(member.token, room_id)

        everybody = server.create_room(users[0].token, preset="public_chat")
        jobs: list[Callable[[], None]] = [
            *(lambda user=user: server.join(user.token, everybody) for user in users[1:]),
            *(lambda first=first: room(20, first) for first in range(0, accounts, 20)),
            *(lambda first=first: room(2, first) for first in range(0, accounts, 2)),
        ]
        Random(0).shuffle(jobs)
        list(pool.map(lambda job: job(), jobs))
    wait_until(lambda: not server.background_updates(), "the background updates are done")


def opened(database: str, accounts: int) -> Lab:
    """The lab with the snapshot ``full``, which is made at the first time."""
    directory = REPOSITORY / ".cache/benchmarks" / f"{database}-{accounts}"
    if (directory / "snapshots/full").exists():
        return Lab.load(directory)
    lab = Lab(directory, ["a"], base_port=PORTS[database], database=database)
    lab.create()
    populate(lab["a"], accounts)
    lab.snapshot("full")
    return lab


def to_go(server: Homeserver) -> list[str]:
    """Everybody but the operator."""
    return sorted(account["name"] for account in server.accounts() if not account["admin"])


# Contenders


def curl(server: Homeserver, workers: int = 1) -> None:
    """The loop of the blog posts."""
    script = (
        'xargs -P "$WORKERS" -I{} curl --silent --output /dev/null --request POST --header "@$HEADERS"'
        ' --data \'{"erase": true}\' "$BASE_URL/_synapse/admin/v1/deactivate/{}"'
    )
    with tempfile.NamedTemporaryFile("w") as headers:
        headers.write(f"Authorization: Bearer {server.admin_token}\n")
        headers.flush()
        environment = {"BASE_URL": server.base_url, "HEADERS": headers.name, "WORKERS": str(workers)}
        users = "\n".join(to_go(server))
        subprocess.run(["sh", "-c", script], input=users, text=True, check=True, env={**os.environ, **environment})


def bare(server: Homeserver, strategy: str) -> None:
    """The same code as the module's, without Ansible."""
    options = Options(leave_first=strategy == "leave")
    with Client(server.base_url, server.admin_token, connections=options.concurrency) as client, Journal() as journal:
        result = drain(client, None, options, journal)
    assert result.aborted is None and not result.failed and not result.not_parted, result


def module(server: Homeserver, strategy: str) -> None:
    """A playbook with the module."""
    options = {
        "base_url": server.base_url,
        "access_token": server.admin_token,
        "all_users": True,
        "strategy": strategy,
    }
    tasks = [{"matrixops.synapse.synapse_user_deactivate": options}]
    play = {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": tasks,
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as playbook:
        json.dump([play], playbook)
        playbook.flush()
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", playbook.name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


CONTENDERS: dict[str, Callable[[Homeserver], None]] = {
    "curl": curl,
    "curl-8": lambda server: curl(server, 8),
    "module-leave": lambda server: module(server, "leave"),
    "module-deactivate": lambda server: module(server, "deactivate"),
    "bare-leave": lambda server: bare(server, "leave"),
    "bare-deactivate": lambda server: bare(server, "deactivate"),
}


def measure(lab: Lab, contender: str) -> Run:
    """Restore the snapshot, and run one contender on it."""
    lab.restore("full")
    server = lab["a"]
    cpu = cpu_seconds(server)
    began = time.monotonic()
    CONTENDERS[contender](server)
    claimed = time.monotonic() - began
    then = server.database.count(JOINED)
    wait_until(lambda: server.database.count(JOINED) == 0, "nobody is in a room", timeout=OVERDUE, interval=0.5)
    done = time.monotonic() - began
    # What the poll itself has taken is nobody's.
    done = claimed if then == 0 else done
    return Run(contender, claimed, then, done, server.database.count(NOT_ERASED), cpu_seconds(server) - cpu)


def cpu_seconds(server: Homeserver) -> float:
    """What the server's process has used so far."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    return float(int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def table(runs: list[Run]) -> str:
    """The medians, and the ratios to the first contender."""
    lines = ["contender          claimed   still joined   all out   times the first   Synapse CPU"]
    first: float | None = None
    for contender in dict.fromkeys(run.contender for run in runs):
        mine = [run for run in runs if run.contender == contender]

        def median(name: str, mine: list[Run] = mine) -> float:
            return float(statistics.median(getattr(run, name) for run in mine))

        done = median("done")
        first = first or done
        lines.append(
            f"{contender:18} {median('claimed'):6.1f} s   {median('memberships_then'):12.0f} {done:7.1f} s"
            f"   {first / done:15.2f}   {median('synapse_cpu'):9.1f} s"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the contenders in turn, as often as asked, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contenders", nargs="*", metavar="CONTENDER", help=", ".join(CONTENDERS))
    parser.add_argument("--accounts", type=int, default=500)
    parser.add_argument("--database", choices=PORTS, default="sqlite")
    parser.add_argument("--runs", type=int, default=1)
    arguments = parser.parse_args()
    runs: list[Run] = []
    lab = opened(arguments.database, arguments.accounts)
    try:
        for _run in range(arguments.runs):
            for contender in arguments.contenders or CONTENDERS:
                runs.append(measure(lab, contender))
                print(json.dumps(asdict(runs[-1])), flush=True)
    finally:
        lab.stop()
    print(f"\n{arguments.accounts} accounts, {arguments.database}\n{table(runs)}")


if __name__ == "__main__":
    main()
