# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tables of docs/maintainers/benchmarks-details.md, between its markers, with an overview and a chart."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple
from math import log2
from operator import itemgetter
from pathlib import Path
from statistics import median

from .chart import Bar, bars
from .claims import OURS, Claim, claims, is_right, pairs, ratio_of, speed_ratio
from .figures import Spread
from .results import Record, Results, ResultsError, sizes
from .scale import DOUBLED, RUNS, SIZES, USUAL

BEGIN, END = "<!-- begin: make bench-report RESULT={} -->", "<!-- end: make bench-report -->"
"""The lines of a page between which the report of a file is written."""
LOUD = 0.05
"""The part of the CPU that other processes may use before the figures are not reliable."""
LAST_LEAVE = ("Last leave on the remote server", "Last leave on the own server")
OVERVIEW, CHART, SCALE_CHART = "benchmarks.md", "benchmarks.svg", "benchmarks-scale.svg"
"""The page with the short table of the drain, and the charts, in the directory of the page."""
FEDERATIONS = {
    "even": "50 rooms on each of 200 servers",
    "even-dead": "the same, a third of the servers down",
    "skewed": "200 servers, the largest in 1,701 rooms",
    "skewed-dead": "the same, a third of the servers down",
}
MEMORIES = {"Controller": "controller_memory", "Host": "host_memory"}
"""The columns of the maximum memory of one process, with their keys."""
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "stub": "a stub"}


def write(results: Results, descriptions: dict[str, str], page: Path | None) -> str:
    """The report; also into a page that has the markers for this file, and for the drain into the overview."""
    text = "\n".join(map(_wrapped, _report(results, descriptions)))
    if page is not None:
        _insert(page, results, text)
        if results.of("drain"):
            _insert(page.with_name(OVERVIEW), results, "\n".join(_overview(results)))
            page.with_name(CHART).write_text(draw(results))
        if results.of("scale"):
            page.with_name(SCALE_CHART).write_text(draw_scale(results))
    return text


def _insert(page: Path, results: Results, text: str) -> None:
    """Replace what is between the markers for this file."""
    begin = BEGIN.format(results.path.name)
    before, found, rest = page.read_text().partition(begin)
    _old, end, after = rest.partition(END)
    if not (found and end):
        raise ResultsError(f"{page} has no lines {begin} and {END}")
    page.write_text(f"{before}{begin}\n\n{text}\n{END}{after}")


def _wrapped(text: str) -> str:
    if text[:1] in "|#`!-":
        return text
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n"


def draw(results: Results) -> str:
    """The drains, as bars."""
    groups = []
    for database, accounts in sizes(results.of("drain")):
        found = _by_contender(results.of("drain", database=database, accounts=accounts))
        if len(found) > 1:
            group = [
                Bar(name, _middle(runs, "claimed"), _middle(runs, "heard"), _is_ours(name), _remark(runs))
                for name, runs in found.items()
            ]
            groups.append((f"{NAMES[database]}, {accounts:,} accounts", group))
    return bars(groups, "Blue: this collection. Pale: after the contender has ended.")


def draw_scale(results: Results) -> str:
    """The times of the playbooks with each size, as bars."""
    groups = [
        (RUNS[run].title, [_scale_bar(size, runs) for size, runs in measured.items()])
        for run, measured in _by_size(results)
    ]
    return bars(groups, "U accounts, R rooms, F federated rooms, D remote servers.")


def _scale_bar(size: str, runs: Sequence[Record]) -> Bar:
    numbers = [f"{n / 1000:g}k" if n >= 1000 else str(n) for n in astuple(SIZES[size])]
    name = " ".join(f"{key} {number}" for key, number in zip("URFD", numbers, strict=True))
    seconds = _middle(runs, "seconds")
    return Bar(name, seconds, seconds, True, f", {_middle(runs, 'requests'):,.0f} requests")


