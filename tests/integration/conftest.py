# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real Synapse servers, filled once and put back to that for each test; and Ansible, as its users run it."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lab import Homeserver, Lab, MissingError, Population, Settings, populate
from lab.authentication import AuthenticationService
from lab.docker import Docker
from lab.files import write_private
from lab.parallel import process_number
from lab.proxy import Proxy
from lab.waiting import wait_until

ROOT = Path(__file__).parents[2]


@dataclass
class Federation:
    """A server to retire and one that stays, and what was filled into the first."""

    lab: Lab
    retiring: Homeserver
    staying: Homeserver
    population: Population
    changed: bool = False

    @property
    def connection(self) -> dict[str, Any]:
        """The connection options of a module."""
        return {"base_url": self.retiring.base_url, "access_token": self.retiring.admin_token}

    @property
    def role_variables(self) -> dict[str, Any]:
        """The variables of a host whose server is to be retired. To power off means to write a file."""
        return {
            **self.retiring.role_variables,
            "decommission_propagation_period": "3s",
            "decommission_poll_interval": 1,
            "decommission_power_off_tasks": str(Path(__file__).with_name("power_off.yml")),
            # These tasks leave the homeserver running.
            "decommission_power_off_timeout": 0,
            "off_marker": str(self.lab.directory / "a" / "powered_off"),
        }

    @property
    def to_close(self) -> set[str]:
        """The accounts that a drain must close: all that are open, but the admins."""
        return {
            account["name"]
            for account in self.retiring.accounts()
            if not account["admin"] and not (account["deactivated"] and account["erased"])
        }

    def ghosts(self) -> dict[str, list[str]]:
        """Who of the retiring server is in which room, as the other server sees it."""
        return self.staying.members_of(self.retiring.server_name)


@pytest.fixture(scope="module")
def docker(skip_or_fail: Callable[[str], None]) -> Iterator[Docker]:
    """An engine of Docker, if this machine has what it needs."""
    try:
        with Docker() as docker:
            yield docker
    except MissingError as missing:
        skip_or_fail(str(missing))


@contextmanager
def filled_federation(
    directory: str, base_port: int, skip_or_fail: Callable[[str], None], *, users: int, **options: Any
) -> Iterator[Federation]:
    """Two servers, started and filled, if this machine has what they need."""
    try:
        with Lab(ROOT / ".cache/tests" / directory, base_port=base_port, **options) as lab:
            population = populate(lab["a"], lab["b"], users=users, big_room=users)
            yield Federation(lab, lab["a"], lab["b"], population)
    except MissingError as missing:
        skip_or_fail(str(missing))


def kept_federation(directory: str, base_port: int, skip_or_fail: Callable[[str], None], *, users: int) -> Federation:
    """What the last run has left, filled, to be put back to that; or made now. Nothing stops it."""
    path = ROOT / ".cache/tests" / directory
    file = path / "population.json"
    if file.exists():
        lab = Lab.load(path)
        return Federation(lab, lab["a"], lab["b"], Population(**json.loads(file.read_text())), changed=True)
    lab = Lab(path, base_port=base_port)
    try:
        lab.create()
    except MissingError as missing:
        skip_or_fail(str(missing))
    population = populate(lab["a"], lab["b"], users=users, big_room=users)
    lab.snapshot("filled")
    write_private(file, asdict(population))
    return Federation(lab, lab["a"], lab["b"], population)


@pytest.fixture(scope="session")
def snapshot(skip_or_fail: Callable[[str], None]) -> Iterator[Federation]:
    """A small federation, to which ``filled`` goes back after each test that changed it. Each of pytest's processes has
    one; what else there is in ``.cache/tests`` belongs to a single file of tests. With ``LAB_KEEP`` set, it is left
    running for the next run."""
    base_port = 18600 + 5 * process_number()
    if os.environ.get("LAB_KEEP"):
        yield kept_federation(f"small-{process_number()}", base_port, skip_or_fail, users=12)
        return
    with filled_federation(f"small-{process_number()}", base_port, skip_or_fail, users=12) as federation:
        federation.lab.snapshot("filled")
        yield federation


#: The settings with which Ansible does not start a Python for each module.
IN_PROCESS = {"ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests/callback"), "ANSIBLE_CALLBACKS_ENABLED": "in_process"}
#: The tables with the lease in them, which a run takes though it finds nothing to change.
LEASE = ("account_data", "stream_positions")


@contextmanager
def unchanged(server: Homeserver, *, but: Collection[str] = ()) -> Iterator[None]:
    """Nothing is written to the server's database in here, but to these tables.

    What Synapse has still to do of itself, it does before.
    """
    before: dict[str, str] = {}

    def quiet() -> bool:
        nonlocal before
        last, before = before, server.database_fingerprint()
        return last == before

    wait_until(quiet, "Synapse has nothing left to write", interval=0.5)
    yield
    after = server.database_fingerprint()
    changed = {table: (before.get(table), after[table]) for table in after if after[table] != before.get(table)}
    assert not set(changed).difference(but), changed


