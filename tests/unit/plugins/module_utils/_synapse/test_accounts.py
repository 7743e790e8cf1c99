# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
import requests
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse import accounts
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.accounts import Account
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    OPERATOR,
    USERS,
    Json,
    Server,
    matrix_error,
    quoted,
    user,
)
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver

ALICE = "@alice:example.org"
NO_ANSWER = requests.exceptions.ReadTimeout()
QUERY = {"limit": "10000", "order_by": "name", "locked": "true", "guests": "true", "deactivated": "true"}


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
    assert expected in accounts.CLASSES
    assert accounts.account_class({**user("alice"), **fields}, OPERATOR) == expected


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
    assert expected in accounts.STATES
    assert accounts.account_state({**user("alice"), **fields}) == expected


# Listing


def test_all_accounts_are_listed(server: Server, client: Client) -> None:
    users = [user("a"), user("b", deactivated=True), user("c", locked=True), user("d", is_guest=True)]
    server.users(*users)
    assert list(accounts.list_users(client)) == users


def test_an_account_that_comes_twice_is_listed_once(server: Server, client: Client) -> None:
    server.get(USERS, {"users": [user("a"), user("b")], "next_token": "2", "total": 2}, query=QUERY)
    server.get(USERS, {"users": [user("b"), user("c")], "total": 3}, query={**QUERY, "from": "2"})
    assert [found["name"][1] for found in accounts.list_users(client)] == ["a", "b", "c"]


def test_an_account_that_registers_between_two_pages(homeserver: Homeserver, lone_client: Client) -> None:
    homeserver.page_size = 2
    homeserver.register("b", "c", "d")
    homeserver.faults["GET users v2"] = [None, lambda: homeserver.register("a")]
    assert [found["name"][1:3] for found in accounts.list_users(lone_client)] == ["b:", "c:", "d:", "op", "a:"]
    assert homeserver.requests.count("GET users v2") == 6  # once more, since the listing was one short of its total


@pytest.mark.parametrize(
    ("active", "deactivated", "expected"), [(None, "true", "ab"), (True, "false", "a"), (False, "true", "b")]
)
def test_listing_by_activity(
    server: Server, client: Client, active: bool | None, deactivated: str, expected: str
) -> None:
    server.users(user("a"), user("b", deactivated=True), deactivated=deactivated)
    assert "".join(found["name"][1] for found in accounts.list_users(client, active=active)) == expected


def test_listing_by_name(server: Server, client: Client) -> None:
    server.users(user("alice"), name="ali")
    assert len(list(accounts.list_users(client, name="ali"))) == 1


def test_numbers_of_old_versions_become_booleans(server: Server, client: Client) -> None:
    old = {"name": ALICE, "admin": 0, "is_guest": 1, "deactivated": 0}
    server.users(old)
    server.user(old)
    listed = list(accounts.list_users(client))
    for found in (*listed, accounts.get_user(client, ALICE)):
        assert [found[key] for key in ("admin", "is_guest", "deactivated")] == [False, True, False]
        assert isinstance(found["is_guest"], bool)


def test_delegated_authentication_knows_no_guests(server: Server, client: Client) -> None:
    refusal = matrix_error("M_INVALID_PARAM", "The guests parameter is not supported when MSC3861 is enabled.")
    server.get(USERS, refusal, status=400, query=QUERY)
    server.users(user("a"), guests="false")
    assert [found["name"] for found in accounts.list_users(client)] == ["@a:example.org"]


def test_another_400_is_an_error(server: Server, client: Client) -> None:
    for guests in ("true", "false"):
        server.get(USERS, matrix_error("M_UNKNOWN", "no"), status=400, query={**QUERY, "guests": guests})
    with pytest.raises(SynapseError, match="M_UNKNOWN: no"):
        list(accounts.list_users(client))


def test_listing_without_permission(server: Server, client: Client) -> None:
    server.get(USERS, matrix_error("M_FORBIDDEN", "You are not a server admin"), status=403, query=QUERY)
    with pytest.raises(SynapseError, match="not a server admin"):
        list(accounts.list_users(client))


def test_accounts(server: Server, client: Client) -> None:
    server.users(user("op", admin=True), user("root", admin=True), user("old", deactivated=True, erased=True))
    assert list(accounts.list_accounts(client)) == [
        Account(OPERATOR, "operator", "active"),
        Account("@root:example.org", "admin", "active"),
        Account("@old:example.org", "user", "erased"),
    ]


