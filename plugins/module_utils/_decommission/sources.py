# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the pairs of remote server and room come from: options, files of earlier runs, a homeserver, an account, a log.

All pairs are hostile input: a remote server is asked about each, and nothing is removed unless it lists an account.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Iterable, Iterator, Mapping, Sequence

from .._federation.checks import KnownAccounts
from .._federation.errors import FederationError, InvalidNameError
from .._federation.names import ServerName, check_room_id, check_user_id, is_room_id, is_server_name
from .._synapse.client import Client
from .._synapse.federation_log import LogError, read_log
from .ghosts import Room
from .pairs import read_rooms
from .witness import WitnessError, read_witness

MAX_FILE = 64 * 1024 * 1024
"""Maximum size of a file with rooms in bytes."""


class SourceError(FederationError):
    """A source can't be read, or has another form."""


@dataclass(frozen=True)
class Sources:
    """What to read pairs from. Rooms that several sources have are merged.

    :ivar rooms: rooms that are already known.
    :ivar paths: files, see C(read_file).
    :ivar homeserver: the homeserver whose accounts are searched for, while it still runs.
    :ivar witness: the homeserver of an account in rooms with ghosts, with its access token.
    :ivar log_paths: logs of a Synapse that was set up anew under the same name.
    """

    rooms: Sequence[Room] = ()
    paths: Sequence[str] = ()
    homeserver: Client | None = None
    witness: Client | None = None
    log_paths: Sequence[str] = ()

    def read(self, server_name: str) -> dict[str, list[Room]]:
        """Return the rooms by the name of the source, for sources that are set.

        :raises SourceError: a source can't be read.
        :raises SynapseError: the homeserver can't be read.
        """
        found: dict[str, list[Room]] = {}
        if self.rooms:
            found["rooms"] = list(self.rooms)
        if self.paths:
            found["rooms_paths"] = read_files(self.paths, server_name)
        if self.homeserver is not None:
            found["homeserver"] = read_rooms(self.homeserver)
        if self.witness is not None:
            try:
                found["witness"] = read_witness(self.witness, server_name)
            except WitnessError as error:
                raise SourceError(str(error)) from error
        if self.log_paths:
            found["log"] = _read_logs(self.log_paths, server_name)
        return found


def merge(rooms: Iterable[Room]) -> list[Room]:
    """Return each room once, with all servers and accounts that an entry has."""
    merged: dict[str, Room] = {}
    for room in rooms:
        before = merged.get(room.room_id)
        merged[room.room_id] = room if before is None else _merged(before, room)
    return list(merged.values())


def _merged(first: Room, second: Room) -> Room:
    joined, pending = (tuple(dict.fromkeys((*a, *b))) for a, b in zip(first.known, second.known))
    return Room(first.room_id, tuple(dict.fromkeys((*first.servers, *second.servers))), KnownAccounts(joined, pending))


def room_of(option: Mapping[str, Any], server_name: str) -> Room:
    """Return a room in the form of the option I(rooms) of C(matrix_ghosts), validated.

    :raises InvalidNameError: a value is missing or invalid. The message has its key.
    """
    with _key("room_id"):
        room_id = check_room_id(option.get("room_id"))
    servers = _texts(option, "servers")
    for server in servers:
        with _key("servers"):
            ServerName.parse(server)
        if server == server_name:
            raise InvalidNameError(f"rooms[].servers: {server} is server_name itself: list remote servers only")
    joined, pending = (_texts(option, key) for key in ("accounts", "pending"))
    for key, user_ids in (("accounts", joined), ("pending", pending)):
        with _key(key):
            for user_id in user_ids:
                check_user_id(user_id, server_name)
    return Room(room_id, servers, KnownAccounts(joined, pending))


def _texts(option: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = option.get(key, ())
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, str) for value in values):
        raise InvalidNameError(f"rooms[].{key} is not a list of texts")
    return tuple(dict.fromkeys(values))


@contextmanager
def _key(key: str) -> Iterator[None]:
    try:
        yield
    except InvalidNameError as error:
        raise InvalidNameError(f"rooms[].{key}: {error}") from None


def read_files(paths: Iterable[str], server_name: str) -> list[Room]:
    """Return the rooms of several files, see C(read_file). Each room is returned once."""
    return merge(room for path in paths for room in read_file(path, server_name))


def read_file(path: str, server_name: str) -> list[Room]:
    """Return the rooms in a file: the certificate of a run, or a list in the form of the option I(rooms).

    C(not_confirmed.json) of an archive is such a list. A certificate has no accounts.

    :raises SourceError: the file can't be read, is neither, or is about another server.
    """
    content = _read_json(path)
    try:
        if isinstance(content, dict):
            content = _rooms_of_certificate(content, server_name)
        if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
            raise InvalidNameError("neither a certificate nor a list of rooms: set the path of one")
        return [room_of(entry, server_name) for entry in content]
    except InvalidNameError as error:
        raise SourceError(f"{path}: {error}") from None


def _read_json(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise SourceError(f"{path} can't be read: {error.strerror}: correct the path") from None
    if len(content) > MAX_FILE:
        raise SourceError(f"{path} is larger than {MAX_FILE // 1024 // 1024} MiB: split it")
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise SourceError(
            f"{path} is not valid JSON: set the path of a certificate (.json) or of a list of rooms"
        ) from None


def _rooms_of_certificate(certificate: dict[str, Any], server_name: str) -> Any:
    """Return the rooms that were not confirmed before the power-off.

    :raises InvalidNameError: it is no certificate, is of another server, or has no such list.
    """
    server = certificate.get("server")
    if "schema_version" not in certificate or not isinstance(server, dict):
        raise InvalidNameError("neither a certificate nor a list of rooms: set the path of one")
    if server.get("name") != server_name:
        raise InvalidNameError(f"is the certificate of {server.get('name')}, and server_name is {server_name}")
    checks = certificate.get("remote_servers")
    if not isinstance(checks, dict) or "not_confirmed" not in checks:
        raise InvalidNameError(
            "does not list the rooms that were not confirmed, since no run has reached the stage power_off: use"
            " another source"
        )
    rooms = checks["not_confirmed"]
    if isinstance(rooms, list) and checks.get("not_confirmed_total") != len(rooms):
        raise InvalidNameError(
            f"lists {len(rooms)} of {checks.get('not_confirmed_total')} rooms that were not confirmed: use"
            " not_confirmed.json of the archive instead"
        )
    return rooms


def _read_logs(paths: Iterable[str], server_name: str) -> list[Room]:
    """Return the rooms that logs of Synapse name, without accounts.

    Lines are hostile input, since remote servers choose the names in them. What is not a name is left out.
    """
    servers: dict[str, set[str]] = {}
    try:
        for path in paths:
            for room_id, origin in read_log(path):
                # The server that has created a room, if nothing shows who has sent an event.
                server = origin or room_id.partition(":")[2]
                if is_room_id(room_id) and is_server_name(server) and server != server_name:
                    servers.setdefault(room_id, set()).add(server)
    except LogError as error:
        raise SourceError(str(error)) from error
    if not servers:
        raise SourceError(
            f"log_paths: no line in {', '.join(paths)} names a room that this server is not in: set the log of the"
            " homeserver that was set up anew, with the level INFO"
        )
    return [Room(room_id, tuple(sorted(names)), KnownAccounts()) for room_id, names in sorted(servers.items())]
