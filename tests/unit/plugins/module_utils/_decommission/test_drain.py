# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any, Callable, Iterable
from unittest.mock import ANY

import pytest
import requests
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import federated_leaves
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.drain import drain
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.drain_run import DrainResult, Options
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.eligibility import Eligibility
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.federated_leaves import MAX_UNANSWERED
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.progress import DrainLog
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.recorder import Recorder
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.accounts import Account
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    OPERATOR,
    Clock,
    Json,
    Server,
    matrix_error,
    message,
    room_id,
    user,
)
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver

Simulate = Callable[..., Homeserver]

A, B, C, G, ROOT = (f"@{name}:example.org" for name in ("a", "b", "c", "g", "root"))
OP = user("op", admin=True)
ADMIN = user("root", admin=True)
R1, R2, R3 = (room_id(name) for name in ("r1", "r2", "r3"))
FORBIDDEN = matrix_error("M_FORBIDDEN", "a module forbids it")
DEAD_TOKEN = matrix_error("M_UNKNOWN_TOKEN", "Invalid access token")
BROKEN = matrix_error("M_UNKNOWN", "broken")
UNRECOGNIZED = matrix_error("M_UNRECOGNIZED", "Unrecognized request")
TWO_MINUTES = [1, 2, 4, 8, *[16] * 6]


