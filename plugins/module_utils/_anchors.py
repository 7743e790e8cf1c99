# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Anchors: accounts that stay in federated rooms until the other servers have been told that the rest has left.

A server that was down asks us for the events that it missed, and we answer only while somebody of ours is in the room.
So for each room that other servers are in, one account of ours stays in it. The fewest that will do are chosen. Admins,
and accounts that are to be kept, come first, since they stay open anyway; the others are logged out everywhere and
locked, and closed when their last room is released.

Which account anchors which rooms is recorded before anybody is touched, and an anchor stays one for as long as it is in
its rooms: so a run that was killed goes on with the same ones, from any controller.

Where login is delegated to a Matrix Authentication Service, nobody but the operator can be acted as, and so nobody else
can be made to leave one room and stay in another. There, an account that anchors a room, or that stays open, anchors
all federated rooms that it is in; it loses its devices, and is not locked, since that would have no effect; and a room
is released by shutting it down, which makes all accounts of ours leave it, and them alone.
"""

from __future__ import annotations

import heapq
import json
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Collection, Iterable, Iterator, NamedTuple, Sequence

from . import _state
from ._client import ADMIN, CLIENT, Client, JsonDict, SynapseError
from ._destinations import survey
from ._drain import Options as DrainOptions
from ._drain import drain
from ._journal import Journal
from ._pool import each
from ._rooms import (
    Memberships,
    clear_room,
    joined_rooms,
    leave,
    list_rooms,
    local_members,
    memberships,
    not_cleared,
    open_members,
    still_joined,
    try_to_leave,
    unlimited_messages,
    visible_memberships,
)
from ._sender import Sender, wake
from ._users import (
    Account,
    account_class,
    acting_as,
    delete_devices,
    end_sessions,
    existing_accounts,
    get_user,
    has_devices,
    list_accounts,
    login_is_delegated,
    set_locked,
    unlocked,
)

AHEAD = 32
"""How many candidates to look at together."""
EVENTS = 100
"""In how many of the newest changes of a room's members to look for why an anchor is gone."""
STILL_JOINED = "the server accepted the leave, but the account is still joined"


@dataclass(frozen=True)
class Options:
    """How to anchor.

    :param keep: accounts that stay open, as the admins do.
    :param ignore: servers that need not be told, such as those that retire at the same time.
    :param erase: erase the anchors when they are closed.
    :param wait_timeout: the drain's, when they are closed.
    """

    keep: frozenset[str] = frozenset()
    ignore: frozenset[str] = frozenset()
    erase: bool = True
    wait_timeout: float = 60.0
    concurrency: int = 8


class Loss(NamedTuple):
    """Who was to anchor a room, why it does not, and who does in its place."""

    user_id: str
    reason: str
    replacement: str | None = None


@dataclass
class Record:
    """Which account anchors which rooms, as it is kept on the server.

    An anchor without rooms is to be closed. I(staying) are the anchors that are neither locked nor closed, and
    I(releasing) the rooms that anchors were about to leave: who is not in one of them has not been lost. I(lost) are
    the rooms that had an anchor, and could not get another. I(alone) are the rooms in which the anchor was alone from
    the beginning, so that nobody leaves them in the first wave.
    """

    anchors: dict[str, list[str]] = field(default_factory=dict)
    staying: set[str] = field(default_factory=set)
    releasing: set[str] = field(default_factory=set)
    lost: dict[str, Loss] = field(default_factory=dict)
    alone: set[str] = field(default_factory=set)

    @classmethod
    def from_json(cls, content: JsonDict) -> Record:
        """What C(as_json) made; an empty record if it is something else, so that anchors are chosen anew."""
        try:
            return cls(
                {_text(user_id): sorted(map(_text, rooms)) for user_id, rooms in content["anchors"].items()},
                set(map(_text, content["staying"])),
                set(map(_text, content["releasing"])),
                {room: Loss(_text(lost["user_id"]), _text(lost["reason"])) for room, lost in content["lost"].items()},
                set(map(_text, content["alone"])),
            )
        except (KeyError, TypeError, AttributeError):
            return cls()

    def as_json(self) -> JsonDict:
        return {
            "anchors": dict(self.anchors),
            "staying": sorted(self.staying),
            "releasing": sorted(self.releasing),
            "lost": {room_id: {"user_id": loss.user_id, "reason": loss.reason} for room_id, loss in self.lost.items()},
            "alone": sorted(self.alone),
        }

    @property
    def anchoring(self) -> list[str]:
        """The accounts that anchor a room: those that nobody else should close, or make leave."""
        return sorted(user_id for user_id, room_ids in self.anchors.items() if room_ids)

    @property
    def rooms(self) -> set[str]:
        return {room_id for room_ids in self.anchors.values() for room_id in room_ids}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


