# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Synapse records of the remote servers that it sends events to: which they are, and in which rooms.

A hint and no proof: nothing is recorded of servers that nothing was ever sent to, and of rooms that were purged.
"""

from __future__ import annotations

import sys
from typing import Iterator, NamedTuple

from ._client import ADMIN, Answer, Client

DESTINATIONS = f"{ADMIN}/v1/federation/destinations"
ROOMS_AT_ONCE = 10_000
"""How many rooms of a destination to ask for at once: mostly all, since a room that is purged while we turn a page
shifts another out of sight."""


class Destination(NamedTuple):
    """A remote server. Times are in seconds since 1970."""

    name: str
    failing_since: int | None
    next_retry: int | None
    """When the backoff ends; C(None) without one. For the first ten minutes or so in which a server can't be reached,
    Synapse goes on trying and records nothing."""

    @property
    def failing(self) -> bool:
        return self.failing_since is not None or self.next_retry is not None


def list_destinations(client: Client) -> Iterator[Destination]:
    """List the servers that this one has ever tried to send to, each once.

    API: C(GET /_synapse/admin/v1/federation/destinations).
    """
    seen = set()
    for row in client.pages(DESTINATIONS, "destinations"):
        name = sys.intern(row.take("destination", str))
        # One that comes up while we list moves others to the next page, where they come again.
        if name in seen:
            continue
        seen.add(name)
        yield _destination(name, row)


def _destination(name: str, row: Answer) -> Destination:
    last_try, failing_since = _milliseconds(row, "retry_last_ts"), _milliseconds(row, "failure_ts")
    return Destination(
        name,
        failing_since // 1000 if failing_since else None,
        (last_try + _milliseconds(row, "retry_interval")) // 1000 if last_try else None,
    )


def _milliseconds(row: Answer, key: str) -> int:
    return 0 if row.get(key) is None else row.take(key, int)


def destination_rooms(client: Client, destination: str) -> set[str]:
    """The rooms that Synapse has events for a destination in.

    API: C(GET /_synapse/admin/v1/federation/destinations/<destination>/rooms).
    """
    rooms: set[str] = set()
    start = 0
    while True:
        params = {"limit": ROOMS_AT_ONCE, "from": start}
        answer = client.get(f"{DESTINATIONS}/{{}}/rooms", destination, params=params)
        page = answer.objects("rooms")
        rooms.update(sys.intern(row.take("room_id", str)) for row in page)
        start += len(page)
        if not page or "next_token" not in answer:
            break
    if len(rooms) < answer.take("total", int):
        raise answer.error("lists fewer rooms than there are: some were purged meanwhile")
    return rooms
