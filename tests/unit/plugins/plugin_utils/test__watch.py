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
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _watch as plugin
from ansible_collections.matrixops.synapse.tests.unit.helpers import PATIENCE, Json

PROGRESS = {"accounts": 500, "left": 120, "deactivated": 120, "parted": 0, "failed": 0, "elapsed": 60.0}
SHOWN = "120 of 500 accounts have left all federated rooms, 120 are deactivated; 2.0 per second, about 3 min 10 s left"
SOON = 0.001

Watch = Callable[..., "Watched"]


# For a person


def describe(action: type[plugin.WatchedModule], progress: Json) -> str:
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
def test_progress_of_checks_in_words(more: Json, expected: str) -> None:
    counts = {"confirmed": 20, "ghosts": 0, "refused": 0, "unreachable": 10, "unconfirmed": 0}
    assert describe(Ghosts, {"pairs": 100, **counts, "elapsed": 30.0, **more}) == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, SHOWN),
        (
            {"failed": 10},
            "120 of 500 accounts have left all federated rooms, 120 are deactivated, 10 failed; 2.0 per second,"
            " about 3 min 5 s left",
        ),
        (
            {"left": 240, "deactivated": 0},
            "240 of 500 accounts have left all federated rooms, 0 are deactivated; 2.0 per second,"
            " about 3 min 10 s left",
        ),
        (
            {"left": 490, "deactivated": 500, "parted": 495},
            "495 of 500 accounts have left all federated rooms, 500 are deactivated, 495 have left all rooms;"
            " 8.2 per second, about 1 s left",
        ),
        (
            {"left": 0, "deactivated": 0},
            "0 of 500 accounts have left all federated rooms, 0 are deactivated; 0.0 per second, time left unknown",
        ),
        (
            {"elapsed": 0.0},
            "120 of 500 accounts have left all federated rooms, 120 are deactivated; 0.0 per second, time left unknown",
        ),
        (
            {"accounts": 200_000, "left": 200_000, "deactivated": 5_432, "parted": 5_000, "elapsed": 500.0},
            "200,000 of 200,000 accounts have left all federated rooms, 5,432 are deactivated, 5,000 have left all"
            " rooms; 10.0 per second, about 5 h 25 min left",
        ),
        # Of a pass whose accounts are not all counted yet.
        (
            {"accounts": 100},
            "120 of 100 accounts have left all federated rooms, 120 are deactivated; 2.0 per second, about 0 s left",
        ),
    ],
)
def test_how_far_it_has_come_in_words(more: Json, expected: str) -> None:
    assert describe(Drain, {**PROGRESS, **more}) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (90_000, "25 h 0 min"),
    ],
)
def test_durations_in_words(seconds: float, expected: str) -> None:
    assert plugin.duration(seconds) == expected


