# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Action plugins that run a module and show its progress."""

from __future__ import annotations

import json
import shlex
import sys
import threading
import uuid
from collections import defaultdict, deque
from contextlib import contextmanager
from typing import Any, Iterator

from ansible import constants
from ansible.module_utils.common.text.converters import to_text
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import connection_loader
from ansible.utils.display import Display
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.progress import NOTICE
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import STATES
from ansible_collections.matrixops.synapse.plugins.module_utils._text import duration, printable
from ansible_collections.matrixops.synapse.plugins.plugin_utils._parent_process import ends_with_parent
from ansible_collections.matrixops.synapse.plugins.plugin_utils._secrets import refuse_secrets

# Determined when the play's process loads this: the processes that it forks for the hosts have no terminal.
INTERVAL = 9.0 if sys.stdout.isatty() else 60.0
"""Seconds from one line to the next: at most 10 on a terminal, including the time to read the file on the host."""
NOTICE_INTERVAL = 15.0
"""Maximum seconds from one read of the notice about an outage to the next."""

WINDOW = 120.0
"""Seconds that the speed is measured over."""

display = Display()


class Pace:
    """How long the rest of some items takes, by how fast the last ones were done.

    The speed changes during a run: large rooms come first or last, and the homeserver has other work.
    """

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque([(0.0, 0)])

    def time_left(self, elapsed: float, done: int, total: int) -> str:
        """Return C(about 4 min left).

        :param elapsed: seconds since the start.
        """
        seconds = self.seconds_left(elapsed, done, total)
        return "time left unknown" if seconds is None else f"about {duration(seconds)} left"

    def seconds_left(self, elapsed: float, done: int, total: int) -> float | None:
        """Return the seconds until all items are done; C(None) if none was done of late."""
        while len(self._points) > 1 and self._points[1][0] <= elapsed - WINDOW:
            self._points.popleft()
        began, before = self._points[0]
        if elapsed > self._points[-1][0]:
            self._points.append((elapsed, done))
        if done >= total:
            return 0.0
        is_known = done > before and elapsed > began
        return (total - done) * (elapsed - began) / (done - before) if is_known else None


class ProgressAction(ActionBase):
    """Runs the module of the same name, which writes its progress to a file on the host.

    A thread reads that file over a connection of its own. If it cannot be read, for any reason, the module
    continues without a display of its progress.
    """

    _supports_check_mode = True
    _supports_async = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._paces: defaultdict[str, Pace] = defaultdict(Pace)

    def describe(self, progress: dict[str, Any]) -> str:
        """Return the contents of the progress file as a line for a terminal: C(120 of 500 rooms read; ...)."""
        step, done, total = progress["step"], progress["done"], progress["total"]
        if total is None:
            return f"{done:,} {step}"
        return f"{done:,} of {total:,} {step}; {self._paces[step].time_left(progress['elapsed'], done, total)}"

    @ends_with_parent()
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        result.update(self.execute(dict(self._task.args), task_vars))
        return result

    def execute(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Run the module once, and return its result."""
        refusal = refuse_secrets(arguments)
        if refusal:
            return refusal
        in_background = bool(self._task.async_val)
        if in_background or arguments.get("progress_path"):
            answer = self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=in_background)
        else:
            directory = self._connection._shell.get_option("system_tmpdirs")[-1]
            arguments["progress_path"] = f"{directory}/matrixops.synapse-{uuid.uuid4()}"
            host = (task_vars or {}).get("inventory_hostname", "")
            with self._display_progress(arguments["progress_path"], host):
                answer = self._execute_module(module_args=arguments, task_vars=task_vars)
        return dict(answer)

    @contextmanager
    def _display_progress(self, path: str, host: str) -> Iterator[None]:
        ended = threading.Event()
        pause = min(INTERVAL, NOTICE_INTERVAL)

        def display_until_ended() -> None:
            had_notice = False
            until_due = INTERVAL
            while not ended.wait(pause):
                until_due -= pause
                try:
                    notice = message = printable(self._read(f"{path}{NOTICE}") or "")
                    if until_due <= 0 and not notice:
                        progress = self._read(path)
                        message = "" if progress is None else self.describe(json.loads(progress))
                except Exception as error:  # of any connection plugin, or because of any contents of the file
                    display.vvv(f"Cannot read the progress of the module: {error!r}", host=host)
                    continue
                if message and (until_due <= 0 or not had_notice) and not ended.is_set():
                    display.display(f"{host}: {message}", color=constants.COLOR_WARN if notice else None)
                    until_due = INTERVAL
                had_notice = bool(notice)

        thread = threading.Thread(target=display_until_ended, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(timeout=1)

    def _read(self, path: str) -> str | None:
        """Return the contents of a file on the host; C(None) if there is none."""
        status, output, _errors = self._another_connection().exec_command(f"cat {shlex.quote(path)}")
        return to_text(output) if status == 0 else None

    def _another_connection(self) -> Any:
        """Return a connection to the same host, since one runs one command at a time. It does not use become."""
        connection = connection_loader.get(self._connection._load_name, self._play_context, None)
        connection._options = self._connection._options
        return connection


class GhostProgressAction(ProgressAction):
    """Runs a module that checks rooms on remote servers."""

    def describe(self, progress: dict[str, Any]) -> str:
        """C(120 of 500 pairs of server and room checked: 110 confirmed, 10 unreachable; ...)."""
        if "step" in progress:
            return super().describe(progress)
        total = progress["pairs"]
        counts = {state: progress[state] for state in STATES}
        checked = sum(counts.values())
        found = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
        left = self._paces["pairs"].time_left(progress["elapsed"], checked, total)
        return f"{checked:,} of {total:,} pairs of server and room checked{found and ': '}{found}; {left}"
