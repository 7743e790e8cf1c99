# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes wrong: each strikes at a point of a run, and is over before the next."""

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
from lab.proxy import Fault

from .retirement import ROLE, Retirement, Run

FILES = {"power_off": "gate.yml"}
"""The file of a stage's tasks, where it is not named like the stage."""


def stages() -> list[str]:
    names: list[str] = yaml.safe_load((ROLE / "defaults/main.yml").read_text())["decommission_stages"]
    return names


def points(stage: str) -> list[str]:
    """The names of the tasks of a stage that are modules of this collection."""
    tasks = yaml.safe_load((ROLE / "tasks" / file_of(stage)).read_text())
    return [task["name"] for task in _flat(tasks) if any(key.startswith("matrixops.synapse.") for key in task)]


def _flat(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for task in tasks:
        found += _flat(task["block"]) if "block" in task else [task]
    return found


def file_of(stage: str) -> str:
    return FILES.get(stage, f"{stage}.yml")


@dataclass(frozen=True)
class Mishap:
    """Something that goes wrong.

    :ivar name: for the table.
    :ivar strike: is called with the run at the point where it is to go wrong.
    :ivar kills: whether the run is ended by it, and so has no exit code of its own.
    :ivar variables: of the role, for the run in which it goes wrong.
    """

    name: str
    strike: Callable[[Retirement, Random], None]
    kills: bool = False
    variables: dict[str, Any] = field(default_factory=dict)


def _while_it_works(retirement: Retirement, chance: Random, action: Callable[[], object]) -> None:
    retirement.later(chance.uniform(0, 0.5), action)


def _killed(retirement: Retirement, chance: Random) -> None:
    _while_it_works(retirement, chance, retirement.retiring.kill)


def _restarted(retirement: Retirement, chance: Random) -> None:
    _while_it_works(retirement, chance, retirement.retiring.restart)


def _remote_restarted(retirement: Retirement, chance: Random) -> None:
    """Killed, and back after some seconds: as long as Synapse takes to start."""

    def restart() -> None:
        retirement.staying.kill()
        retirement.staying.start()

    _while_it_works(retirement, chance, restart)


def _remote_down(retirement: Retirement, chance: Random) -> None:
    """Until whoever runs the playbook runs it again."""
    _while_it_works(retirement, chance, retirement.staying.kill)


def _disk_full(retirement: Retirement, chance: Random) -> None:
    """No file of the server's can grow: what a full disk is to it, without one."""
    server = retirement.retiring
    pid = server.pid
    assert pid is not None
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    _while_it_works(retirement, chance, lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, before[1])))

    def over() -> None:
        if server.pid == pid:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        # Whoever has had a full disk restarts what was on it.
        server.kill()
        server.start()

    retirement.undo(over)


