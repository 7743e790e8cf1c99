# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Iterable, Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.room_impact import (
    KINDS,
    TYPES,
    ids_by_kind,
    read_impact,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.room_state import FULL_STATE_LIMIT
from ansible_collections.matrixops.synapse.tests.stubs.helpers import BASE_URL, SERVER, TOKEN, Json
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import (
    ALICE,
    BOB,
    BROKEN,
    HOST,
    INVALID_TOKEN,
    MEMBER,
    PEER,
    UNRECOGNIZED,
    Homeserver,
    Reply,
    create,
    event,
    levels,
)

OURS, THEIRS = [SERVER], [SERVER, "other.example"]
ALIAS = f"#alias:{SERVER}"


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(BASE_URL, TOKEN) as client:
        yield client


def read(client: Client) -> tuple[list[Json], dict[str, list[str]]]:
    """All rooms, and the IDs of those of each kind."""
    found = sorted(read_impact(client), key=lambda item: str(item[0]["room_id"]))
    return [room for room, _kinds in found], ids_by_kind(found)


def look(members: Iterable[str], *state: Json, aliases: Iterable[str] = ()) -> tuple[Json, set[str]]:
    """What is found of a single room."""
    with Homeserver.mocked() as homeserver, Client(BASE_URL, TOKEN) as client:
        homeserver.add_room("!r", members, *state, aliases=aliases)
        (room,), kinds = read(client)
    assert tuple(kinds) == KINDS
    assert all(room_ids in ([], ["!r"]) for room_ids in kinds.values())
    return room, {kind for kind, room_ids in kinds.items() if room_ids}


@pytest.mark.parametrize(
    ("version", "members", "users", "kinds"),
    [
        ("10", [HOST, ALICE], {HOST: 100}, {"orphaned", "empowered"}),
        ("10", [HOST, ALICE], {HOST: 100, ALICE: 99}, {"orphaned", "empowered"}),
        ("10", [HOST, ALICE], {HOST: 100, ALICE: 100}, {"empowered"}),
        # Whoever is not joined does not help.
        ("10", [HOST, ALICE], {HOST: 100, BOB: 100}, {"orphaned", "empowered"}),
        ("10", [HOST, ALICE], {PEER: 100, BOB: 100}, {"unadministered", "empowered"}),
        ("10", [HOST, ALICE], {HOST: 0, ALICE: 100}, set()),
        ("10", [HOST, ALICE], {}, {"unadministered"}),
        ("10", [HOST, PEER], {HOST: 100}, set()),
        ("12", [HOST, ALICE], {}, {"orphaned", "creators"}),
        ("12", [PEER, ALICE], {}, {"unadministered", "creators"}),
        ("12", [HOST, ALICE], {ALICE: 100, PEER: 50}, {"creators", "empowered"}),
    ],
)
def test_who_administers(version: str, members: list[str], users: Json, kinds: set[str]) -> None:
    assert look(members, create(version), levels(users))[1] == kinds


def test_additional_creators_count() -> None:
    room, kinds = look([HOST, ALICE], create("12", additional_creators=[ALICE]), levels({}))
    assert kinds == {"creators"}
    assert room["administrators"] == {"local": [HOST], "remote": [ALICE], "all_accounts": False}
    assert look([HOST, ALICE], create("12", ALICE), levels({}))[1] == set()


def test_administrators_by_default() -> None:
    users = {HOST: 200, ALICE: 200, PEER: 0, BOB: 200}
    room, kinds = look([HOST, PEER, MEMBER, ALICE], create("10"), levels(users, users_default=100))
    assert room["administrators"] == {"local": [HOST], "remote": [ALICE], "all_accounts": True}
    assert kinds == {"empowered"}


def test_the_fields_of_a_room() -> None:
    state = [
        create("10", type="m.space"),
        levels({ALICE: 100}),
        event("m.room.tombstone", {"replacement_room": "!new"}),
        event("m.space.parent", {"via": THEIRS}, "!parent"),
        event("m.space.parent", {}, "!former"),
        event("m.space.child", {"via": OURS}, "!b"),
        event("m.space.child", {"via": THEIRS}, "!a"),
    ]
    room, kinds = look([HOST, ALICE, BOB], *state, aliases=[ALIAS])
    assert room == {
        "room_id": "!r",
        "joined_members": 3,
        "joined_local_members": 1,
        "state_events": 7,
        "public": False,
        "room_type": "m.space",
        "creator": HOST,
        "canonical_alias": None,
        "local_members": [HOST],
        "federated": True,
        "remote_members": 2,
        "remote_servers": ["other.example"],
        "administrators": {"local": [], "remote": [ALICE], "all_accounts": False},
        "aliases": [ALIAS],
        "space_parents": ["!parent"],
        "space_children": ["!a", "!b"],
        "replacement_room": "!new",
    }
    assert kinds == {"aliased", "space_children", "upgraded"}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"alias": ALIAS}, True),
        ({"alias": "#alias:other.example", "alt_aliases": [ALIAS]}, True),
        ({"alias": "#alias:other.example", "alt_aliases": []}, False),
        ({}, False),
        ({"alias": None, "alt_aliases": ALIAS}, False),
        ({"alias": [ALIAS], "alt_aliases": [7]}, False),
    ],
)
def test_canonical_aliases(content: Json, found: bool) -> None:
    state = [create("10"), levels({ALICE: 100}), event("m.room.canonical_alias", content)]
    assert look([HOST, ALICE], *state)[1] == ({"canonical_alias"} if found else set())


