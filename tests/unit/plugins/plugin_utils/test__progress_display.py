# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.matrixops.synapse.plugins.action.matrix_ghosts_info import ActionModule as Ghosts
from ansible_collections.matrixops.synapse.plugins.action.synapse_user_deactivate import ActionModule as Drain
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.progress import NOTICE
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _progress_display as plugin
from ansible_collections.matrixops.synapse.tests.stubs.helpers import PATIENCE, Json

PROGRESS = {"accounts": 500, "left": 120, "deactivated": 120, "left_all_rooms": 0, "failed": 0, "elapsed": 60.0}
SHOWN = "120 of 500 accounts have left all federated rooms, 120 are deactivated; about 6 min 20 s left"
SOON = 0.001

Start = Callable[..., "PluginRun"]


# The text


def describe(action: type[plugin.ProgressAction], progress: Json) -> str:
    return action(None, None, None, None, None, None).describe(progress)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "30 of 100 pairs of server and room checked: 20 confirmed, 10 unreachable; about 1 min 10 s left"),
        (
            {"elapsed": 0.0, "confirmed": 0, "unreachable": 0},
            "0 of 100 pairs of server and room checked; time left unknown",
        ),
        (
            {"pairs": 20_000, "confirmed": 9_990},
            "10,000 of 20,000 pairs of server and room checked: 9,990 confirmed, 10 unreachable; about 30 s left",
        ),
    ],
)
def test_progress_of_checks(more: Json, expected: str) -> None:
    counts = {"confirmed": 20, "ghosts": 0, "refused": 0, "unreachable": 10, "unconfirmed": 0}
    assert describe(Ghosts, {"pairs": 100, **counts, "elapsed": 30.0, **more}) == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, SHOWN),
        (
            {"failed": 10},
            "120 of 500 accounts have left all federated rooms, 120 are deactivated, 10 failed; about 6 min 10 s left",
        ),
        (
            {"left": 240, "deactivated": 0},
            "240 of 500 accounts have left all federated rooms, 0 are deactivated; about 3 min 10 s left",
        ),
        (
            {"left": 490, "deactivated": 500, "left_all_rooms": 495},
            "495 of 500 accounts have left all federated rooms, 500 are deactivated, 495 have left all rooms;"
            " about 0.6 s left",
        ),
        (
            {"left": 0, "deactivated": 0},
            "0 of 500 accounts have left all federated rooms, 0 are deactivated; time left unknown",
        ),
        (
            {"elapsed": 0.0},
            "120 of 500 accounts have left all federated rooms, 120 are deactivated; time left unknown",
        ),
        (
            {"accounts": 200_000, "left": 200_000, "deactivated": 5_432, "left_all_rooms": 5_000, "elapsed": 500.0},
            "200,000 of 200,000 accounts have left all federated rooms, 5,432 are deactivated, 5,000 have left all"
            " rooms; about 5 h 25 min left",
        ),
        # Of a pass whose accounts are not all counted yet.
        (
            {"accounts": 100},
            "120 of 100 accounts have left all federated rooms, 120 are deactivated; about 0 s left",
        ),
    ],
)
def test_progress_of_a_drain(more: Json, expected: str) -> None:
    assert describe(Drain, {**PROGRESS, **more}) == expected


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        ({"done": 120, "total": 500, "elapsed": 60.0}, "120 of 500 rooms read; about 3 min 10 s left"),
        ({"done": 0, "total": 500, "elapsed": 60.0}, "0 of 500 rooms read; time left unknown"),
        ({"done": 1200, "total": None, "elapsed": 60.0}, "1,200 rooms read"),
    ],
)
def test_progress_of_a_step(progress: Json, expected: str) -> None:
    assert describe(plugin.ProgressAction, {"step": "rooms read", **progress}) == expected
    assert describe(Ghosts, {"step": "rooms read", **progress}) == expected


def test_the_time_left_is_by_the_speed_of_the_last_minutes() -> None:
    pace = plugin.Pace()
    assert pace.seconds_left(100.0, 1000, 10_000) == 900.0
    # From now on, it is ten times as slow. At first, the time before counts as well.
    assert pace.seconds_left(160.0, 1060, 10_000) == pytest.approx(8940 / (1060 / 160))
    assert pace.seconds_left(300.0, 1200, 10_000) == 8800.0
    assert pace.seconds_left(500.0, 1200, 10_000) is None
    assert pace.seconds_left(501.0, 10_000, 10_000) == 0.0


