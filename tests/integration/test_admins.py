# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The last admins and the operator are deactivated right before the power-off, or the run says what is left to do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import yaml
from lab.authentication import AuthenticationService
from lab.homeserver import Homeserver
from lab.proxy import Proxy
from lab.waiting import wait_until

from .conftest import Federation, RunPlaybook, StartPlaybook, unchanged
from .test_kill import kill
from .test_mas import host_of
from .test_playbook import PLAYBOOK, powered_off

LIST = re.compile(r"Set it to (\[.*?\])")
HANG = [
    {"name": "Leave a mark", "ansible.builtin.file": {"path": "{{ inventory_dir }}/hangs", "state": "touch"}},
    {"name": "Wait", "ansible.builtin.wait_for": {"path": "{{ inventory_dir }}/never", "timeout": 600}},
]


def active(server: Homeserver) -> set[str]:
    """The admins that are active by the server's database: nobody may be left who could ask its API."""
    query = "SELECT count(*) FROM users WHERE deactivated = 0 AND name = '{}'"
    admins = (server.operator.user_id, server.user_id("second_admin"))
    return {user_id for user_id in admins if server.database.count(query.format(user_id))}


def erased(server: Homeserver, *user_ids: str) -> bool:
    query = "SELECT count(*) FROM erased_users WHERE user_id = '{}'"
    return all(server.database.count(query.format(user_id)) for user_id in user_ids)


def findings(directory: Path) -> dict[str, str]:
    (path,) = (path for path in (directory / "decommission-reports").glob("*.json") if ".finished-" not in path.name)
    return {finding["kind"]: finding["text"] for finding in json.loads(path.read_text())["findings"]}


def test_killed_twice(
    federation: Federation,
    start_playbook: StartPlaybook,
    run_playbook: RunPlaybook,
    proxy: Proxy,
    tmp_path: Path,
) -> None:
    """Before the operator's own deactivation, and right after it; then a run that can only say what is left to do."""
    retiring = federation.retiring
    operator, admin = retiring.operator.user_id, federation.population.second_admin
    variables: dict[str, Any] = {**federation.role_variables, "decommission_base_url": proxy.base_url}

    with unchanged(retiring):
        refused = run_playbook(
            PLAYBOOK, {"a": {**variables, "decommission_deactivate_admins": True}}, "--tags", "preflight"
        )
    assert refused.returncode == 2, refused.stdout
    found = LIST.search(refused.stdout.replace('\\"', '"'))
    assert found, refused.stdout
    names = json.loads(found[1])
    assert names == [admin, operator]

    reached, released = Event(), Event()

    def hold() -> None:
        reached.set()
        released.wait(600)
        raise ConnectionError

    proxy.before(f"/deactivate/{operator}$", hold)
    variables["decommission_deactivate_admins"] = names
    with start_playbook(PLAYBOOK, {"a": variables}) as process:
        wait_until(lambda: reached.is_set() or process.poll() is not None, "it is the operator's turn")
        kill(process)
    proxy.clear()
    released.set()
    assert active(retiring) == {operator} and not powered_off(federation)
    assert "If the access token of the operator still works, run again" in findings(tmp_path)["admins"]

    hanging = tmp_path / "hang.yml"
    hanging.write_text(yaml.safe_dump(HANG))
    with start_playbook(PLAYBOOK, {"a": {**variables, "decommission_power_off_tasks": str(hanging)}}) as process:
        wait_until(lambda: (tmp_path / "hangs").exists() or process.poll() is not None, "the power-off has begun")
        kill(process)
    assert active(retiring) == set() and erased(retiring, operator, admin)
    assert federation.ghosts() == {}
    assert f"power off by hand: follow {hanging}" in findings(tmp_path)["admins"]

    # The gate cannot be read any more, so nothing is powered off.
    last = run_playbook(PLAYBOOK, {"a": variables})
    assert last.returncode == 2, last.stdout
    assert "All admins are deactivated, the operator as well" in last.stdout
    assert f"If it is not, power off by hand: follow {hanging}" in last.stdout
    assert not powered_off(federation)


@pytest.mark.nightly(category="variations")
def test_with_login_service(
    migrated: Federation, service: AuthenticationService, run_playbook: RunPlaybook, tmp_path: Path
) -> None:
    """The session of the operator ends with its account, and the run nevertheless comes to its end."""
    retiring = migrated.retiring
    service.mas.add_user("phantom", admin=True)
    host = {**host_of(migrated, service), "decommission_cordon": True, "decommission_deactivate_admins": True}
    refused = run_playbook(PLAYBOOK, {"a": host}, "--tags", "preflight")
    found = LIST.search(refused.stdout.replace('\\"', '"'))
    assert found, refused.stdout
    host["decommission_deactivate_admins"] = json.loads(found[1])
    done = run_playbook(PLAYBOOK, {"a": host})
    assert done.returncode == 0, done.stdout
    assert powered_off(migrated)
    assert service.mas.active == set() and service.mas.active_sessions == []
    assert active(retiring) == set() and erased(retiring, retiring.user_id("operator"))
    assert "admins" not in findings(tmp_path)
