# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Propagation: watch the ledger, and let the anchors go room by room, until the other servers have been told.

Nothing here waits. A poll looks, does what is due, leaves what the next poll must know on the homeserver itself, and
says when that should be: so whoever polls may be killed, and somebody else go on from elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Collection

from . import _anchors, _state
from ._client import Client, JsonDict, SynapseError
from ._destinations import (
    NEVER_SENT_TO,
    NEVER_TAKEN,
    NOT_QUEUED,
    STATES,
    Known,
    Ledger,
    Open,
    in_back_off,
    read_ledger,
    reset_all,
)
from ._journal import thinned
from ._pool import each
from ._rooms import newest_received, other_servers
from ._sender import Sender, wake

LONGEST_PAUSE = 600
"""The longest time between two polls, in seconds."""
PATIENCE = 8
"""The pause before the next poll is this part of the time in which nothing has changed."""
RATE = 10
"""How many back-offs to end in a second."""
SHOWN = 1000
"""How many of the rooms that wait are recorded, with some of the servers that they wait for."""
SHOWN_EACH = 5
BATCH = 200
"""In how many rooms anchors join once more in a poll, one after the other."""
REFUSED = (400, 403, 404)
"""The answers to a join that would be the same another time."""
POINTS = 200
"""How many points of the history to keep, at most."""


@dataclass(frozen=True)
class Options:
    """How to wait. All times are in seconds.

    :param period: how long the other servers have, from the end of the first wave.
    :param settling: how long a destination has to act on what it has taken, and to ask for what it lacks.
    :param last_leaves: how long to wait at the end for destinations that answer, but have not taken the last leaves;
        and for a room in which there is always something new, or a server that is to leave it before us, and does not.
    :param nudge: how often to end the back-offs of those that can't be reached; 0 for never.
    :param pause: the shortest time between two polls.
    :param early_exit: don't wait any longer when all but those that can't be reached have been told.
    """

    period: int
    settling: int = 60
    last_leaves: int = 900
    nudge: int = 1800
    pause: int = 30
    early_exit: bool = False
    anchors: _anchors.Options = field(default_factory=_anchors.Options)


