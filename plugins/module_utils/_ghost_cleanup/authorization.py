# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Authorization header of a request of a remote server. It is hostile input.

Specified in U(https://spec.matrix.org/latest/server-server-api/#request-authentication).
"""

from __future__ import annotations

import re
from typing import NamedTuple, Sequence

from .._federation.errors import FederationError, InvalidNameError
from .._federation.names import ServerName
from .._federation.signing import KEY_ID

SCHEME = re.compile(r"X-Matrix[ \t]+", re.IGNORECASE)
PARAMETER = re.compile(
    r"[ \t]*([A-Za-z0-9_-]{1,32})[ \t]*=[ \t]*"
    # A colon in a value without quotes is not allowed by RFC 9110, but older servers send it.
    r"(?:\"((?:[^\"\\]|\\.){0,1024})\"|([A-Za-z0-9!#$%&'*+.^_`|~:/=\[\]-]{1,1024}))[ \t]*(?:,|$)"
)
QUOTED_PAIR = re.compile(r"\\(.)")
SIGNATURE = re.compile("[A-Za-z0-9+/]{86}(?:==)?")
"""64 bytes in base64."""
HEADER = re.compile("[\\t -~]{0,2048}")
"""Valid headers have up to 700 characters."""
MAX_SIGNATURES = 5
"""Maximum number of headers. Each has one signature."""


class AuthorizationError(FederationError):
    """The request is not that of the remote server that it claims to be of."""


class Claim(NamedTuple):
    """The server that a request claims to be of. Nothing is verified.

    :ivar signatures: signatures in unpadded base64 by key ID.
    """

    origin: str
    signatures: dict[str, str]


def parse_authorization(headers: Sequence[str], destination: str) -> Claim:
    """Parse all Authorization headers of a request, which have one signature each.

    :param destination: the name of the local server.
    :raises AuthorizationError: if one is invalid, or for another server, or if they name several origins.
    """
    if not 0 < len(headers) <= MAX_SIGNATURES:
        raise AuthorizationError(
            "no Authorization header" if not headers else f"more than {MAX_SIGNATURES} Authorization headers"
        )
    parsed = [_parse(header, destination) for header in headers]
    origins = {origin for origin, _key_id, _signature in parsed}
    if len(origins) > 1:
        raise AuthorizationError("the Authorization headers name several origins")
    origin = origins.pop()
    if origin == destination:
        raise AuthorizationError(f"{origin} sends no requests to itself")
    return Claim(origin, {key_id: signature for _origin, key_id, signature in parsed})


def _parse(header: str, destination: str) -> tuple[str, str, str]:
    """Return origin, key ID and signature."""
    parameters = _parameters(header)
    missing = [name for name in ("origin", "key", "sig") if name not in parameters]
    if missing:
        raise AuthorizationError(f"the Authorization header has no {missing[0]}")
    if parameters.get("destination", destination) != destination:
        raise AuthorizationError(f"this server is {destination}, and not the destination of the Authorization header")
    if KEY_ID.fullmatch(parameters["key"]) is None or SIGNATURE.fullmatch(parameters["sig"]) is None:
        raise AuthorizationError("the Authorization header has an invalid key or sig")
    try:
        origin = ServerName.parse(parameters["origin"]).text
    except InvalidNameError:
        raise AuthorizationError("the origin of the Authorization header is not a server name") from None
    return origin, parameters["key"], parameters["sig"].rstrip("=")


def _parameters(header: str) -> dict[str, str]:
    """Return the parameters by name in lower case. Unknown ones are allowed, repeated ones are not."""
    scheme = SCHEME.match(header) if HEADER.fullmatch(header) else None
    if scheme is None:
        raise AuthorizationError("the Authorization header does not begin with X-Matrix")
    found: dict[str, str] = {}
    position = scheme.end()
    while position < len(header):
        parameter = PARAMETER.match(header, position)
        if parameter is None or parameter[1].lower() in found:
            raise AuthorizationError("the Authorization header is malformed")
        name, quoted, plain = parameter.groups()
        found[name.lower()] = plain if quoted is None else QUOTED_PAIR.sub(r"\1", quoted)
        position = parameter.end()
    return found
