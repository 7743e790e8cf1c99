# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can be said from a file of results, as ratios; and whether another file says the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from operator import itemgetter
from statistics import median

from .figures import Line, Spread, fit, growth
from .results import Record, Results, sizes

PEERS = ("curl", "curl-8", "uri", "synadm")
OURS = ("playbook", "module")
NOISE = 0.05
"""By which part a ratio may be off from one day to the next, apart from what is seen between the runs of a day."""
OVERHEAD = 1.03
"""The most that Ansible is meant to make of the time."""
LAYERS = (("module", "bare"), ("playbook", "modules"))
"""The same work with more and with less of Ansible around it."""
FLAT_FROM = 500
"""Growth is looked at from so many accounts on, where start-up no longer counts."""


@dataclass(frozen=True)
class Claim:
    """A ratio, run by run, and the least or the most that it is meant to be; maybe to that of a peer."""

    text: str
    ratios: Sequence[float]
    at_least: float | None = None
    at_most: float | None = None
    peer: bool = False

    @property
    def spread(self) -> Spread:
        return Spread.of(self.ratios)

    @property
    def met(self) -> bool:
        """Whether the median is as it is meant to be."""
        middle = self.spread.median
        return (self.at_least is None or middle >= self.at_least) and (self.at_most is None or middle <= self.at_most)

    @property
    def verdict(self) -> str:
        """In words, what the ratio says."""
        if not self.peer:
            return "as meant" if self.met else "**not as meant**"
        if self.spread.most * (1 + NOISE) < 1:
            return "**the peer is better**"
        if self.spread.least <= 1 + NOISE:
            return "no difference within the noise"
        return "ours is better" if self.met else "ours is better, by **less than meant**"

    def holds_in(self, other: Claim) -> bool:
        """Whether the other ratio is within the noise of this one, and meets what this one meets."""
        ours, theirs = self.spread, other.spread
        apart = max(ours.least, theirs.least) / max(1e-9, min(ours.most, theirs.most))
        return apart <= 1 + NOISE and (other.met or not self.met)


def speed(run: Record) -> float:
    """Memberships that ended, by the second."""
    ended: float = run["memberships"] - run["end"]["joined"]
    return ended / float(run["done"])


def speed_ratio(one: Record, other: Record) -> float:
    """How many times as fast the one was; a lot, if the other did nothing at all."""
    return speed(one) / max(speed(other), 1e-3)


def ratio_of(value: Callable[[Record], float]) -> Callable[[Record, Record], float]:
    """Divides what is of the one by what is of the other."""
    return lambda one, other: value(one) / value(other)


def per_cpu(run: Record) -> float:
    """Seconds for each second of Synapse's CPU. A machine that is slower for a while makes more of both."""
    return float(run["done"]) / float(run["synapse_cpu"])


TIMES: Sequence[tuple[Callable[[Record], float], str]] = (
    (itemgetter("done"), ""),
    (per_cpu, " for each second of Synapse's CPU"),
)
"""What is compared between layers, and how it is called."""


def is_right(run: Record) -> bool:
    """Whether it was all done when the contender ended, and nobody was closed by mistake."""
    then, end = run["then"], run["end"]
    nobody = not (then["joined"] or then["open"] or then["admins_closed"] or end["admins_closed"] or end["not_erased"])
    return nobody and run["code"] == 0


def pairs(runs: Iterable[Record], first: str, second: str, ratio: Callable[[Record, Record], float]) -> list[float]:
    """A ratio for each run that has both contenders."""
    by_name: dict[str, dict[int, Record]] = {}
    for run in runs:
        by_name.setdefault(run["contender"], {})[run["run"]] = run
    ours, theirs = by_name.get(first, {}), by_name.get(second, {})
    return [ratio(ours[number], theirs[number]) for number in sorted(ours.keys() & theirs.keys())]


def claims(results: Results) -> Iterator[Claim]:
    """All that can be said."""
    yield from _of_drains(results)
    yield from _of_overhead(results)
    yield from _of_growth(results)
    yield from _of_listings(results)
    yield from _of_ledger(results)
    yield from _of_fleet(results)
    yield from _of_ghosts(results)


def _of_drains(results: Results) -> Iterator[Claim]:
    for database, accounts in sizes(results.of("drain")):
        runs = results.of("drain", database=database, accounts=accounts)
        where = f"{database}, {accounts} accounts"
        for name in OURS:
            mine = [float(is_right(run)) for run in runs if run["contender"] == name]
            if mine:
                yield Claim(f"{where}: `{name}` is right about being done (1 is yes)", mine, at_least=1)
        for peer in PEERS:
            theirs = [1 - float(is_right(run)) for run in runs if run["contender"] == peer]
            if theirs:
                yield Claim(f"{where}: `{peer}` is wrong about being done (1 is yes)", theirs, at_least=1)
            for name in OURS:
                ratios = pairs(runs, name, peer, speed_ratio)
                if ratios:
                    meant = 1.4 if database == "postgresql" else 1.0
                    text = f"{where}: speed of `{name}`, times that of `{peer}`"
                    yield Claim(text, ratios, at_least=meant, peer=True)


