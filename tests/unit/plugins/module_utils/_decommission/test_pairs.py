# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import Room
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.pairs import read_rooms, who_can_kick
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import KnownAccounts
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    ROOMS,
    SERVER,
    Json,
    Server,
    matrix_error,
    quoted,
    room_id,
)

DESTINATIONS = "/_synapse/admin/v1/federation/destinations"
R = room_id("r")
ALICE, BOB = f"@alice:{SERVER}", f"@bob:{SERVER}"
REMOTE = "@someone:other.example"


def room(name: str, joined: Any, local: Any) -> Json:
    return {"room_id": room_id(name), "joined_members": joined, "joined_local_members": local}


def member(user_id: Any, membership: Any, before: Any = None, **more: Any) -> Json:
    unsigned = {} if before is None else {"unsigned": {"prev_content": before}}
    return {"type": "m.room.member", "state_key": user_id, "content": {"membership": membership}, **unsigned, **more}


def left_from(membership: str) -> Json:
    return {"membership": membership, "displayname": "x"}


def destinations(server: Server, **rooms: list[str]) -> None:
    """Declare what Synapse's sender has recorded: room names by server (C(_) is a dot)."""
    names = {name.replace("_", "."): found for name, found in rooms.items()}
    answer = {"destinations": [{"destination": name} for name in names], "total": len(names)}
    server.get(DESTINATIONS, answer, query={"limit": "10000"})
    for name, found in names.items():
        rows = [{"room_id": room_id(each), "stream_ordering": 1} for each in found]
        query = {"limit": "10000", "from": "0"}
        server.get(f"{DESTINATIONS}/{quoted(name)}/rooms", {"rooms": rows, "total": len(rows)}, query=query)


def state(server: Server, name: str, *events: Json, **more: Any) -> None:
    server.get(f"{ROOMS}/{quoted(room_id(name))}/state", {"state": list(events)}, **more)


def state_of_newest_event(server: Server, name: str, *events: Json) -> None:
    """Declare the requests for a room that all local accounts have left."""
    state(server, name)
    path = f"{ROOMS}/{quoted(room_id(name))}"
    server.get(f"{path}/forward_extremities", {"count": 2, "results": [{"event_id": "$a/b"}, {"event_id": "$c"}]})
    server.get(f"{path}/context/%24a%2Fb", {"state": list(events)}, query={"limit": "0"})


def read_one(client: Client, server: Server, *events: Json, joined: int = 2, local: int = 1) -> Room:
    """What is read of one room with this state."""
    destinations(server)
    server.rooms(room("r", joined, local))
    state(server, "r", *events)
    (found,) = read_rooms(client)
    return found


def test_before_accounts_leave(client: Client, server: Server) -> None:
    found = read_one(
        client,
        server,
        {"type": "m.room.create", "state_key": "", "content": {}},
        {"type": "m.room.member", "content": {"membership": "join"}},
        member(BOB, "join"),
        member(ALICE, "join"),
        member(REMOTE, "join"),
        member("@b:port.example:8448", "join"),
        member("@gone:left.example", "leave"),
        member("@invited:invited.example", "invite"),
    )
    assert found == Room(R, ("other.example", "port.example:8448"), KnownAccounts((ALICE, BOB), ()))


def test_after_everybody_has_left(client: Client, server: Server) -> None:
    destinations(server)
    server.rooms(room("r", 0, 0))
    state_of_newest_event(server, "r", member(ALICE, "leave", left_from("join")), member(REMOTE, "join"))
    assert read_rooms(client) == [Room(R, ("other.example",), KnownAccounts((ALICE,)))]


def test_a_room_of_which_synapse_has_no_event(client: Client, server: Server) -> None:
    destinations(server, other_example=["r"])
    server.rooms(room("r", 0, 0))
    state(server, "r")
    server.get(f"{ROOMS}/{quoted(R)}/forward_extremities", {"count": 0, "results": []})
    assert read_rooms(client) == [Room(R, ("other.example",), KnownAccounts())]


@pytest.mark.parametrize("local", [1, 500])
def test_rooms_of_ours_alone_are_not_read(client: Client, server: Server, local: int) -> None:
    destinations(server)
    server.rooms(room("ours", local, local))
    assert read_rooms(client) == []


@pytest.mark.parametrize(("joined", "local"), [(None, None), (2, None), (2, "1"), (2, 0)])
def test_rooms_of_which_little_is_known_are_read(client: Client, server: Server, joined: Any, local: Any) -> None:
    assert read_one(client, server, member(REMOTE, "join"), joined=joined, local=local).servers == ("other.example",)


def test_a_room_that_no_remote_server_is_in_is_none_of_the_result(client: Client, server: Server) -> None:
    destinations(server)
    server.rooms(room("r", 3, 1))
    state(server, "r", member(ALICE, "join"), member(REMOTE, "leave"))
    assert read_rooms(client) == []


