# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The base class of the modules: the connection options, and the conversion of errors of the client to failed tasks."""

from __future__ import annotations

from contextlib import closing, contextmanager, nullcontext
from typing import Any, ContextManager, Iterator

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

from ._decommission.lease import Lease
from ._decommission.progress import Notice, StepProgress
from ._mas.client import MasClient
from ._mas.service import MasService
from ._synapse.accounts import localpart_of
from ._synapse.client import Client
from ._synapse.connection import REQUESTS_IMPORT_ERROR
from ._synapse.errors import FatalError, SynapseError
from ._synapse.server import token_endpoint
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
    "mas_url": {"type": "str"},
    "mas_client_id": {"type": "str"},
    "mas_client_secret": {"type": "str", "no_log": True},
    "mas_access_token": {"type": "str", "no_log": True},
    "server_name": {"type": "str"},
    "lease": {"type": "str"},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "timeout": {"type": "int", "default": 60},
}

PROGRESS_OPTIONS: dict[str, dict[str, Any]] = {"progress_path": {"type": "path"}}
MAS_LOGIN = ("mas_client_id", "mas_client_secret", "mas_access_token")
OPERATOR_LIFETIME = 3600
"""Seconds after which the session of one task expires, should it not be possible to end it."""
INVALID_OPTION = "INVALID_OPTION"
"""The I(errcode) of failures that remain until an option is corrected."""


