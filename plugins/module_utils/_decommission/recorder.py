# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Adds the federated rooms of accounts to the record while these are still in them."""

from __future__ import annotations

from typing import Iterable

from .._synapse.accounts import Account
from .._synapse.client import Client
from .federated_rooms import (
    FederatedRooms,
    count_memberships_in_federated_rooms,
    list_federated_rooms,
    list_pending_rooms,
)
from .ghosts import Room
from .record import read_record, write_record


class Recorder:
    """What was added to the record, or would be.

    :ivar record: the record as it is now.
    :ivar changed: whether anything was, or would be, added.
    :ivar unreadable: the rooms that Synapse can't read, with the reason of each. They are not recorded.
    :ivar unlisted: the accounts whose invites and knocks could not be listed, with the reason of each.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.record = read_record(client)
        self.changed = False
        self.unreadable: dict[str, str] = {}
        self.unlisted: dict[str, str] = {}
        self._predicted: dict[str, int] = {}

    def predict(self) -> None:
        """Count the rooms that would be recorded, by Synapse's statistics."""
        self._predicted = count_memberships_in_federated_rooms(self._client)
        self.changed = bool(self._predicted.keys() - self.record.rooms.keys())

    def record_joined(self) -> FederatedRooms:
        """Record the rooms that accounts are joined to, and return what was read for that."""
        found = list_federated_rooms(self._client)
        self.unreadable = found.unreadable
        self._add(found.rooms)
        return found

    def record_pending(self, accounts: Iterable[Account]) -> None:
        """Record the rooms that these accounts are invited to, or knocking at."""
        rooms, unlisted = list_pending_rooms(self._client, accounts)
        self.unlisted.update(unlisted)
        if rooms:
            self._add(rooms)

    def _add(self, rooms: Iterable[Room]) -> None:
        # Read again: hours may have passed.
        self.record = read_record(self._client)
        if self.record.add(rooms):
            write_record(self._client, self.record)
            self.changed = True

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of recorded rooms, servers, memberships, and invites and knocks (C(pending))."""
        rooms = self.record.rooms.values()
        return {
            "rooms": len(self.record.rooms),
            "servers": len({server for room in rooms for server in room.servers}),
            "memberships": sum(len(room.joined) for room in rooms),
            "pending": sum(len(room.pending) for room in rooms),
        }

    @property
    def message(self) -> str:
        """The numbers in one line."""
        counts = self.counts
        message = (
            f"{counts['rooms']:,} federated rooms with {counts['servers']:,} remote servers,"
            f" {counts['memberships']:,} memberships, {counts['pending']:,} invites and knocks"
        )
        if self._predicted:
            message += (
                f"; by Synapse's statistics, remote servers may be in {len(self._predicted):,} rooms with"
                f" {sum(self._predicted.values()):,} memberships"
            )
        return message
