# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The URL of a homeserver, checked before a request is sent to it."""

from __future__ import annotations

from typing import Sequence
from urllib.parse import urlsplit

from .errors import BASE_URL, FatalError

EXAMPLE = "set it to scheme, host and port of the listener of Synapse, for example http://localhost:8008"
LOGIN_OPTION = "access_token (in the role: decommission_access_token)"
API_PATHS = ("_matrix", "_synapse")


def check_base_url(
    url: str,
    *,
    option: str = BASE_URL,
    example: str = EXAMPLE,
    token: str = LOGIN_OPTION,
    api_paths: Sequence[str] = API_PATHS,
) -> str:
    """Return the host of the URL.

    :param option: the name of the option, for messages.
    :param example: what to do, with an example.
    :param token: the names of the options to use instead of a password.
    :param api_paths: segments of a path that the collection adds.
    :raises FatalError: if requests to the API could not be sent to it.
    """

    def error(problem: str) -> FatalError:
        return FatalError(f"{option} is '{url}', but {problem}: {example}")

    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 -- raises ValueError if it is none
    except ValueError as invalid:
        raise error(str(invalid)) from invalid
    if "@" in parts.netloc:
        # Not quoted, since it may contain a password.
        raise FatalError(f"{option} contains a user name or a password: remove them, and set {token}")
    if parts.scheme not in ("http", "https"):
        raise error("it does not begin with http:// or https://")
    if not parts.hostname:
        raise error("it has no host name")
    if parts.query or parts.fragment:
        raise error("it has a query or a fragment")
    if not set(api_paths).isdisjoint(parts.path.split("/")):
        raise error("it contains the path of an API, which the collection adds")
    return parts.hostname
