# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The reports of the benchmarks. The figures here are made up."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.matrixops.synapse.benchmarks.chart import Bar, bars
from ansible_collections.matrixops.synapse.benchmarks.claims import Claim, claims, is_right, speed
from ansible_collections.matrixops.synapse.benchmarks.drain import POLL, STALLED, emptied
from ansible_collections.matrixops.synapse.benchmarks.figures import Spread
from ansible_collections.matrixops.synapse.benchmarks.plan import Plan
from ansible_collections.matrixops.synapse.benchmarks.report import BEGIN, END, compare, write
from ansible_collections.matrixops.synapse.benchmarks.results import Results, ResultsError

MACHINE = {
    "date": "2026-11-23 12:00 UTC",
    "cpu": "Abacus",
    "cores": 2,
    "memory_gib": 4.0,
    "kernel": "6",
    "versions": {"Synapse": "1.163"},
    "settings": "None.",
}


def drained(contender: str, run: int, heard: float, *, left: int = 0, **more: Any) -> dict[str, Any]:
    """A run on PostgreSQL, in which so many of 500 accounts stay active, with a membership each in a shared room.

    All have left all rooms after three times as long.
    """
    return {
        "point": "drain",
        "database": "postgresql",
        "accounts": 500,
        "contender": contender,
        "run": run,
        "memberships": 1500,
        "shared": 500,
        "code": 0,
        "claimed": heard,
        "heard": heard,
        "ghosts": left,
        "done": 3 * heard,
        "joined": 3 * left,
        "active": left,
        "admins_deactivated": 0,
        "not_erased": left,
        "own_cpu": 1.0,
        "own_memory": 50_000_000,
        "watched": heard,
        "synapse_cpu": heard,
        "database_cpu": 0.0,
        "other_cpu": 0.0,
        **more,
    }


def file_with(path: Path, *runs: dict[str, Any], **machine: Any) -> Results:
    results = Results(path)
    results.open_for({**MACHINE, **machine})
    for run in runs:
        results.append(run)
    return results


def test_a_spread_is_shown() -> None:
    assert Spread.of([3.0, 1.0, 2.0]).shown(1, " s") == "2.0 s (1.0 to 3.0)"
    assert Spread.of([2.0]).shown(0, " %", factor=100) == "200 %"


def test_a_file_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    file_with(path, drained("curl", 0, 10))
    with path.open("a") as file:
        file.write('{"point": "drain", "data')  # and then the machine was off
    again = file_with(path, drained("curl", 1, 11), date="later")
    assert drained("curl", 0, 99) in again and drained("curl", 2, 10) not in again
    last = Results(path)
    assert [run["run"] for run in last.runs] == [0, 1]
    assert last.machine["date"] == MACHINE["date"]


def test_a_file_is_of_one_machine(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    file_with(path)
    with pytest.raises(ResultsError, match="another kernel: take"):
        file_with(path, kernel="7")


def test_the_time_is_that_of_the_last_who_left() -> None:
    def seconds(*counts: int, ended: bool = True) -> float:
        remaining, event, began = iter(counts), Event(), time.monotonic()
        if ended:
            event.set()
        return round(emptied(lambda: next(remaining, counts[-1]), began, event), 3)

    assert seconds(0) == 0
    assert seconds(3, 3, 1, 0, 0) == 3 * POLL
    assert seconds(5, 2, 2, 2) == POLL  # two are left behind
    # Before its end, a contender may take its time.
    assert seconds(5, *[5] * int(2 * STALLED / POLL), 0, ended=False) == 2 * STALLED + POLL


def test_forgetting_accounts_is_neither_fast_nor_right() -> None:
    all_left, half_left = drained("collection", 0, 10), drained("synadm", 0, 5, left=250)
    assert speed(all_left, "heard") == speed(half_left, "heard") == 50
    assert speed(all_left, "done") == speed(half_left, "done") == 50
    assert is_right(all_left)
    assert not is_right(half_left)
    for wrong in ("code", "ghosts", "joined", "active", "admins_deactivated", "not_erased"):
        assert not is_right({**all_left, wrong: 1})


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ((1.5, 1.6), "better, target met"),
        ((1.2, 1.3), "better, **target not met**"),
        ((0.9, 1.1), "no difference within the noise"),
        ((0.8, 0.9), "**the peer is better**"),
    ],
)
def test_a_verdict(ratios: tuple[float, ...], verdict: str) -> None:
    assert Claim("it is so", ratios, at_least=1.4, peer=True).verdict == verdict


