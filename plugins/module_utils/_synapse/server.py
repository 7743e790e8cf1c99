# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The homeserver: its version, its registration paths and its clock."""

from __future__ import annotations

from typing import Iterator

from .._text import date
from .answer import Answer, JsonDict
from .client import ADMIN, CLIENT, Client
from .errors import FatalError, SynapseError
from .sessions import login_is_delegated
from .versions import known_issues

UNKNOWN_PATHS = {
    "guest": "Synapse does not report whether guests may register (allow_guest_access)",
    "application_service": "Synapse does not report its application services (app_service_config_files)",
}
"""The registration paths that cannot be read from Synapse, each with the setting to check."""

MAX_CLOCK_DIFFERENCE = 300
"""Maximum difference between two clocks, in seconds."""


def server_version(client: Client) -> str:
    """The version of Synapse, as Synapse reports it.

    API: C(GET /_synapse/admin/v1/server_version).
    """
    return client.get(f"{ADMIN}/v1/server_version").take("server_version", str)


def server_info(client: Client) -> JsonDict:
    """The facts that C(synapse_server_info) documents.

    :raises SynapseError: 403 if the access token is not an admin's.
    """
    version = server_version(client)
    # Every account may read the version. This request is cheap, and only admins may send it.
    client.get(f"{ADMIN}/v2/users", params={"limit": 1, "guests": "false"})
    delegated = login_is_delegated(client)
    registration = not delegated and _registration(client)
    return {
        "server_name": client.server_name,
        "version": version,
        "operator": client.user_id,
        "delegated_auth": delegated,
        "registration": registration,
        "registration_paths": list(_delegated_paths() if delegated else _registration_paths(client, registration)),
        "known_issues": [
            {"summary": issue.summary, "fixed_in": issue.fixed[-1], "reference": issue.reference}
            for issue in known_issues(version)
        ],
    }


def _registration(client: Client) -> bool:
    """Whether registration is open, by a request that does not start one.

    API: C(GET /_matrix/client/v3/register/available).
    """
    try:
        client.get(f"{CLIENT}/v3/register/available", params={"username": "matrixops.synapse"})
    except SynapseError as error:
        if error.status not in (400, 403, 404):
            raise
        return error.status == 400
    return True


def _path(kind: str, is_open: bool | None, detail: str) -> JsonDict:
    return {"kind": kind, "open": is_open, "detail": detail}


def _delegated_paths() -> Iterator[JsonDict]:
    yield _path("registration", False, "Synapse itself registers no accounts (enable_registration)")
    yield _path(
        "authentication_service", None, "the Matrix Authentication Service registers accounts by its own settings"
    )
    yield _path("application_service", None, UNKNOWN_PATHS["application_service"])


def _registration_paths(client: Client, registration: bool) -> Iterator[JsonDict]:
    """API: C(GET /_matrix/client/v3/login)."""
    yield _path(
        "registration", registration, f"registration is {'open' if registration else 'closed'} (enable_registration)"
    )
    flows = {flow.get("type"): flow for flow in client.get(f"{CLIENT}/v3/login").objects("flows")}
    yield _single_sign_on(flows)
    if "org.matrix.login.jwt" in flows:
        yield _path("jwt", True, "the first login with a JSON Web Token creates an account (jwt_config)")
    else:
        yield _path("jwt", False, "login with JSON Web Tokens is disabled (jwt_config)")
    for kind, reason in UNKNOWN_PATHS.items():
        yield _path(kind, None, reason)


def _single_sign_on(flows: dict[object, Answer]) -> JsonDict:
    if "m.login.sso" not in flows and "m.login.cas" not in flows:
        return _path("sso", False, "single sign-on is disabled")
    names = _providers(flows.get("m.login.sso"))
    return _path(
        "sso",
        True,
        f"single sign-on{' by ' if names else ''}{', '.join(names)}: the first login creates an account, unless the"
        " provider has enable_registration: false, which Synapse does not report",
    )


def _providers(flow: Answer | None) -> list[str]:
    if flow is None or "identity_providers" not in flow:
        return []
    return [str(provider.get("name") or provider.get("id")) for provider in flow.objects("identity_providers")]


def check_clock(client: Client, clock: int) -> None:
    """Compare the clock of the homeserver with another one.

    :param clock: the time of the other clock, in seconds since 1970.
    :raises FatalError: if they differ by more than C(MAX_CLOCK_DIFFERENCE). Times that are recorded by a wrong clock
        cannot be corrected later.
    """
    here = int(client.time().timestamp())
    if abs(here - clock) > MAX_CLOCK_DIFFERENCE:
        raise FatalError(
            f"No changes made: the clock of {client.server_name} shows {date(here)}, the clock of the controller"
            f" {date(clock)}. Correct the clock that is wrong, for example with chrony or systemd-timesyncd"
        )
