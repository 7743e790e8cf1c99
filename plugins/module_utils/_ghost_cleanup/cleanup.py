# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find and remove all ghosts of a homeserver that is gone, beginning with the name of one remote server.

1. A signed request wakes a remote server: it ends the backoff of that server, which then sends its news to this name.
2. What it sends names rooms. Each is a pair with this server, which is asked whether it lists local accounts there.
3. If so, it is asked for the members of the room. Their servers are the next ones to wake, and pairs of this room.
4. The ghosts are removed, on one server of a room after the other, since a server forwards the leaves to the others.
5. Each result is written down, and what is not confirmed is checked again with a backoff, and what is, on news.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import Callable, Iterable, Sequence

from .._decommission.ghosts import Room
from .._decommission.retry_schedule import backoff
from .._federation.checks import NONEXISTENT_EVENT, PairResult, check_if_joined
from .._federation.client import FEDERATION, FederationClient
from .._federation.errors import FederationError, UnreachableError
from .._federation.names import is_server_name
from .._federation.removal import MayLeave, remove
from .._federation.room_members import RoomMembers
from .._text import plural, printable
from .config import Config
from .schedule import ServerSchedule
from .status import Heard, Status
from .store import UP, Server, Store, Visit
from .summary import summarize

WORKERS = 48
"""Number of threads, and so the maximum number of concurrent requests to all servers together."""
LOG = logging.getLogger("matrix_ghost_cleanup")


@dataclass(frozen=True)
class Timing:
    """When something is done again. All times are in seconds.

    :ivar wake: from one request that wakes a server to the next one.
    :ivar recent: after which a server may have given up on this one again, when the service starts.
    :ivar recheck: from one check of a pair to the next one at least, even if its server sends news. Doubled with each
        check that finds nothing, up to I(most_rechecks).
    :ivar transient: the first backoff after a result that may change by itself.
    :ivar unconfirmed: the first backoff after an answer that says nothing.
    :ivar refused: the first backoff after a refusal.
    :ivar unreachable: the first backoff of a server that does not answer.
    :ivar most: the maximum of all backoffs.
    :ivar forward: for a server to forward leaves, before another one in the room is asked again.
    :ivar visit: the maximum time to remove ghosts in one room before others have their turn.
    """

    wake: int = 86_400
    recent: int = 600
    recheck: int = 60
    most_rechecks: int = 3600
    transient: int = 30
    unconfirmed: int = 300
    refused: int = 3600
    unreachable: int = 60
    most: int = 86_400
    forward: float = 3.0
    visit: float = 600.0


class _InterruptedError(Exception):
    """The service stops or pauses, or a visit has taken its time."""


