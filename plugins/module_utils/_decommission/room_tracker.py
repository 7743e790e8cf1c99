# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which rooms of the accounts are federated, and which accounts are still joined to one."""

from __future__ import annotations

import time
from typing import Callable, Collection, Dict, Iterable, List, Mapping

from .._synapse.accounts import Account
from .._synapse.client import Client
from .._synapse.rooms import is_federated, joined_rooms

Rooms = Dict[Account, List[str]]
"""The rooms that accounts are joined to."""


class RoomTracker:
    """Reads the rooms of accounts, and remembers which are federated and who has left the last of those.

    :ivar in_federated: the accounts that are joined to a federated room.
    :ivar left_federated: the accounts that have left their last federated room since the start.
    :ivar left_federated_at: when the last of them did, by C(time.monotonic); the start if none has.
    """

    def __init__(self, client: Client, began: float) -> None:
        """
        :param began: the start, by C(time.monotonic).
        """
        self._client = client
        self._federated: dict[str, bool] = {}
        self._joined: dict[str, list[str]] = {}
        self.in_federated: set[str] = set()
        self.left_federated: set[str] = set()
        self.left_federated_at = began

    def learn(self, joined: Mapping[str, list[str]], federated: Mapping[str, bool]) -> None:
        """Take over what was read just now, so that the next C(read_all) does not read it again.

        :param joined: the rooms of accounts, by their user IDs.
        :param federated: whether a room is federated, by its ID.
        """
        self._joined = dict(joined)
        self._federated.update(federated)

    def read(self, user_id: str) -> list[str]:
        """Read the rooms that an account is joined to."""
        joined = joined_rooms(self._client, user_id)
        self._note(user_id, joined)
        return joined

    def read_all(self, accounts: Collection[Account], attempt: Callable[[str, Callable[[], None]], object]) -> Rooms:
        """Read the rooms of many accounts, and once for each room whether it is federated.

        :param attempt: is called with each account and the function that reads its rooms, and handles its errors.
        """
        known, self._joined = self._joined, {}
        rooms: Rooms = {account: known[account.user_id] for account in accounts if account.user_id in known}

        def read(account: Account) -> None:
            def act() -> None:
                rooms[account] = joined_rooms(self._client, account.user_id)

            attempt(account.user_id, act)

        unknown = [account for account in accounts if account not in rooms]
        self._client.for_each(read, unknown, step="accounts read")
        distinct = {room_id for room_ids in rooms.values() for room_id in room_ids}
        self._client.for_each(self.is_federated, sorted(distinct - self._federated.keys()), step="rooms read")
        for account, room_ids in rooms.items():
            self._note(account.user_id, room_ids)
        return rooms

    def is_federated(self, room_id: str) -> bool:
        """Whether remote servers are in a room. Read once, since Synapse forgets it when our last account leaves."""
        if room_id not in self._federated:
            self._federated[room_id] = is_federated(self._client, room_id)
        return self._federated[room_id]

    def federated_of(self, room_ids: Iterable[str]) -> list[str]:
        """Those of these rooms that are federated."""
        return list(filter(self.is_federated, room_ids))

    def _note(self, user_id: str, room_ids: list[str]) -> None:
        if self.federated_of(room_ids):
            self.in_federated.add(user_id)
        elif user_id in self.in_federated:
            self.in_federated.remove(user_id)
            self.left_federated.add(user_id)
            self.left_federated_at = time.monotonic()
