# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the gate demands. Its module as a whole: tests/unit/plugins/modules/test_synapse_decommission_gate.py."""

from __future__ import annotations

import json
from typing import Any, Callable

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import gate
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.gate import (
    Accounts,
    Demands,
    only_waits,
    problems,
    read_accounts,
    rooms_as_options,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.record import (
    Record,
    RecordedResult,
    RecordedRoom,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._mas.service import MasService
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.tests.stubs.helpers import OPERATOR, Json, room_id, user
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver
from ansible_collections.matrixops.synapse.tests.stubs.mas import MasStub

Simulate = Callable[..., Homeserver]
A, B, C = (f"@{name}:example.org" for name in "abc")
BOT = "@bot:example.org"
R1, R2 = room_id("r1"), room_id("r2")
OP = user("op", admin=True)
GONE = {"deactivated": True, "erased": True}
NONE = {"ghosts": 0, "refused": 0, "unconfirmed": 0, "unreachable": 0, "confirmed": 1}


def propagation(*, finished: bool = True, **summary: int) -> Json:
    servers = [{"state": state, "text": f"{state}.example: why"} for state in summary]
    return {
        "finished": finished,
        "message": "1 of 2 confirmed",
        "summary": {**NONE, **summary},
        "servers": servers,
        "not_sent_to": [],
        "stale_rooms": [],
    }


# What was not confirmed


def test_rooms_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    states = {"x.example": "confirmed", "y.example": "unreachable", "z.example": "refused", "i.example": "ghosts"}
    servers = {server: RecordedResult(state) for server, state in states.items()}
    confirmed = RecordedRoom({"x.example": RecordedResult("confirmed")}, {A})
    record = Record({R1: RecordedRoom(servers, {B, A}, {C}), R2: confirmed})
    rooms = record.not_confirmed(["i.example"])
    option = {"room_id": R1, "servers": ["y.example", "z.example"], "accounts": [A, B], "pending": [C]}
    assert rooms_as_options(rooms) == [option]
    monkeypatch.setattr(gate, "MAX_ROOMS_SIZE", 2 * len(json.dumps(option)))
    assert len(rooms_as_options(rooms * 9)) == 2


# What is read


def test_a_server_that_is_drained(simulate: Simulate, lone_client: Client) -> None:
    simulate(OP, user("root", admin=True), user("a", **GONE), user("b"))
    assert read_accounts(lone_client, Demands(keep=[B])) == Accounts(total=4)


@pytest.mark.parametrize(("erase", "not_erased"), [(True, [B]), (False, [])])
def test_accounts_that_are_active_or_not_erased(
    simulate: Simulate, lone_client: Client, erase: bool, not_erased: list[str]
) -> None:
    simulate(OP, user("a"), user("b", deactivated=True), user("c", **GONE))
    found = read_accounts(lone_client, Demands(erase=erase))
    assert (found.active, found.not_erased, found.joined) == ([A], not_erased, {})


def test_accounts_of_any_kind_that_are_joined(simulate: Simulate, lone_client: Client) -> None:
    """Kept accounts, admins and the operator must have left as well, and accounts that are in no listing."""
    simulation = simulate(OP, user("a", **GONE), user("b"), a=["r1"], b=["r1"], op=["r2"], bot=["r2"])
    found = read_accounts(lone_client, Demands(keep=[B]))
    assert found.joined == {A: [R1], B: [R1], OPERATOR: [R2], BOT: [R2]}
    assert simulation.writes == []


def test_the_service_that_handles_login_is_asked_as_well(
    homeserver: Homeserver, mas: MasStub, service: MasService, lone_client: Client
) -> None:
    homeserver.add_accounts(user("a", **GONE), user("b", **GONE))
    mas.user_of("op")[1]["admin"] = True
    mas.add_user("a")
    mas.add_user("b")
    mas.user_of("b")[1]["deactivated_at"] = "now"
    for name, more in (("phantom", {}), ("kept", {}), ("chief", {"admin": True})):
        mas.add_user(name, **more)
    found = read_accounts(lone_client, Demands(keep=["@kept:example.org"]))
    assert found.active == [A, "@phantom:example.org"] and found.total == 3


def test_rooms_that_cannot_be_left_need_not_be_empty(simulate: Simulate, lone_client: Client) -> None:
    simulate(OP, user("a", **GONE), user("c", **GONE), a=["r1"], c=["r1", "r2"])
    assert read_accounts(lone_client, Demands(broken_rooms=[R1])).joined == {C: [R2]}


# What is decided


def test_the_gate_is_open() -> None:
    assert problems(Accounts(total=3), propagation(), Demands()) == []


@pytest.mark.parametrize(
    ("accounts", "words"),
    [
        (Accounts(active=[A]), f"1 accounts are active: {A}. Run the stage drain again"),
        (Accounts(not_erased=[A, B]), f"2 accounts are deactivated but not erased: {A}, {B}. Run the stage drain"),
        (Accounts(joined={A: [R1]}), f"1 accounts are joined to rooms: {A} in {R1}. Run the stages drain"),
    ],
)
def test_accounts_close_the_gate(accounts: Accounts, words: str) -> None:
    (problem,) = problems(accounts, propagation(), Demands())
    assert problem.startswith(words)


@pytest.mark.parametrize(
    ("result", "demands", "words"),
    [
        (propagation(finished=False), {}, "propagation has not finished: 1 of 2 confirmed. Run the stage propagate"),
        (propagation(ghosts=1), {}, "remote servers still list accounts: ghosts.example: why."),
        (propagation(refused=1), {"require_confirmation": True}, "remote servers that answer have not confirmed"),
        (propagation(unconfirmed=1), {"require_confirmation": True}, "remote servers that answer have not confirmed"),
    ],
)
def test_remote_servers_close_the_gate(result: Json, demands: Json, words: str) -> None:
    (problem,) = problems(Accounts(), result, Demands(**demands))
    assert problem.startswith(words)


@pytest.mark.parametrize("summary", [{"refused": 1}, {"unconfirmed": 1}, {"unreachable": 1}])
def test_without_require_confirmation_only_ghosts_close_the_gate(summary: dict[str, int]) -> None:
    assert problems(Accounts(), propagation(**summary), Demands()) == []


def test_an_unreachable_server_need_not_confirm() -> None:
    assert problems(Accounts(), propagation(unreachable=1), Demands(require_confirmation=True)) == []


def test_statistics_that_stand_still_close_the_gate() -> None:
    (problem,) = problems(Accounts(), {**propagation(), "stale_rooms": [R1]}, Demands())
    assert "run_background_tasks_on" in problem and "run the stages from leave_rooms on again" in problem


def test_a_server_that_nothing_was_sent_to_closes_the_gate() -> None:
    (problem,) = problems(Accounts(), {**propagation(), "not_sent_to": ["x.example"]}, Demands())
    assert "has taken the last events for x.example" in problem and "power levels" in problem


def test_every_problem_is_named() -> None:
    accounts = Accounts(active=[A], not_erased=[B], joined={C: [R1]})
    result = {**propagation(finished=False, ghosts=1, refused=1), "not_sent_to": ["x.example"], "stale_rooms": [R1]}
    assert len(problems(accounts, result, Demands(require_confirmation=True))) == 8


@pytest.mark.parametrize(
    ("accounts", "finished", "expected"),
    [
        (Accounts(), False, True),
        (Accounts(), True, False),
        (Accounts(active=[A]), False, False),
        (Accounts(joined={A: [R1]}), False, False),
    ],
)
def test_nothing_but_time_is_missing(accounts: Accounts, finished: bool, expected: bool) -> None:
    assert only_waits(accounts, propagation(finished=finished)) is expected


def test_long_lists_are_cut() -> None:
    names: Any = [f"@u{number}:example.org" for number in range(1001)]
    accounts = Accounts(active=names, not_erased=names, joined=dict.fromkeys(names, [R1] * 1000))
    assert all(
        len(problem) < 2000 and "and 991 more" in problem for problem in problems(accounts, propagation(), Demands())
    )