@dataclass
class Anchors:
    """What there is, and what came of choosing or releasing.

    :ivar before: the record as it was.
    :ivar lost: rooms that have no anchor any more, those in the record included.
    :ivar unanchored: rooms that have nobody who could anchor them, with the reason.
    :ivar barred: how many rooms need no anchor because a server ACL bars us from them.
    :ivar held: accounts that were logged out and locked.
    :ivar left: how many rooms, invites and knocks each anchor gave up that it does not anchor.
    :ivar failed: what could not be done, by account.
    """

    record: Record
    before: Record
    classes: dict[str, str] = field(default_factory=dict)
    lost: dict[str, Loss] = field(default_factory=dict)
    replaced: dict[str, Loss] = field(default_factory=dict)
    unanchored: dict[str, str] = field(default_factory=dict)
    barred: int = 0
    held: list[str] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)
    released: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    failed: list[tuple[str, str | None, str]] = field(default_factory=list)
    aborted: SynapseError | None = None

    @property
    def changed(self) -> bool:
        return bool(self.record != self.before or self.held or self.left or self.released or self.closed)


@dataclass
class _Look:
    """The recorded anchors, held against who is really where."""

    record: Record
    accounts: dict[str, Account]
    covered: dict[str, set[str]]
    """The rooms of each anchor that it does anchor."""
    gone: dict[str, str]
    """The rooms that it does not, with whose they were. Those that it was about to leave are not among them."""

    @property
    def classes(self) -> dict[str, str]:
        return {user_id: account.account_class for user_id, account in self.accounts.items()}


def _look(client: Client, concurrency: int) -> _Look:
    record = Record.from_json(_state.read_anchors(client))
    accounts = existing_accounts(client, list(record.anchors))
    open_ = [user_id for user_id in record.anchors if user_id in accounts and not _is_closed(accounts[user_id])]
    joined = still_joined(client, open_, concurrency)
    covered: dict[str, set[str]] = {}
    gone: dict[str, str] = {}
    for user_id, room_ids in record.anchors.items():
        covered[user_id] = set(joined.get(user_id, ())).intersection(room_ids)
        gone.update((r, user_id) for r in room_ids if r not in covered[user_id] and r not in record.releasing)
    return _Look(record, accounts, covered, gone)


def _is_closed(account: Account) -> bool:
    return account.state in ("deactivated", "erased")


def read(client: Client, concurrency: int) -> Anchors:
    """The anchors as they are. Rooms that have lost theirs count as lost, whoever might take its place."""
    look = _look(client, concurrency)
    losses = _losses(client, look, look.gone, concurrency)
    now = replace(look.record, anchors={user_id: sorted(rooms) for user_id, rooms in look.covered.items()})
    return Anchors(now, now, look.classes, lost={**look.record.lost, **losses})


def _losses(client: Client, look: _Look, room_ids: Iterable[str], concurrency: int) -> dict[str, Loss]:
    def why(room_id: str) -> Loss:
        user_id = look.gone[room_id]
        return Loss(user_id, _why_gone(client, room_id, user_id, look.accounts.get(user_id)))

    return dict(sorted(each(why, room_ids, concurrency)))


