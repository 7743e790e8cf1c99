# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook ghosts with a real Dendrite that was down for the whole period, while our homeserver is gone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, MissingError
from lab.parallel import process_number
from lab.web_servers import Nginx

from .conftest import ROOT
from .test_ghosts import Shared, share_rooms

pytestmark = pytest.mark.nightly(category="dendrite")


@pytest.fixture
def shared(skip_or_fail: Callable[[str], None]) -> Iterator[Shared]:
    """Servers of their own, since ours is decommissioned."""
    number = process_number()
    directory = ROOT / f".cache/tests/dendrite-late-{number}"
    try:
        with Lab(directory, ("a",), dendrites=("d",), base_port=19140 + 5 * number) as lab:
            yield share_rooms(lab, "user")
    except MissingError as missing:
        skip_or_fail(str(missing))


@pytest.mark.parametrize("source", ["ghosts_archive", "ghosts_certificate"])
def test_a_dendrite_that_comes_back_late(shared: Shared, tmp_path: Path, source: str) -> None:
    """By the archive, which has the accounts, and by the certificate, which has none."""
    synapse, dendrite = shared.lab["a"], shared.lab.dendrites["d"]
    password, reports = tmp_path / "password", tmp_path / "reports"
    password.write_text("correct horse")

    def run(playbook: str, **variables: Any) -> str:
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        inventory = tmp_path / "inventory.json"
        inventory.write_text(json.dumps({"matrix_decommission": {"hosts": {"a": {**local, **variables}}}}))
        program = Path(sys.executable).with_name("ansible-playbook")
        command = [program, "-i", inventory, f"--vault-password-file={password}", playbook, "-e", "ghosts_hosts=a"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
        return done.stdout

    dendrite.kill()
    decommission = {
        **synapse.role_variables,
        "decommission_propagation_period": "1s",
        "decommission_poll_interval": 1,
        "decommission_power_off_tasks": str(Path(__file__).parents[1] / "integration/power_off.yml"),
        "decommission_power_off_timeout": 0,
        "off_marker": str(tmp_path / "powered_off"),
        "decommission_report_dir": str(reports),
        "decommission_archive": True,
        "decommission_archive_vault_password_file": str(password),
        "decommission_site": True,
        "decommission_site_operator": "Example",
        "decommission_site_contact": "admin@example.org",
    }
    run("matrixops.synapse.decommission", **decommission)
    synapse.stop()
    for path in synapse.directory.iterdir():
        if path.name not in ("tls.crt", "tls.key"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    dendrite.start()
    assert shared.ghosts()
    (archive,), (site,), (certificate,) = (reports.glob(pattern) for pattern in ("*-archive", "*-site", "*.json"))
    ghosts = {
        "ghosts_server_name": synapse.server_name,
        "ghosts_federation_ca_path": str(shared.lab.ca_file),
        "ghosts_federation_ip_allowlist": ["127.0.0.0/8", "::1"],
        "ghosts_archive": str(archive),
    }
    if source == "ghosts_certificate":
        key = "{{ lookup('ansible.builtin.file', '" + str(archive / "signing.key.vault") + "') }}"
        del ghosts["ghosts_archive"]
        ghosts |= {"ghosts_certificate": str(certificate), "ghosts_signing_key": key}
    with Nginx(synapse.directory, site, synapse.ports[0]):
        output = run("matrixops.synapse.ghosts", **ghosts)
        again = run("matrixops.synapse.ghosts", **ghosts)
    left = {user_id.partition(":")[0] for _room_id, user_id in shared.ghosts()}
    # The certificate has no accounts, and an invite is found by its account only.
    assert left == ({"@userinvited"} if source == "ghosts_certificate" else set()), output
    assert "changed=0 " in again
