# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Has systemd power the host off, and looks until nothing answers at its address any more."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

# In a moment and not at once, or the connection would go before the answer.
COMMAND = "systemd-run --on-active=2 --timer-property=AccuracySec=100ms systemctl poweroff"
NOBODY_THERE = re.compile("timed out|no route to host|host is down", re.IGNORECASE)
"""What a connection says when nothing is at its other end. That SSH refuses does not count: it does so from the first
second of a shutdown, which may hang. Nor does that the controller's own network is down."""
PAUSE = 1.0
"""Seconds between two looks."""


class ActionModule(ActionBase):
    """Looks by the user's own way of connecting, jump hosts included."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec({"timeout": {"type": "int", "default": 120}})
        if self._connection.transport == "local":
            return {**result, "failed": True, "msg": "Nothing was changed: that would power off the controller"}
        if self._task.check_mode:
            return {**result, "changed": True}
        told = self._low_level_execute_command(COMMAND)
        if told["rc"] != 0:
            return {**result, "failed": True, "msg": f"{COMMAND}: {told['stderr'].strip() or told['stdout'].strip()}"}
        started = time.monotonic()
        while (answer := self._look()) is not None:
            if time.monotonic() - started > arguments["timeout"]:
                message = f"Told to power off, but something still answers after {arguments['timeout']} s: {answer}"
                return {**result, "changed": True, "failed": True, "msg": message}
            time.sleep(PAUSE)
        return {**result, "changed": True, "elapsed": round(time.monotonic() - started, 1)}

    def _look(self) -> str | None:
        """Connect anew; return what came of it, or nothing if nothing is there."""
        with suppress(AnsibleError):
            self._connection.reset()
        try:
            self._low_level_execute_command("exit 0", sudoable=False)
        except AnsibleConnectionFailure as failure:
            return None if NOBODY_THERE.search(str(failure)) else str(failure)
        return "it can be logged in to"
