# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The gate: what must be true, by values read at that moment, before the host is powered off.

It is one decision in one place. The power-off demands its result, see C(plugin_utils/_gate_ticket.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Collection, Iterable

from .._results import MAX_NAMES
from .._synapse.accounts import Account, list_accounts, unknown_to_synapse
from .._synapse.answer import JsonDict
from .._synapse.client import Client
from .._synapse.rooms import joined_rooms, with_local_members
from .._text import join_names
from .eligibility import Eligibility
from .ghosts import Room
from .idle_parts import describe_stale, describe_unsent

MAX_ROOMS_SIZE = 8 * 1024 * 1024
"""Maximum size in bytes of the rooms in the result. Without ghost checks, all rooms are among them."""


@dataclass(frozen=True)
class Demands:
    """What the operator demands.

    :ivar keep: user IDs of accounts that stay active.
    :ivar erase: whether deactivated accounts must be erased.
    :ivar require_confirmation: whether every remote server that answers must have confirmed.
    :ivar broken_rooms: IDs of rooms that accounts could not leave, and that need not be empty.
    """

    keep: Collection[str] = frozenset()
    erase: bool = True
    require_confirmation: bool = False
    broken_rooms: Collection[str] = frozenset()


@dataclass
class Accounts:
    """The accounts as they are now.

    :ivar total: number of accounts.
    :ivar active: active accounts that should be deactivated.
    :ivar not_erased: deactivated accounts that should be erased.
    :ivar joined: accounts, listed or not, with the rooms that they are joined to.
    :ivar unlisted: those of them that are in no listing of accounts.
    :ivar rooms: number of rooms with local members.
    """

    total: int = 0
    rooms: int = 0
    active: list[str] = field(default_factory=list)
    not_erased: list[str] = field(default_factory=list)
    joined: dict[str, list[str]] = field(default_factory=dict)
    unlisted: list[str] = field(default_factory=list)


def read_accounts(client: Client, demands: Demands) -> Accounts:
    """Read all accounts, the rooms of each, and the rooms that have local members.

    One request for each account, and one for each room with local members: only those are exact.
    """
    found = Accounts()
    accounts = list(list_accounts(client))
    found.total = len(accounts)
    for account in Eligibility(demands.keep).eligible(accounts):
        if not account.is_deactivated:
            found.active.append(account.user_id)
        elif demands.erase and account.state != "erased":
            found.not_erased.append(account.user_id)

    # A registration that was begun before the cordon may have been finished since, in the service that handles login.
    for known in unknown_to_synapse(client):
        user_id = f"@{known.username}:{client.server_name}"
        if not (known.deactivated or known.admin or user_id in (client.user_id, *demands.keep)):
            found.active.append(user_id)

    def read(account: Account) -> list[str]:
        return joined_rooms(client, account.user_id)

    for account, room_ids in client.map(read, accounts, step="accounts read"):
        _add(found, account.user_id, room_ids, demands)
    # Only this finds accounts that are in no listing, for example the senders of application services.
    listed = {account.user_id for account in accounts}
    for room in with_local_members(client):
        found.rooms += 1
        for user_id in room["local_members"]:
            _add(found, user_id, [room["room_id"]], demands)
    # They were read side by side.
    found.joined = dict(sorted(found.joined.items()))
    found.unlisted = [user_id for user_id in found.joined if user_id not in listed]
    return found


def _add(found: Accounts, user_id: str, room_ids: Collection[str], demands: Demands) -> None:
    known = found.joined.get(user_id, [])
    rooms = [room_id for room_id in room_ids if room_id not in demands.broken_rooms and room_id not in known]
    if rooms:
        found.joined[user_id] = [*known, *rooms]


def problems(accounts: Accounts, propagation: JsonDict, demands: Demands) -> list[str]:
    """Why the host must not be powered off; empty if it may be.

    :param propagation: the result of C(synapse_propagation) with I(recheck).
    """
    return [*_account_problems(accounts), *_propagation_problems(propagation, demands)]


def _account_problems(accounts: Accounts) -> list[str]:
    found = []
    if accounts.active:
        found.append(
            f"{len(accounts.active):,} accounts are active: {join_names(accounts.active)}. Run the stage drain again,"
            " or add these accounts to decommission_keep_users"
        )
    if accounts.not_erased:
        found.append(
            f"{len(accounts.not_erased):,} accounts are deactivated but not erased: {join_names(accounts.not_erased)}."
            " Run the stage drain again, or set decommission_erase: false"
        )
    if accounts.joined:
        examples = [f"{user_id} in {join_names(rooms, most=2)}" for user_id, rooms in accounts.joined.items()]
        found.append(
            f"{len(accounts.joined):,} accounts are joined to rooms: {join_names(examples, '; ')}. Run the stages"
            " drain, leave_rooms and propagate again"
        )
    return found


def _propagation_problems(propagation: JsonDict, demands: Demands) -> list[str]:
    summary = propagation["summary"]
    found = []
    if not propagation["finished"]:
        found.append(f"propagation has not finished: {propagation['message']}. Run the stage propagate")
    if summary["ghosts"]:
        found.append(
            f"remote servers still list accounts: {_servers(propagation, 'ghosts')}. Run the stage propagate again, or"
            " add these servers to decommission_ignore_servers"
        )
    if propagation["not_sent_to"]:
        found.append(
            "remote servers may lack changes of rooms, for example new power levels:"
            f" {describe_unsent(propagation['not_sent_to'])}, then run again, or add these servers to"
            " decommission_ignore_servers"
        )
    if propagation["stale_rooms"]:
        found.append(
            "accounts that are in no listing of accounts, for example of bridges, may be joined to rooms:"
            f" {describe_stale(propagation['stale_rooms'])}, then run the stages from leave_rooms on again"
        )
    if demands.require_confirmation and summary["refused"] + summary["unconfirmed"]:
        found.append(
            "remote servers that answer have not confirmed (decommission_require_confirmation):"
            f" {_servers(propagation, 'refused', 'unconfirmed')}. Run the stage propagate again, or add these servers"
            " to decommission_ignore_servers"
        )
    return found


def _servers(propagation: JsonDict, *states: str) -> str:
    return join_names([row["text"] for row in propagation["servers"] if row["state"] in states], "; ")


def only_waits(accounts: Accounts, propagation: JsonDict) -> bool:
    """Whether nothing but time is missing: all accounts have left, and the propagation period is not over yet."""
    return not _account_problems(accounts) and not propagation["finished"]


def rooms_as_options(rooms: Iterable[Room]) -> list[JsonDict]:
    """The first rooms, up to C(MAX_ROOMS_SIZE), as the option I(rooms) of C(matrix_ghosts) has them."""
    options: list[JsonDict] = []
    size = 0
    for room in rooms:
        known = {"accounts": list(room.known.joined), "pending": list(room.known.pending)}
        option = {"room_id": room.room_id, "servers": list(room.servers), **known}
        size += len(json.dumps(option))
        if size > MAX_ROOMS_SIZE:
            break
        options.append(option)
    return options


def as_result(accounts: Accounts, propagation: JsonDict, found: list[str]) -> JsonDict:
    """The result as C(synapse_decommission_gate) documents it."""
    names = {
        "active": accounts.active,
        "not_erased": accounts.not_erased,
        "joined": list(accounts.joined),
        "unlisted": accounts.unlisted,
    }
    return {
        **propagation,
        "open": not found,
        "problems": found,
        "accounts": {
            "total": accounts.total,
            "rooms": accounts.rooms,
            **{name: user_ids[:MAX_NAMES] for name, user_ids in names.items()},
            **{f"{name}_total": len(user_ids) for name, user_ids in names.items()},
        },
    }
