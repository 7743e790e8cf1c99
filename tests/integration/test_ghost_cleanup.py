# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service ghost_cleanup under the name of a real Synapse that is gone with database and key, and its ghosts on real
Synapse servers at the default backoff, judged by their own admin APIs.
"""

from __future__ import annotations

import json
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import ApiError, Homeserver, Lab, MissingError, Settings
from lab.api import Account, quote
from lab.ghost_service import GhostService
from lab.homeserver import DEFAULT_BACKOFF
from lab.waiting import wait_until

from .conftest import ROOT

BASE_PORT = 19000
STATUS_PORT = BASE_PORT + 9
VERSIONS = [str(number) for number in range(1, 13)]
nightly = pytest.mark.nightly


class Gone:
    """A is gone for good. B and c list its accounts, not the same ones, and have given up on a."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.a, self.b, self.c = (lab[name] for name in "abc")
        self.name = self.a.server_name
        self.rooms: dict[str, str] = {}
        self.changed = False

    def populate(self) -> None:
        """Make rooms of all kinds."""
        a, b, c = self.a, self.b, self.c
        self.host, self.guest = b.register("host"), c.register("guest")
        self.users = [a.register(f"user{number}") for number in range(4)]
        self.invited = a.register("invited")
        for version in VERSIONS:
            # Only b is in every second one of them.
            self._room(f"version {version}", b, room_version=version, shared=int(version) % 2 == 0)
        self._room("on c alone", c, shared=False)
        self._room("many", b, users=self.users)
        self._room("barred", b)
        acl = {"allow": ["*"], "deny": ["localhost"], "allow_ip_literals": True}
        b.set_state(self.host.token, self.rooms["barred"], "m.room.server_acl", acl)
        self._room("quiet", b, shared=False)
        for name in ("many", "version 2"):
            b.invite(self.host.token, self.rooms[name], self.invited.user_id)
        self._room("invited", b, users=[])
        b.invite(self.host.token, self.rooms["invited"], self.invited.user_id)
        # To a server that it has never sent an event to, Synapse sends nothing afterwards but new events.
        c.send(self.guest.token, self.rooms["many"], "hello")
        wait_until(lambda: not any(server.undelivered() for server in (a, b, c)), "all servers have settled")

    def _room(
        self, name: str, server: Homeserver, *, users: list[Account] | None = None, shared: bool = True, **options: Any
    ) -> None:
        token = (self.host if server is self.b else self.guest).token
        room_id = self.rooms[name] = server.create_room(token, preset="public_chat", **options)
        if shared:
            self.c.join(self.guest.token, room_id, via=server.server_name)
        for user in self.users[:2] if users is None else users:
            self.a.join(user.token, room_id, via=server.server_name)

    def lose(self) -> GhostService:
        """Half of the accounts leave a room while c is down. Then a is killed, and of it only its name is left."""
        a, b, c = self.a, self.b, self.c
        many = self.rooms["many"]
        c.stop()
        for user in self.users[:2]:
            a.leave(user.token, many)
        wait_until(lambda: len(self.ghosts(b)[many]) == 3, "b has heard of it")
        a.kill()
        del self.lab.servers["a"]
        service = GhostService.after(a, STATUS_PORT, max_rate=100)
        c.start()
        for server, account in ((b, self.host), (c, self.guest)):
            for room_id in server.joined_rooms(account.user_id):
                # In the quiet room, nothing happens any more. From an event of b, c would learn what b knows.
                if room_id != self.rooms["quiet"] and (room_id, server) != (many, b):
                    server.send(account.token, room_id, "Is anybody there?")
        wait_until(lambda: all(map(self.gave_up, (b, c))), "both have given up on a")
        return service

    def gave_up(self, server: Homeserver) -> bool:
        """Whether a server sends nothing to a for ten minutes at least."""
        path = f"/v1/federation/destinations/{quote(self.name)}"
        try:
            return int(server.admin("GET", path)["retry_interval"]) >= 600_000
        except ApiError:
            return False

    def ghosts(self, server: Homeserver) -> dict[str, list[str]]:
        """The accounts of a that a server lists as joined or invited, by room ID."""
        found = {}
        for room in server.rooms():
            state = server.admin("GET", f"/v1/rooms/{quote(room['room_id'])}/state")["state"]
            names = [
                event["state_key"]
                for event in state
                if event["type"] == "m.room.member"
                and event["state_key"].endswith(f":{self.name}")
                and event["content"]["membership"] in ("join", "invite", "knock")
            ]
            if names:
                found[room["room_id"]] = sorted(names)
        return found

    @property
    def left(self) -> list[set[str]]:
        """The names of the rooms with ghosts, on b and on c."""
        names = {room_id: name for name, room_id in self.rooms.items()}
        return [{names[room_id] for room_id in self.ghosts(server)} for server in (self.b, self.c)]

    def leaves(self, server: Homeserver) -> Counter[tuple[str, str]]:
        """How many leaves of each account of a there are in each room on a server, by its database."""
        database = sqlite3.connect(f"file:{server.directory / 'homeserver.db'}?mode=ro", uri=True)
        rows = database.execute(
            "SELECT room_id, user_id FROM room_memberships WHERE membership = 'leave' AND user_id LIKE ?",
            (f"%:{self.name}",),
        ).fetchall()
        database.close()
        return Counter(rows)


