# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Iterator, NamedTuple

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.federated_rooms import (
    MAX_INVITING_SERVERS,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.record import KIND, read_record
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.recorder import Recorder
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.accounts import list_accounts
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import OPERATOR, SERVER, matrix_error, room_id
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import BROKEN, Homeserver, stripped
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import IGNORED_USERS as IGNORED

ALICE, BOB = f"@alice:{SERVER}", f"@bob:{SERVER}"
REMOTE = "@someone:other.example"
R, Q = room_id("r"), room_id("q")


@pytest.fixture
def homeserver() -> Iterator[Homeserver]:
    with Homeserver.mocked() as homeserver:
        homeserver.register("alice", "bob")
        yield homeserver


@pytest.fixture
def client(homeserver: Homeserver, lone_client: Client) -> Client:
    return lone_client


class Recorded(NamedTuple):
    """What was found of the invites and knocks of all accounts: servers and accounts by room ID."""

    rooms: dict[str, tuple[list[str], list[str]]]
    unlisted: dict[str, str]


def recorded(client: Client) -> Recorded:
    recorder = Recorder(client)
    recorder.record_pending(list_accounts(client))
    rooms = read_record(client).rooms
    assert recorder.record.rooms == rooms and not any(room.joined for room in rooms.values())
    found = {key: (sorted(room.servers), sorted(room.pending)) for key, room in rooms.items()}
    return Recorded(found, recorder.unlisted)


def logins(homeserver: Homeserver) -> list[str]:
    return [path.split("/")[-2] for path in homeserver.paths if path.endswith("/login")]


def invite(homeserver: Homeserver, user_id: str, room: str, *senders: Any, kind: str = "invite") -> None:
    homeserver.pending.setdefault(user_id, {}).setdefault(kind, {})[room] = [stripped(sender) for sender in senders]


def test_invites_and_knocks(homeserver: Homeserver, client: Client) -> None:
    invite(homeserver, ALICE, R, REMOTE, "@b:b.example:8448")
    invite(homeserver, ALICE, Q, f"@c:{SERVER}", "@c:c.example", kind="knock")
    invite(homeserver, OPERATOR, Q, REMOTE)
    invite(homeserver, BOB, "!ours", ALICE)
    assert recorded(client).rooms == {
        Q: (["c.example", "other.example"], [ALICE, OPERATOR]),
        R: (["b.example:8448", "other.example"], [ALICE]),
    }
    assert logins(homeserver) == [ALICE, BOB], "the operator has a session"
    assert homeserver.count("logout") == 2


def test_a_record_without_changes_is_not_written(homeserver: Homeserver, client: Client) -> None:
    invite(homeserver, ALICE, R, REMOTE)
    recorded(client)
    puts = len(homeserver.puts)
    assert puts and recorded(client).rooms == {R: (["other.example"], [ALICE])}
    assert len(homeserver.puts) == puts


def test_without_any_nothing_is_written(homeserver: Homeserver, client: Client) -> None:
    assert recorded(client) == Recorded({}, {})
    assert not [kind for kind, _size in homeserver.puts if kind.startswith(KIND)]


@pytest.mark.parametrize(
    "sender", [None, 7, "", "nobody", "@a:", "@a:evil.example/../", "@a:evil.example\r\nHost: a", "@a:" + "a" * 300]
)
def test_senders_that_cannot_be(homeserver: Homeserver, client: Client, sender: Any) -> None:
    invite(homeserver, ALICE, R, sender)
    assert recorded(client).rooms == {}
    invite(homeserver, ALICE, R, sender, REMOTE)
    assert recorded(client).rooms == {R: (["other.example"], [ALICE])}


def test_an_invite_names_no_more_than_some_servers(homeserver: Homeserver, client: Client) -> None:
    invite(homeserver, ALICE, R, *(f"@a:s{number:04}.example" for number in range(1000)))
    servers, _accounts = recorded(client).rooms[R]
    assert len(servers) == MAX_INVITING_SERVERS


def test_accounts_without_a_session(homeserver: Homeserver, client: Client) -> None:
    """A session that is opened as a guest can't be ended, and a deactivated account has no invites."""
    homeserver.register("guest", is_guest=True)
    homeserver.register("gone", deactivated=True)
    homeserver.register("erased", deactivated=True, erased=True)
    found = recorded(client)
    assert logins(homeserver) == [ALICE, BOB]
    assert found.unlisted == {}


@pytest.mark.parametrize("fails", [False, True])
def test_a_locked_account_is_locked_again(homeserver: Homeserver, client: Client, fails: bool) -> None:
    homeserver.accounts[ALICE]["locked"] = True
    invite(homeserver, ALICE, R, REMOTE)
    if fails:
        homeserver.faults["GET sync v3"] = BROKEN
    found = recorded(client)
    assert list(found.rooms) == ([] if fails else [R])
    assert homeserver.accounts[ALICE]["locked"] is True
    assert homeserver.accounts[BOB]["locked"] is False
    changes = [path for path in homeserver.paths if path.startswith("PUT admin/v2/users")]
    assert changes == [f"PUT admin/v2/users/{ALICE}"] * 2


@pytest.mark.parametrize("fails", [False, True])
def test_invites_by_ignored_users(homeserver: Homeserver, client: Client, fails: bool) -> None:
    ignored = {"ignored_users": {REMOTE: {}}}
    homeserver.account_data[ALICE, IGNORED] = ignored
    homeserver.account_data[BOB, IGNORED] = {"ignored_users": {}}
    invite(homeserver, ALICE, R, REMOTE)
    if fails:
        homeserver.faults["GET sync v3"] = BROKEN
    found = recorded(client)
    assert list(found.rooms) == ([] if fails else [R])
    assert homeserver.account_data[ALICE, IGNORED] == ignored
    assert [path for path in homeserver.paths if path.startswith("PUT") and path.endswith(IGNORED)] == [
        f"PUT client/v3/user/{ALICE}/account_data/{IGNORED}"
    ] * 2


def test_an_account_that_cannot_be_listed_leaves_the_others_alone(homeserver: Homeserver, client: Client) -> None:
    invite(homeserver, BOB, R, REMOTE)
    homeserver.faults[f"POST login {ALICE}"] = (403, matrix_error("M_FORBIDDEN", "no"))
    found = recorded(client)
    assert found.rooms == {R: (["other.example"], [BOB])}
    assert list(found.unlisted) == [ALICE] and "M_FORBIDDEN: no" in found.unlisted[ALICE]


def test_a_list_of_ignored_users_that_cannot_be_read(homeserver: Homeserver, client: Client) -> None:
    homeserver.faults[f"GET client/v3/user/{ALICE}/account_data/{IGNORED}"] = (403, matrix_error("M_FORBIDDEN", "no"))
    assert list(recorded(client).unlisted) == [ALICE]


def test_a_dead_token_ends_it(homeserver: Homeserver, client: Client) -> None:
    homeserver.faults[f"POST login {ALICE}"] = (401, matrix_error("M_UNKNOWN_TOKEN", "gone"))
    with pytest.raises(SynapseError, match="M_UNKNOWN_TOKEN"):
        recorded(client)


def test_where_login_is_delegated(homeserver: Homeserver, client: Client) -> None:
    homeserver.delegated = True
    invite(homeserver, ALICE, R, REMOTE)
    invite(homeserver, OPERATOR, Q, REMOTE)
    found = recorded(client)
    assert found.rooms == {Q: (["other.example"], [OPERATOR])}
    assert sorted(found.unlisted) == [ALICE, BOB]
    assert all("login is delegated" in reason for reason in found.unlisted.values())
    assert logins(homeserver) == []


def test_a_server_that_answers_something_else(homeserver: Homeserver, client: Client) -> None:
    homeserver.faults["GET sync v3"] = (200, {"rooms": {"invite": {R: {"invite_state": 7}}}})
    found = recorded(client)
    assert found.rooms == {} and sorted(found.unlisted) == [ALICE, BOB, OPERATOR]
