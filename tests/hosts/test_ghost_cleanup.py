# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook ghost_cleanup on a real machine over SSH: ghosts of a homeserver that is gone, judged by the others."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site import layout
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site.site import Room, Site
from lab import ApiError, LabError, MissingError
from lab.hosts import Host, HostLab
from lab.parallel import process_number
from lab.waiting import wait_until
from stubs.rooms import ServerKey

from .conftest import knowing
from .test_fleet import found_on_disk

ROOT = Path(__file__).parents[2]
NAME = "a.lab"
UNIT = "matrix-ghost-cleanup.service"
ETC = "/etc/matrix-ghost-cleanup"
CA = "/etc/ssl/certs/lab.pem"
NETWORK = "10.77.0.0/24"

nightly = pytest.mark.nightly(category="hosts")


@dataclass
class Operator:
    """Who has an account on one host, and runs the playbook.

    :ivar host: the host that answers as a.lab from now on.
    """

    lab: HostLab
    host: Host
    directory: Path
    variables: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dead = self.lab["a"]
        (self.host.root / CA[1:]).write_bytes(self.lab.ca_file.read_bytes())
        self.variables = {
            "ghost_cleanup_server_name": NAME,
            "ghost_cleanup_confirm": NAME,
            "ghost_cleanup_servers": ["b.lab"],
            "ghost_cleanup_tls_copy": True,
            "ghost_cleanup_tls_certificate": str(dead.directory / "tls.crt"),
            "ghost_cleanup_tls_certificate_key": str(dead.directory / "tls.key"),
            "ghost_cleanup_ca_path": CA,
            "ghost_cleanup_check_ca_path": str(self.lab.ca_file),
            "ghost_cleanup_ip_allowlist": [NETWORK],
            **self.variables,
        }

    def run(
        self, *arguments: str, python: str = sys.executable, addresses: dict[str, str] | None = None, **variables: Any
    ) -> str:
        """Run the playbook by an unprivileged user; return what it printed, and the exit code.

        :param addresses: what names lead to, on the controller.
        """
        group = "matrix_ghost_cleanup"
        inventory = self.lab.inventory(group, user="deploy")
        inventory[group]["hosts"] = {self.host.name: inventory[group]["hosts"][self.host.name]}
        inventory[group]["vars"] |= {**self.variables, **variables}
        (self.directory / "inventory.json").write_text(json.dumps(inventory))
        program = str(Path(python).with_name("ansible-playbook"))
        known = {NAME: self.lab["a"].address} if addresses is None else addresses
        done = subprocess.run(
            [
                *knowing(self.directory, known),
                *(program, "-i", "inventory.json", "matrixops.synapse.ghost_cleanup", *arguments),
            ],
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
            cwd=self.directory,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        print(done.stdout)
        return f"{re.sub(chr(92) + 's+', ' ', done.stdout)} exit={done.returncode}"

    def status(self) -> dict[str, Any]:
        """What the service says of itself."""
        script = (
            "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8449/status.json').read().decode())"
        )
        found: dict[str, Any] = json.loads(self.host.ssh(f'python3 -c "{script}"').stdout)
        return found

    @property
    def answers(self) -> bool:
        """Whether the service does."""
        try:
            return bool(self.status())
        except (LabError, ValueError):
            return False

    def state(self) -> str:
        """What is on the host, without contents, and the processes of the service and of nginx."""
        places = f"{ETC} /usr/local/lib/matrix-ghost-cleanup /etc/systemd/system /etc/nginx /var/lib/matrix-site"
        listed = f"find {places} -printf '%p %l %i %T@ %u %g %m\\n' 2>/dev/null | sort; dpkg -l | grep aiohttp"
        processes = f"systemctl show --property=MainPID {UNIT} nginx.service; getent passwd matrix-ghost-cleanup"
        return self.host.ssh(f"{listed}; {processes}", check=False).stdout


def succeeded(output: str, changed: bool) -> bool:
    """Whether the playbook has, with or without changes."""
    return output.endswith("exit=0") and (" changed=0 " not in output) is changed


def refused(output: str, message: str) -> bool:
    """Whether the playbook has failed with this message, which says that nothing was changed."""
    return output.endswith("exit=2") and "No changes made: " in output and message in output


def delete_homeserver(host: Host) -> None:
    """Delete the homeserver of a host, with its database and its signing key."""
    host.ssh("systemctl disable --now matrix-synapse; rm -rf /var/lib/matrix-synapse/* /etc/matrix-synapse/*")


class Rooms:
    """Rooms with accounts of a, on the servers that stay."""

    def __init__(self, dead: Host, *staying: Host) -> None:
        self.staying = staying
        self.users = [dead.homeserver.register(f"ghost{number}") for number in range(3)]
        self.owners = {host.name: host.homeserver.register("owner") for host in staying}
        self._dead = dead

    def create(self, *names: str, kind: str = "public_chat") -> str:
        """A room of the first of these servers, with the others and all accounts of a."""
        first, *others = [host for host in self.staying if host.name in names]
        room_id = first.homeserver.create_room(self.owners[first.name].token, preset=kind)
        for user in self.users:
            self._dead.homeserver.join(user.token, room_id, via=first.server_name)
        self._wait_for_ghosts(first, room_id)
        for host in others:
            # What others do at the same time, it might not learn.
            host.homeserver.join(self.owners[host.name].token, room_id, via=first.server_name)
            self._wait_for_ghosts(host, room_id)
        return room_id

    def _wait_for_ghosts(self, host: Host, room_id: str) -> None:
        wait_until(lambda: len(self.ghosts(host, room_id)) == len(self.users), f"{host.name} lists them")

    @staticmethod
    def ghosts(host: Host, room_id: str) -> list[str]:
        """The accounts of a in a room, as one of the others sees it."""
        return [user for user in host.homeserver.joined_members(room_id) if user.endswith(f":{NAME}")]

    def speak(self, host: Host, room_id: str) -> None:
        """Send a message."""
        host.homeserver.send(self.owners[host.name].token, room_id, "is anybody here?")


def no_ghosts(*hosts: Host) -> bool:
    """Whether none of these servers lists an account of a in any room."""
    return not any(host.homeserver.members_of(NAME) for host in hosts)


@pytest.fixture(autouse=True)
def in_controller() -> None:
    """Instead of the network of four hosts: each test enters that of its own."""


@pytest.fixture(scope="module")
def pair(skip_or_fail: Callable[[str], None]) -> Iterator[HostLab]:
    """A is to die, b stays."""
    try:
        with HostLab(ROOT / f".cache/tests/ghost-cleanup-{process_number()}", ("a", "b")) as lab:
            yield lab
    except MissingError as missing:
        skip_or_fail(str(missing))


@pytest.fixture(scope="module", params=[("2.16", "3.10"), ("2.21", "3.13")], ids=str)
def another_core(request: pytest.FixtureRequest, ansible_core: Callable[[str, str], str]) -> str:
    """Of this scope, since it is made outside of the controller's network."""
    return ansible_core(*request.param)


@pytest.fixture
def operator(pair: HostLab, tmp_path: Path) -> Iterator[Operator]:
    """The service is to run on the host of the homeserver that is gone."""
    with pair.in_controller():
        yield Operator(pair, pair["a"], tmp_path)


@pytest.fixture(scope="module")
def rooms(pair: HostLab) -> Rooms:
    return Rooms(pair["a"], pair["b"])


@pytest.fixture
def gone(operator: Operator, rooms: Rooms) -> Operator:
    """The homeserver is gone, and b has known its key."""
    if operator.lab["a"].homeserver.answers:
        rooms.create("b")
        delete_homeserver(operator.host)
    return operator


@pytest.fixture
def service(gone: Operator) -> Operator:
    """The service runs in its usual way."""
    assert gone.run().endswith("exit=0")
    return gone


def test_a_homeserver_that_is_deleted(operator: Operator, rooms: Rooms) -> None:
    """Refused while it lives. Then in check mode, really, and again."""
    host, other = operator.host, operator.lab["b"]
    loud, quiet = rooms.create("b"), rooms.create("b")
    before = operator.state()
    living = operator.run()
    assert refused(living, "answers as a.lab, so this server is not gone") and "Synapse 1." in living
    assert operator.state() == before

    delete_homeserver(host)
    rooms.speak(other, loud)
    before = operator.state()
    would = operator.run("--check", "--diff")
    assert succeeded(would, changed=True)
    assert "a.lab: would install python3-aiohttp, python3-dnspython" in would and ", nginx, and start the" in would
    assert "PRIVATE KEY" not in would and operator.state() == before

    done = operator.run("--diff", "-vvv")
    assert succeeded(done, changed=True) and "a.lab: remote servers: 1, rooms: " in done
    key = (host.root / f"{ETC[1:]}/signing.key").read_text().split()[2]
    assert key not in done and "PRIVATE KEY" not in done
    assert [f"/{path}" for path in found_on_disk(host, key.encode())] == [f"{ETC}/signing.key"]
    wait_until(lambda: not rooms.ghosts(other, loud), "the ghosts of the room with news are gone")
    assert len(rooms.ghosts(other, quiet)) == 3, "nothing has happened there"
    rooms.speak(other, quiet)
    wait_until(lambda: no_ghosts(other), "those of the other room, too")
    wait_until(lambda: operator.status()["ghosts"] == 0, "the service has seen that")

    before = operator.state()
    again = operator.run()
    assert succeeded(again, changed=False) and "pairs not confirmed: 0; ghosts removed: 6, listed: 0; the" in again
    assert succeeded(operator.run("--check"), changed=False)
    assert operator.state() == before


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"ghost_cleanup_confirm": "b.lab"}, "ghost_cleanup_confirm is b.lab, and ghost_cleanup_server_name is a.lab. Set"),
    ({"ghost_cleanup_servers": []}, "there is nothing to begin with: set ghost_cleanup_servers"),
    ({"ghost_cleanup_servers": ["https://b.lab"]}, "ghost_cleanup_servers: 'https://b.lab' is not a server name"),
    ({"ghost_cleanup_servers": ["a.lab"]}, "ghost_cleanup_servers: a.lab is server_name itself"),
    (
        {"ghost_cleanup_server_name": "a_lab", "ghost_cleanup_confirm": "a_lab"},
        "ghost_cleanup_server_name: 'a_lab' is not a server name",
    ),
    ({"ghost_cleanup_signing_key": "secret"}, "ghost_cleanup_signing_key is not a signing key: each line must have"),
    ({"ghost_cleanup_signing_key_path": "no.key"}, "ghost_cleanup_signing_key_path: there is no file "),
    ({"ghost_cleanup_signing_key_path": "inventory.json"}, "/inventory.json is not a signing key: each line must have"),
    ({"ghost_cleanup_rooms_paths": ["no.json"]}, "/no.json can't be read: No such file or directory"),
    ({"ghost_cleanup_rooms_paths": ["inventory.json"]}, "ghost_cleanup_rooms_paths: "),
    ({"ghost_cleanup_site_directory": "."}, "ghost_cleanup_site_directory: there is no site.json in "),
    ({"ghost_cleanup_tls_certificate": "no.pem"}, "no.pem and "),
    ({"ghost_cleanup_tls_certificate_key": None}, "belong together: set both or none"),
    ({"ghost_cleanup_tls_copy": False}, "certificate and its private key on a (No such file or directory). Correct"),
    ({"ghost_cleanup_status_listen": "0.0.0.0:8449"}, "ghost_cleanup_status_listen: 0.0.0.0 is no loopback address"),
    ({"ghost_cleanup_ip_allowlist": ["10.77"]}, "ghost_cleanup_ip_allowlist: ip_allowlist: '10.77' is not an IP"),
]


