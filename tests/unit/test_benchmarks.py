# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the benchmarks make of their figures. The figures here are made up."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_collections.matrixops.synapse.benchmarks.chart import Bar, bars
from ansible_collections.matrixops.synapse.benchmarks.claims import Claim, claims, is_right, speed
from ansible_collections.matrixops.synapse.benchmarks.figures import Spread, fit, growth
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


def drained(
    contender: str, run: int, done: float, *, accounts: int = 500, left: int = 0, **more: Any
) -> dict[str, Any]:
    """A run on PostgreSQL, in which so many accounts with three memberships each are left open."""
    return {
        "point": "drain",
        "database": "postgresql",
        "accounts": accounts,
        "contender": contender,
        "run": run,
        "code": 0,
        "memberships": 3 * accounts,
        "claimed": done,
        "then": {"joined": 3 * left, "open": left, "admins_closed": 0},
        "done": done,
        "end": {"joined": 3 * left, "open": left, "admins_closed": 0, "not_erased": left},
        "own_cpu": 1.0,
        "own_memory": 50_000_000,
        "synapse_cpu": done,
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


def test_a_line_is_found_again() -> None:
    line = fit([(x, 5 + 0.25 * x) for x in (250, 500, 1000, 2000, 4000)])
    assert line.fixed == pytest.approx(5) and line.each == pytest.approx(0.25)
    assert line.error == pytest.approx(0, abs=1e-9)
    assert line(100) == pytest.approx(30)
    assert not line.is_flat


def test_the_error_of_a_slope() -> None:
    # y = x with residues 0.1, -0.2, 0.1: their sum of squares is 0.06, of one degree of freedom; that of x is 2.
    line = fit([(0, 0.1), (1, 0.8), (2, 2.1)])
    assert line.each == pytest.approx(1)
    assert line.error == pytest.approx(math.sqrt(0.06 / 2))
    assert fit([(0, 1.0), (1, 0.9), (2, 1.1), (3, 1.0)]).is_flat
    assert fit([(0, 1), (1, 2)]).is_flat  # nothing is known of the noise


def test_relative_errors() -> None:
    points = [(x, y) for x in (0, 1) for y in (1.0, 3.0)]
    assert fit(points).fixed == pytest.approx(2)
    assert fit(points, relative=True).fixed == pytest.approx((1 / 1 + 3 / 9) / (1 + 1 / 9))


def test_growth_by_doubling() -> None:
    assert growth([(500, 0.2), (1000, 0.2), (2000, 0.2)]).each == pytest.approx(0)
    assert growth([(500, 0.19), (1000, 0.2), (2000, 0.21)]).each == pytest.approx(0.05)


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


def test_forgetting_accounts_is_neither_fast_nor_right() -> None:
    all_out, half_out = drained("module", 0, 10), drained("synadm", 0, 5, left=250)
    assert speed(all_out) == speed(half_out) == 150
    assert is_right(all_out)
    assert not is_right(half_out)
    assert not is_right({**all_out, "code": 2})
    assert not is_right({**all_out, "end": {**all_out["end"], "admins_closed": 1}})


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ((1.5, 1.6), "ours is better"),
        ((1.1, 1.2), "ours is better, by **less than meant**"),
        ((0.9, 1.1), "no difference within the noise"),
        ((0.8, 0.9), "**the peer is better**"),
    ],
)
def test_a_verdict(ratios: tuple[float, ...], verdict: str) -> None:
    assert Claim("it is so", ratios, at_least=1.4, peer=True).verdict == verdict


def test_who_is_better_is_said(tmp_path: Path) -> None:
    runs = [drained(name, run, done + run) for run in range(3) for name, done in (("module", 20), ("curl", 10))]
    found = {claim.text: claim for claim in claims(file_with(tmp_path / "results.jsonl", *runs))}
    claim = found["postgresql, 500 accounts: speed of `module`, times that of `curl`"]
    assert claim.ratios == pytest.approx([10 / 20, 11 / 21, 12 / 22])
    text = write(Results(tmp_path / "results.jsonl"), {"curl": "a loop", "uri": "not measured"}, None)
    assert "**the peer is better**" in text and "**a peer is faster than ours**" in text
    assert "- `curl`: a loop" in text and "not measured" not in text
    assert "no quiet machine" not in text


