# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
import requests
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse import accounts
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError, SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.unanswered import CHECK_PAUSES, read_again
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Clock, Server, matrix_error, user

ALICE = "@alice:example.org"
NO_ANSWER = requests.exceptions.ReadTimeout()


def test_a_refusal_is_final(server: Server, client: Client, clock: Clock) -> None:
    server.deactivate(ALICE, matrix_error("M_FORBIDDEN", "no"), status=403)
    with pytest.raises(SynapseError, match="M_FORBIDDEN"):
        accounts.deactivate(client, ALICE, erase=True)
    assert clock.waits == []


def test_when_looking_is_of_no_use_it_is_sent_once_more(server: Server, client: Client, clock: Clock) -> None:
    server.deactivate(ALICE, NO_ANSWER)
    for _look in CHECK_PAUSES:
        server.user(user(ALICE))
    server.deactivate(ALICE)
    accounts.deactivate(client, ALICE, erase=True)
    assert sum(clock.waits) >= 7


def test_it_is_not_sent_a_third_time(server: Server, client: Client) -> None:
    for _attempt in range(2):
        server.deactivate(ALICE, NO_ANSWER)
        for _look in CHECK_PAUSES:
            server.user(user(ALICE))
    with pytest.raises(SynapseError, match="no answer") as caught:
        accounts.deactivate(client, ALICE, erase=True)
    assert caught.value.unanswered


def test_the_account_is_looked_at_last_thing_before_it_is_sent_again(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.deactivate(ALICE, NO_ANSWER)
    for _look in CHECK_PAUSES:
        server.user(user(ALICE))
    server.deactivate(ALICE)
    sent_before_pauses = []
    monkeypatch.setattr("time.sleep", lambda _seconds: sent_before_pauses.append(len(server.methods)))
    accounts.deactivate(client, ALICE, erase=True)
    assert server.methods[-2:] == ["GET", "POST"]
    assert sent_before_pauses
    assert max(sent_before_pauses) < len(server.methods) - 1


def test_a_server_that_answers_no_more_is_lost(server: Server, client: Client) -> None:
    server.deactivate(ALICE, NO_ANSWER)
    for _try in range(11):
        server.get("/_synapse/admin/v2/users/%40alice%3Aexample.org", {}, status=502)
    with pytest.raises(SynapseError) as caught:
        accounts.deactivate(client, ALICE, erase=True)
    assert isinstance(caught.value, FatalError)


@pytest.mark.parametrize(("late", "found"), [(0, 0), (2, 2), (len(CHECK_PAUSES), 4), (9, 4)])
def test_reads_until_they_agree(clock: Clock, late: int, found: int) -> None:
    reads = iter(range(10))
    assert read_again(lambda: next(reads), lambda number: number == late) == found
    assert clock.waits == list(CHECK_PAUSES[:found])
