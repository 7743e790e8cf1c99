# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable

import pytest
import requests
from ansible_collections.matrixops.synapse.plugins.module_utils._client import Client, SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._drain import Drain, drain, json_lines
from ansible_collections.matrixops.synapse.tests.unit.helpers import (
    OPERATOR,
    Clock,
    Json,
    Server,
    Simulation,
    matrix_error,
    room_id,
    user,
)

Simulate = Callable[..., Simulation]

A, B, C = (f"@{name}:example.org" for name in "abc")
OP = user("op", admin=True)
ROOT = user("root", admin=True)
R1 = room_id("r1")
FORBIDDEN = matrix_error("M_FORBIDDEN", "a module forbids it")
DEAD_TOKEN = matrix_error("M_UNKNOWN_TOKEN", "Invalid access token")


class Log:
    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def __call__(self, user_id: str, result: str, **more: object) -> None:
        self.lines.append((user_id, result, *more.values()))


def run(client: Client, user_ids: list[str] | None, **options: Any) -> Drain:
    options.setdefault("log", Log())
    return drain(client, user_ids, concurrency=1, **options)


def closed(name: str) -> Json:
    return user(name, deactivated=True, erased=True)


# What is refused


@pytest.mark.parametrize(
    ("user_ids", "found", "reason"),
    [
        ([A, OPERATOR], [user("a"), OP], f"{OPERATOR} is the operator"),
        ([A, "@root:example.org"], [user("a"), ROOT], "@root:example.org is an admin"),
        ([A, "@x:example.com"], [], "@x:example.com is not an account of example.org"),
        ([A, "b"], [], "b is not a user ID"),
    ],
)
def test_what_must_not_be_closed_is_refused_before_anything_changes(
    server: Server, client: Client, user_ids: list[str], found: list[Json], reason: str
) -> None:
    for account in found:
        server.user(account)
    with pytest.raises(SynapseError, match=f"^Nothing was changed: {reason}"):
        run(client, user_ids)
    assert set(server.methods) == {"GET"}


def test_the_operator_is_refused_even_if_admins_are_allowed(server: Server, client: Client) -> None:
    server.user(OP)
    with pytest.raises(SynapseError, match="is the operator"):
        run(client, [OPERATOR], allow_admins=True)


def test_an_account_to_keep_that_does_not_exist_is_refused(server: Server, client: Client) -> None:
    server.users(OP, user("a"))
    with pytest.raises(SynapseError, match=f"^Nothing was changed: {B} is to be kept, but does not exist$"):
        run(client, None, keep=[B])


@pytest.mark.parametrize("user_ids", [[A, B], [B]])
def test_an_account_to_keep_must_not_be_named(server: Server, client: Client, user_ids: list[str]) -> None:
    for user_id in user_ids:
        server.user(user(user_id))
    with pytest.raises(SynapseError, match=f"^Nothing was changed: {B} is to be kept$"):
        run(client, user_ids, keep=[B])


def test_an_admin_may_be_named(server: Server, client: Client) -> None:
    server.user(ROOT)
    server.deactivate("@root:example.org")
    assert run(client, ["@root:example.org"], allow_admins=True, wait=False).closed == {"@root:example.org": "active"}


# Those who are named


def test_named_accounts_are_closed_and_seen_out(simulate: Simulate, lone_client: Client) -> None:
    log = Log()
    simulation = simulate(OP, user("a"), user("b", locked=True), closed("c"), a=["r1", "r2"], b=["r1"], op=["r1"])
    result = run(lone_client, [A, B, C], log=log)
    assert result == Drain(closed={A: "active", B: "locked"}, unchanged=1, passes=1)
    assert sorted(log.lines) == [(A, "deactivated"), (A, "parted"), (B, "deactivated"), (B, "parted")]
    assert simulation.joined == {A: [], B: [], OPERATOR: [R1]}
    assert simulation.writes == [f"POST deactivate {A}", f"POST deactivate {B}"]


def test_leaving_first(simulate: Simulate, lone_client: Client) -> None:
    log = Log()
    simulation = simulate(OP, user("a"), user("b"), a=["r1", "r2"], b=["r1"])
    simulation.banned.add(B)
    result = run(lone_client, [A, B], leave_first=True, log=log)
    assert result == Drain(closed={A: "active", B: "active"}, passes=1)
    assert simulation.joined == {A: [], B: []}
    writes = [write for write in simulation.writes if "logout" not in write and "override" not in write]
    assert writes[:4] == [f"POST login {A}", f"POST leave {R1}", f"POST leave {room_id('r2')}", f"POST deactivate {A}"]
    # Whom nobody lets leave, Synapse still may.
    assert writes[4:] == [f"POST login {B}", f"POST leave {R1}", f"POST deactivate {B}"]
    # The limit is lifted once for all, and put back.
    assert [write.partition(" ")[0] for write in simulation.writes if "override" in write] == ["POST", "DELETE"]


def test_who_was_closed_before_must_be_out_as_well(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, closed("a"), closed("b"), user("c"), a=["r1"], c=["r1"])
    result = run(lone_client, [A, B, C])
    assert result == Drain(closed={C: "active"}, unchanged=2, passes=1)
    assert simulation.joined == {A: [], C: []}


