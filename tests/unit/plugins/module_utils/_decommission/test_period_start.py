# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.period_start import period_start
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.record import Record, RecordedRoom
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.tests.stubs.helpers import BASE_URL, NOW, SERVER, TOKEN, room_id
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import BROKEN, Homeserver

ALICE = f"@alice:{SERVER}"
LEFT = NOW - 3600
R = room_id("r")


@pytest.fixture
def client(homeserver: Homeserver) -> Iterator[Client]:
    homeserver.register("alice")
    with Client(BASE_URL, TOKEN) as client:
        yield client


def room(homeserver: Homeserver, name: str, *, seconds_after: float, remote: bool = True) -> str:
    """Add a room that all have left, with its newest event at a time after the recorded start."""
    homeserver.join(ALICE, name)
    if remote:
        homeserver.federate(name)
    homeserver.leave_all()
    homeserver.received[room_id(name)] = int((LEFT + seconds_after) * 1000)
    return room_id(name)


@pytest.mark.parametrize("is_recorded", [True, False])
@pytest.mark.parametrize(
    ("seconds_after", "start"),
    [(-1, LEFT), (0.9, LEFT), (1, LEFT + 1), (3600, NOW), (3601, LEFT), (10**12, LEFT)],
)
def test_start(homeserver: Homeserver, client: Client, seconds_after: float, start: int, is_recorded: bool) -> None:
    """An event of the future was received while the clock was wrong. Both times have the same second at 0.9."""
    found = room(homeserver, "r", seconds_after=seconds_after)
    record = Record({found: RecordedRoom()} if is_recorded else {})
    assert period_start(client, LEFT, record) == start


def test_the_newest_event_of_all_rooms(homeserver: Homeserver, client: Client) -> None:
    for number in (3, 9, 5):
        room(homeserver, f"r{number}", seconds_after=number)
    assert period_start(client, LEFT, Record()) == LEFT + 9


def test_rooms_without_remote_servers_do_not_count(homeserver: Homeserver, client: Client) -> None:
    room(homeserver, "r", seconds_after=9, remote=False)
    assert period_start(client, LEFT, Record()) == LEFT
    # Its remote servers were recorded, and have left as well since.
    assert period_start(client, LEFT, Record({R: RecordedRoom()})) == LEFT + 9


def test_events_of_rooms_that_accounts_could_not_leave_do_not_count(homeserver: Homeserver, client: Client) -> None:
    room(homeserver, "r", seconds_after=9)
    record = Record({R: RecordedRoom(broken="no extremities")})
    assert period_start(client, LEFT, record) == LEFT
    assert period_start(client, LEFT, record, {}) == LEFT + 9
    assert period_start(client, LEFT, Record(), {R: "no extremities"}) == LEFT


def test_rooms_that_cannot_be_read(homeserver: Homeserver, client: Client) -> None:
    """Without its newest event, a room says nothing. With it, but without its state, remote servers may be in it."""
    room(homeserver, "r", seconds_after=9)
    homeserver.faults[f"GET state {R}"] = BROKEN
    assert period_start(client, LEFT, Record()) == LEFT + 9
    homeserver.faults[f"GET forward_extremities {R}"] = BROKEN
    assert period_start(client, LEFT, Record()) == LEFT
    homeserver.faults.clear()
    homeserver.broken.add(R)
    assert period_start(client, LEFT, Record()) == LEFT
