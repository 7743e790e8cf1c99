# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.matrixops.synapse.plugins.action import power_off as plugin
from ansible_collections.matrixops.synapse.plugins.plugin_utils._reachability import Endpoint
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report import record
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.files import Directory
from ansible_collections.matrixops.synapse.tests.stubs.helpers import SERVER, Clock, Json

REFUSED = AnsibleConnectionFailure(
    "Failed to connect to the host via ssh: connect to host h port 22: Connection refused"
)
GONE = AnsibleConnectionFailure("Failed to connect to the host via ssh: connect to host h port 22: No route to host")
SILENT = AnsibleConnectionFailure(
    "Failed to connect to the host via ssh: connect to host h port 22: Connection timed out"
)
THERE: Json = {"rc": 0, "stdout": "", "stderr": ""}
URL = "http://h:8008"

PowerOff = Callable[..., Json]


class Host:
    """What comes of each command: an answer, or what a connection raises; and what answers by TCP. The last goes on."""

    def __init__(self, *comes: Any, tcp: tuple[str | None, ...] = (None,), statuses: tuple[Any, ...] = (-1,)) -> None:
        self.comes, self.tcp, self.statuses = list(comes), list(tcp), list(statuses)
        self.commands: list[str] = []
        self.proxy: str | None = None
        self.proxied: int | None = -1

    def execute(self, command: str, sudoable: bool = True) -> Json:
        self.commands.append(f"{'become: ' if sudoable else ''}{command}")
        return dict(self._next(self.comes))

    def tcp_answer(self, endpoint: Endpoint) -> str | None:
        assert endpoint == Endpoint("h", 22)
        answer: str | None = self._next(self.tcp)
        return answer

    def request(self, name: str, *, module_args: Json, task_vars: Json) -> Json:
        assert (name, module_args["url"]) == ("ansible.builtin.uri", f"{URL}/_matrix/client/v3/account/whoami")
        # With the proxy of the environment, and without.
        status = self._next(self.statuses) if module_args["use_proxy"] or self.proxied is None else self.proxied
        return {"failed": True, "msg": "no Python"} if status is None else {"status": status}

    def _next(self, answers: list[Any]) -> Any:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def reset() -> None:
    raise AnsibleError("there was no connection to reset")


@pytest.fixture
def power_off(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> PowerOff:
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})

    def run(host: Host, variables: Json | None = None, *, check_mode: bool = False, **options: Any) -> Json:
        options = {"timeout": 120, "transport": "ssh", "homeserver_url": None, "directory": None, **options}
        action = plugin.ActionModule.__new__(plugin.ActionModule)
        action._task = SimpleNamespace(check_mode=check_mode)
        settings = {"host": "h", "port": None}
        action._connection = SimpleNamespace(transport=options["transport"], reset=reset, get_option=settings.get)
        action._low_level_execute_command = host.execute
        action._execute_module = host.request
        action.validate_argument_spec = lambda _spec: (None, options)
        monkeypatch.setattr(plugin.reachability, "tcp_answer", host.tcp_answer)
        monkeypatch.setattr(
            plugin.reachability, "ssh_endpoint", lambda _connection, name, port: Endpoint(name, port or 22, host.proxy)
        )
        monkeypatch.setattr(plugin.reachability, "addresses", lambda name: {name.split("-")[0]})
        return dict(action.run(task_vars=variables))

    return run


def test_it_goes_down(power_off: PowerOff) -> None:
    host = Host(THERE, tcp=("established", "refused", None, None, "refused", None))
    assert power_off(host) == {"changed": True, "elapsed": 15.0, "verified": True}
    assert host.commands == [f"become: {plugin.COMMAND}"]


def test_it_does_not_go_down(power_off: PowerOff) -> None:
    """SSH is silent, but a port is not."""
    result = power_off(Host(THERE, SILENT, tcp=("h port 22: TCP connection established",)), timeout=10)
    assert (result["changed"], result["failed"], result["verified"]) == (True, True, False)
    expected = "The host still answers 10 s after the command to power off: h port 22: TCP connection established. "
    assert result["msg"].startswith(expected)
    assert "decommission_power_off_timeout" in result["msg"]


@pytest.mark.parametrize("last", [GONE, SILENT])
@pytest.mark.parametrize("transport", ["ssh", "docker"])
def test_through_a_proxy_it_is_not_verified(power_off: PowerOff, last: Exception, transport: str) -> None:
    host = Host(THERE, THERE, REFUSED, last, tcp=("not asked",))
    host.proxy = "bastion"
    result = power_off(host, transport=transport)
    assert (result["verified"], result["elapsed"], "failed" in result) == (False, 6.0, False)
    how = "connections go through bastion" if transport == "ssh" else "the connection is not by SSH"
    assert result["reason"] == f"{how}, so that the controller cannot check the ports of the host"
    assert result["warnings"] == [f"It is not verified that the host is off: {result['reason']}"]
    assert host.commands == [f"become: {plugin.COMMAND}", *["exit 0"] * 5]


@pytest.mark.parametrize(("last", "why"), [(THERE, "a login succeeds"), (REFUSED, str(REFUSED))])
def test_through_a_proxy_it_does_not_go_down(power_off: PowerOff, last: Any, why: str) -> None:
    host = Host(THERE, last)
    host.proxy = "bastion"
    result = power_off(host, timeout=10)
    assert result["failed"] and why in result["msg"]


