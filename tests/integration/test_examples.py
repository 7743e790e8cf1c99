# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/examples as a repository of somebody's own, used in the ways that docs/howto/fleet.md describes."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from lab import Homeserver
from lab.waiting import wait_until

from .conftest import IN_PROCESS, ROOT, Federation, unchanged

EXAMPLES = ROOT / "docs/examples"
GUIDE = (ROOT / "docs/howto/fleet.md").read_text()
CLOUD_TOKEN = "cloud-token-that-nobody-may-see"
VAULT_PASSWORD = "vault-password-that-nobody-may-see"

CHECK = "--check --diff"
AUDIT = "--tags preflight"
ONE_HOST = "--limit matrix1.example.org"
STAY_ON = "--skip-tags power_off"
POWER_OFF = "--tags power_off"
MANY = "--forks 20"
#: As if the two weeks were over.
LATER = "-e decommission_propagation_period=1s"


@dataclass(frozen=True)
class Request:
    """What was asked of the stub, by whom, and how many were in rooms of the retiring server at that time."""

    line: str
    authorization: str | None
    members: int


@dataclass
class Stub:
    """An HTTP server that stands in for what is not here: a monitoring, a DNS and a cloud's API. It notes what is
    asked of it, and its machine goes off a little later than it is told to."""

    count: Callable[[], int]
    requests: list[Request] = field(default_factory=list)
    shutting_down: int = 0

    @property
    def machine(self) -> str:
        """The state of the cloud's machine."""
        return "off" if self.shutting_down > 1 else "running"

    def taken(self) -> list[Request]:
        """What was asked since this was called the last time."""
        taken, self.requests = self.requests, []
        return taken

    def handler(self) -> type[BaseHTTPRequestHandler]:
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                authorization = self.headers.get("Authorization")
                if self.command == "GET":
                    stub.shutting_down += stub.shutting_down > 0
                else:
                    stub.requests.append(Request(f"{self.command} {self.path}", authorization, stub.count()))
                    stub.shutting_down += self.path.endswith("/shutdown")
                body = f'{{"server": {{"status": "{stub.machine}"}}}}'.encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler


