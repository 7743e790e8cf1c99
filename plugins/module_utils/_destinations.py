# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Federation: what other servers have been told by this one, and sending again to those that were away.

A I(destination) is another server that this one sends events to. Synapse records for each destination, and each room
that it shares with us, the newest event of ours that is meant for it (C(stream_ordering)); and for each destination
the newest that it has taken (C(last_successful_stream_ordering)). It is behind in a room while the first is greater
than the second.

What C(delivered) proves, and what it does not:

- The other server answered 200 to a transaction with the newest event of each room. It has yet to act on it, and may
  first have to ask us for events in between: some seconds, in which a room must not be left by the last of us.
- Synapse keeps what a destination is yet to be sent in memory. After a restart, or a back-off of more than an hour, it
  sends only the newest event of each room instead, and these records look the same. The destination then asks us for
  those in between, which we refuse once nobody of ours is in the room. So of rooms that we have left we say
  C(delivered) only of a destination that was told of everything before we left them, or if the caller vouches for it.
- What Synapse has not looked at yet, it has not recorded either. The ledger counts once it has been the same, with the
  same I(position), for several polls.
- Synapse ignores it when the other side takes a transaction, but refuses one of the events in it. The one reason that
  can be seen from here is a server ACL.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import time
from dataclasses import dataclass, field
from typing import Collection, Iterable, Iterator, Mapping, NamedTuple

from ._client import ADMIN, Answer, Client, JsonDict, SynapseError
from ._pool import each
from ._rooms import list_rooms, other_servers

DESTINATIONS = f"{ADMIN}/v1/federation/destinations"
ROOM = f"{ADMIN}/v1/rooms/{{}}"

STATES = ("delivered", "pending", "unreachable", "unknown")

NEVER_SENT_TO = "never_sent_to"
NEVER_TAKEN = "never_taken"
NOT_QUEUED = "not_queued"
PURGED = "purged"
NO_ROOMS = "no_rooms"
LEFT = "left"
BARRED = "barred"
UNCONFIRMED = "unconfirmed"
ABOUT_ALL_ROOMS = (NEVER_SENT_TO, NEVER_TAKEN, PURGED, NO_ROOMS, UNCONFIRMED)

CATCH_UP_INTERVAL = 3600
"""From which back-off on, in seconds, Synapse drops what it has in memory for a destination."""
ROOMS_AT_ONCE = 10_000
"""How many rooms of a destination to ask for at once: mostly all, since a room that is purged while we turn a page
shifts another out of sight."""
MOST_DESTINATIONS = 5_000
MOST_ROOMS = 20_000
"""How many destinations that are open, and rooms that they are open for, a ledger remembers for the next poll. With
more, little is saved by not looking at everything again."""
SHOWN = 10
"""How many of the names that are refused a message has."""
SHOWN_DESTINATIONS = 1000
SHOWN_ROOMS = 5
DIGEST = 6
"""How many bytes of a digest stand for a name that is remembered: 8 characters in base64."""
ALL_ROOMS = bytes(DIGEST)
"""What stands for all rooms where digests of rooms are remembered."""


class Destination(NamedTuple):
    """What Synapse records of another server. Times are in seconds since 1970."""

    name: str
    taken: int | None
    """The stream ordering of the newest event that it has taken."""
    failing_since: int | None
    next_retry: int | None
    """When its back-off ends. None when it is in no back-off, which says little: for the first ten minutes or so in
    which a server can't be reached, Synapse goes on trying and records nothing."""
    interval: int
    """How long its back-off is, in seconds."""

    @property
    def failing(self) -> bool:
        return self.failing_since is not None or self.next_retry is not None


class SharedRoom(NamedTuple):
    """A room of ours that other servers are in."""

    servers: frozenset[str]
    barred: bool
    """Whether a server ACL bars us from it, so that others drop what we send."""


