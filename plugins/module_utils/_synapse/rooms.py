# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rooms in the admin API and the client API: listing them, their members, leaving and shutting them down."""

from __future__ import annotations

import json
import sys
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Callable, Iterable, Iterator

from .answer import Answer, JsonDict
from .client import ADMIN, CLIENT, Client
from .errors import RefusedError, SynapseError
from .listing import list_all, list_pages
from .unanswered import read_again

ROOMS = f"{ADMIN}/v1/rooms"
JOINED_ROOMS = f"{ADMIN}/v1/users/{{}}/joined_rooms"
"""The endpoint with the exact rooms of an account. The listing of rooms goes by statistics."""

SHUTDOWN_POLL_INTERVAL = 0.2
"""Seconds between two polls of the shutdown of a room."""
SHUTDOWN_TIMEOUT = 300.0
"""Seconds after which the shutdown of a room has failed."""


@dataclass
class Memberships:
    """The rooms of an account by its membership."""

    joined: list[str] = field(default_factory=list)
    invited: list[str] = field(default_factory=list)
    knocked: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.joined or self.invited or self.knocked)


def list_rooms(client: Client, *, occupied: bool = False) -> Iterator[JsonDict]:
    """List the rooms that the server knows, each once.

    :param occupied: only rooms with a local member. C(joined_local_members) is from Synapse's statistics, which may
        lag behind by seconds.

    API: C(GET /_synapse/admin/v1/rooms).
    """
    # The version of a room does not change, unlike the number of its members, by which they would be ordered otherwise.
    # Without a filter, since what passes one changes during the listing.
    params = {"order_by": "version"}
    for room in list_all(
        client,
        ROOMS,
        "rooms",
        name_key="room_id",
        total_key="total_rooms",
        params=params,
        next_key="next_batch",
    ):
        if not occupied or room.take("joined_local_members", int):
            yield dict(room)


def may_be_shared(room: JsonDict) -> bool:
    """Whether others than accounts of this server may be joined to a room of the listing.

    By Synapse's statistics, which lag behind, and stand still while the background worker is down. A prediction may
    rest on them, and nothing else: what changes a room, or proves that none is left, reads the members.
    """
    local = room.get("joined_local_members")
    return not local or room.get("joined_members") != local


def count_occupied_rooms(client: Client) -> int:
    """Count the rooms with a local member by Synapse's statistics, without a listing.

    In the order of their local members, the rooms without any are at the end. A binary search finds the first of these.
    """

    def page(start: int) -> Answer:
        params = {"order_by": "joined_local_members", "limit": 1, "from": start}
        return client.get(ROOMS, params=params)

    first = 0
    end = page(0).take("total_rooms", int)
    while first < end:
        middle = (first + end) // 2
        rooms = page(middle).objects("rooms")
        if any(room.take("joined_local_members", int) for room in rooms):
            first = middle + 1
        else:
            end = middle
    return first


def with_local_members(client: Client) -> Iterator[JsonDict]:
    """The rooms with a local member, each with C(local_members). One request per room."""
    rooms = list(list_rooms(client, occupied=True))
    for room, members in client.map(lambda room: local_members(client, room["room_id"]), rooms, step="rooms read"):
        # The statistics of the listing lag behind, the members do not.
        if members:
            yield {**room, "local_members": members}


def joined_members(client: Client, room_id: str) -> list[str]:
    """The user IDs that are joined to a room. Synapse knows them as long as one of them is local.

    API: C(GET /_synapse/admin/v1/rooms/<room_id>/members).
    """
    return client.get(f"{ADMIN}/v1/rooms/{{}}/members", room_id).texts("members")


def local_members(client: Client, room_id: str) -> list[str]:
    """The local user IDs that are joined to a room, those included that are in no listing of accounts."""
    members = joined_members(client, room_id)
    return sorted(user_id for user_id in members if user_id.partition(":")[2] == client.server_name)


def is_federated(client: Client, room_id: str) -> bool:
    """Whether remote servers are in a room that a local account is joined to. True if the room can't be read."""
    try:
        members = joined_members(client, room_id)
    except RefusedError:
        return True
    return has_others(client, members)


def has_others(client: Client, members: Iterable[str]) -> bool:
    """Whether one of these members is no account of this server."""
    return any(user_id.partition(":")[2] != client.server_name for user_id in members)


def joined_rooms(client: Client, user_id: str) -> list[str]:
    """The rooms that a local account is joined to. Exact on every version of Synapse.

    API: C(GET /_synapse/admin/v1/users/<user_id>/joined_rooms).
    """
    # One string in memory for each room, however many accounts are in it.
    return sorted(map(sys.intern, client.get(JOINED_ROOMS, user_id).texts("joined_rooms")))


def still_joined(client: Client, user_ids: Iterable[str]) -> dict[str, list[str]]:
    """The accounts that are joined to rooms, with these rooms.

    One request per account. The cheaper endpoints use Synapse's statistics, which may be wrong.
    """
    return rooms_by_account(client, lambda user_id: joined_rooms(client, user_id), user_ids)


def rooms_by_account(client: Client, read: Callable[[str], list[str]], user_ids: Iterable[str]) -> dict[str, list[str]]:
    """The accounts for which I(read) returns rooms, with these rooms."""
    return {user_id: room_ids for user_id, room_ids in client.map(read, user_ids, step="accounts read") if room_ids}


def count_memberships(client: Client) -> int:
    """Number of memberships of local accounts, by Synapse's statistics. An estimate, in few requests.

    The rooms with most local members come first, and those without are not read. While accounts leave, some rooms may
    be counted twice or not at all.
    """
    params = {"order_by": "joined_local_members"}
    members = 0
    for page in list_pages(client, ROOMS, params=params, next_key="next_batch"):
        counts = [room.take("joined_local_members", int) for room in page.objects("rooms")]
        members += sum(counts)
        if not all(counts):
            break
    return members