@nightly
def test_what_is_refused(gone: Operator, tmp_path: Path) -> None:
    """Before anything is changed, and before b gets a request."""
    operator = gone
    other_key = tmp_path / "other.key"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", other_key], check=True)
    mismatch = ({"ghost_cleanup_tls_certificate_key": str(other_key)}, "are not a TLS certificate and its private key")
    requests = "journalctl --unit matrix-synapse | grep --count ' 10.77.0.11 '"
    before, heard = operator.state(), operator.lab["b"].ssh(requests, check=False).stdout
    usual = dict(operator.variables)
    for variables, message in [*WRONG, mismatch]:
        changed = {**usual, **variables}
        operator.variables = {name: value for name, value in changed.items() if value is not None}
        output = operator.run()
        assert refused(output, message), variables
        assert "secret" not in output
    assert operator.state() == before
    assert operator.lab["b"].ssh(requests, check=False).stdout == heard


@nightly
def test_a_name_that_leads_elsewhere(service: Operator) -> None:
    """Each cause has its advice. The names are those that the controller knows."""
    controller, other = "10.77.0.2", service.lab["b"].address
    advice = {
        "": "Add DNS records (A, AAAA) that lead from a.lab to a, and wait until previous ones have expired",
        controller: "Connection refused. Check that the DNS records of a.lab lead to a, and open the port in its",
        other: "the certificate is not valid: Hostname mismatch, certificate is not valid for 'a.lab'",
    }
    before = service.state()
    for address, message in advice.items():
        output = service.run(addresses={NAME: address} if address else {})
        assert output.endswith("exit=2") and "The service runs on a, but remote servers cannot use it as" in output
        assert message in output and "Then run again. To skip this check, set ghost_cleanup_check: false" in output
    private = service.run(ghost_cleanup_ip_allowlist=[other])
    assert "a.lab has no public IP address (10.77.0.11)" in private and "must lead to a public address of a" in private
    assert succeeded(service.run(), changed=True)
    assert succeeded(service.run(addresses={}, ghost_cleanup_check=False), changed=False)
    assert service.state() != before, "with another allowlist, the service was restarted"


