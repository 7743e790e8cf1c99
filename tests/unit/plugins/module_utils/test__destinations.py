# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
from typing import Any, Callable, Iterator
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
import responses
from ansible_collections.matrixops.synapse.plugins.module_utils import _destinations
from ansible_collections.matrixops.synapse.plugins.module_utils._client import Client, SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._destinations import (
    Destination,
    Ledger,
    in_back_off,
    list_destinations,
    read_ledger,
    reset,
    reset_all,
)
from ansible_collections.matrixops.synapse.tests.unit.helpers import (
    BASE_URL,
    OPERATOR,
    SERVER,
    Clock,
    Json,
    Server,
    matrix_error,
    room_id,
)

DESTINATIONS = "/_synapse/admin/v1/federation/destinations"
DAY = 86_400


class Records:
    """A homeserver's records of what it has sent: destinations with their rooms, and rooms with their members."""

    def __init__(self, mock: responses.RequestsMock) -> None:
        self.destinations: dict[str, Json] = {}
        self.rooms: dict[str, dict[str, int]] = {}
        self.members: dict[str, list[str]] = {}
        self.acls: dict[str, Json] = {}
        self.requests: list[str] = []
        mock.add_callback("GET", re.compile(f"{BASE_URL}/.*"), self._answer)

    def add(self, name: str, taken: int | None = None, *, down: int = 0, **rooms: int) -> None:
        """A destination, with the newest event for it in each room. I(down): how long its back-off is."""
        self.destinations[name] = {
            "destination": name,
            "retry_last_ts": 2_000_000 if down else 0,
            "retry_interval": down * 1000,
            "failure_ts": 1_000_000 if down else None,
            "last_successful_stream_ordering": taken,
        }
        self.rooms[name] = {room_id(room): ordering for room, ordering in rooms.items()}

    def fill(self, **members: str) -> None:
        """Rooms, each with its members: C(u1), C(u2) and so on of this server, others of the servers they name."""
        for name, who in members.items():
            self.members[room_id(name)] = [f"@{m}:{SERVER}" if re.match(r"u\d", m) else f"@x:{m}" for m in who.split()]

    def _answer(self, request: Any) -> tuple[int, dict[str, str], str]:
        parts = [unquote(part) for part in urlsplit(request.url).path.split("/")]
        query = dict(parse_qsl(urlsplit(request.url).query))
        self.requests.append("/".join(parts[5:]))
        return 200, {}, json.dumps(self._found(parts, query))

    def _found(self, parts: list[str], query: Json) -> Json:
        if parts[-1] == "whoami":
            return {"user_id": OPERATOR}
        if parts[-1] == "destinations":
            return {"destinations": list(self.destinations.values()), "total": len(self.destinations)}
        if parts[-3] == "destinations":
            start, limit = int(query["from"]), int(query["limit"])
            rows = [{"room_id": r, "stream_ordering": n} for r, n in sorted(self.rooms[parts[-2]].items())]
            more = {"next_token": str(start + limit)} if start + limit < len(rows) else {}
            return {"rooms": rows[start : start + limit], "total": len(rows), **more}
        if parts[-1] == "members":
            return {"members": self.members[parts[-2]], "total": len(self.members[parts[-2]])}
        if parts[-1] == "state":
            assert query["type"] == "m.room.server_acl"
            acl = self.acls.get(parts[-2])
            return {"state": [{"type": query["type"], "state_key": "", "content": acl}] if acl is not None else []}
        assert parts[-1] == "rooms"
        local = {r: [m for m in members if m.endswith(f":{SERVER}")] for r, members in self.members.items()}
        rooms = [
            {"room_id": r, "joined_members": len(self.members[r]), "joined_local_members": len(local[r])}
            for r in self.members
        ]
        return {"rooms": sorted(rooms, key=lambda room: -room["joined_local_members"]), "total_rooms": len(rooms)}


@pytest.fixture
def records() -> Iterator[Records]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield Records(mock)


Read = Callable[..., Ledger]


@pytest.fixture
def read(records: Records, lone_client: Client) -> Read:
    def read(**options: Any) -> Ledger:
        records.requests.clear()
        known = options.pop("known", None)
        # What is known goes through JSON, as it does between tasks.
        return read_ledger(lone_client, 2, known=json.loads(json.dumps(known)), **options)

    return read


