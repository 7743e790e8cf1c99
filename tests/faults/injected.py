# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The faults: each is injected at a point of a run, and removed before the next one."""

from __future__ import annotations

import resource
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from random import Random
from typing import Any

import yaml
from integration.test_kill import kill
from lab.api import ApiError, quote
from lab.database import Sqlite
from lab.proxy import Fault as ProxyFault

from .runs import ROLE, FaultLab, Run

PREPARATIONS = ("hand_over", "delete_aliases", "demote")
"""The files that the stage prepare includes here."""


def stages() -> list[str]:
    names: list[str] = yaml.safe_load((ROLE / "defaults/main.yml").read_text())["decommission_stages"]
    return names


def points(stage: str) -> list[str]:
    """The names of the tasks of a stage that are modules of this collection."""
    tasks = [task for file in files_of(stage) for task in _flat(yaml.safe_load((ROLE / "tasks" / file).read_text()))]
    return [task["name"] for task in tasks if any(key.startswith("matrixops.synapse.") for key in task)]


def _flat(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for task in tasks:
        found += _flat(task["block"]) if "block" in task else [task]
    return found


def files_of(stage: str) -> list[str]:
    """The files with the tasks of a stage."""
    return [f"{name}.yml" for name in (stage, *(PREPARATIONS if stage == "prepare" else ()))]


@dataclass(frozen=True)
class Fault:
    """A fault.

    :ivar name: the name in the table.
    :ivar strike: injects the fault into the current run.
    :ivar kills: whether the fault ends the run, which then has no exit code of its own.
    :ivar variables: variables of the role for the run with the fault.
    """

    name: str
    strike: Callable[[FaultLab, Random], None]
    kills: bool = False
    variables: dict[str, Any] = field(default_factory=dict)


def _while_it_works(fault_lab: FaultLab, chance: Random, action: Callable[[], object]) -> None:
    fault_lab.later(chance.uniform(0, 0.5), action)


def _killed(fault_lab: FaultLab, chance: Random) -> None:
    _while_it_works(fault_lab, chance, fault_lab.retiring.kill)


def _restarted(fault_lab: FaultLab, chance: Random) -> None:
    _while_it_works(fault_lab, chance, fault_lab.retiring.restart)


def _remote_restarted(fault_lab: FaultLab, chance: Random) -> None:
    """Killed, and back after some seconds: as long as Synapse takes to start."""

    def restart() -> None:
        fault_lab.staying.kill()
        fault_lab.staying.start()

    _while_it_works(fault_lab, chance, restart)


def _remote_down(fault_lab: FaultLab, chance: Random) -> None:
    """Down until the playbook is run again."""
    _while_it_works(fault_lab, chance, fault_lab.staying.kill)


def _disk_full(fault_lab: FaultLab, chance: Random) -> None:
    """No file of the server's can grow: what a full disk is to it, without one."""
    server = fault_lab.retiring
    pid = server.pid
    assert pid is not None
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    _while_it_works(fault_lab, chance, lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[1])))

    def over() -> None:
        if server.pid == pid:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        # Whoever has had a full disk restarts what was on it.
        server.kill()
        server.start()

    fault_lab.undo(over)


