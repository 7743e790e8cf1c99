# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
from typing import Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.demotion import Demotion, demote
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import BASE_URL, OPERATOR, SERVER, TOKEN, user
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import (
    ALICE,
    BOB,
    BROKEN,
    HOST,
    INVALID_TOKEN,
    MEMBER,
    PEER,
    Homeserver,
    create,
    levels,
)
from ansible_collections.matrixops.synapse.tests.unit.plugins.module_utils._decommission.in_both_modes import lower

BOT, GONE = f"@bot:{SERVER}", f"@gone:{SERVER}"
NO_BOT = f"GET {BASE_URL}/_synapse/admin/v2/users/%40bot%3Aexample.org: 404 M_NOT_FOUND: User not found"
CREATOR = "is a creator, and creators of this room version keep their power"
OUTRANKED = "is not joined to the room, and there is no account of this server with a higher level that can be acted as"


@pytest.fixture
def client(homeserver: Homeserver) -> Iterator[Client]:
    homeserver.register("host", "peer", "member")
    with Client(BASE_URL, TOKEN) as client:
        yield client


def test_peers_lower_themselves_and_the_first_takes_the_others_along(homeserver: Homeserver, client: Client) -> None:
    users = {HOST: 100, PEER: 100, MEMBER: 50, GONE: 50, BOT: -1, ALICE: 70, BOB: 100}
    homeserver.add_room("!r", [HOST, PEER, MEMBER, ALICE], create("10"), levels(users, custom=1))
    before = copy.deepcopy(homeserver.content("!r"))
    done = lower(homeserver, client)
    assert homeserver.state_changes == [(HOST, "!r"), (PEER, "!r")]
    assert done.demoted["!r"].user_ids == sorted([HOST, PEER, MEMBER, GONE])
    # Who has less than everybody is not raised.
    left = {BOT: -1, ALICE: 70, BOB: 100}
    assert (done.demoted["!r"].before, done.demoted["!r"].after) == (users, left)
    assert homeserver.content("!r") == {**before, "users": left}
    assert (done.remaining, done.failures) == ([], {})

    again = lower(homeserver, client)
    assert again == Demotion()
    assert len(homeserver.state_changes) == 2


def test_a_creator_takes_everybody_along(homeserver: Homeserver, client: Client) -> None:
    homeserver.add_room("!r", [HOST, PEER, ALICE], create("12"), levels({PEER: 100, GONE: 150, ALICE: 100}))
    done = lower(homeserver, client)
    assert homeserver.state_changes == [(HOST, "!r")]
    assert homeserver.content("!r")["users"] == {ALICE: 100}
    assert [tuple(one) for one in done.remaining] == [("!r", HOST, CREATOR)]


def test_creators_remain_wherever_they_are(homeserver: Homeserver, client: Client) -> None:
    homeserver.add_room("!r", [PEER, ALICE], create("12", additional_creators=[PEER, BOB]), levels({}))
    assert [tuple(one) for one in lower(homeserver, client).remaining] == [("!r", HOST, CREATOR), ("!r", PEER, CREATOR)]
    assert homeserver.state_changes == []


def test_who_is_not_there_remains_unless_somebody_is_above(homeserver: Homeserver, client: Client) -> None:
    homeserver.add_room("!r", [HOST, ALICE], create("10"), levels({HOST: 100, GONE: 100, BOT: 99}))
    done = lower(homeserver, client)
    assert done.demoted["!r"].user_ids == sorted([HOST, BOT])
    assert [tuple(one) for one in done.remaining] == [("!r", GONE, OUTRANKED)]


def test_who_cannot_be_acted_as_remains(homeserver: Homeserver, client: Client) -> None:
    homeserver.add_room("!r", [HOST, BOT, PEER, ALICE], create("10"), levels({HOST: 100, BOT: 100, PEER: 60}))
    homeserver.accounts[HOST]["suspended"] = True
    done = lower(homeserver, client)
    assert (done.demoted, homeserver.state_changes, done.failures) == ({}, [], {})
    nobody = "cannot act as"
    assert [tuple(one) for one in done.remaining] == [
        ("!r", BOT, f"{nobody} {BOT}: {NO_BOT}"),
        ("!r", HOST, f"{nobody} {HOST}: the account is suspended"),
        (
            "!r",
            PEER,
            "may not change the power levels of the room, and there is no account of this server with a higher level"
            " that can be acted as",
        ),
    ]


def test_a_locked_account_lowers_itself(homeserver: Homeserver, client: Client) -> None:
    homeserver.accounts[HOST]["locked"] = True
    homeserver.add_room("!r", [HOST, ALICE], create("10"), levels({HOST: 100}))
    assert lower(homeserver, client).demoted["!r"].after == {}
    assert homeserver.accounts[HOST] == user("host", locked=True)


def test_power_that_is_everybodys_is_told(homeserver: Homeserver, client: Client) -> None:
    homeserver.add_room("!r", [HOST, ALICE], create("10"), levels({HOST: 100}, users_default=50))
    homeserver.add_room("!none", [HOST, ALICE], create("10"))
    done = lower(homeserver, client)
    assert list(done.demoted) == ["!r"]
    assert [tuple(one) for one in done.remaining] == [
        ("!none", None, "the room has no power levels, so any member may set them"),
        ("!r", None, "users_default gives the level 50 to all accounts"),
    ]


def test_only_federated_rooms_are_touched(homeserver: Homeserver, client: Client) -> None:
    homeserver.add_room("!local", [HOST, PEER], create("10"), levels({HOST: 100, ALICE: 100}))
    homeserver.add_room("!left", [ALICE], create("10"), levels({HOST: 100}))
    assert lower(homeserver, client) == Demotion()


def test_a_failure_in_one_room(homeserver: Homeserver, client: Client) -> None:
    for name in ("!a", "!b"):
        homeserver.add_room(name, [HOST, ALICE], create("10"), levels({HOST: 100}))
    homeserver.faults["PUT state !a"] = BROKEN
    done = demote(client, dry_run=False)
    assert list(done.demoted) == ["!b"]
    path = "/_matrix/client/v3/rooms/%21a/state/m.room.power_levels"
    refused = f"PUT {BASE_URL}{path}: 500 M_UNKNOWN: Internal server error"
    assert done.failures == {"!a": refused}
    assert [tuple(one) for one in done.remaining] == [("!a", HOST, refused)]


def test_a_dead_token_ends_the_demotion_and_what_was_done_is_told(homeserver: Homeserver, client: Client) -> None:
    homeserver.add_room("!a", [HOST, OPERATOR, ALICE], create("10"), levels({OPERATOR: 100, HOST: 100}))
    homeserver.faults[f"POST login {HOST}"] = INVALID_TOKEN
    done = demote(client, dry_run=False)
    assert done.demoted["!a"].user_ids == [OPERATOR]
    assert isinstance(done.aborted, FatalError) and (done.aborted.method, done.aborted.status) == ("POST", 401)
