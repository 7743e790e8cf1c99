# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clean up after a homeserver that is already gone: ``make demo-ghosts``.

Three Synapse servers run on the loopback interface, in ``.cache/demo-ghosts``. One is killed, and its directory with
database and signing key is deleted. Then the service ghost_cleanup answers under its name. It has a new key, and the
name of one of the others. Nothing else is changed.
"""

from __future__ import annotations

import sys
import time

from lab import Homeserver, Lab, Settings
from lab.api import Account, quote
from lab.ghost_service import GhostService
from lab.homeserver import DEFAULT_BACKOFF
from lab.waiting import wait_until

from .__main__ import DIRECTORY, seen_by, title

GHOSTS_DIRECTORY = DIRECTORY.with_name("demo-ghosts")
BASE_PORT = 18540
STATUS_PORT = BASE_PORT + 9
USERS = 10
ROOMS = 12


def main() -> int:
    started = time.monotonic()
    title("Start three Synapse servers that federate with each other")
    settings = Settings(extra_config=DEFAULT_BACKOFF)
    with Lab(GHOSTS_DIRECTORY, ("gone", "first", "second"), base_port=BASE_PORT, settings=settings) as lab:
        gone, first, second = (lab[name] for name in ("gone", "first", "second"))
        hosts = populate(gone, first, second)
        gone.kill()
        service = GhostService.after(gone, STATUS_PORT, servers=[first.server_name])
        print(f"{gone.server_name} was killed. Its database and its signing key are deleted.")
        for server, host in hosts.items():
            for room_id in server.joined_rooms(host.user_id):
                server.send(host.token, room_id, "Is anybody there?")
        wait_until(lambda: all(gave_up(server, gone) for server in (first, second)), "the others have given up")
        before = [show(server, gone) for server in (first, second)]

        title(f"Start the service for {gone.server_name}, with a new key, and the name of {first.server_name} alone")
        began = time.monotonic()
        with service:
            wait_until(lambda: sum(len(seen(server, gone)) for server in (first, second)) == 0, "no ghost is left")
            seconds = time.monotonic() - began
            wait_until(lambda: set(service.status()["pairs"]) == {"confirmed"}, "all servers have confirmed")
            status = service.status()
            memory = service.memory

        title("Result")
        after = [show(server, gone) for server in (first, second)]
        print(f"The service has found {status['servers_total']} servers and {status['rooms_total']} rooms, and removed")
        print(f"{status['removed']} ghosts in {seconds:.0f} s, with {status['requests']} requests and", end=" ")
        print(f"{memory / 1024**2:.0f} MiB of memory.")
        done = all(before) and not any(after)
        minutes, rest = divmod(round(time.monotonic() - started), 60)
        print(f"\n{'Done' if done else 'FAILED'}, in {minutes} min {rest} s. The log is {service.log}.")
        return 0 if done else 1


def populate(gone: Homeserver, first: Homeserver, second: Homeserver) -> dict[Homeserver, Account]:
    """Make rooms on both servers that stay, with accounts of the one that goes in all of them."""
    users = [gone.register(f"user{number}") for number in range(USERS)]
    hosts = {server: server.register("host") for server in (first, second)}
    for number in range(ROOMS):
        # Some rooms are on one of them alone. The second server is only found through rooms of both.
        server, other = (first, second) if number % 2 else (second, first)
        room_id = server.create_room(hosts[server].token, preset="public_chat")
        if number % 3:
            other.join(hosts[other].token, room_id, via=server.server_name)
        for user in users[number % 3 :: 3]:
            gone.join(user.token, room_id, via=server.server_name)
    settled = (first, second, gone)
    wait_until(lambda: not any(server.undelivered() for server in settled), "all servers have settled")
    return hosts


def gave_up(server: Homeserver, gone: Homeserver) -> bool:
    """Whether a server sends nothing to the other one for some minutes."""
    path = f"/v1/federation/destinations/{quote(gone.server_name)}"
    return bool(server.admin("GET", path)["retry_interval"])


def seen(server: Homeserver, gone: Homeserver) -> dict[str, list[str]]:
    """The ghosts on a server by room, by its admin API."""
    return server.members_of(gone.server_name)


def show(server: Homeserver, gone: Homeserver) -> int:
    """Print and return how many ghosts a server lists, by its admin API."""
    accounts, rooms = seen_by(server, gone)
    print(f"{server.server_name} lists {accounts} accounts of {gone.server_name} in {rooms} rooms.")
    return accounts


if __name__ == "__main__":
    sys.exit(main())