class Log(DrainLog):
    """Remembers what happened, and how many accounts were expected in each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str]] = []
        self.more: list[Json] = []
        self.passes: list[int] = []

    def write(self, user_id: str, result: str, **more: object) -> None:
        self.lines.append((user_id, result))
        self.more.append({key: value for key, value in more.items() if value is not None})

    def expect(self, accounts: int) -> None:
        self.passes.append(accounts)

    def of(self, user_id: str) -> list[tuple[str, Json]]:
        """What happened to one account. In what order two come that are done with at the same time is open."""
        return [(result, more) for (logged, result), more in zip(self.lines, self.more) if logged == user_id]


def run(
    client: Client,
    user_ids: list[str] | None,
    *,
    log: DrainLog | None = None,
    keep: tuple[str, ...] = (),
    allow_admins: bool = False,
    dry_run: bool = False,
    **options: Any,
) -> DrainResult:
    return drain(
        client,
        user_ids,
        Options(Eligibility(keep, allow_admins), **options),
        log or Log(),
        dry_run=dry_run,
    )


def outcome(**fields: Any) -> DrainResult:
    """What comes of a drain, at whatever time."""
    return DrainResult(**{"federated_left_after": ANY, "all_left_after": ANY, **fields})


def closed(name: str, **more: Any) -> Json:
    return user(name, deactivated=True, erased=True, **more)


def guest(name: str, **more: Any) -> Json:
    return user(name, is_guest=True, **more)


def without_locks(account: Json) -> Json:
    """As a server lists it that is too old to know of locks."""
    return {key: value for key, value in account.items() if key != "locked"}


def close(server: Server, user_id: str, answer: Any = None, **more: Any) -> None:
    """Declare what it takes to deactivate an account that is in no room."""
    server.joined(user_id)
    server.check_and_deactivate(user_id, answer, **more)


def shared(simulate: Simulate, *users: Json, **joined: list[str]) -> Homeserver:
    """A simulation in which another server is in all rooms."""
    simulation = simulate(*users, **joined)
    simulation.federate(*{name for names in joined.values() for name in names})
    return simulation


def close_only(client: Client, user_ids: list[str] | None, **more: Any) -> DrainResult:
    return run(client, user_ids, wait_for="none", **more)


# What is refused


@pytest.mark.parametrize(
    ("user_ids", "found", "reason"),
    [
        ([A, OPERATOR], [user("a"), OP], f"{OPERATOR} is the operator"),
        ([A, ROOT], [user("a"), ADMIN], f"{ROOT} is an admin"),
        ([A, "@x:example.com"], [], "@x:example.com is not an account of example.org"),
        ([A, "b"], [], "b is not a user ID"),
    ],
)
def test_what_must_not_be_closed_is_refused_before_anything_changes(
    server: Server, client: Client, user_ids: list[str], found: list[Json], reason: str
) -> None:
    for account in found:
        server.user(account)
    with pytest.raises(SynapseError, match=f"^No changes made: {reason}"):
        run(client, user_ids)
    assert set(server.methods) == {"GET"}


def test_the_operator_is_refused_even_if_admins_are_allowed(server: Server, client: Client) -> None:
    server.user(OP)
    with pytest.raises(SynapseError, match="is the operator"):
        run(client, [OPERATOR], allow_admins=True)


def test_an_account_to_keep_that_does_not_exist_is_refused(server: Server, client: Client) -> None:
    server.users(OP, user("a"))
    with pytest.raises(
        SynapseError, match=f"^No changes made: {B} is to be kept, but does not exist: use the full ID of an account$"
    ):
        run(client, None, keep=(B,))


@pytest.mark.parametrize("user_ids", [[A, B], [B]])
def test_an_account_to_keep_must_not_be_named(server: Server, client: Client, user_ids: list[str]) -> None:
    for user_id in user_ids:
        server.user(user(user_id))
    with pytest.raises(SynapseError, match=f"^No changes made: {B} is to be kept$"):
        run(client, user_ids, keep=(B,))


def test_an_admin_may_be_named(server: Server, client: Client) -> None:
    server.user(ADMIN)
    server.joined(ROOT)
    server.user(ADMIN)
    server.deactivate(ROOT)
    assert close_only(client, [ROOT], allow_admins=True).deactivated == {ROOT: "active"}


@pytest.mark.parametrize("user_ids", [None, [A, B]])
def test_an_account_that_becomes_an_admin_is_not_deactivated(
    simulate: Simulate, lone_client: Client, user_ids: list[str] | None
) -> None:
    """Between the listing and its deactivation, which may be hours."""
    simulation = shared(simulate, OP, user("a"), user("b"), a=["r1"], b=["r1"])

    class Promoter(Recorder):
        def record_pending(self, accounts: Iterable[Account]) -> None:
            simulation.accounts[A] = user("a", admin=True)

    result = drain(lone_client, user_ids, Options(), Log(), recorder=Promoter(lone_client))
    assert result.deactivated == {B: "active"}
    assert f"{A} is an admin" in result.failed[A]
    assert f"POST deactivate {A}" not in simulation.writes


def test_an_admin_among_all_is_not_deactivated_whatever_is_allowed(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a", admin=True), user("b"))
    assert run(lone_client, None, allow_admins=True).deactivated == {B: "active"}
    assert f"POST deactivate {A}" not in simulation.writes


def test_an_account_that_becomes_an_admin_is_not_erased_later(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), a=["r1"])
    simulation.version = "1.149.0"
    log = Log()

    def promote(user_id: str, result: str, **_more: object) -> None:
        if result == "deactivated":
            simulation.accounts[user_id] = user("a", admin=True, deactivated=True)

    log.write = promote  # type: ignore[method-assign]
    result = run(lone_client, [A], log=log)
    assert f"{A} is an admin" in result.failed[A]
    assert simulation.writes.count(f"POST deactivate {A}") == 1


# Those who are named


def test_an_account_leaves_federated_rooms_first_and_its_rooms_are_read_before_and_after(
    simulate: Simulate, lone_client: Client
) -> None:
    log = Log()
    simulation = simulate(OP, user("a"), a=["r1", "r2", "r3"])
    simulation.federate("r1", "r2")
    result = run(lone_client, [A], log=log)
    assert result == outcome(
        deactivated={A: "active"}, left_federated=1, left_all_rooms=1, verified=1, reads=3, passes=1
    )
    about_a = [request for request in simulation.requests if A in request or "leave" in request or "members" in request]
    assert about_a == [
        f"GET users {A}",
        f"GET joined_rooms {A}",
        *[f"GET members {room}" for room in (R1, R2, R3)],
        f"POST login {A}",
        f"POST leave {R1}",
        f"POST leave {R2}",
        f"GET joined_rooms {A}",
        f"GET users {A}",
        f"POST deactivate {A}",
        f"GET joined_rooms {A}",
    ]
    assert log.lines == [(A, "left"), (A, "deactivated"), (A, "left_all_rooms")]
    assert log.more == [{"rooms_left": 2}, {}, {"rooms_left": 1}]
    assert log.passes == [1]


def test_all_leave_federated_rooms_before_the_first_is_deactivated(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), user("b"), user("c"), a=["r1", "r2"], b=["r1"], c=["r2"])
    simulation.federate("r1")
    run(lone_client, None)
    assert simulation.steps[:4] == [f"POST login {A}", f"POST leave {R1}", f"POST login {B}", f"POST leave {R1}"]
    # Nothing that can be done later comes before the last leave.
    last_leave = max(i for i, request in enumerate(simulation.requests) if "leave" in request)
    assert not [request for request in simulation.requests[:last_leave] if "logout" in request]
    assert sorted(simulation.steps[4:]) == [f"POST deactivate {user_id}" for user_id in (A, B, C)]
    assert simulation.joined == {A: [], B: [], C: []}


def test_what_is_recorded_before_the_deactivation(simulate: Simulate, lone_client: Client) -> None:
    """The accounts have left their federated rooms by then, and none of them is deactivated."""
    simulation = simulate(OP, user("a", locked=True), user("b"), a=["r1"], b=["r1"])
    simulation.federate("r1")
    called: list[tuple[list[str], list[str]]] = []

    class Watched(Recorder):
        def record_pending(self, accounts: Iterable[Account]) -> None:
            steps = [step for step in simulation.steps if "account_data" not in step]
            called.append(([account.user_id for account in accounts], steps))

    drain(lone_client, None, Options(), Log(), recorder=Watched(lone_client))
    assert called == [([A], []), ([B], [f"POST deactivate {A}", f"POST login {B}", f"POST leave {R1}"])]


def test_the_record_comes_before_the_first_leave(simulate: Simulate, lone_client: Client) -> None:
    """And what was read for it is not read again."""
    simulation = simulate(OP, user("a"), user("b"), a=["r1", "r2"], b=["r1"], op=["r3"])
    simulation.federate("r1", "r3")
    recorder = Recorder(lone_client)
    result = drain(lone_client, None, Options(wait_for="federated"), Log(), recorder=recorder)
    assert recorder.changed and not recorder.unreadable and not recorder.unlisted
    assert {room_id: room.joined for room_id, room in recorder.record.rooms.items()} == {R1: {A, B}, R3: {OPERATOR}}
    first_leave = next(i for i, request in enumerate(simulation.requests) if "POST leave" in request)
    before = simulation.requests[:first_leave]
    assert [request for request in before if "joined_rooms" in request] == [
        f"GET joined_rooms {name}" for name in (A, B, OPERATOR)
    ]
    assert [request for request in before if "GET members" in request] == [f"GET members {r}" for r in (R1, R2, R3)]
    assert any(request.startswith("PUT") for request in before)
    assert result.left_federated == 2 and simulation.joined == {A: [], B: [], OPERATOR: [R3]}


def test_the_rooms_of_an_account_that_comes_during_the_drain_are_recorded(
    simulate: Simulate, lone_client: Client, clock: Clock
) -> None:
    simulation = simulate(OP, user("a"), a=["r1"])
    simulation.federate("r1", "r2")

    class Watched(Recorder):
        def record_pending(self, accounts: Iterable[Account]) -> None:
            if B not in simulation.accounts:
                simulation.populate(user("b"), b=["r2"])

    recorder = Watched(lone_client)
    result = drain(lone_client, None, Options(), Log(), recorder=recorder)
    assert result.deactivated == {A: "active", B: "active"}
    assert {room_id: room.joined for room_id, room in recorder.record.rooms.items()} == {R1: {A}, R2: {B}}


def test_a_record_that_cannot_be_written_ends_it(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), a=["r1"])
    simulation.federate("r1")
    recorder = Recorder(lone_client)
    simulation.last_write = 0
    result = drain(lone_client, None, Options(), Log(), recorder=recorder)
    assert result.aborted is not None and simulation.joined == {A: [R1]}
    assert not [request for request in simulation.requests if "leave" in request or "deactivate" in request]


def test_a_dry_run_predicts_the_record(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), a=["r1"])
    simulation.federate("r1")
    recorder = Recorder(lone_client)
    drain(lone_client, None, Options(), Log(), recorder=recorder, dry_run=True)
    assert recorder.changed and recorder.message.endswith("remote servers may be in 1 rooms with 1 memberships")
    assert simulation.writes == []


def test_no_more_sessions_are_open_than_the_limit(
    simulate: Simulate, lone_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(federated_leaves, "MAX_SESSIONS", 2)
    simulation = shared(simulate, OP, *map(user, "abc"), a=["r1"], b=["r1"], c=["r1"])
    run(lone_client, None)
    sessions = [write.split()[1] for write in simulation.writes if "login" in write or "logout" in write]
    assert sessions == ["login", "login", "logout", "logout", "login", "logout"]
    assert simulation.joined == {A: [], B: [], C: []}


def test_a_session_that_cannot_be_ended_stops_nothing(simulate: Simulate, lone_client: Client) -> None:
    simulation = shared(simulate, OP, user("a"), user("b"), a=["r1"], b=["r1"])
    simulation.faults["POST logout v3"] = [(500, BROKEN)]
    result = run(lone_client, None)
    assert (list(result.deactivated), result.left_federated, result.aborted) == ([A, B], 2, None)
    assert simulation.faults["POST logout v3"] == []


def test_each_room_is_read_once(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, *map(user, "abc"), a=["r1", "r2"], b=["r1", "r2"], c=["r2"])
    simulation.federate("r1")
    run(lone_client, None, wait_for="federated")
    members = [request for request in simulation.requests if "members" in request]
    assert sorted(members) == [f"GET members {R1}", f"GET members {R2}"]


@pytest.mark.parametrize("status", [404, 500])
def test_a_room_that_cannot_be_read_is_left_by_hand(simulate: Simulate, lone_client: Client, status: int) -> None:
    simulation = simulate(OP, user("a"), a=["r1"])
    simulation.faults[f"GET members {R1}"] = [(status, BROKEN)]
    assert run(lone_client, [A]).left_federated == 1
    assert f"POST leave {R1}" in simulation.steps


def test_rooms_of_our_own_are_not_waited_for(simulate: Simulate, lone_client: Client, clock: Clock) -> None:
    simulation = simulate(OP, user("a"), user("b"), closed("c"), a=["r1", "r2"], b=["r2"], c=["r2"])
    simulation.federate("r1")
    simulation.dropped_leaves = {A: 9, B: 9}
    result = run(lone_client, None, wait_for="federated")
    assert result == outcome(
        deactivated={A: "active", B: "active"},
        unchanged=1,
        left_federated=1,
        verified=3,
        reads=ANY,
        passes=1,
        all_left_after=None,
    )
    assert simulation.joined == {A: [R2], B: [R2], C: [R2]}
    assert sum(clock.waits) < 2


def test_a_guest_is_waited_for_in_federated_rooms(simulate: Simulate, lone_client: Client) -> None:
    log = Log()
    simulation = simulate(OP, user("a"), guest("g"), a=["r1"], g=["r2", "r1"])
    simulation.federate("r1")
    result = run(lone_client, None, wait_for="federated", log=log)
    assert (result.left_federated, result.verified, result.still_joined) == (2, 2, {})
    assert R1 not in simulation.joined[G]
    assert [result for result, _more in log.of(G)] == ["not_left", "deactivated", "left"]


def test_who_is_deactivated_but_in_a_federated_room_leaves_without_waiting(
    simulate: Simulate, lone_client: Client, clock: Clock
) -> None:
    simulation = shared(simulate, OP, closed("a"), a=["r1"])
    result = run(lone_client, None)
    assert result == outcome(unchanged=1, left_federated=1, left_all_rooms=1, verified=1, reads=ANY, passes=1)
    assert simulation.steps == [f"POST login {A}", f"POST leave {R1}"]
    assert sum(clock.waits) < 2


def test_when_the_last_has_left(simulate: Simulate, lone_client: Client, clock: Clock) -> None:
    simulation = simulate(OP, user("a"), closed("b"), guest("g"), a=["r1"], b=["r1", "r2"], g=["r1"])
    simulation.federate("r1")
    simulation.dropped_leaves = {G: 1}
    simulation.faults["GET users v2"] = [lambda: setattr(clock, "now", clock.now + 7)]
    result = run(lone_client, None)
    assert result.federated_left_after is not None and 60 < result.federated_left_after < 70
    assert result.all_left_after is not None and result.all_left_after >= result.federated_left_after
    again = run(lone_client, None)
    assert (again.federated_left_after, again.all_left_after) == (0.0, 0.0)


def test_no_time_is_negative_on_a_busy_machine(
    simulate: Simulate, lone_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificate, which has these times, would be refused by its schema, and the run would fail."""
    ticks = itertools.count(1000.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    simulate(OP, closed("a"))
    result = run(lone_client, None)
    assert result.federated_left_after == 0.0
    assert result.all_left_after is not None and result.all_left_after >= 0


@pytest.mark.parametrize("wait_for", ["all", "federated", "none"])
def test_times_are_said_only_if_all_have_left(simulate: Simulate, lone_client: Client, wait_for: str) -> None:
    simulation = shared(simulate, OP, user("a"), user("b"), a=["r1"], b=["r1"])
    simulation.banned.add(A)
    simulation.dropped_leaves[A] = 99
    result = run(lone_client, None, wait_for=wait_for)
    assert (result.federated_left_after, result.all_left_after) == (None, None)


def test_the_rate_limit_is_lifted_once_for_all_and_put_back(simulate: Simulate, lone_client: Client) -> None:
    simulation = shared(simulate, OP, user("a"), user("b"), a=["r1"], b=["r1"])
    run(lone_client, [A, B])
    limits = [write for write in simulation.writes if "override_ratelimit" in write]
    assert [limit.partition(" ")[0] for limit in limits] == ["POST", "DELETE"]
    assert simulation.writes[0] == limits[0]
    assert simulation.writes[-3:] == [f"POST deactivate {A}", f"POST deactivate {B}", limits[1]]


def test_who_is_in_no_room_is_not_logged_in_to(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"))
    result = run(lone_client, [A])
    assert result == outcome(deactivated={A: "active"}, left_all_rooms=1, verified=1, reads=2, passes=1)
    assert simulation.steps == [f"POST deactivate {A}"]


def test_what_leaving_misses_is_left_to_synapse(simulate: Simulate, lone_client: Client) -> None:
    log = Log()
    simulation = shared(simulate, OP, user("a"), user("b"), a=["r1"], b=["r1", "r2", "r3"])
    simulation.banned.add(B)
    result = run(lone_client, [A, B], log=log)
    assert result == outcome(
        deactivated={A: "active", B: "active"}, left_federated=2, left_all_rooms=2, verified=2, reads=ANY, passes=1
    )
    assert simulation.joined == {A: [], B: []}
    assert simulation.steps[:3] == [f"POST login {A}", f"POST leave {R1}", f"POST login {B}"]
    assert sorted(simulation.steps[3:6]) == [f"POST leave {room}" for room in (R1, R2, R3)]
    # Synapse goes on in the order of their deactivation.
    assert simulation.steps[6:] == [f"POST deactivate {B}", f"POST deactivate {A}"]
    assert log.of(A) == [("left", {"rooms_left": 1}), ("deactivated", {}), ("left_all_rooms", {"rooms_left": 0})]
    not_left = {"rooms_left": 0, "not_left": ANY}
    assert log.of(B) == [("not_left", not_left), ("deactivated", {}), ("left_all_rooms", {"rooms_left": 3})]
    reasons = log.of(B)[0][1]["not_left"]
    assert sorted(reasons) == [R1, R2, R3]
    assert "403 M_FORBIDDEN: cannot leave" in reasons[R1]


def test_where_nobody_can_be_logged_in_to_all_is_left_to_synapse(simulate: Simulate, lone_client: Client) -> None:
    log = Log()
    simulation = shared(simulate, OP, user("a"), a=["r1", "r2"])
    simulation.faults[f"POST login {A}"] = [(404, UNRECOGNIZED)]
    result = run(lone_client, [A], log=log)
    assert result == outcome(
        deactivated={A: "active"}, left_federated=1, left_all_rooms=1, verified=1, reads=ANY, passes=1
    )
    assert simulation.joined == {A: []}
    assert sorted(log.more[0]["not_left"]) == [R1, R2]
    assert "404 M_UNRECOGNIZED" in log.more[0]["not_left"][R1]


def test_a_locked_account_cannot_leave_and_is_left_to_synapse(simulate: Simulate, lone_client: Client) -> None:
    log = Log()
    simulation = shared(simulate, OP, user("a", locked=True), a=["r1", "r2"])
    result = run(lone_client, [A], log=log)
    assert result == outcome(
        deactivated={A: "locked"}, left_federated=1, left_all_rooms=1, verified=1, reads=ANY, passes=1
    )
    assert simulation.joined == {A: []}
    assert simulation.steps == [f"POST deactivate {A}"]
    reasons = dict.fromkeys([R1, R2], "left to Synapse")
    assert log.of(A)[0] == ("not_left", {"rooms_left": 0, "not_left": reasons})


def test_those_whom_synapse_makes_leave_are_deactivated_before_the_others_leave(
    simulate: Simulate, lone_client: Client
) -> None:
    simulation = shared(simulate, OP, user("a"), user("b", locked=True), guest("g"), a=["r1"], b=["r1"], g=["r1"])
    run(lone_client, None)
    expected = [f"POST deactivate {B}", f"PUT users {G}", f"POST deactivate {G}"]
    assert sorted(simulation.steps[:3]) == sorted(expected)
    assert simulation.steps[3:] == [f"POST login {A}", f"POST leave {R1}", f"POST deactivate {A}"]


def test_rooms_of_our_own_are_left_to_synapse(simulate: Simulate, lone_client: Client) -> None:
    log = Log()
    simulation = simulate(OP, user("a"), user("b"), closed("c"), a=["r1", "r2"], b=["r1"], op=["r1"])
    result = run(lone_client, [A, B, C], log=log)
    assert result == outcome(
        deactivated={A: "active", B: "active"}, unchanged=1, left_all_rooms=2, verified=3, reads=ANY, passes=1
    )
    assert simulation.joined == {A: [], B: [], OPERATOR: [R1]}
    assert simulation.writes == [f"POST deactivate {A}", f"POST deactivate {B}"]
    assert log.of(A) == [("left", {"rooms_left": 0}), ("deactivated", {}), ("left_all_rooms", {"rooms_left": 2})]


def test_who_was_closed_before_must_be_out_as_well(simulate: Simulate, lone_client: Client) -> None:
    log = Log()
    simulation = simulate(OP, closed("a"), closed("b"), user("c"), a=["r1"], c=["r1"])
    result = run(lone_client, [A, B, C], log=log)
    assert result == outcome(deactivated={C: "active"}, unchanged=2, left_all_rooms=2, verified=3, reads=ANY, passes=1)
    assert simulation.joined == {A: [], C: []}
    assert log.passes == [2]


def test_reads_are_all_that_were_needed(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, closed("a"), user("b"), user("c"), a=["r1"], b=["r1"], c=["r1"])
    simulation.dropped_leaves[C] = 1
    simulation.banned.add(C)
    result = run(lone_client, [A, B, C])
    assert result.reads == len([request for request in simulation.requests if "joined_rooms" in request])


def test_a_leave_that_was_dropped_is_queued_again_when_nothing_moves_any_more(
    simulate: Simulate, lone_client: Client, clock: Clock
) -> None:
    log = Log()
    simulation = simulate(OP, user("a"), user("b"), a=["r1"], b=["r1"])
    simulation.dropped_leaves[A] = 1
    result = run(lone_client, [A, B], wait_timeout=60, log=log)
    assert result == outcome(deactivated={A: "active", B: "active"}, left_all_rooms=2, verified=2, reads=ANY, passes=1)
    assert simulation.writes == [f"POST deactivate {A}", f"POST deactivate {B}", f"POST deactivate {A}"]
    assert log.lines[-2:] == [(A, "queued_again"), (A, "left_all_rooms")]
    assert sum(clock.waits) > 60


def test_a_leave_that_is_dropped_again_is_done_by_hand(simulate: Simulate, lone_client: Client) -> None:
    log = Log()
    simulation = simulate(OP, user("a"), a=["r1"])
    simulation.dropped_leaves[A] = 99
    result = run(lone_client, [A], log=log)
    assert result == outcome(deactivated={A: "active"}, left_all_rooms=1, verified=1, reads=ANY, passes=1)
    assert simulation.joined == {A: []}
    assert f"POST leave {R1}" in simulation.writes
    assert log.lines[-1] == (A, "left_all_rooms")
    assert simulation.locks == []


def test_who_cannot_be_queued_again_leaves_by_hand(simulate: Simulate, lone_client: Client) -> None:
    log = Log()
    simulation = simulate(OP, closed("a"), a=["r1"])
    simulation.faults[f"POST deactivate {A}"] = [(403, FORBIDDEN)]
    result = run(lone_client, [A], log=log)
    assert result == outcome(unchanged=1, left_all_rooms=1, verified=1, reads=ANY, passes=1)
    assert log.lines == [(A, "left"), (A, "not_queued_again"), (A, "left_all_rooms")]
    assert "a module forbids it" in log.more[1]["error"]


def test_who_cannot_leave_at_all(simulate: Simulate, lone_client: Client) -> None:
    log = Log()
    simulation = simulate(OP, user("a"), user("b"), a=["r1", "r2"], b=["r1"])
    simulation.dropped_leaves[A] = 99
    simulation.banned.add(A)
    result = run(lone_client, [A, B], log=log)
    assert result.deactivated == {A: "active", B: "active"}
    assert list(result.still_joined) == [A]
    assert sorted(result.still_joined[A]) == [R1, R2]
    assert "403 M_FORBIDDEN: cannot leave" in result.still_joined[A][R1]
    assert log.lines[-1] == (A, "still_joined")
    assert log.more[-1] == {"rooms": result.still_joined[A]}
    assert (result.left_all_rooms, result.verified, result.failed) == (1, 1, {})


@pytest.mark.parametrize(
    ("fields", "erase", "todo"),
    [
        ({}, True, True),
        ({"locked": True}, True, True),
        ({"suspended": True}, False, True),
        ({"deactivated": True}, True, True),
        ({"deactivated": True}, False, False),
        ({"deactivated": True, "erased": True}, True, False),
        ({"deactivated": True, "erased": True}, False, False),
        ({"is_guest": True, "locked": True}, True, True),
        ({"is_guest": True, "deactivated": True, "erased": True}, True, True),
        ({"is_guest": True, "deactivated": True, "erased": True, "locked": True}, True, False),
        ({"is_guest": True, "deactivated": True, "locked": True}, True, True),
        ({"is_guest": True, "deactivated": True, "locked": True}, False, False),
        ({"is_guest": True, "deactivated": True}, False, True),
    ],
)
def test_who_is_to_be_closed(server: Server, client: Client, fields: Json, erase: bool, todo: bool) -> None:
    server.user(user("a", **fields))
    result = run(client, [A], erase=erase, dry_run=True)
    assert list(result.deactivated) == ([A] if todo else [])
    assert result.unchanged == (0 if todo else 1)


def test_without_waiting_nobody_is_looked_at_afterwards(server: Server, client: Client) -> None:
    for account in (user("a"), closed("b")):
        server.user(account)
    close(server, A, erase=False)
    result = close_only(client, [A, B], erase=False)
    assert result == outcome(deactivated={A: "active"}, unchanged=1, left_all_rooms=1, reads=1, passes=1)


def test_without_waiting_those_in_no_room_have_parted(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), user("b"), closed("c"), a=["r1"], b=["r1", "r2"], c=["r3"])
    simulation.federate("r1")
    result = run(lone_client, [A, B, C], wait_for="none")
    assert result == outcome(
        deactivated={A: "active", B: "active"},
        unchanged=1,
        left_federated=2,
        left_all_rooms=1,
        reads=4,
        passes=1,
        all_left_after=None,
    )


def test_nobody_named_is_nothing_done(client: Client) -> None:
    assert run(client, []).deactivated == {}


# Those who are to be erased, and may still be leaving


def test_who_is_leaving_is_not_disturbed(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a", deactivated=True), a=[f"r{number}" for number in range(20)])
    simulation.leaving.append(A)
    result = run(lone_client, [A])
    assert result == outcome(deactivated={A: "deactivated"}, left_all_rooms=1, verified=1, reads=ANY, passes=1)
    assert simulation.steps == [f"POST deactivate {A}"]
    assert simulation.joined == {A: []}


def test_a_guest_who_is_leaving_is_not_disturbed_either(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, guest("g", deactivated=True, erased=True), g=[f"r{number}" for number in range(20)])
    simulation.leaving.append(G)
    result = run(lone_client, [G])
    assert result == outcome(deactivated={G: "erased"}, left_all_rooms=1, verified=1, reads=ANY, passes=1)
    assert simulation.steps == [f"PUT users {G}", f"POST deactivate {G}"]


def test_who_was_forgotten_while_leaving_is_erased_all_the_same(
    simulate: Simulate, lone_client: Client, clock: Clock
) -> None:
    simulation = simulate(OP, user("a", deactivated=True), a=["r1"])
    result = run(lone_client, [A], wait_timeout=60)
    assert result == outcome(deactivated={A: "deactivated"}, left_all_rooms=1, verified=1, reads=ANY, passes=1)
    assert simulation.writes == [f"POST deactivate {A}"]
    assert 60 < sum(clock.waits) < 70


def test_nobody_waits_for_those_who_are_open(simulate: Simulate, lone_client: Client, clock: Clock) -> None:
    simulate(OP, user("a"), user("b", deactivated=True), a=["r1"])
    run(lone_client, [A, B])
    assert clock.waits == []


# Guests


def test_a_guest_is_locked_and_closed_and_left_to_synapse(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, guest("g"), g=["r1"])
    result = run(lone_client, [G])
    assert result == outcome(deactivated={G: "active"}, left_all_rooms=1, verified=1, reads=ANY, passes=1)
    assert simulation.steps == [f"PUT users {G}", f"POST deactivate {G}"]
    assert simulation.locks == [(G, True)]


def test_a_guest_who_is_locked_is_not_locked_again(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, guest("g", locked=True))
    assert run(lone_client, [G]).deactivated == {G: "locked"}
    assert simulation.locks == []


@pytest.mark.parametrize("user_ids", [[G], None])
def test_a_guest_who_was_closed_but_not_locked_is_found(
    simulate: Simulate, lone_client: Client, user_ids: list[str] | None
) -> None:
    simulation = simulate(OP, guest("g", deactivated=True, erased=True))
    result = run(lone_client, user_ids)
    assert result == outcome(deactivated={G: "erased"}, left_all_rooms=1, verified=1, reads=ANY, passes=1)
    assert simulation.locks == [(G, True)]
    assert run(lone_client, user_ids) == outcome(unchanged=1, verified=1, reads=ANY, passes=1)


def test_a_guest_who_cannot_be_locked_stays_open(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, guest("g"))
    simulation.faults[f"PUT users {G}"] = [(403, FORBIDDEN)]
    result = run(lone_client, [G])
    assert list(result.failed) == [G]
    assert simulation.steps == [f"PUT users {G}"]


def test_nobody_but_guests_is_locked(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), a=["r1"])
    run(lone_client, [A])
    assert simulation.locks == []


def test_a_server_that_is_too_old_for_locks(simulate: Simulate, lone_client: Client) -> None:
    old_guest = guest("b", deactivated=True, erased=True)
    simulation = simulate(OP, *map(without_locks, (guest("g"), old_guest, closed("c"))), c=["r1"])
    simulation.dropped_leaves[C] = 99
    result = run(lone_client, None)
    assert result == outcome(deactivated={G: "active"}, unchanged=2, left_all_rooms=2, verified=3, reads=ANY, passes=1)
    assert simulation.joined == {C: []}
    assert simulation.locks == []


# Old versions, on which whoever is erased while leaving joins rooms again


def old(simulate: Simulate, *users: Json, **joined: list[str]) -> Homeserver:
    simulation = simulate(OP, *users, **joined)
    simulation.version = "1.120.2"
    return simulation


def test_on_old_versions_an_account_is_erased_once_it_has_left(simulate: Simulate, lone_client: Client) -> None:
    log = Log()
    simulation = old(simulate, user("a"), user("b", locked=True), guest("g"), a=["r1"], b=["r1", "r2"], g=["r2"])
    simulation.federate("r1", "r2")
    result = run(lone_client, None, log=log)
    assert result == outcome(
        deactivated={A: "active", B: "locked", G: "active"},
        left_federated=3,
        left_all_rooms=3,
        verified=3,
        reads=ANY,
        passes=1,
    )
    assert simulation.joined == {A: [], B: [], G: []}
    assert all(simulation.accounts[user_id]["erased"] for user_id in (A, B, G))
    deactivations = [step for step in simulation.steps if "deactivate" in step]
    assert sorted(deactivations) == sorted([f"POST deactivate {user_id}" for user_id in (A, B, B, G, G)])
    assert log.of(B)[-1] == ("left_all_rooms", {"rooms_left": 2})


@pytest.mark.parametrize(
    ("version", "options"), [("1.150.0", {}), ("1.120.2", {"erase": False}), ("1.120.2", {"wait_for": "none"})]
)
def test_otherwise_once_is_enough(
    simulate: Simulate, lone_client: Client, version: str, options: dict[str, Any]
) -> None:
    simulation = simulate(OP, user("a"), a=["r1"])
    simulation.version = version
    run(lone_client, [A], **options)
    assert simulation.steps == [f"POST deactivate {A}"]
    assert simulation.accounts[A]["erased"] is options.get("erase", True)


def test_on_old_versions_the_stuck_are_not_erased_before_they_have_left(
    simulate: Simulate, lone_client: Client
) -> None:
    simulation = old(simulate, user("a"), closed("b"), a=["r1"], b=["r1"])
    simulation.dropped_leaves = {A: 1, B: 1}
    result = run(lone_client, [A, B])
    assert result == outcome(deactivated={A: "active"}, unchanged=1, left_all_rooms=2, verified=2, reads=ANY, passes=1)
    assert simulation.joined == {A: [], B: []} and simulation.rejoining == {}
    assert simulation.accounts[A]["erased"]


def test_on_old_versions_who_can_not_leave_is_erased_in_the_end(simulate: Simulate, lone_client: Client) -> None:
    simulation = old(simulate, user("a"), a=["r1"])
    simulation.dropped_leaves[A] = 99
    simulation.banned.add(A)
    result = run(lone_client, None)
    assert simulation.accounts[A]["erased"]
    assert list(result.still_joined) == [A] and result.failed == {}


def test_on_old_versions_accounts_leave_all_rooms_to_be_erased(simulate: Simulate, lone_client: Client) -> None:
    simulation = old(simulate, user("a"), a=[f"r{number}" for number in range(20)])
    simulation.federate("r1")
    result = run(lone_client, None, wait_for="federated")
    assert (result.deactivated, result.verified, result.failed) == ({A: "active"}, 1, {})
    assert simulation.accounts[A]["erased"] and simulation.joined == {A: []} and simulation.rejoining == {}


def test_an_erasure_that_fails_afterwards(simulate: Simulate, lone_client: Client) -> None:
    simulation = old(simulate, user("a"), a=["r1"])
    simulation.faults[f"POST deactivate {A}"] = [None, (403, FORBIDDEN)]
    result = run(lone_client, [A])
    assert result.deactivated == {} and "a module forbids it" in result.failed[A]
    assert run(lone_client, [A]) == outcome(
        deactivated={A: "deactivated"}, left_all_rooms=1, verified=1, reads=ANY, passes=1
    )
    assert simulation.accounts[A]["erased"]


def test_an_erasure_that_fails_is_tried_again_in_the_next_pass(simulate: Simulate, lone_client: Client) -> None:
    simulation = old(simulate, user("a"), a=["r1"])
    simulation.faults[f"POST deactivate {A}"] = [None, (403, FORBIDDEN)]
    result = run(lone_client, None)
    assert result == outcome(deactivated={A: "deactivated"}, left_all_rooms=2, verified=1, reads=ANY, passes=2)
    assert simulation.accounts[A]["erased"]


# Those who are stuck, and locked


def stuck_and_locked(simulate: Simulate) -> Homeserver:
    simulation = simulate(OP, closed("a", locked=True), a=["r1"])
    simulation.dropped_leaves[A] = 99
    return simulation


def test_who_is_locked_is_unlocked_to_leave_by_hand(simulate: Simulate, lone_client: Client) -> None:
    simulation = stuck_and_locked(simulate)
    result = run(lone_client, [A])
    assert result == outcome(unchanged=1, left_all_rooms=1, verified=1, reads=ANY, passes=1)
    assert simulation.locks == [(A, False), (A, True)]
    assert simulation.steps[1:] == [f"PUT users {A}", f"POST login {A}", f"POST leave {R1}", f"PUT users {A}"]


@pytest.mark.parametrize("what", [f"POST login {A}", f"POST leave {R1}"])
def test_who_cannot_leave_by_hand_is_locked_again(simulate: Simulate, lone_client: Client, what: str) -> None:
    simulation = stuck_and_locked(simulate)
    simulation.faults[what] = [(403, FORBIDDEN)]
    result = run(lone_client, [A])
    assert simulation.locks == [(A, False), (A, True)]
    assert list(result.still_joined[A]) == [R1]
    assert "a module forbids it" in result.still_joined[A][R1]
    assert (result.left_all_rooms, result.verified) == (0, 0)


def test_who_cannot_be_unlocked_has_not_parted(simulate: Simulate, lone_client: Client) -> None:
    simulation = stuck_and_locked(simulate)
    simulation.faults[f"PUT users {A}"] = [(403, FORBIDDEN)]
    result = run(lone_client, [A])
    assert result.aborted is None
    assert "a module forbids it" in result.still_joined[A][R1]
    assert f"POST login {A}" not in simulation.writes


# Redaction


def sent_by_a(simulate: Simulate, *users: Json, **joined: list[str]) -> Homeserver:
    """A has sent two messages to a room, and another account one."""
    simulation = shared(simulate, OP, user("a"), *users, **{"a": ["r1"], **joined})
    simulation.events[R1] = [message("$1", A), message("$2", B), message("$3", A)]
    return simulation


def test_what_an_account_has_sent_is_redacted_before_it_leaves(simulate: Simulate, lone_client: Client) -> None:
    simulation = sent_by_a(simulate)
    result = run(lone_client, [A], redact=True)
    assert result == outcome(
        deactivated={A: "active"}, left_federated=1, left_all_rooms=1, verified=1, reads=3, passes=1
    )
    assert simulation.steps == [
        f"POST login {A}",
        "PUT redact $1",
        "PUT redact $3",
        f"POST leave {R1}",
        f"POST deactivate {A}",
    ]


def test_redaction_also_comes_first_if_leaving_is_left_to_synapse(simulate: Simulate, lone_client: Client) -> None:
    simulation = sent_by_a(simulate)
    del simulation.members[R1]["@someone:other.example"]
    run(lone_client, [A], redact=True)
    assert simulation.steps == [f"POST login {A}", "PUT redact $1", "PUT redact $3", f"POST deactivate {A}"]
    # A redaction counts as a message.
    limits = [write.partition(" ")[0] for write in simulation.writes if "override_ratelimit" in write]
    assert limits == ["POST", "DELETE"]


def test_nothing_is_redacted_unless_that_is_wanted(simulate: Simulate, lone_client: Client) -> None:
    simulation = sent_by_a(simulate)
    run(lone_client, [A])
    assert not [request for request in simulation.requests if "redact" in request or "messages" in request]


def test_who_is_in_no_room_has_nothing_that_could_be_redacted(simulate: Simulate, lone_client: Client) -> None:
    simulation = sent_by_a(simulate, a=[])
    run(lone_client, [A], redact=True)
    assert simulation.steps == [f"POST deactivate {A}"]


@pytest.mark.parametrize("what", [f"POST login {A}", f"GET messages {R1}"])
def test_whose_redaction_failed_stays_open_and_in_its_rooms(simulate: Simulate, lone_client: Client, what: str) -> None:
    log = Log()
    simulation = sent_by_a(simulate, user("b"), b=["r1"])
    simulation.faults[what] = [(500, BROKEN)]
    result = run(lone_client, [A, B], redact=True, log=log)
    assert result.deactivated == {B: "active"}
    assert list(result.failed) == [A]
    assert "broken" in result.failed[A]
    assert simulation.joined == {A: [R1], B: []}
    assert f"POST deactivate {A}" not in simulation.writes
    assert [result for result, _more in log.of(A)] == ["failed"]


def test_a_locked_account_cannot_redact_and_stays_open(simulate: Simulate, lone_client: Client) -> None:
    simulation = sent_by_a(simulate)
    simulation.accounts[A]["locked"] = True
    result = run(lone_client, [A], redact=True)
    assert result.aborted is None
    assert result.deactivated == {}
    assert "401 M_USER_LOCKED" in result.failed[A]
    assert simulation.joined == {A: [R1]}


def test_single_events_that_could_not_be_redacted_keep_nobody_open(simulate: Simulate, lone_client: Client) -> None:
    log = Log()
    simulation = sent_by_a(simulate)
    simulation.faults["PUT redact $1"] = [(403, FORBIDDEN)]
    result = run(lone_client, [A], redact=True, log=log)
    assert result.deactivated == {A: "active"}
    assert result.not_redacted == {A: (1, ANY)}
    assert "a module forbids it" in result.not_redacted[A][1]
    assert log.lines[:2] == [(A, "not_redacted"), (A, "left")]
    assert log.more[0] == {"not_redacted": {"$1": result.not_redacted[A][1]}}
    assert "PUT redact $3" in simulation.writes


@pytest.mark.parametrize(
    ("status", "errcode"),
    [
        (500, "M_UNKNOWN"),
        (429, "M_LIMIT_EXCEEDED"),
        (401, "M_UNKNOWN_TOKEN"),
        (403, "M_USER_SUSPENDED"),
        (403, "M_RESOURCE_LIMIT_EXCEEDED"),
        (404, "M_UNRECOGNIZED"),
    ],
)
def test_an_account_with_events_that_could_be_redacted_later_stays_active(
    simulate: Simulate, lone_client: Client, status: int, errcode: str
) -> None:
    simulation = sent_by_a(simulate)
    simulation.faults["PUT redact $3"] = [(status, matrix_error(errcode, "not now"))] * 999
    result = run(lone_client, [A], redact=True)
    assert result.deactivated == {}
    assert "not now" in result.failed[A]
    assert simulation.joined == {A: [R1]}
    assert not simulation.accounts[A]["deactivated"]
    assert "PUT redact $1" in simulation.writes


def test_one_event_for_later_counts_more_than_others_for_never(simulate: Simulate, lone_client: Client) -> None:
    simulation = sent_by_a(simulate)
    simulation.faults["PUT redact $1"] = [(403, FORBIDDEN)]
    simulation.faults["PUT redact $3"] = [(500, BROKEN)]
    result = run(lone_client, [A], redact=True)
    assert result.failed[A].startswith("1 of its events are not redacted yet, so it stays active. The reason of one: ")
    assert "broken" in result.failed[A]
    assert result.not_redacted[A][0] == 2
    assert not simulation.accounts[A]["deactivated"]


def test_events_that_are_redacted_in_the_next_pass_are_reported_no_more(
    simulate: Simulate, lone_client: Client
) -> None:
    simulation = sent_by_a(simulate)
    simulation.faults["PUT redact $3"] = [(500, BROKEN)]
    result = run(lone_client, None, redact=True)
    assert result.passes == 2
    assert result.deactivated == {A: "active"}
    assert (result.failed, result.not_redacted) == ({}, {})
    assert simulation.writes.count("PUT redact $3") == 2


def test_thousands_of_events_outlast_a_session(simulate: Simulate, lone_client: Client, clock: Clock) -> None:
    simulation = simulate(OP, user("a"), a=["r1"])
    simulation.events[R1] = [message(f"${number}", A) for number in range(3_000)]

    def two_seconds() -> None:
        clock.now += 2
        simulation.now += 2

    simulation.faults.update({f"PUT redact ${number}": two_seconds for number in range(3_000)})
    result = run(lone_client, [A], redact=True)
    assert (result.failed, result.not_redacted) == ({}, {})
    assert result.deactivated == {A: "active"}
    assert not any(event["content"] for event in simulation.events[R1])
    assert simulation.writes.count(f"POST login {A}") == 2


def test_a_guest_redacts_as_well(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, guest("g"), g=["r1"])
    simulation.events[R1] = [message("$1", G)]
    run(lone_client, [G], redact=True)
    assert simulation.steps == [f"POST login {G}", "PUT redact $1", f"PUT users {G}", f"POST deactivate {G}"]


# Everybody


def test_everybody_but_admins_and_those_kept(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, ADMIN, user("a"), user("b"), guest("g"), a=["r1"], b=["r1"], root=["r1"])
    result = run(lone_client, None, keep=(B,))
    assert result == outcome(deactivated={A: "active", G: "active"}, left_all_rooms=2, verified=2, reads=ANY, passes=1)
    assert simulation.joined == {A: [], B: [R1], ROOT: [R1]}


def test_all_are_listed_before_the_first_is_closed(server: Server, client: Client) -> None:
    query = {"limit": "10000", "order_by": "name", "locked": "true", "guests": "true", "deactivated": "true"}
    server.get("/_synapse/admin/v2/users", {"users": [OP, user("a")], "next_token": "2", "total": 3}, query=query)
    server.get("/_synapse/admin/v2/users", {"users": [user("b")], "total": 3}, query={**query, "from": "2"})
    server.joined(A)
    server.joined(B)
    server.check_and_deactivate(A)
    server.check_and_deactivate(B)
    server.users(OP, closed("a"), closed("b"))
    assert sorted(close_only(client, None).deactivated) == [A, B]


def test_who_registers_between_two_pages_of_the_listing(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, *map(user, "bcdef"), b=["r1"])
    simulation.page_size = 2
    simulation.faults["GET users v2"] = [None, lambda: simulation.register("a")]
    result = run(lone_client, None)
    assert len(result.deactivated) == 6 and result.passes == 1
    active = [user_id for user_id, account in simulation.accounts.items() if not account["deactivated"]]
    assert active == [OPERATOR]


def test_a_listing_that_breaks_off_closes_nobody(server: Server, client: Client) -> None:
    query = {"limit": "10000", "order_by": "name", "locked": "true", "guests": "true", "deactivated": "true"}
    server.get("/_synapse/admin/v2/users", {"users": [OP, user("a")], "next_token": "2", "total": 3}, query=query)
    server.get("/_synapse/admin/v2/users", FORBIDDEN, status=403, query={**query, "from": "2"})
    with pytest.raises(SynapseError, match="forbids"):
        run(client, None)


def test_who_came_in_the_meantime_is_closed_too(server: Server, client: Client) -> None:
    server.users(OP, user("a"))
    close(server, A)
    server.users(OP, closed("a"), user("b"))
    close(server, B)
    server.users(OP, closed("a"), closed("b"), user("c", suspended=True))
    close(server, C)
    server.users(OP, closed("a"), closed("b"), closed("c"))
    log = Log()
    result = close_only(client, None, log=log)
    assert list(result.deactivated) == [A, B, C]
    assert result.passes == 3
    assert log.passes == [1, 1, 1]
    assert result.failed == {}


def test_who_keeps_being_opened_again(server: Server, client: Client) -> None:
    for _pass in range(2):
        server.users(OP, user("a"))
        close(server, A)
    server.users(OP, user("a"))
    server.user(user("a"))
    result = close_only(client, None, max_passes=2)
    assert result.passes == 2
    assert list(result.failed) == [A]
    assert "2 passes" in result.failed[A]


@pytest.mark.parametrize("max_passes", [1, 0, -1])
def test_there_is_no_more_than_one_pass_if_no_more_is_wanted(server: Server, client: Client, max_passes: int) -> None:
    server.users(OP, user("a"))
    close(server, A)
    server.users(OP, closed("a"), user("b"))
    server.user(user("b"))
    result = close_only(client, None, max_passes=max_passes)
    assert (list(result.deactivated), list(result.failed), result.passes) == ([A], [B], 1)


# Everybody: those who come back


def test_who_came_back_to_a_room_is_seen_out_again(simulate: Simulate, lone_client: Client) -> None:
    log = Log()
    simulation = simulate(OP, ADMIN, user("a"), user("b"), user("c"), a=["r1"], b=["r1", "r2"], c=["r3"], root=["r1"])
    simulation.faults["GET users v2"] = [lambda: None, lambda: simulation.join(A, "r2", "r3")]
    result = run(lone_client, None, keep=(B,), log=log)
    assert result.deactivated == {A: "active", C: "active"}
    assert (result.passes, result.still_joined, result.failed) == (2, {}, {})
    assert simulation.joined == {A: [], B: [R1, R2], C: [], ROOT: [R1]}
    assert log.passes == [2, 1]
    assert log.lines[-1] == (A, "left_all_rooms")
    assert log.more[-1] == {"rooms_left": 2}
    # It was seen to be in no room twice, and counts once.
    assert result.verified == 2


def test_everybody_who_is_closed_is_looked_at_once_more(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(
        OP, ADMIN, user("a"), user("b"), closed("c"), a=["r1"], b=["r1", "r2"], root=["r1"], op=["r3"]
    )
    result = run(lone_client, None, keep=(B,))
    assert result == outcome(deactivated={A: "active"}, unchanged=1, left_all_rooms=1, verified=2, reads=ANY, passes=1)
    looks = [request for request in simulation.requests if "joined_rooms" in request]
    # At the beginning, when it is waited for, and at the end.
    assert sorted(looks) == [*[f"GET joined_rooms {A}"] * 3, *[f"GET joined_rooms {C}"] * 2]
    assert looks[-2:] == [f"GET joined_rooms {A}", f"GET joined_rooms {C}"]
    assert simulation.requests[-3:] == ["GET users v2", *looks[-2:]]


def test_who_came_back_is_found_by_no_statistics(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), user("b"), a=["r1"], b=["r1"])
    simulation.faults["GET rooms v1"] = [(200, {"rooms": [], "total_rooms": 0})] * 99
    simulation.faults["GET users v2"] = [lambda: None, lambda: simulation.join(A, "r2")]
    result = run(lone_client, None)
    assert (result.passes, result.left_all_rooms, result.verified, result.still_joined) == (2, 3, 2, {})
    assert simulation.joined == {A: [], B: []}


def test_who_was_closed_by_others_meanwhile_is_looked_at_too(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), a=["r1"], b=["r2"])
    simulation.faults["GET users v2"] = [
        lambda: None,
        lambda: simulation.accounts.update({B: closed("b"), C: closed("c")}),
    ]
    result = run(lone_client, None)
    assert (list(result.deactivated), result.passes, result.verified) == ([A], 2, 3)
    assert simulation.joined[B] == []