@nightly
def test_the_service_is_killed(service: Operator) -> None:
    """systemd starts it again, with its state. A run that was killed before its restart is made up for."""
    removed = service.status()["removed"]
    first = service.host.ssh(f"systemctl show --property=MainPID --value {UNIT}").stdout
    service.host.ssh(f"systemctl kill --signal=KILL {UNIT}")
    pid = f"systemctl is-active {UNIT} && systemctl show --property=MainPID --value {UNIT}"
    wait_until(lambda: service.host.ssh(pid, check=False).stdout not in ("", f"active\n{first}"), "it is back")
    wait_until(lambda: service.answers, "it answers")
    assert service.status()["removed"] == removed
    assert succeeded(service.run(), changed=False)

    service.host.ssh(f"sed -i s/REVISION=/REVISION=0/ /etc/systemd/system/{UNIT}; systemctl daemon-reload")
    service.host.ssh(f"systemctl restart {UNIT}")
    assert succeeded(service.run("--check"), changed=True)
    assert succeeded(service.run(), changed=True) and succeeded(service.run(), changed=False)


@nightly
def test_only_changes_restart_it(service: Operator) -> None:
    """And those of its configuration do, with its lists of rooms."""
    rooms = service.directory / "rooms.json"
    rooms.write_text(json.dumps([{"room_id": "!x:b.lab", "servers": ["b.lab"]}]))
    service.variables["ghost_cleanup_rooms_paths"] = ["rooms.json"]
    pid = f"systemctl show --property=MainPID --value {UNIT}"
    seen = [service.host.ssh(pid).stdout]
    for text in ("[]", "[]", '[{"room_id": "!y:b.lab", "servers": ["b.lab"]}]'):
        rooms.write_text(text)
        assert service.run().endswith("exit=0")
        seen.append(service.host.ssh(pid).stdout)
    first, second, third, fourth = seen
    assert first != second == third != fourth
    assert service.host.ssh(f"stat --format=%a:%U {ETC}/rooms/0.json").stdout == "600:matrix-ghost-cleanup\n"
    del service.variables["ghost_cleanup_rooms_paths"]
    assert service.run().endswith("exit=0")
    assert service.host.ssh(f"ls {ETC}/rooms").stdout == ""


