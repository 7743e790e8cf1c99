# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Propagation: every remote server is checked in every federated room, and ghosts are removed as they are found.

Servers that have not confirmed all rooms are polled again with backoff, until the propagation period is over. Results
are recorded, so that a confirmed pair is not checked again, except right before the power-off.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import Iterator, Mapping

from .._federation.checks import STATE_LIMIT, STATES, Pair, PairResult
from .._federation.client import FederationClient
from .._results import with_reasons
from .._synapse.answer import JsonDict
from .._synapse.client import Client
from .._synapse.errors import FatalError, RefusedError, SynapseError
from .._synapse.rooms import joined_rooms
from .._synapse.server import MAX_CLOCK_DIFFERENCE
from .._text import duration
from . import idle_parts, milestones
from .ghosts import GhostRun
from .pairs import read_rooms, who_can_kick
from .period_start import period_start
from .progress import ProgressFile, downsample
from .propagation_result import (
    MAX_NAMES,
    MAX_SERVERS,
    SEVERITY,
    broken_rooms_of,
    message,
    server_row,
    state_of,
    summary_of,
    worst_rooms,
)
from .record import MAX_REASON, RecordedResult, Retry, read_record, write_record
from .retry_schedule import backoff

MAX_RECHECKED = 10_000
"""Maximum number of confirmed pairs to check again right before the power-off: a random sample."""
RETRY_DELAYS = (5.0,)
"""Delays in seconds before the retries of a server within one poll."""
MAX_PAUSE = 600
"""Maximum time in seconds from one poll to the next."""
WAKE_INTERVAL = 3600
"""Minimum time in seconds from one event for federation senders that seem not to run to the next."""
SEND_DELAY = 5
"""Time in seconds for Synapse to send the last leaves itself, before ghosts are removed."""
SAVE_INTERVAL = 20.0
"""Minimum time in seconds from one write of the record to the next during a poll."""
HISTORY = 200
"""Maximum number of points of the history."""
STATISTICS_PERIOD = 600
"""Time in seconds from the start of the period in which each poll reads the statistics of the rooms."""
NOT_CHECKED = "not checked: decommission_ghost_checks is false"
NOT_CHECKED_YET = "not checked yet"
MAX_KICK_READS = 20
"""Maximum number of rooms, among those in which a server refuses, of which to read the accounts that can kick."""


@dataclass(frozen=True)
class Options:
    """What to wait for. Times are in seconds.

    :ivar period: the propagation period, from the time when all accounts had left the federated rooms.
    :ivar early_exit: whether to end before that, once all servers that answer have confirmed.
    :ivar unreachable_after: how long to retry unreachable servers with I(early_exit).
    :ivar poll_interval: minimum time from one check of a server to the next.
    :ivar recheck: whether to check confirmed pairs again, and whether the period has started again since.
    :ivar ignore: servers that need not confirm.
    :ivar broken_rooms: rooms that could not be left here, with the reason of each; C(None): as they were recorded.
    """

    period: int
    early_exit: bool = False
    unreachable_after: int = 86400
    poll_interval: int = 30
    recheck: bool = False
    ignore: frozenset[str] = frozenset()
    broken_rooms: Mapping[str, str] | None = None


