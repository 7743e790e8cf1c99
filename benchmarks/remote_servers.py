# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Very many stub servers of the federation, in a process of their own: with a latency, and some of them dead."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import ssl
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from stubs.answers import Request, Synapse
from stubs.rooms import Json, Room, ServerKey

SERVERS = 200
LATENCY = 0.1
"""Seconds from a request to its answer."""
GHOST_ROOM = 50
"""One of so many rooms has a ghost, on each server that is in it."""
ACCOUNTS = 3
"""How many of our accounts are known to have been in each room."""


@dataclass(frozen=True)
class Federation:
    """How many rooms each server is in, and whether a third of the servers is dead. A server is in the first rooms."""

    rooms: Sequence[int]
    dead: bool

    @classmethod
    def of(cls, shape: str, pairs: int) -> Federation:
        """C(even): as many rooms for each server; C(skewed): by its rank; with C(-dead): a third of them is dead."""
        kind, _dash, dead = shape.partition("-")
        weights = [1 / (rank + 1) if kind == "skewed" else 1.0 for rank in range(SERVERS)]
        return cls([max(1, round(pairs * weight / sum(weights))) for weight in weights], bool(dead))

    def is_dead(self, number: int) -> bool:
        """Every third server, but not the largest."""
        return self.dead and number % 3 == 2

    def states(self) -> Counter[str]:
        """How many pairs must be found in which state."""
        found: Counter[str] = Counter()
        for number, rooms in enumerate(self.rooms):
            ghosts = sum(map(has_ghost, range(rooms)))
            if self.is_dead(number):
                found["unreachable"] += rooms
            else:
                found["ghosts"] += ghosts
                found["confirmed"] += rooms - ghosts
        return found


@dataclass(frozen=True)
class Running:
    """Stub servers that are running."""

    pid: int
    server_name: str
    """Our own name, under which only the key is served."""
    key_file: str
    """Content of our signing key file."""
    ca_path: str
    rooms: Sequence[Json]
    """The rooms, as the modules take them."""


def has_ghost(room: int) -> bool:
    return room % GHOST_ROOM == GHOST_ROOM // 2


@contextmanager
def running(federation: Federation) -> Iterator[Running]:
    """Run the servers for as long as the context lasts."""
    context = multiprocessing.get_context("fork")
    ours, its = context.Pipe()
    with tempfile.TemporaryDirectory() as directory:
        process = context.Process(target=_serve, args=(its, federation, Path(directory)), daemon=True)
        process.start()
        try:
            own_port, *ports = ours.recv()
            key = ServerKey(f"localhost:{own_port}")
            assert process.pid
            yield Running(
                process.pid,
                key.server_name,
                key.key_file,
                str(Path(directory) / "ca.pem"),
                [_room_option(room, federation, ports, key.server_name) for room in range(max(federation.rooms))],
            )
        finally:
            process.terminate()
            process.join()


def _room_option(room: int, federation: Federation, ports: Sequence[int], server_name: str) -> Json:
    return {
        "room_id": f"!room{room}:rooms.example",
        "servers": [f"localhost:{port}" for port, rooms in zip(ports, federation.rooms, strict=True) if room < rooms],
        "accounts": [_account(number, server_name) for number in range(ACCOUNTS)],
    }


def _account(number: int, server_name: str) -> str:
    return f"@account{number}:{server_name}"


def _serve(pipe: Any, federation: Federation, directory: Path) -> None:
    asyncio.run(_Servers(federation, directory).serve(pipe))


class _Servers:
    """All servers, in one thread. They know the same rooms, and believe whatever is signed in our name."""

    def __init__(self, federation: Federation, directory: Path) -> None:
        self._federation = federation
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(directory / "ca.pem"))
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self._tls)
        self._silent: list[asyncio.StreamWriter] = []

    async def serve(self, pipe: Any) -> None:
        """Send the ports, ours first, and serve until the process is ended."""
        sockets = [socket.socket() for _number in range(SERVERS + 1)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in sockets]
        key = ServerKey(f"localhost:{ports[0]}")
        rooms = {room.room_id: room for room in map(self._room(key.server_name), range(max(self._federation.rooms)))}
        for number, one in enumerate(sockets[1:]):
            if self._federation.is_dead(number):
                await self._play_dead(number, one)
            else:
                answers = Synapse(ServerKey(f"localhost:{ports[number + 1]}"), rooms, {})
                await self._listen(one, answers, key.server_name)
        await self._listen(sockets[0], Synapse(key, {}, {}), key.server_name)
        pipe.send(ports)
        await asyncio.Event().wait()

    @staticmethod
    def _room(server_name: str) -> Any:
        def room(number: int) -> Room:
            first = "join" if has_ghost(number) else "leave"
            members = {_account(each, server_name): "leave" if each else first for each in range(ACCOUNTS)}
            return Room(members, name=f"room{number}")

        return room

    async def _play_dead(self, number: int, one: socket.socket) -> None:
        """In turn: refuse connections (the port stays bound), never say anything, say nothing after the handshake."""
        how = number // 3 % 3
        if how == 1:
            one.listen()
        elif how == 2:
            await asyncio.start_server(self._say_nothing, sock=one, ssl=self._tls)

    async def _say_nothing(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._silent.append(writer)

    async def _listen(self, one: socket.socket, answers: Synapse, origin: str) -> None:
        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while head := await reader.readuntil(b"\r\n\r\n"):
                    request = Request("GET", head.split(b" ", 2)[1].decode(), {}, b"", origin)
                    answer = answers.answer(request)
                    await asyncio.sleep(LATENCY)
                    writer.write(answer.head + bytes(answer.body))  # type: ignore[arg-type]
            except (asyncio.IncompleteReadError, OSError):
                pass
            finally:
                writer.close()

        await asyncio.start_server(converse, sock=one, ssl=self._tls)
