# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line: ``PYTHONPATH=tests python -m lab up``, then ``fill``, ``show`` and ``down``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

from .errors import LabError
from .files import write_private
from .hosts import command_line as hosts
from .lab import REPOSITORY, Lab
from .population import populate
from .show import show, table


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
    hosts.add_commands(commands.add_parser("hosts", help="machines that boot and power off; needs root"))
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
    table(
        ["server", "name", "base URL", "operator", "state"],
        [
            [name, server.server_name, server.base_url, server.operator.user_id,
             f"running, pid {server.pid}" if server.running else "stopped"]
            for name, server in lab.servers.items()
        ],
    )  # fmt: skip


def _show(options: argparse.Namespace) -> None:
    show(Lab.load(options.directory))


def _down(options: argparse.Namespace) -> None:
    Lab.load(options.directory).stop()


if __name__ == "__main__":
    sys.exit(main())
