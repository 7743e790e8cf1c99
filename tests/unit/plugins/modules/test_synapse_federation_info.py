# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Callable

import pytest
from ansible_collections.matrixops.synapse.tests.unit.helpers import Json, Server, matrix_error, room, room_id

Run = Callable[..., Json]

DESTINATIONS = "/_synapse/admin/v1/federation/destinations"
R, Q = room_id("r"), room_id("q")


def destination(name: str, taken: int | None, **more: Any) -> Json:
    fine = {"retry_last_ts": 0, "retry_interval": 0, "failure_ts": None}
    return {"destination": name, "last_successful_stream_ordering": taken, **fine, **more}


def records(server: Server, *destinations: Json) -> None:
    """Declare what every poll asks for: the rooms that somebody is in, and the destinations."""
    server.rooms({**room("r", 1), "joined_members": 1}, {**room("q", 1), "joined_members": 1})
    answer = {"destinations": list(destinations), "total": len(destinations)}
    server.get(DESTINATIONS, answer, query={"limit": "1000"})


def rooms(server: Server, name: str, **orderings: int) -> None:
    rows = [{"room_id": room_id(r), "stream_ordering": ordering} for r, ordering in orderings.items()]
    query = {"limit": "10000", "from": "0"}
    server.get(f"{DESTINATIONS}/{name}/rooms", {"rooms": rows, "total": len(rows)}, query=query)


@pytest.mark.parametrize("check", [True, False])
def test_the_ledger(server: Server, run: Run, check: bool) -> None:
    failing = {"retry_last_ts": 2_000_000, "retry_interval": 600_000, "failure_ts": 1_000_000}
    server.whoami()
    records(server, destination("a.net", 9), destination("b.net", 9), destination("c.net", 8, **failing))
    rooms(server, "a.net", r=9)
    rooms(server, "b.net", r=10, q=3)
    rooms(server, "c.net", r=10, q=9)
    result = run("synapse_federation_info", {"concurrency": 1, "ignore": ["d.net"]}, check=check)
    assert result["changed"] is False
    assert result["summary"] == {
        "delivered": 1,
        "pending": 1,
        "unreachable": 1,
        "unknown": 0,
        "total": 3,
        "ignored": 0,
    }
    well = {"reason": None, "failing_since": None, "next_retry": None}
    assert result["destinations"] == [
        {"destination": "b.net", "state": "pending", "rooms": [R], "rooms_total": 1, **well},
        {
            "destination": "c.net",
            "state": "unreachable",
            "reason": None,
            "rooms": [Q, R],
            "rooms_total": 2,
            "failing_since": 1000,
            "next_retry": 2600,
        },
    ]
    assert result["rooms_behind"] == [
        {"room_id": Q, "destinations": ["c.net"], "destinations_total": 1},
        {"room_id": R, "destinations": ["b.net", "c.net"], "destinations_total": 2},
    ]
    assert (result["destinations_total"], result["rooms_behind_total"]) == (2, 2)
    assert (result["position"], result["looked_at"]) == (10, 3)


def test_the_next_poll(server: Server, run: Run) -> None:
    server.whoami()
    records(server, destination("a.net", 9), destination("b.net", 9))
    rooms(server, "a.net", r=9)
    rooms(server, "b.net", r=10)
    options: Json = {"concurrency": 1, "since": 3, "rooms": [R, Q]}
    known = run("synapse_federation_info", options)["known"]
    server.whoami()
    records(server, destination("a.net", 9), destination("b.net", 10))
    rooms(server, "b.net", r=10)
    result = run("synapse_federation_info", {**options, "known": known})
    assert (result["summary"]["delivered"], result["looked_at"]) == (2, 1)
    assert result["destinations"] == result["rooms_behind"] == []
    server.whoami()
    records(server, destination("a.net", 9), destination("b.net", 10))
    rooms(server, "a.net", r=9)
    rooms(server, "b.net", r=10)
    everything = run("synapse_federation_info", {**options, "known": known, "everything": True})
    assert everything["looked_at"] == 2


def test_named_destinations(server: Server, run: Run) -> None:
    server.whoami()
    records(server, destination("a.net", 9), destination("b.net", 9))
    rooms(server, "b.net", r=9)
    options = {"destinations": ["b.net", "z.net"], "uninterrupted": True, "look_for_others": False}
    result = run("synapse_federation_info", options)
    assert [(d["destination"], d["reason"]) for d in result["destinations"]] == [("z.net", "never_sent_to")]
    assert result["summary"]["ignored"] == 1


def test_more_than_can_be_shown(server: Server, run: Run) -> None:
    server.whoami()
    records(server, *(destination(f"s{n:04}.net", 1) for n in range(1001)))
    many = {f"r{n:04}": 2 for n in range(501)}
    for n in range(1001):
        rooms(server, f"s{n:04}.net", **(many if n == 0 else {"r0000": 2}))
    result = run("synapse_federation_info", {"concurrency": 1})
    assert (len(result["destinations"]), result["destinations_total"]) == (1000, 1001)
    assert (len(result["rooms_behind"]), result["rooms_behind_total"]) == (500, 501)
    assert (len(result["destinations"][0]["rooms"]), result["destinations"][0]["rooms_total"]) == (5, 501)
    first = result["rooms_behind"][0]
    assert (len(first["destinations"]), first["destinations_total"]) == (5, 1001)


def test_nonsense_for_what_is_known(server: Server, run: Run) -> None:
    server.whoami()
    result = run("synapse_federation_info", {"known": {"told": "everybody"}})
    assert result["failed"] and "not what that poll returned" in result["msg"]


def test_an_unreadable_ledger_is_no_ledger(server: Server, run: Run) -> None:
    server.whoami()
    records(server, destination("a.net", 9))
    query = {"limit": "10000", "from": "0"}
    error = matrix_error("M_UNKNOWN", "Internal server error")
    server.get(f"{DESTINATIONS}/a.net/rooms", error, status=500, query=query)
    result = run("synapse_federation_info")
    assert result["failed"] and result["status"] == 500


@pytest.mark.parametrize("check", [True, False])
def test_on_another_server_nothing_is_read(server: Server, run: Run, check: bool) -> None:
    server.whoami("@op:example.com")
    result = run("synapse_federation_info", check=check)
    assert result["failed"] and "is example.com, not 'example.org'" in result["msg"]
