# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tables of what was tried, from the results that were written down."""

from __future__ import annotations

import json
import re
from typing import Any

from .environments import ROOT

#: With the heading of each one's column.
CHECKS = {
    "sanity": "`ansible-test sanity`",
    "units": "unit tests",
    "managed_units": "unit tests, oldest Python",
    "playbook": "playbook",
}
DATABASES = {"sqlite": "on SQLite", "postgresql": "on PostgreSQL"}
RESULTS = ROOT / "docs/compatibility.json"
BEGIN, END = "<!-- written by make matrix: {} -->", "<!-- end -->"


def read() -> dict[str, Any]:
    """What has been tried so far."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return {"cores": {}, "synapses": {}, **results}


def write(results: dict[str, Any]) -> None:
    """Keep the results, and put them where people read them."""
    RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    for name, text in rendered(results).items():
        (ROOT / name).write_text(text)


def rendered(results: dict[str, Any]) -> dict[str, str]:
    """The files that show the results, as they must be; the marks in them say where."""
    cores, synapses = (_by_version(results[kind]) for kind in ("cores", "synapses"))
    parts = {
        "README.md": {"ansible-core": _short_cores(cores), "Synapse": _synapses(synapses)},
        "docs/compatibility.md": {
            "ansible-core": _cores(cores),
            "Synapse": _synapses(synapses, {"commit": "at commit", "date": "on"}),
        },
    }
    return {name: _replaced((ROOT / name).read_text(), tables) for name, tables in parts.items()}


def _replaced(text: str, tables: dict[str, str]) -> str:
    for what, table in tables.items():
        begin = BEGIN.format(what)
        whole = re.compile(f"{begin}.*?{END}", re.DOTALL)
        if len(whole.findall(text)) != 1:
            raise ValueError(f"there must be one pair of the marks {begin} and {END}")
        text = whole.sub(lambda _found: f"{begin}\n{table}\n{END}", text)  # noqa: B023
    return text


def _by_version(results: dict[str, dict[str, str]]) -> list[dict[str, str]]:
    return [results[name] for name in sorted(results, key=lambda name: [int(part) for part in name.split(".")])]


def _short_cores(results: list[dict[str, str]]) -> str:
    """For the README: the versions with which everything has worked."""
    rows = ["| ansible-core | on Python | managed hosts from Python | |", "|---|---|---|---|"]
    for result in results:
        failed = [CHECKS[check] for check in CHECKS if result.get(check, "failed") == "failed"]
        verdict = "works" if not failed else f"fails: {', '.join(failed)}"
        rows.append(f"| {result['version']} | {result['controller_python']} | {result['managed_python']} | {verdict} |")
    return "\n".join(rows)


def _cores(results: list[dict[str, str]]) -> str:
    columns = {
        "version": "ansible-core",
        "controller_python": "on Python",
        "managed_python": "oldest Python of managed hosts",
        **CHECKS,
        "commit": "at commit",
        "date": "on",
    }
    return _table(columns, results)


def _synapses(results: list[dict[str, str]], more: dict[str, str] | None = None) -> str:
    return _table({"version": "Synapse", **DATABASES, **(more or {})}, results)


def _table(columns: dict[str, str], results: list[dict[str, str]]) -> str:
    rows = [list(columns.values()), ["---"] * len(columns)]
    rows += [[result.get(key, "not tried") for key in columns] for result in results]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
