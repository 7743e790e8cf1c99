# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keys of remote servers: when they are fetched, how long they are kept, and how much one client can cause."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from contextlib import closing
from typing import Awaitable, Callable, Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import UnreachableError
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.published_keys import KeyAnswer
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup import remote_keys
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.limits import OverloadedError
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.remote_keys import (
    KeysUnavailableError,
    RemoteKeys,
)

DAY = 24 * 3600.0
A = "ed25519:a"
CLIENT = "192.0.2.1"


class Servers:
    """Remote servers, and the clock."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.lifetime = 3600.0
        self.published = {A: "key"}
        self.is_down = False
        self.fetched: Counter[str] = Counter()
        self.may_answer = threading.Event()
        self.may_answer.set()

    def clock(self) -> float:
        return self.now

    def fetch(self, server: str) -> KeyAnswer:
        self.fetched[server] += 1
        assert self.may_answer.wait(60)
        if self.is_down:
            raise UnreachableError("connection refused")
        return KeyAnswer(server, dict(self.published), {"ed25519:old": "old"}, int((self.now + self.lifetime) * 1000))


@pytest.fixture
def servers() -> Iterator[Servers]:
    found = Servers()
    yield found
    found.may_answer.set()


def run(servers: Servers, steps: Callable[[RemoteKeys], Awaitable[None]]) -> None:
    async def main() -> None:
        with closing(RemoteKeys(servers.fetch, servers.clock)) as keys:
            await steps(keys)

    asyncio.run(main())


async def refusal(keys: RemoteKeys, server: str = "far.example", key_id: str = A) -> str:
    with pytest.raises(KeysUnavailableError) as error:
        await keys.get(server, [key_id], CLIENT)
    return str(error.value)


def test_keys_are_kept_while_they_are_valid(servers: Servers) -> None:
    async def steps(keys: RemoteKeys) -> None:
        for _number in range(3):
            assert await keys.get("far.example", [A, "ed25519:other"], CLIENT) == {A: "key"}
        assert servers.fetched["far.example"] == 1
        servers.now += 3599
        await keys.get("far.example", [A], CLIENT)
        assert servers.fetched["far.example"] == 1
        servers.now += 1
        servers.published = {A: "new"}
        assert await keys.get("far.example", [A], CLIENT) == {A: "new"}

    run(servers, steps)


def test_keys_are_kept_for_a_day_at_most(servers: Servers) -> None:
    async def steps(keys: RemoteKeys) -> None:
        servers.lifetime = 10_000 * DAY
        await keys.get("far.example", [A], CLIENT)
        servers.now += DAY - 1
        await keys.get("far.example", [A], CLIENT)
        assert servers.fetched["far.example"] == 1
        servers.now += 1
        await keys.get("far.example", [A], CLIENT)
        assert servers.fetched["far.example"] == 2

    run(servers, steps)


@pytest.mark.parametrize("lifetime", [0.0, -1.0, -10_000 * DAY])
def test_keys_that_have_expired(servers: Servers, lifetime: float) -> None:
    async def steps(keys: RemoteKeys) -> None:
        servers.lifetime = lifetime
        assert await refusal(keys) == "the keys of far.example have expired"
        assert await refusal(keys) == "the keys of far.example have expired"
        assert servers.fetched["far.example"] == 1

    run(servers, steps)


def test_old_keys_are_none(servers: Servers) -> None:
    async def steps(keys: RemoteKeys) -> None:
        assert "does not publish this key" in await refusal(keys, key_id="ed25519:old")

    run(servers, steps)


def test_failures_are_kept_for_longer_and_longer(servers: Servers) -> None:
    async def steps(keys: RemoteKeys) -> None:
        servers.is_down = True
        delays = []
        for number in range(1, 10):
            assert "cannot get the keys of far.example: connection refused" in await refusal(keys)
            assert servers.fetched["far.example"] == number
            start = servers.now
            while servers.fetched["far.example"] == number:
                servers.now += 30
                await refusal(keys)
            delays.append(servers.now - start)
        assert delays[:3] == [60, 120, 240]
        assert set(delays[6:]) == {3600}
        servers.is_down = False
        servers.now += 3600
        assert await keys.get("far.example", [A], CLIENT) == {A: "key"}
        servers.now += DAY
        servers.is_down = True
        await refusal(keys)
        servers.now += 60
        count = servers.fetched["far.example"]
        await refusal(keys)
        assert servers.fetched["far.example"] == count + 1

    run(servers, steps)


def test_a_key_id_that_is_not_published(servers: Servers) -> None:
    """Anybody can invent one in the name of a server."""

    async def steps(keys: RemoteKeys) -> None:
        servers.lifetime = DAY
        await keys.get("far.example", [A], CLIENT)
        for _number in range(100):
            assert "does not publish this key" in await refusal(keys, key_id="ed25519:invented")
            assert await keys.get("far.example", [A], CLIENT) == {A: "key"}
        assert servers.fetched["far.example"] == 2
        servers.now += 60
        servers.published = {"ed25519:b": "new"}
        assert await keys.get("far.example", ["ed25519:b"], CLIENT) == {"ed25519:b": "new"}

    run(servers, steps)


def test_invented_key_ids_do_not_keep_keys_from_being_renewed(servers: Servers) -> None:
    async def steps(keys: RemoteKeys) -> None:
        servers.lifetime = 1
        await keys.get("far.example", [A], CLIENT)
        servers.now += 1
        await refusal(keys, key_id="ed25519:invented")
        servers.now += 1
        assert await keys.get("far.example", [A], CLIENT) == {A: "key"}

    run(servers, steps)


def test_one_fetch_for_many_requests(servers: Servers) -> None:
    async def steps(keys: RemoteKeys) -> None:
        servers.may_answer.clear()
        requests = [asyncio.ensure_future(keys.get("far.example", [A], f"192.0.2.{n}")) for n in range(100)]
        await asyncio.sleep(0)
        servers.may_answer.set()
        assert await asyncio.gather(*requests) == [{A: "key"}] * 100
        assert servers.fetched == {"far.example": 1}

    run(servers, steps)


def test_a_client_that_goes_away_does_not_end_the_fetch_of_others(servers: Servers) -> None:
    async def steps(keys: RemoteKeys) -> None:
        servers.may_answer.clear()
        first, second = (asyncio.ensure_future(keys.get("far.example", [A], CLIENT)) for _number in range(2))
        await asyncio.sleep(0)
        first.cancel()
        servers.may_answer.set()
        assert await second == {A: "key"}

    run(servers, steps)


def test_fetches_of_one_client(servers: Servers) -> None:
    async def steps(keys: RemoteKeys) -> None:
        servers.may_answer.clear()
        most = remote_keys.MAX_FETCHES_OF_CLIENT
        running = [asyncio.ensure_future(keys.get(f"{number}.example", [A], CLIENT)) for number in range(most)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await keys.get("more.example", [A], CLIENT)
        other = asyncio.ensure_future(keys.get("other.example", [A], "192.0.2.2"))
        servers.may_answer.set()
        await asyncio.gather(*running, other)
        assert await keys.get("more.example", [A], CLIENT) == {A: "key"}

    run(servers, steps)


def test_all_fetches_are_bounded(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_keys, "MAX_WAITING", 5)

    async def steps(keys: RemoteKeys) -> None:
        servers.may_answer.clear()
        running = [asyncio.ensure_future(keys.get(f"{number}.example", [A], None)) for number in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError):
            await keys.get("more.example", [A], None)
        servers.may_answer.set()
        await asyncio.gather(*running)
        assert await keys.get("more.example", [A], None) == {A: "key"}

    run(servers, steps)


def test_fetches_in_a_time_are_bounded(servers: Servers) -> None:
    async def steps(keys: RemoteKeys) -> None:
        most = int(remote_keys.BURST)
        for number in range(most):
            await keys.get(f"{number}.example", [A], CLIENT)
        with pytest.raises(OverloadedError):
            await keys.get("more.example", [A], CLIENT)
        assert await keys.get("1.example", [A], CLIENT) == {A: "key"}
        servers.now += 1.1 / remote_keys.RATE
        await keys.get("more.example", [A], CLIENT)

    run(servers, steps)


def test_an_unexpected_error_is_that_of_the_request(servers: Servers) -> None:
    def broken(_server: str) -> KeyAnswer:
        raise ZeroDivisionError

    servers.fetch = broken  # type: ignore[method-assign]

    async def steps(keys: RemoteKeys) -> None:
        for _number in range(2):
            with pytest.raises(ZeroDivisionError):
                await keys.get("far.example", [A], CLIENT)

    run(servers, steps)
