# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Has ansible-playbook ask before each task whether to go on, and run the collection's modules without delay.

Ansible starts a Python for each module, which takes most of the time of a small run. Here the process that Ansible
forks for a task runs the module itself: the same playbook, role, action plugins and modules, five times as fast.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import socket
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

from ansible.module_utils.testing import patch_module_args
from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase

COLLECTION = "matrixops.synapse."
MODULES = Path(__file__).parents[3] / "plugins/modules"
PLUGINS = "ansible_collections.matrixops.synapse.plugins"

DOCUMENTATION = """
name: steered
type: aggregate
short_description: Ask before each task, and run modules without delay
description: For tests.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "steered"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        # Once, and not in each of the processes that are forked for a task.
        for path in MODULES.glob("*.py"):
            importlib.import_module(f"{PLUGINS}.modules.{path.stem}")
        client = importlib.import_module(f"{PLUGINS}.module_utils._client")
        client.PATIENCE = client.REFUSED_PATIENCE = float(os.environ["STEERED_PATIENCE"])
        importlib.import_module(f"{PLUGINS}.module_utils._drain").RETURN_PAUSE = 0.2
        propagation = importlib.import_module(f"{PLUGINS}.action.synapse_propagation")
        propagation.PATIENCE, propagation.PAUSE = float(os.environ["STEERED_PATIENCE"]), 0.5
        self._steering = socket.socket(socket.AF_UNIX)
        self._steering.connect(os.environ["STEERED_BY"])
        self._answers = self._steering.makefile()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        path = task.get_path() or ""
        self._steering.sendall(json.dumps({"path": path, "name": task.get_name().split(" : ")[-1]}).encode() + b"\n")
        self._answers.readline()

    # A task that is a handler, or cleans up, is one too.
    v2_playbook_on_cleanup_task_start = v2_playbook_on_task_start  # type: ignore[assignment]


_start_a_python = ActionBase._execute_module


def _execute_module(
    self: Any,
    module_name: str | None = None,
    module_args: dict[str, Any] | None = None,
    tmp: str | None = None,
    task_vars: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    name = str(module_name or self._task.action)
    if not name.startswith(COLLECTION):
        result: dict[str, Any] = _start_a_python(self, module_name, module_args, tmp, task_vars, **more)
        return result
    arguments = dict(self._task.args if module_args is None else module_args)
    self._update_module_args(name, arguments, task_vars or {})
    module = importlib.import_module(f"{PLUGINS}.modules.{name.removeprefix(COLLECTION)}")
    output = io.StringIO()
    with patch_module_args(arguments), redirect_stdout(output), suppress(SystemExit):
        module.main()
    return {**json.loads(output.getvalue()), "_ansible_parsed": True}


ActionBase._execute_module = _execute_module
