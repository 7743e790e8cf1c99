# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import json
import random
from contextlib import contextmanager
from typing import Any, Callable, Iterator

import pytest
import responses
from ansible_collections.matrixops.synapse.plugins.module_utils import _sender, _state
from ansible_collections.matrixops.synapse.plugins.module_utils._anchors import (
    Anchors,
    GreedyCover,
    Loss,
    Options,
    Record,
    choose,
    read,
    rejoin,
    release,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._client import Client, SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._sender import Sender
from ansible_collections.matrixops.synapse.plugins.module_utils._users import end_sessions
from ansible_collections.matrixops.synapse.tests.unit.helpers import (
    BASE_URL,
    OPERATOR,
    SERVER,
    TOKEN,
    FederatedSimulation,
    Json,
    matrix_error,
    room_id,
    user,
)

Start = Callable[..., FederatedSimulation]

A, B, C, ROOT = (f"@{name}:{SERVER}" for name in ("a", "b", "c", "root"))
BOT = f"@bot:{SERVER}"
R1, R2, R3, R4 = (room_id(f"r{number}") for number in (1, 2, 3, 4))
LEFT_BY_ITSELF = "left by itself"


class Cleared:
    """Has a simulation shut down rooms, in which case those who are in them leave, unless I(stays)."""

    cleared: list[str]
    stays: bool

    @staticmethod
    def of(simulation: FederatedSimulation) -> Any:
        clearing: Any = simulation
        clearing.cleared, clearing.stays = [], False
        act = simulation._act

        def act_on_rooms(before: str, last: str, user_id: str) -> tuple[int, Any]:
            if clearing._method == "DELETE" and before == "rooms":
                assert clearing._body == {"purge": False, "block": False}
                clearing.cleared.append(last)
                return 200, {"delete_id": last}
            if before == "delete_status":
                for rooms in simulation.joined.values():
                    if last in rooms and not clearing.stays:
                        rooms.remove(last)
                return 200, {"status": "complete"}
            return act(before, last, user_id)

        clearing._act = act_on_rooms
        return clearing


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a server with these accounts, an operator, and who is in which rooms. All rooms but r0 are federated."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:

        def start(*users: Json, **joined: list[str]) -> FederatedSimulation:
            simulation = FederatedSimulation(mock, user("op", admin=True), *users, **joined)
            simulation.federate(*{name for names in joined.values() for name in names if name != "r0"})
            return simulation

        yield start


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setattr(_sender, "WAKING", 0.0)
    with Client(BASE_URL, TOKEN) as client:
        yield client


def chosen(client: Client, **options: Any) -> Anchors:
    return choose(client, Options(concurrency=1, **options))


def released(client: Client, *room_ids: str, **options: Any) -> Anchors:
    return release(client, room_ids or None, Options(concurrency=1, **options))


def recorded(simulation: FederatedSimulation) -> Json:
    return simulation.account_data[_state.ANCHORS_TYPE]


class TestCover:
    def run(self, **rooms_of: list[str]) -> list[tuple[str, list[str]]]:
        open_rooms = {room for rooms in rooms_of.values() for room in rooms}
        found = []
        cover = GreedyCover(rooms_of, open_rooms)
        for user_id, rooms in cover:
            open_rooms.difference_update(rooms)
            found.append((user_id, rooms))
            assert len(cover.peek(3)) <= 3
        return found

    def test_nothing(self) -> None:
        assert self.run() == []

    def test_who_is_in_most_rooms_comes_first(self) -> None:
        assert self.run(a=["1"], b=["1", "2", "3"], c=["3", "4"]) == [("b", ["1", "2", "3"]), ("c", ["4"])]

    def test_equals_go_by_name(self) -> None:
        assert self.run(b=["1"], a=["1"]) == [("a", ["1"])]
        assert self.run(a=["1"], b=["1"]) == [("a", ["1"])]

    def test_what_is_covered_counts_no_longer(self) -> None:
        assert self.run(a=["1", "2", "3"], b=["1", "2", "4"], c=["4", "5"]) == [
            ("a", ["1", "2", "3"]),
            ("c", ["4", "5"]),
        ]

    def test_who_is_not_taken_leaves_its_rooms_to_others(self) -> None:
        cover = GreedyCover({"a": ["1", "2"], "b": ["2"]}, {"1", "2"})
        assert [user_id for user_id, _rooms in cover] == ["a", "b"]

    def test_who_is_next(self) -> None:
        cover = GreedyCover({"a": ["1"], "b": ["1", "2"], "c": ["2"], "d": ["3", "4", "5"]}, {"1", "2"})
        assert cover.peek(2) == ["b", "a"]
        assert cover.peek(9) == ["b", "a", "c"]
        assert [user_id for user_id, _rooms in cover] == ["b", "a", "c"]

    def test_many(self) -> None:
        chance = random.Random(7)
        rooms_of = {f"u{n:04}": sorted({f"{chance.randrange(500)}" for _room in range(20)}) for n in range(2000)}
        found = self.run(**rooms_of)
        assert sorted(room for _user, rooms in found for room in rooms) == sorted(map(str, range(500)))
        assert len(found) < 60
        sizes = [len(rooms) for _user, rooms in found]
        assert sizes == sorted(sizes, reverse=True)
        assert found == self.run(**dict(reversed(rooms_of.items())))


class TestChoice:
    def test_admins_come_first(self, start: Start, client: Client) -> None:
        start(user("root", admin=True), user("a"), op=["r1"], root=["r1", "r2"], a=["r1", "r2", "r3"])
        outcome = chosen(client)
        assert outcome.record.anchors == {ROOT: [R1, R2], A: [R3]}
        assert outcome.record.staying == {ROOT}
        assert outcome.classes[ROOT] == "admin" and outcome.classes[A] == "user"

    def test_those_to_be_kept_count_like_admins(self, start: Start, client: Client) -> None:
        start(user("a"), user("b"), a=["r1", "r2"], b=["r1"])
        outcome = chosen(client, keep=frozenset([B]))
        assert outcome.record.anchors == {A: [R2], B: [R1]}
        assert outcome.record.staying == {B}
        assert outcome.held == [A]

    @pytest.mark.parametrize(
        ("more", "kind"),
        [
            ({"is_guest": True}, "guest"),
            ({"appservice_id": "irc"}, "appservice"),
            ({"deactivated": True}, "deactivated"),
        ],
    )
    def test_who_can_be_none(self, start: Start, client: Client, more: Json, kind: str) -> None:
        start(user("a", **more), user("b"), a=["r1", "r2", "r3"], b=["r2"], bot=["r4"])
        outcome = chosen(client)
        assert outcome.record.anchors == {B: [R2]}
        reason = "those who are in it can't anchor it: "
        assert outcome.unanchored == {R1: reason + kind, R3: reason + kind, R4: reason + "unlisted"}

    @pytest.mark.parametrize("more", [{"suspended": True}, {"shadow_banned": True}, {"locked": True}])
    def test_who_is_taken_only_where_there_is_nobody_else(self, start: Start, client: Client, more: Json) -> None:
        start(user("a", **more), user("b"), a=["r1", "r2", "r3"], b=["r2"])
        assert chosen(client).record.anchors == {A: [R1, R3], B: [R2]}

    def test_locked_ones_come_last(self, start: Start, client: Client) -> None:
        start(
            user("a", locked=True),
            user("b", suspended=True),
            user("c", locked=True, appservice_id="irc"),
            a=["r1", "r2"],
            b=["r1"],
            c=["r1", "r2", "r3"],
        )
        outcome = chosen(client)
        assert outcome.record.anchors == {A: [R2], B: [R1]}
        assert list(outcome.unanchored) == [R3]

    def test_only_rooms_that_others_must_hear_of(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r0", "r1", "r2"])
        simulation.acls[R1] = {"allow": ["*"], "deny": [SERVER]}
        outcome = chosen(client, ignore=frozenset(["other.example"]))
        assert (outcome.record, outcome.barred, outcome.unanchored) == (Record(), 1, {})
        simulation.federate("r1", server="third.example")
        assert chosen(client, ignore=frozenset(["other.example"])).record == Record()
        simulation.federate("r2", server="third.example")
        assert chosen(client, ignore=frozenset(["other.example"])).record.anchors == {A: [R2]}

    def test_nothing_to_do(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r0"])
        outcome = chosen(client)
        assert not outcome.changed
        assert simulation.writes == []

    def test_what_only_reads(self, start: Start, client: Client) -> None:
        simulation = start(user("root", admin=True), user("a"), root=["r0", "r1"], a=["r0", "r2"])
        simulation.invites[A] = [R4]
        plan = choose(client, Options(), dry_run=True)
        assert simulation.writes == []
        done = chosen(client)
        assert (plan.record, sorted(plan.held), plan.left) == (done.record, done.held, done.left)
        assert done.left == {ROOT: 1, A: 2}
        assert plan.changed

    def test_candidates_are_looked_at_together_and_once(self, start: Start, client: Client) -> None:
        bots = [f"bot{number:02}" for number in range(40)]
        rooms = [f"r{number}" for number in range(1, 4)]
        simulation = start(
            *(user(bot, appservice_id="irc") for bot in bots), user("z"), **dict.fromkeys([*bots, "z"], rooms)
        )
        assert list(chosen(client).record.anchors) == [f"@z:{SERVER}"]
        looks = [request for request in simulation.requests if request.startswith("GET users @bot")]
        assert len(looks) == len(set(looks)) == 40


class TestHolding:
    def test_an_ordinary_account_is_logged_out_and_locked(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r0", "r1"])
        simulation.devices = {A, OPERATOR}
        simulation.invites[A] = [R2]
        outcome = chosen(client)
        assert (outcome.held, outcome.left, outcome.failed) == ([A], {A: 2}, [])
        assert simulation.users[A]["locked"]
        assert simulation.devices == {OPERATOR}
        assert simulation.joined[A] == [R1]
        assert simulation.invites[A] == []
        # It need not be unlocked for that.
        assert simulation.locks == [(A, True)]
        before = list(simulation.writes)
        again = chosen(client)
        assert not again.changed and simulation.writes == before
        assert again.record == outcome.record

    @pytest.mark.parametrize("who", [OPERATOR, ROOT, C])
    def test_who_stays_open_only_leaves_other_rooms(self, start: Start, client: Client, who: str) -> None:
        name = who[1:].partition(":")[0]
        users = (user("root", admin=True), user("c"))
        simulation = start(*users, **{name: ["r0", "r1"]})
        simulation.devices = {who}
        outcome = chosen(client, keep=frozenset([C]))
        assert (outcome.held, outcome.left) == ([], {who: 1})
        assert simulation.joined[who] == [R1]
        assert simulation.devices == {who} and simulation.locks == []
        assert not chosen(client, keep=frozenset([C])).changed

    def test_recorded_first(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1"])
        chosen(client)
        assert simulation.steps[0] == f"PUT {_state.ANCHORS_TYPE} account_data"
        assert recorded(simulation) == {
            "server_name": SERVER,
            "anchors": {A: [R1]},
            "staying": [],
            "releasing": [],
            "lost": {},
            "alone": [R1],
        }

    def test_who_had_been_locked_has_no_session_while_it_is_not(self, start: Start, client: Client) -> None:
        simulation = start(user("a", locked=True), a=["r0", "r1"])
        simulation.devices = {A}
        outcome = chosen(client)
        assert (outcome.held, outcome.left) == ([A], {A: 1})
        assert simulation.users[A]["locked"] and simulation.devices == set()
        ended = simulation.writes.index("POST all logout")
        assert ended < simulation.writes.index(f"PUT users {A}", simulation.writes.index(f"PUT users {A}") + 1)
        assert simulation.locks == [(A, True), (A, False), (A, True)]

    def test_the_operator_is_never_logged_out(self, start: Start, client: Client) -> None:
        simulation = start()
        with pytest.raises(SynapseError, match="the operator's own sessions"):
            end_sessions(client, None)
        assert simulation.requests == []

    def test_what_somebody_undoes_is_done_again(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1"])
        chosen(client)
        simulation.users[A]["locked"] = False
        outcome = chosen(client)
        assert outcome.held == [A] and outcome.changed
        assert simulation.users[A]["locked"]

    def test_who_joins_another_room_meanwhile(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1"])
        lock = simulation._lock_account

        def join_first(user_id: str, locked: bool) -> tuple[int, Any]:
            if not simulation.locks:
                simulation.joined[A].append(room_id("r0"))
            return lock(user_id, locked)

        simulation._lock_account = join_first  # type: ignore[method-assign]
        outcome = chosen(client)
        assert simulation.joined[A] == [R1]
        assert (outcome.held, outcome.left, outcome.failed) == ([A], {A: 1}, [])
        assert simulation.users[A]["locked"]

    def test_a_room_that_can_not_be_left(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), user("b"), a=["r0", "r1"], b=["r2"])
        simulation.banned.add(A)
        outcome = chosen(client)
        assert [(user_id, room) for user_id, room, _reason in outcome.failed] == [(A, room_id("r0"))]
        assert "cannot leave" in outcome.failed[0][2]
        assert sorted(outcome.held) == [A, B]

    def test_an_account_that_can_not_be_held(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), user("b"), a=["r1"], b=["r2"])
        simulation.errors[f"PUT users {A}"] = [(500, matrix_error("M_UNKNOWN", "broken"))]
        outcome = chosen(client)
        assert [(user_id, room) for user_id, room, _reason in outcome.failed] == [(A, None)]
        assert outcome.held == [B]
        assert chosen(client).held == [A]

    def test_killed_anywhere(self) -> None:
        """Whatever was the last write that came through: the next run ends with the same anchors."""
        for last_write in itertools.count():
            with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
                users = (user("op", admin=True), user("root", admin=True), user("a"), user("b"))
                simulation = FederatedSimulation(
                    mock, *users, root=["r0", "r1"], a=["r0", "r1", "r2", "r3"], b=["r0", "r1", "r2"]
                )
                simulation.federate("r1", "r2", "r3")
                simulation.devices = {A, B, ROOT}
                simulation.last_write = last_write
                with Client(BASE_URL, TOKEN) as first:
                    try:
                        aborted = chosen(first).aborted is not None
                    except SynapseError:
                        aborted = True
                simulation.last_write = 10_000
                with Client(BASE_URL, TOKEN) as second:
                    again = chosen(second)
                    assert not chosen(second).changed
                assert again.record.anchors == {ROOT: [R1], A: [R2, R3]}
                assert again.record.lost == {} and again.failed == []
                assert simulation.joined[ROOT] == [R1] and sorted(simulation.joined[A]) == [R2, R3]
                assert simulation.users[A]["locked"] and simulation.devices == {B, ROOT}
            if not aborted:
                break
        assert last_write > 10


class TestLoss:
    @pytest.mark.parametrize(
        ("by", "membership", "reason"),
        [
            (A, "leave", LEFT_BY_ITSELF),
            ("@mod:other.example", "leave", "was kicked by @mod:other.example"),
            ("@mod:other.example", "ban", "was banned by @mod:other.example"),
        ],
    )
    def test_replaced(self, start: Start, client: Client, by: str, membership: str, reason: str) -> None:
        simulation = start(user("a"), user("b"), a=["r1", "r2"], b=["r1"])
        assert chosen(client).record.anchors == {A: [R1, R2]}
        simulation.remove(A, "r1", by, membership)
        outcome = chosen(client)
        assert outcome.replaced == {R1: Loss(A, reason, B)}
        assert outcome.record.anchors == {A: [R2], B: [R1]}
        assert outcome.lost == {} and outcome.held == [B]

    def test_by_one_that_anchors_elsewhere(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), user("b"), user("c"), a=["r1", "r2"], b=["r1", "r3", "r4"], c=["r2", "r1"])
        chosen(client)
        simulation.joined[B].append(R2)
        simulation.remove(A, "r2", A)
        outcome = chosen(client)
        assert outcome.replaced[R2].replacement == B

    def test_lost(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1", "r2"])
        chosen(client)
        simulation.remove(A, "r1", "@mod:other.example")
        loss = {R1: Loss(A, "was kicked by @mod:other.example")}
        assert read(client, 2).lost == loss
        outcome = chosen(client)
        assert (outcome.lost, outcome.replaced, outcome.record.anchors) == (loss, {}, {A: [R2]})
        # It is remembered.
        assert chosen(client).lost == read(client, 2).lost == loss
        assert not chosen(client).changed
        # Somebody has come back.
        simulation.joined[A].append(R1)
        outcome = chosen(client)
        assert outcome.lost == {} and outcome.record.anchors == {A: [R1, R2]}

    def test_all_rooms_lost(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1"])
        chosen(client)
        simulation.remove(A, "r1", A)
        outcome = chosen(client)
        assert outcome.record.anchoring == [] and outcome.record.anchors == {A: []}
        outcome = released(client)
        assert outcome.closed == [A] and outcome.record.anchors == {}
        assert outcome.lost == {R1: Loss(A, LEFT_BY_ITSELF)}

    def test_an_anchor_that_was_deactivated(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), user("b"), a=["r1", "r2"], b=["r1"])
        chosen(client)
        # Synapse has yet to make it leave.
        simulation.users[A]["deactivated"] = True
        assert set(read(client, 2).lost) == {R1, R2}
        outcome = chosen(client)
        assert outcome.record.anchors == {A: [], B: [R1]}
        assert outcome.replaced == {R1: Loss(A, "the account was deactivated", B)}
        assert outcome.lost == {R2: Loss(A, "the account was deactivated")} and outcome.unanchored == {}

    def test_an_anchor_that_does_not_exist_any_more(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1"])
        chosen(client)
        del simulation.users[A], simulation.joined[A]
        assert chosen(client).lost == {R1: Loss(A, "the account does not exist any more")}
        outcome = released(client)
        assert outcome.record.anchors == {} and outcome.closed == []

    def test_a_room_that_only_we_are_in_any_more(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), user("b"), a=["r1"], b=["r1"])
        chosen(client)
        simulation.remove(A, "r1", A)
        del simulation.remote[R1]
        outcome = chosen(client)
        assert outcome.lost == outcome.replaced == {}
        assert outcome.record.anchors == {A: []}

    def test_a_room_that_is_gone(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1"])
        chosen(client)
        simulation.joined[A].clear()
        error = 404, matrix_error("M_NOT_FOUND", "Room not found")
        simulation.errors[f"GET members {R1}"] = [error]
        simulation.errors[f"GET messages {R1}"] = [error]
        assert "Room not found" in chosen(client).lost[R1].reason

    def test_why_is_not_known(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1"])
        chosen(client)
        simulation.joined[A].clear()
        simulation.events[R1] = [{"type": "m.room.member", "state_key": B, "sender": B, "content": {}}]
        assert chosen(client).lost == {R1: Loss(A, "it is not in the room")}


class TestAlone:
    """Rooms in which nobody else of ours was when the anchor was chosen, so that nobody leaves them."""

    def test_when_chosen(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), user("b"), a=["r1", "r2"], b=["r2", "r3"])
        record = chosen(client).record
        assert (record.anchors, record.alone) == ({A: [R1, R2], B: [R3]}, {R1, R3})
        assert read(client, 2).record.alone == {R1, R3}
        # The first wave: what was not alone does not become so.
        simulation.join(B, "r3")
        outcome = chosen(client)
        assert not outcome.changed and outcome.record.alone == {R1, R3}

    def test_a_room_that_comes_later(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), user("b"), a=["r1"], b=["r2"])
        chosen(client)
        simulation.joined[A].append(R4)
        simulation.federate("r4")
        assert chosen(client).record.alone == {R1, R2, R4}

    def test_who_takes_the_place_of_another_was_not_alone(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), user("b"), a=["r1", "r2"], b=["r2", "r3"])
        assert chosen(client).record.alone == {R1, R3}
        simulation.remove(A, "r1", A)
        simulation.remove(A, "r2", A)
        simulation.join(B, "r1", "r2", "r3")
        outcome = chosen(client)
        assert sorted(outcome.replaced) == [R1, R2]
        # Others have left both rooms.
        assert outcome.record.alone == {R3}

    def test_released(self, start: Start, client: Client) -> None:
        start(user("a"), user("b"), a=["r1", "r2", "r3"], b=["r3"])
        assert chosen(client).record.alone == {R1, R2}
        assert released(client, R1, R3).record.alone == {R2}
        assert read(client, 2).record.alone == {R2}
        assert released(client).record == Record()

    def test_an_anchor_that_could_not_leave(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), user("b"), a=["r1"], b=["r2"])
        chosen(client)
        simulation.banned.add(A)
        assert released(client).record.alone == {R1}

    def test_what_was_recorded_before_there_was_such_a_thing(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1"])
        chosen(client)
        del recorded(simulation)["alone"]
        assert chosen(client).record.anchors == {A: [R1]}


class TestRelease:
    def test_some_rooms_and_then_the_last(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1", "r2", "r3"])
        chosen(client)
        outcome = released(client, R1, R2, R4)
        assert (outcome.released, outcome.closed, outcome.failed) == ([R1, R2], [], [])
        assert recorded(simulation)["anchors"] == {A: [R3]}
        assert simulation.joined[A] == [R3] and simulation.users[A]["locked"]
        assert not released(client, R1).changed
        # They are not chosen again.
        assert not chosen(client).changed
        outcome = released(client)
        assert (outcome.released, outcome.closed, outcome.failed) == ([R3], [A], [])
        assert simulation.users[A]["erased"] and simulation.joined[A] == []
        assert recorded(simulation)["anchors"] == {}
        assert not released(client).changed

    def test_who_stays_open_is_not_closed(self, start: Start, client: Client) -> None:
        simulation = start(user("root", admin=True), user("c"), root=["r1"], c=["r2"], op=["r3"])
        keep = frozenset([C])
        chosen(client, keep=keep)
        outcome = released(client, keep=keep)
        assert (sorted(outcome.released), outcome.closed) == ([R1, R2, R3], [])
        assert not any(account["deactivated"] for account in simulation.users.values())
        assert recorded(simulation)["anchors"] == {} and recorded(simulation)["staying"] == []
        assert simulation.locks == []

    @pytest.mark.parametrize("change", ["admin", "keep"])
    def test_who_has_become_one_that_stays_open(self, start: Start, client: Client, change: str) -> None:
        simulation = start(user("a"), a=["r1"])
        chosen(client)
        if change == "admin":
            simulation.users[A]["admin"] = True
        outcome = released(client, keep=frozenset([A] if change == "keep" else []))
        assert (outcome.released, outcome.closed, outcome.record.anchors) == ([R1], [], {})
        assert not simulation.users[A]["deactivated"]

    def test_sessions_are_ended_before_it_is_unlocked(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1", "r2"])
        chosen(client)
        del simulation.requests[:]
        released(client, R1)
        steps = [step for step in simulation.writes if "all logout" in step or step.startswith("PUT users")]
        assert steps == ["POST all logout", f"PUT users {A}", f"PUT users {A}"]
        assert simulation.locks[-2:] == [(A, False), (A, True)]

    def test_a_room_that_can_not_be_left(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1", "r2"])
        chosen(client)
        simulation.banned.add(A)
        outcome = released(client)
        assert {(user_id, room) for user_id, room, _reason in outcome.failed} == {(A, R1), (A, R2)}
        assert outcome.released == [] and outcome.record.anchors == {A: [R1, R2]}
        simulation.banned.clear()
        assert released(client).closed == [A]

    def test_an_anchor_that_nobody_can_act_as(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1"])
        chosen(client)
        simulation.errors[f"POST login {A}"] = [(500, matrix_error("M_UNKNOWN", "broken"))]
        (failure,) = released(client).failed
        assert failure[:2] == (A, R1) and "broken" in failure[2]
        assert simulation.users[A]["locked"]

    def test_one_that_is_closed_but_does_not_part(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1"])
        chosen(client)
        simulation.errors[f"POST deactivate {A}"] = [(400, matrix_error("M_UNKNOWN", "no"))]
        outcome = released(client)
        assert [(user_id, room) for user_id, room, _reason in outcome.failed] == [(A, None)]
        assert outcome.record.anchors == {A: []}
        assert released(client).closed == [A]

    def test_rooms_that_were_lost_in_the_meantime(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), user("b"), a=["r1", "r2", "r3", "r4"], b=["r2"])
        chosen(client)
        for name in ("r1", "r2"):
            simulation.remove(A, name, A)
        outcome = released(client, R1, R3)
        assert outcome.released == [R3] and outcome.lost == {R1: Loss(A, LEFT_BY_ITSELF)}
        # That of a room that was not named may be replaced yet.
        outcome = chosen(client)
        assert outcome.record.anchors == {A: [R4], B: [R2]} and list(outcome.replaced) == [R2]
        simulation.remove(A, "r4", A)
        outcome = released(client)
        assert (outcome.released, sorted(outcome.closed), sorted(outcome.lost)) == ([R2], [A, B], [R1, R4])
        assert outcome.record.anchors == {}

    def test_those_whom_nobody_can_log_in_as_leave_as_well(self, start: Start, client: Client) -> None:
        simulation = Cleared.of(start(user("a"), user("b"), a=["r1", "r2", "r3"], b=["r2"], bot=["r1", "r2", "r4"]))
        chosen(client)
        outcome = released(client, R2, R3)
        # Somebody else is still in the one, and in the other there was nobody but the anchor.
        assert (outcome.released, simulation.cleared) == ([R2, R3], [])
        outcome = released(client)
        assert (outcome.released, outcome.failed, simulation.cleared) == ([R1], [], [R1])
        assert simulation.joined[BOT] == [R2, R4]
        first_read = simulation.requests.index(f"GET members {R1}", simulation.requests.index(f"POST leave {R1}"))
        assert first_read < simulation.requests.index(f"DELETE {R1} rooms")

    def test_no_leave_before_the_last_is_on_its_way(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), user("b"), a=["r1", "r2"], b=["r3"])
        chosen(client)
        del simulation.requests[:]
        released(client)
        what = "GET other.example destinations"
        told = [step for step in simulation.requests if step == what or step.startswith("POST leave !")]
        # It is looked at before and after each.
        assert told == [step for room in (R1, R2, R3) for step in (what, f"POST leave {room}", what)]
        # First of all, Synapse is made to look at what it has yet to send.
        assert "POST createRoom v3" in simulation.requests[: simulation.requests.index(f"POST leave {R1}")]

    def test_those_who_do_not_leave(self, start: Start, client: Client) -> None:
        simulation = Cleared.of(start(user("a"), a=["r1", "r2"], bot=["r1", "r2"]))
        chosen(client)
        simulation.stays = True
        outcome = released(client, R1)
        assert outcome.released == [R1]
        assert outcome.failed == [(BOT, R1, "Synapse could not make it leave, its log says why")]
        assert outcome.record.anchors == {A: [R2]}

    @pytest.mark.parametrize("what", [f"DELETE {R1} rooms", f"GET users {BOT}"])
    def test_those_who_can_not_be_made_to_leave(self, start: Start, client: Client, what: str) -> None:
        simulation = Cleared.of(start(user("a"), a=["r1", "r2"], bot=["r1", "r2"]))
        chosen(client)
        simulation.errors[what] = [(400, matrix_error("M_UNKNOWN", "broken"))]
        outcome = released(client)
        assert (outcome.released, outcome.closed, outcome.aborted) == ([R1, R2], [A], None)
        ((user_id, room, reason),) = outcome.failed
        assert (user_id, room) == (BOT, R1) and "broken" in reason

    def test_a_room_that_nobody_can_look_into_is_left_all_the_same(self, start: Start, client: Client) -> None:
        simulation = Cleared.of(start(user("a"), a=["r1"], bot=["r1"]))
        chosen(client)
        simulation.errors[f"GET members {R1}"] = [(404, matrix_error("M_NOT_FOUND", "Room not found"))] * 2
        outcome = released(client)
        assert (outcome.released, outcome.failed, simulation.cleared) == ([R1], [], [])

    def test_a_dead_token_while_they_leave(self, start: Start, client: Client) -> None:
        simulation = Cleared.of(start(user("a"), a=["r1"], bot=["r1"]))
        chosen(client)
        simulation.errors[f"DELETE {R1} rooms"] = [(401, matrix_error("M_UNKNOWN_TOKEN", "Invalid access token"))]
        outcome = released(client)
        assert outcome.aborted is not None and outcome.released == [R1]
        assert not simulation.users[A]["deactivated"]
        # The next run closes the anchor.
        assert released(client).closed == [A]

    def test_what_only_reads(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), user("b"), a=["r1", "r2"], b=["r3"], op=["r4"])
        chosen(client)
        before = list(simulation.writes)
        for rooms in ([R1], [R1, R3], None):
            plan = release(client, rooms, Options(), dry_run=True)
            assert simulation.writes == before
            assert plan.changed
        assert sorted(plan.released) == [R1, R2, R3, R4] and sorted(plan.closed) == [A, B]
        assert plan.record.anchors == {}

    def test_killed_anywhere(self) -> None:
        """Nothing that has been released counts as lost, and in the end everybody is closed."""
        for last_write in itertools.count():
            with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
                users = (user("op", admin=True), user("a"), user("b"))
                simulation = FederatedSimulation(mock, *users, op=["r4"], a=["r1", "r2"], b=["r3"])
                simulation.federate("r1", "r2", "r3", "r4")
                with Client(BASE_URL, TOKEN) as first:
                    chosen(first)
                    simulation.last_write = len(simulation.writes) + last_write
                    try:
                        aborted = released(first).aborted is not None
                    except SynapseError:
                        aborted = True
                simulation.last_write = 10_000
                with Client(BASE_URL, TOKEN) as second:
                    look = read(second, 2)
                    assert look.lost == {}
                    assert choose(second, Options()).lost == {}
                    last = released(second)
                assert last.failed == [] and last.lost == {} and last.record.anchors == {}
                assert not any(simulation.joined.values())
                assert simulation.users[A]["erased"] and simulation.users[B]["erased"]
                assert not simulation.users[OPERATOR]["deactivated"]
            if not aborted:
                break
        assert last_write > 20


class TestDelegated:
    """Where a Matrix Authentication Service handles login, so that nobody can be acted as."""

    @pytest.fixture
    def start(self, start: Start) -> Start:
        def start_delegated(*users: Json, **joined: list[str]) -> FederatedSimulation:
            simulation = Cleared.of(start(*users, **joined))
            act = simulation._act

            def act_without_login(before: str, last: str, user_id: str) -> tuple[int, Any]:
                if last in ("registration_tokens", "login"):
                    return 404, matrix_error("M_UNRECOGNIZED", "Unrecognized request")
                if last == "delete_devices":
                    simulation.devices.discard(before)
                    return 200, {}
                answer: tuple[int, Any] = act(before, last, user_id)
                return answer

            simulation._act = act_without_login
            delegated: FederatedSimulation = simulation
            return delegated

        return start_delegated

    def test_who_cannot_leave_anchors(self, start: Start, client: Client) -> None:
        """An anchor can't leave one room and stay in another; nor can who stays open, unless it is the operator."""
        rooms = {"a": ["r1", "r2", "r3"], "b": ["r1"], "c": ["r2"], "root": ["r1", "r4"], "op": ["r1", "r0"]}
        simulation = start(user("a"), user("b"), user("c"), user("root", admin=True), **rooms)
        outcome = chosen(client, keep=frozenset([C]))
        assert outcome.record.anchors == {A: [R1, R2, R3], C: [R2], ROOT: [R1, R4]}
        assert outcome.record.staying == {C, ROOT}
        assert outcome.classes[ROOT] == "admin" and simulation.joined[ROOT] == [R1, R4]
        assert not chosen(client, keep=frozenset([C])).changed

    def test_held_without_a_lock(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1"])
        simulation.devices.add(A)
        assert chosen(client).held == [A]
        assert (simulation.devices, simulation.locks) == (set(), [])
        assert not chosen(client).changed
        simulation.devices.add(A)
        assert chosen(client).held == [A]

    def test_rooms_that_need_no_anchor(self, start: Start, client: Client) -> None:
        """They are shut down, once, as soon as nobody else is in them."""
        rooms = {"a": ["r0", "r1"], "root": ["r0", "r2"], "b": ["r0"]}
        simulation: Any = start(user("a"), user("b"), user("root", admin=True), **rooms)
        simulation.invites[A] = [R4]
        outcome = chosen(client)
        assert (outcome.left, simulation.cleared) == ({}, [])
        simulation.users[B]["deactivated"] = True
        assert sum(choose(client, Options(), dry_run=True).left.values()) == 1 and simulation.cleared == []
        outcome = chosen(client)
        assert (sum(outcome.left.values()), outcome.failed, simulation.cleared) == (1, [], [room_id("r0")])
        assert (simulation.joined[A], simulation.joined[ROOT]) == ([R1], [R2])
        assert not chosen(client).changed

    def test_released_by_shutting_down(self, start: Start, client: Client) -> None:
        rooms = {"a": ["r1", "r2"], "root": ["r1"], "bot": ["r1"], "op": ["r3"]}
        simulation: Any = start(user("a"), user("root", admin=True), **rooms)
        chosen(client)
        outcome = released(client, R1)
        assert (set(outcome.released), outcome.failed, simulation.cleared) == ({R1}, [], [R1])
        assert outcome.record.anchors == {A: [R2], OPERATOR: [R3]} and simulation.joined[A] == [R2]
        outcome = released(client)
        assert (outcome.closed, outcome.failed, simulation.cleared) == ([A], [], [R1, R2])
        assert f"POST leave {R3}" in simulation.requests
        assert outcome.record == Record() and not any(simulation.joined.values())

    def test_who_is_open_is_not_thrown_out(self, start: Start, client: Client) -> None:
        simulation: Any = start(user("a"), user("b"), a=["r1", "r2"], b=["r1"])
        chosen(client)
        outcome = released(client, R1)
        ((user_id, room, reason),) = outcome.failed
        assert (user_id, room, simulation.cleared) == (A, R1, []) and f"such as {B}" in reason
        assert outcome.record.anchors == {A: [R1, R2]} and outcome.released == []

    def test_a_room_that_can_not_be_shut_down(self, start: Start, client: Client) -> None:
        simulation: Any = start(user("a"), a=["r1", "r2"])
        chosen(client)
        simulation.errors[f"DELETE {R1} rooms"] = [(400, matrix_error("M_UNKNOWN", "broken"))]
        outcome = released(client)
        assert outcome.released == [R2] and outcome.closed == []
        ((user_id, room, reason),) = outcome.failed
        assert (user_id, room) == (A, R1) and "broken" in reason
        assert released(client).closed == [A]

    def test_nobody_joins_once_more(self, start: Start, client: Client) -> None:
        start(user("a"), a=["r1"])
        outcome = rejoin(client, chosen(client).record, [R1], "reason", 2)
        assert outcome.keys() == {R1} and outcome[R1] is not None


class TestRejoin:
    def rejoined(self, client: Client, *room_ids: str, sender: Sender | None = None) -> dict[str, SynapseError | None]:
        return rejoin(client, read(client, 2).record, room_ids, "why", 2, sender)

    def test_rooms_of_several(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1", "r2"], op=["r3"])
        chosen(client)
        before = len(simulation.writes)
        assert self.rejoined(client, R1, R3, R4) == {R1: None, R3: None}
        joins = [write for write in simulation.writes[before:] if "join" in write]
        assert sorted(joins) == [f"POST {R1} join", f"POST {R3} join"]
        # As when it leaves.
        assert simulation.locks[-2:] == [(A, False), (A, True)]
        assert read(client, 2).lost == {}

    def test_each_is_seen_off(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1", "r2"], op=["r3"])
        chosen(client)
        seen = []

        class Witness:
            @contextmanager
            def sees_off(self, room: str) -> Iterator[None]:
                before = len(simulation.writes)
                yield
                seen.append((room, simulation.writes[before:]))

        sender: Any = Witness()
        assert self.rejoined(client, R1, R2, R3, sender=sender) == dict.fromkeys((R1, R2, R3))
        assert sorted(seen) == [(room, [f"POST {room} join"]) for room in (R1, R2, R3)]

    def test_nobody_need_be_acted_as(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1"])
        chosen(client)
        before = list(simulation.writes)
        assert self.rejoined(client) == self.rejoined(client, R4) == {}
        assert simulation.writes == before

    def test_what_fails_does_not_keep_it_from_the_others(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1", "r2"], op=["r3"])
        chosen(client)
        simulation.errors[f"POST {R1} join"] = [(403, matrix_error("M_FORBIDDEN", "no"))]
        outcome = self.rejoined(client, R1, R2, R3)
        assert (outcome[R1].status if outcome[R1] else 0, outcome[R2], outcome[R3]) == (403, None, None)
        assert simulation.users[A]["locked"]

    def test_a_dead_token(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1"])
        chosen(client)
        simulation.last_write = len(simulation.writes)
        with pytest.raises(SynapseError, match="M_UNKNOWN_TOKEN"):
            self.rejoined(client, R1)


class TestRecord:
    def test_through_json_and_back(self) -> None:
        record = Record({A: [R1], ROOT: []}, {ROOT}, {R1}, {R2: Loss(B, LEFT_BY_ITSELF)}, {R1})
        assert Record.from_json(record.as_json()) == record

    @pytest.mark.parametrize(
        "wrong",
        [
            {"anchors": None},
            {"anchors": []},
            {"anchors": {A: None}},
            {"anchors": {A: [7]}},
            {"staying": [None]},
            {"releasing": 7},
            {"alone": [None]},
            {"alone": None},
            {"lost": {R1: None}},
            {"lost": {R1: {"user_id": A}}},
            {"lost": {R1: {"user_id": A, "reason": None}}},
        ],
    )
    def test_something_else_is_none(self, wrong: Json) -> None:
        content = {**Record({A: [R1]}).as_json(), **wrong}
        assert Record.from_json(content) == Record()

    def test_of_another_server(self, start: Start, client: Client) -> None:
        simulation = start(user("a"), a=["r1"])
        simulation.account_data[_state.ANCHORS_TYPE] = {**Record({B: [R2]}).as_json(), "server_name": "other.example"}
        assert read(client, 2).record == Record()
        assert chosen(client).record.anchors == {A: [R1]}

    def test_ten_thousand_rooms_fit(self) -> None:
        # A reverse proxy may refuse more than a megabyte.
        rooms = {f"@somebody{n:05}:{SERVER}": [f"!{n:018}:{SERVER}"] for n in range(10_000)}
        assert len(json.dumps(Record(rooms).as_json())) < 1_000_000
