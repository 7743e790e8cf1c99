# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import tracemalloc
from typing import Any, Iterable, Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation import room_members
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import AnswerError
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.room_members import (
    MAX_EVENT,
    RoomMembers,
    read_members,
)

OURS = "gone.example"


def member(user_id: Any, membership: Any) -> Any:
    return {"type": "m.room.member", "state_key": user_id, "content": {"membership": membership}}


def in_pieces(data: bytes, size: int) -> Iterable[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


STATE = {
    "auth_chain": [{"pdus": [member("@not:gone.example", "join")]}, "pdus", 12.5],
    "number": 123456789,
    "pdus": [
        {"type": "m.room.name", "state_key": "", "content": {"name": 'pdus [ ] { } \\ " ü 🐘'}},
        member("@a:gone.example", "join"),
        member("@b:gone.example", "leave"),
        member("@c:gone.example", "invite"),
        member("@d:gone.example", "knock"),
        member("@e:gone.example", "ban"),
        member("@f:other.example", "join"),
        member("@f2:other.example", "join"),
        member("@f3:invited.example", "invite"),
        member("@f4:no name", "join"),
        member("@g:gone.example:1", "join"),
        member(["@h:gone.example"], "join"),
        member("@i:gone.example", {"a": 1}),
        {"type": "m.room.member", "state_key": "@j:gone.example", "content": None},
        None,
        [],
        1.5,
    ],
    "last": None,
}
MEMBERS = RoomMembers(
    {"@a:gone.example": "join", "@c:gone.example": "invite", "@d:gone.example": "knock"},
    ("other.example", "gone.example:1"),
)


@pytest.mark.parametrize("size", [1, 2, 7, 1000, 10**6])
@pytest.mark.parametrize("indent", [None, 2])
def test_members(size: int, indent: int | None) -> None:
    data = json.dumps(STATE, indent=indent, ensure_ascii=False).encode()
    assert read_members(in_pieces(data, size), OURS) == MEMBERS


@pytest.mark.parametrize("text", ["{}", ' { "pdus" : [ ] } ', '{"auth_chain": []}'])
def test_nobody(text: str) -> None:
    assert read_members([text.encode()], OURS) == ({}, ())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"<html>",
        b'{"pdus": [',
        b'{"pdus": [{}',
        b'{"pdus": [{}}',
        b'{"pdus": [] "a": 1}',
        b'{"pdus": [], ',
        b'{"pdus": [{"a": "\xff"}]}',
        b'{"pdus": [' + b"[" * 50_000,
        b'{"pdus": ["' + b"x" * 2 * MAX_EVENT,
        b"{" + b" " * 1000,
    ],
    ids=range(13),
)
def test_what_is_no_state(data: bytes) -> None:
    with pytest.raises(AnswerError):
        read_members(in_pieces(data, 1000), OURS)


def test_an_endless_event_is_not_kept() -> None:
    def endless() -> Iterator[bytes]:
        yield b'{"pdus": ["'
        while True:
            yield b"x" * 10_000

    with pytest.raises(AnswerError, match="too large"):
        read_members(endless(), OURS)


def test_memory_does_not_grow_with_the_room() -> None:
    event = json.dumps({**member("@somebody:other.example", "join"), "padding": "x" * 500}).encode()

    def room(members: int) -> Iterator[bytes]:
        yield b'{"pdus": ['
        for _number in range(members):
            yield event + b", "
        yield json.dumps(member("@a:gone.example", "join")).encode() + b"]}"

    tracemalloc.start()
    try:
        assert read_members(room(20_000), OURS).listed == {"@a:gone.example": "join"}
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1024 * 1024


def test_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room_members, "MAX_LISTED", 2)
    monkeypatch.setattr(room_members, "MAX_SERVERS", 3)
    events = [member(f"@u{number}:{server}", "join") for number in range(5) for server in (OURS, f"s{number}.example")]
    listed, servers = read_members([json.dumps({"pdus": events}).encode()], OURS)
    assert list(listed) == ["@u0:gone.example", "@u1:gone.example"]
    assert servers == ("s0.example", "s1.example", "s2.example")
