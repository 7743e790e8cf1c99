# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import idle_parts
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import propagation as module
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import GhostRun, Room
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.propagation import (
    HISTORY,
    MAX_PAUSE,
    NOT_CHECKED,
    SAVE_INTERVAL,
    Options,
    Propagation,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.propagation_result import (
    MAX_NAMES,
    MAX_ROOMS,
    MAX_SERVERS,
    SEVERITY,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.record import (
    KIND,
    MAX_REASON,
    Record,
    RecordedResult,
    RecordedRoom,
    Retry,
    read_record,
    write_record,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.retry_schedule import MAX_BACKOFF
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import STATES, Pair, PairResult
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError, SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._text import printable
from ansible_collections.matrixops.synapse.tests.stubs.helpers import BASE_URL, NOW, SERVER, TOKEN, Clock, Json, room_id
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import BROKEN, Homeserver

ALICE, BOB, CAROL = (f"@{name}:{SERVER}" for name in ("alice", "bob", "carol"))
A, B, C = "a.example", "b.example", "c.example"
R, Q = room_id("r"), room_id("q")
WEEK, DAY, HOUR, MINUTE = 604_800, 86_400, 3_600, 60
LEFT = NOW - HOUR
LEAVE = {"type": "m.room.member", "sender": ALICE, "origin_server_ts": 1000 * LEFT}
UNREACHABLE = ("unreachable", "connection refused")


class Killed(BaseException):
    """The run ends here."""


class Remote:
    """The remote servers: what they say of each room, which may be changed in between.

    :ivar listed: the accounts that a server lists in a room.
    :ivar answers: another state, and its reason, by server or pair.
    :ivar asked: the pairs that they were asked about.
    :ivar killed_after: after so many results, the run is killed.
    """

    def __init__(self) -> None:
        self.clock_offsets: list[float] = []
        self.listed: dict[tuple[str, str], set[str]] = {}
        self.answers: dict[Any, tuple[str, str]] = {}
        self.asked: list[tuple[str, str]] = []
        self.rooms: list[Room] = []
        self.killed_after: int | None = None
        self.on_result: Callable[[], None] = lambda: None
        self.removed: list[str] = []

    def take_asked(self) -> list[tuple[str, str]]:
        asked, self.asked = self.asked, []
        return sorted(asked)


class FakeRun(GhostRun):
    """Asks about each pair once, with no network."""

    client: Any

    def check(self, rooms: Any) -> None:
        self._each(rooms, lambda *_account: False)

    def remove(self, rooms: Any, may_leave: Any) -> None:
        self._each(rooms, may_leave)

    def _each(self, rooms: list[Room], may_leave: Callable[[str, str, str], bool]) -> None:
        remote: Remote = self.client
        remote.rooms = list(rooms)
        for room in rooms:
            for server in room.servers:
                remote.asked.append((server, room.room_id))
                self._keep(self._ask(remote, Pair(server, room.room_id), may_leave))
                remote.on_result()
                if remote.killed_after is not None and len(remote.asked) >= remote.killed_after:
                    raise Killed

    @staticmethod
    def _ask(remote: Remote, pair: Pair, may_leave: Callable[[str, str, str], bool]) -> PairResult:
        state, reason = remote.answers.get(tuple(pair), remote.answers.get(pair.server, ("", "")))
        if state:
            return PairResult(pair, state, {}, reason)
        listed = remote.listed.get(tuple(pair), set())
        removed = tuple(user_id for user_id in sorted(listed) if may_leave(user_id, pair.room_id, "join"))
        listed.difference_update(removed)
        remote.removed.extend(removed)
        return PairResult(
            pair, "ghosts" if listed else "confirmed", dict.fromkeys(sorted(listed), "join"), "", removed=removed
        )


class World:
    """A homeserver that all accounts have left the federated rooms of, and the remote servers."""

    def __init__(self, homeserver: Homeserver) -> None:
        self.homeserver = homeserver
        self.remote = Remote()
        self.homeserver.register("alice", "bob", "carol")
        self.homeserver.left_at(LEFT)

    def room(self, name: str, *servers: str, ours: tuple[str, ...] = (ALICE,), membership: str = "leave") -> str:
        members = dict.fromkeys(ours, membership)
        self.homeserver.members[room_id(name)] = {**members, **{f"@someone:{server}": "join" for server in servers}}
        return room_id(name)

    def lists(self, server: str, room: str, *user_ids: str) -> None:
        self.remote.listed[server, room] = set(user_ids)

    def start(self, *, dry_run: bool = False, progress_path: str | None = None, **options: Any) -> Propagation:
        client = Client(BASE_URL, TOKEN)
        given = Options(**{"period": WEEK, **options})
        return Propagation(client, given, dry_run=dry_run, progress_path=progress_path)

    def poll(self, *, checks: bool = True, **more: Any) -> Json:
        """What a poll by a new process returns."""
        propagation = self.start(**more)
        if checks:
            propagation.check(self.remote)  # type: ignore[arg-type]
        result = propagation.finish()
        # It is the result of a module.
        assert json.loads(json.dumps(result)) == result
        assert (result["next_poll"] == 0) is result["finished"]
        return result

    def polls(self, number: int, **more: Any) -> Json:
        """The result of the last of these polls, each at the time that the one before has asked for."""
        for _poll in range(number):
            result = self.poll(**more)
            self.homeserver.now += result["next_poll"]
        return result

    @property
    def record(self) -> Record:
        with Client(BASE_URL, TOKEN) as client:
            return read_record(client)

    @record.setter
    def record(self, record: Record) -> None:
        with Client(BASE_URL, TOKEN) as client:
            write_record(client, record)

    def recorded(self, server: str, room: str = R) -> RecordedResult:
        return self.record.rooms[room].servers[server]


@pytest.fixture
def world(homeserver: Homeserver, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(module, "GhostRun", FakeRun)
    return World(homeserver)


def row(result: Json, server: str) -> Json:
    (found,) = [row for row in result["servers"] if row["server"] == server]
    return dict(found)


# One poll


def test_before_all_have_left(world: World) -> None:
    world.homeserver.left_at(None)
    with pytest.raises(SynapseError, match="run the stages drain and leave_rooms"):
        world.start()


def test_all_confirm(world: World) -> None:
    world.room("r", A, B)
    world.room("q", A)
    result = world.poll()
    assert result == {
        "changed": False,
        "finished": False,
        "ended_early": False,
        "checked": True,
        "now": NOW,
        "ends": LEFT + WEEK,
        "next_poll": MAX_PAUSE,
        "summary": {
            "servers": 2,
            "confirmed": 2,
            "ghosts": 0,
            "refused": 0,
            "unreachable": 0,
            "unconfirmed": 0,
            "ignored": 0,
            "pairs": 3,
            "pairs_confirmed": 3,
            "removed": 0,
        },
        "removed": 0,
        "servers": [
            {
                "server": server,
                "state": "confirmed",
                "rooms": rooms,
                "confirmed_rooms": rooms,
                "removed": 0,
                "confirmed_at": NOW,
                "unreachable_since": None,
                "reason": "",
                "open_rooms": [],
                "open_rooms_total": 0,
                "text": text,
            }
            for server, rooms, text in (
                (A, 2, "a.example: confirmed, 2 of 2 rooms"),
                (B, 1, "b.example: confirmed, 1 of 1 room"),
            )
        ],
        "servers_total": 2,
        "broken_rooms": [],
        "not_sent_to": [],
        "stale_rooms": [],
        "unreadable_rooms": [],
        "ignored": [],
        "history": [[NOW, 2, 0, 0, 0, 0]],
        "message": "2 of 2 remote servers confirmed; the propagation period ends 2026-11-30 05:40:00 UTC",
    }


def test_ghosts_are_removed(world: World) -> None:
    room = world.room("r", A, ours=(ALICE, BOB))
    world.lists(A, room, ALICE, BOB)
    result = world.poll()
    assert (result["changed"], result["removed"], result["summary"]["removed"]) == (True, 2, 2)
    assert row(result, A)["text"] == "a.example: ghosts removed (2); confirmed, 1 of 1 room"
    assert result["message"].startswith("1 of 1 remote servers confirmed; 2 ghosts removed; the propagation")
    assert world.recorded(A) == RecordedResult("confirmed", NOW, 2)


def taken(world: World, room: str, *numbers: int) -> None:
    """The last leave in a room has the number 7. Say which event was taken for A, in one listing after the other."""
    world.homeserver.faults[f"GET messages {room}"] = (200, {"chunk": [LEAVE], "end": "t5-6"})
    world.homeserver.faults[f"GET rooms {A}"] = [
        (200, {"rooms": [{"room_id": room, "stream_ordering": number}], "total": 1}) for number in numbers
    ]


def rooms_created(world: World) -> int:
    return sum(str(request) == "POST createRoom v3" for request in world.homeserver.log)


LOOKS = len(idle_parts.PAUSES) + 1


def test_what_was_not_sent_stays_on_record_until_it_is_sent(world: World) -> None:
    """Also when the ghosts are gone: the server may lack other events."""
    room = world.room("r", A, ours=(ALICE, BOB))
    world.lists(A, room, ALICE, BOB)
    taken(world, room, *[6] * 2 * LOOKS)
    result = world.poll()
    assert (result["removed"], result["summary"]["confirmed"], result["not_sent_to"]) == (2, 1, [A])
    assert f"no federation sender of Synapse has taken the last events for {A}:" in result["message"]
    assert rooms_created(world) == 1
    # Once an hour, and before the power-off, Synapse gets an event, since a sender may run again.
    taken(world, room, *[6] * LOOKS)
    assert (world.poll()["not_sent_to"], rooms_created(world)) == ([A], 1)
    taken(world, room, *[6] * LOOKS, 6, 7)
    assert (world.poll(checks=False, recheck=True)["not_sent_to"], rooms_created(world)) == ([], 2)
    assert world.record.unsent == set()


def test_a_poll_that_was_killed_after_the_removal(world: World) -> None:
    """Before the power-off, the pairs are read of which ghosts were ever removed."""
    room = world.room("r", A)
    record = world.start().record
    record.rooms[room].servers[A] = RecordedResult("confirmed", NOW - 1, removed=1)
    world.record = record
    taken(world, room, *[6] * 2 * LOOKS)
    assert world.poll()["not_sent_to"] == []
    assert world.poll(recheck=True)["not_sent_to"] == [A]


def test_a_dry_run_creates_no_room(world: World) -> None:
    room = world.room("r", A)
    world.record = Record(world.start().record.rooms, unsent={Pair(A, room)})
    taken(world, room, *[6] * LOOKS)
    assert (world.poll(dry_run=True, recheck=True)["not_sent_to"], rooms_created(world)) == ([A], 0)


def test_what_was_not_sent_is_not_lost_among_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_parts, "MAX_PAIRS", 1)
    room = world.room("r", A)
    others = [f"{number}.example" for number in range(20)]
    world.room("q", *others)
    world.record = Record(world.start().record.rooms, unsent={Pair(A, room)})
    for server in others:
        world.lists(server, Q, ALICE)
    taken(world, room, *[6] * 2 * LOOKS)
    assert world.poll()["not_sent_to"] == [A]


@pytest.mark.parametrize("options", [{"ignore": frozenset({A})}, {"broken_rooms": {R: "broken"}}])
def test_what_need_not_be_sent(world: World, options: dict[str, Any]) -> None:
    room = world.room("r", A)
    world.record = Record(world.start().record.rooms, unsent={Pair(A, room)})
    assert world.poll(**options)["not_sent_to"] == []
    assert not [request for request in world.homeserver.log if str(request) == f"GET messages {room}"]


def test_confirmed_pairs_are_not_checked_again(world: World) -> None:
    world.room("r", A, B)
    world.room("q", A)
    world.remote.answers[B] = UNREACHABLE
    world.poll()
    assert world.remote.take_asked() == [(A, Q), (A, R), (B, R)]
    world.homeserver.now += MINUTE
    world.poll()
    assert world.remote.take_asked() == [(B, R)]


def test_only_the_rooms_that_a_server_has_not_confirmed_are_asked_again(world: World) -> None:
    world.room("r", A)
    world.room("q", A)
    world.remote.answers[A, Q] = ("unconfirmed", "odd")
    first = world.poll()
    assert row(first, A)["text"] == "a.example: unconfirmed in 1 room: odd; confirmed, 1 of 2 rooms"
    world.remote.take_asked()
    world.homeserver.now += MINUTE
    world.remote.answers.clear()
    result = world.poll()
    assert world.remote.take_asked() == [(A, Q)]
    assert row(result, A)["confirmed_at"] == NOW + MINUTE
    assert world.record.retries == {}


@pytest.mark.parametrize("state", ["ghosts", "refused", "unreachable", "unconfirmed"])
def test_a_server_that_has_not_confirmed(world: World, state: str) -> None:
    world.room("r", A, B)
    world.remote.answers[B] = (state, "why")
    result = world.poll()
    assert result["summary"] == {
        **dict.fromkeys((*STATES, "ignored", "removed"), 0),
        "confirmed": 1,
        state: 1,
        "servers": 2,
        "pairs": 2,
        "pairs_confirmed": 1,
    }
    assert [each["server"] for each in result["servers"]] == [B, A]
    found = row(result, B)
    assert (found["state"], found["reason"], found["confirmed_at"]) == (state, "why", None)
    assert found["open_rooms"] == [{"room_id": R, "state": state, "reason": "why", "ghosts": 0, "can_kick": []}]
    assert found["unreachable_since"] == (NOW if state == "unreachable" else None)
    assert result["next_poll"] == 30
    assert world.record.retries == {B: Retry(found["unreachable_since"], NOW, 1)}


def test_the_state_of_a_server_is_that_of_its_worst_room(world: World) -> None:
    for number, state in enumerate(SEVERITY):
        world.room(state, *(f"s{each}.example" for each in range(number + 1)))
        if state != "confirmed":
            for each in range(5):
                world.remote.answers[f"s{each}.example", room_id(state)] = (state, f"is {state}")
    result = world.poll()
    assert {each["server"]: each["state"] for each in result["servers"]} == {
        f"s{number}.example": state for number, state in enumerate(SEVERITY)
    }
    assert [each["state"] for each in result["servers"]] == list(SEVERITY)
    assert row(result, "s0.example")["reason"] == "is ghosts"


def test_the_worst_rooms_are_shown(world: World) -> None:
    """Among many that say nothing, the one that refuses is not hidden."""
    for number in range(2 * MAX_ROOMS):
        world.remote.answers[A, world.room(f"a{number}", A)] = ("unconfirmed", "odd")
    world.remote.answers[A, world.room("z", A)] = ("refused", "denied by a server ACL of the room")
    result = row(world.poll(), A)
    assert (result["state"], result["reason"]) == ("refused", "denied by a server ACL of the room")
    assert [room["room_id"] for room in result["open_rooms"]] == [room_id(n) for n in ("z", "a0", "a1", "a2", "a3")]
    assert result["open_rooms_total"] == 2 * MAX_ROOMS + 1


def test_servers_with_most_rooms_come_first(world: World) -> None:
    world.room("r", A, B, C)
    world.room("q", C)
    assert world.start().servers == [C, A, B]


def test_accounts_are_passed_on(world: World) -> None:
    world.record = Record({R: RecordedRoom({A: RecordedResult()}, {BOB}, {CAROL})})
    world.room("r", A)
    world.poll()
    (room,) = world.remote.rooms
    assert room.known == ((ALICE, BOB), (CAROL,))


@pytest.mark.parametrize(("ago", "waits"), [(0, [5]), (2, [3]), (5, [0]), (HOUR, [0])])
def test_the_last_leaves_have_a_moment_to_arrive(world: World, clock: Clock, ago: int, waits: list[int]) -> None:
    world.room("r", A)
    world.homeserver.left_at(NOW - ago)
    world.poll()
    assert clock.waits == waits
    clock.waits.clear()
    world.poll(dry_run=True)
    world.poll(checks=False)
    assert clock.waits == []


# Clocks

DAYS = 8 * 86400.0 + 60


@pytest.mark.parametrize(
    ("ahead", "words"), [([DAYS], "8 d ahead of"), ([-DAYS], "8 d behind"), ([DAYS, DAYS, 0.0], "8 d ahead of")]
)
def test_a_clock_that_differs_from_those_of_remote_servers(world: World, ahead: list[float], words: str) -> None:
    """The controller may be wrong alike. What was recorded by that clock is discarded."""
    world.room("r", A)
    world.remote.clock_offsets = [world.homeserver.now - time.time() - seconds for seconds in ahead]
    with pytest.raises(FatalError, match=words):
        world.poll()
    with pytest.raises(FatalError, match="run the stages drain and leave_rooms first"):
        world.poll()


@pytest.mark.parametrize("ahead", [[], [0.0], [299.0], [-299.0], [0.0, 0.0, DAYS], [DAYS, 0.0, -DAYS]])
def test_a_clock_is_compared_with_most_remote_servers(world: World, ahead: list[float]) -> None:
    world.room("r", A)
    world.remote.clock_offsets = [world.homeserver.now - time.time() - seconds for seconds in ahead]
    assert world.poll()["checked"]


def test_a_dry_run_discards_nothing(world: World) -> None:
    world.room("r", A)
    offsets = [world.homeserver.now - time.time() - DAYS]
    world.remote.clock_offsets = offsets
    with pytest.raises(FatalError, match="ahead of"):
        world.poll(dry_run=True)
    world.remote.clock_offsets = []
    assert world.poll()["checked"]


# Which accounts may be removed


def test_accounts_joined_on_this_server_are_not_removed(world: World) -> None:
    room = world.room("r", A, ours=(ALICE, BOB))
    world.homeserver.members[room][BOB] = "join"
    world.lists(A, room, ALICE, BOB)
    result = world.poll()
    assert world.remote.removed == [ALICE]
    assert (row(result, A)["state"], row(result, A)["open_rooms"][0]["ghosts"]) == ("ghosts", 1)
    assert row(result, A)["text"] == "a.example: ghosts removed (1); lists accounts in 1 room; confirmed, 0 of 1 room"


def test_without_the_lease_no_ghost_is_removed(world: World) -> None:
    """A leave to a remote server is a write too."""
    world.room("r", A)
    world.lists(A, R, ALICE)
    propagation = world.start()

    def refuse() -> None:
        raise FatalError("the lease is lost")

    propagation.client.before_write = refuse
    with pytest.raises(FatalError, match="the lease is lost"):
        propagation.check(world.remote)  # type: ignore[arg-type]
    assert world.remote.removed == []


def test_in_a_broken_room_ghosts_are_removed_all_the_same(world: World) -> None:
    room = world.room("r", A, membership="join")
    world.lists(A, room, ALICE)
    world.poll(broken_rooms={room: "500"})
    assert world.remote.removed == [ALICE]


def test_an_error_of_this_server_ends_the_poll(world: World) -> None:
    world.lists(A, world.room("r", A), ALICE)
    world.homeserver.faults[f"GET joined_rooms {ALICE}"] = (403, {"errcode": "M_FORBIDDEN", "error": "no"})
    with pytest.raises(SynapseError, match="M_FORBIDDEN"):
        world.poll()
    assert world.remote.removed == []


# Backoff


def test_backoff(world: World) -> None:
    world.room("r", A)
    world.remote.answers[A] = ("unconfirmed", "odd")
    pauses, tries = [], []
    for _poll in range(200):
        result = world.poll(poll_interval=10)
        pauses.append(result["next_poll"])
        if world.remote.take_asked():
            tries.append(world.homeserver.now - NOW)
        world.homeserver.now += result["next_poll"]
    delays = [after - before for before, after in zip(tries, tries[1:])]
    assert delays[:9] == [10, 20, 40, 80, 160, 320, 640, 1280, 2560]
    assert set(delays[9:]) == {MAX_BACKOFF} and len(delays) > 20
    assert max(pauses) == MAX_PAUSE and min(pauses) == 10


def test_before_it_is_due_a_server_is_not_asked(world: World) -> None:
    world.room("r", A)
    world.remote.answers[A] = UNREACHABLE
    world.poll()
    assert world.remote.take_asked()
    world.homeserver.now += 29
    result = world.poll()
    assert world.remote.take_asked() == []
    assert (result["next_poll"], row(result, A)["state"]) == (1, "unreachable")
    world.homeserver.now += 1
    world.poll()
    assert world.remote.take_asked() == [(A, R)]


def test_each_server_has_a_backoff_of_its_own(world: World) -> None:
    world.room("r", A, B)
    world.remote.answers[A] = UNREACHABLE
    world.remote.answers[B] = UNREACHABLE
    world.poll()
    del world.remote.answers[B]
    world.polls(3)
    world.room("q", B)
    record = world.record
    assert list(record.retries) == [A] and record.retries[A].tries > 1


def test_a_server_that_is_back_is_not_down_any_more(world: World) -> None:
    world.room("r", A)
    world.remote.answers[A] = UNREACHABLE
    result = world.polls(3)
    assert row(result, A)["unreachable_since"] == NOW
    world.remote.answers[A] = ("unconfirmed", "odd")
    result = world.poll()
    assert row(result, A)["unreachable_since"] is None
    assert row(result, A)["text"] == "a.example: unconfirmed in 1 room: odd; confirmed, 0 of 1 room"
    again = world.homeserver.now = world.homeserver.now + HOUR
    world.remote.answers[A] = UNREACHABLE
    assert row(world.poll(), A)["unreachable_since"] == again


# The end of the period


def test_all_pairs_have_a_last_check_after_the_period(world: World) -> None:
    world.room("r", A, B)
    world.remote.answers[A] = UNREACHABLE
    world.polls(12)
    world.homeserver.now = LEFT + WEEK - 1
    world.poll()
    world.remote.take_asked()
    world.homeserver.now += 1
    result = world.poll()
    # It would not have been due by its backoff.
    assert world.remote.take_asked() == [(A, R)]
    assert (result["finished"], result["ended_early"], result["next_poll"]) == (True, False, 0)
    assert result["message"] == "1 of 2 remote servers confirmed; 1 unreachable"
    assert row(result, A)["state"] == "unreachable"


def test_no_poll_comes_after_the_end(world: World) -> None:
    world.room("r", A)
    world.remote.answers[A] = UNREACHABLE
    world.homeserver.now = LEFT + WEEK - 10
    assert world.poll()["next_poll"] == 10


@pytest.mark.parametrize("period", [0, HOUR, HOUR + 1])
def test_the_period_counts_from_when_all_had_left(world: World, period: int) -> None:
    world.room("r", A)
    result = world.poll(period=period)
    assert (result["ends"], result["finished"]) == (LEFT + period, period <= HOUR)
    assert world.remote.take_asked() == [(A, R)]


@pytest.mark.parametrize("checks", [True, False])
def test_without_remote_servers(world: World, checks: bool) -> None:
    world.room("r", ours=(ALICE, BOB))
    result = world.poll(checks=checks)
    assert (result["finished"], result["next_poll"]) == (False, MAX_PAUSE)
    assert result["servers"] == [] and result["servers_total"] == 0
    assert result["message"].startswith("0 of 0 remote servers confirmed; the propagation period ends")
    early = world.poll(checks=checks, early_exit=True)
    assert (early["finished"], early["ended_early"]) == (True, True)
    world.homeserver.now = LEFT + WEEK
    assert world.poll(checks=checks)["finished"]


def test_without_checks(world: World) -> None:
    room = world.room("r", A)
    world.lists(A, room, ALICE)
    result = world.poll(checks=False, early_exit=True)
    assert (result["checked"], result["finished"], result["next_poll"]) == (False, False, MAX_PAUSE)
    assert (result["summary"]["unconfirmed"], result["summary"]["servers"]) == (1, 1)
    assert row(result, A)["text"] == f"a.example: unconfirmed in 1 room: {NOT_CHECKED}; confirmed, 0 of 1 room"
    world.homeserver.now = LEFT + WEEK
    result = world.poll(checks=False)
    assert (result["finished"], result["ended_early"]) == (True, False)
    assert world.remote.asked == []


# Early exit


def test_an_early_exit_when_all_have_confirmed(world: World) -> None:
    world.room("r", A, B)
    result = world.poll(early_exit=True)
    assert (result["finished"], result["ended_early"], result["next_poll"]) == (True, True, 0)
    assert result["message"] == "2 of 2 remote servers confirmed"
    assert not world.poll()["finished"], "it has to be asked for"


@pytest.mark.parametrize("state", ["ghosts", "refused", "unconfirmed"])
def test_no_early_exit_while_a_server_that_answers_has_not_confirmed(world: World, state: str) -> None:
    world.room("r", A, B)
    world.remote.answers[A] = (state, "why")
    for _day in range(6):
        assert not world.poll(early_exit=True, unreachable_after=0)["finished"]
        world.homeserver.now += DAY
    world.remote.answers.clear()
    assert world.poll(early_exit=True)["ended_early"]


def test_servers_that_are_down_are_tried_for_a_while(world: World) -> None:
    world.room("r", A, B)
    world.remote.answers[A] = UNREACHABLE
    assert not world.poll(early_exit=True)["finished"]
    world.homeserver.now = NOW + DAY - 1
    assert not world.poll(early_exit=True)["finished"]
    world.homeserver.now = NOW + DAY
    result = world.poll(early_exit=True)
    assert (result["finished"], result["ended_early"]) == (True, True)
    since = "2026-11-23 06:40:00 UTC"
    assert row(result, A)["text"] == (
        f"a.example: unreachable in 1 room since {since}: connection refused; confirmed, 0 of 1 room"
    )


def test_a_server_that_answers_for_one_room_is_not_down(world: World) -> None:
    world.room("r", A)
    world.room("q", A)
    world.remote.answers[A, R] = UNREACHABLE
    world.remote.answers[A, Q] = ("refused", "no")
    assert not world.poll(early_exit=True, unreachable_after=0)["finished"]


def test_a_server_that_was_never_checked_is_waited_for(world: World) -> None:
    world.room("r", A)
    assert not world.poll(checks=False, early_exit=True, unreachable_after=0)["finished"]


# What is asked again before the power-off


def test_a_recheck_asks_all(world: World) -> None:
    world.room("r", A, B)
    world.room("q", A)
    world.remote.answers[B] = UNREACHABLE
    world.poll()
    world.remote.take_asked()
    world.poll(recheck=True)
    # Including the one that is down, regardless of its backoff.
    assert world.remote.take_asked() == [(A, Q), (A, R), (B, R)]


@pytest.mark.parametrize("dry_run", [True, False])
def test_the_period_starts_again_when_an_account_was_in_a_room_after_its_start(world: World, dry_run: bool) -> None:
    """The account has joined, left and is deactivated again. Only the right start is recorded, if anything is."""
    world.room("r", A)
    world.homeserver.left_at(NOW - WEEK)
    assert world.poll(recheck=True, dry_run=True)["finished"]
    world.homeserver.received[R] = (NOW - HOUR) * 1000
    assert world.poll(dry_run=True)["finished"], "the rooms are read right before the power-off"
    result = world.poll(recheck=True, dry_run=dry_run)
    assert (result["finished"], result["ends"]) == (False, NOW - HOUR + WEEK)
    start = NOW - (WEEK if dry_run else HOUR)
    assert world.homeserver.milestones == {"left_federated_rooms": start}


def test_an_account_that_was_in_a_room_after_the_start_of_the_period_resets_the_results(world: World) -> None:
    world.room("r", A)
    world.poll()
    world.homeserver.received[R] = (NOW - MINUTE) * 1000
    world.remote.answers[A] = UNREACHABLE
    assert row(world.poll(recheck=True), A)["state"] == "unreachable"


def test_a_recheck_of_very_many_is_a_random_sample(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RECHECKED", 3)
    for number in range(12):
        world.room(f"r{number}", A)
    world.remote.answers[B, world.room("q", B)] = UNREACHABLE
    world.poll()
    world.remote.take_asked()
    samples = set()
    for _poll in range(10):
        world.poll(recheck=True, dry_run=True)
        asked = world.remote.take_asked()
        assert asked.count((B, Q)) == 1 and len(set(asked)) == len(asked) == 4
        samples.add(tuple(asked))
    assert len(samples) > 1


@pytest.mark.parametrize("state", ["ghosts", "refused", "unconfirmed"])
def test_results_of_a_recheck_count(world: World, state: str) -> None:
    world.room("r", A)
    world.poll()
    world.remote.answers[A] = (state, "now")
    result = world.poll(recheck=True)
    assert (result["summary"][state], result["summary"]["confirmed"]) == (1, 0)
    assert world.recorded(A).state == state


def test_a_confirmation_stays_valid_while_the_server_is_down(world: World) -> None:
    world.room("r", A)
    world.poll()
    before = world.recorded(A)
    world.homeserver.now += HOUR
    world.remote.answers[A] = UNREACHABLE
    result = world.poll(recheck=True, early_exit=True)
    assert result["ended_early"] and row(result, A)["state"] == "confirmed"
    assert world.recorded(A) == before and world.record.retries == {}


@pytest.mark.parametrize("more", [{"has_answered": True}, {"removed": (ALICE,)}])
def test_a_server_that_goes_down_while_it_lists_accounts_has_not_confirmed(
    world: World, monkeypatch: pytest.MonkeyPatch, more: Json
) -> None:
    world.room("r", A)
    world.poll()

    def ask(_run: FakeRun, _remote: Remote, pair: Pair, _may_leave: Any) -> PairResult:
        return PairResult(pair, "unreachable", {}, "x", **more)

    monkeypatch.setattr(FakeRun, "_ask", ask)
    result = world.poll(recheck=True)
    assert row(result, A)["state"] == "unreachable" and row(result, A)["unreachable_since"] == NOW
    removed = len(more.get("removed", ()))
    assert (result["removed"], result["summary"]["removed"]) == (removed, removed)


def test_ghosts_that_a_recheck_removes(world: World) -> None:
    room = world.room("r", A)
    world.lists(A, room, ALICE)
    world.poll()
    world.lists(A, room, BOB)
    result = world.poll(recheck=True)
    assert (result["removed"], result["summary"]["removed"]) == (1, 2)
    assert world.recorded(A) == RecordedResult("confirmed", NOW, 2)


# A dry run


def test_a_dry_run_changes_nothing(world: World) -> None:
    room = world.room("r", A)
    world.lists(A, room, ALICE)
    before = dict(world.homeserver.account_data)
    result = world.poll(dry_run=True)
    assert (result["changed"], result["removed"], row(result, A)["state"]) == (False, 0, "ghosts")
    assert world.homeserver.writes == [] and world.homeserver.account_data == before
    assert world.remote.listed[A, room] == {ALICE}
    world.poll()
    before = dict(world.homeserver.account_data)
    world.lists(A, room, BOB)
    assert row(world.poll(dry_run=True, recheck=True), A)["state"] == "ghosts"
    assert world.homeserver.account_data == before


# Over several polls


def test_removals_of_all_polls_are_counted(world: World) -> None:
    room = world.room("r", A, B)
    world.lists(A, room, ALICE, BOB)
    world.remote.answers[B] = UNREACHABLE
    assert world.poll()["removed"] == 2
    world.homeserver.now += MINUTE
    second = world.poll()
    assert (second["changed"], second["removed"], second["summary"]["removed"]) == (False, 0, 2)
    world.homeserver.now += HOUR
    world.remote.answers.clear()
    world.lists(B, room, CAROL)
    third = world.poll()
    assert (third["removed"], third["summary"]["removed"]) == (1, 3)
    assert row(third, A)["removed"] == 2 and row(third, B)["removed"] == 1


def test_removals_are_counted_once_for_several_results_of_a_poll(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server is asked again within a poll, and each result has all that were removed in it."""
    world.room("r", A)

    def remove(run: FakeRun, rooms: list[Room], _may_leave: Any) -> None:
        pair = Pair(rooms[0].servers[0], rooms[0].room_id)
        run._keep(PairResult(pair, "ghosts", {BOB: "join"}, removed=(ALICE,)))
        run._keep(PairResult(pair, "confirmed", {}, removed=(BOB,)))

    monkeypatch.setattr(FakeRun, "remove", remove)
    result = world.poll()
    assert (result["removed"], result["summary"]["removed"], world.recorded(A).removed) == (2, 2, 2)
    assert world.poll(recheck=True)["summary"]["removed"] == 4


def test_the_history_has_changes_only(world: World) -> None:
    world.room("r", A, B)
    world.remote.answers[A] = UNREACHABLE
    world.polls(4)
    del world.remote.answers[A]
    world.homeserver.now += HOUR
    result = world.poll()
    assert result["history"] == [[NOW, 1, 0, 0, 1, 0], [world.homeserver.now, 2, 0, 0, 0, 0]]
    assert world.record.history == result["history"]


def test_the_history_is_bounded(world: World) -> None:
    world.room("r", A)
    for number in range(HISTORY + 50):
        world.remote.answers[A] = ("refused" if number % 2 else "unconfirmed", "x")
        result = world.poll(recheck=True)
        world.homeserver.now += MINUTE
    times = [point[0] for point in result["history"]]
    assert len(times) <= HISTORY and times == sorted(times)
    assert (times[0], times[-1]) == (NOW, NOW + (HISTORY + 49) * MINUTE)


# The record, and what Synapse knows


def test_the_record_is_held_against_synapse_once_after_each_drain(world: World) -> None:
    world.room("r", A)
    world.poll()
    reads = world.homeserver.count("federation/destinations")
    assert reads == 1
    world.room("q", B)
    assert world.polls(3)["servers_total"] == 1
    assert world.homeserver.count("federation/destinations") == reads
    world.homeserver.left_at(LEFT + MINUTE)
    assert world.poll()["servers_total"] == 2
    assert world.homeserver.count("federation/destinations") == reads + 1


def test_after_another_drain_nothing_is_confirmed(world: World) -> None:
    """Accounts that have left may have joined again before it."""
    room = world.room("r", A)
    world.lists(A, room, ALICE)
    world.poll()
    world.homeserver.left_at(NOW)
    world.lists(A, room, ALICE)
    world.remote.take_asked()
    result = world.poll()
    assert world.remote.take_asked() == [(A, R)]
    assert result["summary"]["removed"] == 2


def test_recorded_rooms_that_synapse_no_longer_has_are_checked(world: World) -> None:
    world.record = Record(
        {R: RecordedRoom({A: RecordedResult()}, {ALICE}), Q: RecordedRoom({B: RecordedResult()}, set(), {BOB})}
    )
    world.room("r", C)
    world.homeserver.destinations = {"d.example": [R]}
    result = world.poll()
    assert world.remote.take_asked() == [(A, R), (B, Q), (C, R), ("d.example", R)]
    assert result["servers_total"] == 4


def test_a_lost_record_is_created_again(world: World) -> None:
    room = world.room("r", A)
    world.lists(A, room, ALICE)
    world.poll()
    del world.homeserver.account_data[next(key for key in world.homeserver.account_data if key[1] == KIND)]
    world.remote.take_asked()
    result = world.poll()
    assert world.remote.take_asked() == [(A, R)]
    assert result["summary"]["confirmed"] == 1


def test_rooms_that_synapse_cannot_read(world: World) -> None:
    recorded = world.room("r", A)
    world.record = Record({recorded: RecordedRoom({A: RecordedResult()}, {ALICE})})
    world.room("q", B)
    world.room("ok", C)
    world.homeserver.faults = {f"GET state {each}": BROKEN for each in (R, Q)}
    for _poll in range(2):
        result = world.poll()
        assert sorted(each["server"] for each in result["servers"]) == [A, C]
        (unreadable,) = result["unreadable_rooms"]
        assert unreadable["room_id"] == Q
        assert "M_UNKNOWN" in unreadable["reason"] and len(unreadable["reason"]) <= MAX_REASON


def test_an_error_of_the_server_is_no_unreadable_room(world: World) -> None:
    world.room("r", A)
    world.homeserver.faults = {f"GET state {R}": (401, {"errcode": "M_UNKNOWN_TOKEN", "error": "gone"})}
    with pytest.raises(SynapseError, match="M_UNKNOWN_TOKEN"):
        world.start()


# A run that is killed


@pytest.mark.parametrize("killed_after", range(1, 6))
@pytest.mark.parametrize("saves", [True, False])
def test_a_run_that_is_killed_ends_in_the_same_place(
    world: World, clock: Clock, killed_after: int, saves: bool
) -> None:
    rooms = [world.room(f"r{number}", A, B) for number in range(3)]
    for room in rooms:
        world.lists(A, room, ALICE)
    world.remote.answers[B, rooms[1]] = UNREACHABLE
    world.remote.killed_after = killed_after
    world.remote.on_result = lambda: clock.sleep(SAVE_INTERVAL + 1 if saves else 0)
    with pytest.raises(Killed):
        world.poll()
    asked = world.remote.take_asked()
    world.remote.killed_after = None
    result = world.poll()
    again = world.remote.take_asked()
    assert result["summary"] == {
        **dict.fromkeys(("ghosts", "refused", "unconfirmed", "ignored"), 0),
        "servers": 2,
        "confirmed": 1,
        "unreachable": 1,
        "pairs": 6,
        "pairs_confirmed": 5,
        "removed": result["summary"]["removed"],
    }
    assert not any(world.remote.listed.values())
    assert {server: retry.tries for server, retry in world.record.retries.items()} == {B: 1}
    if saves:
        # Except for the last result, which was not written, and servers that were down.
        confirmed = [pair for pair in asked if world.remote.answers.get(pair) is None]
        assert len(set(again) & set(confirmed)) <= 1
        assert set(again) | set(asked) == {(server, room) for server in (A, B) for room in rooms}
    else:
        assert len(again) == 6


def test_the_record_is_written_now_and_then(world: World, clock: Clock) -> None:
    for number in range(10):
        world.room(f"r{number}", A)
    written: list[int] = []

    def on_result() -> None:
        clock.sleep(SAVE_INTERVAL / 2 + 0.1)
        written.append(world.homeserver.count(f"PUT client/v3/user/@op:{SERVER}/account_data/{KIND}."))

    world.remote.on_result = on_result
    world.poll()
    assert written == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_two_results_at_the_same_time(world: World) -> None:
    """Results come from many threads, while others are being counted."""
    run = GhostRun(None, lambda _result: None)  # type: ignore[arg-type]

    class Odd(PairResult):
        @property
        def state(self) -> str:  # type: ignore[override]
            run.results[Pair("x", str(len(run.results)))] = self
            return "confirmed"

    run.results[Pair(A, R)] = Odd(Pair(A, R), "confirmed", {})
    assert run.counts() == Counter(confirmed=1)


# Ignored servers


def test_ignored_servers(world: World) -> None:
    world.room("r", A, B)
    world.remote.answers[B] = UNREACHABLE
    result = world.poll(ignore=frozenset([B, "unrelated.example"]), early_exit=True)
    assert world.remote.take_asked() == [(A, R)]
    assert (result["ignored"], result["summary"]["ignored"], result["ended_early"]) == ([B], 1, True)
    assert result["summary"]["servers"] == result["servers_total"] == len(result["servers"]) == 1
    assert result["message"] == "1 of 1 remote servers confirmed; 1 ignored"
    # Only for as long as it is ignored.
    result = world.poll()
    assert world.remote.take_asked() == [(B, R)]
    assert (result["ignored"], result["summary"]["unreachable"]) == ([], 1)


# Broken rooms


def test_broken_rooms(world: World) -> None:
    world.room("r", A, B, C, membership="join")
    world.room("q", A)
    world.remote.answers[B] = UNREACHABLE
    world.remote.answers[C] = UNREACHABLE
    result = world.poll(broken_rooms={R: "500 \x1b[2J" + "x" * 1000, "!unfederated": "500"}, ignore=frozenset([C]))
    assert result["broken_rooms"] == [
        {
            "room_id": R,
            "reason": "500 \\x1b[2J" + "x" * (MAX_REASON - 8),
            "servers": [A, B],
            "not_confirmed_by": [B],
        }
    ]


def test_a_broken_room_among_many_others_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is for those that are named."""
    monkeypatch.setattr(module, "MAX_SERVERS", 1)
    for name in "abz":
        world.room(name, A)
    (broken,) = world.poll(broken_rooms={room_id("z"): "500"})["broken_rooms"]
    assert broken["room_id"] == room_id("z")


def test_broken_rooms_are_recorded(world: World) -> None:
    world.room("r", A, membership="join")
    world.poll(broken_rooms={R: "500"})
    assert [room["reason"] for room in world.poll()["broken_rooms"]] == ["500"]
    assert world.poll(broken_rooms={})["broken_rooms"] == []
    assert world.poll()["broken_rooms"] == []


# Who can kick


def test_who_can_kick_where_a_server_refuses(world: World) -> None:
    room = world.room("r", A, B)
    world.homeserver.state[room] = [
        {
            "type": "m.room.power_levels",
            "state_key": "",
            "content": {"users": {f"@someone:{B}": 50, ALICE: 100, "@gone:x.example": 100}},
        }
    ]
    world.remote.answers[A] = ("refused", "denied by a server ACL of the room")
    result = row(world.poll(), A)
    assert result["open_rooms"][0]["can_kick"] == [f"@someone:{B}"]
    assert result["text"] == (
        "a.example: refused in 1 room: denied by a server ACL of the room (can be kicked by @someone:b.example);"
        " confirmed, 0 of 1 room"
    )


def test_who_can_kick_is_read_of_a_few_rooms_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KICK_READS", 2)
    for number in range(4):
        world.remote.answers[A, world.room(f"r{number}", A, B)] = ("refused", "no")
    world.poll()
    world.homeserver.log.clear()
    world.poll()
    assert world.homeserver.count("/context/") == 2


def test_an_unreadable_room_is_no_error_when_kickers_are_read(world: World) -> None:
    room = world.room("r", A)
    world.remote.answers[A] = ("refused", "no")
    world.poll()
    world.homeserver.faults[f"GET state {room}"] = BROKEN
    assert row(world.poll(), A)["text"] == "a.example: refused in 1 room: no; confirmed, 0 of 1 room"


# Texts


@pytest.mark.parametrize("state", ["ghosts", "refused", "unreachable", "unconfirmed"])
def test_hostile_reasons_are_printable_and_bounded(world: World, state: str) -> None:
    hostile = "\x1b[2J\r\n\u202egnp\ud800 {{ 7*7 }}" + "x" * 100_000
    world.room("r", A)
    world.remote.answers[A] = (state, hostile)
    for result in (world.poll(), world.poll(checks=False)):
        found = row(result, A)
        for text in (result["message"], found["text"], found["reason"], found["open_rooms"][0]["reason"]):
            assert printable(text) == text
            assert len(text) < 6 * MAX_REASON + 200
        assert "\\x1b[2J\\r\\n\\u202egnp\\ud800 {{ 7*7 }}xxx" in found["text"]
    assert len(world.recorded(A).reason) == MAX_REASON


def test_names_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    number = MAX_SERVERS + 10
    servers = {
        f"s{each:04}.example": RecordedResult("refused", 1, 0, 0, "\u202e" * MAX_REASON) for each in range(number)
    }
    world.record = Record({R: RecordedRoom(servers, {ALICE}, set(), "500")}, merged_for=LEFT)
    result = world.poll(checks=False, ignore=frozenset(list(servers)[:5]))
    assert len(result["servers"]) == MAX_SERVERS and result["servers_total"] == number - 5
    (broken,) = result["broken_rooms"]
    assert len(broken["servers"]) == len(broken["not_confirmed_by"]) == MAX_NAMES
    assert len(result["ignored"]) == 5


def test_the_message(world: World) -> None:
    for number, state in enumerate(SEVERITY):
        for each in range(number + 1):
            server = f"{state}{each}.example"
            world.remote.answers[server] = ("" if state == "confirmed" else state, "")
            world.room(f"{state}{each}", server)
    assert world.poll()["message"] == (
        "5 of 15 remote servers confirmed; 2 refused; 3 unreachable; 4 unconfirmed; 1 with ghosts; the propagation"
        " period ends 2026-11-30 05:40:00 UTC"
    )


def test_progress(world: World, tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "progress"
    world.room("r", A, B)
    world.remote.answers[B] = UNREACHABLE
    shown: list[Json] = []

    def on_result() -> None:
        shown.append(json.loads(path.read_text()))
        clock.sleep(10)

    world.remote.on_result = on_result
    world.poll(progress_path=str(path))
    counts = [{key: each[key] for key in ("pairs", *STATES)} for each in shown]
    assert counts[0] == {"pairs": 2, **dict.fromkeys(STATES, 0)}
    assert counts[1] == {**counts[0], "confirmed": 1, "unreachable": 1}
    assert not path.exists()


def test_the_progress_is_removed_when_the_run_fails(world: World, tmp_path: Path) -> None:
    world.room("r", A)
    world.remote.killed_after = 1
    with pytest.raises(Killed):
        world.poll(progress_path=str(tmp_path / "progress"))
    assert list(tmp_path.iterdir()) == []


def test_removals_before_an_error_are_counted(world: World) -> None:
    world.lists(A, world.room("r", A), ALICE)
    world.remote.killed_after = 1
    propagation = world.start()
    with pytest.raises(Killed):
        propagation.check(world.remote)  # type: ignore[arg-type]
    assert propagation.removed == 1
