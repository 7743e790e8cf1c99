# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which local media the static site gets, and which it never does: avatars of people.

An account that is erased leaves no trace of its avatar in the state of its rooms, and newer versions of Synapse also
hide it in their history. So avatars are recorded before that, in the account data of the operator.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Collection, Iterable, Iterator, Mapping, NamedTuple

from .._federation.names import server_of
from .._synapse.account_data import ACCOUNT_DATA_TYPE
from .._synapse.accounts import list_users
from .._synapse.answer import Answer
from .._synapse.client import Client
from .._synapse.errors import RefusedError, SynapseError
from .._synapse.media import Media, MediaRepository, local_media_id, raise_if_unauthorized
from .._synapse.messages import ADMIN_MESSAGES, list_events
from .._synapse.room_state import MEMBER, as_state
from .pairs import member_events, read_rooms, state_events
from .record import read_pieces, read_record, write_pieces

AVATAR = "m.room.avatar"
JOIN_RULES = "m.room.join_rules"
HISTORY_VISIBILITY = "m.room.history_visibility"
SELECTIONS = ("avatars", "public", "all")
NONE = "none"
AVATARS_KIND = f"{ACCOUNT_DATA_TYPE}.avatars"
MAX_SENDERS = 50
"""Maximum number of accounts in a filter: it is a part of the URL, which a reverse proxy bounds to some kilobytes."""


@dataclass
class SiteMedia:
    """The media of a selection.

    :ivar files: by media ID in order.
    :ivar unreadable: the rooms that Synapse can't read, with the reason of each. None of their media is selected.
    :ivar lacks_avatars: whether avatars of erased accounts may be among the files, since none were recorded before.
    """

    files: list[Media] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    lacks_avatars: bool = False


class _Found(NamedTuple):
    """The local media of a room: what is selected, and the avatars of people."""

    selected: frozenset[str]
    people: frozenset[str]


def select_media(client: Client, selection: str) -> SiteMedia:
    """Select local media of rooms that remote servers are in.

    The rooms are those of the record, or if there is none those that Synapse knows.

    :param selection: C(none), C(avatars) of rooms, C(public): also media in rooms that anybody may join or read, or
        C(all).
    """
    if selection == NONE:
        return SiteMedia()
    unreadable: dict[str, str] = {}
    rooms = _federated_rooms(client, unreadable)
    reader = _RoomReader(client, selection)
    selected: set[str] = set()
    people: set[str] = set()
    for room, found in client.map(reader.read, sorted(rooms.items())):
        if isinstance(found, str):
            unreadable[room[0]] = found
        else:
            selected |= found.selected
            people |= found.people
    recorded = _read_avatars(client)
    profiles, is_any_erased = _profile_avatars(client)
    wanted = sorted(selected - people - profiles - (recorded or set()))
    files = [media for _media_id, media in client.map(reader.repository.describe, wanted)]
    is_lacking = recorded is None and is_any_erased and bool(wanted)
    return SiteMedia(sorted(files), unreadable, is_lacking)


def record_avatars(client: Client, rooms: Mapping[str, Collection[str]], *, dry_run: bool = False) -> tuple[bool, int]:
    """Record the avatars that local accounts have, or ever had in these rooms. Run it before accounts are erased.

    :param rooms: the local accounts in each room, by room ID.
    :returns: whether the record changes, and how many avatars it has then.
    """
    before = _read_avatars(client)
    avatars = _profile_avatars(client)[0].union(before or ())
    for _room, found in client.map(lambda room: _readable_avatars(client, *room), rooms.items()):
        avatars |= found
    changed = avatars != before
    if changed and not dry_run:
        write_pieces(client, AVATARS_KIND, json.dumps(sorted(avatars)).encode())
    return changed, len(avatars)


def _read_avatars(client: Client) -> set[str] | None:
    """Return the recorded avatars; C(None) if there is no record, or a damaged one."""
    try:
        return set(map(str, json.loads(read_pieces(client, AVATARS_KIND) or b"null")))
    except (ValueError, TypeError):
        return None


def _federated_rooms(client: Client, unreadable: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """Return the local accounts in each room that remote servers are in."""
    recorded = read_record(client)
    unreadable.update(recorded.unreadable)
    if recorded.rooms:
        return {room_id: tuple(sorted(room.joined)) for room_id, room in recorded.rooms.items() if room.servers}

    def on_unreadable(room_id: str, error: SynapseError) -> None:
        unreadable[room_id] = str(error)

    return {room.room_id: room.known.joined for room in read_rooms(client, on_unreadable)}


def _profile_avatars(client: Client) -> tuple[set[str], bool]:
    """Return the avatars that accounts have now, and whether any account is erased."""
    avatars: set[str] = set()
    is_any_erased = False
    for user in list_users(client):
        avatars.update(_local(client, [user.get("avatar_url")]))
        is_any_erased = is_any_erased or bool(user.get("erased"))
    return avatars, is_any_erased


class _RoomReader:
    """Reads rooms. May be shared between threads."""

    def __init__(self, client: Client, selection: str) -> None:
        self.repository = MediaRepository(client)
        self._client = client
        self._selection = selection

    def read(self, room: tuple[str, tuple[str, ...]]) -> _Found | str:
        """Return the media of a room with these accounts, or why the room can't be read."""
        room_id, accounts = room
        try:
            return self._read(room_id, accounts)
        except RefusedError as error:
            raise_if_unauthorized(error)
            return error.reason

    def _read(self, room_id: str, accounts: tuple[str, ...]) -> _Found:
        events = list(state_events(self._client, room_id))
        state = as_state(events, (AVATAR, JOIN_RULES, HISTORY_VISIBILITY))
        selected = set(_local(self._client, [state.get((AVATAR, ""), {}).get("url")]))
        is_public = (
            state.get((JOIN_RULES, ""), {}).get("join_rule") == "public"
            or state.get((HISTORY_VISIBILITY, ""), {}).get("history_visibility") == "world_readable"
        )
        if self._selection == "all" or (self._selection == "public" and is_public):
            selected |= self.repository.list_in_room(room_id)
        people = set(_avatars(self._client, events))
        if selected:
            people |= _avatars_in_history(self._client, room_id, accounts)
        return _Found(frozenset(selected), frozenset(people))


def _readable_avatars(client: Client, room_id: str, accounts: Collection[str]) -> set[str]:
    """Return the avatars in the history of a room; none if Synapse can't read it."""
    try:
        return _avatars_in_history(client, room_id, accounts)
    except RefusedError as error:
        raise_if_unauthorized(error)
        return set()


def _avatars_in_history(client: Client, room_id: str, accounts: Collection[str]) -> set[str]:
    """Return the avatars that local accounts ever had in a room. One request for each 1,000 events."""
    event_filter = {"types": [MEMBER]}
    if 0 < len(accounts) <= MAX_SENDERS:
        event_filter["senders"] = sorted(accounts)
    return set(_avatars(client, list_events(client, ADMIN_MESSAGES, room_id, event_filter)))


def _avatars(client: Client, events: Iterable[Answer]) -> Iterator[str]:
    """Yield the avatars in the membership events of local accounts, and in those that they have replaced."""
    for user_id, event in member_events(events):
        if server_of(user_id) != client.server_name:
            continue
        for content in (event.get("content"), event.object("unsigned").get("prev_content")):
            if isinstance(content, dict):
                yield from _local(client, [content.get("avatar_url")])


def _local(client: Client, uris: Iterable[object]) -> Iterator[str]:
    for uri in uris:
        media_id = local_media_id(uri, client.server_name)
        if media_id is not None:
            yield media_id
