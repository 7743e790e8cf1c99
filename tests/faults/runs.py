# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A very small server to decommission, a proxy in front of it, and runs of the playbook with injected faults."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from integration.test_kill import kill
from lab import Homeserver, Lab
from lab.api import Account, quote
from lab.proxy import Proxy
from lab.waiting import wait_until

HERE = Path(__file__).parent
PLAYBOOK = "matrixops.synapse.decommission"
ROLE = HERE.parents[1] / "roles/decommission"
PATIENCE = 8
"""Seconds for which a request without an answer is sent again, instead of two minutes."""
LEASE = 4
"""Seconds for which a lease holds, instead of 60: so long does a run that was killed keep the next one waiting."""
LONGEST_RUN = 1800.0
"""Seconds after which a run counts as one that never ends."""
STATE = "io.github.matrixops.decommission"
STATES = (STATE, *(f"{STATE}.{part}" for part in ("aliases", "rooms", "lease")))

FATAL = re.compile(r"^(?:fatal|failed): \[a\].*?=> (?=\{)", re.MULTILINE)
ADVICE = re.compile(
    r"again|No changes made|decommission_\w+|Run the stage|[Ss]et |\bis base_url\b|must be|Correct |retry",
    re.IGNORECASE,
)
"""A message that says what to do has one of these."""

OnTask = Callable[[str, str], None]


class Run:
    """A run of the playbook that asks before each task whether to go on."""

    def __init__(
        self,
        directory: Path,
        variables: dict[str, Any],
        on_task: OnTask | None = None,
        patience: float = PATIENCE,
        lease: int = LEASE,
    ) -> None:
        self._on_task = on_task
        self.directory = Path(tempfile.mkdtemp(dir=directory))
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        inventory = self.directory / "inventory.json"
        inventory.write_text(json.dumps({"matrix_decommission": {"hosts": {"a": {**local, **variables}}}}))
        steering = self.directory / "steering"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(steering))
        self._socket.listen()
        self._output = self.directory / "output"
        environment = {
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE.parent / "callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "in_process,steered",
            "STEERED_BY": str(steering),
            "STEERED_PATIENCE": str(patience),
            "IN_PROCESS_LEASE": str(lease),
        }
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, PLAYBOOK],
                env={**os.environ, **environment},
                cwd=self.directory,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._steerer = threading.Thread(target=self._steer, daemon=True)
        self._steerer.start()

    def _steer(self) -> None:
        with suppress(OSError):
            connection, _address = self._socket.accept()
            with connection, connection.makefile() as lines:
                for line in lines:
                    task = json.loads(line)
                    if self._on_task is not None:
                        self._on_task(Path(task["path"].rpartition(":")[0]).name, task["name"])
                    connection.sendall(b"\n")

    def wait(self) -> int:
        try:
            code = self.process.wait(LONGEST_RUN)
        except subprocess.TimeoutExpired:
            kill(self.process)
            raise AssertionError(f"still not at an end after {LONGEST_RUN} s:\n{self.output}") from None
        finally:
            self._socket.close()
        self._steerer.join()
        return code

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    @property
    def messages(self) -> list[str]:
        """What the tasks that failed said."""
        found = []
        for match in FATAL.finditer(self.output):
            message = json.JSONDecoder().raw_decode(self.output, match.end())[0].get("msg", "")
            found.append(message if isinstance(message, str) else " ".join(map(str, message)))
        return found


@dataclass
class Setup:
    """The accounts and rooms of one decommissioning."""

    users: list[str] = field(default_factory=list)
    shared: str = ""
    theirs: str = ""
    invited_to: str = ""


