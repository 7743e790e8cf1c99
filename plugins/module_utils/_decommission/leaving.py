# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Accounts that stay active leave all rooms, reject invites and retract knocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterator, Sequence

from .._synapse.accounts import existing_accounts
from .._synapse.client import Client
from .._synapse.errors import FatalError, RefusedError, SynapseError
from .._synapse.rooms import (
    Memberships,
    joined_rooms,
    leave,
    local_members,
    memberships,
    shut_down,
    unlimited_messages,
    visible_memberships,
)
from .._synapse.sessions import Session, can_act_as_others
from .._synapse.unanswered import read_again


@dataclass
class Departure:
    """What came of one account: room IDs by what was done.

    :ivar left: the rooms that it was joined to, and left.
    :ivar rejected: the rooms whose invites it rejected.
    :ivar retracted: the rooms whose knocks it retracted.
    :ivar failed: the rooms that it is still in, with the reason of each.
    :ivar not_listed: why its invites and knocks could not be listed. It has left the rooms that it was joined to.
    :ivar error: why nothing could be done with the account.
    """

    user_id: str
    left: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    retracted: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    not_listed: str | None = None
    error: str | None = None

    @property
    def changed(self) -> bool:
        return bool(self.left or self.rejected or self.retracted)

    @property
    def complete(self) -> bool:
        return not self.failed and self.error is None and self.not_listed is None


def plan_departure(client: Client, user_id: str) -> Departure:
    """What C(leave_all_rooms) would do with one account, as far as reads without a session of the account show."""
    found = visible_memberships(client, user_id)
    if (found.invited or found.knocked) and user_id != client.user_id and not can_act_as_others(client):
        return Departure(user_id, left=found.joined)
    return Departure(user_id, left=found.joined, rejected=found.invited, retracted=found.knocked)


def leave_all_rooms(client: Client, user_ids: Sequence[str]) -> Iterator[Departure]:
    """Make local accounts leave every room, reject every invite and retract every knock, one after the other.

    Where login is delegated, the operator cannot act as other accounts: rooms that no other active account of ours is
    in are shut down, and invites and knocks stay.

    :raises FatalError: after the account in which it occurred.
    """
    for user_id in user_ids:
        departure = Departure(user_id)
        fatal: FatalError | None = None
        try:
            _leave_as(client, user_id, departure)
        except SynapseError as error:
            departure.error = error.reason
            fatal = error if isinstance(error, FatalError) else None
            if error.errcode == "M_UNRECOGNIZED":
                _leave_without_session(client, set(user_ids), departure)
        yield departure
        if fatal is not None:
            raise fatal


def _leave_as(client: Client, user_id: str, departure: Departure) -> None:
    with Session(client, user_id) as session:
        found = _memberships(client, session.token, departure)
        if found:
            with unlimited_messages(client):
                _leave_all(client, found, session, departure)


def _memberships(client: Client, token: str | None, departure: Departure) -> Memberships:
    try:
        return memberships(client, departure.user_id, token)
    except RefusedError as error:
        if (error.status or 0) < 500:
            raise
        # One event that Synapse can't read makes /sync fail.
        departure.not_listed = error.reason
        return Memberships(joined_rooms(client, departure.user_id))


def _leave_all(client: Client, found: Memberships, session: Session, departure: Departure) -> None:
    def try_to_leave(room_id: str) -> str | None:
        token = session.token
        try:
            leave(client, room_id, token)
        except RefusedError as error:
            return error.reason
        return None

    for room_ids, done in (
        (found.joined, departure.left),
        (found.invited, departure.rejected),
        (found.knocked, departure.retracted),
    ):
        for room_id, reason in client.map(try_to_leave, room_ids):
            if reason is None:
                done.append(room_id)
            else:
                departure.failed[room_id] = reason
    still_joined = read_again(
        lambda: set(joined_rooms(client, departure.user_id)), lambda rooms: rooms.isdisjoint(departure.left)
    )
    _check(found.joined, still_joined, departure)


def _check(room_ids: Sequence[str], still_joined: set[str], departure: Departure) -> None:
    """Correct the result by a fresh read: 200 does not mean left, and a failed leave may be one from a kick."""
    for room_id in room_ids:
        if room_id in still_joined and room_id in departure.left:
            departure.left.remove(room_id)
            departure.failed[room_id] = "the server accepted the leave, but the account is still joined"
        elif room_id not in still_joined and departure.failed.pop(room_id, ""):
            departure.left.append(room_id)
    for done in (departure.left, departure.rejected, departure.retracted):
        done.sort()


def _leave_without_session(client: Client, leaving: set[str], departure: Departure) -> None:
    try:
        if can_act_as_others(client):
            return
        room_ids = joined_rooms(client, departure.user_id)
        for room_id, reasons in client.map(lambda room_id: _shut_down_unless_used(client, room_id, leaving), room_ids):
            if departure.user_id in reasons:
                departure.failed[room_id] = reasons[departure.user_id]
            else:
                departure.left.append(room_id)
        departure.left.sort()
        departure.error = None
    except RefusedError as error:
        departure.error = error.reason


def _shut_down_unless_used(client: Client, room_id: str, leaving: set[str]) -> dict[str, str]:
    """Shut a room down, unless another active account is in it. Return the accounts that are still in it, with why."""
    members = set(local_members(client, room_id)).difference(leaving)
    accounts = existing_accounts(client, sorted(members)).values()
    # A guest is in no listing of accounts, and has no session.
    others = [a for a in accounts if not a.is_deactivated and a.account_class != "guest"]
    if not others:
        return shut_down(client, room_id)
    reason = (
        "the operator cannot act as the account, since login is delegated, and the room can't be shut down, since "
        f"{len(others)} other active accounts are in it, for example {others[0].user_id}"
    )
    return dict.fromkeys(leaving, reason)
