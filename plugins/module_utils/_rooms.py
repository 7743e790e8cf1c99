# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rooms: who of this server is in them, leaving them, and waiting until Synapse has left them."""

from __future__ import annotations

import json
import time
import uuid
from collections import deque
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Callable, Iterable, Iterator, List, Mapping, Sequence

from ._client import ADMIN, CLIENT, Answer, Client, JsonDict, SynapseError
from ._pool import each
from ._users import acting_as, existing_accounts, list_accounts, login_is_delegated

JOINED_ROOMS = f"{ADMIN}/v1/users/{{}}/joined_rooms"
"""Where the exact answer is to the question whether an account is still in a room."""

MAX_POLL_PAUSE = 2.0
"""The longest pause, in seconds, between two looks at accounts that have yet to part."""

MOST_NAMES = 1000
"""How many accounts or rooms a list of a result names: a server may have 200,000."""
MOST_TEXT = 500
"""How long the reason may be why a room can't be left."""

SHUTDOWN_POLL = 0.2
SHUTDOWN_TIMEOUT = 300.0
"""The pause between two looks at what has become of a room's shutdown, and how long to look; in seconds."""


Look = Callable[[str], List[str]]


@dataclass
class Memberships:
    """The rooms that an account has to do with, by what it has to do with them."""

    joined: list[str] = field(default_factory=list)
    invited: list[str] = field(default_factory=list)
    knocked: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.joined or self.invited or self.knocked)


@dataclass
class Departure:
    """What came of making one account leave: room IDs, for those in I(failed) with the reason of each.

    I(error) says why the account could not be dealt with at all, I(not_listed) why its invites and knocks could not be
    listed: then it has left the rooms that it was joined to.
    """

    user_id: str
    left: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    retracted: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    not_listed: str | None = None
    error: str | None = None

    @property
    def changed(self) -> bool:
        return bool(self.left or self.rejected or self.retracted)

    @property
    def complete(self) -> bool:
        return not self.failed and self.error is None and self.not_listed is None


@dataclass
class BrokenRoom:
    """A room that can't be left: why, as the server says of the first of so many accounts in it."""

    room_id: str
    reason: str
    federated: bool
    accounts: int = 0


def broken_rooms(failed: Iterable[dict[str, str]], federated: Callable[[str], bool]) -> dict[str, BrokenRoom]:
    """The rooms that can't be left, by ID.

    :param failed: of each account, the rooms that it can't leave, with reasons.
    """
    found: dict[str, BrokenRoom] = {}
    for reasons in failed:
        for room_id, reason in reasons.items():
            if room_id not in found:
                found[room_id] = BrokenRoom(room_id, reason[:MOST_TEXT], federated(room_id))
            found[room_id].accounts += 1
    return found


def with_reasons(key: str, reasons: Mapping[str, str], most: int = MOST_NAMES) -> list[JsonDict]:
    """What a module returns of names with the reason of each: not more than I(most) of them."""
    return [{key: name, "reason": reason} for name, reason in islice(reasons.items(), most)]


def broken_rooms_result(broken: dict[str, BrokenRoom]) -> JsonDict:
    """What a module returns of rooms that can't be left: not more than C(MOST_NAMES) of them."""
    rooms = [asdict(room) for room in islice(broken.values(), MOST_NAMES)]
    return {"broken_rooms": rooms, "broken_rooms_total": len(broken)}


def list_rooms(client: Client, *, occupied: bool = False) -> Iterator[JsonDict]:
    """List the rooms that the server knows of, those with most local members first.

    :param occupied: only those with a local member. C(joined_local_members) comes from Synapse's statistics, which
        follow the truth within seconds.

    API: C(GET /_synapse/admin/v1/rooms).
    """
    params = {"order_by": "joined_local_members"}
    for room in client.pages(f"{ADMIN}/v1/rooms", "rooms", params=params, next_key="next_batch"):
        room.take("room_id", str)
        if occupied and not room.take("joined_local_members", int):
            return
        yield dict(room)


def with_local_members(client: Client, concurrency: int) -> Iterator[JsonDict]:
    """The rooms with a local member, each with who these are, at the price of one request per room."""
    rooms = list(list_rooms(client, occupied=True))
    for room, members in each(lambda room: local_members(client, room["room_id"]), rooms, concurrency):
        # Statistics lag behind; the members are those of this moment.
        if members:
            yield {**room, "local_members": members}


