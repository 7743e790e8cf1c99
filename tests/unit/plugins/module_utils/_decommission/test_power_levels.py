# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import random
from typing import Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.handover import Recipient
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.power_levels import failure_message
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.room_impact import (
    ids_by_kind,
    read_impact,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.tests.stubs.helpers import BASE_URL, OPERATOR, SERVER, TOKEN, Json, user
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import (
    ALICE,
    BOB,
    HOST,
    MEMBER,
    PEER,
    Homeserver,
    create,
    event,
    levels,
)
from ansible_collections.matrixops.synapse.tests.unit.plugins.module_utils._decommission.in_both_modes import (
    hand,
    lower,
)

BOT, GONE = f"@bot:{SERVER}", f"@gone:{SERVER}"


@pytest.fixture
def client(homeserver: Homeserver) -> Iterator[Client]:
    homeserver.register("host", "peer", "member")
    with Client(BASE_URL, TOKEN) as client:
        homeserver.attach(client)
        yield client


def test_a_long_list_of_failures_is_cut() -> None:
    failures = {f"!{number}": "no" for number in range(10, 25)}
    said = failure_message("Not all.", failures, None)
    assert said.endswith("; !18: no; !19: no and 5 more. Run again to retry these rooms")
    assert failure_message("Not all.", {}, None) == ""


def whole(users: Json) -> Json:
    return {user_id: int(level) for user_id, level in users.items()}


@pytest.mark.parametrize("seed", range(60))
def test_rooms_of_any_kind(homeserver: Homeserver, client: Client, seed: int) -> None:
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
        homeserver.add_room(f"!{number}", members, *state, event("m.room.name", {"name": "n"}))
    for user_id in (HOST, PEER, GONE):
        fields = chance.choice([{}, {}, {"locked": True}, {"suspended": True}])
        homeserver.accounts[user_id] = user(user_id, **fields)
    before = {room_id: copy.deepcopy(homeserver.content(room_id)) for room_id in homeserver.members}
    orphaned = set(ids_by_kind(read_impact(client))["orphaned"])

    handover = hand(homeserver, client, Recipient(ALICE), Recipient(BOB))
    assert orphaned == {*handover.granted, *handover.not_granted, *handover.failures}
    assert all(reason.startswith("cannot act as") for reason in handover.failures.values())
    for room_id, given in handover.granted.items():
        assert homeserver.content(room_id) == {**before[room_id], "users": given.after}
        assert given.after == {**whole(given.before), **dict.fromkeys(given.to, given.level)}
        assert all(given.level > int(before[room_id]["users"].get(user_id, -1)) for user_id in given.to)
    assert set(ids_by_kind(read_impact(client))["orphaned"]).isdisjoint(handover.granted)

    steps = len(homeserver.state_changes)
    demotion = lower(homeserver, client)
    assert demotion.failures == {}
    assert len(homeserver.state_changes) - steps <= sum(len(demoted.user_ids) for demoted in demotion.demoted.values())
    remaining = {(one.room_id, one.user_id) for one in demotion.remaining}
    for room_id, members in homeserver.members.items():
        federated = set(members) & set(theirs) and set(members) & set(ours)
        content = homeserver.content(room_id)
        for user_id in ours:
            power = int(content["users"].get(user_id, content["users_default"])) > content["users_default"]
            assert not federated or not power or (room_id, user_id) in remaining, (room_id, user_id)
        for user_id in theirs:
            given_level = handover.granted[room_id].after if room_id in handover.granted else before[room_id]["users"]
            assert whole(content["users"]).get(user_id) == whole(given_level).get(user_id)
    assert lower(homeserver, client).demoted == {}
