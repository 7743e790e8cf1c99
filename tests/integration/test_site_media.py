# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""synapse_media on a real Synapse whose accounts have all left and are erased; also on the oldest that is supported."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
from compatibility import environments
from lab import Lab, MissingError
from lab.api import Account, quote
from lab.homeserver import Homeserver
from lab.proxy import Fault, Proxy
from lab.waiting import wait_until

from .conftest import ROOT, RunModule, StartPlaybook, unchanged
from .test_parent_process import descendants, end

BOUNDARY = "0123456789abcdef"
OLD = "1.93"
PREVIEW = b"\x89PNG\r\n\x1a\n"
PRIVATE = {"preset": "private_chat"}
PUBLIC = {"preset": "public_chat"}
READABLE = {
    "preset": "private_chat",
    "initial_state": [{"type": "m.room.history_visibility", "content": {"history_visibility": "world_readable"}}],
}


def content(name: str) -> bytes:
    """A file of its own for each name: bytes of every kind, in more than one part."""
    seed = hashlib.sha256(name.encode()).digest()
    return PREVIEW + seed + bytes(range(256)) * (5000 if name == "large" else 40)


@dataclass
class Place:
    """A homeserver, and the URIs of what its account has uploaded, by name."""

    server: Homeserver
    remote: Homeserver
    alice: Account
    uris: dict[str, str]
    is_old: bool

    def upload(self, name: str, kind: str = "image/png", file_name: str | None = None) -> str:
        answer = requests.post(
            f"{self.server.base_url}/_matrix/media/v3/upload",
            params={"filename": file_name} if file_name else {},
            data=content(name),
            headers={"Authorization": f"Bearer {self.alice.token}", "Content-Type": kind},
            timeout=60,
        )
        self.uris[name] = answer.json()["content_uri"]
        return self.uris[name]

    def id(self, name: str) -> str:
        return self.uris[name].rpartition("/")[2]

    def on_disk(self, name: str) -> Path:
        media_id = self.id(name)
        return self.server.directory / "media/local_content" / media_id[:2] / media_id[2:4] / media_id[4:]

    def room(self, options: dict[str, Any], avatar: str, *names: str, shared: bool = True) -> str:
        """Create a room with an avatar and messages with files."""
        server, token = self.server, self.alice.token
        room = server.create_room(token, **options)
        server.set_state(token, room, "m.room.avatar", {"url": self.uris.get(avatar) or self.upload(avatar)})
        for name in names:
            uri = self.uris.get(name) or self.upload(name)
            path = f"/_matrix/client/v3/rooms/{quote(room)}/send/m.room.message/{name}"
            message = {"msgtype": "m.file", "body": name, "url": uri}
            server.call("PUT", path, token=token, json=message)
        if shared:
            bob = self.remote.operator
            server.invite(token, room, bob.user_id)
            self.remote.join(bob.token, room, via=server.server_name)
        return room

    def profile(self, name: str) -> None:
        """Set the avatar of the account, and wait until its rooms have it."""
        user = self.alice.user_id
        path = f"/_matrix/client/v3/profile/{quote(user)}/avatar_url"
        self.server.call("PUT", path, token=self.alice.token, json={"avatar_url": self.uris[name]})
        rooms = self.server.joined_rooms(user)

        def is_shown() -> bool:
            states = (self.server.admin("GET", f"/v1/rooms/{quote(room)}/state")["state"] for room in rooms)
            shown = {e["content"].get("avatar_url") for state in states for e in state if e.get("state_key") == user}
            return shown == {self.uris[name]}

        wait_until(is_shown, "all rooms have the avatar")

    @property
    def connection(self) -> dict[str, Any]:
        return {"base_url": self.server.base_url, "access_token": self.server.admin_token}


def stored(directory: Path) -> dict[str, bytes]:
    """The plain files by media ID."""
    return {path.stem: path.read_bytes() for path in directory.iterdir() if path.suffix != ".multipart"}


def fill(place: Place) -> None:
    """Let the account upload files of all kinds, and be erased."""
    server = place.server
    for name in ("old face", "face", "bridged"):
        place.upload(name)
    place.upload("page", 'text/html; charset=x"y', 'ä"/../\u202eö.html')
    place.upload("large", "video/mp4", "large.mp4")
    place.upload("text", "text/plain", "notes.txt")
    place.room(PUBLIC, "public avatar", "picture", "page", "text", "quarantined", "deleted")
    # As a bridge does: the picture of a room with one person is the one of that person.
    place.room(PRIVATE, "bridged", "private file", "large", "old face")
    place.room(READABLE, "readable avatar", "lost")
    place.room(PUBLIC, "our avatar", "our file", shared=False)
    for name in ("old face", "bridged", "face"):
        place.profile(name)
    quarantined = f"/v1/media/quarantine/{quote(server.server_name)}/{place.id('quarantined')}"
    server.admin("POST", quarantined, json={})
    server.admin("DELETE", f"/v1/media/{quote(server.server_name)}/{place.id('deleted')}")
    place.on_disk("lost").unlink()


def erase(place: Place) -> None:
    place.server.deactivate(place.alice.user_id, erase=True)
    wait_until(lambda: not place.server.joined_rooms(place.alice.user_id), "the account has left all rooms")


AVATARS = {"public avatar", "readable avatar"}
PUBLIC_FILES = AVATARS | {"picture", "page", "text"}
ALL = PUBLIC_FILES | {"private file", "large"}


