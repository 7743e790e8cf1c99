# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._client import SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._findings import find
from ansible_collections.matrixops.synapse.plugins.module_utils._power import (
    Demotion,
    Handover,
    Named,
    demote,
    hand_over,
    in_words,
)
from ansible_collections.matrixops.synapse.tests.unit.helpers import OPERATOR, SERVER, Json
from ansible_collections.matrixops.synapse.tests.unit.rooms import (
    ALICE,
    BOB,
    HOST,
    MEMBER,
    PEER,
    RoomsClient,
    create,
    event,
    levels,
)

BOT, GONE = f"@bot:{SERVER}", f"@gone:{SERVER}"
CREATOR = "has created the room, whose version lets no creator give up power"
OUTRANKED = "is not in the room, and nobody of this server with more power can be acted as"
REFUSED = SynapseError("Internal server error", method="PUT", url="/", status=500)


@pytest.fixture
def client() -> RoomsClient:
    return RoomsClient()


def hand(client: RoomsClient, *named: Named) -> Handover:
    """Hand over; in check mode first, which must say the same and write nothing."""
    predicted = hand_over(client, named, 2, pretend=True)
    assert client.writes == []
    done = hand_over(client, named, 2, pretend=False)
    assert client.open == []
    assert done.aborted is None
    assert done == predicted
    return done


def lower(client: RoomsClient) -> Demotion:
    """Demote; in check mode first, which must say the same and write nothing."""
    before = len(client.writes)
    predicted = demote(client, 2, pretend=True)
    assert len(client.writes) == before
    done = demote(client, 2, pretend=False)
    assert client.open == []
    assert done.aborted is None
    assert done == predicted
    return done


# Handing over


@pytest.mark.parametrize("version", ["1", "6", "11"])
def test_an_old_room_is_handed_over_at_the_level_of_who_does_it(client: RoomsClient, version: str) -> None:
    state = [create(version), levels({HOST: 100, PEER: 120, MEMBER: 50, BOB: 10}, invite=7, custom={"x": [1]})]
    client.add("!r", [HOST, PEER, MEMBER, ALICE, BOB], *state)
    before = copy.deepcopy(client.content("!r"))
    given = hand(client, Named(ALICE), Named(BOB)).given["!r"]
    assert (given.by, given.to, given.level) == (PEER, [ALICE, BOB], 120)
    users = {**before["users"], ALICE: 120, BOB: 120}
    assert (given.before, given.after) == (before["users"], users)
    assert client.content("!r") == {**before, "users": users}
    assert client.steps == [(PEER, "!r")]

    again = hand_over(client, [Named(ALICE)], 2, pretend=False)
    assert again == Handover()
    assert len(client.steps) == 1


@pytest.mark.parametrize(("more", "level"), [({}, 100), ({"ban": 150}, 150), ({"ban": 20}, 100)])
def test_a_creator_hands_over_what_it_takes_to_do_everything(client: RoomsClient, more: Json, level: int) -> None:
    client.add("!r", [HOST, PEER, ALICE], create("12"), levels({PEER: 100}, **more))
    given = hand(client, Named(ALICE)).given["!r"]
    assert (given.by, given.level, client.users("!r")) == (HOST, level, {PEER: 100, ALICE: level})


def test_an_administrator_hands_over_where_no_creator_is_left(client: RoomsClient) -> None:
    client.add("!r", [PEER, ALICE], create("12"), levels({PEER: 110}, ban=150))
    given = hand(client, Named(ALICE)).given["!r"]
    assert (given.by, given.level) == (PEER, 110)


def test_among_peers_the_operator_comes_first(client: RoomsClient) -> None:
    client.add("!r", [HOST, OPERATOR, ALICE], create("10"), levels({HOST: 100, OPERATOR: 100}))
    assert hand(client, Named(ALICE)).given["!r"].by == OPERATOR
    assert not any(path.endswith("/login") for _method, path, *_rest in client.writes)


@pytest.mark.parametrize("account", [None, {"suspended": True}, {"shadow_banned": True}])
def test_who_cannot_act_is_passed_over(client: RoomsClient, account: Json | None) -> None:
    client.add("!r", [HOST, BOT, ALICE], create("10"), levels({HOST: 100, BOT: 120}))
    if account is not None:
        client.accounts[BOT] = account
    given = hand(client, Named(ALICE)).given["!r"]
    assert (given.by, given.level) == (HOST, 100)


def test_a_locked_account_is_unlocked_for_that_long(client: RoomsClient) -> None:
    client.accounts[HOST] = {"locked": True}
    for name in ("!a", "!b", "!c"):
        client.add(name, [HOST, ALICE], create("10"), levels({HOST: 100}))
    assert len(hand(client, Named(ALICE)).given) == 3
    assert client.accounts[HOST] == {"locked": True}


