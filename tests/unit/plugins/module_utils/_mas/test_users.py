# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._mas.client import MasClient
from ansible_collections.matrixops.synapse.plugins.module_utils._mas.users import (
    find_user,
    finish_sessions,
    list_users,
    request_deactivation,
    set_locked,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.delegation import ServiceAccount
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.tests.stubs.mas import MasStub


def test_users(mas: MasStub, mas_client: MasClient) -> None:
    mas.add_user("alice")
    mas.add_user("guest1", legacy_guest=True)
    mas.add_user("held", locked=True)
    assert [user.account for user in list_users(mas_client)] == [
        ServiceAccount("op", admin=True),
        ServiceAccount("alice"),
        ServiceAccount("guest1", guest=True),
        ServiceAccount("held", locked=True),
    ]
    assert find_user(mas_client, "nobody") is None
    found = find_user(mas_client, "alice")
    assert found is not None and found.user_id == mas.user_of("alice")[0]


def test_another_server_has_not_said_that_a_user_does_not_exist(mas: MasStub, mas_client: MasClient) -> None:
    mas_client.get("/version")
    mas._admin = lambda *_arguments: (404, "<html></html>")  # type: ignore[method-assign]
    with pytest.raises(SynapseError, match="404"):
        find_user(mas_client, "alice")


def test_changes(mas: MasStub, mas_client: MasClient) -> None:
    user_id = mas.add_user("alice")
    set_locked(mas_client, user_id, True)
    assert mas.users[user_id]["locked_at"]
    set_locked(mas_client, user_id, False)
    assert not mas.users[user_id]["locked_at"]
    mas.job_delay = 1
    request_deactivation(mas_client, user_id, erase=False)
    request_deactivation(mas_client, user_id, erase=True)
    assert [job.erase for job in mas.jobs] == [False, True] and "alice" not in mas.active


def test_sessions_are_finished(mas: MasStub, mas_client: MasClient) -> None:
    user_id = mas.add_user("alice")
    mas.add_user("bob")
    for name in ("alice", "bob"):
        mas.sign_in(name)
        mas.issue_token("urn:matrix:client:api:*", name)
    finished = next(iter(mas.sessions["compat-sessions"].values()))
    change = mas._act

    def finish_first(*arguments: object) -> None:
        # Its owner signs out, after it was listed.
        finished["finished_at"] = "now"
        change(*arguments)  # type: ignore[arg-type]

    mas._act = finish_first  # type: ignore[assignment, method-assign]
    finish_sessions(mas_client, user_id)
    assert mas.open_sessions("alice") == [] and len(mas.open_sessions("bob")) == 3
    mas.version = "1.3.0"
    mas_client.__dict__.pop("paths")
    with pytest.raises(SynapseError, match=r"update it to 1\.4"):
        finish_sessions(mas_client, user_id)
