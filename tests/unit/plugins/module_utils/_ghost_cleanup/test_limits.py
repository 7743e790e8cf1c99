# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bounds: entries, requests in a time, bytes."""

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.limits import (
    Budget,
    LimitError,
    OverloadedError,
    Recent,
    TokenBuckets,
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_least_recently_used_entry_is_forgotten() -> None:
    recent: Recent[str, int] = Recent(2)
    recent.put("a", 1)
    recent.put("b", 2)
    assert recent.get("a") == 1
    recent.put("c", 3)
    assert (recent.get("a"), recent.get("b"), recent.get("c"), len(recent)) == (1, None, 3, 2)
    recent.pop("a")
    recent.pop("b")
    assert (recent.get("a"), len(recent)) == (None, 1)


def test_token_buckets() -> None:
    clock = Clock()
    buckets = TokenBuckets(rate=2, burst=3, size=10, clock=clock)
    for _number in range(3):
        buckets.take("a")
    with pytest.raises(LimitError) as error:
        buckets.take("a")
    assert error.value.retry_after == 0.5
    buckets.take("b")
    clock.now += 0.5
    buckets.take("a")
    with pytest.raises(LimitError):
        buckets.take("a")
    clock.now += 3600
    for _number in range(3):
        buckets.take("a")
    with pytest.raises(LimitError):
        buckets.take("a")


def test_a_clock_that_is_set_back() -> None:
    clock = Clock()
    buckets = TokenBuckets(rate=1, burst=2, size=10, clock=clock)
    buckets.take("a")
    clock.now -= 500
    buckets.take("a")
    with pytest.raises(LimitError) as error:
        buckets.take("a")
    assert error.value.retry_after == 1
    clock.now += 1
    buckets.take("a")


def test_buckets_are_bounded() -> None:
    buckets = TokenBuckets(rate=1, burst=1, size=2, clock=Clock())
    for key in "abc":
        buckets.take(key)
    buckets.take("a")
    with pytest.raises(LimitError):
        buckets.take("c")


def test_a_budget() -> None:
    budget = Budget(10)
    with budget.hold(6):
        with budget.hold(4):
            assert budget.used == 10
            with pytest.raises(OverloadedError), budget.hold(1):
                pass
        assert budget.used == 6
    with pytest.raises(KeyError), budget.hold(10):
        raise KeyError
    assert budget.used == 0
