# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of the federated rooms: which servers and accounts of ours were in them, and what each server has said.

It is kept on the homeserver, in the operator's account data, so that a run can be resumed from any controller. It is
one compressed text in pieces, since a reverse proxy may refuse requests of more than 1 MB. Pieces are written to one of
two sides in turn, and the index that names the side last: whoever is killed in between leaves the record as it was.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import dataclass, field
from typing import Iterable, Iterator, NamedTuple

from .. import _state
from .._client import Client, JsonDict
from .._federation.checks import Known, Pair
from .ghosts import Room

KIND = f"{_state.ACCOUNT_DATA_TYPE}.rooms"
SIDES = ("a", "b")
MAX_PIECE = 400_000
"""Size limit of a piece in bytes."""
MAX_SIZE = 1024**3
"""Size limit of the whole record in bytes, when it is read."""
MAX_REASON = 200
"""Size limit of a reason in characters."""
UNCHECKED = ""
"""The state of a pair that was not checked yet."""


class Said(NamedTuple):
    """What a remote server has said of a room."""

    state: str = UNCHECKED
    """One of C(checks.STATES), or C(UNCHECKED)."""
    time: int = 0
    """When, in seconds since 1970."""
    removed: int = 0
    """How many ghosts were removed there in all."""
    ghosts: int = 0
    """How many it lists."""
    reason: str = ""


class Retry(NamedTuple):
    """A remote server that has not confirmed all rooms."""

    unreachable_since: int | None
    last_try: int
    tries: int


@dataclass
class RecordedRoom:
    """A room with remote servers, and all accounts of ours that were joined, invited or knocking."""

    servers: dict[str, Said] = field(default_factory=dict)
    joined: set[str] = field(default_factory=set)
    pending: set[str] = field(default_factory=set)
    broken: str = ""
    """Why the room could not be left here; empty if it could."""


@dataclass
class Record:
    """See the module.

    :ivar rooms: by room ID.
    :ivar retries: by server name; only of servers that have not confirmed all rooms.
    :ivar history: see C(synapse_propagation).
    :ivar merged_for: the end of the drain, in seconds since 1970, after which the record was last held against what
        Synapse itself knows of the rooms.
    :ivar unreadable: the rooms that Synapse could not read then, and that are not among I(rooms), with the reason.
    """

    rooms: dict[str, RecordedRoom] = field(default_factory=dict)
    retries: dict[str, Retry] = field(default_factory=dict)
    history: list[list[int]] = field(default_factory=list)
    merged_for: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)

    def add(self, rooms: Iterable[Room]) -> bool:
        """Add rooms with their servers and accounts. Where there are new ones, what was said before no longer counts.

        :returns: whether anything was new.
        """
        is_new = False
        for room in rooms:
            known = self.rooms.setdefault(room.room_id, RecordedRoom())
            joined, pending = known.joined.union(room.known.joined), known.pending.union(room.known.pending)
            if (joined, pending) != (known.joined, known.pending):
                known.joined, known.pending = joined, pending
                self.reset(room.room_id)
                is_new = True
            for server in room.servers:
                if server not in known.servers:
                    known.servers[server] = Said()
                    is_new = True
        return is_new

    def reset(self, room_id: str) -> None:
        """What was said of a room no longer counts."""
        servers = self.rooms[room_id].servers
        servers.update({server: Said(removed=said.removed) for server, said in servers.items()})

    def pairs(self) -> Iterator[tuple[Pair, Said]]:
        """All pairs of server and room."""
        for room_id, room in self.rooms.items():
            for server, said in room.servers.items():
                yield Pair(server, room_id), said

    def by_server(self) -> dict[str, dict[str, Said]]:
        """What was said, by server and room ID."""
        found: dict[str, dict[str, Said]] = {}
        for pair, said in self.pairs():
            found.setdefault(pair.server, {})[pair.room_id] = said
        return found

    def to_ask(self, pairs: Iterable[Pair]) -> list[Room]:
        """These pairs, as the federation client is asked about them."""
        servers: dict[str, list[str]] = {}
        for pair in pairs:
            servers.setdefault(pair.room_id, []).append(pair.server)
        return [
            Room(room_id, tuple(names), Known(tuple(sorted(room.joined)), tuple(sorted(room.pending))))
            for room_id, names in servers.items()
            for room in [self.rooms[room_id]]
        ]

    def as_json(self) -> JsonDict:
        return {
            "rooms": {
                room_id: [
                    sorted(room.joined),
                    sorted(room.pending),
                    room.broken,
                    {server: list(said) for server, said in room.servers.items()},
                ]
                for room_id, room in self.rooms.items()
            },
            "retries": {server: list(retry) for server, retry in self.retries.items()},
            "history": self.history,
            "merged_for": self.merged_for,
            "unreadable": self.unreadable,
        }

    @classmethod
    def from_json(cls, content: JsonDict) -> Record:
        """
        :raises ValueError, TypeError, KeyError, AttributeError: it is not what C(as_json) made.
        """
        rooms = {
            room_id: RecordedRoom(
                {server: Said(*said) for server, said in servers.items()}, set(joined), set(pending), broken
            )
            for room_id, (joined, pending, broken, servers) in content["rooms"].items()
        }
        retries = {server: Retry(*retry) for server, retry in content["retries"].items()}
        return cls(rooms, retries, content["history"], content["merged_for"], content["unreadable"])


def read_record(client: Client) -> Record:
    """The record; an empty one if there is none, or it is damaged, so that it is made anew from what Synapse knows."""
    index = _state.read_data(client, KIND)
    try:
        names = [f"{KIND}.{index['side']}.{number}" for number in range(index["pieces"])]
        text = "".join(_state.read_data(client, name)["text"] for name in names)
        if hashlib.sha256(text.encode()).hexdigest() != index["sha256"]:
            return Record()
        content = zlib.decompressobj().decompress(base64.b64decode(text), MAX_SIZE)
        return Record.from_json(json.loads(content))
    except (KeyError, ValueError, TypeError, AttributeError, zlib.error):
        return Record()


def write_record(client: Client, record: Record) -> None:
    """Write the record to the side that is not in use, and then make that the one in use."""
    index = _state.read_data(client, KIND)
    side = SIDES[index.get("side") == SIDES[0]]
    text = base64.b64encode(zlib.compress(json.dumps(record.as_json()).encode())).decode()
    pieces = [text[start : start + MAX_PIECE] for start in range(0, len(text), MAX_PIECE)]
    for number, piece in enumerate(pieces):
        _state.write_data(client, f"{KIND}.{side}.{number}", {"text": piece})
    digest = hashlib.sha256(text.encode()).hexdigest()
    _state.write_data(client, KIND, {"side": side, "pieces": len(pieces), "sha256": digest})
