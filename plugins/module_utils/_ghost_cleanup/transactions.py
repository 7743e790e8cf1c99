# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a verified request of a remote server says about rooms: a transaction, or an invite.

It is taken as a hint only: which rooms to check on that server. API:
U(https://spec.matrix.org/latest/server-server-api/#transactions).
"""

from __future__ import annotations

from typing import Any, Callable, Iterable, Iterator, TypeVar

from .._federation.errors import InvalidNameError
from .._federation.names import check_event_id, check_room_id, check_user_id
from .bounded_json import JsonDict
from .status import Heard

MAX_PDUS = 50
MAX_EDUS = 100
"""Maximum numbers of events in a transaction, by the specification."""
MAX_EVENT_IDS = 20
"""Maximum number of event IDs to keep for a room."""
MAX_PENDING = 20
"""Maximum number of invited accounts to keep for a room."""
MAX_ROOMS = 500
"""Maximum number of rooms to take from a transaction: a receipt may name many."""

Text = TypeVar("Text")


class InvalidTransactionError(Exception):
    """The body is not a transaction."""


class _Rooms:
    """The rooms of a request, each once."""

    def __init__(self) -> None:
        self._rooms: dict[str, tuple[dict[str, None], dict[str, None]]] = {}

    def add(self, room_id: object, event_ids: Iterable[object] = (), pending: Iterable[str] = ()) -> None:
        """Add a room, unless its ID is invalid or there are too many."""
        checked = _valid(check_room_id, room_id)
        if checked is None or (checked not in self._rooms and len(self._rooms) >= MAX_ROOMS):
            return
        events, accounts = self._rooms.setdefault(checked, ({}, {}))
        events.update(dict.fromkeys(filter(None, (_valid(check_event_id, event_id) for event_id in event_ids))))
        accounts.update(dict.fromkeys(pending))

    def heard(self) -> tuple[Heard, ...]:
        return tuple(
            Heard(room_id, tuple(events)[:MAX_EVENT_IDS], tuple(accounts)[:MAX_PENDING])
            for room_id, (events, accounts) in self._rooms.items()
        )


def rooms_of_transaction(content: JsonDict, server_name: str) -> tuple[Heard, ...]:
    """Return the rooms that a transaction names. Events without a valid room are skipped.

    An C(m.room.create) of room version 12 has no room ID, and nothing else may lack one.

    :param server_name: the name of the local server, for invites of its accounts.
    :raises InvalidTransactionError: if there are too many events, or lists are none.
    """
    rooms = _Rooms()
    for event in _events(content, "pdus", MAX_PDUS):
        rooms.add(event.get("room_id"), _prev_events(event), _invited(event, server_name))
    for edu in _events(content, "edus", MAX_EDUS):
        for room_id in _rooms_of_edu(edu):
            rooms.add(room_id)
    return rooms.heard()


def rooms_of_invite(content: JsonDict, room_id: str, server_name: str) -> tuple[Heard, ...]:
    """Return the room of an invite, with the invited account.

    API: C(PUT /_matrix/federation/v1/invite/{roomId}/{eventId}) (the body is the event), and v2 (it has an I(event)).

    :param room_id: the room ID in the path, decoded.
    """
    event = content.get("event", content)
    rooms = _Rooms()
    if isinstance(event, dict) and event.get("room_id") == room_id:
        invited = _invited(event, server_name)
        if invited:
            rooms.add(room_id, _prev_events(event), invited)
    return rooms.heard()


def _events(content: JsonDict, name: str, most: int) -> Iterator[JsonDict]:
    events = content.get(name, [])
    if not isinstance(events, list) or len(events) > most:
        raise InvalidTransactionError(f"{name} is not a list of at most {most}")
    return (event for event in events if isinstance(event, dict))


def _prev_events(event: JsonDict) -> list[object]:
    listed = event.get("prev_events")
    if not isinstance(listed, list):
        return []
    # In room versions 1 and 2, a list of pairs of event ID and hashes.
    return [each[0] if isinstance(each, list) and each else each for each in listed[:MAX_EVENT_IDS]]


def _invited(event: JsonDict, server_name: str) -> list[str]:
    """Return the local account that an event invites, if it does."""
    content: Any = event.get("content")
    if event.get("type") != "m.room.member" or not isinstance(content, dict) or content.get("membership") != "invite":
        return []
    user_id = _valid(lambda text: check_user_id(text, server_name), event.get("state_key"))
    return [] if user_id is None else [user_id]


def _rooms_of_edu(edu: JsonDict) -> list[object]:
    content = edu.get("content")
    if not isinstance(content, dict):
        return []
    if edu.get("edu_type") == "m.typing":
        return [content.get("room_id")]
    return list(content)[:MAX_ROOMS] if edu.get("edu_type") == "m.receipt" else []


def _valid(check: Callable[[object], Text], value: object) -> Text | None:
    try:
        return check(value)
    except InvalidNameError:
        return None
