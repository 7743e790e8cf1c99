# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading
from typing import Any, Callable, Dict

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import lease as policy
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.lease import (
    LENGTH,
    MARGIN,
    OBSERVATION,
    SETTLING,
    TAKEN,
    Lease,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse import retries
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import (
    FatalError,
    SynapseError,
    request_error,
)
from ansible_collections.matrixops.synapse.tests.stubs.helpers import PATIENCE, Clock

Content = Dict[str, Any]


class Stored:
    """The account data with the lease. Hooks change it meanwhile, as other runs do, or let time pass."""

    def __init__(self, clock: Clock) -> None:
        self.content: Content = {}
        self.clock = clock
        self.clients: list[Client] = []
        self.before_read: Callable[[], None] = lambda: None
        self.after_write: Callable[[], None] = lambda: None

    def read(self, client: Client, kind: str) -> Content:
        assert kind == policy.LEASE_TYPE
        self.clients.append(client)
        self.before_read()
        return dict(self.content)

    def write(self, client: Client, kind: str, content: Content) -> None:
        assert kind == policy.LEASE_TYPE
        self.clients.append(client)
        self.content = content
        self.after_write()

    def now(self) -> int:
        return int(self.clock.monotonic())

    def other(self, seconds: int = LENGTH, *former: str) -> Content:
        return {"holder": "other", "until": self.now() + seconds, "former": list(former)}

    def passing(self, seconds: float) -> Callable[[], None]:
        def wait() -> None:
            self.clock.now += seconds

        return wait


@pytest.fixture
def stored(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Stored:
    stored = Stored(clock)
    monkeypatch.setattr(policy, "read_data", stored.read)
    monkeypatch.setattr(policy, "write_data", stored.write)
    monkeypatch.setattr(Lease, "_now", lambda self: stored.now())
    # Tests that need renewals set it, or call _renew().
    monkeypatch.setattr(policy, "RENEWAL", 3600.0)
    return stored


@pytest.fixture
def client(lone_client: Client) -> Client:
    lone_client._user_id = "@op:example.org"
    return lone_client


# Acquiring


def test_a_new_lease_is_read_again_after_a_pause(client: Client, stored: Stored, clock: Clock) -> None:
    with Lease(client, "me"):
        assert clock.waits == [SETTLING]
        assert stored.content == {"holder": "me", "until": stored.now() - int(SETTLING) + LENGTH, "former": []}


def test_it_stays_valid_for_the_next_module(client: Client, stored: Stored, clock: Clock) -> None:
    """Also if the controller takes half a minute from one task to the next."""
    with Lease(client, "me"):
        pass
    assert stored.content["until"] > stored.now() + LENGTH - MARGIN
    clock.now += 30
    before, waits = stored.now(), list(clock.waits)
    with Lease(client, "me"):
        assert clock.waits == waits
        assert stored.content["until"] == before + LENGTH


@pytest.mark.parametrize("until", [0, 990, 1000, 1000 + int(MARGIN)])
def test_an_expired_lease_of_this_run_is_acquired_again(
    client: Client, stored: Stored, clock: Clock, until: int
) -> None:
    stored.content = {"holder": "me", "until": until, "former": []}
    with Lease(client, "me"):
        assert clock.waits == [SETTLING]


@pytest.mark.parametrize(("until", "expected"), [(LENGTH, LENGTH), (10**9, LENGTH), (0, OBSERVATION)])
def test_a_run_that_was_killed_blocks_for_a_limited_time(
    client: Client, stored: Stored, until: int, expected: float
) -> None:
    """Whatever the clock of the server was."""
    stored.content = stored.other(until, "old")
    began = stored.now()
    with Lease(client, "me"):
        assert expected + SETTLING <= stored.now() - began <= expected + SETTLING + 2
        assert stored.content["holder"] == "me"
        assert stored.content["former"] == ["old", "other"]


def test_a_released_lease_does_not_block(client: Client, stored: Stored, clock: Clock) -> None:
    stored.content = {"holder": "other", "until": 0, "former": []}
    with Lease(client, "me"):
        assert clock.waits == [SETTLING]
        assert stored.content["former"] == ["other"]


@pytest.mark.parametrize("seconds", [LENGTH, -1, -3600])
def test_a_run_that_renews_its_lease_keeps_it(client: Client, stored: Stored, seconds: int) -> None:
    """Also if the clock of the server was set meanwhile."""
    stored.content = stored.other(seconds)
    began = stored.now()

    def renew() -> None:
        if stored.now() - began > 10:
            stored.content = stored.other(seconds)

    stored.before_read = renew
    message = r"Another run has the lease and is working on example\.org.*wait for the other run.*then run again"
    with pytest.raises(FatalError, match=message) as caught, Lease(client, "me"):
        pass
    assert stored.content["holder"] == "other"
    assert caught.value.errcode == TAKEN


def test_a_former_holder_does_not_take_it_again(client: Client, stored: Stored) -> None:
    """Also after the other run has ended, which may have changed what this run has read."""
    stored.content = {"holder": "other", "until": 0, "former": ["me"]}
    with pytest.raises(SynapseError, match="Another run has taken over the lease"), Lease(client, "me"):
        pass


def test_of_two_that_take_it_at_the_same_time_one_stops(
    client: Client, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(seconds: float) -> None:
        stored.content = stored.other()

    monkeypatch.setattr("time.sleep", sleep)
    with pytest.raises(SynapseError, match="Another run has just taken the lease"), Lease(client, "me"):
        pass
    assert stored.content["holder"] == "other"


def test_a_slow_write_waits_longer_before_it_is_read_again(client: Client, stored: Stored, clock: Clock) -> None:
    stored.after_write = stored.passing(7)
    with Lease(client, "me"):
        assert clock.waits == [SETTLING + 14]


@pytest.mark.parametrize("content", [{"holder": 7, "until": 5}, {"holder": "x"}, {"until": None, "holder": "x"}, {}])
def test_an_invalid_lease_is_none(client: Client, stored: Stored, content: Content) -> None:
    stored.content = content
    with Lease(client, "me"):
        assert stored.content["holder"] == "me"


# Renewing


def until_renewals(stored: Stored, number: int) -> threading.Event:
    """Set after this many reads."""
    reached = threading.Event()
    reads = 0

    def count() -> None:
        nonlocal reads
        reads += 1
        if reads >= number:
            reached.set()

    stored.before_read = count
    return reached


def test_renewals_have_a_connection_of_their_own(
    client: Client, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "RENEWAL", 0.0)
    with Lease(client, "me"):
        stored.clients.clear()
        assert until_renewals(stored, 3).wait(PATIENCE)
    assert client not in stored.clients
    (sibling,) = set(stored.clients)
    assert sibling.connections == 1 and sibling._limiter is not client._limiter
    assert (sibling.access_token, sibling._timeout) == (client.access_token, policy.REQUEST_TIMEOUT)


def test_a_lost_lease_stops_the_client(client: Client, stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "RENEWAL", 0.01)
    with Lease(client, "me") as lease:
        stored.content = stored.other(LENGTH, "me")
        lease._renewer.join(PATIENCE)
        for _time in range(2):
            with pytest.raises(FatalError, match="Another run has taken over the lease") as caught:
                client.get("/_matrix/client/versions")
            assert caught.value.errcode == TAKEN
    assert stored.content["holder"] == "other"


def test_an_invalid_token_stops_the_client(client: Client, stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "RENEWAL", 0.01)

    def refuse() -> None:
        raise request_error("Invalid access token", method="GET", url="/", status=401)

    with Lease(client, "me") as lease:
        stored.before_read = refuse
        lease._renewer.join(PATIENCE)
        assert client.stopped is not None and client.stopped.status == 401


def test_a_failed_renewal_is_tried_again(client: Client, stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "RENEWAL", 0.0)
    failures = 3
    renewed = threading.Event()

    def fail() -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise request_error("gone", method="GET", url="/", status=502)
        renewed.set()

    with Lease(client, "me"):
        stored.before_read = fail
        assert renewed.wait(PATIENCE)
    assert client.stopped is None
    assert stored.content["holder"] == "me"


@pytest.mark.parametrize("seconds", [0, LENGTH - 1])
def test_a_renewal_in_time_is_not_read_again(client: Client, stored: Stored, clock: Clock, seconds: int) -> None:
    with Lease(client, "me") as lease:
        clock.now = lease._valid_until - LENGTH + seconds
        clock.waits.clear()
        lease._renew()
        assert clock.waits == []


def test_a_late_renewal_is_read_again(client: Client, stored: Stored, clock: Clock) -> None:
    """Another run may have taken the lease over just before the write."""
    with Lease(client, "me") as lease:
        before = lease._valid_until
        clock.now = before - 1
        stored.after_write = stored.passing(2)
        lease._renew()
        assert clock.waits[-1] == SETTLING + 4
        assert lease._valid_until > before

        def taken() -> None:
            clock.now += LENGTH
            stored.content = stored.other(LENGTH)

        stored.after_write = taken
        valid_until = lease._valid_until
        with pytest.raises(FatalError, match="Another run has just taken the lease"):
            lease._renew()
        assert lease._valid_until == valid_until


# Writes


def test_it_counts_from_before_it_is_written(client: Client, stored: Stored, clock: Clock) -> None:
    with Lease(client, "me") as lease:
        sent = clock.now
        stored.after_write = stored.passing(20)
        lease._renew()
        assert lease._valid_until == sent + LENGTH


@pytest.mark.parametrize("age", [LENGTH - MARGIN, LENGTH, 10 * LENGTH])
def test_without_a_recent_renewal_nothing_is_written(
    client: Client, stored: Stored, clock: Clock, monkeypatch: pytest.MonkeyPatch, age: float
) -> None:
    monkeypatch.setattr(retries, "RETRY_TIMEOUT", 0.01)
    with Lease(client, "me") as lease:
        lease._failure = request_error("no answer", method="GET", url="/", status=504)
        confirmed = lease._valid_until - LENGTH
        clock.now = confirmed + age - 0.1
        if age == LENGTH - MARGIN:
            lease.require()
        clock.now = confirmed + age
        for _time in range(2):
            with pytest.raises(FatalError, match=r"Cannot renew the lease on example.org.*504.*run again") as caught:
                client.put("/_matrix/client/v3/something", json={})
            assert caught.value.errcode is None


def test_a_write_waits_for_the_renewal(client: Client, stored: Stored, clock: Clock) -> None:
    passed = threading.Event()
    with Lease(client, "me") as lease:
        clock.now += LENGTH

        def write() -> None:
            lease.require()
            passed.set()

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        assert not passed.is_set()
        lease._renew()
        writer.join(PATIENCE)
        assert passed.is_set()


def test_a_write_that_waits_fails_when_the_lease_is_lost(
    client: Client, stored: Stored, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policy, "RENEWAL", 0.01)
    monkeypatch.setattr(retries, "RETRY_TIMEOUT", PATIENCE)
    lost = threading.Event()
    stored.before_read = lambda: None
    with Lease(client, "me") as lease:

        def lose() -> None:
            lost.wait(PATIENCE)
            stored.content = stored.other(LENGTH, "me")

        stored.before_read = lose
        clock.now += LENGTH
        threading.Timer(0.05, lost.set).start()
        with pytest.raises(FatalError) as caught:
            lease.require()
        assert caught.value.errcode == TAKEN


# Releasing


def test_release(client: Client, stored: Stored) -> None:
    with Lease(client, "me"):
        pass
    Lease(client, "me").release()
    assert stored.content == {"holder": "me", "until": 0, "former": []}


@pytest.mark.parametrize("former", [[], ["me"]])
def test_the_lease_of_another_run_is_not_released(client: Client, stored: Stored, former: list[str]) -> None:
    stored.content = stored.other(LENGTH, *former)
    before = dict(stored.content)
    Lease(client, "me").release()
    assert stored.content == before


def test_an_error_of_the_release_is_raised(client: Client, stored: Stored) -> None:
    def fail() -> None:
        raise request_error("gone", method="GET", url="/", status=502)

    stored.before_read = fail
    with pytest.raises(SynapseError, match="gone"):
        Lease(client, "me").release()
