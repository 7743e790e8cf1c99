# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes what each task of a playbook costs: requests to a stub, seconds, and the size of the result in bytes.

One line of JSON for each task, in the file of the environment variable COST_FILE. COST_URL is the URL of the stub.
"""

from __future__ import annotations

import json
import os
import time
import urllib.request
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: cost_by_task
type: aggregate
short_description: Write the cost of each task
description: For benchmarks.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "cost_by_task"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._file = Path(os.environ["COST_FILE"])
        self._url = f"{os.environ['COST_URL']}/counts"
        self._stage = "preflight"
        self._counts: dict[str, int] = {}
        self._began = time.time()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._began = time.time()

    def v2_runner_on_ok(self, result: Any) -> None:
        self._write(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._write(result)

    def _write(self, result: Any) -> None:
        with urllib.request.urlopen(self._url) as answer:  # noqa: S310 the stub
            counts: dict[str, int] = json.load(answer)
        requests = {path: count - self._counts.get(path, 0) for path, count in counts.items()}
        self._counts = counts
        path = Path(str(result._task.get_path()).rpartition(":")[0])
        line = {
            "task": result._task.get_name(),
            "file": path.stem,
            "began": self._began,
            "ended": time.time(),
            "requests": {path: count for path, count in requests.items() if count},
            "result": len(json.dumps(result._result, default=str)),
        }
        with self._file.open("a") as file:
            file.write(json.dumps(line) + "\n")
