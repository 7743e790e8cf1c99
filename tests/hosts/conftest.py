# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real machines with a Synapse each, reached over SSH from a controller on a network of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from lab import MissingError
from lab.hosts import HostLab
from lab.parallel import process_number

ROOT = Path(__file__).parents[2]


def knowing(directory: Path, addresses: Mapping[str, str]) -> list[str]:
    """The start of a command that reaches servers by their names, as by the DNS of others, with a file in a directory.

    The names are of the command's process, and of those that it starts.
    """
    lines = "".join(f"{address} {name}\n" for name, address in addresses.items())
    (directory / "hosts").write_text(f"127.0.0.1 localhost\n{lines}")
    return ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(directory / "hosts")]


@pytest.fixture(scope="session")
def host_lab(skip_or_fail: Callable[[str], None]) -> Iterator[HostLab]:
    """Four hosts, running; others for each of pytest's processes. Another fixture of this scope that uses Ansible needs
    ``host_lab.in_controller()``."""
    try:
        with HostLab(ROOT / f".cache/tests/hosts-{process_number()}", ("a", "b", "c", "d")) as lab:
            yield lab
    except MissingError as missing:
        skip_or_fail(str(missing))


@pytest.fixture(autouse=True)
def in_controller(host_lab: HostLab) -> Iterator[None]:
    """Each test here, with all that it starts, is on the controller's network."""
    with host_lab.in_controller():
        yield


@pytest.fixture
def hosts(host_lab: HostLab) -> HostLab:
    """All hosts on and the controller plugged in, whatever the last test has done; no exits so far."""
    host_lab.plug_in_controller()
    host_lab.start()
    for host in host_lab.hosts.values():
        host.forget_exits()
    return host_lab