class Propagation:
    """One poll. It begins with the record and the rooms that Synapse knows, which list the servers to ask.

    :ivar removed: how many ghosts were removed in this poll.
    :ivar checked: whether servers were asked.
    """

    def __init__(
        self, client: Client, options: Options, *, dry_run: bool = False, progress_path: str | None = None
    ) -> None:
        """
        :param dry_run: check, and remove nothing.
        :raises SynapseError: no record that all accounts have left the federated rooms.
        """
        self.client = client
        self.options = options
        self.dry_run = dry_run
        self.removed = 0
        self.checked = False
        self._lock = threading.Lock()
        self._saved = time.monotonic()
        self._before: dict[Pair, RecordedResult] = {}
        self._has_created_room = False
        self._total = 0
        self._progress = ProgressFile(progress_path)
        recorded = milestones.read(self.client)
        left = recorded.get(milestones.LEFT)
        if left is None:
            raise FatalError(
                "No record that all accounts have left the federated rooms: run the stages drain and leave_rooms first,"
                " with the access token of the same operator"
            )
        self._started = recorded.get(milestones.STARTED, left)
        self.now = int(self.client.time().timestamp())
        self._clock_offset = self.now - time.time()
        self.record = read_record(self.client)
        self._left_at = self._start_again(left) if self.options.recheck else left
        self.ends = self._left_at + self.options.period
        self._merge()

    def _start_again(self, recorded: int) -> int:
        """Return the start of the period. It is recorded if it is not the one on record."""
        left = period_start(self.client, recorded, self.record, self.options.broken_rooms)
        if left != recorded and not self.dry_run:
            milestones.write(self.client, {**milestones.read(self.client), milestones.LEFT: left})
        return left

    def _merge(self) -> None:
        """Add the rooms that Synapse knows now to the record, once after each drain."""
        if self.record.merged_for != self._left_at:
            # Accounts may have joined since the recorded results.
            for room_id in self.record.rooms:
                self.record.reset(room_id)
            unreadable: dict[str, str] = {}

            def on_unreadable(room_id: str, error: SynapseError) -> None:
                unreadable[room_id] = str(error)[:MAX_REASON]

            self.record.add(read_rooms(self.client, on_unreadable))
            unknown = sorted(unreadable.keys() - self.record.rooms.keys())
            self.record.unreadable = {room_id: unreadable[room_id] for room_id in unknown[:MAX_SERVERS]}
            self.record.merged_for = self._left_at
        if self.options.broken_rooms is not None:
            for room_id, room in self.record.rooms.items():
                room.broken = self.options.broken_rooms.get(room_id, "")[:MAX_REASON]

    @property
    def changed(self) -> bool:
        """Whether anything was changed on the homeserver or a remote server, apart from the record."""
        return bool(self.removed) or self._has_created_room

    @property
    def servers(self) -> list[str]:
        """The remote servers to ask, those with most rooms first."""
        found = self.record.by_server()
        return sorted(found.keys() - self.options.ignore, key=lambda name: (-len(found[name]), name))

    def check(self, federation: FederationClient, state_limit: int = STATE_LIMIT) -> None:
        """Check the servers that are due, and remove the ghosts that they list.

        :param state_limit: maximum size of a room's state in bytes.
        """
        self.checked = True
        if not self.dry_run:
            # Otherwise remote servers would get two leaves. Bounded, in case the homeserver's clock was set back.
            time.sleep(min(max(self._left_at + SEND_DELAY - self.now, 0), SEND_DELAY))
        pairs = list(self._due())
        self._before = dict(self.record.pairs())
        self._total = len(pairs)
        run = self._run = GhostRun(federation, self._on_result, RETRY_DELAYS, state_limit)
        try:
            self._show()
            rooms = self.record.to_ask(pairs)
            if self.dry_run:
                run.check(rooms)
            else:
                run.remove(rooms, self._may_leave)
        finally:
            self._progress.remove()
            self.removed = sum(len(result.removed) for result in run.results.values())
        self._check_clock(federation)
        self._plan_retries({pair.server for pair in pairs})

    def _check_clock(self, federation: FederationClient) -> None:
        """Compare the clock of the homeserver, which decides when the period is over, with those of remote servers.

        :raises FatalError: if it differs from most of them. The start of the period is discarded then: it was recorded
            by the same clock.
        """
        offsets = sorted(federation.clock_offsets)
        if not offsets:
            return
        difference = self._clock_offset - offsets[len(offsets) // 2]
        if abs(difference) <= MAX_CLOCK_DIFFERENCE:
            return
        if not self.dry_run:
            kept = milestones.changed(milestones.read(self.client), mark=(), clear=(milestones.LEFT,), now=self.now)
            milestones.write(self.client, kept)
        raise FatalError(
            f"The clock of {self.client.server_name} is {duration(abs(difference))}"
            f" {'ahead of' if difference > 0 else 'behind'} the clocks of {len(offsets)} remote servers. Correct the"
            " clock, for example with chrony, then run the stages drain, leave_rooms and propagate again: the"
            " propagation period starts anew"
        )

    def _due(self) -> Iterator[Pair]:
        """Yield the pairs to check now."""
        by_server = self.record.by_server()
        confirmed: list[Pair] = []
        for server in self.servers:
            is_due = self.now >= min(self._next_try(server), self.ends) or self.options.recheck
            for room_id, found in by_server[server].items():
                if found.state == "confirmed":
                    confirmed.append(Pair(server, room_id))
                elif is_due:
                    yield Pair(server, room_id)
        if self.options.recheck:
            yield from random.sample(confirmed, min(len(confirmed), MAX_RECHECKED))

    def _next_try(self, server: str) -> int:
        retry = self.record.retries.get(server)
        return 0 if retry is None else retry.last_try + backoff(retry.tries, self.options.poll_interval)

    def _may_leave(self, user_id: str, room_id: str, _membership: str) -> bool:
        """Whether an account is not joined on its own homeserver, or can't leave the room there."""
        self.client.check_write()
        return bool(self.record.rooms[room_id].broken) or room_id not in joined_rooms(self.client, user_id)

    def _on_result(self, result: PairResult) -> None:
        """Keep a result, and write the record at intervals, so that a run that is killed can be resumed."""
        pair = result.pair
        with self._lock:
            before = self._before[pair]
            # A confirmation stays valid while the server is down, unless it went down after another answer.
            is_down = result.state == "unreachable" and not (result.has_answered or result.removed)
            if before.state != "confirmed" or not is_down:
                self.record.rooms[pair.room_id].servers[pair.server] = RecordedResult(
                    result.state,
                    self.now,
                    before.removed + len(result.removed),
                    len(result.ghosts),
                    result.reason[:MAX_REASON],
                )
            if self._progress.is_due:
                self._show()
            if time.monotonic() - self._saved > SAVE_INTERVAL:
                self._save()

    def _show(self) -> None:
        counts = self._run.counts()
        self._progress.write(pairs=self._total, **{state: counts[state] for state in STATES})

    def _save(self) -> None:
        if not self.dry_run:
            write_record(self.client, self.record)
        # Afterwards, since the write of a large record takes long.
        self._saved = time.monotonic()

    def _plan_retries(self, asked: set[str]) -> None:
        for server, rooms in self.record.by_server().items():
            states = {found.state for found in rooms.values()}
            if states == {"confirmed"}:
                self.record.retries.pop(server, None)
            elif server in asked:
                before = self.record.retries.get(server, Retry(None, 0, 0))
                since = before.unreachable_since or self.now if "unreachable" in states else None
                self.record.retries[server] = Retry(since, self.now, before.tries + 1)

    def finish(self) -> JsonDict:
        """Write the record, and return the result as C(synapse_propagation) documents it."""
        by_server = self.record.by_server()
        states = {server: state_of(by_server[server]) for server in self.servers}
        order = sorted(states, key=lambda server: (SEVERITY.index(states[server]), server))
        ignored = sorted(self.options.ignore.intersection(by_server))
        summary = summary_of(states, by_server, ignored)
        self._add_to_history(summary)
        self._save()
        self._find_unsent()
        over = self.now >= self.ends
        ended_early = (
            self.options.early_exit and not over and all(self._is_settled(s, state) for s, state in states.items())
        )
        kick_reads = iter(range(MAX_KICK_READS))
        result: JsonDict = {
            "changed": self.changed,
            "finished": over or ended_early,
            "ended_early": ended_early,
            "checked": self.checked,
            "now": self.now,
            "ends": self.ends,
            "summary": summary,
            "removed": self.removed,
            "servers": [self._row(server, by_server[server], kick_reads) for server in order[:MAX_SERVERS]],
            "servers_total": len(states),
            "broken_rooms": broken_rooms_of(self.record.rooms, self.options.ignore),
            "unreadable_rooms": with_reasons("room_id", self.record.unreadable),
            "ignored": ignored[:MAX_SERVERS],
            "history": self.record.history,
        }
        result["not_sent_to"] = sorted({pair.server for pair in self.record.unsent})
        result["stale_rooms"] = self._stale_rooms()[:MAX_SERVERS]
        result["next_poll"] = 0 if result["finished"] else self._pause(states)
        result["message"] = message(result)
        return result

    def _find_unsent(self) -> None:
        """Record which pairs are unsent: of those that were before, or that have listed accounts.

        Remote servers may lack other events of them, for example new power levels, which no removal of ghosts sends.
        A sender that was started again sends all of them, but only with the next event.
        """
        before, woken = self.record.unsent, self.record.woken
        self.record.unsent = idle_parts.not_sent(self.client, self._suspects(), self._started)
        is_due = self.options.recheck or self.now - woken >= WAKE_INTERVAL
        if self.record.unsent and is_due and not self.dry_run:
            self.record.woken = self.now
            idle_parts.wake_senders(self.client)
            self._has_created_room = True
            self.record.unsent = idle_parts.not_sent(self.client, self.record.unsent, self._started)
            # The host may go off right after this poll.
            time.sleep(SEND_DELAY)
        if (before, woken) != (self.record.unsent, self.record.woken):
            self._save()

    def _suspects(self) -> list[Pair]:
        """The pairs that were unsent before, then those that have listed accounts in this poll; with I(recheck), ever.

        An earlier poll may have been killed after it had removed ghosts.
        """
        listed = [
            pair
            for pair, found in self.record.pairs()
            if (found.removed or found.ghosts) and (self.options.recheck or found.time == self.now)
        ]
        random.shuffle(listed)
        return [
            pair
            for pair in dict.fromkeys([*self.record.unsent, *listed])
            if pair.server not in self.options.ignore and not self.record.rooms[pair.room_id].broken
        ]

    def _stale_rooms(self) -> list[str]:
        # The listing of rooms takes time, and later polls would find the same.
        is_early = self.now - self._left_at < STATISTICS_PERIOD
        if not (is_early or self.options.recheck):
            return []
        return idle_parts.stale_rooms(self.client, self.record, self._started)

    def _add_to_history(self, summary: JsonDict) -> None:
        """Add the numbers of servers by state to the history, if they have changed."""
        point = [self.now, *(summary[state] for state in STATES)]
        if not self.record.history or self.record.history[-1][1:] != point[1:]:
            self.record.history = downsample([*self.record.history, point], HISTORY)

    def _is_settled(self, server: str, state: str) -> bool:
        """Whether I(early_exit) need not wait for a server."""
        if state == "confirmed":
            return True
        retry = self.record.retries.get(server)
        since = retry.unreachable_since if retry is not None and state == "unreachable" else None
        return since is not None and self.now - since >= self.options.unreachable_after

    def _pause(self, states: Mapping[str, str]) -> int:
        """Return the seconds until the next poll is due."""
        due = [self._next_try(server) for server, state in states.items() if state != "confirmed" and self.checked]
        return max(min([*due, self.ends, self.now + MAX_PAUSE]) - self.now, 1)

    def _row(self, server: str, rooms: Mapping[str, RecordedResult], kick_reads: Iterator[int]) -> JsonDict:
        """Return what the result has of one server.

        :param kick_reads: has an element for each room of which the accounts that can kick may be read.
        """
        refused = [room_id for room_id, found in worst_rooms(rooms) if found.state == "refused"]
        can_kick = {room_id: self._who_can_kick(room_id) for room_id, _number in zip(refused, kick_reads)}
        unchecked = NOT_CHECKED_YET if self.checked else NOT_CHECKED
        return server_row(server, rooms, self.record.retries.get(server), unchecked=unchecked, can_kick=can_kick)

    def _who_can_kick(self, room_id: str) -> list[str]:
        try:
            return who_can_kick(self.client, room_id)[:MAX_NAMES]
        except RefusedError:
            return []
