# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import lease as policy
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.lease import (
    GRACE,
    LENGTH,
    SETTLING,
    Lease,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError, SynapseError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import OPERATOR, SERVER, Json
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import BROKEN, Homeserver

READ = f"GET {policy.LEASE_TYPE} account_data"


class Kept:
    """The lease in the account data of a homeserver, and the server's clock as the client reads it."""

    def __init__(self, homeserver: Homeserver, client: Client) -> None:
        self.homeserver = homeserver
        self.client = client

    @property
    def content(self) -> Json:
        content = dict(self.homeserver.account_data[OPERATOR, policy.LEASE_TYPE])
        assert content.pop("server_name") == SERVER
        return content

    @content.setter
    def content(self, content: Json) -> None:
        self.homeserver.account_data[OPERATOR, policy.LEASE_TYPE] = {**content, "server_name": SERVER}

    def now(self) -> int:
        return int(self.client.time().timestamp())


@pytest.fixture
def client(lone_client: Client) -> Client:
    return lone_client


@pytest.fixture
def kept(homeserver: Homeserver, client: Client, monkeypatch: pytest.MonkeyPatch) -> Kept:
    # No test waits for a renewal.
    monkeypatch.setattr(policy, "RENEWAL", 3600.0)
    return Kept(homeserver, client)


def test_it_is_held_while_at_work_and_a_moment_longer(client: Client, kept: Kept) -> None:
    with Lease(client, "me"):
        assert kept.content == {"holder": "me", "until": kept.now() - int(SETTLING) + LENGTH, "former": []}
    assert kept.content == {"holder": "me", "until": kept.now() + GRACE, "former": []}


def test_the_next_module_of_the_same_run_goes_on_at_once(client: Client, kept: Kept) -> None:
    with Lease(client, "me"):
        pass
    before = kept.now()
    with Lease(client, "me"):
        assert kept.now() == before
        assert kept.content["until"] == before + LENGTH


@pytest.mark.parametrize("clock_of_the_holder", [LENGTH, 10**9])
def test_a_run_that_was_killed_does_not_block_for_long(client: Client, kept: Kept, clock_of_the_holder: int) -> None:
    """Not even if its clock was wrong."""
    kept.content = {"holder": "killed", "until": kept.now() + clock_of_the_holder, "former": ["old"]}
    began = kept.now()
    with Lease(client, "me"):
        assert LENGTH <= kept.now() - began <= LENGTH + 3
        assert kept.content["holder"] == "me"
        assert kept.content["former"] == ["old", "killed"]


def test_a_run_that_is_at_work_goes_first(client: Client, kept: Kept) -> None:
    kept.content = {"holder": "other", "until": kept.now() + LENGTH, "former": []}
    began = kept.now()

    def renew() -> None:
        if kept.now() - began > 10:
            kept.content = {"holder": "other", "until": kept.now() + LENGTH, "former": []}

    kept.homeserver.faults[READ] = renew
    with pytest.raises(SynapseError, match=r"Another run is at work on example\.org") as caught, Lease(client, "me"):
        pass
    assert kept.content["holder"] == "other"
    assert isinstance(caught.value, FatalError) and caught.value.errcode == policy.TAKEN


def test_who_was_superseded_does_not_come_back(client: Client, kept: Kept) -> None:
    """Not even if the other run has ended: it may have marked as done what this one is in the middle of."""
    kept.content = {"holder": "other", "until": 0, "former": ["me"]}
    with pytest.raises(SynapseError, match="Another run has taken over"), Lease(client, "me"):
        pass


def test_of_two_that_begin_at_the_same_time_one_stops(
    client: Client, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(seconds: float) -> None:
        kept.content = {"holder": "other", "until": kept.now() + LENGTH, "former": []}

    monkeypatch.setattr("time.sleep", sleep)
    with pytest.raises(SynapseError, match="Another run has just begun"), Lease(client, "me"):
        pass
    assert kept.content["holder"] == "other"


def test_who_loses_it_stops(client: Client, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "RENEWAL", 0.01)
    with Lease(client, "me") as lease:
        kept.content = {"holder": "other", "until": kept.now() + LENGTH, "former": ["me"]}
        lease._keeper.join()
        for _time in range(2):
            with pytest.raises(SynapseError, match="Another run has taken over") as caught:
                client.get("/_matrix/client/versions")
            assert isinstance(caught.value, FatalError)
    assert kept.content["holder"] == "other"


def test_a_renewal_that_fails_is_tried_again(client: Client, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "RENEWAL", 0.0)
    with Lease(client, "me"):
        failures: list[Any] = [BROKEN] * 3
        kept.homeserver.faults[READ] = failures
        while failures:
            pass
    assert client.stopped is None
    assert kept.content["holder"] == "me"


@pytest.mark.parametrize("content", [{"holder": 7, "until": 5}, {"holder": "x"}, {"until": None, "holder": "x"}, {}])
def test_what_makes_no_sense_is_no_lease(client: Client, kept: Kept, content: Json) -> None:
    kept.content = content
    with Lease(client, "me"):
        assert kept.content["holder"] == "me"
