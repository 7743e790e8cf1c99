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

PATIENCE = 6 * 3600.0
"""For how long, in seconds, looks may fail one after the other."""
PAUSE = 30.0
"""How long to wait, in seconds, after a look that failed."""
SHOWN_EVERY = 3600.0
"""After how many seconds, at the latest, to say again how things stand."""

ADDED_UP = ("released", "closed", "nudged", "rejoined")

display = Display()


class ActionModule(ActionBase):
    """Waits here, on the controller, since the host may restart, or the connection to it drop, in a week."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        host = (task_vars or {}).get("inventory_hostname", "")
        arguments = dict(self._task.args)
        waits = (
            boolean(arguments.get("wait", True), strict=False)
            and arguments.get("state", "ended") == "ended"
            and not self._task.check_mode
        )
        self._changed = False
        self._so_far = dict.fromkeys(ADDED_UP, 0)
        self._left_behind: set[str] = set()
        answer = self._look(arguments, task_vars)
        shown: tuple[str, float] = ("", float("-inf"))
        succeeded = time.monotonic()
        while waits and "next_poll" in answer and not answer.get("failed") and not answer.get("finished"):
            shown = self._show(host, answer, shown)
            self._hang_up()
            time.sleep(max(float(answer["next_poll"]), 1.0))
            answer = self._look_patiently(host, arguments, task_vars, succeeded)
            succeeded = time.monotonic()
        if self._left_behind:
            self._clean_up()
        result.update(answer, changed=self._changed)
        result.update((name, count) for name, count in self._so_far.items() if name in answer)
        return result

    def _look(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        answer: dict[str, Any] = self._execute_module(
            module_args={**arguments, "clock": int(time.time())}, task_vars=task_vars
        )
        # Also one that failed may have done something.
        self._changed = self._changed or bool(answer.get("changed"))
        for name in ADDED_UP:
            self._so_far[name] += int(answer.get(name, 0))
        return answer

    def _look_patiently(
        self, host: str, arguments: dict[str, Any], task_vars: dict[str, Any] | None, succeeded: float
    ) -> dict[str, Any]:
        """The next answer that is none of a moment's trouble, or of too long a one."""
        while True:
            try:
                answer = self._look(arguments, task_vars)
            except AnsibleError as error:
                answer = {"failed": True, "unreachable": True, "msg": str(error)}
            if not answer.get("failed") or answer.get("status") in (401, 403) or answer.get("errcode") == TAKEN:
                return answer
            if time.monotonic() - succeeded > PATIENCE:
                return answer
            display.warning(f"{host}: {printable(str(answer.get('msg')))}; goes on waiting")
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
        """Remove the temporary directories of all looks, which have the access token in them without pipelining.

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
        """Say how things stand, if that has changed, or was not said for long."""
        message, then = shown
        if answer["message"] == message and time.monotonic() - then < SHOWN_EVERY:
            return shown
        display.display(f"{host}: {answer['message']}")
        return answer["message"], time.monotonic()