def _why_gone(client: Client, room_id: str, user_id: str, account: Account | None) -> str:
    """API: C(GET /_synapse/admin/v1/rooms/<room_id>/messages)."""
    if account is None:
        return "the account does not exist any more"
    if _is_closed(account):
        return "the account was deactivated"
    query = {"dir": "b", "limit": EVENTS, "filter": json.dumps({"types": ["m.room.member"]})}
    try:
        events = client.get(f"{ADMIN}/v1/rooms/{{}}/messages", room_id, params=query).objects("chunk")
    except SynapseError as error:
        if error.fatal:
            raise
        return f"it is not in the room, and the server does not say why: {error}"
    for event in events:
        membership = event.object("content").get("membership")
        if event.get("state_key") == user_id and membership != "join":
            by = event.get("sender")
            if by == user_id:
                return "left by itself"
            return f"was {'banned' if membership == 'ban' else 'kicked'} by {by}"
    return "it is not in the room"


def choose(client: Client, options: Options, *, dry_run: bool = False) -> Anchors:
    """Choose anchors, record them, log out and lock them, and have them leave the rooms that they don't anchor.

    Who anchors a room already goes on with it. Where somebody can't any more, another account takes its place.
    """
    look = _look(client, options.concurrency)
    result = Anchors(look.record, look.record, look.classes)
    delegated = login_is_delegated(client)
    _Choice(client, options, look, delegated).make(result)
    plans = [plan for plan in _plans(client, result.record, options, delegated) if plan]
    if dry_run:
        for plan in plans:
            plan.count_as_done()
            plan.account_for(result)
        return result
    if result.record != look.record:
        _state.write_anchors(client, result.record.as_json())
    with _aborting(result), unlimited_messages(client) if plans else nullcontext():
        for plan, _nothing in each(_Plan.carry_out, plans, options.concurrency):
            plan.account_for(result)
    return result


@contextmanager
def _aborting(result: Anchors) -> Iterator[None]:
    """Keep the error that ends it together with what was done before."""
    try:
        yield
    except SynapseError as error:
        result.aborted = error


