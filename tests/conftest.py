# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[1]

# For pytest-ansible, and for whatever runs ansible-playbook; make has set it already.
os.environ.setdefault("ANSIBLE_COLLECTIONS_PATH", str(ROOT / ".cache"))


@pytest.fixture(scope="session")
def skip_or_fail() -> Callable[[str], NoReturn]:
    """What to call, with a reason, when the machine lacks something: in CI, nothing may be lacking."""
    return partial(pytest.fail, pytrace=False) if os.environ.get("CI") == "true" else pytest.skip


@pytest.fixture(scope="session")
def ansible_core(skip_or_fail: Callable[[str], NoReturn]) -> Callable[[str, str], str]:
    """The Python of an environment, made once, that has a version of ansible-core for a version of Python."""
    from compatibility import environments  # not found by ansible-test, which reads this file for the unit tests

    def get(core: str, python: str) -> str:
        try:
            return str(environments.ansible_core(core, python))
        except environments.MissingPythonError as missing:
            skip_or_fail(str(missing))

    return get


@pytest.fixture(scope="session")
def seed() -> int:
    """What all chance starts from: always the same, unless ``SEED`` is set, as ``make nightly`` does."""
    return int(os.environ.get("SEED", "1"))


@pytest.fixture
def chance(request: pytest.FixtureRequest, seed: int) -> random.Random:
    """The chance of one test, which does not depend on what ran before it."""
    print(f"SEED={seed}")
    return random.Random(f"{seed} {request.node.name}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first: pytest's processes take one after the other. So do those not measured."""
    seconds = json.loads((ROOT / "tests/durations.json").read_text())
    items.sort(key=lambda item: -seconds.get(item.path.relative_to(ROOT).as_posix(), math.inf))
