# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers that are filled once, and restored to that before each run."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random

from lab import Homeserver, Lab, LabError
from lab.lab import REPOSITORY
from lab.waiting import wait_until

CACHE = REPOSITORY / ".cache/benchmarks"
ADMIN = "warden"
"""An admin besides the operator; no contender is to deactivate it."""


class Servers:
    """The labs of the benchmarks, of which one runs at a time, on the same ports."""

    def __init__(self, base_port: int) -> None:
        self.base_port = base_port
        self._running: Lab | None = None
        CACHE.mkdir(parents=True, exist_ok=True)
        self._lock = (CACHE / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError("benchmarks are running here already") from None
        for state in CACHE.glob("*/lab.json"):  # of a run that was killed
            Lab.load(state.parent).stop()

    def fresh(self, name: str, database: str, fill: Callable[[Lab], None], servers: int = 1) -> Lab:
        """A running lab, each of its servers as it was when C(fill) had filled it."""
        directory = CACHE / name
        filled = directory / "filled"
        if self._running and self._running.directory != directory:
            self.stop()
        if not filled.exists():
            self.stop()
            names = [f"s{number}" for number in range(servers)]
            self._running = lab = Lab(directory, names, database=database, base_port=self.base_port)
            lab.create()
            fill(lab)
            lab.snapshot("filled")
            filled.touch()
        elif self._running is None:
            self._running = Lab.load(directory)
        assert self._running
        self._running.restore("filled")
        return self._running

    def stop(self) -> None:
        """Stop what is running."""
        if self._running:
            self._running.stop()
            self._running = None


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A directory for the files of one run, which may have secrets; what it printed is kept until the next."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            yield Path(directory)
        finally:
            output = Path(directory) / "output"
            if output.exists():
                (CACHE / "output").mkdir(parents=True, exist_ok=True)
                shutil.copy(output, CACHE / "output" / name)


def populate(lab: Lab, accounts: int, drained: int = 1) -> None:
    """Fill the first servers, each of which shares rooms with the next one."""
    servers = list(lab.servers.values())
    for number in range(drained):
        _populate(servers[number], servers[(number + 1) % len(servers)], accounts)


def _populate(server: Homeserver, other: Homeserver, accounts: int) -> None:
    """One room with everybody, rooms of 20, and rooms of two: three memberships for each account.

    An account of the other server is in half of the rooms of 20 and of two, so in those of a third of the memberships.
    One of 50 accounts is locked, and one of 100 has a C(/) in its name. There is a second admin, in the first room.
    """
    with ThreadPoolExecutor(8) as pool:
        users = list(pool.map(server.register, map(_name, range(accounts))))
        admin = server.register(ADMIN, admin=True)
        remote = other.register("remote")

        def room(size: int, first: int) -> None:
            host, *members = users[first : first + size]
            room_id = server.create_room(host.token, preset="public_chat")
            for member in members:
                server.join(member.token, room_id)
            if first // size % 2 == 0:
                other.join(remote.token, room_id, via=server.server_name)

        everybody = server.create_room(users[0].token, preset="public_chat")
        jobs: list[Callable[[], None]] = [
            *(lambda user=user: server.join(user.token, everybody) for user in [*users[1:], admin]),
            *(lambda first=first: room(20, first) for first in range(0, accounts, 20)),
            *(lambda first=first: room(2, first) for first in range(0, accounts, 2)),
        ]
        Random(0).shuffle(jobs)
        list(pool.map(lambda job: job(), jobs))
        list(pool.map(lambda user: server.lock(user.user_id), users[7::50]))
    wait_until(lambda: not server.background_updates(), "the background updates are done")
    shared = sum(min(size, accounts - first) for size in (20, 2) for first in range(0, accounts, 2 * size))
    wait_until(lambda: members_at(other, server) == shared, "the other server lists everybody", interval=1)


def members_at(other: Homeserver, server: Homeserver) -> int:
    """How many memberships of a server's accounts another server's admin API lists, room by room."""
    return sum(map(len, other.members_of(server.server_name).values()))


def _name(number: int) -> str:
    return f"user{'/' if number % 100 == 13 else ''}{number:05}"


def insert_accounts(lab: Lab, accounts: int) -> None:
    """So many accounts, without rooms, inserted into the database of the only server."""
    server = lab["s0"]
    server.stop()
    fields = {
        "users (name, creation_ts)": "'@' || localpart || ':' || server, 1795416000 + n",
        "profiles (user_id, full_user_id, displayname)": "localpart, '@' || localpart || ':' || server, 'Number ' || n",
    }
    rows = (
        f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {accounts}),"  # noqa: S608
        f" names AS (SELECT n, 'account-' || (1000000 + n) AS localpart, '{server.server_name}' AS server FROM numbers)"
        f" INSERT INTO {table} SELECT {values} FROM names;"
        for table, values in fields.items()
    )
    server.database.execute("".join(rows))
    server.start()
