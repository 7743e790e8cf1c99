# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real server that has handed login over to a service which is not asked, with synapse_only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lab.api import ApiError, Json
from lab.authentication import AuthenticationService
from lab.waiting import wait_until

from .conftest import Federation, RunModule, RunPlaybook, unchanged
from .test_playbook import PLAYBOOK, confirmed_by


def accounts(federation: Federation) -> list[Json]:
    """All accounts that are listed there: no guests."""
    everybody = {"guests": "false", "locked": "true", "deactivated": "true", "limit": 1000}
    users: list[Json] = federation.retiring.admin("GET", "/v2/users", params=everybody)["users"]
    return users


def test_synapse_only(
    migrated: Federation, service: AuthenticationService, run_module: RunModule, run_playbook: RunPlaybook
) -> None:
    retiring = migrated.retiring
    info = run_module("synapse_server_info", migrated.connection)
    assert info["delegated_auth"] is True and info["registration"] is False
    assert {path["kind"]: path["open"] for path in info["registration_paths"]} == {
        "registration": False,
        "authentication_service": None,
        "application_service": None,
    }

    with unchanged(retiring):
        refused = run_playbook(PLAYBOOK, {"a": migrated.role_variables})
    assert refused.returncode == 2, refused.stdout
    assert "a Matrix Authentication Service handles login" in refused.stdout
    assert "Set decommission_mas_url" in refused.stdout

    host = {**migrated.role_variables, "decommission_delegated_auth": "synapse_only"}
    done = run_playbook(PLAYBOOK, {"a": host})
    assert done.returncode == 0, done.stdout
    assert "in which all accounts stay active" in done.stdout
    assert Path(host["off_marker"]).exists()
    assert re.search(confirmed_by(migrated.staying), done.stdout), done.stdout
    for account in accounts(migrated):
        assert account["deactivated"] is not account["admin"], account
    assert retiring.members_of(retiring.server_name) == {}
    wait_until(lambda: not migrated.ghosts(), "the other server lists nobody")

    # The service lets the owner sign in, but the account is shut out of all rooms.
    owner = service.sign_in("user0001")
    assert "user0001" in service.mas.active
    with pytest.raises(ApiError, match="M_USER_SUSPENDED"):
        retiring.create_room(owner.token)