def _of_overhead(results: Results) -> Iterator[Claim]:
    for database, accounts in sizes(results.of("drain")):
        runs = results.of("drain", database=database, accounts=accounts)
        for (more, less), (value, unit) in product(LAYERS, TIMES):
            ratios = pairs(runs, more, less, ratio_of(value))
            if ratios:
                text = f"{database}, {accounts} accounts: time of `{more}`{unit}, times that of `{less}`"
                yield Claim(text, ratios, at_most=OVERHEAD)
    for database, (more, less) in product(databases(results), LAYERS):
        extra = overhead(results, database, more, less)
        if extra and not math.isnan(extra.error):
            each = fit(by_size(results, database, contender=less), relative=True).each
            values = [1 + (extra.each + error) / each for error in (-2 * extra.error, 0, 2 * extra.error)]
            text = f"{database}: time of `{more}` by account, times that of `{less}`, what is fixed left out"
            yield Claim(text, values, at_most=OVERHEAD)


def overhead(results: Results, database: str, more: str, less: str) -> Line | None:
    """What the one takes longer than the other, in seconds: a fixed part, and by account."""
    points = [
        (float(accounts), extra)
        for where, accounts in sizes(results.of("drain", database=database))
        for extra in pairs(
            results.of("drain", database=where, accounts=accounts),
            more,
            less,
            lambda one, other: float(one["done"]) - float(other["done"]),
        )
    ]
    return fit(points) if len({x for x, _y in points}) > 1 else None


def start_up(results: Results, database: str) -> float:
    """Seconds that a playbook takes which does next to nothing; 0 if that was not measured."""
    runs = results.of("start", database=database)
    return median(run["seconds"] for run in runs) if runs else 0.0


def by_size(results: Results, database: str, contender: str = "module") -> list[tuple[float, float]]:
    """The number of accounts, and the seconds that it took, of each run."""
    return sorted((run["accounts"], run["done"]) for run in results.of("drain", database=database, contender=contender))


def databases(results: Results) -> list[str]:
    """Those that were drained from, in order."""
    return sorted({run["database"] for run in results.of("drain")})


def cost_growth(results: Results, database: str) -> Line | None:
    """By which part the cost of an account grows when there are twice as many; start-up is left out."""
    points = by_size(results, database)
    if any(accounts >= FLAT_FROM for accounts, _seconds in points):
        points = [point for point in points if point[0] >= FLAT_FROM]
    fixed = start_up(results, database)
    costs = [(accounts, (seconds - fixed) / accounts) for accounts, seconds in points]
    return growth(costs) if len({accounts for accounts, _cost in costs}) > 2 else None


def _of_growth(results: Results) -> Iterator[Claim]:
    for database in databases(results):
        line = cost_growth(results, database)
        if line:
            grown = 1 + line.each
            margin = 2 * line.error
            yield Claim(
                f"{database}: cost of an account, times that with half as many accounts",
                (grown - margin, grown, grown + margin),
                at_most=1 + min(margin, NOISE),
            )


def _of_listings(results: Results) -> Iterator[Claim]:
    for database, accounts in sizes(results.of("listing")):
        runs = results.of("listing", database=database, accounts=accounts)
        for ours, peer in product(("module", "module-counts", "bare"), ("curl", "uri")):
            where = f"listing {accounts:,} accounts ({database})"
            times = pairs(runs, peer, ours, ratio_of(itemgetter("seconds")))
            memory = pairs(runs, peer, ours, ratio_of(itemgetter("own_memory")))
            for what, ratios in (("time", times), ("memory", memory)):
                if ratios:
                    text = f"{where}: {what} of `{peer}`, times that of `{ours}`"
                    yield Claim(text, ratios, at_least=1, peer=True)


def _of_ledger(results: Results) -> Iterator[Claim]:
    runs = results.of("ledger")
    if runs:
        ratios = [run["polls"][0]["seconds"] / median(poll["seconds"] for poll in run["polls"][1:]) for run in runs]
        text = f"ledger of {runs[0]['accounts']:,} destinations: time of the first poll, times that of a later one"
        yield Claim(text, ratios, at_least=1)


def _of_ghosts(results: Results) -> Iterator[Claim]:
    """What a check is meant to keep to: ten minutes, 150 MB, 2 ms of CPU, and 20 % more with dead servers."""
    for shape, pairs_asked in sizes(results.of("ghosts")):
        runs = results.of("ghosts", database=shape, accounts=pairs_asked)
        mine = [run for run in runs if run["contender"] == "bare"]
        if not mine:
            continue
        where = f"ghosts ({shape})"
        yield Claim(f"{where}: minutes", [run["seconds"] / 60 for run in mine], at_most=10)
        yield Claim(f"{where}: memory in MB", [run["own_memory"] / 1e6 for run in mine], at_most=150)
        yield Claim(f"{where}: CPU of a check in ms", [1e3 * run["own_cpu"] / run["pairs"] for run in mine], at_most=2)
        alive = results.of("ghosts", database=shape.removesuffix("-dead"), accounts=pairs_asked, contender="bare")
        if shape.endswith("-dead") and alive:
            usual = median(run["seconds"] for run in alive)
            text = f"{where}: time, times that with all servers alive"
            yield Claim(text, [run["seconds"] / usual for run in mine], at_most=1.2)
        slower = pairs(runs, "loop", "bare", ratio_of(itemgetter("seconds")))
        if slower:
            yield Claim(f"{where}: time of `loop`, times that of `bare`", slower, at_least=1, peer=True)


def _of_fleet(results: Results) -> Iterator[Claim]:
    for database, accounts in sizes(results.of("fleet")):
        runs = results.of("fleet", database=database, accounts=accounts)
        for several in ("2", "4"):
            ratios = pairs(runs, "1", several, ratio_of(itemgetter("seconds")))
            if ratios:
                text = f"fleet ({database}): time one after the other, times that of {several} servers at once"
                yield Claim(text, ratios, at_least=1)
