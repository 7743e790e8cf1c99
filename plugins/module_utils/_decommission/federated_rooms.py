# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The federated rooms of accounts, which are recorded before they leave: those joined to, invited to or knocking at.

The admin API does not list invites and knocks in rooms that no local account is joined to. Only the C(/sync) of each
account does, until it is deactivated. Since that takes long, these are recorded after the accounts have left the
federated rooms, and before they are deactivated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterable, Iterator

from .._federation.checks import KnownAccounts
from .._federation.names import is_server_name, is_user_id, server_of
from .._synapse.accounts import Account, list_accounts
from .._synapse.answer import Answer
from .._synapse.client import CLIENT, Client
from .._synapse.errors import RefusedError, SynapseError
from .._synapse.rooms import has_others, joined_members, joined_rooms, list_rooms, may_be_shared, sync_rooms
from .._synapse.sessions import Session, can_act_as_others
from .federated_leaves import MAX_UNANSWERED, PATIENCE
from .ghosts import Room
from .pairs import read_room

IGNORED_USERS = f"{CLIENT}/v3/user/{{}}/account_data/m.ignored_user_list"
MAX_INVITING_SERVERS = 20
"""Maximum number of servers to ask about an invite: those of the senders of its state."""


def count_memberships_in_federated_rooms(client: Client) -> dict[str, int]:
    """The number of local accounts in each room that remote accounts may be joined to.

    By Synapse's statistics, so that it takes a few requests: for a dry run.
    """
    rooms = filter(may_be_shared, list_rooms(client, occupied=True))
    return {room["room_id"]: room["joined_local_members"] for room in rooms}


@dataclass
class FederatedRooms:
    """The rooms that remote servers share with local accounts, and what was read to find them.

    :ivar rooms: the rooms that both remote servers and local accounts are joined to.
    :ivar unreadable: the rooms that Synapse can't read, with the reason of each.
    :ivar joined: the rooms that each active account is joined to, by its user ID.
    :ivar federated: whether others than local accounts are joined to a room, by its ID. True if it can't be read.
    """

    rooms: list[Room] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    joined: dict[str, list[str]] = field(default_factory=dict)
    federated: dict[str, bool] = field(default_factory=dict)


def list_federated_rooms(client: Client) -> FederatedRooms:
    """List the rooms that both remote servers and local accounts are joined to."""
    found = FederatedRooms()
    active = [account.user_id for account in list_accounts(client) if not account.is_deactivated]
    # The accounts are exact. Synapse's statistics also cover accounts that no listing has.
    room_ids = {room["room_id"] for room in list_rooms(client, occupied=True)}
    for user_id, joined in client.map(lambda user_id: joined_rooms(client, user_id), active, step="accounts read"):
        found.joined[user_id] = joined
        room_ids.update(joined)
    answers = client.map(lambda room_id: _read_joined(client, room_id), sorted(room_ids), step="rooms read")
    for room_id, (is_federated, room) in answers:
        found.federated[room_id] = is_federated
        if isinstance(room, str):
            found.unreadable[room_id] = room
        elif room is not None and room.servers:
            found.rooms.append(room)
    return found


def list_pending_rooms(client: Client, accounts: Iterable[Account]) -> tuple[list[Room], dict[str, str]]:
    """List the rooms that these accounts are invited to, or knocking at.

    :returns: the rooms, and the accounts whose invites and knocks could not be listed, with the reason of each.
    """
    listed, unlisted = _accounts_to_list(client, accounts)
    rooms: list[Room] = []
    unanswered: list[str] = []
    for account, pending in client.map(lambda account: _try_to_read_pending(client, account, unanswered), listed):
        if isinstance(pending, str):
            unlisted[account.user_id] = pending
        else:
            rooms.extend(pending)
    return rooms, unlisted


def _accounts_to_list(client: Client, accounts: Iterable[Account]) -> tuple[list[Account], dict[str, str]]:
    """Return the accounts whose invites can be listed, and the others with the reason of each.

    Guests and deactivated accounts have none.
    """
    # A session that was opened as a guest can't be ended.
    listed = [account for account in accounts if account.account_class != "guest" and not account.is_deactivated]
    if can_act_as_others(client):
        return listed, {}
    reason = "login is delegated, so that the operator cannot act as the account"
    others = {account.user_id: reason for account in listed if account.account_class != "operator"}
    return [account for account in listed if account.account_class == "operator"], others


def _read_joined(client: Client, room_id: str) -> tuple[bool, Room | str | None]:
    """Return whether a room is federated, and the room by its joined members, or else by its whole state.

    If Synapse can read neither: the reason.
    """
    try:
        members = joined_members(client, room_id)
    except RefusedError:
        return True, _try_to_read_room(client, room_id)
    servers = {server_of(user_id) for user_id in members if is_user_id(user_id)} - {client.server_name}
    ours = (user_id for user_id in members if is_user_id(user_id) and server_of(user_id) == client.server_name)
    room = Room(room_id, tuple(sorted(servers)), KnownAccounts(tuple(sorted(ours))))
    return has_others(client, members), room


def _try_to_read_room(client: Client, room_id: str) -> Room | str | None:
    try:
        return read_room(client, room_id)
    except RefusedError as error:
        return error.reason


def _try_to_read_pending(client: Client, account: Account, unanswered: list[str]) -> list[Room] | str:
    """Read the rooms, or return why they can't be.

    :param unanswered: the errors of accounts without an answer. After some, what answers C(/sync) is taken to be down.
    """
    if len(unanswered) >= MAX_UNANSWERED:
        return unanswered[-1]
    try:
        found = list(_read_pending(client, account))
    except RefusedError as error:
        if error.unanswered:
            unanswered.append(error.reason)
        return error.reason
    unanswered.clear()
    return found


def _read_pending(client: Client, account: Account) -> Iterator[Room]:
    """Yield the rooms that an account is invited to, or knocking at, with the servers that may list it there."""
    user_id = account.user_id
    with Session(client, user_id, locked=account.state == "locked") as session:
        rooms = _without_ignoring(client, user_id, session.token)
    for membership in ("invite", "knock"):
        for room_id in sorted(rooms.object(membership)):
            events = rooms.object(membership).object(room_id).object(f"{membership}_state").objects("events")
            servers = sorted(_servers_of(events) - {client.server_name})[:MAX_INVITING_SERVERS]
            if servers:
                yield Room(room_id, tuple(servers), KnownAccounts((), (user_id,)))


def _without_ignoring(client: Client, user_id: str, token: str | None) -> Answer:
    """Return the rooms of C(/sync), with the invites of ignored users, which it usually omits.

    API: C(GET, PUT /_matrix/client/v3/user/<user_id>/account_data/m.ignored_user_list).
    """
    try:
        ignored = client.get(IGNORED_USERS, user_id, token=token).get("ignored_users")
    except SynapseError as error:
        if error.status != 404:
            raise
        ignored = None
    if not ignored:
        return sync_rooms(client, token, patience=PATIENCE)
    client.put(IGNORED_USERS, user_id, json={"ignored_users": {}}, token=token)
    try:
        return sync_rooms(client, token, patience=PATIENCE)
    finally:
        client.put(IGNORED_USERS, user_id, json={"ignored_users": ignored}, token=token)


def _servers_of(events: list[Answer]) -> set[str]:
    """Return the servers of the senders of the state that comes with an invite or a knock."""
    senders = (event.get("sender") for event in events)
    servers = {sender.partition(":")[2] for sender in senders if isinstance(sender, str)}
    return {server for server in servers if is_server_name(server)}