def test_who_came_back_is_not_proven_to_have_left(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), user("b"), a=["r1"], b=["r1"])

    def come_back() -> None:
        simulation.join(A, "r2")
        simulation.last_write = len(simulation.writes)

    simulation.faults["GET users v2"] = [lambda: None, come_back]
    result = run(lone_client, None)
    assert result.aborted is not None
    assert (result.left_all_rooms, result.verified) == (2, 1)


def test_who_was_opened_again_is_not_proven_to_have_left(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), user("b"), a=["r1"], b=["r1"])

    def open_again() -> None:
        simulation.accounts[A] = user("a")
        simulation.faults[f"POST deactivate {A}"] = [(403, FORBIDDEN)] * 99

    simulation.faults["GET users v2"] = [lambda: None, open_again]
    result = run(lone_client, None)
    assert (list(result.failed), result.verified) == ([A], 1)


def test_who_comes_back_again_and_again_is_named(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), user("b"), a=["r1"], b=["r1"])
    simulation.faults["GET users v2"] = [lambda: None, *[lambda: simulation.join(A, "r2", "r3")] * 5]
    result = run(lone_client, None, max_passes=3)
    assert result.passes == 3
    assert list(result.still_joined) == [A]
    assert sorted(result.still_joined[A]) == [R2, R3]
    assert "application service" in result.still_joined[A][R2]
    assert result.verified == 1