def _by_size(results: Results) -> Iterator[tuple[str, dict[str, list[Record]]]]:
    """Each playbook that was run against the large server, with its runs by their size."""
    for run in RUNS:
        by_size = {size: results.of("scale", database=size, contender=run) for size in SIZES}
        measured = {size: runs for size, runs in by_size.items() if runs}
        if measured:
            yield run, measured


def _overview(results: Results) -> Iterator[str]:
    """The drain in one table."""
    heads = ["Database", "Accounts", "Contender", *LAST_LEAVE, "Ghosts left", "Correct"]
    yield from _table(
        heads,
        [
            [
                NAMES[database],
                f"{accounts:,}",
                f"`{name}`",
                _shown(mine, "heard", 1, " s"),
                _shown(mine, "done", 1, " s"),
                _shown(mine, "ghosts", 0, ""),
                _correct(mine),
            ]
            for database, accounts in sizes(results.of("drain"))
            for name, mine in _by_contender(results.of("drain", database=database, accounts=accounts)).items()
        ],
    )
    yield f"![Time until the remote server lists no account]({CHART})\n"


def _report(results: Results, descriptions: dict[str, str]) -> Iterator[str]:
    yield from _on_what(results)
    contenders = {run["contender"] for run in results.runs}
    yield from (f"- `{name}`: {text}" for name, text in descriptions.items() if name in contenders)
    yield ""
    yield from _drains(results)
    yield from _listings(results)
    yield from _fleet(results)
    yield from _ghosts(results)
    yield from _scale(results)
    yield from _claims(list(claims(results)))


def _on_what(results: Results) -> Iterator[str]:
    machine = results.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    yield (
        f"Measured on {machine['date']}, on {machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB,"
        f" Linux {machine['kernel']}. {versions}. {machine['settings']}\n"
    )
    loads = [
        run["other_cpu"] / (run.get("watched", run.get("seconds")) * machine["cores"])
        for run in results.runs
        if "other_cpu" in run
    ]
    if loads:
        yield f"Other processes used {median(loads):.0%} of the CPU (median), and {max(loads):.0%} at most.\n"
        if median(loads) > LOUD:
            yield "**The machine was not quiet. These figures show that the benchmarks work, and nothing else.**\n"
    paces = [run["pace"] for run in results.runs if "pace" in run]
    if len(paces) > 1:
        yield (
            f"Between the measurements, a fixed piece of work took {min(paces):.2f} to {max(paces):.2f} s of CPU, which"
            " shows how much the speed of the machine changes.\n"
        )
    points = " ".join(sorted({run["point"] for run in results.runs}))
    yield f"```console\n$ make bench RESULT={results.path.name} BENCH_OPTIONS='--points {points}'\n```\n"


def _drains(results: Results) -> Iterator[str]:
    for database, accounts in sizes(results.of("drain")):
        runs = results.of("drain", database=database, accounts=accounts)
        found = _by_contender(runs)
        yield f"### Until the remote server lists no account: {NAMES[database]}, {accounts:,} accounts\n"
        yield from _table(
            [
                "Contender", f"Speed of `{OURS}` relative to it", LAST_LEAVE[0], "Ghosts left",
                "Contender ends", LAST_LEAVE[1], f"Speed of `{OURS}` relative to it", "Correct",
            ],
            (
                [
                    f"`{name}`",
                    _ratios(runs, OURS, name, speed_ratio("heard")),
                    _shown(mine, "heard", 1, " s"),
                    _shown(mine, "ghosts", 0, ""),
                    _shown(mine, "claimed", 1, " s"),
                    _shown(mine, "done", 1, " s"),
                    _ratios(runs, OURS, name, speed_ratio("done")),
                    _correct(mine),
                ]
                for name, mine in found.items()
            ),
        )  # fmt: skip
        yield from _table(
            [
                "Contender", "Exit code", "Joined at the end", "Active at the end", "Admins deactivated",
                "CPU of both Synapses", "CPU of the database", "Own CPU", "Own memory",
            ],
            (
                [
                    f"`{name}`",
                    *(_shown(mine, key, 0, "") for key in ("code", "joined", "active", "admins_deactivated")),
                    *(_shown(mine, key, 1, " s") for key in ("synapse_cpu", "database_cpu", "own_cpu")),
                    Spread.of([run["own_memory"] for run in mine]).shown(0, " MB", factor=1e-6),
                ]
                for name, mine in found.items()
            ),
        )  # fmt: skip
        yield (
            f"Of {_middle(runs, 'memberships'):,.0f} memberships, {_middle(runs, 'shared'):,.0f} are in rooms that the"
            " remote server is in. *Speed* is the number of memberships that ended per second. A contender that leaves"
            " ghosts gains nothing: its time is until the last of the other accounts.\n"
        )


