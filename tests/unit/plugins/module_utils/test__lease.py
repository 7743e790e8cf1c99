# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Callable, Dict

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils import _lease, _state
from ansible_collections.matrixops.synapse.plugins.module_utils._client import Client, SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._lease import GRACE, LENGTH, SETTLING, Lease
from ansible_collections.matrixops.synapse.tests.unit.helpers import Clock

Content = Dict[str, Any]


class Kept:
    """What is in the account data, and what somebody else makes of it meanwhile."""

    def __init__(self, clock: Clock) -> None:
        self.content: Content = {}
        self.clock = clock
        self.meanwhile: Callable[[], None] = lambda: None

    def read(self, client: Client, kind: str) -> Content:
        assert kind == _state.LEASE_TYPE
        self.meanwhile()
        return dict(self.content)

    def write(self, client: Client, kind: str, content: Content) -> None:
        assert kind == _state.LEASE_TYPE
        self.content = content

    def now(self) -> int:
        return int(self.clock.monotonic())


@pytest.fixture
def kept(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Kept:
    kept = Kept(clock)
    monkeypatch.setattr(_state, "read_data", kept.read)
    monkeypatch.setattr(_state, "write_data", kept.write)
    monkeypatch.setattr(Lease, "_now", lambda self: kept.now())
    # No test waits for a renewal.
    monkeypatch.setattr(_lease, "RENEWAL", 3600.0)
    return kept


@pytest.fixture
def client(lone_client: Client) -> Client:
    lone_client._user_id = "@op:example.org"
    return lone_client


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

    kept.meanwhile = renew
    with pytest.raises(SynapseError, match=r"Another run is at work on example\.org") as caught, Lease(client, "me"):
        pass
    assert kept.content["holder"] == "other"
    assert caught.value.fatal and caught.value.errcode == _lease.TAKEN


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
    monkeypatch.setattr(_lease, "RENEWAL", 0.01)
    with Lease(client, "me") as lease:
        kept.content = {"holder": "other", "until": kept.now() + LENGTH, "former": ["me"]}
        lease._keeper.join()
        for _time in range(2):
            with pytest.raises(SynapseError, match="Another run has taken over") as caught:
                client.get("/_matrix/client/versions")
            assert caught.value.fatal
    assert kept.content["holder"] == "other"


def test_a_renewal_that_fails_is_tried_again(client: Client, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lease, "RENEWAL", 0.0)
    failures = 3

    def fail() -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise SynapseError("gone", method="GET", url="/", status=502)

    with Lease(client, "me"):
        kept.meanwhile = fail
        while failures:
            pass
    assert client.stopped is None
    assert kept.content["holder"] == "me"


@pytest.mark.parametrize("content", [{"holder": 7, "until": 5}, {"holder": "x"}, {"until": None, "holder": "x"}, {}])
def test_what_makes_no_sense_is_no_lease(client: Client, kept: Kept, content: Content) -> None:
    kept.content = content
    with Lease(client, "me"):
        assert kept.content["holder"] == "me"
