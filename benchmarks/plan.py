# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is measured, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from . import drain, fleet, ghosts, ledger, listing
from .contenders import DRAINS, LISTINGS, OVERHEAD
from .servers import Servers

POINTS = ("drain", "overhead", "listing", "ledger", "fleet", "growth", "ghosts")

Measure = Callable[[Servers, str, int, str], "dict[str, Any]"]
MEASURES: dict[str, Measure] = {
    "drain": drain.measure,
    "start": drain.measure_nothing,
    "listing": listing.measure,
    "ledger": ledger.measure,
    "fleet": fleet.measure,
    "ghosts": ghosts.measure,
}


@dataclass(frozen=True)
class Plan:
    """How much of it. Sizes are numbers of accounts, but in I(destinations) and I(pairs)."""

    points: Sequence[str] = POINTS
    databases: Sequence[str] = ("sqlite", "postgresql")
    contenders: Sequence[str] = tuple(DRAINS)
    accounts: Sequence[int] = (500, 2000)
    growth: Sequence[int] = (250, 500, 1000, 2000, 4000)
    listing: int = 200_000
    destinations: int = 10_000
    fleet: int = 250
    pairs: int = 10_000
    runs: int = 3
    overhead_runs: int = 5

    def jobs(self) -> Iterator[dict[str, Any]]:
        """Each measurement once, all of a run before the next run, so that what changes with time hits all alike.

        Overhead and growth are seen in drains, too, so that these count for both.
        """
        jobs = (
            {"point": point, "database": database, "accounts": size, "contender": contender, "run": run}
            for run in range(max(self.runs, self.overhead_runs))
            for point, database, size, contender in self._run(run)
        )
        yield from {tuple(job.values()): job for job in jobs}.values()

    def _run(self, run: int) -> Iterator[tuple[str, str, int, str]]:
        regular = run < self.runs
        if regular and "ledger" in self.points:
            yield "ledger", "stub", self.destinations, "bare"
        if regular and "listing" in self.points:
            # Of the databases, only the first: it is the same module that asks.
            for database in ("stub", self.databases[0]):
                yield from (("listing", database, self.listing, name) for name in _rotated(tuple(LISTINGS), run))
        if regular and "ghosts" in self.points:
            for shape in ghosts.SHAPES:
                yield from (("ghosts", shape, self.pairs, name) for name in _rotated(ghosts.contenders(shape), run))
        for database in self.databases:
            for accounts in self.accounts:
                names: list[str] = []
                if regular and "drain" in self.points:
                    names += self.contenders
                if run < self.overhead_runs and "overhead" in self.points:
                    names += [name for name in OVERHEAD if name not in names]
                    yield "start", database, min(self.accounts), "module"
                yield from (("drain", database, accounts, name) for name in _rotated(names, run))
            if regular and "growth" in self.points:
                yield from (("drain", database, accounts, "module") for accounts in self.growth)
                yield "start", database, min(self.accounts), "module"
            if regular and "fleet" in self.points:
                yield from (("fleet", database, self.fleet, name) for name in _rotated(("1", "2", "4"), run))


QUICK = Plan(
    databases=("sqlite",),
    accounts=(20, 40),
    growth=(20, 40, 60),
    listing=5000,
    destinations=1000,
    fleet=20,
    pairs=1000,
    runs=1,
    overhead_runs=1,
)
"""Shows within minutes that all of it works. Its figures are of no use."""


def _rotated(names: Sequence[str], run: int) -> list[str]:
    """Another one goes first in each run."""
    first = run % max(1, len(names))
    return [*names[first:], *names[:first]]
