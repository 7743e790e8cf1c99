# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a static site answers for a server: its rooms, its keys, and who ran it. No files here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import InvalidNameError
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.names import (
    MAX_IDENTIFIER,
    ServerName,
    is_server_name,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._text import printable

BOUNDARY = re.compile(r"[A-Za-z0-9]{16,70}")
"""What separates the parts of media as multipart/mixed. RFC 2046 allows 70 characters."""
FEDERATION_PORT = 8448
EMAIL = re.compile(r"[^\s@<>\"]+@[^\s@<>\"]+")
WEB = re.compile(r"https?://[^\s<>\"]+")


@dataclass(frozen=True)
class Room:
    """A room whose aliases stay resolvable.

    I(servers) are those that remain in the room, the best one first; more than C(site_rooms.MAX_SERVERS) are cut off.
    """

    room_id: str
    servers: tuple[str, ...]
    aliases: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True)
class Site:
    """The contents of a static site but for its media.

    :raises ValueError: if I(server_name), I(boundary) or I(contact) is invalid. Rooms are not checked: what of them
        cannot be answered is left out.
    """

    server_name: str
    key_answer: dict[str, Any]
    rooms: tuple[Room, ...]
    closed: int
    """Time of the decommissioning in seconds since 1970."""
    boundary: str
    operator: str = ""
    contact: str = ""
    """A Matrix ID, an e-mail address, or a URL. Empty: none."""
    text: str = ""
    list_rooms: bool = False

    def __post_init__(self) -> None:
        Address.of(self.server_name)
        check_boundary(self.boundary)
        support(self.server_name, self.contact)


@dataclass(frozen=True)
class Address:
    """Where a server is asked.

    I(host) is as in a URL: without a dot at the end, and an IPv6 address has brackets. I(port) is that of the name.
    """

    host: str
    port: int | None
    is_literal: bool

    @classmethod
    def of(cls, server_name: str) -> Address:
        """Parse a server name.

        :raises ValueError: if it is not valid.
        """
        try:
            name = ServerName.parse(server_name)
        except InvalidNameError as error:
            raise ValueError(f"{error}. Correct server_name") from error
        host = f"[{name.host}]" if ":" in name.host else name.host.rstrip(".")
        return cls(host, name.port, name.is_literal)

    @property
    def has_well_known(self) -> bool:
        """Whether remote servers request C(/.well-known/matrix/server)."""
        return self.port is None and not self.is_literal

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports to answer at: that of remote servers, and 443 for people."""
        return (443,) if self.has_well_known else tuple(dict.fromkeys((self.port or FEDERATION_PORT, 443)))


def check_boundary(boundary: str) -> str:
    """Return a boundary.

    :raises ValueError: if it is not valid.
    """
    if not BOUNDARY.fullmatch(boundary):
        raise ValueError("the boundary must have 16 to 70 letters and digits")
    return boundary


def support(server_name: str, contact: str) -> dict[str, Any]:
    """Return the answer to C(/.well-known/matrix/support).

    :raises ValueError: if I(contact) is no Matrix ID, e-mail address or URL.
    """
    kind = contact_kind(contact) if contact else "support_page"
    if kind == "support_page":
        return {kind: contact or f"https://{Address.of(server_name).host}/"}
    return {"contacts": [{"role": "m.role.admin", kind: contact}]}


def contact_kind(contact: str) -> str:
    """Return C(matrix_id), C(email_address) or C(support_page), which is a URL.

    :raises ValueError: if I(contact) is none of them.
    """
    if printable(contact) == contact:
        if contact.startswith("@"):
            kind = "matrix_id" if _is_user_id(contact) else ""
        elif WEB.fullmatch(contact):
            kind = "support_page" if _has_host(contact) else ""
        else:
            kind = "email_address" if EMAIL.fullmatch(contact) else ""
        if kind:
            return kind
    raise ValueError(
        f"'{printable(contact)}' is not a Matrix ID (@name:example.org), e-mail address or URL (https://…)."
        " Correct decommission_site_contact"
    )


def _is_user_id(text: str) -> bool:
    localpart, _colon, server_name = text.partition(":")
    is_short = len(text.encode()) <= MAX_IDENTIFIER
    return is_server_name(server_name) and len(localpart) > 1 and not re.search(r"\s", localpart) and is_short


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False
