# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parts of Synapse that seem not to run, by what they have not done although there was time.

No API says whether a federation sender or the background worker runs. Their work shows it: the leaves that remote
servers have, and the statistics in the listing of rooms.
"""

from __future__ import annotations

import random
import time
from typing import Collection

from .._synapse.client import Client
from .._synapse.destinations import list_destinations
from .._synapse.rooms import list_rooms, local_members
from .._text import join_names
from .period_start import newest
from .record import Record

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each further read of the statistics, which lag behind by seconds."""
MAX_SAMPLE = 100
"""Maximum number of rooms without local members to search for one whose statistics have changed."""


def not_sent_to(client: Client, servers: Collection[str]) -> list[str]:
    """Those of the remote servers that list accounts, and that Synapse has recorded no failure for.

    If it had tried to send the leaves, and the server was down, there would be one.
    """
    if not servers:
        return []
    failing = {row.name for row in list_destinations(client) if row.failing}
    return sorted(set(servers) - failing)


def stale_rooms(client: Client, record: Record, since: int) -> list[str]:
    """Rooms that all accounts have left, and that the statistics still show with local members.

    Single rooms may have wrong statistics for years. So rooms count only if they have changed since the start of the
    drain, and none if the statistics of a room have changed that was left later.

    :param since: when the drain has started, in seconds since 1970.
    """
    emptied = {room_id for room_id, room in record.rooms.items() if room.joined and not room.broken}
    if not emptied:
        return []
    for pause in (*PAUSES, 0.0):
        listed = {room["room_id"]: room.get("joined_local_members") for room in list_rooms(client)}
        occupied, empty = (
            sorted(room_id for room_id in emptied.intersection(listed) if bool(listed[room_id]) is is_occupied)
            for is_occupied in (True, False)
        )
        if not occupied:
            return []
        time.sleep(pause)
    # Members and events are exact.
    times = {room_id: newest(client, room_id) for room_id in occupied if not local_members(client, room_id)}
    found = [room_id for room_id, time_left in times.items() if time_left >= since]
    if not found:
        return []
    stopped = min(times[room_id] for room_id in found)
    sample = random.sample(empty, min(len(empty), MAX_SAMPLE))
    return [] if any(newest(client, room_id) > stopped for room_id in sample) else found


def describe(late: Collection[str], stale: Collection[str]) -> list[str]:
    """What seems not to run, each with its sign and what to do."""
    found = []
    if late:
        found.append(
            f"leaves had not arrived at {join_names(late, most=3)} when it was asked, though no failure is recorded:"
            " they may have been on the way. With workers, check that the federation senders of Synapse run, and are"
            " connected to Redis"
        )
    if stale:
        found.append(
            f"the statistics of {len(stale):,} rooms have not changed since all accounts left them: check that the"
            " background worker of Synapse (run_background_tasks_on) runs, and is connected to Redis"
        )
    return found
