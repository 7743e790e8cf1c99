# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tables of tested versions, from the recorded results."""

from __future__ import annotations

import json
import re
from typing import Any

from .environments import ROOT

#: With the heading of the column of each check.
CHECKS = {
    "sanity": "`ansible-test sanity`",
    "units": "Unit tests",
    "managed_units": "Unit tests, oldest Python",
    "playbook": "Playbook",
}
DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
RESULTS = ROOT / "docs/maintainers/compatibility.json"
BEGIN, END = "<!-- written by make matrix: {} -->", "<!-- end -->"


def read() -> dict[str, Any]:
    """The results so far."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return {"cores": {}, "synapses": {}, **results}


def write(results: dict[str, Any]) -> None:
    """Store the results, and write the page that shows them."""
    RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    for name, text in rendered(results).items():
        (ROOT / name).write_text(text)


def rendered(results: dict[str, Any]) -> dict[str, str]:
    """The files that show the results, as they must be, with the tables between their marks."""
    cores, synapses = (_by_version(results[kind]) for kind in ("cores", "synapses"))
    parts = {
        "docs/maintainers/compatibility.md": {
            "ansible-core": _cores(cores),
            "Synapse": _synapses(synapses),
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


def _cores(results: list[dict[str, str]]) -> str:
    columns = {
        "version": "ansible-core",
        "controller_python": "Python",
        "managed_python": "Oldest Python of managed hosts",
        **CHECKS,
        "commit": "Commit",
        "date": "Date",
    }
    return _table(columns, results)


def _synapses(results: list[dict[str, str]]) -> str:
    return _table({"version": "Synapse", **DATABASES, "commit": "Commit", "date": "Date"}, results)


def _table(columns: dict[str, str], results: list[dict[str, str]]) -> str:
    rows = [list(columns.values()), ["---"] * len(columns)]
    rows += [[result.get(key, "not tested") for key in columns] for result in results]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