class _Choice:
    """Who is to anchor the rooms that have no anchor."""

    def __init__(self, client: Client, options: Options, look: _Look, delegated: bool) -> None:
        self.client = client
        self.options = options
        self.look = look
        self.delegated = delegated
        self.covered = {room_id for room_ids in look.covered.values() for room_id in room_ids}
        self.members: dict[str, list[str]] = {}
        """The rooms that need an anchor, with who of ours is in them; if login is delegated, those too that have."""
        self.accounts: dict[str, Account] = {}
        self.hampered: dict[str, bool | None] = {}
        """Whether a candidate that was looked at by itself is suspended or shadow-banned. None: it can't anchor."""

    def make(self, result: Anchors) -> None:
        look = self.look
        anchors = {user_id: set(room_ids) for user_id, room_ids in look.covered.items()}
        self._find_members(result)
        for user_id, room_ids in self._cover():
            anchors.setdefault(user_id, set()).update(room_ids)
        if self.delegated:
            for user_id, room_id in self._who_cannot_leave(anchors):
                anchors.setdefault(user_id, set()).add(room_id)
        result.classes.update((u, self.accounts[u].account_class) for u in anchors if u in self.accounts)
        anchor_of = {room_id: user_id for user_id, rooms in anchors.items() for room_id in rooms}
        missed = [room_id for room_id, needs in each(self._needs_anchor, look.gone, self.options.concurrency) if needs]
        losses = _losses(self.client, look, missed, self.options.concurrency)
        result.replaced = {r: loss._replace(replacement=anchor_of[r]) for r, loss in losses.items() if r in anchor_of}
        result.lost = {r: loss for r, loss in {**look.record.lost, **losses}.items() if r not in anchor_of}
        result.unanchored = {
            room_id: f"those who are in it can't anchor it: {', '.join(self._kinds(user_ids))}"
            for room_id, user_ids in sorted(self.members.items())
            if room_id not in anchor_of and room_id not in result.lost
        }
        staying = {user_id for user_id in anchors if self._stays(user_id, result.classes.get(user_id))}
        kept = {u: sorted(rooms) for u, rooms in sorted(anchors.items()) if rooms or u not in staying}
        alone = {room_id for room_id, user_ids in self.members.items() if len(user_ids) == 1} - look.record.rooms
        alone |= self.covered & look.record.alone
        alone.intersection_update(anchor_of)
        result.record = Record(kept, staying.intersection(kept), set(), result.lost, alone)

    def _who_cannot_leave(self, anchors: Collection[str]) -> list[tuple[str, str]]:
        """Who is in which room, and would have to leave it while it stays open: nobody can be logged in as."""
        return [
            (user_id, room_id)
            for room_id, user_ids in self.members.items()
            for user_id in user_ids
            if user_id != self.client.user_id
            and user_id in self.accounts
            and not _is_closed(self.accounts[user_id])
            and (user_id in anchors or self._stays(user_id, self.accounts[user_id].account_class))
        ]

    def _stays(self, user_id: str, class_: str | None) -> bool:
        return class_ in ("admin", "operator") or user_id in self.options.keep

    def _find_members(self, result: Anchors) -> None:
        skipped = set() if self.delegated else self.covered
        rooms = (room for room in list_rooms(self.client, occupied=True) if room["room_id"] not in skipped)
        shared = survey(self.client, rooms, self.options.concurrency)
        result.barred = sum(room.barred for room in shared.values())
        needy = [r for r, room in shared.items() if not room.barred and room.servers - self.options.ignore]
        found = each(lambda room_id: local_members(self.client, room_id), needy, self.options.concurrency)
        self.members = {room_id: list(map(sys.intern, user_ids)) for room_id, user_ids in found if user_ids}

    def _needs_anchor(self, room_id: str) -> bool:
        """Whether a room whose anchor is gone is one that other servers are in, or were when the last of us left."""
        if room_id in self.members:
            return True
        try:
            return not local_members(self.client, room_id)
        except SynapseError as error:
            if error.status != 404:
                raise
            return True

    def _cover(self) -> Iterator[tuple[str, list[str]]]:
        """The anchors of these rooms: of each tier the fewest, as far as a greedy choice finds them."""
        rooms_of: dict[str, list[str]] = {}
        for room_id, user_ids in self.members.items():
            for user_id in user_ids:
                rooms_of.setdefault(user_id, []).append(room_id)
        if rooms_of:
            self.accounts = {a.user_id: a for a in list_accounts(self.client) if a.user_id in rooms_of}
        tiers: list[dict[str, list[str]]] = [{}, {}, {}, {}, {}]
        anchoring, spared, ordinary, hampered, locked = tiers
        for user_id, account in self.accounts.items():
            if _is_closed(account) or account.account_class == "guest":
                continue
            if user_id in self.look.covered:
                tier = anchoring
            elif account.state == "locked":
                tier = locked
            else:
                tier = spared if self._stays(user_id, account.account_class) else ordinary
            tier[user_id] = rooms_of[user_id]
        open_rooms = set(self.members) - self.covered
        for tier in tiers:
            candidates = GreedyCover(tier, open_rooms)
            for user_id, room_ids in candidates:
                if tier is ordinary or tier is locked:
                    if user_id not in self.hampered:
                        self._look_at([user_id, *candidates.peek(AHEAD)])
                    if self.hampered[user_id] is None:
                        continue
                    if self.hampered[user_id] and tier is ordinary:
                        hampered[user_id] = rooms_of[user_id]
                        continue
                open_rooms.difference_update(room_ids)
                yield user_id, room_ids

    def _look_at(self, user_ids: Sequence[str]) -> None:
        """The listing of accounts does not say who is an application service's, or suspended."""
        unknown = [user_id for user_id in user_ids if user_id not in self.hampered]
        for user_id, user in each(lambda user_id: get_user(self.client, user_id), unknown, self.options.concurrency):
            if account_class(user, self.client.user_id) == "appservice":
                self.hampered[user_id] = None
            else:
                self.hampered[user_id] = bool(user.get("suspended") or user.get("shadow_banned"))

    def _kinds(self, user_ids: Iterable[str]) -> list[str]:
        kinds = set()
        for user_id in user_ids:
            account = self.accounts.get(user_id)
            if account is None:
                kinds.add("unlisted")
            elif _is_closed(account):
                kinds.add("deactivated")
            else:
                kinds.add("guest" if account.account_class == "guest" else "appservice")
        return sorted(kinds)


