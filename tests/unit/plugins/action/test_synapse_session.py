# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible.plugins.action import ActionBase
from ansible_collections.matrixops.synapse.plugins.action import synapse_session as plugin
from ansible_collections.matrixops.synapse.plugins.module_utils._sealed import seal
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _secrets
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Json

LOGIN = {"login_user": "op", "login_password": "correct horse"}


def run(monkeypatch: pytest.MonkeyPatch, arguments: Json, answer: Json, *, token: str | None = None) -> Json:
    """Run the action with a module that answers that, and with I(token) encrypted."""
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})
    action = plugin.ActionModule.__new__(plugin.ActionModule)
    action._task = SimpleNamespace(args=arguments)

    def execute(*, module_args: Json, task_vars: Json | None) -> Json:
        assert arguments.items() - module_args.items() <= {("one_time_key", "mine")}
        sealed = {} if token is None else {"sealed_token": seal(module_args["one_time_key"], token.encode())}
        return {**answer, **sealed}

    action._execute_module = execute
    return dict(action.run())


def test_the_token_is_decrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (LOGIN, {**LOGIN, "one_time_key": "mine"}):
        result = run(monkeypatch, arguments, {"changed": True}, token="fresh")
        assert result == {"changed": True, "access_token": "fresh"}


@pytest.mark.parametrize("answer", [{"changed": True}, {"failed": True, "msg": "403"}])
def test_without_a_token_the_answer_is_the_result(monkeypatch: pytest.MonkeyPatch, answer: Json) -> None:
    assert run(monkeypatch, {"state": "absent", "access_token": "old"}, answer) == answer


def test_debugging_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_secrets.constants, "DEFAULT_DEBUG", True)
    result = run(monkeypatch, LOGIN, {"changed": True}, token="fresh")
    assert result["failed"] and "Ansible prints and logs login_password. Unset ANSIBLE_DEBUG" in result["msg"]
