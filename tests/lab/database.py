# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server has in its database, as digests: the proof that nothing was written."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

#: What Synapse writes by itself (measured with 1.163): tables, or single columns of one.
VOLATILE = frozenset(
    {
        # That somebody authenticated: every two minutes; the visits every five.
        "access_tokens.used",
        "devices.ip",
        "devices.last_seen",
        "devices.user_agent",
        "user_daily_visits",
        "user_ips",
        # Its own housekeeping, some seconds or minutes after what it is about.
        "background_updates",
        "cache_invalidation_stream_by_instance",
        "event_push_summary",
        "event_push_summary_last_receipt_stream_id",
        "event_push_summary_stream_ordering",
        "room_forgetter_stream_pos",
        "scheduled_tasks",
        "sqlite_sequence",
        "state_groups_pending_deletion",
        "user_directory",
        "user_directory_search",
        "user_directory_search_content",
        "user_directory_search_docsize",
        "user_directory_search_segdir",
        "user_directory_search_segments",
        "user_directory_search_stat",
        "user_directory_stale_remote_users",
    }
)


class Database(Protocol):
    """Where a server keeps its data."""

    @property
    def config(self) -> dict[str, Any]:
        """The ``database`` section of homeserver.yaml."""

    def fingerprint(self, ignore: frozenset[str]) -> dict[str, str]:
        """Rows and digest of each table, leaving out the tables and ``table.column``s in ``ignore``."""

    def count(self, sql: str) -> int:
        """The number that a query comes to."""

    def execute(self, sql: str) -> None:
        """Change something behind the server's back."""


class Sqlite:
    """A database in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def config(self) -> dict[str, Any]:
        return {"name": "sqlite3", "args": {"database": str(self.path)}}

    def count(self, sql: str) -> int:
        with closing(self._connect()) as connection:
            return int(connection.execute(sql).fetchone()[0])

    def execute(self, sql: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(sql)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)

    def fingerprint(self, ignore: frozenset[str]) -> dict[str, str]:
        with closing(self._connect()) as connection:
            return {
                table: self._digest(connection, table, ignore)
                for (table,) in connection.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
                ).fetchall()
                if table not in ignore
            }

    @staticmethod
    def _digest(connection: sqlite3.Connection, table: str, ignore: frozenset[str]) -> str:
        columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
        wanted = ", ".join(f'"{column}"' for column in columns if f"{table}.{column}" not in ignore)
        rows = sorted(repr(row) for row in connection.execute(f'SELECT {wanted} FROM "{table}"'))  # noqa: S608
        return f"{len(rows)} rows, {hashlib.sha256(chr(10).join(rows).encode()).hexdigest()}"
