# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the service knows: servers, rooms, and what each server has answered about each room. A SQLite file.

Each change is one transaction, so that a process that is killed loses nothing that it has written. All times are in
seconds since 1970. C(due) is when something is to be done. C(held) of a pair is 0, 1 while a worker has it, 2 while it
waits for its room.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
from collections import Counter
from contextlib import contextmanager
from typing import Any, Callable, Iterable, Iterator, Mapping, NamedTuple, Sequence

from .._decommission.ghosts import Room
from .._federation.checks import KnownAccounts, Pair, PairResult
from .._federation.errors import FederationError
from .status import Heard

FORMAT = 1
UP = "up"
"""State of a server that has answered. The others are C(status.WAITING) and those of C(checks.STATES)."""
MAX_PAIRS = 1_000_000
"""Maximum number of pairs of server and room."""
MAX_ACCOUNTS = 1_000
"""Maximum number of accounts to keep of one room as one server lists it, and of leaves of one pair."""
MAX_ACCOUNTS_IN_ALL = 1_000_000
"""Maximum number of accounts to keep of all rooms, and of leaves of all pairs."""
MAX_ACCOUNTS_OF_OTHERS = 100
"""Maximum number of accounts of a room to check on a server because further servers list them."""
MAX_EVENT_IDS = 3
"""Maximum number of events to keep of a pair."""
SHARE = 2
"""One server can name at most a half of all servers and rooms that are followed, so that others have a place, too."""
BATCH = 500
"""Maximum number of servers to add in one transaction, so that no other thread has to wait for long."""

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE servers (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    seen_by TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting',
    reason TEXT NOT NULL DEFAULT '',
    tries INTEGER NOT NULL DEFAULT 0,
    tried REAL,
    failing_since REAL,
    woken REAL,
    heard REAL,
    due REAL NOT NULL
);
CREATE TABLE rooms (id INTEGER PRIMARY KEY, room_id TEXT NOT NULL UNIQUE, seen_by INTEGER NOT NULL);
CREATE TABLE pairs (
    id INTEGER PRIMARY KEY,
    server INTEGER NOT NULL REFERENCES servers,
    room INTEGER NOT NULL REFERENCES rooms,
    state TEXT NOT NULL DEFAULT 'waiting',
    reason TEXT NOT NULL DEFAULT '',
    ghosts INTEGER NOT NULL DEFAULT 0,
    removed INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    checked REAL,
    heard REAL,
    due REAL,
    held INTEGER NOT NULL DEFAULT 0,
    event_ids TEXT NOT NULL DEFAULT '[]',
    UNIQUE (server, room)
);
CREATE INDEX pairs_due ON pairs (server, held, due) WHERE due IS NOT NULL;
CREATE INDEX pairs_open ON pairs (server, state) WHERE state != 'confirmed';
CREATE INDEX pairs_room ON pairs (room, held);
CREATE TABLE accounts (
    room INTEGER NOT NULL,
    server INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    pending INTEGER NOT NULL,
    PRIMARY KEY (room, server, user_id)
) WITHOUT ROWID;
CREATE TABLE leaves (
    pair INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (pair, event_id)
) WITHOUT ROWID;
CREATE TABLE counts (
    server INTEGER NOT NULL,
    state TEXT NOT NULL,
    pairs INTEGER NOT NULL DEFAULT 0,
    ghosts INTEGER NOT NULL DEFAULT 0,
    removed INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (server, state)
) WITHOUT ROWID;
CREATE TRIGGER pairs_added AFTER INSERT ON pairs BEGIN
    INSERT INTO counts VALUES (NEW.server, NEW.state, 1, NEW.ghosts, NEW.removed)
        ON CONFLICT DO UPDATE SET
        pairs = pairs + 1, ghosts = ghosts + excluded.ghosts, removed = removed + excluded.removed;