def found(ledger: Ledger) -> dict[str, tuple[str, str | None, list[str]]]:
    return {e.destination: (e.state, e.reason, e.rooms) for e in ledger.open.values()}


def looked_at(records: Records) -> list[str]:
    return sorted(r.split("/")[-2] for r in records.requests if r.endswith("/rooms") and "destinations" in r)


R, Q = room_id("r"), room_id("q")

# One look


@pytest.mark.parametrize(
    ("taken", "down", "rooms", "expected"),
    [
        (9, 0, {"r": 9, "q": 3}, None),
        (9, 0, {"r": 10, "q": 3}, ("pending", None, [R])),
        (9, 0, {"r": 10, "q": 11}, ("pending", None, [Q, R])),
        (9, 60, {"r": 10, "q": 3}, ("unreachable", None, [R])),
        (9, 60, {"r": 9}, ("unreachable", "unconfirmed", [])),
        (None, 0, {"r": 1}, ("unknown", "never_taken", [R])),
        (None, 60, {"r": 1}, ("unreachable", "never_taken", [R])),
        (None, 0, {}, ("unknown", "no_rooms", [])),
        (9, 0, {}, ("unknown", "no_rooms", [])),
        (9, 60, {}, ("unreachable", "no_rooms", [])),
    ],
)
def test_a_destination_of_rooms_that_we_are_in(
    records: Records, read: Read, taken: int | None, down: int, rooms: dict[str, int], expected: Any
) -> None:
    records.fill(r="u1 x.net", q="u1 x.net")
    records.add("x.net", taken, down=down, **rooms)
    ledger = read(look_for_others=False)
    assert found(ledger) == ({} if expected is None else {"x.net": expected})
    state = "delivered" if expected is None else expected[0]
    assert {k: v for k, v in ledger.summary.items() if v} == {state: 1, "total": 1}


def test_times_are_in_seconds(records: Records, read: Read) -> None:
    records.fill(r="u1 x.net")
    records.add("x.net", 9, down=600, r=10)
    entry = read().open["x.net"]
    assert (entry.failing_since, entry.next_retry) == (1000, 2600)


def test_rooms_behind(records: Records, read: Read) -> None:
    records.fill(r="u1 x.net y.net", q="u1 x.net y.net")
    records.add("y.net", 9, r=10, q=8)
    records.add("x.net", 9, r=10, q=11)
    ledger = read()
    assert ledger.rooms_behind == {R: ["x.net", "y.net"], Q: ["x.net"]}
    assert ledger.waiting([Q, R]) == ledger.rooms_behind
    assert ledger.waiting([Q, room_id("z")]) == {Q: ["x.net"]}
    assert ledger.position == 11


@pytest.mark.parametrize(
    ("taken", "down", "rooms"), [(9, 60, {"r": 10, "q": 3}), (None, 0, {"r": 1}), (9, 60, {"r": 9}), (None, 0, {})]
)
def test_who_holds_up_every_room(
    records: Records, read: Read, taken: int | None, down: int, rooms: dict[str, int]
) -> None:
    records.fill(r="u1 x.net", q="u1 x.net")
    records.add("x.net", taken, down=down, **rooms)
    assert read().waiting([Q]) == {Q: ["x.net"]}


def test_a_server_that_was_never_sent_to(records: Records, read: Read) -> None:
    records.fill(r="u1 x.net y.net", q="u1 y.net", local="u1 u2")
    records.add("x.net", 9, r=9)
    ledger = read()
    assert found(ledger) == {"y.net": ("unknown", "never_sent_to", [Q, R])}
    assert ledger.delivered == 1
    assert not [request for request in records.requests if room_id("local") in request]
    # Later polls don't look into rooms again, but remember.
    again = read(known=ledger.known)
    assert found(again) == found(ledger) and not [r for r in records.requests if "members" in r]
    records.add("y.net", 12, r=12)
    third = read(known=again.known)
    assert found(third) == {"y.net": ("unknown", "not_queued", [Q])}
    records.add("y.net", 13, r=12, q=13)
    assert found(read(known=third.known)) == {}