@dataclass
class Open:
    """A destination of which can't be said that it has been told."""

    destination: str
    state: str
    rooms: list[str]
    """Those that it is behind in, or that I(reason) is about."""
    reason: str | None = None
    failing_since: int | None = None
    next_retry: int | None = None
    shared: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    """The rooms that it shares with us, somebody of ours being in them."""

    @property
    def open_for(self) -> frozenset[bytes]:
        """The rooms that it can't be said to have been told of."""
        rooms = frozenset(map(_digest, self.rooms))
        return rooms | {ALL_ROOMS} if self.state == "unreachable" or self.reason in ABOUT_ALL_ROOMS else rooms


@dataclass
class Ledger:
    """What each destination has been told, as of one poll."""

    delivered: int = 0
    ignored: int = 0
    open: dict[str, Open] = field(default_factory=dict)
    position: int = 0
    """The highest stream ordering that is recorded anywhere. It grows as Synapse gets round to what is to be sent."""
    read: int = 0
    """Of how many destinations the rooms were read."""
    known: JsonDict = field(default_factory=dict)
    """What the next poll should be given. To be kept as it is; it goes through JSON unharmed."""
    held: frozenset[str] = frozenset()
    """The rooms that somebody of ours is in, by Synapse's statistics: of no others can be said who was told."""

    @property
    def summary(self) -> dict[str, int]:
        counts = dict.fromkeys(STATES, 0)
        counts["delivered"] = self.delivered
        for entry in self.open.values():
            counts[entry.state] += 1
        return {**counts, "total": sum(counts.values()), "ignored": self.ignored}

    @property
    def rooms_behind(self) -> dict[str, list[str]]:
        """The rooms with destinations of which can't be said that they have been told, and these destinations."""
        behind: dict[str, list[str]] = {}
        for name in sorted(self.open):
            for room_id in self.open[name].rooms:
                behind.setdefault(room_id, []).append(name)
        return behind

    def waiting(self, room_ids: Collection[str]) -> dict[str, list[str]]:
        """Of these rooms, that somebody of ours is in, those with destinations of which can't be said that they have
        been told of what is there, and these destinations."""
        digests = {room_id: _digest(room_id) for room_id in room_ids}
        waiting: dict[str, list[str]] = {}
        for name in sorted(self.open):
            entry = self.open[name]
            open_for = entry.open_for
            for room_id in entry.shared & digests.keys():
                if ALL_ROOMS in open_for or digests[room_id] in open_for:
                    waiting.setdefault(room_id, []).append(name)
        return waiting


def list_destinations(client: Client) -> Iterator[Destination]:
    """List the servers that this one has ever tried to send to, each once.

    API: C(GET /_synapse/admin/v1/federation/destinations).
    """
    seen = set()
    for row in client.pages(DESTINATIONS, "destinations"):
        name = sys.intern(row.take("destination", str))
        # One that comes up while we list moves others to the next page, where they come again.
        if name in seen:
            continue
        seen.add(name)
        yield _destination(name, row)


def read_destination(client: Client, name: str) -> Destination | None:
    """One of them; C(None) if nothing was ever sent to it.

    API: C(GET /_synapse/admin/v1/federation/destinations/<destination>).
    """
    try:
        return _destination(name, client.get(f"{DESTINATIONS}/{{}}", name))
    except SynapseError as error:
        if error.status != 404:
            raise
        return None


def _destination(name: str, row: Answer) -> Destination:
    last_try, interval = _milliseconds(row, "retry_last_ts"), _milliseconds(row, "retry_interval")
    failing_since = _milliseconds(row, "failure_ts")
    return Destination(
        name,
        _number(row, "last_successful_stream_ordering"),
        failing_since // 1000 if failing_since else None,
        (last_try + interval) // 1000 if last_try else None,
        interval // 1000,
    )


def _number(row: Answer, key: str) -> int | None:
    return None if row.get(key) is None else row.take(key, int)


def _milliseconds(row: Answer, key: str) -> int:
    return _number(row, key) or 0