class FaultLab:
    """A server that is decommissioned many times, each time with new accounts and rooms, and a remote server."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.retiring: Homeserver = lab["a"]
        self.staying: Homeserver = lab["b"]
        self.marker = lab.directory / "powered_off"
        self.second_admin = self.retiring.register("second_admin", admin=True)
        self.witness = self.staying.register("witness")
        self._first_operator = self.retiring.operator
        self._plant_token()
        lab.snapshot("empty")
        self._count = 0
        self._is_spoiled = False
        self.setup = Setup()
        self.run: Run | None = None
        self._undo: list[Callable[[], object]] = []
        self._threads: list[threading.Thread] = []
        self._proxy: Proxy | None = None

    def _plant_token(self) -> None:
        """The remote server accepts the operator's token as well, so a request that goes there is not refused."""
        self.staying.stop()
        self.staying.database.execute(
            "INSERT INTO access_tokens (id, user_id, token)"  # noqa: S608
            f" VALUES (1000, '{self.staying.operator.user_id}', '{self._first_operator.token}')"
        )
        self.staying.start()

    @property
    def proxy(self) -> Proxy:
        assert self._proxy is not None
        return self._proxy

    @property
    def is_off(self) -> bool:
        """Whether the role has powered it off, which leaves a marker file here, and the server running."""
        return self.marker.exists()

    @property
    def variables(self) -> dict[str, Any]:
        return {
            **self.retiring.role_variables,
            "decommission_base_url": self.proxy.base_url,
            "decommission_propagation_period": "1s",
            "decommission_poll_interval": 1,
            "decommission_wait_timeout": 3,
            "decommission_handover": True,
            "decommission_handover_to": [{"user_id": self.witness.user_id}],
            "decommission_release_aliases": True,
            "decommission_demote": True,
            "decommission_power_off_tasks": str(HERE / "power_off.yml"),
            # These tasks leave the homeserver running.
            "decommission_power_off_timeout": 0,
            "off_marker": str(self.marker),
        }

    def _begin(self) -> None:
        if self._count % 20 == 19 or self.retiring.operator != self._first_operator or self._is_spoiled:
            self.lab.restore("empty")
            self.retiring.operator = self._first_operator
        self._count += 1
        self._is_spoiled = True
        a, b = self.retiring, self.staying
        for kind in STATES:
            path = f"/_matrix/client/v3/user/{quote(a.operator.user_id)}/account_data/{kind}"
            a.call("PUT", path, token=a.admin_token, json={})
        users = [a.register(f"user{self._count}_{number}") for number in range(4)]
        setup = self.setup = Setup([user.user_id for user in users])
        public = {"preset": "public_chat"}
        setup.shared = a.create_room(users[0].token, room_alias_name=f"shared{self._count}", **public)
        b.join(self.witness.token, setup.shared, via=a.server_name)
        setup.theirs = b.create_room(self.witness.token, **public)
        a.join(users[1].token, setup.theirs, via=b.server_name)
        local = a.create_room(users[2].token, **public)
        for account, room in (
            (users[1], setup.shared),
            (users[3], setup.shared),
            (users[2], setup.theirs),
            (self.second_admin, setup.shared),
            (self.second_admin, local),
            (users[3], local),
        ):
            a.join(account.token, room)
        setup.invited_to = b.create_room(self.witness.token, invite=[setup.users[0]])
        a.lock(setup.users[3])
        wait_until(self._is_seen, "the other server sees who has come")
        self._theirs = self._theirs_now()

    def _is_seen(self) -> bool:
        setup = self.setup
        ours = [self.retiring.joined_members(room) for room in (setup.shared, setup.theirs)]
        return ours == [self.staying.joined_members(room) for room in (setup.shared, setup.theirs)]

    def _theirs_now(self) -> list[Any]:
        """What must not change: the other server's own accounts and members."""
        accounts = [(a["name"], a["deactivated"], a["locked"]) for a in self.staying.accounts()]
        return [sorted(accounts), self.staying.members_of(self.staying.server_name)]

    def start(
        self, on_task: OnTask | None = None, *, patience: float = PATIENCE, lease: int = LEASE, **variables: Any
    ) -> Run:
        # Each run begins with the server on.
        self.marker.unlink(missing_ok=True)
        self.run = Run(self.lab.directory, {**self.variables, **variables}, on_task, patience, lease)
        return self.run

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        """Do something while the run goes on."""

        def act() -> None:
            time.sleep(seconds)
            action()

        thread = threading.Thread(target=act)
        self._threads.append(thread)
        thread.start()

    def undo(self, action: Callable[[], object]) -> None:
        """Do this before the next run."""
        self._undo.append(action)

    def restore(self) -> None:
        """Remove the fault."""
        while self._threads:
            self._threads.pop().join()
        while self._undo:
            self._undo.pop()()
        self.proxy.clear()
        for server in (self.retiring, self.staying):
            if not server.running:
                server.start()

    @contextmanager
    def decommissioning(self) -> Iterator[None]:
        """Fill the server again, and put a proxy in front of it."""
        self._begin()
        with Proxy(self.retiring) as self._proxy:
            try:
                yield
            finally:
                self.restore()
        self._is_spoiled = False

    # What must hold

    def check(self, run: Run, code: int) -> None:
        """After a run with a fault that was not killed."""
        self.check_safety(run)
        output = run.output
        assert "Traceback" not in output and "MODULE FAILURE" not in output, output
        if code == 0:
            self.check_decommissioned(run)
            return
        assert code == 2, output
        messages = run.messages
        assert messages, output
        assert ADVICE.search(messages[-1]), f"no next step: {messages[-1]}"

    def check_safety(self, run: Run) -> None:
        """After any run: no admin is deactivated, nothing is off that is not drained, no remote account is changed."""
        for admin in (self.retiring.operator.user_id, self.second_admin.user_id):
            assert not self.retiring.account(admin)["deactivated"], f"{admin} was deactivated\n{run.output}"
        if self.is_off:
            self.check_decommissioned(run)
        assert self._theirs_now() == self._theirs, f"the other server's own have changed\n{run.output}"

    def check_decommissioned(self, run: Run) -> None:
        assert self.is_off, f"succeeded, and the server is on\n{run.output}"
        open_ = [a["name"] for a in self.retiring.accounts() if not a["admin"] and not a["deactivated"]]
        assert not open_, f"still active: {open_}\n{run.output}"
        members = self.retiring.members_of(self.retiring.server_name)
        assert not members, f"still in rooms: {members}\n{run.output}"
        # What is unreachable until the power-off keeps its ghosts, and is named. A later run removes them.
        if not self.is_unconfirmed(run):
            assert not self.ghosts(), f"ghosts: {self.ghosts()}\n{run.output}"

    def is_unconfirmed(self, run: Run) -> bool:
        """Whether the run says that the remote server could not be reached."""
        return f"{self.staying.server_name}: unreachable in " in run.output

    def ghosts(self) -> list[tuple[str, str]]:
        """The accounts that the remote server lists as joined or invited, each with the room."""
        joined = self.staying.members_of(self.retiring.server_name)
        found = [(room_id, user_id) for room_id, members in joined.items() for user_id in members]
        path = f"/v1/rooms/{quote(self.setup.invited_to)}/state"
        for event in self.staying.admin("GET", path)["state"]:
            is_ours = event.get("state_key", "").endswith(f":{self.retiring.server_name}")
            if event["type"] == "m.room.member" and is_ours and event["content"]["membership"] == "invite":
                found.append((self.setup.invited_to, event["state_key"]))
        return found

    def new_token(self) -> None:
        self.retiring.operator = self.retiring.login("operator")

    def admin_call(self, account: Account, method: str, path: str, body: dict[str, Any]) -> None:
        self.retiring.call(method, f"/_synapse/admin{path}", token=account.token, json=body)
