# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Accounts and rooms that are not as others are, each as it really comes about."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from lab import Settings
from lab.api import APPSERVICE_TOKEN, ApiError
from lab.proxy import Proxy
from lab.waiting import wait_until

from .conftest import Federation, RunModule

variation = pytest.mark.nightly(category="variations")


def drain_options(federation: Federation, **more: Any) -> dict[str, Any]:
    return {**federation.connection, "all_users": True, "wait_timeout": 3, **more}


def assert_nobody_but(federation: Federation, *spared: str) -> None:
    """Neither server sees anybody of the one that retires in a room, but those who stay."""
    made = federation.population
    allowed = {made.operator, made.second_admin, made.appservice_bot, *spared}

    def members(rooms: dict[str, list[str]]) -> set[str]:
        return {member for room in rooms.values() for member in room}

    assert members(federation.retiring.members_of(federation.retiring.server_name)) <= allowed
    wait_until(lambda: members(federation.ghosts()) <= allowed, "the other server lists nobody else")


@contextmanager
def before_each_listing(federation: Federation, action: Callable[[], object]) -> Iterator[dict[str, Any]]:
    """Call ``action`` before each listing of the accounts that the module asks for, by these connection options.

    The module asks once per pass: whatever happens between two passes has happened by then.
    """
    with Proxy(federation.retiring) as proxy:
        proxy.before("/v2/users$", action)
        yield {"base_url": proxy.base_url, "server_name": federation.retiring.server_name}


def test_a_guest_is_shut_out(federation: Federation, run_module: RunModule) -> None:
    retiring, made = federation.retiring, federation.population
    token = made.tokens[made.guest]
    assert retiring.sync(token)
    run_module("synapse_user_deactivate", drain_options(federation))
    with pytest.raises(ApiError, match="M_USER_LOCKED"):
        retiring.sync(token)
    assert run_module("synapse_user_deactivate", drain_options(federation))["changed"] is False
    # One whom another tool has closed, and who can still come and go.
    retiring.admin("PUT", f"/v2/users/{made.guest}", json={"locked": False})
    retiring.join(token, made.shared_by_retiring[0])
    mended = run_module("synapse_user_deactivate", drain_options(federation))
    assert (mended["changed"], mended["deactivated"], mended["left_all_rooms"]) == (True, 1, 1)
    with pytest.raises(ApiError, match="M_USER_LOCKED"):
        retiring.sync(token)
    assert_nobody_but(federation)


def test_a_bridge_that_brings_its_users_back(federation: Federation, run_module: RunModule) -> None:
    retiring, made = federation.retiring, federation.population
    room = made.shared_by_retiring[0]

    def bring_back() -> None:
        retiring.join(APPSERVICE_TOKEN, room, as_user=made.appservice_user)

    with before_each_listing(federation, bring_back) as connection:
        failed = run_module("synapse_user_deactivate", drain_options(federation, max_passes=2, **connection))
    assert failed["failed"]
    assert made.appservice_user in {account["user_id"] for account in failed["still_joined"]}
    assert "stop its application service" in str(failed["still_joined"])
    done = run_module("synapse_user_deactivate", drain_options(federation))
    assert done["still_joined"] == []
    assert_nobody_but(federation)


@variation
def test_an_identity_server_that_fails(federation: Federation, run_module: RunModule) -> None:
    retiring, victim = federation.retiring, federation.population.users[0]
    retiring.stop()
    retiring.database.execute(
        "INSERT INTO user_threepid_id_server (user_id, medium, address, id_server)"  # noqa: S608
        f" VALUES ('{victim}', 'email', 'a@example.org', 'localhost:1')"
    )
    retiring.start()
    failed = run_module("synapse_user_deactivate", drain_options(federation))
    (failure,) = failed["failures"]
    assert failure["user_id"] == victim and "Failed to remove threepid from ID server" in failure["reason"]
    assert not retiring.account(victim)["deactivated"]
    retiring.stop()
    retiring.database.execute("DELETE FROM user_threepid_id_server")
    retiring.start()
    assert run_module("synapse_user_deactivate", drain_options(federation))["deactivated"] == 1
    assert_nobody_but(federation)


