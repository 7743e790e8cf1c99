# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Dendrite that joins a room of a server that is off, by its alias, while nginx serves the static site."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lab import ApiError, Lab, MissingError
from lab.lounge import Lounge
from lab.web_servers import Nginx

from .conftest import ROOT

pytestmark = pytest.mark.nightly(category="dendrite")
ODD = "odd~*☂"


def test_dendrite_resolves_an_alias_and_joins(skip_or_fail: Callable[[str], None], tmp_path: Path) -> None:
    try:
        with Lab(ROOT / ".cache/tests/dendrite-site", ("a", "b"), dendrites=("d",), base_port=18980) as lab:
            judge(lab, tmp_path)
    except MissingError as missing:
        skip_or_fail(str(missing))


def judge(lab: Lab, directory: Path) -> None:
    home, dendrite = lab["a"], lab.dendrites["d"]
    lounge = Lounge(home, lab["b"], room_version="11")
    odd = lounge.add_alias(ODD)
    decommission(lab, directory)
    home.stop()
    with pytest.raises(ApiError):
        lounge.resolve(dendrite)
    (site,) = (directory / "reports").glob("*-site")
    with Nginx(home.directory, site, home.ports[0]):
        assert lounge.resolve(dendrite, odd) == lounge.room_id
        lounge.join(dendrite, lounge.alias)
        assert lounge.has_member(dendrite)
        assert lounge.load(dendrite) == lounge.picture


def decommission(lab: Lab, directory: Path) -> None:
    (directory / "password").write_text("correct horse")
    host = {
        **lab["a"].role_variables,
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "decommission_propagation_period": "1h",
        "decommission_early_exit": True,
        "decommission_poll_interval": 1,
        "decommission_power_off_tasks": str(directory / "no_tasks.yml"),
        "decommission_power_off_timeout": 0,
        "decommission_report_dir": str(directory / "reports"),
        "decommission_archive": True,
        "decommission_archive_vault_password_file": str(directory / "password"),
        "decommission_site": True,
        "decommission_site_media": "avatars",
    }
    (directory / "no_tasks.yml").write_text("[]")
    inventory = directory / "inventory.json"
    inventory.write_text(json.dumps({"matrix_decommission": {"hosts": {"a": host}}}))
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [program, "-i", inventory, "matrixops.synapse.decommission"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
