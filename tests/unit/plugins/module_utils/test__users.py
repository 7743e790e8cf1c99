# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
import requests
from ansible_collections.matrixops.synapse.plugins.module_utils import _users
from ansible_collections.matrixops.synapse.plugins.module_utils._client import Client, SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._users import Account
from ansible_collections.matrixops.synapse.tests.unit.helpers import (
    OPERATOR,
    TOKEN,
    USERS,
    VERSIONS,
    Clock,
    Json,
    Server,
    matrix_error,
    quoted,
    user,
)

ALICE = "@alice:example.org"
NO_ANSWER = requests.exceptions.ReadTimeout()
UNKNOWN = matrix_error("M_NOT_FOUND", "User not found")
QUERY = {"limit": "1000", "locked": "true", "guests": "true", "deactivated": "true"}


# Classes and states


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "user"),
        ({"name": OPERATOR}, "operator"),
        ({"name": OPERATOR, "admin": True}, "operator"),
        ({"admin": True}, "admin"),
        ({"admin": 1}, "admin"),
        ({"admin": True, "appservice_id": "irc", "is_guest": True}, "admin"),
        ({"appservice_id": "irc"}, "appservice"),
        ({"appservice_id": "irc", "is_guest": True}, "appservice"),
        ({"appservice_id": None, "is_guest": True}, "guest"),
        ({"is_guest": 1}, "guest"),
        ({"admin": 0, "is_guest": 0, "appservice_id": None}, "user"),
    ],
)
def test_classes(fields: Json, expected: str) -> None:
    assert expected in _users.CLASSES
    assert _users.account_class({**user("alice"), **fields}, OPERATOR) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "active"),
        ({"suspended": True}, "suspended"),
        ({"locked": True}, "locked"),
        ({"locked": True, "suspended": True}, "locked"),
        ({"deactivated": True}, "deactivated"),
        ({"deactivated": 1, "erased": 0}, "deactivated"),
        ({"deactivated": True, "locked": True, "suspended": True}, "deactivated"),
        ({"deactivated": True, "erased": True}, "erased"),
        ({"erased": True}, "active"),  # opened again after an erasure
    ],
)
def test_states(fields: Json, expected: str) -> None:
    assert expected in _users.STATES
    assert _users.account_state({**user("alice"), **fields}) == expected


# Listing


def test_all_accounts_are_listed(server: Server, client: Client) -> None:
    users = [user("a"), user("b", deactivated=True), user("c", locked=True), user("d", is_guest=True)]
    server.users(*users)
    assert list(_users.list_users(client)) == users


def test_an_account_that_comes_twice_is_listed_once(server: Server, client: Client) -> None:
    server.get(USERS, {"users": [user("a"), user("b")], "next_token": "2"}, query=QUERY)
    server.get(USERS, {"users": [user("b"), user("c")]}, query={**QUERY, "from": "2"})
    assert [found["name"][1] for found in _users.list_users(client)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("active", "deactivated", "expected"), [(None, "true", "ab"), (True, "false", "ab"), (False, "true", "b")]
)
def test_listing_by_activity(
    server: Server, client: Client, active: bool | None, deactivated: str, expected: str
) -> None:
    server.users(user("a"), user("b", deactivated=True), deactivated=deactivated)
    assert "".join(found["name"][1] for found in _users.list_users(client, active=active)) == expected


def test_listing_by_name(server: Server, client: Client) -> None:
    server.users(user("alice"), name="ali")
    assert len(list(_users.list_users(client, name="ali"))) == 1


def test_numbers_of_old_versions_become_booleans(server: Server, client: Client) -> None:
    old = {"name": ALICE, "admin": 0, "is_guest": 1, "deactivated": 0}
    server.users(old)
    server.user(old)
    listed = list(_users.list_users(client))
    for found in (*listed, _users.get_user(client, ALICE)):
        assert [found[key] for key in ("admin", "is_guest", "deactivated")] == [False, True, False]
        assert isinstance(found["is_guest"], bool)


