# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import datetime
import json
from typing import Any, Callable, Collection, Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils import _anchors, _propagation, _state
from ansible_collections.matrixops.synapse.plugins.module_utils._client import SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._destinations import (
    Destination,
    Known,
    Ledger,
    Open,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._propagation import Options, Poll, State, message
from ansible_collections.matrixops.synapse.plugins.module_utils._sender import Sender
from ansible_collections.matrixops.synapse.tests.unit.helpers import NOW, OPERATOR, SERVER, Json, room_id

A, B = f"@a:{SERVER}", f"@b:{SERVER}"
R1, R2, R3 = (room_id(f"r{number}") for number in (1, 2, 3))
PERIOD = 100_000
SETTLING = 60
SINCE = 50
WAITING: Json = {"since": SINCE, "wave": NOW, "rejoined": {R1: SINCE, R2: SINCE, R3: SINCE}}


class World:
    """A homeserver by what the module sees of it, and a clock. It is also the client.

    I(seen_late) are destinations that are open, but are noticed only by a look at everything. I(unseen) are rooms that
    the statistics don't have. I(received) says when the newest event of a room came, if that was not long ago, and
    I(members) who of other servers is in one. I(purged) are rooms that the server does not have. I(stuck) are rooms
    that can't be left, I(unjoinable) such that can't be joined. I(dies) is raised instead of leaving them. Leaves and
    joins of anchors are sent at once, unless not I(sends). The anchors have joined all rooms once more.
    """

    user_id = OPERATOR
    server_name = SERVER

    def __init__(self) -> None:
        self.now = NOW
        self.account_data: dict[str, str] = {}
        self.writes: list[str] = []
        self.record = _anchors.Record({A: [R1], B: [R2]})
        self.lost: dict[str, _anchors.Loss] = {}
        self.position = 100
        self.delivered = 3
        self.open: dict[str, Open] = {}
        self.seen_late: dict[str, Open] = {}
        self.looks: list[Json] = []
        self.releases: list[Json] = []
        self.unseen: set[str] = set()
        self.received: dict[str, float] = {}
        self.members: dict[str, list[str]] = {}
        self.purged: set[str] = set()
        self.sends = True
        self.stuck: set[str] = set()
        self.dies: SynapseError | None = None
        self.aborts: SynapseError | None = None
        self.nudged: list[list[str]] = []
        self.rejoins: list[tuple[list[str], str]] = []
        self.unjoinable: dict[str, SynapseError] = {}
        self.wakings = 0
        self.back_off: set[str] = set()
        self.resets_fail: SynapseError | None = None
        self.begin()

    def begin(self) -> None:
        self.keep(_state.ACCOUNT_DATA_TYPE, milestones={"started": NOW - 500, "first_wave_ended": NOW})
        self.keep(_state.PROPAGATION_TYPE, **recorded(**WAITING))

    def keep(self, kind: str, **content: Any) -> None:
        self.account_data[kind] = json.dumps({"server_name": SERVER, **content})

    @property
    def state(self) -> Json:
        found: Json = json.loads(self.account_data[_state.PROPAGATION_TYPE])
        return found

    @property
    def milestones(self) -> Json:
        found: Json = json.loads(self.account_data[_state.ACCOUNT_DATA_TYPE])["milestones"]
        return found

    def behind(self, name: str, *rooms: str, state: str = "pending", reason: str | None = None, **more: Any) -> None:
        """A destination that is in all rooms, and behind in these."""
        shared = frozenset(self.record.rooms.union(rooms))
        self.open[name] = Open(name, state, sorted(rooms), reason, shared=shared, **more)

    def unreachable(self, name: str, *rooms: str, failing_since: int = NOW - 600) -> None:
        self.behind(name, *rooms, state="unreachable", failing_since=failing_since, next_retry=NOW + 600)

    def told(self, *names: str) -> None:
        for name in names:
            del self.open[name]

    # The client

    def time(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self.now, datetime.timezone.utc)

    def get(self, _path: str, user_id: str, kind: str) -> Json:
        assert user_id == OPERATOR
        if kind not in self.account_data:
            raise SynapseError("nothing", method="GET", url="/", status=404)
        found: Json = json.loads(self.account_data[kind])
        return found

    def put(self, _path: str, user_id: str, kind: str, json: Json) -> None:
        assert user_id == OPERATOR
        self.writes.append(kind)
        self.keep(kind, **json)

    # What is done with it

    def read_ledger(self, _client: Any, _concurrency: int, **options: Any) -> Ledger:
        self.looks.append(options)
        known = options.get("known")
        everything = options.get("everything", False) or known is None
        found = {**self.open, **(self.seen_late if everything else {})}
        ledger = Ledger(self.delivered, 0, copy.deepcopy(found), self.position)
        ledger.held = frozenset(self.record.rooms - self.unseen)
        ledger.known = Known(memberships=len(self.record.rooms), position=self.position).as_json("scope")
        return ledger

    def newest_received(self, _client: Any, room: str) -> float:
        if room in self.purged:
            raise SynapseError("no such room", method="GET", url="/", status=404)
        return self.received.get(room, NOW - 10_000)

    def other_servers(self, _client: Any, room: str) -> set[str]:
        return {user_id.partition(":")[2] for user_id in self.members.get(room, [])}

    def read_anchors(self, _client: Any, _concurrency: int) -> _anchors.Anchors:
        record = copy.deepcopy(self.record)
        return _anchors.Anchors(record, record, lost=dict(self.lost))

    def release(
        self, _client: Any, room_ids: Collection[str] | None, options: _anchors.Options, *, dry_run: bool = False
    ) -> _anchors.Anchors:
        self.releases.append({"rooms": room_ids, "state": self.state, "dry_run": dry_run, "options": options})
        if self.dies is not None:
            raise self.dies
        before = copy.deepcopy(self.record)
        record = copy.deepcopy(self.record)
        result = _anchors.Anchors(record, before, aborted=self.aborts)
        for user_id, rooms in before.anchors.items():
            for room in rooms:
                if room_ids is not None and room not in room_ids:
                    continue
                if room in self.stuck:
                    result.failed.append((user_id, room, "banned"))
                else:
                    record.anchors[user_id].remove(room)
                    result.released.append(room)
            if not record.anchors[user_id]:
                del record.anchors[user_id]
                result.closed.append(user_id)
        if not dry_run:
            self.record = copy.deepcopy(record)
            self.position += self.sends and bool(result.released)
        return result

    def in_back_off(self, _client: Any, names: Collection[str]) -> list[Destination]:
        return [Destination(name, 1, 1, 2, 3) for name in sorted(names) if name in self.back_off]

    def reset_all(self, _client: Any, rows: list[Destination], rate: int) -> Iterator[tuple[Destination, bool]]:
        assert rate == _propagation.RATE
        self.nudged.append([row.name for row in rows])
        for row in rows:
            if self.resets_fail is not None:
                raise self.resets_fail
            yield row, True

    def rejoin(
        self,
        _client: Any,
        record: _anchors.Record,
        room_ids: Collection[str],
        reason: str,
        _concurrency: int,
        sender: Sender | None = None,
    ) -> dict[str, SynapseError | None]:
        assert record.rooms.issuperset(room_ids)
        # Those that tell of the first wave are seen off.
        assert (sender is not None) is reason.startswith("All others have left")
        self.rejoins.append((sorted(room_ids), reason))
        outcome = {room_id: self.unjoinable.get(room_id) for room_id in room_ids}
        if None in outcome.values():
            self.position += self.sends
            self.received.update((room_id, self.now) for room_id, error in outcome.items() if error is None)
        return outcome

    def wake(self, _client: Any) -> None:
        self.wakings += 1

    def poll(self, later: int = 0, *, everything: bool = False, dry_run: bool = False, **options: Any) -> Poll:
        """Let so many seconds pass, and poll."""
        self.now += later
        chosen = {"period": PERIOD, "settling": SETTLING, "nudge": 0, **options}
        client: Any = self
        return _propagation.poll(client, Options(**chosen), everything=everything, dry_run=dry_run)

    def begun(self, *, dry_run: bool = False) -> bool:
        client: Any = self
        return _propagation.begin(client, 2, dry_run=dry_run)


def recorded(**state: Any) -> Json:
    """What is recorded of such a state."""
    content = dict(State(**state).__dict__)
    del content["recorded"]
    return content


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(_propagation, "read_ledger", world.read_ledger)
    monkeypatch.setattr(_propagation, "newest_received", world.newest_received)
    monkeypatch.setattr(_propagation, "other_servers", world.other_servers)
    monkeypatch.setattr(_propagation, "in_back_off", world.in_back_off)
    monkeypatch.setattr(_propagation, "reset_all", world.reset_all)
    monkeypatch.setattr(_anchors, "read", world.read_anchors)
    monkeypatch.setattr(_anchors, "release", world.release)
    monkeypatch.setattr(_anchors, "rejoin", world.rejoin)
    monkeypatch.setattr(_propagation, "wake", world.wake)
    return world


class TestBegin:
    def test_the_position_before_anybody_leaves_is_noted_once(self, world: World) -> None:
        del world.account_data[_state.PROPAGATION_TYPE]
        assert world.begun() is True
        assert world.state == {**recorded(since=100), "server_name": SERVER}
        assert world.looks == [{"look_for_others": False}]
        world.position = 200
        assert world.begun() is False
        assert world.state["since"] == 100 and len(world.writes) == 1

    def test_what_only_reads(self, world: World) -> None:
        del world.account_data[_state.PROPAGATION_TYPE]
        assert world.begun(dry_run=True) is True
        assert world.writes == []

    def test_a_server_that_has_sent_nothing_yet(self, world: World) -> None:
        del world.account_data[_state.PROPAGATION_TYPE]
        world.position = 0
        assert world.begun() is True
        assert world.begun() is False
        assert world.state["since"] == 1


class TestRelease:
    def test_when_all_was_told_for_long_enough(self, world: World) -> None:
        first = world.poll()
        assert (first.released, first.closed, first.waiting) == ([], [], {})
        assert first.anchored == {R1: A, R2: B}
        assert world.poll(SETTLING - 1).released == []
        last = world.poll(1)
        assert (last.released, last.closed, last.anchored) == ([R1, R2], [A, B], {})
        assert last.changed and not last.finished
        (release,) = world.releases
        assert sorted(release["rooms"]) == [R1, R2]

    @pytest.mark.parametrize("settling", [0, 1, SETTLING])
    def test_never_by_the_first_poll(self, world: World, settling: int) -> None:
        world.now += 5_000
        assert world.poll(settling=settling).released == []
        assert world.poll(0, settling=settling).released == []
        assert world.releases == []
        assert world.poll(max(settling, 1), settling=settling).released == [R1, R2]

    def test_room_by_room(self, world: World) -> None:
        world.behind("x.net", R1)
        world.poll()
        poll = world.poll(SETTLING)
        assert (poll.released, poll.closed, poll.anchored) == ([R2], [B], {R1: A})
        assert poll.waiting == {R1: ["x.net"]}
        assert world.state["waiting"] == {R1: ["x.net"]}
        world.told("x.net")
        # What was told before counts for nothing.
        assert world.poll(10 * SETTLING).released == []
        assert world.poll(SETTLING).released == [R1]

    def test_told_in_every_poll(self, world: World) -> None:
        world.poll()
        world.behind("x.net", R1)
        world.poll(SETTLING // 2)
        world.told("x.net")
        assert world.poll(SETTLING // 2).released == [R2]
        assert world.poll(SETTLING - 1).released == []
        assert world.poll(1).released == [R1]

    def test_when_more_was_sent_meanwhile_it_settles_anew(self, world: World) -> None:
        world.poll()
        world.position += 1
        assert world.poll(SETTLING).released == []
        assert world.poll(SETTLING - 1).released == []
        assert world.poll(1).released == [R1, R2]

    def test_what_the_anchors_leaves_move_does_not_keep_others(self, world: World) -> None:
        world.behind("x.net", R1)
        world.poll()
        assert world.poll(SETTLING).released == [R2]
        world.told("x.net")
        assert world.position == 101 and world.poll(1).released == []
        assert world.state["told"] == {R1: world.now}
        assert world.poll(SETTLING).released == [R1]

    def test_what_they_move_counts_for_one_poll(self, world: World) -> None:
        world.record.anchors[A].append(R3)
        world.behind("x.net", R1)
        world.poll()
        world.stuck = {R3}
        assert world.poll(SETTLING).released == [R2]
        world.poll(1)
        # It is not restarted by what was sent for them, but by what comes later.
        assert world.state["told"] == {R3: NOW}
        world.position += 1
        world.poll(1)
        assert world.state["told"] == {R3: world.now}

    def test_after_it_everything_is_looked_at(self, world: World) -> None:
        world.behind("x.net", R1)
        world.poll()
        world.poll(SETTLING)
        world.behind("y.net", R1)
        world.seen_late = {"y.net": world.open.pop("y.net")}
        del world.looks[:]
        assert world.poll(1).waiting == {R1: ["x.net", "y.net"]}
        assert world.poll(1).waiting == {R1: ["x.net"]}
        assert [look["everything"] for look in world.looks] == [True, False]

    def test_a_room_that_the_statistics_do_not_have_is_kept_until_the_end(self, world: World) -> None:
        world.unseen = {R1}
        assert world.poll().waiting == {R1: ["?"]}
        assert world.poll(SETTLING).released == [R2]
        assert world.state["waiting"] == {R1: ["?"]}
        assert world.poll(PERIOD - SETTLING - 1).released == []
        assert world.poll(1).released == [R1]

    def test_once_the_statistics_have_it_it_settles(self, world: World) -> None:
        world.unseen = {R1, R2}
        world.poll()
        world.unseen.clear()
        assert world.poll(10 * SETTLING).released == []
        assert world.poll(SETTLING).released == [R1, R2]

    def test_where_it_is_not_known_what_was_there_before_all_are_kept_until_the_end(self, world: World) -> None:
        world.keep(_state.PROPAGATION_TYPE, **recorded())
        for _poll in range(3):
            assert world.poll(PERIOD // 4).released == []
        assert (world.state["told"], world.state["since"]) == ({}, 0)
        assert world.poll(PERIOD // 4).released == [R1, R2]

    def test_all_is_looked_at_afresh_before(self, world: World) -> None:
        world.poll()
        del world.looks[:]
        world.poll(SETTLING)
        assert [look["everything"] for look in world.looks] == [False, True]

    def test_if_the_fresh_look_disagrees_nothing_is_released(self, world: World) -> None:
        world.poll()
        world.behind("x.net", R1)
        world.seen_late = {"x.net": world.open.pop("x.net")}
        poll = world.poll(SETTLING)
        assert (poll.released, poll.waiting) == ([R2], {R1: ["x.net"]})
        world.seen_late.clear()
        assert world.poll(SETTLING).released == []
        assert world.poll(SETTLING).released == [R1]

    def test_if_the_fresh_look_sees_that_more_was_sent_nothing_is_released(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.poll()

        def read_ledger(*arguments: Any, **options: Any) -> Ledger:
            world.position += options["everything"]
            return world.read_ledger(*arguments, **options)

        monkeypatch.setattr(_propagation, "read_ledger", read_ledger)
        assert world.poll(SETTLING).released == []
        assert world.releases == []

    @pytest.mark.parametrize("everything", [True, False])
    def test_a_look_at_everything_is_taken_once(self, world: World, everything: bool) -> None:
        world.poll()
        del world.looks[:]
        assert world.poll(SETTLING, everything=everything).released == [R1, R2]
        assert len(world.looks) == (1 if everything else 2)

    def test_what_is_asked_of_the_ledger(self, world: World) -> None:
        world.record.alone = {R2, R3}
        world.behind("x.net", R1)
        anchors = _anchors.Options(ignore=frozenset(["twin.example"]), concurrency=3)
        world.poll(anchors=anchors)
        (first,) = world.looks
        assert first["known"] is None
        assert (first["since"], first["sent_after"], first["silent"]) == (SINCE, {R1: SINCE}, {R2})
        assert first["ignore"] == {"twin.example"}
        world.poll(SETTLING, anchors=anchors)
        assert world.looks[-1]["known"]["position"] == 100
        assert world.releases[0]["options"] is anchors
        # Of what has no anchor any more, nothing is asked.
        world.poll(1, anchors=anchors)
        assert (world.looks[-1]["sent_after"], world.looks[-1]["silent"]) == ({R1: SINCE}, set())

    def test_a_room_is_left_when_it_is_quiet(self, world: World) -> None:
        """Who has not got what was last said in it would drop the leave."""
        world.poll()
        world.received[R1] = NOW + 20
        assert world.poll(SETTLING).released == [R2]
        assert world.state["restless"] == {R1: NOW + SETTLING}
        assert world.poll(20 - 1).released == []
        assert world.poll(1).released == [R1]
        assert world.state["restless"] == {}

    def test_so_it_is_when_the_period_is_over(self, world: World) -> None:
        world.behind("x.net", R1, R2)
        world.received[R1] = NOW + PERIOD - 10.5
        poll = world.poll(PERIOD)
        assert (poll.released, poll.anchored, poll.second_wave_ended) == ([R2], {R1: A}, None)
        assert poll.next_poll == Options(PERIOD).pause
        poll = world.poll(SETTLING)
        assert (poll.released, poll.anchored) == ([R1], {})
        assert poll.second_wave_ended == NOW + PERIOD + SETTLING

    def test_a_room_that_is_never_quiet(self, world: World) -> None:
        """Whatever comes next tells of the leave as well."""
        world.poll()
        for later in (SETTLING, 300, 599):
            world.received[R1] = world.now + later
            assert R1 not in world.poll(later).released
        world.received[R1] = world.now + 1
        assert world.poll(1).released == [R1]

    def test_a_room_that_was_purged(self, world: World) -> None:
        world.purged = {R1}
        world.poll()
        assert world.poll(SETTLING).released == [R1, R2]

    def test_servers_that_retire_together_leave_one_after_the_other(self, world: World) -> None:
        anchors = _anchors.Options(ignore=frozenset(["before.example", "zz.example"]))
        assert "before.example" < SERVER < "zz.example"
        world.members = {R1: ["@op:before.example"], R2: ["@op:zz.example", "@a:another.example"]}
        for room in (R1, R2):
            world.received[room] = NOW
        world.poll(anchors=anchors)
        assert world.poll(SETTLING, anchors=anchors).released == [R2]
        del world.members[R1]
        world.received[R1] = NOW + SETTLING
        assert world.poll(SETTLING - 1, anchors=anchors).released == []
        assert world.poll(1, anchors=anchors).released == [R1]

    def test_one_before_us_that_does_not_leave(self, world: World) -> None:
        anchors = _anchors.Options(ignore=frozenset(["before.example"]))
        world.members[R1] = ["@op:before.example"]
        world.received[R1] = NOW
        world.poll(anchors=anchors)
        assert world.poll(899, anchors=anchors).released == [R2]
        assert world.poll(1, anchors=anchors).released == [R1]

    def test_what_can_not_be_left_is_tried_again(self, world: World) -> None:
        world.stuck = {R1}
        world.poll()
        poll = world.poll(SETTLING)
        assert (poll.released, poll.failed, poll.anchored) == ([R2], [(A, R1, "banned")], {R1: A})
        assert not poll.finished and poll.next_poll == 30
        world.stuck.clear()
        assert world.poll(1).released == [R1]

    def test_where_the_ledger_was_before_is_recorded_first(self, world: World) -> None:
        world.behind("x.net", R1)
        world.poll()
        world.poll(SETTLING)
        assert world.releases[0]["state"]["released"] == 100
        assert (world.state["told"], world.state["released"], world.state["acted"]) == ({}, 100, True)
        world.told("x.net")
        world.poll(1)
        assert (world.state["released"], world.state["acted"]) == (100, False)
        # It is about the last time.
        assert world.poll(SETTLING).released == [R1]
        assert world.releases[1]["state"]["released"] == world.state["released"] == 101

    @pytest.mark.parametrize("how", ["dies", "aborts"])
    @pytest.mark.parametrize("left", [[], [R1]])
    def test_killed_in_the_middle(self, world: World, how: str, left: list[str]) -> None:
        world.poll()
        error = SynapseError("gone")
        setattr(world, how, error)
        world.stuck = {R1, R2}.difference(left)
        with pytest.raises(SynapseError, match="gone"):
            world.poll(SETTLING)
        setattr(world, how, None)
        world.stuck.clear()
        assert world.state["released"] == 100
        if how == "dies" or not left:
            assert world.poll(1).released == [R1, R2]
            return
        # Nobody noted that it was they who moved the position.
        assert world.poll(1).released == []
        assert world.poll(SETTLING).released == [R2]

    def test_what_only_reads(self, world: World) -> None:
        assert world.poll(dry_run=True).released == []
        assert world.writes == []
        world.poll()
        before, record = dict(world.account_data), copy.deepcopy(world.record)
        del world.writes[:]
        poll = world.poll(SETTLING, dry_run=True)
        assert (poll.released, poll.changed) == ([R1, R2], True)
        assert [release["dry_run"] for release in world.releases] == [True]
        poll = world.poll(PERIOD, dry_run=True)
        assert (sorted(poll.released), poll.second_wave_ended, poll.finished) == ([R1, R2], None, False)
        # They are still there, since nothing was done.
        assert poll.anchored == {R1: A, R2: B}
        assert (world.writes, world.account_data, world.record) == ([], before, record)


class TestEnd:
    def test_all_are_released_whatever_the_ledger_says(self, world: World) -> None:
        world.behind("x.net", R1, R2)
        world.unreachable("y.net", R1)
        world.poll()
        assert world.poll(PERIOD - 1).released == []
        poll = world.poll(1)
        assert (poll.released, poll.closed, poll.anchored, poll.waiting) == ([R1, R2], [A, B], {}, {})
        assert world.releases[0]["rooms"] is None
        assert world.milestones["second_wave_ended"] == NOW + PERIOD
        assert not poll.finished and not poll.early

    def test_it_counts_from_when_the_first_wave_ended(self, world: World) -> None:
        world.behind("x.net", R1, R2)
        poll = world.poll(7)
        assert (poll.now, poll.ends) == (NOW + 7, NOW + PERIOD)
        world.keep(_state.ACCOUNT_DATA_TYPE, milestones={"first_wave_ended": NOW - PERIOD})
        world.keep(_state.PROPAGATION_TYPE, **recorded(**{**WAITING, "wave": NOW - PERIOD}))
        poll = world.poll()
        assert poll.ends == NOW and poll.released == [R1, R2]

    def test_anchors_without_rooms_are_closed_too(self, world: World) -> None:
        world.record = _anchors.Record({A: []})
        poll = world.poll(PERIOD)
        assert (poll.released, poll.closed, poll.changed) == ([], [A], True)

    def test_closing_them_sends_nothing(self, world: World) -> None:
        world.poll(PERIOD)
        world.record = _anchors.Record({A: []})
        poll = world.poll(1)
        assert (poll.released, poll.closed) == ([], [A])
        assert world.state["released"] == 100 and world.position == 101
        assert world.poll(1).finished is False
        assert world.poll(SETTLING).finished

    def test_nobody_was_anchored(self, world: World) -> None:
        world.record = _anchors.Record()
        poll = world.poll(PERIOD)
        assert world.releases == []
        assert poll.changed and world.milestones["second_wave_ended"] == NOW + PERIOD
        poll = world.poll(SETTLING)
        assert poll.finished and poll.next_poll == 0

    @pytest.mark.parametrize("settling", [0, SETTLING])
    def test_finished_when_the_last_leaves_were_told_and_all_is_quiet(self, world: World, settling: int) -> None:
        assert not world.poll(PERIOD, settling=settling).finished
        world.position += 1
        world.behind("x.net", R1)
        assert not world.poll(1, settling=settling).finished
        assert not world.poll(500, settling=settling).finished
        world.told("x.net")
        world.position += 1
        assert not world.poll(1, settling=settling).finished
        assert not world.poll(max(settling, 1) - 1, settling=settling).finished
        poll = world.poll(1, settling=settling)
        assert poll.finished and not poll.early and poll.next_poll == 0
        assert world.looks[-1]["everything"] is True

    def test_not_by_the_poll_that_released(self, world: World) -> None:
        poll = world.poll(PERIOD, last_leaves=0)
        assert poll.released and not poll.finished
        assert world.poll(last_leaves=0).finished

    def test_where_there_is_nobody_to_be_told(self, world: World) -> None:
        world.record, world.delivered = _anchors.Record(), 0
        assert world.poll(PERIOD).finished

    @pytest.mark.parametrize(
        ("state", "reason", "waits"),
        [
            ("pending", None, True),
            ("unknown", "never_sent_to", True),
            ("unknown", "never_taken", True),
            ("unknown", "not_queued", True),
            ("unknown", "left", False),
            ("unknown", "barred", False),
            ("unknown", "purged", False),
            ("unreachable", None, False),
            ("unreachable", "not_queued", False),
        ],
    )
    def test_who_is_waited_for_at_the_end(self, world: World, state: str, reason: str | None, waits: bool) -> None:
        world.poll(PERIOD)
        world.behind("x.net", R1, state=state, reason=reason)
        assert not world.poll(1).finished
        assert world.poll(SETTLING).finished is not waits
        assert not waits or not world.poll(900 - SETTLING - 2).finished
        assert world.poll(1).finished

    @pytest.mark.parametrize("last_leaves", [100, 900])
    def test_not_before_the_last_leaves_were_to_be_sent(self, world: World, last_leaves: int) -> None:
        world.sends = False
        world.poll(PERIOD, last_leaves=last_leaves)
        for _poll in range(9):
            assert not world.poll((last_leaves - 1) // 9, last_leaves=last_leaves).finished
        assert world.poll(last_leaves // 9, last_leaves=last_leaves).finished

    def test_when_synapse_has_come_to_the_last_leaves(self, world: World) -> None:
        world.sends = False
        world.poll(PERIOD)
        assert not world.poll(5 * SETTLING).finished
        world.position += 1
        assert not world.poll(1).finished
        assert world.poll(SETTLING).finished

    def test_for_how_long_it_waits_for_the_last_leaves(self, world: World) -> None:
        world.poll(PERIOD)
        world.behind("x.net", R1)
        assert not world.poll(99, last_leaves=100).finished
        assert world.poll(1, last_leaves=100).finished

    def test_what_never_gets_quiet_comes_to_an_end(self, world: World) -> None:
        world.poll(PERIOD)
        for _poll in range(90):
            world.position += 1
            poll = world.poll(10)
        assert poll.finished

    def test_not_finished_with_failures(self, world: World) -> None:
        world.stuck = {R1}
        for _poll in range(3):
            poll = world.poll(PERIOD)
            assert poll.failed == [(A, R1, "banned")]
            assert not poll.finished and poll.next_poll == 30
            assert poll.second_wave_ended is None and "second_wave_ended" not in world.milestones
        world.stuck.clear()
        poll = world.poll(1)
        assert poll.second_wave_ended == world.now and not poll.finished
        assert not world.poll(1).finished
        assert world.poll(SETTLING).finished

    def test_not_finished_while_one_can_not_be_closed(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.record = _anchors.Record({A: []})

        def release(*_arguments: Any, **_options: Any) -> _anchors.Anchors:
            return _anchors.Anchors(world.record, world.record, failed=[(A, None, "no")])

        monkeypatch.setattr(_anchors, "release", release)
        poll = world.poll(PERIOD)
        assert (poll.failed, poll.second_wave_ended, poll.finished) == ([(A, None, "no")], None, False)
        assert not world.poll(PERIOD).finished

    def test_second_wave_ended_is_noted_once(self, world: World) -> None:
        world.poll(PERIOD)
        assert world.poll(SETTLING).second_wave_ended == NOW + PERIOD
        assert world.writes.count(_state.ACCOUNT_DATA_TYPE) == 1
        assert world.milestones["started"] == NOW - 500

    def test_what_ended_before_the_wave_is_of_another(self, world: World) -> None:
        wave = {"first_wave_ended": NOW, "second_wave_ended": NOW - 1}
        world.keep(_state.ACCOUNT_DATA_TYPE, milestones=wave)
        assert world.poll().second_wave_ended is None
        assert world.poll(PERIOD).second_wave_ended == NOW + PERIOD
        assert world.milestones == {"first_wave_ended": NOW, "second_wave_ended": NOW + PERIOD}

    def test_once_finished_nothing_changes_any_more(self, world: World) -> None:
        world.poll(PERIOD)
        world.poll(1)
        assert world.poll(SETTLING).finished
        del world.writes[:]
        poll = world.poll(SETTLING)
        assert poll.finished and not poll.changed
        assert world.writes == []


class TestEarlyExit:
    def test_when_only_those_that_can_not_be_reached_are_left(self, world: World) -> None:
        world.unreachable("x.net", R1)
        world.open["x.net"].shared = frozenset([R1])
        assert not world.poll(early_exit=True).early
        poll = world.poll(SETTLING, early_exit=True)
        # First those whose servers have all been told.
        assert (poll.released, poll.early) == ([R2], False)
        assert not world.poll(1, early_exit=True).early
        assert not world.poll(SETTLING - 1, early_exit=True).early
        del world.looks[:]
        poll = world.poll(1, early_exit=True)
        assert (poll.released, poll.early, poll.finished) == ([R1], True, False)
        assert world.releases[-1]["rooms"] is None
        assert world.looks[-1]["everything"] is True
        assert world.milestones["second_wave_ended"] == world.now < poll.ends
        assert not world.poll(1, early_exit=True).finished
        assert not world.poll(SETTLING - 1, early_exit=True).finished
        poll = world.poll(1, early_exit=True)
        assert poll.finished and poll.early

    def test_not_unless_it_is_wanted(self, world: World) -> None:
        world.unreachable("x.net", R1, R2)
        world.poll()
        poll = world.poll(PERIOD - 1)
        assert not poll.early and poll.released == []

    @pytest.mark.parametrize(("state", "reason"), [("pending", None), ("unknown", "left"), ("unknown", "not_queued")])
    def test_not_while_somebody_may_be_told_yet(self, world: World, state: str, reason: str | None) -> None:
        world.unreachable("x.net", R1, R2)
        world.behind("y.net", room_id("elsewhere"), state=state, reason=reason)
        world.poll(early_exit=True)
        assert not world.poll(PERIOD - 1, early_exit=True).early
        assert world.releases == []

    @pytest.mark.parametrize("change", ["position", "told", "down", "rooms", "reason"])
    def test_only_when_nothing_has_changed(self, world: World, change: str) -> None:
        world.unreachable("x.net", R1, R2)
        world.poll(early_exit=True)
        world.now += SETTLING
        if change == "position":
            world.position += 1
        elif change == "told":
            world.delivered += 1
        elif change == "down":
            world.unreachable("y.net", R1)
        elif change == "rooms":
            world.unreachable("x.net", R1, R2, R3)
        else:
            world.open["x.net"].reason = "never_taken"
        assert not world.poll(early_exit=True).early
        assert world.poll(SETTLING, early_exit=True).early

    def test_not_before_the_leaves_of_anchors_were_to_be_sent(self, world: World) -> None:
        world.unreachable("x.net", R1)
        world.open["x.net"].shared = frozenset([R1])
        world.sends = False
        world.poll(early_exit=True)
        assert world.poll(SETTLING, early_exit=True).released == [R2]
        for _poll in range(3):
            assert not world.poll(SETTLING, early_exit=True).early
        world.position += 1
        assert not world.poll(SETTLING, early_exit=True).early
        assert world.poll(SETTLING, early_exit=True).early

    def test_not_where_it_is_not_known_what_was_there_before(self, world: World) -> None:
        world.keep(_state.PROPAGATION_TYPE, **recorded())
        world.unreachable("x.net", R1, R2)
        for _poll in range(3):
            assert not world.poll(SETTLING, early_exit=True).early
        assert world.releases == []

    @pytest.mark.parametrize("state", ["pending", "unreachable"])
    def test_the_end_is_not_undone(self, world: World, state: str) -> None:
        world.unreachable("x.net", R1, R2)
        world.poll(early_exit=True)
        assert world.poll(SETTLING, early_exit=True).second_wave_ended == world.now
        ended = world.now
        # The one that all have given up comes back, and another fails.
        world.behind("x.net", R1)
        world.behind("y.net", R1, state=state)
        poll = world.poll(100, early_exit=True, last_leaves=900)
        assert (poll.early, poll.finished, poll.second_wave_ended) == (True, False, ended)
        assert poll.next_poll == 30 and world.looks[-1]["everything"] is True
        assert world.poll(800, early_exit=True, last_leaves=900).finished

    def test_not_with_rooms_that_the_statistics_do_not_have(self, world: World) -> None:
        world.unseen = {R1}
        world.poll(early_exit=True)
        assert world.poll(SETTLING, early_exit=True).released == [R2]
        for _poll in range(3):
            poll = world.poll(10 * SETTLING, early_exit=True)
            assert (poll.early, poll.anchored, poll.waiting) == (False, {R1: A}, {R1: ["?"]})
        assert world.poll(PERIOD, early_exit=True).released == [R1]

    def test_who_wants_none_any_more_waits(self, world: World) -> None:
        world.unreachable("x.net", R1, R2)
        world.poll(early_exit=True)
        assert world.poll(SETTLING, early_exit=True).early
        poll = world.poll(PERIOD // 2)
        assert not poll.early and not poll.finished
        assert world.poll(PERIOD // 2).finished

    def test_the_end_of_another_wave_is_none(self, world: World) -> None:
        wave = {"first_wave_ended": NOW, "second_wave_ended": NOW - 1}
        world.keep(_state.ACCOUNT_DATA_TYPE, milestones=wave)
        world.unreachable("x.net", R1, R2)
        assert not world.poll(early_exit=True).early
        assert world.releases == []

    def test_if_the_fresh_look_disagrees_it_goes_on(self, world: World) -> None:
        world.unreachable("x.net", R1, R2)
        world.poll(early_exit=True)
        world.behind("y.net", R1)
        world.seen_late = {"y.net": world.open.pop("y.net")}
        poll = world.poll(SETTLING, early_exit=True)
        assert not poll.early and world.releases == []


class TestState:
    def test_that_of_another_wave_is_forgotten(self, world: World) -> None:
        world.behind("x.net", R1)
        world.poll()
        world.poll(SETTLING)
        world.poll(1)
        assert world.state["told"] == {} and world.state["released"] == 100
        world.told("x.net")
        world.poll(1)
        assert world.state["told"] == {R1: world.now}
        world.keep(_state.ACCOUNT_DATA_TYPE, milestones={"first_wave_ended": world.now + 1})
        poll = world.poll(SETTLING + 10)
        assert poll.released == [] and world.looks[-1]["known"] is None
        assert (world.state["wave"], world.state["since"]) == (NOW + SETTLING + 3, SINCE)
        assert (world.state["released"], world.state["told"]) == (0, {})
        assert world.state["rejoined"].keys() == {R1}

    def test_without_an_end_of_the_first_wave_nothing_is_done(self, world: World) -> None:
        world.keep(_state.ACCOUNT_DATA_TYPE, milestones={"started": NOW})
        before = dict(world.account_data)
        with pytest.raises(SynapseError, match=r"^Nothing was changed: it is not recorded that all acc"):
            world.poll(PERIOD)
        assert (world.account_data, world.writes, world.releases, world.looks) == (before, [], [], [])

    @pytest.mark.parametrize(
        "wrong",
        [
            {"since": "long ago"},
            {"wave": None},
            {"released": [R1]},
            {"released": {R1: 100}},
            {"told": None},
            {"told": {R1: None}},
            {"position": []},
            {"changed": {}},
            {"nudged": "x"},
            {"server_name": "other.example"},
        ],
    )
    def test_something_else_is_a_fresh_state(self, world: World, wrong: Json) -> None:
        told = {"told": {R1: NOW - 900}, "position": 100, "wave": NOW}
        world.keep(_state.PROPAGATION_TYPE, **{**recorded(since=SINCE, **told), **wrong})
        client: Any = world
        assert State.read(client) == State()
        assert world.poll(1).released == []
        assert (world.state["told"], world.state["since"]) == ({}, 0)

    def test_of_what_is_missing(self, world: World) -> None:
        client: Any = world
        for name in recorded():
            content = recorded(since=SINCE)
            del content[name]
            world.keep(_state.PROPAGATION_TYPE, **content)
            # These are for people, or can be found out again.
            optional = name in ("waiting", "history", "restless", "rejoined")
            assert State.read(client) == State(since=SINCE if optional else 0)

    @pytest.mark.parametrize("known", [{}, {"told": ""}, {"scope": "x", "told": 7}])
    def test_what_is_known_to_another_version_is_nothing_known(self, world: World, known: Json) -> None:
        world.keep(_state.PROPAGATION_TYPE, **recorded(since=SINCE, wave=NOW, position=100, known=known))
        world.poll(1)
        assert world.looks[0]["known"] is None and world.looks[0]["since"] == SINCE

    def test_what_is_known_is_passed_on(self, world: World) -> None:
        world.behind("x.net", R1, R2)
        world.poll()
        world.poll(1)
        assert world.looks[1]["known"] == world.state["known"] != {}

    def test_what_is_the_same_is_not_written_again(self, world: World) -> None:
        world.behind("x.net", R1)
        world.unreachable("y.net", R2)
        world.poll()
        assert world.writes == [_state.PROPAGATION_TYPE]
        before = world.state
        for _poll in range(3):
            assert not world.poll(100).changed
        assert world.writes == [_state.PROPAGATION_TYPE]
        assert world.state == before
        world.unreachable("y.net", R1, R2)
        world.poll(100)
        assert len(world.writes) == 2

    def test_few_are_recorded_for_people(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_propagation, "SHOWN", 1)
        monkeypatch.setattr(_propagation, "SHOWN_EACH", 2)
        for number in range(5):
            world.behind(f"s{number}", R1, R2)
        poll = world.poll()
        assert len(poll.waiting[R2]) == 5
        assert world.state["waiting"] == {R1: ["s0", "s1"]}


class TestNudge:
    def test_at_intervals(self, world: World) -> None:
        world.unreachable("x.net", R1, R2)
        world.unreachable("y.net", R1)
        world.behind("z.net", R1)
        world.back_off = {"x.net", "y.net", "z.net"}
        poll = world.poll(nudge=1800)
        assert (poll.nudged, poll.changed) == (2, True)
        poll = world.poll(1799, nudge=1800)
        assert (poll.nudged, poll.changed) == (0, False)
        world.back_off = {"x.net"}
        assert world.poll(1, nudge=1800).nudged == 1
        assert world.nudged == [["x.net", "y.net"], ["x.net"]]

    def test_not_when_nobody_is_in_back_off(self, world: World) -> None:
        world.behind("x.net", R1, R2)
        world.poll(nudge=1800)
        assert world.nudged == []
        # That counts for no nudge.
        world.unreachable("x.net", R1, R2)
        world.back_off = {"x.net"}
        assert world.poll(1, nudge=1800).nudged == 1

    @pytest.mark.parametrize("options", [{"nudge": 0}, {"nudge": 1800, "dry_run": True}])
    def test_never(self, world: World, options: Any) -> None:
        world.unreachable("x.net", R1, R2)
        world.back_off = {"x.net"}
        for _poll in range(3):
            assert world.poll(3600, **options).nudged == 0
        assert world.nudged == []

    def test_for_the_last_leaves_but_not_when_all_is_done(self, world: World) -> None:
        world.unreachable("x.net", R1, R2)
        world.back_off = {"x.net"}
        poll = world.poll(PERIOD, nudge=10)
        assert poll.released == [R1, R2] and poll.nudged == 1
        assert world.poll(10, nudge=10).nudged == 1
        poll = world.poll(SETTLING, nudge=10)
        assert poll.finished and poll.nudged == 0

    def test_what_is_known_is_recorded_before(self, world: World) -> None:
        world.unreachable("x.net", R1, R2)
        world.back_off = {"x.net"}
        world.resets_fail = SynapseError("gone", method="POST", url="/", status=401)
        with pytest.raises(SynapseError, match="gone"):
            world.poll(5, nudge=10)
        assert (world.state["wave"], world.state["changed"]) == (NOW, NOW + 5)
        world.resets_fail = None
        assert world.poll(1, nudge=10).nudged == 1

    def test_what_fails_comes_again(self, world: World) -> None:
        world.unreachable("x.net", R1, R2)
        world.back_off = {"x.net"}
        world.resets_fail = SynapseError("busy", method="POST", url="/", status=500)
        poll = world.poll(nudge=10)
        assert (poll.nudged, poll.changed, world.state["nudged"]) == (0, False, NOW)
        world.resets_fail = None
        assert world.poll(10, nudge=10).nudged == 1


class TestOnceMore:
    """After the first wave, each anchor joins its rooms once more."""

    @pytest.fixture(autouse=True)
    def _not_yet(self, world: World) -> None:
        world.keep(_state.PROPAGATION_TYPE, **recorded(since=SINCE))

    def test_a_room_is_told_only_after_that(self, world: World) -> None:
        first = world.poll(5_000)
        assert (first.rejoined, first.changed, world.wakings) == (2, True, 1)
        assert first.waiting == {R1: ["?"], R2: ["?"]}
        assert world.looks[0]["sent_after"] == {R1: SINCE, R2: SINCE}
        assert (world.state["rejoined"], world.state["told"]) == ({R1: 100, R2: 100}, {})
        assert world.poll(SETTLING).released == []
        assert world.looks[-1]["sent_after"] == {R1: 100, R2: 100}
        second = world.poll(SETTLING)
        assert (second.rejoined, sorted(second.released), world.wakings) == (0, [R1, R2], 1)
        assert [rooms for rooms, _reason in world.rejoins] == [[R1, R2]]

    def test_not_where_the_anchor_was_alone(self, world: World) -> None:
        """Nobody has left, and who is down for long must not lack what comes before the last leave."""
        world.record.alone = {R1, R2}
        world.poll()
        assert world.poll(SETTLING).released == [R1, R2]
        assert world.rejoins == [] and world.wakings == 0

    def test_also_when_the_period_is_over(self, world: World) -> None:
        world.unreachable("x.net", R1, R2)
        poll = world.poll(PERIOD)
        assert (poll.rejoined, poll.released) == (2, [])
        assert world.poll(SETTLING - 1).released == []
        assert world.poll(1).released == [R1, R2]

    def test_also_when_it_ends_early(self, world: World) -> None:
        world.unreachable("x.net", R1, R2)
        world.unjoinable = dict.fromkeys((R1, R2), SynapseError("busy", status=500))
        for _poll in range(3):
            assert not world.poll(SETTLING, early_exit=True).early
        world.unjoinable.clear()
        assert world.poll(1, early_exit=True).rejoined == 2
        assert not world.poll(1, early_exit=True).early
        assert world.poll(SETTLING, early_exit=True).released == [R1, R2]

    @pytest.mark.parametrize("status", [400, 403, 404])
    def test_where_it_is_refused(self, world: World, status: int) -> None:
        world.unjoinable[R1] = SynapseError("no", method="POST", url="/", status=status)
        assert world.poll().rejoined == 1
        assert world.state["rejoined"] == {R1: SINCE, R2: 100}
        assert world.poll(SETTLING).rejoined == 0
        assert world.poll(SETTLING).released == [R1, R2]

    @pytest.mark.parametrize("status", [401, 429, 500, None])
    def test_where_it_fails_it_is_tried_again(self, world: World, status: int | None) -> None:
        world.unjoinable[R1] = SynapseError("no", status=status)
        assert world.poll().rejoined == 1
        assert world.state["rejoined"] == {R2: 100}
        assert world.poll(SETTLING).waiting == {R1: ["?"]}
        assert world.poll(SETTLING).released == [R2]
        assert not world.poll(PERIOD - 3 * SETTLING, early_exit=True).early
        del world.unjoinable[R1]
        assert world.poll(1).rejoined == 1
        world.poll(1)
        assert world.poll(SETTLING).released == [R1]

    def test_in_the_end_nothing_waits_for_it(self, world: World) -> None:
        world.unjoinable[R1] = SynapseError("no", status=500)
        world.poll()
        assert R1 not in world.poll(PERIOD).released
        assert R1 not in world.poll(899).released
        assert world.poll(1).released == [R1]

    def test_so_many_at_a_time(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_propagation, "BATCH", 2)
        world.record = _anchors.Record({B: [R1, R3], A: [R2]})
        poll = world.poll()
        assert (poll.rejoined, poll.next_poll) == (2, 1)
        poll = world.poll(1)
        assert (poll.rejoined, poll.next_poll) == (1, 30)
        # Who is acted as for one room is so for the next.
        assert [rooms for rooms, _reason in world.rejoins] == [[R1, R2], [R3]]

    def test_anew_after_each_wave(self, world: World) -> None:
        world.poll()
        world.keep(_state.ACCOUNT_DATA_TYPE, milestones={"first_wave_ended": NOW + 7})
        assert world.poll(8).rejoined == 2

    def test_what_only_reads(self, world: World) -> None:
        poll = world.poll(dry_run=True)
        assert (poll.rejoined, poll.changed) == (2, True)
        assert world.rejoins == world.writes == [] and world.wakings == 0


class TestRejoin:
    @pytest.fixture(autouse=True)
    def _lost(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_propagation, "_is_lost", lambda entry: entry.reason == "never_taken")

    def test_where_somebody_is_lost(self, world: World) -> None:
        world.behind("x.net", R1, state="unknown", reason="never_taken")
        world.open["x.net"].shared = frozenset([R1, R3])
        world.behind("y.net", R2)
        # Who is only just being told is not lost yet.
        assert world.poll(nudge=600).rejoined == 0
        assert world.poll(SETTLING - 1, nudge=600).rejoined == 0
        poll = world.poll(1, nudge=600)
        assert (poll.rejoined, poll.nudged, poll.changed) == (1, 0, True)
        assert world.poll(1, nudge=600).rejoined == 0
        assert world.poll(598, nudge=600).rejoined == 0
        assert world.poll(1, nudge=600).rejoined == 1
        assert [rooms for rooms, _reason in world.rejoins] == [[R1], [R1]]
        # Each time it is another event.
        assert len({reason for _rooms, reason in world.rejoins}) == 2

    @pytest.mark.parametrize("options", [{"nudge": 0}, {"nudge": 600, "dry_run": True}])
    def test_never(self, world: World, options: Any) -> None:
        world.behind("x.net", R1, R2, state="unknown", reason="never_taken")
        for _poll in range(3):
            assert world.poll(3600, **options).rejoined == 0
        assert world.rejoins == []

    def test_what_that_moves_does_not_keep_others(self, world: World) -> None:
        world.behind("x.net", R1, state="unknown", reason="never_taken")
        world.open["x.net"].shared = frozenset([R1])
        world.stuck = {R2}
        world.poll(nudge=600)
        assert world.poll(SETTLING, nudge=600).rejoined == 1
        assert world.position == 101 and world.state["acted"]
        del world.looks[:]
        world.poll(1, nudge=600)
        assert world.looks[0]["everything"] is True
        assert (world.state["told"], world.state["acted"]) == ({R2: NOW}, False)

    def test_soon_after_it_looks_again(self, world: World) -> None:
        world.behind("x.net", R1, R2, state="unknown", reason="never_taken")
        world.sends = False
        world.poll()
        assert world.poll(8 * 100, nudge=600).rejoined == 2
        assert world.poll(1).next_poll == 30
        assert world.poll(8 * 10).next_poll > 100

    def test_not_in_rooms_that_were_left(self, world: World) -> None:
        world.behind("x.net", R1, R2, state="unknown", reason="never_taken")
        world.poll(PERIOD, nudge=600)
        world.poll(SETTLING, nudge=600)
        assert world.rejoins == []


class TestPause:
    def test_short_while_rooms_settle(self, world: World) -> None:
        world.behind("x.net", R1)
        assert world.poll(settling=10_000).next_poll == 30
        assert world.poll(5_000, settling=10_000).next_poll == 30
        assert world.poll(1, settling=10_000, pause=7).next_poll == 7

    def test_short_after_a_room_was_left(self, world: World) -> None:
        world.behind("x.net", R1)
        world.poll()
        poll = world.poll(SETTLING)
        assert (poll.released, poll.next_poll) == ([R2], 30)
        assert world.poll(10_000).next_poll == 30
        assert world.poll(10_000).next_poll == 600

    def test_it_grows(self, world: World) -> None:
        world.behind("x.net", R1, R2)
        assert world.poll().next_poll == 30
        assert world.poll(240).next_poll == 30
        assert world.poll(8 * 100 - 240).next_poll == 100
        assert world.poll(8 * 500).next_poll == 600
        world.position += 1
        assert world.poll(1).next_poll == 30

    def test_one_that_is_to_be_longer(self, world: World) -> None:
        world.behind("x.net", R1, R2)
        assert world.poll(pause=1000).next_poll == 1000
        assert world.poll(50_000, pause=1000).next_poll == 1000

    @pytest.mark.parametrize("settles", [True, False])
    def test_never_beyond_the_end(self, world: World, settles: bool) -> None:
        if not settles:
            world.behind("x.net", R1, R2)
        world.poll(PERIOD - 20)
        assert world.poll(3).next_poll == 17
        assert world.poll(16).next_poll == 1

    def test_short_at_the_end(self, world: World) -> None:
        world.behind("x.net", R1, R2)
        world.poll()
        assert world.poll(PERIOD + 10).next_poll == 30
        assert world.poll(700).next_poll == 30


Told = Callable[..., str]


class TestMessage:
    @pytest.fixture
    def told(self, world: World) -> Told:
        def told(now: int = NOW, finished: bool = False, anchored: int = 0, lost: int = 0, delivered: int = 3) -> str:
            ledger = Ledger(delivered, 0, world.open)
            rooms = {room_id(str(number)): A for number in range(anchored)}
            losses = {room_id(str(number)): _anchors.Loss(A, "why") for number in range(lost)}
            return message(Poll(now, NOW + 100, ledger, rooms, {}, losses, finished=finished), "tomorrow")

        return told

    def test_all_told(self, told: Told) -> None:
        assert told() == "3 of 3 servers told; ends tomorrow"
        assert told(delivered=0) == "0 of 0 servers told; ends tomorrow"

    def test_who_is_not(self, world: World, told: Told) -> None:
        world.behind("a.net", R1)
        world.behind("b.net", R1, state="unknown", reason="left")
        world.unreachable("c.net", R1)
        assert told(delivered=1_200) == (
            "1,200 of 1,203 servers told; 1 pending; 1 unreachable; 1 unknown; ends tomorrow"
        )
        world.unreachable("d.net", R1, failing_since=NOW - 30 * 86_400 - 1)
        world.unreachable("e.net", R1, failing_since=NOW - 30 * 86_400)
        world.open["f.net"] = Open("f.net", "unreachable", [])
        assert "; 4 unreachable, 1 of them for more than 30 days; " in told()

    def test_rooms(self, told: Told) -> None:
        assert told(anchored=1) == "3 of 3 servers told; 1 room still anchored; ends tomorrow"
        assert "; 1,001 rooms still anchored; 12 have lost their anchor; " in told(anchored=1001, lost=12)

    def test_the_end(self, told: Told) -> None:
        assert told(now=NOW + 99).endswith("; ends tomorrow")
        assert told(now=NOW + 100).endswith("; the period is over, the last leaves are under way")
        assert told(now=NOW + 100, finished=True) == "3 of 3 servers told; nothing more to wait for"
        assert told(now=NOW + 99, finished=True).endswith("; nothing more to wait for")


# How it went


def test_history_has_what_changed(world: World) -> None:
    world.behind("x.net", R1)
    world.unreachable("w.net", R2)
    first = world.poll(1).history
    assert first == [[NOW + 1, 3, 1, 1, 0, 2]]
    writes = len(world.writes)
    assert world.poll(1).history == first
    assert len(world.writes) == writes + (world.writes[writes:] != [])
    world.told("x.net")
    world.delivered = 4
    assert world.poll(10).history[:2] == [*first, [NOW + 12, 4, 0, 1, 0, 2]]
    assert world.state["history"] == world.poll(dry_run=True).history


def test_history_outlives_another_first_wave(world: World) -> None:
    before = world.poll(1).history
    world.keep(_state.ACCOUNT_DATA_TYPE, milestones={"started": NOW - 500, "first_wave_ended": NOW + 5})
    assert world.poll(10).history[: len(before)] == before


@pytest.mark.parametrize("history", [7, [7], [["x"]], {"a": 1}])
def test_a_history_of_something_else(world: World, history: Any) -> None:
    world.keep(_state.PROPAGATION_TYPE, **recorded(since=SINCE, history=history))
    client: Any = world
    assert State.read(client) == State()