def test_who_could_not_be_made_to_leave_is_not_tried_again(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), a=["r1"])
    simulation.dropped_leaves[A] = 99
    simulation.banned.add(A)
    simulation.faults["GET users v2"] = [lambda: None, lambda: simulation.accounts.update({B: user("b")})]
    result = run(lone_client, None)
    assert result.deactivated == {A: "active", B: "active"}
    assert list(result.still_joined) == [A]
    assert simulation.writes.count(f"POST deactivate {A}") == 2
    assert result.passes == 2
    assert (result.left_all_rooms, result.verified) == (1, 1)


def test_who_was_opened_again_and_parts_then_has_parted(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), a=["r1"])
    simulation.dropped_leaves[A] = 2
    simulation.banned.add(A)

    def open_again() -> None:
        simulation.accounts[A] = user("a")

    simulation.faults["GET users v2"] = [lambda: None, open_again]
    result = run(lone_client, None)
    assert result == outcome(deactivated={A: "active"}, left_all_rooms=1, verified=1, reads=ANY, passes=2)


def test_who_comes_back_is_of_no_interest_without_waiting(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), a=["r1"])
    simulation.faults["GET users v2"] = [lambda: None, lambda: simulation.join(A, "r2")]
    result = run(lone_client, None, wait_for="none")
    assert (result.passes, result.reads) == (1, 1)
    assert simulation.joined == {A: [R2]}


