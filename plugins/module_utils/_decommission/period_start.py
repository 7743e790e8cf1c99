# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The start of the propagation period: when the last account really left the federated rooms.

That is recorded. But between two runs, accounts may have joined again, and have left before the second run: then no
account is joined, and only the rooms show it. Synapse adds no event to a room that no local account is joined to.
"""

from __future__ import annotations

from typing import Collection

from .._synapse.client import Client
from .._synapse.errors import RefusedError
from .._synapse.rooms import list_rooms, newest_events
from .pairs import is_shared
from .record import Record


def period_start(client: Client, recorded: int, record: Record, broken_rooms: Collection[str] | None = None) -> int:
    """When the last account left the federated rooms, in seconds since 1970 by the clock of the homeserver.

    One request for each room.

    :param recorded: the time on record. The result is the same or later.
    :param broken_rooms: IDs of rooms that accounts could not leave, in which events are no sign; C(None): as recorded.
    """
    if broken_rooms is None:
        broken_rooms = {room_id for room_id, room in record.rooms.items() if room.broken}
    room_ids = [room["room_id"] for room in list_rooms(client) if room["room_id"] not in broken_rooms]
    now = int(client.time().timestamp())
    start = recorded
    for room_id, received in client.map(lambda room_id: newest(client, room_id), room_ids, step="rooms read"):
        # What is later than now was received while the clock was wrong.
        if start < received <= now and (room_id in record.rooms or is_shared(client, room_id)):
            start = received
    return start


def newest(client: Client, room_id: str) -> int:
    """When the newest event of a room was received, in seconds since 1970; 0 if Synapse does not say."""
    try:
        events = newest_events(client, room_id)
    except RefusedError:
        return 0
    return max((event.take("received_ts", int) // 1000 for event in events), default=0)
