# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module of the same name for each poll, until it has finished."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.lease import TAKEN
from ansible_collections.matrixops.synapse.plugins.module_utils._module import INVALID_OPTION
from ansible_collections.matrixops.synapse.plugins.module_utils._text import printable
from ansible_collections.matrixops.synapse.plugins.plugin_utils._parent_process import ends_with_parent
from ansible_collections.matrixops.synapse.plugins.plugin_utils._progress_display import GhostProgressAction

FAILURE_TIMEOUT = 6 * 3600.0
"""Maximum time in seconds for which consecutive polls may fail."""
RETRY_INTERVAL = 30.0
"""Delay in seconds before a failed poll is retried."""
DISPLAY_INTERVAL = 3600.0
"""Maximum time in seconds from one message on the terminal to the next."""
PERMANENT_STATUS = (401, 403)
PERMANENT_ERRCODES = (TAKEN, INVALID_OPTION)
"""Status and errcode of failures that no retry ends: the operator must act first."""

display = Display()


class ActionModule(GhostProgressAction):
    """Waits on the controller, since in a week the host may restart, or the connection to it may drop."""

    _supports_async = False

    @ends_with_parent()
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = ActionBase.run(self, tmp, task_vars)
        waits = boolean(self._task.args.get("wait", True), strict=False) and not self._task.check_mode
        self._removed = 0
        self._left_behind: set[str] = set()
        host = (task_vars or {}).get("inventory_hostname", "")
        self._shown: tuple[str, float] = ("", float("-inf"))
        answer = self._poll(task_vars)
        succeeded = time.monotonic()
        while waits and "next_poll" in answer and not answer.get("failed") and not answer.get("finished"):
            self._show(f"{host}: {answer['message']}")
            self._disconnect()
            time.sleep(max(float(answer["next_poll"]), 1.0))
            answer = self._poll_with_retries(host, task_vars, succeeded)
            succeeded = time.monotonic()
        if self._left_behind:
            self._clean_up()
        # A failed poll may have removed ghosts too.
        return {**result, **answer, "changed": bool(answer.get("changed") or self._removed), "removed": self._removed}

    def _poll(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer = self.execute({**self._task.args, "clock": int(time.time())}, task_vars)
        self._removed += int(answer.get("removed", 0))
        return answer

    def _poll_with_retries(self, host: str, task_vars: dict[str, Any] | None, succeeded: float) -> dict[str, Any]:
        """Return the next result that is no temporary failure, or the last failure after C(FAILURE_TIMEOUT)."""
        while True:
            try:
                answer = self._poll(task_vars)
            except AnsibleError as error:
                answer = {"failed": True, "unreachable": True, "msg": str(error)}
            if not answer.get("failed") or _is_permanent(answer):
                return answer
            if time.monotonic() - succeeded > FAILURE_TIMEOUT:
                return answer
            # Not a warning: some versions of ansible-core hold warnings back until the task has ended.
            message = printable(str(answer.get("msg")))
            self._show(f"{host}: poll failed, retrying: {message}", color=constants.COLOR_WARN)
            self._disconnect()
            time.sleep(RETRY_INTERVAL)

    def _disconnect(self) -> None:
        """Close the connection, which would not survive until the next poll, or hold a port for a week.

        Temporary directories are removed too, since they may be gone by then, for example after a restart of the host.
        """
        self._clean_up()
        if type(self._connection).reset is not ConnectionBase.reset:
            # Some connection plugins connect again at once.
            with suppress(AnsibleError):
                self._connection.reset()

    def _clean_up(self) -> None:
        """Remove the temporary directories of all polls. Without pipelining, they have the access token in them.

        After a dropped connection, this is only possible once the host answers again.
        """
        if self._connection._shell.tmpdir is not None:
            self._left_behind.add(self._connection._shell.tmpdir)
            self._connection._shell.tmpdir = None
        with suppress(AnsibleError):
            for path in sorted(self._left_behind):
                self._remove_tmp_path(path)
                self._left_behind.remove(path)

    def _show(self, message: str, color: str | None = None) -> None:
        """Show a message if it has changed, or after C(DISPLAY_INTERVAL)."""
        before, then = self._shown
        if message != before or time.monotonic() - then >= DISPLAY_INTERVAL:
            display.display(message, color=color)
            self._shown = message, time.monotonic()


def _is_permanent(answer: dict[str, Any]) -> bool:
    return answer.get("status") in PERMANENT_STATUS or answer.get("errcode") in PERMANENT_ERRCODES
