# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check many remote servers in many rooms, and remove the ghosts that they list.

All servers are asked concurrently, each at its own pace. The ghosts of a room are removed on one server after the
other, since a server forwards the leaves to all others in the room. Each is checked again before the removal.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from typing import Callable, Iterable, NamedTuple, Optional, Sequence

from .._concurrency import map_concurrent
from .._federation.checks import STATE_LIMIT, KnownAccounts, Pair, PairResult, check, check_if_joined
from .._federation.client import FederationClient
from .._federation.removal import MayLeave, remove
from .retry_schedule import Schedule, Slot

WORKERS = 48
"""Maximum number of concurrent requests to all servers together."""
FORWARD_DELAY = 3.0
"""Time in seconds for a server to forward leaves, before the next server in the room is asked again."""
RETRY_DELAYS = (5.0, 20.0)
"""Delays in seconds before the retries of pairs with a transient result."""


class Room(NamedTuple):
    """A room, the remote servers in it, and local accounts that are known to have been there."""

    room_id: str
    servers: tuple[str, ...]
    known: KnownAccounts


Ask = Callable[[Pair, KnownAccounts], Optional[PairResult]]


@dataclass
class GhostRun:
    """Checks pairs of server and room until no result is transient, or all retries are used up.

    :ivar on_result: is called with each result, from any thread. The last one of a pair counts.
    :ivar retry_delays: delays in seconds before the retries.
    :ivar state_limit: maximum size of a room's state in bytes.
    :ivar workers: maximum number of concurrent requests to all servers together.
    :ivar is_member: whether a listed account is a member of the room on its own homeserver, where one runs under the
        same name, so that it is no ghost. For the arguments, see C(MayLeave).
    :ivar results: the last result of each pair.
    """

    client: FederationClient
    on_result: Callable[[PairResult], None]
    retry_delays: Sequence[float] = RETRY_DELAYS
    state_limit: int = STATE_LIMIT
    workers: int = WORKERS
    is_member: MayLeave | None = None
    results: dict[Pair, PairResult] = field(default_factory=dict)

    def check(self, rooms: Iterable[Room]) -> None:
        """Check each pair that has no result yet, or a transient one. Only reads."""
        self._ask_all(rooms, partial(check, self.client, state_limit=self.state_limit))

    def remove(self, rooms: Iterable[Room], may_leave: MayLeave) -> None:
        """Check the pairs as C(check) does, and remove the ghosts that are listed.

        :param may_leave: is called right before a leave is sent.
        """
        undecided: set[Pair] = set()

        def is_confirmed(pair: Pair, known: KnownAccounts) -> PairResult | None:
            result = check_if_joined(self.client, pair, known)
            if result is None:
                undecided.add(pair)
            return result

        rooms = list(rooms)
        self._ask_all(rooms, is_confirmed)
        remaining = [_only(room, undecided.__contains__) for room in rooms]
        for delay in (0.0, *self.retry_delays):
            remaining = [room for found in remaining if (room := _only(found, self._is_open)).servers]
            if not remaining:
                return
            time.sleep(delay)
            for server in {server for room in remaining for server in room.servers}:
                self.client.mark_up(server)
            for _room, _nothing in map_concurrent(partial(self._remove_in, may_leave), remaining, self.workers):
                pass

    def _is_open(self, pair: Pair) -> bool:
        """Whether a pair has no result yet, or a transient one."""
        result = self.results.get(pair)
        return result is None or result.is_transient

    def _ask_all(self, rooms: Iterable[Room], ask: Ask) -> None:
        """Ask each server about its rooms. Transient results are retried while other servers are still asked."""
        servers: dict[str, deque[Room]] = {}
        for room in rooms:
            for name in _only(room, self._is_open).servers:
                servers.setdefault(name, deque()).append(room)
        schedule = Schedule(servers, self.retry_delays, self.client.max_concurrent)
        for _slot, _nothing in map_concurrent(lambda slot: self._use(slot, schedule, ask), schedule, self.workers):
            pass

    def _use(self, slot: Slot[Room], schedule: Schedule[Room], ask: Ask) -> None:
        """Ask one server about room after room, until no room is left."""
        queue = slot.queue
        if slot.is_retry:
            self.client.mark_up(queue.name)
        try:
            while True:
                try:
                    room = queue.items.popleft()
                except IndexError:  # another worker has taken the last one
                    return
                result = ask(Pair(queue.name, room.room_id), room.known)
                if result is not None:
                    self._keep(result)
                    if result.is_transient:
                        queue.retry_items.append(room)
                schedule.add_workers(queue)
        finally:
            schedule.end(slot)

    def _remove_in(self, may_leave: MayLeave, room: Room) -> None:
        """Remove the ghosts of a room, on one server after the other."""
        for number, server in enumerate(room.servers, start=1):
            pair = Pair(server, room.room_id)
            result = remove(self.client, pair, room.known, may_leave, state_limit=self.state_limit)
            self._keep(result)
            if result.removed and number < len(room.servers):
                time.sleep(FORWARD_DELAY)

    def _keep(self, result: PairResult) -> None:
        earlier = self.results.get(result.pair)
        if earlier is not None and earlier.removed:
            result = result._replace(removed=(*earlier.removed, *result.removed))
        if result.ghosts and self.is_member is not None:
            result = _without_members(result, self.is_member)
        self.results[result.pair] = result
        self.on_result(result)

    def counts(self) -> Counter[str]:
        """Return the number of pairs by state."""
        # A list, since workers may be adding results meanwhile.
        return Counter(result.state for result in list(self.results.values()))


def _without_members(result: PairResult, is_member: MayLeave) -> PairResult:
    """Return a result without accounts that are members on their own homeserver as well."""
    room_id = result.pair.room_id
    ghosts = {
        name: membership for name, membership in result.ghosts.items() if not is_member(name, room_id, membership)
    }
    if ghosts or result.state != "ghosts":
        return result._replace(ghosts=ghosts)
    return result._replace(state="confirmed", ghosts={}, reason="", is_transient=False)


def _only(room: Room, is_wanted: Callable[[Pair], bool]) -> Room:
    """Return a room with a part of its servers."""
    return room._replace(servers=tuple(s for s in room.servers if is_wanted(Pair(s, room.room_id))))
