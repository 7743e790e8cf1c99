# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Callable
from urllib.parse import quote

import pytest
import yaml
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.broken_rooms import BrokenRoom
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.drain_run import DrainResult, Options
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.eligibility import Eligibility
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.record import KIND
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError
from ansible_collections.matrixops.synapse.plugins.modules import synapse_user_deactivate
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    OPERATOR,
    Json,
    Server,
    matrix_error,
    message,
    user,
)
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver
from ansible_collections.matrixops.synapse.tests.stubs.mas import MasStub

Run = Callable[..., Json]
Simulate = Callable[..., Homeserver]

A, B, C = (f"@{name}:example.org" for name in "abc")
OP = user("op", admin=True)
NAMED = Eligibility(keep=frozenset([B]), allow_admins=True)


@pytest.fixture
def came_of_it(run: Run, server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Json]:
    """What the module says when this came of a drain."""

    def start(outcome: DrainResult, options: Json | None = None, **more: Any) -> Json:
        server.whoami()
        if options and options.get("record"):
            path = f"/_matrix/client/v3/user/{quote(OPERATOR, safe='')}/account_data/{KIND}"
            server.get(path, matrix_error("M_NOT_FOUND", "no record"), status=404)
        monkeypatch.setattr(synapse_user_deactivate, "drain", lambda *_arguments, **_options: outcome)
        return run("synapse_user_deactivate", {"all_users": True, **(options or {})}, **more)

    return start


def test_some(simulate: Simulate, run: Run, tmp_path: Path) -> None:
    accounts = (user("a"), user("b", locked=True), user("c", deactivated=True, erased=True))
    simulation = simulate(OP, *accounts, a=["r1"], b=["r1"])
    simulation.federate("r1")
    log = tmp_path / "log.jsonl"
    result = run("synapse_user_deactivate", {"user_ids": [B, A, C], "concurrency": 1, "log_path": str(log)})
    assert result == {
        "changed": True,
        "deactivated": 2,
        "unchanged": 1,
        "left_federated": 2,
        "left_all_rooms": 2,
        "federated_left_after": 0.0,
        "all_left_after": 0.0,
        "failures": [],
        "failures_total": 0,
        "still_joined": [],
        "left_to_deactivation": [],
        "still_joined_total": 0,
        "broken_rooms": [],
        "broken_rooms_total": 0,
        "passes": 1,
        "elapsed": 0.0,
        "rate": 0.0,
        "timeline": [[0.0, 0, 0], [0.0, 0, 0], *[[0.0, 1, 0]] * 2, [0.0, 2, 0], [0.0, 2, 1], [0.0, 2, 2]],
        "proof": {
            "left_all_rooms": 3,
            "read": "GET /_synapse/admin/v1/users/{}/joined_rooms",
            "requests": 6,
        },
        "diff": {"before": f"{A} active\n{B} locked\n", "after": f"{A} erased\n{B} erased\n"},
    }
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted((line["user_id"], line["result"]) for line in lines) == [
        (A, "deactivated"),
        (A, "left"),
        (A, "left_all_rooms"),
        (B, "deactivated"),
        (B, "left_all_rooms"),
        (B, "not_left"),
    ]


def test_everybody(simulate: Simulate, run: Run) -> None:
    simulation = simulate(OP, user("a"), user("b"), a=["r1", "r2"], b=["r1"], op=["r1"])
    result = run("synapse_user_deactivate", {"all_users": True, "keep": [B]})
    assert result["deactivated"] == 1
    assert simulation.joined == {A: [], B: ["!r1:example.org"], OPERATOR: ["!r1:example.org"]}
    result = run("synapse_user_deactivate", {"all_users": True, "keep": [B]})
    assert not result["changed"]
    assert (result["deactivated"], result["unchanged"]) == (0, 1)


