# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of the federated rooms: their remote servers, local accounts in them, and the result of each check.

The record is kept on the homeserver, in the operator's account data, so that a run can be resumed from any controller.
It is a compressed text in pieces, since a reverse proxy may refuse requests of more than 1 MB. Pieces are written to
two sides in turn, and then the index that names the side. A run that is killed in between leaves the record unchanged.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import dataclass, field
from typing import Collection, Iterable, Iterator, NamedTuple

from .._federation.checks import KnownAccounts, Pair
from .._synapse.account_data import ACCOUNT_DATA_TYPE, read_data, write_checked, write_data
from .._synapse.answer import JsonDict
from .._synapse.client import Client
from .ghosts import Room

KIND = f"{ACCOUNT_DATA_TYPE}.rooms"
SIDES = ("a", "b")
MAX_PIECE = 400_000
"""Maximum size of a piece in bytes."""
MAX_SIZE = 1024**3
"""Maximum size of the whole record in bytes, when it is read."""
MAX_REASON = 200
"""Maximum length of a reason in characters."""
UNCHECKED = ""
"""The state of a pair without a check."""


class RecordedResult(NamedTuple):
    """The last result of the checks of a pair."""

    state: str = UNCHECKED
    """One of C(checks.STATES), or C(UNCHECKED)."""
    time: int = 0
    """When the pair was checked, in seconds since 1970."""
    removed: int = 0
    """How many ghosts were removed in all polls."""
    ghosts: int = 0
    """How many accounts the server lists."""
    reason: str = ""


class Retry(NamedTuple):
    """The polls of a remote server that has not confirmed all rooms. Times are in seconds since 1970."""

    unreachable_since: int | None
    last_try: int
    tries: int


@dataclass
class RecordedRoom:
    """A federated room: its remote servers, and local accounts that were joined, invited or knocking."""

    servers: dict[str, RecordedResult] = field(default_factory=dict)
    joined: set[str] = field(default_factory=set)
    pending: set[str] = field(default_factory=set)
    broken: str = ""
    """Why the room could not be left here; empty if it could."""


