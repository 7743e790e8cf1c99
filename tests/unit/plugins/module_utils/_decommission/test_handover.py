# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
from typing import Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.handover import (
    Handover,
    Recipient,
    hand_over,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.power_levels import failure_message
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import BASE_URL, OPERATOR, SERVER, TOKEN, Json, user
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
    joins,
    levels,
)
from ansible_collections.matrixops.synapse.tests.unit.plugins.module_utils._decommission.in_both_modes import hand

BOT, GONE = f"@bot:{SERVER}", f"@gone:{SERVER}"
NO_BOT = f"GET {BASE_URL}/_synapse/admin/v2/users/%40bot%3Aexample.org: 404 M_NOT_FOUND: User not found"
POWER_LEVELS = f"{BASE_URL}/_matrix/client/v3/rooms/%21b/state/m.room.power_levels"
STATE = f"{BASE_URL}/_synapse/admin/v1/rooms/%21c/state"


@pytest.fixture
def client(homeserver: Homeserver) -> Iterator[Client]:
    homeserver.register("host", "peer", "member")
    with Client(BASE_URL, TOKEN) as client:
        yield client


@pytest.mark.parametrize("version", ["1", "6", "11"])
def test_an_old_room_is_handed_over_at_the_level_of_who_does_it(
    homeserver: Homeserver, client: Client, version: str
) -> None:
    state = [create(version), levels({HOST: 100, PEER: 120, MEMBER: 50, BOB: 10}, invite=7, custom={"x": [1]})]
    homeserver.add_room("!r", [HOST, PEER, MEMBER, ALICE, BOB], *state)
    before = copy.deepcopy(homeserver.content("!r"))
    given = hand(homeserver, client, Recipient(ALICE), Recipient(BOB)).granted["!r"]
    assert (given.by, given.to, given.level) == (PEER, [ALICE, BOB], 120)
    users = {**before["users"], ALICE: 120, BOB: 120}
    assert (given.before, given.after) == (before["users"], users)
    assert homeserver.content("!r") == {**before, "users": users}
    assert homeserver.state_changes == [(PEER, "!r")]

    again = hand_over(client, [Recipient(ALICE)], dry_run=False)
    assert again == Handover()
    assert len(homeserver.state_changes) == 1


@pytest.mark.parametrize(("more", "level"), [({}, 100), ({"ban": 150}, 150), ({"ban": 20}, 100)])
def test_a_creator_hands_over_what_it_takes_to_do_everything(
    homeserver: Homeserver, client: Client, more: Json, level: int
) -> None:
    homeserver.add_room("!r", [HOST, PEER, ALICE], create("12"), levels({PEER: 100}, **more))
    given = hand(homeserver, client, Recipient(ALICE)).granted["!r"]
    assert (given.by, given.level, homeserver.content("!r")["users"]) == (HOST, level, {PEER: 100, ALICE: level})


def test_an_administrator_hands_over_where_no_creator_is_left(homeserver: Homeserver, client: Client) -> None:
    homeserver.add_room("!r", [PEER, ALICE], create("12"), levels({PEER: 110}, ban=150))
    given = hand(homeserver, client, Recipient(ALICE)).granted["!r"]
    assert (given.by, given.level) == (PEER, 110)


def test_among_peers_the_operator_comes_first(homeserver: Homeserver, client: Client) -> None:
    homeserver.add_room("!r", [HOST, OPERATOR, ALICE], create("10"), levels({HOST: 100, OPERATOR: 100}))
    assert hand(homeserver, client, Recipient(ALICE)).granted["!r"].by == OPERATOR
    assert not any(path.endswith("/login") for _method, path, *_rest in homeserver.writes)


@pytest.mark.parametrize("account", [None, {"suspended": True}, {"shadow_banned": True}])
def test_who_cannot_act_is_passed_over(homeserver: Homeserver, client: Client, account: Json | None) -> None:
    homeserver.add_room("!r", [HOST, BOT, ALICE], create("10"), levels({HOST: 100, BOT: 120}))
    if account is not None:
        homeserver.register("bot", **account)
    given = hand(homeserver, client, Recipient(ALICE)).granted["!r"]
    assert (given.by, given.level) == (HOST, 100)


def test_a_locked_account_is_unlocked_for_that_long(homeserver: Homeserver, client: Client) -> None:
    homeserver.accounts[HOST]["locked"] = True
    for name in ("!a", "!b", "!c"):
        homeserver.add_room(name, [HOST, ALICE], create("10"), levels({HOST: 100}))
    assert len(hand(homeserver, client, Recipient(ALICE)).granted) == 3
    assert homeserver.accounts[HOST] == user("host", locked=True)


def test_when_nobody_can_act_it_has_failed(homeserver: Homeserver, client: Client) -> None:
    homeserver.add_room("!r", [HOST, BOT, ALICE], create("10"), levels({HOST: 100, BOT: 100}))
    homeserver.accounts[HOST]["suspended"] = True
    done = hand(homeserver, client, Recipient(ALICE))
    assert done.granted == {}
    assert done.failures == {"!r": f"cannot act as {BOT}: {NO_BOT}; cannot act as {HOST}: the account is suspended"}


