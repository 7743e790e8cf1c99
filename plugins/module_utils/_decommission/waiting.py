# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting until Synapse has made deactivated accounts leave their rooms."""

from __future__ import annotations

import time
from collections import deque
from typing import Callable, Iterable, List

from .._synapse.client import Client
from .._synapse.rooms import count_memberships, rooms_by_account

MIN_POLL_PAUSE = 0.1
MAX_POLL_PAUSE = 2.0
"""Pause in seconds between two polls. It doubles as long as nothing progresses."""

ReadRooms = Callable[[str], List[str]]
"""Reads the rooms that an account has yet to leave."""


def wait_until_left(
    client: Client, user_ids: Iterable[str], read: ReadRooms, *, timeout: float, on_left: Callable[[str], None]
) -> dict[str, list[str]]:
    """Wait until no account has a room to leave. Return the accounts that still have, with these rooms.

    Synapse makes one account leave after the other, so most polls would find nothing new: each poll reads a few
    accounts only, and the next few at once if one of them has left.

    :param timeout: seconds after which to give up, if no account of the whole server has left a room in that time.
    :param on_left: is called with each account that has left.
    """
    waiting = _Waiting(client, user_ids, read, on_left)
    pause = MIN_POLL_PAUSE
    progressed_at = time.monotonic()
    members: int | None = None
    while waiting:
        one_left, progressed = waiting.poll()
        if progressed:
            progressed_at = time.monotonic()
            pause = MIN_POLL_PAUSE
        if time.monotonic() - progressed_at > timeout:
            # None of the accounts that were read has left a room. But Synapse may be busy with one in a thousand rooms.
            members, members_before = count_memberships(client), members
            # The statistics stand still as long as Synapse's background worker is down. The accounts are exact.
            if members_before is not None and members >= members_before and not waiting.poll_all():
                break
            progressed_at = time.monotonic()
        if waiting and not one_left:
            members = count_memberships(client) if members is None else members
            time.sleep(pause)
            pause = min(2 * pause, MAX_POLL_PAUSE)
    return rooms_by_account(client, read, waiting.user_ids)


class _Waiting:
    """The accounts that are waited for, in the order in which they are read next."""

    def __init__(
        self, client: Client, user_ids: Iterable[str], read: ReadRooms, on_left: Callable[[str], None]
    ) -> None:
        self._client = client
        self._read = read
        self._on_left = on_left
        self._rooms: dict[str, int] = {}
        self.user_ids: deque[str] = deque(user_ids)

    def __bool__(self) -> bool:
        return bool(self.user_ids)

    def poll_all(self) -> bool:
        """Read all accounts. Return whether one has left a room since it was last read."""
        return self._poll(len(self.user_ids))[1]

    def poll(self) -> tuple[bool, bool]:
        """Read the next accounts. Return whether one has left all rooms, and whether one has left any."""
        return self._poll(min(self._client.connections, len(self.user_ids)))

    def _poll(self, number: int) -> tuple[bool, bool]:
        window = [self.user_ids.popleft() for _user_id in range(number)]
        joined = rooms_by_account(self._client, self._read, window)
        one_left = progressed = False
        for user_id in window:
            if user_id not in joined:
                one_left = progressed = True
                self._on_left(user_id)
                continue
            progressed = progressed or len(joined[user_id]) < self._rooms.get(user_id, 0)
            self._rooms[user_id] = len(joined[user_id])
            self.user_ids.append(user_id)
        return one_left, progressed