def test_when_nobody_can_act_it_has_failed(client: RoomsClient) -> None:
    client.add("!r", [HOST, BOT, ALICE], create("10"), levels({HOST: 100, BOT: 100}))
    client.accounts[HOST] = {"suspended": True}
    done = hand(client, Named(ALICE))
    assert done.given == {}
    assert done.failures == {
        "!r": f"nobody can act as {BOT}: GET users: 404 M_NOT_FOUND: User not found;"
        f" nobody can act as {HOST}: the account is suspended"
    }


def test_who_there_is_to_hand_over_to(client: RoomsClient) -> None:
    for name, members in {"!a": [ALICE], "!b": [BOB], "!both": [ALICE, BOB], "!local": [], "!new": [BOB]}.items():
        client.add(name, [HOST, *members], create("10"), levels({HOST: 100}))
    client.add("!theirs", [HOST, BOB], create("10"), levels({BOB: 100}))
    client.add("!left", [ALICE], create("10"), levels({HOST: 100}))
    done = hand(client, Named(ALICE), Named(BOB, ["!both", "!local", "!left", "!typo", "!theirs"]))
    assert {room_id: given.to for room_id, given in done.given.items()} == {"!a": [ALICE], "!both": [ALICE, BOB]}
    absent, not_both = f"nobody of those named is joined to it: {ALICE}", "accounts of this server and of others are"
    assert done.not_given == {
        "!b": absent,
        "!new": absent,
        **dict.fromkeys(["!local", "!left", "!typo"], f"{not_both} not both in it"),
    }


def test_a_room_that_nobody_is_named_for(client: RoomsClient) -> None:
    for name in ("!a", "!b"):
        client.add(name, [HOST, ALICE], create("10"), levels({HOST: 100}))
    assert hand(client, Named(ALICE, ["!a"])).not_given == {"!b": "nobody is named for this room"}


def test_a_long_list_of_names_is_cut(client: RoomsClient) -> None:
    client.add("!r", [HOST, ALICE], create("10"), levels({HOST: 100}))
    reason = hand(client, *(Named(f"@{n}:other.example") for n in range(10, 25))).not_given["!r"]
    assert reason.endswith("@18:other.example, @19:other.example and 5 more")


@pytest.mark.parametrize(
    ("user_id", "reason"),
    [(PEER, f"is an account of {SERVER}, which is to be retired"), ("alice", "is not a user ID")],
)
def test_who_cannot_be_meant_is_refused(client: RoomsClient, user_id: str, reason: str) -> None:
    client.add("!r", [HOST, ALICE], create("10"), levels({HOST: 100}))
    with pytest.raises(SynapseError, match=f"Nothing was changed: {user_id} {reason}"):
        hand_over(client, [Named(ALICE), Named(user_id)], 2, pretend=False)
    assert client.writes == []


def test_a_room_that_someone_else_has_handed_over_meanwhile(client: RoomsClient) -> None:
    client.add("!r", [HOST, ALICE], create("10"), levels({HOST: 100}))
    reads = iter([{HOST: 100}, {HOST: 100, ALICE: 100}])
    answer = client._act

    def act(method: str, path: str, *rest: Any) -> Json:
        if path.endswith("/state"):
            client.state["!r"][1] = levels(next(reads))
        return answer(method, path, *rest)

    client._act = act  # type: ignore[method-assign]
    assert hand_over(client, [Named(ALICE)], 2, pretend=False) == Handover()
    assert client.steps == []


def test_what_cannot_be_done_in_one_room_is_done_in_the_others(client: RoomsClient) -> None:
    for name in ("!a", "!b", "!c"):
        client.add(name, [HOST, ALICE], create("10"), levels({HOST: 100}))
    client.broken = {("PUT", "!b"): REFUSED, ("GET", "!c"): REFUSED}
    done = hand_over(client, [Named(ALICE, ["!a", "!b", "!c"])], 2, pretend=False)
    assert (list(done.given), done.not_given) == (["!a"], {})
    assert done.failures == dict.fromkeys(["!b", "!c"], "PUT /: 500: Internal server error")
    said = f"Not all. !b: {REFUSED}; !c: {REFUSED}. Run this again for what is left"
    assert in_words("Not all.", done.failures, done.aborted) == said


def test_a_long_list_of_failures_is_cut() -> None:
    failures = {f"!{number}": "no" for number in range(10, 25)}
    said = in_words("Not all.", failures, None)
    assert said.endswith("; !18: no; !19: no; and 5 more. Run this again for what is left")
    assert in_words("Not all.", {}, None) == ""


