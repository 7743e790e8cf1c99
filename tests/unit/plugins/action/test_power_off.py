# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Callable

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.matrixops.synapse.plugins.action import power_off as plugin
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Clock, Json

REFUSED = AnsibleConnectionFailure(
    "Failed to connect to the host via ssh: connect to host h port 22: Connection refused"
)
CLOSED = AnsibleConnectionFailure("Failed to connect to the host via ssh: Connection to h closed by remote host.")
NOLOGIN = AnsibleConnectionFailure("Failed to connect to the host via ssh: System is going down.")
CUT_OFF = AnsibleConnectionFailure(
    "Failed to connect to the host via ssh: connect to host h port 22: Network is unreachable"
)
GONE = AnsibleConnectionFailure("Failed to connect to the host via ssh: connect to host h port 22: No route to host")
SILENT = AnsibleConnectionFailure(
    "Failed to connect to the host via ssh: connect to host h port 22: Connection timed out"
)
THERE: Json = {"rc": 0, "stdout": "", "stderr": ""}

PowerOff = Callable[..., Json]


class Host:
    """What comes of each command: an answer, or what a connection raises. The last goes on for ever."""

    def __init__(self, *comes: Any) -> None:
        self.comes = list(comes)
        self.commands: list[str] = []
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1
        raise AnsibleError("there was no connection to reset")

    def execute(self, command: str, sudoable: bool = True) -> Json:
        self.commands.append(f"{'become: ' if sudoable else ''}{command}")
        answer = self.comes.pop(0) if len(self.comes) > 1 else self.comes[0]
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)


@pytest.fixture
def power_off(monkeypatch: pytest.MonkeyPatch) -> PowerOff:
    clock = Clock()
    monkeypatch.setattr(plugin, "time", clock)
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})

    def run(host: Host, *, transport: str = "ssh", check_mode: bool = False, timeout: int = 120) -> Json:
        action = plugin.ActionModule.__new__(plugin.ActionModule)
        action._task = SimpleNamespace(check_mode=check_mode)
        action._connection = SimpleNamespace(transport=transport, reset=host.reset)
        action._low_level_execute_command = host.execute
        action.validate_argument_spec = lambda _spec: (None, {"timeout": timeout})
        return dict(action.run())

    return run


@pytest.mark.parametrize("last", [GONE, SILENT])
def test_it_goes_down(power_off: PowerOff, last: Exception) -> None:
    host = Host(THERE, THERE, NOLOGIN, CLOSED, REFUSED, CUT_OFF, last)
    assert power_off(host) == {"changed": True, "elapsed": 5.0}
    assert host.commands == [f"become: {plugin.COMMAND}", *["exit 0"] * 6]
    assert host.resets == 6, "each look needs a connection of its own"


@pytest.mark.parametrize(
    ("last", "why"), [(THERE, "a login succeeds"), (REFUSED, str(REFUSED)), (CUT_OFF, str(CUT_OFF))]
)
def test_it_does_not_go_down(power_off: PowerOff, last: Any, why: str) -> None:
    result = power_off(Host(THERE, last), timeout=10)
    assert (result["changed"], result["failed"]) == (True, True)
    assert result["msg"].startswith(f"The host still answers 10 s after the command to power off: {why}. ")
    assert "decommission_power_off_timeout" in result["msg"]


def test_a_refused_command(power_off: PowerOff) -> None:
    host = Host({"rc": 1, "stdout": "", "stderr": "Access denied\n"})
    result = power_off(host)
    assert result["failed"] and result["msg"].endswith(": Access denied") and "changed" not in result
    assert len(host.commands) == 1


def test_check_mode(power_off: PowerOff) -> None:
    host = Host(THERE)
    assert power_off(host, check_mode=True) == {"changed": True}
    assert host.commands == []


@pytest.mark.parametrize("check_mode", [False, True])
def test_the_controller_is_not_powered_off(power_off: PowerOff, check_mode: bool) -> None:
    host = Host(THERE)
    result = power_off(host, transport="local", check_mode=check_mode)
    assert (
        result["failed"]
        and "No changes made: the connection is 'local', so this would power off the controller" in result["msg"]
    )
    assert host.commands == []
