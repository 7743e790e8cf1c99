# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host is powered off by the result of the gate in this run, and not by the order of tasks, or by a variable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Federation, RunPlaybook
from .test_playbook import PLAYBOOK, powered_off

PLAY = """
- name: Decommission, and continue after errors
  hosts: matrix_decommission
  gather_facts: false
  ignore_errors: true
  roles:
    - role: matrixops.synapse.decommission
"""
OPEN = {"_decommission_gate": {"open": True}, "_decommission_gate_is_open": True, "_decommission_period": 0}


@pytest.fixture
def with_open_accounts(filled: Federation) -> Federation:
    """A server that nothing was done to. No test here changes more than its lease."""
    return filled


def test_ignore_errors_opens_no_gate(with_open_accounts: Federation, run_playbook: RunPlaybook, tmp_path: Path) -> None:
    play = tmp_path / "play.yml"
    play.write_text(PLAY)
    result = run_playbook(str(play), {"a": with_open_accounts.role_variables}, "--tags", "power_off")
    assert "...ignoring" in result.stdout
    assert not powered_off(with_open_accounts)


@pytest.mark.parametrize("variables", [{name: value} for name, value in OPEN.items()])
def test_no_variable_opens_the_gate(
    with_open_accounts: Federation, run_playbook: RunPlaybook, variables: dict[str, object]
) -> None:
    result = run_playbook(
        PLAYBOOK, {"a": with_open_accounts.role_variables}, "--tags", "power_off", "-e", json.dumps(variables)
    )
    assert result.returncode == 2, result.stdout
    assert "only the role itself sets variables that begin with _decommission_" in result.stdout
    assert not powered_off(with_open_accounts)


@pytest.mark.parametrize("task", ["Power off the host", "Include decommission_power_off_tasks"])
def test_a_run_that_starts_after_the_gate_is_refused(
    with_open_accounts: Federation, run_playbook: RunPlaybook, task: str
) -> None:
    arguments = ("--tags", "power_off", "--start-at-task", task)
    result = run_playbook(PLAYBOOK, {"a": with_open_accounts.role_variables}, *arguments)
    assert not powered_off(with_open_accounts), result.stdout
