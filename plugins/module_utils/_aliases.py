# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The aliases of this server: nobody can resolve them any more once it is gone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterable, NamedTuple

from . import _state
from ._client import CLIENT, Client, JsonDict, SynapseError
from ._findings import local_aliases
from ._pool import each
from ._room_state import CANONICAL_ALIAS, CREATE, POWER_LEVELS, Powers, is_of, read_state, send_state
from ._rooms import list_rooms, local_members, unlimited_messages
from ._users import acting_as, unlocked

ALIAS = f"{CLIENT}/v3/directory/room/{{}}"
MOST_TRIES = 3
"""As how many accounts to try to change a room's state, one after the other."""


@dataclass
class Release:
    """What came of it: with the reason of each, what did not.

    I(recorded) are the aliases that are on record, with the room ID of each, I(found) those that were in the directory.
    I(renamed) are the rooms whose canonical alias was changed, with its content before and after.
    """

    recorded: dict[str, str] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)
    released: list[str] = field(default_factory=list)
    renamed: dict[str, tuple[JsonDict, JsonDict]] = field(default_factory=dict)
    not_renamed: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    aborted: SynapseError | None = None

    @property
    def changed(self) -> bool:
        return bool(self.released or self.renamed)


def release(client: Client, concurrency: int, *, dry_run: bool) -> Release:
    """Put all aliases of this server on record, take them out of the rooms' state, and delete them."""
    rooms = {room["room_id"]: room for room in list_rooms(client)}
    outcome = Release(found=_find(client, rooms, concurrency))
    before = _state.read_aliases(client)
    outcome.recorded = {**before, **outcome.found}
    if outcome.recorded != before and not dry_run:
        # Before the first is deleted: after that, nothing else knows where it pointed to.
        _state.write_aliases(client, outcome.recorded)
    named = {room_id for room_id, room in rooms.items() if _is_ours(client, room.get("canonical_alias"))}
    concerned = sorted(named.union(outcome.recorded.values()).intersection(rooms))
    try:
        _rename(client, [rooms[room_id] for room_id in concerned], concurrency, outcome, dry_run)
        if dry_run:
            outcome.released = list(outcome.found)
        else:
            _delete(client, concurrency, outcome)
    except SynapseError as error:
        outcome.aborted = error
    return outcome


def _find(client: Client, room_ids: Iterable[str], concurrency: int) -> dict[str, str]:
    """The aliases of this server that point to these rooms, at the price of one request per room."""
    looks = each(lambda room_id: local_aliases(client, room_id), room_ids, concurrency)
    return {alias: room_id for room_id, found in looks for alias in found if _is_ours(client, alias)}


def _is_ours(client: Client, alias: object) -> bool:
    return isinstance(alias, str) and is_of(client.server_name, alias)


class _Plan(NamedTuple):
    """What a room's canonical alias is to become, and who of ours may change it, those first who are to try first."""

    room_id: str
    before: JsonDict
    after: JsonDict
    able: list[str]


def _rename(client: Client, rooms: Iterable[JsonDict], concurrency: int, outcome: Release, dry_run: bool) -> None:
    """Take our aliases out of what these rooms say that they are called."""
    plans = []
    for room, plan in each(lambda room: _plan(client, room), rooms, concurrency):
        if isinstance(plan, str):
            outcome.not_renamed[room["room_id"]] = plan
        elif plan is not None:
            plans.append(plan)
    if not plans:
        return
    if dry_run:
        outcome.renamed.update({plan.room_id: (plan.before, plan.after) for plan in plans})
        return
    with unlimited_messages(client):
        for plan, reason in each(lambda plan: _change(client, plan), plans, concurrency):
            if reason is None:
                outcome.renamed[plan.room_id] = plan.before, plan.after
            else:
                outcome.not_renamed[plan.room_id] = reason


def _plan(client: Client, room: JsonDict) -> _Plan | str | None:
    """What to change in a room: C(None) if nothing, or why it can't be changed."""
    room_id = room["room_id"]
    try:
        state = read_state(client, room_id, (CREATE, POWER_LEVELS, CANONICAL_ALIAS), room.get("state_events") or 0)
        before = state.get((CANONICAL_ALIAS, ""), {})
        after = _without_ours(client, before)
        if after == before:
            return None
        members = local_members(client, room_id)
    except SynapseError as error:
        if error.fatal:
            raise
        return str(error)
    if not members:
        return "nobody of this server is in the room"
    powers = Powers.in_room(state, str(room.get("creator")))
    able = [user_id for user_id in members if powers.of(user_id) >= powers.to_send(CANONICAL_ALIAS)]
    if not able:
        return "nobody of this server in the room has the power to change it"
    able.sort(key=lambda user_id: (user_id != client.user_id, -powers.of(user_id)))
    return _Plan(room_id, before, after, able)


def _without_ours(client: Client, content: JsonDict) -> JsonDict:
    after = dict(content)
    if _is_ours(client, content.get("alias")):
        del after["alias"]
    more = content.get("alt_aliases")
    if isinstance(more, list):
        after["alt_aliases"] = [alias for alias in more if not _is_ours(client, alias)]
    return after


def _change(client: Client, plan: _Plan) -> str | None:
    """Change a room's canonical alias as one who may; return why that failed, if it did."""
    reason = None
    for user_id in plan.able[:MOST_TRIES]:
        try:
            with unlocked(client, user_id), acting_as(client, user_id) as token:
                send_state(client, plan.room_id, CANONICAL_ALIAS, plan.after, token)
        except SynapseError as error:
            if error.fatal:
                raise
            reason = str(error)
        else:
            return None
    return reason


def _delete(client: Client, concurrency: int, outcome: Release) -> None:
    def delete(alias: str) -> str | None:
        try:
            client.delete(ALIAS, alias)
        except SynapseError as error:
            if error.fatal:
                raise
            return None if error.status == 404 else str(error)
        return None

    for alias, reason in each(delete, sorted(outcome.found), concurrency):
        if reason is None:
            outcome.released.append(alias)
        else:
            outcome.failed[alias] = reason
