# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Claims about a file of results, as ratios; and whether they hold in another file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from operator import itemgetter
from statistics import median

from .figures import Spread
from .results import Record, Results, sizes

PEERS = ("curl", "curl-8", "uri", "synadm")
OURS = "collection"
NOISE = 0.1
"""By which part a ratio may be off from one day to the next, apart from what is seen between the runs of a day. On a
virtual machine with two cores, the CPU of the same 900 leaves was 0.92 to 1.03 times the usual."""
UNTIL = {
    "heard": ("until the remote server lists no account", "shared", "ghosts", 3.0),
    "done": ("until all accounts have left all rooms", "memberships", "joined", 1.0),
}
"""In words; how many memberships there are before and after it; and how many times as fast ours is meant to be."""


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
            return "met" if self.met else "**not met**"
        if self.spread.most * (1 + NOISE) < 1:
            return "**the peer is better**"
        if self.spread.least <= 1 + NOISE:
            return "no difference within the noise"
        return "better, target met" if self.met else "better, **target not met**"

    def holds_in(self, other: Claim) -> bool:
        """Whether the other ratio is within the noise of this one, and meets what this one meets."""
        ours, theirs = self.spread, other.spread
        apart = max(ours.least, theirs.least) / max(1e-9, min(ours.most, theirs.most))
        return apart <= 1 + NOISE and (other.met or not self.met)


def speed(run: Record, until: str) -> float:
    """Memberships that ended, by the second."""
    _text, before, after, _meant = UNTIL[until]
    return (float(run[before]) - float(run[after])) / float(run[until])


def speed_ratio(until: str) -> Callable[[Record, Record], float]:
    """How many times as fast the one was; a lot, if the other did nothing at all."""
    return lambda one, other: speed(one, until) / max(speed(other, until), 1e-3)


def ratio_of(value: Callable[[Record], float]) -> Callable[[Record, Record], float]:
    """Divides what is of the one by what is of the other."""
    return lambda one, other: value(one) / value(other)


def is_right(run: Record) -> bool:
    """Whether all have left and are erased in the end, on both servers, and no admin is deactivated."""
    return not any(run[name] for name in ("code", "ghosts", "joined", "active", "not_erased", "admins_deactivated"))


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
    yield from _of_listings(results)
    yield from _of_fleet(results)
    yield from _of_ghosts(results)
    yield from _of_scale(results)


def _of_drains(results: Results) -> Iterator[Claim]:
    for database, accounts in sizes(results.of("drain")):
        runs = results.of("drain", database=database, accounts=accounts)
        where = f"{database}, {accounts} accounts"
        mine = [run for run in runs if run["contender"] == OURS]
        if mine:
            right = [float(is_right(run)) for run in mine]
            yield Claim(f"{where}: `{OURS}` leaves no account behind (1 is yes)", right, at_least=1)
        for until, (text, _before, _after, meant) in UNTIL.items():
            ratio = speed_ratio(until)
            by_run = (
                [ratio(run, peer) for peer in runs if peer["contender"] in PEERS and peer["run"] == run["run"]]
                for run in mine
            )
            least = [min(ratios) for ratios in by_run if ratios]
            if least:
                yield Claim(f"{where}: speed {text}, times that of the best peer", least, at_least=meant, peer=True)


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
            text = f"{where}: time, relative to all servers up"
            yield Claim(text, [run["seconds"] / usual for run in mine], at_most=1.2)
        slower = pairs(runs, "loop", "bare", ratio_of(itemgetter("seconds")))
        if slower:
            yield Claim(f"{where}: time of `loop`, times that of `bare`", slower, at_least=1, peer=True)


def _of_scale(results: Results) -> Iterator[Claim]:
    """What large servers are meant to keep to."""
    for size, run, text, key, factor, most in (
        ("usual", "check-all", "dry run with 20,000 accounts: requests", "requests", 1, 40_000),
        ("usual", "check-all", "dry run with 20,000 accounts: minutes", "seconds", 60, 3),
        ("usual", "status", "status with 20,000 accounts: requests", "requests", 1, 100),
        (
            "large",
            "check",
            "dry run with 200,000 accounts: memory of the controller in MB",
            "controller_memory",
            1e6,
            500,
        ),
        ("large", "check", "dry run with 200,000 accounts: memory on the host in MB", "host_memory", 1e6, 250),
        ("large", "check", "dry run with 200,000 accounts: largest result in MB", "largest_result", 1e6, 1),
    ):
        runs = results.of("scale", database=size, contender=run)
        if runs:
            yield Claim(text, [one[key] / factor for one in runs], at_most=most)


def _of_fleet(results: Results) -> Iterator[Claim]:
    for database, accounts in sizes(results.of("fleet")):
        runs = results.of("fleet", database=database, accounts=accounts)
        for several in ("2", "4"):
            ratios = pairs(runs, "1", several, ratio_of(itemgetter("seconds")))
            if ratios:
                text = f"fleet ({database}): time one after the other, times that of {several} servers at once"
                yield Claim(text, ratios, at_least=1)
