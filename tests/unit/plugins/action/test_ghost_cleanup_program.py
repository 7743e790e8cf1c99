# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import pytest
from ansible.plugins.action import ActionBase
from ansible_collections.matrixops.synapse.plugins.action import ghost_cleanup_program as plugin
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Json

PATH = "/usr/local/lib/x/x.pyz"
CONTENT = b"the program"
CONFIG = {
    "server_name": "old.example",
    "signing_key_path": "/key",
    "key_answer_path": "/answer",
    "state_path": "/state",
    "servers": ["b.example"],
}


class Task:
    """A task, of which a copy runs the action plugin C(copy)."""

    def __init__(self, args: Json) -> None:
        self.args = args
        self.async_val = 0

    def copy(self) -> Task:
        return Task(self.args)


class Copy:
    """The action plugin C(copy)."""

    def __init__(self) -> None:
        self.tasks: list[Json] = []
        self.answer: Json = {"changed": True, "checksum": "x"}

    def get(self, name: str, *, task: Task, **_context: Any) -> Copy:
        assert name == "ansible.legacy.copy"
        self.tasks.append({**task.args, "content": Path(task.args["src"]).read_bytes()})
        return self

    def run(self, *, task_vars: Json) -> Json:
        return self.answer


@pytest.fixture
def copy() -> Copy:
    return Copy()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, copy: Copy) -> Callable[..., Json]:
    """Run the plugin on no host."""
    monkeypatch.setattr(plugin.program, "build", lambda: CONTENT)
    monkeypatch.setattr(ActionBase, "run", lambda _self, _tmp, _variables: {})

    def run(**arguments: Any) -> Json:
        action = plugin.ActionModule.__new__(plugin.ActionModule)
        action._task = Task({"path": PATH, **arguments})
        action._shared_loader_obj = SimpleNamespace(action_loader=copy)
        action._connection = action._play_context = action._loader = action._templar = None
        return action.run(None, {})

    return run


@pytest.mark.parametrize("changed", [True, False])
def test_the_program_is_copied(run: Callable[..., Json], copy: Copy, changed: bool) -> None:
    copy.answer = {"changed": changed, "diff": [], "checksum": "x", "src": "/tmp/x"}
    digest = hashlib.sha256(CONTENT).hexdigest()
    expected = {"changed": changed, "diff": [], "sha256": digest, "size": len(CONTENT), "rooms_paths": []}
    assert run(config=CONFIG) == expected
    (task,) = copy.tasks
    assert not Path(task.pop("src")).exists(), "a temporary file"
    assert task == {"dest": PATH, "owner": "root", "group": "root", "mode": "0644", "content": CONTENT}


def test_the_errors_of_the_copy_are_returned(run: Callable[..., Json], copy: Copy) -> None:
    copy.answer = {"failed": True, "msg": "no space"}
    assert run() == copy.answer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"servers": ["a b"]}, "ghost_cleanup_servers: 'a b' is not a server name"),
        ({"servers": ["old.example"]}, "ghost_cleanup_servers: old.example is server_name itself"),
        (
            {"server_name": "https://old.example"},
            "ghost_cleanup_server_name: 'https://old.example' is not a server name",
        ),
        ({"timeout": 0}, "ghost_cleanup_timeout is 0: set it to an integer, 1 or more"),
        ({"status_listen": "0.0.0.0:1"}, "ghost_cleanup_status_listen: 0.0.0.0 is no loopback address"),
        ({"another": 1}, "ghost_cleanup_another: no such key"),
    ],
)
def test_a_configuration_that_is_wrong(run: Callable[..., Json], copy: Copy, change: Json, message: str) -> None:
    result = run(config={**CONFIG, **change})
    assert result["failed"] and not result["changed"] and result["msg"].startswith(f"No changes made: {message}")
    assert copy.tasks == []


def test_files_with_rooms(run: Callable[..., Json], copy: Copy, tmp_path: Path) -> None:
    """A directory is an archive."""
    rooms = [{"room_id": "!a:b.example", "servers": ["b.example"]}]
    (tmp_path / "not_confirmed.json").write_text(json.dumps(rooms))
    (tmp_path / "other.json").write_text("[]")
    paths = [str(tmp_path / "not_confirmed.json"), str(tmp_path / "other.json")]
    assert run(config=CONFIG, rooms_paths=[str(tmp_path), paths[1]])["rooms_paths"] == paths
    (tmp_path / "other.json").write_text('[{"room_id": "x", "servers": []}]')
    problems = {
        paths[1]: ": rooms[].room_id: 'x' is not a room ID",
        str(tmp_path / "no.json"): " can't be read: No such",
    }
    for path, problem in problems.items():
        message = run(config=CONFIG, rooms_paths=[path])["msg"]
        assert message.startswith(f"No changes made: ghost_cleanup_rooms_paths: {path}{problem}")
    assert len(copy.tasks) == 1