def test_a_room_without_a_record(records: Records, read: Read) -> None:
    records.fill(r="u1 x.net", q="u1 x.net")
    records.add("x.net", 9, r=9)
    assert found(read()) == {"x.net": ("unknown", "not_queued", [Q])}
    records.add("x.net", 9, r=10)
    ledger = read()
    assert found(ledger) == {"x.net": ("pending", None, [Q, R])}
    records.add("x.net", 10, r=10)
    assert found(read(known=ledger.known)) == {"x.net": ("unknown", "not_queued", [Q])}
    assert found(read(look_for_others=False)) == {}


def test_who_counts(records: Records, read: Read) -> None:
    records.fill(r="u1 x.net y.net z.net")
    for name in ("x.net", "y.net"):
        records.add(name, 9, r=10)
    records.add(SERVER, 1, r=10)
    assert sorted(found(read())) == ["x.net", "y.net", "z.net"]
    assert sorted(found(read(ignore=["x.net", "z.net"]))) == ["y.net"]
    named = read(destinations=["x.net", "w.net", SERVER])
    assert found(named) == {"x.net": ("pending", None, [R]), "w.net": ("unknown", "never_sent_to", [])}
    assert (named.summary["total"], named.ignored) == (2, 2)
    assert looked_at(records) == ["x.net"]


def test_which_rooms_count(records: Records, read: Read) -> None:
    records.fill(r="u1 x.net", q="u1 x.net y.net")
    records.add("x.net", 9, r=10, q=9)
    records.add("y.net", 9, q=9)
    assert found(read(rooms=[Q])) == {}
    ledger = read(rooms=[R])
    assert found(ledger) == {"x.net": ("pending", None, [R])}
    assert (ledger.delivered, ledger.ignored) == (0, 1)
    # Who has no part in it is not looked at again, unless named: then there is nothing to say.
    read(rooms=[R], known=ledger.known)
    assert looked_at(records) == ["x.net"]
    assert found(read(rooms=[R], destinations=["y.net"])) == {"y.net": ("unknown", "no_rooms", [])}


# What must have been sent, and what need not


@pytest.mark.parametrize(("after", "stale"), [(8, False), (9, True), (10, True)])
def test_a_record_that_is_not_newer_than_what_was_sent(records: Records, read: Read, after: int, stale: bool) -> None:
    records.fill(r="u1 x.net y.net", q="u1 x.net")
    records.add("x.net", 12, r=9, q=12)
    records.add("y.net", 13, r=13)
    ledger = read(sent_after={R: after})
    assert found(ledger) == ({"x.net": ("unknown", "not_queued", [R])} if stale else {})
    assert ledger.waiting([R, Q]) == ({R: ["x.net"]} if stale else {})
    # Once Synapse has got round to it, it is behind, and then told.
    records.add("x.net", 12, r=14, q=12)
    ledger = read(sent_after={R: after}, known=ledger.known, everything=True)
    assert found(ledger) == {"x.net": ("pending", None, [R])}
    records.add("x.net", 14, r=14, q=12)
    assert found(read(sent_after={R: after}, known=ledger.known)) == {}


def test_one_that_is_behind_waits_in_rooms_with_an_old_record_too(records: Records, read: Read) -> None:
    records.fill(r="u1 x.net", q="u1 x.net")
    records.add("x.net", 9, r=8, q=10)
    ledger = read(sent_after={R: 8})
    assert found(ledger) == {"x.net": ("pending", None, [Q, R])}
    records.add("x.net", 9, down=60, r=8, q=9)
    assert found(read(sent_after={R: 8})) == {"x.net": ("unreachable", "not_queued", [R])}
    # Of a room that it is not recorded to be in, nothing can be said to be old.
    assert found(read(sent_after={room_id("z"): 99})) == {"x.net": ("unreachable", "unconfirmed", [])}


def test_a_room_that_was_left_may_have_an_old_record_too(records: Records, read: Read) -> None:
    records.fill(r="u1 x.net")
    records.add("x.net", 9, r=9)
    ledger = read(since=9, sent_after={R: 9})
    assert ledger.waiting([R]) == {R: ["x.net"]}
    records.fill(r="x.net")
    for everything in (False, True, False):
        ledger = read(since=9, sent_after={R: 9}, known=ledger.known, everything=everything)
        assert found(ledger) == {"x.net": ("unknown", "not_queued", [R])}
        assert (ledger.rooms_behind, ledger.waiting([R])) == ({R: ["x.net"]}, {})
    # Who was in it can't be asked any more.
    assert found(read(since=9, sent_after={R: 9})) == {}