def _listings(results: Results) -> Iterator[str]:
    for database, accounts in sizes(results.of("listing")):
        runs = results.of("listing", database=database, accounts=accounts)
        found = _by_contender(runs)
        first, *_others = found
        yield f"### To list {accounts:,} accounts, from {NAMES[database]}\n"
        yield from _table(
            ["Contender", f"Time of `{first}` relative to it", "Time", "Own CPU", "Maximum memory", "Accounts missing"],
            (
                [
                    f"`{name}`",
                    _ratios(runs, first, name, ratio_of(itemgetter("seconds"))),
                    _shown(mine, "seconds", 1, " s"),
                    _shown(mine, "own_cpu", 1, " s"),
                    Spread.of([run["own_memory"] for run in mine]).shown(0, " MB", factor=1e-6),
                    Spread.of([run["missing"] for run in mine]).shown(0),
                ]
                for name, mine in found.items()
            ),
        )


def _fleet(results: Results) -> Iterator[str]:
    for database, accounts in sizes(results.of("fleet")):
        runs = results.of("fleet", database=database, accounts=accounts)
        yield f"### A fleet: 4 servers of {accounts:,} accounts on one machine, {NAMES[database]}, with the playbook\n"
        yield from _table(
            ["Servers at a time", "Speed", "Time", "CPU of all Synapses"],
            (
                [
                    name,
                    _ratios(runs, "1", name, ratio_of(itemgetter("seconds"))),
                    _shown(mine, "seconds", 1, " s"),
                    _shown(mine, "synapse_cpu", 1, " s"),
                ]
                for name, mine in sorted(_by_contender(runs).items())
            ),
        )


def _ghosts(results: Results) -> Iterator[str]:
    for shape, pairs_asked in sizes(results.of("ghosts")):
        runs = results.of("ghosts", database=shape, accounts=pairs_asked)
        yield f"### To check {runs[0]['pairs']:,} pairs of server and room: {FEDERATIONS[shape]}\n"
        yield from _table(
            ["Contender", "Time", "Own CPU", "CPU of one check", "Maximum memory", "Requests", "Correct"],
            (
                [
                    f"`{name}`{', extrapolated' if mine[0]['extrapolated'] else ''}",
                    _shown(mine, "seconds", 0, " s"),
                    _shown(mine, "own_cpu", 1, " s"),
                    Spread.of([run["own_cpu"] / run["pairs"] for run in mine]).shown(2, " ms", factor=1e3),
                    Spread.of([run["own_memory"] for run in mine]).shown(0, " MB", factor=1e-6),
                    _shown(mine, "requests", 0, ""),
                    "-" if mine[0]["extrapolated"] else "yes" if all(run["right"] for run in mine) else "**no**",
                ]
                for name, mine in _by_contender(runs).items()
            ),
        )


def _scale(results: Results) -> Iterator[str]:
    if results.of("scale"):
        yield f"![Time of the playbooks with a large server]({SCALE_CHART})\n"
    for run, measured in _by_size(results):
        yield f"### {RUNS[run].title}\n"
        yield from _table(
            ["Accounts", "Rooms", "Federated", "Servers", "Requests", "Time", "CPU", *MEMORIES, "Largest result"],
            [
                [
                    *(f"{number:,}" for number in astuple(SIZES[size])),
                    _shown(runs, "requests", 0, ""),
                    _shown(runs, "seconds", 0, " s"),
                    _shown(runs, "own_cpu", 0, " s"),
                    *(Spread.of([one[key] for one in runs]).shown(0, " MB", factor=1e-6) for key in MEMORIES.values()),
                    Spread.of([one["largest_result"] for one in runs]).shown(0, " kB", factor=1e-3),
                ]
                for size, runs in measured.items()
            ],
        )
        yield from _growth(measured)
        if USUAL in measured:
            yield from _stages(measured[USUAL])