def test_a_leave_that_was_dropped_is_queued_again_when_nothing_moves_any_more(
    simulate: Simulate, lone_client: Client, clock: Clock
) -> None:
    simulation = simulate(OP, user("a"), user("b"), a=["r1"], b=["r1"])
    simulation.forgotten[A] = 1
    result = run(lone_client, [A, B], wait_timeout=60)
    assert result == Drain(closed={A: "active", B: "active"}, passes=1)
    assert simulation.writes == [f"POST deactivate {A}", f"POST deactivate {B}", f"POST deactivate {A}"]
    assert sum(clock.waits) > 60


def test_a_leave_that_is_dropped_again_is_done_by_hand(simulate: Simulate, lone_client: Client) -> None:
    log = Log()
    simulation = simulate(OP, user("a"), a=["r1"])
    simulation.forgotten[A] = 99
    result = run(lone_client, [A], log=log)
    assert result == Drain(closed={A: "active"}, passes=1)
    assert simulation.joined == {A: []}
    assert f"POST leave {R1}" in simulation.writes
    assert log.lines[-1] == (A, "parted")


def test_who_cannot_leave_at_all(simulate: Simulate, lone_client: Client) -> None:
    log = Log()
    simulation = simulate(OP, user("a"), user("b"), a=["r1", "r2"], b=["r1"])
    simulation.forgotten[A] = 99
    simulation.banned.add(A)
    result = run(lone_client, [A, B], log=log)
    assert result.closed == {A: "active", B: "active"}
    assert list(result.not_parted) == [A]
    assert sorted(result.not_parted[A]) == [R1, room_id("r2")]
    assert "403 M_FORBIDDEN: cannot leave" in result.not_parted[A][R1]
    assert log.lines[-1][:2] == (A, "not parted")
    assert result.failed == {}


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
    ],
)
def test_who_is_to_be_closed(server: Server, client: Client, fields: Json, erase: bool, todo: bool) -> None:
    server.user(user("a", **fields))
    result = run(client, [A], erase=erase, dry_run=True)
    assert list(result.closed) == ([A] if todo else [])
    assert result.unchanged == (0 if todo else 1)


def test_without_waiting_nobody_is_looked_at_afterwards(server: Server, client: Client) -> None:
    for account in (user("a"), closed("b")):
        server.user(account)
    server.deactivate(A, erase=False)
    assert run(client, [A, B], erase=False, wait=False) == Drain(closed={A: "active"}, unchanged=1, passes=1)


def test_nobody_named_is_nothing_done(client: Client) -> None:
    assert run(client, []).closed == {}


# Everybody


def test_everybody_but_admins_and_those_kept(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, ROOT, user("a"), user("b"), user("g", is_guest=True), a=["r1"], b=["r1"], root=["r1"])
    result = run(lone_client, None, keep=[B])
    assert result == Drain(closed={A: "active", "@g:example.org": "active"}, passes=1)
    assert simulation.joined == {A: [], B: [R1], "@root:example.org": [R1]}


def test_all_are_listed_before_the_first_is_closed(server: Server, client: Client) -> None:
    query = {"limit": "1000", "locked": "true", "guests": "true", "deactivated": "true"}
    server.get("/_synapse/admin/v2/users", {"users": [OP, user("a")], "next_token": "2"}, query=query)
    server.get("/_synapse/admin/v2/users", {"users": [user("b")]}, query={**query, "from": "2"})
    server.deactivate(A)
    server.deactivate(B)
    server.users(OP, closed("a"), closed("b"))
    assert sorted(run(client, None, wait=False).closed) == [A, B]


def test_a_listing_that_breaks_off_closes_nobody(server: Server, client: Client) -> None:
    query = {"limit": "1000", "locked": "true", "guests": "true", "deactivated": "true"}
    server.get("/_synapse/admin/v2/users", {"users": [OP, user("a")], "next_token": "2"}, query=query)
    server.get("/_synapse/admin/v2/users", FORBIDDEN, status=403, query={**query, "from": "2"})
    with pytest.raises(SynapseError, match="forbids"):
        run(client, None)


def test_who_came_in_the_meantime_is_closed_too(server: Server, client: Client) -> None:
    server.users(OP, user("a"))
    server.deactivate(A)
    server.users(OP, closed("a"), user("b"))
    server.deactivate(B)
    server.users(OP, closed("a"), closed("b"), user("c", suspended=True))
    server.deactivate(C)
    server.users(OP, closed("a"), closed("b"), closed("c"))
    result = run(client, None, wait=False)
    assert list(result.closed) == [A, B, C]
    assert result.passes == 3
    assert result.failed == {}


def test_who_keeps_coming_back(server: Server, client: Client) -> None:
    for _pass in range(2):
        server.users(OP, user("a"))
        server.deactivate(A)
    server.users(OP, user("a"))
    result = run(client, None, wait=False, max_passes=2)
    assert result.passes == 2
    assert list(result.failed) == [A]
    assert "2 passes" in result.failed[A]


