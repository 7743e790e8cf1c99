# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Synapse that runs as several processes, and a remote server of one. The machinery is that of the faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from faults.conftest import started
from faults.runs import FaultLab
from lab.parallel import process_number
from lab.workers import WorkerHomeserver


@pytest.fixture(scope="session")
def worker_ground(skip_or_fail: Callable[[str], None]) -> Iterator[FaultLab]:
    number = process_number() % 4
    with started(f"workers-{number}", 19220 + 20 * number, skip_or_fail, workers=("a",)) as ground:
        yield ground


@pytest.fixture
def server(worker_ground: FaultLab) -> Iterator[WorkerHomeserver]:
    """The server with workers. What a test has done to its processes is undone."""
    server = worker_ground.lab.with_workers("a")
    yield server
    heal(server)


@pytest.fixture
def fault_lab(worker_ground: FaultLab, server: WorkerHomeserver) -> Iterator[FaultLab]:
    """The server with workers, ready to be decommissioned."""
    with worker_ground.decommissioning():
        yield worker_ground


def heal(server: WorkerHomeserver) -> None:
    """Let all processes run, without a delay between them."""
    server.replication.seconds = 0.0
    for process in server.processes.values():
        process.thaw()
    server.route()
    server.start()