@nightly
def test_a_configuration_that_nginx_refuses(service: Operator) -> None:
    """The previous one stays."""
    conf = "/etc/nginx/conf.d/00-matrix-ghost-cleanup.conf"
    before = service.host.ssh(f"cat {conf}").stdout
    output = service.run(ghost_cleanup_listen_addresses=["not an address"])
    assert output.endswith("exit=2") and "nginx does not accept the configuration, and still uses" in output
    assert service.host.ssh(f"cat {conf}; nginx -t -q").stdout == before
    assert succeeded(service.run(), changed=False)


@nightly
def test_without_nginx(service: Operator) -> None:
    """TLS by the service itself, which cannot read the files; and the least that nginx leaves."""
    output = service.run(ghost_cleanup_web_server="none")
    assert succeeded(output, changed=True) and "the service runs" in output
    assert service.host.ssh("ls /etc/nginx/conf.d").stdout == ""
    listening = service.host.ssh("ss --listening --tcp --numeric --processes").stdout
    assert len(re.findall(r":8448 .*python3", listening)) == 2 and not re.search(r":8448 .*nginx", listening)
    owners = service.host.ssh(f"stat --format=%a:%U {ETC}/tls/* {ETC}/signing.key").stdout
    assert owners == "600:root\n" * 3
    assert succeeded(service.run(ghost_cleanup_web_server="none"), changed=False)
    assert "exposure level for matrix-ghost-cleanup.service: 1." in service.host.ssh(
        f"systemd-analyze --no-pager security {UNIT}"
    ).stdout  # fmt: skip

    low = service.run(ghost_cleanup_web_server="none", ghost_cleanup_listen=["10.77.0.11:8448", "10.77.0.11:443"])
    assert succeeded(low, changed=True), "with the capability for port 443"
    service.host.ssh("apt-get install -y caddy")
    caddyfile = "a.lab, a.lab:8448 {\n\ttls /etc/caddy/tls.crt /etc/caddy/tls.key\n\treverse_proxy 127.0.0.1:8447\n}\n"
    for name in ("tls.crt", "tls.key"):
        (service.host.root / "etc/caddy" / name).write_bytes((service.host.directory / name).read_bytes())
    (service.host.root / "etc/caddy/Caddyfile").write_text(caddyfile)
    plain = {name: value for name, value in service.variables.items() if "tls" not in name}
    service.variables = {**plain, "ghost_cleanup_web_server": "none"}
    service.host.ssh("systemctl stop caddy nginx; chown caddy /etc/caddy/tls.key")
    assert "Connection refused" in service.run(), "nothing answers for the service yet"
    service.host.ssh("systemctl restart caddy")
    output = service.run()
    assert succeeded(output, changed=False) and "the service runs" in output
    service.host.ssh("systemctl disable --now caddy; systemctl start nginx")


