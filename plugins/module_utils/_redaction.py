# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Redacting what an account has sent, on all servers of its rooms."""

from __future__ import annotations

import json
import uuid
from typing import Iterable, Iterator

from ._client import CLIENT, PAGE_SIZE, Answer, Client, SynapseError


def redact_events(client: Client, user_id: str, room_ids: Iterable[str], token: str | None) -> dict[str, str]:
    """Redact the messages that an account has sent to these rooms, and its joins, which have its name; one by one.

    The account must still be in the rooms. What has been redacted is passed over, and the rest of the state, such as a
    room's name, is the room's. Return the IDs of the events that could not be redacted, with the reason of each.

    Synapse can do this by itself (C(POST /_synapse/admin/v1/user/<user_id>/redact)), but then the other servers may
    miss the leave that follows: it hangs each redaction on the event that is redacted, does not send it to servers that
    came to the room later, and gives them no more answers once the account has left.

    :param token: an access token of the account, unless it is the operator.
    """
    failed = {}
    for room_id in room_ids:
        for event_id in list(_to_redact(client, user_id, room_id, token)):
            path = f"{CLIENT}/v3/rooms/{{}}/redact/{{}}/{{}}"
            try:
                client.put(path, room_id, event_id, uuid.uuid4().hex, json={}, token=token)
            except SynapseError as error:
                if error.fatal:
                    raise
                failed[event_id] = str(error)
    return failed


def _to_redact(client: Client, user_id: str, room_id: str, token: str | None) -> Iterator[str]:
    """API: C(GET /_matrix/client/v3/rooms/<room_id>/messages)."""
    event_filter = {"senders": [user_id], "not_types": ["m.room.redaction"], "lazy_load_members": True}
    # Backwards, Synapse would ask other servers for what it misses.
    query = {"dir": "f", "filter": json.dumps(event_filter), "limit": PAGE_SIZE}
    path = f"{CLIENT}/v3/rooms/{{}}/messages"
    while True:
        page = client.get(path, room_id, params=query, token=token)
        for event in page.objects("chunk"):
            if event.take("sender", str) == user_id and _has_something(event):
                yield event.take("event_id", str)
        following = page.get("end")
        if following is None or following == query.get("from"):
            return
        query["from"] = following


def _has_something(event: Answer) -> bool:
    """Whether there is anything in the event for a redaction to take away."""
    content = event.object("content")
    if "state_key" in event:
        return event.get("type") == "m.room.member" and len(content) > 1
    return bool(content)