@pytest.mark.parametrize("erase", [True, False])
def test_check_mode_only_reads(server: Server, run: Run, tmp_path: Path, erase: bool) -> None:
    server.whoami()
    server.users(OP, user("root", admin=True), user("a"), user("b"), user("c", deactivated=True))
    paths = {"log_path": str(tmp_path / "log.jsonl"), "progress_path": str(tmp_path / "progress")}
    options = {"all_users": True, "keep": [B], "erase": erase, **paths}
    result = run("synapse_user_deactivate", options, check=True)
    assert result["changed"]
    assert result["deactivated"] == (2 if erase else 1)
    assert result["unchanged"] == (0 if erase else 1)
    after = f"{A} erased\n{C} erased\n" if erase else f"{A} deactivated\n"
    assert result["diff"]["after"] == after
    assert "proof" not in result
    assert set(server.methods) == {"GET"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("check", [True, False])
def test_nobody_is_left(simulate: Simulate, run: Run, check: bool) -> None:
    simulation = simulate(OP, user("a", deactivated=True, erased=True))
    result = run("synapse_user_deactivate", {"all_users": True}, check=check)
    assert not result["changed"]
    assert (result["deactivated"], result["unchanged"]) == (0, 1)
    assert result["diff"] == {"before": "", "after": ""}
    assert simulation.writes == []


@pytest.mark.parametrize("options", [{}, {"user_ids": [A], "all_users": True}, {"user_ids": [], "all_users": True}])
def test_either_some_or_all(run: Run, options: Json) -> None:
    result = run("synapse_user_deactivate", options)
    assert result["failed"]
    assert result["msg"] == "No changes made: set either user_ids or all_users=true"


def test_no_one_of_none(run: Run, server: Server) -> None:
    server.whoami()
    assert not run("synapse_user_deactivate", {"user_ids": []})["changed"]


@pytest.mark.parametrize("check", [True, False])
def test_who_is_to_be_kept_is_kept_in_any_case(server: Server, run: Run, check: bool) -> None:
    server.whoami()
    server.user(user("a"))
    result = run("synapse_user_deactivate", {"user_ids": [A], "keep": [A]}, check=check)
    assert result["failed"]
    assert result["msg"] == f"No changes made: {A} is to be kept"


@pytest.mark.parametrize("check", [True, False])
def test_the_operator(server: Server, run: Run, check: bool) -> None:
    server.whoami()
    server.user(user("a"))
    server.user(OP)
    options = {"user_ids": [A, OPERATOR], "allow_admins": True}
    result = run("synapse_user_deactivate", options, check=check)
    assert result["failed"]
    assert result["msg"].startswith(f"No changes made: {OPERATOR} is the operator")
    assert set(server.methods) == {"GET"}


@pytest.mark.parametrize("allow_admins", [True, False])
def test_an_admin(server: Server, run: Run, allow_admins: bool) -> None:
    server.whoami()
    server.user(user("a", admin=True))
    result = run("synapse_user_deactivate", {"user_ids": [A], "allow_admins": allow_admins}, check=True)
    assert result.get("failed", False) is not allow_admins
    assert result.get("deactivated") == (1 if allow_admins else None)


def test_one_that_fails(server: Server, run: Run) -> None:
    server.whoami()
    server.user(user("a"))
    server.user(user("b"))
    server.joined(A)
    server.joined(B)
    server.check_and_deactivate(A, matrix_error("M_FORBIDDEN", "a module forbids it"), status=403)
    server.check_and_deactivate(B)
    server.user(user("a"))
    options = {"user_ids": [A, B], "concurrency": 1, "wait_for": "none"}
    result = run("synapse_user_deactivate", options)
    assert result["failed"]
    assert result["changed"]
    assert result["deactivated"] == 1
    (failure,) = result["failures"]
    assert failure["user_id"] == A
    assert "403 M_FORBIDDEN: a module forbids it" in failure["reason"]
    assert result["failures_total"] == 1
    assert f"1 accounts could not be deactivated, for example {A}: " in result["msg"]
    assert "a module forbids it" in result["msg"]
    assert "proof" not in result


def test_one_that_does_not_part(simulate: Simulate, run: Run) -> None:
    simulation = simulate(OP, user("a"), a=["r1"])
    simulation.dropped_leaves[A] = 99
    simulation.banned.add(A)
    result = run("synapse_user_deactivate", {"user_ids": [A]})
    assert result["failed"]
    assert result["deactivated"] == 1
    (account,) = result["still_joined"]
    assert account["user_id"] == A
    assert [room["room_id"] for room in account["rooms"]] == ["!r1:example.org"]
    assert "403 M_FORBIDDEN: cannot leave" in account["rooms"][0]["reason"]
    assert f"for example {A} in !r1:example.org" in result["msg"]


@pytest.mark.parametrize("allow", [True, False])
def test_a_broken_room(simulate: Simulate, run: Run, allow: bool) -> None:
    simulation = simulate(OP, user("a"), user("b"), a=["r1", "r2"], b=["r1"])
    simulation.federate("r1")
    simulation.broken.add("!r1:example.org")
    result = run("synapse_user_deactivate", {"all_users": True, "allow_broken_rooms": allow})
    assert result.get("failed", False) is not allow
    # Which of the two it names depends on which was looked at first.
    assert bool(re.search("for example @[ab]:example.org in !r1:example.org", result.get("msg", ""))) is not allow
    assert (result["deactivated"], result["still_joined_total"], result["broken_rooms_total"]) == (2, 2, 1)
    (room,) = result["broken_rooms"]
    assert (room["room_id"], room["accounts"], room["federated"]) == ("!r1:example.org", 2, True)
    assert "500 M_UNKNOWN: Internal server error" in room["reason"]
    assert simulation.joined == {A: ["!r1:example.org"], B: ["!r1:example.org"]}


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (DrainResult(still_joined={A: {"!r": "500"}}, broken={"!r": BrokenRoom("!r", "500", True, 1)}), ""),
        # Who came back to a room is excused by nothing, nor is who could not be deactivated, nor a lost token.
        (DrainResult(still_joined={A: {"!r": "came back"}}), "for example @a:example.org in !r: came back"),
        (
            DrainResult(still_joined={A: {"!r": "500", "!s": "back"}}, broken={"!r": BrokenRoom("!r", "500", True, 1)}),
            "1 accounts are deactivated but still in rooms",
        ),
        (DrainResult(failed={A: "locked"}), "1 accounts could not be deactivated"),
        (DrainResult(aborted=FatalError("dead")), "Stopped after 0 accounts: dead"),
    ],
)
def test_what_broken_rooms_excuse(came_of_it: Callable[..., Json], outcome: DrainResult, words: str) -> None:
    result = came_of_it(outcome, {"allow_broken_rooms": True})
    assert result.get("failed", False) is bool(words)
    assert words in result.get("msg", "")