def test_a_server_that_has_left_a_room_has_an_old_record_for_ever(records: Records, read: Read) -> None:
    records.fill(r="u1 y.net", q="u1 x.net")
    records.add("x.net", 12, r=5, q=12)
    records.add("y.net", 12, r=12)
    ledger = read(sent_after={R: 9, Q: 9})
    assert (found(ledger), ledger.waiting([R, Q])) == ({}, {})
    assert found(read(sent_after={R: 9, Q: 9}, known=ledger.known, everything=True)) == {}
    records.add("x.net", 12, r=5, q=13)
    short = read(sent_after={R: 9, Q: 9}, known=ledger.known, everything=True)
    assert found(short) == {"x.net": ("pending", None, [Q])}


def test_a_server_that_leaves_a_room_is_no_longer_waited_for(records: Records, read: Read) -> None:
    records.fill(r="u1 x.net y.net", q="u1 x.net")
    records.add("x.net", 12, r=9, q=12)
    records.add("y.net", 12, r=12)
    ledger = read(sent_after={R: 9})
    assert found(ledger) == {"x.net": ("unknown", "not_queued", [R])}
    records.fill(r="u1 y.net")
    # Only a look at everything sees that.
    ledger = read(sent_after={R: 9}, known=ledger.known)
    assert found(ledger) == {"x.net": ("unknown", "not_queued", [R])}
    assert found(read(sent_after={R: 9}, known=ledger.known, everything=True)) == {}


@pytest.mark.parametrize("down", [0, 60])
def test_one_waits_only_in_rooms_that_a_server_is_in(records: Records, read: Read, down: int) -> None:
    records.fill(r="u1 y.net", q="u1 x.net")
    records.add("x.net", None, r=5, q=12, down=down)
    records.add("y.net", 12, r=12)
    ledger = read()
    assert ledger.open["x.net"].shared == {Q}
    assert ledger.waiting([R, Q]) == {Q: ["x.net"]}
    # What is known must pass from poll to poll.
    for _poll in range(2):
        ledger = read(known=ledger.known)
        assert ledger.read == 1 and not [request for request in records.requests if "members" in request]
        assert ledger.waiting([R, Q]) == {Q: ["x.net"]}
    # By its records, for as long as nobody has looked who is in the rooms.
    assert read(look_for_others=False).waiting([R, Q]) == {Q: ["x.net"], R: ["x.net"]}
    records.add("z.net", None, r=5, q=12)
    assert read(known=ledger.known).waiting([R, Q]) == {Q: ["x.net", "z.net"], R: ["z.net"]}


def test_who_is_in_no_room_any_more_holds_up_none(records: Records, read: Read) -> None:
    records.fill(r="u1 y.net")
    records.add("x.net", 4, r=5)
    records.add("y.net", 12, r=12)
    ledger = read()
    assert (found(ledger), ledger.waiting([R])) == ({"x.net": ("pending", None, [R])}, {})
    assert read(known=ledger.known).waiting([R]) == {}


def test_which_rooms_are_held(records: Records, read: Read) -> None:
    records.fill(r="u1 x.net", q="x.net", local="u1 u2")
    records.add("x.net", 9, r=9, q=9)
    ledger = read()
    assert ledger.held == {R, room_id("local")}
    assert read(known=ledger.known).held == ledger.held
    assert read(look_for_others=False, rooms=[Q]).held == ledger.held


def test_silent_rooms_need_no_record(records: Records, read: Read) -> None:
    records.fill(r="u1 x.net y.net", q="u1 x.net")
    records.add("x.net", 9, q=9)
    silent = read(silent=[R])
    assert found(silent) == {} and silent.delivered == 1
    assert silent.waiting([R, Q]) == {}
    # It counts for those rooms only.
    assert found(read(silent=[Q])) == {
        "x.net": ("unknown", "not_queued", [R]),
        "y.net": ("unknown", "never_sent_to", [R]),
    }