def test_rooms_of_destinations_are_added(client: Client, server: Server) -> None:
    """Also those that the listing lacks, and a room of ours alone that something was sent of."""
    destinations(server, a_example=["r", "ours"], b_example=["unlisted"], example_org=["r"])
    server.rooms(room("r", 2, 1), room("ours", 1, 1))
    state(server, "r", member(REMOTE, "join"), member(ALICE, "join"))
    state(server, "ours", member(ALICE, "join"))
    state_of_newest_event(server, "unlisted", member(BOB, "leave"))
    assert read_rooms(client) == [
        Room(room_id("ours"), ("a.example",), KnownAccounts((ALICE,))),
        Room(R, ("a.example", "other.example"), KnownAccounts((ALICE,))),
        Room(room_id("unlisted"), ("b.example",), KnownAccounts((BOB,))),
    ]


def test_a_room_that_is_gone_is_known_by_its_destinations(client: Client, server: Server) -> None:
    destinations(server, a_example=["r"])
    server.rooms(room("q", 2, 1))
    for name in ("q", "r"):
        state(server, name, status=404)
    assert read_rooms(client) == [Room(R, ("a.example",), KnownAccounts())]


def test_any_other_error_ends_the_reading(client: Client, server: Server) -> None:
    destinations(server)
    server.rooms(room("r", 2, 1))
    server.get(f"{ROOMS}/{quoted(R)}/state", matrix_error("M_FORBIDDEN", "You are not a server admin"), status=403)
    with pytest.raises(SynapseError, match="M_FORBIDDEN"):
        read_rooms(client)


@pytest.mark.parametrize(
    ("event", "known"),
    [
        (member(ALICE, "join"), KnownAccounts((ALICE,))),
        (member(ALICE, "leave"), KnownAccounts((ALICE,))),
        (member(ALICE, "leave", left_from("join")), KnownAccounts((ALICE,))),
        (member(ALICE, "leave", left_from("invite")), KnownAccounts((), (ALICE,))),
        (member(ALICE, "leave", left_from("knock")), KnownAccounts((), (ALICE,))),
        (member(ALICE, "invite"), KnownAccounts((), (ALICE,))),
        (member(ALICE, "knock"), KnownAccounts((), (ALICE,))),
        (member(ALICE, "join", left_from("invite")), KnownAccounts((ALICE,))),
        (member(ALICE, "ban"), KnownAccounts()),
        (member(ALICE, "ban", left_from("invite")), KnownAccounts()),
        # Any of these was a member once.
        (member(ALICE, None), KnownAccounts((ALICE,))),
        (member(ALICE, ["invite"]), KnownAccounts((ALICE,))),
        (member(ALICE, {"membership": "join"}), KnownAccounts((ALICE,))),
        (member(ALICE, "leave", "invite"), KnownAccounts((ALICE,))),
        (member(ALICE, "leave", {"membership": ["invite"]}), KnownAccounts((ALICE,))),
        ({"type": "m.room.member", "state_key": ALICE}, KnownAccounts((ALICE,))),
        # No accounts of ours.
        (member(ALICE, "join", type="m.room.message"), KnownAccounts()),
        (member(None, "join"), KnownAccounts()),
        (member(7, "join"), KnownAccounts()),
        (member("", "join"), KnownAccounts()),
        (member(SERVER, "join"), KnownAccounts()),
        (member(f"alice:{SERVER}", "join"), KnownAccounts()),
        (member(f"@alice:{SERVER}.evil.example", "join"), KnownAccounts()),
        (member(f"@alice:{SERVER}:8448", "leave"), KnownAccounts()),
        (member(f"@\x1b[2Jalice:{SERVER}", "invite"), KnownAccounts()),
        (member(f"@\u202ealice:{SERVER}", "invite"), KnownAccounts()),
        (member(f"@{'a' * 250}:{SERVER}", "invite"), KnownAccounts()),
    ],
)
def test_accounts_by_membership(client: Client, server: Server, event: Json, known: KnownAccounts) -> None:
    assert read_one(client, server, event, member(REMOTE, "join")).known == known


@pytest.mark.parametrize(
    "name",
    [
        "",
        "evil.example:0",
        "evil.example/../",
        'evil.example",key="x',
        "evil.example\r\nHost: a",
        "1.2.3",
        "[::1",
        "a" * 300,
        "ü.example",
        "\u202eevil.example",
    ],
)
def test_names_that_are_no_servers(client: Client, server: Server, name: str) -> None:
    found = read_one(client, server, member(f"@a:{name}", "join"), member(REMOTE, "join"), member("@a", "join"))
    assert found.servers == ("other.example",)


def test_an_invalid_destination(client: Client, server: Server) -> None:
    answer = {"destinations": [{"destination": "bad name"}], "total": 1}
    server.get(DESTINATIONS, answer, query={"limit": "10000"})
    rows = [{"room_id": R, "stream_ordering": 1}]
    server.get(f"{DESTINATIONS}/bad%20name/rooms", {"rooms": rows, "total": 1}, query={"limit": "10000", "from": "0"})
    server.rooms()
    state(server, "r", member(ALICE, "join"))
    assert read_rooms(client) == []


