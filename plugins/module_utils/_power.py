# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The power in federated rooms: handing it over to accounts of other servers, and giving it up.

Who gives or takes power must be joined to the room and have it. So this is done as accounts of this server, one event
at a time, each made from what the room has right then.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import Lock
from typing import Callable, Collection, Iterable, Iterator, NamedTuple, Sequence

from ._client import Client, JsonDict, SynapseError
from ._findings import empowered, is_orphaned
from ._pool import each
from ._room_state import CREATE, POWER_LEVELS, Room, is_of, read_room, send_state
from ._rooms import list_rooms, unlimited_messages
from ._users import acting_as, get_user, refuse, unlocked

TYPES = (CREATE, POWER_LEVELS)
USUAL = 100
"""The level that administrators usually have."""
SHOWN = 10
"""How many accounts, or rooms, a message names."""


class CannotActError(SynapseError):
    """Nothing can be done as an account, whatever it is."""


@dataclass
class _Session:
    lock: Lock = field(default_factory=Lock)
    users: int = 0
    token: str | None = None
    ending: ExitStack = field(default_factory=ExitStack)


class Sessions:
    """Access tokens of local accounts, that threads share: a session ends when the last that uses it has done so.

    With I(pretend), none is opened, but whether one could be is seen as far as it can be.

    :ivar problems: why a session could not be ended, or an account not be locked again.
    """

    def __init__(self, client: Client, *, pretend: bool) -> None:
        self._client = client
        self._pretend = pretend
        self._lock = Lock()
        self._sessions: dict[str, _Session] = {}
        self.problems: list[str] = []

    @contextmanager
    def acting_as(self, user_id: str) -> Iterator[str | None]:
        """As C(_users.acting_as), also for accounts that are locked.

        :raises CannotActError: if there can be no such session, or Synapse would take nothing that is sent with it.
        """
        with self._lock:
            session = self._sessions.setdefault(user_id, _Session())
        with session.lock:
            if not session.users:
                self._open(user_id, session)
            session.users += 1
        try:
            yield session.token
        finally:
            with session.lock:
                session.users -= 1
                if not session.users:
                    self._end(user_id, session)

    def send_powers(self, room_id: str, content: JsonDict, user_id: str) -> None:
        """Send a room's power levels as an account of this server."""
        with self.acting_as(user_id) as token:
            if not self._pretend:
                send_state(self._client, room_id, POWER_LEVELS, content, token)

    def _open(self, user_id: str, session: _Session) -> None:
        try:
            user = get_user(self._client, user_id)
            if user.get("suspended"):
                raise SynapseError("the account is suspended")
            if user.get("shadow_banned"):
                # Synapse would accept everything, and do nothing of it.
                raise SynapseError("the account is shadow-banned")
            if not self._pretend:
                with ExitStack() as stack:
                    if user.get("locked"):
                        stack.enter_context(unlocked(self._client, user_id))
                    session.token = stack.enter_context(acting_as(self._client, user_id))
                    session.ending = stack.pop_all()
        except SynapseError as error:
            if error.fatal:
                raise
            raise CannotActError(f"nobody can act as {user_id}: {error}") from error

    def _end(self, user_id: str, session: _Session) -> None:
        try:
            session.ending.close()
        except SynapseError as error:
            # What was to be done has been done, whatever becomes of the session.
            self.problems.append(f"the session as {user_id} could not be ended in order: {error}")


class Named(NamedTuple):
    """An account of another server, and the rooms that are to be handed over to it: with C(None), all."""

    user_id: str
    room_ids: Collection[str] | None = None

    def is_for(self, room_id: str) -> bool:
        return self.room_ids is None or room_id in self.room_ids


class Given(NamedTuple):
    """What was given in a room, by whom and to whom; and who had a level of their own before and after that."""

    by: str
    to: list[str]
    level: int
    before: JsonDict
    after: JsonDict


@dataclass
class Handover:
    """What came of it, by room: what was given, the reason why there is nobody to give it to, or what went wrong."""

    given: dict[str, Given] = field(default_factory=dict)
    not_given: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    aborted: SynapseError | None = None


