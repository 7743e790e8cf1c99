# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from functools import partial
from typing import Any, Callable, Iterable, Sequence

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import waiting
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse import rooms
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    Clock,
    room_id,
)
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver

ALICE, BOB, CAROL = (f"@{name}:example.org" for name in ("alice", "bob", "carol"))
R1, R2 = room_id("r1"), room_id("r2")


Watch = Callable[..., "Watched"]


class Watched:
    """Accounts of a homeserver that somebody waits for."""

    def __init__(self, client: Client, user_ids: Iterable[str]) -> None:
        self.client = client
        self.user_ids = list(user_ids)
        self.parted: list[str] = []

    def wait(self, timeout: float = 60, concurrency: int = 1) -> dict[str, list[str]]:
        self.client.connections = concurrency
        return waiting.wait_until_left(
            self.client,
            self.user_ids,
            lambda user_id: rooms.joined_rooms(self.client, user_id),
            timeout=timeout,
            on_left=self.parted.append,
        )


@pytest.fixture
def watch(homeserver: Homeserver, lone_client: Client) -> Watch:
    """Accounts with the names of their rooms at each poll, of which the last is for good; and others in rooms."""

    def start(looks: dict[str, list[list[str]]], others: Sequence[int] = (0,)) -> Watched:
        for user_id, polls in looks.items():
            faults: list[Any] = [(200, {"joined_rooms": rooms}) for rooms in polls[:-1]]
            homeserver.faults[f"GET joined_rooms {user_id}"] = faults
            homeserver.join(user_id, *polls[-1])
        homeserver.faults["GET rooms v1"] = [partial(occupy, number) for number in others]
        return Watched(lone_client, looks)

    def occupy(number: int) -> None:
        homeserver.members["!others"] = {f"@other{each}:example.org": "join" for each in range(number)}

    return start


def test_nobody_to_wait_for(client: Client, clock: Clock) -> None:
    waited = waiting.wait_until_left(client, [], pytest.fail, timeout=60, on_left=pytest.fail)
    assert waited == {}
    assert clock.waits == []


def test_each_account_is_reported_once(watch: Watch) -> None:
    watched = watch({ALICE: [["r"], ["r"], []], BOB: [[]], CAROL: [["r"], []]})
    assert watched.wait(concurrency=2) == {}
    assert sorted(watched.parted) == [ALICE, BOB, CAROL]


def test_as_long_as_accounts_part_there_is_no_pause(watch: Watch, clock: Clock) -> None:
    assert watch({f"@u{number}:example.org": [[]] for number in range(100)}).wait(concurrency=4) == {}
    assert clock.waits == []


def test_giving_up_without_progress(watch: Watch, clock: Clock) -> None:
    watched = watch({ALICE: [["r1", "r2"]], BOB: [[]]})
    assert watched.wait(timeout=60) == {ALICE: [R1, R2]}
    assert watched.parted == [BOB]
    assert 60 < sum(clock.waits) <= 60 + waiting.MAX_POLL_PAUSE


def test_the_pause_grows_but_not_for_ever(watch: Watch, clock: Clock) -> None:
    watch({ALICE: [["r1"]]}).wait(timeout=60)
    assert clock.waits == sorted(clock.waits)
    assert clock.waits[0] < 1
    assert max(clock.waits) == waiting.MAX_POLL_PAUSE


def test_progress_extends_the_wait(watch: Watch, clock: Clock) -> None:
    looks = [[str(number) for number in range(rooms)] for rooms in range(30, 0, -1) for _look in range(20)]
    assert watch({ALICE: [*looks, []]}).wait(timeout=60) == {}
    assert sum(clock.waits) > 10 * 60


def test_progress_extends_the_wait_also_when_others_come(watch: Watch, clock: Clock) -> None:
    looks = [[str(number) for number in range(rooms)] for rooms in range(10, 0, -1) for _look in range(20)]
    assert watch({ALICE: [*looks, []]}, range(0, 1000, 100)).wait(timeout=60) == {}
    assert sum(clock.waits) > 5 * 60


def test_progress_of_another_extends_the_wait(watch: Watch, clock: Clock) -> None:
    others = {f"@u{number}:example.org": [["r"]] * 20 * number + [[]] for number in range(1, 10)}
    watched = watch({ALICE: [["r1"]], **others})
    assert watched.wait(timeout=60, concurrency=10) == {ALICE: [R1]}
    assert len(watched.parted) == 9
    assert sum(clock.waits) > 5 * 60


def test_progress_of_somebody_who_is_not_watched_extends_the_wait(watch: Watch, clock: Clock) -> None:
    others = [50, 40, 30, 20, 20]
    assert watch({ALICE: [["r1"]]}, others).wait(timeout=60) == {ALICE: [R1]}
    assert 4 * 60 < sum(clock.waits) < 5 * 60


def test_statistics_that_stand_still_do_not_end_the_wait(watch: Watch, clock: Clock) -> None:
    """One account in ten is read at a time, and the others leave: only a read of all of them shows that."""
    others = {f"@u{number}:example.org": [["r", "q"]] * number + [["r"]] * 3 for number in range(1, 10)}
    watched = watch({ALICE: [["r1"]], **others}, [50])
    watched.wait(timeout=5)
    assert sum(clock.waits) > 2 * 5


def test_more_rooms_than_before_are_no_progress(watch: Watch, clock: Clock) -> None:
    looks = [[str(number) for number in range(rooms)] for rooms in range(1, 300)]
    assert watch({ALICE: looks}).wait(timeout=60) != {}
    assert sum(clock.waits) < 70


def test_who_is_seen_in_a_room_has_not_parted_whatever_statistics_say(
    homeserver: Homeserver, lone_client: Client
) -> None:
    homeserver.join(ALICE, "r1")
    homeserver.unlisted_rooms = {R1}
    watched = Watched(lone_client, [ALICE])
    assert watched.wait() == {ALICE: [R1]}
    assert watched.parted == []
