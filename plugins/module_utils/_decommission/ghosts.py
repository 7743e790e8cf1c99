# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check many remote servers in many rooms, and remove the ghosts that they list.

All servers are asked side by side, each at its own pace. Ghosts of a room are removed on one server at a time, since a
server passes the leaves on to all others in the room; then the next one is asked again.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import partial
from typing import Callable, Iterable, NamedTuple, Optional, Sequence

from .._federation.checks import STATE_LIMIT, Known, Pair, PairResult, check, check_if_joined
from .._federation.client import FederationClient
from .._federation.removal import MayLeave, remove
from .._pool import each
from .schedule import Schedule, Turn

WORKERS = 48
"""How many requests are under way at the same time, to all servers together."""
SPREAD_DELAY = 3.0
"""Seconds that a server gets to pass leaves on, before the next server in the room is asked again."""
RETRY_DELAYS = (5.0, 20.0)
"""Seconds until a server is asked again about pairs whose result can change without anything being done."""


class Room(NamedTuple):
    """A room, the remote servers in it, and what is known of our accounts there."""

    room_id: str
    servers: tuple[str, ...]
    known: Known


Ask = Callable[[Pair, Known], Optional[PairResult]]


@dataclass
class GhostRun:
    """Asks about pairs of server and room until each has a result that does not change by itself.

    :ivar client: sends the requests.
    :ivar on_result: is called with each result, from any thread; the last one of a pair counts.
    :ivar retry_delays: seconds before each further try.
    """

    client: FederationClient
    on_result: Callable[[PairResult], None]
    retry_delays: Sequence[float] = RETRY_DELAYS
    state_limit: int = STATE_LIMIT
    workers: int = WORKERS
    results: dict[Pair, PairResult] = field(default_factory=dict)

    def check(self, rooms: Iterable[Room]) -> None:
        """Ask about each pair whose result is not C(confirmed) yet. Only reads."""
        self._ask_all(rooms, partial(check, self.client, state_limit=self.state_limit))

    def remove(self, rooms: Iterable[Room], may_leave: MayLeave) -> None:
        """The same, and remove the ghosts that are listed.

        :param may_leave: is asked for each account and room right before a leave is sent.
        """
        undecided: set[Pair] = set()

        def is_confirmed(pair: Pair, known: Known) -> PairResult | None:
            result = check_if_joined(self.client, pair, known)
            if result is None:
                undecided.add(pair)
            return result

        rooms = list(rooms)
        self._ask_all(rooms, is_confirmed)
        left = [_only(room, undecided.__contains__) for room in rooms]
        for delay in (0.0, *self.retry_delays):
            left = [open_room for room in left if (open_room := _only(room, self._is_open)).servers]
            if not left:
                return
            time.sleep(delay)
            for server in {server for room in left for server in room.servers}:
                self.client.forgive(server)
            for _room, _nothing in each(partial(self._remove_in, may_leave), left, self.workers):
                pass

    def _is_open(self, pair: Pair) -> bool:
        """Whether it was not asked about yet, or may have another answer by now."""
        result = self.results.get(pair)
        return result is None or result.can_change

    def _ask_all(self, rooms: Iterable[Room], ask: Ask) -> None:
        """Ask each server about its rooms, and again where the answer may change, while others are still asked."""
        servers: dict[str, deque[Room]] = {}
        for room in rooms:
            for name in _only(room, self._is_open).servers:
                servers.setdefault(name, deque()).append(room)
        schedule = Schedule(servers, self.retry_delays, self.client.max_concurrent)
        for _turn, _nothing in each(lambda turn: self._take_turn(turn, schedule, ask), schedule, self.workers):
            pass

    def _take_turn(self, turn: Turn[Room], schedule: Schedule[Room], ask: Ask) -> None:
        server = turn.server
        if turn.is_retry:
            self.client.forgive(server.name)
        try:
            while True:
                try:
                    room = server.left.popleft()
                except IndexError:  # another worker has taken the last one
                    return
                result = ask(Pair(server.name, room.room_id), room.known)
                if result is not None:
                    self._keep(result)
                    if result.can_change:
                        server.again.append(room)
                if result is None or result.state != "unreachable":
                    schedule.has_answered(server)
        finally:
            schedule.end(turn)

    def _remove_in(self, may_leave: MayLeave, room: Room) -> None:
        """Remove the ghosts of a room on one server after the other."""
        for number, server in enumerate(room.servers, start=1):
            pair = Pair(server, room.room_id)
            result = remove(self.client, pair, room.known, may_leave, state_limit=self.state_limit)
            self._keep(result)
            if result.removed and number < len(room.servers):
                time.sleep(SPREAD_DELAY)

    def _keep(self, result: PairResult) -> None:
        earlier = self.results.get(result.pair)
        if earlier is not None and earlier.removed:
            result = result._replace(removed=(*earlier.removed, *result.removed))
        self.results[result.pair] = result
        self.on_result(result)

    def counts(self) -> Counter[str]:
        """How many pairs there are by state."""
        # A list, since workers may be adding results meanwhile.
        return Counter(result.state for result in list(self.results.values()))


def _only(room: Room, is_wanted: Callable[[Pair], bool]) -> Room:
    """A room with those of its servers that are wanted."""
    return room._replace(servers=tuple(s for s in room.servers if is_wanted(Pair(s, room.room_id))))