def test_who_there_is_to_hand_over_to(homeserver: Homeserver, client: Client) -> None:
    for name, members in {"!a": [ALICE], "!b": [BOB], "!both": [ALICE, BOB], "!local": [], "!new": [BOB]}.items():
        homeserver.add_room(name, [HOST, *members], create("10"), levels({HOST: 100}))
    homeserver.add_room("!theirs", [HOST, BOB], create("10"), levels({BOB: 100}))
    homeserver.add_room("!left", [ALICE], create("10"), levels({HOST: 100}))
    done = hand(homeserver, client, Recipient(ALICE), Recipient(BOB, ["!both", "!local", "!left", "!typo", "!theirs"]))
    assert {room_id: given.to for room_id, given in done.granted.items()} == {"!a": [ALICE], "!both": [ALICE, BOB]}
    absent, not_both = (
        f"no recipient is joined to the room: {ALICE}",
        "local and remote accounts are not both joined to the room",
    )
    assert done.not_granted == {
        "!b": absent,
        "!new": absent,
        **dict.fromkeys(["!local", "!left", "!typo"], not_both),
    }


def test_a_room_that_nobody_is_named_for(homeserver: Homeserver, client: Client) -> None:
    for name in ("!a", "!b"):
        homeserver.add_room(name, [HOST, ALICE], create("10"), levels({HOST: 100}))
    assert hand(homeserver, client, Recipient(ALICE, ["!a"])).not_granted == {"!b": "no recipient is set for this room"}


def test_a_long_list_of_names_is_cut(homeserver: Homeserver, client: Client) -> None:
    homeserver.add_room("!r", [HOST, ALICE], create("10"), levels({HOST: 100}))
    reason = hand(homeserver, client, *(Recipient(f"@{n}:other.example") for n in range(10, 25))).not_granted["!r"]
    assert reason.endswith("@18:other.example, @19:other.example and 5 more")


@pytest.mark.parametrize(
    ("user_id", "reason"),
    [(PEER, f"is an account of {SERVER}, the server to decommission"), ("alice", "is not a user ID")],
)
def test_who_cannot_be_meant_is_refused(homeserver: Homeserver, client: Client, user_id: str, reason: str) -> None:
    homeserver.add_room("!r", [HOST, ALICE], create("10"), levels({HOST: 100}))
    with pytest.raises(SynapseError, match=f"No changes made: {user_id} {reason}"):
        hand_over(client, [Recipient(ALICE), Recipient(user_id)], dry_run=False)
    assert homeserver.writes == []


def test_a_room_that_someone_else_has_handed_over_meanwhile(homeserver: Homeserver, client: Client) -> None:
    homeserver.add_room("!r", [HOST, ALICE], create("10"), levels({HOST: 100}))
    changed = [create("10"), levels({HOST: 100, ALICE: 100}), *joins(HOST, ALICE)]
    homeserver.faults["GET state !r"] = [None, (200, {"state": changed})]
    assert hand_over(client, [Recipient(ALICE)], dry_run=False) == Handover()
    assert homeserver.state_changes == []


def test_what_cannot_be_done_in_one_room_is_done_in_the_others(homeserver: Homeserver, client: Client) -> None:
    for name in ("!a", "!b", "!c"):
        homeserver.add_room(name, [HOST, ALICE], create("10"), levels({HOST: 100}))
    homeserver.faults = {"PUT state !b": BROKEN, "GET state !c": BROKEN}
    done = hand_over(client, [Recipient(ALICE, ["!a", "!b", "!c"])], dry_run=False)
    assert (list(done.granted), done.not_granted) == (["!a"], {})
    error = "500 M_UNKNOWN: Internal server error"
    assert done.failures == {"!b": f"PUT {POWER_LEVELS}: {error}", "!c": f"GET {STATE}: {error}"}
    said = f"Not all. !b: PUT {POWER_LEVELS}: {error}; !c: GET {STATE}: {error}. Run again to retry these rooms"
    assert failure_message("Not all.", done.failures, done.aborted) == said


def test_a_dead_token_ends_it_and_what_was_done_is_told(homeserver: Homeserver, client: Client) -> None:
    for name in ("!a", "!b"):
        homeserver.add_room(name, [OPERATOR, ALICE], create("10"), levels({OPERATOR: 100}))
    homeserver.faults["PUT state !b"] = INVALID_TOKEN
    done = hand_over(client, [Recipient(ALICE)], dry_run=False)
    assert (list(done.granted), done.failures) == (["!a"], {})
    said = f"PUT {POWER_LEVELS}: 401 M_UNKNOWN_TOKEN: Invalid access token"
    assert failure_message("Not all.", done.failures, done.aborted) == said


def test_a_session_that_cannot_be_ended_is_told(homeserver: Homeserver, client: Client) -> None:
    homeserver.add_room("!r", [HOST, ALICE], create("10"), levels({HOST: 100}))
    homeserver.faults["POST logout v3"] = BROKEN
    done = hand_over(client, [Recipient(ALICE)], dry_run=False)
    assert list(done.granted) == ["!r"]
    assert f"the session as {HOST} could not be ended in order" in str(done.aborted)