def memberships(client: Client, user_id: str, token: str | None = None) -> Memberships:
    """The rooms of a local account: joined by the admin API and by C(/sync), invites and knocks by C(/sync) alone.

    Either may miss a joined room whose records are inconsistent.

    :param token: access token of the account; C(None) for the operator.
    """
    rooms = sync_rooms(client, token)
    joined = sorted({*joined_rooms(client, user_id), *rooms.object("join")})
    return Memberships(joined, sorted(rooms.object("invite")), sorted(rooms.object("knock")))


def sync_rooms(client: Client, token: str | None, *, patience: float | None = None) -> Answer:
    """The rooms of C(/sync).

    :param patience: as for C(Client.request).

    API: C(GET /_matrix/client/v3/sync).
    """
    nothing: JsonDict = {"types": []}
    sync_filter = {
        # No event has such a field. Without a filter that is new, Synapse may repeat an answer of the last two minutes.
        "event_fields": [uuid.uuid4().hex],
        "presence": nothing,
        "account_data": nothing,
        "room": {
            "timeline": {"limit": 1, **nothing},
            "state": nothing,
            "ephemeral": nothing,
            "account_data": nothing,
        },
    }
    params = {"filter": json.dumps(sync_filter), "set_presence": "offline", "timeout": "0"}
    return client.get(f"{CLIENT}/v3/sync", params=params, token=token, patience=patience).object("rooms")


def visible_memberships(client: Client, user_id: str) -> Memberships:
    """The rooms of a local account, as far as they can be read without a session of the account: for a dry run.

    Invites from remote servers are missing, and on old versions (for example 1.120) all invites and knocks.
    API: C(GET /_synapse/admin/v1/users/<user_id>/memberships).
    """
    if user_id == client.user_id:
        return memberships(client, user_id)
    found = Memberships(joined=joined_rooms(client, user_id))
    try:
        known = client.get(f"{ADMIN}/v1/users/{{}}/memberships", user_id).take("memberships", dict)
    except SynapseError as error:
        if error.status != 404:
            raise
        return found
    found.invited = sorted(room_id for room_id, membership in known.items() if membership == "invite")
    found.knocked = sorted(room_id for room_id, membership in known.items() if membership == "knock")
    return found


def newest_events(client: Client, room_id: str) -> list[Answer]:
    """The forward extremities of a room, each with C(event_id) and C(received_ts), in milliseconds since 1970.

    Synapse keeps them after the last local account has left. A room without any is broken.

    API: C(GET /_synapse/admin/v1/rooms/<room_id>/forward_extremities).
    """
    return client.get(f"{ADMIN}/v1/rooms/{{}}/forward_extremities", room_id).objects("results")


def leave(client: Client, room_id: str, token: str | None = None, *, patience: float | None = None) -> None:
    """Leave a room, reject an invite, or retract a knock. An invite to server notices can only be joined, and left.

    :param patience: as for C(Client.request).
    """
    try:
        client.post(f"{CLIENT}/v3/rooms/{{}}/leave", room_id, token=token, patience=patience)
    except SynapseError as error:
        if error.errcode != "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM":
            raise
        client.post(f"{CLIENT}/v3/join/{{}}", room_id, token=token)
        client.post(f"{CLIENT}/v3/rooms/{{}}/leave", room_id, token=token)


def shut_down(client: Client, room_id: str) -> dict[str, str]:
    """Make all local accounts leave a room, without purging it. Return those that are still joined, with the reason.

    Needs no session of an account, and so works for accounts that the operator cannot act as.
    API: C(DELETE /_synapse/admin/v2/rooms/<room_id>).
    """
    path = f"{ADMIN}/v2/rooms"
    # If the URL leads to another server by now, that server may have accounts in the room as well.
    client.confirm()
    deletion = client.request("DELETE", f"{path}/{{}}", room_id, json={"purge": False, "block": False})
    delete_id = deletion.take("delete_id", str)
    deadline = time.monotonic() + SHUTDOWN_TIMEOUT
    is_complete = False
    reason = f"the shutdown of the room did not end within {SHUTDOWN_TIMEOUT:g} s"
    while time.monotonic() < deadline:
        status = client.get(f"{path}/delete_status/{{}}", delete_id)
        is_complete = status.take("status", str) == "complete"
        if is_complete or status["status"] == "failed":
            reason = str(status.get("error") or "Synapse could not make the account leave: see the log of Synapse")
            break
        time.sleep(SHUTDOWN_POLL_INTERVAL)
    remaining = read_again(lambda: local_members(client, room_id), lambda members: not is_complete or not members)
    return dict.fromkeys(remaining, reason)


@contextmanager
def unlimited_messages(client: Client, user_id: str | None = None) -> Iterator[None]:
    """Lift the message rate limit of an account, and restore it at the end.

    It also applies to leaves. That of the operator also applies to accounts that the operator acts as, but not to
    sessions of a service that handles login.

    API: C(/_synapse/admin/v1/users/<user_id>/override_ratelimit).

    :param user_id: by default, the operator.
    """
    path = f"{ADMIN}/v1/users/{{}}/override_ratelimit"
    limited = user_id or client.user_id
    before = client.get(path, limited)
    client.post(path, limited, json={"messages_per_second": 0, "burst_count": 0})
    try:
        yield
    finally:
        if before:
            client.post(path, limited, json=before)
        else:
            client.delete(path, limited)
