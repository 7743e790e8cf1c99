# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The events of a room, page by page."""

from __future__ import annotations

import json
import re
from typing import Iterator

from .answer import Answer, JsonDict
from .client import ADMIN, CLIENT, Client
from .errors import RefusedError

EVENTS_PER_PAGE = 1000
MESSAGES = f"{CLIENT}/v3/rooms/{{}}/messages"
"""API: C(GET /_matrix/client/v3/rooms/<room_id>/messages), for an account that is joined to the room."""
ADMIN_MESSAGES = f"{ADMIN}/v1/rooms/{{}}/messages"
"""API: C(GET /_synapse/admin/v1/rooms/<room_id>/messages), which also has rooms that all local accounts have left."""

_TOKEN = re.compile(r"t[0-9]+-([0-9]+)")
"""A position in a room: the depth of an event, and the number of the event in the order in which it was received."""


def list_events(
    client: Client, path: str, room_id: str, event_filter: JsonDict, token: str | None = None
) -> Iterator[Answer]:
    """The events of a room that pass a filter, oldest first.

    :param path: C(MESSAGES) or C(ADMIN_MESSAGES).
    :param token: an access token of an account in the room; C(None) for the operator.
    """
    # In the other direction, Synapse may request missing events from remote servers.
    query: JsonDict = {"dir": "f", "filter": json.dumps(event_filter), "limit": EVENTS_PER_PAGE}
    while True:
        page = client.get(path, room_id, params=query, token=token)
        yield from page.objects("chunk")
        following = page.get("end")
        if following is None or following == query.get("from"):
            return
        query["from"] = following


def newest_event(client: Client, room_id: str) -> tuple[Answer, int] | None:
    """The newest event of a room, and its number in the order in which the server received events.

    C(None) if Synapse does not say, for example because the room was purged.
    """
    try:
        page = client.get(ADMIN_MESSAGES, room_id, params={"dir": "b", "limit": 1})
    except RefusedError:
        return None
    # The token is the position before the event.
    token = _TOKEN.match(str(page.get("end")))
    events = page.objects("chunk")
    return (events[0], int(token.group(1)) + 1) if events and token else None
