# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The operator acts as another local account: sessions that the admin API opens."""

from __future__ import annotations

import time
from contextlib import ExitStack
from threading import RLock
from typing import Iterable

from .accounts import get_user, localpart_of, set_locked
from .client import ADMIN, Client
from .errors import RefusedError, SynapseError
from .rooms import unlimited_messages

LIFETIME = 3600.0
"""Seconds after which a session expires, should it not be possible to end it."""
RENEWAL_AGE = 3000.0
"""Age in seconds from which on a new session replaces one that is still needed."""


class Session:
    """The operator acting as a local account. As a context manager, it is ended at the end.

    The session is opened when its token is first needed, and replaced before it expires. While it is open, a locked
    account is unlocked: Synapse accepts no access token of a locked account. May be shared between threads.

    Such a session has no device, the owner of the account does not see it, and Synapse counts what is done with it
    against the operator's rate limits. Not even the deactivation of the account ends it. A guest's can't be ended.
    Where a service handles login, the session is one of that service, and has the rate limits of the account.

    API: C(POST /_synapse/admin/v1/users/<user_id>/login).
    """

    def __init__(self, client: Client, user_id: str, *, locked: bool | None = None) -> None:
        """
        :param user_id: the account. For the operator, nothing is opened.
        :param locked: whether the account is locked; C(None) asks the server.
        """
        self.user_id = user_id
        self._client = client
        self._locked = locked
        self._lock = RLock()
        self._tokens: list[str] = []
        self._limits = ExitStack()
        self._expires = 0.0

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end()

    @property
    def token(self) -> str | None:
        """An access token of the account that is valid for some minutes; C(None) for the operator's own.

        :raises SynapseError: 404 M_UNRECOGNIZED if login is delegated.
        """
        if self.user_id == self._client.user_id:
            return None
        with self._lock:
            if not self._tokens or time.monotonic() >= self._expires:
                self._open()
            return self._tokens[-1]

    def _open(self) -> None:
        if self._locked is None:
            self._locked = bool(get_user(self._client, self.user_id).get("locked"))
        if self._locked and not self._tokens:
            set_locked(self._client, self.user_id, False)
        try:
            self._tokens.append(self._log_in())
        except SynapseError:
            if not self._tokens:
                self._restore()
            raise
        self._expires = time.monotonic() + RENEWAL_AGE

    def _log_in(self) -> str:
        service = self._client.service
        if service is not None:
            if not self._tokens:
                self._limits.enter_context(unlimited_messages(self._client, self.user_id))
            return service.open_session(localpart_of(self.user_id), int(LIFETIME))
        valid_until = int(self._client.time().timestamp() + LIFETIME) * 1000
        path = f"{ADMIN}/v1/users/{{}}/login"
        return self._client.post(path, self.user_id, json={"valid_until_ms": valid_until}).take("access_token", str)

    def end(self) -> None:
        """End the session, and lock the account again if it was locked."""
        with self._lock:
            tokens, self._tokens = self._tokens, []
            try:
                for token in tokens:
                    self._log_out(token)
            finally:
                if tokens:
                    self._restore()

    def _restore(self) -> None:
        try:
            self._limits.close()
        finally:
            if self._locked:
                set_locked(self._client, self.user_id, True)

    def _log_out(self, token: str) -> None:
        if self._client.service is not None:
            self._client.service.end_session(token)
            return
        try:
            self._client.logout(token)
        except SynapseError as error:
            if error.errcode != "M_GUEST_ACCESS_FORBIDDEN":
                raise


def end_all(client: Client, sessions: Iterable[Session]) -> list[str]:
    """End sessions side by side, and return why some could not be ended: they expire by themselves."""

    def end(session: Session) -> str | None:
        try:
            session.end()
        except RefusedError as error:
            return f"the session as {session.user_id} could not be ended: {error}"
        return None

    return [problem for _session, problem in client.map(end, sessions) if problem is not None]


def can_act_as_others(client: Client) -> bool:
    """Whether the operator can act as other accounts: as an admin of Synapse, or by the service that handles login."""
    return client.service.can_act if client.service is not None else not login_is_delegated(client)


def login_is_delegated(client: Client) -> bool:
    """Whether a Matrix Authentication Service handles login.

    Then Synapse itself opens no session as another account, and its locks have no effect.

    All versions of Synapse leave this endpoint out of the admin API then.
    API: C(GET /_synapse/admin/v1/registration_tokens).
    """
    try:
        client.get(f"{ADMIN}/v1/registration_tokens")
    except SynapseError as error:
        if error.errcode != "M_UNRECOGNIZED":
            raise
        return True
    return False
