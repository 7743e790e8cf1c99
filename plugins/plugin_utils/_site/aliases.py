# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Aliases as remote servers send them in a query, and the lines of web servers that find them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from typing import Iterator, Sequence

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.site_rooms import MAX_SERVERS
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.names import (
    MAX_IDENTIFIER,
    is_server_name,
    spellings,
)

from .site import Room, Site

HASH_BITS = 32
"""nginx has hashes of the size of a pointer. Equal ones of 64 bits are equal in 32 bits, too."""


def kept_rooms(site: Site) -> list[Room]:
    """Return the rooms in the order of their numbers, which begin at 1, each with its aliases that can be answered.

    Left out are: aliases not of this server or not valid (also too long), an alias that an earlier room has, and
    rooms without aliases, without a valid room ID, or without another server.
    """
    kept, seen = [], set()
    for room in sorted(site.rooms, key=lambda each: each.room_id):
        aliases = [each for each in dict.fromkeys(room.aliases) if is_alias(each, site.server_name)]
        aliases = [each for each in aliases if each not in seen]
        servers = [each for each in dict.fromkeys(room.servers) if each != site.server_name and is_server_name(each)]
        if aliases and servers and is_identifier(room.room_id, "!"):
            seen.update(aliases)
            kept.append(replace(room, aliases=tuple(sorted(aliases)), servers=tuple(servers[:MAX_SERVERS])))
    return kept


def is_alias(text: str, server_name: str) -> bool:
    """Return whether a text is an alias of a server. Its localpart may have anything but a colon and NUL."""
    return is_identifier(text, "#") and text.partition(":")[2] == server_name


def is_identifier(text: str, sigil: str) -> bool:
    """Return whether a text begins with a sigil, and can be sent. It may have any characters but NUL."""
    try:
        return text.startswith(sigil) and "\0" not in text and len(text.encode()) <= MAX_IDENTIFIER
    except UnicodeEncodeError:
        return False


def _lines(rooms: Sequence[Room]) -> Iterator[tuple[str, int]]:
    for number, room in enumerate(rooms, start=1):
        for alias in room.aliases:
            for spelling in spellings(alias):
                yield spelling, number


def nginx_lines(rooms: Sequence[Room]) -> Iterator[str]:
    """Yield the lines of C(nginx-aliases.conf), which C(map) includes."""
    # nginx hashes without case. With equal hashes, lines would replace each other, or one bucket would be too large.
    lines = [(nginx_hash(spelling), spelling, number) for spelling, number in _lines(rooms)]
    count = Counter(key for key, _spelling, _number in lines)
    for key, spelling, number in lines:
        yield f'"{spelling if count[key] == 1 else _pattern(spelling)}" {number};'


def _pattern(spelling: str) -> str:
    """Return a regular expression that C(map) compares with case."""
    return "~^" + re.sub("[.+*]", r"[\g<0>]", spelling) + "$"


def nginx_hash(text: str) -> int:
    """Return C(ngx_hash_key_lc) of an ASCII text."""
    result = 0
    for byte in text.lower().encode("ascii"):
        result = (result * 31 + byte) & ((1 << HASH_BITS) - 1)
    return result


def caddy_lines(rooms: Sequence[Room]) -> Iterator[str]:
    """Yield the lines of C(Caddyfile-aliases), which C(map) imports."""
    # Caddy does not import an empty file. This is the spelling of no alias, and there is no such room.
    yield "%23 0"
    for spelling, number in _lines(rooms):
        yield f"{spelling} {number}"
