# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Release of the room aliases of this server, which cannot be resolved any more once the server is gone."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Collection, Iterable, Mapping, NamedTuple, Sequence

from .._synapse.account_data import ACCOUNT_DATA_TYPE, read_data, write_data
from .._synapse.aliases import delete_alias, local_aliases
from .._synapse.answer import JsonDict
from .._synapse.client import Client
from .._synapse.errors import RefusedError, SynapseError
from .._synapse.room_state import CANONICAL_ALIAS, CREATE, POWER_LEVELS, Powers, is_of, read_room
from .._synapse.rooms import list_rooms, may_be_shared, unlimited_messages
from .actors import Actors
from .pairs import is_shared

ALIASES_TYPE = f"{ACCOUNT_DATA_TYPE}.aliases"
MAX_SENDERS = 3
"""Maximum number of accounts that are tried to change the state of a room."""


def read_aliases(client: Client) -> dict[str, str]:
    """The recorded aliases, each with its room ID; empty if they were recorded for another server."""
    aliases = read_data(client, ALIASES_TYPE).get("aliases")
    if not isinstance(aliases, dict):
        return {}
    return {alias: room_id for alias, room_id in aliases.items() if isinstance(room_id, str)}


def write_aliases(client: Client, aliases: dict[str, str]) -> None:
    write_data(client, ALIASES_TYPE, {"aliases": aliases})


@dataclass(frozen=True)
class Kept:
    """The aliases to keep, since a static site will answer for them: those of rooms that remote servers are in.

    :ivar all_federated: whether all of these are kept.
    :ivar names: those to keep otherwise.
    """

    all_federated: bool = False
    names: Collection[str] = frozenset()

    def __bool__(self) -> bool:
        return self.all_federated or bool(self.names)

    def __contains__(self, alias: object) -> bool:
        return self.all_federated or alias in self.names


NOTHING = Kept()


@dataclass
class Release:
    """The result of a release.

    :ivar recorded: all recorded aliases, those of previous runs included, each with its room ID.
    :ivar found: the aliases that were in the directory, each with its room ID.
    :ivar kept: the aliases that a static site will answer for.
    :ivar released: the deleted aliases.
    :ivar renamed: the rooms whose canonical alias was changed, each with the content before and after.
    :ivar not_renamed: the rooms whose canonical alias could not be changed, each with the reason.
    :ivar failed: the aliases that could not be deleted, each with the reason.
    """

    recorded: dict[str, str] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    renamed: dict[str, tuple[JsonDict, JsonDict]] = field(default_factory=dict)
    not_renamed: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    aborted: SynapseError | None = None

    @property
    def changed(self) -> bool:
        return bool(self.released or self.renamed)


def release(client: Client, kept: Kept = NOTHING, *, dry_run: bool) -> Release:
    """Record all aliases of this server, remove them from the state of rooms, then delete them from the directory.

    :param dry_run: predict the result for the rooms that, by the listing, remote accounts may be joined to, or whose
        canonical alias is one of this server.
    """
    rooms = {room["room_id"]: room for room in list_rooms(client)}
    found = _find_aliases(client, _rooms_to_ask(client, rooms) if dry_run else rooms)
    outcome = Release(kept=_find_kept(client, found, kept))
    outcome.found = {alias: room_id for alias, room_id in found.items() if alias not in outcome.kept}
    before = read_aliases(client)
    outcome.recorded = {**before, **outcome.found}
    if outcome.recorded != before and not dry_run:
        # Before the first deletion: after it, the record is the only place that has the room of an alias.
        write_aliases(client, outcome.recorded)
    actors = Actors(client, dry_run=dry_run)
    try:
        changes = _changes(client, _rooms_to_read(client, rooms, outcome.recorded), outcome)
        if dry_run:
            outcome.renamed = {change.room_id: (change.before, change.after) for change in changes}
            outcome.released = list(outcome.found)
        else:
            _send_changes(client, actors, changes, outcome)
            _delete_aliases(client, outcome)
        if actors.problems:
            raise RefusedError("; ".join(actors.problems))
    except SynapseError as error:
        outcome.aborted = error
    return outcome


def _find_aliases(client: Client, room_ids: Iterable[str]) -> dict[str, str]:
    """The aliases of this server that point to these rooms. Takes one request per room."""
    answers = client.map(lambda room_id: local_aliases(client, room_id), room_ids, step="rooms read")
    return {alias: room_id for room_id, aliases in answers for alias in aliases if _is_local(client, alias)}