@nightly
def test_a_static_site_with_its_key(service: Operator) -> None:
    """Its aliases resolve on b, and all keys are published."""
    other, key = service.lab["b"], ServerKey(NAME, "ed25519:a_site")
    room_id = other.homeserver.create_room(other.homeserver.admin_token, preset="public_chat")
    site = layout.site_path(str(service.directory), NAME)
    old = {"ed25519:a_older": {"key": "Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw", "expired_ts": 1}}
    room = Room(room_id, ("b.lab",), ("#lounge:a.lab",))
    layout.write(site, Site(NAME, key.key_answer(old), (room,), 1_795_000_000, "0123456789abcdef"))
    first = published(service)
    service.variables["ghost_cleanup_site_directory"] = f"{NAME}-site"
    assert succeeded(service.run(), changed=True) and succeeded(service.run(), changed=False)
    answer = published(service)
    assert answer["verify_keys"] == first["verify_keys"]
    known = {**first["old_verify_keys"], **old}
    site_key = {key.key_id: {**key.verify_keys[key.key_id], "expired_ts": 1_795_000_000_000}}
    assert answer["old_verify_keys"] == {**known, **site_key}
    resolved = other.homeserver.call("GET", "/_matrix/client/v3/directory/room/%23lounge%3Aa.lab")
    assert resolved["room_id"] == room_id

    (service.directory / "site.key").write_text(key.key_file)
    service.variables["ghost_cleanup_signing_key_path"] = "site.key"
    output = service.run("-vvv", "--diff")
    assert succeeded(output, changed=True) and key.key_file.split()[2] not in output
    answer = published(service)
    assert list(answer["verify_keys"]) == [key.key_id]
    assert set(answer["old_verify_keys"]) == {*known, *first["verify_keys"]}
    assert succeeded(service.run(), changed=False)


def published(operator: Operator) -> dict[str, Any]:
    """The key answer under the name."""
    context = ssl.create_default_context(cafile=str(operator.lab.ca_file))
    connection = http.client.HTTPConnection(NAME, timeout=60)
    connection.sock = context.wrap_socket(
        socket.create_connection((operator.lab["a"].address, 8448), timeout=60), server_hostname=NAME
    )
    connection.request("GET", "/_matrix/key/v2/server")
    found: dict[str, Any] = json.loads(connection.getresponse().read())
    return found