END;
CREATE TRIGGER pairs_changed AFTER UPDATE OF state, ghosts, removed ON pairs BEGIN
    UPDATE counts SET pairs = pairs - 1, ghosts = ghosts - OLD.ghosts, removed = removed - OLD.removed
        WHERE server = OLD.server AND state = OLD.state;
    INSERT INTO counts VALUES (NEW.server, NEW.state, 1, NEW.ghosts, NEW.removed)
        ON CONFLICT DO UPDATE SET
        pairs = pairs + 1, ghosts = ghosts + excluded.ghosts, removed = removed + excluded.removed;
END;
"""
"""C(counts) has the sums of C(pairs), so that the status does not have to read each of them."""


class StoreError(FederationError):
    """The state file can't be used. The message names it."""


class Server(NamedTuple):
    """A remote server."""

    id: int
    name: str
    state: str
    tries: int
    due: float
    woken: float | None


class Visit(NamedTuple):
    """A pair that a worker has taken."""

    id: int
    server: Server
    room: int
    pair: Pair
    tries: int
    """How many checks in a row had the same outcome: no ghost, or no confirmation."""
    state: str
    event_ids: tuple[str, ...]


class Next(NamedTuple):
    """When the next thing is to be done for a server, and whether it has answered the last time."""

    due: float
    is_up: bool


class Limits(NamedTuple):
    """How many servers and rooms are followed."""

    servers: int
    rooms: int