def _growth(measured: Mapping[str, Sequence[Record]]) -> Iterator[str]:
    """The exponents by which the cost grows with each number: 1 is twice the cost for twice the number."""
    doubled = [size for size in DOUBLED if size in measured]
    if USUAL not in measured or not doubled:
        return
    keys = {"Requests": "requests", "Time": "seconds", "CPU": "own_cpu", **MEMORIES}
    yield "The exponent by which each grows with one of the numbers; 1 means that it doubles when the number doubles:\n"
    yield from _table(
        ["Number", *keys],
        [
            [
                DOUBLED[size],
                *(f"{log2(_middle(measured[size], k) / _middle(measured[USUAL], k)):.2f}" for k in keys.values()),
            ]
            for size in doubled
        ],
    )


def _stages(runs: Sequence[Record]) -> Iterator[str]:
    """The cost of each file of tasks that sends requests, with the usual size."""
    stages = runs[0]["stages"]
    yield "By stage, with 20,000 accounts and rooms:\n"
    yield from _table(
        ["Tasks", "Requests", "Time", "Largest result"],
        [
            [f"`{name}`", f"{cost['requests']:,}", f"{cost['seconds']:,.0f} s", f"{cost['result'] / 1e3:,.0f} kB"]
            for name, cost in stages.items()
            if cost["requests"]
        ],
    )


def _claims(found: Sequence[Claim]) -> Iterator[str]:
    if found:
        yield "### Claims\n"
        rows = ([claim.text, claim.spread.shown(2), _meant(claim), claim.verdict] for claim in found)
        yield from _table(["Ratio", "Runs", "Target", "Verdict"], rows)


def compare(first: Results, second: Results) -> tuple[str, bool]:
    """A table of the claims of both files, and whether all claims of the first hold in the second."""
    others = {claim.text: claim for claim in claims(second)}
    rows, all_hold = [], True
    for claim in claims(first):
        other = others.get(claim.text)
        holds = other is not None and claim.holds_in(other)
        all_hold = all_hold and holds
        verdict = "holds" if holds else "**not measured**" if other is None else "**does not hold**"
        rows.append([claim.text, claim.spread.shown(2), other.spread.shown(2) if other else "", verdict])
    return "\n".join(_table(["Ratio", first.path.name, second.path.name, "Verdict"], rows)), all_hold


def _meant(claim: Claim) -> str:
    if claim.at_least is not None:
        return f"at least {claim.at_least:.2f}"
    return f"at most {claim.at_most:.2f}"


def _table(heads: Sequence[str], rows: Iterator[list[str]] | Sequence[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _by_contender(runs: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for run in sorted(runs, key=lambda run: (_is_ours(run["contender"]), run["contender"])):
        found.setdefault(run["contender"], []).append(run)
    return found


def _correct(runs: Sequence[Record]) -> str:
    return "yes" if all(map(is_right, runs)) else "**no**"


def _is_ours(name: str) -> bool:
    return name.split("-")[0] in (OURS, "module", "bare")


def _ratios(runs: Sequence[Record], one: str, other: str, ratio: Callable[[Record, Record], float]) -> str:
    ratios = pairs(runs, one, other, ratio)
    return Spread.of(ratios).shown(2) if ratios else "-"


def _middle(runs: Sequence[Record], key: str) -> float:
    return float(median(run[key] for run in runs))


def _shown(runs: Sequence[Record], key: str, digits: int, unit: str) -> str:
    return Spread.of([run[key] for run in runs]).shown(digits, unit)


def _remark(runs: Sequence[Record]) -> str:
    left = _middle(runs, "ghosts")
    return f", {left:,.0f} ghosts left" if left else ""
