# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The language of names and messages: imperative task names, a next step in each message, one term for one thing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHECKS = {"Assert", "Refuse", "Validate"}
"""Verbs of tasks that fail if a condition does not hold."""
VERBS = CHECKS | {
    "Add",
    "Announce",
    "Check",
    "Close",
    "Compute",
    "Configure",
    "Copy",
    "Count",
    "Deactivate",
    "Decommission",
    "Delete",
    "Demote",
    "Determine",
    "Download",
    "Drain",
    "Finish",
    "Generate",
    "Hand",
    "Include",
    "Install",
    "Leave",
    "List",
    "Log",
    "Notify",
    "Open",
    "Power",
    "Put",
    "Read",
    "Release",
    "Reload",
    "Record",
    "Remove",
    "Restart",
    "Run",
    "Scale",
    "Send",
    "Show",
    "Silence",
    "Start",
    "Stop",
    "Summarize",
    "Verify",
    "Wait",
    "Write",
}
NEXT_STEP = re.compile(
    r"\b(add|check|close|correct|remove|run|set|stop)\b.*\b(again|(decommission|ghost_cleanup|ghosts|site)_\w+|stages?|Synapse|variable|path)\b"
    r"|\bdecommission_\w+",
    re.IGNORECASE | re.DOTALL,
)
"""A message that says what to do has an imperative and its object, or names the variable to set."""

NOT = {
    "decommission": r"retire[sd]?|retiring|retirements?",
    "deactivated, active": r"(closed?|closing|open) accounts?|accounts? (is|are) (closed|open)",
    "joined, leave": r"(see|sees|saw|seen) (\w+ )*out|(not|has|have|had) parted|part(ed|s|ing)? (from )?rooms?",
    "remote server": r"other servers?",
    "ghost": r"whoever|whomever",
    "confirmed, ghosts found, unreachable, refused": r"told|tell(s|ing)?",
    "static site, archive": r"after-?life|kits?",
    "poll": r"look(s|ed|ing)? (again|until|at|for|whether)",
    "backoff": r"nudge[sd]?|nudging",
    "fault": r"mishaps?|what goes wrong|goes wrong",
    "run again, resume": r"go(es)? on|gone on",
    "for example": r"such as",
    "a plain noun": r"everybody|nobody|somebody|whatever|a word for itself|on its way|come by",
}
"""Terms that are not used, by the term to use instead."""

OTHERS = {"other servers": "servers other than the remote server in question"}
ALLOWED: dict[str, dict[str, str]] = {
    "plugins/module_utils/_decommission/announcement.py": {"@nobody:": "a user ID that does not exist"},
    "plugins/module_utils/_decommission/ghosts.py": OTHERS,
    "plugins/module_utils/_federation/checks.py": OTHERS,
    "plugins/module_utils/_federation/published_keys.py": {"retired": "Matrix calls old signing keys so"},
    "plugins/module_utils/_federation/removal.py": OTHERS,
    "roles/decommission/templates/archive/index.html.j2": {"other servers": "for the users of this server"},
}
"""Exceptions: for a path, patterns of lines with their reasons."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def flattened(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The tasks, and those in their blocks."""
    for task in tasks:
        yield task
        for section in ("block", "rescue", "always"):
            yield from flattened(task.get(section) or [])


def plays_and_tasks(path: Path) -> Iterator[dict[str, Any]]:
    """The plays and tasks of a file, or nothing if it has neither."""
    content = yaml.safe_load(path.read_text())
    items = [item for item in content if isinstance(item, dict)] if isinstance(content, list) else []
    for item in items:
        if "hosts" in item:
            yield item
            for section in ("pre_tasks", "tasks", "post_tasks", "handlers"):
                yield from flattened(item.get(section) or [])
        elif "src" not in item:
            yield from flattened([item])


FILES = sorted({*ROOT.glob("roles/**/*.yml"), *ROOT.glob("playbooks/*.yml"), *ROOT.glob("docs/examples/**/*.yml")})
TASK_FILES = [path for path in FILES if any(plays_and_tasks(path))]


@pytest.mark.parametrize("path", TASK_FILES, ids=name_of)
def test_names_are_imperative(path: Path) -> None:
    """Each play and task has a name, which begins with a verb; tasks that check something begin with certain verbs."""
    for item in plays_and_tasks(path):
        verb = re.split(r"\W", item["name"])[0]
        assert verb in VERBS, item["name"]
        if "ansible.builtin.assert" in item or "ansible.builtin.fail" in item:
            assert verb in CHECKS, item["name"]


def messages(path: Path) -> Iterator[tuple[str, str]]:
    """The messages of failures in a file, by the name of the task; with the list of problems that they quote."""
    for task in plays_and_tasks(path):
        for module in ("ansible.builtin.assert", "ansible.builtin.fail"):
            if module in task:
                text = task[module].get("fail_msg") or task[module].get("msg") or ""
                problems = re.search(r"\b_\w+_problems\b", text)
                quoted = task.get("vars", {}).get(problems[0]) if problems else None
                for message in quoted or [text]:
                    yield task["name"], message


@pytest.mark.parametrize("path", sorted(ROOT.glob("roles/*/tasks/*.yml")), ids=name_of)
def test_messages_have_a_next_step(path: Path) -> None:
    for name, message in messages(path):
        assert NEXT_STEP.search(message), f"{name}: {message}"
        assert "Nothing was changed" not in message, name


TEXTS = sorted(
    {
        *(path for path in ROOT.glob("plugins/**/*.py")),
        *(path for kind in ("css", "j2", "js", "json", "md", "yml") for path in ROOT.glob(f"roles/**/*.{kind}")),
        *ROOT.glob("playbooks/*.yml"),
        *(path for kind in ("md", "yml", "cfg") for path in ROOT.glob(f"docs/**/*.{kind}")),
        ROOT / "README.md",
    }
)


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_terms(path: Path) -> None:
    """No file uses a term for which there is another one."""
    allowed = ALLOWED.get(name_of(path), {})
    found = [
        f"{number}: {match[0]!r}, use: {term}"
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for term, pattern in NOT.items()
        for match in re.finditer(rf"\b({pattern})\b", line, re.IGNORECASE)
        if not any(re.search(exception, line) for exception in allowed)
    ]
    assert not found, "\n".join(found)


def test_exceptions_are_needed() -> None:
    """An exception whose reason is gone goes, too."""
    for name, patterns in ALLOWED.items():
        if not (ROOT / name).exists():
            continue
        text = (ROOT / name).read_text()
        assert all(re.search(pattern, text) for pattern in patterns), name