def hand_over(client: Client, named: Sequence[Named], concurrency: int, *, pretend: bool) -> Handover:
    """In each orphaned room, give the power to those who are named for it and are in it.

    :param pretend: only say what would come of it, from reads alone.
    :raises SynapseError: if one that is named is no account of another server.
    """
    refused = {}
    for user_id, _room_ids in named:
        if not user_id.startswith("@") or ":" not in user_id:
            refused[user_id] = "is not a user ID (@localpart:server)"
        elif is_of(client.server_name, user_id):
            refused[user_id] = f"is an account of {client.server_name}, which is to be retired"
    refuse(refused)

    handover = Handover()
    orphaned: list[JsonDict] = []
    federated: set[str] = set()

    def give(sessions: Sessions, room: Room) -> None:
        to = _named_in(named, room)
        # Somebody else may have given it since.
        if to and is_orphaned(room):
            handover.given[room.room_id] = _give(client, sessions, room, to)

    try:
        for listed, room in _federated_rooms(client, concurrency, handover.failures):
            federated.add(room.room_id)
            if is_orphaned(room) and _named_in(named, room):
                orphaned.append(listed)
            elif is_orphaned(room):
                handover.not_given[room.room_id] = _nobody_in(named, room)
        for room_id in {room_id for _user_id, room_ids in named for room_id in room_ids or ()}:
            if room_id not in federated and room_id not in handover.failures:
                handover.not_given[room_id] = "accounts of this server and of others are not both in it"
        _act(client, give, orphaned, concurrency, handover.failures, pretend=pretend)
    except SynapseError as error:
        handover.aborted = error
    return handover


def _named_in(named: Iterable[Named], room: Room) -> list[str]:
    return sorted({one.user_id for one in named if one.is_for(room.room_id) and one.user_id in room.remote})


def _nobody_in(named: Iterable[Named], room: Room) -> str:
    absent = sorted({one.user_id for one in named if one.is_for(room.room_id)})
    if not absent:
        return "nobody is named for this room"
    more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
    return f"nobody of those named is joined to it: {', '.join(absent[:SHOWN])}{more}"


def _give(client: Client, sessions: Sessions, room: Room, to: list[str]) -> Given:
    """Give the power to these accounts, which have too little to administer, by the mightiest that can do it."""
    powers = room.powers
    problems = []
    for user_id in _administrators(client, room):
        # A creator has no level, and an account can be given no more than one.
        own = max(USUAL, powers.to_do_everything) if user_id in powers.creators else int(powers.of(user_id))
        content = powers.with_users({**powers.users, **dict.fromkeys(to, own)})
        try:
            sessions.send_powers(room.room_id, content, user_id)
        except SynapseError as error:
            if error.fatal:
                raise
            problems.append(str(error))
        else:
            return Given(user_id, to, own, powers.users, content["users"])
    raise SynapseError("; ".join(problems))


def _administrators(client: Client, room: Room) -> list[str]:
    """Those of this server who are in a room and can administer it, the mightiest first, the operator before others."""
    powers = room.powers
    found = filter(powers.administers, room.local)
    return sorted(found, key=lambda user_id: (-powers.of(user_id), user_id != client.user_id, user_id))


class Demoted(NamedTuple):
    """Who has given up power in a room; and who had a level of their own before and after that."""

    user_ids: list[str]
    before: JsonDict
    after: JsonDict


class Remaining(NamedTuple):
    """Power in a room that this server's accounts keep, with the reason. Without I(user_id), it is everybody's."""

    room_id: str
    user_id: str | None
    reason: str


@dataclass
class Demotion:
    """What came of it: who has given up power, by room; what is left; and what went wrong, by room."""

    demoted: dict[str, Demoted] = field(default_factory=dict)
    remaining: list[Remaining] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    aborted: SynapseError | None = None


def demote(client: Client, concurrency: int, *, pretend: bool) -> Demotion:
    """In each federated room, take the power of this server's accounts away, be they in it or not.

    :param pretend: only say what would come of it, from reads alone.
    """
    demotion = Demotion()
    to_demote: list[JsonDict] = []

    def give_up(sessions: Sessions, room: Room) -> None:
        _give_up(client, sessions, room, demotion)

    try:
        for listed, room in _federated_rooms(client, concurrency, demotion.failures):
            if _to_lower(client, room):
                to_demote.append(listed)
            else:
                demotion.remaining.extend(_not_to_be_given_up(client, room))
        _act(client, give_up, to_demote, concurrency, demotion.failures, pretend=pretend)
    except SynapseError as error:
        demotion.aborted = error
    demotion.remaining.sort(key=lambda remaining: (remaining.room_id, remaining.user_id or ""))
    return demotion