def test_delegated_authentication_knows_no_guests(server: Server, client: Client) -> None:
    refusal = matrix_error("M_INVALID_PARAM", "The guests parameter is not supported when MSC3861 is enabled.")
    server.get(USERS, refusal, status=400, query=QUERY)
    server.users(user("a"), guests="false")
    assert [found["name"] for found in _users.list_users(client)] == ["@a:example.org"]


def test_another_400_is_an_error(server: Server, client: Client) -> None:
    for guests in ("true", "false"):
        server.get(USERS, matrix_error("M_UNKNOWN", "no"), status=400, query={**QUERY, "guests": guests})
    with pytest.raises(SynapseError, match="M_UNKNOWN: no"):
        list(_users.list_users(client))


def test_listing_without_permission(server: Server, client: Client) -> None:
    server.get(USERS, matrix_error("M_FORBIDDEN", "You are not a server admin"), status=403, query=QUERY)
    with pytest.raises(SynapseError, match="not a server admin"):
        list(_users.list_users(client))


def test_accounts(server: Server, client: Client) -> None:
    server.users(user("op", admin=True), user("root", admin=True), user("old", deactivated=True, erased=True))
    assert list(_users.list_accounts(client)) == [
        Account(OPERATOR, "operator", "active"),
        Account("@root:example.org", "admin", "active"),
        Account("@old:example.org", "user", "erased"),
    ]


# Finding some


def test_few_accounts_are_read_one_by_one(server: Server, client: Client) -> None:
    server.user(user("a/b", suspended=True))
    server.user(user("root", admin=True))
    assert _users.find_accounts(client, ["@a/b:example.org", "@root:example.org"]) == {
        "@a/b:example.org": Account("@a/b:example.org", "user", "suspended"),
        "@root:example.org": Account("@root:example.org", "admin", "active"),
    }


def test_many_accounts_are_found_in_one_listing(server: Server, client: Client) -> None:
    names = [f"@u{number}:example.org" for number in range(_users.FEW + 1)]
    server.users(user("other"), *map(user, names))
    assert list(_users.find_accounts(client, names)) == names


def test_no_accounts_are_no_request(client: Client) -> None:
    assert _users.find_accounts(client, []) == {}


@pytest.mark.parametrize(
    ("user_id", "reason"),
    [
        ("alice", "alice is not a user ID"),
        ("@alice", "@alice is not a user ID"),
        ("alice:example.org", "alice:example.org is not a user ID"),
        ("", " is not a user ID"),
        ("@alice:example.com", "@alice:example.com is not an account of example.org"),
        ("@alice:example.org:8448", "@alice:example.org:8448 is not an account of example.org"),
    ],
)
def test_what_cannot_be_an_account_is_refused_without_asking(client: Client, user_id: str, reason: str) -> None:
    with pytest.raises(SynapseError, match=f"^Nothing was changed: {reason}"):
        _users.find_accounts(client, [ALICE, user_id])


def test_few_unknown_accounts(server: Server, client: Client) -> None:
    server.get(f"{USERS}/{quoted(ALICE)}", UNKNOWN, status=404)
    server.user(user("bob"))
    with pytest.raises(SynapseError, match=f"^Nothing was changed: {ALICE} does not exist$"):
        _users.find_accounts(client, [ALICE, "@bob:example.org"])


def test_many_unknown_accounts_are_not_all_named(server: Server, client: Client) -> None:
    server.users(user("other"))
    names = [f"@u{number}:example.org" for number in range(_users.FEW + 1)]
    with pytest.raises(SynapseError, match=f"; and {len(names) - _users.SHOWN} more$") as caught:
        _users.find_accounts(client, names)
    assert str(caught.value).count("does not exist") == _users.SHOWN


def test_an_error_is_not_an_unknown_account(server: Server, client: Client) -> None:
    server.get(f"{USERS}/{quoted(ALICE)}", matrix_error("M_FORBIDDEN", "no"), status=403)
    with pytest.raises(SynapseError, match="M_FORBIDDEN"):
        _users.find_accounts(client, [ALICE])


# Deactivating


