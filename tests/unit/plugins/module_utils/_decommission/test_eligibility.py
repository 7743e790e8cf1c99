# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import eligibility
from ansible_collections.matrixops.synapse.plugins.module_utils._mas.service import MasService
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse import accounts
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.accounts import Account
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._text import MAX_NAMES_IN_MESSAGE
from ansible_collections.matrixops.synapse.tests.stubs.helpers import USERS, Server, matrix_error, quoted, user
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver
from ansible_collections.matrixops.synapse.tests.stubs.mas import MasStub

ALICE = "@alice:example.org"
UNKNOWN = matrix_error("M_NOT_FOUND", "User not found")


def test_few_accounts_are_read_one_by_one(server: Server, client: Client) -> None:
    server.user(user("a/b", suspended=True))
    server.user(user("root", admin=True))
    assert eligibility.find_accounts(client, ["@a/b:example.org", "@root:example.org"]) == {
        "@a/b:example.org": Account("@a/b:example.org", "user", "suspended"),
        "@root:example.org": Account("@root:example.org", "admin", "active"),
    }


def test_many_accounts_are_found_in_one_listing(server: Server, client: Client) -> None:
    names = [f"@u{number}:example.org" for number in range(accounts.MAX_SINGLE_READS + 1)]
    server.users(user("other"), *map(user, names))
    assert list(eligibility.find_accounts(client, names)) == names


def test_no_accounts_are_no_request(client: Client) -> None:
    assert eligibility.find_accounts(client, []) == {}


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
    with pytest.raises(SynapseError, match=f"^No changes made: {reason}"):
        eligibility.find_accounts(client, [ALICE, user_id])


def test_few_unknown_accounts(server: Server, client: Client) -> None:
    server.get(f"{USERS}/{quoted(ALICE)}", UNKNOWN, status=404)
    server.user(user("bob"))
    with pytest.raises(SynapseError, match=f"^No changes made: {ALICE} does not exist$"):
        eligibility.find_accounts(client, [ALICE, "@bob:example.org"])


def test_many_unknown_accounts_are_not_all_named(server: Server, client: Client) -> None:
    server.users(user("other"))
    names = [f"@u{number}:example.org" for number in range(accounts.MAX_SINGLE_READS + 1)]
    with pytest.raises(SynapseError, match=f" and {len(names) - MAX_NAMES_IN_MESSAGE} more$") as caught:
        eligibility.find_accounts(client, names)
    assert str(caught.value).count("does not exist") == MAX_NAMES_IN_MESSAGE


def test_an_error_is_not_an_unknown_account(server: Server, client: Client) -> None:
    server.get(f"{USERS}/{quoted(ALICE)}", matrix_error("M_FORBIDDEN", "no"), status=403)
    with pytest.raises(SynapseError, match="M_FORBIDDEN"):
        eligibility.find_accounts(client, [ALICE])


def test_an_account_to_keep_that_only_the_service_has(
    homeserver: Homeserver, mas: MasStub, lone_client: Client, service: MasService
) -> None:
    mas.add_user("phantom")
    rule = eligibility.Eligibility(keep=["@phantom:example.org"])
    assert rule.select(lone_client, None) == []
    for typo in ("@phantom:example.com", "phantom", "@fantom:example.org"):
        with pytest.raises(SynapseError, match=f"^No changes made: {typo} is to be kept, but does not exist"):
            eligibility.Eligibility(keep=["@phantom:example.org", typo]).select(lone_client, None)


def test_active_accounts_may_be_left_alone(client: Client) -> None:
    rule = eligibility.Eligibility(only_deactivated=True)
    states = ("active", "suspended", "locked", "deactivated", "erased")
    listed = [accounts.Account(f"@{state}:example.org", "user", state) for state in states]
    assert [account.state for account in rule.eligible(listed)] == ["deactivated", "erased"]
    assert rule.refusal(listed[0], named=False) == "is active"
