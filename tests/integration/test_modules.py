# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each module against a real server; what it did is read from the servers themselves."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from lab.api import PASSWORD
from lab.waiting import wait_until

from .conftest import Federation, RunModule, unchanged


def test_server_info(filled: Federation, run_module: RunModule) -> None:
    result = run_module("synapse_server_info", filled.connection)
    assert result["server_name"] == filled.retiring.server_name
    assert result["version"] == filled.retiring.call("GET", "/_synapse/admin/v1/server_version")["server_version"]
    assert result["operator"] == filled.population.operator
    assert result["delegated_auth"] is False
    assert result["registration"] is False
    assert result["changed"] is False


def test_users_info_lists_and_classifies_every_account(filled: Federation, run_module: RunModule) -> None:
    result = run_module("synapse_users_info", filled.connection)
    made = filled.population
    assert {user["name"] for user in result["users"]} == {account["name"] for account in filled.retiring.accounts()}
    assert result["total"] == len(result["users"])
    found = {user["name"]: (user["class"], user["state"]) for user in result["users"]}
    assert found[made.operator] == ("operator", "active")
    assert found[made.second_admin] == ("admin", "active")
    assert found[made.guest] == ("guest", "active")
    assert found[made.appservice_user] == ("appservice", "active")
    assert found[made.locked] == ("user", "locked")
    assert found[made.suspended] == ("user", "suspended")
    assert found[made.deactivated] == ("user", "deactivated")
    assert found[made.erased] == ("user", "erased")
    for user_id in (*made.users, *made.odd_users):
        assert found[user_id] == ("user", "active")
    assert Counter(kind for kind, _state in found.values()) == {
        kind: sum(states.values()) for kind, states in result["counts"].items()
    }


def test_users_info_filters(filled: Federation, run_module: RunModule) -> None:
    made = filled.population
    options = {"classes": ["user"], "active": True, "name": "odd", "gather": ["joined_rooms"]}
    result = run_module("synapse_users_info", {**filled.connection, **options})
    assert {user["name"] for user in result["users"]} == set(made.odd_users)
    for user in result["users"]:
        assert user["joined_rooms"] == sorted(filled.retiring.joined_rooms(user["name"]))
    closed = run_module("synapse_users_info", {**filled.connection, "active": False})
    assert {user["name"] for user in closed["users"]} == {made.deactivated, made.erased}


def test_rooms_info_names_local_members(filled: Federation, run_module: RunModule) -> None:
    result = run_module("synapse_rooms_info", {**filled.connection, "local_members": True})
    local = filled.retiring.members_of(filled.retiring.server_name)
    assert {room["room_id"]: room["local_members"] for room in result["rooms"]} == {
        room_id: sorted(members) for room_id, members in local.items()
    }
    everything = run_module("synapse_rooms_info", filled.connection)
    assert {room["room_id"] for room in everything["rooms"]} == {r["room_id"] for r in filled.retiring.rooms()}


@pytest.mark.parametrize("wait_for", ["all", "federated"])
def test_deactivate_everybody(federation: Federation, run_module: RunModule, tmp_path: Path, wait_for: str) -> None:
    retiring, made = federation.retiring, federation.population
    to_close = federation.to_close
    federated = set(retiring.members_of(federation.staying.server_name))
    log = tmp_path / "log.jsonl"
    options = {**federation.connection, "all_users": True, "wait_for": wait_for, "log_path": str(log)}

    before = retiring.database_fingerprint()
    with unchanged(retiring):
        predicted = run_module("synapse_user_deactivate", options, "--check", "--diff")
    assert predicted["changed"] is True
    assert predicted["deactivated"] == len(to_close)
    assert not log.exists()

    done = run_module("synapse_user_deactivate", options, "--diff")
    assert done["diff"] == predicted["diff"]
    for key in ("changed", "deactivated", "unchanged", "failures", "still_joined"):
        assert done[key] == predicted[key]
    for account in retiring.accounts():
        admin = account["name"] in (made.operator, made.second_admin)
        assert account["deactivated"] is account["erased"] is not admin, account
        if not admin:
            joined = retiring.joined_rooms(account["name"])
            assert federated.isdisjoint(joined) if wait_for == "federated" else joined == []
    assert 0 < done["federated_left_after"] < done["elapsed"]
    if wait_for == "all":
        assert done["federated_left_after"] <= done["all_left_after"] < done["elapsed"]
    else:
        assert done["all_left_after"] is None
    # Neither a session as somebody else nor a lifted rate limit is left.
    after = retiring.database_fingerprint()
    assert after["ratelimit_override"] == before["ratelimit_override"]
    assert after["access_tokens"].startswith("2 rows"), "those of the two admins"
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    for result in ("deactivated", "left_all_rooms" if wait_for == "all" else "left"):
        assert {line["user_id"] for line in logged if line["result"] == result} == to_close
    # Synapse makes those leave who can't before they are deactivated; all others leave before the first of them is.
    others = to_close - {made.locked, made.guest}
    order = [line["result"] for line in logged if line["user_id"] in others]
    assert order[: len(others)] == ["left"] * len(others)

    spared = {made.operator, made.second_admin, made.appservice_bot}
    wait_until(lambda: {m for room in federation.ghosts().values() for m in room} <= spared, "the other was told")

    wait_until(lambda: not any(map(retiring.joined_rooms, to_close)), "Synapse has made them leave all rooms")
    again = run_module("synapse_user_deactivate", options, "--diff")
    assert (again["changed"], again["deactivated"], again["unchanged"]) == (False, 0, len(to_close) + 1)