@pytest.mark.parametrize("via", [None, [], THEIRS, SERVER, [7], {SERVER: 1}])
def test_a_link_that_does_not_depend_on_this_server(via: Any) -> None:
    link = event("m.space.parent", {"via": via}, "!space")
    assert look([HOST, ALICE], create("10"), levels({ALICE: 100}), link)[1] == set()


def test_a_link_that_depends_on_this_server() -> None:
    link = event("m.space.parent", {"via": OURS}, "!space")
    assert look([HOST, ALICE], create("10"), levels({ALICE: 100}), link)[1] == {"space_parents"}
    child = event("m.space.child", {"via": OURS}, "!child")
    assert look([HOST, ALICE], create("10"), levels({ALICE: 100}), child)[1] == set()
    assert look([HOST, ALICE], create("10", type="m.space"), levels({ALICE: 100}), child)[1] == {"space_children"}


def test_a_room_that_only_this_server_is_in_is_as_listed(homeserver: Homeserver, client: Client) -> None:
    homeserver.published.add(homeserver.add_room("!r", [HOST], create("12"), levels({}), aliases=[ALIAS]))
    (room,), kinds = read(client)
    assert {kind for kind, room_ids in kinds.items() if room_ids} == {"published"}
    assert (room["federated"], "aliases" in room) == (False, False)


def test_a_room_that_everybody_has_left_is_looked_at_for_aliases_only() -> None:
    room, kinds = look([ALICE], create("10"), levels({HOST: 100}), aliases=[ALIAS])
    assert kinds == {"aliased"}
    listed = {"room_id", "joined_members", "joined_local_members", "state_events", "public", "room_type"}
    assert room.keys() == {*listed, "creator", "canonical_alias", "aliases"}


def of_extremities(homeserver: Homeserver, client: Client, answer: Reply | None = None) -> dict[str, list[str]]:
    """The findings of a federated and a local room with this answer about their forward extremities."""
    for name, members in (("!shared", [HOST, ALICE]), ("!local", [HOST])):
        homeserver.add_room(name, members, create("10"), levels({ALICE: 100}))
        if answer is not None:
            homeserver.faults[f"GET forward_extremities {name}"] = answer
    return {kind: room_ids for kind, room_ids in read(client)[1].items() if room_ids}


def test_a_room_without_forward_extremities_cannot_be_left(homeserver: Homeserver, client: Client) -> None:
    homeserver.broken = {"!shared", "!local"}
    assert of_extremities(homeserver, client) == {"broken": ["!shared"]}


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"count": 2, "results": [{}, {}]}),
        (200, {}),
        (200, {"count": None}),
        (200, {"count": "0"}),
        UNRECOGNIZED,
        BROKEN,
    ],
)
def test_a_room_that_may_not_be_broken(homeserver: Homeserver, client: Client, answer: Reply) -> None:
    """An old Synapse, and an error of this request alone, are no finding."""
    assert of_extremities(homeserver, client, answer) == {}


def test_a_token_that_dies_meanwhile(homeserver: Homeserver, client: Client) -> None:
    with pytest.raises(SynapseError, match="Invalid access token"):
        of_extremities(homeserver, client, INVALID_TOKEN)


def test_a_room_that_cannot_be_read_does_not_keep_the_others_from_being_looked_at(
    homeserver: Homeserver, client: Client
) -> None:
    for name in ("!a", "!b"):
        homeserver.add_room(name, [HOST, ALICE], create("10"), levels({HOST: 100}))
    homeserver.faults["GET aliases !a"] = BROKEN
    rooms, kinds = read(client)
    assert (kinds["unreadable"], kinds["orphaned"]) == (["!a"], ["!b"])
    error = f"GET {BASE_URL}/_matrix/client/v3/rooms/%21a/aliases: 500 M_UNKNOWN: Internal server error"
    assert [room.get("error") for room in rooms] == [error, None]


def test_a_dead_token_ends_it(homeserver: Homeserver, client: Client) -> None:
    homeserver.add_room("!a", [HOST, ALICE])
    homeserver.faults["GET aliases !a"] = INVALID_TOKEN
    with pytest.raises(SynapseError, match="Invalid access token"):
        read(client)


def test_the_number_of_requests(homeserver: Homeserver, client: Client) -> None:
    """Three for each federated room, one for each that nobody is in, and none for those that only this server is in.

    Where there is much state, there is one for each type, and one for the members.
    """
    homeserver.attach(client)
    usual, large, empty, local = 240, 10, 50, 700
    much = [event("m.room.member", {"membership": "join"}, f"@{n}:{SERVER}") for n in range(FULL_STATE_LIMIT)]
    members = [*[[HOST, ALICE]] * (usual + large), *[[ALICE]] * empty, *[[HOST, PEER]] * local]
    for number, joined in enumerate(members):
        state = [create("10"), levels({HOST: 100}), *(much if usual <= number < usual + large else ())]
        homeserver.add_room(f"!{number}", joined, *state)
    rooms, kinds = read(client)
    assert (len(rooms), len(kinds["orphaned"])) == (1000, 250)
    by_end = {path.rpartition("/")[2]: number for path, number in client.sent.items()}
    assert by_end == {
        "whoami": 1,
        "rooms": 1,
        "aliases": usual + large + empty,
        "forward_extremities": usual + large,
        "members": large,
        "state": usual + large * len(TYPES),
    }