class Prepared:
    """The servers as they were when a was lost, for each test."""

    def __init__(self, gone: Gone, service: GhostService) -> None:
        self.gone = gone
        self.service = service

    def reset(self) -> None:
        """Go back to the state in which both servers have ghosts."""
        if self.gone.changed:
            self.gone.lab.restore("lost")
        for file in self.service.directory.glob("state.db*"):
            file.unlink()
        self.service.config.update(servers=[self.gone.b.server_name], max_rate=100, rooms_paths=[])
        self.gone.changed = True


@pytest.fixture(scope="module")
def prepared(skip_or_fail: Callable[[str], None]) -> Iterator[Prepared]:
    try:
        settings = Settings(extra_config=DEFAULT_BACKOFF)
        with Lab(ROOT / ".cache/tests/ghost_cleanup", ["a", "b", "c"], base_port=BASE_PORT, settings=settings) as lab:
            gone = Gone(lab)
            gone.populate()
            service = gone.lose()
            lab.snapshot("lost")
            yield Prepared(gone, service)
            service.stop()
    except MissingError as missing:
        skip_or_fail(str(missing))


@pytest.fixture
def gone(prepared: Prepared) -> Gone:
    prepared.reset()
    return prepared.gone


@pytest.fixture
def service(prepared: Prepared, gone: Gone) -> Iterator[GhostService]:
    yield prepared.service
    prepared.service.stop()


# Rooms without news cause no traffic. The others need no help; this one bars us, and this one only has an invite.
LEFT = [{"quiet", "barred", "invited"}, {"barred", "invited"}]


def test_from_one_name(gone: Gone, service: GhostService) -> None:
    """All rooms with news are found, of all versions, on both servers; and a quiet one as soon as it has news."""
    b, c = gone.b, gone.c
    before = [gone.ghosts(server) for server in (b, c)]
    many = gone.rooms["many"]
    assert len(before[0][many]) == 3 and len(before[1][many]) == 5, "they disagree"
    with service:
        wait_until(lambda: gone.left == LEFT, "all rooms with news are clean")
        wait_until(lambda: set(service.status()["pairs"]) == {"confirmed", "refused"}, "all that can have confirmed")
        status = service.status()
        assert {server["server"] for server in status["servers"]} == {b.server_name, c.server_name}
        assert status["pairs"]["refused"] == 2
        assert status["ghosts"] == 0

        # The next event in a quiet room is sent here.
        b.send(gone.host.token, gone.rooms["quiet"], "hello")
        wait_until(lambda: gone.left == [LEFT[0] - {"quiet"}, LEFT[1]], "the quiet room is clean")

        # An invite is answered with an error, and leaves nothing behind.
        new = b.create_room(gone.host.token, preset="private_chat")
        with pytest.raises(ApiError, match="decommissioned"):
            b.invite(gone.host.token, new, gone.invited.user_id)
        assert new not in gone.ghosts(b)
    # Of an account that was listed by both servers, each may have got a leave of its own.
    assert set(gone.leaves(b).values()) | set(gone.leaves(c).values()) <= {1, 2}


def test_with_rooms_that_are_known(gone: Gone, service: GhostService, tmp_path: Path) -> None:
    """An invite in a room where no account is joined is in no transaction. A file with rooms tells of it."""
    rooms = tmp_path / "rooms.json"
    invited, quiet = gone.rooms["invited"], gone.rooms["quiet"]
    names = [server.server_name for server in (gone.b, gone.c)]
    known = [
        {"room_id": invited, "servers": names, "pending": [gone.invited.user_id]},
        {"room_id": quiet, "servers": names[:1]},
    ]
    rooms.write_text(json.dumps(known))
    service.config.update(servers=[], rooms_paths=[str(rooms)])
    with service:
        wait_until(lambda: gone.left == [{"barred"}, {"barred"}], "all rooms are clean")


def test_a_witness(gone: Gone, service: GhostService, tmp_path: Path) -> None:
    """The rooms of an account on b are known beforehand, also those without news, and with an invite alone."""
    token = tmp_path / "token"
    token.write_text(gone.host.token)
    witness = {"witness_url": gone.b.base_url, "witness_token_path": str(token)}
    service.config.update(servers=[], **witness)
    try:
        with service:
            wait_until(lambda: gone.left == [{"barred"}, {"barred"}], "all rooms are clean")
        assert gone.host.token not in service.log.read_text()
        token.write_text("syt_nonsense")
        with service:
            wait_until(lambda: "witness_token: the rooms of the witness" in service.log.read_text(), "the token is bad")
            wait_until(lambda: service.status()["problem"] == "", "the service begins nevertheless")
    finally:
        for key in witness:
            del service.config[key]


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=nightly(category="kills"))])
def test_killed_at_random_moments(gone: Gone, service: GhostService, chance: random.Random, kills: int) -> None:
    """Nothing is forgotten, although servers tell each room once, and no leave is sent for who has left."""
    # So slow that there is something left to do at each kill.
    service.config["max_rate"] = 8 if kills < 10 else 2
    for _number in range(kills):
        service.start()
        # Not to wait for anything: to be killed anywhere.
        time.sleep(chance.uniform(0, 2.5))
        service.kill()
    service.config["max_rate"] = 100
    with service:
        wait_until(lambda: gone.left == LEFT, "all rooms with news are clean")
    for server in (gone.b, gone.c):
        leaves = gone.leaves(server)
        assert set(leaves.values()) <= {1, 2}
    alone = [room_id for name, room_id in gone.rooms.items() if name.startswith("version") and int(name[8:]) % 2]
    assert {count for (room_id, _user), count in gone.leaves(gone.b).items() if room_id in alone} == {1}
