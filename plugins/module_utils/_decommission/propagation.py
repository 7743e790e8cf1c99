# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Propagation: every remote server is checked in every federated room, and ghosts are removed as they are found.

Servers that have not confirmed all rooms are asked again with backoff, until the propagation period is over. What each
has said is in the record, so that what is confirmed is not asked again, except right before the power-off.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from heapq import nsmallest
from itertools import islice
from typing import Any, Iterator, Mapping

from .. import _state
from .._client import Client, JsonDict, SynapseError, printable
from .._federation.checks import STATE_LIMIT, STATES, Pair, PairResult
from .._federation.client import FederationClient
from .._journal import thinned
from .._progress import ProgressFile
from .._rooms import joined_rooms, with_reasons
from .._server import date
from .ghosts import GhostRun
from .pairs import read_rooms, who_can_kick
from .record import MAX_REASON, UNCHECKED, Retry, Said, read_record, write_record

MAX_RECHECKED = 10_000
"""How many pairs that were confirmed are checked again right before the power-off, at most: a random sample."""
RETRY_DELAYS = (5.0,)
"""Seconds until a server is asked again within one poll."""
MAX_BACKOFF = 3600
"""The longest time in seconds until a server is asked again."""
MAX_PAUSE = 600
"""The longest time in seconds between two polls."""
SPREAD_TIME = 5
"""Seconds that Synapse gets to send the last leaves, before ghosts are removed: two leaves would be one too many."""
SAVE_INTERVAL = 20.0
"""Seconds between two writings of the record during a poll."""
HISTORY = 200
"""How many points of the history are kept."""
SEVERITY = ("ghosts", "refused", "unreachable", "unconfirmed", "confirmed")
"""The states of a server: that of the room in which it is worst."""
NOT_CHECKED = "not checked: decommission_ghost_checks is false"
NOT_CHECKED_YET = "not checked yet"
MAX_SERVERS = 1000
MAX_ROOMS = 5
MAX_NAMES = 10
MAX_KICK_READS = 20
"""Of how many rooms in which a server refuses to say who could kick."""


@dataclass(frozen=True)
class Options:
    """What to wait for. Times are in seconds.

    :ivar period: how long remote servers have, from when all accounts had left the federated rooms.
    :ivar early_exit: end before that, when all servers that answer have confirmed.
    :ivar unreachable_after: for how long, with I(early_exit), servers that do not answer are retried.
    :ivar pause: the shortest time between two checks of a server.
    :ivar recheck: check what was confirmed as well.
    :ivar ignore: servers that need not confirm.
    :ivar broken_rooms: rooms that could not be left here with the reason of each; C(None): as they were recorded.
    """

    period: int
    early_exit: bool = False
    unreachable_after: int = 86400
    pause: int = 30
    recheck: bool = False
    ignore: frozenset[str] = frozenset()
    broken_rooms: Mapping[str, str] | None = None
    concurrency: int = 8


