# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Callable

import pytest
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Json, Server, matrix_error, user

Run = Callable[..., Json]

OP = user("op", admin=True)
ROOT = user("root", admin=True)


def names(result: Json) -> list[str]:
    return [account["name"] for account in result["users"]]


@pytest.mark.parametrize("check", [True, False])
def test_classes_and_states(server: Server, run: Run, check: bool) -> None:
    server.whoami()
    listed = [user("b"), user("a"), OP, ROOT, user("g", is_guest=True), user("old", deactivated=True, erased=True)]
    server.users(*listed)
    for account in (user("b", suspended=True), user("a", appservice_id="irc"), *listed[2:]):
        server.user(account)
    result = run("synapse_users_info", {"concurrency": 1}, check=check)
    assert result["changed"] is False
    assert [(account["name"][1:3], account["class"], account["state"]) for account in result["users"]] == [
        ("a:", "appservice", "active"),
        ("b:", "user", "suspended"),
        ("g:", "guest", "active"),
        ("ol", "user", "erased"),
        ("op", "operator", "active"),
        ("ro", "admin", "active"),
    ]
    assert result["counts"] == {
        "user": {"suspended": 1, "erased": 1},
        "appservice": {"active": 1},
        "operator": {"active": 1},
        "admin": {"active": 1},
        "guest": {"active": 1},
    }
    assert result["total"] == 6


def test_without_details_there_is_only_the_listing(server: Server, run: Run) -> None:
    server.whoami()
    server.users(user("b"), user("a"))
    result = run("synapse_users_info", {"gather": []})
    assert names(result) == ["@a:example.org", "@b:example.org"]
    assert result["users"][0] == {**user("a"), "class": "user", "state": "active"}


@pytest.mark.parametrize(("classes", "found"), [([], ""), (["user"], "a"), (["operator", "admin"], "or")])
def test_classes_limit_what_is_returned_but_not_what_is_counted(
    server: Server, run: Run, classes: list[str], found: str
) -> None:
    server.whoami()
    server.users(user("a"), OP, ROOT)
    result = run("synapse_users_info", {"gather": [], "classes": classes})
    assert "".join(name[1] for name in names(result)) == found
    assert result["counts"] == {"user": {"active": 1}, "operator": {"active": 1}, "admin": {"active": 1}}
    assert result["total"] == 3


def test_joined_rooms_are_read_only_of_those_returned(server: Server, run: Run) -> None:
    server.whoami()
    server.users(user("a"), OP, ROOT)
    server.joined(OP["name"], "r2", "r1")
    server.joined(ROOT["name"])
    options = {"gather": ["joined_rooms"], "classes": ["operator", "admin"], "concurrency": 1}
    result = run("synapse_users_info", options)
    assert [account["joined_rooms"] for account in result["users"]] == [["!r1:example.org", "!r2:example.org"], []]


@pytest.mark.parametrize(("joined", "found"), [(True, ["@a:example.org"]), (False, ["@b:example.org"])])
def test_only_those_who_are_in_a_room_or_in_none(server: Server, run: Run, joined: bool, found: list[str]) -> None:
    server.whoami()
    server.users(user("b"), user("a", deactivated=True), OP)
    server.joined("@b:example.org")
    server.joined("@a:example.org", "r1")
    options = {"joined": joined, "gather": [], "classes": ["user"], "concurrency": 1}
    result = run("synapse_users_info", options)
    assert names(result) == found
    assert result["users"][0]["joined_rooms"] == (["!r1:example.org"] if joined else [])
    assert result["total"] == 3


def test_filters(server: Server, run: Run) -> None:
    server.whoami()
    server.users(user("alice"), deactivated="false", name="ali")
    assert run("synapse_users_info", {"gather": [], "active": True, "name": "ali"})["total"] == 1


def test_only_those_that_are_deactivated(server: Server, run: Run) -> None:
    server.whoami()
    server.users(user("a"), user("b", deactivated=True))
    assert names(run("synapse_users_info", {"gather": [], "active": False})) == ["@b:example.org"]


def test_an_error(server: Server, run: Run) -> None:
    server.whoami()
    server.users(user("a"))
    refusal = matrix_error("M_UNKNOWN", "broken")
    server.get("/_synapse/admin/v2/users/%40a%3Aexample.org", refusal, status=500)
    result = run("synapse_users_info")
    assert result["failed"]
    assert (result["status"], result["errcode"]) == (500, "M_UNKNOWN")
