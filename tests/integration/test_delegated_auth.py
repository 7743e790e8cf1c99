# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real server that has handed login over to a Matrix Authentication Service, of which there is a stub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Settings
from lab.api import Json
from lab.authentication import AuthenticationService
from lab.waiting import wait_until

from .conftest import Federation, RunModule, RunPlaybook, talk, unchanged
from .test_playbook import PLAYBOOK, confirmed_by


@pytest.fixture
def service() -> Iterator[AuthenticationService]:
    with AuthenticationService(18779) as service:
        yield service


@pytest.fixture
def migrated(federation: Federation, service: AuthenticationService) -> Iterator[Federation]:
    """The federation, whose retiring server was filled before it was switched over, as most are."""
    retiring = federation.retiring
    operator = retiring.operator
    retiring.configure(Settings(extra_config=service.config))
    retiring.restart()
    retiring.operator = service.sign_in(retiring, "operator", admin=True)
    talk(federation)
    yield federation
    retiring.operator = operator


def accounts(federation: Federation) -> list[Json]:
    """All accounts that are listed there: no guests."""
    everybody = {"guests": "false", "locked": "true", "deactivated": "true", "limit": 1000}
    users: list[Json] = federation.retiring.admin("GET", "/v2/users", params=everybody)["users"]
    return users


def test_decommission(migrated: Federation, run_module: RunModule, run_playbook: RunPlaybook) -> None:
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
    assert "set decommission_delegated_auth: synapse_only" in refused.stdout

    host = {**migrated.role_variables, "decommission_delegated_auth": "synapse_only"}
    done = run_playbook(PLAYBOOK, {"a": host})
    assert done.returncode == 0, done.stdout
    assert Path(host["off_marker"]).exists()
    assert re.search(confirmed_by(migrated.staying), done.stdout), done.stdout
    for account in accounts(migrated):
        assert account["deactivated"] is not account["admin"], account
    assert retiring.members_of(retiring.server_name) == {}
    wait_until(lambda: not migrated.ghosts(), "the other server lists nobody")
