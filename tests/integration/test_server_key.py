# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""matrix_server_key for a real Synapse whose database and key are lost, judged by the admin APIs of remote servers.

Its new key removes its ghosts, and its former key lets a server join that comes only now.
"""

from __future__ import annotations

import json
import shutil
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.signing import new_signing_key
from lab import ApiError, Homeserver, Lab, MissingError
from lab.api import Json
from lab.lounge import Lounge
from lab.waiting import wait_until

from .conftest import ROOT, RunModule

FORMER = "ed25519:a_lab"


class StaticFiles(SimpleHTTPRequestHandler):
    """Serves the files of a directory as JSON."""

    def guess_type(self, _path: Any) -> str:
        return "application/json"

    def log_message(self, *_arguments: Any) -> None:
        pass


class Lost:
    """Of a, only its name and its TLS certificate are left. B and c list its accounts. D is in no room of it yet."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.a, self.b, self.c, self.d = (lab[name] for name in "abcd")
        self.name = self.a.server_name
        self.certificate = lab.directory / "certificate"
        self.www = lab.directory / "www"
        self.key, self.answer = lab.directory / "new.signing.key", self.www / "_matrix/key/v2/server"
        self.answer.parent.mkdir(parents=True)

    def populate(self) -> None:
        """Let accounts of a join a room on b, which c is in as well, and make a room on a, which b is in."""
        a, b, c = self.a, self.b, self.c
        self.lounge = Lounge(a, b)
        host, guest = b.register("host"), c.register("guest")
        self.users = [a.register(f"user{number}") for number in range(3)]
        self.room_id = b.create_room(host.token, preset="public_chat")
        for server, accounts in ((a, self.users), (c, [guest])):
            for account in accounts:
                server.join(account.token, self.room_id, via=b.server_name)
        # A join must not be the newest event: servers return the state before that event.
        b.send(host.token, self.room_id, "hello")
        b.send(self.lounge.account(b).token, self.lounge.room_id, "hello")
        wait_until(lambda: not any(server.undelivered() for server in (a, b, c)), "all servers have settled")
        wait_until(lambda: self.listed(c) == {self.room_id: self._user_ids}, "c lists the accounts of a")

    def lose(self) -> None:
        """Delete all that a has, but its certificate."""
        self.a.kill()
        self.certificate.mkdir()
        for name in ("tls.crt", "tls.key"):
            (self.a.directory / name).rename(self.certificate / name)
        shutil.rmtree(self.a.directory)
        # The lab writes a file there when it stops the server.
        self.a.directory.mkdir()

    @property
    def _user_ids(self) -> list[str]:
        return sorted(user.user_id for user in self.users)

    @property
    def all_ghosts(self) -> list[dict[str, list[str]]]:
        """What b and c list before a removal."""
        creator = self.lounge.accounts[self.name].user_id
        return [{self.room_id: self._user_ids, self.lounge.room_id: [creator]}, {self.room_id: self._user_ids}]

    def listed(self, server: Homeserver) -> dict[str, list[str]]:
        """The accounts of a that a server lists, by room ID."""
        return server.members_of(self.name)

    @contextmanager
    def served(self) -> Iterator[None]:
        """Serve the static files under the name of a."""
        handler = partial(StaticFiles, directory=str(self.www))
        with ThreadingHTTPServer(("127.0.0.1", self.a.ports[0]), handler) as server:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate / "tls.crt", self.certificate / "tls.key")
            server.socket = context.wrap_socket(server.socket, server_side=True)
            thread = Thread(target=server.serve_forever)
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()

    def checks(self) -> int:
        """How many requests about rooms b and c have received from whoever looks for ghosts."""
        logs = [(self.lab[name].directory / "homeserver.log").read_text() for name in "bc"]
        return sum(log.count("event_id=%24none") for log in logs)

    def _options(self, **options: Any) -> Json:
        network = {"ip_allowlist": ["127.0.0.0/8", "::1"], "ca_path": str(self.lab.ca_file)}
        return {"server_name": self.name, **network, **options}

    def key_options(self, *servers: Homeserver, **more: Any) -> Json:
        """The options of matrix_server_key."""
        names = [server.server_name for server in servers]
        paths = {"path": str(self.key), "key_answer_path": str(self.answer)}
        return self._options(servers=names, **{**paths, **more})

    def ghost_options(self, key: Path, **more: Any) -> Json:
        """The options of matrix_ghosts. Nothing is known of the accounts."""
        b, c = self.b.server_name, self.c.server_name
        rooms = [{"room_id": self.room_id, "servers": [b, c]}, {"room_id": self.lounge.room_id, "servers": [b]}]
        return self._options(signing_key_path=str(key), rooms=rooms, max_rate=100, **more)