def test_noise_is_said(tmp_path: Path) -> None:
    runs = [drained(name, 0, 10, other_cpu=4.0) for name in ("module", "curl")]
    assert "Others took 20% of the machine's CPU" in (text := write(file_with(tmp_path / "x", *runs), {}, None))
    assert "This was no quiet machine" in text


def test_overhead_and_growth(tmp_path: Path) -> None:
    sizes = (250, 500, 1000, 2000, 4000)
    times = {
        "bare": lambda n: n * 0.2,
        "module": lambda n: 3 + n * 0.201,
        "modules": lambda n: 8 + n * 0.21,
        "playbook": lambda n: 9 + n * 0.213,
    }
    runs = [
        drained(name, run, time(accounts) * (1 + run / 1000), accounts=accounts)
        for name, time in times.items()
        for accounts in sizes
        for run in range(3)
    ]
    starts = [{"point": "start", "database": "postgresql", "accounts": 500, "run": 0, "contender": "", "seconds": 3.0}]
    text = write(file_with(tmp_path / "x", *runs, *starts), {}, None)
    assert "| PostgreSQL | `module` over `bare` | 4,000 | 0.9 % | 3.0 s | 1.0 ms | 3.0 s |" in text
    assert "| PostgreSQL | `playbook` over `modules` | 4,000 | 1.5 % | 1.0 s | 3.0 ms | 3.0 s |" in text
    prose = " ".join(text.split())
    assert "Fitted: 3.0 s, and 201.2 ms for each account" in prose
    assert "flat within the noise" in prose


def test_a_slower_machine_is_not_ansible(tmp_path: Path) -> None:
    runs = [drained("bare", 0, 100, synapse_cpu=80.0, pace=0.5), drained("module", 0, 121, synapse_cpu=96.0, pace=0.6)]
    results = file_with(tmp_path / "x", *runs)
    met = {
        claim.text.partition("module")[2]: claim.met
        for claim in claims(results)
        if "times that of `bare`" in claim.text
    }
    assert met == {
        "`, times that of `bare`": False,
        "` for each second of Synapse's CPU, times that of `bare`": True,
    }
    assert "took 0.50 to 0.60 s of CPU" in " ".join(write(results, {}, None).split())


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
        "ghosts (even-dead): time, times that with all servers alive": True,
    }
    text = write(results, {}, None)
    assert "| `loop`, extrapolated | 900 s | 8.0 s | 0.80 ms | 60 MB | 11,000 | - |" in text
    assert "RESULT=x BENCH_OPTIONS='--points ghosts'" in text


def test_a_page_gets_the_report(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(f"Before\n\n{BEGIN}\nold\n{END}\n\nAfter\n")
    results = file_with(tmp_path / "x", drained("module", 0, 10), drained("curl", 0, 20))
    write(results, {}, page)
    text = page.read_text()
    assert text.startswith(f"Before\n\n{BEGIN}\n") and text.endswith(f"\n{END}\n\nAfter\n") and "old" not in text
    assert "](benchmarks.svg)" in text
    ElementTree.parse(tmp_path / "benchmarks.svg")  # noqa: S314
    write(results, {}, page)
    assert page.read_text() == text
    page.write_text("No markers")
    with pytest.raises(ResultsError, match="has no lines"):
        write(results, {}, page)


def test_a_second_run_is_held_against_the_first(tmp_path: Path) -> None:
    def measured(name: str, ours: float) -> Results:
        runs = [drained(name, run, done) for run in range(3) for name, done in (("module", ours + run), ("curl", 30))]
        return file_with(tmp_path / name, *runs)

    first = measured("first", 18)
    assert compare(first, measured("alike", 18.5))[1]
    text, holds = compare(first, measured("slower", 25))
    assert not holds and "**does not hold**" in text
    text, holds = compare(first, file_with(tmp_path / "less", drained("module", 0, 20)))
    assert not holds and "**not measured**" in text


def test_a_chart_is_well_formed() -> None:
    group = [Bar("<module>", 10, 20, True, "!"), Bar("curl", 0, 0.1, False, "")]
    root = ElementTree.fromstring(bars([("A & B", group)]))  # noqa: S314
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[:-1] == ["A & B", "<module>", "20 s!", "curl", "0 s"]
