# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service for a homeserver that is gone, as a process: bad input, each with an error and nothing sent; signals."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme
from lab.files import write_private
from lab.ghost_service import GhostService
from lab.parallel import process_number
from lab.waiting import wait_until
from stubs.remote_server import RemoteServer
from stubs.rooms import Room, ServerKey
from stubs.tls_server import Request, TlsServer, http

#: Below the ports that the system gives to connections, so that none is taken before the service listens.
PORTS = cycle(range(19420 + 20 * process_number(), 19440 + 20 * process_number()))


def write_certificate(ca: trustme.CA, directory: Path) -> None:
    certificate = ca.issue_cert("localhost", "127.0.0.1")
    directory.mkdir(exist_ok=True)
    certificate.private_key_pem.write_to_path(str(directory / "tls.key"))
    certificate.cert_chain_pems[0].write_to_path(str(directory / "tls.crt"))


@pytest.fixture
def certificates(ca: trustme.CA, tmp_path: Path) -> Path:
    write_certificate(ca, tmp_path / "certificates")
    return tmp_path / "certificates"


MakeService = Callable[..., GhostService]


@pytest.fixture
def make_service(certificates: Path, ca_file: str, tmp_path: Path) -> Iterator[MakeService]:
    made: list[GhostService] = []

    def make(**config: Any) -> GhostService:
        made.append(GhostService(tmp_path / "service", certificates, Path(ca_file), next(PORTS), next(PORTS), **config))
        return made[-1]

    yield make
    for service in made:
        service.stop()


@pytest.fixture
def server(certificate: trustme.LeafCert, make_service: MakeService) -> Iterator[RemoteServer]:
    """A remote server without rooms."""
    with RemoteServer(certificate) as server:
        yield server