@pytest.fixture(
    scope="module",
    params=[pytest.param(None, id="newest"), pytest.param(OLD, marks=pytest.mark.nightly(category="versions"))],
)
def made(request: pytest.FixtureRequest, skip_or_fail: Callable[[str], None]) -> Iterator[Place]:
    """Two servers, and rooms that both are in."""
    try:
        python = environments.synapse(request.param) if request.param else None
        with Lab(ROOT / ".cache/tests/site-media", base_port=18910, synapse_python=python) as lab:
            place = Place(lab["a"], lab["b"], lab["a"].register("alice"), {}, is_old=request.param is not None)
            fill(place)
            yield place
    except (MissingError, environments.MissingPythonError) as missing:
        skip_or_fail(str(missing))


@pytest.fixture
def options(made: Place, tmp_path: Path) -> dict[str, Any]:
    return {**made.connection, "directory": str(tmp_path / "www/media"), "boundary": BOUNDARY}


@pytest.fixture
def host(tmp_path: Path) -> dict[str, str]:
    """The environment of a host whose temporary files are in a directory of their own."""
    (tmp_path / "var").mkdir()
    return {"ANSIBLE_SYSTEM_TMPDIRS": str(tmp_path / "var")}


def named(place: Place, found: dict[str, Any]) -> dict[str, Any]:
    """The same by name instead of media ID."""
    names = {place.id(name): name for name in place.uris}
    return {names[media_id]: value for media_id, value in found.items()}


def test_before_the_accounts_leave(made: Place, run_module: RunModule, options: dict[str, Any], tmp_path: Path) -> None:
    """As the plan needs it: without a record, and nothing is written."""
    with unchanged(made.server):
        found = run_module("synapse_media", {**options, "select": "all"}, "--check")
    # Of the file that is lost, only a download shows it; before 1.140, of all that fail.
    assert found["files"] == len(ALL) + (3 if made.is_old else 1)
    assert (found["changed"], found["downloaded"], "warnings" in found) == (True, 0, False)
    assert not (tmp_path / "www").exists()


@pytest.mark.own_process
def test_after_all_have_left(
    made: Place, run_module: RunModule, options: dict[str, Any], tmp_path: Path, host: dict[str, str]
) -> None:
    recorded = run_module("synapse_federated_rooms", {**made.connection, "record_avatars": True})
    assert (recorded["rooms"], recorded["avatars"]) == (3, 3)
    erase(made)
    directory = tmp_path / "www/media"
    for select, names in (("avatars", AVATARS), ("public", PUBLIC_FILES), ("all", ALL)):
        before = len(stored(directory)) if directory.exists() else 0
        done = run_module("synapse_media", {**options, "select": select}, "-vvvv", **host)
        assert named(made, stored(directory)) == {name: content(name) for name in names}
        assert (done["changed"], done["downloaded"], done["files"]) == (True, len(names) - before, len(names))
        assert done["bytes"] == sum(len(content(name)) for name in names)
        assert (done["unreadable_rooms"], "warnings" in done) == ([], False)
        assert made.server.admin_token not in done.output
        assert not list((tmp_path / "var").iterdir())
    failures = named(made, {failure["media_id"]: failure["reason"] for failure in done["failures"]})
    assert failures.keys() == {"quarantined", "deleted", "lost"}
    assert "quarantined" in failures["quarantined"]
    assert "does not have the file" in failures["deleted"]
    again = run_module("synapse_media", {**options, "select": "all"}, **host)
    assert (again["changed"], again["downloaded"], again["files"]) == (False, 0, len(ALL))
    # Whoever wants less may have it.
    fewer = run_module("synapse_media", {**options, "select": "avatars"}, **host)
    assert (fewer["changed"], fewer["removed"]) == (True, len(ALL - AVATARS))
    assert named(made, stored(directory)).keys() == AVATARS


@pytest.mark.own_process
def test_a_run_that_is_killed(
    made: Place,
    run_module: RunModule,
    start_playbook: StartPlaybook,
    options: dict[str, Any],
    tmp_path: Path,
    host: dict[str, str],
) -> None:
    """Nothing is left of it on the host, and the next one continues."""
    run_module("synapse_media", {**options, "select": "avatars"}, **host)
    task = {"matrixops.synapse.synapse_media": {**options, "select": "all"}}
    playbook = tmp_path / "killed.json"
    with Proxy(made.server) as proxy:
        held = proxy.rule(Fault.DELAY_BEFORE, path="/media/(v3/)?download/", after=2, seconds=600)
        task["matrixops.synapse.synapse_media"]["base_url"] = proxy.base_url
        playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
        with start_playbook(playbook, {"host": {}}, **host) as process:
            wait_until(lambda: held.injected > 0, "a file is being downloaded")
            assert list((tmp_path / "var").iterdir())
            end(process, signal.SIGKILL, descendants(process.pid))
    assert not list((tmp_path / "var").iterdir())
    done = run_module("synapse_media", {**options, "select": "all"}, **host)
    assert done["downloaded"] == len(ALL - AVATARS)
    assert named(made, stored(tmp_path / "www/media")).keys() == ALL


def test_a_truncated_file(made: Place, run_module: RunModule, options: dict[str, Any], tmp_path: Path) -> None:
    """Synapse announces the whole file, and never sends the rest."""
    path = made.on_disk("picture")
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    try:
        done = run_module("synapse_media", {**options, "select": "public", "timeout": 5})
    finally:
        path.write_bytes(whole)
    failures = named(made, {failure["media_id"]: failure["reason"] for failure in done["failures"]})
    assert "not complete in time" in failures["picture"]
    assert named(made, stored(tmp_path / "www/media")).keys() == PUBLIC_FILES - {"picture"}