class SynapseModule(AnsibleModule):
    """A module with the options of the connection, and further ones."""

    def __init__(self, options: dict[str, dict[str, Any]], *, shows_progress: bool = False, **more: Any) -> None:
        """
        :param shows_progress: whether the steps of C(Client.map) are written to the file of an option.
        """
        more.setdefault("supports_check_mode", True)
        self._has_valid_options = False
        self._shows_progress = shows_progress
        super().__init__(
            argument_spec={**CONNECTION_OPTIONS, **options, **(PROGRESS_OPTIONS if shows_progress else {})},
            required_together=[("mas_client_id", "mas_client_secret")],
            required_one_of=[("access_token", "login_user"), *more.pop("required_one_of", ())],
            required_by={"login_password": ("login_user",)},
            **more,
        )
        self._check_login()
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
            with self._open_client(with_login=not token_only) as client, self._watch(client):
                if not token_only:
                    self._check_server_name(client)
                lease = None if self.check_mode else self.params["lease"]
                with Lease(client, lease) if lease and changes else nullcontext():
                    if lease and changes and isinstance(client.service, MasService):
                        # Only this run makes changes now, so that sessions of other runs are from killed ones.
                        client.service.sessions.end_leftovers()
                    with self._steps_shown(client):
                        yield client
                if lease and release_lease:
                    Lease(client, lease).release()
        except OSError as error:
            self.fail_json(msg=str(error))
        except SynapseError as error:
            self.fail_json(msg=with_advice(str(error), error.advice), status=error.status, errcode=error.errcode)

    @contextmanager
    def _steps_shown(self, client: Client) -> Iterator[None]:
        if not self._shows_progress:
            yield
            return
        client.on_step = progress = StepProgress(self.params["progress_path"])
        try:
            yield
        finally:
            progress.remove()

    def _watch(self, client: Client) -> ContextManager[object]:
        """Watch for requests without an answer, and show them beside the progress."""
        return client.watch(Notice(self.params.get("progress_path")).show)

    def _require_requests(self) -> None:
        if REQUESTS_IMPORT_ERROR is not None:
            self.fail_json(
                msg=f"{missing_required_lib('requests')}. On Debian and Ubuntu, install the package python3-requests,"
                " or set decommission_install_requirements: true for the role decommission",
                exception=REQUESTS_IMPORT_ERROR,
            )

    @contextmanager
    def _open_client(self, *, with_login: bool) -> Iterator[Client]:
        """A client with the options of the connection, logged in if I(login_user) is set.

        A session that is opened here is ended with the context.
        """
        params = self.params
        login = with_login and params["login_user"] is not None
        verify: bool | str = params["validate_certs"] and (params["ca_path"] or True)
        client = Client(
            params["base_url"],
            # A login has precedence over a token, which the environment may set.
            None if login else params["access_token"],
            verify=verify,
            timeout=params["timeout"],
            connections=params.get("concurrency", 1),
        )
        mas = self._mas_client(client, verify)
        with closing(mas) if mas is not None else nullcontext(), client:
            service = None if mas is None else MasService(mas, client, params["lease"])
            if login and params["login_password"] is not None:
                client.login(params["login_user"], params["login_password"])
            elif login and service is not None:
                self._log_in_by_service(client, service)
            client.service = service
            yield client

    def _mas_client(self, client: Client, verify: bool | str) -> MasClient | None:
        params = self.params
        if params["mas_url"] is None:
            return None
        return MasClient(
            params["mas_url"],
            client_id=params["mas_client_id"],
            client_secret=params["mas_client_secret"],
            access_token=params["mas_access_token"],
            verify=verify,
            timeout=params["timeout"],
            connections=params.get("concurrency", 1),
            check_write=client.check_write,
            token_url=lambda: token_endpoint(client),
        )

    def _log_in_by_service(self, client: Client, service: MasService) -> None:
        """Act as the operator by a personal session."""
        self._check_mas_name(service.mas)
        lifetime = self.params.get("lifetime", OPERATOR_LIFETIME)
        token = service.open_session(localpart_of(self.params["login_user"]), lifetime, admin=True)
        client.use_session(token, lambda: service.end_session(token))

    @staticmethod
    def mas(client: Client) -> MasService:
        """The service of a client, for modules that need one.

        :raises FatalError: if the option I(mas_url) is not set.
        """
        if not isinstance(client.service, MasService):
            raise FatalError(
                "No changes made: set mas_url (decommission_mas_url) to the URL of the Matrix Authentication Service",
                errcode=INVALID_OPTION,
            )
        return client.service

    def _check_login(self) -> None:
        """Fail unless there is a way to log in, to Synapse and to the service that handles login."""
        params = self.params
        problem = ""
        if params["mas_url"] is None:
            if any(params[option] for option in MAS_LOGIN):
                problem = f"{', '.join(MAS_LOGIN)} need mas_url (decommission_mas_url): set it"
            elif params["login_user"] is not None and params["login_password"] is None:
                problem = "login_user is set, but login_password is not: set it, or mas_url (decommission_mas_url)"
        elif (params["mas_client_id"] is None) is (params["mas_access_token"] is None):
            problem = "mas_url is set: set either mas_client_id and mas_client_secret, or mas_access_token"
        if problem:
            self.fail_json(msg=f"No changes made: {problem}")

    def exit_json(self, **result: Any) -> None:
        super().exit_json(**self._with_printable_diff(result))

    def fail_json(self, msg: str, **result: Any) -> None:
        if not self._has_valid_options:
            result.setdefault("errcode", INVALID_OPTION)
        super().fail_json(msg=printable(msg), **self._with_printable_diff(result))

    def _with_printable_diff(self, result: dict[str, Any]) -> dict[str, Any]:
        """The result with a printable diff, or without one except in diff mode: it may have the name of every account.

        Ansible prints diffs unescaped, with control characters for the terminal.
        """
        diff = result.pop("diff", None)
        if not self._diff or diff is None:
            return result
        texts = {key: text.split("\n") for key, text in diff.items() if isinstance(text, str)}
        return {**result, "diff": {**diff, **{key: "\n".join(map(printable, lines)) for key, lines in texts.items()}}}

    def end(self, result: dict[str, Any], problem: str = "", error: SynapseError | None = None) -> None:
        """Exit with the result, or fail with it if there is a problem.

        :param error: the cause of the problem, if it was a request.
        """
        if problem:
            problem = with_advice(problem, error.advice if error else "")
            self.fail_json(msg=problem, status=error and error.status, errcode=error and error.errcode, **result)
        self.exit_json(**result)

    def _check_mas_name(self, mas: MasClient) -> None:
        expected = self.params["server_name"]
        if expected is not None and mas.server_name != expected:
            raise FatalError(
                f"No changes made: the Matrix Authentication Service at {mas.url} is for {mas.server_name}, not"
                f" '{expected}'. Correct mas_url (decommission_mas_url) or server_name (decommission_confirm)",
                errcode=INVALID_OPTION,
            )

    def _check_server_name(self, client: Client) -> None:
        expected = self.params["server_name"]
        if isinstance(client.service, MasService):
            self._check_mas_name(client.service.mas)
            if client.service.mas.server_name != client.server_name:
                raise FatalError(
                    f"No changes made: the Matrix Authentication Service at {client.service.mas.url} is for"
                    f" {client.service.mas.server_name}, but the homeserver is {client.server_name}. Correct mas_url"
                    " (decommission_mas_url) or base_url (decommission_base_url)",
                    errcode=INVALID_OPTION,
                )
        if expected is not None and client.server_name != expected:
            raise FatalError(
                f"No changes made: the server at {client.base_url} is {client.server_name}, not '{expected}'. Correct"
                " base_url (decommission_base_url) or server_name (decommission_confirm)",
                errcode=INVALID_OPTION,
            )
