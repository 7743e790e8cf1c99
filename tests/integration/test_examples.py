# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/examples as a repository of somebody's own, used in the ways that docs/howto/fleet.md describes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from lab import Homeserver, Lab, MissingError, populate
from lab.parallel import CLOSED_PORT
from lab.waiting import wait_until

from .conftest import IN_PROCESS, ROOT, Federation, unchanged
from .test_howtos import COMMANDS

EXAMPLES = ROOT / "docs/examples"
GUIDE = (ROOT / "docs/howto/fleet.md").read_text()
CLOUD_TOKEN = "cloud-token-that-nobody-may-see"
VAULT_PASSWORD = "vault-password-that-nobody-may-see"

HOSTS = ("matrix1.example.org", "matrix2.example.org", "three.example.org")

POWER_OFF_WITH = dict(
    zip(HOSTS, ("/.*/tasks/power_off_cloud.yml", "the method compose", "the method kubernetes"), strict=True)
)
"""What the last line of the plan says of each."""

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
    """A copy of the examples. The first of its hosts is the server that retires; the others must not."""

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
    def container(self) -> Path:
        """The state of the container that the stub of docker has, once it was asked."""
        return self.directory.parent / "container.json"

    @property
    def workloads(self) -> Path:
        """The workloads that the stub of kubectl has scaled, once it has."""
        return self.directory.parent / "workloads.json"

    @property
    def changes(self) -> list[str]:
        """The team's log of changes."""
        file = self.directory / "CHANGES.txt"
        return file.read_text().splitlines() if file.exists() else []

    def shell(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run what stands in the guide."""
        home = self.directory.parent
        path = os.pathsep.join([str(COMMANDS), str(Path(sys.executable).parent), os.environ["PATH"]])
        environment |= {"STUB_CONTAINER": str(self.container), "STUB_WORKLOADS": str(self.workloads)}
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
            # Read after main.yml, which stays as it is.
            file = self.directory / f"inventory/host_vars/{host}/zz_lab.yml"
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


def lab_variables(homeserver: Homeserver, url: str) -> dict[str, Any]:
    """What differs in the lab: where things are reached, and that all is done by who runs the tests."""
    return {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "ansible_become": False,
        "decommission_install_requirements": False,
        "decommission_cordon": False,
        "monitoring_url": url,
        "dns_url": url,
        "cloud_url": url,
        **{key: value for key, value in homeserver.role_variables.items() if not key.endswith("_token")},
    }


@contextmanager
def repository_for(servers: Sequence[Homeserver], home: Path) -> Iterator[Repository]:
    """The examples as they are, but for where things are reached, with the APIs that their tasks use."""
    hosts = dict(zip(HOSTS, servers, strict=True))
    retiring = servers[0]
    stub = Stub(lambda: sum(map(len, retiring.members_of(retiring.server_name).values())))
    server = ThreadingHTTPServer(("127.0.0.1", 0), stub.handler())
    url = f"http://127.0.0.1:{server.server_port}"
    directory = home / "infra"
    shutil.copytree(EXAMPLES, directory)
    (directory / "compose").mkdir()
    variables = {name: lab_variables(homeserver, url) for name, homeserver in hosts.items()}
    variables[HOSTS[1]]["decommission_compose_dir"] = str(directory / "compose")
    repository = Repository(directory, stub, variables)
    write_vault(repository, {name: homeserver.admin_token for name, homeserver in hosts.items()})
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield repository
    finally:
        server.shutdown()
        server.server_close()


def write_vault(repository: Repository, tokens: dict[str, str]) -> None:
    """Write the secrets of the guide, and encrypt them with its command."""
    vault = yaml_of_guide("vault_")
    vault["vault_cloud_token"] = CLOUD_TOKEN
    assert set(vault["vault_decommission_access_tokens"]) == set(tokens)
    vault["vault_decommission_access_tokens"] = tokens
    password = repository.directory.parent / ".vault"
    password.write_text(VAULT_PASSWORD)
    encrypt = re.search(r"^\$ (ansible-vault encrypt (.*))$", GUIDE, re.MULTILINE)
    assert encrypt
    file = repository.directory / encrypt[2]
    file.write_text(yaml.safe_dump(vault))
    encrypted = repository.shell(encrypt[1], ANSIBLE_VAULT_PASSWORD_FILE=str(password))
    assert encrypted.returncode == 0, encrypted.stdout
    assert file.read_text().startswith("$ANSIBLE_VAULT;")


@pytest.fixture
def repository(filled: Federation, tmp_path: Path) -> Iterator[Repository]:
    with repository_for((filled.retiring, filled.staying, filled.staying), tmp_path) as repository:
        yield repository


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
    off = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": CLOSED_PORT}
    first, second, _third = repository.variables.values()
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


def test_three_kinds(filled: Federation, repository: Repository) -> None:
    """The plan of each of the three servers, from one run in check mode."""
    with unchanged(filled.retiring), unchanged(filled.staying):
        assert repository.decommission(CHECK, AUDIT) == 0, repository.output
    for host, power_off in POWER_OFF_WITH.items():
        plan = rf'ok: \[{host}\] => {{[^}}]*"Finally: power off with {power_off}"'
        assert re.search(plan, repository.output), repository.output
    assert (repository.stub.taken(), repository.changes, repository.decommissioned) == ([], [], [])
    assert json.loads(repository.container.read_text()) == {"status": "running", "restart": "always"}
    assert not repository.workloads.exists()


@pytest.mark.nightly(category="variations")
def test_three_servers(skip_or_fail: Callable[[str], NoReturn], tmp_path: Path) -> None:
    """All three are decommissioned and powered off in one run; a fourth server tells what it sees."""
    try:
        with Lab(ROOT / ".cache/tests/examples", ["a", "b", "c", "d"], base_port=19340) as lab:
            *servers, judge = lab.servers.values()
            populate(servers[0], judge, users=6, big_room=6)
            for server in servers[1:]:
                room = judge.create_room(judge.admin_token, name="Lounge", preset="public_chat")
                server.join(server.register("alice").token, room, via=judge.server_name)
            with repository_for(servers, tmp_path) as repository:
                decommission_all(repository, servers)
            wait_until(lambda: not any(judge.members_of(s.server_name) for s in servers), "the judge lists nobody")
    except MissingError as missing:
        skip_or_fail(str(missing))


def decommission_all(repository: Repository, servers: Sequence[Homeserver]) -> None:
    """Run the playbook in check mode, and once. The containers of the second and third server stand for processes."""
    _first, second, third = servers
    repository.container.write_text(json.dumps({"pid": second.pid}))
    repository.workloads.write_text(json.dumps({"pids": {"statefulset/ess-synapse-main": third.pid}}))
    # The stub of the cloud has no process.
    repository.variables[HOSTS[0]]["decommission_power_off_timeout"] = 0
    assert repository.decommission(CHECK) == 0, repository.output
    assert second.running and third.running and repository.stub.taken() == []
    options = ("-e decommission_wait=true -e decommission_propagation_period=3s -e decommission_poll_interval=1", MANY)
    assert repository.decommission(*options) == 0, repository.output
    assert sorted(repository.decommissioned) == sorted(HOSTS)
    assert repository.stub.machine == "off"
    assert json.loads(repository.container.read_text()) == {"status": "exited", "restart": "no"}
    workloads = ["ess-synapse-event-persister", "ess-synapse-federation-sender", "ess-synapse-main"]
    assert json.loads(repository.workloads.read_text())["scaled"] == [f"statefulset/{name}" for name in workloads]
    assert not second.running and not third.running


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
