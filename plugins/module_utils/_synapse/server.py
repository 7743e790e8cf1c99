# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The homeserver: its version, its registration paths and its clock."""

from __future__ import annotations

import json
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

LARGEST_BODY = 512 * 1024
"""Size in bytes of the request that shows what a reverse proxy lets through: more than any that the collection sends.

The largest are the pieces of the record, with C(MAX_PIECE) bytes; only a list of thousands of aliases is larger.
"""
MAX_CLOCK_DIFFERENCE = 300
"""Maximum difference between two clocks, in seconds."""


def server_version(client: Client) -> str:
    """The version of Synapse, as Synapse reports it.

    API: C(GET /_synapse/admin/v1/server_version).
    """
    return client.get(f"{ADMIN}/v1/server_version").take("server_version", str)


def server_info(client: Client) -> JsonDict:
    """The facts that C(synapse_server_info) documents.

    :raises SynapseError: 403 if the access token is not an admin's. Fatal if something between here and Synapse changes
        requests, or refuses them for their size, or if Synapse blocks its accounts.
    """
    version = server_version(client)
    # Every account may read the version. This request is cheap, and only admins may send it.
    client.get(f"{ADMIN}/v2/users", params={"limit": 1, "guests": "false"})
    _check_slashes(client)
    _check_size(client)
    _check_not_blocked(client)
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


def token_endpoint(client: Client) -> str | None:
    """Where the service that handles login issues tokens; C(None) if Synapse does not say.

    API: C(GET /_matrix/client/v1/auth_metadata).
    """
    try:
        endpoint = client.get(f"{CLIENT}/v1/auth_metadata").get("token_endpoint")
    except SynapseError:
        return None
    return endpoint if isinstance(endpoint, str) else None


def _check_slashes(client: Client) -> None:
    """Read an account and an alias with a slash: a proxy that decodes it changes the path.

    :raises FatalError: unless Synapse answers that they do not exist, or with what they are.

    API: C(GET /_synapse/admin/v2/users/<user_id>), C(GET /_matrix/client/v3/directory/room/<alias>).
    """
    name = f"matrixops/synapse:{client.server_name}"
    for path, identifier in ((f"{ADMIN}/v2/users/{{}}", f"@{name}"), (f"{CLIENT}/v3/directory/room/{{}}", f"#{name}")):
        try:
            client.get(path, identifier)
        except SynapseError as error:
            if error.errcode == "M_NOT_FOUND":
                continue
            if error.status in (400, 404):
                error.problem = "encoded slash"
            raise FatalError.of(error) from None


def _check_size(client: Client) -> None:
    """Send a request as large as C(LARGEST_BODY) that changes nothing: for the keys of no account, with a filler.

    :raises FatalError: 413 if a proxy refuses it.

    API: C(POST /_matrix/client/v3/keys/query).
    """
    filler = "x" * LARGEST_BODY
    try:
        client.post(f"{CLIENT}/v3/keys/query", json={"device_keys": {}, "io.github.matrixops.filler": filler})
    except SynapseError as error:
        raise FatalError.of(error) from None


def _check_not_blocked(client: Client) -> None:
    """Read nothing with C(/sync), which Synapse refuses while its accounts are blocked, unlike the admin API.

    :raises FatalError: 403 M_RESOURCE_LIMIT_EXCEEDED with hs_disabled, or if the operator exceeds max_mau_value.

    API: C(GET /_matrix/client/v3/sync).
    """
    nothing: JsonDict = {"types": []}
    sync_filter = {"room": {"rooms": []}, "presence": nothing, "account_data": nothing}
    params = {"filter": json.dumps(sync_filter), "set_presence": "offline", "timeout": "0"}
    try:
        client.get(f"{CLIENT}/v3/sync", params=params)
    except SynapseError as error:
        raise FatalError.of(error) from None


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
