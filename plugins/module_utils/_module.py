# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules share: the connection options, and how an error of the client becomes a failed task."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import Any, Iterator

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

from ._client import REQUESTS_IMPORT_ERROR, Client, SynapseError, printable
from ._lease import Lease

CONNECTION_OPTIONS: dict[str, dict[str, Any]] = {
    "base_url": {
        "type": "str",
        "default": "http://localhost:8008",
        "fallback": (env_fallback, ["SYNAPSE_BASE_URL"]),
    },
    "access_token": {
        "type": "str",
        "no_log": True,
        "fallback": (env_fallback, ["SYNAPSE_ACCESS_TOKEN"]),
    },
    "login_user": {"type": "str"},
    "login_password": {"type": "str", "no_log": True},
    "server_name": {"type": "str"},
    "lease": {"type": "str"},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "timeout": {"type": "int", "default": 60},
}


def _as_shown(result: dict[str, Any]) -> dict[str, Any]:
    """A result whose diff, which Ansible shows as it is, has nothing in it that a terminal might obey."""
    diff = result.get("diff")
    if not isinstance(diff, dict):
        return result
    lines = {key: "\n".join(map(printable, text.split("\n"))) for key, text in diff.items() if isinstance(text, str)}
    return {**result, "diff": {**diff, **lines}}


def _with_advice(message: str, error: SynapseError | None) -> str:
    if error is None or not error.advice:
        return message
    return f"{message.rstrip('.')}. {error.advice}"


class SynapseModule(AnsibleModule):
    """A module of this collection: any options, and those of the connection."""

    def __init__(self, options: dict[str, dict[str, Any]], **more: Any) -> None:
        more.setdefault("supports_check_mode", True)
        super().__init__(
            argument_spec={**CONNECTION_OPTIONS, **options},
            required_together=[("login_user", "login_password")],
            required_one_of=[("access_token", "login_user"), *more.pop("required_one_of", ())],
            **more,
        )
        for option in ("timeout", "concurrency", "max_passes", "wait_timeout", "rate", "poll_interval"):
            if self.params.get(option, 1) < 1:
                self.fail_json(msg=f"Nothing was changed: {option} is {self.params[option]}, but must be 1 or more.")

    @contextmanager
    def client(self, connections: int = 16, *, token_only: bool = False, changes: bool = False) -> Iterator[Client]:
        """A client that has logged in and has seen that this is the server that was meant.

        :param token_only: it does neither, and only has the access token.
        :param changes: something is to be changed, which only one run at a time may do. Not in check mode.

        A C(SynapseError) or C(OSError) out of the context, or out of closing it, fails the module.
        """
        if REQUESTS_IMPORT_ERROR is not None:
            self.fail_json(
                msg=f"{missing_required_lib('requests')}. Debian and Ubuntu have it in the package python3-requests,"
                " which the role decommission installs where decommission_install_requirements is true",
                exception=REQUESTS_IMPORT_ERROR,
            )
        params = self.params
        login = params["login_user"] is not None and not token_only
        verify: bool | str = params["validate_certs"] and (params["ca_path"] or True)
        try:
            with Client(
                params["base_url"],
                # An environment that has a token must not keep anybody from logging in.
                None if login else params["access_token"],
                verify=verify,
                timeout=params["timeout"],
                connections=connections,
            ) as client:
                if login:
                    client.login(params["login_user"], params["login_password"])
                if not token_only:
                    self._check_server_name(client)
                lease = self.params["lease"] if changes and not self.check_mode else None
                with Lease(client, lease) if lease else nullcontext():
                    yield client
        except OSError as error:
            self.fail_json(msg=str(error))
        except SynapseError as error:
            self.fail_json(msg=_with_advice(str(error), error), status=error.status, errcode=error.errcode)

    def exit_json(self, **result: Any) -> None:
        super().exit_json(**_as_shown(result))

    def fail_json(self, msg: str, **result: Any) -> None:
        super().fail_json(msg=printable(msg), **_as_shown(result))

    def end(self, result: dict[str, Any], problem: str = "", error: SynapseError | None = None) -> None:
        """Return the result; as a failure, if there is a problem, which the error may have been the cause of."""
        if problem:
            problem = _with_advice(problem, error)
            self.fail_json(msg=problem, status=error and error.status, errcode=error and error.errcode, **result)
        self.exit_json(**result)

    def _check_server_name(self, client: Client) -> None:
        expected = self.params["server_name"]
        if expected is not None and client.server_name != expected:
            raise SynapseError(
                f"Nothing was changed: the server at {client.base_url} is {client.server_name}, not '{expected}'"
            )