# What goes wrong


def test_one_that_fails_does_not_keep_from_the_others(simulate: Simulate, lone_client: Client) -> None:
    log = Log()
    simulation = simulate(OP, user("a"), user("b"), a=["r1"], b=["r1"])
    simulation.faults[f"POST deactivate {A}"] = [(403, FORBIDDEN)] * 99
    result = run(lone_client, [A, B], log=log)
    assert result.deactivated == {B: "active"}
    assert "403 M_FORBIDDEN: a module forbids it" in result.failed[A]
    assert log.of(A) == [("left", {"rooms_left": 0}), ("failed", {"error": result.failed[A]})]
    assert [result for result, _more in log.of(B)] == ["left", "deactivated", "left_all_rooms"]
    assert (result.left_all_rooms, result.verified) == (1, 1)


def test_one_whose_rooms_cannot_be_read_is_not_closed(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), user("b"), a=["r1"], b=["r1"])
    simulation.faults[f"GET joined_rooms {A}"] = [(500, BROKEN)]
    result = run(lone_client, [A, B])
    assert result.deactivated == {B: "active"}
    assert "500 M_UNKNOWN: broken" in result.failed[A]
    assert f"POST deactivate {A}" not in simulation.writes


def test_one_whose_rooms_cannot_be_read_afterwards_is_closed_and_waited_for(
    simulate: Simulate, lone_client: Client
) -> None:
    simulation = shared(simulate, OP, user("a"), a=["r1"])
    simulation.faults[f"GET joined_rooms {A}"] = [(200, {"joined_rooms": [R1]}), (500, BROKEN)]
    result = run(lone_client, [A])
    assert result == outcome(
        deactivated={A: "active"}, left_federated=1, left_all_rooms=1, verified=1, reads=3, passes=1
    )


