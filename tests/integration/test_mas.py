# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Synapse that has handed login over to a Matrix Authentication Service, of which there is a stub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from lab.api import Json
from lab.authentication import AuthenticationService
from lab.waiting import wait_until

from .conftest import Federation, RunModule, RunPlaybook, unchanged
from .test_playbook import PLAYBOOK, confirmed_by

ADMINS = {"operator", "admin2"}


def accounts(federation: Federation) -> list[Json]:
    """All accounts that are listed there: no guests."""
    everybody = {"guests": "false", "locked": "true", "deactivated": "true", "limit": 1000}
    users: list[Json] = federation.retiring.admin("GET", "/v2/users", params=everybody)["users"]
    return users


def admins(federation: Federation) -> set[str]:
    return {account["name"][1:].partition(":")[0] for account in accounts(federation) if account["admin"]}


def by_operator(federation: Federation, service: AuthenticationService) -> dict[str, Any]:
    """The options of a module that logs in by the service, as the operator."""
    return {"base_url": federation.retiring.base_url, "login_user": "operator", **service.options}


def host_of(federation: Federation, service: AuthenticationService) -> dict[str, Any]:
    """The variables of the host, with the operator's session by the service."""
    variables = {**federation.role_variables, **service.role_variables, "decommission_login_user": "operator"}
    variables.pop("decommission_access_token", None)
    return variables


def assert_closed(federation: Federation, service: AuthenticationService) -> None:
    """By Synapse, the service and the remote server: nobody but the admins is active, and nobody is in a room."""
    for account in accounts(federation):
        assert account["deactivated"] is not account["admin"], account
        assert account["erased"] is account["deactivated"], account
    assert service.mas.active == admins(federation)
    assert federation.retiring.members_of(federation.retiring.server_name) == {}
    wait_until(lambda: not federation.ghosts(), "the other server lists nobody")
    assert service.mas.active_sessions == []


def test_modules(migrated: Federation, service: AuthenticationService, run_module: RunModule) -> None:
    connection = by_operator(migrated, service)
    retiring = migrated.retiring
    service.mas.add_user("phantom")
    info = run_module("mas_users_info", connection)
    assert info["personal_sessions"] is True and info["registration"]["open"] is True
    assert info["only_in_service"] == [retiring.user_id("phantom")]
    assert info["only_in_synapse"] and all("_bridge_" in name for name in info["only_in_synapse"])
    assert info["counts"]["active"] == len([user for user in info["users"] if user["status"] == "active"])

    options = {**connection, "all_users": True}
    before = set(service.mas.active)
    planned = run_module("mas_user_deactivate", options, "--check")
    assert planned["changed"] and service.mas.active == before
    done = run_module("mas_user_deactivate", options)
    assert done["deactivated"] == planned["deactivated"] > 10
    for account in accounts(migrated):
        assert account["deactivated"] is account["erased"] is not account["admin"], account
    assert service.mas.active == admins(migrated)
    again = run_module("mas_user_deactivate", options)
    assert not again["changed"] and again["unchanged"] >= done["deactivated"]
    assert service.mas.active_sessions == []


def test_playbook(migrated: Federation, service: AuthenticationService, run_playbook: RunPlaybook) -> None:
    """Check mode, a run, and a second run."""
    service.mas.add_user("phantom")
    service.mas.add_registration_token("welcome")
    service.mas.add_provider("corporate")
    service.mas.begun.add("latecomer")
    host = {**host_of(migrated, service), "decommission_cordon": True}
    with unchanged(migrated.retiring):
        planned = run_playbook(PLAYBOOK, {"a": host}, "--check")
    assert planned.returncode == 0, planned.stdout
    assert f"only there: {migrated.retiring.user_id('phantom')}" in planned.stdout
    assert "registration open, upstream providers: corporate" in planned.stdout
    assert service.mas.policy_data == [] and service.mas.active_sessions == []

    done = run_playbook(PLAYBOOK, {"a": host})
    assert done.returncode == 0, done.stdout
    assert Path(host["off_marker"]).exists()
    assert re.search(confirmed_by(migrated.staying), done.stdout), done.stdout
    assert_closed(migrated, service)
    assert not service.mas.register("newcomer")
    assert not [token for token in service.mas.registration_tokens.values() if token["valid"]]

    # Somebody who had begun to register before.
    assert service.mas.register("latecomer")
    Path(host["off_marker"]).unlink()
    again = run_playbook(PLAYBOOK, {"a": host})
    assert again.returncode == 0, again.stdout
    assert "deactivated 1 accounts" in again.stdout
    assert Path(host["off_marker"]).exists()
    assert_closed(migrated, service)