def run(service: GhostService) -> str:
    """Run a service that can't begin. Return its error."""
    write_private(service.config_file, service.config)
    ended = subprocess.run(
        service.command,
        env=service.environment,
        cwd=service.directory,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


def seed_of(service: GhostService) -> str:
    return service.key.key_file.split()[2]


# Bad input


def write_key(service: GhostService, text: str, mode: int = 0o600) -> None:
    path = Path(service.config["signing_key_path"])
    path.write_text(text)
    path.chmod(mode)


def write_answer(service: GhostService, answer: object) -> None:
    write_private(Path(service.config["key_answer_path"]), answer)


def key_of_all(service: GhostService) -> None:
    write_key(service, service.key.key_file, 0o644)


def other_key(service: GhostService) -> None:
    write_key(service, ServerKey(service.server_name, "ed25519:other").key_file)


def same_id(service: GhostService) -> None:
    write_key(service, ServerKey("other.example", service.key.key_id).key_file)


def expired(service: GhostService) -> None:
    answer = {**service.key.key_answer(), "valid_until_ts": 1000}
    del answer["signatures"]
    write_answer(service, service.key.sign(answer))


MISTAKES: dict[str, tuple[Callable[[GhostService], object], str]] = {
    "unknown key": (lambda s: s.config.update(server="b.example"), "server: no such key"),
    "no server name": (lambda s: s.config.update(servers=["no name"]), "servers: 'no name' is not a server name"),
    "no key": (lambda s: os.remove(s.config["signing_key_path"]), "signing_key_path: .*No such file"),
    "broken key": (lambda s: write_key(s, "nothing"), "cannot read the signing key"),
    "public key file": (key_of_all, "signing_key_path: all users can read .*: run chmod 600"),
    "other key": (other_key, "key_answer_path: signing key ed25519:other is not published"),
    "same key ID": (same_id, "key_answer_path: signing key ed25519:a_new differs"),
    "no answer": (lambda s: os.remove(s.config["key_answer_path"]), "key_answer_path: .*No such file"),
    "broken answer": (lambda s: write_answer(s, []), "key_answer_path: .* is not a JSON object"),
    "answer of another": (lambda s: write_answer(s, ServerKey("b.example").key_answer()), "key_answer_path: "),
    "expired answer": (expired, "key_answer_path: .*expired at 1970"),
    "no rooms": (lambda s: s.config.update(rooms_paths=["/nonexistent/rooms.json"]), "/nonexistent/rooms.json"),
    "no state": (lambda s: s.config.update(state_path="/nonexistent/state.db"), "state_path: /nonexistent/state.db"),
    "no certificate": (lambda s: s.config.update(tls_certificate="/nonexistent"), "tls_certificate, tls_certificate_k"),
    "no CA": (lambda s: s.config.update(ca_path="/nonexistent"), "ca_path: /nonexistent"),
    "no token": (
        lambda s: s.config.update(witness_url="https://b.example"),
        "witness_url and witness_token_path belong",
    ),
    "no URL": (
        lambda s: s.config.update(witness_url="b.example", witness_token_path="/token"),
        "witness_url: ",
    ),
    "no site": (lambda s: s.config.update(site_path="/nonexistent"), "/nonexistent"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake(make_service: MakeService, server: RemoteServer, mistake: str) -> None:
    service = make_service(servers=[server.server_name])
    change, message = MISTAKES[mistake]
    change(service)
    error = run(service)
    assert not server.requests
    assert error.count("\n") == 1, error
    assert "ERROR" in error
    assert re.search(message, error), error
    assert seed_of(service) not in error


def test_a_port_that_is_in_use(make_service: MakeService) -> None:
    service = make_service()
    with socket.create_server(("127.0.0.1", int(service.server_name.rpartition(":")[2]))):
        assert "cannot listen at 127.0.0.1:" in run(service)


def test_a_second_process(make_service: MakeService) -> None:
    service = make_service()
    service.start()
    assert "another process uses" in run(service)


# What answers under the name


def test_a_name_that_cannot_be_reached_from_outside(make_service: MakeService, server: RemoteServer) -> None:
    """It listens at another port than that of its name, as behind a firewall. It says so, and sends nothing."""
    service = make_service(servers=[server.server_name])
    service.config["listen"] = [f"127.0.0.1:{next(PORTS)}"]
    with service:
        wait_until(lambda: "does not lead to this service" in service.status()["problem"], "it says so")
        assert "nothing is sent" in service.log.read_text()
        assert not server.requests


@pytest.mark.parametrize("kind", ["another key", "homeserver"])
def test_a_name_that_is_not_ours(
    make_service: MakeService, server: RemoteServer, certificate: trustme.LeafCert, kind: str
) -> None:
    """Once the other one is gone, the service begins by itself."""
    service = make_service(servers=[server.server_name])
    server.known_keys[service.server_name] = service.key.key_answer()
    port = int(service.server_name.rpartition(":")[2])
    key = service.key if kind == "homeserver" else ServerKey(service.server_name, "ed25519:theirs")

    def answer(request: Request) -> bytes:
        version = {"server": {"name": "Synapse", "version": "1.163.2"}}
        return http(key.key_answer() if request.target.endswith("/server") else version)

    service.config["listen"] = [f"127.0.0.1:{next(PORTS)}"]
    expected = "Synapse 1.163.2 answers" if kind == "homeserver" else "is not published"
    with closing(TlsServer(certificate, answer, "127.0.0.1", port)), service:
        wait_until(lambda: expected in service.status()["problem"], "it refuses to begin")
        assert not server.requests
    service.stop()
    service.config["listen"] = [f"127.0.0.1:{port}"]
    with service:
        wait_until(lambda: bool(server.asked("state_ids")), "it begins")
        assert service.status()["problem"] == ""


def test_a_key_id_that_remote_servers_know_with_another_key(make_service: MakeService, server: RemoteServer) -> None:
    service = make_service(servers=[server.server_name])
    server.known_keys[service.server_name] = ServerKey(service.server_name, "ed25519:a_old").key_answer()
    lost = ServerKey("lost.example", service.key.key_id)
    body = {
        "server_name": service.server_name,
        "valid_until_ts": 4_000_000_000_000,
        "verify_keys": lost.verify_keys,
        "old_verify_keys": {},
    }
    signed = lost.sign(body)
    server.known_keys[service.server_name] = {
        **body,
        "signatures": {service.server_name: signed["signatures"]["lost.example"]},
    }
    with service:
        wait_until(lambda: "know another key" in service.status()["problem"], "it refuses to begin")
        assert {request.endpoint for request in server.requests} == {"query_keys"}


# Work, signals


def test_from_a_file_with_rooms_to_a_clean_room(
    make_service: MakeService, certificate: trustme.LeafCert, tmp_path: Path
) -> None:
    service = make_service()
    alice = f"@alice:{service.server_name}"
    room = Room({alice: "join"})
    with RemoteServer(certificate, rooms=[room], peers=[service.key.key_answer()]) as server:
        rooms = tmp_path / "rooms.json"
        rooms.write_text(json.dumps([{"room_id": room.room_id, "servers": [server.server_name]}]))
        service.config["rooms_paths"] = [str(rooms)]
        with service:
            wait_until(lambda: room.membership(alice) == "leave", "the ghost is removed")
            wait_until(lambda: service.status()["pairs"].get("confirmed") == 1, "it is confirmed")
            status = service.status()
    assert (status["removed"], status["ghosts"], status["key_id"]) == (1, 0, service.key.key_id)
    log = service.log.read_text()
    assert f"removed 1 ghost on {server.server_name}" in log
    assert seed_of(service) not in log + json.dumps(status)


def test_a_chain_of_servers(make_service: MakeService, certificate: trustme.LeafCert, ca_file: str) -> None:
    """Each shares rooms with the next one only, and the service knows the name of the first one."""
    service = make_service(max_rate=100)
    ghosts = {f"@{name}:{service.server_name}": "join" for name in ("alice", "bob")}
    with ExitStack() as stack:
        chain = [
            stack.enter_context(
                RemoteServer(
                    certificate,
                    peers=[service.key.key_answer()],
                    implementation=("synapse", "dendrite", "conduit", "tuwunel")[number % 4],
                    ca_file=ca_file,
                )
            )
            for number in range(20)
        ]
        rooms = []
        for number, (one, other) in enumerate(pairwise(chain)):
            members = {**ghosts, f"@guest:{other.server_name}": "join"}
            rooms.append(Room(members, name=f"room{number}", creator=f"@host:{one.server_name}"))
            rooms[-1].say()
            for server in (one, other):
                server.rooms[rooms[-1].room_id] = rooms[-1]
        service.config["servers"] = [chain[0].server_name]
        with service:
            wait_until(lambda: service.status()["pairs"] == {"confirmed": 2 * len(rooms)}, "all have confirmed")
            status = service.status()
    assert not any(room.has_joined(service.server_name) for room in rooms)
    assert not any(server.unneeded_leaves for server in chain)
    assert (status["servers_total"], status["rooms_total"], status["ghosts"]) == (20, 19, 0)
    # A room that both servers of it see in the same way needs one removal.
    assert status["removed"] == 2 * len(rooms)


def test_sigterm_ends_it_while_a_remote_server_hangs(make_service: MakeService, certificate: trustme.LeafCert) -> None:
    service = make_service()
    with RemoteServer(certificate, latency=3600.0) as server:
        service.config["servers"] = [server.server_name]
        service.start()
        wait_until(lambda: bool(server.requests), "it waits for an answer")
        service.stop()
    assert service.log.read_text().endswith("INFO ended\n")


def test_sighup_reads_the_certificate_again(make_service: MakeService, ca: trustme.CA) -> None:
    service = make_service()
    with service:
        port = int(service.server_name.rpartition(":")[2])

        def certificate() -> str:
            return ssl.get_server_certificate(("127.0.0.1", port))

        before = certificate()
        write_certificate(ca, service.directory)
        assert certificate() == before
        os.kill(service.pid, signal.SIGHUP)
        wait_until(lambda: certificate() != before, "the new certificate is used")
        new = certificate()
        (service.directory / "tls.crt").write_text("broken")
        os.kill(service.pid, signal.SIGHUP)
        wait_until(lambda: "tls_certificate, tls_certificate_key: " in service.log.read_text(), "it says so")
        assert certificate() == new


def test_plain_http_behind_a_proxy(make_service: MakeService) -> None:
    service = make_service()
    del service.config["tls_certificate"], service.config["tls_certificate_key"]
    with service:
        port = service.server_name.rpartition(":")[2]
        answer = requests.get(f"http://127.0.0.1:{port}/_matrix/key/v2/server", timeout=60)
        assert answer.json() == service.key.key_answer()
        # Nothing speaks TLS under the name here, so that nothing is sent.
        wait_until(lambda: service.status()["problem"] != "", "it says so")
