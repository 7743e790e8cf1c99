# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import random
import sys
from typing import Any, Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import record as record_module
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import Room
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.record import (
    KIND,
    MAX_PIECE,
    UNCHECKED,
    Record,
    RecordedResult,
    RecordedRoom,
    Retry,
    read_record,
    write_record,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import STATES, KnownAccounts, Pair
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import BASE_URL, OPERATOR, SERVER, TOKEN
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ALICE, BOB = f"@alice:{SERVER}", f"@bob:{SERVER}"
A, B = "a.example", "b.example"
TEXT = st.text(max_size=12)
TIME = st.integers(0, 2**40)
SAID = st.builds(RecordedResult, st.sampled_from((UNCHECKED, *STATES)), TIME, TIME, TIME, TEXT)
ROOM = st.builds(RecordedRoom, st.dictionaries(TEXT, SAID, max_size=3), st.sets(TEXT), st.sets(TEXT), TEXT)
RECORD = st.builds(
    Record,
    st.dictionaries(TEXT, ROOM, max_size=4),
    st.dictionaries(TEXT, st.builds(Retry, st.none() | TIME, TIME, st.integers(0, 1000)), max_size=3),
    st.lists(st.lists(TIME, min_size=6, max_size=6), max_size=3),
    TIME,
    st.dictionaries(TEXT, TEXT, max_size=3),
)
several = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def homeserver() -> Iterator[Homeserver]:
    with Homeserver.mocked() as homeserver:
        yield homeserver


@pytest.fixture
def client(homeserver: Homeserver, lone_client: Client) -> Client:
    return lone_client


def kept(homeserver: Homeserver) -> list[str]:
    """The types of all that is in the operator's account data."""
    return sorted(short(kind) for user_id, kind in homeserver.account_data if user_id == OPERATOR)


def short(kind: str) -> str:
    return kind.replace(f"{KIND}.", "")


def of_rooms(*room_ids: str, server: str = A) -> Record:
    return Record({room_id: RecordedRoom({server: RecordedResult()}, {ALICE}) for room_id in room_ids})


def incompressible(number: int) -> Record:
    """A record with a text of more than I(number) pieces of 50 bytes."""
    chance = random.Random(number)
    return of_rooms(*(f"!{chance.getrandbits(256):x}" for _piece in range(number)))


# As JSON


@several
@given(RECORD)
def test_a_record_survives_json(record: Record) -> None:
    again = Record.from_json(json.loads(json.dumps(record.as_json())))
    assert again == record
    assert all(isinstance(said, RecordedResult) for _pair, said in again.pairs())
    assert all(isinstance(retry, Retry) for retry in again.retries.values())


@several
@given(RECORD)
def test_a_record_survives_the_account_data(homeserver: Homeserver, client: Client, record: Record) -> None:
    write_record(client, record)
    assert read_record(client) == record


# Writing


def test_there_is_none_at_first(client: Client) -> None:
    assert read_record(client) == Record()


def test_sides_take_turns(homeserver: Homeserver, client: Client) -> None:
    first, second, third = (of_rooms(room_id) for room_id in ("!1", "!2", "!3"))
    write_record(client, first)
    assert kept(homeserver) == ["a.0", KIND]
    write_record(client, second)
    assert kept(homeserver) == ["a.0", "b.0", KIND]
    assert read_record(client) == second
    write_record(client, third)
    assert kept(homeserver) == ["a.0", "b.0", KIND]
    assert read_record(client) == third
    assert [short(kind) for kind, _size in homeserver.puts] == ["a.0", KIND, "b.0", KIND, "a.0", KIND]


def test_pieces_are_small_enough_for_a_proxy(homeserver: Homeserver, client: Client) -> None:
    chance = random.Random(1)
    record = of_rooms(*(f"!{chance.getrandbits(1024):x}" for _room in range(8_000)))
    write_record(client, record)
    assert len(homeserver.puts) > 3
    assert MAX_PIECE < max(size for _kind, size in homeserver.puts) < 500_000
    assert read_record(client) == record


@pytest.mark.parametrize("sizes", [(0, 1), (1, 6), (6, 1), (6, 7), (3, 3)])
def test_a_run_that_is_killed_between_two_requests(
    homeserver: Homeserver, monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, int]
) -> None:
    """The record is the old one or the new one, never a mix, and the next run can write it."""
    monkeypatch.setattr(record_module, "MAX_PIECE", 50)
    oldest, old, new = (incompressible(number) for number in (8, *sizes))
    last = incompressible(9)
    found = []
    for puts in range(1000):
        homeserver.account_data.clear()
        with Client(BASE_URL, TOKEN) as client:
            homeserver.last_write = sys.maxsize
            write_record(client, oldest)
            write_record(client, old)
            homeserver.last_write = homeserver.written + puts
            try:
                write_record(client, new)
            except SynapseError:
                homeserver.last_write = sys.maxsize
                found.append(read_record(client))
            else:
                break
            homeserver.last_write = sys.maxsize
            write_record(client, last)
            assert read_record(client) == last
    assert puts > 1 and found == [old] * puts
    assert read_record(client) == new


@several
@given(RECORD, RECORD, st.integers(0, 12))
def test_a_run_that_is_killed_anywhere(
    homeserver: Homeserver, monkeypatch: pytest.MonkeyPatch, old: Record, new: Record, puts: int
) -> None:
    monkeypatch.setattr(record_module, "MAX_PIECE", 80)
    homeserver.last_write = sys.maxsize
    with Client(BASE_URL, TOKEN) as client:
        write_record(client, old)
        homeserver.last_write = homeserver.written + puts
        try:
            write_record(client, new)
        except SynapseError:
            homeserver.last_write = sys.maxsize
            assert read_record(client) == old
        else:
            assert read_record(client) == new


