# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Demotion: give up the power of local accounts in federated rooms."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Collection, Iterable, Iterator, Mapping, NamedTuple

from .._synapse.answer import JsonDict
from .._synapse.client import Client
from .._synapse.errors import RefusedError, SynapseError
from .._synapse.room_state import POWER_LEVELS, Powers, Room, is_of
from .actors import CannotActError
from .power_levels import Send, change_rooms, elevated_accounts, federated_rooms, local_administrators


class Demoted(NamedTuple):
    """The accounts that gave up power in a room, and the levels of accounts before and after."""

    user_ids: list[str]
    before: JsonDict
    after: JsonDict


class Remaining(NamedTuple):
    """Power in a room that local accounts keep, with the reason. Without I(user_id), all accounts have this power."""

    room_id: str
    user_id: str | None
    reason: str


@dataclass
class Demotion:
    """The result: the demoted accounts by room ID, the power that remains, and the errors by room ID."""

    demoted: dict[str, Demoted] = field(default_factory=dict)
    remaining: list[Remaining] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    aborted: SynapseError | None = None


def demote(client: Client, *, dry_run: bool) -> Demotion:
    """In each federated room, remove the power of the accounts of this server, joined or not.

    :param dry_run: predict the result, with read requests only.
    """
    demotion = Demotion()
    rooms: list[tuple[JsonDict, Room]] = []
    try:
        for listed, room in federated_rooms(client, demotion.failures, dry_run=dry_run):
            if _accounts_to_demote(client, room):
                rooms.append((listed, room))
            else:
                demotion.remaining.extend(_permanent_power(client, room))
        change_rooms(
            client,
            lambda room, send: _demote_in_room(client, room, send, demotion),
            rooms,
            demotion.failures,
            dry_run=dry_run,
        )
    except SynapseError as error:
        demotion.aborted = error
    demotion.remaining.sort(key=lambda remaining: (remaining.room_id, remaining.user_id or ""))
    return demotion


def _demote_in_room(client: Client, room: Room, send: Send, demotion: Demotion) -> None:
    """Make each administrator demote itself, and all accounts below it that are not demoted yet.

    :raises RefusedError: if a request failed, after all administrators have been tried.
    """
    powers = room.powers
    users = powers.users
    waiting = _accounts_to_demote(client, room)
    refused: dict[str, RefusedError] = {}
    for user_id in local_administrators(client, room):
        demoted = _demoted_by(user_id, waiting, powers)
        if not demoted:
            continue
        content = powers.with_users(_without(users, demoted))
        try:
            send(user_id, content)
        except RefusedError as error:
            refused[user_id] = error
            continue
        users = content["users"]
        waiting = [other for other in waiting if other not in demoted]
        before = demotion.demoted.get(room.room_id, Demoted([], powers.users, users))
        demotion.demoted[room.room_id] = Demoted(sorted([*before.user_ids, *demoted]), powers.users, users)
    demotion.remaining.extend(Remaining(room.room_id, other, _reason(room, other, refused)) for other in waiting)
    demotion.remaining.extend(_permanent_power(client, room))
    errors = [error.reason for error in refused.values() if not isinstance(error, CannotActError)]
    if errors:
        raise RefusedError("; ".join(errors))


def _demoted_by(user_id: str, waiting: Iterable[str], powers: Powers) -> list[str]:
    """The accounts that an administrator can demote: by the rules of Matrix, itself and those with a lower level."""
    level = powers.of(user_id)
    return [other for other in waiting if other == user_id or powers.of(other) < level]


def _without(users: JsonDict, demoted: Collection[str]) -> JsonDict:
    return {user_id: level for user_id, level in users.items() if user_id not in demoted}


def _reason(room: Room, user_id: str, refused: Mapping[str, RefusedError]) -> str:
    """Why an account keeps its power."""
    if user_id in refused:
        return str(refused[user_id])
    own = "may not change the power levels of the room" if user_id in room.local else "is not joined to the room"
    return f"{own}, and there is no account of this server with a higher level that can be acted as"


def _accounts_to_demote(client: Client, room: Room) -> list[str]:
    """The accounts to demote; none in a room without power levels, where any member may set the first ones."""
    return elevated_accounts(client, room) if (POWER_LEVELS, "") in room.state else []


def _permanent_power(client: Client, room: Room) -> Iterator[Remaining]:
    """The power that local accounts have and cannot give up."""
    powers = room.powers
    for user_id in powers.creators:
        if is_of(client.server_name, user_id):
            yield Remaining(room.room_id, user_id, "is a creator, and creators of this room version keep their power")
    if powers.default > 0:
        yield Remaining(room.room_id, None, f"users_default gives the level {powers.default} to all accounts")
    if (POWER_LEVELS, "") not in room.state:
        yield Remaining(room.room_id, None, "the room has no power levels, so any member may set them")
