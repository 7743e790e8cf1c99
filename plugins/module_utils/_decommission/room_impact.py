# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Room impact: what decommissioning a server would break in its rooms.

Requests: the listing of rooms, and one per room for its aliases. Each room with a joined local account takes one more
for its state, or, with more than C(FULL_STATE_LIMIT) state events, one for each type of C(TYPES) and one for its
members. Each federated room takes one more for its forward extremities. Rooms that only this server is in, by Synapse's
statistics, take none: they cease to exist with the server.
"""

from __future__ import annotations

from typing import Iterable, Iterator

from .._synapse.aliases import local_aliases
from .._synapse.answer import JsonDict
from .._synapse.client import Client
from .._synapse.errors import RefusedError
from .._synapse.room_state import (
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
from .._synapse.rooms import list_rooms, may_be_shared, newest_events
from .power_levels import elevated_accounts, is_orphaned

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
"""The kinds of impact. C(synapse_rooms_info) documents each."""


def read_impact(client: Client) -> Iterator[tuple[JsonDict, list[str]]]:
    """Yield every room that the server knows, with the fields that C(synapse_rooms_info) documents, and its kinds.

    A room that cannot be read is C(unreadable), not an error.
    """
    to_read = []
    for listed in list_rooms(client):
        if may_be_shared(listed):
            to_read.append(listed)
        else:
            yield {**listed, "federated": False}, _listed_kinds(listed)
    for _listed, found in client.map(lambda listed: _read(client, listed), to_read, step="rooms read"):
        yield found


def ids_by_kind(rooms: Iterable[tuple[JsonDict, list[str]]]) -> dict[str, list[str]]:
    """The sorted IDs of the rooms of each kind."""
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for room, kinds in rooms:
        for kind in kinds:
            found[kind].append(room["room_id"])
    return {kind: sorted(room_ids) for kind, room_ids in found.items()}


def _listed_kinds(listed: JsonDict) -> list[str]:
    return ["published"] if listed.get("public") else []


def _read(client: Client, listed: JsonDict) -> tuple[JsonDict, list[str]]:
    """A listed room with more fields, and the kinds of impact on it."""
    fields: JsonDict = {**listed}
    kinds = _listed_kinds(listed)
    try:
        fields["aliases"] = local_aliases(client, listed["room_id"])
        if fields["aliases"]:
            kinds.append("aliased")
        if listed.get("joined_local_members"):
            room = read_room(client, listed, TYPES_OF_SPACE if listed.get("room_type") == "m.space" else TYPES)
            if room.local:
                fields.update(_fields(room))
                kinds.extend(_federated_kinds(client, room) if room.remote else ())
    except RefusedError as error:
        fields["error"] = error.reason
        kinds.append("unreadable")
    return fields, kinds


def _fields(room: Room) -> JsonDict:
    powers = room.powers
    administrators = sorted(filter(powers.administers, powers.creators.union(powers.users)))
    replacement = room.state.get((TOMBSTONE, ""), {}).get("replacement_room")
    return {
        "local_members": sorted(room.local),
        "federated": bool(room.remote),
        "remote_members": len(room.remote),
        "remote_servers": sorted({user_id.partition(":")[2] for user_id in room.remote}),
        "administrators": {
            "local": [user_id for user_id in administrators if user_id in room.local],
            "remote": [user_id for user_id in administrators if user_id in room.remote],
            "all_accounts": powers.all_accounts_administer,
        },
        "space_parents": sorted(linked for linked, _servers in _links(room, SPACE_PARENT)),
        "space_children": sorted(linked for linked, _servers in _links(room, SPACE_CHILD)),
        "replacement_room": replacement if isinstance(replacement, str) else None,
    }


def _federated_kinds(client: Client, room: Room) -> list[str]:
    """The kinds of impact on a room that remote accounts stay joined to."""
    powers, server_name = room.powers, client.server_name
    found = {
        "orphaned": is_orphaned(room),
        "unadministered": not any(map(powers.administers, room.members)),
        "creators": any(is_of(server_name, user_id) for user_id in powers.creators),
        "empowered": bool(elevated_accounts(client, room)),
        "canonical_alias": _names_alias_of(server_name, room),
        "space_parents": _depends_on(server_name, room, SPACE_PARENT),
        "space_children": _depends_on(server_name, room, SPACE_CHILD),
        "upgraded": (TOMBSTONE, "") in room.state,
        "broken": is_broken(client, room.room_id),
    }
    return [kind for kind, is_found in found.items() if is_found]


def _names_alias_of(server_name: str, room: Room) -> bool:
    """Whether the canonical alias, or an alternative alias, is one of this server."""
    content = room.state.get((CANONICAL_ALIAS, ""), {})
    alternatives = content.get("alt_aliases")
    named = [content.get("alias"), *(alternatives if isinstance(alternatives, list) else [])]
    return any(isinstance(alias, str) and is_of(server_name, alias) for alias in named)


def _depends_on(server_name: str, room: Room, event_type: str) -> bool:
    """Whether a linked room can only be joined through this server."""
    return any(set(servers) == {server_name} for _linked, servers in _links(room, event_type))


def _links(room: Room, event_type: str) -> Iterator[tuple[str, list[str]]]:
    """The parents or children of a room, each with the servers to join it through.

    A link without servers was removed.
    """
    for (kind, linked), content in room.state.items():
        via = content.get("via")
        servers = [server for server in via if isinstance(server, str)] if isinstance(via, list) else []
        if kind == event_type and servers:
            yield linked, servers


def is_broken(client: Client, room_id: str) -> bool:
    """Whether a room has no forward extremities: Synapse cannot create events in it, so no local account can leave.

    False if Synapse does not list them.
    """
    try:
        return not newest_events(client, room_id)
    except RefusedError:
        return False
