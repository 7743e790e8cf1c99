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
NAME = "synapse_admin_deactivate"
BOTH = ["@op:example.org", "@root:example.org", "@op:example.org"]


@pytest.fixture(autouse=True)
def root(homeserver: Homeserver) -> None:
    homeserver.register("root")
    homeserver.accounts["@root:example.org"]["admin"] = True


def test_check_mode_run_and_second_run(homeserver: Homeserver, run: Run) -> None:
    diff = {
        "before": "@op:example.org active\n@root:example.org active\n",
        "after": "@op:example.org erased\n@root:example.org erased\n",
    }
    planned = run(NAME, {"user_ids": BOTH}, check=True)
    assert planned["changed"] and planned["deactivated"] == 2 and planned["diff"] == diff
    assert planned["operator_deactivated"] and homeserver.writes == []
    done = run(NAME, {"user_ids": BOTH, "lease": "1"})
    assert done["changed"] and done["diff"] == diff and done["operator_deactivated"]
    assert "access token is invalid" in run(NAME, {"user_ids": BOTH})["msg"]


def test_the_session_of_the_service_ends(homeserver: Homeserver, mas: MasStub, run: Run, mas_options: Json) -> None:
    done = run(NAME, {**mas_options, "access_token": None, "login_user": "op", "user_ids": BOTH, "lease": "1"})
    assert done["operator_deactivated"] and not done.get("failed")
    assert mas.active == set() and mas.active_sessions == []
    assert not [token for token in mas.tokens if token in str(done)]


def test_what_failed(homeserver: Homeserver, run: Run) -> None:
    homeserver.faults["POST deactivate @root:example.org"] = [(403, {"errcode": "M_FORBIDDEN", "error": "no"})]
    result = run(NAME, {"user_ids": BOTH})
    assert result["failed"] and result["failures_total"] == 1 and not result["operator_deactivated"]
    assert "1 admins could not be deactivated, for example @root:example.org" in result["msg"]
    assert "The operator is still active" in result["msg"]


def test_an_unnamed_admin(homeserver: Homeserver, run: Run) -> None:
    result = run(NAME, {"user_ids": []})
    assert 'Set it to ["@root:example.org", "@op:example.org"]' in result["msg"] and homeserver.writes == []
