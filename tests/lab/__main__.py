# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line: ``PYTHONPATH=tests python -m lab up``, then ``fill``, ``show`` and ``down``."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict

from .api import Json
from .errors import LabError
from .files import write_private
from .lab import REPOSITORY, Lab
from .population import populate

_STATES = ("active", "locked", "suspended", "deactivated", "erased")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0 when it did what it says."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (LabError, TimeoutError) as problem:
        print(f"lab: {problem}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--directory", default=REPOSITORY / ".cache/lab", help="where the lab lives (%(default)s)")
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(run.__name__.lstrip("_"), parents=[common], help=text)
        parser.set_defaults(run=run)
        return parser

    up = command(_up, "make a new lab, and leave its servers running")
    up.add_argument("--servers", nargs="+", default=["a", "b"], metavar="NAME", help="their names (a b)")
    up.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite", help="(%(default)s)")
    up.add_argument("--base-port", type=int, default=18400, help="the first of the ports (%(default)s)")

    fill = command(_fill, "fill the first server, with the second as the other")
    fill.add_argument("--users", type=int, default=30, help="how many ordinary users (%(default)s)")
    fill.add_argument("--big-room", type=int, default=200, help="members of the big room (%(default)s)")

    command(_show, "print who is on each server, and who is in its rooms")
    command(_status, "print which servers run, and where")
    command(_down, "stop the servers; their files stay until the next up")
    return parser


def _up(options: argparse.Namespace) -> None:
    lab = Lab(options.directory, options.servers, database=options.database, base_port=options.base_port)
    if lab.state_file.exists() and Lab.load(options.directory).running:
        raise LabError(f"there is one running in {options.directory} already; stop it with down")
    lab.create()
    _status(options)


def _fill(options: argparse.Namespace) -> None:
    lab = Lab.load(options.directory)
    retiring, other, *_more = lab.servers.values()
    population = populate(retiring, other, users=options.users, big_room=options.big_room)
    file = lab.directory / "population.json"
    write_private(file, asdict(population))
    print(f"{retiring.server_name} is filled; with what, is in {file}")


def _status(options: argparse.Namespace) -> None:
    lab = Lab.load(options.directory)
    _table(
        ["server", "name", "base URL", "operator", "state"],
        [
            [name, server.server_name, server.base_url, server.operator.user_id,
             f"running, pid {server.pid}" if server.running else "stopped"]
            for name, server in lab.servers.items()
        ],
    )  # fmt: skip


def _show(options: argparse.Namespace) -> None:
    lab = Lab.load(options.directory)
    for name, server in lab.servers.items():
        print(f"Accounts of {name}, {server.server_name}")
        accounts = [server.account(account["name"]) for account in server.accounts()]
        counts = Counter((_class(account), _state(account)) for account in accounts)
        classes = sorted({kind for kind, _name in counts})
        _table(["class", *_STATES], [[kind, *(counts[kind, state] for state in _STATES)] for kind in classes])
        print()
    print("Members in rooms (rooms in brackets): each row as that server sees it")
    rows = []
    for name, server in lab.servers.items():
        seen = [server.members_of(member.server_name) for member in lab.servers.values()]
        rows.append([name, *(f"{sum(map(len, rooms.values()))} ({len(rooms)})" for rooms in seen)])
    _table(["seen by", *(f"of {name}" for name in lab.servers)], rows)


def _down(options: argparse.Namespace) -> None:
    Lab.load(options.directory).stop()


def _class(account: Json) -> str:
    if account["admin"]:
        return "admin"
    if account["is_guest"]:
        return "guest"
    return "appservice" if account["appservice_id"] else "user"


def _state(account: Json) -> str:
    return next((state for state in reversed(_STATES) if account.get(state)), "active")


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    cells = [list(heads), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