def test_who_is_better_is_said(tmp_path: Path) -> None:
    times = {"collection": (20, 21, 22), "curl": (10, 50, 90), "curl-8": (70, 10.5, 80)}
    runs = [drained(name, run, heard) for name, found in times.items() for run, heard in enumerate(found)]
    found = {claim.text: claim for claim in claims(file_with(tmp_path / "results.jsonl", *runs))}
    claim = found[
        "postgresql, 500 accounts: speed until the remote server lists no account, times that of the best peer"
    ]
    assert claim.ratios == pytest.approx([10 / 20, 10.5 / 21, 80 / 22])
    assert claim.at_least == 3
    assert found["postgresql, 500 accounts: `collection` leaves no account behind (1 is yes)"].met
    text = write(Results(tmp_path / "results.jsonl"), {"curl": "a loop", "synadm": "not measured"}, None)
    assert "| `curl` | 2.38 (0.50 to 4.09) | 50.0 s (10.0 to 90.0) | 0 | 50.0 s" in text
    assert "- `curl`: a loop" in text and "not measured" not in text
    assert "no quiet machine" not in text


def test_contenders_may_be_left_out(tmp_path: Path) -> None:
    assert not list(claims(file_with(tmp_path / "peers", drained("curl", 0, 10))))
    (only,) = claims(file_with(tmp_path / "ours", drained("collection", 0, 10)))
    assert only.text.endswith("leaves no account behind (1 is yes)")


def test_noise_is_said(tmp_path: Path) -> None:
    runs = [drained(name, 0, 10, other_cpu=4.0) for name in ("collection", "curl")]
    assert "Other processes used 20% of the CPU" in (text := write(file_with(tmp_path / "x", *runs), {}, None))
    assert "The machine was not quiet" in text


def checked(shape: str, contender: str, seconds: float, **more: Any) -> dict[str, Any]:
    """A check of 10,000 pairs."""
    return {
        "point": "ghosts",
        "database": shape,
        "accounts": 10_000,
        "contender": contender,
        "run": 0,
        "pairs": 10_000,
        "seconds": seconds,
        "own_cpu": 8.0,
        "own_memory": 60_000_000,
        "requests": 11_000,
        "extrapolated": contender == "loop",
        "right": True,
        **more,
    }


def test_targets_of_a_check(tmp_path: Path) -> None:
    runs = [checked("even", "loop", 900), checked("even", "bare", 300, own_memory=160e6)]
    results = file_with(tmp_path / "x", *runs, checked("even-dead", "bare", 330, own_cpu=25.0))
    met = {claim.text: claim.met for claim in claims(results)}
    assert met == {
        "ghosts (even): minutes": True,
        "ghosts (even): memory in MB": False,
        "ghosts (even): CPU of a check in ms": True,
        "ghosts (even): time of `loop`, times that of `bare`": True,
        "ghosts (even-dead): minutes": True,
        "ghosts (even-dead): memory in MB": True,
        "ghosts (even-dead): CPU of a check in ms": False,
        "ghosts (even-dead): time, relative to all servers up": True,
    }
    text = write(results, {}, None)
    assert "| `loop`, extrapolated | 900 s | 8.0 s | 0.80 ms | 60 MB | 11,000 | - |" in text
    assert "RESULT=x BENCH_OPTIONS='--points ghosts'" in text