def test_a_dead_token_ends_it_and_what_was_done_is_told(client: RoomsClient) -> None:
    for name in ("!a", "!b"):
        client.add(name, [OPERATOR, ALICE], create("10"), levels({OPERATOR: 100}))
    client.broken["PUT", "!b"] = SynapseError("Invalid access token", method="PUT", url="/", status=401)
    done = hand_over(client, [Named(ALICE)], 1, pretend=False)
    assert (list(done.given), done.failures) == (["!a"], {})
    assert in_words("Not all.", done.failures, done.aborted) == "PUT /: 401: Invalid access token"


def test_a_session_that_cannot_be_ended_is_told(client: RoomsClient) -> None:
    client.add("!r", [HOST, ALICE], create("10"), levels({HOST: 100}))
    client.broken["POST", ""] = SynapseError("Internal server error", method="POST", url="/", status=500)
    done = hand_over(client, [Named(ALICE)], 1, pretend=False)
    assert list(done.given) == ["!r"]
    assert f"the session as {HOST} could not be ended in order" in str(done.aborted)


# Giving up


def test_peers_lower_themselves_and_the_first_takes_the_others_along(client: RoomsClient) -> None:
    users = {HOST: 100, PEER: 100, MEMBER: 50, GONE: 50, BOT: -1, ALICE: 70, BOB: 100}
    client.add("!r", [HOST, PEER, MEMBER, ALICE], create("10"), levels(users, custom=1))
    before = copy.deepcopy(client.content("!r"))
    done = lower(client)
    assert client.steps == [(HOST, "!r"), (PEER, "!r")]
    assert done.demoted["!r"].user_ids == sorted([HOST, PEER, MEMBER, GONE])
    # Who has less than everybody is not raised.
    left = {BOT: -1, ALICE: 70, BOB: 100}
    assert (done.demoted["!r"].before, done.demoted["!r"].after) == (users, left)
    assert client.content("!r") == {**before, "users": left}
    assert (done.remaining, done.failures) == ([], {})

    again = lower(client)
    assert again == Demotion()
    assert len(client.steps) == 2


def test_a_creator_takes_everybody_along(client: RoomsClient) -> None:
    client.add("!r", [HOST, PEER, ALICE], create("12"), levels({PEER: 100, GONE: 150, ALICE: 100}))
    done = lower(client)
    assert client.steps == [(HOST, "!r")]
    assert client.users("!r") == {ALICE: 100}
    assert [tuple(one) for one in done.remaining] == [("!r", HOST, CREATOR)]


def test_creators_remain_wherever_they_are(client: RoomsClient) -> None:
    client.add("!r", [PEER, ALICE], create("12", additional_creators=[PEER, BOB]), levels({}))
    assert [tuple(one) for one in lower(client).remaining] == [("!r", HOST, CREATOR), ("!r", PEER, CREATOR)]
    assert client.steps == []


def test_who_is_not_there_remains_unless_somebody_is_above(client: RoomsClient) -> None:
    client.add("!r", [HOST, ALICE], create("10"), levels({HOST: 100, GONE: 100, BOT: 99}))
    done = lower(client)
    assert done.demoted["!r"].user_ids == sorted([HOST, BOT])
    assert [tuple(one) for one in done.remaining] == [("!r", GONE, OUTRANKED)]


def test_who_cannot_be_acted_as_remains(client: RoomsClient) -> None:
    client.add("!r", [HOST, BOT, PEER, ALICE], create("10"), levels({HOST: 100, BOT: 100, PEER: 60}))
    client.accounts[HOST] = {"suspended": True}
    done = lower(client)
    assert (done.demoted, client.steps, done.failures) == ({}, [], {})
    nobody = "nobody can act as"
    assert [tuple(one) for one in done.remaining] == [
        ("!r", BOT, f"{nobody} {BOT}: GET users: 404 M_NOT_FOUND: User not found"),
        ("!r", HOST, f"{nobody} {HOST}: the account is suspended"),
        (
            "!r",
            PEER,
            "may not change the room's power levels, and nobody of this server with more power can be acted as",
        ),
    ]


def test_a_locked_account_lowers_itself(client: RoomsClient) -> None:
    client.accounts[HOST] = {"locked": True}
    client.add("!r", [HOST, ALICE], create("10"), levels({HOST: 100}))
    assert lower(client).demoted["!r"].after == {}
    assert client.accounts[HOST] == {"locked": True}


