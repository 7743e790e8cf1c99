# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A homeserver whose database and key are lost, set up anew under the same name: rejoin, or remove what is left.

Judged by the admin APIs of the remote servers, and by that of the new homeserver.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import ApiError, Homeserver, Lab, MissingError
from lab.api import quote
from lab.homeserver import Settings
from lab.waiting import wait_until

from .conftest import ROOT, RunModule, RunPlaybook
from .test_late_servers import GHOSTS

NOISE = 100_000
"""Lines of other requests in the log."""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


class Anew:
    """A is lost, and set up anew with a new key. B and c list accounts of the former one."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.directory = directory
        self.a, self.b, self.c = (lab[name] for name in "abc")
        self.name = self.a.server_name
        self.log = directory / "homeserver.log"
        self.former_keys: dict[str, Any] = {}
        self.alice_token = ""

    def populate(self) -> None:
        a, b, c = self.a, self.b, self.c
        self.host, self.guest = b.register("host"), c.register("guest")
        users = [a.register(name) for name in ("alice", "bob")]
        self.alice, self.bob = (user.user_id for user in users)
        self.rejoined, self.abandoned, self.tried, self.invites = (
            b.create_room(self.host.token, preset="public_chat") for _number in range(4)
        )
        self.created_here = a.create_room(users[0].token, preset="public_chat")
        b.join(self.host.token, self.created_here, via=self.name)
        for room_id in (self.rejoined, self.abandoned, self.tried, self.invites):
            c.join(self.guest.token, room_id, via=b.server_name)
        for room_id in (self.rejoined, self.abandoned, self.tried):
            for user in users:
                a.join(user.token, room_id, via=b.server_name)
        self.speak()
        wait_until(lambda: not any(server.undelivered() for server in (a, b, c)), "all servers have settled")
        everybody = sorted([self.alice, self.bob])
        for server in (b, c):
            wait_until(lambda: self.listed(server, self.rejoined) == everybody, "all list the accounts")  # noqa: B023

    def speak(self) -> None:
        """Somebody of b speaks in each room."""
        for room_id in (self.rejoined, self.abandoned, self.created_here):
            self.b.send(self.host.token, room_id, "hello")

    def lose(self) -> None:
        """Delete all that a has, but its TLS certificate."""
        self.a.kill()
        for path in self.a.directory.iterdir():
            if path.name not in ("tls.crt", "tls.key"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def set_up(self, **config: Any) -> None:
        """Start a with an empty database."""
        self.a.configure(Settings(extra_config=config))
        self.a.start()

    def listed(self, server: Homeserver, room_id: str) -> list[str]:
        """The accounts of a that are joined to a room by the word of a server."""
        return sorted(name for name in server.joined_members(room_id) if name.endswith(f":{self.name}"))

    def write_log(self) -> None:
        """Copy the log of the new homeserver to the end of a long one."""
        with self.log.open("w") as log:
            for number in range(NOISE):
                log.write(
                    f"2026-11-30 07:00:00,000 INFO synapse.access.http PUT-{number} Processed request: 0.003sec\n"
                )
            log.write(self.a.log.read_text())

    @property
    def connection(self) -> dict[str, Any]:
        """The options of the federation client."""
        return {"ca_path": str(self.lab.ca_file), "ip_allowlist": ["127.0.0.0/8", "::1"]}

    @property
    def variables(self) -> dict[str, Any]:
        """The variables of the role ghosts."""
        return {
            "ghosts_server_name": self.name,
            "ghosts_signing_key_path": str(self.a.directory / "signing.key"),
            "ghosts_alongside": True,
            "ghosts_base_url": self.a.base_url,
            "ghosts_access_token": self.a.admin_token,
            "ghosts_log_paths": [str(self.log)],
            "ghosts_record_path": str(self.directory / "record.jsonl"),
            **{f"ghosts_federation_{key}": value for key, value in self.connection.items()},
        }


@pytest.fixture(scope="module")
def anew(skip_or_fail: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Anew]:
    try:
        with Lab(ROOT / ".cache/tests/anew", "abc", base_port=19130) as lab:
            anew = Anew(lab, tmp_path_factory.mktemp("anew"))
            anew.populate()
            anew.lose()
            yield anew
    except MissingError as missing:
        skip_or_fail(str(missing))


@pytest.fixture
def run(anew: Anew, run_playbook: RunPlaybook, tmp_path: Path) -> Run:
    """Run the playbook ghosts with variables in addition to those of each run."""

    def run(*arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "variables.json"
        values = {**anew.variables, **variables}
        file.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
        return run_playbook(GHOSTS, {}, "-e", f"@{file}", *arguments)

    return run


def test_former_keys_are_needed(anew: Anew, run_module: RunModule) -> None:
    """The key is made before the first start. Without the former public key, no room can be joined."""
    options = {"server_name": anew.name, "servers": [anew.b.server_name], **anew.connection}
    made = run_module("matrix_server_key", {**options, "path": str(anew.a.directory / "signing.key")})
    anew.former_keys = made["old_verify_keys"]
    assert made["changed"] and list(anew.former_keys) == ["ed25519:a_lab"]
    anew.set_up()
    alice = anew.a.register("alice")
    assert alice.user_id == anew.alice
    with pytest.raises(ApiError, match=r"403 .*Auth events could not be found"):
        anew.a.join(alice.token, anew.tried, via=anew.b.server_name)
    with pytest.raises(ApiError, match=r"400 .*No create event in state"):
        anew.a.join(alice.token, anew.created_here, via=anew.b.server_name)
    anew.a.stop()
    anew.set_up(old_signing_keys=anew.former_keys)
    for room_id in (anew.tried, anew.created_here):
        anew.a.join(alice.token, room_id, via=anew.b.server_name)
    anew.alice_token = alice.token


def test_rooms_are_found_in_the_log(anew: Anew, run_module: RunModule) -> None:
    """Of 100,000 lines, a few name rooms."""
    anew.speak()
    wait_until(lambda: anew.a.log.read_text().count(f"unknown room_id: {anew.abandoned}") > 0, "a ignores an event")
    anew.write_log()
    key = {"signing_key_path": anew.variables["ghosts_signing_key_path"]}
    synapse = {"base_url": anew.a.base_url, "access_token": anew.a.admin_token, "alongside": True}
    listed = run_module(
        "matrix_ghosts_info",
        {"server_name": anew.name, "log_paths": [str(anew.log)], **key, **synapse, **anew.connection},
    )
    rooms = {pair["room_id"]: sorted(ghost["user_id"] for ghost in pair["ghosts"]) for pair in listed["not_confirmed"]}
    assert rooms == dict.fromkeys((anew.abandoned, anew.rejoined), sorted([anew.alice, anew.bob]))
    assert listed["sources"] == {"log": 2}


def test_the_mode_must_be_chosen(anew: Anew, run: Run) -> None:
    done = run(ghosts_alongside=False, ghosts_log_paths=[], ghosts_rooms=[])
    shown = " ".join(done.stdout.split())
    assert done.returncode == 2 and "changed=0 " in shown
    assert "No changes made: Synapse " in shown and f" answers under {anew.name}." in shown, shown
    assert "set ghosts_alongside: true" in shown


def test_a_log_without_rooms(anew: Anew, run: Run, tmp_path: Path) -> None:
    log = tmp_path / "other.log"
    log.write_text("all is well\n")
    done = run(ghosts_log_paths=[str(log)])
    assert done.returncode == 2 and "changed=0 " in done.stdout
    assert "log_paths: no line in " in " ".join(done.stdout.split())


def test_rejoin_and_remove(anew: Anew, run: Run) -> None:
    """Who has joined again is kept, and so is whoever the new homeserver lists in that room."""
    a, b, c = anew.a, anew.b, anew.c
    path = f"/v1/join/{quote(anew.rejoined)}"
    a.admin("POST", f"{path}?server_name={b.server_name}", json={"user_id": anew.alice})
    b.invite(anew.host.token, anew.invites, anew.alice)
    everybody = sorted([anew.alice, anew.bob])
    # It has the state of the room from b.
    assert anew.listed(a, anew.rejoined) == everybody
    rooms = [
        {"room_id": anew.invites, "servers": [b.server_name], "pending": [anew.alice]},
    ]
    planned = run("--check", "--diff", ghosts_rooms=rooms)
    assert planned.returncode == 0, planned.stdout
    assert anew.rejoined not in planned.stdout and f"{anew.abandoned} {anew.bob}" in planned.stdout, planned.stdout
    done = run(ghosts_rooms=rooms)
    assert done.returncode == 0, done.stdout
    assert " ghosts removed. Record: " in done.stdout, done.stdout
    for server in (b, c):
        wait_until(lambda: anew.listed(server, anew.abandoned) == [], "the ghosts are gone")  # noqa: B023
        assert anew.listed(server, anew.rejoined) == everybody
    assert anew.listed(a, anew.rejoined) == everybody
    # An invite may be new.
    state = b.admin("GET", f"/v1/rooms/{quote(anew.invites)}/state")["state"]
    members = {event["state_key"]: event["content"] for event in state if event["type"] == "m.room.member"}
    assert members[anew.alice]["membership"] == "invite"
    a.join(anew.alice_token, anew.invites, via=b.server_name)
    # The servers still agree.
    a.send(anew.alice_token, anew.rejoined, "I am back")
    wait_until(lambda: _has_message(b, anew.host.token, anew.rejoined, "I am back"), "b accepts events of a")


def _has_message(server: Homeserver, token: str, room_id: str, text: str) -> bool:
    return any(event.get("content", {}).get("body") == text for event in server.messages(token, room_id))
