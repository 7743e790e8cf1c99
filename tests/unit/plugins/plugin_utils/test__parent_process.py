# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.action import (
    matrix_ghosts,
    matrix_ghosts_info,
    power_off,
    synapse_propagation,
    synapse_user_deactivate,
)
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _parent_process as plugin
from ansible_collections.matrixops.synapse.tests.stubs.helpers import PATIENCE, Clock


class Process:
    """This process, as far as the watcher sees and ends it."""

    def __init__(self) -> None:
        self.parent = 100
        self.ended: list[int] = []
        self.exited = threading.Event()

    def kill(self, pid: int, signal: int) -> None:
        if pid == 7:
            raise PermissionError
        self.ended.append(pid)

    def exit(self, code: int) -> None:
        assert code == 1
        self.exited.set()


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    process = Process()
    monkeypatch.setattr(plugin, "CHECK_INTERVAL", 0.01)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: SimpleNamespace(pid=100))
    monkeypatch.setattr(plugin, "_descendants", lambda _pid: [6, 7, 8])
    monkeypatch.setattr(os, "getppid", lambda: process.parent)
    monkeypatch.setattr(os, "kill", process.kill)
    monkeypatch.setattr(os, "_exit", process.exit)
    return process


@pytest.mark.parametrize("gone_at_once", [True, False])
def test_it_ends_with_its_parent_and_ends_its_children(process: Process, clock: Clock, gone_at_once: bool) -> None:
    process.parent = 1 if gone_at_once else 100
    with plugin.ends_with_parent():
        assert process.exited.is_set() <= gone_at_once
        process.parent = 1
        assert process.exited.wait(PATIENCE)
    # In between, what they have left is removed. That may start others.
    assert process.ended == [6, 8, 6, 8]
    assert clock.waits == [plugin.CLEANUP_TIME]


def test_it_is_watched_while_the_context_lasts(process: Process) -> None:
    before = set(threading.enumerate())
    with plugin.ends_with_parent():
        (watcher,) = set(threading.enumerate()) - before
    watcher.join(PATIENCE)
    assert not watcher.is_alive()
    assert not process.exited.is_set()


def test_a_process_that_was_not_forked_is_not_watched(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: None)
    before = threading.active_count()
    with plugin.ends_with_parent():
        assert threading.active_count() == before


def test_children_and_their_children() -> None:
    # By another descriptor, since a shell gives /dev/null as stdin to what it runs in the background.
    with subprocess.Popen(
        ["sh", "-c", "exec 3<&0; cat <&3 & echo $!; wait"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stdin is not None
        grandchild = int(child.stdout.readline())
        found = plugin._descendants(os.getpid())
        child.kill()
    # It ends by itself when its stdin is closed.
    with contextlib.suppress(ProcessLookupError):
        os.kill(grandchild, 9)
    assert {child.pid, grandchild} <= set(found)


@pytest.mark.parametrize(
    "module", [matrix_ghosts, matrix_ghosts_info, power_off, synapse_propagation, synapse_user_deactivate]
)
def test_each_action_that_waits_ends_with_its_parent(module: Any) -> None:
    """Only a decorated method has this attribute."""
    assert callable(module.ActionModule.run.__wrapped__)