class Propagation:
    """One poll. Reading the record and what Synapse knows comes first, since that says which servers there are.

    :ivar removed: how many ghosts were removed in this poll.
    :ivar checked: whether servers were asked.
    """

    def __init__(
        self, client: Client, options: Options, *, dry_run: bool = False, progress_path: str | None = None
    ) -> None:
        """
        :param dry_run: check, and remove nothing.
        :raises SynapseError: it is not recorded that all accounts have left the federated rooms.
        """
        self.client = client
        self.options = options
        self.dry_run = dry_run
        self.removed = 0
        self.checked = False
        self._lock = threading.Lock()
        self._saved = time.monotonic()
        self._before: dict[Pair, Said] = {}
        self._total = 0
        self._progress = ProgressFile(progress_path)
        left = _state.read(self.client).get("left_federated_rooms")
        if left is None:
            raise SynapseError(
                "It is not recorded that all accounts have left the federated rooms: run the stages drain and"
                " leave_rooms, with the same operator"
            )
        self.now = int(self.client.time().timestamp())
        self._left = left
        self.ends = left + self.options.period
        self.record = read_record(self.client)
        self._merge(left)

    def _merge(self, left: int) -> None:
        """Hold the record against what Synapse knows of the rooms now, once after each drain."""
        if self.record.merged_for != left:
            # Accounts were joined since what was said before.
            for room_id in self.record.rooms:
                self.record.reset(room_id)
            unreadable: dict[str, str] = {}

            def on_unreadable(room_id: str, error: SynapseError) -> None:
                unreadable[room_id] = str(error)[:MAX_REASON]

            self.record.add(read_rooms(self.client, self.options.concurrency, on_unreadable))
            unknown = sorted(unreadable.keys() - self.record.rooms.keys())
            self.record.unreadable = {room_id: unreadable[room_id] for room_id in unknown[:MAX_SERVERS]}
            self.record.merged_for = left
        if self.options.broken_rooms is not None:
            for room_id, room in self.record.rooms.items():
                room.broken = self.options.broken_rooms.get(room_id, "")[:MAX_REASON]

    @property
    def servers(self) -> list[str]:
        """The remote servers that are to be asked, those with most rooms first."""
        found = self.record.by_server()
        return sorted(found.keys() - self.options.ignore, key=lambda name: (-len(found[name]), name))

    def check(self, federation: FederationClient, state_limit: int = STATE_LIMIT) -> None:
        """Check the servers that are due, and remove the ghosts that they list."""
        self.checked = True
        if not self.dry_run:
            # No longer, also if the homeserver's clock was set back.
            time.sleep(min(max(self._left + SPREAD_TIME - self.now, 0), SPREAD_TIME))
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
        self._plan_retries({pair.server for pair in pairs})

    def _due(self) -> Iterator[Pair]:
        """The pairs to check now."""
        by_server = self.record.by_server()
        confirmed: list[Pair] = []
        for server in self.servers:
            is_due = self.now >= min(self._next_try(server), self.ends) or self.options.recheck
            for room_id, said in by_server[server].items():
                if said.state == "confirmed":
                    confirmed.append(Pair(server, room_id))
                elif is_due:
                    yield Pair(server, room_id)
        if self.options.recheck:
            yield from random.sample(confirmed, min(len(confirmed), MAX_RECHECKED))

    def _next_try(self, server: str) -> int:
        retry = self.record.retries.get(server)
        if retry is None:
            return 0
        backoff: int = min(self.options.pause * 2 ** (retry.tries - 1), MAX_BACKOFF)
        return retry.last_try + backoff

    def _may_leave(self, user_id: str, room_id: str) -> bool:
        """Whether an account has left by the word of its own homeserver, or can't."""
        return bool(self.record.rooms[room_id].broken) or room_id not in joined_rooms(self.client, user_id)

    def _on_result(self, result: PairResult) -> None:
        """Keep what a server has said, and now and then the record: a run that is killed is resumed from there."""
        pair = result.pair
        with self._lock:
            before = self._before[pair]
            # A server that is down by now has confirmed all the same, unless it went down while it was being asked.
            is_down = result.state == "unreachable" and not (result.has_answered or result.removed)
            if before.state != "confirmed" or not is_down:
                self.record.rooms[pair.room_id].servers[pair.server] = Said(
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
        # Afterwards, since a large record takes its time.
        self._saved = time.monotonic()

    def _plan_retries(self, asked: set[str]) -> None:
        for server, rooms in self.record.by_server().items():
            states = {said.state for said in rooms.values()}
            if states == {"confirmed"}:
                self.record.retries.pop(server, None)
            elif server in asked:
                before = self.record.retries.get(server, Retry(None, 0, 0))
                since = before.unreachable_since or self.now if "unreachable" in states else None
                self.record.retries[server] = Retry(since, self.now, before.tries + 1)

    def finish(self) -> JsonDict:
        """Write the record, and return how things stand as C(synapse_propagation) documents it."""
        by_server = self.record.by_server()
        states = {server: _state_of(by_server[server]) for server in self.servers}
        counts = Counter(states.values())
        point = [self.now, *(counts[state] for state in ("confirmed", *SEVERITY[:-1]))]
        if not self.record.history or self.record.history[-1][1:] != point[1:]:
            self.record.history = thinned([*self.record.history, point], HISTORY)
        self._save()
        over = self.now >= self.ends
        early = self.options.early_exit and not over and all(self._is_settled(s, state) for s, state in states.items())
        ignored = sorted(self.options.ignore.intersection(by_server))
        pairs = [said for server in states for said in by_server[server].values()]
        order = sorted(states, key=lambda server: (SEVERITY.index(states[server]), server))
        result: JsonDict = {
            "changed": bool(self.removed),
            "finished": over or early,
            "early": early,
            "checked": self.checked,
            "now": self.now,
            "ends": self.ends,
            "summary": {
                "servers": len(states),
                **{state: counts[state] for state in STATES},
                "ignored": len(ignored),
                "pairs": len(pairs),
                "pairs_confirmed": sum(said.state == "confirmed" for said in pairs),
                "removed": sum(said.removed for said in pairs),
            },
            "removed": self.removed,
            "servers": list(islice(self._rows(order, states, by_server), MAX_SERVERS)),
            "servers_total": len(states),
            "broken_rooms": self._broken_rooms(),
            "unreadable_rooms": with_reasons("room_id", self.record.unreadable),
            "ignored": ignored[:MAX_SERVERS],
            "history": self.record.history,
        }
        result["next_poll"] = 0 if result["finished"] else self._pause(states)
        result["message"] = message(result)
        return result

    def _is_settled(self, server: str, state: str) -> bool:
        """Whether there is no need to wait for a server, with I(early_exit)."""
        if state == "confirmed":
            return True
        retry = self.record.retries.get(server)
        since = retry.unreachable_since if retry is not None and state == "unreachable" else None
        return since is not None and self.now - since >= self.options.unreachable_after

    def _pause(self, states: Mapping[str, str]) -> int:
        """How many seconds until the next poll is due."""
        due = [self._next_try(server) for server, state in states.items() if state != "confirmed" and self.checked]
        return max(min([*due, self.ends, self.now + MAX_PAUSE]) - self.now, 1)

    def _rows(
        self, order: list[str], states: Mapping[str, str], by_server: Mapping[str, Mapping[str, Said]]
    ) -> Iterator[JsonDict]:
        kick_reads = MAX_KICK_READS
        for server in order:
            rooms = by_server[server]
            open_rooms: list[JsonDict] = []
            left = [(_severity(said), room_id, said) for room_id, said in rooms.items() if said.state != "confirmed"]
            for _severest, room_id, said in nsmallest(MAX_ROOMS, left):
                can_kick: list[str] = []
                if said.state == "refused" and kick_reads > 0:
                    kick_reads -= 1
                    can_kick = self._who_can_kick(room_id)
                open_rooms.append(
                    {
                        "room_id": room_id,
                        "state": said.state or "unconfirmed",
                        "reason": self._reason(said),
                        "ghosts": said.ghosts,
                        "can_kick": can_kick,
                    }
                )
            retry = self.record.retries.get(server)
            row = {
                "server": server,
                "state": states[server],
                "rooms": len(rooms),
                "confirmed_rooms": len(rooms) - len(left),
                "removed": sum(said.removed for said in rooms.values()),
                "confirmed_at": None if left else max((said.time for said in rooms.values()), default=None),
                "unreachable_since": retry.unreachable_since if retry is not None else None,
                "reason": next((room["reason"] for room in open_rooms if room["state"] == states[server]), ""),
                "open_rooms": open_rooms,
                "open_rooms_total": len(left),
            }
            yield {**row, "text": describe(row, Counter(said.state or "unconfirmed" for said in rooms.values()))}

    def _reason(self, said: Said) -> str:
        if said.state == UNCHECKED:
            return NOT_CHECKED_YET if self.checked else NOT_CHECKED
        return printable(said.reason)

    def _who_can_kick(self, room_id: str) -> list[str]:
        try:
            return who_can_kick(self.client, room_id)[:MAX_NAMES]
        except SynapseError as error:
            if error.fatal:
                raise
            return []

    def _broken_rooms(self) -> list[JsonDict]:
        ignore = self.options.ignore
        broken = {room_id: room for room_id, room in sorted(self.record.rooms.items()) if room.broken}
        return [
            {
                "room_id": room_id,
                "reason": printable(room.broken),
                "servers": sorted(room.servers.keys() - ignore)[:MAX_NAMES],
                "not_confirmed_by": sorted(
                    server
                    for server, said in room.servers.items()
                    if said.state != "confirmed" and server not in ignore
                )[:MAX_NAMES],
            }
            for room_id, room in islice(broken.items(), MAX_SERVERS)
        ]


def _severity(said: Said) -> int:
    return SEVERITY.index(said.state or "unconfirmed")


def _state_of(rooms: Mapping[str, Said]) -> str:
    return SEVERITY[min(map(_severity, rooms.values()))]


def describe(row: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    """A remote server's state in words: C(b.example: ghosts removed (12); confirmed, 10 of 10 rooms).

    :param row: as in the result.
    :param counts: how many rooms there are by state.
    """
    words = {
        "ghosts": "lists accounts",
        "refused": "refused",
        "unreachable": "unreachable",
        "unconfirmed": "unconfirmed",
    }
    parts = [f"ghosts removed ({row['removed']:,})"] if row["removed"] else []
    for state, word in words.items():
        if not counts[state]:
            continue
        since = row["unreachable_since"] if state == "unreachable" else None
        found = next((room for room in row["open_rooms"] if room["state"] == state), None)
        reason = (
            f": {'it ' if state == 'ghosts' else ''}{found['reason']}" if found is not None and found["reason"] else ""
        )
        kick = f" (can be kicked by {', '.join(found['can_kick'])})" if found is not None and found["can_kick"] else ""
        parts.append(f"{word} in {_rooms(counts[state])}{f' since {date(since)}' if since else ''}{reason}{kick}")
    parts.append(f"confirmed, {row['confirmed_rooms']:,} of {_rooms(row['rooms'])}")
    return printable(f"{row['server']}: {'; '.join(parts)}")


def _rooms(number: int) -> str:
    return "1 room" if number == 1 else f"{number:,} rooms"


def message(result: Mapping[str, Any]) -> str:
    """How things stand, in one line."""
    summary = result["summary"]
    parts = [f"{summary['confirmed']:,} of {summary['servers']:,} remote servers confirmed"]
    parts += [f"{summary[state]:,} {state}" for state in SEVERITY[1:-1] if summary[state]]
    if summary["ghosts"]:
        parts.append(f"{summary['ghosts']:,} with ghosts")
    if summary["removed"]:
        parts.append(f"{summary['removed']:,} ghosts removed")
    if summary["ignored"]:
        parts.append(f"{summary['ignored']:,} ignored")
    if not result["finished"]:
        parts.append(f"the propagation period ends {date(result['ends'])}")
    return "; ".join(parts)
