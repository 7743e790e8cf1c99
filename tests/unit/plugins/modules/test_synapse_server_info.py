# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Callable

import pytest
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    LOGIN,
    OPERATOR,
    TOKENS,
    USERS,
    Json,
    Server,
    matrix_error,
    user,
)

Run = Callable[..., Json]


@pytest.mark.parametrize("check", [True, False])
def test_server_info(server: Server, run: Run, check: bool) -> None:
    server.whoami()
    server.get("/_synapse/admin/v1/server_version", {"server_version": "1.163.2"})
    server.get(USERS, {"users": [user("op")]}, query={"limit": "1", "guests": "false"})
    server.way_to_synapse()
    server.get(TOKENS, {"registration_tokens": []})
    refusal = matrix_error("M_FORBIDDEN", "Registration has been disabled")
    query = {"username": "matrixops.synapse"}
    server.get("/_matrix/client/v3/register/available", refusal, status=403, query=query)
    server.get(LOGIN, {"flows": [{"type": "m.login.password"}]})
    result = run("synapse_server_info", check=check)
    expected = {
        "changed": False,
        "server_name": "example.org",
        "version": "1.163.2",
        "operator": OPERATOR,
        "delegated_auth": False,
        "registration": False,
        "known_issues": [],
    }
    assert {key: result[key] for key in expected} == expected


def test_not_an_admin(server: Server, run: Run) -> None:
    server.whoami()
    server.get("/_synapse/admin/v1/server_version", {"server_version": "1.163.2"})
    refusal = matrix_error("M_FORBIDDEN", "You are not a server admin")
    server.get(USERS, refusal, status=403, query={"limit": "1", "guests": "false"})
    result = run("synapse_server_info")
    assert result["failed"]
    assert (result["status"], result["errcode"]) == (403, "M_FORBIDDEN")
    assert "You are not a server admin" in result["msg"]
