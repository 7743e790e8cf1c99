# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Power in rooms: which accounts have it, and changing it room by room.

Handover and demotion share this. Only a joined account with enough power can change power levels, so each change is
sent as a local account, one event at a time, and from the state that the room has at that moment.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import Callable, Iterator, Sequence

from .._synapse.answer import JsonDict
from .._synapse.client import Client
from .._synapse.errors import RefusedError, SynapseError
from .._synapse.room_state import CREATE, POWER_LEVELS, Room, is_of, read_room
from .._synapse.rooms import list_rooms, may_be_shared, unlimited_messages
from .._text import join_names
from .actors import Actors

TYPES = (CREATE, POWER_LEVELS)
DEFAULT_ADMIN_LEVEL = 100
"""The level that Synapse gives to administrators by default."""

Send = Callable[[str, JsonDict], None]
"""Sends new power levels of a room: the user ID of the sender, and the content. Raises C(RefusedError)."""


def is_orphaned(room: Room) -> bool:
    """Whether a federated room has administrators, and all of them are joined accounts of this server."""
    administers = room.powers.administers
    return bool(room.remote) and any(map(administers, room.local)) and not any(map(administers, room.remote))


def elevated_accounts(client: Client, room: Room) -> list[str]:
    """The accounts of this server, joined or not, whose level is higher than the default level of the room."""
    powers = room.powers
    local = [user_id for user_id in powers.users if is_of(client.server_name, user_id)]
    return [user_id for user_id in local if powers.of(user_id) > powers.default]


def local_administrators(client: Client, room: Room) -> list[str]:
    """The joined local accounts that can change power levels, highest level first, the operator first among equals."""
    powers = room.powers
    found = filter(powers.administers, room.local)
    return sorted(found, key=lambda user_id: (-powers.of(user_id), user_id != client.user_id, user_id))


def federated_rooms(client: Client, failures: dict[str, str], *, dry_run: bool) -> Iterator[tuple[JsonDict, Room]]:
    """The rooms that both local and remote accounts are joined to, each as listed and with its state.

    :param failures: receives the rooms that could not be read, each with the reason.
    :param dry_run: rest on Synapse's statistics for which rooms these may be.
    """

    def read(listed: JsonDict) -> Room | None:
        with _recording(failures, listed):
            # The members of a room cost Synapse less than its state, which only federated rooms need.
            return read_room(client, listed, TYPES, unfederated=may_be_shared(listed))
        return None

    rooms = [room for room in list_rooms(client, occupied=True) if not dry_run or may_be_shared(room)]
    for listed, room in client.map(read, rooms, step="rooms read"):
        if room is not None and room.local and room.remote:
            yield listed, room


def change_rooms(
    client: Client,
    change: Callable[[Room, Send], None],
    rooms: Sequence[tuple[JsonDict, Room]],
    failures: dict[str, str],
    *,
    dry_run: bool,
) -> None:
    """Read each of these rooms again, since its state may have changed, and call I(change) with it.

    :param rooms: the rooms as C(federated_rooms) has them.
    :param failures: receives the rooms that could not be read or changed, each with the reason.
    :param dry_run: send nothing; only check as far as possible whether the senders can be acted as.
    :raises FatalError: if no further room can be changed.
    :raises RefusedError: if the rooms were changed, but a session could not be ended.
    """
    actors = Actors(client, dry_run=dry_run)

    def read_and_change(found: tuple[JsonDict, Room]) -> None:
        listed, room = found
        with _recording(failures, listed):
            if not dry_run:
                room = read_room(client, listed, TYPES)
            change(room, lambda user_id, content: actors.send_state(room.room_id, POWER_LEVELS, content, user_id))

    with nullcontext() if dry_run or not rooms else unlimited_messages(client):
        client.for_each(read_and_change, rooms, step="rooms checked" if dry_run else "rooms changed")
    if actors.problems:
        raise RefusedError("; ".join(actors.problems))


@contextmanager
def _recording(failures: dict[str, str], listed: JsonDict) -> Iterator[None]:
    """Record an error that is about this room alone."""
    try:
        yield
    except RefusedError as error:
        failures[listed["room_id"]] = error.reason


def failure_message(summary: str, failures: dict[str, str], aborted: SynapseError | None) -> str:
    """The message of a failed module; empty if nothing failed.

    :param summary: what it means that a room has failed, as a sentence.
    """
    if aborted is not None:
        return str(aborted)
    reasons = [f"{room_id}: {reason}" for room_id, reason in sorted(failures.items())]
    return f"{summary} {join_names(reasons, '; ')}. Run again to retry these rooms" if reasons else ""
