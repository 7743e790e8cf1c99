# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""matrix_ghosts_info and matrix_ghosts with real Synapse servers as the remote servers, judged by their own admin APIs.

One server is gone for good, without having been able to tell two others of all that its accounts did before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Homeserver, Lab, MissingError
from lab.api import Account, Json, quote
from lab.waiting import wait_until

from .conftest import ROOT, RunModule

VERSIONS = [str(number) for number in range(1, 13)]
HALF = 5


class Gone:
    """a is gone, and b and c list accounts of it as joined, invited and knocking."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.a, self.b, self.c = (lab[name] for name in "abc")
        self.rooms: dict[str, str] = {}
        self.pending: dict[str, str] = {}
        """By room ID: who is invited or knocking."""

    def populate(self) -> None:
        """Make rooms of all kinds on b, with members of all three servers."""
        a, b, c = self.a, self.b, self.c
        self.host, self.guest = b.register("host"), c.register("guest")
        self.users = [a.register(f"user{number}") for number in range(2 * HALF)]
        self.invited, self.knocking = a.register("invited"), a.register("knocking")
        for version in VERSIONS:
            self._room(f"version {version}", self.users[:2], room_version=version)
        self._room("many", self.users)
        visible = _state("m.room.history_visibility", history_visibility="world_readable")
        self._room("world-readable", self.users[:2], initial_state=[visible])
        rule = {"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": self.rooms["many"]}]}
        self._room("restricted", self.users[:2], initial_state=[_state("m.room.join_rules", **rule)])
        self._room("barred", self.users[:2])
        # An ACL has names without ports, so it bars the other two from each other, too.
        acl = {"allow": ["*"], "deny": ["localhost"], "allow_ip_literals": True}
        b.set_state(self.host.token, self.rooms["barred"], "m.room.server_acl", acl)
        self._room("invited", [])
        b.invite(self.host.token, self.rooms["invited"], self.invited.user_id)
        self._room("knocking", [], initial_state=[_state("m.room.join_rules", join_rule="knock")])
        a.knock(self.knocking.token, self.rooms["knocking"], via=b.server_name)
        self.pending = {
            self.rooms["invited"]: self.invited.user_id,
            self.rooms["knocking"]: self.knocking.user_id,
        }
        for room_id in self.rooms.values():
            # A join must not be the newest event: servers return the state before that event.
            b.send(self.host.token, room_id, "hello")
        wait_until(lambda: not any(server.undelivered() for server in (a, b, c)), "all servers have settled")
        wait_until(self._agreed, "all servers see the same members")

    def _room(self, name: str, members: list[Account], **options: Any) -> None:
        a, b, c = self.a, self.b, self.c
        options = {"preset": "public_chat", "name": name, **options}
        room_id = self.rooms[name] = b.create_room(self.host.token, **options)
        if name == "knocking":
            # The room is invite-only, so the guest is invited.
            b.invite(self.host.token, room_id, self.guest.user_id)
        elif name == "restricted":
            c.join(self.guest.token, self.rooms["many"], via=b.server_name)
        c.join(self.guest.token, room_id, via=b.server_name)
        for member in members:
            a.join(member.token, room_id, via=b.server_name)

    def _agreed(self) -> bool:
        pending = all(
            self.membership(server, room_id, user_id) in ("invite", "knock")
            for server in (self.b, self.c)
            for room_id, user_id in self.pending.items()
        )
        return pending and all(
            server.joined_members(room_id) == self.b.joined_members(room_id)
            for room_id in self.rooms.values()
            for server in (self.a, self.c)
            if server.members_of(server.server_name).get(room_id)
        )

    def leave(self) -> None:
        """Let all accounts leave. c is down all the time, and b while the second half leaves the large room."""
        a, b, c = self.a, self.b, self.c
        many = self.rooms["many"]
        c.stop()
        for number, user in enumerate(self.users):
            for room_id in a.joined_rooms(user.user_id):
                if room_id != many or number < HALF:
                    a.leave(user.token, room_id)
        # The invite is never answered: b would pass the rejection on to c as soon as it can.
        a.leave(self.knocking.token, self.rooms["knocking"])
        wait_until(lambda: self.listed(b) == self._second_wave, "b has heard of the first wave")
        # What it has for c in memory is lost: it will send the newest event of each room alone.
        a.kill()
        a.start()
        b.stop()
        for user in self.users[HALF:]:
            a.leave(user.token, many)
        a.kill()
        b.start()
        c.start()

    @property
    def _second_wave(self) -> dict[str, list[str]]:
        """The accounts that b still lists then. It denies leaves by ACL, and does not learn that a knock is over."""
        return {
            self.rooms["many"]: sorted(user.user_id for user in self.users[HALF:]),
            self.rooms["barred"]: sorted(user.user_id for user in self.users[:2]),
            self.rooms["knocking"]: [self.knocking.user_id],
            self.rooms["invited"]: [self.invited.user_id],
        }

    def listed(self, server: Homeserver) -> dict[str, list[str]]:
        """The accounts that a server lists, invites and knocks included, by room ID."""
        found = server.members_of(self.a.server_name)
        for room_id, user_id in self.pending.items():
            if self.membership(server, room_id, user_id) in ("invite", "knock"):
                found.setdefault(room_id, []).append(user_id)
        return found

    def membership(self, server: Homeserver, room_id: str, user_id: str) -> str | None:
        """The membership of an account, as a server sees it."""
        state = server.admin("GET", f"/v1/rooms/{quote(room_id)}/state")["state"]
        members = (event for event in state if event["type"] == "m.room.member" and event["state_key"] == user_id)
        return next((event["content"]["membership"] for event in members), None)

    def options(self, **more: Any) -> Json:
        """The options of the modules, with all that is known of the rooms."""
        accounts = [user.user_id for user in self.users]
        rooms = [
            {
                "room_id": room_id,
                "servers": [self.b.server_name, self.c.server_name],
                "accounts": [] if room_id in self.pending else accounts,
                "pending": [self.pending[room_id]] if room_id in self.pending else [],
            }
            for room_id in self.rooms.values()
        ]
        return {
            "server_name": self.a.server_name,
            "signing_key_path": str(self.a.directory / "signing.key"),
            "rooms": rooms,
            "ip_allowlist": ["127.0.0.0/8", "::1"],
            "ca_path": str(self.lab.ca_file),
            "max_rate": 100,
            **more,
        }

    def as_answered(self, answer: Json) -> dict[str, dict[str, list[str]]]:
        """The listed accounts in the result of the module, by server and room ID. It has ten accounts for each room."""
        found: dict[str, dict[str, list[str]]] = {}
        for pair in answer["not_confirmed"]:
            ghosts = sorted(ghost["user_id"] for ghost in pair["ghosts"])
            if ghosts:
                found.setdefault(pair["server"], {})[pair["room_id"]] = ghosts
        return found


def _state(kind: str, **content: Any) -> Json:
    return {"type": kind, "state_key": "", "content": content}


@pytest.fixture(scope="module")
def gone(skip_or_fail: Callable[[str], None]) -> Iterator[Gone]:
    try:
        with Lab(ROOT / ".cache/tests/ghosts", ["a", "b", "c"], base_port=18800) as lab:
            gone = Gone(lab)
            gone.populate()
            gone.leave()
            yield gone
    except MissingError as missing:
        skip_or_fail(str(missing))


def without(listed: dict[str, list[str]], *room_ids: str) -> dict[str, list[str]]:
    return {room_id: names for room_id, names in listed.items() if room_id not in room_ids}


def test_who_is_listed(gone: Gone, run_module: RunModule) -> None:
    b, c, barred = gone.b, gone.c, gone.rooms["barred"]
    listed = {server.server_name: without(gone.listed(server), barred) for server in (b, c)}
    assert len(listed[b.server_name]) == 3 and len(listed[c.server_name]) == len(gone.rooms) - 1
    answer = run_module("matrix_ghosts_info", gone.options())
    assert answer["counts"] == {
        "confirmed": len(gone.rooms) - 4,
        "ghosts": len(gone.rooms) + 2,
        "refused": 2,
        "unreachable": 0,
        "unconfirmed": 0,
    }, answer["not_confirmed"]
    assert gone.as_answered(answer) == listed
    assert {pair["room_id"] for pair in answer["not_confirmed"] if pair["state"] == "refused"} == {barred}
    assert not answer["changed"]


def test_nothing_is_known_but_the_rooms(gone: Gone, run_module: RunModule) -> None:
    """Who is invited or knocking is not found then."""
    options = gone.options()
    for room in options["rooms"]:
        room["accounts"] = room["pending"] = []
    joined = {server.server_name: gone.listed(server) for server in (gone.b, gone.c)}
    joined = {name: without(listed, gone.rooms["barred"], *gone.pending) for name, listed in joined.items()}
    answer = run_module("matrix_ghosts_info", options)
    assert gone.as_answered(answer) == joined


def test_check_mode_and_removal(gone: Gone, run_module: RunModule, tmp_path: Path) -> None:
    b, c, barred = gone.b, gone.c, gone.rooms["barred"]
    options = gone.options(record_path=str(tmp_path / "record.jsonl"))
    before = [gone.listed(server) for server in (b, c)]
    planned = run_module("matrix_ghosts", options, "--check", "--diff")
    assert planned["changed"] and planned["ghosts"] == sum(len(n) for s in before for n in without(s, barred).values())
    assert [gone.listed(server) for server in (b, c)] == before
    assert not (tmp_path / "record.jsonl").exists()

    done = run_module("matrix_ghosts", options)
    assert done["changed"] and done["counts"]["confirmed"] == 2 * len(gone.rooms) - 2
    assert [set(gone.listed(server)) for server in (b, c)] == [{barred}, {barred}]
    # What was removed on one server has reached the other by itself.
    assert 0 < done["removed"] <= planned["ghosts"]

    again = run_module("matrix_ghosts", options)
    assert (again["changed"], again["removed"], again["ghosts"]) == (False, 0, 0)
    assert again["requests"] <= 10, "only the two that refuse are asked about again, and the keys"
    fresh = run_module("matrix_ghosts", gone.options())
    assert (fresh["changed"], fresh["counts"]) == (False, done["counts"])


def test_another_key_is_refused(gone: Gone, run_module: RunModule, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    other.write_text((gone.b.directory / "signing.key").read_text().replace("a_lab", "a_other"))
    failed = run_module("matrix_ghosts", gone.options(signing_key_path=str(other)))
    assert failed["failed"] and not failed["changed"]
    assert "ed25519:a_other" in failed["msg"] and "ed25519:a_lab" in failed["msg"]
    assert other.read_text().split()[2] not in failed.output


@pytest.mark.own_process
@pytest.mark.parametrize("how", ["signing_key_path", "signing_key"])
def test_the_key_is_in_no_output(gone: Gone, run_module: RunModule, tmp_path: Path, how: str) -> None:
    path = gone.a.directory / "signing.key"
    key = path.read_text().split()[2]
    options = gone.options(rooms=[], signing_key="{{ lookup('ansible.builtin.file', '" + str(path) + "') }}")
    if how == "signing_key_path":
        del options["signing_key"]
    log = tmp_path / "ansible.log"
    environment = {"ANSIBLE_LOG_PATH": str(log), "ANSIBLE_PIPELINING": "false"}
    if how == "signing_key_path":
        # It prints the arguments of each module, as they are.
        environment["ANSIBLE_DEBUG"] = "1"
    # Nothing answers under the name, and there is no other server to ask.
    failed = run_module("matrix_ghosts_info", options, "-vvvv", **environment)
    assert failed["failed"] and "can't be verified" in failed["msg"]
    for output in (failed.output, log.read_text()):
        assert "ed25519:a_lab" in output and key not in output


def test_a_homeserver_that_is_not_gone(gone: Gone, run_module: RunModule) -> None:
    """Without base_url, no account is removed. With it, no joined account is, and the rooms are read from there."""
    a, b, c = gone.a, gone.b, gone.c
    user, many, barred = gone.users[0], gone.rooms["many"], gone.rooms["barred"]
    if not a.running:
        a.start()
    a.join(user.token, many, via=b.server_name)
    wait_until(lambda: user.user_id in c.joined_members(many), "c sees who has joined")
    failed = run_module("matrix_ghosts", gone.options())
    assert failed["failed"] and "Synapse" in failed["msg"] and "set base_url and access_token" in failed["msg"]
    connection = {"base_url": a.base_url, "access_token": a.admin_token}
    kept = run_module("matrix_ghosts", gone.options(**connection))
    assert kept["failed"] and "joined on this server" in kept["msg"]
    assert all(user.user_id in server.joined_members(many) for server in (a, b, c))

    c.stop()
    a.leave(user.token, many)
    wait_until(lambda: user.user_id not in b.joined_members(many), "b has heard of it")
    a.kill()
    a.start()
    c.start()
    rooms_of_synapse = {key: value for key, value in gone.options(**connection).items() if key != "rooms"}
    done = run_module("matrix_ghosts", rooms_of_synapse)
    assert done["pairs"] >= 2 * (len(gone.rooms) - len(gone.pending))
    assert [set(gone.listed(server)) for server in (b, c)] == [{barred}, {barred}]