def test_whom_the_server_would_not_close_is_tried_once_more(simulate: Simulate, lone_client: Client) -> None:
    log = Log()
    simulation = simulate(OP, user("a"), user("b"))
    simulation.faults[f"POST deactivate {A}"] = [(403, FORBIDDEN)]
    result = run(lone_client, None, log=log)
    assert result == outcome(deactivated={B: "active", A: "active"}, left_all_rooms=2, verified=2, reads=ANY, passes=2)
    assert [result for result, _more in log.of(A)] == ["left", "failed", "left", "deactivated", "left_all_rooms"]


@pytest.mark.parametrize("user_ids", [None, [A, B]])
def test_an_account_that_somebody_else_deactivates_has_not_failed(
    simulate: Simulate, lone_client: Client, user_ids: list[str] | None
) -> None:
    simulation = simulate(OP, user("a"), user("b"))
    simulation.faults[f"POST deactivate {A}"] = [(403, FORBIDDEN)] * 9

    class Meanwhile(Log):
        def write(self, user_id: str, result: str, **more: object) -> None:
            if result == "failed":
                simulation.accounts[user_id] = closed(user_id)

    result = run(lone_client, user_ids, log=Meanwhile())
    assert (result.deactivated, result.failed, result.unchanged) == ({B: "active"}, {}, 1)


