# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A PostgreSQL of the lab's own, on loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .errors import LabError, MissingError

_USER = "synapse"
_DEBIAN = "/usr/lib/postgresql"


def binaries() -> Path:
    """The directory of PostgreSQL's programs: PATH's, or the newest that Debian has hidden."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    hidden = Path(_DEBIAN).glob("*/bin/initdb")
    if newest := max(hidden, key=lambda path: int(path.parts[-3]), default=None):
        return newest.parent
    raise MissingError(f"no PostgreSQL: initdb is neither in PATH nor in {_DEBIAN}/*/bin")


class Cluster:
    """A cluster in a directory, with one database for each server."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self._data = directory / "data"

    def create(self, names: Iterable[str]) -> None:
        """Make the cluster, start it, and make empty databases."""
        self.directory.mkdir()
        if os.geteuid() == 0:
            owner = _unprivileged()
            os.chown(self.directory, owner.pw_uid, owner.pw_gid)
        settings = ("--auth=trust", f"--username={_USER}", "--encoding=UTF8", "--locale=C", "--no-sync")
        self._run("initdb", f"--pgdata={self._data}", *settings)
        with (self._data / "postgresql.conf").open("a") as config:
            config.write(f"port = {self.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n")
        self.start()
        for name in names:
            self.query("postgres", f'CREATE DATABASE "{name}" TEMPLATE template0')

    def start(self) -> None:
        """Start it unless it runs."""
        if not self.running:
            self._run("pg_ctl", "start", "--wait", f"--pgdata={self._data}", f"--log={self.directory / 'log'}")

    def stop(self) -> None:
        """Stop it if it runs."""
        if self.running:
            self._run("pg_ctl", "stop", "--wait", "--mode=fast", f"--pgdata={self._data}")

    @property
    def running(self) -> bool:
        """Whether the server is there."""
        if not self._data.exists():
            return False
        status = self._command("pg_ctl", "status", f"--pgdata={self._data}")
        return subprocess.run(status, stdout=subprocess.DEVNULL, cwd="/", check=False).returncode == 0

    def database(self, name: str) -> Postgresql:
        """One of the databases."""
        return Postgresql(self, name)

    def query(self, database: str, sql: str) -> list[list[str]]:
        """The rows that a query returns, as text."""
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", _USER, "-d", database]
        how = ["--no-psqlrc", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1"]
        command: list[str | Path] = [binaries() / "psql", *where, *how]
        output = subprocess.run(command, input=sql, capture_output=True, text=True, check=False)
        if output.returncode:
            raise LabError(f"psql: {output.stderr}")
        return [line.split("\t") for line in output.stdout.splitlines()]

    def _run(self, program: str, *arguments: str) -> None:
        # pg_ctl's child would keep a pipe open for ever, hence a file.
        output = self.directory / "commands.log"
        with output.open("ab") as log:
            command = self._command(program, *arguments)
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", check=False)
        if done.returncode:
            raise LabError(f"{program} failed:\n{output.read_text()}")

    @staticmethod
    def _command(program: str, *arguments: str) -> list[str]:
        command = [str(binaries() / program), *arguments]
        if os.geteuid() != 0:
            return command
        # PostgreSQL refuses to run as root. The capability lets it through parents that only root may enter.
        owner = _unprivileged()
        identity = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
        return ["setpriv", *identity, "--inh-caps=+dac_override", "--ambient-caps=+dac_override", *command]


class Postgresql:
    """A database of a cluster."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    @property
    def config(self) -> dict[str, Any]:
        arguments = {"host": "127.0.0.1", "port": self.cluster.port, "user": _USER, "dbname": self.name}
        return {"name": "psycopg2", "args": arguments | {"cp_min": 5, "cp_max": 10}}

    def count(self, sql: str) -> int:
        return int(self.cluster.query(self.name, sql)[0][0])

    def execute(self, sql: str) -> None:
        self.cluster.query(self.name, sql)

    def fingerprint(self, ignore: frozenset[str]) -> dict[str, str]:
        columns: dict[str, list[str]] = {}
        for table, column in self.cluster.query(
            self.name,
            "SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables"
            " USING (table_schema, table_name) WHERE table_schema = 'public' AND table_type = 'BASE TABLE'",
        ):
            if table not in ignore and f"{table}.{column}" not in ignore:
                columns.setdefault(table, []).append(f'"{column}"')
        digests = " UNION ALL ".join(
            f"SELECT '{table}', count(*) || ' rows, '"  # noqa: S608
            " || md5(coalesce(string_agg(line, '' ORDER BY line), ''))"
            f' FROM (SELECT md5(ROW({", ".join(names)})::text) AS line FROM "{table}") AS "{table}_lines"'
            for table, names in columns.items()
        )
        return dict(self.cluster.query(self.name, digests))


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise MissingError("running as root, and neither postgres nor nobody is a user here")
