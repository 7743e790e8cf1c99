# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

# For pytest-ansible, and for whatever runs ansible-playbook; make has set it already.
os.environ.setdefault("ANSIBLE_COLLECTIONS_PATH", str(Path(__file__).parents[1] / ".cache"))


@pytest.fixture(scope="session")
def skip_or_fail() -> Callable[[str], NoReturn]:
    """What to call, with a reason, when the machine lacks something: in CI, nothing may be lacking."""
    return partial(pytest.fail, pytrace=False) if os.environ.get("CI") == "true" else pytest.skip