def test_power_that_is_everybodys_is_told(client: RoomsClient) -> None:
    client.add("!r", [HOST, ALICE], create("10"), levels({HOST: 100}, users_default=50))
    client.add("!none", [HOST, ALICE], create("10"))
    done = lower(client)
    assert list(done.demoted) == ["!r"]
    assert [tuple(one) for one in done.remaining] == [
        ("!none", None, "the room has no power levels, so that anybody in it may set them"),
        ("!r", None, "users_default gives everybody the level 50"),
    ]


def test_only_federated_rooms_are_touched(client: RoomsClient) -> None:
    client.add("!local", [HOST, PEER], create("10"), levels({HOST: 100, ALICE: 100}))
    client.add("!left", [ALICE], create("10"), levels({HOST: 100}))
    assert lower(client) == Demotion()


def test_a_failure_in_one_room(client: RoomsClient) -> None:
    for name in ("!a", "!b"):
        client.add(name, [HOST, ALICE], create("10"), levels({HOST: 100}))
    client.broken["PUT", "!a"] = REFUSED
    done = demote(client, 2, pretend=False)
    assert list(done.demoted) == ["!b"]
    assert done.failures == {"!a": str(REFUSED)}
    assert [tuple(one) for one in done.remaining] == [("!a", HOST, str(REFUSED))]


def test_a_dead_token_ends_the_demotion_and_what_was_done_is_told(client: RoomsClient) -> None:
    client.add("!a", [HOST, OPERATOR, ALICE], create("10"), levels({OPERATOR: 100, HOST: 100}))
    dead = SynapseError("Invalid access token", method="POST", url="/", status=401)
    client.broken["POST", HOST] = dead
    done = demote(client, 1, pretend=False)
    assert (done.demoted["!a"].user_ids, done.aborted) == ([OPERATOR], dead)


def whole(users: Json) -> Json:
    return {user_id: int(level) for user_id, level in users.items()}


@pytest.mark.parametrize("seed", range(60))
def test_rooms_of_any_kind(client: RoomsClient, seed: int) -> None:
    """The stub refuses what the rules of Matrix forbid, which would be a failure here."""
    chance = random.Random(seed)
    ours, theirs = [OPERATOR, HOST, PEER, MEMBER, BOT, GONE], [ALICE, BOB]
    for number in range(20):
        users: Json = {
            u: chance.choice([-1, 0, 25, 50, 99, 100, 100, 120]) for u in (*ours, *theirs) if chance.random() < 0.5
        }
        version = chance.choice(["1", "9", "10", "11", "12"])
        creator = chance.choice([HOST, ALICE])
        if version == "12":
            users.pop(creator, None)
        if version == "1":
            users = {user_id: str(level) for user_id, level in users.items()}
        members = [user_id for user_id in (*ours, *theirs) if chance.random() < 0.6]
        state = [create(version, creator), levels(users, users_default=chance.choice([0, 0, 0, 25]))]
        client.add(f"!{number}", members, *state, event("m.room.name", {"name": "n"}))
    for user_id in (HOST, PEER, GONE):
        client.accounts[user_id] = chance.choice([{}, {}, {"locked": True}, {"suspended": True}])
    before = {room_id: copy.deepcopy(client.content(room_id)) for room_id in client.members}
    orphaned = set(find(client, 2).kinds["orphaned"])

    handover = hand(client, Named(ALICE), Named(BOB))
    assert orphaned == {*handover.given, *handover.not_given, *handover.failures}
    assert all(reason.startswith("nobody can act as") for reason in handover.failures.values())
    for room_id, given in handover.given.items():
        assert client.content(room_id) == {**before[room_id], "users": given.after}
        assert given.after == {**whole(given.before), **dict.fromkeys(given.to, given.level)}
        assert all(given.level > int(before[room_id]["users"].get(user_id, -1)) for user_id in given.to)
    assert set(find(client, 2).kinds["orphaned"]).isdisjoint(handover.given)

    steps = len(client.steps)
    demotion = lower(client)
    assert demotion.failures == {}
    assert len(client.steps) - steps <= sum(len(demoted.user_ids) for demoted in demotion.demoted.values())
    remaining = {(one.room_id, one.user_id) for one in demotion.remaining}
    for room_id, members in client.members.items():
        federated = set(members) & set(theirs) and set(members) & set(ours)
        content = client.content(room_id)
        for user_id in ours:
            power = int(content["users"].get(user_id, content["users_default"])) > content["users_default"]
            assert not federated or not power or (room_id, user_id) in remaining, (room_id, user_id)
        for user_id in theirs:
            given_level = handover.given[room_id].after if room_id in handover.given else before[room_id]["users"]
            assert whole(content["users"]).get(user_id) == whole(given_level).get(user_id)
    assert lower(client).demoted == {}
