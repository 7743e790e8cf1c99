# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the module of this name again and again, until there is nothing more to wait for."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display
from ansible_collections.matrixops.synapse.plugins.module_utils._client import printable
from ansible_collections.matrixops.synapse.plugins.module_utils._lease import TAKEN
from ansible_collections.matrixops.synapse.plugins.plugin_utils._watch import WatchedGhostModule

MAX_FAILING = 6 * 3600.0
"""For how long, in seconds, polls may fail one after the other."""
PAUSE = 30.0
"""Seconds to wait after a poll that failed."""
SHOWN_EVERY = 3600.0
"""After how many seconds, at the latest, to show again how things stand."""

display = Display()


class ActionModule(WatchedGhostModule):
    """Waits here, on the controller, since the host may restart, or the connection to it drop, in a week."""

    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = ActionBase.run(self, tmp, task_vars)
        waits = boolean(self._task.args.get("wait", True), strict=False) and not self._task.check_mode
        self._removed = 0
        self._left_behind: set[str] = set()
        host = (task_vars or {}).get("inventory_hostname", "")
        answer = self._poll(task_vars)
        shown: tuple[str, float] = ("", float("-inf"))
        succeeded = time.monotonic()
        while waits and "next_poll" in answer and not answer.get("failed") and not answer.get("finished"):
            shown = self._show(host, answer, shown)
            self._hang_up()
            time.sleep(max(float(answer["next_poll"]), 1.0))
            answer = self._poll_patiently(host, task_vars, succeeded)
            succeeded = time.monotonic()
        if self._left_behind:
            self._clean_up()
        # Also a poll that failed may have removed some.
        return {**result, **answer, "changed": bool(answer.get("changed") or self._removed), "removed": self._removed}

    def _poll(self, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer = self.execute({**self._task.args, "clock": int(time.time())}, task_vars)
        self._removed += int(answer.get("removed", 0))
        return answer

    def _poll_patiently(self, host: str, task_vars: dict[str, Any] | None, succeeded: float) -> dict[str, Any]:
        """The next answer that is not a temporary failure, or one of too long a failure."""
        while True:
            try:
                answer = self._poll(task_vars)
            except AnsibleError as error:
                answer = {"failed": True, "unreachable": True, "msg": str(error)}
            if not answer.get("failed") or answer.get("status") in (401, 403) or answer.get("errcode") == TAKEN:
                return answer
            if time.monotonic() - succeeded > MAX_FAILING:
                return answer
            display.warning(f"{host}: {printable(str(answer.get('msg')))}; retrying")
            self._hang_up()
            time.sleep(PAUSE)

    def _hang_up(self) -> None:
        """A connection that is kept for the next task would be dead by then, or hold a port for a week.

        What Ansible has put into a temporary directory may be gone by then as well, as when the host restarts.
        """
        self._clean_up()
        if type(self._connection).reset is not ConnectionBase.reset:
            # Some connect again right away.
            with suppress(AnsibleError):
                self._connection.reset()

    def _clean_up(self) -> None:
        """Remove the temporary directories of all polls, which have the access token in them without pipelining.

        Where the connection has dropped, that can't be done before the host answers again.
        """
        if self._connection._shell.tmpdir is not None:
            self._left_behind.add(self._connection._shell.tmpdir)
            self._connection._shell.tmpdir = None
        with suppress(AnsibleError):
            for path in sorted(self._left_behind):
                self._remove_tmp_path(path)
                self._left_behind.remove(path)

    def _show(self, host: str, answer: dict[str, Any], shown: tuple[str, float]) -> tuple[str, float]:
        """Show how things stand, if that has changed, or was not shown for long."""
        message, then = shown
        if answer["message"] == message and time.monotonic() - then < SHOWN_EVERY:
            return shown
        display.display(f"{host}: {answer['message']}")
        return answer["message"], time.monotonic()