def test_an_odd_room_id(client: Client, server: Server) -> None:
    """It is kept, and is an error of each pair later. Hostile names do not prevent the others from being read."""
    destinations(server)
    odd = "!\u202e/..?#%\x1b"
    server.rooms({**room("r", 2, 1), "room_id": odd})
    server.get(f"{ROOMS}/{quoted(odd)}/state", {"state": [member(REMOTE, "join")]})
    assert read_rooms(client) == [Room(odd, ("other.example",), KnownAccounts())]


@pytest.mark.parametrize(
    "answer",
    [{}, {"state": None}, {"state": [7]}, {"state": [{"type": "m.room.member", "state_key": ALICE, "content": 7}]}],
)
def test_answers_that_are_not_synapses(client: Client, server: Server, answer: Json) -> None:
    destinations(server)
    server.rooms(room("r", 2, 1))
    server.get(f"{ROOMS}/{quoted(R)}/state", answer)
    with pytest.raises(SynapseError, match="the answer has"):
        read_rooms(client)


# Rooms that can't be read


def test_a_room_that_cannot_be_read_leaves_the_others_alone(client: Client, server: Server) -> None:
    destinations(server, a_example=["r"])
    server.rooms(room("q", 2, 1), room("r", 2, 1), room("s", 2, 1))
    broken = matrix_error("M_UNKNOWN", "Internal server error")
    state(server, "q", member(REMOTE, "join"), member(ALICE, "leave"))
    for name in ("r", "s"):
        server.get(f"{ROOMS}/{quoted(room_id(name))}/state", broken, status=500)
    unreadable: dict[str, SynapseError] = {}
    assert read_rooms(client, unreadable.__setitem__) == [
        Room(room_id("q"), ("other.example",), KnownAccounts((ALICE,))),
        # What the sender has recorded is still known.
        Room(R, ("a.example",), KnownAccounts()),
    ]
    assert list(unreadable) == [R, room_id("s")]
    assert all(error.errcode == "M_UNKNOWN" for error in unreadable.values())


def test_a_dead_token_is_no_unreadable_room(client: Client, server: Server) -> None:
    destinations(server)
    server.rooms(room("r", 2, 1))
    server.get(f"{ROOMS}/{quoted(R)}/state", matrix_error("M_UNKNOWN_TOKEN", "gone"), status=401)
    unreadable: dict[str, SynapseError] = {}
    with pytest.raises(SynapseError, match="M_UNKNOWN_TOKEN"):
        read_rooms(client, unreadable.__setitem__)
    assert not unreadable


# Who can kick


def create(version: str, sender: str = REMOTE) -> Json:
    content = {"room_version": version, **({} if version == "12" else {"creator": sender})}
    return {"type": "m.room.create", "state_key": "", "sender": sender, "content": content}


def levels(**content: Any) -> Json:
    return {"type": "m.room.power_levels", "state_key": "", "sender": REMOTE, "content": content}


OTHER = "@other:b.example"


@pytest.mark.parametrize(
    ("events", "names"),
    [
        ([create("10"), levels(users={REMOTE: 100, OTHER: 49})], [REMOTE]),
        ([create("10"), levels(users={REMOTE: 100, OTHER: 50})], [OTHER, REMOTE]),
        ([create("10"), levels(users={ALICE: 100, "@gone:c.example": 100, "@invited:c.example": 100})], []),
        ([create("10"), levels(kick=0)], [OTHER, REMOTE]),
        ([create("10"), levels(kick=101, users={REMOTE: 100})], []),
        # Creators have more than any level.
        ([create("12"), levels(kick=1000, users={OTHER: 100})], [REMOTE]),
        ([create("10"), levels(kick=1000, users={OTHER: 100})], []),
        # Without power levels, the creator of the room.
        ([create("10")], [REMOTE]),
        ([create("10", ALICE)], []),
        ([levels(users={REMOTE: 100})], [REMOTE]),
        ([], []),
    ],
)
def test_who_can_kick(client: Client, server: Server, events: list[Json], names: list[str]) -> None:
    members = [
        member(ALICE, "leave"),
        member(REMOTE, "join"),
        member(OTHER, "join"),
        member("@gone:c.example", "leave"),
        member("@invited:c.example", "invite"),
        member("@odd\x1b[2J:c.example", "join"),
        member("nobody", "join"),
    ]
    state_of_newest_event(server, "r", *events, *members)
    assert who_can_kick(client, R) == names


def test_invalid_accounts_that_can_kick(client: Client, server: Server) -> None:
    odd = ["@odd\x1b[2J:c.example", "@a:evil.example/../", "@a:", "nobody"]
    state(server, "r", create("10"), levels(kick=0), *(member(each, "join") for each in odd))
    assert who_can_kick(client, R) == []
