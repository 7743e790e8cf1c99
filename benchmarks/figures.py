# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Medians, spreads and fits."""

from __future__ import annotations

import math
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


class Line(NamedTuple):
    """``y = fixed + each * x``, and the standard error of I(each); not known of less than three points."""

    fixed: float
    each: float
    error: float

    def __call__(self, x: float) -> float:
        return self.fixed + self.each * x

    @property
    def is_flat(self) -> bool:
        """Whether I(each) can't be told from 0: is within two standard errors of it."""
        return not abs(self.each) > 2 * self.error


def fit(points: Sequence[tuple[float, float]], *, relative: bool = False) -> Line:
    """The line of least squares through at least two different x.

    :param relative: it is the error in per cent that counts, as it does where the noise grows with what is measured.
    """
    weights = [1 / y**2 if relative else 1.0 for _x, y in points]
    total = sum(weights)
    mean_x = sum(w * x for w, (x, _y) in zip(weights, points, strict=True)) / total
    mean_y = sum(w * y for w, (_x, y) in zip(weights, points, strict=True)) / total
    squares = sum(w * (x - mean_x) ** 2 for w, (x, _y) in zip(weights, points, strict=True))
    each = sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points, strict=True)) / squares
    fixed = mean_y - each * mean_x
    if len(points) < 3:
        return Line(fixed, each, math.nan)
    residue = sum(w * (y - fixed - each * x) ** 2 for w, (x, y) in zip(weights, points, strict=True))
    return Line(fixed, each, math.sqrt(residue / (len(points) - 2) / squares))


def growth(costs: Sequence[tuple[float, float]]) -> Line:
    """By which part of it the cost of one grows with each doubling of how many there are (I(each)).

    :param costs: how many, and the cost of one.
    """
    usual = median(cost for _number, cost in costs)
    return fit([(math.log2(number), cost / usual) for number, cost in costs])
