# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One very small federation for all tests, and the results of all runs, for the table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, MissingError
from lab.parallel import process_number

from .runs import FaultLab

RESULTS = Path(__file__).parents[2] / ".cache/faults"


@contextmanager
def started(name: str, base_port: int, skip_or_fail: Callable[[str], None], **options: Any) -> Iterator[FaultLab]:
    """Two servers of their own, if this machine has what they need."""
    try:
        with Lab(RESULTS.parent / f"tests/faults-{name}", base_port=base_port, **options) as lab:
            yield FaultLab(lab)
    except MissingError as missing:
        skip_or_fail(str(missing))


@pytest.fixture(scope="session")
def ground(skip_or_fail: Callable[[str], None]) -> Iterator[FaultLab]:
    with started(f"{process_number()}", 18710 + 5 * (process_number() % 4), skip_or_fail) as ground:
        yield ground


@pytest.fixture
def on_postgresql(skip_or_fail: Callable[[str], None]) -> Iterator[FaultLab]:
    """A server with PostgreSQL that is ready to be decommissioned."""
    with started("postgresql", 18780, skip_or_fail, database="postgresql") as ground, ground.decommissioning():
        yield ground


@pytest.fixture
def fault_lab(ground: FaultLab) -> Iterator[FaultLab]:
    """A server that is ready to be decommissioned."""
    with ground.decommissioning():
        yield ground


@pytest.fixture(scope="session")
def record() -> Callable[[list[dict[str, Any]]], None]:
    """Append the results of runs to a file, a line of JSON for each."""

    def record(results: list[dict[str, Any]]) -> None:
        RESULTS.mkdir(parents=True, exist_ok=True)
        with (RESULTS / "results.jsonl").open("a") as file:
            file.writelines(json.dumps(result) + "\n" for result in results)

    return record
