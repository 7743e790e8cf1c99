# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Close the registration of a Matrix Authentication Service without a restart, and open it again.

The policy of the service refuses every username then, also to those who sign up through an upstream provider. A
registration that was begun before can still be finished.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .._synapse.answer import Answer, JsonDict
from .._synapse.errors import FatalError, SynapseError
from .client import MasClient, resource_id

POLICY = "/policy-data"
TOKENS = "/user-registration-tokens"
EVERY_NAME = "[matrixops.synapse]|.*"
"""The pattern that refuses every username. Its first part is how the collection finds its own pattern again."""


@dataclass
class Registration:
    """How accounts can come about.

    :ivar open: whether the policy lets anybody register.
    :ivar passwords: whether the service offers registration with a password.
    :ivar tokens: IDs of the registration tokens that are valid.
    :ivar providers: names of the upstream providers that are enabled.
    """

    open: bool
    passwords: bool
    tokens: list[str] = field(default_factory=list)
    providers: list[str] = field(default_factory=list)


def read_registration(client: MasClient) -> Registration:
    """API: C(GET /site-config), C(GET /policy-data/latest), C(GET /user-registration-tokens) and
    C(GET /upstream-oauth-providers)."""
    providers = []
    for provider in _list(client, "/upstream-oauth-providers", enabled="true"):
        known = provider.object("attributes")
        names = (known.get(key) for key in ("human_name", "brand_name", "issuer"))
        providers.append(str(next((name for name in names if name), resource_id(provider))))
    return Registration(
        open=EVERY_NAME not in _patterns(_latest(client)),
        passwords=client.get("/site-config").take("password_registration_enabled", bool, True),
        tokens=[resource_id(token) for token in _list(client, TOKENS, valid="true")],
        providers=providers,
    )


def _list(client: MasClient, path: str, **filters: str) -> list[Answer]:
    return list(client.list_all(path, **filters)) if path in client.paths else []


def close_registration(client: MasClient, before: Registration) -> None:
    """Refuse every username, and revoke the registration tokens that are valid.

    API: C(POST /policy-data), which replaces the whole document, and C(POST /user-registration-tokens/<id>/revoke).

    :raises FatalError: if the policy does not have the pattern afterwards.
    """
    if before.open:
        _set_patterns(client, [*_patterns(_latest(client)), EVERY_NAME])
    for token in before.tokens:
        _change_token(client, token, "revoke")
    if EVERY_NAME not in _patterns(_latest(client)):
        raise FatalError(
            f"the policy data of the Matrix Authentication Service at {client.url} was replaced by another process"
            " meanwhile: stop that process, then run again"
        )


def open_registration(client: MasClient, tokens: list[str]) -> None:
    """Undo C(close_registration).

    :param tokens: IDs of the registration tokens to make valid again.
    """
    patterns = _patterns(_latest(client))
    if EVERY_NAME in patterns:
        _set_patterns(client, [pattern for pattern in patterns if pattern != EVERY_NAME])
    for token in tokens:
        _change_token(client, token, "unrevoke")


def _change_token(client: MasClient, token: str, action: str) -> None:
    try:
        client.post(f"{TOKENS}/{{}}/{action}", token)
    except SynapseError as error:
        # 400: it is so already.
        if error.status not in (400, 404):
            raise


def _latest(client: MasClient) -> Answer:
    """The newest policy data; empty as long as there is none."""
    try:
        answer = client.get(f"{POLICY}/latest")
    except SynapseError as error:
        if error.status == 404 and error.problem is None:
            return Answer({}, "GET", f"{client.url}{POLICY}")
        raise
    return answer.object("data").object("attributes").object("data")


def _patterns(policy: Answer) -> list[object]:
    patterns = policy.object("registration").object("banned_usernames").take("regexes", list, [])
    return list(patterns)


def _set_patterns(client: MasClient, patterns: list[object]) -> None:
    """Replace the patterns, and keep everything else in the document."""
    policy: JsonDict = dict(_latest(client))
    registration = dict(policy.get("registration") or {})
    banned = dict(registration.get("banned_usernames") or {})
    # Empty objects of our own are removed again.
    for document, key, value in (
        (banned, "regexes", patterns),
        (registration, "banned_usernames", banned),
        (policy, "registration", registration),
    ):
        document[key] = value
        if not value:
            del document[key]
    client.post(POLICY, json={"data": policy})