class GreedyCover:
    """Iterate over who is in most of the open rooms, with these rooms; then over who is in most of what is left.

    Whoever takes an account must take its rooms out of I(open_rooms). The order is the same whoever asks.
    """

    def __init__(self, rooms_of: dict[str, list[str]], open_rooms: Collection[str]) -> None:
        self._rooms_of = rooms_of
        self._open_rooms = open_rooms
        self._heap = [(-len(room_ids), user_id) for user_id, room_ids in rooms_of.items()]
        heapq.heapify(self._heap)

    def __iter__(self) -> Iterator[tuple[str, list[str]]]:
        while True:
            best = self._pop()
            if best is None:
                return
            yield best

    def _pop(self) -> tuple[str, list[str]] | None:
        # How many open rooms somebody is in can only shrink, so that only the first must be counted anew.
        while self._heap and self._open_rooms:
            size, user_id = heapq.heappop(self._heap)
            room_ids = [room_id for room_id in self._rooms_of[user_id] if room_id in self._open_rooms]
            if len(room_ids) == -size:
                return user_id, room_ids
            if room_ids:
                heapq.heappush(self._heap, (-len(room_ids), user_id))
        return None

    def peek(self, most: int) -> list[str]:
        """Some of those who are likely to be next."""
        found = [best for best in (self._pop() for _one in range(most)) if best is not None]
        for user_id, room_ids in found:
            heapq.heappush(self._heap, (-len(room_ids), user_id))
        return [user_id for user_id, _room_ids in found]


