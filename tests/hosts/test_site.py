# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook site on a real machine over SSH: nginx, then Caddy, serve the static site of a server that is gone."""

from __future__ import annotations

import http.client
import io
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
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site import layout, media
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site.site import Room, Site
from lab import MissingError
from lab.hosts import Host, HostLab
from lab.parallel import process_number
from stubs.rooms import ServerKey

from .conftest import knowing

ROOT = Path(__file__).parents[2]
NAME = "a.lab"
BOUNDARY = "0123456789abcdef"
REMAINING = ("b.lab", "c.lab")
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9000
FILES = {"picture": ("image/png", PICTURE), "page": ("text/html", b"<script>1</script>"), "nothing": ("image/gif", b"")}
SERVED = f"/var/lib/matrix-site/{NAME}-site"
NGINX_CONF = f"/etc/nginx/conf.d/00-{NAME}-site.conf"
WEBROOT = "/var/www/acme"

nightly = pytest.mark.nightly(category="hosts")


@pytest.fixture(scope="module")
def lab(skip_or_fail: Callable[[str], None]) -> Iterator[HostLab]:
    """One machine, whose homeserver is stopped."""
    try:
        with HostLab(ROOT / f".cache/tests/site-{process_number()}", ("a",)) as lab:
            lab["a"].ssh("systemctl disable --now matrix-synapse.service")
            yield lab
    except MissingError as missing:
        skip_or_fail(str(missing))


@pytest.fixture(scope="module", params=[("2.16", "3.10"), ("2.21", "3.13")], ids=str)
def another_core(request: pytest.FixtureRequest, ansible_core: Callable[[str, str], str]) -> str:
    """Of this scope, since it is made outside of the controller's network."""
    return ansible_core(*request.param)


@pytest.fixture(autouse=True)
def in_controller(lab: HostLab) -> Iterator[None]:
    """On the network of this machine."""
    with lab.in_controller():
        yield