def _give_up(client: Client, sessions: Sessions, room: Room, demotion: Demotion) -> None:
    """Have each account give up its power that nobody mightier has taken away before.

    One may lower oneself and those who have less. So the first takes all with it but its peers.
    """
    powers = room.powers
    left = _to_lower(client, room)
    reasons: dict[str, str] = {}
    problems = []
    users = powers.users
    for user_id in _administrators(client, room):
        own = powers.of(user_id)
        going = [other for other in left if other == user_id or powers.of(other) < own]
        if not going:
            continue
        content = powers.with_users({other: level for other, level in users.items() if other not in going})
        try:
            sessions.send_powers(room.room_id, content, user_id)
        except SynapseError as error:
            if error.fatal:
                raise
            reasons[user_id] = str(error)
            if not isinstance(error, CannotActError):
                problems.append(str(error))
            continue
        users = content["users"]
        left = [other for other in left if other not in going]
        before = demotion.demoted.get(room.room_id, Demoted([], powers.users, users))
        demotion.demoted[room.room_id] = Demoted(sorted([*before.user_ids, *going]), powers.users, users)
    for user_id in left:
        reason = "is not in the room" if user_id not in room.local else "may not change the room's power levels"
        reason = reasons.get(user_id, f"{reason}, and nobody of this server with more power can be acted as")
        demotion.remaining.append(Remaining(room.room_id, user_id, reason))
    demotion.remaining.extend(_not_to_be_given_up(client, room))
    if problems:
        raise SynapseError("; ".join(problems))


def _to_lower(client: Client, room: Room) -> list[str]:
    # Where there are no power levels, the first to be sent are not bound to any rule, and are not ours to make up.
    return empowered(client, room) if (POWER_LEVELS, "") in room.state else []


def _not_to_be_given_up(client: Client, room: Room) -> Iterator[Remaining]:
    powers = room.powers
    for user_id in powers.creators:
        if is_of(client.server_name, user_id):
            yield Remaining(room.room_id, user_id, "has created the room, whose version lets no creator give up power")
    if powers.default > 0:
        yield Remaining(room.room_id, None, f"users_default gives everybody the level {powers.default}")
    if (POWER_LEVELS, "") not in room.state:
        yield Remaining(room.room_id, None, "the room has no power levels, so that anybody in it may set them")


def _federated_rooms(client: Client, concurrency: int, failures: dict[str, str]) -> Iterator[tuple[JsonDict, Room]]:
    """The rooms that accounts of this server and of others are in, as listed and as they are."""

    def read(listed: JsonDict) -> Room | None:
        with _noting(listed, failures):
            return read_room(client, listed, TYPES, unfederated=False)
        return None

    # One whose number of members changes while we list may come twice.
    rooms = {room["room_id"]: room for room in list_rooms(client, occupied=True)}
    for listed, room in each(read, rooms.values(), concurrency):
        if room is not None and room.local and room.remote:
            yield listed, room


def _act(
    client: Client,
    action: Callable[[Sessions, Room], None],
    rooms: Sequence[JsonDict],
    concurrency: int,
    failures: dict[str, str],
    *,
    pretend: bool,
) -> None:
    """Read each of these rooms again, since that may have been a while ago, and do something in it."""
    sessions = Sessions(client, pretend=pretend)

    def act(listed: JsonDict) -> None:
        with _noting(listed, failures):
            action(sessions, read_room(client, listed, TYPES))

    with nullcontext() if pretend or not rooms else unlimited_messages(client):
        for _done in each(act, rooms, concurrency):
            pass
    if sessions.problems:
        raise SynapseError("; ".join(sessions.problems))


@contextmanager
def _noting(listed: JsonDict, failures: dict[str, str]) -> Iterator[None]:
    """Note what goes wrong with one room, unless the same would happen to any other."""
    try:
        yield
    except SynapseError as error:
        if error.fatal:
            raise
        failures[listed["room_id"]] = str(error)


def in_words(problem: str, failures: dict[str, str], aborted: SynapseError | None) -> str:
    """What to say of what went wrong; nothing, if nothing did.

    :param problem: what it means if something went wrong in a room.
    """
    if aborted is not None:
        return str(aborted)
    told = [f"{room_id}: {reason}" for room_id, reason in sorted(failures.items())]
    more = [f"and {len(told) - SHOWN} more"] if len(told) > SHOWN else []
    return f"{problem} {'; '.join([*told[:SHOWN], *more])}. Run this again for what is left" if told else ""