def destination_rooms(client: Client, destination: str) -> dict[str, int]:
    """The rooms that Synapse has events for a destination in, with the stream ordering of the newest.

    API: C(GET /_synapse/admin/v1/federation/destinations/<destination>/rooms).
    """
    rooms: dict[str, int] = {}
    start = 0
    while True:
        params = {"limit": ROOMS_AT_ONCE, "from": start}
        answer = client.get(f"{DESTINATIONS}/{{}}/rooms", destination, params=params)
        page = answer.objects("rooms")
        rooms.update((sys.intern(row.take("room_id", str)), row.take("stream_ordering", int)) for row in page)
        start += len(page)
        if not page or "next_token" not in answer:
            break
    if len(rooms) < answer.take("total", int):
        raise answer.error("lists fewer rooms than there are: some were purged meanwhile")
    return rooms


def survey(client: Client, rooms: Iterable[JsonDict], concurrency: int) -> dict[str, SharedRoom]:
    """Of these rooms, as C(list_rooms) has them, the ones that other servers are in, and which these are.

    It has to be asked while somebody of ours is in the room: afterwards, Synapse no longer knows.

    API: C(GET /_synapse/admin/v1/rooms/<room_id>/members) and C(/state).
    """
    shared = [room["room_id"] for room in rooms if room.get("joined_members") != room["joined_local_members"]]
    found = {}
    for room_id, room in each(lambda room_id: _shared_room(client, room_id), shared, concurrency):
        if room.servers:
            found[sys.intern(room_id)] = room
    return found


def _shared_room(client: Client, room_id: str) -> SharedRoom:
    servers = frozenset(map(sys.intern, other_servers(client, room_id)))
    barred = False
    if servers:
        acls = client.get(f"{ROOM}/state", room_id, params={"type": "m.room.server_acl"}).objects("state")
        barred = any(
            acl.get("type") == "m.room.server_acl"
            and acl.get("state_key") == ""
            and not _allowed(acl.object("content"), client.server_name)
            for acl in acls
        )
    return SharedRoom(servers, barred)


def _allowed(acl: JsonDict, server_name: str) -> bool:
    """Whether a server ACL lets a server in, as the Matrix specification has it."""
    host = re.sub(r":[0-9]+$", "", server_name)
    if acl.get("allow_ip_literals") is False and re.fullmatch(r"\[.*\]|[0-9.]+", host):
        return False
    return not _matches(acl.get("deny"), host) and _matches(acl.get("allow"), host)


def _matches(globs: object, host: str) -> bool:
    patterns = [re.escape(glob) for glob in globs if isinstance(glob, str)] if isinstance(globs, list) else []
    return any(
        re.fullmatch(pattern.replace(r"\*", ".*").replace(r"\?", "."), host, re.IGNORECASE) for pattern in patterns
    )