def test_a_page_gets_the_report(tmp_path: Path) -> None:
    page, overview = tmp_path / "benchmarks-details.md", tmp_path / "benchmarks.md"
    other = f"{BEGIN.format('y.jsonl')}\nother\n{END}\n"
    begin = BEGIN.format("x.jsonl")
    for file in (page, overview):
        file.write_text(f"{other}Before\n\n{begin}\nold\n{END}\n\nAfter\n")
    results = file_with(tmp_path / "x.jsonl", drained("collection", 0, 10), drained("curl", 0, 20))
    write(results, {}, page)
    text = page.read_text()
    for written in (text, overview.read_text()):
        assert written.startswith(f"{other}Before\n\n{begin}\n") and written.endswith(f"\n{END}\n\nAfter\n")
        assert "old" not in written
    assert "](benchmarks.svg)" in overview.read_text()
    assert "| PostgreSQL | 500 | `collection` | 10.0 s | 30.0 s | 0 | yes |" in overview.read_text()
    ElementTree.parse(tmp_path / "benchmarks.svg")  # noqa: S314
    write(results, {}, page)
    assert page.read_text() == text
    page.write_text(other)
    with pytest.raises(ResultsError, match="has no lines"):
        write(results, {}, page)


def test_each_measurement_is_planned_once() -> None:
    plan = Plan(
        points=("drain",), databases=("sqlite",), accounts=(500, 2000), contenders=("curl", "collection"), runs=2
    )
    jobs = [(job["run"], job["accounts"], job["contender"]) for job in plan.jobs()]
    assert jobs == [
        (0, 500, "curl"), (0, 500, "collection"), (0, 2000, "curl"), (0, 2000, "collection"),
        (1, 500, "collection"), (1, 500, "curl"), (1, 2000, "collection"), (1, 2000, "curl"),
    ]  # fmt: skip


def test_a_second_run_is_held_against_the_first(tmp_path: Path) -> None:
    def measured(name: str, ours: float) -> Results:
        runs = [
            drained(name, run, heard) for run in range(3) for name, heard in (("collection", ours + run), ("curl", 30))
        ]
        return file_with(tmp_path / name, *runs)

    first = measured("first", 18)
    assert compare(first, measured("alike", 18.5))[1]
    text, holds = compare(first, measured("slower", 25))
    assert not holds and "**does not hold**" in text
    text, holds = compare(first, file_with(tmp_path / "less", drained("collection", 0, 20)))
    assert not holds and "**not measured**" in text


def test_a_chart_is_well_formed() -> None:
    group = [Bar("<module>", 10, 20, True, "!"), Bar("curl", 0, 0.1, False, "")]
    root = ElementTree.fromstring(bars([("A & B", group)], "What they mean."))  # noqa: S314
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts == ["A & B", "<module>", "20 s!", "curl", "0 s", "What they mean."]


def test_the_growth_with_a_large_server(tmp_path: Path) -> None:
    """Twice as many accounts take twice as long, and as many requests."""

    def measured(size: str, accounts: int, seconds: float) -> dict[str, Any]:
        cost = {"requests": 1000, "seconds": seconds, "own_cpu": 2.0, "other_cpu": 0.0, "largest_result": 5000}
        memory = {"controller_memory": 70_000_000, "host_memory": 40_000_000}
        stages = {"preflight": {"requests": 1000, "seconds": seconds, "result": 5000}}
        key = {"point": "scale", "database": size, "accounts": accounts, "contender": "check", "run": 0}
        return {**key, "code": 0, **cost, **memory, "stages": stages}

    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN.format('x.jsonl')}\n{END}\n")
    results = file_with(tmp_path / "x.jsonl", measured("usual", 20_000, 30), measured("accounts", 40_000, 60))
    text = write(results, {}, page)
    assert "](benchmarks-scale.svg)" in text
    assert "| 40,000 | 20,000 | 5,000 | 3,000 | 1,000 | 60 s | 2 s | 70 MB | 40 MB | 5 kB |" in text
    assert "| accounts | 0.00 | 1.00 | 0.00 | 0.00 | 0.00 |" in text
    root = ElementTree.parse(tmp_path / "benchmarks-scale.svg")  # noqa: S314
    shown = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert shown[1:-1] == [
        "U 20k R 20k F 5k D 3k",
        "30 s, 1,000 requests",
        "U 40k R 20k F 5k D 3k",
        "60 s, 1,000 requests",
    ]
