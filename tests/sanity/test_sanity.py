# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-test sanity: what is quick, and with `make sanity` all of it, on every Python that managed hosts may have."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from ansible_test._util.target.common.constants import REMOTE_ONLY_PYTHON_VERSIONS
from compatibility.environments import ansible_test

# ansible-core 2.16 knows older ones, which tests/config.yml rules out.
MANAGED_PYTHONS = [version for version in REMOTE_ONLY_PYTHON_VERSIONS if version not in ("2.7", "3.6", "3.7")]


NOT_QUICK = ("ansible-doc", "changelog", "import", "pep8", "pylint", "runtime-metadata", "yamllint")
"""Those that need an environment of their own, or many. ``make lint`` does most of what they do."""

nightly = pytest.mark.nightly(category="versions")


def assert_passed(done: subprocess.CompletedProcess[str]) -> None:
    problems = [line for line in done.stdout.splitlines() if line.startswith(("ERROR", "FATAL"))]
    assert done.returncode == 0, "\n".join(problems) or done.stdout


def test_quick_ones(tmp_path: Path) -> None:
    skipped = [word for name in NOT_QUICK for word in ("--skip-test", name)]
    assert_passed(ansible_test(Path(sys.executable), tmp_path, "sanity", *skipped))


def test_import_on_the_oldest_python(tmp_path: Path, skip_or_fail: Callable[[str], NoReturn]) -> None:
    oldest = MANAGED_PYTHONS[0]
    done = ansible_test(Path(sys.executable), tmp_path, "sanity", "--test", "import", "--python", oldest)
    if "could not be found" in done.stdout:
        skip_or_fail(f"modules were not imported by Python {oldest}, which is not here")
    assert_passed(done)


@pytest.fixture(scope="module")
def sanity(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    return ansible_test(Path(sys.executable), tmp_path_factory.mktemp("sanity"), "sanity")


@nightly
def test_all(sanity: subprocess.CompletedProcess[str]) -> None:
    assert_passed(sanity)


def test_nothing_is_ignored() -> None:
    assert not list(Path(__file__).parent.glob("ignore*"))


@nightly
@pytest.mark.parametrize("python", MANAGED_PYTHONS)
def test_managed_python(
    sanity: subprocess.CompletedProcess[str], python: str, skip_or_fail: Callable[[str], NoReturn]
) -> None:
    """ansible-test only warns of a Python that it did not find."""
    if f"on Python {python} because it could not be found" in sanity.stdout:
        skip_or_fail(f"modules were not tried on Python {python}, which is not here")