def test_who_shares_only_silent_rooms_has_no_part(records: Records, read: Read) -> None:
    records.fill(r="u1 x.net")
    records.add("x.net", 9)
    ledger = read(silent=[R])
    assert (found(ledger), ledger.delivered, ledger.ignored) == ({}, 0, 1)
    read(silent=[R], known=ledger.known)
    assert looked_at(records) == []
    assert found(read(silent=[R], destinations=["x.net"])) == {"x.net": ("unknown", "no_rooms", [])}


@pytest.mark.parametrize("everything", [True, False])
def test_silent_rooms_that_are_left_need_a_record(records: Records, read: Read, everything: bool) -> None:
    records.fill(r="u1 x.net y.net z.net", q="u1 x.net")
    records.add("x.net", 9, q=9)
    records.add("z.net", 9)
    ledger = read(silent=[R])
    assert found(ledger) == {}
    # Once more, since what is known must pass from poll to poll, and to those that don't look into rooms.
    ledger = read(silent=[R], known=ledger.known, everything=everything)
    assert found(ledger) == {}
    records.fill(r="x.net y.net z.net")
    ledger = read(sent_after={R: 12}, known=ledger.known, everything=everything)
    assert found(ledger) == {
        "x.net": ("unknown", "not_queued", [R]),
        "y.net": ("unknown", "never_sent_to", [R]),
        "z.net": ("unknown", "not_queued", [R]),
    }
    # Nobody can tell any more who is in it, and nobody forgets.
    ledger = read(sent_after={R: 12}, known=ledger.known, everything=everything)
    assert sorted(ledger.rooms_behind) == [R] and len(ledger.rooms_behind[R]) == 3
    assert ledger.waiting([R]) == {}
    records.add("x.net", 13, r=13, q=9)
    records.add("y.net", 13, r=13)
    records.add("z.net", 13, r=13)
    assert found(read(sent_after={R: 12}, known=ledger.known, everything=everything)) == {}


def test_where_one_waits(records: Records, read: Read) -> None:
    records.fill(r="u1 x.net y.net", q="u1 x.net")
    records.add("x.net", 9, r=10, q=9, gone=9)
    ledger = read()
    assert ledger.open["x.net"].shared == {R, Q}
    assert ledger.open["y.net"].shared == {R}
    assert ledger.waiting([R, Q, room_id("gone")]) == {R: ["x.net", "y.net"]}
    assert ledger.waiting([]) == {}
    # For any room that it shares, if it is not known which it lacks.
    records.add("x.net", 9, down=60, r=10, q=9)
    assert read().waiting([R, Q]) == {Q: ["x.net"], R: ["x.net", "y.net"]}


def test_rows(records: Records, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"q{number}" for number in range(7)]
    records.fill(**dict.fromkeys(names, "u1 x.net y.net"), r="u1 z.net")
    records.add("x.net", 9, down=600, **dict.fromkeys(names, 10))
    records.add("z.net", 9, r=9)
    ledger = read()
    x, y = _destinations.as_rows(ledger)
    assert x == {
        "destination": "x.net",
        "state": "unreachable",
        "reason": None,
        "rooms": [room_id(name) for name in names[:5]],
        "rooms_total": 7,
        "failing_since": 1000,
        "next_retry": 2600,
    }
    assert (y["destination"], y["reason"], y["failing_since"]) == ("y.net", "never_sent_to", None)
    monkeypatch.setattr(_destinations, "SHOWN_DESTINATIONS", 1)
    assert _destinations.as_rows(ledger) == [x]


# Rooms that we have left


def test_rooms_that_we_have_left(records: Records, read: Read) -> None:
    records.fill(q="u1 x.net")
    records.add("x.net", 9, r=9, q=8)
    assert found(read()) == {"x.net": ("unknown", "left", [R])}
    assert found(read(since=8)) == {"x.net": ("unknown", "left", [R])}
    assert found(read(since=9)) == {}
    assert found(read(uninterrupted=True)) == {}


def test_a_failing_server_that_nothing_was_sent_to_has_missed_nothing(records: Records, read: Read) -> None:
    records.add("x.net", 9, down=60, r=9)
    assert found(read(since=9)) == {}
    assert found(read(since=8)) == {"x.net": ("unreachable", "unconfirmed", [])}


