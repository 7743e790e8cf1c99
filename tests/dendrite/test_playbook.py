# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole playbook with a real Dendrite as the remote server: up all the time, or down during the drain."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, MissingError
from lab.parallel import process_number

from .conftest import ROOT
from .test_ghosts import Shared, share_rooms

pytestmark = pytest.mark.nightly(category="dendrite")


@pytest.fixture
def shared(skip_or_fail: Callable[[str], None]) -> Iterator[Shared]:
    """Servers of their own, since ours is decommissioned."""
    number = process_number()
    directory = ROOT / f".cache/tests/dendrite-playbook-{number}"
    try:
        with Lab(directory, ("a",), dendrites=("d",), base_port=18880 + 5 * number) as lab:
            yield share_rooms(lab, "user")
    except MissingError as missing:
        skip_or_fail(str(missing))


@pytest.mark.parametrize("down", [False, True])
def test_decommission(shared: Shared, tmp_path: Path, down: bool) -> None:
    synapse, dendrite = shared.lab["a"], shared.lab.dendrites["d"]

    def run(**variables: Any) -> str:
        host = {
            **synapse.role_variables,
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "decommission_propagation_period": "1h",
            "decommission_early_exit": True,
            "decommission_unreachable_after": "0s",
            "decommission_poll_interval": 1,
            "decommission_power_off": False,
            **variables,
        }
        inventory = tmp_path / "inventory.json"
        inventory.write_text(json.dumps({"matrix_decommission": {"hosts": {"a": host}}}))
        program = Path(sys.executable).with_name("ansible-playbook")
        command = [program, "-i", inventory, "matrixops.synapse.decommission"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        return done.stdout

    if down:
        dendrite.kill()
        run(decommission_wait=False, decommission_early_exit=False)
        synapse.kill()
        synapse.start()
        dendrite.start()
        assert shared.ghosts()
    output = run()
    assert f"{dendrite.server_name}: " in output and "confirmed, 3 of 3 rooms" in output, output
    assert shared.ghosts() == set()
