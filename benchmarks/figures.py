# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Medians and spreads."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple


class Spread(NamedTuple):
    """The median of some runs, and the least and the most of them."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))

    def shown(self, digits: int = 1, unit: str = "", *, factor: float = 1.0) -> str:
        """``65.2 s (64.8-66.0)``; the range only if there is one."""
        middle, least, most = (f"{value * factor:,.{digits}f}" for value in self)
        spread = "" if least == most else f" ({least} to {most})"
        return f"{middle}{unit}{spread}"
