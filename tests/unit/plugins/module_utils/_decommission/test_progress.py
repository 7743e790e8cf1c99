# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.progress import (
    MAX_POINTS,
    WRITE_INTERVAL,
    DrainLog,
    StepProgress,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Clock

A, B = "@a:example.org", "@b:example.org"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


@pytest.fixture
def progress(tmp_path: Path) -> Path:
    return tmp_path / "progress"


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# The log


def test_each_line_says_when_what_happened_to_whom(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1795416000.12345)
    with DrainLog(str(log)) as journal:
        journal.write("@ż:example.org", "not parted", rooms={"!r": "banned"})
        journal.write(A, "deactivated", rooms_left=0)
    assert lines_of(log) == [
        {"time": 1795416000.123, "user_id": "@ż:example.org", "result": "not parted", "rooms": {"!r": "banned"}},
        {"time": 1795416000.123, "user_id": A, "result": "deactivated", "rooms_left": 0},
    ]


def test_what_is_not_known_is_left_out(log: Path) -> None:
    with DrainLog(str(log)) as journal:
        journal.write(A, "left_all_rooms", rooms_left=None, error=None)
    assert sorted(lines_of(log)[0]) == ["result", "time", "user_id"]


def test_lines_are_appended_as_they_come(log: Path) -> None:
    log.write_text('{"user_id": "before"}\n')
    with DrainLog(str(log)) as journal:
        for number in range(3):
            journal.write(A, "left_all_rooms")
            assert len(lines_of(log)) == 2 + number
    assert lines_of(log)[0] == {"user_id": "before"}


def test_a_line_break_in_a_name_breaks_no_line(log: Path) -> None:
    with DrainLog(str(log)) as journal:
        journal.write("@a\nb:example.org", "failed", error="line 1\nline 2\u2028")
    assert len(log.read_bytes().splitlines()) == 1


def test_a_log_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), DrainLog(str(tmp_path / "missing" / "log")):
        raise AssertionError("not reached")


def test_a_log_that_cannot_be_written() -> None:
    with DrainLog("/dev/full") as journal, pytest.raises(
        SynapseError, match=r"cannot write the log /dev/full: .*No space"
    ):
        journal.write(A, "left_all_rooms")


def test_nothing_is_kept_without_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with DrainLog() as journal:
        journal.expect(1)
        journal.write(A, "left_all_rooms")
    assert list(tmp_path.iterdir()) == []


# How far it has come


def test_progress_is_shown_from_the_start(progress: Path) -> None:
    with DrainLog(None, str(progress)) as journal:
        journal.expect(500)
        assert json.loads(progress.read_text()) == {
            "accounts": 500,
            "left": 0,
            "deactivated": 0,
            "left_all_rooms": 0,
            "failed": 0,
            "left_to_deactivation": 0,
            "elapsed": 0.0,
        }


def test_progress_counts_what_happened(progress: Path, clock: Clock) -> None:
    with DrainLog(None, str(progress)) as journal:
        journal.expect(3)
        for result in (*["left"] * 3, *["deactivated"] * 2, "left_all_rooms", "failed", "queued again", "not parted"):
            journal.write(A, result)
        clock.sleep(WRITE_INTERVAL)
        journal.expect(2)
        assert json.loads(progress.read_text()) == {
            "accounts": 5,
            "left": 3,
            "deactivated": 2,
            "left_all_rooms": 1,
            "failed": 1,
            "left_to_deactivation": 0,
            "elapsed": 1.0,
        }


def test_progress_is_written_no_more_than_once_in_a_while(progress: Path, clock: Clock) -> None:
    shown = []
    with DrainLog(None, str(progress)) as journal:
        journal.expect(10)
        for _account in range(10):
            clock.sleep(WRITE_INTERVAL / 4)
            journal.write(A, "left_all_rooms")
            shown.append(json.loads(progress.read_text())["left_all_rooms"])
    assert shown == [0, 0, 0, 4, 4, 4, 4, 8, 8, 8]