def test_a_token_that_dies(server: Server, run: Run) -> None:
    server.whoami()
    server.user(user("a"))
    server.joined(A)
    server.check_and_deactivate(A, matrix_error("M_UNKNOWN_TOKEN", "Invalid access token"), status=401)
    result = run("synapse_user_deactivate", {"user_ids": [A]})
    assert result["failed"]
    assert result["msg"].startswith("Stopped after 0 accounts: ")
    assert "M_UNKNOWN_TOKEN" in result["msg"]
    assert "Run again" in result["msg"]
    assert (result["status"], result["errcode"]) == (401, "M_UNKNOWN_TOKEN")
    assert result["deactivated"] == 0


def test_a_listing_that_fails(server: Server, run: Run) -> None:
    server.whoami()
    query = {"limit": "10000", "order_by": "name", "locked": "true", "guests": "true", "deactivated": "true"}
    server.get("/_synapse/admin/v2/users", matrix_error("M_UNKNOWN", "broken"), status=500, query=query)
    result = run("synapse_user_deactivate", {"all_users": True})
    assert (result["status"], result["errcode"]) == (500, "M_UNKNOWN")


def test_a_log_that_cannot_be_written(server: Server, run: Run, tmp_path: Path) -> None:
    server.whoami()
    log = tmp_path / "missing" / "log"
    result = run("synapse_user_deactivate", {"all_users": True, "log_path": str(log)})
    assert result["failed"]
    assert "No such file or directory" in result["msg"]
    assert str(log) in result["msg"]


def test_a_log_that_can_be_written_no_more(simulate: Simulate, run: Run) -> None:
    simulate(OP, user("a"))
    result = run("synapse_user_deactivate", {"user_ids": [A], "log_path": "/dev/full"})
    assert result["failed"]
    assert "Stopped after 0 accounts: cannot write the log" in result["msg"]
    assert result["deactivated"] == 0