@dataclass
class Operator:
    """Who has the directory of the site, and runs the playbook."""

    lab: HostLab
    directory: Path
    variables: dict[str, Any] = field(default_factory=dict)

    @property
    def host(self) -> Host:
        return self.lab["a"]

    @property
    def site(self) -> Path:
        return layout.site_path(str(self.directory), NAME)

    def write(self, *aliases: str, media_ids: tuple[str, ...] = tuple(FILES)) -> None:
        """Write the site as the role decommission does, with a room for each alias."""
        for media_id in media_ids:
            kind, content = FILES[media_id]
            media.store(layout.media_path(self.site), media_id, kind, io.BytesIO(content), len(content), BOUNDARY)
        for media_id in set(FILES) - set(media_ids):
            media.remove(layout.media_path(self.site), media_id)
        rooms = [Room(f"!room{number}:{NAME}", REMAINING, (alias,)) for number, alias in enumerate(aliases)]
        key = ServerKey(NAME, "ed25519:a_site")
        layout.write(self.site, Site(NAME, key.key_answer(), tuple(rooms), 1_795_000_000, BOUNDARY))

    def run(self, *arguments: str, python: str = sys.executable, **variables: Any) -> str:
        """Run the playbook by an unprivileged user; return what it printed, and the exit code."""
        inventory = self.lab.inventory("matrix_site", user="deploy")
        inventory["matrix_site"]["vars"] |= {
            "site_directory": str(self.site),
            "site_ca_path": str(self.lab.ca_file),
            "site_federation_ip_allowlist": [self.host.address],
            **self.variables,
            **variables,
        }
        (self.directory / "inventory.json").write_text(json.dumps(inventory))
        ansible = [str(Path(python).with_name("ansible-playbook")), "-i", "inventory.json", "matrixops.synapse.site"]
        done = subprocess.run(
            [*knowing(self.directory, {NAME: self.host.address}), *ansible, *arguments],
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
            cwd=self.directory,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        print(done.stdout)
        return f"{re.sub(chr(92) + 's+', ' ', done.stdout)} exit={done.returncode}"

    def ask(self, path: str, method: str = "GET", port: int = 443, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Send a request to the machine in the name of the server."""
        connection = http.client.HTTPConnection(NAME, timeout=60)
        connection.sock = socket.create_connection((self.host.address, port), timeout=60)
        if port != 80:
            context = ssl.create_default_context(cafile=str(self.lab.ca_file))
            connection.sock = context.wrap_socket(connection.sock, server_hostname=NAME)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def room_of(self, encoded_alias: str) -> str | None:
        """Which room an alias resolves to."""
        status, _headers, body = self.ask(f"/_matrix/federation/v1/query/directory?room_alias={encoded_alias}")
        answer = json.loads(body)
        assert status == 200 or (status, answer["errcode"]) == (404, "M_NOT_FOUND")
        return answer.get("room_id")

    def state(self) -> str:
        """What is on the machine, without contents."""
        places = f"/etc/nginx /etc/ssl {SERVED}"
        listed = self.host.ssh(f"find {places} -printf '%p %l %i %T@\\n' 2>/dev/null | sort; pgrep nginx", check=False)
        return listed.stdout


@pytest.fixture
def operator(lab: HostLab, tmp_path: Path) -> Operator:
    """With the certificate of the machine on the controller."""
    certificates = {"site_tls_copy": True, "site_tls_certificate": str(lab["a"].directory / "tls.crt")}
    certificates["site_tls_certificate_key"] = str(lab["a"].directory / "tls.key")
    operator = Operator(lab, tmp_path, {**certificates, "site_acme_webroot": WEBROOT})
    operator.write("#lounge:a.lab", "#od d~*é:a.lab", "#{{ 1 + 1 }}:a.lab")
    return operator


def succeeded(output: str, changed: bool) -> bool:
    """Whether the playbook has, with or without changes."""
    return output.endswith("exit=0") and (" changed=0 " not in output) is changed


def test_a_fresh_machine(operator: Operator) -> None:
    """nginx is not installed. First in check mode, then really, and again."""
    before = operator.state()
    would = operator.run("--check", "--diff")
    assert succeeded(would, changed=True)
    assert f"would install nginx and change {SERVED}/current, {NGINX_CONF}" in would
    assert "PRIVATE KEY" not in would and operator.state() == before

    done = operator.run()
    assert succeeded(done, changed=True) and "a.lab: 3 aliases of 3 rooms, 3 media files (2.3 MB); all " in done
    assert "answers are as expected" in done and "No remote server sends events to this site" in done
    rooms = [operator.room_of(f"%23od+d{spelling}%C3%A9%3Aa.lab") for spelling in ("~%2A", "%7E*", "~*")]
    assert rooms == ["!room1:a.lab", "!room1:a.lab", None]
    assert operator.ask("/_matrix/media/v3/download/a.lab/picture")[2] == PICTURE
    challenges = f"{WEBROOT}/.well-known/acme-challenge"
    operator.host.ssh(f"mkdir -p {challenges}; echo -n token.thumb >{challenges}/token")
    assert operator.ask("/.well-known/acme-challenge/token", port=80)[::2] == (200, b"token.thumb")
    status, headers, _body = operator.ask("/_matrix/key/v2/server?x", port=80)
    assert (status, headers["location"]) == (301, "https://a.lab/_matrix/key/v2/server?x")

    before = operator.state()
    assert succeeded(operator.run(), changed=False)
    would = operator.run("--check")
    assert succeeded(would, changed=False) and "answers are as expected" in would
    assert operator.state() == before
    assert operator.host.ssh(f"ls {SERVED} | wc -l").stdout == "3\n", "one release, applied and current"


@nightly
@pytest.mark.parametrize("pipelining", ["true", "false"])
def test_another_ansible(
    operator: Operator, another_core: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pipelining: str
) -> None:
    monkeypatch.setenv("ANSIBLE_PIPELINING", pipelining)
    operator.write(f"#{tmp_path.name}:a.lab", media_ids=("page",))
    done = operator.run(python=another_core)
    assert succeeded(done, changed=True) and "answers are as expected" in done
    assert succeeded(operator.run(python=another_core), changed=False)
    assert succeeded(operator.run("--check", python=another_core), changed=False)


def test_a_changed_site_replaces_the_previous_one(operator: Operator) -> None:
    """Nothing of that stays, and nginx is started at a boot."""
    assert operator.run().endswith("exit=0")
    operator.write("#lounge:a.lab", media_ids=("page",))
    would = operator.run("--check")
    assert succeeded(would, changed=True) and f"would change {SERVED}/current" in would
    assert operator.room_of("%23od+d~%2A%C3%A9%3Aa.lab") == "!room1:a.lab"
    assert succeeded(operator.run(), changed=True)
    assert operator.room_of("%23od+d~%2A%C3%A9%3Aa.lab") is None
    assert operator.room_of("%23lounge%3Aa.lab") == "!room0:a.lab"
    assert operator.ask("/_matrix/media/v3/download/a.lab/picture")[0] == 404
    assert "picture" not in operator.host.ssh("find / -xdev -name 'picture*'").stdout
    assert operator.host.ssh("systemctl is-enabled nginx").stdout == "enabled\n"


@nightly
def test_an_alias_without_another_file(operator: Operator) -> None:
    """A second alias of a room is in no file below www/, but nginx must know it."""
    operator.write("#lounge:a.lab", media_ids=("page",))
    assert operator.run().endswith("exit=0")
    key = ServerKey(NAME, "ed25519:a_site").key_answer()
    room = Room("!room0:a.lab", REMAINING, ("#lounge:a.lab", "#salon:a.lab"))
    before = layout.read_summary(operator.site)
    layout.write(operator.site, Site(NAME, key, (room,), 1_795_000_000, BOUNDARY))
    after = layout.read_summary(operator.site)
    assert before and after and before["sha256"] == after["sha256"] and after["aliases"] == 2
    assert succeeded(operator.run(), changed=True)
    assert operator.room_of("%23salon%3Aa.lab") == "!room0:a.lab"


@nightly
def test_what_is_refused(operator: Operator, tmp_path: Path) -> None:
    """Before anything is changed, and without reading anything of the site twice."""
    before = operator.state()
    on_host = {"site_tls_copy": False, "site_tls_certificate": "/etc/ssl/no.pem", "site_tls_certificate_key": "/no.key"}
    (tmp_path / "empty").mkdir()
    refused: list[tuple[dict[str, Any], str]] = [
        (on_host, "a has no /etc/ssl/no.pem and /no.key. Correct site_tls_certificate and site_tls_certificate_key"),
        ({"site_tls_certificate": "no.pem"}, f"there is no file {tmp_path}/no.pem on the controller"),
        ({"site_directory": str(tmp_path / "empty")}, f"{tmp_path}/empty has no site.json: set site_directory"),
        ({"site_server_name": "b.lab"}, f"{operator.site} is the site of a.lab, not of b.lab: correct site_directory"),
        ({"site_acme_webroot": "/a b"}, "acme_webroot is '/a b': set it to an absolute path"),
    ]
    for variables, message in refused:
        output = operator.run(**variables)
        assert output.endswith("exit=2") and "No changes made: " in output and message in output, variables
    (operator.site / "www/index.html").write_text("<h1>owned</h1>")
    output = operator.run()
    assert output.endswith("exit=2") and "www differ from the digest in site.json: they were changed later" in output
    assert operator.state() == before


@nightly
def test_a_configuration_that_nginx_refuses(operator: Operator, tmp_path: Path) -> None:
    """Everything is as before, and is served: also after a restart."""
    operator.write("#lounge:a.lab", media_ids=("page",))
    assert operator.run().endswith("exit=0")
    look = f"cat {NGINX_CONF} {SERVED}/applied; ls {SERVED}; readlink {SERVED}/current"
    before = operator.host.ssh(look).stdout
    operator.write("#other:a.lab", media_ids=("page",))
    operator.host.ssh("echo 'map_hash_max_size 4096;' >/etc/nginx/conf.d/zz-another.conf")
    output = operator.run()
    assert output.endswith("exit=2") and "No changes made: nginx -t -q: " in output
    assert '"map_hash_max_size" directive is duplicate in /etc/nginx/conf.d/zz-another.conf' in output
    operator.host.ssh("rm /etc/nginx/conf.d/zz-another.conf")
    assert operator.host.ssh(look).stdout == before

    other_key = tmp_path / "other.key"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", other_key], check=True)
    output = operator.run(site_tls_certificate_key=str(other_key))
    assert output.endswith("exit=2") and "are not a TLS certificate and its private key (" in output
    assert operator.host.ssh(look).stdout == before
    operator.host.ssh("systemctl restart nginx")
    assert operator.room_of("%23lounge%3Aa.lab") == "!room0:a.lab"
    assert operator.room_of("%23other%3Aa.lab") is None

    assert succeeded(operator.run(), changed=True)
    assert operator.room_of("%23other%3Aa.lab") == "!room0:a.lab"
    assert operator.host.ssh("ls /etc/ssl/a.lab-site | wc -l").stdout == "1\n", "no other certificate"


@nightly
def test_an_answer_that_is_wrong(operator: Operator) -> None:
    """The files are there, but somebody has changed the configuration, or nginx is off."""
    operator.write("#lounge:a.lab", "#salon:a.lab", media_ids=("page",))
    assert operator.run().endswith("exit=0")
    operator.host.ssh(f"sed -i /salon/d {SERVED}/current/nginx-aliases.conf; nginx -s reload")
    output = operator.run()
    assert output.endswith("exit=2") and "1 of " in output and "answers of a.lab are not as expected" in output
    assert "room_alias=%23salon%3Aa.lab | room ID !room1:a.lab | HTTP 404 application/json M_NOT_FOUND" in output
    assert "Check the DNS records of a.lab" in output
    operator.write("#lounge:a.lab", media_ids=("page",))
    assert succeeded(operator.run(), changed=True)


def test_who_still_sends_transactions(operator: Operator) -> None:
    """The playbook shows them. Others can claim any name."""
    operator.write("#lounge:a.lab", media_ids=("page",))
    assert operator.run().endswith("exit=0")
    origins = ("ghosts.example", "ghosts.example", "\x1b[2Jx", "{{ 1 + 1 }}", "other.example:8448")
    for number, origin in enumerate(origins):
        header = f'X-Matrix origin="{origin}",destination="a.lab",key="ed25519:1",sig="secret"'
        path = f"/_matrix/federation/v1/send/{number}"
        status, _headers, body = operator.ask(path, "PUT", Authorization=header)
        assert (status, json.loads(body)["errcode"]) == (404, "M_UNRECOGNIZED")
    output = operator.run()
    assert "Remote servers that still send events, and so still list an account (2):" in output
    assert "ghosts.example 2 transactions, last 20" in output and "other.example:8448 1 transaction, last 20" in output
    assert "\x1b" not in output and "[2Jx" not in output
    log = operator.host.ssh("cat /var/log/nginx/a.lab-site-transactions.log").stdout
    assert "secret" not in log and "1 + 1" not in log


@nightly
def test_caddy(operator: Operator) -> None:
    """It is not installed by the role, and needs to be told of the Caddyfile."""
    host = operator.host
    certificates = {"site_tls_certificate": "/etc/caddy/tls.crt", "site_tls_certificate_key": "/etc/caddy/tls.key"}
    variables = {"site_web_server": "none", "site_tls_copy": False, "site_path": "/srv/matrix", **certificates}
    log = "/var/log/caddy/a.lab-site-transactions.log"
    operator.variables = {**variables, "site_log_path": log}
    operator.write("#lounge:a.lab", "#od d~*é:a.lab")
    host.ssh("systemctl disable --now nginx; apt-get install -y caddy")
    for name in ("tls.crt", "tls.key"):
        (host.root / "etc/caddy" / name).write_bytes((host.directory / name).read_bytes())
    host.ssh("chown caddy /etc/caddy/tls.key")

    output = operator.run()
    assert output.endswith("exit=2") and "Include a file of /srv/matrix/a.lab-site in the configuration" in output
    host.ssh("echo 'import /srv/matrix/a.lab-site/Caddyfile' >/etc/caddy/Caddyfile && systemctl reload caddy")
    output = operator.run()
    assert succeeded(output, changed=False) and "answers are as expected" in output
    header = 'X-Matrix origin="ghosts.example",destination="a.lab",key="ed25519:1",sig="secret"'
    assert operator.ask("/_matrix/federation/v1/send/1", "PUT", Authorization=header)[0] == 404
    output = operator.run()
    assert succeeded(output, changed=False) and "ghosts.example 1 transaction, last 20" in output
    assert "secret" not in host.ssh(f"cat {log}").stdout
    assert operator.ask("/_matrix/media/v3/download/a.lab/picture")[2] == PICTURE

    operator.write("#new:a.lab")
    output = operator.run()
    assert output.endswith("exit=2") and "room_alias=%23new%3Aa.lab | room ID !room0:a.lab | HTTP 404" in output
    host.ssh("systemctl reload caddy")
    assert succeeded(operator.run(), changed=False)
    assert operator.room_of("%23lounge%3Aa.lab") is None
    host.ssh("systemctl disable --now caddy")
