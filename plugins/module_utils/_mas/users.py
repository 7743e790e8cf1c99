# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The users of a Matrix Authentication Service."""

from __future__ import annotations

from typing import Iterator, NamedTuple

from .._synapse.answer import Answer
from .._synapse.delegation import ServiceAccount
from .._synapse.errors import SynapseError
from .client import MasClient, resource_id
from .errors import MasRefusedError

SESSIONS = ("/oauth2-sessions", "/compat-sessions", "/user-sessions")
"""The sessions of a user, without personal ones, which an admin has opened."""


class MasUser(NamedTuple):
    """A user.

    :ivar user_id: the ID, a ULID.
    :ivar account: what it is.
    """

    user_id: str
    account: ServiceAccount


def list_users(client: MasClient) -> Iterator[MasUser]:
    """All users, each once, in the order in which they were created.

    API: C(GET /users).
    """
    return map(_user, client.list_all("/users"))


def find_user(client: MasClient, username: str) -> MasUser | None:
    """The user with this localpart, or C(None).

    API: C(GET /users/by-username/<username>).
    """
    try:
        answer = client.get("/users/by-username/{}", username)
    except SynapseError as error:
        # Without a JSON object, it is another server that answers 404.
        if error.status == 404 and error.problem is None:
            return None
        raise
    return _user(answer.object("data"))


def _user(resource: Answer) -> MasUser:
    attributes = resource.object("attributes")
    return MasUser(
        resource_id(resource),
        ServiceAccount(
            username=attributes.take("username", str),
            admin=attributes.take("admin", bool, False),
            locked=attributes.get("locked_at") is not None,
            deactivated=attributes.get("deactivated_at") is not None,
            guest=attributes.take("legacy_guest", bool, False),
        ),
    )


def request_deactivation(client: MasClient, user_id: str, *, erase: bool) -> None:
    """Deactivate a user, and queue the job that deactivates it on the homeserver; again if it is deactivated already.

    API: C(POST /users/<id>/deactivate).
    """
    client.post("/users/{}/deactivate", user_id, json={"skip_erase": not erase})


def set_locked(client: MasClient, user_id: str, locked: bool) -> None:
    """Lock a user, or unlock it. Its sessions are kept.

    API: C(POST /users/<id>/lock), C(POST /users/<id>/unlock).
    """
    client.post(f"/users/{{}}/{'lock' if locked else 'unlock'}", user_id)


def finish_sessions(client: MasClient, user_id: str) -> None:
    """Finish the sessions of a user: those of clients, of older clients, and of browsers.

    API: C(GET /oauth2-sessions), C(GET /compat-sessions), C(GET /user-sessions), and C(POST …/<id>/finish).

    :raises MasRefusedError: if the version of the service is too old for that.
    """
    for path in SESSIONS:
        if f"{path}/{{id}}/finish" not in client.paths:
            raise MasRefusedError(
                "this version of the Matrix Authentication Service cannot finish sessions: update it to 1.4 or later"
            )
        for session in list(client.list_all(path, user=user_id, status="active")):
            try:
                client.post(f"{path}/{{}}/finish", resource_id(session))
            except SynapseError as error:
                # 400: it is finished by now.
                if error.status not in (400, 404):
                    raise
