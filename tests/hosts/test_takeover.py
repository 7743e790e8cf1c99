# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a homeserver to its static site, on real machines: a is powered off, and its address goes to a web server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import ApiError, MissingError
from lab.hosts import HostLab
from lab.lounge import Lounge
from lab.parallel import process_number
from lab.waiting import wait_until

from .conftest import knowing

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.nightly(category="hosts")


@pytest.fixture
def lab(skip_or_fail: Callable[[str], None]) -> Iterator[HostLab]:
    """A is decommissioned, b stays, and c is new, with the web server beside its homeserver."""
    try:
        with HostLab(ROOT / f".cache/tests/takeover-{process_number()}", ("a", "b", "c")) as lab:
            yield lab
    except MissingError as missing:
        skip_or_fail(str(missing))


@pytest.fixture(autouse=True)
def in_controller(lab: HostLab) -> Iterator[None]:
    """On the network of these machines."""
    with lab.in_controller():
        yield


def run(lab: HostLab, directory: Path, playbook: str, group: str, host: str, **variables: Any) -> str:
    """Run a playbook on one host by an unprivileged user."""
    inventory = lab.inventory(group, user="deploy")
    hosts = inventory[group]["hosts"]
    inventory[group]["hosts"] = {host: {**hosts[host], **variables}}
    (directory / "inventory.json").write_text(json.dumps(inventory))
    addresses = {machine.server_name: machine.address for machine in lab.hosts.values()}
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [*knowing(directory, addresses), str(program), "-i", "inventory.json", playbook]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_from_a_homeserver_to_its_static_site(lab: HostLab, tmp_path: Path) -> None:
    a, b, c = (lab[name] for name in "abc")
    lounge = Lounge(a.homeserver, b.homeserver)
    (tmp_path / "password").write_text("correct horse")
    run(
        lab, tmp_path, "matrixops.synapse.decommission", "matrix_decommission", "a",
        **a.role_variables,
        decommission_propagation_period="30m",
        decommission_early_exit=True,
        decommission_poll_interval=2,
        decommission_report_dir=str(tmp_path / "reports"),
        decommission_archive=True,
        decommission_archive_vault_password_file=str(tmp_path / "password"),
        decommission_site=True,
        decommission_site_media="avatars",
    )  # fmt: skip
    assert a.exits == [0] and not a.running, "powered off"
    with pytest.raises(ApiError):
        lounge.join(c.homeserver, lounge.room_id)
    with pytest.raises(ApiError):
        lounge.resolve(b.homeserver)
    with pytest.raises(ApiError):
        lounge.load(b.homeserver)

    c.ssh(f"ip address add {a.address}/24 dev host0")
    output = run(
        lab, tmp_path, "matrixops.synapse.site", "matrix_site", "c",
        site_directory=str(tmp_path / "reports/a.lab-site"),
        site_tls_copy=True,
        site_tls_certificate=str(a.directory / "tls.crt"),
        site_tls_certificate_key=str(a.directory / "tls.key"),
        site_ca_path=str(lab.ca_file),
        site_federation_ip_allowlist=[a.address],
    )  # fmt: skip
    assert "answers are as expected" in output
    for host in (b, c):
        # It remembers for some time that there was no well-known file, and then connects to the former port.
        host.ssh("systemctl restart matrix-synapse")
        wait_until(lambda: host.homeserver.answers, "the homeserver is up")  # noqa: B023
        lounge.end_backoff(host.homeserver)
    lounge.join(c.homeserver, lounge.room_id)
    assert lounge.has_member(c.homeserver)
    assert lounge.resolve(b.homeserver) == lounge.room_id
    assert lounge.load(b.homeserver) == lounge.picture
