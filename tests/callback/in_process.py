# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the collection's modules in the process that Ansible forks for a task.

Ansible starts a Python for each module, which takes most of the time of a small run. Here it is the same playbook,
role, action plugins and modules, three times as fast. And a lease is valid for a shorter time.
"""

from __future__ import annotations

import importlib
import io
import json
import os
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any

from ansible.module_utils.testing import patch_module_args
from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase

COLLECTION = "matrixops.synapse."
MODULES = Path(__file__).parents[2] / "plugins/modules"
PLUGINS = "ansible_collections.matrixops.synapse.plugins"

DOCUMENTATION = """
name: in_process
type: aggregate
short_description: Run modules without starting a Python for each
description: For tests.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "in_process"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        # Once, and not in each of the processes that are forked for a task.
        for path in MODULES.glob("*.py"):
            importlib.import_module(f"{PLUGINS}.modules.{path.stem}")
        lease = importlib.import_module(f"{PLUGINS}.module_utils._decommission.lease")
        # A run that was killed keeps the next one waiting for this long. All other times are in proportion to it.
        lease.LENGTH = int(os.environ.get("IN_PROCESS_LEASE", "6"))
        lease.RENEWAL, lease.MARGIN, lease.OBSERVATION = lease.LENGTH / 12, lease.LENGTH / 6, lease.LENGTH / 4
        lease.SETTLING, lease.POLL_INTERVAL = 0.3, 0.2


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
    if not name.startswith(COLLECTION) or self._connection.transport != "local" or self._task.async_val:
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
