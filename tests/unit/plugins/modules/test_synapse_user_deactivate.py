# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Callable

import pytest
from ansible_collections.matrixops.synapse.tests.unit.helpers import (
    OPERATOR,
    Json,
    Server,
    Simulation,
    matrix_error,
    user,
)

Run = Callable[..., Json]
Simulate = Callable[..., Simulation]

A, B, C = (f"@{name}:example.org" for name in "abc")
OP = user("op", admin=True)


def test_some(simulate: Simulate, run: Run, tmp_path: Path) -> None:
    simulate(OP, user("a"), user("b", locked=True), user("c", deactivated=True, erased=True), a=["r1"], b=["r1"])
    log = tmp_path / "log.jsonl"
    result = run("synapse_user_deactivate", {"user_ids": [B, A, C], "concurrency": 1, "log_path": str(log)})
    assert result["changed"]
    assert (result["deactivated"], result["unchanged"], result["passes"]) == (2, 1, 1)
    assert (result["failures"], result["not_parted"]) == ([], [])
    assert result["diff"] == {"before": f"{A} active\n{B} locked\n", "after": f"{A} erased\n{B} erased\n"}
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted((line["user_id"], line["result"]) for line in lines[:2]) == [(A, "deactivated"), (B, "deactivated")]
    assert sorted((line["user_id"], line["result"]) for line in lines[2:]) == [(A, "parted"), (B, "parted")]


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
    log = tmp_path / "log.jsonl"
    options = {"all_users": True, "keep": [B], "erase": erase, "log_path": str(log)}
    result = run("synapse_user_deactivate", options, check=True)
    assert result["changed"]
    assert result["deactivated"] == (2 if erase else 1)
    assert result["unchanged"] == (0 if erase else 1)
    after = f"{A} erased\n{C} erased\n" if erase else f"{A} deactivated\n"
    assert result["diff"]["after"] == after
    assert set(server.methods) == {"GET"}
    assert not log.exists()


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
    assert result["msg"] == "Nothing was changed: set either user_ids or all_users=true."


def test_no_one_of_none(run: Run, server: Server) -> None:
    server.whoami()
    assert not run("synapse_user_deactivate", {"user_ids": []})["changed"]


@pytest.mark.parametrize("check", [True, False])
def test_who_is_to_be_kept_is_kept_in_any_case(server: Server, run: Run, check: bool) -> None:
    server.whoami()
    server.user(user("a"))
    result = run("synapse_user_deactivate", {"user_ids": [A], "keep": [A]}, check=check)
    assert result["failed"]
    assert result["msg"] == f"Nothing was changed: {A} is to be kept"


@pytest.mark.parametrize("check", [True, False])
def test_the_operator(server: Server, run: Run, check: bool) -> None:
    server.whoami()
    server.user(user("a"))
    server.user(OP)
    options = {"user_ids": [A, OPERATOR], "allow_admins": True}
    result = run("synapse_user_deactivate", options, check=check)
    assert result["failed"]
    assert result["msg"].startswith(f"Nothing was changed: {OPERATOR} is the operator")
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
    server.deactivate(A, matrix_error("M_FORBIDDEN", "a module forbids it"), status=403)
    server.deactivate(B)
    result = run("synapse_user_deactivate", {"user_ids": [A, B], "concurrency": 1, "wait": False})
    assert result["failed"]
    assert result["changed"]
    assert result["deactivated"] == 1
    (failure,) = result["failures"]
    assert failure["user_id"] == A
    assert "403 M_FORBIDDEN: a module forbids it" in failure["reason"]
    assert f"1 accounts could not be deactivated, such as {A}" in result["msg"]


def test_one_that_does_not_part(simulate: Simulate, run: Run) -> None:
    simulation = simulate(OP, user("a"), a=["r1"])
    simulation.forgotten[A] = 99
    simulation.banned.add(A)
    result = run("synapse_user_deactivate", {"user_ids": [A]})
    assert result["failed"]
    assert result["deactivated"] == 1
    (account,) = result["not_parted"]
    assert account["user_id"] == A
    assert [room["room_id"] for room in account["rooms"]] == ["!r1:example.org"]
    assert "403 M_FORBIDDEN: cannot leave" in account["rooms"][0]["reason"]
    assert f"such as {A} in !r1:example.org" in result["msg"]


def test_a_token_that_dies(server: Server, run: Run) -> None:
    server.whoami()
    server.user(user("a"))
    server.deactivate(A, matrix_error("M_UNKNOWN_TOKEN", "Invalid access token"), status=401)
    result = run("synapse_user_deactivate", {"user_ids": [A]})
    assert result["failed"]
    assert "M_UNKNOWN_TOKEN" in result["msg"]
    assert "Run this again" in result["msg"]
    assert (result["status"], result["errcode"]) == (401, "M_UNKNOWN_TOKEN")
    assert result["deactivated"] == 0


def test_a_listing_that_fails(server: Server, run: Run) -> None:
    server.whoami()
    query = {"limit": "1000", "locked": "true", "guests": "true", "deactivated": "true"}
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


def test_a_log_that_can_be_written_no_more(server: Server, run: Run) -> None:
    server.whoami()
    server.user(user("a"))
    server.deactivate(A)
    result = run("synapse_user_deactivate", {"user_ids": [A], "wait": False, "log_path": "/dev/full"})
    assert result["failed"]
    assert result["deactivated"] == 1
