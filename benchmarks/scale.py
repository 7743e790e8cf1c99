# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a dry run and the status of a large server cost: requests, seconds, CPU, memory and the size of results.

The server is a stub, see C(large_server). Each task counts for the file that it is in, which is that of its stage.
"""

from __future__ import annotations

import json
import os
import resource
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from lab.lab import REPOSITORY

from .contenders import HOST, Command, Target, ansible
from .large_server import NAME, Size, large_server
from .processes import busy, timed
from .servers import Servers, scratch

SIZES = {
    "small": Size(5_000, 5_000, 1_250, 750),
    "usual": Size(20_000, 20_000, 5_000, 3_000),
    "accounts": Size(40_000, 20_000, 5_000, 3_000),
    "rooms": Size(20_000, 40_000, 5_000, 3_000),
    "federated": Size(20_000, 20_000, 10_000, 3_000),
    "servers": Size(20_000, 20_000, 5_000, 6_000),
    "large": Size(200_000, 50_000, 5_000, 3_000),
}
"""The sizes. Four of them have twice as much of one number as C(USUAL), which shows how the cost grows with it."""
USUAL = "usual"
DOUBLED = {
    "accounts": "accounts",
    "rooms": "rooms",
    "federated": "federated rooms",
    "servers": "remote servers",
}


class Run(NamedTuple):
    """A playbook that is run against the stub, with a title for the report."""

    title: str
    playbook: str
    arguments: Sequence[str] = ()
    all_preparations: bool = False


RUNS = {
    "check": Run("Dry run (`--check`) with the default variables", "decommission", ("--check",)),
    "check-all": Run(
        "Dry run (`--check`) with announcement, handover, deletion of aliases and demotion",
        "decommission",
        ("--check",),
        all_preparations=True,
    ),
    "status": Run("Status", "status"),
}
PREPARATIONS = {
    "decommission_announce": True,
    "decommission_handover": True,
    "decommission_handover_to": [{"user_id": "@peer:server-000000.example"}],
    "decommission_release_aliases": True,
    "decommission_demote": True,
}
POLL = 0.1


def measure(_servers: Servers, size: str, _accounts: int, run: str) -> dict[str, Any]:
    """Run a playbook against a stub of this size."""
    before = busy() - _own_cpu()
    with large_server(SIZES[size]) as base_url, scratch(f"scale-{run}") as directory:
        costs = directory / "costs.jsonl"
        command = playbook(Target(base_url, "token", NAME), directory, run, costs)
        with _peaks(f"COST_FILE={costs}") as peaks:
            usage = timed(command.arguments, directory, command.environment)
        lines = [json.loads(line) for line in costs.read_text().splitlines()]
        output = (directory / "output").read_text()
    return {
        "code": usage.code,
        "seconds": usage.seconds,
        "own_cpu": usage.cpu,
        "own_memory": usage.memory,
        "other_cpu": max(0.0, busy() - _own_cpu() - before),
        "controller_memory": peaks["controller"],
        "host_memory": peaks["host"],
        "largest_result": max(line["result"] for line in lines),
        "requests": sum(sum(line["requests"].values()) for line in lines),
        "stages": _by_stage(lines),
        "paths": dict(sum((Counter(line["requests"]) for line in lines), Counter())),
        "tail": output[-500:] if usage.code else "",
    }


def _own_cpu() -> float:
    """Seconds of CPU of the playbooks and stubs that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def playbook(target: Target, directory: Path, run: str, costs: Path) -> Command:
    """The command for a playbook, without what the controller and remote servers would have to be there for."""
    variables = {
        **HOST,
        "decommission_base_url": target.base_url,
        "decommission_access_token": target.token,
        "decommission_confirm": target.server_name,
        "decommission_power_off": False,
        "decommission_ghost_checks": False,
        "decommission_archive": False,
        "decommission_report_dir": str(directory / "reports"),
        **(PREPARATIONS if RUNS[run].all_preparations else {}),
    }
    inventory = directory / "inventory.json"
    inventory.write_text(json.dumps({"matrix_decommission": {"hosts": {"large": variables}}}))
    command = ansible("-i", inventory, f"matrixops.synapse.{RUNS[run].playbook}", *RUNS[run].arguments)
    environment = {
        **command.environment,
        "ANSIBLE_CALLBACK_PLUGINS": str(REPOSITORY / "benchmarks/callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "cost_by_task",
        "COST_FILE": str(costs),
        "COST_URL": target.base_url,
    }
    return Command(command.arguments, environment)


def _by_stage(lines: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    stages: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        cost = {"requests": sum(line["requests"].values()), "seconds": line["ended"] - line["began"]}
        stages[line["file"]].update(cost)
        stages[line["file"]]["result"] = max(stages[line["file"]]["result"], line["result"])
    return {name: {key: round(value, 3) for key, value in cost.items()} for name, cost in stages.items()}


@contextmanager
def _peaks(variable: str) -> Iterator[Counter[str]]:
    """The peaks of memory in bytes of the C(controller), and of the processes that run modules on the C(host).

    :param variable: what only these processes have in their environment.
    """
    peaks: Counter[str] = Counter()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(POLL):
            # Not with glob, which fails if a process ends meanwhile.
            for path in (Path("/proc", name, "cmdline") for name in os.listdir("/proc") if name.isdigit()):
                try:
                    command = path.read_bytes()
                    environment = path.with_name("environ").read_bytes().split(b"\0")
                    status = path.with_name("status").read_text(errors="replace")
                except OSError:
                    continue
                if variable.encode() not in environment:
                    continue
                kind = "host" if b"AnsiballZ" in command else "controller" if b"ansible-playbook" in command else None
                peak = status.partition("VmHWM:")[2].split()[:1]
                if kind and peak:
                    peaks[kind] = max(peaks[kind], int(peak[0]) * 1024)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()