def test_who_fails_twice_is_hopeless(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), user("b"))
    simulation.faults[f"POST deactivate {A}"] = [(403, FORBIDDEN)] * 99
    # Somebody new in each pass, but the first would be tried again for ever.
    simulation.faults["GET users v2"] = [lambda: None, *[lambda: simulation.accounts.update({C: user("c")})] * 9]
    result = run(lone_client, None, max_passes=4)
    assert result.passes == 4
    assert simulation.writes.count(f"POST deactivate {A}") == 2
    assert sorted(result.deactivated) == [B, C]
    assert "a module forbids it" in result.failed[A]


def test_who_comes_later_and_fails_is_tried_once_more_as_well(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"))
    simulation.faults[f"POST deactivate {B}"] = [(403, FORBIDDEN)]
    simulation.faults["GET users v2"] = [lambda: None, lambda: simulation.accounts.update({B: user("b")})]
    result = run(lone_client, None)
    assert result == outcome(deactivated={A: "active", B: "active"}, left_all_rooms=2, verified=2, reads=ANY, passes=3)


def test_the_hopeless_alone_end_the_drain(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), a=["r1"])
    simulation.faults[f"POST login {A}"] = simulation.faults[f"POST deactivate {A}"] = [(403, FORBIDDEN)] * 99
    result = run(lone_client, None)
    assert result.passes == 2
    assert list(result.failed) == [A]
    assert simulation.joined == {A: [R1]}


def test_who_failed_in_the_last_pass_keeps_its_reason(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"))
    simulation.faults[f"POST deactivate {A}"] = [(403, FORBIDDEN)] * 99
    assert "a module forbids it" in run(lone_client, None, max_passes=1).failed[A]


def test_a_dead_token_ends_the_drain_with_what_was_done(server: Server, client: Client) -> None:
    log = Log()
    server.user(user("a"))
    server.user(user("b"))
    server.joined(A)
    server.joined(B)
    server.check_and_deactivate(A)
    server.check_and_deactivate(B, DEAD_TOKEN, status=401)
    result = run(client, [A, B], log=log)
    assert result.aborted is not None
    assert result.aborted.errcode == "M_UNKNOWN_TOKEN"
    assert result.deactivated == {A: "active"}
    assert log.lines == [(A, "left"), (B, "left"), (A, "deactivated")]
    assert result.failed == {}


# The rate limit, for each a login and a leave, the logouts, the deactivations, and the rate limit again.
STEPS = ["limit", *["login", "leave"] * 2, *["logout"] * 2, *["deactivate"] * 2, "limit"]


def test_the_steps_of_two_accounts(simulate: Simulate, lone_client: Client) -> None:
    simulation = shared(simulate, OP, user("a"), user("b"), a=["r1"], b=["r1"])
    run(lone_client, [A, B])
    assert len(simulation.writes) == len(STEPS)
    for write, step in zip(simulation.writes, STEPS):
        assert step in write


@pytest.mark.parametrize("writes", range(len(STEPS)))
def test_a_token_that_dies_at_any_step(simulate: Simulate, lone_client: Client, writes: int) -> None:
    simulation = shared(simulate, OP, user("a"), user("b"), a=["r1"], b=["r1"])
    simulation.last_write = writes
    result = run(lone_client, [A, B])
    assert result.aborted is not None
    assert result.aborted.errcode == "M_UNKNOWN_TOKEN"
    assert list(result.deactivated) == [A, B][: STEPS[:writes].count("deactivate")]
    assert result.left_federated == (2 if writes >= STEPS.index("logout") else 0)
    assert result.left_all_rooms == result.verified == 0
    assert (result.failed, result.federated_left_after) == ({}, None)
    # Whoever was logged in as is logged out.
    logins = STEPS[:writes].count("login")
    assert len([write for write in simulation.writes if "logout" in write]) == logins


@pytest.mark.parametrize("exception", [requests.exceptions.ConnectTimeout(), requests.exceptions.SSLError()])
def test_a_server_that_is_gone_ends_the_drain(
    server: Server, client: Client, clock: Clock, exception: Exception
) -> None:
    server.user(user("a"))
    server.joined(A)
    server.user(user("a"))
    for _try in range(len(TWO_MINUTES) + 1):
        server.deactivate(A, exception)
    result = run(client, [A])
    assert result.aborted is not None
    assert result.deactivated == {}
    assert clock.waits == TWO_MINUTES


def test_an_error_while_waiting_is_reported_with_what_was_done(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), a=["r1", "r2", "r3", "r4"])
    simulation.faults["GET rooms v1"] = [(500, BROKEN)]
    result = run(lone_client, [A])
    assert result.deactivated == {A: "active"}
    assert result.aborted is not None
    assert "broken" in str(result.aborted)
    assert result.reads == 2


