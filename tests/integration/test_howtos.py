# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventories of the guides for each way to run Synapse, as they stand there, with stubs of the commands."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .conftest import ROOT, Federation, RunPlaybook, unchanged
from .test_playbook import PLAYBOOK

COMMANDS = ROOT / "tests/stubs/commands"
PAGES = {
    "debian": "the method systemd",
    "docker": "the method compose",
    "kubernetes": "the method kubernetes",
    "matrix-docker-ansible-deploy": "the method systemd",
    "nixos": "/.*/stop_synapse.yml",
    "podman": "the method podman",
}
"""The guides, with what the last line of the plan says."""
UNITS = (
    "matrix-authentication-service.service",
    "matrix-synapse-reverse-proxy-companion.service",
    "matrix-synapse-worker-generic-0.service",
    "matrix-synapse.service",
    "synapse.service",
)
LOGIN = re.compile("decommission_(login|mas)_")
"""Variables for which the lab has nothing: all servers of the test are the same one, and have its operator's token."""


def yaml_blocks(page: str) -> Iterator[Any]:
    text = (ROOT / f"docs/howto/{page}.md").read_text()
    return (yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def inventory_of(page: str) -> dict[str, Any]:
    """The variables of the host of a guide."""
    (found,) = [block for block in yaml_blocks(page) if isinstance(block, dict) and "matrix_decommission" in block]
    (variables,) = found["matrix_decommission"]["hosts"].values()
    return dict(variables)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The stubs of the commands, before those of the machine."""
    return {
        "PATH": os.pathsep.join([str(COMMANDS), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "STUB_CONTAINER": str(tmp_path / "container.json"),
        "STUB_UNITS": " ".join(UNITS),
        "STUB_WORKLOADS": str(tmp_path / "workloads"),
    }


def hosts(federation: Federation, directory: Path) -> dict[str, dict[str, Any]]:
    """A host for each guide. Only what differs in the lab is replaced: the addresses, and how to log in and to become
    root."""
    lab = {**federation.retiring.role_variables, "ansible_become": False, "decommission_cordon": False}
    lab |= {"decommission_install_requirements": False, "decommission_delegate": "localhost"}
    found = {page: {**inventory_of(page), **lab} for page in PAGES}
    # Tasks of one's own are the only way there that leaves the host on.
    (tasks,) = [block for block in yaml_blocks("nixos") if isinstance(block, list)]
    (directory / "stop_synapse.yml").write_text(yaml.safe_dump(tasks))
    found["nixos"]["decommission_power_off_tasks"] = "stop_synapse.yml"
    del found["nixos"]["ansible_python_interpreter"]
    found["docker"]["decommission_compose_dir"] = str(directory)
    return {
        page: {name: value for name, value in variables.items() if not LOGIN.match(name)}
        for page, variables in found.items()
    }


def test_preflight(filled: Federation, run_playbook: RunPlaybook, tmp_path: Path, environment: dict[str, str]) -> None:
    """The plan of each guide, from one run."""
    with unchanged(filled.retiring):
        done = run_playbook(PLAYBOOK, hosts(filled, tmp_path), "--tags", "preflight", "--check", **environment)
    assert done.returncode == 0, done.stdout
    assert not (tmp_path / "container.json").exists() or '"running"' in (tmp_path / "container.json").read_text()
    assert not (tmp_path / "workloads").exists()
    for page, words in PAGES.items():
        assert re.search(rf"^{page} +: ok=\d+ .* failed=0 ", done.stdout, re.MULTILINE)
        assert re.search(rf'ok: \[{page}\] => {{[^}}]*"Finally: power off with {words}"', done.stdout), done.stdout
