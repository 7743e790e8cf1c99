# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The homeserver itself."""

from __future__ import annotations

import datetime
from typing import Iterator

from ._client import ADMIN, CLIENT, Answer, Client, JsonDict, SynapseError
from ._known_issues import known_issues
from ._users import login_is_delegated

UNSEEN = {
    "guest": "Synapse says whether guests may come only by making one (allow_guest_access)",
    "application_service": "Synapse does not say which application services it has (app_service_config_files)",
}
"""The ways in that no read tells of, and why."""

CLOCKS_DIFFER = 300
"""By how many seconds two clocks may differ."""


def server_version(client: Client) -> str:
    """The version of Synapse, as it names it.

    API: C(GET /_synapse/admin/v1/server_version).
    """
    return client.get(f"{ADMIN}/v1/server_version").take("server_version", str)


def server_info(client: Client) -> JsonDict:
    """Which server this is, and who is asking.

    :raises SynapseError: 403 if the access token is not an admin's.
    """
    version = server_version(client)
    # The version is for everybody to read. This is not, and costs nothing.
    client.get(f"{ADMIN}/v2/users", params={"limit": 1, "guests": "false"})
    delegated = login_is_delegated(client)
    registration = not delegated and _registration(client)
    return {
        "server_name": client.server_name,
        "version": version,
        "operator": client.user_id,
        "delegated_auth": delegated,
        "registration": registration,
        "ways_in": list(_delegated_ways_in() if delegated else _ways_in(client, registration)),
        "known_issues": [
            {"summary": issue.summary, "mended_in": issue.mended[-1], "reference": issue.reference}
            for issue in known_issues(version)
        ],
    }


def _registration(client: Client) -> bool:
    """Whether registration is open: asked in a way that starts none."""
    try:
        client.get(f"{CLIENT}/v3/register/available", params={"username": "matrixops.synapse"})
    except SynapseError as error:
        if error.status not in (400, 403, 404):
            raise
        return error.status == 400
    return True


def _way_in(kind: str, is_open: bool | None, detail: str) -> JsonDict:
    return {"kind": kind, "open": is_open, "detail": detail}


def _delegated_ways_in() -> Iterator[JsonDict]:
    yield _way_in("registration", False, "Synapse itself registers nobody (enable_registration)")
    yield _way_in(
        "authentication_service", None, "the Matrix Authentication Service makes accounts, by settings of its own"
    )
    yield _way_in("application_service", None, UNSEEN["application_service"])


def _ways_in(client: Client, registration: bool) -> Iterator[JsonDict]:
    """API: C(GET /_matrix/client/v3/login)."""
    closed = "registration is closed (enable_registration)"
    yield _way_in(
        "registration", registration, "anybody can register (enable_registration)" if registration else closed
    )
    flows = {flow.get("type"): flow for flow in client.get(f"{CLIENT}/v3/login").objects("flows")}
    if "m.login.sso" in flows or "m.login.cas" in flows:
        names = _providers(flows.get("m.login.sso"))
        yield _way_in(
            "sso",
            True,
            f"single sign-on{' by ' if names else ''}{', '.join(names)}: who comes for the first time gets an account,"
            " unless the provider has enable_registration: false, which can't be seen",
        )
    else:
        yield _way_in("sso", False, "there is no single sign-on")
    jwt = "org.matrix.login.jwt" in flows
    yield _way_in("jwt", jwt, "who has a JSON Web Token gets an account (jwt_config)" if jwt else "there is none")
    for kind, reason in UNSEEN.items():
        yield _way_in(kind, None, reason)


def _providers(flow: Answer | None) -> list[str]:
    if flow is None or "identity_providers" not in flow:
        return []
    return [str(provider.get("name") or provider.get("id")) for provider in flow.objects("identity_providers")]


def check_clock(client: Client, clock: int) -> None:
    """See that the homeserver's clock shows about the same as another, in seconds since 1970.

    :raises SynapseError: if it does not. What is recorded by a wrong clock is wrong for ever.
    """
    here = int(client.time().timestamp())
    if abs(here - clock) > CLOCKS_DIFFER:
        raise SynapseError(
            f"Nothing was changed: it is {date(here)} by the clock of {client.server_name}, and {date(clock)} by the"
            " controller's. Set the one that is wrong"
        )


def date(timestamp: int) -> str:
    """A time in seconds since 1970, for a person."""
    return f"{datetime.datetime.fromtimestamp(timestamp, datetime.timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
