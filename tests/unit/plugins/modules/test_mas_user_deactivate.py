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
NAME = "mas_user_deactivate"


@pytest.fixture(autouse=True)
def alice(homeserver: Homeserver, mas: MasStub) -> None:
    homeserver.register("alice")
    mas.add_user("alice")


@pytest.mark.parametrize("login", [{}, {"access_token": None, "login_user": "@op:example.org"}])
def test_check_mode_run_and_second_run(
    homeserver: Homeserver, mas: MasStub, run: Run, mas_options: Json, login: Json
) -> None:
    options = {**mas_options, **login, "user_ids": ["@alice:example.org"]}
    diff = {"before": "@alice:example.org active\n", "after": "@alice:example.org erased\n"}
    planned = run(NAME, options, check=True)
    assert planned["changed"] and planned["deactivated"] == 1 and planned["diff"] == diff
    assert "alice" in mas.active and homeserver.writes == []
    done = run(NAME, options)
    assert done["changed"] and done["diff"] == diff and done["failures"] == []
    assert "alice" not in mas.active and homeserver.accounts["@alice:example.org"]["erased"]
    again = run(NAME, options)
    assert not again["changed"] and again["unchanged"] == 1 and again["diff"] == {"before": "", "after": ""}
    # The session of the operator is ended with each task.
    assert mas.active_sessions == []


@pytest.mark.parametrize("options", [{}, {"user_ids": ["@alice:example.org"], "all_users": True}])
def test_which_accounts(run: Run, mas_options: Json, options: Json) -> None:
    assert "set either user_ids or all_users" in run(NAME, {**mas_options, **options})["msg"]


def test_what_failed(homeserver: Homeserver, mas: MasStub, run: Run, mas_options: Json) -> None:
    forbidden = (403, {"errcode": "M_FORBIDDEN", "error": "no"})
    homeserver.faults["POST deactivate @alice:example.org"] = [forbidden]
    mas.dropped_jobs = 3
    result = run(NAME, {**mas_options, "all_users": True})
    assert result["failed"] and result["failures_total"] == 1 and not result["changed"]
    assert "1 accounts could not be deactivated, or have not left their rooms, for example @alice" in result["msg"]
    assert "run again" in result["msg"]


def test_no_secret_is_in_the_result(mas: MasStub, run: Run, mas_options: Json) -> None:
    result = run(NAME, {**mas_options, "access_token": None, "login_user": "op", "all_users": True})
    assert not result.get("failed")
    assert not [token for token in mas.tokens if token in str(result)]
    assert mas_options["mas_client_secret"] not in str(result)