def test_a_token_that_dies_while_waiting(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), user("b"), a=["r1"], b=["r1"])
    simulation.dropped_leaves.update({A: 1, B: 1})
    simulation.last_write = 2
    result = run(lone_client, [A, B])
    assert result.deactivated == {A: "active", B: "active"}
    assert result.aborted is not None
    assert result.aborted.errcode == "M_UNKNOWN_TOKEN"
    assert len(simulation.writes) == 3


@pytest.mark.parametrize("writes", range(1, 5))
def test_a_token_that_dies_while_one_leaves_by_hand(simulate: Simulate, lone_client: Client, writes: int) -> None:
    simulation = stuck_and_locked(simulate)
    simulation.last_write = writes
    result = run(lone_client, [A])
    assert result.aborted is not None
    assert result.aborted.errcode == "M_UNKNOWN_TOKEN"
    assert (result.unchanged, result.left_all_rooms, result.verified) == (1, 0, 0)


def test_an_error_of_a_later_look_ends_the_drain(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), closed("b"))
    simulation.faults[f"GET joined_rooms {B}"] = [None, (500, BROKEN)]
    result = run(lone_client, None)
    assert "broken" in str(result.aborted)
    assert (list(result.deactivated), result.failed) == ([A], {})


def test_an_error_of_a_later_listing_is_reported_with_what_was_done(server: Server, client: Client) -> None:
    server.users(OP, user("a"))
    close(server, A)
    query = {"limit": "10000", "order_by": "name", "locked": "true", "guests": "true", "deactivated": "true"}
    server.get("/_synapse/admin/v2/users", DEAD_TOKEN, status=401, query=query)
    result = close_only(client, None)
    assert result.deactivated == {A: "active"}
    assert result.aborted is not None


def test_who_failed_is_told_also_if_the_next_pass_breaks_off(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), user("b"))
    simulation.faults[f"POST deactivate {A}"] = [(403, FORBIDDEN)]
    simulation.faults[f"GET joined_rooms {A}"] = [(200, {"joined_rooms": []}), (401, DEAD_TOKEN)]
    result = run(lone_client, None)
    assert result.aborted is not None
    assert result.deactivated == {B: "active"}
    assert "a module forbids it" in result.failed[A]


def test_a_log_that_cannot_be_written_ends_the_drain(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, *map(user, "abcdefgh"))
    with DrainLog("/dev/full") as journal:
        result = run(lone_client, None, log=journal)
    assert result.aborted is not None
    assert "cannot write the log" in str(result.aborted)
    assert result.deactivated == {} and simulation.steps == []


def test_leaves_without_an_answer_are_left_to_the_deactivation(
    simulate: Simulate, lone_client: Client, tmp_path: Path
) -> None:
    """A worker that is down answers no leave. The main process makes the accounts leave when they are deactivated."""
    rooms = {name: [f"{name}{number}" for number in range(3)] for name in "abc"}
    simulation = shared(simulate, OP, *map(user, rooms), **rooms)
    for name in itertools.chain(*rooms.values()):
        simulation.faults[f"POST leave {room_id(name)}"] = (502, {})
    path = tmp_path / "log"
    with DrainLog(str(path)) as log:
        result = run(lone_client, None, log=log)
    assert (sorted(result.deactivated), result.failed, result.aborted) == ([A, B, C], {}, None)
    assert simulation.joined == {A: [], B: [], C: []}
    tried = {str(request) for request in simulation.log if str(request).startswith("POST leave")}
    assert len(tried) == MAX_UNANSWERED
    events = [json.loads(line)["result"] for line in path.read_text().splitlines()]
    assert events.count("left_to_deactivation") == 3
    assert sorted(result.left_to_deactivation) == [A, B, C]


# Rooms that can't be left


def test_a_broken_room_leaves_all_other_rooms_and_accounts_alone(simulate: Simulate, lone_client: Client) -> None:
    simulation = shared(simulate, OP, *map(user, "abc"), a=["r1", "r2"], b=["r1", "r3"], c=["r2"])
    simulation.broken.add(R1)
    result = run(lone_client, None)
    assert simulation.joined == {A: [R1], B: [R1], C: []}
    assert (list(result.deactivated), result.failed, result.aborted) == ([A, B, C], {}, None)
    assert {user_id: list(rooms) for user_id, rooms in result.still_joined.items()} == {A: [R1], B: [R1]}
    assert list(result.broken) == [R1]
    room = result.broken[R1]
    assert (room.room_id, room.accounts, room.federated) == (R1, 2, True)
    assert "500 M_UNKNOWN: Internal server error" in room.reason
    assert (result.left_federated, result.left_all_rooms, result.verified, result.passes) == (1, 1, 1, 1)
    assert (result.federated_left_after, result.all_left_after) == (None, None)


def test_a_broken_room_of_our_own_is_waited_for_only_with_all(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), a=["r1", "r2"])
    simulation.federate("r2")
    simulation.broken.add(R1)
    federated = run(lone_client, None, wait_for="federated")
    assert (federated.broken, federated.still_joined, federated.verified) == ({}, {}, 1)
    assert federated.federated_left_after is not None
    everything = run(lone_client, None)
    assert [(room.room_id, room.federated) for room in everything.broken.values()] == [(R1, False)]
    assert everything.federated_left_after is not None and everything.all_left_after is None


def test_a_room_that_the_server_fails_at_is_not_tried_by_all(simulate: Simulate, lone_client: Client) -> None:
    names = "abcdefgh"
    simulation = shared(simulate, OP, *map(user, names), **{name: ["r1", "r2"] for name in names})
    simulation.broken.add(R1)
    run(lone_client, None, wait_for="none")
    assert simulation.steps.count(f"POST leave {R1}") == 3
    assert simulation.steps.count(f"POST leave {R2}") == len(names)


def test_a_room_that_some_may_not_leave_is_tried_by_all(simulate: Simulate, lone_client: Client) -> None:
    simulation = shared(simulate, OP, *map(user, "abcde"), **{name: ["r1"] for name in "abcde"})
    simulation.banned = {f"@{name}:example.org" for name in "abcde"}
    run(lone_client, None, wait_for="none")
    assert simulation.steps.count(f"POST leave {R1}") == 5


def test_who_comes_back_from_a_broken_room_to_another_is_seen(simulate: Simulate, lone_client: Client) -> None:
    simulation = shared(simulate, OP, user("a"), a=["r1"])
    simulation.broken.add(R1)
    simulation.federate("r2")
    simulation.faults["GET users v2"] = [lambda: None, lambda: simulation.join(A, "r1", "r2")]
    result = run(lone_client, None)
    assert simulation.joined == {A: [R1]}
    assert (list(result.still_joined[A]), list(result.broken), result.passes) == ([R1], [R1], 2)


def test_a_room_that_heals_by_itself_is_not_broken(simulate: Simulate, lone_client: Client) -> None:
    simulation = shared(simulate, OP, user("a"), a=["r1"])
    simulation.broken.add(R1)
    simulation.faults["GET users v2"] = [lambda: None, simulation.leave_all]
    result = run(lone_client, None)
    assert (result.still_joined, result.broken, result.verified) == ({}, {}, 1)


def test_a_room_that_somebody_comes_back_to_is_not_broken(simulate: Simulate, lone_client: Client) -> None:
    simulation = shared(simulate, OP, user("a"), a=["r1"])
    simulation.faults["GET users v2"] = [lambda: None, *[lambda: simulation.join(A, "r1")] * 5]
    result = run(lone_client, None, max_passes=2)
    assert (list(result.still_joined), result.broken) == ([A], {})


# A dry run


def test_a_dry_run_only_reads(server: Server, client: Client) -> None:
    log = Log()
    server.users(OP, ADMIN, user("a"), closed("b"), user("c", deactivated=True), closed("g", is_guest=True))
    result = run(client, None, dry_run=True, log=log)
    assert result == outcome(deactivated={A: "active", C: "deactivated", G: "erased"}, unchanged=1)
    assert set(server.methods) == {"GET"}
    assert (log.lines, log.passes) == ([], [])


def test_a_dry_run_refuses_too(server: Server, client: Client) -> None:
    server.user(ADMIN)
    with pytest.raises(SynapseError, match="is an admin"):
        run(client, [ROOT], dry_run=True)
