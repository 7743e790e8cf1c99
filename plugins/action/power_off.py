# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Power a host off, and wait until nothing answers at its address."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

# With a delay, since the connection would otherwise end before the command returns.
COMMAND = "systemd-run --on-active=2 --timer-property=AccuracySec=100ms systemctl poweroff"
NO_HOST = re.compile("timed out|no route to host|host is down", re.IGNORECASE)
"""Errors of a connection to an address without a host. A refused connection is not among them: SSH refuses connections
from the first second of a shutdown, which may hang. Nor is an unreachable network, which is that of the controller."""
PAUSE = 1.0
"""Seconds between two attempts to connect."""


class ActionModule(ActionBase):
    """Connects as Ansible is configured to, jump hosts included."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec({"timeout": {"type": "int", "default": 120}})
        timeout = arguments["timeout"]
        if self._connection.transport == "local":
            message = (
                "No changes made: the connection is 'local', so this would power off the controller. Set"
                " decommission_power_off_tasks to a file of tasks that power off the right host"
            )
            return {**result, "failed": True, "msg": message}
        if self._task.check_mode:
            return {**result, "changed": True}
        command = self._low_level_execute_command(COMMAND)
        if command["rc"] != 0:
            reason = command["stderr"].strip() or command["stdout"].strip()
            message = f"Cannot power off, check become and systemd on the host: {COMMAND}: {reason}"
            return {**result, "failed": True, "msg": message}
        started = time.monotonic()
        while (answer := self._connect()) is not None:
            if time.monotonic() - started > timeout:
                message = (
                    f"The host still answers {timeout} s after the command to power off: {answer}. Check the host, or"
                    " set decommission_power_off_timeout to more seconds"
                )
                return {**result, "changed": True, "failed": True, "msg": message}
            time.sleep(PAUSE)
        return {**result, "changed": True, "elapsed": round(time.monotonic() - started, 1)}

    def _connect(self) -> str | None:
        """Connect anew. Return the answer of the host, or None if there is no host."""
        with suppress(AnsibleError):
            self._connection.reset()
        try:
            self._low_level_execute_command("exit 0", sudoable=False)
        except AnsibleConnectionFailure as failure:
            return None if NO_HOST.search(str(failure)) else str(failure)
        return "a login succeeds"
