# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Callable

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import idle_parts
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.idle_parts import describe
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.record import Record, RecordedRoom
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import Pair
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import room_id
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import (
    BROKEN,
    GATEWAY_TIMEOUT,
    NOT_FOUND,
    After,
    Homeserver,
)

ALICE = "@alice:example.org"
BOB = "@bob:remote.test"
R1, R2, R3 = (room_id(name) for name in ("r1", "r2", "r3"))


def recorded(*room_ids: str, **broken: str) -> Record:
    return Record({room: RecordedRoom(joined={ALICE}, broken=broken.get("broken", "")) for room in room_ids})


List = Callable[..., None]


@pytest.fixture
def list_rooms(homeserver: Homeserver) -> List:
    """Have the listing of rooms show these numbers of local members, in one listing after the other."""

    def set_numbers(*listings: dict[str, int]) -> None:
        homeserver.faults["GET rooms v1"] = [
            (
                200,
                {
                    "rooms": [{"room_id": room, "joined_local_members": number} for room, number in numbers.items()],
                    "total_rooms": len(numbers),
                },
            )
            for numbers in listings
        ]

    return set_numbers


LISTINGS = len(idle_parts.PAUSES) + 1


STARTED = 1000


@pytest.fixture
def leave(homeserver: Homeserver, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set when the last event of each room was received."""
    times: dict[str, int] = {}
    monkeypatch.setattr(idle_parts, "newest", lambda _client, room: times[room])

    def set_times(**received: int) -> None:
        for name, received_at in received.items():
            times[room_id(name)] = received_at
            homeserver.members[room_id(name)] = {BOB: "join"}

    return set_times


@pytest.mark.parametrize(
    ("listings", "times", "stale"),
    [
        ([{R1: 3, R2: 1}] * LISTINGS, {"r1": 1001, "r2": 1002}, [R1, R2]),
        ([{R1: 0, R2: 0}], {}, []),
        # Behind by some seconds.
        ([{R1: 3, R2: 1}] * 2 + [{R1: 0, R2: 0}], {}, []),
        # Wrong for years.
        ([{R1: 3, R2: 0}] * LISTINGS, {"r1": 999, "r2": 1002}, []),
        # Wrong, while others change.
        ([{R1: 3, R2: 0}] * LISTINGS, {"r1": 1001, "r2": 1002}, []),
        # They have stopped in the middle of the drain.
        ([{R1: 3, R2: 0}] * LISTINGS, {"r1": 1002, "r2": 1001}, [R1]),
        # Rooms that are not listed say nothing, neither do other rooms.
        ([{R1: 3}] * LISTINGS, {"r1": 1001}, [R1]),
        ([{R3: 3}], {}, []),
        ([{}], {}, []),
    ],
)
def test_stale_rooms(
    lone_client: Client,
    list_rooms: List,
    leave: Callable[..., None],
    listings: list[dict[str, int]],
    times: dict[str, int],
    stale: list[str],
) -> None:
    leave(**times)
    list_rooms(*listings)
    assert idle_parts.stale_rooms(lone_client, recorded(R1, R2), STARTED) == stale


def test_members_count_more_than_statistics(
    homeserver: Homeserver, lone_client: Client, list_rooms: List, leave: Callable[..., None]
) -> None:
    leave(r1=1001)
    homeserver.members[R1] = {ALICE: "join"}
    list_rooms(*[{R1: 3}] * LISTINGS)
    assert idle_parts.stale_rooms(lone_client, recorded(R1), STARTED) == []


@pytest.mark.parametrize("record", [Record(), recorded(R1, broken="no forward extremities")])
def test_no_room_to_look_at(homeserver: Homeserver, lone_client: Client, record: Record) -> None:
    assert idle_parts.stale_rooms(lone_client, record, STARTED) == []
    assert homeserver.log == []


PEER_OF_B = "@bob:b.test"
LEAVE = {"type": "m.room.member", "sender": ALICE, "origin_server_ts": 1000 * STARTED}


@pytest.fixture
def synapse(homeserver: Homeserver) -> Callable[..., None]:
    """Set the newest event of a room with its number, and what was taken for b.test in one listing after the other."""

    def set_answers(event: dict[str, Any], number: int, *taken: dict[str, int]) -> None:
        homeserver.members[R1] = {ALICE: "leave", PEER_OF_B: "join"}
        homeserver.faults[f"GET messages {R1}"] = [(200, {"chunk": [event], "end": f"t5-{number - 1}_0_0"})]
        listings = [[{"room_id": room, "stream_ordering": last} for room, last in each.items()] for each in taken]
        homeserver.faults["GET rooms b.test"] = [(200, {"rooms": rows, "total": len(rows)}) for rows in listings]

    return set_answers


@pytest.mark.parametrize(
    ("taken", "is_sent"),
    [
        ([{R1: 7}], True),
        ([{R1: 8}], True),
        ([{R1: 6}] * LISTINGS, False),
        ([{R2: 9}] * LISTINGS, False),
        ([{}] * LISTINGS, False),
        # Behind by some seconds.
        ([{R1: 6}, {R1: 6}, {R1: 7}], True),
    ],
)
def test_not_sent(
    lone_client: Client, synapse: Callable[..., None], taken: list[dict[str, int]], is_sent: bool
) -> None:
    synapse(LEAVE, 7, *taken)
    pair = Pair("b.test", R1)
    assert idle_parts.not_sent(lone_client, [pair], STARTED) == (set() if is_sent else {pair})


@pytest.mark.parametrize(
    "other",
    [
        {"sender": BOB},
        {"type": "m.room.message"},
        # From before the drain: it may be older than the records.
        {"origin_server_ts": 1000 * STARTED - 1},
    ],
)
def test_other_events_are_no_sign(lone_client: Client, synapse: Callable[..., None], other: dict[str, Any]) -> None:
    synapse({**LEAVE, **other}, 7, {})
    assert idle_parts.not_sent(lone_client, [Pair("b.test", R1)], STARTED) == set()


@pytest.mark.parametrize("members", [{}, {ALICE: "leave"}, {PEER_OF_B: "leave"}, {"@carol:c.test": "join"}])
def test_a_leave_is_for_the_servers_in_the_room(
    homeserver: Homeserver, lone_client: Client, synapse: Callable[..., None], members: dict[str, str]
) -> None:
    synapse(LEAVE, 7, {})
    homeserver.members[R1] = members
    assert idle_parts.not_sent(lone_client, [Pair("b.test", R1)], STARTED) == set()


def test_a_room_that_cannot_be_read(homeserver: Homeserver, lone_client: Client, synapse: Callable[..., None]) -> None:
    synapse(LEAVE, 7, {})
    homeserver.faults[f"GET state {R1}"] = BROKEN
    assert idle_parts.not_sent(lone_client, [Pair("b.test", R1)], STARTED) == set()


def test_a_server_without_records_and_a_room_without_events(homeserver: Homeserver, lone_client: Client) -> None:
    homeserver.members[R1] = {ALICE: "leave", "@new:new.test": "join"}
    homeserver.faults[f"GET messages {R1}"] = [(200, {"chunk": [LEAVE], "end": "t5-6"})]
    homeserver.faults[f"GET messages {R2}"] = [NOT_FOUND]
    homeserver.faults["GET rooms new.test"] = NOT_FOUND
    pairs = [Pair("new.test", R1), Pair("new.test", R2)]
    assert idle_parts.not_sent(lone_client, pairs, STARTED) == {pairs[0]}


def test_only_some_of_many_pairs_are_read(homeserver: Homeserver, lone_client: Client) -> None:
    pairs = [Pair(f"{number}.test", R1) for number in range(2 * idle_parts.MAX_PAIRS)]
    assert idle_parts.not_sent(lone_client, pairs, STARTED) == set()
    assert len(homeserver.log) == 1 + idle_parts.MAX_PAIRS


def test_without_ghosts_nothing_is_read(homeserver: Homeserver, lone_client: Client) -> None:
    assert idle_parts.not_sent(lone_client, (), STARTED) == set()
    assert homeserver.log == []


def test_senders_are_woken_by_a_room_that_is_left(homeserver: Homeserver, lone_client: Client) -> None:
    idle_parts.wake_senders(lone_client)
    (members,) = homeserver.members.values()
    assert members == {homeserver.operator: "leave"}
    (created,) = [request for request in homeserver.log if str(request) == "POST createRoom v3"]
    assert created.body["creation_content"] == {"m.federate": False}


def test_the_operator_may_not_create_rooms(homeserver: Homeserver, lone_client: Client) -> None:
    homeserver.faults["POST createRoom v3"] = 403, {"errcode": "M_FORBIDDEN", "error": "You cannot create rooms"}
    idle_parts.wake_senders(lone_client)
    assert homeserver.members == {}


def test_no_second_room_if_the_answer_is_lost(homeserver: Homeserver, lone_client: Client) -> None:
    homeserver.faults["POST createRoom v3"] = After(GATEWAY_TIMEOUT)
    with pytest.raises(FatalError):
        idle_parts.wake_senders(lone_client)
    assert len(homeserver.members) == 1


def test_describe() -> None:
    assert describe([], []) == []
    sender, background = describe(["a.test", "b.test", "c.test", "d.test"], [R1, R2])
    assert "a.test, b.test, c.test and 1 more" in sender and "federation senders" in sender
    assert "statistics of 2 rooms" in background and "run_background_tasks_on" in background
