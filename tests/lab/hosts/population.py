# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filling the servers of a fleet, some of which are to be retired."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ..api import Account
from ..waiting import wait_until
from .hostlab import HostLab


def populate(lab: HostLab, staying: str, *, users: int = 8) -> dict[str, list[Account]]:
    """Register users on each server, and have them make rooms: one of everybody, the operators of those that retire
    included; some of each server that retires with the one that stays and with the next; and one of its own.

    Returns the users of each host, when the one that stays sees all of its rooms.
    """
    made = {
        name: [host.homeserver.register(f"user{number}") for number in range(users)] for name, host in lab.hosts.items()
    }
    retiring = [name for name in lab.hosts if name != staying]

    def room(*names: str, count: int) -> str:
        home, via = lab[names[0]].homeserver, lab[names[0]].server_name
        creator = made[names[0]][0]
        room_id = home.create_room(creator.token, preset="public_chat")

        def join(name: str) -> None:
            for user in made[name][:count]:
                if user is not creator:
                    lab[name].homeserver.join(user.token, room_id, via=None if name == names[0] else via)

        _each(join, names)
        return room_id

    def fill(name: str) -> None:
        operator = lab[name].homeserver.admin_token
        lab[name].homeserver.join(operator, everybody, via=lab[staying].server_name)
        room(name, count=users)
        room(name, staying, count=3)
        room(staying, name, count=3)
        room(name, retiring[(retiring.index(name) + 1) % len(retiring)], count=4)

    everybody = room(staying, *retiring, count=users)
    _each(fill, retiring)
    sees = lab[staying].homeserver.members_of
    wait_until(lambda: all(len(sees(lab[name].server_name)) == 3 for name in retiring), f"{staying} sees its rooms")
    return made


def _each(action: Callable[[str], object], names: Sequence[str]) -> None:
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(action, names))
