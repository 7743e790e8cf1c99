# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Power a host off, and wait until nothing answers at its address."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Iterator, Mapping

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _reachability as reachability
from ansible_collections.matrixops.synapse.plugins.plugin_utils._parent_process import ends_with_parent
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.files import Directory

# With a delay, since the connection would otherwise end before the command returns.
COMMAND = "systemd-run --on-active=2 --timer-property=AccuracySec=100ms systemctl poweroff"
NO_HOST = re.compile("timed out|no route to host|host is down", re.IGNORECASE)
"""Errors of a connection through a proxy to an address without a host. That SSH refuses a connection is not among them:
it does so from the first second of a shutdown, which may hang."""
REQUEST = {"timeout": 10, "validate_certs": False, "follow_redirects": "none"}
STOPPED = (-1, 200, 404, 410, 502, 503, 504)
"""HTTP statuses of a request without a token that no homeserver answers: -1 is without an answer, 200 and 404 are of a
web site that has taken its place, and the others of a reverse proxy. A homeserver answers 401."""
DONE = ("verified", "powered_off")
"""States of the certificate of another server on the same host, with which the host may be powered off."""


class ActionModule(ActionBase):
    """Connects as Ansible is configured to, jump hosts included."""

    _supports_check_mode = True
    _supports_async = False

    @ends_with_parent()
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(
            {
                "timeout": {"type": "int", "default": 120},
                "homeserver_url": {"type": "str"},
                "directory": {"type": "path"},
            }
        )
        self._timeout: int = arguments["timeout"]
        self._unverified: str | None = None
        if arguments.get("homeserver_url"):
            return {**result, "changed": False, **self._check_homeserver(arguments["homeserver_url"], task_vars or {})}
        problem = self._refusal(arguments.get("directory"), task_vars or {})
        if problem:
            return {**result, "failed": True, "msg": f"No changes made: {problem}"}
        if self._task.check_mode:
            return {**result, "changed": True}
        command = self._low_level_execute_command(COMMAND)
        if command["rc"] != 0:
            reason = command["stderr"].strip() or command["stdout"].strip()
            message = f"Cannot power off, check become and systemd on the host: {COMMAND}: {reason}"
            return {**result, "failed": True, "msg": message}
        return {**result, "changed": True, **self._wait_until_off()}

    # Whether to power off

    def _refusal(self, directory: str | None, variables: Mapping[str, Any]) -> str | None:
        if self._connection.transport == "local":
            return (
                "the connection is 'local', so this would power off the controller. Set decommission_power_off_tasks"
                " to a file of tasks that power off the right host"
            )
        others = list(self._unfinished_servers(directory, variables))
        if not others:
            return None
        return (
            f"{variables.get('inventory_hostname')} has the same address as {', '.join(others)}, not verified yet, so"
            " this would power off a homeserver that is still needed. Set decommission_power_off: false for all hosts"
            " with this address but one, and run again when the others are verified; or set"
            " decommission_power_off_tasks to a file of tasks that stop only this homeserver"
        )

    def _unfinished_servers(self, directory: str | None, variables: Mapping[str, Any]) -> Iterator[str]:
        """Return the hosts of the inventory with the same address, whose homeservers are to be decommissioned too."""
        hosts, own_name = variables.get("hostvars") or {}, variables.get("inventory_hostname")
        own_endpoint = self._endpoint()
        if own_endpoint is None or own_name not in hosts:
            return
        own_server = hosts[own_name].get("decommission_confirm")
        # A variable of the play is not among those of another host.
        in_play = set(variables.get("ansible_play_hosts_all") or ())
        for name in sorted(set(hosts) - {own_name}):
            server = hosts[name].get("decommission_confirm")
            is_another = name in in_play if server is None else server != own_server
            if is_another and self._has_endpoint(name, hosts[name], own_endpoint) and not _is_done(directory, server):
                yield f"{name} ({server or 'without decommission_confirm in the inventory'})"

    def _has_endpoint(self, name: str, other: Mapping[str, Any], own: reachability.Endpoint) -> bool:
        """Whether another host of the inventory is reached at the same address and port."""
        endpoint = self._endpoint(str(other.get("ansible_host") or name), other.get("ansible_port"))
        if endpoint is None or (endpoint.port, endpoint.proxy) != (own.port, own.proxy):
            return False
        return bool(reachability.addresses(own.host) & reachability.addresses(endpoint.host))

    def _endpoint(self, host: str | None = None, port: Any = None) -> reachability.Endpoint | None:
        """Return where SSH connects to, for this host or another one; or none if the connection is not by SSH."""
        if self._connection.transport != "ssh":
            return None
        if host is None:
            host, port = str(self._connection.get_option("host")), self._connection.get_option("port")
        return reachability.ssh_endpoint(self._connection, host, int(port) if port else None)

    # Whether it is off

    def _wait_until_off(self) -> dict[str, Any]:
        if self._timeout == 0:
            return _not_verified("the time to check it is 0 s (decommission_power_off_timeout)")
        self._disconnect()
        found = reachability.wait_for_silence(self._host_answer, self._timeout)
        if found.answer:
            message = (
                f"The host still answers {self._timeout} s after the command to power off: {found.answer}. Check the"
                " host, or set decommission_power_off_timeout to more seconds"
            )
            return {"failed": True, "msg": message, "verified": False}
        return self._conclude(found.elapsed)

    def _conclude(self, elapsed: float) -> dict[str, Any]:
        verified = {"verified": True} if self._unverified is None else _not_verified(self._unverified)
        return {**verified, "elapsed": elapsed}

    def _host_answer(self) -> str | None:
        """Return what answers at the address of the host, or None if nothing does."""
        endpoint = self._endpoint()
        if endpoint is not None and endpoint.proxy is None:
            return reachability.tcp_answer(endpoint)
        what = f"connections go through {endpoint.proxy}" if endpoint else "the connection is not by SSH"
        self._unverified = f"{what}, so that the controller cannot check the ports of the host"
        return self._connection_answer()

    def _connection_answer(self) -> str | None:
        self._disconnect()
        try:
            self._low_level_execute_command("exit 0", sudoable=False)
        except AnsibleConnectionFailure as failure:
            return None if NO_HOST.search(str(failure)) else str(failure)
        return "a login succeeds"

    def _disconnect(self) -> None:
        with suppress(AnsibleError):
            self._connection.reset()

    # Whether the homeserver is off

    def _check_homeserver(self, base_url: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Check from here that no homeserver answers any more: tasks of the user's have powered it off."""
        if self._task.check_mode:
            return {}
        if self._timeout == 0:
            return _not_verified("the time to check it is 0 s (decommission_power_off_timeout)")
        found = reachability.wait_for_silence(lambda: self._homeserver_answer(base_url, variables), self._timeout)
        if found.answer and self._unverified is None:
            message = (
                f"The homeserver still answers {self._timeout} s after the power-off: {found.answer}. Check"
                " decommission_power_off_method or decommission_power_off_tasks, or set"
                " decommission_power_off_timeout to more seconds"
            )
            return {"failed": True, "msg": message, "verified": False}
        return self._conclude(found.elapsed)

    def _homeserver_answer(self, base_url: str, variables: dict[str, Any]) -> str | None:
        url = f"{base_url.rstrip('/')}/_matrix/client/v3/account/whoami"
        self._unverified = None
        # An HTTP proxy that the environment names may not know this URL.
        for use_proxy in (True, False):
            arguments = {"url": url, "use_proxy": use_proxy, **REQUEST}
            try:
                answer = self._execute_module("ansible.builtin.uri", module_args=arguments, task_vars=variables)
            except AnsibleConnectionFailure as failure:
                return self._unreachable_host_answer(failure)
            status = answer.get("status")
            if status is None:
                self._unverified = f"{url} could not be requested: {answer.get('msg')}"
                return self._unverified
            if status not in STOPPED:
                return f"GET {url}: {status}"
        return None

    def _unreachable_host_answer(self, failure: AnsibleConnectionFailure) -> str | None:
        """Return what answers at the address of the host that the request would have been sent from."""
        self._disconnect()
        answer = self._host_answer()
        if answer:
            self._unverified = f"the homeserver could not be requested from the host: {failure}; {answer}"
        return answer


def _not_verified(reason: str) -> dict[str, Any]:
    return {"verified": False, "reason": reason, "warnings": [f"It is not verified that the host is off: {reason}"]}


def _is_done(directory: str | None, server_name: str | None) -> bool:
    certificate = Directory(directory).read(str(server_name)) if directory and server_name else None
    return certificate is not None and certificate["state"] in DONE