@dataclass
class _Plan:
    """What an anchor has yet to do: be held, and leave the rooms that it does not anchor."""

    client: Client
    user_id: str
    room_ids: frozenset[str]
    stays: bool
    concurrency: int
    delegated: bool = False
    locked: bool = False
    held: bool = True
    others: Memberships = field(default_factory=Memberships)
    left: int = 0
    failed: dict[str | None, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return not self.held or bool(self.others)

    def look(self) -> None:
        if not self.stays:
            self.locked = self.delegated or bool(get_user(self.client, self.user_id).get("locked"))
            self.held = self.locked and not has_devices(self.client, self.user_id)
        self.others = self._others(visible_memberships(self.client, self.user_id))

    def _others(self, found: Memberships) -> Memberships:
        return replace(found, joined=[room_id for room_id in found.joined if room_id not in self.room_ids])

    def count_as_done(self) -> None:
        self.left = len(self.others.joined) + len(self.others.invited) + len(self.others.knocked)

    def account_for(self, result: Anchors) -> None:
        if not self.held and None not in self.failed:
            result.held.append(self.user_id)
        if self.left:
            result.left[self.user_id] = self.left
        result.failed.extend((self.user_id, room_id, reason) for room_id, reason in self.failed.items())

    def carry_out(self) -> None:
        try:
            if self.delegated:
                self._carry_out_delegated()
                return
            if not self.held:
                self._hold()
                # Who was locked before has left nothing yet, and who was not may have been quicker than the lock.
                self.others = self._others(visible_memberships(self.client, self.user_id))
            if self.others:
                with _as_anchor(self.client, self.user_id, self.stays) as token:
                    self._leave_others(token)
        except SynapseError as error:
            if error.fatal:
                raise
            self.failed[None] = str(error)

    def _carry_out_delegated(self) -> None:
        if not self.held:
            delete_devices(self.client, self.user_id)
        for room_id, remaining in each(lambda r: clear_room(self.client, r), self.others.joined, self.concurrency):
            if self.user_id in remaining:
                self.failed[room_id] = remaining[self.user_id]
            else:
                self.left += 1

    def _hold(self) -> None:
        with acting_as(self.client, self.user_id) as token:
            if not self.locked:
                self._leave_others(token)
            # In this order, since nobody can log in to a locked account.
            set_locked(self.client, self.user_id, True)
            end_sessions(self.client, token)

    def _leave_others(self, token: str | None) -> None:
        """What can't be turned down is no failure: it is tried again when the account is closed."""
        others = self._others(memberships(self.client, self.user_id, token))
        room_ids = [*others.joined, *others.invited, *others.knocked]
        reasons = _leave(self.client, room_ids, token, self.concurrency)
        remaining = set(joined_rooms(self.client, self.user_id)) - self.room_ids
        self.failed = {room_id: reasons.get(room_id, STILL_JOINED) for room_id in sorted(remaining)}
        self.left += len(set(room_ids) - remaining - reasons.keys())


def _plans(client: Client, record: Record, options: Options, delegated: bool) -> Iterator[_Plan]:
    plans = [
        _Plan(
            client,
            user_id,
            frozenset(record.anchors[user_id]),
            user_id in record.staying,
            options.concurrency,
            delegated and user_id != client.user_id,
        )
        for user_id in record.anchoring
    ]
    looks = each(_Plan.look, plans, options.concurrency)
    if not delegated:
        yield from (plan for plan, _nothing in looks)
        return
    unanchored = {
        room_id for plan, _nothing in looks if plan.delegated for room_id in plan.others.joined
    } - record.rooms
    blocked = each(lambda r: _blockers(client, r, record, options.keep), unanchored, options.concurrency)
    clearable = {room_id for room_id, others in blocked if not others}
    for plan in plans:
        if plan.delegated:
            plan.others = Memberships(joined=[r for r in plan.others.joined if r in clearable])
            # Once is enough, whoever else is in them.
            clearable.difference_update(plan.others.joined)
        yield plan


def _blockers(client: Client, room_id: str, record: Record, keep: Collection[str]) -> list[Account]:
    """Who keeps a room from being shut down: who is in it, open, and neither an anchor nor an account that stays."""
    others = open_members(client, room_id, {*record.anchors, *keep})
    return [account for account in others if account.account_class not in ("admin", "operator")]


@contextmanager
def _as_anchor(client: Client, user_id: str, stays: bool) -> Iterator[str | None]:
    """An access token of an anchor. If it is one that is held, it is unlocked for as long as the context lasts."""
    if stays:
        with unlocked(client, user_id), acting_as(client, user_id) as token:
            yield token
        return
    with acting_as(client, user_id) as token:
        # No session is of any use as long as the account is locked. When it is not, there must be none.
        end_sessions(client, token)
        set_locked(client, user_id, False)
        try:
            yield token
        finally:
            set_locked(client, user_id, True)


def _leave(client: Client, room_ids: Iterable[str], token: str | None, concurrency: int) -> dict[str, str]:
    """Leave these rooms; return those where that failed, and why."""
    tries = each(lambda room_id: try_to_leave(client, room_id, token), room_ids, concurrency)
    return {room_id: reason for room_id, reason in tries if reason is not None}


def rejoin(
    client: Client,
    record: Record,
    room_ids: Collection[str],
    reason: str,
    concurrency: int,
    sender: Sender | None = None,
) -> dict[str, SynapseError | None]:
    """The anchors of these rooms join them once more; return why that was not possible, by room, or C(None).

    That is an event which servers that show it don't show to anybody, since it changes nothing, and which needs no
    power in the room. Synapse sends it even to a server of which it does not know what it has missed, and that one
    then asks for what was before.

    API: C(POST /_matrix/client/v3/join/<room_id>).

    :param sender: sees to it that none of these events overtakes another. Then it is one after the other.
    """
    wanted = {user_id: sorted(set(room_ids).intersection(rooms)) for user_id, rooms in record.anchors.items()}

    def join_one(room_id: str, token: str | None) -> SynapseError | None:
        try:
            with sender.sees_off(room_id) if sender else nullcontext():
                client.post(f"{CLIENT}/v3/join/{{}}", room_id, json={"reason": reason}, token=token)
        except SynapseError as error:
            if error.fatal:
                raise
            return error
        return None

    def join(user_id: str) -> dict[str, SynapseError | None]:
        outcome: dict[str, SynapseError | None] = {}
        try:
            with _as_anchor(client, user_id, user_id in record.staying) as token:
                for room_id in wanted[user_id]:
                    outcome[room_id] = join_one(room_id, token)
        except SynapseError as error:
            if error.fatal:
                raise
            outcome = {**dict.fromkeys(wanted[user_id], error), **outcome}
        return outcome

    found: dict[str, SynapseError | None] = {}
    for _user, outcome in each(join, [u for u, rooms in wanted.items() if rooms], 1 if sender else concurrency):
        found.update(outcome)
    return found


def release(client: Client, room_ids: Collection[str] | None, options: Options, *, dry_run: bool = False) -> Anchors:
    """The anchors leave these rooms, or all; those that anchor no room any more are closed, and seen out.

    A room whose anchor is gone by then is noted as lost.
    """
    return _Release(client, options, room_ids).run(dry_run)


class _Release:
    def __init__(self, client: Client, options: Options, room_ids: Collection[str] | None) -> None:
        self.client = client
        self.options = options
        self.look = look = _look(client, options.concurrency)
        wanted = look.record.rooms if room_ids is None else set(room_ids)
        self.leaving = {u: sorted(wanted & covered) for u, covered in look.covered.items() if wanted & covered}
        losses = _losses(client, look, (r for r in look.gone if r in wanted), options.concurrency)
        # What an anchor was about to leave, and is not in any more, has been released.
        anchors = {
            user_id: [r for r in recorded if r in look.covered[user_id] or (r in look.gone and r not in wanted)]
            for user_id, recorded in look.record.anchors.items()
        }
        releasing = {room_id for rooms in self.leaving.values() for room_id in rooms}
        lost = {**look.record.lost, **losses}
        record = Record(anchors, set(look.record.staying), releasing, lost, set(look.record.alone))
        self.result = Anchors(record, look.record, look.classes, record.lost)
        self.written = look.record.as_json()
        self.delegated = bool(self.leaving) and login_is_delegated(client)
        self.sender = Sender(client)
        self.not_cleared: dict[str, dict[str, str]] = {}
        """Where login is delegated, who is still in the rooms that were to be shut down, and why."""

    def run(self, dry_run: bool) -> Anchors:
        if dry_run:
            for user_id in self.leaving:
                self._note(user_id, {})
            closing = self._to_close()
            self.result.closed = [user_id for user_id in closing if not _is_closed(self.look.accounts[user_id])]
            self._forget(closing)
            return self.result
        with _aborting(self.result):
            if self.leaving:
                self._write()
                with unlimited_messages(self.client):
                    # Nobody may have seen off what was left before, if Synapse or a run was killed.
                    wake(self.client)
                    if self.delegated:
                        self._shut_down()
                    for user_id in self.leaving:
                        self._note(user_id, self._leave(user_id))
                for room_id in self.result.released:
                    remaining = self._clear(room_id)
                    self.result.failed.extend((user_id, room_id, reason) for user_id, reason in remaining.items())
            record = self.result.record
            self.result.record = replace(record, releasing=set(), alone=record.alone & record.rooms)
            self._close(self._to_close())
            self._write()
        return self.result

    def _write(self) -> None:
        content = self.result.record.as_json()
        if content != self.written:
            _state.write_anchors(self.client, content)
            self.written = content

    def _shut_down(self) -> None:
        """Each room once: several may anchor it."""
        rooms = {r for user_id, room_ids in self.leaving.items() if user_id != self.client.user_id for r in room_ids}
        self.not_cleared = {room_id: self._shut_down_one(room_id) for room_id in sorted(rooms)}

    def _shut_down_one(self, room_id: str) -> dict[str, str]:
        try:
            others = _blockers(self.client, room_id, self.look.record, self.options.keep)
            if not others:
                with self.sender.sees_off(room_id):
                    return clear_room(self.client, room_id)
            reason = not_cleared(others)
        except SynapseError as error:
            if error.fatal:
                raise
            reason = str(error)
        return dict.fromkeys(self.leaving, reason)

    def _leave(self, user_id: str) -> dict[str, str]:
        """Return the rooms that it is still in, and why."""
        room_ids = self.leaving[user_id]
        if self.delegated and user_id != self.client.user_id:
            return self._still_in(user_id, {r: self.not_cleared[r].get(user_id, STILL_JOINED) for r in room_ids})
        reasons: dict[str, str] = {}
        try:
            with _as_anchor(self.client, user_id, user_id in self.look.record.staying) as token:
                for room_id in room_ids:
                    reason = self._leave_one(room_id, token)
                    if reason is not None:
                        reasons[room_id] = reason
        except SynapseError as error:
            if error.fatal:
                raise
            reasons = {room_id: reasons.get(room_id, str(error)) for room_id in room_ids}
        return self._still_in(user_id, reasons)

    def _leave_one(self, room_id: str, token: str | None) -> str | None:
        """Return why that failed, if it did."""
        try:
            with self.sender.sees_off(room_id):
                leave(self.client, room_id, token)
        except SynapseError as error:
            if error.fatal:
                raise
            return str(error)
        return None

    def _still_in(self, user_id: str, reasons: dict[str, str]) -> dict[str, str]:
        remaining = set(joined_rooms(self.client, user_id))
        return {r: reasons.get(r, STILL_JOINED) for r in self.leaving[user_id] if r in remaining}

    def _clear(self, room_id: str) -> dict[str, str]:
        """Have those leave as well, with their anchor gone, whom nobody can log in as. Return who is still there."""
        members: list[str] = []
        try:
            members = local_members(self.client, room_id)
            if members and not existing_accounts(self.client, members):
                with self.sender.sees_off(room_id):
                    return clear_room(self.client, room_id)
        except SynapseError as error:
            if error.fatal:
                raise
            return dict.fromkeys(members, str(error))
        return {}

    def _note(self, user_id: str, failed: dict[str, str]) -> None:
        left = set(self.leaving[user_id]).difference(failed)
        anchors = self.result.record.anchors
        anchors[user_id] = [room_id for room_id in anchors[user_id] if room_id not in left]
        self.result.released.extend(sorted(left))
        self.result.failed.extend((user_id, room_id, reason) for room_id, reason in failed.items())

    def _to_close(self) -> list[str]:
        """The anchors without rooms that are to be closed. Those that are not are anchors no longer."""
        idle = [user_id for user_id, room_ids in self.result.record.anchors.items() if not room_ids]
        closing = [user_id for user_id in idle if self._is_to_close(user_id)]
        self._forget(set(idle).difference(closing))
        return closing

    def _is_to_close(self, user_id: str) -> bool:
        account = self.look.accounts.get(user_id)
        stays = user_id in self.look.record.staying or user_id in self.options.keep
        return account is not None and account.account_class not in ("admin", "operator") and not stays

    def _close(self, user_ids: Sequence[str]) -> None:
        if not user_ids:
            return
        options = DrainOptions(
            erase=self.options.erase, wait_timeout=self.options.wait_timeout, concurrency=self.options.concurrency
        )
        with Journal() as journal:
            outcome = drain(self.client, user_ids, options, journal)
        self.result.closed = sorted(outcome.closed)
        if outcome.aborted is not None:
            raise outcome.aborted
        self.result.failed.extend((user_id, None, reason) for user_id, reason in outcome.failed.items())
        for user_id, rooms in outcome.not_parted.items():
            self.result.failed.extend((user_id, room_id, reason) for room_id, reason in rooms.items())
        self._forget(set(user_ids).difference(outcome.failed, outcome.not_parted))

    def _forget(self, user_ids: Iterable[str]) -> None:
        for user_id in user_ids:
            del self.result.record.anchors[user_id]
            self.result.record.staying.discard(user_id)