def test_a_room_with_broken_state(federation: Federation, run_module: RunModule) -> None:
    retiring, made = federation.retiring, federation.population
    room = made.small_rooms[1]
    members = set(retiring.joined_members(room))
    retiring.stop()
    retiring.database.execute(
        "DELETE FROM event_to_state_groups WHERE event_id IN"  # noqa: S608
        f" (SELECT event_id FROM events WHERE room_id = '{room}')"
    )
    retiring.start()
    failed = run_module("synapse_user_deactivate", drain_options(federation))
    assert failed["failed"] and failed["failures"] == []
    assert {account["user_id"] for account in failed["still_joined"]} == members
    for account in failed["still_joined"]:
        assert [left["room_id"] for left in account["rooms"]] == [room]
        assert "500" in account["rooms"][0]["reason"]
    assert_nobody_but(federation, *members)


@variation
def test_rooms_whose_other_servers_are_dead(federation: Federation, run_module: RunModule) -> None:
    """They keep nobody here. What a server that comes back still lists is removed on it."""
    retiring, staying = federation.retiring, federation.staying
    staying.kill()
    done = run_module("synapse_user_deactivate", drain_options(federation))
    assert (done["failures"], done["still_joined"]) == ([], [])
    # What is to be sent is lost.
    retiring.restart()
    staying.start()
    assert federation.ghosts()
    removed = run_module(
        "matrix_ghosts",
        {
            **federation.connection,
            "server_name": retiring.server_name,
            "signing_key_path": str(retiring.directory / "signing.key"),
            "ca_path": str(federation.lab.ca_file),
            "ip_allowlist": ["127.0.0.0/8", "::1"],
        },
    )
    assert removed["changed"]
    assert_nobody_but(federation)


@variation
def test_an_account_in_many_rooms(federation: Federation, run_module: RunModule) -> None:
    retiring, made = federation.retiring, federation.population
    for _room in range(60):
        retiring.create_room(made.tokens[made.users[0]])
    # Nobody parts for longer than this, but the rooms get fewer.
    done = run_module("synapse_user_deactivate", drain_options(federation, wait_timeout=1))
    assert (done["failures"], done["still_joined"]) == ([], [])
    assert_nobody_but(federation)


def test_what_everybody_sent_is_redacted(federation: Federation, run_module: RunModule) -> None:
    retiring, staying, made = federation.retiring, federation.staying, federation.population
    witness, room = made.other_users[0], made.shared_by_retiring[0]
    for number in range(3):
        retiring.send(made.tokens[made.users[1]], room, f"secret {number}")

    def seen() -> list[str]:
        events = staying.messages(made.tokens[witness], room)
        return [str(event["content"]) for event in events if event["sender"] in made.users]

    wait_until(lambda: any("secret 2" in content for content in seen()), "the other server has it")
    done = run_module("synapse_user_deactivate", drain_options(federation, redact=True))
    # Nobody can act as one who is locked, and guests are not allowed to redact.
    assert [failure["user_id"] for failure in done["failures"]] == [made.locked]
    assert "M_USER_LOCKED" in done["failures"][0]["reason"]
    assert [account["user_id"] for account in done["not_redacted"]] == [made.guest]
    wait_until(lambda: not any("secret" in content or "hello" in content for content in seen()), "it is gone there")
    assert not any("displayname" in content for content in seen())
    assert_nobody_but(federation, made.locked)


def test_new_accounts_without_end(federation: Federation, run_module: RunModule) -> None:
    retiring = federation.retiring
    retiring.configure(Settings(open_registration=True))
    retiring.restart()
    names = itertools.count()

    def register() -> None:
        body = {"username": f"new{next(names)}", "password": "p", "auth": {"type": "m.login.dummy"}}
        retiring.call("POST", "/_matrix/client/v3/register", json=body)

    with before_each_listing(federation, register) as connection:
        failed = run_module("synapse_user_deactivate", drain_options(federation, max_passes=2, **connection))
    assert failed["failed"] and failed["passes"] == 2
    (failure,) = failed["failures"]
    assert failure["user_id"] == retiring.user_id("new2") and "still active after 2 passes" in failure["reason"]
    done = run_module("synapse_user_deactivate", drain_options(federation))
    assert done["failures"] == []
    assert_nobody_but(federation)
