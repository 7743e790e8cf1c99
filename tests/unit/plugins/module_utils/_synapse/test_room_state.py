# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import math
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.answer import Answer
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.room_state import (
    CREATE,
    FULL_STATE_LIMIT,
    POWER_LEVELS,
    Powers,
    as_state,
    read_room,
    read_state,
    send_state,
    version_of,
)
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    BASE_URL,
    ROOMS,
    SERVER,
    TOKEN,
    Json,
    Server,
    quoted,
    room_id,
)
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import (
    ALICE,
    HOST,
    MEMBER,
    PEER,
    Homeserver,
    create,
    event,
    joins,
    levels,
)

STATE = f"{ROOMS}/{quoted(room_id('r'))}/state"
TYPES = (CREATE, POWER_LEVELS)
OLD = [str(version) for version in range(1, 12)]


def powers(version: str, content: Json | None = None, **more: Any) -> Powers:
    given = [] if content is None else [event(POWER_LEVELS, content)]
    with Homeserver.mocked() as homeserver, Client(BASE_URL, TOKEN) as client:
        homeserver.add_room("!r", [HOST], create(version, **more), *given)
        return Powers.in_room(read_state(client, "!r", TYPES, 2))


def test_a_small_state_is_one_request(server: Server, client: Client) -> None:
    name = event("m.room.name", {"name": "n"})
    server.get(STATE, {"state": [name, levels({HOST: 100}), create("10")]})
    assert read_state(client, room_id("r"), TYPES, FULL_STATE_LIMIT) == {
        (CREATE, ""): {"creator": HOST, "room_version": "10"},
        (POWER_LEVELS, ""): levels({HOST: 100})["content"],
    }


def test_events_that_are_none_of_a_state() -> None:
    odd: list[Json] = [{}, {"type": ["x"], "state_key": ""}, {"type": POWER_LEVELS, "state_key": 7, "content": {}}]
    events = [*odd, event("m.room.name", {"name": "n"}), levels({HOST: 1}), levels({HOST: 2})]
    answers = [Answer(each, "GET", "") for each in events]
    assert as_state(answers, TYPES) == {(POWER_LEVELS, ""): levels({HOST: 2})["content"]}
    assert as_state([], TYPES) == {}


@pytest.mark.parametrize(
    "wrong", [{**levels({}), "content": 7}, {"type": CREATE, "state_key": "", "content": {"room_version": "12"}}]
)
def test_a_state_that_makes_no_sense(wrong: Json) -> None:
    with pytest.raises(SynapseError, match="the answer has"):
        as_state([Answer(wrong, "GET", "")], TYPES)


def test_a_large_state_is_one_request_for_each_type(server: Server, client: Client) -> None:
    server.get(STATE, {"state": [create("10")]}, query={"type": CREATE})
    server.get(STATE, {"state": [levels({})]}, query={"type": POWER_LEVELS})
    assert read_state(client, room_id("r"), TYPES, FULL_STATE_LIMIT + 1).keys() == {(CREATE, ""), (POWER_LEVELS, "")}


def test_an_old_server_that_returns_everything_is_asked_once(server: Server, client: Client) -> None:
    server.get(STATE, {"state": [create("10"), levels({})]}, query={"type": CREATE})
    assert read_state(client, room_id("r"), TYPES, FULL_STATE_LIMIT + 1).keys() == {(CREATE, ""), (POWER_LEVELS, "")}


def test_state_is_sent_as_an_account(server: Server, client: Client) -> None:
    path = f"/_matrix/client/v3/rooms/{quoted(room_id('r'))}/state/m.room.topic"
    server.put(path, {"topic": "t"}, {"event_id": "$e"}, token="as_host")
    send_state(client, room_id("r"), "m.room.topic", {"topic": "t"}, "as_host")


def test_of_a_room_without_others_no_state_is_read_unless_asked_for(
    homeserver: Homeserver, lone_client: Client
) -> None:
    homeserver.add_room("!r", [HOST], create("10"), levels({}))
    assert not read_room(lone_client, {"room_id": "!r", "state_events": None}, TYPES, unfederated=False).state
    assert read_room(lone_client, {"room_id": "!r", "state_events": None}, TYPES).state
    homeserver.members["!r"][ALICE] = "join"
    room = read_room(lone_client, {"room_id": "!r", "state_events": 2}, TYPES, unfederated=False)
    assert (room.local, room.remote) == ({HOST}, {ALICE})
    assert room.state and room.members == {HOST, ALICE}


def test_the_state_says_who_is_joined(server: Server, client: Client) -> None:
    others = [
        event("m.room.member", {"membership": membership}, f"@{membership}:{SERVER}")
        for membership in ("leave", "ban", "invite", "knock")
    ]
    server.get(STATE, {"state": [create("10"), *joins(HOST, ALICE), *others]})
    room = read_room(client, {"room_id": room_id("r"), "state_events": FULL_STATE_LIMIT}, TYPES)
    assert (room.local, room.remote) == ({HOST}, {ALICE})


