# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Handover: give remote accounts the power in rooms that only local accounts can administer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Collection, Iterable, NamedTuple, Sequence

from .._synapse.answer import JsonDict
from .._synapse.client import Client
from .._synapse.errors import RefusedError, SynapseError
from .._synapse.room_state import Powers, Room, is_of
from .._text import join_names
from .eligibility import refuse
from .power_levels import (
    DEFAULT_ADMIN_LEVEL,
    Send,
    change_rooms,
    federated_rooms,
    is_orphaned,
    local_administrators,
)

NOT_FEDERATED = "local and remote accounts are not both joined to the room"


class Recipient(NamedTuple):
    """A remote account, and the rooms to hand over to it; with C(None), all rooms that it is joined to."""

    user_id: str
    room_ids: Collection[str] | None = None

    def accepts(self, room_id: str) -> bool:
        return self.room_ids is None or room_id in self.room_ids


class Grant(NamedTuple):
    """The level that was given in a room, the account that gave it, and the levels of accounts before and after."""

    by: str
    to: list[str]
    level: int
    before: JsonDict
    after: JsonDict


@dataclass
class Handover:
    """The result by room ID: what was given, or the reason why there is no recipient, or the error."""

    granted: dict[str, Grant] = field(default_factory=dict)
    not_granted: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    aborted: SynapseError | None = None


def hand_over(client: Client, recipients: Sequence[Recipient], *, dry_run: bool) -> Handover:
    """In each orphaned room, give the power to the recipients that are joined to it.

    :param dry_run: predict the result, with read requests only.
    :raises FatalError: if a recipient is not a remote account.
    """
    refuse(_invalid(recipients, client.server_name))
    handover = Handover()

    def grant(room: Room, send: Send) -> None:
        to = _joined(recipients, room)
        # The room was read again: since the first time, another account may have given the power.
        if to and is_orphaned(room):
            handover.granted[room.room_id] = _grant(client, room, to, send)

    try:
        rooms = _rooms_to_hand_over(client, recipients, handover, dry_run=dry_run)
        change_rooms(client, grant, rooms, handover.failures, dry_run=dry_run)
    except SynapseError as error:
        handover.aborted = error
    return handover


def _invalid(recipients: Iterable[Recipient], server_name: str) -> dict[str, str]:
    """The recipients that are not remote accounts, each with the reason."""
    invalid = {}
    for user_id, _room_ids in recipients:
        if not user_id.startswith("@") or ":" not in user_id:
            invalid[user_id] = "is not a user ID (@localpart:server)"
        elif is_of(server_name, user_id):
            invalid[user_id] = f"is an account of {server_name}, the server to decommission"
    return invalid


def _rooms_to_hand_over(
    client: Client, recipients: Sequence[Recipient], handover: Handover, *, dry_run: bool
) -> list[tuple[JsonDict, Room]]:
    """The orphaned rooms with a joined recipient, as listed. Records the other orphaned rooms, and requested rooms that
    are not federated."""
    selected = []
    federated = set()
    for listed, room in federated_rooms(client, handover.failures, dry_run=dry_run):
        federated.add(room.room_id)
        if not is_orphaned(room):
            continue
        if _joined(recipients, room):
            selected.append((listed, room))
        else:
            handover.not_granted[room.room_id] = _no_recipient(recipients, room.room_id)
    requested = {room_id for recipient in recipients for room_id in recipient.room_ids or ()}
    handover.not_granted.update(dict.fromkeys(requested - federated - handover.failures.keys(), NOT_FEDERATED))
    return selected


def _joined(recipients: Iterable[Recipient], room: Room) -> list[str]:
    """The recipients for a room that are joined to it."""
    return sorted({one.user_id for one in recipients if one.accepts(room.room_id) and one.user_id in room.remote})


def _no_recipient(recipients: Iterable[Recipient], room_id: str) -> str:
    absent = sorted({recipient.user_id for recipient in recipients if recipient.accepts(room_id)})
    if not absent:
        return "no recipient is set for this room"
    return f"no recipient is joined to the room: {join_names(absent)}"


def _grant(client: Client, room: Room, to: list[str], send: Send) -> Grant:
    """Raise the level of these accounts, as the first local administrator that succeeds.

    :raises RefusedError: if none does.
    """
    powers = room.powers
    errors = []
    for user_id in local_administrators(client, room):
        level = _level_to_give(powers, user_id)
        content = powers.with_users({**powers.users, **dict.fromkeys(to, level)})
        try:
            send(user_id, content)
        except RefusedError as error:
            errors.append(error.reason)
        else:
            return Grant(user_id, to, level, powers.users, content["users"])
    raise RefusedError("; ".join(errors))


def _level_to_give(powers: Powers, user_id: str) -> int:
    """The level of the account itself, which is the highest that it can give. A creator has no level."""
    if user_id in powers.creators:
        return max(DEFAULT_ADMIN_LEVEL, powers.to_do_everything)
    return int(powers.of(user_id))