@pytest.mark.parametrize("erase", [True, False])
def test_deactivate(server: Server, client: Client, erase: bool) -> None:
    server.deactivate("@a/b:example.org", {"id_server_unbind_result": "success"}, erase=erase)
    _users.deactivate(client, "@a/b:example.org", erase=erase)


def test_a_refusal_is_final(server: Server, client: Client, clock: Clock) -> None:
    server.deactivate(ALICE, matrix_error("M_FORBIDDEN", "no"), status=403)
    with pytest.raises(SynapseError, match="M_FORBIDDEN"):
        _users.deactivate(client, ALICE, erase=True)
    assert clock.waits == []


@pytest.mark.parametrize("answer", [{"answer": NO_ANSWER}, {"status": 502}, {"status": 504}])
def test_without_an_answer_the_account_is_looked_at(server: Server, client: Client, answer: Any) -> None:
    server.deactivate(ALICE, **answer)
    server.user(user(ALICE))
    server.user(user(ALICE, deactivated=True))
    server.user(user(ALICE, deactivated=True, erased=True))
    _users.deactivate(client, ALICE, erase=True)


def test_closed_is_enough_without_erasure(server: Server, client: Client) -> None:
    server.deactivate(ALICE, NO_ANSWER, erase=False)
    server.user(user(ALICE, deactivated=True))
    _users.deactivate(client, ALICE, erase=False)


def test_when_looking_is_of_no_use_it_is_sent_once_more(server: Server, client: Client, clock: Clock) -> None:
    server.deactivate(ALICE, NO_ANSWER)
    for _look in _users.LOOKS:
        server.user(user(ALICE))
    server.deactivate(ALICE)
    _users.deactivate(client, ALICE, erase=True)
    assert sum(clock.waits) >= 7


def test_it_is_not_sent_a_third_time(server: Server, client: Client) -> None:
    for _attempt in range(2):
        server.deactivate(ALICE, NO_ANSWER)
        for _look in _users.LOOKS:
            server.user(user(ALICE))
    with pytest.raises(SynapseError, match="no answer") as caught:
        _users.deactivate(client, ALICE, erase=True)
    assert caught.value.unanswered


