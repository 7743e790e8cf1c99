# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The grammar of names in Matrix: server names, user IDs, room IDs, event IDs.

Specified in the appendices of the Matrix specification, "Identifier Grammar".
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Callable
from urllib.parse import quote_plus

from .._text import printable
from .errors import InvalidNameError

MAX_SERVER_NAME = 230
"""Maximum length of a server name in characters, as the specification recommends."""
MAX_IDENTIFIER = 255
"""Maximum length of an identifier in bytes."""
MAX_QUOTED = 80
"""Maximum number of characters of an invalid name in a message."""

SERVER_NAME = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[0-9A-Za-z.-]{1,255}))(?::(?P<port>[0-9]{1,5}))?"
)
MAX_PORT = 65535
OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
IPV4 = re.compile(rf"{OCTET}(?:\.{OCTET}){{3}}")
NUMBER = re.compile(r"[0-9]+|0[Xx][0-9A-Fa-f]*")
"""A last label with which resolvers take a name for an IPv4 address: 127.1, 0x7f.1, 2130706433."""


@dataclass(frozen=True)
class ServerName:
    """A valid server name. C(str()) is the text as it was given: case and port are part of the identity of a server.

    I(host) is without the brackets of an IPv6 address, I(port) is C(None) if the name has none, and I(is_literal) says
    that I(host) is an IP address.
    """

    text: str
    host: str
    port: int | None
    is_literal: bool

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> ServerName:
        """Parse a server name.

        Stricter than the specification where no such server can exist: a DNS name must have labels of 1 to 63
        characters, and its last label must not be a number, since resolvers take such a name for an IPv4 address.

        :raises InvalidNameError: if it is not a server name.
        """
        found = SERVER_NAME.fullmatch(text) if isinstance(text, str) and len(text) <= MAX_SERVER_NAME else None
        if found is None:
            raise _invalid(text, "server name")
        port = None if found["port"] is None else int(found["port"])
        if found["ipv6"] is not None:
            host, is_literal, is_valid = found["ipv6"], True, _is_ipv6(found["ipv6"])
        else:
            host, is_literal = found["name"], IPV4.fullmatch(found["name"]) is not None
            is_valid = is_literal or _is_dns_name(host)
        if not is_valid or (port is not None and not 0 < port <= MAX_PORT):
            raise _invalid(text, "server name")
        return cls(text, host, port, is_literal)


def is_server_name(text: str) -> bool:
    """Return whether a text is a server name, as C(ServerName.parse) has it."""
    return _passes(lambda: ServerName.parse(text))


def is_user_id(text: str) -> bool:
    """Return whether a text is a user ID, of any server."""
    return _passes(lambda: check_user_id(text, ServerName.parse(server_of(text)).text))


def is_room_id(text: str) -> bool:
    """Return whether a text is a room ID, as C(check_room_id) has it."""
    return _passes(lambda: check_room_id(text))


def _passes(check: Callable[[], object]) -> bool:
    try:
        check()
    except InvalidNameError:
        return False
    return True


def spellings(alias: str) -> tuple[str, ...]:
    """Return an alias in each form in which implementations encode it in a query. They differ in C(~) and C(*) only.

    A spelling has A-Z a-z 0-9 % + . _ ~ * - only.

    :raises ValueError: if it cannot be encoded.
    """
    encoded = quote_plus(alias)
    # Synapse and Dendrite send the first one, Conduit the second one.
    return tuple(dict.fromkeys((encoded, encoded.replace("~", "%7E").replace("%2A", "*"))))


def check_user_id(text: object, server_name: str) -> str:
    """Return a user ID of exactly that server. Historical localparts are allowed.

    :raises InvalidNameError: if it is not one.
    """
    user_id = _identifier(text, "@", "user ID")
    if server_of(user_id) != server_name:
        raise _invalid(user_id, f"user ID of {server_name}")
    return user_id


def check_room_id(text: object) -> str:
    """Return a room ID, with a domain or (room version 12) without one.

    :raises InvalidNameError: if it is not one.
    """
    return _identifier(text, "!", "room ID")


def check_event_id(text: object) -> str:
    """Return an event ID of any room version.

    :raises InvalidNameError: if it is not one.
    """
    return _identifier(text, "$", "event ID")


def server_of(user_id: str) -> str:
    """Return the server name in a user ID: what follows the first colon. It is not checked.

    :raises InvalidNameError: if there is no colon.
    """
    _localpart, colon, server_name = user_id.partition(":")
    if not colon:
        raise _invalid(user_id, "user ID")
    return server_name


def _identifier(text: object, sigil: str, kind: str) -> str:
    if not isinstance(text, str) or not text.startswith(sigil) or not 1 < len(text) <= MAX_IDENTIFIER:
        raise _invalid(text, kind)
    # Surrogates are not printable either, so that encoding can't fail.
    if printable(text) != text or len(text.encode()) > MAX_IDENTIFIER:
        raise _invalid(text, kind)
    return text


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _is_dns_name(host: str) -> bool:
    # A dot at the end makes a name absolute.
    labels = (host[:-1] if host.endswith(".") else host).split(".")
    return all(0 < len(label) < 64 for label in labels) and NUMBER.fullmatch(labels[-1]) is None


def _invalid(text: object, kind: str) -> InvalidNameError:
    quoted = text[: MAX_QUOTED + 1] if isinstance(text, str) else type(text).__name__
    if len(quoted) > MAX_QUOTED:
        quoted = quoted[:MAX_QUOTED] + "…"
    article = "an" if kind.startswith("event") else "a"
    return InvalidNameError(f"'{quoted}' is not {article} {kind}")
