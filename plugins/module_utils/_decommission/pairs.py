# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which remote servers are in which rooms with us, read from Synapse: before anybody leaves, or after all have."""

from __future__ import annotations

from collections import defaultdict
from typing import Callable, Iterator

from .._client import ADMIN, Answer, Client, JsonDict, SynapseError
from .._destinations import destination_rooms, list_destinations
from .._federation.checks import Known
from .._federation.errors import InvalidNameError
from .._federation.names import ServerName, check_user_id, server_of
from .._pool import each
from .._room_state import CREATE, MEMBER, POWER_LEVELS, Powers, as_state
from .._rooms import list_rooms
from .ghosts import Room

PENDING = ("invite", "knock")


def read_rooms(
    client: Client, concurrency: int, on_unreadable: Callable[[str, SynapseError], None] | None = None
) -> list[Room]:
    """The rooms that remote servers are in, with these servers and with all accounts of ours that ever were in them.

    Two sources that miss different things are put together: the state of each room, and what Synapse's sender has
    recorded of whom it had to send to, which lacks servers that nothing was ever sent to.

    :param concurrency: how many rooms to read side by side.
    :param on_unreadable: is called for each room that Synapse can't read, which otherwise is an error.

    API: C(GET /_synapse/admin/v1/rooms), C(…/<room_id>/state), and C(GET /_synapse/admin/v1/federation/destinations).
    """
    servers: defaultdict[str, set[str]] = defaultdict(set)
    for destination in list_destinations(client):
        for room_id in destination_rooms(client, destination.name):
            servers[room_id].add(destination.name)
    listed = [room["room_id"] for room in list_rooms(client) if _may_be_shared(room)]
    known: dict[str, Known] = {}

    def read(room_id: str) -> Room | None:
        try:
            return read_room(client, room_id)
        except SynapseError as error:
            if error.fatal or on_unreadable is None:
                raise
            on_unreadable(room_id, error)
            return None

    for room_id, found in each(read, dict.fromkeys([*listed, *servers]), concurrency):
        if found is not None:
            known[room_id] = found.known
            servers[room_id].update(found.servers)
    servers_of = {
        room_id: set(filter(is_server_name, names - {client.server_name})) for room_id, names in servers.items()
    }
    return [
        Room(room_id, tuple(sorted(names)), known.get(room_id, Known()))
        for room_id, names in sorted(servers_of.items())
        if names
    ]


def _may_be_shared(room: JsonDict) -> bool:
    """Whether it is not one that only accounts of ours are joined to."""
    local = room.get("joined_local_members")
    return not local or room.get("joined_members") != local


def read_room(client: Client, room_id: str) -> Room | None:
    """A room by its state; C(None) if Synapse has it no longer."""
    try:
        events = list(_state_events(client, room_id))
    except SynapseError as error:
        if error.status != 404:
            raise
        return None
    servers, joined, pending = set(), [], []
    for event in events:
        user_id = event.get("state_key")
        # Anybody in the room may have made an event for somebody who can't exist.
        if event.get("type") != "m.room.member" or not isinstance(user_id, str) or not is_user_id(user_id):
            continue
        membership = event.object("content").get("membership")
        server = server_of(user_id)
        if server != client.server_name:
            if membership == "join":
                servers.add(server)
        elif membership in PENDING or (membership == "leave" and _membership_before(event) in PENDING):
            pending.append(user_id)
        elif membership != "ban":
            joined.append(user_id)
    return Room(room_id, tuple(servers), Known(tuple(sorted(joined)), tuple(sorted(pending))))


def who_can_kick(client: Client, room_id: str) -> list[str]:
    """The accounts of remote servers that can remove others from a room, by its last state that Synapse knows."""
    state = as_state(_state_events(client, room_id), (CREATE, POWER_LEVELS, MEMBER))
    powers = Powers.in_room(state)
    joined = [key for (kind, key), content in state.items() if kind == MEMBER and content.get("membership") == "join"]
    return sorted(
        user_id
        for user_id in joined
        if is_user_id(user_id) and server_of(user_id) != client.server_name and powers.of(user_id) >= powers.to_kick
    )


def is_server_name(text: str) -> bool:
    try:
        ServerName.parse(text)
    except InvalidNameError:
        return False
    return True


def is_user_id(text: str) -> bool:
    try:
        check_user_id(text, ServerName.parse(server_of(text)).text)
    except InvalidNameError:
        return False
    return True


def _membership_before(event: Answer) -> object:
    """The membership that an account had before it left, if the event says so."""
    before = event.object("unsigned").get("prev_content")
    return before.get("membership") if isinstance(before, dict) else None


def _state_events(client: Client, room_id: str) -> Iterator[Answer]:
    """The state of a room. When all of ours have left it, Synapse gives it only as that of its newest event.

    API: C(GET /_synapse/admin/v1/rooms/<room_id>/state), C(…/forward_extremities) and C(…/context/<event_id>).
    """
    room = f"{ADMIN}/v1/rooms/{{}}"
    events = client.get(f"{room}/state", room_id).objects("state")
    if events:
        yield from events
        return
    for extremity in client.get(f"{room}/forward_extremities", room_id).objects("results")[:1]:
        event_id = extremity.take("event_id", str)
        yield from client.get(f"{room}/context/{{}}", room_id, event_id, params={"limit": 0}).objects("state")