def joined_members(client: Client, room_id: str) -> list[str]:
    """Who is joined to a room, of this server and of others, as long as somebody of this one is.

    API: C(GET /_synapse/admin/v1/rooms/<room_id>/members).
    """
    return client.get(f"{ADMIN}/v1/rooms/{{}}/members", room_id).texts("members")


def local_members(client: Client, room_id: str) -> list[str]:
    """The accounts of this server that are joined to a room, also those that no listing of accounts has."""
    members = joined_members(client, room_id)
    return sorted(user_id for user_id in members if user_id.partition(":")[2] == client.server_name)


def is_federated(client: Client, room_id: str) -> bool:
    """Whether another server is in a room that an account of ours is in. A room that can't be read counts as one."""
    try:
        members = joined_members(client, room_id)
    except SynapseError as error:
        if error.fatal:
            raise
        return True
    return any(user_id.partition(":")[2] != client.server_name for user_id in members)


def joined_rooms(client: Client, user_id: str) -> list[str]:
    """The rooms that a local account is joined to: exact, on every version of Synapse.

    API: C(GET /_synapse/admin/v1/users/<user_id>/joined_rooms).
    """
    return sorted(client.get(JOINED_ROOMS, user_id).texts("joined_rooms"))


def still_joined(client: Client, user_ids: Iterable[str], concurrency: int) -> dict[str, list[str]]:
    """Which of these accounts are joined to which rooms.

    One request per account, and none of the cheaper ways: they all come from Synapse's statistics, which may be wrong.
    """
    return _with_rooms(lambda user_id: joined_rooms(client, user_id), user_ids, concurrency)


def _with_rooms(look: Look, user_ids: Iterable[str], concurrency: int) -> dict[str, list[str]]:
    return {user_id: room_ids for user_id, room_ids in each(look, user_ids, concurrency) if room_ids}


def wait_until_parted(
    client: Client,
    user_ids: Iterable[str],
    look: Look,
    *,
    timeout: float,
    concurrency: int,
    on_parted: Callable[[str], None],
) -> dict[str, list[str]]:
    """Wait until none of these accounts has a room to leave; return those that still have, with these rooms.

    Synapse parts accounts one after the other, so that most of the time there is nothing new to see: each poll looks
    at a few accounts only, and goes on to the next few at once when one of them has parted.

    :param look: reads which rooms an account has yet to leave.
    :param timeout: seconds after which to give up, if in that time nobody on the whole server has left a room.
    """
    waiting: deque[str] = deque(user_ids)
    seen: dict[str, int] = {}
    pause = 0.1
    last_progress = time.monotonic()
    members: int | None = None
    while waiting:
        window = [waiting.popleft() for _account in range(min(concurrency, len(waiting)))]
        parted = progress = False
        joined = _with_rooms(look, window, concurrency)
        for user_id in window:
            if user_id not in joined:
                parted = True
                on_parted(user_id)
                continue
            progress = progress or len(joined[user_id]) < seen.get(user_id, 0)
            seen[user_id] = len(joined[user_id])
            waiting.append(user_id)
        if parted or progress:
            last_progress = time.monotonic()
            pause = 0.1
        if time.monotonic() - last_progress > timeout:
            # Nobody of those looked at has moved. But Synapse may be busy with somebody in a thousand rooms.
            members, members_before = _count_memberships(client), members
            if members_before is not None and members >= members_before:
                break
            last_progress = time.monotonic()
        if waiting and not parted:
            members = _count_memberships(client) if members is None else members
            time.sleep(pause)
            pause = min(2 * pause, MAX_POLL_PAUSE)
    return _with_rooms(look, waiting, concurrency)


def _count_memberships(client: Client) -> int:
    return sum(room["joined_local_members"] for room in list_rooms(client, occupied=True))


def memberships(client: Client, user_id: str, token: str | None = None) -> Memberships:
    """The rooms of a local account: the joined by the admin API, all others by C(/sync), which alone has them.

    Each of the two may miss a joined room, of which the server's records do not fit together.

    :param token: an access token of the account, unless it is the operator.
    """
    rooms = sync_rooms(client, token)
    joined = sorted({*joined_rooms(client, user_id), *rooms.object("join")})
    return Memberships(joined, sorted(rooms.object("invite")), sorted(rooms.object("knock")))