def test_the_account_is_looked_at_last_thing_before_it_is_sent_again(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.deactivate(ALICE, NO_ANSWER)
    for _look in _users.LOOKS:
        server.user(user(ALICE))
    server.deactivate(ALICE)
    sent_before_pauses = []
    monkeypatch.setattr("time.sleep", lambda _seconds: sent_before_pauses.append(len(server.methods)))
    _users.deactivate(client, ALICE, erase=True)
    assert server.methods[-2:] == ["GET", "POST"]
    assert sent_before_pauses
    assert max(sent_before_pauses) < len(server.methods) - 1


def test_a_server_that_answers_no_more_is_lost(server: Server, client: Client) -> None:
    server.deactivate(ALICE, NO_ANSWER)
    for _try in range(11):
        server.get("/_synapse/admin/v2/users/%40alice%3Aexample.org", {}, status=502)
    with pytest.raises(SynapseError) as caught:
        _users.deactivate(client, ALICE, erase=True)
    assert caught.value.fatal


# Locks


@pytest.mark.parametrize("locked", [True, False])
def test_an_account_is_locked_or_unlocked(server: Server, client: Client, locked: bool) -> None:
    server.put(f"{USERS}/{quoted('@a/b:example.org')}", {"locked": locked})
    _users.set_locked(client, "@a/b:example.org", locked)


@pytest.mark.parametrize(
    ("fields", "locked"), [({"locked": True}, True), ({"locked": 1}, True), ({"locked": False}, False)]
)
def test_an_account_says_whether_it_is_locked(server: Server, client: Client, fields: Json, locked: bool) -> None:
    server.users(user("a", deactivated=True, **fields))
    (account,) = _users.list_accounts(client)
    assert account.locked is locked


def test_where_nothing_can_be_locked_everybody_is_as_good_as_locked(server: Server, client: Client) -> None:
    old = user("a", is_guest=True)
    del old["locked"]
    server.users(old)
    assert list(_users.list_accounts(client)) == [Account("@a:example.org", "guest", "active", True)]


def test_who_is_locked_is_unlocked_for_as_long_as_needed(server: Server, client: Client) -> None:
    server.user(user(ALICE, locked=True))
    server.put(f"{USERS}/{quoted(ALICE)}", {"locked": False})
    server.get("/path")
    server.put(f"{USERS}/{quoted(ALICE)}", {"locked": True})
    with _users.unlocked(client, ALICE):
        client.get("/path")


def test_who_was_unlocked_is_also_locked_again_after_an_error(server: Server, client: Client) -> None:
    server.user(user(ALICE, locked=True))
    server.put(f"{USERS}/{quoted(ALICE)}", {"locked": False})
    server.put(f"{USERS}/{quoted(ALICE)}", {"locked": True})
    with pytest.raises(ValueError, match="in the middle"), _users.unlocked(client, ALICE):
        raise ValueError("in the middle")


@pytest.mark.parametrize("fields", [{}, {"locked": False}, {"locked": None}])
def test_who_is_not_locked_is_not_touched(server: Server, client: Client, fields: Json) -> None:
    server.get(f"{USERS}/{quoted(ALICE)}", {"name": ALICE, "admin": 0, "is_guest": 0, "deactivated": 1, **fields})
    with _users.unlocked(client, ALICE):
        assert server.methods[-1] == "GET"


def test_who_cannot_be_unlocked(server: Server, client: Client) -> None:
    server.user(user(ALICE, locked=True))
    server.put(f"{USERS}/{quoted(ALICE)}", {"locked": False}, matrix_error("M_FORBIDDEN", "no"), status=403)
    with pytest.raises(SynapseError, match="M_FORBIDDEN"), _users.unlocked(client, ALICE):
        raise AssertionError("not reached")


# Acting as another


def test_acting_as_another_for_an_hour_by_the_servers_clock(server: Server, client: Client) -> None:
    server.can_act_as(ALICE, "fresh")
    server.get("/path", token="fresh")
    server.logout("fresh")
    with _users.acting_as(client, ALICE) as token:
        client.get("/path", token=token)


def test_the_session_also_ends_after_an_error(server: Server, client: Client) -> None:
    server.can_act_as(ALICE, "fresh")
    server.logout("fresh")
    with pytest.raises(ValueError, match="in the middle"), _users.acting_as(client, ALICE):
        raise ValueError("in the middle")


def test_a_session_that_has_ended_by_itself(server: Server, client: Client) -> None:
    server.can_act_as(ALICE, "fresh")
    server.post("/_matrix/client/v3/logout", {}, matrix_error("M_UNKNOWN_TOKEN", "gone"), status=401, token="fresh")
    with _users.acting_as(client, ALICE):
        pass


def test_the_operator_needs_no_login(server: Server, client: Client) -> None:
    server.get("/path", token=TOKEN)
    with _users.acting_as(client, OPERATOR) as token:
        client.get("/path", token=token)


def test_no_login_without_the_servers_time(server: Server, client: Client) -> None:
    server.get(VERSIONS)
    with pytest.raises(SynapseError, match="Date"), _users.acting_as(client, ALICE):
        raise AssertionError("not reached")


def test_a_session_as_a_guest_cannot_be_ended(server: Server, client: Client) -> None:
    server.can_act_as(ALICE, "fresh")
    refusal = matrix_error("M_GUEST_ACCESS_FORBIDDEN", "Guest access not allowed")
    server.post("/_matrix/client/v3/logout", {}, refusal, status=403, token="fresh")
    with _users.acting_as(client, ALICE):
        pass


def test_the_accounts_of_another_server_are_none_of_ours(server: Server, client: Client) -> None:
    """The URL leads elsewhere by now."""
    server.users(user("alice"), {**user("bob"), "name": "@bob:example.com"})
    with pytest.raises(SynapseError, match=r"@bob.*, which is no account of example"):
        list(_users.list_users(client))
