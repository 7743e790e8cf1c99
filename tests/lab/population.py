# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filling a server that is to be retired with everything that a retirement has to cope with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from .api import APPSERVICE_PREFIX, APPSERVICE_SENDER, APPSERVICE_TOKEN, Account
from .homeserver import Homeserver
from .waiting import wait_until

_T = TypeVar("_T")
_R = TypeVar("_R")

_SMALL = 5  # members of a small room
_PUBLIC = {
    "preset": "public_chat",
    "initial_state": [{"type": "m.room.guest_access", "state_key": "", "content": {"guest_access": "can_join"}}],
}
_KNOCKABLE = {
    "preset": "private_chat",
    "room_version": "10",
    "initial_state": [{"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}],
}


@dataclass
class Population:
    """What was made. Accounts are user ids; without further words they are the retiring server's."""

    operator: str
    second_admin: str
    users: list[str]
    #: With `/`, `=`, `+` and `.` in the localpart.
    odd_users: list[str]
    guest: str
    locked: str
    suspended: str
    deactivated: str
    erased: str
    appservice_user: str
    #: The application service's own sender, which the admin API does not list.
    appservice_bot: str
    #: The other server's.
    other_users: list[str]
    #: By user id, of every account above that still has one (and none of the operators').
    tokens: dict[str, str]

    #: Made by the retiring server's user, and with members of the other server.
    shared_by_retiring: list[str] = field(default_factory=list)
    #: Made by the other server's user.
    shared_by_other: list[str] = field(default_factory=list)
    big_room: str = ""
    #: Of five; every third has a member of the other server.
    small_rooms: list[str] = field(default_factory=list)
    direct_rooms: list[str] = field(default_factory=list)
    #: With no members but admins: one local, one with the other server's operator.
    admin_rooms: list[str] = field(default_factory=list)
    #: Pending invites: from the other server by who is invited, ...
    invites_received: dict[str, str] = field(default_factory=dict)
    #: ... to the other server by who is invited there, ...
    invites_sent: dict[str, str] = field(default_factory=dict)
    #: ... and within the retiring server.
    invites_local: dict[str, str] = field(default_factory=dict)
    #: Pending knocks on the other server's rooms, by who knocks.
    knocks: dict[str, str] = field(default_factory=dict)


def populate(
    retiring: Homeserver, other: Homeserver, *, users: int = 30, big_room: int = 200, threads: int = 8
) -> Population:
    """Fill ``retiring`` with ``users`` ordinary users (four or more) and one account of every other class.

    The big room has ``big_room`` members, or everybody when there are fewer. Returns when both servers see
    each other's members and neither has anything left to tell the other.
    """
    with ThreadPoolExecutor(threads) as pool:
        return _Filling(retiring, other, pool).run(users, big_room)


class _Filling:
    def __init__(self, retiring: Homeserver, other: Homeserver, pool: ThreadPoolExecutor) -> None:
        self.retiring = retiring
        self.other = other
        self.pool = pool

    def join_all(self, server: Homeserver, room: str, accounts: Iterable[Account]) -> None:
        self.each(lambda account: server.join(account.token, room), accounts)

    def each(self, action: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
        return list(self.pool.map(action, items))

    def run(self, users: int, big_room: int) -> Population:
        a, b = self.retiring, self.other
        self.users = self.each(a.register, [f"user{number:04}" for number in range(users)])
        self.odd = self.each(a.register, ["odd/slash", "odd=equals", "odd+plus", "odd.dot"])
        self.remote = self.each(b.register, ["alice", "bob", "carol"])
        self.special = dict(
            zip(
                names := ["locked", "suspended", "deactivated", "erased"],
                self.each(a.register, names),
                strict=True,
            )
        )
        self.second_admin = a.register("second_admin", admin=True)
        self.guest = a.register_guest()
        self.bridged = a.register_appservice_user(f"{APPSERVICE_PREFIX}someone")
        self.bot = a.user_id(APPSERVICE_SENDER)

        population = self._record()
        self._fill_shared_rooms(population)
        self._fill_big_room(population, big_room)
        self._fill_small_rooms(population)
        self._fill_direct_rooms(population)
        self._fill_admin_rooms(population)
        self._invite(population)
        self._knock(population)

        a.lock(population.locked)
        a.suspend(population.suspended)
        # One after the other: before 1.150, who is erased while others are still leaving may join rooms again.
        for user_id, erase in ((population.deactivated, False), (population.erased, True)):
            a.deactivate(user_id, erase=erase)
            wait_until(partial(self._has_parted, user_id), f"{user_id} has parted")
        wait_until(self._agreed, "both servers have settled, and see the same members")
        return population

    def _has_parted(self, user_id: str) -> bool:
        return not self.retiring.joined_rooms(user_id)

    def _record(self) -> Population:
        closed = {self.special["deactivated"].user_id, self.special["erased"].user_id}
        everybody = [*self.users, *self.odd, *self.remote, *self.special.values()]
        everybody += [self.second_admin, self.guest, self.bridged]
        return Population(
            operator=self.retiring.operator.user_id,
            second_admin=self.second_admin.user_id,
            users=_ids(self.users),
            odd_users=_ids(self.odd),
            guest=self.guest.user_id,
            locked=self.special["locked"].user_id,
            suspended=self.special["suspended"].user_id,
            deactivated=self.special["deactivated"].user_id,
            erased=self.special["erased"].user_id,
            appservice_user=self.bridged.user_id,
            appservice_bot=self.bot,
            other_users=_ids(self.remote),
            tokens={account.user_id: account.token for account in everybody if account.user_id not in closed},
        )

    def _fill_shared_rooms(self, population: Population) -> None:
        a, b = self.retiring, self.other
        host, remote_host = self.users[0], self.remote[0]
        ours = a.create_room(host.token, name="Shared", **_PUBLIC)
        theirs = b.create_room(remote_host.token, name="Theirs", **_PUBLIC)
        # Alone: a server's first join brings the room over.
        b.join(remote_host.token, ours, via=a.server_name)
        a.join(host.token, theirs, via=b.server_name)
        for room in (ours, theirs):
            members = [*self.users[1:4], *self.odd, *self.special.values(), self.guest, self.second_admin]
            self.join_all(a, room, members)
            for user_id in (self.bridged.user_id, self.bot):
                a.join(APPSERVICE_TOKEN, room, as_user=user_id)
            self.join_all(b, room, self.remote[1:])
            a.send(host.token, room, "hello")
            b.send(remote_host.token, room, "hello, too")
        population.shared_by_retiring.append(ours)
        population.shared_by_other.append(theirs)

    def _fill_big_room(self, population: Population, size: int) -> None:
        a, b = self.retiring, self.other
        room = a.create_room(self.users[0].token, name="Big", **_PUBLIC)
        b.join(self.remote[0].token, room, via=a.server_name)
        self.join_all(a, room, self.users[1 : size - 1])
        population.big_room = room

    def _fill_small_rooms(self, population: Population) -> None:
        a, b = self.retiring, self.other

        def fill(first: int) -> str:
            host, *members = self.users[first : first + _SMALL]
            room = a.create_room(host.token, name=f"Small {first // _SMALL}", **_PUBLIC)
            for account in members:
                a.join(account.token, room)
            if first // _SMALL % 3 == 0:
                b.join(self.remote[first % len(self.remote)].token, room, via=a.server_name)
            return room

        population.small_rooms += self.each(fill, range(0, len(self.users), _SMALL))

    def _fill_direct_rooms(self, population: Population) -> None:
        a, b = self.retiring, self.other
        pairs: list[tuple[Homeserver, Account, Homeserver, Account]] = [
            (a, self.users[0], a, self.users[1]),
            (a, self.users[2], b, self.remote[0]),
            (b, self.remote[1], a, self.users[3]),
        ]
        for server, host, guests_server, guest in pairs:
            room = server.create_room(host.token, **_direct(guest.user_id))
            guests_server.join(guest.token, room, via=server.server_name)
            population.direct_rooms.append(room)

    def _fill_admin_rooms(self, population: Population) -> None:
        a, b = self.retiring, self.other
        local = a.create_room(a.admin_token, name="Admins", invite=[self.second_admin.user_id])
        a.join(self.second_admin.token, local)
        shared = b.create_room(b.admin_token, name="Admins of both", invite=[a.operator.user_id])
        a.join(a.admin_token, shared, via=b.server_name)
        population.admin_rooms += [local, shared]

    def _invite(self, population: Population) -> None:
        a, b = self.retiring, self.other
        for invited in (self.users[0], self.second_admin, a.operator):
            room = b.create_room(self.remote[0].token, name="Invited by the other server")
            b.invite(self.remote[0].token, room, invited.user_id)
            population.invites_received[invited.user_id] = room
        there = a.create_room(self.users[0].token, name="Invited there")
        a.invite(self.users[0].token, there, self.remote[2].user_id)
        population.invites_sent[self.remote[2].user_id] = there
        here = a.create_room(self.users[1].token, name="Invited here")
        a.invite(self.users[1].token, here, self.second_admin.user_id)
        population.invites_local[self.second_admin.user_id] = here

    def _knock(self, population: Population) -> None:
        a, b = self.retiring, self.other
        for account in (self.second_admin, self.users[1]):
            room = b.create_room(self.remote[1].token, name="Knock, please", **_KNOCKABLE)
            a.knock(account.token, room, via=b.server_name)
            population.knocks[account.user_id] = room

    def _agreed(self) -> bool:
        a, b = self.retiring, self.other
        if any(server.undelivered() or server.background_updates() for server in (a, b)):
            return False
        ours, theirs = a.members_of(b.server_name), b.members_of(b.server_name)
        seen, real = b.members_of(a.server_name), a.members_of(a.server_name)
        return all(seen.get(room) == real.get(room) for room in ours) and all(
            ours.get(room) == theirs.get(room) for room in seen
        )


def _direct(invited: str) -> dict[str, Any]:
    return {"is_direct": True, "preset": "trusted_private_chat", "invite": [invited]}


def _ids(accounts: Iterable[Account]) -> list[str]:
    return [account.user_id for account in accounts]
