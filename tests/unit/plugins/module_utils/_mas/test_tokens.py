# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._mas.client import MasClient
from ansible_collections.matrixops.synapse.plugins.module_utils._mas.tokens import NAME, PersonalSessions
from ansible_collections.matrixops.synapse.plugins.module_utils._mas.users import MasUser, find_user
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import RefusedError
from ansible_collections.matrixops.synapse.tests.stubs.mas import MasStub


@pytest.fixture
def user(mas: MasStub, mas_client: MasClient) -> MasUser:
    mas.add_user("alice")
    user = find_user(mas_client, "alice")
    assert user is not None
    return user


def test_a_session_has_no_device(mas: MasStub, mas_client: MasClient, user: MasUser) -> None:
    sessions = PersonalSessions(mas_client, "77")
    token = sessions.open(user, 3600)
    known = mas.introspect(token)
    assert known["username"] == "alice" and known["scope"] == "urn:matrix:client:api:*" and "device_id" not in known
    assert mas.active_sessions == [f"{NAME} 77"]
    sessions.end(token)
    sessions.end(token)
    assert not mas.introspect(token)["active"] and mas.log.count("POST personal-sessions") == 1


def test_an_operator_has_the_scope_of_an_admin(mas: MasStub, mas_client: MasClient, user: MasUser) -> None:
    token = PersonalSessions(mas_client, None).open(user, 3600, admin=True)
    assert mas.introspect(token)["scope"] == "urn:matrix:client:api:* urn:synapse:admin:*"


def test_a_session_that_the_service_has_ended(mas: MasStub, mas_client: MasClient, user: MasUser) -> None:
    sessions = PersonalSessions(mas_client, None)
    token = sessions.open(user, 3600)
    for session in mas.personal_sessions.values():
        session["revoked_at"] = "now"
    sessions.end(token)


def test_a_deactivated_user(mas: MasStub, mas_client: MasClient, user: MasUser) -> None:
    mas.users[user.user_id]["deactivated_at"] = "now"
    with pytest.raises(RefusedError, match="410: User is not active"):
        PersonalSessions(mas_client, None).open(user, 3600)


def test_leftovers_of_killed_runs(mas: MasStub, mas_client: MasClient, user: MasUser) -> None:
    for run in ("1", "2", None):
        PersonalSessions(mas_client, run).open(user, 3600)
    mas._add_session({"actor_user_id": user.user_id, "human_name": "of somebody else", "scope": "x"})
    sessions = PersonalSessions(mas_client, "2")
    assert sessions.end_leftovers() == 2
    assert mas.active_sessions == [f"{NAME} 2", "of somebody else"]
    assert sessions.end_own() == 1 and sessions.end_own() == 0
    assert mas.active_sessions == ["of somebody else"]


def test_a_service_without_personal_sessions(mas: MasStub, mas_client: MasClient, user: MasUser) -> None:
    mas.version = "1.4.0"
    sessions = PersonalSessions(mas_client, "1")
    assert not sessions.supported
    with pytest.raises(RefusedError, match=r"update it to 1\.5") as refused:
        sessions.open(user, 3600)
    assert refused.value.errcode == "M_UNRECOGNIZED"
    assert sessions.end_leftovers() == sessions.end_own() == 0