def test_it_says_how_far_it_has_come(simulate: Simulate, run: Run, tmp_path: Path) -> None:
    simulation = simulate(OP, user("a"))
    progress = tmp_path / "progress"
    seen: list[Json] = []
    # Right before the second listing, when the first pass is over.
    simulation.faults["GET users v2"] = [lambda: None, lambda: seen.append(json.loads(progress.read_text()))]
    run("synapse_user_deactivate", {"all_users": True, "progress_path": str(progress)})
    assert [progress["accounts"] for progress in seen] == [1]
    assert not progress.exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Options(NAMED)),
        ({"wait_for": "federated"}, Options(NAMED, wait_for="federated")),
        (
            {"erase": False, "redact": True, "wait_for": "none", "wait_timeout": 7, "max_passes": 3, "concurrency": 2},
            Options(NAMED, erase=False, redact=True, wait_for="none", wait_timeout=7, max_passes=3),
        ),
    ],
)
def test_options_are_passed_on(
    server: Server, run: Run, monkeypatch: pytest.MonkeyPatch, given: Json, expected: Options
) -> None:
    passed = []

    def drain(_client: Any, user_ids: list[str] | None, options: Options, _journal: Any, **more: Any) -> DrainResult:
        passed.append((user_ids, options, more))
        return DrainResult()

    server.whoami()
    monkeypatch.setattr(synapse_user_deactivate, "drain", drain)
    run("synapse_user_deactivate", {"user_ids": [A], "keep": [B], "allow_admins": True, **given})
    assert passed == [([A], expected, {"recorder": None, "dry_run": False})]


# What it says


@pytest.mark.parametrize("check", [True, False])
def test_names_are_only_shown_if_they_are_asked_for(came_of_it: Callable[..., Json], check: bool) -> None:
    result = came_of_it(DrainResult(deactivated={A: "active"}), check=check, diff=False)
    assert "diff" not in result
    assert A not in str(result)


@pytest.mark.parametrize(
    ("wait_for", "check", "verified"),
    [("all", False, True), ("federated", False, True), ("none", False, False), ("all", True, False)],
)
def test_there_is_proof_only_if_somebody_looked(
    came_of_it: Callable[..., Json], wait_for: str, check: bool, verified: bool
) -> None:
    result = came_of_it(DrainResult(verified=7, reads=9), {"wait_for": wait_for}, check=check)
    assert ("proof" in result) is verified
    if verified:
        assert (result["proof"]["left_all_rooms"], result["proof"]["requests"]) == (7, 9)


@pytest.mark.parametrize(
    ("outcome", "changed"),
    [
        (DrainResult(), False),
        (DrainResult(unchanged=3, verified=3, passes=1), False),
        (DrainResult(deactivated={A: "active"}), True),
        (DrainResult(left_all_rooms=1), True),
        (DrainResult(left_federated=1), True),
    ],
)
def test_something_has_changed_also_if_only_stragglers_have_left(
    came_of_it: Callable[..., Json], outcome: DrainResult, changed: bool
) -> None:
    assert came_of_it(outcome)["changed"] is changed


def test_a_straggler(simulate: Simulate, run: Run) -> None:
    simulate(OP, user("a", deactivated=True, erased=True), a=["r1"])
    result = run("synapse_user_deactivate", {"all_users": True})
    assert (result["changed"], result["deactivated"], result["unchanged"], result["left_all_rooms"]) == (True, 0, 1, 1)
    assert result["rate"] == 0.0
    assert result["elapsed"] > 60


def test_how_fast_it_was(simulate: Simulate, run: Run) -> None:
    simulation = simulate(OP, user("a"), user("b"), a=["r1"])
    simulation.dropped_leaves[A] = 1
    simulation.banned.add(A)
    result = run("synapse_user_deactivate", {"user_ids": [A, B]})
    assert 60 < result["elapsed"] < 70
    assert result["rate"] == pytest.approx(2 / result["elapsed"], abs=0.01)


def test_no_more_than_a_thousand_are_named_of_those_that_failed(came_of_it: Callable[..., Json]) -> None:
    user_ids = [f"@u{number}:example.org" for number in range(1001)]
    result = came_of_it(DrainResult(failed=dict.fromkeys(user_ids, "locked")))
    assert result["failures_total"] == 1001
    assert result["failures"] == [{"user_id": user_id, "reason": "locked"} for user_id in sorted(user_ids)[:1000]]
    assert (
        result["msg"] == "1001 accounts could not be deactivated, for example @u0:example.org: locked."
        " Remove the cause, then run again"
    )


