# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Accounts that are in no listing: the senders of application services, and the account of server notices.

The operator cannot act as them. Only the shutdown of a room makes them leave it.
"""

from __future__ import annotations

from typing import Iterator

from .._synapse.accounts import existing_accounts, list_accounts
from .._synapse.client import Client
from .._synapse.errors import FatalError, RefusedError
from .._synapse.rooms import shut_down, with_local_members
from .leaving import Departure


def unlisted_members(client: Client) -> dict[str, list[str]]:
    """The rooms whose only local members are in no listing of accounts, with these members.

    :raises FatalError: if one of these members is an account after all, which the listing has missed.
    """
    listed = {account.user_id for account in list_accounts(client)}
    rooms = {
        room["room_id"]: room["local_members"]
        for room in with_local_members(client)
        if listed.isdisjoint(room["local_members"])
    }
    _assert_no_accounts(client, {user_id for members in rooms.values() for user_id in members})
    return rooms


def _assert_no_accounts(client: Client, user_ids: set[str]) -> None:
    # One by one, since a listing has missed them. Under delegated authentication, no listing has guests.
    found = client.map(lambda user_id: existing_accounts(client, [user_id]), sorted(user_ids))
    missed = [account for _id, accounts in found for account in accounts.values() if account.account_class != "guest"]
    if missed:
        raise FatalError(
            f"the listing of accounts has missed {len(missed)} accounts, for example {missed[0].user_id}: accounts were"
            " registered during the listing. Close registration, then run again"
        )


def plan_unlisted(client: Client) -> Iterator[Departure]:
    """What C(make_unlisted_leave) would do, from reads alone."""
    departures: dict[str, Departure] = {}
    for room_id, members in unlisted_members(client).items():
        for user_id in members:
            departures.setdefault(user_id, Departure(user_id)).left.append(room_id)
    yield from departures.values()


def make_unlisted_leave(client: Client) -> Iterator[Departure]:
    """Make unlisted accounts leave the rooms that no other account of this server is in."""

    def try_to_shut_down(room: tuple[str, list[str]]) -> dict[str, str]:
        room_id, members = room
        try:
            return shut_down(client, room_id)
        except RefusedError as error:
            return dict.fromkeys(members, error.reason)

    departures: dict[str, Departure] = {}
    rooms = unlisted_members(client).items()
    for (room_id, members), remaining in client.map(try_to_shut_down, rooms, step="rooms shut down"):
        for user_id in members:
            departure = departures.setdefault(user_id, Departure(user_id))
            if user_id in remaining:
                departure.failed[room_id] = remaining[user_id]
            else:
                departure.left.append(room_id)
    for departure in departures.values():
        departure.left.sort()
        yield departure
