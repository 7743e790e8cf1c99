# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Seconds until the other server's own admin API lists no account of the drained server, and until all have left all
rooms; and which accounts a contender forgets, or deactivates by mistake.

The benchmark itself reads all of it, from both servers; what a contender reports does not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event
from typing import Any

from lab import Homeserver, Lab

from .contenders import DRAINS, Target
from .processes import busy, cpu_of, timed
from .servers import ADMIN, Servers, members_at, populate, scratch

POLL = 0.5
"""Seconds between two polls."""
STALLED = 30.0
"""Seconds after the end of a contender in which nobody leaves a room, after which nobody will."""

NOT_ADMINS = f"name NOT LIKE '@operator:%' AND name NOT LIKE '@{ADMIN}:%'"
MEMBERSHIPS = (
    "SELECT count(*) FROM local_current_membership JOIN users ON name = user_id"  # noqa: S608
    f" WHERE membership = 'join' AND {NOT_ADMINS}"
)
OF_DEACTIVATED = f"{MEMBERSHIPS} AND deactivated = 1"
ACTIVE = f"SELECT count(*) FROM users WHERE deactivated = 0 AND {NOT_ADMINS}"  # noqa: S608
NOT_ERASED = (
    "SELECT count(*) FROM users LEFT JOIN erased_users ON name = user_id"  # noqa: S608
    f" WHERE user_id IS NULL AND {NOT_ADMINS}"
)
ADMINS_DEACTIVATED = f"SELECT count(*) FROM users WHERE deactivated = 1 AND NOT ({NOT_ADMINS})"  # noqa: S608


def measure(servers: Servers, database: str, accounts: int, contender: str) -> dict[str, Any]:
    """One contender's run."""
    lab = servers.fresh(f"{database}-{accounts}", database, partial(populate, accounts=accounts), servers=2)
    ours, other = lab.servers.values()
    count = ours.database.count
    before = {"memberships": count(MEMBERSHIPS), "shared": members_at(other, ours)}
    load = Load(lab)
    ended = Event()
    with scratch(f"drain-{contender}") as directory, ThreadPoolExecutor(1) as pool:
        command = DRAINS[contender](target(ours), directory)
        began = time.monotonic()
        heard = pool.submit(emptied, lambda: _listed(other) or members_at(other, ours), began, ended)
        try:
            usage = timed(command.arguments, directory, command.environment)
        finally:
            ended.set()
        done = emptied(lambda: count(OF_DEACTIVATED), began, ended)
        return {
            **before,
            "code": usage.code,
            "claimed": usage.seconds,
            "heard": heard.result(),
            "ghosts": members_at(other, ours),
            "done": done,
            "joined": count(MEMBERSHIPS),
            "active": count(ACTIVE),
            "admins_deactivated": count(ADMINS_DEACTIVATED),
            "not_erased": count(NOT_ERASED),
            "own_cpu": usage.cpu,
            "own_memory": usage.memory,
            **load.since(usage.cpu),
        }


def target(server: Homeserver) -> Target:
    """The server as contenders see it."""
    return Target(server.base_url, server.admin_token, server.server_name)


def _listed(other: Homeserver) -> int:
    # One request. Synapse counts the members of a room in the background, soon after they join or leave.
    return sum(room["joined_members"] - room["joined_local_members"] for room in other.rooms())


def emptied(count: Callable[[], int], began: float, ended: Event) -> float:
    """Seconds from C(began) until the count was 0, or fell for the last time."""
    last = time.monotonic()
    least = count()
    while least and not (ended.is_set() and time.monotonic() - last > STALLED):
        time.sleep(POLL)
        at = time.monotonic()
        now = count()
        if now < least:
            least, last = now, at
    return last - began


class Load:
    """The CPU that is used, from now on, by the servers of a lab, by PostgreSQL, and by those who have nothing to do
    with it."""

    def __init__(self, lab: Lab) -> None:
        self._servers = [server.pid for server in lab.servers.values()]
        data = lab.cluster.directory / "data" if lab.cluster else None
        self._postgresql = int((data / "postmaster.pid").read_text().splitlines()[0]) if data else None
        self._began = time.monotonic()
        self._before = self._used()

    def since(self, own: float) -> dict[str, float]:
        """Seconds of CPU since then, and of the clock (C(watched)); those of the contender are known."""
        synapse, postgresql, everybody = (now - then for now, then in zip(self._used(), self._before, strict=True))
        return {
            "watched": time.monotonic() - self._began,
            "synapse_cpu": synapse,
            "database_cpu": postgresql,
            "other_cpu": max(0.0, everybody - synapse - postgresql - own),
        }

    def _used(self) -> tuple[float, float, float]:
        postgresql = cpu_of(self._postgresql) if self._postgresql else 0.0
        return sum(map(cpu_of, self._servers)), postgresql, busy()