class Known(NamedTuple):
    """What one poll leaves to the next, so that it need not look at everything, and knows what was told in full.

    A destination is in I(told) once it has been told of everything while we were in its rooms, but for what it is
    I(open) for. The rest is told of a room by our leaving it, in one event, which gets through whatever happens.
    """

    told: frozenset[bytes] = frozenset()
    open: dict[str, frozenset[bytes]] | None = None
    """The rooms that each of the others is open for. None: not remembered, so that all are open for all."""
    aside: frozenset[bytes] = frozenset()
    """Destinations that have no part in the rooms that count."""
    gapped: frozenset[bytes] = frozenset()
    """Destinations that were in a back-off in which Synapse drops what it has in memory."""
    missing: dict[str, list[str]] = {}
    barred: list[str] = []
    alone: frozenset[bytes] = frozenset()
    """Rooms that one of ours was in."""
    crowded: frozenset[bytes] = frozenset()
    """Rooms that several of ours were in."""
    shared: dict[str, frozenset[bytes]] = {}
    """The rooms that each open destination is in together with us."""
    memberships: int = -1
    position: int = 0

    def settles(self, row: Destination) -> bool:
        """Whether a destination is as it was: it took nothing since, and all is well."""
        return (
            row.name not in (self.open or {})
            and (_digest(row.name) in self.told or _digest(row.name) in self.aside)
            and row.taken is not None
            and row.taken <= self.position
            and not row.failing
        )

    def one_leave_since(self, destination: str, room_id: str) -> bool:
        """Whether all that has happened since is that we left a room, of which the destination had been told.

        That is, as long as the last of us in a room does nothing there but leave.
        """
        digest = _digest(room_id)
        if digest in self.crowded:
            return False
        if digest not in self.alone:
            return True
        if self.open is None:
            return False
        return self.open.get(destination, frozenset()).isdisjoint((digest, ALL_ROOMS))

    def gone(self, destination: str, room_ids: Iterable[str]) -> frozenset[bytes]:
        """The rooms that a destination was open for, but that are not among these."""
        then = (self.open or {}).get(destination, frozenset())
        return then - {ALL_ROOMS} - {_digest(room_id) for room_id in room_ids} if then else then

    def as_json(self, scope: str) -> JsonDict:
        few = (
            self.open is not None
            and len(self.open) <= MOST_DESTINATIONS
            and sum(map(len, self.open.values())) <= MOST_ROOMS
            and sum(map(len, self.missing.values())) <= MOST_DESTINATIONS
            and sum(map(len, self.shared.values())) <= MOST_ROOMS
        )
        return {
            **{name: getattr(self, name) for name in ("barred", "memberships", "position")},
            **{name: _packed(getattr(self, name)) for name in ("told", "aside", "gapped", "alone", "crowded")},
            "open": {name: _packed(self.open[name]) for name in self.open} if self.open is not None and few else None,
            "missing": self.missing if few else {},
            "shared": {name: _packed(rooms) for name, rooms in self.shared.items()} if few else {},
            "scope": scope,
        }

    @classmethod
    def from_json(cls, content: JsonDict | None, scope: str) -> Known:
        """What a poll has left. For other rooms, another server, or another time, it is worth nothing.

        :raises SynapseError: if it is something else.
        """
        if not content:
            return cls()
        try:
            if content["scope"] != scope:
                return cls()
            return cls(
                told=_unpacked(content["told"]),
                open=None if content["open"] is None else {n: _unpacked(text) for n, text in content["open"].items()},
                aside=_unpacked(content["aside"]),
                gapped=_unpacked(content["gapped"]),
                missing={str(name): list(map(str, room_ids)) for name, room_ids in content["missing"].items()},
                barred=[str(room_id) for room_id in content["barred"]],
                alone=_unpacked(content["alone"]),
                crowded=_unpacked(content["crowded"]),
                shared={str(name): _unpacked(text) for name, text in content["shared"].items()},
                memberships=int(content["memberships"]),
                position=int(content["position"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SynapseError(f"what is known of the poll before is not what that poll returned: {error!r}") from error


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:DIGEST]


def _packed(digests: Iterable[bytes]) -> str:
    return base64.b64encode(b"".join(sorted(digests))).decode()


def _unpacked(text: str) -> frozenset[bytes]:
    joined = base64.b64decode(text, validate=True)
    return frozenset(joined[start : start + DIGEST] for start in range(0, len(joined), DIGEST))


class Verdict(NamedTuple):
    """What the records of one destination come to."""

    entry: Open | None
    """None: it has been told."""
    newest: int
    missing: list[str]
    """The rooms that it is in, but Synapse has nothing recorded for it."""
    told: bool
    """Whether it has been told of everything but what it is open for."""
    gone: frozenset[bytes] = frozenset()
    """The rooms that it was open for, and of which Synapse has no record any more."""
    aside: bool = False
    """Whether it has no part in the rooms that count."""


@dataclass
class Poll:
    """What the records of a destination are judged by."""

    known: Known
    held: frozenset[str]
    """The rooms that somebody of ours is in."""
    missing: dict[str, set[str]]
    """The rooms that each destination should have something recorded for."""
    barred: set[str]
    rooms: frozenset[str] | None
    """The only ones that count."""
    named: bool
    """Whether the destinations that count were named, and not found."""
    since: int
    uninterrupted: bool
    sent_after: Mapping[str, int]
    """Rooms in which something was sent, which the records must show, after this stream ordering."""
    silent: frozenset[str]
    """Rooms in which nothing was sent, so that the records need not show anything."""
    members: dict[str, set[str]] | None = None
    """The rooms that each destination is in together with us. None: it was not looked for others."""

    def judge(self, row: Destination, records: dict[str, int], gapped: bool) -> Verdict:
        newest = max(records.values(), default=0)
        counting = {r: ordering for r, ordering in records.items() if self.rooms is None or r in self.rooms}
        unrecorded = self.missing.get(row.name, set()) - records.keys()
        # Of a server that has left a room, the records stay as they are.
        stale = {
            room_id
            for room_id in self.missing.get(row.name, set()) & counting.keys() & self.sent_after.keys()
            if counting[room_id] <= self.sent_after[room_id]
        }
        missing = sorted((unrecorded - self.silent) | stale)
        noted = sorted(unrecorded | stale)
        taken = row.taken or 0
        behind = [room_id for room_id, ordering in counting.items() if ordering > taken]
        fresh = [room_id for room_id, ordering in counting.items() if ordering > self.since]
        left = [room_id for room_id in fresh if room_id not in self.held]
        told = _digest(row.name) in self.known.told and all(self.known.one_leave_since(row.name, r) for r in left)
        if told:
            left = []
        elif self.uninterrupted and not gapped:
            left = [room_id for room_id in left if room_id in behind]
        # A failing one keeps what it was told before.
        told = told or not (left or row.failing or row.taken is None)
        gone = self.known.gone(row.name, {*records, *unrecorded})
        dropped = [room_id for room_id in fresh if room_id in self.barred]

        def verdict(state: str, room_ids: Iterable[str], reason: str | None = None) -> Verdict:
            entry = Open(row.name, state, sorted(room_ids), reason, row.failing_since, row.next_retry)
            entry.shared = self._shared(row.name, unrecorded | records.keys())
            return Verdict(entry, newest, noted, told, gone)

        down = "unreachable" if row.failing else "unknown"
        if behind and row.taken is None:
            return verdict(down, {*behind, *missing}, NEVER_TAKEN)
        if behind:
            return verdict("unreachable" if row.failing else "pending", {*behind, *missing})
        if missing:
            return verdict(down, missing, NOT_QUEUED)
        if gone:
            return verdict(down, (), PURGED)
        if not records and unrecorded and not self.named:
            return Verdict(None, newest, noted, told, aside=True)
        if not records:
            return verdict(down, (), NO_ROOMS)
        if not counting and self.named:
            return verdict(down, (), NO_ROOMS)
        if not counting:
            return Verdict(None, newest, noted, told, aside=True)
        # Events of different rooms may overtake each other on their way into the queue. If sending broke off in
        # between, one may be left there that is older than the newest taken.
        if row.failing and fresh and not told:
            return verdict("unreachable", (), UNCONFIRMED)
        if dropped:
            return verdict("unknown", dropped, BARRED)
        if left:
            return verdict("unknown", left, LEFT)
        return Verdict(None, newest, noted, told=True)

    def _shared(self, destination: str, room_ids: Iterable[str]) -> frozenset[str]:
        """Of these rooms, which are all that it may be in, those that it is in together with us, as far as known."""
        room_ids = self.held.intersection(room_ids)
        if self.members is not None:
            return room_ids.intersection(self.members.get(destination, ()))
        before = self.known.shared.get(destination)
        return room_ids if before is None else frozenset(r for r in room_ids if _digest(r) in before)


def read_ledger(
    client: Client,
    concurrency: int,
    *,
    destinations: Collection[str] | None = None,
    rooms: Collection[str] | None = None,
    ignore: Collection[str] = (),
    since: int = 0,
    uninterrupted: bool = False,
    look_for_others: bool = True,
    known: JsonDict | None = None,
    everything: bool = False,
    sent_after: Mapping[str, int] | None = None,
    silent: Collection[str] = (),
) -> Ledger:
    """Read what each destination has been told.

    :param destinations: the only ones that count. One of them that Synapse has never sent to is C(unknown).
    :param rooms: the only rooms that count.
    :param ignore: destinations that don't count.
    :param since: the I(position) of a ledger that was read before the accounts began to leave. What is recorded of
        rooms up to there does not count for what may be lacking in rooms that we have left.
    :param uninterrupted: the caller vouches that neither Synapse nor one of its federation senders was restarted since
        then.
    :param look_for_others: whether to look into the rooms for servers that Synapse has no record of.
    :param known: what the ledger of the poll before had for it, which must be from after the first wave. Destinations
        that were told by then are not looked at, unless they have failed, or taken something, since; or anybody of ours
        has left a room (by Synapse's statistics, which follow within moments). In that case all are.
    :param everything: whether to look at all destinations in any case. What was sent without anybody leaving, and has
        not been taken, is noticed only so.
    :param sent_after: rooms in which something was sent, with a I(position) from before. What has no newer record there
        was not looked at by Synapse yet.
    :param silent: rooms in which nothing was sent, so that there need not be any record.
    """
    counted = None if rooms is None else frozenset(rooms)
    scope = json.dumps([client.server_name, since, None if rooms is None else sorted(rooms)])
    scope = hashlib.sha256(scope.encode()).hexdigest()[:16]
    before = Known.from_json(known, scope)
    occupied = list(list_rooms(client, occupied=True))
    memberships = sum(room["joined_local_members"] for room in occupied)
    poll = Poll(
        before,
        frozenset(room["room_id"] for room in occupied),
        {name: set(room_ids) for name, room_ids in before.missing.items()},
        set(before.barred),
        counted,
        destinations is not None,
        since,
        uninterrupted,
        sent_after or {},
        frozenset(silent),
    )
    everything = everything or before.open is None or before.memberships != memberships
    if look_for_others and everything:
        wanted = [room for room in occupied if counted is None or room["room_id"] in counted]
        _look_for_others(poll, survey(client, wanted, concurrency))

    ledger = Ledger(held=poll.held, position=before.position)
    told, aside, gapped = set(), set(), set()
    missing: dict[str, list[str]] = {}
    open_for: dict[str, frozenset[bytes]] = {}
    only = None if destinations is None else frozenset(destinations)
    ignored = frozenset(ignore) | {client.server_name}
    listed, to_read = set(), []
    for row in list_destinations(client):
        listed.add(row.name)
        ledger.position = max(ledger.position, row.taken or 0)
        digest = _digest(row.name)
        if row.interval >= CATCH_UP_INTERVAL or digest in before.gapped:
            gapped.add(digest)
        if row.name in ignored or (only is not None and row.name not in only):
            ledger.ignored += 1
        elif everything or not before.settles(row):
            to_read.append(row)
        else:
            if poll.missing.get(row.name):
                missing[row.name] = sorted(poll.missing[row.name])
            if digest in before.told:
                told.add(digest)
                ledger.delivered += 1
            else:
                aside.add(digest)
                ledger.ignored += 1

    def judge(row: Destination) -> Verdict:
        return poll.judge(row, destination_rooms(client, row.name), _digest(row.name) in gapped)

    for row, verdict in each(judge, to_read, concurrency):
        ledger.read += 1
        ledger.position = max(ledger.position, verdict.newest)
        if verdict.missing:
            missing[row.name] = verdict.missing
        if verdict.told:
            told.add(_digest(row.name))
        if verdict.entry is not None:
            ledger.open[row.name] = verdict.entry
            open_for[row.name] = verdict.entry.open_for | verdict.gone
        elif verdict.aside:
            aside.add(_digest(row.name))
            ledger.ignored += 1
        else:
            ledger.delivered += 1
    for name in sorted((poll.missing.keys() if only is None else only) - listed - ignored):
        missing[name] = sorted(poll.missing.get(name, ()))
        unsent = [room_id for room_id in missing[name] if room_id not in poll.silent]
        if unsent or only is not None:
            ledger.open[name] = Open(name, "unknown", unsent, NEVER_SENT_TO, shared=poll.held.intersection(unsent))
            open_for[name] = ledger.open[name].open_for
        left = [room_id for room_id in unsent if room_id not in poll.held]
        # Where all is silent, there is nothing to be told until one leaves.
        if not unsent or (_digest(name) in before.told and all(before.one_leave_since(name, r) for r in left)):
            told.add(_digest(name))

    ours = {
        local: [room for room in occupied if (room["joined_local_members"] > 1) is local] for local in (False, True)
    }
    ledger.known = Known(
        frozenset(told),
        open_for,
        frozenset(aside),
        frozenset(gapped),
        missing,
        sorted(poll.barred),
        frozenset(_digest(room["room_id"]) for room in ours[False]),
        frozenset(_digest(room["room_id"]) for room in ours[True]),
        {name: frozenset(map(_digest, entry.shared)) for name, entry in ledger.open.items()},
        memberships,
        ledger.position,
    ).as_json(scope)
    return ledger


def _look_for_others(poll: Poll, shared: dict[str, SharedRoom]) -> None:
    """Note who should have something recorded, and which rooms bar us. What is noted of rooms that we left stays."""
    poll.barred -= poll.held
    for name in poll.missing:
        poll.missing[name] -= poll.held
    poll.members = {}
    for room_id, room in shared.items():
        if room.barred:
            poll.barred.add(room_id)
        for name in room.servers:
            poll.missing.setdefault(name, set()).add(room_id)
            poll.members.setdefault(name, set()).add(room_id)


def as_rows(ledger: Ledger) -> list[JsonDict]:
    """The destinations that are not C(delivered), for a result: no more than 1,000 of them, with 5 rooms each."""
    return [
        {
            "destination": entry.destination,
            "state": entry.state,
            "reason": entry.reason,
            "rooms": entry.rooms[:SHOWN_ROOMS],
            "rooms_total": len(entry.rooms),
            "failing_since": entry.failing_since,
            "next_retry": entry.next_retry,
        }
        for _name, entry in sorted(ledger.open.items())[:SHOWN_DESTINATIONS]
    ]


def find_destinations(client: Client, names: Collection[str]) -> dict[str, Destination]:
    """These destinations.

    :raises SynapseError: if Synapse has never tried to send to one of them.
    """
    found = {row.name: row for row in list_destinations(client) if row.name in names}
    strangers = sorted(set(names) - found.keys())
    if strangers:
        more = f", and {len(strangers) - SHOWN} more" if len(strangers) > SHOWN else ""
        raise SynapseError(f"Nothing was changed: no destination of this server: {', '.join(strangers[:SHOWN])}{more}")
    return found


def in_back_off(client: Client, names: Collection[str] | None = None) -> list[Destination]:
    """The destinations, or those of I(names), that Synapse does not try to send to for some time. Sorted by name."""
    rows = list_destinations(client) if names is None else find_destinations(client, names).values()
    return sorted(row for row in rows if row.next_retry is not None)


def reset(client: Client, destination: str) -> bool:
    """End the back-off of a destination, so that Synapse sends to it at once; say whether there was one to end.

    API: C(POST /_synapse/admin/v1/federation/destinations/<destination>/reset_connection).
    """
    try:
        client.post(f"{DESTINATIONS}/{{}}/reset_connection", destination)
    except SynapseError as error:
        if error.status != 400 or client.get(f"{DESTINATIONS}/{{}}", destination).get("retry_last_ts"):
            raise
        return False
    return True


def reset_all(client: Client, destinations: Iterable[Destination], rate: int) -> Iterator[tuple[Destination, bool]]:
    """End back-offs one after the other, no more than I(rate) in a second: each makes Synapse open a connection."""
    due = time.monotonic()
    for row in destinations:
        time.sleep(max(0.0, due - time.monotonic()))
        due = time.monotonic() + 1 / rate
        yield row, reset(client, row.name)
