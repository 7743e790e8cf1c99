# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Record the federated rooms before anybody leaves them: who is joined, and who is invited or knocking.

Invites and knocks in rooms that nobody of ours is joined to are in no list of the admin API, and gone when an account
has been deactivated: only the account's own C(/sync) has them. That takes long, so that it comes after the accounts
have left the federated rooms, and before they are deactivated.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Iterable, Iterator

from .._client import CLIENT, Answer, Client, SynapseError
from .._federation.checks import Known
from .._federation.names import server_of
from .._pool import each
from .._rooms import joined_members, joined_rooms, list_rooms, sync_rooms
from .._users import Account, acting_as, list_accounts, login_is_delegated, unlocked
from .ghosts import Room
from .pairs import is_server_name, is_user_id, read_room
from .record import read_record, write_record

IGNORED_USERS = f"{CLIENT}/v3/user/{{}}/account_data/m.ignored_user_list"
MAX_INVITING_SERVERS = 20
"""How many servers of the senders of an invite's state are asked about it."""


def list_federated_rooms(client: Client, concurrency: int) -> tuple[list[Room], dict[str, str]]:
    """List the rooms that remote servers and accounts of ours are joined to.

    :param concurrency: how many accounts or rooms to read side by side.
    :returns: the rooms, and those that Synapse can't read with the reason of each.
    """
    active = [account.user_id for account in list_accounts(client) if not account.is_deactivated]
    # By the accounts, which is exact, and by Synapse's statistics, which have those too who are in no listing.
    room_ids = {room["room_id"] for room in list_rooms(client, occupied=True)}
    for _user_id, joined in each(lambda user_id: joined_rooms(client, user_id), active, concurrency):
        room_ids.update(joined)
    rooms: list[Room] = []
    unreadable: dict[str, str] = {}
    for room_id, room in each(lambda room_id: _read_joined(client, room_id), sorted(room_ids), concurrency):
        if isinstance(room, str):
            unreadable[room_id] = room
        elif room is not None and room.servers:
            rooms.append(room)
    return rooms, unreadable


def record_pending(client: Client, accounts: Iterable[Account], concurrency: int) -> dict[str, str]:
    """Add the rooms that these accounts are invited to, or knocking at, to the record.

    :returns: the accounts whose invites and knocks could not be listed, with the reason of each.
    """
    unlisted: dict[str, str] = {}
    # A session that was opened as a guest can't be ended.
    listed = [account for account in accounts if account.account_class != "guest" and not account.is_deactivated]
    if login_is_delegated(client):
        reason = "nobody else can log in as the account, since login is delegated"
        unlisted.update({account.user_id: reason for account in listed if account.account_class != "operator"})
        listed = [account for account in listed if account.account_class == "operator"]
    rooms: list[Room] = []
    for account, pending in each(lambda account: _try_to_read_pending(client, account), listed, concurrency):
        if isinstance(pending, str):
            unlisted[account.user_id] = pending
        else:
            rooms.extend(pending)
    if rooms:
        record = read_record(client)
        if record.add(rooms):
            write_record(client, record)
    return unlisted


def _read_joined(client: Client, room_id: str) -> Room | str | None:
    """A room by its joined members; by its whole state, if Synapse can't list them. If it can't read either: why."""
    try:
        members = [user_id for user_id in joined_members(client, room_id) if is_user_id(user_id)]
    except SynapseError as error:
        if error.fatal:
            raise
        return _try_to_read_room(client, room_id)
    ours = tuple(sorted(user_id for user_id in members if server_of(user_id) == client.server_name))
    servers = {server_of(user_id) for user_id in members} - {client.server_name}
    return Room(room_id, tuple(sorted(servers)), Known(ours))


def _try_to_read_room(client: Client, room_id: str) -> Room | str | None:
    try:
        return read_room(client, room_id)
    except SynapseError as error:
        if error.fatal:
            raise
        return str(error)


def _try_to_read_pending(client: Client, account: Account) -> list[Room] | str:
    try:
        return list(_read_pending(client, account))
    except SynapseError as error:
        if error.fatal:
            raise
        return str(error)


def _read_pending(client: Client, account: Account) -> Iterator[Room]:
    """The rooms that an account is invited to, or knocking at, with the servers that may list it there."""
    user_id = account.user_id
    # Not for all: it takes a request to see who is locked.
    lock_lifted = unlocked(client, user_id) if account.state == "locked" else nullcontext()
    with lock_lifted, acting_as(client, user_id) as token:
        rooms = _without_ignoring(client, user_id, token)
    for membership in ("invite", "knock"):
        for room_id in sorted(rooms.object(membership)):
            events = rooms.object(membership).object(room_id).object(f"{membership}_state").objects("events")
            servers = sorted(_servers_of(events) - {client.server_name})[:MAX_INVITING_SERVERS]
            if servers:
                yield Room(room_id, tuple(servers), Known((), (user_id,)))


def _without_ignoring(client: Client, user_id: str, token: str | None) -> Answer:
    """What C(/sync) has, also of those whom the account ignores: invites by them are left out of it.

    API: C(GET, PUT /_matrix/client/v3/user/<user_id>/account_data/m.ignored_user_list).
    """
    try:
        ignored = client.get(IGNORED_USERS, user_id, token=token).get("ignored_users")
    except SynapseError as error:
        if error.status != 404:
            raise
        ignored = None
    if not ignored:
        return sync_rooms(client, token)
    client.put(IGNORED_USERS, user_id, json={"ignored_users": {}}, token=token)
    try:
        return sync_rooms(client, token)
    finally:
        client.put(IGNORED_USERS, user_id, json={"ignored_users": ignored}, token=token)


def _servers_of(events: list[Answer]) -> set[str]:
    """The servers of those who have sent the state that comes with an invite or a knock."""
    senders = (event.get("sender") for event in events)
    servers = {sender.partition(":")[2] for sender in senders if isinstance(sender, str)}
    return {server for server in servers if is_server_name(server)}
