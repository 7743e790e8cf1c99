# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The URL of a homeserver, checked before a request is sent to it."""

from __future__ import annotations

from urllib.parse import urlsplit

from .errors import BASE_URL, FatalError

EXAMPLE = "set it to scheme, host and port of the listener of Synapse, for example http://localhost:8008"
API_PATHS = ("_matrix", "_synapse")


def check_base_url(url: str) -> str:
    """Return the host of the URL.

    :raises FatalError: if requests to the client and admin API could not be sent to it.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 -- raises ValueError if it is none
    except ValueError as error:
        raise _error(url, str(error)) from error
    if "@" in parts.netloc:
        # Not quoted, since it may contain a password.
        raise FatalError(
            f"{BASE_URL} contains a user name or a password: remove them, and set access_token (in the role:"
            " decommission_access_token)"
        )
    if parts.scheme not in ("http", "https"):
        raise _error(url, "it does not begin with http:// or https://")
    if not parts.hostname:
        raise _error(url, "it has no host name")
    if parts.query or parts.fragment:
        raise _error(url, "it has a query or a fragment")
    if not set(API_PATHS).isdisjoint(parts.path.split("/")):
        raise _error(url, "it contains the path of an API, which the collection adds")
    return parts.hostname


def _error(url: str, problem: str) -> FatalError:
    return FatalError(f"{BASE_URL} is '{url}', but {problem}: {EXAMPLE}")