@pytest.mark.parametrize(("terminal", "least", "most"), [(True, 1, 10), (False, 30, 600)])
def test_a_terminal_is_told_more_often_than_a_file(
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

    def display(self, message: str) -> None:
        self.lines.append(message)

    def vvv(self, message: str, host: str) -> None:
        self.verbose.append(f"{host}: {message}")


class Watched:
    """A run of the action plugin. I(cat) is what the other connection makes of a command.

    While the module runs, I(meanwhile) is called.
    """

    def __init__(self, arguments: Json, cat: Callable[[str], Any], **task: Any) -> None:
        self.display = Display()
        self.commands: list[str] = []
        self.looked = threading.Semaphore(0)
        self.executed: list[Json] = []
        self.connections: list[Any] = []
        self.options = {"remote_user": "root"}
        self.meanwhile: Callable[[], object] = self.wait_for_two_looks
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

    def wait_for_two_looks(self) -> None:
        assert self.looked.acquire(timeout=PATIENCE) and self.looked.acquire(timeout=PATIENCE)

    def _execute_module(self, **options: Any) -> Json:
        self.executed.append(options)
        self.meanwhile()
        return {"changed": True, "deactivated": 7}

    def get_connection(self, name: str, *_arguments: Any) -> Any:
        self.connections.append(SimpleNamespace(name=name, _options={}, exec_command=self._exec_command))
        return self.connections[-1]

    def _exec_command(self, command: str) -> Any:
        self.commands.append(command)
        try:
            return self._cat(command)
        finally:
            self.looked.release()


def says(output: str, status: int = 0) -> Callable[[str], Any]:
    return lambda _command: (status, output.encode(), b"")


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    def start(arguments: Json, cat: Callable[[str], Any] = says(json.dumps(PROGRESS)), **task: Any) -> Watched:
        watched = Watched(arguments, cat, **task)
        monkeypatch.setattr(plugin, "INTERVAL", SOON)
        monkeypatch.setattr(plugin, "display", watched.display)
        monkeypatch.setattr(plugin, "connection_loader", SimpleNamespace(get=watched.get_connection))
        return watched

    return start


@pytest.fixture(autouse=True)
def _threads_do_not_fail(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A thread that dies of an exception prints it in the middle of the play, and tells no more."""
    failures: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    yield
    assert failures == []


@pytest.mark.parametrize(
    ("task", "arguments", "wrap_async"),
    [
        ({"check_mode": True}, {"all_users": True}, False),
        ({"async_val": 3600}, {"all_users": True}, True),
        ({}, {"all_users": True, "progress_path": "/run/progress"}, False),
    ],
)
def test_what_cannot_be_watched_is_run_as_it_is(watch: Watch, task: Json, arguments: Json, wrap_async: bool) -> None:
    watched = watch(arguments, **task)
    watched.meanwhile = lambda: watched.looked.acquire(timeout=0.05)
    assert watched.run() == {"changed": True, "deactivated": 7}
    assert watched.executed == [
        {"module_args": arguments, "task_vars": {"inventory_hostname": "matrix"}, "wrap_async": wrap_async}
    ]
    assert (watched.commands, watched.display.lines) == ([], [])


def test_the_module_is_run_with_a_file_of_its_own_to_say_how_far_it_has_come(watch: Watch) -> None:
    arguments = {"all_users": True, "keep": ["@a:example.org"]}
    paths = []
    for _run in range(2):
        watched = watch(arguments)
        assert watched.run() == {"changed": True, "deactivated": 7}
        (executed,) = watched.executed
        assert executed["task_vars"] == {"inventory_hostname": "matrix"}
        module_args = dict(executed["module_args"])
        paths.append(module_args.pop("progress_path"))
        assert module_args == arguments
        assert set(watched.commands) == {f"cat {paths[-1]}"}
    assert {str(Path(path).parent) for path in paths} == {"/tmp"}
    assert len(set(paths)) == 2
    assert "progress_path" not in arguments


def test_how_far_it_has_come_is_shown_again_and_again(watch: Watch) -> None:
    later = [{**PROGRESS, "deactivated": 200 + number} for number in range(1000)]
    watched = watch({}, lambda _command: (0, json.dumps(later.pop(0)).encode(), b""))
    watched.run()
    assert watched.display.lines[0] == f"matrix: {describe(Drain, {**PROGRESS, 'deactivated': 200})}"
    assert len(watched.display.lines) == len(set(watched.display.lines))
    assert "deactivated" in watched.display.lines[0] and "200 are" in watched.display.lines[0]


def test_it_is_watched_over_a_connection_of_its_own(watch: Watch) -> None:
    watched = watch({})
    watched.run()
    connection = watched.connections[0]
    assert connection.name == "local"
    assert connection._options is watched.options


def fails(error: Exception) -> Callable[[str], Any]:
    def cat(_command: str) -> Any:
        raise error

    return cat


@pytest.mark.parametrize(
    ("cat", "told"),
    [
        (fails(AnsibleConnectionFailure("no route to host")), "no route to host"),
        (fails(OSError("too many open files")), "too many open files"),
        (fails(RuntimeError("of a plugin")), "of a plugin"),
        (lambda _command: None, "None"),
        (says(""), "Expecting value"),
        (says('{"accounts": 1'), "Expecting"),
        (says("Welcome to this host!"), "Expecting value"),
        (says("[]"), "list"),
        (says("null"), "None"),
        (says("{}"), "accounts"),
        (says(json.dumps({**PROGRESS, "elapsed": "long"})), "str"),
        (says(json.dumps({**PROGRESS, "accounts": None})), "None"),
    ],
)
def test_whatever_goes_wrong_with_watching_is_no_matter(watch: Watch, cat: Callable[[str], Any], told: str) -> None:
    watched = watch({}, cat)
    assert watched.run() == {"changed": True, "deactivated": 7}
    assert watched.display.lines == []
    assert watched.display.verbose[0].startswith("matrix: ")
    assert told in watched.display.verbose[0]


def test_a_file_that_is_not_there_is_nothing_to_tell(watch: Watch) -> None:
    watched = watch({}, says("cat: no such file", status=1))
    assert watched.run() == {"changed": True, "deactivated": 7}
    assert (watched.display.lines, watched.display.verbose) == ([], [])


def test_after_something_went_wrong_it_looks_again(watch: Watch) -> None:
    outputs = ["garbage", "null"]
    watched = watch({}, lambda _command: (0, (outputs.pop(0) if outputs else json.dumps(PROGRESS)).encode(), b""))
    watched.meanwhile = lambda: [watched.looked.acquire(timeout=PATIENCE) for _look in range(4)]
    watched.run()
    assert watched.display.lines[0] == f"matrix: {SHOWN}"


def test_a_connection_that_cannot_be_made_is_no_matter(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = watch({})
    asked = threading.Event()

    def get(*_arguments: Any) -> None:
        asked.set()

    monkeypatch.setattr(plugin, "connection_loader", SimpleNamespace(get=get))
    watched.meanwhile = lambda: asked.wait(timeout=PATIENCE)
    assert watched.run() == {"changed": True, "deactivated": 7}
    assert watched.display.lines == []


def test_after_the_end_nothing_is_shown(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, ended = threading.Event(), threading.Event()

    class Watcher(threading.Thread):
        def join(self, timeout: float | None = None) -> None:
            ended.set()
            super().join(PATIENCE)

    def cat(_command: str) -> Any:
        asked.set()
        assert ended.wait(timeout=PATIENCE)
        return 0, json.dumps(PROGRESS).encode(), b""

    monkeypatch.setattr(threading, "Thread", Watcher)
    watched = watch({}, cat)
    watched.meanwhile = lambda: asked.wait(timeout=PATIENCE)
    watched.run()
    assert watched.looked.acquire(timeout=PATIENCE)
    assert watched.display.lines == []
    assert not watched.looked.acquire(timeout=0.05)


def test_a_module_that_fails_ends_the_watch(watch: Watch) -> None:
    watched = watch({})

    def die() -> None:
        watched.wait_for_two_looks()
        raise AnsibleConnectionFailure("gone")

    watched.meanwhile = die
    with pytest.raises(AnsibleConnectionFailure, match="gone"):
        watched.run()
    while watched.looked.acquire(blocking=False):
        pass
    assert not watched.looked.acquire(timeout=0.05)


def test_what_the_module_says_of_its_failure_is_the_result(watch: Watch) -> None:
    watched = watch({})
    watched.action._execute_module = lambda **_options: {"failed": True, "msg": "Nothing was changed: no."}
    assert watched.run() == {"failed": True, "msg": "Nothing was changed: no."}


def test_a_host_without_a_name(watch: Watch) -> None:
    watched = watch({})
    assert watched.action.run() == {"changed": True, "deactivated": 7}
    assert watched.display.lines[0] == f": {SHOWN}"
