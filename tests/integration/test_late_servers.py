# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook ghosts: a server that was down for the whole period, while the homeserver and its host are gone.

What is left is the certificate, the archive and the static site. Judged by the admin API of the remote server.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret
from lab import Homeserver, Lab, MissingError
from lab.api import quote
from lab.waiting import wait_until
from lab.web_servers import Nginx
from signedjson.key import generate_signing_key, get_verify_key, read_signing_keys, write_signing_keys
from signedjson.sign import sign_json
from unpaddedbase64 import encode_base64

from .conftest import ROOT, RunPlaybook
from .test_playbook import PLAYBOOK

GHOSTS = "matrixops.synapse.ghosts"
PASSWORD = "correct horse"
DAY = 86400
KEY_ANSWER = "www/_matrix/key/v2/server"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


class Late:
    """A is decommissioned and gone. B was there, and c was down all the time."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab = lab
        self.directory = directory
        self.a, self.b, self.c = (lab[name] for name in "abc")
        self.name = self.a.server_name
        self.password_file = directory / "password"
        self.password_file.write_text(PASSWORD)
        self.reports = directory / "reports"

    def populate(self) -> None:
        """Make rooms that all three are in, and an invite of c for an account of a."""
        a, b, c = self.a, self.b, self.c
        self.host, self.guest = b.register("host"), c.register("guest")
        users = [a.register(f"user{number}") for number in range(4)]
        self.invited = a.register("invited").user_id
        self.rooms = []
        for version in ("6", "10", "11", "12"):
            room_id = b.create_room(self.host.token, preset="public_chat", room_version=version)
            c.join(self.guest.token, room_id, via=b.server_name)
            for user in users:
                a.join(user.token, room_id, via=b.server_name)
            b.send(self.host.token, room_id, "hello")
            self.rooms.append(room_id)
        self.invite_room = c.create_room(self.guest.token, preset="private_chat")
        c.invite(self.guest.token, self.invite_room, self.invited)
        wait_until(lambda: not any(server.undelivered() for server in (a, b, c)), "all servers have settled")
        wait_until(lambda: self.listed(c) == self.listed(b) and len(self.listed(c)) == 4, "b and c list all accounts")

    def listed(self, server: Homeserver) -> dict[str, list[str]]:
        """Who is joined by the word of a server, by room ID."""
        return server.members_of(self.name)

    @property
    def has_invite(self) -> bool:
        """Whether c lists the invite."""
        state = self.c.admin("GET", f"/v1/rooms/{quote(self.invite_room)}/state")["state"]
        members = {event["state_key"]: event["content"] for event in state if event["type"] == "m.room.member"}
        return bool(members[self.invited]["membership"] == "invite")

    @property
    def decommission(self) -> dict[str, Any]:
        """The variables with which a is decommissioned."""
        return {
            **self.a.role_variables,
            "decommission_power_off_tasks": str(Path(__file__).with_name("power_off.yml")),
            "decommission_power_off_timeout": 0,
            "off_marker": str(self.directory / "powered_off"),
            "decommission_propagation_period": "3s",
            "decommission_poll_interval": 1,
            "decommission_report_dir": str(self.reports),
            "decommission_archive": True,
            "decommission_archive_vault_password_file": str(self.password_file),
            "decommission_site": True,
            "decommission_site_operator": "Example",
            "decommission_site_contact": "admin@example.org",
        }

    def lose(self) -> None:
        """End the homeserver and delete all that it had. Its TLS certificate is the web server's from now on."""
        self.a.stop()
        for path in self.a.directory.iterdir():
            if path.name not in ("tls.crt", "tls.key"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _only(self, pattern: str) -> Path:
        (path,) = self.reports.glob(pattern)
        return path

    @property
    def site(self) -> Path:
        return self._only("*-site")

    @property
    def archive(self) -> Path:
        return self._only("*-archive")

    @property
    def certificate(self) -> Path:
        return self._only("*.json")

    @property
    def variables(self) -> dict[str, Any]:
        """The variables of the role ghosts, without a source and a key."""
        return {
            "ghosts_server_name": self.name,
            "ghosts_federation_ca_path": str(self.lab.ca_file),
            "ghosts_federation_ip_allowlist": ["127.0.0.0/8", "::1"],
            "ghosts_record_path": str(self.directory / "record.jsonl"),
        }

    def signing_key(self) -> str:
        """The content of the signing key file in the archive."""
        vault = VaultLib([("default", VaultSecret(PASSWORD.encode()))])
        return vault.decrypt((self.archive / "signing.key.vault").read_text()).decode()

    @contextmanager
    def answering(self, site: Path | None = None) -> Iterator[None]:
        """Nginx serves the static site under the name of a."""
        with Nginx(self.a.directory, site or self.site, self.a.ports[0]):
            yield


@pytest.fixture(scope="module")
def made(skip_or_fail: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Late]:
    try:
        with Lab(ROOT / ".cache/tests/late", "abc", base_port=19120) as lab:
            made = Late(lab, tmp_path_factory.mktemp("late"))
            made.populate()
            yield made
    except MissingError as missing:
        skip_or_fail(str(missing))


@pytest.fixture
def late(made: Late, run_playbook: RunPlaybook) -> Late:
    """A is decommissioned, once, while c is down, and is gone."""
    if not made.reports.exists():
        made.c.stop()
        done = run_playbook(PLAYBOOK, {"a": made.decommission})
        assert done.returncode == 0, done.stdout
        assert f"{made.c.server_name}: unreachable in 5 rooms" in done.stdout
        made.lose()
        made.c.start()
    return made


@pytest.fixture
def run(late: Late, run_playbook: RunPlaybook, tmp_path: Path) -> Run:
    """Run the playbook on localhost, which is in no inventory, with variables in addition to those of each run.

    All paths are relative to the directory in which Ansible starts.
    """

    def run(*arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        file = tmp_path / "variables.json"
        together = {**late.variables, **variables}
        for name, value in together.items():
            if isinstance(value, str) and value.startswith("/"):
                together[name] = os.path.relpath(value, tmp_path)
        file.write_text(json.dumps(together))
        return run_playbook(GHOSTS, {}, "-e", f"@{file}", *arguments)

    return run


def refused(late: Late, done: subprocess.CompletedProcess[str]) -> str:
    """A run that has failed before it changed anything; return its message."""
    assert done.returncode == 2, done.stdout
    assert "changed=0 " in done.stdout and sorted(late.listed(late.c)) == sorted(late.rooms)
    return " ".join(done.stdout.split())


def test_nothing_answers_under_the_name(late: Late, run: Run) -> None:
    done = run(ghosts_certificate=str(late.certificate), ghosts_signing_key=late.signing_key())
    message = refused(late, done)
    assert "require_key_answer: serve /_matrix/key/v2/server with ed25519:site_" in message, message


@pytest.mark.parametrize("fault", ["expired", "another name", "another key", "old ID"])
def test_a_key_answer_that_is_wrong(late: Late, run: Run, tmp_path: Path, fault: str) -> None:
    site = tmp_path / "site"
    shutil.copytree(late.site, site)
    (key, _old) = read_signing_keys(late.signing_key().splitlines())
    answer = json.loads((site / KEY_ANSWER).read_text())
    del answer["signatures"]
    name = late.name
    if fault == "expired":
        answer["valid_until_ts"] = int((time.time() - DAY) * 1000)
        expected = "since the key answer of"
    elif fault == "another name":
        name = answer["server_name"] = "other.example"
        expected = f"key answer of {late.name}: server_name is missing or differs"
    else:
        key = generate_signing_key("a_lab" if fault == "old ID" else "new")
        answer["verify_keys"] = {f"ed25519:{key.version}": {"key": encode_base64(get_verify_key(key).encode())}}
        answer["old_verify_keys"] = {}
        expected = "remote servers know another key" if fault == "old ID" else "is not published by"
    (site / KEY_ANSWER).write_text(json.dumps(sign_json(answer, name, key)))
    text = late.signing_key()
    if fault == "old ID":
        file = tmp_path / "key"
        with file.open("w") as stream:
            write_signing_keys(stream, [key])
        text = file.read_text()
    with late.answering(site):
        message = refused(late, run(ghosts_certificate=str(late.certificate), ghosts_signing_key=text))
    assert expected in message, message


def test_a_witness(late: Late, run: Run) -> None:
    """The rooms of an account on c are searched. Only the room that it is in is healed."""
    witness = late.c.register("witness")
    room_id = late.rooms[0]
    with late.answering():
        late.c.join(witness.token, room_id, via=late.b.server_name)
        token = {"ghosts_witness_url": late.c.base_url, "ghosts_signing_key": late.signing_key()}
        bad = run(ghosts_witness_token="syt_nonsense", **token)
        assert "witness_token: the rooms of the witness can't be read: " in refused(late, bad)
        planned = run("--check", "--diff", ghosts_witness_token=witness.token, **token)
        assert planned.returncode == 0 and planned.stdout.count(f"-{late.c.server_name} {room_id} @user") == 4
        assert sorted(late.listed(late.c)) == sorted(late.rooms)
        done = run(ghosts_witness_token=witness.token, **token)
    assert done.returncode == 0, done.stdout
    assert f"{late.name}: 2 of 2 pairs of server and room confirmed; 4 ghosts removed" in done.stdout
    assert sorted(late.listed(late.c)) == sorted(late.rooms[1:])
    assert witness.token not in done.stdout + (late.directory / "record.jsonl").read_text()


def test_from_the_certificate_and_the_static_site_alone(late: Late, run: Run) -> None:
    assert sorted(late.listed(late.c)) == sorted(late.rooms[1:])
    with late.answering():
        done = run(ghosts_certificate=str(late.certificate), ghosts_signing_key=late.signing_key())
    assert done.returncode == 0, done.stdout
    assert f"{late.name}: 5 of 5 pairs of server and room confirmed; 12 ghosts removed" in done.stdout, done.stdout
    assert late.listed(late.c) == late.listed(late.b) == {}
    # The certificate has no accounts, and an invite is found by its account only.
    assert late.has_invite


def test_the_archive_has_the_accounts_and_the_key(late: Late, run: Run) -> None:
    archive = {"ghosts_archive": str(late.archive)}
    password = f"--vault-password-file={late.password_file}"
    with late.answering():
        without = run(**archive)
        assert without.returncode == 2 and "no vault secrets" in " ".join(without.stdout.split()).lower()
        done = run(password, **archive)
        assert done.returncode == 0, done.stdout
        assert "5 of 5 pairs of server and room confirmed; 1 ghost removed" in done.stdout, done.stdout
        assert not late.has_invite
        record = (late.directory / "record.jsonl").read_bytes()
        again = run(password, **archive)
    assert again.returncode == 0 and "changed=0 " in again.stdout, again.stdout
    assert (late.directory / "record.jsonl").read_bytes() == record
    runs = [line["run"] for line in map(json.loads, record.splitlines()) if "run" in line]
    assert [line["removed"] for line in runs] == [4, 12, 1]
    for secret in (line.split()[2] for line in late.signing_key().splitlines()):
        assert secret not in done.stdout and secret.encode() not in record


def test_confirmation_can_be_required(late: Late, run: Run) -> None:
    late.c.stop()
    options = {"ghosts_certificate": str(late.certificate), "ghosts_signing_key": late.signing_key()}
    with late.answering():
        recheck = run(ghosts_recheck=True, ghosts_require_confirmation=True, **options)
    assert recheck.returncode == 2
    shown = " ".join(recheck.stdout.split())
    assert f"5 of 5 pairs of server and room are not confirmed, for example {late.c.server_name}: unreachable" in shown


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "there is no source of rooms: set one of the variables ghosts_certificate"),
        (
            {"ghosts_rooms": [], "ghosts_alongside": True},
            "ghosts_alongside is true: set ghosts_base_url and ghosts_access_token to",
        ),
        ({"ghosts_rooms": [], "ghosts_base_url": "http://localhost:1"}, "ghosts_base_url needs ghosts_access_token"),
        ({"ghosts_witness_url": "http://localhost:1"}, "ghosts_witness_url and ghosts_witness_token belong together"),
        ({"ghosts_log_paths": ["x"]}, "set ghosts_alongside to true"),
        ({"ghosts_archive": "/nonexistent"}, "there is no /nonexistent/signing.key.vault on the controller"),
        ({"ghosts_rooms": [], "ghosts_signing_key": "garbage"}, "cannot read the signing key: each line must have"),
        (
            {"ghosts_rooms": [], "ghosts_signing_key_path": "/nonexistent"},
            "signing_key_path: /nonexistent: No such file",
        ),
    ],
)
def test_bad_input(late: Late, run: Run, variables: dict[str, Any], message: str) -> None:
    done = run(**variables)
    assert done.returncode == 2 and "changed=0 " in done.stdout
    assert message in " ".join(done.stdout.split()), done.stdout
    assert "garbage" not in done.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [("%PDF", "is not valid JSON"), ('{"a": 1}', "neither a certificate nor a list of rooms: set the path of one")],
)
def test_a_certificate_that_is_none(late: Late, run: Run, tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "certificate.json"
    file.write_text(content)
    with late.answering():
        done = run(ghosts_certificate=str(file), ghosts_signing_key=late.signing_key())
    assert done.returncode == 2 and message in " ".join(done.stdout.split()), done.stdout