@nightly
def test_another_ansible(another_core: str, service: Operator) -> None:
    """A new installation, and nothing to do in the second run."""
    python = another_core
    assert succeeded(service.run("-e", "ghost_cleanup_state=absent", python=python), changed=True)
    would = service.run("--check", python=python)
    assert succeeded(would, changed=True) and "a.lab: would start the service" in would
    assert succeeded(service.run(python=python), changed=True)
    assert succeeded(service.run(python=python), changed=False)
    assert succeeded(service.run("--check", python=python), changed=False)
    config = json.loads((service.host.root / f"{ETC[1:]}/config.json").read_text())
    assert config["timeout"] == 30 and config["proxy"] is None and config["servers"] == ["b.lab"]


@nightly
def test_the_service_is_removed(service: Operator) -> None:
    """All but the keys, with which it is then set up again."""
    before, answer = service.state(), published(service)
    would = service.run("--check", "-e", "ghost_cleanup_state=absent")
    assert succeeded(would, changed=True) and service.state() == before
    output = service.run("-e", "ghost_cleanup_state=absent")
    assert succeeded(output, changed=True) and "The signing key and the key answer of a.lab stay in" in output
    assert succeeded(service.run("-e", "ghost_cleanup_state=absent"), changed=False)
    left = "find / -xdev -name '*ghost-cleanup*' -o -path '/etc/matrix-ghost-cleanup/*'; getent passwd | grep ghost"
    files = service.host.ssh(f"{left}; ls /etc/nginx/conf.d", check=False).stdout.split()
    assert sorted(files) == [ETC, f"{ETC}/key_answer.json", f"{ETC}/signing.key"]
    assert succeeded(service.run(), changed=True) and published(service) == answer


@pytest.fixture
def takeover(skip_or_fail: Callable[[str], None], tmp_path: Path) -> Iterator[Operator]:
    """A is to be powered off, b and c stay, and d is new, without a homeserver."""
    try:
        with (
            HostLab(ROOT / f".cache/tests/ghost-takeover-{process_number()}", ("a", "b", "c", "d")) as lab,
            lab.in_controller(),
        ):
            lab["d"].ssh("systemctl disable --now matrix-synapse")
            yield Operator(lab, lab["d"], tmp_path)
    except MissingError as missing:
        skip_or_fail(str(missing))


@nightly
def test_from_a_homeserver_to_the_service_elsewhere(takeover: Operator) -> None:
    """The name of b alone finds c. The state survives restarts and reboots."""
    a, b, c, d = (takeover.lab[name] for name in "abcd")
    rooms = Rooms(a, b, c)
    shared, at_c, quiet = rooms.create("b", "c"), rooms.create("c"), rooms.create("b", "c")
    a.power_off()
    rooms.speak(b, shared)
    rooms.speak(c, at_c)
    network = d.root / "etc/systemd/network/10-host0.network"
    network.write_text(f"{network.read_text()}Address={a.address}/24\n")
    d.ssh("systemctl restart systemd-networkd")
    output = takeover.run()
    assert succeeded(output, changed=True)
    wait_until(lambda: set(b.homeserver.members_of(NAME)) == {quiet} == set(c.homeserver.members_of(NAME)), "only one")
    wait_until(lambda: takeover.status()["ghosts"] == 0, "the service has seen that")
    state = {key: takeover.status()[key] for key in ("removed", "servers_total", "rooms_total")}
    assert state["servers_total"] == 2 and state["rooms_total"] == 2

    d.ssh(f"systemctl restart {UNIT}")
    wait_until(lambda: takeover.answers, "the service answers")
    assert {key: takeover.status()[key] for key in state} == state
    boot = d.ssh("cat /proc/sys/kernel/random/boot_id").stdout
    d.ssh("systemctl reboot", check=False)
    wait_until(lambda: d.ssh("true", check=False).returncode == 0 and d.exits == [133], "it is back")
    wait_until(lambda: takeover.answers, "the service answers")
    assert boot and {key: takeover.status()[key] for key in state} == state

    with pytest.raises(ApiError, match="M_FORBIDDEN"):
        b.homeserver.invite(rooms.owners["b"].token, shared, rooms.users[0].user_id)
    rooms.speak(c, quiet)
    wait_until(lambda: no_ghosts(b, c), "all ghosts are gone")
    assert succeeded(takeover.run(), changed=False)
