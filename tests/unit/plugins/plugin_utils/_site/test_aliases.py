# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from urllib.parse import parse_qs

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.names import spellings
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site.aliases import (
    caddy_lines,
    is_alias,
    kept_rooms,
    nginx_hash,
    nginx_lines,
)
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site.site import Room, Site

NAME = "old.example"


def kept(*rooms: Room) -> list[Room]:
    return kept_rooms(Site(NAME, {}, rooms, 1_700_000_000, "b" * 32))


def a_room(*aliases: str, room_id: str = "!a:far.example", servers: tuple[str, ...] = ("far.example",)) -> Room:
    return Room(room_id, servers, aliases)


@pytest.mark.parametrize(
    ("alias", "found"),
    [
        ("#lounge:old.example", ("%23lounge%3Aold.example",)),
        ("#a b:old.example", ("%23a+b%3Aold.example",)),
        ("#a+b/%:old.example:8448", ("%23a%2Bb%2F%25%3Aold.example%3A8448",)),
        ("#~:old.example", ("%23~%3Aold.example", "%23%7E%3Aold.example")),
        ("#*~*:old.example", ("%23%2A~%2A%3Aold.example", "%23*%7E*%3Aold.example")),
        ("#%2A%7E:old.example", ("%23%252A%257E%3Aold.example",)),
        ("#ä\n:old.example", ("%23%C3%A4%0A%3Aold.example",)),
    ],
)
def test_spellings(alias: str, found: tuple[str, ...]) -> None:
    assert spellings(alias) == found
    for each in found:
        assert parse_qs(f"room_alias={each}") == {"room_alias": [alias]}


def test_only_safe_characters_get_into_a_configuration() -> None:
    alias = "#" + "".join(map(chr, range(1, 0x250))).replace(":", "") + "\u202e\U0001f600:old.example"
    for spelling in spellings(alias):
        assert re.fullmatch(r"[A-Za-z0-9%+._~*-]+", spelling)
    lines = [*nginx_lines([a_room(alias)]), *caddy_lines([a_room(alias)])]
    assert not [line for line in lines if re.search(r"[^A-Za-z0-9%+._~*\"; -]", line)]


@pytest.mark.parametrize(
    ("alias", "is_one"),
    [
        ("#a:old.example", True),
        ("#:old.example", True),
        ("#\u202e\x01\n{}:old.example", True),
        ("#" + "x" * (255 - len("#:old.example")) + ":old.example", True),
        ("#" + "x" * (256 - len("#:old.example")) + ":old.example", False),
        ("#" + "ä" * 125 + ":old.example", False),
        ("#a:other.example", False),
        ("#a:b:old.example", False),
        ("#a:old.example:8448", False),
        ("#a:OLD.example", False),
        ("a:old.example", False),
        ("#a", False),
        ("#\0:old.example", False),
        ("#\ud800:old.example", False),
    ],
)
def test_aliases_of_the_server(alias: str, is_one: bool) -> None:
    assert is_alias(alias, NAME) is is_one


def test_rooms_that_cannot_be_joined_are_left_out() -> None:
    rooms = (
        a_room("#no-servers:old.example", servers=()),
        a_room("#own:old.example", servers=(NAME,)),
        a_room("#bad-servers:old.example", servers=("a b", "{env.X}")),
        a_room("#no-id:old.example", room_id="a:b"),
        a_room("#too-long:old.example", room_id="!" + "x" * 255),
        a_room(),
        a_room("#elsewhere:other.example"),
    )
    assert kept(*rooms) == []


def test_servers_of_a_room() -> None:
    servers = ("b.example", NAME, "a.example:8448", "b.example", "x y", *(f"s{number}.example" for number in range(30)))
    [room] = kept(a_room("#a:old.example", servers=servers))
    assert room.servers[:3] == ("b.example", "a.example:8448", "s0.example")
    assert len(room.servers) == 20


def test_numbers_of_rooms_do_not_depend_on_the_order() -> None:
    rooms = [a_room(f"#{name}:old.example", room_id=f"!{name}{{env.X}}:b") for name in "cab"]
    assert [each.room_id[1] for each in kept(*rooms)] == ["a", "b", "c"]
    assert kept(*rooms) == kept(*reversed(rooms))


def test_an_alias_is_answered_once() -> None:
    """Both web servers refuse two lines for it."""
    first = a_room("#b:old.example", "#a:old.example", "#a:old.example", room_id="!a")
    rooms = kept(a_room("#a:old.example", "#c:old.example", room_id="!b"), first)
    assert [each.aliases for each in rooms] == [("#a:old.example", "#b:old.example"), ("#c:old.example",)]


def test_lines_for_nginx() -> None:
    aliases = (
        "#lounge:old.example",
        "#Lounge:old.example",
        "#A.*+b~:old.example",
        "#a.*+b~:old.example",
        "#UP:old.example",
    )
    assert sorted(nginx_lines([a_room(), a_room(*aliases)])) == [
        '"%23UP%3Aold.example" 2;',
        '"~^%23A[.]%2A%2Bb~%3Aold[.]example$" 2;',
        '"~^%23A[.][*]%2Bb%7E%3Aold[.]example$" 2;',
        '"~^%23Lounge%3Aold[.]example$" 2;',
        '"~^%23a[.]%2A%2Bb~%3Aold[.]example$" 2;',
        '"~^%23a[.][*]%2Bb%7E%3Aold[.]example$" 2;',
        '"~^%23lounge%3Aold[.]example$" 2;',
    ]


def test_equal_hashes_of_nginx_share_no_bucket() -> None:
    aliases = ("#a~:old.example", "#b_:old.example", "#c:old.example")
    assert nginx_hash("a~") == nginx_hash("b_") == nginx_hash("B_")
    assert [line[:4] for line in nginx_lines([a_room(*aliases)])] == ['"~^%', '"%23', '"~^%', '"%23']


def test_lines_for_caddy() -> None:
    lines = list(caddy_lines([a_room("#a*:old.example"), a_room("#A:old.example")]))
    assert lines[1:] == ["%23a%2A%3Aold.example 1", "%23a*%3Aold.example 1", "%23A%3Aold.example 2"]
    # Caddy does not import an empty file, and has no alias of this spelling.
    assert lines[0] == next(caddy_lines([])) == "%23 0"