def test_no_more_than_a_thousand_are_named_of_those_that_are_still_in_rooms(came_of_it: Callable[..., Json]) -> None:
    room_ids = [f"!r{number}:example.org" for number in range(11)]
    user_ids = [f"@u{number}:example.org" for number in range(1001)]
    result = came_of_it(DrainResult(still_joined={user_id: dict.fromkeys(room_ids, "banned") for user_id in user_ids}))
    assert result["still_joined_total"] == 1001
    assert [account["user_id"] for account in result["still_joined"]] == sorted(user_ids)[:1000]
    rooms = [{"room_id": room_id, "reason": "banned"} for room_id in sorted(room_ids)[:10]]
    assert all(account["rooms"] == rooms for account in result["still_joined"])
    assert result["msg"] == (
        "1001 accounts are deactivated but still in rooms, for example @u0:example.org in !r0:example.org: banned."
        " Repair the room or set allow_broken_rooms, then run again"
    )


def test_no_more_than_a_thousand_are_named_of_those_with_events_that_are_still_there(
    came_of_it: Callable[..., Json],
) -> None:
    not_redacted = {f"@u{number}:example.org": (2, "no power") for number in range(1001)}
    result = came_of_it(DrainResult(not_redacted=not_redacted), {"redact": True})
    assert result["not_redacted"] == [
        {"user_id": user_id, "events": 2, "reason": "no power"} for user_id in sorted(not_redacted)[:1000]
    ]
    assert not result.get("failed")


def test_of_redactions_nothing_is_said_without_any(came_of_it: Callable[..., Json]) -> None:
    assert "not_redacted" not in came_of_it(DrainResult())


def test_it_says_all_that_went_wrong(came_of_it: Callable[..., Json]) -> None:
    result = came_of_it(DrainResult(failed={A: "locked"}, still_joined={B: {"!r": "banned"}}))
    assert result["failed"]
    assert result["msg"] == (
        f"1 accounts could not be deactivated, for example {A}: locked. Remove the cause, then run again."
        f" 1 accounts are deactivated but still in rooms, for example {B} in !r: banned."
        " Repair the room or set allow_broken_rooms, then run again"
    )
    assert (result["status"], result["errcode"]) == (None, None)


def test_it_says_why_it_stopped(came_of_it: Callable[..., Json]) -> None:
    error = FatalError("dead", status=401, errcode="M_UNKNOWN_TOKEN")
    result = came_of_it(DrainResult(deactivated={A: "active"}, failed={B: "locked"}, left_all_rooms=1, aborted=error))
    assert result["msg"] == "Stopped after 1 accounts: 401 M_UNKNOWN_TOKEN: dead. Run again to resume"
    assert (result["deactivated"], result["failures_total"], result["left_all_rooms"]) == (1, 1, 1)


def test_all_that_it_says_is_documented(came_of_it: Callable[..., Json]) -> None:
    documented = yaml.safe_load(synapse_user_deactivate.RETURN)
    broken = {"!r": BrokenRoom("!r", "x", True, 1)}
    outcome = DrainResult(failed={A: "x"}, still_joined={B: {"!r": "x"}}, not_redacted={C: (1, "x")}, broken=broken)
    result = came_of_it(outcome, {"redact": True, "record": True})
    assert set(result) - {"failed", "changed", "msg", "status", "errcode", "diff"} == set(documented)
    assert set(result["proof"]) == set(documented["proof"]["contains"])
    for name in ("failures", "still_joined", "not_redacted", "broken_rooms"):
        assert set(result[name][0]) == set(documented[name]["contains"])


# Where login is delegated


@pytest.fixture
def delegated(homeserver: Homeserver) -> MasStub:
    """A server with users in two rooms, one of them federated, whose login is handled by a service."""
    homeserver.populate(OP, user("a"), user("b", locked=True), user("c"), a=["r1", "r2"], b=["r1"], c=["r1"])
    homeserver.register("guest1", is_guest=True)
    homeserver.join("@guest1:example.org", "r1")
    homeserver.join("@peer:remote.example", "r1")
    return homeserver.delegate()


