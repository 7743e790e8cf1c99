# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Callable

import pytest
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Json
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver
from ansible_collections.matrixops.synapse.tests.stubs.mas import MasStub

Run = Callable[..., Json]


def test_users(homeserver: Homeserver, mas: MasStub, run: Run, mas_options: Json) -> None:
    homeserver.register("alice", "_bridge")
    mas.add_user("alice")
    mas.add_user("phantom", locked=True)
    mas.add_user("old", legacy_guest=True)
    mas.user_of("old")[1]["deactivated_at"] = "now"
    mas.add_provider("corporate")
    mas.add_registration_token("welcome")
    result = run("mas_users_info", mas_options)
    assert not result["changed"]
    assert [(user["name"], user["status"], user["admin"], user["legacy_guest"]) for user in result["users"]] == [
        ("@alice:example.org", "active", False, False),
        ("@old:example.org", "deactivated", False, True),
        ("@op:example.org", "active", True, False),
        ("@phantom:example.org", "locked", False, False),
    ]
    assert result["counts"] == {"active": 2, "locked": 1, "deactivated": 1} and result["total"] == 4
    assert result["only_in_service"] == ["@phantom:example.org", "@old:example.org"]
    assert result["only_in_synapse"] == ["@_bridge:example.org"]
    assert result["registration"] == {"open": True, "passwords": True, "tokens": 1, "providers": ["corporate"]}
    assert result["personal_sessions"] is True
    assert homeserver.writes == []
    only = run("mas_users_info", {**mas_options, "status": "locked"})
    assert [user["name"] for user in only["users"]] == ["@phantom:example.org"] and only["total"] == 4
    assert run("mas_users_info", {**mas_options, "status": "none"})["users"] == []


def test_20_000_users_by_cursor(homeserver: Homeserver, mas: MasStub, run: Run, mas_options: Json) -> None:
    for number in range(20_000):
        mas.add_user(f"u{number}")
    result = run("mas_users_info", {**mas_options, "status": "none"})
    assert result["total"] == 20_001 and result["only_in_service_total"] == 20_000
    assert len(result["only_in_service"]) == 1000
    # 21 pages for the users themselves, and for the accounts of Synapse.
    assert mas.log.count("GET users") == 42


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "set mas_url (decommission_mas_url)"),
        ({"mas_access_token": "mat_x"}, "need mas_url"),
        ({"mas_url": "http://mas.test"}, "set either mas_client_id and mas_client_secret, or mas_access_token"),
        (
            {
                "mas_url": "http://mas.test",
                "mas_client_id": "01X",
                "mas_client_secret": "hush",
                "mas_access_token": "mat_1",
            },
            "set either mas_client_id and mas_client_secret, or mas_access_token",
        ),
        ({"login_user": "op"}, "login_user is set, but login_password is not"),
    ],
)
def test_options(homeserver: Homeserver, run: Run, options: Json, message: str) -> None:
    result = run("mas_users_info", options)
    assert result["failed"] and message in result["msg"] and "No changes made" in result["msg"]


def test_another_server(mas: MasStub, run: Run, mas_options: Json) -> None:
    mas.server_name = "other.example"
    for login in ({}, {"access_token": None, "login_user": "op"}):
        result = run("mas_users_info", {**mas_options, **login})
        assert "is for other.example, not 'example.org'. Correct mas_url" in result["msg"]
        result = run("mas_users_info", {**mas_options, **login, "server_name": None})
        assert "is for other.example, but the homeserver is example.org" in result["msg"]
    assert mas.active_sessions == []