def test_deactivate_by_name_without_erasing(federation: Federation, run_module: RunModule) -> None:
    names = [*federation.population.odd_users, federation.population.deactivated]
    options = {**federation.connection, "user_ids": names, "erase": False}
    done = run_module("synapse_user_deactivate", options)
    assert (done["deactivated"], done["unchanged"]) == (len(names) - 1, 1)
    accounts = {account["name"]: account for account in federation.retiring.accounts()}
    assert all(accounts[name]["deactivated"] and not accounts[name]["erased"] for name in names)
    assert sum(account["deactivated"] for account in accounts.values()) == len(names) + 1

    erased = run_module("synapse_user_deactivate", {**options, "erase": True})
    assert (erased["deactivated"], erased["unchanged"]) == (len(names), 0)
    accounts = {account["name"]: account for account in federation.retiring.accounts()}
    assert all(accounts[name]["erased"] for name in names)


def test_an_admin_is_closed_only_by_name_and_with_leave(federation: Federation, run_module: RunModule) -> None:
    admin = federation.population.second_admin
    options = {**federation.connection, "user_ids": [admin]}
    refused = run_module("synapse_user_deactivate", options)
    assert refused["failed"] and "is an admin" in refused["msg"] and "No changes made" in refused["msg"]
    assert not federation.retiring.account(admin)["deactivated"]
    assert run_module("synapse_user_deactivate", {**options, "allow_admins": True})["deactivated"] == 1
    assert federation.retiring.account(admin)["deactivated"]


@pytest.mark.parametrize(
    ("user_id", "reason"),
    [
        ("@nobody:{server}", "does not exist"),
        ("@alice:elsewhere.example", "is not an account of {server}"),
        ("alice", "is not a user ID"),
        ("@operator:{server}", "is the operator"),
    ],
)
def test_deactivate_refuses(filled: Federation, run_module: RunModule, user_id: str, reason: str) -> None:
    server = filled.retiring.server_name
    names = [filled.population.users[0], user_id.format(server=server)]
    with unchanged(filled.retiring):
        result = run_module("synapse_user_deactivate", {**filled.connection, "user_ids": names, "allow_admins": True})
    assert result["failed"]
    assert f"No changes made: {names[1]} {reason.format(server=server)}" in result["msg"]


def test_keeping_somebody_who_does_not_exist_is_refused(filled: Federation, run_module: RunModule) -> None:
    keep = [f"@archvie:{filled.retiring.server_name}"]
    with unchanged(filled.retiring):
        result = run_module("synapse_user_deactivate", {**filled.connection, "all_users": True, "keep": keep})
    assert result["failed"] and "is to be kept, but does not exist" in result["msg"]