def talk(federation: Federation) -> None:
    """Have the servers talk. With the first event after a restart, Synapse begins to catch up: as long as it does, it
    sends the newest event of each room only, which makes ghosts of those who leave meanwhile."""
    retiring = federation.retiring
    retiring.send(retiring.admin_token, federation.population.admin_rooms[1], "hello")
    wait_until(lambda: not retiring.undelivered(), "the other server has heard it")


@pytest.fixture
def filled(snapshot: Federation) -> Federation:
    """The small federation as it was filled, for tests that only read."""
    if snapshot.changed:
        snapshot.lab.restore("filled")
        talk(snapshot)
        snapshot.changed = False
    return snapshot


@pytest.fixture
def federation(filled: Federation) -> Federation:
    """The small federation as it was filled, for tests that change it."""
    filled.changed = True
    return filled


@pytest.fixture
def proxy(federation: Federation) -> Iterator[Proxy]:
    """Before the server to retire: faithful, until it has rules."""
    with Proxy(federation.retiring) as proxy:
        yield proxy
        print({fault.name: times for fault, times in proxy.injected.items()}, "of", len(proxy.exchanges))


@pytest.fixture
def service(federation: Federation) -> Iterator[AuthenticationService]:
    """A Matrix Authentication Service that the server to retire does not ask yet."""
    with AuthenticationService(18779, federation.retiring) as service:
        yield service


@pytest.fixture
def migrated(federation: Federation, service: AuthenticationService) -> Iterator[Federation]:
    """The federation, whose retiring server was filled before it was switched over, as most are."""
    retiring = federation.retiring
    operator = retiring.operator
    service.adopt([retiring.account(account["name"]) for account in retiring.accounts()])
    # An account's own limit applies to a session of the service.
    retiring.configure(Settings(default_limits=("rc_message",), server_notices=True, extra_config=service.config))
    retiring.restart()
    retiring.operator = service.sign_in("operator", admin=True)
    talk(federation)
    yield federation
    retiring.operator = operator


class Result(dict[str, Any]):
    """What a module answered, and all that Ansible printed."""

    def __init__(self, answer: dict[str, Any], output: str) -> None:
        super().__init__(answer)
        self.output = output


RunModule = Callable[..., Result]
StartPlaybook = Callable[..., "subprocess.Popen[str]"]
RunPlaybook = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def start_playbook(request: pytest.FixtureRequest, tmp_path: Path) -> StartPlaybook:
    """Start ``ansible-playbook``: a playbook by its FQCN or path, against hosts with variables; maybe on a terminal.

    Most tests don't wait for a Python to start for each module; those with the mark ``own_process`` do.
    """
    settings = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_PIPELINING": "true"}
    if not request.node.get_closest_marker("own_process"):
        settings |= IN_PROCESS

    def start(
        playbook: str | Path, hosts: dict[str, Any], *arguments: str, terminal: bool = False, **environment: str
    ) -> subprocess.Popen[str]:
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        inventory = tmp_path / "inventory.json"
        groups = {"matrix_decommission": {"hosts": {name: {**local, **more} for name, more in hosts.items()}}}
        inventory.write_text(json.dumps(groups))
        program = Path(sys.executable).with_name("ansible-playbook")
        command = [str(part) for part in (program, "-i", inventory, playbook, *arguments)]
        if terminal:
            command = ["script", "--quiet", "--return", "--command", shlex.join(command), "/dev/null"]
        return subprocess.Popen(
            command,
            env={**os.environ, **settings, **environment},
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Under nohup, all processes ignore the signal of a terminal that is closed.
            preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),
        )

    return start


@pytest.fixture
def run_playbook(start_playbook: StartPlaybook) -> RunPlaybook:
    """Run ``ansible-playbook`` to its end."""

    def run(*arguments: Any, **options: Any) -> subprocess.CompletedProcess[str]:
        with start_playbook(*arguments, **options) as process:
            output, _nothing = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    return run


@pytest.fixture
def run_module(run_playbook: RunPlaybook, tmp_path: Path) -> RunModule:
    """Run one module through Ansible; return what it answered, also when it failed."""

    def run(name: str, options: dict[str, Any], *arguments: str, **environment: str) -> Result:
        answer = tmp_path / "answer.json"
        answer.unlink(missing_ok=True)
        task = {f"matrixops.synapse.{name}": options, "register": "answer"}
        keep = {"ansible.builtin.copy": {"content": "{{ answer | to_json }}", "dest": str(answer), "mode": "0600"}}
        keep |= {"check_mode": False, "diff": False}
        play = {"hosts": "all", "gather_facts": False, "tasks": [{"block": [task], "always": [keep]}]}
        playbook = tmp_path / "playbook.json"
        playbook.write_text(json.dumps([play]))
        process = run_playbook(playbook, {"host": {}}, *arguments, **environment)
        assert answer.exists(), process.stdout
        result = Result(json.loads(answer.read_text()), process.stdout)
        assert (process.returncode == 0) is not result.get("failed", False), process.stdout
        return result

    return run
