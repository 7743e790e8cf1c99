# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The base class of the modules: the connection options, and the conversion of errors of the client to failed tasks."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import Any, Iterator

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

from ._decommission.lease import Lease
from ._synapse.client import Client
from ._synapse.connection import REQUESTS_IMPORT_ERROR
from ._synapse.errors import FatalError, SynapseError
from ._text import printable, with_advice

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

INVALID_OPTION = "INVALID_OPTION"
"""The I(errcode) of failures that remain until an option is corrected."""


def _printable_diff(result: dict[str, Any]) -> dict[str, Any]:
    """The result with a printable diff. Ansible prints diffs unescaped, with control characters for the terminal."""
    diff = result.get("diff")
    if not isinstance(diff, dict):
        return result
    lines = {key: "\n".join(map(printable, text.split("\n"))) for key, text in diff.items() if isinstance(text, str)}
    return {**result, "diff": {**diff, **lines}}


class SynapseModule(AnsibleModule):
    """A module with the options of the connection, and further ones."""

    def __init__(self, options: dict[str, dict[str, Any]], **more: Any) -> None:
        more.setdefault("supports_check_mode", True)
        self._has_valid_options = False
        super().__init__(
            argument_spec={**CONNECTION_OPTIONS, **options},
            required_together=[("login_user", "login_password")],
            required_one_of=[("access_token", "login_user"), *more.pop("required_one_of", ())],
            **more,
        )
        for option in ("timeout", "concurrency", "max_passes", "wait_timeout", "rate", "poll_interval"):
            if self.params.get(option, 1) < 1:
                self.fail_json(msg=f"No changes made: {option} is {self.params[option]}, but must be 1 or more")
        self._has_valid_options = True

    @contextmanager
    def client(
        self, *, token_only: bool = False, changes: bool = False, release_lease: bool = False
    ) -> Iterator[Client]:
        """A client that has logged in and verified the server name.

        :param token_only: do neither, only use the access token.
        :param changes: whether the module changes something. Unless in check mode, the lease is held meanwhile, so that
            no other run makes changes.
        :param release_lease: whether to release the lease at the end.

        A C(SynapseError) or C(OSError) that is raised in the context, or when it ends, fails the module.
        """
        self._require_requests()
        try:
            with self._open_client(with_login=not token_only) as client:
                if not token_only:
                    self._check_server_name(client)
                lease = None if self.check_mode else self.params["lease"]
                with Lease(client, lease) if lease and changes else nullcontext():
                    yield client
                if lease and release_lease:
                    Lease(client, lease).release()
        except OSError as error:
            self.fail_json(msg=str(error))
        except SynapseError as error:
            self.fail_json(msg=with_advice(str(error), error.advice), status=error.status, errcode=error.errcode)

    def _require_requests(self) -> None:
        if REQUESTS_IMPORT_ERROR is not None:
            self.fail_json(
                msg=f"{missing_required_lib('requests')}. On Debian and Ubuntu, install the package python3-requests,"
                " or set decommission_install_requirements: true for the role decommission",
                exception=REQUESTS_IMPORT_ERROR,
            )

    @contextmanager
    def _open_client(self, *, with_login: bool) -> Iterator[Client]:
        """A client with the options of the connection, logged in if I(login_user) is set."""
        params = self.params
        login = with_login and params["login_user"] is not None
        verify: bool | str = params["validate_certs"] and (params["ca_path"] or True)
        with Client(
            params["base_url"],
            # A login has precedence over a token, which the environment may set.
            None if login else params["access_token"],
            verify=verify,
            timeout=params["timeout"],
            connections=params.get("concurrency", 1),
        ) as client:
            if login:
                client.login(params["login_user"], params["login_password"])
            yield client

    def exit_json(self, **result: Any) -> None:
        super().exit_json(**_printable_diff(result))

    def fail_json(self, msg: str, **result: Any) -> None:
        if not self._has_valid_options:
            result.setdefault("errcode", INVALID_OPTION)
        super().fail_json(msg=printable(msg), **_printable_diff(result))

    def end(self, result: dict[str, Any], problem: str = "", error: SynapseError | None = None) -> None:
        """Exit with the result, or fail with it if there is a problem.

        :param error: the cause of the problem, if it was a request.
        """
        if problem:
            problem = with_advice(problem, error.advice if error else "")
            self.fail_json(msg=problem, status=error and error.status, errcode=error and error.errcode, **result)
        self.exit_json(**result)

    def _check_server_name(self, client: Client) -> None:
        expected = self.params["server_name"]
        if expected is not None and client.server_name != expected:
            raise FatalError(
                f"No changes made: the server at {client.base_url} is {client.server_name}, not '{expected}'. Correct"
                " base_url (decommission_base_url) or server_name (decommission_confirm)",
                errcode=INVALID_OPTION,
            )
