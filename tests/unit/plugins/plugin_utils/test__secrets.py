# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _secrets
from ansible_collections.matrixops.synapse.plugins.plugin_utils._progress_display import ProgressAction
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Json

PLUGINS = Path(__file__).parents[4] / "plugins"


@pytest.fixture
def debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_secrets.constants, "DEFAULT_DEBUG", True)


def run(monkeypatch: pytest.MonkeyPatch, arguments: Json) -> Json:
    monkeypatch.setattr(NormalAction, "run", lambda *_arguments: {"changed": True})
    action = _secrets.SecretAction.__new__(_secrets.SecretAction)
    action._task = SimpleNamespace(args=arguments)
    return action.run()


@pytest.mark.parametrize("name", _secrets.SECRETS)
def test_secrets_are_refused(monkeypatch: pytest.MonkeyPatch, debugging: None, name: str) -> None:
    result = run(monkeypatch, {name: "s3cret", "base_url": "http://x"})
    assert result["failed"] and f"prints and logs {name}. Unset ANSIBLE_DEBUG" in result["msg"]
    assert "s3cret" not in str(result)


@pytest.mark.parametrize("arguments", [{}, {"base_url": "http://x"}, {"access_token": None}])
def test_without_a_secret_the_module_is_run(monkeypatch: pytest.MonkeyPatch, debugging: None, arguments: Json) -> None:
    assert run(monkeypatch, arguments) == {"changed": True}


def test_without_debugging_the_module_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, {"access_token": "s3cret"}) == {"changed": True}


def test_modules_with_progress_refuse_too(debugging: None) -> None:
    action: Any = ProgressAction.__new__(ProgressAction)
    assert action.execute({"signing_key": "s3cret"}, {})["failed"]


def test_each_module_with_secrets_has_such_an_action() -> None:
    """Without an action plugin, Ansible would run the module, and print its arguments."""
    for module in PLUGINS.glob("modules/*_*.py"):
        if "_module import" in module.read_text():
            text = (PLUGINS / "action" / module.name).read_text()
            bases = ("SecretAction)", "ProgressAction)", "refuse_secrets(")
            assert any(base in text for base in bases), module.name
