# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Personal sessions: the operator acts as another account. Version 1.5 of the service, and later ones, have them."""

from __future__ import annotations

from threading import Lock
from typing import Callable

from .._synapse.errors import SynapseError
from .client import MasClient, resource_id
from .errors import MasRefusedError
from .users import MasUser

PATH = "/personal-sessions"
MATRIX_SCOPE = "urn:matrix:client:api:*"
SYNAPSE_ADMIN_SCOPE = "urn:synapse:admin:*"
NAME = "matrixops.synapse"
"""The beginning of the names of all sessions of the collection."""


class PersonalSessions:
    """The personal sessions of one run. May be shared between threads.

    They have no device: a device would be announced to all servers that share a room. With such a token, Synapse
    answers 500 to each C(PUT) with a transaction ID, so only the C(POST) forms of requests can be used.
    """

    def __init__(self, client: MasClient, run: str | None) -> None:
        """
        :param run: the lease ID of the run, which its sessions are named after.
        """
        self._client = client
        self.name = f"{NAME} {run}" if run else NAME
        self._lock = Lock()
        self._ids: dict[str, str] = {}

    @property
    def supported(self) -> bool:
        """Whether this version of the service has personal sessions."""
        return PATH in self._client.paths

    def open(self, user: MasUser, lifetime: int, *, admin: bool = False) -> str:
        """Open a session, and return its access token.

        Only for an account that is not locked: Synapse remembers for two minutes that a token was refused.

        API: C(POST /personal-sessions).

        :param lifetime: seconds until it expires by itself.
        :param admin: whether it may use Synapse's admin API.
        :raises RefusedError: 410 if the user is deactivated.
        """
        scope = f"{MATRIX_SCOPE} {SYNAPSE_ADMIN_SCOPE}" if admin else MATRIX_SCOPE
        body = {"actor_user_id": user.user_id, "human_name": self.name, "scope": scope, "expires_in": lifetime}
        if not self.supported:
            # The errcode with which Synapse answers where it cannot open sessions either.
            raise MasRefusedError(
                "this version of the Matrix Authentication Service has no personal sessions: update it to 1.5 or later",
                errcode="M_UNRECOGNIZED",
            )
        session = self._client.post(PATH, json=body).object("data")
        token = session.object("attributes").take("access_token", str)
        self._client.hide(token)
        with self._lock:
            self._ids[token] = resource_id(session)
        return token

    def end(self, token: str) -> None:
        """End a session that C(open) has opened.

        API: C(POST /personal-sessions/<id>/revoke).
        """
        with self._lock:
            session_id = self._ids.pop(token, None)
        if session_id is not None:
            self._revoke(session_id)

    def end_own(self) -> int:
        """End all sessions of this run, also those that another process has opened. Return their number."""
        return self._revoke_all(lambda name: name == self.name)

    def end_leftovers(self) -> int:
        """End the sessions that other runs have left behind. Return their number.

        Only while no other run makes changes: see the lease.
        """
        return self._revoke_all(lambda name: name.startswith(NAME) and name != self.name)

    def _revoke_all(self, is_wanted: Callable[[str], bool]) -> int:
        """API: C(GET /personal-sessions)."""
        if not self.supported:
            return 0
        found = [
            resource_id(session)
            for session in self._client.list_all(PATH, status="active")
            if is_wanted(session.object("attributes").take("human_name", str, ""))
        ]
        return sum(map(self._revoke, found))

    def _revoke(self, session_id: str) -> bool:
        try:
            self._client.post(f"{PATH}/{{}}/revoke", session_id, always=True)
        except SynapseError as error:
            # 409: already revoked, for example by the deactivation of its account.
            if error.status not in (404, 409):
                raise
            return False
        return True
