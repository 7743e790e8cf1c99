# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that is killed at any point, and started again, ends in the same place as one that was not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import jsonschema
import pytest
from lab.waiting import wait_for_exit, wait_until

from .conftest import ROOT, Federation, RunPlaybook, StartPlaybook
from .test_playbook import PLAYBOOK, assert_drained, powered_off

TASKS = (
    "Compute the plan",
    "Hand over rooms",
    "Compute which accounts would be deactivated",
    *["Deactivate accounts and wait until they have left the federated rooms"] * 3,
    "Compute which rooms admins and kept accounts would leave",
    "Leave all rooms",
    "Check remote servers and remove ghosts",
    "Wait until Synapse has left the rooms that only this server is in",
    "Check the remote servers again",
    "Assert that no account is active or joined",
)
"""In the order in which a run comes to them: each is killed in one of these, or a moment after."""
SOME_TASKS = TASKS[2:9:3]

nightly = pytest.mark.nightly(category="kills")


def read_until(process: subprocess.Popen[str], task: str) -> None:
    """Follow a run until it has begun a task."""
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if line.startswith("TASK") and task in line:
            return
    raise AssertionError(output)


def is_stopped(pid: int) -> bool:
    """Whether a process does nothing any more; ``FileNotFoundError`` if there is none."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TZX"


def kill(process: subprocess.Popen[str]) -> None:
    """End a run and all that it has started, which is in sessions of its own, without a chance to tidy up.

    Returns when all of them are gone.
    """
    family = [process.pid]
    for parent in family:
        with suppress(FileNotFoundError, ProcessLookupError):
            # Or it could start another while its children are listed.
            os.kill(parent, signal.SIGSTOP)
            wait_until(partial(is_stopped, parent), f"process {parent} is stopped", interval=0.001)
            for children in Path(f"/proc/{parent}/task").glob("*/children"):
                family += map(int, children.read_text().split())
    for member in family:
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    for member in family:
        assert wait_for_exit(member), f"process {member} is still there"


def admins_are_open(federation: Federation) -> bool:
    made = federation.population
    return not any(federation.retiring.account(a)["deactivated"] for a in (made.operator, made.second_admin))


def assert_certificates_are_valid(tmp_path: Path) -> None:
    schema = json.loads((ROOT / "roles/decommission/files/certificate.schema.json").read_text())
    for path in (tmp_path / "decommission-reports").glob("*.json"):
        jsonschema.validate(json.loads(path.read_text()), schema)


@pytest.mark.parametrize("tasks", [SOME_TASKS, pytest.param(TASKS, marks=nightly)], ids=["some", "all"])
def test_controller(
    federation: Federation,
    start_playbook: StartPlaybook,
    run_playbook: RunPlaybook,
    tmp_path: Path,
    chance: random.Random,
    tasks: Sequence[str],
) -> None:
    handover = {
        "decommission_handover": True,
        "decommission_handover_to": [{"user_id": federation.staying.operator.user_id}],
        "decommission_demote": True,
    }
    for task in tasks:
        with start_playbook(PLAYBOOK, {"a": {**federation.role_variables, **handover}}) as process:
            read_until(process, task)
            # Not to wait for anything: to be killed anywhere.
            time.sleep(chance.uniform(0, 2))
            kill(process)
        assert_certificates_are_valid(tmp_path)
        assert admins_are_open(federation)
        if powered_off(federation):
            assert_drained(federation)
    done = run_playbook(PLAYBOOK, {"a": federation.role_variables})
    assert done.returncode == 0, done.stdout
    assert_drained(federation)
    assert powered_off(federation)


@pytest.mark.parametrize(
    ("victim", "_number"),
    [
        pytest.param(victim, number, marks=nightly if (victim, number) != ("homeserver", 1) else ())
        for victim in ("homeserver", "controller")
        for number in range(1, 11)
    ],
)
def test_drain(
    federation: Federation,
    start_playbook: StartPlaybook,
    run_playbook: RunPlaybook,
    tmp_path: Path,
    chance: random.Random,
    victim: str,
    _number: int,
) -> None:
    """Killed at a random point of the drain, or just after it."""
    log = tmp_path / "drain.jsonl"
    variables = {**federation.role_variables, "decommission_log_path": str(log)}
    pause = chance.uniform(0, 6)
    print(f"killed after {pause:.2f} s")
    with start_playbook(PLAYBOOK, {"a": {**variables, "decommission_power_off": False}}) as process:
        read_until(process, "Deactivate accounts and wait")
        # Not to wait for anything: to be killed anywhere.
        time.sleep(pause)
        if victim == "controller":
            kill(process)
        else:
            federation.retiring.kill()
            federation.retiring.start()
            output, _nothing = process.communicate()
            # A short time without the server may be waited out, or end the run: never as if nothing had been.
            assert process.returncode in (0, 2), output
    assert admins_are_open(federation)
    done = run_playbook(PLAYBOOK, {"a": variables})
    assert done.returncode == 0, done.stdout
    assert_drained(federation)
    assert powered_off(federation)
    # Once by each run at most, and by the second only where the first was killed before it could write it down.
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    closed = Counter(line["user_id"] for line in lines if line["result"] == "deactivated")
    assert set(closed.values()) <= {1, 2} and sum(closed.values()) <= len(closed) + 8
