# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rooms that transactions and invites name."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.status import Heard
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.transactions import (
    MAX_EVENT_IDS,
    MAX_ROOMS,
    InvalidTransactionError,
    rooms_of_invite,
    rooms_of_transaction,
)

OURS = "gone.example"
INVITE = {
    "type": "m.room.member",
    "room_id": "!a:far.example",
    "state_key": f"@alice:{OURS}",
    "content": {"membership": "invite"},
    "prev_events": ["$1"],
}


def rooms(*pdus: Any, edus: Any = ()) -> tuple[Heard, ...]:
    return rooms_of_transaction({"pdus": list(pdus), "edus": list(edus)}, OURS)


def test_events() -> None:
    assert rooms(
        {"room_id": "!a:far.example", "prev_events": ["$1", "$2"]},
        {"room_id": "!v12"},
        {"room_id": "!a:far.example", "prev_events": ["$2", "$3"]},
        {"room_id": "!v1:far.example", "prev_events": [["$x:far.example", {"sha256": "y"}]]},
    ) == (
        Heard("!a:far.example", ("$1", "$2", "$3")),
        Heard("!v12"),
        Heard("!v1:far.example", ("$x:far.example",)),
    )


def test_edus() -> None:
    edus = [
        {"edu_type": "m.typing", "content": {"room_id": "!a", "user_id": "@x:y", "typing": True}},
        {"edu_type": "m.receipt", "content": {"!b": {}, "!c": {}, "no room": {}}},
        {"edu_type": "m.presence", "content": {"room_id": "!d", "push": []}},
        {"edu_type": "m.receipt", "content": ["!e"]},
        {"edu_type": "m.typing"},
        "!f",
    ]
    assert rooms(edus=edus) == (Heard("!a"), Heard("!b"), Heard("!c"))


def test_without_events() -> None:
    assert rooms_of_transaction({}, OURS) == ()
    assert rooms() == ()


@pytest.mark.parametrize(
    "pdu",
    [
        None,
        "!a",
        {},
        {"type": "m.room.create", "room_id": None},
        {"room_id": "a"},
        {"room_id": "!"},
        {"room_id": "!" + "a" * 255},
        {"room_id": "!a\x1b[2J"},
        {"room_id": "!a\u202eb"},
        {"room_id": "!a\ud800"},
        {"room_id": ["!a"]},
        {"room_id": {"!a": 1}},
    ],
)
def test_events_without_a_valid_room_are_skipped(pdu: Any) -> None:
    assert rooms(pdu, {"room_id": "!b"}) == (Heard("!b"),)


@pytest.mark.parametrize("events", ["$1", {"$1": 1}, None, 5, [None, {}, [], [[]], "x", "$", "$a\nb", ["x"], [{}]]])
def test_invalid_prev_events_are_skipped(events: Any) -> None:
    assert rooms({"room_id": "!a", "prev_events": events}) == (Heard("!a"),)


def test_an_invite_in_a_transaction() -> None:
    assert rooms(INVITE) == (Heard("!a:far.example", ("$1",), (f"@alice:{OURS}",)),)


@pytest.mark.parametrize(
    "changes",
    [
        {"state_key": "@alice:far.example"},
        {"state_key": f"alice:{OURS}"},
        {"state_key": [f"@alice:{OURS}"]},
        {"state_key": None},
        {"type": "m.room.message"},
        {"content": {"membership": "join"}},
        {"content": "invite"},
        {"content": None},
    ],
)
def test_events_that_invite_nobody_of_ours(changes: dict[str, Any]) -> None:
    assert rooms({**INVITE, **changes}) == (Heard("!a:far.example", ("$1",)),)
    assert rooms_of_invite({"event": {**INVITE, **changes}}, "!a:far.example", OURS) == ()


def test_invites() -> None:
    expected = (Heard("!a:far.example", ("$1",), (f"@alice:{OURS}",)),)
    assert rooms_of_invite({"event": INVITE, "room_version": "10"}, "!a:far.example", OURS) == expected
    assert rooms_of_invite(dict(INVITE), "!a:far.example", OURS) == expected
    assert rooms_of_invite({"event": INVITE}, "!other:far.example", OURS) == ()
    assert rooms_of_invite({"event": [INVITE]}, "!a:far.example", OURS) == ()
    assert rooms_of_invite({}, "", OURS) == ()


@pytest.mark.parametrize(
    "content",
    [{"pdus": [{}] * 51}, {"edus": [{}] * 101}, {"pdus": {}}, {"pdus": None}, {"edus": "x"}, {"pdus": [], "edus": 1}],
)
def test_invalid_transactions(content: dict[str, Any]) -> None:
    with pytest.raises(InvalidTransactionError, match="is not a list of at most"):
        rooms_of_transaction(content, OURS)


def test_bounds() -> None:
    assert len(rooms(*[{"room_id": f"!{number}"} for number in range(50)])) == 50
    many = {f"!{number}": {} for number in range(100_000)}
    assert len(rooms(edus=[{"edu_type": "m.receipt", "content": many}] * 100)) == MAX_ROOMS
    events = [f"${number}" for number in range(10_000)]
    assert len(rooms({"room_id": "!a", "prev_events": events})[0].event_ids) == MAX_EVENT_IDS
    pdus = [{"room_id": "!a", "prev_events": events[number * 20 :]} for number in range(50)]
    assert len(rooms(*pdus)[0].event_ids) == MAX_EVENT_IDS
    invites = [{**INVITE, "state_key": f"@{number}:{OURS}"} for number in range(50)]
    assert len(rooms(*invites)[0].pending) == 20