def _rooms_to_ask(client: Client, rooms: Mapping[str, JsonDict]) -> list[str]:
    """The rooms that most likely have aliases of this server, and those in which they matter to others."""
    return [
        room_id
        for room_id, room in rooms.items()
        if may_be_shared(room) or _is_local(client, room.get("canonical_alias"))
    ]


def _find_kept(client: Client, found: Mapping[str, str], kept: Kept) -> list[str]:
    """The aliases to keep. Their rooms are read, since the site names remote servers in them."""
    wanted = {alias: room_id for alias, room_id in found.items() if alias in kept}
    shared = {
        room_id for room_id, is_in in client.map(lambda room_id: is_shared(client, room_id), wanted.values()) if is_in
    }
    return sorted(alias for alias, room_id in wanted.items() if room_id in shared)


def _is_local(client: Client, alias: object) -> bool:
    return isinstance(alias, str) and is_of(client.server_name, alias)


def _rooms_to_read(client: Client, rooms: dict[str, JsonDict], recorded: dict[str, str]) -> list[JsonDict]:
    """The listed rooms whose canonical alias may be an alias of this server."""
    named = {room_id for room_id, room in rooms.items() if _is_local(client, room.get("canonical_alias"))}
    return [rooms[room_id] for room_id in sorted(named.union(recorded.values()).intersection(rooms))]


class _Change(NamedTuple):
    """A new C(m.room.canonical_alias) of a room, and the accounts that can send it, in the order to try them."""

    room_id: str
    before: JsonDict
    after: JsonDict
    senders: list[str]


def _changes(client: Client, rooms: Iterable[JsonDict], outcome: Release) -> list[_Change]:
    """The changes that remove the aliases of this server from these rooms. Records the rooms that cannot be changed."""
    changes = []
    for room, change in client.map(lambda room: _change(client, room, outcome), rooms, step="rooms with aliases read"):
        if isinstance(change, str):
            outcome.not_renamed[room["room_id"]] = change
        elif change is not None:
            changes.append(change)
    return changes


def _change(client: Client, room: JsonDict, outcome: Release) -> _Change | str | None:
    """The change for a room, or the reason why it cannot be changed; C(None) if it names no alias of this server."""
    room_id = room["room_id"]
    try:
        found = read_room(client, room, (CREATE, POWER_LEVELS, CANONICAL_ALIAS))
    except RefusedError as error:
        return error.reason
    before = found.state.get((CANONICAL_ALIAS, ""), {})
    after = _without_local_aliases(client, before, outcome.kept)
    if after == before:
        return None
    powers = Powers.in_room(found.state, str(room.get("creator")))
    senders = [user_id for user_id in found.local if powers.of(user_id) >= powers.to_send(CANONICAL_ALIAS)]
    if not senders:
        return "no joined account of this server has the power to change the canonical alias"
    senders.sort(key=lambda user_id: (user_id != client.user_id, -powers.of(user_id), user_id))
    return _Change(room_id, before, after, senders)


def _without_local_aliases(client: Client, content: JsonDict, kept: Collection[str]) -> JsonDict:
    def stays(alias: object) -> bool:
        return alias in kept or not _is_local(client, alias)

    after = dict(content)
    if not stays(content.get("alias")):
        del after["alias"]
    alternatives = content.get("alt_aliases")
    if isinstance(alternatives, list):
        after["alt_aliases"] = list(filter(stays, alternatives))
    return after


def _send_changes(client: Client, actors: Actors, changes: Sequence[_Change], outcome: Release) -> None:
    with unlimited_messages(client) if changes else nullcontext():
        for change, reason in client.map(lambda change: _send(actors, change), changes, step="rooms changed"):
            if reason is None:
                outcome.renamed[change.room_id] = change.before, change.after
            else:
                outcome.not_renamed[change.room_id] = reason


def _send(actors: Actors, change: _Change) -> str | None:
    """Send a change as the first account that succeeds; return the reason if none does."""
    reason = None
    for user_id in change.senders[:MAX_SENDERS]:
        try:
            actors.send_state(change.room_id, CANONICAL_ALIAS, change.after, user_id)
        except RefusedError as error:
            reason = error.reason
        else:
            return None
    return reason


def _delete_aliases(client: Client, outcome: Release) -> None:
    def delete(alias: str) -> str | None:
        try:
            delete_alias(client, alias)
        except RefusedError as error:
            return None if error.status == 404 else error.reason
        return None

    for alias, reason in client.map(delete, sorted(outcome.found), step="aliases deleted"):
        if reason is None:
            outcome.released.append(alias)
        else:
            outcome.failed[alias] = reason
