# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rooms whose aliases a static site answers for, with the remote servers to join them through."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Collection

from .._synapse.aliases import local_aliases
from .._synapse.answer import JsonDict
from .._synapse.client import Client
from .._synapse.errors import RefusedError
from .._synapse.rooms import list_rooms
from .aliases import Kept
from .record import RecordedRoom, read_record

MAX_SERVERS = 20
"""Maximum number of servers of one room. A server that joins tries one after the other."""
ORDER = ("confirmed", "ghosts", "unconfirmed", "refused", "", "unreachable")
"""The states of the checks of a server, those first that a join most likely succeeds through."""
NO_SERVER = "no remote server is in its room"
NO_ALIAS = "not in the room directory"


@dataclass
class SiteRooms:
    """What a static site answers for.

    :ivar rooms: the rooms, each with I(room_id), I(name), I(aliases) and I(servers).
    :ivar not_kept: the aliases that were named but are not kept, and rooms whose aliases could not be read, with the
        reason.
    """

    rooms: list[JsonDict] = field(default_factory=list)
    not_kept: dict[str, str] = field(default_factory=dict)

    @property
    def aliases(self) -> int:
        return sum(len(room["aliases"]) for room in self.rooms)


def list_site_rooms(client: Client, kept: Kept, ignore: Collection[str]) -> SiteRooms:
    """List the rooms with aliases to keep, by the record of the federated rooms. One request for each of these rooms.

    :param ignore: servers that are decommissioned as well.
    """
    found = SiteRooms()
    if not kept:
        return found
    record = read_record(client)
    names = {room["room_id"]: room.get("name") for room in list_rooms(client) if room["room_id"] in record.rooms}

    def read(room_id: str) -> list[str] | RefusedError:
        try:
            return local_aliases(client, room_id)
        except RefusedError as error:
            return error

    seen: set[str] = set()
    for room_id, aliases in client.map(read, sorted(names), step="rooms read"):
        if isinstance(aliases, RefusedError):
            found.not_kept[room_id] = aliases.reason
            continue
        wanted = [alias for alias in aliases if alias in kept]
        seen.update(wanted)
        servers = servers_to_join(record.rooms[room_id], ignore)
        if not servers:
            found.not_kept.update(dict.fromkeys(wanted, NO_SERVER))
        elif wanted:
            name = names[room_id]
            room = {"room_id": room_id, "name": name if isinstance(name, str) else "", "aliases": wanted}
            found.rooms.append({**room, "servers": servers})
    found.not_kept.update(dict.fromkeys(sorted(set(kept.names) - seen), NO_ALIAS))
    return found


def servers_to_join(room: RecordedRoom, ignore: Collection[str]) -> list[str]:
    """The remote servers in a room, those that have confirmed first."""
    servers = [(ORDER.index(found.state), server) for server, found in room.servers.items() if server not in ignore]
    return [server for _state, server in sorted(servers)[:MAX_SERVERS]]
