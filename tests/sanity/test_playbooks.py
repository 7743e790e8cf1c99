# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks fail if they have no hosts: Ansible reports a run without hosts as a success."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ASSERTION = "assert_hosts.yml"
PLAYBOOKS = sorted(path.stem for path in ROOT.glob("playbooks/*.yml") if path.name != ASSERTION)
VARIABLES = {"ghost_cleanup": "ghost_cleanup_hosts", "ghosts": "ghosts_hosts", "site": "site_hosts"}
"""The variable with the hosts of a playbook, if it is not decommission_hosts."""
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
INVENTORY = {
    "all": {"vars": LOCAL},
    "web": {"hosts": {"w": {}}},
    "matrix_decommission": {"hosts": {"m": {}}},
    "nothing": {"hosts": {}},
}


def run(directory: Path, playbook: str, *arguments: str) -> tuple[int, str]:
    """Run a playbook of the collection; return its exit code and its output."""
    inventory = directory / "inventory.json"
    inventory.write_text(json.dumps(INVENTORY))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, *arguments, playbook],
        cwd=directory,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache")},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout


def fails(directory: Path, playbook: str, *arguments: str) -> str:
    """Run a playbook that has no hosts, and return its output."""
    code, output = run(directory, playbook, *arguments)
    assert code == 2, output
    variable = VARIABLES.get(playbook.rpartition(".")[2], "decommission_hosts")
    assert output.count("PLAY [") == 1 and f"No changes made: no host matches {variable}: " in output, output
    return output


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_the_first_play_asserts_that_there_are_hosts(playbook: str) -> None:
    first = yaml.safe_load((ROOT / f"playbooks/{playbook}.yml").read_text())[0]
    assert first["ansible.builtin.import_playbook"] == ASSERTION


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_group_that_does_not_exist(tmp_path: Path, playbook: str) -> None:
    variable = VARIABLES.get(playbook, "decommission_hosts")
    output = fails(tmp_path, f"matrixops.synapse.{playbook}", "-e", f"{variable}=matrix_decomission")
    assert "'matrix_decomission'. Groups of the inventory: matrix_decommission, nothing, web." in output


@pytest.mark.parametrize(
    "arguments",
    [
        ["-e", "decommission_hosts=nothing"],
        ["-e", "decommission_hosts=all:!all"],
        ["-e", '{"decommission_hosts": ["x", "nothing"]}'],
        ["-e", "decommission_hosts=x", "--check", "--tags", "preflight"],
        ["--limit", "web"],
    ],
    ids=str,
)
def test_no_host(tmp_path: Path, arguments: list[str]) -> None:
    fails(tmp_path, "matrixops.synapse.status", *arguments)


@pytest.mark.parametrize("playbook", ["ghost_cleanup", "site"])
def test_the_group_of_other_hosts(tmp_path: Path, playbook: str) -> None:
    """That of the homeservers does not count, nor does their variable."""
    variable = f"{playbook}_hosts"
    output = fails(tmp_path, f"matrixops.synapse.{playbook}", "-e", "decommission_hosts=matrix_decommission")
    assert f"no host matches {variable}: 'matrix_{playbook}'" in output and f"or set {variable} to another" in output
    fails(tmp_path, f"matrixops.synapse.{playbook}", "-e", f"{variable}=web", "--limit", "m")


def test_an_empty_inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only host is the implicit localhost."""
    monkeypatch.setattr(sys.modules[__name__], "INVENTORY", {})
    assert "Groups of the inventory: none." in fails(tmp_path, "matrixops.synapse.status")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--limit", "m"],
        ["-e", "decommission_hosts=web"],
        ["-e", "decommission_hosts=all:!web"],
        ["-e", '{"decommission_hosts": ["m", "x"]}'],
        ["-e", "decommission_hosts=localhost"],
    ],
    ids=str,
)
def test_with_a_host_the_playbook_goes_through(tmp_path: Path, arguments: list[str]) -> None:
    """Here a playbook with the same first play, and another one that needs no homeserver."""
    playbook = tmp_path / "playbook.yml"
    plays = [
        {"ansible.builtin.import_playbook": str(ROOT / "playbooks" / ASSERTION)},
        {
            "hosts": "{{ decommission_hosts | default('matrix_decommission') }}",
            "gather_facts": False,
            "tasks": [{"ansible.builtin.debug": {"msg": "hosts: {{ ansible_play_hosts_all | join }}"}}],
        },
    ]
    playbook.write_text(json.dumps(plays))
    code, output = run(tmp_path, str(playbook), *arguments)
    assert code == 0, output
    host = {"web": "w", "localhost": "localhost"}.get(" ".join(arguments).rpartition("=")[2], "m")
    assert f"hosts: {host}" in output
    (recap,) = [line for line in output.partition("PLAY RECAP")[2].splitlines()[1:] if line.strip()]
    assert recap.startswith(host) and "ok=2 " in recap, "no other host is in the recap"


def test_the_syntax_can_be_checked_without_hosts(tmp_path: Path) -> None:
    assert run(tmp_path, "matrixops.synapse.decommission", "--syntax-check", "-e", "decommission_hosts=x")[0] == 0
