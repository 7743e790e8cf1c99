# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line of hosts: ``PYTHONPATH=tests python -m lab hosts up 3``."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable

from ..errors import LabError
from ..show import table
from .base import DIRECTORY, build
from .host import Host
from .hostlab import HostLab


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands to what is parsed."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--directory", default=DIRECTORY / "lab", help="where the hosts live (%(default)s)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(run.__name__.lstrip("_"), parents=[common], help=text)
        parser.set_defaults(run=run)
        return parser

    command(_build, "build the root that all hosts share, unless it is there")
    up = command(_up, "make new hosts, and leave them running")
    up.add_argument("number", type=int, nargs="?", default=2, help="how many; named a, b, and so on (%(default)s)")
    command(_status, "print which hosts are on, and where")
    command(_boot, "power a host on again, with its disk kept").add_argument("host")
    command(_unplug, "pull a host's plug").add_argument("host")
    execute = command(_exec, "run a command on the controller's network")
    execute.add_argument("program")
    execute.add_argument("arguments", nargs=argparse.REMAINDER)
    command(_down, "pull all plugs; the files stay until the next up")


def _build(options: argparse.Namespace) -> None:
    print(build())


def _up(options: argparse.Namespace) -> None:
    if not 1 <= options.number <= 26:
        raise LabError("1 to 26 hosts")
    lab = HostLab(options.directory, [chr(ord("a") + number) for number in range(options.number)])
    with lab.alone():
        if lab.state_file.exists() and HostLab.load(options.directory).running:
            raise LabError(f"there are some on in {options.directory} already; stop them with down")
        lab.create()
    _status(options)
    print(f"\nThe controller's own network reaches them, and nothing else does. From there, as root or deploy:\n"
          f"  python -m lab hosts exec ssh {' '.join(lab['a'].ssh_options)} -i {lab.key} root@{lab['a'].address}\n"
          f"  python -m lab hosts exec ansible -i {lab.inventory_file} -m ping all")  # fmt: skip


def _status(options: argparse.Namespace) -> None:
    lab = HostLab.load(options.directory)
    table(
        ["host", "server", "base URL", "operator's token", "state"],
        [
            [host.name, host.server_name, host.homeserver.base_url, host.homeserver.admin_token,
             "on" if host.running else f"off, exits {host.exits}"]
            for host in lab.hosts.values()
        ],
    )  # fmt: skip


def _boot(options: argparse.Namespace) -> None:
    host = _named(options)
    host.boot()
    host.wait_until_up()


def _unplug(options: argparse.Namespace) -> None:
    _named(options).unplug()


def _named(options: argparse.Namespace) -> Host:
    lab = HostLab.load(options.directory)
    if options.host not in lab.hosts:
        raise LabError(f"no host {options.host}; there are {', '.join(lab.hosts)}")
    return lab[options.host]


def _exec(options: argparse.Namespace) -> None:
    with HostLab.load(options.directory).in_controller():
        sys.exit(subprocess.run([options.program, *options.arguments], check=False).returncode)


def _down(options: argparse.Namespace) -> None:
    lab = HostLab.load(options.directory)
    with lab.alone():
        lab.down()