def test_who_reads_sees_the_old_or_the_new(progress: Path, tmp_path: Path) -> None:
    with DrainLog(None, str(progress)) as journal:
        journal.expect(1)
        with open(progress, encoding="utf-8") as old:
            journal.expect(1)
            assert json.load(old)["accounts"] == 1
        assert json.loads(progress.read_text())["accounts"] == 2
        assert list(tmp_path.iterdir()) == [progress]


@pytest.mark.usefixtures("strict_umask")
def test_others_may_read_how_far_it_has_come_but_not_what_happened_to_whom(log: Path, progress: Path) -> None:
    with DrainLog(str(log), str(progress)) as journal:
        journal.expect(1)
        assert progress.stat().st_mode & 0o777 == 0o644
        assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("exception", [None, ValueError, SystemExit])
def test_progress_is_gone_in_the_end_and_the_log_is_not(
    log: Path, progress: Path, exception: type[BaseException] | None
) -> None:
    def work() -> None:
        with DrainLog(str(log), str(progress)) as journal:
            journal.expect(1)
            journal.write(A, "left_all_rooms")
            if exception is not None:
                raise exception

    if exception is None:
        work()
    else:
        with pytest.raises(exception):
            work()
    assert not progress.exists()
    assert len(lines_of(log)) == 1


def test_progress_that_somebody_has_removed_is_no_error(progress: Path) -> None:
    with DrainLog(None, str(progress)) as journal:
        journal.expect(1)
        progress.unlink()
    with DrainLog(None, str(progress)):
        pass  # nothing was ever shown


def test_progress_that_cannot_be_written_stops_nothing(tmp_path: Path, clock: Clock, log: Path) -> None:
    with DrainLog(str(log), str(tmp_path / "missing" / "progress")) as journal:
        journal.expect(1)
        clock.sleep(WRITE_INTERVAL)
        journal.write(A, "left_all_rooms")
    assert len(lines_of(log)) == 1


# How it went


def test_timeline_is_short_and_even(clock: Clock) -> None:
    with DrainLog() as journal:
        for _account in range(20_000):
            clock.sleep(0.1)
            journal.write(A, "deactivated")
            journal.write(A, "left_all_rooms")
    timeline = journal.timeline
    assert len(timeline) == MAX_POINTS
    assert timeline[0] == [0.0, 0, 0] and timeline[-1] == [2000.0, 20_000, 20_000]
    gaps = [after[0] - before[0] for before, after in zip(timeline, timeline[1:])]
    assert max(gaps) < 4 * 2000 / MAX_POINTS


@pytest.mark.parametrize("is_link", [True, False])
def test_nothing_of_another_user_is_written_to(tmp_path: Path, is_link: bool) -> None:
    """The progress file is in /tmp, where anybody may create files of any name."""
    target, progress = tmp_path / "target", tmp_path / "progress"
    target.write_text("precious")
    new = tmp_path / "progress.new"
    if is_link:
        new.symlink_to(target)
    else:
        new.write_text("left over from a run that was killed")
    with DrainLog(None, str(progress)) as log:
        log.expect(1)
        assert json.loads(progress.read_text())["accounts"] == 1
        assert not progress.is_symlink()
    assert target.read_text() == "precious"


def test_steps_are_written_about_once_a_second(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "progress"
    progress = StepProgress(str(path))
    for done in range(1, 31):
        clock.sleep(0.1)
        progress("rooms read", done, 30)
    written = json.loads(path.read_text())
    assert written == {"step": "rooms read", "done": written["done"], "total": 30, "elapsed": written["elapsed"]}
    assert 20 <= written["done"] <= 30
    # Each step has a time of its own.
    progress("rooms changed", 1, None)
    assert json.loads(path.read_text()) == {"step": "rooms changed", "done": 1, "total": None, "elapsed": 0.0}
    progress.remove()
    assert not path.exists()


def test_without_a_path_no_step_is_written() -> None:
    progress = StepProgress(None)
    progress("rooms read", 1, 1)
    progress.remove()