def _database_gone(fault_lab: FaultLab, chance: Random) -> None:
    """Somebody else has it, for longer than Synapse waits."""
    database = fault_lab.retiring.database
    assert isinstance(database, Sqlite)
    path = database.path

    def lock() -> None:
        with closing(sqlite3.connect(path, timeout=5)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(8)

    _while_it_works(fault_lab, chance, lock)


def _spoil(fault: ProxyFault, **which: Any) -> Callable[[FaultLab, Random], None]:
    def strike(fault_lab: FaultLab, chance: Random) -> None:
        fault_lab.proxy.rule(fault, **{"after": chance.randrange(12), **which})

    return strike


def _newcomers(fault_lab: FaultLab, chance: Random) -> None:
    """At once: who comes after the last look is seen by nobody. And nobody comes to a server that is off."""
    server = fault_lab.retiring
    if fault_lab.is_off:
        return
    for number in range(2):
        newcomer = server.register(f"late{time.time_ns()}_{number}")
        try:
            server.join(newcomer.token, fault_lab.setup.shared)
        except ApiError as error:  # nobody of ours may be left in it
            if error.status not in (403, 404):
                raise


def _back_to_life(fault_lab: FaultLab, chance: Random) -> None:
    user_id = chance.choice(fault_lab.setup.users[:3])
    if fault_lab.is_off:
        return
    path = f"/v2/users/{quote(user_id)}"
    body = {"deactivated": False, "password": "back to life"}
    fault_lab.retiring.admin("PUT", path, json=body)


def _revoked(fault_lab: FaultLab, chance: Random) -> None:
    server, token = fault_lab.retiring, fault_lab.retiring.admin_token
    _while_it_works(fault_lab, chance, lambda: server.call("POST", "/_matrix/client/v3/logout", token=token, json={}))
    fault_lab.undo(fault_lab.new_token)


def _demoted(fault_lab: FaultLab, chance: Random) -> None:
    operator = quote(fault_lab.retiring.operator.user_id)

    def make(admin: bool) -> None:
        fault_lab.admin_call(fault_lab.second_admin, "PUT", f"/v1/users/{operator}/admin", {"admin": admin})

    _while_it_works(fault_lab, chance, lambda: make(False))
    fault_lab.undo(lambda: make(True))


def _controller_killed(fault_lab: FaultLab, chance: Random) -> None:
    run = fault_lab.run
    assert run is not None
    _while_it_works(fault_lab, chance, lambda: kill(run.process))


def _no_reports(fault_lab: FaultLab, chance: Random) -> None:
    """Somebody has put a file where the certificate is to go: root could write to any directory."""
    run = fault_lab.run
    assert run is not None
    reports = run.directory / "decommission-reports"
    aside = run.directory / "aside"
    if reports.exists():
        reports.rename(aside)
    reports.touch()

    def put_back() -> None:
        reports.unlink()
        if aside.exists():
            aside.rename(reports)

    fault_lab.undo(put_back)


def _moved(fault_lab: FaultLab, chance: Random) -> None:
    proxy, here = fault_lab.proxy, fault_lab.proxy.upstream
    there = fault_lab.staying.base_url.removeprefix("http://")
    _while_it_works(fault_lab, chance, lambda: setattr(proxy, "upstream", there))
    fault_lab.undo(lambda: setattr(proxy, "upstream", here))


def _another_controller(fault_lab: FaultLab, chance: Random) -> None:
    def run() -> None:
        other = Run(fault_lab.lab.directory, fault_lab.variables)
        code = other.wait()
        assert code in (0, 2), other.output

    _while_it_works(fault_lab, chance, run)


LISTINGS = "/(users|rooms|destinations)$"
DAY = 86400

FAULTS = {
    fault.name: fault
    for fault in (
        Fault("homeserver killed", _killed),
        Fault("homeserver restarted", _restarted),
        Fault("homeserver's disk full", _disk_full),
        Fault("database gone for 8 s", _database_gone),
        Fault("remote server killed", _remote_restarted),
        Fault("remote server down", _remote_down),
        Fault("10 s latency", _spoil(ProxyFault.DELAY_BEFORE, first=2, seconds=10)),
        Fault("429 without Retry-After", _spoil(ProxyFault.TOO_MANY_REQUESTS, lasting=2)),
        Fault("429 with Retry-After", _spoil(ProxyFault.RETRY_AFTER, lasting=2)),
        Fault("502 after the work", _spoil(ProxyFault.BAD_GATEWAY_AFTER, every=3, lasting=20)),
        Fault("503 after the work", _spoil(ProxyFault.UNAVAILABLE_AFTER, every=3, lasting=20)),
        Fault("504 after the work", _spoil(ProxyFault.GATEWAY_TIMEOUT_AFTER, every=3, lasting=20)),
        Fault("request torn", _spoil(ProxyFault.TORN, every=4, lasting=20)),
        Fault("answer cut in half", _spoil(ProxyFault.HALF_ANSWERED, every=4, lasting=20)),
        Fault("HTML for JSON", _spoil(ProxyFault.HTML, first=3)),
        Fault("JSON of another shape", _spoil(ProxyFault.WRONG_SHAPE, first=2)),
        Fault("endless page token", _spoil(ProxyFault.ENDLESS, path=LISTINGS, after=0)),
        Fault("newcomers", _newcomers),
        Fault("account comes back to life", _back_to_life),
        Fault("token revoked", _revoked),
        Fault("operator demoted", _demoted),
        Fault("controller killed", _controller_killed, kills=True),
        Fault("another controller", _another_controller),
        Fault("certificate can't be written", _no_reports),
        Fault("URL leads to another server", _moved),
        Fault("clock 8 days slow", _spoil(ProxyFault.WRONG_TIME, seconds=-8 * DAY, after=0)),
        Fault("clock 8 days fast", _spoil(ProxyFault.WRONG_TIME, seconds=8 * DAY, after=0)),
    )
}


@dataclass
class Step:
    """One fault at one stage, and what came of it.

    :ivar struck: whether a run came there.
    :ivar outcome: C(coped), if the run went on to the next or to its end, or C(stopped), or C(killed).
    """

    stage: str
    fault: Fault
    task: str
    struck: bool = False
    outcome: str = ""
    messages: list[str] = field(default_factory=list)


class Strikes:
    """Lets one thing after the other go wrong, each at a task of its stage, or, if that is skipped, right after it.

    What has gone wrong is mended when the next comes. What a run does not come to any more is left for the next run.
    """

    def __init__(self, fault_lab: FaultLab, chance: Random, steps: list[Step]) -> None:
        self._lab = fault_lab
        self._chance = chance
        self._left = list(steps)
        self._now: Step | None = None
        self._has_come = False

    def __bool__(self) -> bool:
        return bool(self._left)

    def __call__(self, file: str, task: str) -> None:
        """A run comes to a task."""
        if not self._left:
            return
        step = self._left[0]
        here = file in files_of(step.stage)
        self._has_come = self._has_come or here
        if self._has_come and (not here or task == step.task):
            self._end("coped", [])
            self._has_come = False
            self._now = self._left.pop(0)
            self._now.struck = True
            self._now.fault.strike(self._lab, self._chance)

    def over(self, code: int, messages: list[str]) -> None:
        """A run has ended."""
        self._has_come = False
        if self._now is None and self._left:
            # It did not get so far: as when what is done needs not be done again.
            self._left.pop(0).outcome = "not reached"
        self._end({0: "coped", 2: "stopped"}.get(code, "killed"), messages)

    def _end(self, outcome: str, messages: list[str]) -> None:
        self._lab.restore()
        if self._now is not None:
            self._now.outcome, self._now.messages = outcome, messages
        self._now = None