@dataclass
class Record:
    """The content of the record.

    :ivar rooms: by room ID.
    :ivar retries: by server name; only of servers that have not confirmed all rooms.
    :ivar history: as C(synapse_propagation) returns it.
    :ivar merged_for: the end of the drain, in seconds since 1970, after which the rooms that Synapse knows were last
        added.
    :ivar unreadable: the rooms that Synapse could not read then, and that are not among I(rooms), with the reason.
    :ivar unsent: pairs whose last leave no federation sender had taken when they were last read.
    :ivar woken: when an event was last created for federation senders that seemed not to run, in seconds since 1970.
    """

    rooms: dict[str, RecordedRoom] = field(default_factory=dict)
    retries: dict[str, Retry] = field(default_factory=dict)
    history: list[list[int]] = field(default_factory=list)
    merged_for: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    unsent: set[Pair] = field(default_factory=set)
    woken: int = 0

    def add(self, rooms: Iterable[Room]) -> bool:
        """Add rooms with their servers and accounts. New accounts invalidate the recorded results of the room.

        :returns: whether the record has changed.
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
                    known.servers[server] = RecordedResult()
                    is_new = True
        return is_new

    def reset(self, room_id: str) -> None:
        """Invalidate the recorded results of a room."""
        servers = self.rooms[room_id].servers
        servers.update({server: RecordedResult(removed=found.removed) for server, found in servers.items()})

    def pairs(self) -> Iterator[tuple[Pair, RecordedResult]]:
        """Yield all pairs of server and room with their results."""
        for room_id, room in self.rooms.items():
            for server, recorded in room.servers.items():
                yield Pair(server, room_id), recorded

    def by_server(self) -> dict[str, dict[str, RecordedResult]]:
        """Return the results by server and room ID."""
        found: dict[str, dict[str, RecordedResult]] = {}
        for pair, recorded in self.pairs():
            found.setdefault(pair.server, {})[pair.room_id] = recorded
        return found

    def to_ask(self, pairs: Iterable[Pair]) -> list[Room]:
        """Return pairs in the form that C(GhostRun) takes."""
        servers: dict[str, list[str]] = {}
        for pair in pairs:
            servers.setdefault(pair.room_id, []).append(pair.server)
        return [
            Room(room_id, tuple(names), KnownAccounts(tuple(sorted(room.joined)), tuple(sorted(room.pending))))
            for room_id, names in servers.items()
            for room in [self.rooms[room_id]]
        ]

    def not_confirmed(self, ignore: Collection[str]) -> list[Room]:
        """Return the pairs that have not confirmed, except those of servers in I(ignore)."""
        return self.to_ask(
            pair for pair, found in self.pairs() if found.state != "confirmed" and pair.server not in ignore
        )

    def as_json(self) -> JsonDict:
        return {
            "rooms": {
                room_id: [
                    sorted(room.joined),
                    sorted(room.pending),
                    room.broken,
                    {server: list(recorded) for server, recorded in room.servers.items()},
                ]
                for room_id, room in self.rooms.items()
            },
            "retries": {server: list(retry) for server, retry in self.retries.items()},
            "history": self.history,
            "merged_for": self.merged_for,
            "unreadable": self.unreadable,
            "unsent": sorted(self.unsent),
            "woken": self.woken,
        }

    @classmethod
    def from_json(cls, content: JsonDict) -> Record:
        """
        :raises ValueError, TypeError, KeyError, AttributeError: I(content) is not of C(as_json).
        """
        rooms = {
            room_id: RecordedRoom(
                {server: RecordedResult(*recorded) for server, recorded in servers.items()},
                set(joined),
                set(pending),
                broken,
            )
            for room_id, (joined, pending, broken, servers) in content["rooms"].items()
        }
        retries = {server: Retry(*retry) for server, retry in content["retries"].items()}
        unsent = {Pair(*pair) for pair in content["unsent"]}
        unreadable, woken = content["unreadable"], content["woken"]
        return cls(rooms, retries, content["history"], content["merged_for"], unreadable, unsent, woken)


def read_record(client: Client) -> Record:
    """Read the record. A missing or damaged one is empty, and is then filled from the rooms that Synapse knows."""
    try:
        return Record.from_json(json.loads(read_pieces(client, KIND) or b""))
    except (KeyError, ValueError, TypeError, AttributeError):
        return Record()


def write_record(client: Client, record: Record) -> None:
    write_pieces(client, KIND, json.dumps(record.as_json()).encode())


def read_pieces(client: Client, kind: str) -> bytes | None:
    """Read account data that C(write_pieces) has written; C(None) if there is none, or it is damaged."""
    index = read_data(client, kind)
    try:
        names = [f"{kind}.{index['side']}.{number}" for number in range(index["pieces"])]
        text = "".join(read_data(client, name)["text"] for name in names)
        if hashlib.sha256(text.encode()).hexdigest() != index["sha256"]:
            return None
        return zlib.decompressobj().decompress(base64.b64decode(text), MAX_SIZE)
    except (KeyError, ValueError, TypeError, AttributeError, zlib.error):
        return None


def write_pieces(client: Client, kind: str, content: bytes) -> None:
    """Write compressed account data in pieces to the unused side, and then switch to that side."""
    index = read_data(client, kind)
    side = SIDES[index.get("side") == SIDES[0]]
    text = base64.b64encode(zlib.compress(content)).decode()
    pieces = [text[start : start + MAX_PIECE] for start in range(0, len(text), MAX_PIECE)]
    for number, piece in enumerate(pieces):
        write_data(client, f"{kind}.{side}.{number}", {"text": piece})
    digest = hashlib.sha256(text.encode()).hexdigest()
    write_checked(client, kind, {"side": side, "pieces": len(pieces), "sha256": digest})
