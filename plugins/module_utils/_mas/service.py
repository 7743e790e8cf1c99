# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Matrix Authentication Service as the service that handles login for one homeserver."""

from __future__ import annotations

from typing import Iterator

from .._synapse.accounts import deactivate_in_synapse, is_deactivated
from .._synapse.client import Client
from .._synapse.delegation import ServiceAccount
from .client import MasClient
from .errors import MasRefusedError
from .jobs import deactivate_user
from .tokens import PersonalSessions
from .users import MasUser, find_user, finish_sessions, list_users, set_locked


class MasService:
    """Implements C(LoginService)."""

    def __init__(self, mas: MasClient, synapse: Client, run: str | None) -> None:
        """
        :param run: the lease ID of the run.
        """
        self.mas = mas
        self.sessions = PersonalSessions(mas, run)
        self._synapse = synapse

    @property
    def can_act(self) -> bool:
        """Whether this version of the service has personal sessions."""
        return self.sessions.supported

    def accounts(self) -> Iterator[ServiceAccount]:
        """All accounts that it knows."""
        return (user.account for user in list_users(self.mas))

    def account(self, username: str) -> ServiceAccount | None:
        """One account as it is now."""
        user = find_user(self.mas, username)
        return None if user is None else user.account

    def open_session(self, username: str, lifetime: int, *, admin: bool = False) -> str:
        """See C(PersonalSessions.open).

        :raises RefusedError: if the service does not know the account, or it is locked or deactivated.
        """
        user = self._known(username)
        if user.account.locked:
            raise MasRefusedError(f"the user '{username}' is locked in the Matrix Authentication Service")
        return self.sessions.open(user, lifetime, admin=admin)

    def _known(self, username: str) -> MasUser:
        user = find_user(self.mas, username)
        if user is None:
            raise MasRefusedError(f"the Matrix Authentication Service has no user '{username}'")
        return user

    def end_session(self, token: str) -> None:
        """End a session that C(open_session) has opened."""
        self.sessions.end(token)

    def end_all_sessions(self, username: str) -> None:
        """End all sessions of the owner of an account, on all devices and in all browsers.

        :raises RefusedError: if the service does not know the account.
        """
        finish_sessions(self.mas, self._known(username).user_id)

    def set_locked(self, username: str, locked: bool) -> bool:
        """Lock or unlock an account. Return C(False) if the service does not know it."""
        user = find_user(self.mas, username)
        if user is not None:
            set_locked(self.mas, user.user_id, locked)
        return user is not None

    def deactivate(self, username: str, *, erase: bool) -> bool:
        """Deactivate an account there and on Synapse. Return C(False) if the service does not know it."""
        user = find_user(self.mas, username)
        if user is None:
            return False
        user_id = f"@{username}:{self._synapse.server_name}"
        deactivate_user(
            self.mas,
            user,
            erase=erase,
            is_done=lambda: is_deactivated(self._synapse, user_id, erase=erase),
            deactivate_in_synapse=lambda: deactivate_in_synapse(self._synapse, user_id, erase=erase),
        )
        return True
