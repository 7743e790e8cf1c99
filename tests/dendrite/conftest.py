# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real servers of Synapse and Dendrite that federate. Run by ``make test-dendrite``, which builds Dendrite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from lab import Lab, MissingError
from lab.parallel import process_number

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def lab(skip_or_fail: Callable[[str], NoReturn]) -> Iterator[Lab]:
    """One Synapse (a) and one Dendrite (d), running."""
    number = process_number()
    directory = ROOT / f".cache/tests/dendrite-{number}"
    try:
        with Lab(directory, ("a",), dendrites=("d",), base_port=18850 + 5 * number) as lab:
            yield lab
    except MissingError as missing:
        skip_or_fail(str(missing))