class Store:
    """The state file. May be shared between threads; of all processes, only one can have it open."""

    def __init__(self, path: str, server_name: str, limits: Limits, now: float) -> None:
        """Open the file, or create it.

        :raises StoreError: it can't be read or written, belongs to another server, or another process has it open.
        """
        self._path = path
        self._limits = limits
        self._mutex = threading.RLock()
        self._reading = threading.Lock()
        self._file = _lock(path)
        try:
            # Created here, since SQLite would take the permissions of the umask.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._connection = _open(path)
            self._prepare(server_name, now)
            self._reader = _open(path)
        except (OSError, sqlite3.Error) as error:
            self._file.close()
            raise StoreError(
                f"state_path: {path} can't be used: {error}: correct its permissions, or set another path"
            ) from None
        except BaseException:
            self._file.close()
            raise
        tables = ("servers", "rooms", "pairs", "accounts", "leaves")
        self._seen_by = Counter(dict(self._all("SELECT seen_by, COUNT(*) FROM servers GROUP BY seen_by")))
        self._rooms_of = Counter(dict(self._all("SELECT seen_by, COUNT(*) FROM rooms GROUP BY seen_by")))
        self._totals = {name: int(self._one(f"SELECT COUNT(*) FROM {name}")[0]) for name in tables}  # noqa: S608

    def close(self) -> None:
        """Close the file. Threads that still use it get C(sqlite3.ProgrammingError)."""
        with self._mutex, self._reading:
            self._connection.close()
            self._reader.close()
            self._file.close()

    def _prepare(self, server_name: str, now: float) -> None:
        (version,) = self._one("PRAGMA user_version")
        if version == 0:
            self._connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
        elif version != FORMAT:
            raise StoreError(f"state_path: {self._path} has the format {version}: set another path")
        with self._transaction():
            if not self._get("server_name"):
                self._set("server_name", server_name)
                self._set("created", now)
            # What a process that was killed had begun is begun again.
            self._run("UPDATE pairs SET held = 0 WHERE held != 0")
        if self._get("server_name") != server_name:
            raise StoreError(f"state_path: {self._path} belongs to {self._get('server_name')}: set another path")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._mutex:
            self._run("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._run("ROLLBACK")
                raise
            self._run("COMMIT")

    def _run(self, statement: str, *values: Any) -> sqlite3.Cursor:
        return self._connection.execute(statement, values)

    def _one(self, statement: str, *values: Any) -> Any:
        with self._mutex:
            return self._run(statement, *values).fetchone()

    def _all(self, statement: str, *values: Any) -> list[Any]:
        with self._mutex:
            return self._run(statement, *values).fetchall()

    def _get(self, key: str) -> str:
        found = self._one("SELECT value FROM meta WHERE key = ?", key)
        return str(found[0]) if found else ""

    def _set(self, key: str, value: object) -> None:
        self._run("INSERT OR REPLACE INTO meta VALUES (?, ?)", key, str(value))

    # Adding

    def add_server(self, name: str, seen_by: str, now: float) -> None:
        """Add a server that is configured, also beyond the limits.

        :param seen_by: what names the server: another server, or a key of the configuration.
        """
        with self._transaction():
            self._add_server(name, seen_by, now)

    def _add_server(self, name: str, seen_by: str, now: float) -> int:
        found = self._number("servers", "name", name)
        if found is not None:
            return found
        self._totals["servers"] += 1
        self._seen_by[seen_by] += 1
        self._run("INSERT INTO servers (name, seen_by, due) VALUES (?, ?, ?)", name, seen_by, now)
        return int(self._one("SELECT last_insert_rowid()")[0])

    def _server(self, name: str, seen_by: str, now: float) -> int | None:
        """Return the number of a server, which is added if it is new; C(None) if there are too many."""
        found = self._number("servers", "name", name)
        has_place = self._totals["servers"] < self._limits.servers
        if found is None and has_place and self._seen_by[seen_by] < max(self._limits.servers // SHARE, 1):
            return self._add_server(name, seen_by, now)
        return found

    def _add_room(self, room_id: str, server: int = 0) -> int:
        found = self._number("rooms", "room_id", room_id)
        if found is not None:
            return found
        self._totals["rooms"] += 1
        self._rooms_of[server] += 1
        self._run("INSERT INTO rooms (room_id, seen_by) VALUES (?, ?)", room_id, server)
        return int(self._one("SELECT last_insert_rowid()")[0])

    def _room(self, room_id: str, server: int) -> int | None:
        """Return the number of a room that a server names. It is added if it is new; C(None) if there are too many."""
        found = self._number("rooms", "room_id", room_id)
        has_place = self._totals["rooms"] < self._limits.rooms
        if found is None and has_place and self._rooms_of[server] < max(self._limits.rooms // SHARE, 1):
            return self._add_room(room_id, server)
        return found

    def _number(self, table: str, column: str, name: str) -> int | None:
        found = self._one(f"SELECT id FROM {table} WHERE {column} = ?", name)  # noqa: S608 - not names of others
        return int(found[0]) if found else None

    def _pair(self, server: int, room: int, now: float) -> bool:
        """Add a pair. Return whether there was room for it."""
        if self._one("SELECT 1 FROM pairs WHERE server = ? AND room = ?", server, room):
            return True
        if self._totals["pairs"] >= MAX_PAIRS:
            return False
        self._totals["pairs"] += 1
        self._run("INSERT INTO pairs (server, room, due) VALUES (?, ?, ?)", server, room, now)
        return True

    def _account(self, room: int, server: int, user_id: str, pending: bool) -> bool:
        """Add an account. Return whether it is new."""
        known = self._one(
            "SELECT pending FROM accounts WHERE room = ? AND server = ? AND user_id = ?", room, server, user_id
        )
        if known and bool(known[0]) == pending:
            return False
        if not known:
            (count,) = self._one("SELECT COUNT(*) FROM accounts WHERE room = ? AND server = ?", room, server)
            if count >= MAX_ACCOUNTS or self._totals["accounts"] >= MAX_ACCOUNTS_IN_ALL:
                return False
            self._totals["accounts"] += 1
        self._run("INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?)", room, server, user_id, pending)
        return True

    def add_rooms(self, rooms: Iterable[Room], now: float) -> None:
        """Add rooms that the operator knows, also beyond the limits."""
        with self._transaction():
            for room_id, servers, known in rooms:
                room = self._add_room(room_id)
                for name in servers:
                    self._pair(self._add_server(name, "rooms_paths", now), room, now)
                for pending, accounts in enumerate((known.joined, known.pending)):
                    rows = ((room, 0, user_id, pending) for user_id in accounts)
                    self._connection.executemany("INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?)", rows)

    def add_members(self, visit: Visit, listed: Mapping[str, str], servers: Sequence[str], now: float) -> list[str]:
        """Add the members of a room, as a server lists them. Return the servers that did fit."""
        with self._transaction():
            for user_id, membership in list(listed.items())[:MAX_ACCOUNTS]:
                self._account(visit.room, visit.server.id, user_id, membership != "join")
        added = []
        for start in range(0, len(servers), BATCH):
            with self._transaction():
                for name in servers[start : start + BATCH]:
                    server = self._server(name, visit.server.name, now)
                    if server is not None and self._pair(server, visit.room, now):
                        added.append(name)
        return added

    def heard(self, name: str, rooms: Sequence[Heard], now: float, soonest: Callable[[str, int], float]) -> int:
        """Add the rooms that a server has named. Return how many did not fit.

        :param soonest: returns the seconds from one check of a pair to the next, by its state and C(tries).
        """
        with self._transaction():
            server = self._server(name, name, now)
            if server is None:
                return len(rooms)
            # A server that sends something is up.
            self._run(
                "UPDATE servers SET heard = ?, due = CASE WHEN state = 'unreachable'"
                " THEN MIN(due, MAX(?, COALESCE(tried, 0) + ?)) ELSE due END WHERE id = ?",
                now,
                now,
                soonest(UP, 1),
                server,
            )
            return sum(not self._add_news(server, news, now, soonest) for news in rooms)

    def _add_news(self, server: int, news: Heard, now: float, soonest: Callable[[str, int], float]) -> bool:
        room = self._room(news.room_id, server)
        if room is None or not self._pair(server, room, now):
            return False
        pair, state, tries, checked, due, known = self._one(
            "SELECT id, state, tries, checked, due, event_ids FROM pairs WHERE server = ? AND room = ?", server, room
        )
        is_new = [self._account(room, server, user_id, True) for user_id in news.pending]
        for user_id in news.pending:
            # It may be invited again after a leave.
            self._run("DELETE FROM leaves WHERE pair = ? AND user_id = ?", pair, user_id)
        event_ids = list(dict.fromkeys([*news.event_ids, *json.loads(known)]))[:MAX_EVENT_IDS]
        earliest = max(now, (checked or 0.0) + soonest(state, 0 if any(is_new) else tries))
        self._run(
            "UPDATE pairs SET heard = ?, due = ?, event_ids = ? WHERE id = ?",
            now,
            earliest if due is None else min(due, earliest),
            json.dumps(event_ids),
            pair,
        )
        return True

    # Working

    def begin(self, now: float, recent: float) -> dict[str, Next]:
        """Make all servers due that were not woken recently. Return when something is to be done for each server.

        :param recent: the seconds after which a server may have given up on this one again.
        """
        with self._transaction():
            self._run("UPDATE servers SET due = MIN(due, ?) WHERE state != ? OR woken < ?", now, UP, now - recent)
        names = [name for (name,) in self._all("SELECT name FROM servers")]
        return {name: found for name in names if (found := self.next(name)) is not None}

    def next(self, name: str) -> Next | None:
        """Return when the next thing is to be done for a server; C(None) for one that did not fit."""
        found = self._one("SELECT id, state, due FROM servers WHERE name = ?", name)
        if found is None:
            return None
        server, state, due = found
        if state == "unreachable":
            return Next(due, False)
        (first,) = self._one("SELECT MIN(due) FROM pairs WHERE server = ? AND held = 0 AND due IS NOT NULL", server)
        return Next(due if first is None else min(due, first), state == UP)

    def take(self, name: str, now: float, again: float) -> Server | Visit | None:
        """Take what is to be done for a server now: a visit, or a request that wakes the server.

        :param again: when the server is to be woken or tried again, if there is no result until then.
        """
        with self._transaction():
            server = Server(*self._one("SELECT id, name, state, tries, due, woken FROM servers WHERE name = ?", name))
            if server.state == "unreachable" and server.due > now:
                return None
            found = self._one(
                "SELECT pairs.id, room, room_id, tries, state, event_ids FROM pairs JOIN rooms ON rooms.id = room"
                " WHERE server = ? AND held = 0 AND due <= ? ORDER BY due LIMIT 1",
                server.id,
                now,
            )
            if found is not None:
                number, room, room_id, tries, state, event_ids = found
                self._run("UPDATE pairs SET held = 1 WHERE id = ?", number)
                if server.state == "unreachable":
                    # One request shows whether it is up again.
                    self._run("UPDATE servers SET due = ? WHERE id = ?", again, server.id)
                pair = Pair(name, room_id)
                return Visit(number, server, room, pair, tries, state, tuple(json.loads(event_ids)))
            if server.due > now:
                return None
            self._run("UPDATE servers SET due = ? WHERE id = ?", again, server.id)
            return server

    def known(self, visit: Visit) -> KnownAccounts:
        """Return the accounts that may be in the room of a pair."""
        rows = self._all(
            "SELECT user_id, pending FROM accounts WHERE room = ? AND server IN (0, ?)", visit.room, visit.server.id
        )
        rows += self._all(
            "SELECT user_id, pending FROM accounts WHERE room = ? AND server NOT IN (0, ?) LIMIT ?",
            visit.room,
            visit.server.id,
            MAX_ACCOUNTS_OF_OTHERS,
        )
        pending = dict.fromkeys(user_id for user_id, is_pending in rows if is_pending)
        joined = dict.fromkeys(user_id for user_id, is_pending in rows if not is_pending and user_id not in pending)
        return KnownAccounts(tuple(joined), tuple(pending))

    def leaves(self, visit: Visit) -> dict[str, str]:
        """Return the accepted leaves of accounts that were invited: user IDs by event ID."""
        return dict(self._all("SELECT event_id, user_id FROM leaves WHERE pair = ?", visit.id))

    def add_leave(self, visit: Visit, user_id: str, event_id: str, membership: str, now: float) -> None:
        """Add a leave that a server has accepted."""
        with self._transaction():
            self._run("UPDATE pairs SET removed = removed + 1 WHERE id = ?", visit.id)
            self._set("last_ghost", now)
            if membership != "join":
                (count,) = self._one("SELECT COUNT(*) FROM leaves WHERE pair = ?", visit.id)
                if count < MAX_ACCOUNTS and self._totals["leaves"] < MAX_ACCOUNTS_IN_ALL:
                    self._totals["leaves"] += 1
                    self._run("INSERT OR REPLACE INTO leaves VALUES (?, ?, ?)", visit.id, event_id, user_id)

    def finish(
        self,
        visit: Visit,
        result: PairResult,
        *,
        started: float,
        now: float,
        tries: int,
        due: float | None,
        news: float,
    ) -> None:
        """Write the result of a visit, and let go of the pair.

        :param due: when the pair is to be checked again; C(None): not without news of its server.
        :param news: the same, if there was news since I(started).
        """
        with self._transaction():
            self._run(
                "UPDATE pairs SET held = 0, state = ?, reason = ?, ghosts = ?, tries = ?, checked = ?,"
                " due = CASE WHEN heard > ? THEN ? ELSE ? END WHERE id = ?",
                result.state,
                result.reason,
                len(result.ghosts),
                tries,
                now,
                started,
                news if due is None else min(due, news),
                due,
                visit.id,
            )
            if result.ghosts:
                self._set("last_ghost", now)

    def postpone(self, visit: Visit, due: float) -> None:
        """Let go of a pair without a result.

        :param due: when to take it again.
        """
        with self._transaction():
            self._run("UPDATE pairs SET held = 0, due = ? WHERE id = ?", due, visit.id)

    def release(self, room: int, due: float) -> list[str]:
        """Let go of all pairs that wait for a room. Return their servers."""
        with self._transaction():
            rows = self._all(
                "SELECT name FROM pairs JOIN servers ON servers.id = server WHERE room = ? AND held = 2", room
            )
            self._run("UPDATE pairs SET held = 0, due = ? WHERE room = ? AND held = 2", due, room)
            return [name for (name,) in rows]

    def wait_for_room(self, visit: Visit) -> None:
        """Hold a pair until C(release)."""
        with self._transaction():
            self._run("UPDATE pairs SET held = 2 WHERE id = ?", visit.id)

    def answered(self, server: Server, now: float, wake_again: float) -> bool:
        """Note that a server has answered a signed request. Return whether it had not before."""
        with self._transaction():
            (before,) = self._one("SELECT state FROM servers WHERE id = ?", server.id)
            self._run(
                "UPDATE servers SET state = ?, reason = '', tries = 0, failing_since = NULL, tried = ?, woken = ?,"
                " due = ? WHERE id = ?",
                UP,
                now,
                now,
                wake_again,
                server.id,
            )
            return bool(before != UP)

    def failed(self, server: Server, state: str, reason: str, now: float, due: float) -> None:
        """Note that a server has not answered, or has refused.

        :param due: when to try it again.
        """
        with self._transaction():
            self._run(
                "UPDATE servers SET state = ?, reason = ?, tries = tries + 1, tried = ?, due = ?,"
                " failing_since = COALESCE(failing_since, ?) WHERE id = ?",
                state,
                reason,
                now,
                due,
                now,
                server.id,
            )

    # Reading

    def read(self) -> Rows:
        """Return what the status is made of."""
        with self._reading:
            return Rows(
                meta=dict(self._reader.execute("SELECT key, value FROM meta")),
                rooms=self._totals["rooms"],
                servers=self._reader.execute(
                    "SELECT id, name, state, reason, failing_since, woken, heard FROM servers"
                ).fetchall(),
                counts=self._reader.execute(
                    "SELECT server, state, pairs, ghosts, removed FROM counts WHERE pairs > 0"
                ).fetchall(),
            )

    def reason(self, server: int, state: str) -> str:
        """Return why one of the pairs of a server is in a state."""
        with self._reading:
            found = self._reader.execute(
                "SELECT reason FROM pairs WHERE server = ? AND state = ? AND state != 'confirmed' LIMIT 1",
                (server, state),
            ).fetchone()
        return str(found[0]) if found else ""


class Rows(NamedTuple):
    """What the status is made of."""

    meta: dict[str, str]
    rooms: int
    servers: list[tuple[int, str, str, str, float | None, float | None, float | None]]
    """Number, name, state, reason, failing since when, woken, heard."""
    counts: list[tuple[int, str, int, int, int]]
    """Number of a server, state of its pairs, how many there are, ghosts, removed."""


def _lock(path: str) -> Any:
    """Make sure that this is the only process with the file. The lock ends with the process."""
    try:
        # Not the file itself: to close it would end the locks that SQLite has.
        file = os.fdopen(os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600), "r+b")
    except OSError as error:
        raise StoreError(
            f"state_path: {path}.lock can't be written: {error.strerror}: create the directory, or set another path"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise StoreError(f"state_path: another process uses {path}: stop that one first") from None
    return file


def _open(path: str) -> sqlite3.Connection:
    # The store has locks of its own, and begins transactions itself.
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30.0)
    connection.execute("PRAGMA journal_mode = WAL")
    # A kill loses nothing; a power failure loses at most the last moments, which the next check finds out again.
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection
