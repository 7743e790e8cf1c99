# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests in several processes, each of which needs ports and directories of its own."""

from __future__ import annotations

import os

CLOSED_PORT = 9
"""A port that nothing listens at: its service, discard, is long out of use."""


def process_number() -> int:
    """The number of this process, from 0, among those of pytest-xdist."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