def sync_rooms(client: Client, token: str | None) -> Answer:
    """The rooms of C(/sync).

    API: C(GET /_matrix/client/v3/sync).
    """
    nothing: JsonDict = {"types": []}
    sync_filter = {
        # No event has such a field. A filter that was never used before keeps Synapse from answering with what it
        # answered up to two minutes ago.
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
    return client.get(f"{CLIENT}/v3/sync", params=params, token=token).object("rooms")


def visible_memberships(client: Client, user_id: str) -> Memberships:
    """The rooms of a local account, as far as they can be seen without a session of its own: for a dry run.

    Misses invites from other servers and, on old versions such as 1.120, all invites and knocks.
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


def leave(client: Client, room_id: str, token: str | None = None) -> None:
    """Leave a room, turn down an invite, or take back a knock. A server notice must be joined to be left."""
    try:
        client.post(f"{CLIENT}/v3/rooms/{{}}/leave", room_id, token=token)
    except SynapseError as error:
        if error.errcode != "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM":
            raise
        client.post(f"{CLIENT}/v3/join/{{}}", room_id, token=token)
        client.post(f"{CLIENT}/v3/rooms/{{}}/leave", room_id, token=token)


def planned_departure(client: Client, user_id: str) -> Departure:
    """What C(depart_all) would do with one account, from reads alone, as far as these can see."""
    found = visible_memberships(client, user_id)
    if (found.invited or found.knocked) and user_id != client.user_id and login_is_delegated(client):
        return Departure(user_id, left=found.joined)
    return Departure(user_id, left=found.joined, rejected=found.invited, retracted=found.knocked)


def depart_all(client: Client, user_ids: Sequence[str], concurrency: int) -> Iterator[Departure]:
    """Make local accounts leave every room, turn down every invite, and take back every knock, one after the other.

    Where login is delegated, nobody but the operator can be acted as: rooms that no other open account of ours is in
    are shut down, and invites and knocks stay.
    """
    for user_id in user_ids:
        departure = Departure(user_id)
        try:
            with acting_as(client, user_id) as token:
                found = _all_memberships(client, token, departure)
                if found:
                    with unlimited_messages(client):
                        _leave_all(client, found, token, concurrency, departure)
        except SynapseError as error:
            departure.error = str(error)
            if error.errcode == "M_UNRECOGNIZED":
                _depart_without_session(client, set(user_ids), concurrency, departure)
        yield departure


def _all_memberships(client: Client, token: str | None, departure: Departure) -> Memberships:
    try:
        return memberships(client, departure.user_id, token)
    except SynapseError as error:
        if error.fatal or error.status is None or error.status < 500:
            raise
        # A single event that can't be read is enough for that.
        departure.not_listed = str(error)
        return Memberships(joined_rooms(client, departure.user_id))


def _depart_without_session(client: Client, leaving: set[str], concurrency: int, departure: Departure) -> None:
    try:
        if not login_is_delegated(client):
            return
        room_ids = joined_rooms(client, departure.user_id)
        for room_id, reasons in each(lambda room_id: _clear_of(client, room_id, leaving), room_ids, concurrency):
            if departure.user_id in reasons:
                departure.failed[room_id] = reasons[departure.user_id]
            else:
                departure.left.append(room_id)
        departure.left.sort()
        departure.error = None
    except SynapseError as error:
        if error.fatal:
            raise
        departure.error = str(error)


def _clear_of(client: Client, room_id: str, leaving: set[str]) -> dict[str, str]:
    """Shut a room down, unless an open account is in it that is not to leave; return who is still there, and why."""
    members = set(local_members(client, room_id)).difference(leaving)
    accounts = existing_accounts(client, sorted(members)).values()
    # A guest is in no listing of accounts, and has no session.
    others = [a for a in accounts if not a.is_deactivated and a.account_class != "guest"]
    if not others:
        return clear_room(client, room_id)
    reason = (
        "nobody can log in as it, since login is delegated, and the room can't be shut down, since "
        f"{len(others)} other open accounts are in it, such as {others[0].user_id}"
    )
    return dict.fromkeys(leaving, reason)


def _leave_all(client: Client, found: Memberships, token: str | None, concurrency: int, departure: Departure) -> None:
    for room_ids, done in (
        (found.joined, departure.left),
        (found.invited, departure.rejected),
        (found.knocked, departure.retracted),
    ):
        for room_id, reason in each(lambda room_id: try_to_leave(client, room_id, token), room_ids, concurrency):
            if reason is None:
                done.append(room_id)
            else:
                departure.failed[room_id] = reason
    # A second look: 200 is not yet left, and a room that somebody threw the account out of meanwhile has been left.
    joined = set(joined_rooms(client, departure.user_id))
    for room_id in found.joined:
        if room_id in joined and room_id in departure.left:
            departure.left.remove(room_id)
            departure.failed[room_id] = "the server accepted the leave, but the account is still joined"
        elif room_id not in joined and departure.failed.pop(room_id, ""):
            departure.left.append(room_id)
    for room_ids in (departure.left, departure.rejected, departure.retracted):
        room_ids.sort()


def try_to_leave(client: Client, room_id: str, token: str | None) -> str | None:
    """Leave as C(leave) does, and return why that failed, if it did."""
    try:
        leave(client, room_id, token)
    except SynapseError as error:
        if error.fatal:
            raise
        return str(error)
    return None


def unlisted_members(client: Client, concurrency: int) -> dict[str, list[str]]:
    """Rooms whose only local members are in no listing of accounts, with these members.

    They are the senders of application services, and the account of server notices. Nobody can log in as them.
    """
    listed = {account.user_id for account in list_accounts(client)}
    return {
        room["room_id"]: room["local_members"]
        for room in with_local_members(client, concurrency)
        if listed.isdisjoint(room["local_members"])
    }


def planned_unlisted(client: Client, concurrency: int) -> Iterator[Departure]:
    """What C(depart_unlisted) would do, from reads alone."""
    departures: dict[str, Departure] = {}
    for room_id, members in unlisted_members(client, concurrency).items():
        for user_id in members:
            departures.setdefault(user_id, Departure(user_id)).left.append(room_id)
    yield from departures.values()


def clear_room(client: Client, room_id: str) -> dict[str, str]:
    """Make all local accounts leave a room, without purging it; return who is still there, and why.

    Needs nobody's session, so that it also works for C(unlisted_members).
    API: C(DELETE /_synapse/admin/v2/rooms/<room_id>).
    """
    path = f"{ADMIN}/v2/rooms"
    # Other servers may have a room of that ID as well, with accounts of their own in it.
    client.confirm()
    deletion = client.request("DELETE", f"{path}/{{}}", room_id, json={"purge": False, "block": False})
    delete_id = deletion.take("delete_id", str)
    deadline = time.monotonic() + SHUTDOWN_TIMEOUT
    reason = f"the room's shutdown did not end within {SHUTDOWN_TIMEOUT:g} s"
    while time.monotonic() < deadline:
        status = client.get(f"{path}/delete_status/{{}}", delete_id)
        if status.take("status", str) in ("complete", "failed"):
            reason = str(status.get("error") or "Synapse could not make it leave, its log says why")
            break
        time.sleep(SHUTDOWN_POLL)
    return dict.fromkeys(local_members(client, room_id), reason)


def depart_unlisted(client: Client, concurrency: int) -> Iterator[Departure]:
    """Make those leave who are in no listing of accounts, from rooms that nobody else of this server is in."""

    def try_to_clear(room: tuple[str, list[str]]) -> dict[str, str]:
        room_id, members = room
        try:
            return clear_room(client, room_id)
        except SynapseError as error:
            return dict.fromkeys(members, str(error))

    departures: dict[str, Departure] = {}
    rooms = unlisted_members(client, concurrency).items()
    for (room_id, members), remaining in each(try_to_clear, rooms, concurrency):
        for user_id in members:
            departure = departures.setdefault(user_id, Departure(user_id))
            if user_id in remaining:
                departure.failed[room_id] = remaining[user_id]
            else:
                departure.left.append(room_id)
    for departure in departures.values():
        departure.left.sort()
        yield departure


@contextmanager
def unlimited_messages(client: Client) -> Iterator[None]:
    """Lift the operator's message rate limit, which counts leaves too, and in the end put back what was there.

    Leaves of other accounts count as well: the limit belongs to the account that authenticated, which is the operator.
    API: C(/_synapse/admin/v1/users/<user_id>/override_ratelimit).
    """
    path = f"{ADMIN}/v1/users/{{}}/override_ratelimit"
    before = client.get(path, client.user_id)
    client.post(path, client.user_id, json={"messages_per_second": 0, "burst_count": 0})
    try:
        yield
    finally:
        if before:
            client.post(path, client.user_id, json=before)
        else:
            client.delete(path, client.user_id)