def test_who_was_told_before_we_left_is_told(records: Records, read: Read) -> None:
    records.fill(r="u1 x.net", q="u1 x.net")
    records.add("x.net", 9, r=9, q=9)
    ledger = read()
    records.fill(r="x.net")
    records.add("x.net", 9, down=60, r=12, q=9)
    ledger = read(known=ledger.known)
    assert found(ledger) == {"x.net": ("unreachable", None, [R])}
    records.add("x.net", 12, r=12, q=9)
    ledger = read(known=ledger.known)
    assert found(ledger) == {}
    # And if it fails later, it has been told all the same.
    records.add("x.net", 12, down=60, r=12, q=9)
    assert found(read(known=ledger.known)) == {}
    assert looked_at(records) == ["x.net"]


def test_several_who_leave_one_room_are_more_than_one_event(records: Records, read: Read) -> None:
    records.fill(r="u1 u2 x.net")
    records.add("x.net", 9, r=9)
    ledger = read()
    records.fill(r="x.net")
    records.add("x.net", 9, r=12)
    ledger = read(known=ledger.known)
    assert found(ledger) == {"x.net": ("pending", None, [R])}
    records.add("x.net", 12, r=12)
    for _poll in range(2):
        ledger = read(known=ledger.known)
        assert found(ledger) == {"x.net": ("unknown", "left", [R])}


@pytest.mark.parametrize("down", [0, 60])
def test_who_was_behind_when_we_left_is_not_told(records: Records, read: Read, down: int) -> None:
    records.fill(r="u1 x.net", q="u1 x.net")
    records.add("x.net", 8, r=8, q=8)
    ledger = read()
    records.add("x.net", 8, down=down, r=9, q=8)
    if not down:
        # It looks well, and took nothing, and nobody has left: nobody would have looked.
        assert found(read(known=ledger.known)) == {}
    ledger = read(known=ledger.known, everything=True)
    records.fill(r="x.net")
    records.add("x.net", 10, r=10, q=8)
    for _poll in range(2):
        ledger = read(known=ledger.known)
        assert found(ledger) == {"x.net": ("unknown", "left", [R])}


def test_who_was_behind_elsewhere_when_we_left_is_told(records: Records, read: Read) -> None:
    records.fill(r="u1 x.net", q="u1 x.net")
    records.add("x.net", 8, r=9, q=8)
    ledger = read()
    assert ledger.waiting([Q, R]) == {R: ["x.net"]}
    records.fill(q="x.net")
    records.add("x.net", 10, r=9, q=10)
    assert found(read(known=ledger.known)) == {}


def test_what_is_vouched_for_is_not_for_ever(records: Records, read: Read) -> None:
    records.add("x.net", 9, r=10)
    ledger = read(uninterrupted=True)
    assert found(ledger) == {"x.net": ("pending", None, [R])}
    records.add("x.net", 10, r=10)
    assert found(read(known=ledger.known)) == {"x.net": ("unknown", "left", [R])}
    assert found(read(known=ledger.known, uninterrupted=True)) == {}


def test_a_long_back_off_loses_what_was_in_memory(records: Records, read: Read) -> None:
    records.add("x.net", 9, down=DAY, r=10)
    ledger = read(uninterrupted=True)
    records.add("x.net", 10, r=10)
    for _poll in range(2):
        ledger = read(uninterrupted=True, known=ledger.known)
        assert found(ledger) == {"x.net": ("unknown", "left", [R])}


def test_a_purge_is_seen_by_who_has_watched(records: Records, read: Read) -> None:
    records.fill(q="u1 x.net")
    records.add("x.net", 9, down=60, r=10, q=9)
    ledger = read()
    records.add("x.net", 9, q=9)
    for _poll in range(2):
        ledger = read(known=ledger.known)
        assert found(ledger) == {"x.net": ("unknown", "purged", [])}
        assert ledger.waiting([Q, R]) == {Q: ["x.net"]}


# Server ACLs


