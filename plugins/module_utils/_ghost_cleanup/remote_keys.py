# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The public keys of remote servers, with which their requests are verified: fetched, and kept for a while.

Which servers there are is up to the clients that send requests. So everything is bounded: how many keys and failures
are kept, how many are fetched at once, in a second, and for one client.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Callable, Iterable

from .._federation.addresses import AddressFilter
from .._federation.client import KEY
from .._federation.connect import Settings
from .._federation.discovery import Discovery, Resolver, SystemResolver
from .._federation.errors import AnswerError, FederationError
from .._federation.published_keys import KeyAnswer, parse_key_answer
from .._federation.transport import Transport
from .limits import LimitError, OverloadedError, Recent, TokenBuckets

FETCH_TIMEOUT = 10.0
"""Total time in seconds of the request for keys."""
MAX_ANSWER = 64 * 1024
"""Maximum size of a key answer in bytes."""
MAX_LIFETIME = 24 * 3600.0
"""Maximum time in seconds to keep keys."""
FIRST_DELAY, MAX_DELAY = 60.0, 3600.0
"""Time in seconds until keys are fetched again after a failure, at first and at most. It doubles each time."""
MAX_FAILURES = 10
"""Maximum number of failures to count."""
MAX_SERVERS = 10_000
"""Maximum number of servers whose keys are kept, and of servers whose failures are kept."""
CONCURRENCY = 16
"""Maximum number of fetches at once."""
MAX_WAITING = 64
"""Maximum number of fetches that run or wait."""
MAX_FETCHES_OF_CLIENT = 8
"""Maximum number of fetches that run or wait because of one client."""
RATE, BURST = 30.0, 100.0
"""Maximum number of fetches in a second, and at once after a time without."""

FetchKeys = Callable[[str], KeyAnswer]


class KeysUnavailableError(Exception):
    """There is no key with which the request can be verified. The message is printable."""


def key_fetcher(settings: Settings, resolver: Resolver | None = None) -> FetchKeys:
    """Return a function that gets the key answer of a remote server, found by discovery.

    It may be called in several threads, and raises C(FederationError).

    :param resolver: by default that of the system.
    """
    transport = Transport(ca_path=settings.ca_path, proxy=settings.proxy)
    resolver = resolver or SystemResolver()
    addresses = AddressFilter(settings.ip_allowlist)
    timeout = min(settings.timeout, FETCH_TIMEOUT)

    def fetch(server: str) -> KeyAnswer:
        # Not one for all servers: it would remember each of them for ever.
        discovery = Discovery(transport, resolver, addresses)
        answer = transport.request(
            discovery.endpoint(server),
            "GET",
            f"{KEY}/server",
            headers={"Connection": "close"},
            timeout=timeout,
            max_bytes=MAX_ANSWER,
        )
        try:
            body = json.loads(answer.content) if answer.status == 200 else None
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise AnswerError(f"the keys of {server}: HTTP {answer.status}, or not a JSON object")
        return parse_key_answer(body, server)

    return fetch


@dataclass(frozen=True)
class _Keys:
    """Keys in unpadded base64 by key ID."""

    keys: dict[str, str]
    valid_until: float


@dataclass(frozen=True)
class _Pause:
    """Until when the keys of a server are not fetched again.

    :ivar has_keys: whether they were fetched, and only a key was not among them.
    """

    failures: int
    until: float
    reason: str
    has_keys: bool


class RemoteKeys:
    """Used in the thread of one event loop. The keys are fetched in other threads."""

    def __init__(self, fetch: FetchKeys, clock: Callable[[], float] = time.time) -> None:
        """
        :param clock: returns the time in seconds since 1970.
        """
        self._fetch_keys = fetch
        self._clock = clock
        self._known: Recent[str, _Keys] = Recent(MAX_SERVERS)
        self._pauses: Recent[str, _Pause] = Recent(MAX_SERVERS)
        self._running: dict[str, asyncio.Future[None]] = {}
        self._of_client: Counter[str] = Counter()
        self._rate = TokenBuckets(RATE, BURST, 1, clock)
        self._executor = ThreadPoolExecutor(CONCURRENCY, thread_name_prefix="keys")

    def close(self) -> None:
        """Start no more fetches."""
        self._executor.shutdown(wait=False)

    async def get(self, server: str, key_ids: Iterable[str], client: str | None) -> dict[str, str]:
        """Return those of the keys that the server has now, at least one: unpadded base64 by key ID.

        :param client: who has sent the request, for the bounds, if that is known.
        :raises KeysUnavailableError: if the server has none of them, or its keys cannot be fetched.
        :raises OverloadedError: if too many keys are being fetched.
        """
        wanted = tuple(key_ids)
        found = self._valid(server, wanted)
        if found:
            return found
        self._raise_if_paused(server)
        # Others may wait for it as well.
        await asyncio.shield(self._running.get(server) or self._start(server, client))
        found = self._valid(server, wanted)
        if not found:
            self._raise_if_paused(server)
            self._pause(server, f"{server} does not publish this key", has_keys=True)
            self._raise_if_paused(server)
        self._pauses.pop(server)
        return found

    def _valid(self, server: str, key_ids: Iterable[str]) -> dict[str, str]:
        keys = self._valid_keys(server)
        return {key_id: keys[key_id] for key_id in key_ids if key_id in keys}

    def _valid_keys(self, server: str) -> dict[str, str]:
        known = self._known.get(server)
        return known.keys if known is not None and self._clock() < known.valid_until else {}

    def _start(self, server: str, client: str | None) -> asyncio.Future[None]:
        if len(self._running) >= MAX_WAITING:
            raise OverloadedError
        if client is not None and self._of_client[client] >= MAX_FETCHES_OF_CLIENT:
            raise OverloadedError
        try:
            self._rate.take("all")
        except LimitError as error:
            raise OverloadedError(error.retry_after) from None
        if client is not None:
            self._of_client[client] += 1
        running = asyncio.ensure_future(self._fetch(server, client))
        self._running[server] = running
        return running

    async def _fetch(self, server: str, client: str | None) -> None:
        try:
            answer = await asyncio.get_event_loop().run_in_executor(self._executor, self._fetch_keys, server)
        except FederationError as error:
            self._pause(server, f"cannot get the keys of {server}: {error}", has_keys=False)
        else:
            valid_until = min(answer.valid_until_ts / 1000, self._clock() + MAX_LIFETIME)
            if self._clock() < valid_until:
                self._known.put(server, _Keys(answer.verify_keys, valid_until))
            else:
                self._pause(server, f"the keys of {server} have expired", has_keys=False)
        finally:
            del self._running[server]
            if client is not None:
                self._of_client[client] -= 1
                # Without those that are zero.
                self._of_client += Counter()

    def _pause(self, server: str, reason: str, *, has_keys: bool) -> None:
        before = self._pauses.get(server)
        failures = 0 if before is None else min(before.failures, MAX_FAILURES)
        until = self._clock() + min(FIRST_DELAY * 2**failures, MAX_DELAY)
        self._pauses.put(server, _Pause(failures + 1, until, reason, has_keys))

    def _raise_if_paused(self, server: str) -> None:
        pause = self._pauses.get(server)
        # Anybody can invent key IDs in the name of a server. That must not keep its keys from being renewed.
        if pause is None or self._clock() >= pause.until or (pause.has_keys and not self._valid_keys(server)):
            return
        raise KeysUnavailableError(pause.reason)
