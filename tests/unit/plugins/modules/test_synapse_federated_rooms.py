# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys
from typing import Callable, Iterator
from unittest.mock import ANY

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.record import (
    KIND,
    Record,
    RecordedResult,
    RecordedRoom,
    read_record,
    write_record,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    BASE_URL,
    OPERATOR,
    SERVER,
    TOKEN,
    Json,
    matrix_error,
    room_id,
)
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver

Run = Callable[..., Json]

MODULE = "synapse_federated_rooms"
ALICE, BOB = f"@alice:{SERVER}", f"@bob:{SERVER}"
A, B = "a.example", "b.example"
R, Q = room_id("r"), room_id("q")


@pytest.fixture
def homeserver() -> Iterator[Homeserver]:
    with Homeserver.mocked() as homeserver:
        homeserver.register("alice", "bob")
        homeserver.members = {
            R: {ALICE: "join", BOB: "join", f"@a:{A}": "join", f"@b:{B}": "join"},
            Q: {BOB: "join", f"@b:{B}": "join"},
        }
        yield homeserver


def recorded() -> Record:
    with Client(BASE_URL, TOKEN) as client:
        return read_record(client)


EXPECTED = Record(
    {
        R: RecordedRoom({A: RecordedResult(), B: RecordedResult()}, {ALICE, BOB}),
        Q: RecordedRoom({B: RecordedResult()}, {BOB}),
    }
)


def test_rooms_are_recorded(homeserver: Homeserver, run: Run) -> None:
    result = run(MODULE)
    assert result == {
        "changed": True,
        "rooms": 2,
        "servers": 2,
        "memberships": 3,
        "pending": 0,
        "message": "2 federated rooms with 2 remote servers, 3 memberships, 0 invites and knocks",
        "unreadable_rooms": [],
    }
    assert recorded() == EXPECTED
    assert all("account_data" in write for write in homeserver.writes)


def test_the_second_time_nothing_changes(homeserver: Homeserver, run: Run) -> None:
    first = run(MODULE)
    puts = len(homeserver.puts)
    assert run(MODULE) == {**first, "changed": False}
    assert len(homeserver.puts) == puts


def test_what_is_recorded_stays_when_everybody_has_left(homeserver: Homeserver, run: Run) -> None:
    first = run(MODULE)
    homeserver.leave_all()
    homeserver.accounts[BOB]["deactivated"] = True
    assert run(MODULE) == {**first, "changed": False}
    assert recorded() == EXPECTED


def test_what_was_said_counts_until_somebody_else_joins(homeserver: Homeserver, run: Run) -> None:
    run(MODULE)
    said = RecordedResult("confirmed", 7, 3)
    record = recorded()
    record.rooms[R].servers[A] = record.rooms[Q].servers[B] = said
    with Client(BASE_URL, TOKEN) as client:
        write_record(client, record)
    assert not run(MODULE)["changed"]
    homeserver.members[R][OPERATOR] = "join"
    assert run(MODULE)["changed"]
    assert recorded().rooms[R].servers[A] == RecordedResult(removed=3)
    assert recorded().rooms[Q].servers[B] == said


def test_check_mode(homeserver: Homeserver, run: Run) -> None:
    result = run(MODULE, check=True)
    assert (result["changed"], result["rooms"]) == (True, 0)
    assert result["message"].endswith("remote servers may be in 2 rooms with 3 memberships")
    assert homeserver.writes == []
    # The rooms are listed, and no account and no room is read.
    assert not any("joined_rooms" in str(request) or "members" in str(request) for request in homeserver.log)
    run(MODULE)
    homeserver.log.clear()
    assert run(MODULE, check=True)["changed"] is False
    assert homeserver.writes == []


def test_rooms_that_cannot_be_read(homeserver: Homeserver, run: Run) -> None:
    broken = (500, matrix_error("M_UNKNOWN", "no \x1b[2J"))
    homeserver.faults = {f"GET members {R}": broken, f"GET state {R}": broken}
    result = run(MODULE)
    assert (result["changed"], result["rooms"]) == (True, 1)
    assert [each["room_id"] for each in result["unreadable_rooms"]] == [R]
    assert "M_UNKNOWN: no \\x1b[2J" in result["unreadable_rooms"][0]["reason"]


def test_a_run_that_is_killed_while_it_writes(homeserver: Homeserver, run: Run) -> None:
    homeserver.last_write = 1
    result = run(MODULE)
    assert result["failed"] and result["status"] == 401
    homeserver.last_write = sys.maxsize
    assert recorded() == Record()
    assert run(MODULE)["changed"]
    assert recorded() == EXPECTED


def test_without_federation(homeserver: Homeserver, run: Run) -> None:
    homeserver.members = {R: {ALICE: "join", BOB: "join"}}
    result = run(MODULE)
    assert (result["changed"], result["message"]) == (
        False,
        "0 federated rooms with 0 remote servers, 0 memberships, 0 invites and knocks",
    )
    assert not [kind for _user_id, kind in homeserver.account_data if kind.startswith(KIND)]


def test_it_holds_the_lease(homeserver: Homeserver, run: Run) -> None:
    homeserver.account_data[OPERATOR, "io.github.matrixops.decommission.lease"] = {
        "holder": "other",
        "until": 0,
        "former": ["me"],
        "server_name": SERVER,
    }
    result = run(MODULE, {"lease": "me"})
    assert result["failed"] and result["errcode"] == "LEASE_TAKEN"
    assert homeserver.writes == []


def test_avatars_are_recorded_on_request(run: Run, homeserver: Homeserver) -> None:
    homeserver.accounts[ALICE]["avatar_url"] = f"mxc://{SERVER}/face"
    old = {"membership": "join", "avatar_url": f"mxc://{SERVER}/old"}
    homeserver.events[R] = [{"type": "m.room.member", "state_key": BOB, "sender": BOB, "content": old}]
    assert "avatars" not in run(MODULE)
    predicted = run(MODULE, {"record_avatars": True}, check=True)
    assert (predicted["changed"], predicted["avatars"]) == (True, 2)
    assert run(MODULE, {"record_avatars": True}) == {**predicted, "message": ANY}
    assert run(MODULE, {"record_avatars": True}) == {**predicted, "message": ANY, "changed": False}