# Deactivating


@pytest.mark.parametrize("erase", [True, False])
def test_deactivate(server: Server, client: Client, erase: bool) -> None:
    server.deactivate("@a/b:example.org", {"id_server_unbind_result": "success"}, erase=erase)
    accounts.deactivate(client, "@a/b:example.org", erase=erase)


@pytest.mark.parametrize("answer", [{"answer": NO_ANSWER}, {"status": 502}, {"status": 504}])
def test_without_an_answer_the_account_is_looked_at(server: Server, client: Client, answer: Any) -> None:
    server.deactivate(ALICE, **answer)
    server.user(user(ALICE))
    server.user(user(ALICE, deactivated=True))
    server.user(user(ALICE, deactivated=True, erased=True))
    accounts.deactivate(client, ALICE, erase=True)


def test_closed_is_enough_without_erasure(server: Server, client: Client) -> None:
    server.deactivate(ALICE, NO_ANSWER, erase=False)
    server.user(user(ALICE, deactivated=True))
    accounts.deactivate(client, ALICE, erase=False)


# Locks


@pytest.mark.parametrize("locked", [True, False])
def test_an_account_is_locked_or_unlocked(server: Server, client: Client, locked: bool) -> None:
    server.put(f"{USERS}/{quoted('@a/b:example.org')}", {"locked": locked})
    accounts.set_locked(client, "@a/b:example.org", locked)


@pytest.mark.parametrize(
    ("fields", "locked"), [({"locked": True}, True), ({"locked": 1}, True), ({"locked": False}, False)]
)
def test_an_account_says_whether_it_is_locked(server: Server, client: Client, fields: Json, locked: bool) -> None:
    server.users(user("a", deactivated=True, **fields))
    (account,) = accounts.list_accounts(client)
    assert account.locked is locked


def test_where_nothing_can_be_locked_everybody_is_as_good_as_locked(server: Server, client: Client) -> None:
    old = user("a", is_guest=True)
    del old["locked"]
    server.users(old)
    assert list(accounts.list_accounts(client)) == [Account("@a:example.org", "guest", "active", True)]


def test_the_accounts_of_another_server_are_none_of_ours(server: Server, client: Client) -> None:
    """The URL leads elsewhere by now."""
    server.users(user("alice"), {**user("bob"), "name": "@bob:example.com"})
    with pytest.raises(SynapseError, match=r"@bob.*, which is not an account of example"):
        list(accounts.list_users(client))


@pytest.mark.parametrize(("active", "expected"), [(None, 4), (True, 3), (False, 1)])
def test_accounts_are_counted_without_a_listing(
    homeserver: Homeserver, lone_client: Client, active: bool | None, expected: int
) -> None:
    homeserver.register("alice")
    homeserver.register("bob", locked=True)
    homeserver.register("carol", deactivated=True)
    assert accounts.count_users(lone_client, active=active) == expected
    assert lone_client.sent == {accounts.USERS: 2 if active is False else 1}


def test_guests_that_are_not_listed_are_not_counted(homeserver: Homeserver, lone_client: Client) -> None:
    homeserver.register("alice")
    homeserver.delegated = True
    assert accounts.count_users(lone_client) == 2


def test_only_accounts_that_were_never_seen_are_read(
    homeserver: Homeserver, lone_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    homeserver.register(*(f"seen{number}" for number in range(50)), last_seen_ts=1)
    homeserver.register(*(f"bridged{number}" for number in range(10)), last_seen_ts=None, appservice_id="bridge")
    homeserver.register("gone", deactivated=True, last_seen_ts=None)
    homeserver.accounts[OPERATOR]["last_seen_ts"] = 1
    found = accounts.classified_accounts(lone_client)
    assert sorted(account.user_id for account in found) == sorted(homeserver.accounts)
    assert sum(account.account_class == "appservice" for account in found) == 10
    assert lone_client.sent[f"{accounts.USERS}/{{}}"] == 10

    lone_client.sent.clear()
    monkeypatch.setattr(accounts, "MAX_UNSEEN_READS", 3)
    found = accounts.classified_accounts(lone_client)
    assert len(found) == len(homeserver.accounts)
    assert sum(account.account_class == "appservice" for account in found) == 3
    assert lone_client.sent[f"{accounts.USERS}/{{}}"] == 3
