# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._text import date, duration, join_names, printable


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (0.4, "0.4 s"),
        (59, "59 s"),
        (60, "1 min"),
        (90, "1 min 30 s"),
        (3600, "1 h"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [(0, "1970-01-01 00:00:00 UTC"), (1795982400, "2026-11-29 20:00:00 UTC"), (10**20, str(10**20))],
)
def test_dates(timestamp: int, expected: str) -> None:
    assert date(timestamp) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a, b"),
        (["a", "b", "c"], "a, b and 1 more"),
        ("x" * 1002, "x, x and 1,000 more"),
    ],
)
def test_lists_of_names(names: list[str], expected: str) -> None:
    assert join_names(names, most=2) == expected


def test_lists_of_some_names() -> None:
    assert join_names(["a", "b", "c"], most=2, total=2000) == "a, b and 1,998 more"
    assert join_names(["a"], most=2, total=3) == "a and 2 more"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain \u00e9 \U0001f600", "plain \u00e9 \U0001f600"),
        ("\x1b[2J\n", "\\x1b[2J\\n"),
        ("a\u202eb\u200b\xad", "a\\u202eb\\u200b\\xad"),
    ],
)
def test_text_that_a_terminal_would_obey_is_escaped(text: str, expected: str) -> None:
    assert printable(text) == expected
