# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._mas.client import MasClient
from ansible_collections.matrixops.synapse.plugins.module_utils._mas.jobs import (
    JOB_TIMEOUT,
    MAX_REQUESTS,
    deactivate_user,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._mas.users import find_user
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import RefusedError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Clock
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver
from ansible_collections.matrixops.synapse.tests.stubs.mas import MasStub

ALICE = "@alice:example.org"


@pytest.fixture(autouse=True)
def alice(homeserver: Homeserver, mas: MasStub) -> str:
    homeserver.register("alice")
    return mas.add_user("alice")


def deactivate(homeserver: Homeserver, mas: MasStub, client: MasClient, *, erase: bool = True) -> list[str]:
    """Deactivate the account; return what was done in Synapse directly. Jobs run when Synapse is looked at."""
    direct: list[str] = []

    def is_done() -> bool:
        mas.run_jobs()
        account = homeserver.accounts[ALICE]
        return bool(account["deactivated"] and (account["erased"] or not erase))

    user = find_user(client, "alice")
    assert user is not None
    deactivate_user(client, user, erase=erase, is_done=is_done, deactivate_in_synapse=lambda: direct.append("alice"))
    return direct


def requests_of(mas: MasStub) -> int:
    return sum("/deactivate" in request for request in mas.log)


@pytest.mark.parametrize("erase", [True, False])
def test_a_job_that_runs_at_once(homeserver: Homeserver, mas: MasStub, mas_client: MasClient, erase: bool) -> None:
    assert deactivate(homeserver, mas, mas_client, erase=erase) == []
    assert requests_of(mas) == 1 and homeserver.accounts[ALICE]["erased"] is erase


def test_a_late_job(homeserver: Homeserver, mas: MasStub, mas_client: MasClient, clock: Clock) -> None:
    mas.job_delay = 15
    assert deactivate(homeserver, mas, mas_client) == []
    assert requests_of(mas) == 1 and 15 <= sum(clock.waits) < JOB_TIMEOUT


@pytest.mark.parametrize(("dropped", "direct"), [(1, []), (MAX_REQUESTS - 1, []), (MAX_REQUESTS, ["alice"])])
def test_dropped_jobs(
    homeserver: Homeserver, mas: MasStub, mas_client: MasClient, dropped: int, direct: list[str]
) -> None:
    mas.dropped_jobs = dropped
    assert deactivate(homeserver, mas, mas_client) == direct
    assert requests_of(mas) == min(dropped + 1, MAX_REQUESTS)


def test_a_job_that_fails_at_first(homeserver: Homeserver, mas: MasStub, mas_client: MasClient) -> None:
    mas.failing_jobs = 2
    assert deactivate(homeserver, mas, mas_client) == []
    assert requests_of(mas) == 1
    # After a third failure, the next attempt would come after 35 seconds in all.
    homeserver.accounts[ALICE].update(deactivated=False, erased=False)
    mas.failing_jobs = 3
    assert deactivate(homeserver, mas, mas_client) == []
    assert requests_of(mas) == 3


def test_a_homeserver_that_restarts_meanwhile(mas: MasStub, mas_client: MasClient) -> None:
    answers = iter([RefusedError("gone", unanswered=True), False, True])

    def is_done() -> bool:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    user = find_user(mas_client, "alice")
    assert user is not None
    deactivate_user(mas_client, user, erase=True, is_done=is_done, deactivate_in_synapse=pytest.fail)
    with pytest.raises(RefusedError, match="forbidden"):
        deactivate_user(
            mas_client, user, erase=True, is_done=forbidden, deactivate_in_synapse=lambda: pytest.fail("must not")
        )


def forbidden() -> bool:
    raise RefusedError("forbidden")