class Cleanup:
    """The threads that send requests, and what they know. C(heard) and C(status) may be called from any thread.

    :ivar problem: why nothing is sent. Empty while all is well.
    :ivar rejected: returns how many requests of remote servers were not verified.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        *,
        key_id: str = "",
        timing: Timing | None = None,
        workers: int = WORKERS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._store = store
        self._key_id = key_id
        self._timing = timing or Timing()
        self._workers = workers
        self._clock = clock
        self._started = clock()
        self._client: FederationClient | None = None
        self._schedule = ServerSchedule(self._max_workers, max(workers // 2, 1), clock)
        self._threads: list[threading.Thread] = []
        self._rooms: dict[int, float] = {}
        """The rooms in which ghosts are removed now, or since when that is allowed again, by number."""
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._is_paused = False
        self.problem = "not started yet"
        self.rejected: Callable[[], int] = lambda: 0
        self._transactions = 0
        self._dropped = 0

    # Running

    def add_sources(self, rooms: Iterable[Room]) -> None:
        """Add what is configured: servers, and rooms that are known beforehand."""
        for name in self._config.servers:
            self._store.add_server(name, "servers", self._clock())
        self.add_rooms(rooms)

    def add_rooms(self, rooms: Iterable[Room]) -> None:
        """Add rooms that are known beforehand, also after the start."""
        rooms = list(rooms)
        self._store.add_rooms(rooms, self._clock())
        if self._client is not None:
            for name in {server for room in rooms for server in room.servers}:
                self._see(name)

    def start(self, client: FederationClient) -> None:
        """Begin to send requests."""
        self._client = client
        for name, following in self._store.begin(self._clock(), self._timing.recent).items():
            self._schedule.set(name, following.due, is_up=following.is_up)
        self.resume()
        for number in range(self._workers):
            thread = threading.Thread(target=self._work, name=f"worker-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def pause(self, problem: str) -> None:
        """Send nothing more, but for what is under way."""
        self.problem = problem
        self._is_paused = True
        self._schedule.pause(True)

    def resume(self) -> None:
        """Send requests again after C(pause)."""
        self.problem = ""
        self._is_paused = False
        self._schedule.pause(False)

    def stop(self, timeout: float) -> bool:
        """End all threads. Return whether they have ended within I(timeout) seconds."""
        self._stopping.set()
        self._schedule.stop()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in self._threads)

    def _max_workers(self, name: str) -> int:
        return 1 if self._client is None else self._client.max_concurrent(name)

    def _work(self) -> None:
        while (name := self._schedule.take()) is not None:
            try:
                self._serve(name)
            except _InterruptedError:
                pass
            except sqlite3.ProgrammingError:
                if not self._stopping.is_set():
                    LOG.exception("the state file was closed")
                return
            except Exception:
                # An error of this program must not end the service.
                LOG.exception("internal error with %s", name)
                self._schedule.hasten(name, self._clock() + self._timing.transient)
            finally:
                self._schedule.release(name)

    def _serve(self, name: str) -> None:
        """Do what is next for a server."""
        now = self._clock()
        job = self._store.take(name, now, now + self._timing.recent)
        self._see(name)
        if job is None:
            return
        try:
            server = job.server if isinstance(job, Visit) else job
            if server.state == "unreachable":
                self._connected.mark_up(name)
            if isinstance(job, Visit):
                self._visit(job)
            else:
                self._wake(job)
        finally:
            self._see(name)

    def _see(self, name: str) -> None:
        """Schedule a server by what is to be done for it."""
        following = self._store.next(name)
        if following is not None:
            self._schedule.set(name, following.due, is_up=following.is_up)

    @property
    def _connected(self) -> FederationClient:
        if self._client is None:
            raise RuntimeError("not started")
        return self._client

    def _pause(self, seconds: float) -> None:
        """Wait during a visit."""
        if seconds and self._stopping.wait(seconds):
            raise _InterruptedError

    # Servers

    def _wake(self, server: Server) -> None:
        """Send a signed request about a room that does not exist."""
        room_id = f"!wake:{self._config.server_name}"
        try:
            answer = self._connected.get(
                server.name, f"{FEDERATION}/v1/state_ids/{{}}", room_id, params={"event_id": NONEXISTENT_EVENT}
            )
        except UnreachableError as error:
            self._fail(server, "unreachable", str(error), self._timing.unreachable)
        except FederationError as error:
            self._fail(server, "unconfirmed", str(error), self._timing.unconfirmed)
        else:
            if answer.status == 401:
                self._fail(server, "refused", f"does not accept the signature: {answer}", self._timing.refused)
            else:
                self._answered(server)

    def _answered(self, server: Server) -> None:
        now = self._clock()
        is_known = server.state == UP and server.woken is not None and server.woken > now - self._timing.recheck
        if not is_known and self._store.answered(server, now, now + self._timing.wake):
            LOG.info("%s answers", server.name)

    def _fail(self, server: Server, state: str, reason: str, interval: int) -> float:
        """Note that a server has not answered as it should. Return when it is tried again."""
        now = self._clock()
        due = now + backoff(server.tries + 1, interval, self._timing.most)
        if server.state != state:
            LOG.warning("%s is %s: %s", server.name, state, printable(reason))
        self._store.failed(server, state, reason, now, due)
        return due

    # Pairs

    def _visit(self, visit: Visit) -> None:
        """Check a pair, and remove its ghosts."""
        started = self._clock()
        known = self._store.known(visit)
        try:
            result = check_if_joined(self._connected, visit.pair, known)
            if result is None:
                if (free := self._enter(visit)) is None:
                    return
                if free:
                    self._store.postpone(visit, free)
                    return
                result = self._remove_in_room(visit)
        except _InterruptedError:
            self._store.postpone(visit, self._clock())
            raise
        except Exception:
            self._store.postpone(visit, self._clock() + self._timing.unconfirmed)
            raise
        self._finish(visit, result, started)

    def _enter(self, visit: Visit) -> float | None:
        """Begin a removal in a room. Return 0, or since when that is allowed; C(None) if another one is under way."""
        now = self._clock()
        with self._lock:
            free = self._rooms.get(visit.room, 0.0)
            if free == BUSY:
                # In the lock, so that the other one can't end in between.
                self._store.wait_for_room(visit)
                return None
            if free > now:
                return free
            self._rooms[visit.room] = BUSY
            return 0.0

    def _remove_in_room(self, visit: Visit) -> PairResult:
        removed = 0

        def on_leave(user_id: str, event_id: str, membership: str) -> None:
            nonlocal removed
            removed += 1
            self._store.add_leave(visit, user_id, event_id, membership, self._clock())

        try:
            return remove(
                self._connected,
                visit.pair,
                self._store.known(visit),
                self._may_leave(),
                state_limit=self._config.max_state_size * 1024 * 1024,
                event_ids=visit.event_ids,
                earlier_leaves=self._store.leaves(visit),
                on_members=partial(self._found, visit),
                on_leave=on_leave,
                pause=self._pause,
            )
        finally:
            self._leave_room(visit, removed)

    def _may_leave(self) -> MayLeave:
        """Return what is asked before each leave: always allowed, since the homeserver is gone, but not for ever."""
        deadline = time.monotonic() + self._timing.visit

        def may_leave(_user_id: str, _room_id: str, _membership: str) -> bool:
            if self._stopping.is_set() or self._is_paused or time.monotonic() > deadline:
                raise _InterruptedError
            return True

        return may_leave

    def _leave_room(self, visit: Visit, removed: int) -> None:
        """End a removal in a room. The pairs that wait for it are next, once the leaves were forwarded."""
        now = self._clock()
        due = now + (self._timing.forward if removed else 0.0)
        if removed:
            ghosts = plural(removed, "ghost", "ghosts")
            LOG.info("removed %s on %s in %s", ghosts, visit.pair.server, visit.pair.room_id)
        with self._lock:
            self._rooms = {room: free for room, free in self._rooms.items() if free > now and room != visit.room}
            if removed:
                self._rooms[visit.room] = due
            waiting = self._store.release(visit.room, due)
        for name in waiting:
            self._see(name)

    def _found(self, visit: Visit, members: RoomMembers) -> None:
        """Follow the servers of the members of a room."""
        servers = [name for name in members.servers if name != self._config.server_name]
        now = self._clock()
        added = self._store.add_members(visit, members.listed, servers, now)
        self._dropped += len(servers) - len(added)
        for name in added:
            self._schedule.hasten(name, now)

    def _finish(self, visit: Visit, result: PairResult, started: float) -> None:
        timing, now = self._timing, self._clock()
        if result.state == "unreachable":
            retry = self._fail(visit.server, result.state, result.reason, timing.unreachable)
            # Another pair is tried first: perhaps it is this one that the server can't answer.
            self._store.postpone(visit, retry + timing.recheck)
            return
        self._answered(visit.server)
        same = visit.state == result.state and not result.removed
        tries = visit.tries + 1 if same else 1
        due: float | None = None
        if result.state != "confirmed":
            due = now + self._interval(result, tries)
            LOG.log(
                logging.DEBUG if same else logging.WARNING,
                "%s is %s in %s: %s",
                visit.pair.server,
                result.state,
                visit.pair.room_id,
                printable(result.reason),
            )
        news = now + self._soonest(result.state, tries)
        self._store.finish(visit, result, started=started, now=now, tries=tries, due=due, news=news)

    def _interval(self, result: PairResult, tries: int) -> int:
        """Return the seconds until the next check of a pair that is not confirmed."""
        timing = self._timing
        first = timing.transient if result.is_transient or result.state == "ghosts" else timing.unconfirmed
        return backoff(tries, timing.refused if result.state == "refused" else first, timing.most)

    def _soonest(self, state: str, tries: int) -> float:
        """Return the seconds from one check of a pair to the next one at least, even if its server sends news."""
        if state == "waiting":
            return 0.0
        return backoff(max(tries, 1) if state == "confirmed" else 1, self._timing.recheck, self._timing.most_rechecks)

    # What remote servers send

    def heard(self, server: str, rooms: Sequence[Heard]) -> None:
        """Take the rooms that a verified request of a remote server names. They are stored when this returns."""
        self._transactions += 1
        if server == self._config.server_name or not is_server_name(server):
            return
        try:
            dropped = self._store.heard(server, rooms, self._clock(), self._soonest)
        except sqlite3.ProgrammingError:
            return  # the service ends; the request is not lost, since its answer is not sent any more
        self._dropped += dropped
        if self._client is not None:
            self._see(server)

    # Status

    def status(self) -> Status:
        """Return what was heard and done so far."""
        now = self._clock()
        return Status(
            server_name=self._config.server_name,
            key_id=self._key_id,
            started=int(self._started),
            now=int(now),
            problem=self.problem,
            transactions=self._transactions,
            rejected=self.rejected(),
            dropped=self._dropped,
            requests=0 if self._client is None else self._client.sent,
            **summarize(self._store, now, self._config.quiet_days * 86_400),
        )


BUSY = float("inf")
"""Since when a removal in a room is allowed while there is another one."""
