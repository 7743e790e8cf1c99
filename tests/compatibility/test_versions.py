# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection with each ansible-core and each Synapse, as `make matrix` tries them, but without its tables."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from .environments import CORES, ROOT, SYNAPSES

pytestmark = pytest.mark.nightly(category="versions")


def try_version(option: str, version: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "compatibility", option, version, "--dry-run"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("version", CORES)
def test_core(version: str) -> None:
    try_version("--core", version)


@pytest.mark.parametrize("version", SYNAPSES)
def test_synapse(version: str) -> None:
    try_version("--synapse", version)
