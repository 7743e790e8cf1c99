# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Local accounts that change the state of rooms, shared by threads."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Lock
from typing import Iterator

from .._synapse.accounts import get_user
from .._synapse.answer import JsonDict
from .._synapse.client import Client
from .._synapse.errors import RefusedError, SynapseError
from .._synapse.room_state import send_state
from .._synapse.sessions import Session


class CannotActError(RefusedError):
    """The operator cannot act as an account, in any room."""


class _Actor:
    """An account, and how many threads use its session."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.users = 0
        self.session: Session | None = None


class Actors:
    """Sessions of accounts that threads share: a session is ended when the last thread that uses it has finished.

    :ivar problems: why a session could not be ended, or an account not be locked again.
    """

    def __init__(self, client: Client, *, dry_run: bool) -> None:
        """
        :param dry_run: open no session and send nothing, but check whether that would be possible.
        """
        self._client = client
        self._dry_run = dry_run
        self._lock = Lock()
        self._actors: dict[str, _Actor] = {}
        self.problems: list[str] = []

    def send_state(self, room_id: str, event_type: str, content: JsonDict, user_id: str) -> None:
        """Send a state event with an empty state key to a room, as an account of this server.

        :raises CannotActError: if the operator cannot act as the account, or Synapse would discard what it sends.
        """
        with self._acting_as(user_id) as session:
            if not self._dry_run:
                send_state(self._client, room_id, event_type, content, session.token)

    @contextmanager
    def _acting_as(self, user_id: str) -> Iterator[Session]:
        with self._lock:
            actor = self._actors.setdefault(user_id, _Actor())
        with actor.lock:
            session = actor.session = actor.session or self._open(user_id)
            actor.users += 1
        try:
            yield session
        finally:
            with actor.lock:
                actor.users -= 1
                if not actor.users:
                    actor.session = None
                    self._end(session)

    def _open(self, user_id: str) -> Session:
        try:
            user = get_user(self._client, user_id)
            if user.get("suspended"):
                raise RefusedError("the account is suspended")
            if user.get("shadow_banned"):
                # Synapse would answer 200, and discard what the account sends.
                raise RefusedError("the account is shadow-banned")
            session = Session(self._client, user_id, locked=bool(user.get("locked")))
            if not self._dry_run:
                session.token  # noqa: B018 opens the session here, where an error is about the account and not the room
            return session
        except RefusedError as error:
            raise CannotActError(f"cannot act as {user_id}: {error}") from error

    def _end(self, session: Session) -> None:
        try:
            session.end()
        except SynapseError as error:
            # The event was sent, whether the session can be ended or not.
            self.problems.append(f"the session as {session.user_id} could not be ended in order: {error}")