@pytest.mark.parametrize(
    ("acl", "barred"),
    [
        (None, False),
        ({"allow": ["*"]}, False),
        ({}, True),
        ({"allow": "*"}, True),
        ({"allow": ["*"], "deny": [SERVER]}, True),
        ({"allow": ["*"], "deny": ["EXAMPLE.*"]}, True),
        ({"allow": ["*"], "deny": ["exampl?.org"]}, True),
        ({"allow": ["*"], "deny": ["xample.org", "exampleXorg", "*.example.org", 7]}, False),
        ({"allow": ["*.net"]}, True),
        ({"allow": ["*"], "allow_ip_literals": False}, False),
    ],
)
def test_a_room_that_bars_us(records: Records, read: Read, acl: Json | None, barred: bool) -> None:
    records.fill(r="u1 x.net")
    records.add("x.net", 9, r=9)
    if acl is not None:
        records.acls[R] = acl
    ledger = read()
    assert found(ledger) == ({"x.net": ("unknown", "barred", [R])} if barred else {})
    # Before the accounts began to leave, it does not matter. Once we have left, it can't be asked any more.
    assert found(read(since=9)) == {}
    if barred:
        records.fill(r="x.net")
        assert found(read(known=ledger.known)) == {"x.net": ("unknown", "barred", [R])}


@pytest.mark.parametrize(
    ("name", "allowed"), [("10.0.0.1:8448", False), ("[::1]", False), ("[::1]:8448", False), ("a.b:8448", True)]
)
def test_servers_without_a_name(name: str, allowed: bool) -> None:
    assert _destinations._allowed({"allow": ["*"], "allow_ip_literals": False}, name) is allowed


# Poll after poll


def test_only_what_may_have_changed_is_looked_at(records: Records, read: Read) -> None:
    records.fill(r="u1 a.net b.net c.net d.net e.net")
    for name in ("a.net", "b.net", "c.net", "d.net"):
        records.add(name, 9, r=9)
    records.add("e.net", 9, r=10)
    ledger = read()
    assert looked_at(records) == ["a.net", "b.net", "c.net", "d.net", "e.net"]
    ledger = read(known=ledger.known)
    assert looked_at(records) == ["e.net"] and ledger.read == 1
    records.add("b.net", 11, r=11)
    records.add("c.net", 9, down=60, r=9)
    records.add("f.net", 12, r=12)
    ledger = read(known=ledger.known)
    assert looked_at(records) == ["b.net", "c.net", "e.net", "f.net"]
    assert (ledger.delivered, sorted(ledger.open), ledger.position) == (5, ["e.net"], 12)


def test_when_somebody_has_left_everything_is_looked_at(records: Records, read: Read) -> None:
    records.fill(r="u1 x.net", local="u1 u2")
    records.add("x.net", 9, r=9)
    ledger = read()
    records.fill(local="u1")
    ledger = read(known=ledger.known)
    assert looked_at(records) == ["x.net"] and found(ledger) == {}
    read(known=ledger.known)
    assert looked_at(records) == []


@pytest.mark.parametrize("options", [{"since": 1}, {"rooms": [R]}])
def test_what_is_known_of_something_else_is_not_used(records: Records, read: Read, options: Json) -> None:
    records.fill(r="u1 x.net")
    records.add("x.net", 9, r=9)
    read(known=read().known, **options)
    assert looked_at(records) == ["x.net"]


@pytest.mark.parametrize("most", ["MOST_DESTINATIONS", "MOST_ROOMS"])
def test_too_much_is_not_remembered(records: Records, read: Read, monkeypatch: pytest.MonkeyPatch, most: str) -> None:
    records.fill(r="u1 x.net y.net z.net")
    for name in ("x.net", "y.net"):
        records.add(name, 9, r=10)
    records.add("z.net", 9, r=9)
    monkeypatch.setattr(_destinations, most, 1)
    ledger = read()
    assert ledger.known["open"] is None
    again = read(known=ledger.known)
    assert looked_at(records) == ["x.net", "y.net", "z.net"] and found(again) == found(ledger)
    # Nor is it taken for granted then that they had been told of a room.
    records.fill(r="x.net")
    for name in ("x.net", "y.net"):
        records.add(name, 10, r=10)
    left = ("unknown", "left", [R])
    assert found(read(known=again.known)) == {"x.net": left, "y.net": left, "z.net": left}


