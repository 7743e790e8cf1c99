# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is measured, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from . import drain, fleet, ghosts, listing, scale
from .contenders import DRAINS, LISTINGS
from .servers import Servers

POINTS = ("drain", "listing", "fleet", "ghosts", "scale")

Measure = Callable[[Servers, str, int, str], "dict[str, Any]"]
MEASURES: dict[str, Measure] = {
    "drain": drain.measure,
    "listing": listing.measure,
    "fleet": fleet.measure,
    "ghosts": ghosts.measure,
    "scale": scale.measure,
}


@dataclass(frozen=True)
class Plan:
    """How much of it. Sizes are numbers of accounts, but in I(pairs)."""

    points: Sequence[str] = POINTS
    databases: Sequence[str] = ("sqlite", "postgresql")
    contenders: Sequence[str] = tuple(DRAINS)
    accounts: Sequence[int] = (500, 2000)
    listing: int = 200_000
    fleet: int = 250
    pairs: int = 10_000
    scale: Sequence[str] = tuple(scale.SIZES)
    runs: int = 3

    def jobs(self) -> Iterator[dict[str, Any]]:
        """Each measurement once, all of a run before the next run, so that what changes with time hits all alike."""
        for run in range(self.runs):
            for point, database, size, names in self._groups():
                for contender in _rotated(names, run):
                    yield {"point": point, "database": database, "accounts": size, "contender": contender, "run": run}

    def _groups(self) -> Iterator[tuple[str, str, int, Sequence[str]]]:
        """The contenders that are compared with each other take turns."""
        # Of the databases, only the first for the listing: it is the same module that asks.
        listed = [("listing", database, self.listing, tuple(LISTINGS)) for database in ("stub", self.databases[0])]
        checked = [("ghosts", shape, self.pairs, ghosts.contenders(shape)) for shape in ghosts.SHAPES]
        drained = [
            ("drain", database, accounts, self.contenders) for database in self.databases for accounts in self.accounts
        ]
        fleets = [("fleet", database, self.fleet, ("1", "2", "4")) for database in self.databases]
        scaled = [("scale", size, scale.SIZES[size].accounts, tuple(scale.RUNS)) for size in self.scale]
        yield from (group for group in (*listed, *checked, *drained, *fleets, *scaled) if group[0] in self.points)


QUICK = Plan(
    databases=("sqlite",),
    accounts=(30,),
    listing=5000,
    fleet=20,
    pairs=1000,
    scale=("small",),
    runs=1,
)
"""Shows within minutes that all of it works. Its figures are of no use."""


def _rotated(names: Sequence[str], run: int) -> list[str]:
    """Another one goes first in each run."""
    first = run % max(1, len(names))
    return [*names[first:], *names[:first]]
