# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What decommissioning a server would break in the rooms that it knows of.

The listing of rooms, one request per room for its aliases, and for each room that somebody of this server is joined to
one more: its state. In rooms of more than C(FEW_EVENTS) state events, each type of C(TYPES) is one, and the members.
For each federated room, one more: its forward extremities.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterator

from ._client import ADMIN, CLIENT, Client, JsonDict, SynapseError
from ._pool import each
from ._room_state import (
    CANONICAL_ALIAS,
    CREATE,
    POWER_LEVELS,
    SPACE_CHILD,
    SPACE_PARENT,
    TOMBSTONE,
    Room,
    is_of,
    read_room,
)
from ._rooms import list_rooms

TYPES = (CREATE, POWER_LEVELS, CANONICAL_ALIAS, TOMBSTONE, SPACE_PARENT)
TYPES_OF_SPACE = (*TYPES, SPACE_CHILD)
KINDS = (
    "orphaned",
    "unadministered",
    "creators",
    "empowered",
    "aliased",
    "canonical_alias",
    "published",
    "space_parents",
    "space_children",
    "upgraded",
    "broken",
    "unreadable",
)
"""What a room can be found to be; C(synapse_rooms_info) documents each."""


@dataclass
class Findings:
    """The rooms, each with what C(synapse_rooms_info) documents, and by kind the IDs of those that it is true of."""

    rooms: list[JsonDict] = field(default_factory=list)
    kinds: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in KINDS})


def find(client: Client, concurrency: int) -> Findings:
    """Look at every room that the server knows of. A room that can't be read is among the findings, not an error."""
    findings = Findings()
    # A room whose number of members changes while we list may come twice.
    rooms = {room["room_id"]: room for room in list_rooms(client)}
    for listed, (room, kinds) in each(lambda listed: _look(client, listed), rooms.values(), concurrency):
        findings.rooms.append(room)
        for kind in kinds:
            findings.kinds[kind].append(listed["room_id"])
    findings.rooms.sort(key=lambda room: str(room["room_id"]))
    for room_ids in findings.kinds.values():
        room_ids.sort()
    return findings


def local_aliases(client: Client, room_id: str) -> list[str]:
    """The aliases of this server that point to a room, be somebody in it or not.

    API: C(GET /_matrix/client/v3/rooms/<room_id>/aliases).
    """
    return sorted(client.get(f"{CLIENT}/v3/rooms/{{}}/aliases", room_id).texts("aliases"))


def _look(client: Client, listed: JsonDict) -> tuple[JsonDict, list[str]]:
    found: JsonDict = {**listed}
    kinds = ["published"] if listed.get("public") else []
    try:
        found["aliases"] = local_aliases(client, listed["room_id"])
        if found["aliases"]:
            kinds.append("aliased")
        if listed.get("joined_local_members"):
            room = read_room(client, listed, TYPES_OF_SPACE if listed.get("room_type") == "m.space" else TYPES)
            if room.local:
                found.update(_described(room))
                kinds.extend(_kinds(client, room) if room.remote else ())
    except SynapseError as error:
        if error.fatal:
            raise
        found["error"] = str(error)
        kinds.append("unreadable")
    return found, kinds


def _described(room: Room) -> JsonDict:
    powers = room.powers
    named = sorted(filter(powers.administers, powers.creators.union(powers.users)))
    replacement = room.state.get((TOMBSTONE, ""), {}).get("replacement_room")
    return {
        "local_members": sorted(room.local),
        "federated": bool(room.remote),
        "remote_members": len(room.remote),
        "remote_servers": sorted({user_id.partition(":")[2] for user_id in room.remote}),
        "administrators": {
            "local": [user_id for user_id in named if user_id in room.local],
            "remote": [user_id for user_id in named if user_id in room.remote],
            "everybody": powers.everybody_administers,
        },
        "space_parents": sorted(linked for linked, _via in _links(room, SPACE_PARENT)),
        "space_children": sorted(linked for linked, _via in _links(room, SPACE_CHILD)),
        "replacement_room": replacement if isinstance(replacement, str) else None,
    }


def _kinds(client: Client, room: Room) -> Iterator[str]:
    """What a room is found to be that others will go on using."""
    server_name = client.server_name
    if is_orphaned(room):
        yield "orphaned"
    elif not any(map(room.powers.administers, room.members)):
        yield "unadministered"
    if any(is_of(server_name, user_id) for user_id in room.powers.creators):
        yield "creators"
    if empowered(client, room):
        yield "empowered"
    canonical = room.state.get((CANONICAL_ALIAS, ""), {})
    alternatives = canonical.get("alt_aliases")
    named = [canonical.get("alias"), *(alternatives if isinstance(alternatives, list) else [])]
    if any(isinstance(alias, str) and is_of(server_name, alias) for alias in named):
        yield "canonical_alias"
    for kind, event_type in (("space_parents", SPACE_PARENT), ("space_children", SPACE_CHILD)):
        if any(set(via) == {server_name} for _linked, via in _links(room, event_type)):
            yield kind
    if (TOMBSTONE, "") in room.state:
        yield "upgraded"
    if is_broken(client, room.room_id):
        yield "broken"


def is_broken(client: Client, room_id: str) -> bool:
    """Whether a room has no forward extremities. Synapse then cannot create an event in it, so nobody can leave it.

    False also if Synapse does not say.

    API: C(GET /_synapse/admin/v1/rooms/<room_id>/forward_extremities).
    """
    try:
        return client.get(f"{ADMIN}/v1/rooms/{{}}/forward_extremities", room_id).take("count", int) == 0
    except SynapseError as error:
        if error.fatal:
            raise
        return False


def is_orphaned(room: Room) -> bool:
    """Whether others are in a room, but only accounts of this server that are in it can administer it."""
    administers = room.powers.administers
    return bool(room.remote) and any(map(administers, room.local)) and not any(map(administers, room.remote))


def empowered(client: Client, room: Room) -> list[str]:
    """The accounts of this server, in a room or not, that it gives a higher level than everybody has."""
    powers = room.powers
    ours = [user_id for user_id in powers.users if is_of(client.server_name, user_id)]
    return [user_id for user_id in ours if powers.of(user_id) > powers.default]


def _links(room: Room, event_type: str) -> Iterator[tuple[str, list[str]]]:
    """The rooms that a room names as its parents or children, with the servers to join them through.

    A link without servers has been taken back.
    """
    for (kind, linked), content in room.state.items():
        via = content.get("via")
        servers = [server for server in via if isinstance(server, str)] if isinstance(via, list) else []
        if kind == event_type and servers:
            yield linked, servers