def test_admins_leave(federation: Federation, run_module: RunModule) -> None:
    retiring, made = federation.retiring, federation.population
    before = retiring.database_fingerprint()
    with unchanged(retiring):
        predicted = run_module("synapse_admin_leave_rooms", federation.connection, "--check")
    done = run_module("synapse_admin_leave_rooms", federation.connection)
    # Nothing is left of the sessions that it opened as others, nor of the lifted rate limit.
    for table in ("access_tokens", "ratelimit_override"):
        assert retiring.database_fingerprint()[table] == before[table]
    plan, outcome = ({a["user_id"]: a for a in result["accounts"]} for result in (predicted, done))
    assert plan.keys() == outcome.keys() == {made.operator, made.second_admin}
    for user_id, account in outcome.items():
        assert account["left"] == plan[user_id]["left"]
        # Check mode says that it can't see what other servers did with accounts that nobody logs in as.
        assert set(account["rejected"]) >= set(plan[user_id]["rejected"])
        assert account["failed"] == [] and account["error"] is None
        assert retiring.joined_rooms(user_id) == []
    assert made.invites_received[made.second_admin] in outcome[made.second_admin]["rejected"]
    assert made.invites_local[made.second_admin] in outcome[made.second_admin]["rejected"]
    assert outcome[made.second_admin]["retracted"] == [made.knocks[made.second_admin]]
    assert outcome[made.operator]["rejected"] == [made.invites_received[made.operator]]
    invited = retiring.sync(retiring.login_as(made.second_admin).token).get("rooms", {})
    assert not invited.get("invite") and not invited.get("knock") and not invited.get("join")

    with unchanged(retiring):
        again = run_module("synapse_admin_leave_rooms", federation.connection)
    assert again["changed"] is False


def test_those_whom_nobody_can_log_in_as_leave_last(federation: Federation, run_module: RunModule) -> None:
    bot = federation.population.appservice_bot
    rooms = set(federation.retiring.joined_rooms(bot))
    assert rooms
    options = {**federation.connection, "unlisted": True}
    early = run_module("synapse_admin_leave_rooms", options)
    assert bot not in {account["user_id"] for account in early["accounts"]}, "others are still in its rooms"
    assert set(federation.retiring.joined_rooms(bot)) == rooms
    run_module("synapse_user_deactivate", {**federation.connection, "all_users": True})
    late = run_module("synapse_admin_leave_rooms", options)
    assert {account["user_id"]: set(account["left"]) for account in late["accounts"]}[bot] == rooms
    assert federation.retiring.members_of(federation.retiring.server_name) == {}
    wait_until(lambda: not federation.ghosts(), "the other server lists nobody")


def test_session(filled: Federation, run_module: RunModule) -> None:
    retiring = filled.retiring
    connection = {"base_url": retiring.base_url}
    login = {"login_user": "operator", "login_password": PASSWORD}
    opened = run_module("synapse_session", {**connection, **login})
    token = opened["access_token"]
    whoami = retiring.call("GET", "/_matrix/client/v3/account/whoami", token=token)
    assert whoami["user_id"] == filled.population.operator
    assert run_module("synapse_server_info", {**connection, "access_token": token})["changed"] is False
    closing = {**connection, "access_token": token, "state": "absent"}
    assert run_module("synapse_session", closing)["changed"] is True
    assert run_module("synapse_session", closing)["changed"] is False


def test_a_session_that_a_module_opened_is_closed(filled: Federation, run_module: RunModule) -> None:
    retiring = filled.retiring
    tokens = retiring.database_fingerprint()["access_tokens"]
    login = {"base_url": retiring.base_url, "login_user": "operator", "login_password": PASSWORD}
    assert run_module("synapse_users_info", login)["total"] == len(retiring.accounts())
    failed = run_module("synapse_user_deactivate", {**login, "user_ids": ["nonsense"]})
    assert failed["failed"]
    assert retiring.database_fingerprint()["access_tokens"] == tokens


def test_state(federation: Federation, run_module: RunModule) -> None:
    assert run_module("synapse_decommission_state", federation.connection)["milestones"] == {}
    mark = {**federation.connection, "mark": ["started", "left_federated_rooms"]}
    with unchanged(federation.retiring):
        assert run_module("synapse_decommission_state", mark, "--check")["changed"] is True
    first = run_module("synapse_decommission_state", mark)
    assert first["changed"] is True
    again = run_module("synapse_decommission_state", mark)
    assert (again["changed"], again["milestones"]) == (False, first["milestones"])
    cleared = run_module("synapse_decommission_state", {**federation.connection, "clear": ["left_federated_rooms"]})
    assert cleared["milestones"] == {"started": first["milestones"]["started"]}
