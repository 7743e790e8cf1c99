# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Has ansible-playbook ask before each task whether to go on, and be less patient than with real administrators."""

from __future__ import annotations

import importlib
import json
import os
import socket
from typing import Any

from ansible.plugins.callback import CallbackBase

PLUGINS = "ansible_collections.matrixops.synapse.plugins"

DOCUMENTATION = """
name: steered
type: aggregate
short_description: Ask before each task
description: For tests.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "steered"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        retries = importlib.import_module(f"{PLUGINS}.module_utils._synapse.retries")
        retries.RETRY_TIMEOUT = retries.THROTTLED_RETRY_TIMEOUT = float(os.environ["STEERED_PATIENCE"])
        importlib.import_module(f"{PLUGINS}.module_utils._decommission.drain").RETURN_PAUSE = 0.2
        polls = importlib.import_module(f"{PLUGINS}.action.synapse_propagation")
        polls.FAILURE_TIMEOUT, polls.RETRY_INTERVAL = float(os.environ["STEERED_PATIENCE"]), 0.5
        # On loopback, what is sent has arrived within a second.
        propagation = importlib.import_module(f"{PLUGINS}.module_utils._decommission.propagation")
        propagation.SEND_DELAY, propagation.RETRY_DELAYS = 1, (1.0,)
        self._steering = socket.socket(socket.AF_UNIX)
        self._steering.connect(os.environ["STEERED_BY"])
        self._answers = self._steering.makefile()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        path = task.get_path() or ""
        self._steering.sendall(json.dumps({"path": path, "name": task.get_name().split(" : ")[-1]}).encode() + b"\n")
        self._answers.readline()

    # A task that is a handler, or cleans up, is one too.
    v2_playbook_on_cleanup_task_start = v2_playbook_on_task_start  # type: ignore[assignment]