@pytest.mark.parametrize(("terminal", "least", "most"), [(True, 1, 10), (False, 30, 600)])
def test_the_interval_is_shorter_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, least: float, most: float
) -> None:
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(isatty=lambda: terminal))
    spec = importlib.util.spec_from_file_location("loaded_again", plugin.__file__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert least < module.INTERVAL < most


# In a play


class Display:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.verbose: list[str] = []

    def display(self, message: str, color: str | None = None) -> None:
        self.lines.append(message)

    def vvv(self, message: str, host: str) -> None:
        self.verbose.append(f"{host}: {message}")


class PluginRun:
    """A run of the action plugin. I(cat) returns the result of a command on the other connection.

    While the module runs, I(meanwhile) is called.
    """

    def __init__(self, arguments: Json, cat: Callable[[str], Any], **task: Any) -> None:
        self.display = Display()
        self.commands: list[str] = []
        self.reads = threading.Semaphore(0)
        self.noticed = threading.Semaphore(0)
        self.executed: list[Json] = []
        self.connections: list[Any] = []
        self.options = {"remote_user": "root"}
        self.notices: list[str] = []
        self.meanwhile: Callable[[], object] = self.wait_for_two_reads
        self._cat = cat
        shell = SimpleNamespace(tmpdir="/nowhere", get_option={"system_tmpdirs": ["/var/tmp", "/tmp"]}.__getitem__)
        connection = SimpleNamespace(_shell=shell, _load_name="local", _options=self.options)
        self.task = SimpleNamespace(
            **{"args": arguments, "async_val": 0, "check_mode": False, "action": "synapse_user_deactivate", **task}
        )
        self.action = Drain(self.task, connection, SimpleNamespace(), None, None, None)
        self.action._execute_module = self._execute_module

    def run(self) -> Json:
        result: Json = self.action.run(task_vars={"inventory_hostname": "matrix"})
        return result

    def wait_for_two_reads(self) -> None:
        assert self.reads.acquire(timeout=PATIENCE) and self.reads.acquire(timeout=PATIENCE)

    def wait_for_notices(self) -> None:
        for _notice in list(self.notices):
            assert self.noticed.acquire(timeout=PATIENCE)

    def _execute_module(self, **options: Any) -> Json:
        self.executed.append(options)
        self.meanwhile()
        return {"changed": True, "deactivated": 7}

    def get_connection(self, name: str, *_arguments: Any) -> Any:
        self.connections.append(SimpleNamespace(name=name, _options={}, exec_command=self._exec_command))
        return self.connections[-1]

    def _exec_command(self, command: str) -> Any:
        if command.endswith(NOTICE):
            if not self.notices:
                return 1, b"", b"No such file"
            self.noticed.release()
            return 0, self.notices.pop(0).encode(), b""
        self.commands.append(command)
        try:
            return self._cat(command)
        finally:
            self.reads.release()


def prints(output: str, status: int = 0) -> Callable[[str], Any]:
    return lambda _command: (status, output.encode(), b"")


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Start:
    def create(arguments: Json, cat: Callable[[str], Any] = prints(json.dumps(PROGRESS)), **task: Any) -> PluginRun:
        run = PluginRun(arguments, cat, **task)
        monkeypatch.setattr(plugin, "INTERVAL", SOON)
        monkeypatch.setattr(plugin, "display", run.display)
        monkeypatch.setattr(plugin, "connection_loader", SimpleNamespace(get=run.get_connection))
        return run

    return create


@pytest.fixture(autouse=True)
def _threads_do_not_fail(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An exception in a thread would be printed in the output of the play, and end the display."""
    failures: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    yield
    assert failures == []


@pytest.mark.parametrize(
    ("task", "arguments", "wrap_async"),
    [
        ({"async_val": 3600}, {"all_users": True}, True),
        ({}, {"all_users": True, "progress_path": "/run/progress"}, False),
    ],
)
def test_without_a_display_the_module_is_unchanged(start: Start, task: Json, arguments: Json, wrap_async: bool) -> None:
    run = start(arguments, **task)
    run.meanwhile = lambda: run.reads.acquire(timeout=0.05)
    assert run.run() == {"changed": True, "deactivated": 7}
    assert run.executed == [
        {"module_args": arguments, "task_vars": {"inventory_hostname": "matrix"}, "wrap_async": wrap_async}
    ]
    assert (run.commands, run.display.lines) == ([], [])


def test_each_run_of_the_module_has_its_own_progress_file(start: Start) -> None:
    arguments = {"all_users": True, "keep": ["@a:example.org"]}
    paths = []
    for _run in range(2):
        run = start(arguments)
        assert run.run() == {"changed": True, "deactivated": 7}
        (executed,) = run.executed
        assert executed["task_vars"] == {"inventory_hostname": "matrix"}
        module_args = dict(executed["module_args"])
        paths.append(module_args.pop("progress_path"))
        assert module_args == arguments
        assert set(run.commands) == {f"cat {paths[-1]}"}
    assert {str(Path(path).parent) for path in paths} == {"/tmp"}
    assert len(set(paths)) == 2
    assert "progress_path" not in arguments


def test_a_notice_is_displayed_instead_of_progress(start: Start) -> None:
    run = start({})
    run.notices = ["no answer for 21 s\x1b[2J"]
    run.run()
    assert run.display.lines[0] == "matrix: no answer for 21 s\\x1b[2J"
    assert "accounts" in run.display.lines[1]


def test_a_notice_is_displayed_before_progress_is_due(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal, progress is rare. A notice that stays is repeated as rarely."""
    run = start({})
    monkeypatch.setattr(plugin, "INTERVAL", 3600.0)
    monkeypatch.setattr(plugin, "NOTICE_INTERVAL", SOON)
    run.notices = ["first", "second", "third"]
    run.meanwhile = run.wait_for_notices
    run.run()
    assert run.display.lines == ["matrix: first"]
    assert run.commands == []


def test_progress_is_displayed_repeatedly(start: Start) -> None:
    later = [{**PROGRESS, "deactivated": 200 + number} for number in range(1000)]
    run = start({}, lambda _command: (0, json.dumps(later.pop(0)).encode(), b""))
    run.run()
    assert run.display.lines[0] == f"matrix: {describe(Drain, {**PROGRESS, 'deactivated': 200})}"
    assert len(run.display.lines) == len(set(run.display.lines))
    assert "deactivated" in run.display.lines[0] and "200 are" in run.display.lines[0]


def test_progress_is_read_over_another_connection(start: Start) -> None:
    run = start({})
    run.run()
    connection = run.connections[0]
    assert connection.name == "local"
    assert connection._options is run.options


def fails(error: Exception) -> Callable[[str], Any]:
    def cat(_command: str) -> Any:
        raise error

    return cat


@pytest.mark.parametrize(
    ("cat", "reason"),
    [
        (fails(AnsibleConnectionFailure("no route to host")), "no route to host"),
        (fails(OSError("too many open files")), "too many open files"),
        (fails(RuntimeError("of a plugin")), "of a plugin"),
        (lambda _command: None, "None"),
        (prints(""), "Expecting value"),
        (prints('{"accounts": 1'), "Expecting"),
        (prints("Welcome to this host!"), "Expecting value"),
        (prints("[]"), "list"),
        (prints("null"), "None"),
        (prints("{}"), "accounts"),
        (prints(json.dumps({**PROGRESS, "elapsed": "long"})), "str"),
        (prints(json.dumps({**PROGRESS, "accounts": None})), "None"),
    ],
)
def test_an_error_does_not_stop_the_module(start: Start, cat: Callable[[str], Any], reason: str) -> None:
    run = start({}, cat)
    assert run.run() == {"changed": True, "deactivated": 7}
    assert run.display.lines == []
    assert run.display.verbose[0].startswith("matrix: ")
    assert reason in run.display.verbose[0]


def test_a_missing_file_is_no_error(start: Start) -> None:
    run = start({}, prints("cat: no such file", status=1))
    assert run.run() == {"changed": True, "deactivated": 7}
    assert (run.display.lines, run.display.verbose) == ([], [])


def test_after_an_error_progress_is_read_again(start: Start) -> None:
    outputs = ["garbage", "null"]
    run = start({}, lambda _command: (0, (outputs.pop(0) if outputs else json.dumps(PROGRESS)).encode(), b""))
    run.meanwhile = lambda: [run.reads.acquire(timeout=PATIENCE) for _read in range(4)]
    run.run()
    assert run.display.lines[0] == f"matrix: {SHOWN}"


def test_a_failed_connection_does_not_stop_the_module(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start({})
    asked = threading.Event()

    def get(*_arguments: Any) -> None:
        asked.set()

    monkeypatch.setattr(plugin, "connection_loader", SimpleNamespace(get=get))
    run.meanwhile = lambda: asked.wait(timeout=PATIENCE)
    assert run.run() == {"changed": True, "deactivated": 7}
    assert run.display.lines == []


def test_after_the_end_nothing_is_displayed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, ended = threading.Event(), threading.Event()

    class Joined(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            ended.set()
            super().join(PATIENCE)

    def cat(_command: str) -> Any:
        asked.set()
        assert ended.wait(timeout=PATIENCE)
        return 0, json.dumps(PROGRESS).encode(), b""

    monkeypatch.setattr(threading, "Thread", Joined)
    run = start({}, cat)
    run.meanwhile = lambda: asked.wait(timeout=PATIENCE)
    run.run()
    assert run.reads.acquire(timeout=PATIENCE)
    assert run.display.lines == []
    assert not run.reads.acquire(timeout=0.05)


def test_an_exception_ends_the_display(start: Start) -> None:
    run = start({})

    def die() -> None:
        run.wait_for_two_reads()
        raise AnsibleConnectionFailure("gone")

    run.meanwhile = die
    with pytest.raises(AnsibleConnectionFailure, match="gone"):
        run.run()
    while run.reads.acquire(blocking=False):
        pass
    assert not run.reads.acquire(timeout=0.05)


def test_a_failure_of_the_module_is_the_result(start: Start) -> None:
    run = start({})
    run.action._execute_module = lambda **_options: {"failed": True, "msg": "No changes made: no."}
    assert run.run() == {"failed": True, "msg": "No changes made: no."}


def test_a_host_without_a_name(start: Start) -> None:
    run = start({})
    assert run.action.run() == {"changed": True, "deactivated": 7}
    assert run.display.lines[0] == f": {SHOWN}"