@dataclass
class Repository:
    """A copy of the examples. The first of its two hosts is the server that retires; the second one must not."""

    directory: Path
    stub: Stub
    variables: dict[str, dict[str, Any]]
    output: str = ""

    @property
    def decommissioned(self) -> list[str]:
        """The hosts that are off, by the inventory."""
        return list(
            yaml.safe_load((self.directory / "inventory/decommissioned.yml").read_text())["decommissioned"]["hosts"]
            or {}
        )

    @property
    def changes(self) -> list[str]:
        """The team's log of changes."""
        file = self.directory / "CHANGES.txt"
        return file.read_text().splitlines() if file.exists() else []

    def shell(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run what stands in the guide."""
        home = self.directory.parent
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return subprocess.run(
            ["sh", "-c", command],
            cwd=self.directory,
            env={**os.environ, "PATH": path, "HOME": str(home), "ANSIBLE_NOCOLOR": "1", **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )

    def decommission(self, *options: str) -> int:
        """Run the playbook as the guide has cron run it, with some options more; return the exit code."""
        for host, variables in self.variables.items():
            file = self.directory / f"inventory/host_vars/{host}.yml"
            file.parent.mkdir(exist_ok=True)
            file.write_text(yaml.safe_dump(variables))
        command = [cron_line().replace("/srv/infra", shlex.quote(str(self.directory))), *options]
        done = self.shell(" ".join(command), **IN_PROCESS)
        self.output = done.stdout
        secrets = [VAULT_PASSWORD, CLOUD_TOKEN, "syt_"]
        assert [secret for secret in secrets if secret in self.output] == []
        return done.returncode


def cron_line() -> str:
    """The command that the guide has cron run."""
    line = re.search(r"^[\d* ]+ ansible (cd .*)$", GUIDE, re.MULTILINE)
    assert line
    return line[1]


def yaml_of_guide(word: str) -> Any:
    """The example in the guide that has a word in it."""
    (found,) = [block for block in re.findall(r"^```yaml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL) if word in block]
    return yaml.safe_load(found)


def state_of(server: Homeserver) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """A server's accounts, and who of them is in which room."""
    accounts = [{**account, "last_seen_ts": None} for account in server.accounts()]
    return accounts, server.members_of(server.server_name)


@pytest.fixture
def repository(filled: Federation, tmp_path: Path) -> Iterator[Repository]:
    """The examples as they are, but for where things are reached."""
    retiring, staying = filled.retiring, filled.staying
    stub = Stub(lambda: sum(map(len, retiring.members_of(retiring.server_name).values())))
    server = ThreadingHTTPServer(("127.0.0.1", 0), stub.handler())
    url = f"http://127.0.0.1:{server.server_port}"
    directory = tmp_path / "infra"
    shutil.copytree(EXAMPLES, directory)
    variables = {
        name: {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "monitoring_url": url,
            "dns_url": url,
            "cloud_url": url,
            **{key: value for key, value in homeserver.role_variables.items() if not key.endswith("_token")},
        }
        for name, homeserver in (("matrix1.example.org", retiring), ("matrix2.example.org", staying))
    }
    repository = Repository(directory, stub, variables)

    vault = yaml_of_guide("vault_")
    vault["vault_cloud_token"] = CLOUD_TOKEN
    assert set(vault["vault_decommission_access_tokens"]) == set(variables)
    tokens = {"matrix1.example.org": retiring.admin_token, "matrix2.example.org": staying.admin_token}
    vault["vault_decommission_access_tokens"] = tokens
    (tmp_path / ".vault").write_text(VAULT_PASSWORD)
    encrypt = re.search(r"^\$ (ansible-vault encrypt (.*))$", GUIDE, re.MULTILINE)
    assert encrypt
    file = directory / encrypt[2]
    file.write_text(yaml.safe_dump(vault))
    encrypted = repository.shell(encrypt[1], ANSIBLE_VAULT_PASSWORD_FILE=str(tmp_path / ".vault"))
    assert encrypted.returncode == 0, encrypted.stdout
    assert file.read_text().startswith("$ANSIBLE_VAULT;")

    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield repository
    server.shutdown()
    server.server_close()


@pytest.mark.nightly(category="variations")
def test_decommission(federation: Federation, repository: Repository) -> None:
    """From the audit to the power-off, a run at a time, one of two hosts alone."""
    retiring, staying, stub = federation.retiring, federation.staying, repository.stub
    present, others = stub.count(), state_of(staying)
    with unchanged(retiring):
        assert repository.decommission(ONE_HOST, CHECK, MANY) == 0, repository.output
    assert f"to deactivate and erase: {len(federation.to_close)}" in repository.output
    assert federation.population.odd_users[0] in repository.output
    assert (stub.taken(), repository.changes) == ([], [])

    assert repository.decommission(ONE_HOST, "-vvv") == 0, repository.output
    assert "Run again from " in repository.output
    told = Request("POST /messages", None, present)
    silenced = Request("PUT /silences/matrix1.example.org", None, present)
    assert stub.taken() == [told, silenced]
    assert repository.changes == [f"{retiring.server_name} is being decommissioned"]
    assert stub.count() == 0

    # The gate is closed.
    assert repository.decommission(ONE_HOST, POWER_OFF) == 0, repository.output
    assert stub.taken() == []

    def finished() -> bool:
        assert repository.decommission(ONE_HOST, STAY_ON, LATER) == 0, repository.output
        return "Run again from " not in repository.output

    wait_until(finished, "there is nothing to wait for any more")
    asked = stub.taken()
    assert {request.line for request in asked} == {silenced.line}
    assert (asked[0].members, stub.count()) == (0, 0)
    assert (stub.machine, repository.decommissioned) == ("running", [])

    assert repository.decommission(ONE_HOST, POWER_OFF, LATER, "-vvv") == 0, repository.output
    bearer = f"Bearer {CLOUD_TOKEN}"
    assert stub.taken() == [
        Request("POST /servers/4711/actions/shutdown", bearer, 0),
        Request("DELETE /records/matrix1.example.org", bearer, 0),
    ]
    assert (stub.machine, repository.decommissioned) == ("off", ["matrix1.example.org"])
    wait_until(lambda: not federation.ghosts(), "the other server lists nobody")

    # It is still in the inventory, but nobody tries to log in to it.
    assert repository.decommission(ONE_HOST) == 0, repository.output
    assert "no hosts matched" in repository.output
    assert stub.taken() == []
    assert state_of(staying) == others
    assert len(repository.changes) == 1


def test_audit(filled: Federation, repository: Repository, skip_or_fail: Callable[[str], NoReturn]) -> None:
    """Of a host that can't be logged in to, but whose modules run elsewhere, with one that fails, or is off."""
    if not shutil.which("ssh"):
        skip_or_fail("no ssh here")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    off = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": port}
    first, second = repository.variables.values()
    (documented,) = yaml_of_guide("decommission_delegate")["matrix_decommission"]["hosts"].values()
    first |= off | {"decommission_delegate": documented["decommission_delegate"]}
    confirm = second["decommission_confirm"]
    second["decommission_confirm"] = "other.example.org"
    with unchanged(filled.retiring):
        assert repository.decommission(AUDIT) == 2, repository.output
    assert f"to deactivate and erase: {len(filled.to_close)}" in repository.output
    assert f"is {confirm}, but" in repository.output
    assert re.search(alone := r"(?m)^matrix1.example.org .* unreachable=0 +failed=0 ", repository.output)
    second |= off | {"decommission_confirm": confirm}
    assert repository.decommission(AUDIT) == 4, repository.output
    assert re.search(alone, repository.output)
    assert (repository.stub.taken(), repository.changes) == ([], [])


def test_the_guide_tells_of_what_is_tried_here() -> None:
    options = re.findall(r"^\| `(--.*?)` \|", GUIDE, re.MULTILINE)
    assert options == [CHECK, AUDIT, ONE_HOST, STAY_ON, POWER_OFF, MANY]
    linked = {Path(path) for path in re.findall(r"\]\(\.\./(examples/.+?)\)", GUIDE)}
    written = {path.relative_to(ROOT / "docs") for path in EXAMPLES.rglob("*") if path.is_file()}
    assert linked == written


def test_no_variable_is_misspelt() -> None:
    """In particular, none is that no run of the tests has looked at."""
    specs = yaml.safe_load((ROOT / "roles/decommission/meta/argument_specs.yml").read_text())
    known = {*specs["argument_specs"]["main"]["options"], "decommission_hosts"}
    texts = [GUIDE, *(path.read_text() for path in EXAMPLES.rglob("*") if path.is_file())]
    used = {name for text in texts for name in re.findall(r"(?<![\w./])decommission_\w+", text)}
    assert used
    assert used <= known