# Reading


def piece(number: int) -> tuple[str, str]:
    return OPERATOR, f"{KIND}.b.{number}"


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop(piece(0)),
        lambda data: data.pop(piece(2)),
        lambda data: data[piece(1)].pop("text"),
        lambda data: data[piece(1)].update(text=7),
        lambda data: data[piece(1)].update(text="\ud800"),
        lambda data: data[piece(1)].update(text=data[piece(0)]["text"]),
        lambda data: data[piece(1)].update(server_name="example.com"),
        lambda data: data[OPERATOR, KIND].update(sha256="0" * 64),
        lambda data: data[OPERATOR, KIND].update(side="a"),
        lambda data: data[OPERATOR, KIND].update(pieces=1),
        lambda data: data[OPERATOR, KIND].update(pieces="3"),
        lambda data: data[OPERATOR, KIND].update(server_name="example.com"),
        lambda data: data[OPERATOR, KIND].clear(),
    ],
)
def test_a_damaged_record_is_none(
    homeserver: Homeserver, client: Client, monkeypatch: pytest.MonkeyPatch, damage: Any
) -> None:
    monkeypatch.setattr(record_module, "MAX_PIECE", 50)
    write_record(client, incompressible(5))
    write_record(client, incompressible(6))
    damage(homeserver.account_data)
    assert read_record(client) == Record()
    # And it does not keep the next one from being written.
    write_record(client, incompressible(1))
    assert read_record(client) == incompressible(1)


def test_a_record_that_cannot_be_read_is_not_none(homeserver: Homeserver, client: Client) -> None:
    """Otherwise all pairs would be checked again, and the accounts of the rooms would be lost."""
    write_record(client, of_rooms("!1"))
    for what in (KIND, f"{KIND}.a.0"):
        homeserver.faults = {f"GET {what} account_data": (403, {"errcode": "M_FORBIDDEN", "error": "no"})}
        with pytest.raises(SynapseError, match="M_FORBIDDEN"):
            read_record(client)


def test_a_decompression_bomb_is_cut_off(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(client, of_rooms(*map(str, range(1000))))
    assert len(read_record(client).rooms) == 1000
    monkeypatch.setattr(record_module, "MAX_SIZE", 10_000)
    assert read_record(client) == Record()


# What is in it


def room(room_id: str, *servers: str, joined: tuple[str, ...] = (ALICE,), pending: tuple[str, ...] = ()) -> Room:
    return Room(room_id, servers, KnownAccounts(joined, pending))


def said_in(record: Record, room_id: str = "!r") -> dict[str, RecordedResult]:
    return record.rooms[room_id].servers


def recorded() -> Record:
    record = Record()
    assert record.add([room("!r", A, B)])
    record.rooms["!r"].servers = {A: RecordedResult("confirmed", 5, 2), B: RecordedResult("ghosts", 5, 1, 3, "x")}
    return record


def test_known_rooms_change_nothing() -> None:
    record = recorded()
    assert not record.add([room("!r", B, A), room("!r", A, joined=()), room("!r")])
    assert record == recorded()


@pytest.mark.parametrize(("joined", "pending"), [((ALICE, BOB), ()), ((), (ALICE,)), ((), (BOB,))])
def test_new_accounts_invalidate_results(joined: tuple[str, ...], pending: tuple[str, ...]) -> None:
    record = recorded()
    assert record.add([room("!r", joined=joined, pending=pending)])
    assert said_in(record) == {A: RecordedResult(removed=2), B: RecordedResult(removed=1)}
    assert record.rooms["!r"].joined == {ALICE, *joined} and record.rooms["!r"].pending == set(pending)


def test_a_new_server_keeps_the_results_of_others() -> None:
    record = recorded()
    assert record.add([room("!r", "c.example")])
    assert said_in(record) == {**said_in(recorded()), "c.example": RecordedResult()}


def test_a_new_room_leaves_the_others() -> None:
    record = recorded()
    record.rooms["!r"].broken = "500"
    assert record.add([room("!q", A, joined=(), pending=(BOB,))])
    assert said_in(record) == said_in(recorded()) and record.rooms["!r"].broken == "500"
    assert record.rooms["!q"] == RecordedRoom({A: RecordedResult()}, set(), {BOB})


def test_an_account_may_be_both() -> None:
    """It is joined here, and another server that has not heard of it still lists it as invited."""
    record = recorded()
    assert record.add([room("!r", joined=(), pending=(ALICE,))])
    assert not record.add([room("!r", joined=(ALICE,), pending=(ALICE,))])


def test_pairs() -> None:
    record = recorded()
    record.add([room("!q", A)])
    assert dict(record.pairs()) == {
        Pair(A, "!r"): RecordedResult("confirmed", 5, 2),
        Pair(B, "!r"): RecordedResult("ghosts", 5, 1, 3, "x"),
        Pair(A, "!q"): RecordedResult(),
    }
    assert record.by_server() == {
        A: {"!r": RecordedResult("confirmed", 5, 2), "!q": RecordedResult()},
        B: {"!r": RecordedResult("ghosts", 5, 1, 3, "x")},
    }


def test_rooms_for_the_federation_client() -> None:
    record = recorded()
    record.add([room("!r", joined=(BOB,), pending=("@b:x", "@a:x")), room("!q", A, joined=())])
    known = KnownAccounts((ALICE, BOB), ("@a:x", "@b:x"))
    assert record.to_ask([Pair(B, "!r"), Pair(A, "!q"), Pair(A, "!r")]) == [
        Room("!r", (B, A), known),
        Room("!q", (A,), KnownAccounts()),
    ]
    assert record.to_ask([Pair(B, "!r")]) == [Room("!r", (B,), known)]
    assert record.to_ask([]) == []
