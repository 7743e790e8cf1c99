# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of what was tried, from the results that were written down."""

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
RESULTS = ROOT / "docs/compatibility.json"
BEGIN, END = "<!-- written by make matrix -->", "<!-- end -->"


def read() -> dict[str, Any]:
    """What has been tried so far."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"cores": {}}
    return results


def write(results: dict[str, Any]) -> None:
    """Keep the results, and put them where people read them."""
    RESULTS.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")
    for name, text in rendered(results).items():
        (ROOT / name).write_text(text)


def rendered(results: dict[str, Any]) -> dict[str, str]:
    """The files that show the results, as they must be; the marks in them say where."""
    parts = {"README.md": _short(results), "docs/compatibility.md": _long(results)}
    return {name: _replaced((ROOT / name).read_text(), part) for name, part in parts.items()}


def _replaced(text: str, part: str) -> str:
    whole = re.compile(f"{BEGIN}.*?{END}", re.DOTALL)
    if len(whole.findall(text)) != 1:
        raise ValueError(f"there must be one pair of the marks {BEGIN} and {END}")
    return whole.sub(lambda _found: f"{BEGIN}\n{part}\n{END}", text)


def _cores(results: dict[str, Any]) -> list[tuple[str, dict[str, str]]]:
    return sorted(results["cores"].items(), key=lambda item: [int(part) for part in item[0].split(".")])


def _short(results: dict[str, Any]) -> str:
    """For the README: the versions with which everything has worked."""
    rows = ["| ansible-core | on Python | managed hosts from Python | |", "|---|---|---|---|"]
    for _core, result in _cores(results):
        failed = [CHECKS[check] for check in CHECKS if result.get(check, "failed") == "failed"]
        verdict = "works" if not failed else f"fails: {', '.join(failed)}"
        rows.append(f"| {result['version']} | {result['controller_python']} | {result['managed_python']} | {verdict} |")
    return "\n".join(rows)


def _long(results: dict[str, Any]) -> str:
    heads = ["ansible-core", "on Python", "oldest Python of managed hosts", *CHECKS.values(), "at commit", "on"]
    rows = [heads, ["---"] * len(heads)]
    for _core, result in _cores(results):
        keys = ["version", "controller_python", "managed_python", *CHECKS, "commit", "date"]
        rows.append([result.get(key, "not tried") for key in keys])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
