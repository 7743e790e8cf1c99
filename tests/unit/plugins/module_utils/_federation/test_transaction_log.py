# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.transaction_log import (
    Origin,
    parse_line,
    read_log,
)
from ansible_collections.matrixops.synapse.tests.stubs.helpers import NOW
from hypothesis import given
from hypothesis import strategies as st

EVERYTHING = 1_000_000


def line(origin: str, when: float = NOW) -> str:
    return json.dumps({"ts": when, "user_id": origin}) + "\n"


# As nginx and Caddy have written them
NGINX = '{"ts":1795416000.123,"user_id":"b.example:8448"}'
CADDY = '{"ts":1795416000.1234567,"user_id":"b.example:8448"}'


@pytest.mark.parametrize("text", [NGINX, CADDY, '{"user_id":"b.example:8448","ts":1795416000}\r'])
def test_a_line(text: str) -> None:
    assert parse_line(text.encode()) == (NOW, "b.example:8448")


@pytest.mark.parametrize(
    "entry",
    [
        {"ts": NOW},
        {"user_id": "b.example"},
        {"ts": NOW, "user_id": "-"},
        {"ts": NOW, "user_id": ""},
        {"ts": NOW, "user_id": "b.example\x1b[2J"},
        {"ts": NOW, "user_id": "{{ 1 }}"},
        {"ts": NOW, "user_id": ["b.example"]},
        {"ts": NOW, "user_id": 1},
        {"ts": str(NOW), "user_id": "b.example"},
        {"ts": True, "user_id": "b.example"},
        {"ts": -1, "user_id": "b.example"},
        {"ts": 10**400, "user_id": "b.example"},
        {"ts": float("nan"), "user_id": "b.example"},
        {"ts": float("inf"), "user_id": "b.example"},
        {"ts": NOW, "user_id": "b.example", "more": "x" * 5000},
        ["ts", "user_id"],
        "text",
        None,
    ],
    ids=str,
)
def test_a_line_that_is_invalid(entry: Any) -> None:
    assert parse_line(json.dumps(entry).encode()) is None


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff\xfe", b"[" * 4000, b"NaN", b'{"ts": 1, "user_id": "b.exa\xffmple"}']
)
def test_a_line_that_is_not_json(text: bytes) -> None:
    assert parse_line(text) is None


@given(st.binary(max_size=100))
def test_any_line(text: bytes) -> None:
    parse_line(text)


def test_origins(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(line("b.example", 20) + "garbage\n" + line("-") + line("c.example", 30) + line("b.example", 10.9))
    found = read_log(str(log), EVERYTHING)
    assert found.origins == [Origin("c.example", 1, 30, 30), Origin("b.example", 2, 10, 20)]
    assert (found.invalid, found.truncated) == (2, False)


def test_the_rotated_file(tmp_path: Path) -> None:
    """Also if it does not end with a line end."""
    log = tmp_path / "log"
    log.write_text(line("b.example", 20))
    (tmp_path / "log.1").write_text((line("b.example", 10) + line("c.example", 10)).rstrip())
    (tmp_path / "log.2.gz").write_text("not read")
    found = read_log(str(log), EVERYTHING)
    assert found.origins == [Origin("b.example", 2, 10, 20), Origin("c.example", 1, 10, 10)]
    assert found.invalid == 0
    log.unlink()
    assert [origin.count for origin in read_log(str(log), EVERYTHING).origins] == [1, 1]


def test_no_log(tmp_path: Path) -> None:
    found = read_log(str(tmp_path / "log"), EVERYTHING)
    assert (found.origins, found.invalid, found.truncated) == ([], 0, False)


def test_only_the_end_is_read(tmp_path: Path) -> None:
    """A line that is cut off does not count, one that is just complete does."""
    log, rotated = tmp_path / "log", tmp_path / "log.1"
    one = line("b.example")
    log.write_text(one * 10)
    rotated.write_text(one * 10)
    for lines, counted in ((3.0, 3), (3.5, 3), (10.0, 10), (10.5, 10), (12.0, 12), (20.0, 20)):
        found = read_log(str(log), int(lines * len(one)))
        assert ([origin.count for origin in found.origins], found.invalid) == ([counted], 0), lines
        assert found.truncated is (lines < 20), lines


def test_what_is_no_file(tmp_path: Path) -> None:
    """Reading a FIFO would not end."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    for name in ("fifo", "directory"):
        with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
            read_log(str(tmp_path / name), EVERYTHING)