@dataclass
class State:
    """What one poll leaves to the next. Times are in seconds since 1970, by the homeserver's clock.

    :ivar since: the position of the ledger before anybody left.
    :ivar wave: when the first wave ended that this is about.
    :ivar released: the position of the ledger before anchors left rooms for the last time, or 0.
    :ivar acted: whether the poll itself had events sent.
    :ivar rejoined: the rooms in which the anchor has joined once more since then, with the position of the ledger
        before; or the first one, if it can't.
    :ivar told: the rooms whose destinations have all been told, with since when.
    :ivar restless: the rooms that might be left but for what was going on in them, with since when.
    :ivar seen: a digest of the ledger, which has been the same since I(changed).
    :ivar history: the time, how many destinations were delivered, pending, unreachable and unknown, and how many rooms
        had an anchor, whenever that was something else than before.
    """

    since: int = 0
    wave: int = 0
    released: int = 0
    acted: bool = False
    rejoined: dict[str, int] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    restless: dict[str, int] = field(default_factory=dict)
    position: int = 0
    seen: str = ""
    changed: int = 0
    nudged: int = 0
    known: JsonDict = field(default_factory=dict)
    waiting: dict[str, list[str]] = field(default_factory=dict)
    history: list[list[int]] = field(default_factory=list)
    recorded: JsonDict = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def read(cls, client: Client) -> State:
        """What was recorded; a fresh state if it is something else, which is to know nothing: the safe side."""
        content = _state.read_propagation(client)
        content.pop("server_name", None)
        try:
            return cls(
                since=int(content["since"]),
                wave=int(content["wave"]),
                released=int(content["released"]),
                acted=bool(content["acted"]),
                told={str(room_id): int(then) for room_id, then in content["told"].items()},
                position=int(content["position"]),
                seen=str(content["seen"]),
                changed=int(content["changed"]),
                nudged=int(content["nudged"]),
                known=_usable(content["known"]),
                # Not in records of older versions.
                restless={str(room_id): int(then) for room_id, then in content.get("restless", {}).items()},
                rejoined={str(room_id): int(before) for room_id, before in content.get("rejoined", {}).items()},
                history=[[int(number) for number in point] for point in content.get("history", [])],
                recorded=content,
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return cls()

    def write(self, client: Client) -> None:
        """Record it, if it is not what is recorded."""
        content = {**self.__dict__}
        del content["recorded"]
        if content != self.recorded:
            _state.write_propagation(client, content)
            # Those in it go on changing.
            self.recorded = json.loads(json.dumps(content))


def _usable(known: JsonDict) -> JsonDict:
    """What a ledger has left, or nothing, if this version can't make sense of it: else no poll would come through."""
    try:
        Known.from_json(known, str(known["scope"]))
    except (KeyError, SynapseError):
        return {}
    return dict(known)


@dataclass
class Poll:
    """What a poll saw, and did.

    :ivar ends: when the period is over, in seconds since 1970 by the homeserver's clock, as I(now) is.
    :ivar anchored: the rooms that have an anchor after this poll, and who that is.
    :ivar waiting: those of them with destinations that have not been told, and these.
    :ivar released: the rooms whose anchors have left, or would have.
    :ivar nudged: how many back-offs were ended.
    :ivar rejoined: in how many rooms the anchors joined once more: each after the first wave, and later again for
        servers that have never taken anything.
    :ivar finished: whether there is nothing more to wait for.
    :ivar early: whether that is before the end of the period.
    :ivar next_poll: in how many seconds the next poll should be.
    :ivar history: as that of the state, up to this poll.
    """

    now: int
    ends: int
    ledger: Ledger
    anchored: dict[str, str]
    waiting: dict[str, list[str]]
    lost: dict[str, _anchors.Loss]
    released: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    failed: list[tuple[str, str | None, str]] = field(default_factory=list)
    nudged: int = 0
    rejoined: int = 0
    finished: bool = False
    early: bool = False
    next_poll: int = 0
    second_wave_ended: int | None = None
    history: list[list[int]] = field(default_factory=list)
    changed: bool = False


def begin(client: Client, concurrency: int, *, dry_run: bool = False) -> bool:
    """Note where the ledger stands before the first account leaves; say whether that was not noted before."""
    state = State.read(client)
    if state.since:
        return False
    if not dry_run:
        # 0 would be as good as nothing noted.
        State(since=max(read_ledger(client, concurrency, look_for_others=False).position, 1)).write(client)
    return True


def poll(client: Client, options: Options, *, everything: bool = False, dry_run: bool = False) -> Poll:
    """Look, and do what is due.

    :param everything: look at all destinations, whatever is known. For the last look.
    :raises SynapseError: if it is not recorded that the first wave has ended.
    """
    milestones = _state.read(client)
    if "first_wave_ended" not in milestones:
        raise SynapseError("Nothing was changed: it is not recorded that all accounts have left their rooms")
    wave = milestones["first_wave_ended"]
    if milestones.get("second_wave_ended", wave) < wave:
        del milestones["second_wave_ended"]
    state = State.read(client)
    if state.wave != wave:
        # What was known while accounts were leaving is worth nothing.
        state = State(since=state.since, wave=wave, history=state.history)
    return _Poller(client, options, milestones, state, dry_run).run(everything)


class _Poller:
    def __init__(
        self, client: Client, options: Options, milestones: _state.Milestones, state: State, dry_run: bool
    ) -> None:
        self.client = client
        self.options = options
        self.milestones = milestones
        self.state = state
        self.dry_run = dry_run
        self.concurrency = options.anchors.concurrency
        self.to_rejoin: set[str] = set()
        """The rooms that the anchor has yet to join once more."""

    def run(self, everything: bool) -> Poll:
        client, options, state = self.client, self.options, self.state
        now = int(client.time().timestamp())
        over = now >= state.wave + options.period or (options.early_exit and "second_wave_ended" in self.milestones)
        # The leave of an anchor may not have come yet to the statistics that a short look goes by.
        everything = everything or over or state.acted
        anchors = _anchors.read(client, self.concurrency)
        rooms = anchors.record.rooms
        self.to_rejoin = rooms - anchors.record.alone - state.rejoined.keys()
        ledger = self._read_ledger(anchors.record, everything)
        # Nothing can be said yet of rooms that the statistics don't have, or that the anchor has yet to join once more.
        waiting = {**{room_id: ["?"] for room_id in (rooms - ledger.held) | self.to_rejoin}, **ledger.waiting(rooms)}
        anchor_of = {room_id: user_id for user_id, held in anchors.record.anchors.items() for room_id in held}
        result = Poll(now, state.wave + options.period, ledger, anchor_of, waiting, anchors.lost)
        self._compare(ledger, rooms, waiting, now)
        over = over or (options.early_exit and self._all_told(ledger, rooms, waiting, now))
        result.early = over and now < result.ends
        settled = {room_id for room_id, since in state.told.items() if now - since >= max(options.settling, 1)}
        if (over or settled) and not everything:
            # It can't be undone, so that nothing should be taken for granted.
            return self.run(True)
        self._release(result, anchors.record, settled, over)
        self._see_whether_finished(result, over)
        result.history = state.history = self._with_this(result)
        state.acted = bool(result.released)
        state.position = ledger.position
        state.known = ledger.known
        state.waiting = {r: result.waiting[r][:SHOWN_EACH] for r in sorted(result.waiting)[:SHOWN]}
        if not self.dry_run:
            # Before the nudges: that these fail must not keep it from what it has come to know.
            state.write(client)
            if not result.finished:
                self._join_once_more(result, anchors.record)
                self._nudge(result, anchors.record)
                state.acted = state.acted or bool(result.rejoined)
                state.write(client)
        elif self.to_rejoin:
            result.rejoined = len(self.to_rejoin)
            result.changed = True
        return result

    def _read_ledger(self, record: _anchors.Record, everything: bool) -> Ledger:
        state = self.state
        return read_ledger(
            self.client,
            self.concurrency,
            ignore=self.options.anchors.ignore,
            since=state.since,
            known=state.known or None,
            everything=everything,
            sent_after={room_id: state.rejoined.get(room_id, state.since) for room_id in record.rooms - record.alone},
            silent=record.rooms & record.alone,
        )

    def _compare(self, ledger: Ledger, rooms: Collection[str], waiting: Collection[str], now: int) -> None:
        """Hold it against the poll before."""
        state = self.state
        entries = [[name, entry.state, entry.reason, len(entry.rooms)] for name, entry in sorted(ledger.open.items())]
        content = json.dumps([ledger.delivered, ledger.position, entries, sorted(rooms), sorted(waiting)])
        seen = hashlib.sha256(content.encode()).hexdigest()
        if seen != state.seen:
            state.seen, state.changed = seen, now
        # Synapse is still at what was to be sent, and may come to any room.
        moving = ledger.position != state.position and not state.acted
        before = {} if moving else state.told
        # Without knowing what was there before, nothing tells new records from old ones.
        told = [room_id for room_id in rooms if room_id not in waiting] if state.since else []
        state.told = {room_id: min(before.get(room_id, now), now) for room_id in told}

    def _all_told(self, ledger: Ledger, rooms: Collection[str], waiting: Collection[str], now: int) -> bool:
        """Whether all that answer have been told, and it has stayed so."""
        summary = ledger.summary
        if summary["pending"] or summary["unknown"] or any(room_id not in waiting for room_id in rooms):
            return False
        if self.to_rejoin:
            return False
        if not self.state.since or self.state.released >= max(ledger.position, 1):
            return False
        # Those wait for nobody, but nobody knows whom they should wait for.
        if not ledger.held.issuperset(rooms):
            return False
        return self._is_quiet(now)

    def _is_quiet(self, now: int) -> bool:
        return now - self.state.changed >= max(self.options.settling, 1)

    def _with_this(self, result: Poll) -> list[list[int]]:
        """The history, and this poll, if it is another than the one before."""
        point = [result.now, *(result.ledger.summary[name] for name in STATES), len(result.anchored)]
        history = self.state.history
        if history and history[-1][1:] == point[1:]:
            return history
        return thinned([*history, point], POINTS)

    def _release(self, result: Poll, record: _anchors.Record, settled: Collection[str], over: bool) -> None:
        """The anchors leave the rooms that have settled, or when it is over, all."""
        ready = self._ready(record.rooms if over else settled, result.now)
        # All: that includes what has become of an anchor since.
        room_ids = None if over and ready == record.rooms else ready
        if record.anchors if room_ids is None else room_ids:
            # First: whoever finds that they were left must also find what to hold the records against.
            self.state.released = result.ledger.position if result.anchored else self.state.released
            if not self.dry_run:
                self.state.write(self.client)
            outcome = _anchors.release(self.client, room_ids, self.options.anchors, dry_run=self.dry_run)
            result.released, result.closed, result.failed = outcome.released, outcome.closed, outcome.failed
            result.lost = {**result.lost, **outcome.lost}
            result.changed = result.changed or outcome.changed
            if outcome.aborted is not None:
                raise outcome.aborted
        for room_id in () if self.dry_run else result.released:
            result.anchored.pop(room_id, None)
            result.waiting.pop(room_id, None)
            self.state.told.pop(room_id, None)

    def _ready(self, room_ids: Collection[str], now: int) -> set[str]:
        """Those of these rooms in which nothing has happened of late that a server in them may not have heard of.

        A leave comes after the newest event that we know of. A server that does not have that one asks us for it, is
        refused, since we have left, and drops the leave. So servers that retire together leave one after the other.
        """
        options = self.options
        ready = set()
        restless = {}
        for room_id, (received, comes_later) in each(self._look_into, sorted(room_ids), self.concurrency):
            quiet = now - received
            if comes_later and quiet < options.last_leaves:
                continue
            since = self.state.restless.get(room_id, now)
            # Where there is always something new, that will tell the others of our leave as well.
            is_settled = quiet >= max(options.settling, 1) and room_id not in self.to_rejoin
            if not is_settled and now - since < options.last_leaves:
                restless[room_id] = since
            else:
                ready.add(room_id)
        self.state.restless = restless
        return ready

    def _look_into(self, room_id: str) -> tuple[float, bool]:
        """When the newest event of a room came, and whether a server is still in it that leaves it before us."""
        client, together = self.client, self.options.anchors.ignore
        try:
            received = newest_received(client, room_id)
            servers = other_servers(client, room_id) if together else set()
        except SynapseError as error:
            if error.status != 404:
                raise
            return 0.0, False  # it was purged
        return received, any(name < client.server_name for name in servers.intersection(together))

    def _join_once_more(self, result: Poll, record: _anchors.Record) -> None:
        """That comes after all that has left the room. Who has taken it asks for what it lacks, with us still there.

        Synapse may have lost a leave of the first wave that another one overtook, and its records don't show it.
        """
        anchor_of = result.anchored
        wanted = sorted(self.to_rejoin & anchor_of.keys(), key=lambda room_id: (anchor_of[room_id], room_id))
        if not wanted:
            return
        # Nobody may have seen off the last leaves, if Synapse or a run was killed.
        wake(self.client)
        reason = f"All others have left ({result.now})"
        sender = Sender(self.client)
        outcome = _anchors.rejoin(self.client, record, wanted[:BATCH], reason, self.concurrency, sender)
        for room_id, error in outcome.items():
            if error is None:
                self.state.rejoined[room_id] = result.ledger.position
                result.rejoined += 1
            elif error.status in REFUSED:
                self.state.rejoined[room_id] = self.state.since
        result.changed = result.changed or bool(result.rejoined)
        if len(wanted) > BATCH:
            result.next_poll = 1

    def _nudge(self, result: Poll, record: _anchors.Record) -> None:
        options, state = self.options, self.state
        if not options.nudge or result.now - state.nudged < options.nudge:
            return
        entries = result.ledger.open.values()
        names = [entry.destination for entry in entries if entry.next_retry is not None]
        # Not those that are only just being told for the first time.
        lost = [entry for entry in entries if self._is_quiet(result.now) and _is_lost(entry)]
        rooms = {room_id for entry in lost for room_id in entry.shared} & result.anchored.keys()
        if not names and not rooms:
            return
        state.nudged = result.now
        waiting = in_back_off(self.client, names)
        try:
            for _row, was_waiting in reset_all(self.client, waiting, RATE):
                result.nudged += was_waiting
        except SynapseError as error:
            # It comes again.
            if error.fatal:
                raise
        # With the time, since Synapse makes no event of what is as it was.
        reason = f"Other servers have yet to hear that all others have left ({result.now})"
        again = _anchors.rejoin(self.client, record, rooms, reason, self.concurrency) if rooms else {}
        result.rejoined += sum(error is None for error in again.values())
        result.changed = result.changed or bool(result.nudged or result.rejoined)

    def _see_whether_finished(self, result: Poll, over: bool) -> None:
        now, options, milestones = result.now, self.options, self.milestones
        if result.released or result.closed:
            self.state.changed = now
        if over and not result.anchored and not result.failed and "second_wave_ended" not in milestones:
            self.milestones = milestones = {**milestones, "second_wave_ended": now}
            result.changed = True
            if not self.dry_run:
                _state.write(self.client, milestones)
        result.second_wave_ended = milestones.get("second_wave_ended")
        if over and result.second_wave_ended is not None and not (result.anchored or result.released or result.failed):
            unsent = [name for name, entry in result.ledger.open.items() if _may_yet_be_told(entry.state, entry.reason)]
            # The leave of an anchor is always to be sent to somebody.
            sent = not self.state.released or result.ledger.position > self.state.released
            told = sent and not unsent and (self._is_quiet(now) or not result.ledger.summary["total"])
            result.finished = told or now - result.second_wave_ended >= options.last_leaves
        result.next_poll = 0 if result.finished else self._pause(result, over)

    def _pause(self, result: Poll, over: bool) -> int:
        now, options, state = result.now, self.options, self.state
        if over:
            return options.pause
        pause = options.pause
        if not state.told and not state.acted:
            pause = max(min((now - state.changed) // PATIENCE, LONGEST_PAUSE), pause)
        return max(min(pause, result.ends - now), 1)


def _is_lost(entry: Open) -> bool:
    """Whether Synapse has forgotten what it was to send to a destination, and sends nothing until there is more."""
    return entry.state == "unknown" and entry.reason == NEVER_TAKEN


def _may_yet_be_told(state: str, reason: str | None) -> bool:
    return state == "pending" or (state == "unknown" and reason in (NEVER_SENT_TO, NEVER_TAKEN, NOT_QUEUED))


def message(poll: Poll, date: str) -> str:
    """How things stand, for a person.

    :param date: when the period ends.
    """
    summary = poll.ledger.summary
    parts = [f"{summary['delivered']:,} of {summary['total']:,} servers told"]
    if summary["pending"]:
        parts.append(f"{summary['pending']:,} pending")
    if summary["unreachable"]:
        since = [entry.failing_since for entry in poll.ledger.open.values() if entry.state == "unreachable"]
        long = sum(then is not None and poll.now - then > 30 * 86400 for then in since)
        parts.append(
            f"{summary['unreachable']:,} unreachable" + (f", {long:,} of them for more than 30 days" if long else "")
        )
    if summary["unknown"]:
        parts.append(f"{summary['unknown']:,} unknown")
    if poll.anchored:
        rooms = "1 room" if len(poll.anchored) == 1 else f"{len(poll.anchored):,} rooms"
        parts.append(f"{rooms} still anchored")
    if poll.lost:
        parts.append(f"{len(poll.lost):,} have lost their anchor")
    if poll.finished:
        parts.append("nothing more to wait for")
    elif poll.now < poll.ends:
        parts.append(f"ends {date}")
    else:
        parts.append("the period is over, the last leaves are under way")
    return "; ".join(parts)
