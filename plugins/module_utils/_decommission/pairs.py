# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pairs of remote server and room, read from Synapse: before the accounts leave, or after all have left."""

from __future__ import annotations

from collections import defaultdict
from typing import Callable, Iterable, Iterator

from .._federation.checks import KnownAccounts
from .._federation.names import is_server_name, is_user_id, server_of
from .._synapse.answer import Answer
from .._synapse.client import ADMIN, Client
from .._synapse.destinations import destination_rooms, list_destinations
from .._synapse.errors import RefusedError, SynapseError
from .._synapse.room_state import CREATE, MEMBER, POWER_LEVELS, Powers, as_state
from .._synapse.rooms import list_rooms, may_be_shared, newest_events
from .ghosts import Room

PENDING = ("invite", "knock")


def read_rooms(client: Client, on_unreadable: Callable[[str, SynapseError], None] | None = None) -> list[Room]:
    """Return the rooms with remote servers in them, with all local accounts that were ever in these.

    Neither source is complete, so two are merged: the state of each room, and the destinations of Synapse's federation
    sender, which lack servers that nothing was ever sent to.

    :param on_unreadable: is called for each room that Synapse can't read; C(None): such a room is an error.

    API: C(GET /_synapse/admin/v1/rooms), C(…/<room_id>/state), and C(GET /_synapse/admin/v1/federation/destinations).
    """
    servers: defaultdict[str, set[str]] = defaultdict(set)
    for destination in list_destinations(client):
        for room_id in destination_rooms(client, destination.name):
            servers[room_id].add(destination.name)
    listed = [room["room_id"] for room in list_rooms(client) if may_be_shared(room)]
    known: dict[str, KnownAccounts] = {}

    def read(room_id: str) -> Room | None:
        try:
            return read_room(client, room_id)
        except RefusedError as error:
            if on_unreadable is None:
                raise
            on_unreadable(room_id, error)
            return None

    for room_id, found in client.map(read, dict.fromkeys([*listed, *servers]), step="rooms read"):
        if found is not None:
            known[room_id] = found.known
            servers[room_id].update(found.servers)
    servers_of = {
        room_id: set(filter(is_server_name, names - {client.server_name})) for room_id, names in servers.items()
    }
    return [
        Room(room_id, tuple(sorted(names)), known.get(room_id, KnownAccounts()))
        for room_id, names in sorted(servers_of.items())
        if names
    ]


def read_room(client: Client, room_id: str) -> Room | None:
    """Return a room by its state; C(None) if Synapse does not have it any more."""
    try:
        events = list(state_events(client, room_id))
    except SynapseError as error:
        if error.status != 404:
            raise
        return None
    servers: set[str] = set()
    ours: defaultdict[str, list[str]] = defaultdict(list)
    for user_id, event in member_events(events):
        server = server_of(user_id)
        if server == client.server_name:
            ours[_kind_of_membership(event)].append(user_id)
        elif event.object("content").get("membership") == "join":
            servers.add(server)
    return Room(room_id, tuple(servers), KnownAccounts(tuple(sorted(ours["joined"])), tuple(sorted(ours["pending"]))))


def is_shared(client: Client, room_id: str) -> bool:
    """Whether remote servers are in a room, also after all local accounts have left. True if it can't be read."""
    try:
        room = read_room(client, room_id)
    except RefusedError:
        return True
    return room is not None and bool(room.servers)


def member_events(events: Iterable[Answer]) -> Iterator[tuple[str, Answer]]:
    """Yield the membership events of valid user IDs. Any member of a room may have sent events for others."""
    for event in events:
        user_id = event.get("state_key")
        if event.get("type") == MEMBER and isinstance(user_id, str) and is_user_id(user_id):
            yield user_id, event


def _kind_of_membership(event: Answer) -> str:
    """Return whether an account is or was C(joined) or C(pending), that is invited or knocking, or is C(banned)."""
    membership = event.object("content").get("membership")
    if membership in PENDING or (membership == "leave" and _membership_before(event) in PENDING):
        return "pending"
    return "banned" if membership == "ban" else "joined"


def who_can_kick(client: Client, room_id: str) -> list[str]:
    """Return the accounts of remote servers that can kick others, by the last room state that Synapse knows."""
    state = as_state(state_events(client, room_id), (CREATE, POWER_LEVELS, MEMBER))
    powers = Powers.in_room(state)
    joined = [key for (kind, key), content in state.items() if kind == MEMBER and content.get("membership") == "join"]
    return sorted(
        user_id
        for user_id in joined
        if is_user_id(user_id) and server_of(user_id) != client.server_name and powers.of(user_id) >= powers.to_kick
    )


def _membership_before(event: Answer) -> object:
    """Return the membership of an account before it left, if the event has it."""
    before = event.object("unsigned").get("prev_content")
    return before.get("membership") if isinstance(before, dict) else None


def state_events(client: Client, room_id: str) -> Iterator[Answer]:
    """Yield the state of a room. Once all local accounts have left, Synapse only returns that of the newest event.

    API: C(GET /_synapse/admin/v1/rooms/<room_id>/state) and C(…/context/<event_id>).
    """
    room = f"{ADMIN}/v1/rooms/{{}}"
    events = client.get(f"{room}/state", room_id).objects("state")
    if events:
        yield from events
        return
    for newest in newest_events(client, room_id)[:1]:
        event_id = newest.take("event_id", str)
        yield from client.get(f"{room}/context/{{}}", room_id, event_id, params={"limit": 0}).objects("state")
