# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghost_record import (
    GhostRecord,
    RecordError,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import Room
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import (
    KnownAccounts,
    Pair,
    PairResult,
)

OURS = "gone.example"
PAIR, OTHER = Pair("a.example", "!r:a.example"), Pair("b.example", "!r:a.example")
CONFIRMED = PairResult(PAIR, "confirmed", {}, removed=("@a:gone.example",))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "record.jsonl"


def confirmed(path: Path | None, *pending: str) -> set[Pair]:
    """The pairs that a run with this record does not check."""
    rooms = [Room("!r:a.example", ("a.example", "b.example"), KnownAccounts((), pending))]
    return set(GhostRecord(None if path is None else str(path), OURS).begin(rooms))


def test_confirmed_pairs_are_known_to_the_next_run(path: Path) -> None:
    with GhostRecord(str(path), OURS) as record:
        record.add(CONFIRMED)
        record.add(PairResult(OTHER, "unreachable", {}, "no route", is_transient=True))
    assert confirmed(path) == {PAIR}
    rooms = [Room("!r:a.example", ("a.example", "b.example"), KnownAccounts())]
    record = GhostRecord(str(path), OURS)
    assert record.begin(rooms) == {PAIR: CONFIRMED._replace(removed=())}
    assert record.to_check == 1
    assert GhostRecord(str(path), OURS).begin(rooms, recheck=True) == {}


def test_a_confirmation_covers_the_pending_accounts_that_were_checked(path: Path) -> None:
    bob, carol = "@bob:gone.example", "@carol:gone.example"
    with GhostRecord(str(path), OURS) as record:
        record.add(CONFIRMED)
    assert confirmed(path) == {PAIR}
    assert confirmed(path, bob) == set()
    with GhostRecord(str(path), OURS) as record:
        record.begin([Room("!r:a.example", ("a.example",), KnownAccounts((), (bob,)))])
        record.add(CONFIRMED)
    assert confirmed(path) == confirmed(path, bob) == {PAIR}
    assert confirmed(path, bob, carol) == set()


def test_lines(path: Path) -> None:
    with GhostRecord(str(path), OURS) as record:
        record.add(PairResult(PAIR, "ghosts", {"@a:gone.example": "join"}, "why\n\u202e"))
    first, line = (json.loads(line) for line in path.read_text().splitlines())
    assert first == {"server_name": OURS, "format": 1}
    assert line.pop("time") > 0
    assert line == {
        "server": "a.example",
        "room_id": "!r:a.example",
        "state": "ghosts",
        "reason": "why\n\u202e",
        "ghosts": {"@a:gone.example": "join"},
        "removed": [],
        "pending": [],
    }


def test_only_the_owner_reads_it(path: Path) -> None:
    with GhostRecord(str(path), OURS):
        assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_line_that_was_cut_off_is_dropped(path: Path) -> None:
    with GhostRecord(str(path), OURS) as record:
        record.add(CONFIRMED)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"server": "b.exam')
    with GhostRecord(str(path), OURS) as record:
        record.add(PairResult(OTHER, "confirmed", {}))
    assert path.read_bytes().startswith(whole)
    assert confirmed(path) == {PAIR, OTHER}


def test_the_file_is_only_written_in_the_context() -> None:
    with GhostRecord(None, OURS) as record:
        record.add(CONFIRMED)
    assert confirmed(None) == set()


def test_reading_creates_nothing(path: Path) -> None:
    record = GhostRecord(str(path), OURS)
    record.begin([])
    record.add(CONFIRMED)
    assert not path.exists()


@pytest.mark.parametrize(
    "content",
    [
        '{"server_name": "other.example", "format": 1}\n',
        '{"server_name": "gone.example", "format": 2}\n',
        "root:x:0:0\n",
        "[]\n",
        '{"server_name": "gone.example", "format": 1}\nnonsense\n',
    ],
)
def test_another_file_is_refused_and_kept(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(RecordError, match="set another record_path"):
        GhostRecord(str(path), OURS)
    assert path.read_text() == content


def test_a_path_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="can't be written"), GhostRecord(str(tmp_path / "missing" / "file"), OURS):
        raise AssertionError("not reached")


def test_only_what_is_new_is_added(path: Path) -> None:
    down = PairResult(OTHER, "unreachable", {}, "no route", is_transient=True)
    for _run in range(3):
        with GhostRecord(str(path), OURS) as record:
            record.add(down)
            record.add(down)
    assert len(path.read_text().splitlines()) == 2
    with GhostRecord(str(path), OURS) as record:
        record.add(down._replace(reason="timeout"))
        record.add(down)
    assert len(path.read_text().splitlines()) == 4


def test_the_last_result_of_a_pair_counts(path: Path) -> None:
    with GhostRecord(str(path), OURS) as record:
        record.add(CONFIRMED)
        record.add(PairResult(PAIR, "ghosts", {"@a:gone.example": "join"}))
    assert confirmed(path) == set()


def test_each_run_adds_its_result(path: Path) -> None:
    with GhostRecord(str(path), OURS) as record:
        record.add(CONFIRMED)
        record.end({"message": "all is well", "pairs": 1, "servers": ["a.example"]})
    line = json.loads(path.read_text().splitlines()[-1])
    assert line.pop("time") > 0
    assert line == {"run": {"message": "all is well", "pairs": 1}}
    assert confirmed(path) == {PAIR}


def test_one_run_at_a_time(path: Path) -> None:
    late = GhostRecord(str(path), OURS)
    with GhostRecord(str(path), OURS) as record:
        record.add(CONFIRMED)
        with pytest.raises(RecordError, match="in use by another run"), GhostRecord(str(path), OURS):
            raise AssertionError("not reached")
    before = path.read_bytes()
    with pytest.raises(RecordError, match="in use by another run"), late:
        raise AssertionError("not reached")
    assert path.read_bytes() == before
    with GhostRecord(str(path), OURS):
        pass
