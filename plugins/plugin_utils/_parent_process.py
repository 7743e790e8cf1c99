# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""End the process of a task when ansible-playbook has ended.

Ansible forks a process for each task and host. After SIGKILL of ansible-playbook, or when its terminal is closed,
nothing ends these processes: one that waits for a week would continue, and send requests, without anybody seeing it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Iterator

CHECK_INTERVAL = 1.0
"""Seconds between two checks whether ansible-playbook still runs."""
CLEANUP_TIME = 3.0
"""Seconds for the action to remove the temporary files of its module, which may contain the access token."""


@contextmanager
def ends_with_parent() -> Iterator[None]:
    """End this process soon after the process that forked it, for as long as the context lasts. Also a decorator.

    The children are ended too: with the connection C(local), that is the module. A module on another host continues to
    its end. A process that Ansible has not forked is not watched, since it may outlive the shell that started it.
    """
    forked_by = multiprocessing.parent_process()
    if forked_by is None or forked_by.pid is None:
        yield
        return
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(forked_by.pid, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()


def _watch(parent: int, ended: threading.Event) -> None:
    # Not a signal on its death (prctl): that is Linux only, and would leave the children running.
    while os.getppid() == parent:
        if ended.wait(CHECK_INTERVAL):
            return
    _end_children()
    time.sleep(CLEANUP_TIME)
    _end_children()
    # Not an exception: it would end this thread only. And the process must not wait until its result is read.
    os._exit(1)


def _end_children() -> None:
    for pid in _descendants(os.getpid()):
        # One of another user, for example of sudo, may not be ended.
        with suppress(OSError):
            os.kill(pid, signal.SIGTERM)


def _descendants(pid: int) -> list[int]:
    """Return the processes that this one has started, and those that they have started. Empty without Linux's /proc."""
    found = [pid]
    for parent in found:
        with suppress(OSError):
            for children in Path(f"/proc/{parent}/task").glob("*/children"):
                found += map(int, children.read_text().split())
    return found[1:]
