# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ansible-playbook has started ends with it, whatever has ended it."""

from __future__ import annotations

import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from lab.proxy import Fault, Proxy
from lab.waiting import PATIENCE, wait_for_exit, wait_until

from .conftest import Federation, StartPlaybook
from .test_playbook import PLAYBOOK

ENDINGS = [signal.SIGKILL, signal.SIGHUP]
"""Signals of, for example, the out-of-memory killer, and of a terminal that is closed."""


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, children.read_text().split())
    return found[1:]


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    output = ""
    for line in process.stdout:
        output += line
        if text in line:
            return
    raise AssertionError(output)


def end(process: subprocess.Popen[str], how: signal.Signals, started: list[int]) -> None:
    """End ansible-playbook, and nothing that it has started; which ends too."""
    process.send_signal(how)
    process.wait(PATIENCE)
    for pid in started:
        assert wait_for_exit(pid), f"process {pid} is still there"


def test_a_wait(federation: Federation, start_playbook: StartPlaybook) -> None:
    """In the pause between two polls, of which there would be no more for half an hour."""
    host = {
        **federation.role_variables,
        "decommission_propagation_period": "7d",
        "decommission_poll_interval": 1800,
    }
    for how in ENDINGS:
        with start_playbook(PLAYBOOK, {"a": host}) as process:
            # Shown by the process of the task when it begins to wait.
            read_until(process, "the propagation period ends")
            started = descendants(process.pid)
            end(process, how, started)
        assert started


@pytest.mark.own_process
def test_a_module_on_a_local_connection(
    federation: Federation, proxy: Proxy, start_playbook: StartPlaybook, tmp_path: Path
) -> None:
    """It does not deactivate accounts for hours without anybody who sees it."""
    deactivation = proxy.rule(Fault.DELAY_BEFORE, path="/deactivate/", seconds=2 * PATIENCE)
    with start_playbook(PLAYBOOK, {"a": {**federation.role_variables, "decommission_base_url": proxy.base_url}}) as run:
        wait_until(lambda: deactivation.injected > 0, "an account is being deactivated")
        started = descendants(run.pid)
        end(run, signal.SIGKILL, started)
    # The process of the task, and that of its module.
    assert len(started) >= 2
