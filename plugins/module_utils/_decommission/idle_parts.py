# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parts of Synapse that seem not to run, by what they have not done although there was time.

No API says whether a federation sender or the background worker runs. Their work shows it: the last event that was
recorded for a remote server, and the statistics in the listing of rooms.
"""

from __future__ import annotations

import random
import time
from itertools import islice
from typing import Collection, Iterable

from .._federation.checks import Pair
from .._synapse.client import CLIENT, Client
from .._synapse.destinations import destination_rooms
from .._synapse.errors import FatalError, RefusedError
from .._synapse.messages import newest_event
from .._synapse.room_state import is_of
from .._synapse.rooms import joined_rooms, leave, list_rooms, local_members
from .._synapse.unanswered import read_again
from .._text import join_names
from .pairs import read_room
from .period_start import newest
from .record import Record

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each further read of what lags behind by seconds."""
MAX_SAMPLE = 100
"""Maximum number of rooms without local members to search for one whose statistics have changed."""
MAX_PAIRS = 50
"""Maximum number of pairs for which to read what the federation sender has done."""


def not_sent(client: Client, pairs: Iterable[Pair], since: int) -> set[Pair]:
    """Those of these pairs whose last leave no federation sender has taken, although it should.

    :param pairs: of these, the first C(MAX_PAIRS) are read.
    :param since: when the drain has started, in seconds since 1970. Older leaves may be older than the records.
    """
    pairs = set(islice(pairs, MAX_PAIRS))
    leaves = {room_id: _last_leave(client, room_id, since) for room_id in {pair.room_id for pair in pairs}}

    def behind(pairs: Collection[Pair]) -> set[Pair]:
        taken = {server: _taken(client, server) for server in {pair.server for pair in pairs}}
        return {pair for pair in pairs if taken[pair.server].get(pair.room_id, 0) < leaves[pair.room_id]}

    unsent = behind(pairs)
    # A leave is not for a server that left before, or that a damaged state does not have.
    servers = {room_id: _servers(client, room_id) for room_id in {pair.room_id for pair in unsent}}
    unsent = {pair for pair in unsent if pair.server in servers[pair.room_id]}
    for pause in PAUSES:
        if not unsent:
            break
        time.sleep(pause)
        unsent = behind(unsent)
    return unsent


def _last_leave(client: Client, room_id: str, since: int) -> int:
    """The number of the newest event of a room, if it is a leave of a local account since the drain began; or 0."""
    found = newest_event(client, room_id)
    if found is None:
        return 0
    event, number = found
    is_leave = event.get("type") == "m.room.member" and is_of(client.server_name, str(event.get("sender")))
    return number if is_leave and event.take("origin_server_ts", int) >= 1000 * since else 0


def _taken(client: Client, server: str) -> dict[str, int]:
    try:
        return destination_rooms(client, server)
    except RefusedError:
        # Nothing was ever sent to it.
        return {}


def _servers(client: Client, room_id: str) -> Collection[str]:
    """The remote servers in a room at its newest event; none if the room can't be read."""
    try:
        room = read_room(client, room_id)
    except RefusedError:
        return ()
    return () if room is None else room.servers


def wake_senders(client: Client) -> None:
    """Create a room of the operator alone, and leave it: a federation sender that was started waits for an event.

    :raises FatalError: no answer.

    API: C(POST /_matrix/client/v3/createRoom), U(https://spec.matrix.org/latest/client-server-api/).
    """
    options = {"preset": "private_chat", "creation_content": {"m.federate": False}}
    try:
        room_id = client.post(f"{CLIENT}/v3/createRoom", json=options, repeat=False).take("room_id", str)
    except RefusedError as error:
        if error.unanswered:
            # It may have been created. The next run leaves it.
            raise FatalError.of(error) from None
        # The operator may not create rooms. Then only another event wakes them.
        return
    leave(client, room_id)
    read_again(lambda: joined_rooms(client, client.user_id), lambda rooms: room_id not in rooms)


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


def describe(unsent: Collection[str], stale: Collection[str]) -> list[str]:
    """What seems not to run, each with its sign and what to do.

    :param unsent: servers of pairs that C(not_sent) returned.
    :param stale: rooms that C(stale_rooms) returned.
    """
    found = []
    if unsent:
        found.append(describe_unsent(unsent))
    if stale:
        found.append(describe_stale(stale))
    return found


def describe_unsent(servers: Collection[str]) -> str:
    """The sign that no federation sender runs for these servers, and what to do."""
    return (
        f"no federation sender of Synapse has taken the last events for {join_names(servers, most=3)}: check that"
        " the federation senders run, and are connected to Redis"
    )


def describe_stale(rooms: Collection[str]) -> str:
    """The sign that the background worker does not run, and what to do."""
    return (
        f"the statistics of {len(rooms):,} rooms have not changed since all accounts left them: check that the"
        " background worker of Synapse (run_background_tasks_on) runs, and is connected to Redis"
    )