def test_of_a_room_with_much_state_the_members_are_read_alone(server: Server, client: Client) -> None:
    server.members("r", HOST, ALICE)
    server.get(STATE, {"state": [create("10")]}, query={"type": CREATE})
    server.get(STATE, {"state": []}, query={"type": POWER_LEVELS})
    room = read_room(client, {"room_id": room_id("r"), "state_events": FULL_STATE_LIMIT + 1}, TYPES)
    assert (room.local, room.remote, room.state.keys()) == ({HOST}, {ALICE}, {(CREATE, "")})


@pytest.mark.parametrize("version", OLD)
def test_a_creator_is_like_anybody_else_in_old_versions(version: str) -> None:
    found = powers(version, {"users": {PEER: 100}}, additional_creators=[MEMBER])
    assert (found.of(HOST), found.of(MEMBER), found.of(PEER)) == (0, 0, 100)
    assert not found.creators


@pytest.mark.parametrize("version", ["12", "13", "org.example.unheard_of"])
def test_creators_have_more_than_any_level(version: str) -> None:
    found = powers(version, {"users": {PEER: 10**9}}, additional_creators=[MEMBER])
    assert found.of(HOST) == found.of(MEMBER) == math.inf > found.of(PEER)
    assert found.creators == {HOST, MEMBER}


def test_who_has_created_a_room(homeserver: Homeserver, lone_client: Client) -> None:
    """Up to version 10 the event says so, and from then on it is who has sent it, whatever the event says."""
    forged = {"content": {"creator": ALICE, "room_version": "12"}}
    homeserver.add_room("!r", [HOST], {**create("12"), **forged})
    assert Powers.in_room(read_state(lone_client, "!r", TYPES, 1)).creators == {HOST}
    homeserver.add_room("!r", [HOST], {**create("10"), "sender": PEER})
    assert Powers.in_room(read_state(lone_client, "!r", TYPES, 1)).of(HOST) == 100
    # A part of the state that does not include the event.
    assert Powers.in_room({}, HOST).of(HOST) == 100


def test_the_first_version_is_not_named() -> None:
    assert version_of({}) == version_of({(CREATE, ""): {"creator": HOST}}) == "1"


@pytest.mark.parametrize("version", OLD)
def test_without_power_levels_anybody_may_set_some(version: str) -> None:
    found = powers(version)
    assert (found.of(HOST), found.of(PEER)) == (100, 0)
    assert found.administers(PEER) and found.all_accounts_administer
    assert found.to_do_everything == 50


def test_defaults_where_the_power_levels_say_nothing() -> None:
    found = powers("10", {})
    assert (found.default, found.of(HOST), found.to_send(POWER_LEVELS), found.to_do_everything) == (0, 0, 50, 50)
    assert not found.all_accounts_administer


@pytest.mark.parametrize(
    ("content", "level"),
    [
        ({"ban": 60}, 60),
        ({"events": {"m.room.tombstone": 150}}, 150),
        ({"notifications": {"room": 70}}, 70),
        ({"state_default": 80}, 80),
        ({"events_default": 90}, 90),
    ],
)
def test_the_level_to_do_everything(content: Json, level: int) -> None:
    assert powers("12", content).to_do_everything == level


@pytest.mark.parametrize(
    ("content", "level"), [({}, 50), ({"kick": 0}, 0), ({"kick": "70"}, 70), ({"kick": None}, 50), ({"ban": 90}, 50)]
)
def test_the_level_to_kick(content: Json, level: int) -> None:
    for version in ("1", "12"):
        assert powers(version, content).to_kick == level


def test_levels_of_old_versions_may_be_text_or_fractions() -> None:
    found = powers("6", {"users": {HOST: "100", PEER: 50.5, MEMBER: " 7 "}, "users_default": "3"})
    assert [found.of(user_id) for user_id in (HOST, PEER, MEMBER, ALICE)] == [100, 50, 7, 3]


def test_what_is_sent_has_whole_numbers() -> None:
    old = {"users": {HOST: "100"}, "ban": "50", "events": {"m.x": 7.5}, "notifications": {"room": " 3"}, "x": "1"}
    assert powers("6", old).with_users({HOST: "100", PEER: 1}) == {
        "users": {HOST: 100, PEER: 1},
        "ban": 50,
        "events": {"m.x": 7},
        "notifications": {"room": 3},
        "x": "1",
    }
    assert powers("6", {}).with_users({}) == {"users": {}}


@pytest.mark.parametrize("nonsense", [None, [], {}, "x", "1e400", [[]]])
def test_nonsense_is_no_level(nonsense: Any) -> None:
    content = {"users": {HOST: nonsense}, "users_default": 1, "ban": nonsense, "events": nonsense}
    for version in ("1", "12"):
        found = powers(version, content, additional_creators=nonsense)
        assert found.of(PEER) == 1 and found.to_do_everything == 50
    assert powers("1", content).of(HOST) == 1
    assert powers("1", {"users": nonsense}).of(HOST) == 0
    assert Powers.in_room({(CREATE, ""): {"creator": nonsense, "room_version": nonsense}}).of(HOST) == 0
