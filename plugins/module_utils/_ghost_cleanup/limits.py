# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bounds for what remote servers cause: entries that are kept, requests in a time, bytes in memory."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from typing import Callable, Generic, Hashable, Iterator, NamedTuple, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class OverloadedError(Exception):
    """The service has no room for one more request.

    :ivar retry_after: seconds after which there may be room.
    """

    def __init__(self, retry_after: float = 5.0) -> None:
        super().__init__("this server is busy: try again later")
        self.retry_after = retry_after


class LimitError(Exception):
    """Too many requests have come from one place.

    :ivar retry_after: seconds after which one more is allowed.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__("too many requests")
        self.retry_after = retry_after


class Recent(Generic[Key, Value]):
    """A dictionary that forgets the entry that was not used for the longest time when it is full."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[Key, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Value | None:
        """Return the value, or C(None). The entry counts as used."""
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: Key, value: Value) -> None:
        """Set the value."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def pop(self, key: Key) -> None:
        """Forget the entry if there is one."""
        self._entries.pop(key, None)


class _Bucket(NamedTuple):
    tokens: float
    since: float


class TokenBuckets:
    """A rate limit for each of many keys: I(burst) at once, then I(rate) in a second."""

    def __init__(self, rate: float, burst: float, size: int, clock: Callable[[], float]) -> None:
        """
        :param size: maximum number of keys to remember. A key that was forgotten begins anew.
        :param clock: returns seconds. It may be set back.
        """
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._buckets: Recent[Hashable, _Bucket] = Recent(size)

    def take(self, key: Hashable) -> None:
        """Take one token.

        :raises LimitError: if there is none.
        """
        now = self._clock()
        bucket = self._buckets.get(key) or _Bucket(self._burst, now)
        tokens = min(bucket.tokens + max(now - bucket.since, 0) * self._rate, self._burst)
        if tokens < 1:
            raise LimitError((1 - tokens) / self._rate)
        self._buckets.put(key, _Bucket(tokens - 1, now))


class Budget:
    """An amount that many share, for example of bytes. Used by one thread."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0

    @contextmanager
    def hold(self, amount: int) -> Iterator[None]:
        """Use an amount until the end of the context.

        :raises OverloadedError: if it is not there. Nothing waits.
        """
        if self.used + amount > self.total:
            raise OverloadedError
        self.used += amount
        try:
            yield
        finally:
            self.used -= amount
