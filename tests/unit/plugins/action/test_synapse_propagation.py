# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from itertools import count
from types import SimpleNamespace
from typing import Any, Callable

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.connection import ConnectionBase
from ansible_collections.matrixops.synapse.plugins.action import synapse_propagation as plugin
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import STATES
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Clock, Json

PERIOD = {"period": 604_800}
BROKEN: Json = {"failed": True, "msg": "connection refused"}
DEAD_TOKEN: Json = {"failed": True, "msg": "Invalid access token", "status": 401}
TMPDIR = "/home/ansible/tmp"
GONE = AnsibleConnectionFailure("no route to host")

Play = Callable[..., "Played"]


class Display:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def display(self, message: str, color: str | None = None) -> None:
        self.lines.append(message)


class Connection:
    """One that is kept open."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self._shell = SimpleNamespace(tmpdir=TMPDIR, get_option=lambda _name: ["/var/tmp", "/tmp"])
        self.fails: Exception | None = None

    def reset(self) -> None:
        self.events.append("hang up")
        if self.fails is not None:
            raise self.fails


class Played:
    """A run of the action plugin. I(answers) are what the module returns, or raises, poll after poll."""

    def __init__(self, clock: Clock, arguments: Json, answers: list[Any], connection: Any, **task: Any) -> None:
        self.clock = clock
        self.display = Display()
        self.answers = answers
        self.polls: list[Json] = []
        self.events: list[str] = []
        self.connection = connection(self.events)
        self.task = SimpleNamespace(
            **{"args": arguments, "async_val": 0, "check_mode": False, "action": "synapse_propagation", **task}
        )
        self.action = plugin.ActionModule(self.task, self.connection, SimpleNamespace(), None, None, None)
        self.action._execute_module = self._execute_module
        self.action._remove_tmp_path = self._remove_tmp_path

    def run(self) -> Json:
        result: Json = self.action.run(task_vars={"inventory_hostname": "matrix"})
        return result

    def _execute_module(self, module_args: Json, task_vars: Json, wrap_async: bool = False) -> Json:
        assert task_vars == {"inventory_hostname": "matrix"} and not wrap_async
        self.polls.append(dict(module_args))
        self.events.append("poll")
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    def _remove_tmp_path(self, path: str | None) -> None:
        self.events.append(f"remove {path}")
        if isinstance(self.connection, Connection) and self.connection.fails is not None:
            raise self.connection.fails


def answer(**more: Any) -> Json:
    return {"changed": False, "message": "waiting", "finished": False, "next_poll": 60, "removed": 0, **more}


def without_progress(poll: Json) -> Json:
    return {key: value for key, value in poll.items() if key != "progress_path"}


DONE = answer(finished=True, next_poll=0, message="done")


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Play:
    def play(*answers: Any, arguments: Json | None = None, connection: Any = Connection, **task: Any) -> Played:
        played = Played(clock, arguments or PERIOD, list(answers), connection, **task)
        monkeypatch.setattr(plugin, "display", played.display)
        monkeypatch.setattr("time.time", lambda: 1_000_000.9 + clock.now)
        return played

    return play


# One poll


@pytest.mark.parametrize(
    ("arguments", "task"),
    [
        ({**PERIOD, "wait": False}, {}),
        ({**PERIOD, "wait": "no"}, {}),
        (PERIOD, {"check_mode": True}),
    ],
)
def test_what_does_not_wait(play: Play, clock: Clock, arguments: Json, task: Json) -> None:
    played = play(answer(removed=2, changed=True), arguments=arguments, **task)
    assert played.run() == answer(removed=2, changed=True)
    assert (played.events, clock.waits, played.display.lines) == (["poll"], [], [])


def test_a_single_poll(play: Play, clock: Clock) -> None:
    played = play(answer(finished=True, next_poll=0))
    assert played.run()["finished"]
    assert (played.events, clock.waits) == (["poll"], [])


def test_the_controllers_clock_is_passed_on(play: Play) -> None:
    arguments = {**PERIOD, "poll_interval": 7}
    played = play(answer(), DONE, arguments=arguments)
    played.run()
    assert [without_progress(poll) for poll in played.polls] == [
        {**arguments, "clock": 1_001_000},
        {**arguments, "clock": 1_001_060},
    ]
    assert "clock" not in arguments and "progress_path" not in arguments


@pytest.mark.parametrize("task", [{}, {"check_mode": True}])
def test_no_other_clock_is(play: Play, task: Json) -> None:
    # A clock that stands still would soon be refused.
    given = {**PERIOD, "clock": 7}
    played = play(answer(), DONE, arguments=given, **task)
    played.run()
    assert [poll["clock"] for poll in played.polls] == [1_001_000, 1_001_060][: len(played.polls)]
    assert given["clock"] == 7 and len(played.polls) == (1 if task else 2)


def test_each_poll_has_a_file_of_its_own_for_the_progress(play: Play) -> None:
    played = play(answer(), DONE)
    played.run()
    paths = [poll["progress_path"] for poll in played.polls]
    assert all(path.startswith("/tmp/matrixops.synapse-") for path in paths)
    assert len(set(paths)) == 2


def test_the_progress_is_shown(play: Play) -> None:
    progress = {"pairs": 500, "elapsed": 10.0, **dict.fromkeys(STATES, 0), "confirmed": 110, "unreachable": 10}
    assert play(DONE).action.describe(progress) == (
        "120 of 500 pairs of server and room checked: 110 confirmed, 10 unreachable; about 32 s left"
    )


def test_it_cannot_be_run_in_the_background() -> None:
    """Ansible refuses C(async), since nothing would poll."""
    assert plugin.ActionModule._supports_async is False
    assert plugin.ActionModule._supports_check_mode is True


# Waiting


@pytest.mark.parametrize("arguments", [PERIOD, {**PERIOD, "wait": True}, {**PERIOD, "wait": "yes"}])
def test_polls_are_sent_when_they_are_due(play: Play, clock: Clock, arguments: Json) -> None:
    played = play(answer(next_poll=30), answer(next_poll=600), answer(next_poll=0), DONE, arguments=arguments)
    assert played.run() == DONE
    assert clock.waits == [30, 600, 1]
    assert len(played.polls) == 4


def test_what_was_removed_is_summed_up(play: Play) -> None:
    played = play(answer(removed=2, changed=True), answer(), answer(removed=1, changed=True), DONE)
    assert played.run() == {**DONE, "removed": 3, "changed": True}


def test_nothing_was_changed(play: Play) -> None:
    assert play(answer(), DONE).run()["changed"] is False


def test_the_connection_is_closed_between_polls(play: Play) -> None:
    played = play(answer(), answer(), DONE)
    played.run()
    between = ["hang up"]
    assert [event for event in played.events if "remove" not in event] == ["poll", *between, "poll", *between, "poll"]


def test_what_is_in_a_temporary_directory_is_not_counted_on(play: Play) -> None:
    played = play(answer(), DONE)
    played.run()
    # While there is still a connection.
    assert played.events[:4] == ["poll", f"remove {TMPDIR}", "hang up", "poll"]
    assert played.connection._shell.tmpdir is None


@pytest.mark.parametrize("more", [[], [answer()]])
def test_what_could_not_be_removed_is_removed_later(play: Play, more: list[Json]) -> None:
    """It has the access token in it, and Ansible has forgotten it by then."""
    played = play(answer(), GONE, GONE, *more, DONE)
    directories = (f"/tmp/{number}" for number in count(1))
    removed: list[str] = []

    def execute(**arguments: Any) -> Json:
        played.connection._shell.tmpdir = next(directories)
        # The connection drops in the middle of the second poll.
        played.connection.fails = GONE if len(played.polls) in (1, 2) else None
        return played._execute_module(**arguments)

    def remove(path: str) -> None:
        if played.connection.fails is not None:
            raise played.connection.fails
        removed.append(path)

    played.action._execute_module, played.action._remove_tmp_path = execute, remove
    assert played.run() == DONE
    # Ansible itself knows of the last, unless it was cleaned up with the others.
    assert removed == [f"/tmp/{number}" for number in range(1, len(played.polls) + (0 if more else 1))]


@pytest.mark.parametrize("error", [GONE, AnsibleError("reset failed")])
def test_hanging_up_may_fail(play: Play, error: Exception) -> None:
    played = play(answer(), DONE)
    played.connection.fails = error
    assert played.run() == DONE
    assert played.connection._shell.tmpdir is None
    assert played.events == ["poll", f"remove {TMPDIR}", "hang up", "poll", f"remove {TMPDIR}"]


def test_a_connection_that_can_not_be_closed(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    # The method of all connections only warns.
    monkeypatch.setattr(ConnectionBase, "reset", Connection.reset)
    bare = type("Bare", (Connection,), {"reset": ConnectionBase.reset})
    played = play(answer(), DONE, connection=bare)
    assert played.run() == DONE
    assert "hang up" not in played.events


def test_the_message_is_shown_when_it_changes(play: Play) -> None:
    messages = ["a", "a", "b", "b", "a"]
    played = play(*(answer(message=message) for message in messages), DONE)
    played.run()
    assert played.display.lines == ["matrix: a", "matrix: b", "matrix: a"]


def test_the_message_is_shown_at_intervals_in_any_case(play: Play) -> None:
    polls = 3 * int(plugin.DISPLAY_INTERVAL) // 600
    played = play(*[answer(next_poll=600)] * polls, DONE)
    played.run()
    assert played.display.lines == ["matrix: waiting"] * 3


# Errors


def test_the_first_poll_must_not_fail(play: Play, clock: Clock) -> None:
    played = play(BROKEN)
    assert played.run() == {**BROKEN, "changed": False, "removed": 0}
    assert (len(played.polls), clock.waits, played.display.lines) == (1, [], [])


def test_nor_may_it_leave_something_undone(play: Play, clock: Clock) -> None:
    failed = answer(failed=True, msg="Not everything could be done", removed=1, changed=True)
    played = play(failed)
    assert played.run() == failed
    assert clock.waits == []


def test_a_host_that_is_not_there_at_first(play: Play, clock: Clock) -> None:
    with pytest.raises(AnsibleConnectionFailure, match="no route"):
        play(GONE).run()
    assert clock.waits == []


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (BROKEN, "connection refused"),
        (GONE, "no route to host"),
        (AnsibleError("no interpreter"), "no interpreter"),
        ({**BROKEN, "status": 500}, "connection refused"),
        (answer(failed=True, msg="Not everything could be done"), "Not everything could be done"),
    ],
)
def test_later_trouble_is_no_end(play: Play, clock: Clock, trouble: Any, told: str) -> None:
    played = play(answer(), trouble, trouble, DONE)
    assert played.run() == DONE
    # At once, and no warning: ansible-core may hold warnings back until the task has ended.
    assert played.display.lines == ["matrix: waiting", f"matrix: poll failed, retrying: {told}"]
    assert clock.waits == [60, plugin.RETRY_INTERVAL, plugin.RETRY_INTERVAL]
    assert played.events.count("hang up") == 3


def test_a_failing_wait_says_so_at_intervals(play: Play, clock: Clock) -> None:
    polls = 3 * int(plugin.DISPLAY_INTERVAL / plugin.RETRY_INTERVAL)
    played = play(answer(), *[BROKEN] * polls, GONE, answer(), DONE)
    assert played.run() == DONE
    assert played.display.lines == [
        "matrix: waiting",
        *["matrix: poll failed, retrying: connection refused"] * 3,
        "matrix: poll failed, retrying: no route to host",
        "matrix: waiting",
    ]


def test_the_removals_of_a_failed_poll_count(play: Play) -> None:
    failed = answer(failed=True, msg="stuck", removed=2, changed=True)
    assert play(answer(), failed, answer(removed=1), DONE).run() == {
        **DONE,
        "removed": 3,
        "changed": True,
    }


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("before", [[], [BROKEN]])
def test_a_token_that_is_refused_ends_it(play: Play, status: int, before: list[Json]) -> None:
    played = play(answer(removed=2, changed=True), *before, {**DEAD_TOKEN, "status": status})
    assert played.run() == {**DEAD_TOKEN, "status": status, "changed": True, "removed": 2}
    assert len(played.polls) == 2 + len(before)


@pytest.mark.parametrize("errcode", ["LEASE_TAKEN", "INVALID_OPTION"])
@pytest.mark.parametrize("before", [[], [BROKEN]])
def test_an_error_that_remains_ends_it(play: Play, errcode: str, before: list[Json]) -> None:
    failed = {"failed": True, "msg": "Another run has taken over the lease", "errcode": errcode}
    played = play(answer(), *before, failed)
    assert played.run() == {**failed, "changed": False, "removed": 0}
    assert len(played.polls) == 2 + len(before)


@pytest.mark.parametrize("trouble", [BROKEN, GONE, answer(failed=True, msg="stuck")])
def test_there_is_an_end_to_patience(play: Play, clock: Clock, trouble: Any) -> None:
    played = play(answer(), answer(), trouble)
    began = clock.now
    result = played.run()
    assert result["failed"]
    assert plugin.FAILURE_TIMEOUT < clock.now - began - 60 < plugin.FAILURE_TIMEOUT + 60 + 2 * plugin.RETRY_INTERVAL
    assert result["msg"] in ("connection refused", "no route to host", "stuck")


def test_the_failure_timeout_starts_again_after_each_success(play: Play, clock: Clock) -> None:
    polls = int(plugin.FAILURE_TIMEOUT // plugin.RETRY_INTERVAL) - 5
    assert play(answer(), *[GONE] * polls, answer(), *[GONE] * polls, DONE).run() == DONE
    assert clock.now > 1.5 * plugin.FAILURE_TIMEOUT
