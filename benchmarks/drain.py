# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long until nobody is in a room any more, who claims so when, and who was forgotten or closed by mistake.

That is what the server's database says, and not what the contender believes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from lab import Homeserver, Lab

from .contenders import DRAINS, Command, Target, nothing
from .processes import busy, cpu_of, timed
from .servers import ADMIN, Servers, populate, scratch

STALLED = 60.0
"""Seconds without anybody leaving a room, after which nobody will."""

NOT_ADMINS = f"name NOT LIKE '@operator:%' AND name NOT LIKE '@{ADMIN}:%'"
MEMBERSHIPS = (
    "SELECT count(*) FROM local_current_membership JOIN users ON name = user_id"  # noqa: S608
    f" WHERE membership = 'join' AND {NOT_ADMINS}"
)
OF_CLOSED = f"{MEMBERSHIPS} AND deactivated = 1"
LEFT_OPEN = f"SELECT count(*) FROM users WHERE deactivated = 0 AND {NOT_ADMINS}"  # noqa: S608
NOT_ERASED = (
    "SELECT count(*) FROM users LEFT JOIN erased_users ON name = user_id"  # noqa: S608
    f" WHERE user_id IS NULL AND {NOT_ADMINS}"
)
ADMINS_CLOSED = f"SELECT count(*) FROM users WHERE deactivated = 1 AND NOT ({NOT_ADMINS})"  # noqa: S608


def measure(servers: Servers, database: str, accounts: int, contender: str) -> dict[str, Any]:
    """One contender's run."""
    lab = servers.fresh(f"{database}-{accounts}", database, partial(populate, accounts=accounts))
    server = lab["s0"]
    count = server.database.count
    before = count(MEMBERSHIPS)
    load = Load(lab)
    began = time.monotonic()
    with scratch(f"drain-{contender}") as directory:
        command = DRAINS[contender](target(server), directory)
        usage = timed(command.arguments, directory, command.environment)
        claimed = usage.seconds
        then = {"joined": count(MEMBERSHIPS), "open": count(LEFT_OPEN), "admins_closed": count(ADMINS_CLOSED)}
        # What the questions have taken is nobody's.
        done = claimed if count(OF_CLOSED) == 0 else _emptied(lambda: count(OF_CLOSED), began)
    at_end = {"joined": count(MEMBERSHIPS), "open": count(LEFT_OPEN), "admins_closed": count(ADMINS_CLOSED)}
    return {
        "code": usage.code,
        "memberships": before,
        "claimed": claimed,
        "then": then,
        "done": done,
        "end": {**at_end, "not_erased": count(NOT_ERASED)},
        "own_cpu": usage.cpu,
        "own_memory": usage.memory,
        **load.since(usage.cpu),
    }


def measure_nothing(servers: Servers, database: str, accounts: int, _contender: str) -> dict[str, Any]:
    """What Ansible takes to start, and our client to log on."""
    lab = servers.fresh(f"{database}-{accounts}", database, partial(populate, accounts=accounts))
    return {"seconds": run(lambda directory: nothing(target(lab["s0"]), directory), "nothing")}


def run(make: Callable[..., Command], name: str) -> float:
    """Seconds that a command takes, which must succeed."""
    with scratch(name) as directory:
        command = make(directory)
        usage = timed(command.arguments, directory, command.environment)
        if usage.code:
            raise RuntimeError(f"{name} ended with {usage.code}: {(directory / 'output').read_text()[-2000:]}")
    return usage.seconds


def target(server: Homeserver) -> Target:
    """The server as contenders see it."""
    return Target(server.base_url, server.admin_token, server.server_name)


def _emptied(count: Callable[[], int], began: float) -> float:
    """Seconds from then to when there were none any more, or when there had last been fewer."""
    least, last = count(), time.monotonic()
    while least and time.monotonic() - last < STALLED:
        time.sleep(0.5)
        now = count()
        if now < least:
            least, last = now, time.monotonic()
    return last - began


class Load:
    """The CPU that is used, from now on, by the servers of a lab, by PostgreSQL, and by those who have nothing to do
    with it."""

    def __init__(self, lab: Lab) -> None:
        self._servers = [server.pid for server in lab.servers.values()]
        data = lab.cluster.directory / "data" if lab.cluster else None
        self._postgresql = int((data / "postmaster.pid").read_text().splitlines()[0]) if data else None
        self._before = self._used()

    def since(self, own: float) -> dict[str, float]:
        """Seconds of CPU since then; those of the contender are known."""
        synapse, postgresql, everybody = (now - then for now, then in zip(self._used(), self._before, strict=True))
        return {
            "synapse_cpu": synapse,
            "database_cpu": postgresql,
            "other_cpu": max(0.0, everybody - synapse - postgresql - own),
        }

    def _used(self) -> tuple[float, float, float]:
        postgresql = cpu_of(self._postgresql) if self._postgresql else 0.0
        return sum(map(cpu_of, self._servers)), postgresql, busy()