def _database_gone(retirement: Retirement, chance: Random) -> None:
    """Somebody else has it, for longer than Synapse waits."""
    database = retirement.retiring.database
    assert isinstance(database, Sqlite)
    path = database.path

    def lock() -> None:
        with closing(sqlite3.connect(path, timeout=5)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(8)

    _while_it_works(retirement, chance, lock)


def _spoil(fault: Fault, **which: Any) -> Callable[[Retirement, Random], None]:
    def strike(retirement: Retirement, chance: Random) -> None:
        retirement.proxy.rule(fault, **{"after": chance.randrange(12), **which})

    return strike


def _newcomers(retirement: Retirement, chance: Random) -> None:
    """At once: who comes after the last look is seen by nobody. And nobody comes to a server that is off."""
    server = retirement.retiring
    if retirement.is_off:
        return
    for number in range(2):
        newcomer = server.register(f"late{time.time_ns()}_{number}")
        try:
            server.join(newcomer.token, retirement.village.shared)
        except ApiError as error:  # nobody of ours may be left in it
            if error.status not in (403, 404):
                raise


def _back_to_life(retirement: Retirement, chance: Random) -> None:
    user_id = chance.choice(retirement.village.users[:3])
    if retirement.is_off:
        return
    path = f"/v2/users/{quote(user_id)}"
    body = {"deactivated": False, "password": "back to life"}
    retirement.retiring.admin("PUT", path, json=body)


def _revoked(retirement: Retirement, chance: Random) -> None:
    server, token = retirement.retiring, retirement.retiring.admin_token
    _while_it_works(retirement, chance, lambda: server.call("POST", "/_matrix/client/v3/logout", token=token, json={}))
    retirement.undo(retirement.new_token)


def _demoted(retirement: Retirement, chance: Random) -> None:
    operator = quote(retirement.retiring.operator.user_id)

    def make(admin: bool) -> None:
        retirement.admin_call(retirement.second_admin, "PUT", f"/v1/users/{operator}/admin", {"admin": admin})

    _while_it_works(retirement, chance, lambda: make(False))
    retirement.undo(lambda: make(True))


def _controller_killed(retirement: Retirement, chance: Random) -> None:
    run = retirement.run
    assert run is not None
    _while_it_works(retirement, chance, lambda: kill(run.process))


def _no_reports(retirement: Retirement, chance: Random) -> None:
    """Somebody has put a file where the certificate is to go: root could write to any directory."""
    run = retirement.run
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

    retirement.undo(put_back)


def _moved(retirement: Retirement, chance: Random) -> None:
    proxy, here = retirement.proxy, retirement.proxy.upstream
    there = retirement.staying.base_url.removeprefix("http://")
    _while_it_works(retirement, chance, lambda: setattr(proxy, "upstream", there))
    retirement.undo(lambda: setattr(proxy, "upstream", here))


def _another_controller(retirement: Retirement, chance: Random) -> None:
    def run() -> None:
        other = Run(retirement.lab.directory, retirement.variables)
        code = other.wait()
        assert code in (0, 2), other.output

    _while_it_works(retirement, chance, run)


LISTINGS = "/(users|rooms|destinations)$"
DAY = 86400

MISHAPS = {
    mishap.name: mishap
    for mishap in (
        Mishap("homeserver killed", _killed),
        Mishap("homeserver restarted", _restarted),
        Mishap("homeserver's disk full", _disk_full),
        Mishap("database gone for 8 s", _database_gone),
        Mishap("remote server killed", _remote_restarted),
        Mishap("remote server down", _remote_down),
        Mishap("10 s latency", _spoil(Fault.DELAY_BEFORE, first=2, seconds=10)),
        Mishap("429 without Retry-After", _spoil(Fault.TOO_MANY_REQUESTS, lasting=2)),
        Mishap("429 with Retry-After", _spoil(Fault.RETRY_AFTER, lasting=2)),
        Mishap("502 after the work", _spoil(Fault.BAD_GATEWAY_AFTER, every=3, lasting=20)),
        Mishap("503 after the work", _spoil(Fault.UNAVAILABLE_AFTER, every=3, lasting=20)),
        Mishap("504 after the work", _spoil(Fault.GATEWAY_TIMEOUT_AFTER, every=3, lasting=20)),
        Mishap("request torn", _spoil(Fault.TORN, every=4, lasting=20)),
        Mishap("answer cut in half", _spoil(Fault.HALF_ANSWERED, every=4, lasting=20)),
        Mishap("HTML for JSON", _spoil(Fault.HTML, first=3)),
        Mishap("JSON of another shape", _spoil(Fault.WRONG_SHAPE, first=2)),
        Mishap("endless page token", _spoil(Fault.ENDLESS, path=LISTINGS, after=0)),
        Mishap("newcomers", _newcomers),
        Mishap("account comes back to life", _back_to_life),
        Mishap("token revoked", _revoked),
        Mishap("operator demoted", _demoted),
        Mishap("controller killed", _controller_killed, kills=True),
        Mishap("another controller", _another_controller),
        Mishap("certificate can't be written", _no_reports),
        Mishap("URL leads to another server", _moved),
        Mishap("clock 8 days slow", _spoil(Fault.WRONG_TIME, seconds=-8 * DAY, after=0)),
        Mishap("clock 8 days fast", _spoil(Fault.WRONG_TIME, seconds=8 * DAY, after=0)),
    )
}


@dataclass
class Step:
    """One mishap at one stage, and what came of it.

    :ivar struck: whether a run came there.
    :ivar outcome: C(coped), if the run went on to the next or to its end, or C(stopped), or C(killed).
    """

    stage: str
    mishap: Mishap
    task: str
    struck: bool = False
    outcome: str = ""
    messages: list[str] = field(default_factory=list)


class Strikes:
    """Lets one thing after the other go wrong, each at a task of its stage, or, if that is skipped, right after it.

    What has gone wrong is mended when the next comes. What a run does not come to any more is left for the next run.
    """

    def __init__(self, retirement: Retirement, chance: Random, steps: list[Step]) -> None:
        self._retirement = retirement
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
        here = file == file_of(step.stage)
        self._has_come = self._has_come or here
        if self._has_come and (not here or task == step.task):
            self._end("coped", [])
            self._has_come = False
            self._now = self._left.pop(0)
            self._now.struck = True
            self._now.mishap.strike(self._retirement, self._chance)

    def over(self, code: int, messages: list[str]) -> None:
        """A run has ended."""
        self._has_come = False
        if self._now is None and self._left:
            # It did not get so far: as when what is done needs not be done again.
            self._left.pop(0).outcome = "not reached"
        self._end({0: "coped", 2: "stopped"}.get(code, "killed"), messages)

    def _end(self, outcome: str, messages: list[str]) -> None:
        self._retirement.mend()
        if self._now is not None:
            self._now.outcome, self._now.messages = outcome, messages
        self._now = None