@pytest.mark.parametrize(
    "change",
    [{"told": 7}, {"told": "no base64"}, {"open": [1]}, {"missing": {"x": 1}}, {"position": "x"}, {"shared": 7}],
)
def test_nonsense_for_what_is_known(records: Records, read: Read, change: Json) -> None:
    known = {**read().known, **change}
    with pytest.raises(SynapseError, match="not what that poll returned"):
        read(known=known)
    del known["told"]
    with pytest.raises(SynapseError, match="not what that poll returned"):
        read(known=known)


def test_rooms_come_in_pages(records: Records, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_destinations, "ROOMS_AT_ONCE", 2)
    records.fill(**{f"r{n}": "u1 x.net" for n in range(5)})
    records.add("x.net", 3, **{f"r{n}": n for n in range(5)})
    assert found(read()) == {"x.net": ("pending", None, [room_id("r4")])}
    assert len(looked_at(records)) == 3


def test_rooms_that_vanish_between_pages(server: Server, client: Client) -> None:
    page = {"rooms": [{"room_id": R, "stream_ordering": 1}], "total": 2}
    server.get(f"{DESTINATIONS}/x.net/rooms", page, query={"limit": "10000", "from": "0"})
    with pytest.raises(SynapseError, match="fewer rooms than there are"):
        _destinations.destination_rooms(client, "x.net")


# Back-off


def row(name: str, **more: Any) -> Json:
    return {"destination": name, "last_successful_stream_ordering": 1, "failure_ts": None, **more}


def listing(server: Server, *rows: Json) -> None:
    server.get(DESTINATIONS, {"destinations": list(rows), "total": len(rows)}, query={"limit": "1000"})


DOWN = {"retry_last_ts": 5_000, "retry_interval": 60_000, "failure_ts": 1_000}


def test_destinations_come_once(server: Server, client: Client) -> None:
    query = {"limit": "1000"}
    server.get(DESTINATIONS, {"destinations": [row("a"), row("b")], "next_token": "2"}, query=query)
    server.get(DESTINATIONS, {"destinations": [row("b"), row("c", **DOWN)]}, query={**query, "from": "2"})
    a, b, c = list_destinations(client)
    assert [a.name, b.name] == ["a", "b"] and not a.failing
    assert c == Destination("c", 1, 1, 65, 60) and c.failing


def test_who_is_in_back_off(server: Server, client: Client) -> None:
    rows = [row("c", **DOWN), row("b"), row("a", **DOWN), row("d", failure_ts=1_000, retry_last_ts=0)]
    listing(server, *rows)
    assert [d.name for d in in_back_off(client)] == ["a", "c"]
    listing(server, *rows)
    assert [d.name for d in in_back_off(client, ["b", "c"])] == ["c"]


def test_strangers_are_refused(server: Server, client: Client) -> None:
    listing(server, row("a", **DOWN))
    names = [f"s{n:02}" for n in range(12)]
    with pytest.raises(SynapseError, match=r"Nothing was changed: no destination .*: s00, s01.*s09, and 2 more$"):
        in_back_off(client, ["a", *names])


def test_reset(server: Server, client: Client) -> None:
    path = f"{DESTINATIONS}/x.net%3A8448"
    needless = matrix_error("M_UNKNOWN", "The retry timing does not need to be reset for this destination.")
    server.post(f"{path}/reset_connection", {})
    assert reset(client, "x.net:8448") is True
    server.post(f"{path}/reset_connection", {}, needless, status=400)
    server.get(path, {"retry_last_ts": 0})
    assert reset(client, "x.net:8448") is False
    server.post(f"{path}/reset_connection", {}, needless, status=400)
    server.get(path, {"retry_last_ts": 5})
    with pytest.raises(SynapseError, match="does not need to be reset"):
        reset(client, "x.net:8448")


def test_resets_are_paced(server: Server, client: Client, clock: Clock) -> None:
    rows = [Destination(f"s{n}", 1, 1, 65, 60) for n in range(5)]
    for each in rows:
        server.post(f"{DESTINATIONS}/{each.name}/reset_connection", {})
    began = clock.now
    assert list(reset_all(client, rows, 2)) == [(each, True) for each in rows]
    assert clock.now - began == pytest.approx(2.0)
