# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What answers under a server name, found as remote servers find it. Two requests, neither of them signed.

API: U(https://spec.matrix.org/latest/server-server-api/#get_matrixfederationv1version) and
U(https://spec.matrix.org/latest/server-server-api/#get_matrixkeyv2server).
"""

from __future__ import annotations

import json
import ssl
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from .._http import causes
from .._text import printable
from .addresses import AddressFilter
from .client import FEDERATION, GATEWAY_ERRORS, KEY
from .connect import Settings
from .discovery import Discovery, Endpoint, Resolver, SystemResolver
from .errors import (
    AddressNotAllowedError,
    AnswerError,
    FederationError,
    InvalidNameError,
    UnreachableError,
)
from .names import ServerName
from .published_keys import parse_key_answer
from .signing import KEY_ID
from .static_answers import STATIC_SITE
from .transport import Transport

MAX_ANSWER = 512 * 1024
"""Maximum size of an answer in bytes."""
MAX_VERSION = 60
"""Maximum number of characters of the name and version of a homeserver, before they are escaped."""
PROBLEMS = ("dns", "address", "connection", "tls", "answer", "homeserver", "keys")


@dataclass(frozen=True)
class NameAnswer:
    """What answers under a server name.

    :ivar homeserver: name and version of the homeserver, printable. Empty if none answers.
    :ivar problem: one of C(PROBLEMS), or an empty text.
    :ivar reason: the problem in words, printable and bounded.
    :ivar addresses: IP addresses (with a proxy: host names) and ports that requests are sent to.
    :ivar key_ids: IDs of the keys that are published as valid.
    """

    homeserver: str = ""
    problem: str = ""
    reason: str = ""
    addresses: tuple[tuple[str, int], ...] = ()
    key_ids: tuple[str, ...] = ()


def check_name(
    server_name: str, key_id: str | None, settings: Settings, *, resolver: Resolver | None = None
) -> NameAnswer:
    """Return what answers under a server name.

    :param key_id: ID of the key that must be published as valid, if any.
    :raises InvalidNameError: if a name is invalid.
    :raises FederationError: if requirements are missing.
    :raises ValueError: if a setting is invalid.
    """
    ServerName.parse(server_name)
    if key_id is not None and KEY_ID.fullmatch(key_id) is None:
        raise InvalidNameError(f"{key_id!r} is not a key ID")
    with closing(Transport(ca_path=settings.ca_path, proxy=settings.proxy)) as transport:
        discovery = Discovery(transport, resolver or SystemResolver(), AddressFilter(settings.ip_allowlist))
        try:
            endpoint = discovery.endpoint(server_name)
        except AddressNotAllowedError as error:
            return NameAnswer(problem="address", reason=str(error))
        except UnreachableError as error:
            return NameAnswer(problem="dns", reason=str(error))
        return _Name(transport, endpoint, server_name, settings.timeout).answer(key_id)


class _Name:
    """The endpoint of a server name."""

    def __init__(self, transport: Transport, endpoint: Endpoint, server_name: str, timeout: float) -> None:
        self._transport = transport
        self._endpoint = endpoint
        self._server_name = server_name
        self._timeout = timeout

    def answer(self, key_id: str | None) -> NameAnswer:
        """Request the version, and then the keys."""
        addresses = self._endpoint.addresses
        try:
            homeserver = _homeserver(self._get(f"{FEDERATION}/v1/version"))
        except UnreachableError as error:
            return NameAnswer(problem=_kind(error), reason=str(error), addresses=addresses)
        except AnswerError as error:
            return NameAnswer(problem="answer", reason=str(error), addresses=addresses)
        key_ids, problem, reason = self._keys(key_id)
        if homeserver:
            problem, reason = "homeserver", str(AnswerError(f"{homeserver} answers as {self._server_name}"))
        return NameAnswer(homeserver, problem, reason, addresses, key_ids)

    def _keys(self, key_id: str | None) -> tuple[tuple[str, ...], str, str]:
        """Return the IDs of the valid keys, with the problem and its reason."""
        try:
            published = parse_key_answer(self._get(f"{KEY}/server"), self._server_name)
        except FederationError as error:
            return (), "keys", str(error)
        key_ids = tuple(sorted(published.verify_keys))
        if published.valid_until_ts // 1000 < time.time():
            return key_ids, "keys", "the key answer has expired, or the clock of this host is wrong"
        if key_id is not None and key_id not in key_ids:
            return key_ids, "keys", str(AnswerError(f"{', '.join(key_ids[:3])} is published instead of {key_id}"))
        return key_ids, "", ""

    def _get(self, target: str) -> dict[str, Any]:
        """Return the JSON object of an answer, an empty one with another status than 200.

        :raises UnreachableError: if there is no answer.
        :raises AnswerError: if the answer is not of a server of Matrix.
        """
        answer = self._transport.request(
            self._endpoint, "GET", target, headers={}, timeout=self._timeout, max_bytes=MAX_ANSWER
        )
        if answer.status in GATEWAY_ERRORS:
            raise AnswerError(f"a reverse proxy answered with HTTP {answer.status}")
        try:
            body = json.loads(answer.content)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise AnswerError(f"answered with HTTP {answer.status} and no JSON object")
        return body if answer.status == 200 else {}


def _homeserver(version: dict[str, Any]) -> str:
    server = version.get("server")
    if not isinstance(server, dict) or server.get("name") == STATIC_SITE:
        return ""
    return printable(f"{server.get('name')} {server.get('version')}"[:MAX_VERSION])


def _kind(error: UnreachableError) -> str:
    cause = error.__cause__
    is_tls = cause is not None and any(isinstance(inner, ssl.SSLError) for inner in causes(cause))
    return "tls" if is_tls else "connection"
