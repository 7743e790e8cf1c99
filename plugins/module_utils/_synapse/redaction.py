# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Redact the events of an account, on all servers of its rooms."""

from __future__ import annotations

import uuid
from typing import Iterable, Iterator

from .answer import Answer
from .client import CLIENT, Client
from .errors import RefusedError
from .messages import MESSAGES, list_events
from .sessions import Session

PERMANENT = ((403, "M_FORBIDDEN"), (403, "M_GUEST_ACCESS_FORBIDDEN"), (404, "M_NOT_FOUND"))
"""The errors of what an account has no permission to redact, a guest can't redact, or no longer exists."""


def redact_events(client: Client, session: Session, room_ids: Iterable[str]) -> dict[str, RefusedError]:
    """Redact the messages of an account in these rooms, and its join events, which contain its name; one by one.

    The account must still be joined to the rooms. Events that are already redacted are skipped. Other state events,
    for example the name of a room, are kept, since they belong to the room.

    Synapse has an API for this (C(POST /_synapse/admin/v1/user/<user_id>/redact)), but with it remote servers may miss
    the leave that follows: each redaction refers to the redacted event as its predecessor, is not sent to servers that
    joined the room later, and those servers get no more answers once the account has left.

    API: C(PUT /_matrix/client/v3/rooms/<room_id>/redact/<event_id>/<transaction_id>), or
    C(POST) without the transaction ID.

    :param session: a session of the account.
    :return: the IDs of the events that could not be redacted, each with its error. See C(is_permanent).
    :raises RefusedError: if a room can't be read, or the session is no longer valid.
    """
    failed: dict[str, RefusedError] = {}
    for room_id in room_ids:
        for event_id in list(_to_redact(client, session, room_id)):
            try:
                _redact(client, room_id, event_id, session.token)
            except RefusedError as error:
                if error.status == 401:
                    raise
                failed[event_id] = error
    return failed


def _redact(client: Client, room_id: str, event_id: str, token: str | None) -> None:
    path = f"{CLIENT}/v3/rooms/{{}}/redact/{{}}"
    if client.service is not None:
        # Synapse answers 500 to a transaction ID that comes with a token without a device.
        client.post(path, room_id, event_id, token=token)
    else:
        client.put(f"{path}/{{}}", room_id, event_id, uuid.uuid4().hex, json={}, token=token)


def is_permanent(error: RefusedError) -> bool:
    """Whether an event can't be redacted later either."""
    return (error.status, error.errcode) in PERMANENT


def _to_redact(client: Client, session: Session, room_id: str) -> Iterator[str]:
    """The IDs of the events to redact."""
    event_filter = {"senders": [session.user_id], "not_types": ["m.room.redaction"], "lazy_load_members": True}
    for event in list_events(client, MESSAGES, room_id, event_filter, session.token):
        if event.take("sender", str) == session.user_id and _has_content(event):
            yield event.take("event_id", str)


def _has_content(event: Answer) -> bool:
    """Whether a redaction would remove anything from the event."""
    content = event.object("content")
    if "state_key" in event:
        return event.get("type") == "m.room.member" and len(content) > 1
    return bool(content)
