# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import GhostRun
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import STATES, Pair, PairResult
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.names import MAX_SERVER_NAME
from ansible_collections.matrixops.synapse.plugins.module_utils._federation_module import (
    MAX_NAMES,
    Run,
    as_result,
    shown,
)
from ansible_collections.matrixops.synapse.plugins.modules.matrix_ghosts import as_diff

MEGABYTE = 1_000_000
LONG = "\U0001f47b"
"""Four bytes of a name, and twelve as JSON."""


def run_of(*results: PairResult) -> Run:
    client: Any = SimpleNamespace(key=SimpleNamespace(key_id="ed25519:a"), sent=1)
    found = {result.pair: result for result in results}
    return Run(GhostRun(client, lambda _result: None, results=found), [], {"rooms": 1}, None, "")


def result_of(number: int, *, long: bool, servers: int) -> PairResult:
    """A pair in which accounts are listed; all names and texts are as long as they can be, or none is."""
    fill = LONG * 60 if long else ""
    server = f"{number % servers}{'a' * (MAX_SERVER_NAME - 15) if long else ''}.example"
    accounts = 12 if number < 1000 else 1  # those that are shown
    ghosts = {f"@{number}.{each}{fill}:x.example": "invite" for each in range(accounts)}
    reason = LONG * 300 if long else ""
    return PairResult(Pair(server, f"!{number}{fill}:x"), "ghosts", ghosts, reason, removed=tuple(ghosts))


@pytest.mark.parametrize("long", [True, False])
@pytest.mark.parametrize("servers", [10, 20_000])
def test_a_result_is_never_too_large(long: bool, servers: int) -> None:
    run = run_of(*(result_of(number, long=long, servers=servers) for number in range(100_000)))
    result = {**as_result(run), "diff": as_diff(run.ghosts, dry_run=False)}
    assert len(json.dumps(result)) < MEGABYTE
    assert result["pairs"] == result["counts"]["ghosts"] == 100_000
    assert result["ghosts"] == 111_000
    assert len(result["servers"]) >= min(servers, 400)
    assert len(result["not_confirmed"]) >= (10 if long else 200)
    for text in result["diff"].values():
        assert text.endswith(" more\n") and int(text.split()[-2]) + len(text.splitlines()) - 1 == 111_000


def test_what_is_small_is_whole() -> None:
    items = [{"a": number} for number in range(MAX_NAMES + 1)]
    assert shown(items) == items[:MAX_NAMES]
    assert shown([]) == []


def test_servers_with_most_that_is_not_confirmed_come_first() -> None:
    def results(server: str, *states: str) -> list[PairResult]:
        return [PairResult(Pair(server, f"!{number}:x"), state, {}) for number, state in enumerate(states)]

    run = run_of(*results("c", *["confirmed"] * 5), *results("b", "refused"), *results("a", *STATES), *results("d"))
    result = as_result(run)
    assert [(row["server"], row["rooms"], row["confirmed"]) for row in result["servers"]] == [
        ("a", 5, 1),
        ("b", 1, 0),
        ("c", 5, 5),
    ]
    assert result["counts"] == {"confirmed": 6, "ghosts": 1, "refused": 2, "unreachable": 1, "unconfirmed": 1}
    assert [pair["state"] for pair in result["not_confirmed"]] == ["refused", *STATES[1:]]


def test_a_diff() -> None:
    pair, other = Pair("b.example", "!a:b"), Pair("a.example", "!a:b")
    removed = PairResult(pair, "confirmed", {}, removed=("@b:x", "@a:x"))
    # One that is still listed after its leave was accepted is one line before, and one after.
    left = PairResult(other, "ghosts", {"@a:x": "join", "@c:x": "join"}, removed=("@a:x",))
    run = run_of(removed, left)
    lines = [f"a.example !a:b {user_id}\n" for user_id in ("@a:x", "@c:x")]
    before = "".join([*lines, "b.example !a:b @a:x\n", "b.example !a:b @b:x\n"])
    assert as_diff(run.ghosts, dry_run=False) == {"before": before, "after": "".join(lines)}
    assert as_diff(run_of(left).ghosts, dry_run=True) == {"before": "".join(lines), "after": ""}
