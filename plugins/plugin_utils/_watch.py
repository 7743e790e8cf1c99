# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs a module, and meanwhile shows how far it has come."""

from __future__ import annotations

import json
import shlex
import sys
import threading
import uuid
from contextlib import contextmanager
from typing import Any, Iterator

from ansible.module_utils.common.text.converters import to_text
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import connection_loader
from ansible.utils.display import Display
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import STATES

# When the play's process loads this: those that it forks for the hosts have no terminal.
INTERVAL = 9.0 if sys.stdout.isatty() else 60.0
"""Seconds from one line on the screen to the next. Asking takes a moment, too, and nobody should wait more than ten."""

display = Display()


class WatchedModule(ActionBase):
    """Runs the module of the same name, which writes to a file how far it has come. A thread here reads that over a
    connection of its own.

    The module is run as any other. That it can't be watched, for whatever reason, is no reason for it to fail.
    """

    _supports_check_mode = True
    _supports_async = True

    def describe(self, progress: dict[str, Any]) -> str:
        """How far the module has come, for a person."""
        raise NotImplementedError

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        result.update(self.execute(dict(self._task.args), task_vars))
        return result

    def execute(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Run the module once, and return its answer."""
        in_background = bool(self._task.async_val)
        if in_background or self._task.check_mode or arguments.get("progress_path"):
            answer = self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=in_background)
        else:
            directory = self._connection._shell.get_option("system_tmpdirs")[-1]
            arguments["progress_path"] = f"{directory}/matrixops.synapse-{uuid.uuid4()}"
            host = (task_vars or {}).get("inventory_hostname", "")
            with self._watching(arguments["progress_path"], host):
                answer = self._execute_module(module_args=arguments, task_vars=task_vars)
        return dict(answer)

    @contextmanager
    def _watching(self, path: str, host: str) -> Iterator[None]:
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(INTERVAL):
                try:
                    status, output, _errors = self._another_connection().exec_command(f"cat {shlex.quote(path)}")
                    message = self.describe(json.loads(to_text(output))) if status == 0 else None
                except Exception as error:  # of any connection plugin, or of whatever is in the file
                    display.vvv(f"how far it has come can't be read: {error!r}", host=host)
                    continue
                if message is not None and not ended.is_set():
                    display.display(f"{host}: {message}")

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join(timeout=1)

    def _another_connection(self) -> Any:
        """Since a connection does one thing at a time. This one becomes nobody else."""
        connection = connection_loader.get(self._connection._load_name, self._play_context, None)
        connection._options = self._connection._options
        return connection


class WatchedGhostModule(WatchedModule):
    """A module that asks remote servers about rooms."""

    def describe(self, progress: dict[str, Any]) -> str:
        """C(120 of 500 pairs of server and room checked: 110 confirmed, 10 unreachable; ...)."""
        total = progress["pairs"]
        counts = {state: progress[state] for state in STATES}
        checked = sum(counts.values())
        found = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
        rate = checked / progress["elapsed"] if progress["elapsed"] else 0.0
        left = f"about {duration((total - checked) / rate)} left" if rate else "time left unknown"
        return f"{checked:,} of {total:,} pairs of server and room checked{found and ': '}{found}; {left}"


def duration(seconds: float) -> str:
    minutes, seconds = divmod(max(round(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