@pytest.mark.parametrize("options", [{}, {"homeserver_url": URL}])
def test_without_time_nothing_is_checked(power_off: PowerOff, options: Json) -> None:
    result = power_off(Host(THERE, tcp=("established",), statuses=(401,)), timeout=0, **options)
    assert result["verified"] is False and "decommission_power_off_timeout" in result["reason"]
    assert result["changed"] is not bool(options)


def test_a_refused_command(power_off: PowerOff) -> None:
    host = Host({"rc": 1, "stdout": "", "stderr": "Access denied\n"})
    result = power_off(host)
    assert result["failed"] and result["msg"].endswith(": Access denied") and "changed" not in result
    assert len(host.commands) == 1


def test_check_mode(power_off: PowerOff) -> None:
    host = Host(THERE, statuses=(401,))
    assert power_off(host, check_mode=True) == {"changed": True}
    assert power_off(host, check_mode=True, homeserver_url=URL) == {"changed": False}
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


# The homeserver, after tasks of the user's


@pytest.mark.parametrize("status", plugin.STOPPED)
def test_the_homeserver_has_stopped(power_off: PowerOff, status: int) -> None:
    host = Host(statuses=(401, 502, 401, status))
    assert power_off(host, homeserver_url=f"{URL}/") == {"changed": False, "elapsed": 9.0, "verified": True}
    assert host.commands == []


@pytest.mark.parametrize("status", [401, 403, 429, 500])
def test_the_homeserver_still_answers(power_off: PowerOff, status: int) -> None:
    """The tasks did nothing."""
    result = power_off(Host(statuses=(status,)), homeserver_url=URL, timeout=10)
    assert result["failed"] and "The homeserver still answers 10 s after the power-off: " in result["msg"]
    assert f"whoami: {status}. Check decommission_power_off_method" in result["msg"]


def test_a_proxy_does_not_hide_the_homeserver(power_off: PowerOff) -> None:
    host = Host(statuses=(502,))
    host.proxied = 401
    assert power_off(host, homeserver_url=URL, timeout=10)["failed"]


def test_the_host_of_the_homeserver_is_off(power_off: PowerOff) -> None:
    host = Host(statuses=(401, GONE), tcp=("refused", None))
    assert power_off(host, homeserver_url=URL) == {"changed": False, "elapsed": 6.0, "verified": True}


def test_a_host_that_answers_but_cannot_be_logged_in_to(power_off: PowerOff) -> None:
    result = power_off(Host(statuses=(REFUSED,), tcp=("h port 22: Connection refused",)), homeserver_url=URL, timeout=9)
    assert result["verified"] is False and "failed" not in result
    assert result["reason"].startswith("the homeserver could not be requested from the host: ")


def test_a_host_without_python(power_off: PowerOff) -> None:
    result = power_off(Host(statuses=(None,)), homeserver_url=URL, timeout=9)
    assert result["verified"] is False and "could not be requested: no Python" in result["reason"]


# Several homeservers on one host


def with_others(**others: Json) -> Json:
    own = {"ansible_host": "h", "decommission_confirm": SERVER}
    play_hosts = ["me", *(name for name in others if name.startswith("play"))]
    hosts = {"me": own, **others}
    return {"inventory_hostname": "me", "ansible_play_hosts_all": play_hosts, "hostvars": hosts}


OTHER: Json = {"ansible_host": "h", "decommission_confirm": "b.example"}


@pytest.mark.parametrize("other", [OTHER, {**OTHER, "ansible_host": "h-alias"}, {**OTHER, "ansible_port": "22"}])
@pytest.mark.parametrize("check_mode", [False, True])
def test_a_host_with_another_homeserver_stays_on(power_off: PowerOff, other: Json, check_mode: bool) -> None:
    host = Host(THERE)
    result = power_off(host, with_others(b=other), check_mode=check_mode)
    assert result["failed"] and result["msg"].startswith(
        "No changes made: me has the same address as b (b.example), not verified yet"
    )
    assert "decommission_power_off: false" in result["msg"]
    assert host.commands == []


def test_another_host_of_the_play_is_a_homeserver(power_off: PowerOff) -> None:
    result = power_off(Host(THERE), with_others(play1={"ansible_host": "h"}))
    assert "play1 (without decommission_confirm in the inventory), not verified yet" in result["msg"]


@pytest.mark.parametrize(
    "other",
    [
        {**OTHER, "ansible_host": "elsewhere"},
        {**OTHER, "ansible_port": 2222},  # another machine behind the same router
        {**OTHER, "decommission_confirm": SERVER},
        {"ansible_host": "h"},
    ],
)
def test_other_hosts_do_not_matter(power_off: PowerOff, other: Json) -> None:
    assert power_off(Host(THERE), with_others(b=other))["verified"]


@pytest.mark.parametrize(
    ("state", "powered_off"), [("verified", True), ("powered_off", True), ("waiting", False), ("failed", False)]
)
def test_a_homeserver_that_is_done_does_not_hold_up(
    power_off: PowerOff, tmp_path: Path, state: str, powered_off: bool
) -> None:
    certificate = {**record.new("b.example", 0), "state": state}
    Directory(str(tmp_path)).write(certificate, "")
    result = power_off(Host(THERE), with_others(b=OTHER), directory=str(tmp_path))
    assert result.get("verified", False) is powered_off