@pytest.mark.parametrize("max_passes", [0, -1])
def test_no_pass_at_all(server: Server, client: Client, max_passes: int) -> None:
    server.users(OP, user("a"))
    assert list(run(client, None, wait=False, max_passes=max_passes).failed) == [A]


# What goes wrong


def test_one_that_fails_does_not_keep_from_the_others(server: Server, client: Client) -> None:
    log = Log()
    server.users(OP, user("a"), user("b"))
    server.deactivate(A, FORBIDDEN, status=403)
    server.deactivate(B)
    server.users(OP, user("a"), closed("b"))
    result = run(client, None, wait=False, log=log)
    assert result.closed == {B: "active"}
    assert "403 M_FORBIDDEN: a module forbids it" in result.failed[A]
    assert sorted(line[:2] for line in log.lines) == [(A, "failed"), (B, "deactivated")]


def test_a_dead_token_ends_the_drain_with_what_was_done(server: Server, client: Client) -> None:
    log = Log()
    server.user(user("a"))
    server.user(user("b"))
    server.deactivate(A)
    server.deactivate(B, DEAD_TOKEN, status=401)
    result = run(client, [A, B], log=log)
    assert result.aborted is not None
    assert result.aborted.errcode == "M_UNKNOWN_TOKEN"
    assert result.closed == {A: "active"}
    assert log.lines == [(A, "deactivated")]
    assert result.failed == {}


@pytest.mark.parametrize("exception", [requests.exceptions.ConnectTimeout(), requests.exceptions.SSLError()])
def test_a_server_that_is_gone_ends_the_drain(
    server: Server, client: Client, clock: Clock, exception: Exception
) -> None:
    server.user(user("a"))
    for _attempt in range(5):
        server.deactivate(A, exception)
    result = run(client, [A])
    assert result.aborted is not None
    assert result.closed == {}
    assert clock.waits == [1, 2, 4, 8]


def test_an_error_while_waiting_is_reported_with_what_was_done(server: Server, client: Client) -> None:
    server.user(user("a"))
    server.deactivate(A)
    query = {"limit": "1000", "order_by": "joined_local_members"}
    server.get("/_synapse/admin/v1/rooms", matrix_error("M_UNKNOWN", "broken"), status=500, query=query)
    result = run(client, [A])
    assert result.closed == {A: "active"}
    assert result.aborted is not None
    assert "broken" in str(result.aborted)


def test_a_token_that_dies_while_waiting(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), user("b"), a=["r1"], b=["r1"])
    simulation.forgotten.update({A: 1, B: 1})
    simulation.last_write = 2
    result = run(lone_client, [A, B])
    assert result.closed == {A: "active", B: "active"}
    assert result.aborted is not None
    assert result.aborted.errcode == "M_UNKNOWN_TOKEN"
    assert len(simulation.writes) == 3


def test_an_error_of_a_later_listing_is_reported_with_what_was_done(server: Server, client: Client) -> None:
    server.users(OP, user("a"))
    server.deactivate(A)
    query = {"limit": "1000", "locked": "true", "guests": "true", "deactivated": "true"}
    server.get("/_synapse/admin/v2/users", DEAD_TOKEN, status=401, query=query)
    result = run(client, None, wait=False)
    assert result.closed == {A: "active"}
    assert result.aborted is not None


def test_who_parts_in_a_later_pass_has_parted(simulate: Simulate, lone_client: Client) -> None:
    simulation = simulate(OP, user("a"), a=["r1"])
    simulation.forgotten[A] = 99
    simulation.banned.add(A)

    def log(_user_id: str, result: str, **_more: object) -> None:
        if result == "not parted":
            simulation.users[B] = user("b")
            simulation.joined[A] = []

    assert run(lone_client, None, log=log) == Drain(closed={A: "active", B: "active"}, passes=2)


# A dry run


def test_a_dry_run_only_reads(server: Server, client: Client) -> None:
    log = Log()
    server.users(OP, ROOT, user("a"), closed("b"), user("c", deactivated=True))
    result = run(client, None, dry_run=True, log=log)
    assert result == Drain(closed={A: "active", C: "deactivated"}, unchanged=1)
    assert set(server.methods) == {"GET"}
    assert log.lines == []


def test_a_dry_run_refuses_too(server: Server, client: Client) -> None:
    server.user(ROOT)
    with pytest.raises(SynapseError, match="is an admin"):
        run(client, ["@root:example.org"], dry_run=True)


# The log


def test_json_lines_are_appended_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text('{"user_id": "before"}\n')
    with json_lines(str(path)) as log:
        log("@ż:example.org", "not parted", rooms=["!r"])
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        log(B, "parted")
    assert lines[0] == {"user_id": "before"}
    assert {**lines[1], "time": None} == {
        "time": None,
        "user_id": "@ż:example.org",
        "result": "not parted",
        "rooms": ["!r"],
    }
    assert isinstance(lines[1]["time"], (int, float))
    assert len(path.read_text().splitlines()) == 3


def test_no_log() -> None:
    with json_lines(None) as log:
        log(A, "parted", rooms=[])