@pytest.fixture(scope="module")
def lost(skip_or_fail: Callable[[str], None]) -> Iterator[Lost]:
    try:
        with Lab(ROOT / ".cache/tests/server_key", ["a", "b", "c", "d"], base_port=19100) as lab:
            lost = Lost(lab)
            lost.populate()
            lost.lose()
            yield lost
    except MissingError as missing:
        skip_or_fail(str(missing))


def test_a_new_key_under_the_former_id(lost: Lost, run_module: RunModule, tmp_path: Path) -> None:
    """It is refused, and before any other request. Without the check, remote servers reject all requests."""
    reused = tmp_path / "reused.signing.key"
    version = FORMER.partition(":")[2]
    new = new_signing_key("new")
    reused.write_text(new.file_content().replace(new.key_id.partition(":")[2], version))
    refused = run_module("matrix_server_key", lost.key_options(lost.b, path=str(reused)))
    assert f"{lost.b.server_name} has another key as {FORMER}" in refused["msg"] and not lost.answer.exists()

    # Without a server to ask, nothing is known of the former key.
    assert run_module("matrix_server_key", lost.key_options(path=str(reused)))["key_id"] == FORMER
    with lost.served():
        refused = run_module("matrix_ghosts", lost.ghost_options(reused, require_key_answer=True))
        assert refused["failed"] and not refused["changed"]
        assert refused["msg"].startswith(f"remote servers know another key as {FORMER}, and reject all requests (401)")
        assert lost.checks() == 0
        rejected = run_module("matrix_ghosts_info", lost.ghost_options(reused))
    assert lost.checks() > 0
    assert rejected["counts"]["confirmed"] == rejected["ghosts"] == 0
    assert all("401" in pair["reason"] for pair in rejected["not_confirmed"]), rejected["not_confirmed"]
    assert [lost.listed(server) for server in (lost.b, lost.c)] == lost.all_ghosts
    lost.answer.unlink()


def test_nothing_answers_under_the_name(lost: Lost, run_module: RunModule) -> None:
    """So that the next test shows something."""
    with pytest.raises(ApiError, match="No create event"):
        lost.lounge.join(lost.d, lost.lounge.room_id)
    failed = run_module("matrix_server_key", lost.key_options(lost.d))
    assert failed["failed"] and f"no server returned keys of {lost.name}" in failed["msg"] and not lost.key.exists()


def test_a_new_key_removes_ghosts_and_the_former_one_lets_servers_join(lost: Lost, run_module: RunModule) -> None:
    planned = run_module("matrix_server_key", lost.key_options(lost.b), "--check", "--diff")
    assert planned["changed"] and not lost.key.exists() and not lost.answer.exists()
    made = run_module("matrix_server_key", lost.key_options(lost.b, lost.c, lost.d))
    assert made["changed"] and set(made["old_verify_keys"]) == {FORMER}
    assert [row["key_ids"] for row in made["servers"]] == [[FORMER], [FORMER], []]
    assert json.loads(lost.answer.read_text()) == made["key_answer"]

    missing = run_module("matrix_ghosts", lost.ghost_options(lost.key, require_key_answer=True))
    assert missing["failed"] and missing["msg"].startswith("require_key_answer: serve /_matrix/key/v2/server with")
    assert [lost.listed(server) for server in (lost.b, lost.c)] == lost.all_ghosts

    with lost.served():
        lost.lounge.join(lost.d, lost.lounge.room_id)
        assert lost.lounge.has_member(lost.d)
        removed = run_module("matrix_ghosts", lost.ghost_options(lost.key, require_key_answer=True))
        assert removed["changed"] and removed["key_id"] == made["key_id"]
        assert removed["counts"]["confirmed"] == removed["pairs"] == 3, removed["not_confirmed"]
        wait_until(lambda: not any(map(lost.listed, (lost.b, lost.c, lost.d))), "no server lists an account of a")
        # By now, remote servers have stored the new answer.
        again = run_module("matrix_server_key", lost.key_options(lost.b, lost.c, lost.d))
    assert not again["changed"] and again["key_answer"] == made["key_answer"]
    assert {FORMER, made["key_id"]} in [set(row["key_ids"]) for row in again["servers"]]
    secret = lost.key.read_text().split()[2]
    assert not [run for run in (planned, made, missing, removed, again) if secret in run.output]