def test_accounts_leave_by_sessions_of_the_service(
    homeserver: Homeserver, delegated: MasStub, run: Run, mas_options: Json
) -> None:
    delegated.add_user("phantom")
    login = {**mas_options, "access_token": None, "login_user": "op", "all_users": True}
    planned = run("synapse_user_deactivate", login, check=True)
    assert planned["deactivated"] == 4 and homeserver.writes == []
    result = run("synapse_user_deactivate", {**login, "lease": "77", "record": True})
    assert not result.get("failed"), result
    assert result["deactivated"] == 4 and result["pending_unlisted"] == []
    assert delegated.active == {"op", "phantom"} and delegated.active_sessions == []
    assert all(account["erased"] for name, account in homeserver.accounts.items() if name != OPERATOR)
    assert homeserver.joined == {} or not any(homeserver.joined.values())
    assert homeserver.overrides == {}
    # Locked accounts and guests leave by Synapse, after their deactivation.
    assert {request.user_id for request in homeserver.log if "leave" in str(request)} == {A, C}
    assert not [path for path in homeserver.paths if path.startswith("PUT") and "/rooms/" in path]


def test_a_locked_account_redacts_by_a_session_of_the_service(
    homeserver: Homeserver, delegated: MasStub, run: Run, mas_options: Json
) -> None:
    """Its other sessions are ended before it is unlocked, and it is locked again before its deactivation."""
    homeserver.events["!r1:example.org"] = [message("$1", B), message("$2", A)]
    delegated.sign_in("b")
    result = run("synapse_user_deactivate", {**mas_options, "user_ids": [B], "redact": True})
    assert not result.get("failed"), result
    assert result["deactivated"] == 1 and homeserver.accounts[B]["erased"]
    assert [step for step in homeserver.steps if "redact" in step] == ["POST $1 redact"]
    changes = [request.split("/")[-1] for request in delegated.log if request.startswith("POST")]
    wanted = ["finish", "finish", "unlock", "POST personal-sessions", "revoke", "lock", "deactivate"]
    assert [change for change in changes if change in wanted] == wanted
    assert delegated.open_sessions("b") == [] and delegated.active_sessions == []


def test_a_locked_account_stays_locked_if_its_events_are_not_redacted(
    homeserver: Homeserver, delegated: MasStub, run: Run, mas_options: Json
) -> None:
    homeserver.events["!r1:example.org"] = [message("$1", B)]
    homeserver.faults["POST $1 redact"] = [(500, matrix_error("M_UNKNOWN", "broken"))]
    result = run("synapse_user_deactivate", {**mas_options, "user_ids": [B], "redact": True})
    assert result["failed"] and "1 of its events are not redacted yet" in result["msg"]
    assert delegated.user_of("b")[1]["locked_at"] and "b" in delegated.active


def test_leftovers_of_a_killed_run(homeserver: Homeserver, delegated: MasStub, run: Run, mas_options: Json) -> None:
    for name in ("matrixops.synapse 76", "matrixops.synapse 77"):
        delegated._add_session({"actor_user_id": delegated.user_of("op")[0], "human_name": name, "scope": "x"})
    options = {**mas_options, "user_ids": [A]}
    run("synapse_user_deactivate", {**options, "lease": "77"}, check=True)
    assert len(delegated.active_sessions) == 2
    done = run("synapse_user_deactivate", {**options, "lease": "77"})
    assert not done.get("failed"), done
    assert delegated.active_sessions == ["matrixops.synapse 77"]


def test_a_service_without_personal_sessions(
    homeserver: Homeserver, delegated: MasStub, run: Run, mas_options: Json
) -> None:
    delegated.version = "1.4.0"
    result = run("synapse_user_deactivate", {**mas_options, "all_users": True, "record": True})
    assert not result.get("failed"), result
    assert delegated.active == {"op"} and result["deactivated"] == 4
    assert not [request for request in homeserver.requests if "leave" in request]
    assert not any(homeserver.joined.values())
    assert len(result["pending_unlisted"]) == 3


CLOSING = ("PUT admin/v1/suspend", "POST admin/v1/deactivate")


def test_accounts_that_are_only_deactivated_in_synapse_are_suspended(
    homeserver: Homeserver, delegated: MasStub, run: Run
) -> None:
    result = run("synapse_user_deactivate", {"user_ids": [A, C], "suspend": True})
    assert not result.get("failed"), result
    for name in (A, C):
        suspended, deactivated = (homeserver.paths.index(f"{request}/{name}") for request in CLOSING)
        assert suspended < deactivated
    assert {"a", "c"} <= delegated.active
