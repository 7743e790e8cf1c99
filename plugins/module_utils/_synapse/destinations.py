# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Destinations: the remote servers that Synapse sends events to, and the rooms that it shares with each.

These records are incomplete: Synapse has none for servers that it never sent anything to, and for purged rooms.
"""

from __future__ import annotations

import sys
from typing import Iterator, NamedTuple

from .answer import Answer
from .client import ADMIN, Client
from .listing import list_all

DESTINATIONS = f"{ADMIN}/v1/federation/destinations"
ROOMS_PER_PAGE = 10_000
"""Rooms of a destination per request. Mostly all of them: a room that is purged between two pages shifts another one to
a page that has already been read."""


class Destination(NamedTuple):
    """A remote server. Times are in seconds since 1970."""

    name: str
    failing_since: int | None
    next_retry: int | None
    """When the backoff ends; C(None) without backoff. Synapse retries a server for about ten minutes before it records
    a backoff."""

    @property
    def failing(self) -> bool:
        return self.failing_since is not None or self.next_retry is not None


def list_destinations(client: Client) -> Iterator[Destination]:
    """List the remote servers that this server has ever tried to send to, each once.

    API: C(GET /_synapse/admin/v1/federation/destinations).
    """
    for row in list_all(client, DESTINATIONS, "destinations", name_key="destination"):
        yield _destination(sys.intern(row["destination"]), row)


def _destination(name: str, row: Answer) -> Destination:
    last_try, failing_since = _milliseconds(row, "retry_last_ts"), _milliseconds(row, "failure_ts")
    return Destination(
        name,
        failing_since // 1000 if failing_since else None,
        (last_try + _milliseconds(row, "retry_interval")) // 1000 if last_try else None,
    )


def _milliseconds(row: Answer, key: str) -> int:
    return 0 if row.get(key) is None else row.take(key, int)


def destination_rooms(client: Client, destination: str) -> dict[str, int]:
    """The rooms in which Synapse has sent events to a destination, or has yet to.

    Each with the number of the last of these events, in the order in which the server received events. It is recorded
    when a federation sender takes the event, whether or not the destination can be reached then.

    API: C(GET /_synapse/admin/v1/federation/destinations/<destination>/rooms).
    """
    rooms: dict[str, int] = {}
    start = 0
    while True:
        params = {"limit": ROOMS_PER_PAGE, "from": start}
        answer = client.get(f"{DESTINATIONS}/{{}}/rooms", destination, params=params)
        page = answer.objects("rooms")
        rooms.update((sys.intern(row.take("room_id", str)), row.take("stream_ordering", int)) for row in page)
        start += len(page)
        if not page or "next_token" not in answer:
            break
    if len(rooms) < answer.take("total", int):
        raise answer.error("lists fewer rooms than its total: rooms were purged during the listing. Run again")
    return rooms
