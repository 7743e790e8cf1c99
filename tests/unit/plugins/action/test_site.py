# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import pytest
from ansible.plugins.action import ActionBase
from ansible_collections.matrixops.synapse.plugins.action import site as plugin
from ansible_collections.matrixops.synapse.plugins.action import synapse_site
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _server_key
from ansible_collections.matrixops.synapse.plugins.plugin_utils._progress_display import ProgressAction
from ansible_collections.matrixops.synapse.tests.stubs.helpers import NOW, SERVER, Json

NEW = _server_key.generate()
ANSWER = _server_key.key_answer(SERVER, NEW, {"ed25519:a_1": "AAAA"}, {}, now=NOW, valid_for=9)
COLLECTED = [
    {"room_id": "!r:x", "servers": ["a.example"], "aliases": [f"#lounge:{SERVER}", f"#l:{SERVER}"], "name": "Lounge"}
]

Run = Callable[..., Json]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / f"{SERVER}-site"


@pytest.fixture
def collect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run the action of synapse_site, with this result of the module."""

    def run(rooms: Any = None, *, check_mode: bool = False, **module: Any) -> Json:
        rooms = COLLECTED if rooms is None else rooms
        answer = {"content": rooms, "rooms": len(rooms), **module}
        monkeypatch.setattr(ProgressAction, "run", lambda *_arguments: answer)
        action = synapse_site.ActionModule.__new__(synapse_site.ActionModule)
        action._task = SimpleNamespace(
            check_mode=check_mode, args={"directory": str(tmp_path), "server_name": SERVER}, no_log=False
        )
        return action.run()

    return run


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})

    def run(*, check_mode: bool = False, **options: Any) -> Json:
        action = plugin.ActionModule.__new__(plugin.ActionModule)
        action._task = SimpleNamespace(check_mode=check_mode)
        texts = {"operator": "", "contact": "", "text": "", "list_rooms": False}
        arguments = {"directory": str(tmp_path), "server_name": SERVER, "key_answer": ANSWER, **texts, **options}
        action.validate_argument_spec = lambda _spec, **_more: (None, arguments)
        return action.run()

    return run


def test_from_the_collected_aliases_to_the_site(collect: Run, write: Run, directory: Path) -> None:
    collected = collect()
    assert "content" not in collected and collected["changed"]
    assert collected["path"] == str(directory)
    done = write()
    assert (done["changed"], done["path"]) == (True, str(directory))
    assert (done["summary"]["rooms"], done["summary"]["aliases"]) == (1, 2)
    assert json.loads((directory / "www/_matrix/key/v2/server").read_text()) == ANSWER
    assert json.loads((directory / "site.json").read_text())["created"] == NOW
    # The second time, nothing changes.
    again = collect()
    assert (again["changed"], again["boundary"]) == (False, collected["boundary"])
    assert write()["changed"] is False
    assert collect([])["boundary"] == collected["boundary"], "the media have it"
    assert write()["summary"]["rooms"] == 0


def test_check_mode_writes_nothing(collect: Run, write: Run, directory: Path) -> None:
    assert collect(check_mode=True)["changed"]
    assert write(check_mode=True)["changed"]
    assert not directory.exists()


def test_options_are_checked_before_anything_is_collected(write: Run) -> None:
    result = write(check_mode=True, contact="javascript:alert(1)")
    assert result["failed"] and "contact" in result["msg"]


def test_a_failed_module_writes_nothing(collect: Run, directory: Path) -> None:
    result = collect(failed=True, msg="no")
    assert result["failed"] and not directory.exists()


def test_nothing_was_collected(write: Run, directory: Path) -> None:
    result = write()
    assert result["failed"] and "Run synapse_site first" in result["msg"]
    assert not directory.exists()


@pytest.mark.parametrize(
    "answer", [{}, {"old_verify_keys": {}}, {"old_verify_keys": {"a": {}}}, {"old_verify_keys": 7}]
)
def test_what_is_no_key_answer(collect: Run, write: Run, answer: Json) -> None:
    collect()
    result = write(key_answer=answer)
    assert result["failed"] and "Set it to the key_answer" in result["msg"]


@pytest.mark.parametrize("damage", ["", "{}"])
def test_a_damaged_file(collect: Run, write: Run, directory: Path, damage: str) -> None:
    collect()
    (directory / "content.json").write_text(damage)
    assert write()["failed"]
    assert collect()["failed"]
