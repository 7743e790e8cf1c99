# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bad input: each gets an error that says what is wrong, and nothing is changed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lab.api import PASSWORD
from lab.parallel import CLOSED_PORT

from .conftest import Federation, RunModule, RunPlaybook, unchanged


@pytest.fixture(autouse=True)
def nothing_is_changed(filled: Federation) -> Iterator[None]:
    with unchanged(filled.retiring):
        yield


def federation_url(federation: Federation) -> str:
    return f"https://{federation.retiring.server_name}"


CONNECTIONS: dict[str, tuple[Callable[[Federation], dict[str, Any]], str]] = {
    "wrong token": (lambda f: {"access_token": "syt_wrong"}, "401 M_UNKNOWN_TOKEN"),
    "not an admin's token": (
        lambda f: {"access_token": f.population.tokens[f.population.users[0]]},
        "403 M_FORBIDDEN: You are not a server admin",
    ),
    "wrong password": (
        lambda f: {"access_token": None, "login_user": "operator", "login_password": "wrong"},
        "403 M_FORBIDDEN: Invalid username or password",
    ),
    "unknown host": (lambda f: {"base_url": "http://synapse.invalid:8008"}, "connection failed"),
    "refused": (lambda f: {"base_url": f"http://127.0.0.1:{CLOSED_PORT}"}, "Connection refused"),
    "TLS that does not verify": (lambda f: {"base_url": federation_url(f)}, "TLS failed"),
    "TLS not checked, but no client API": (
        lambda f: {"base_url": federation_url(f), "validate_certs": False},
        "text/html, not with a JSON object",
    ),
    "HTML": (lambda f: {"base_url": f"{f.retiring.base_url}/_matrix/static"}, "contains the path of an API"),
    "another server": (lambda f: {"server_name": "example.org"}, "not 'example.org'"),
    "no token": (lambda f: {"access_token": None}, "access_token, login_user"),
}


def test_connections(filled: Federation, run_playbook: RunPlaybook, tmp_path: Path) -> None:
    """In one run, with a task for each."""
    answers = tmp_path / "answers.json"
    tasks: list[dict[str, Any]] = []
    for number, (options, _message) in enumerate(CONNECTIONS.values()):
        connection = {**filled.connection, **options(filled), "all_users": True}
        connection = {key: value for key, value in connection.items() if value is not None}
        module = {"matrixops.synapse.synapse_user_deactivate": connection}
        tasks.append({**module, "register": f"answer{number}", "ignore_errors": True})
    listed = ", ".join(f"answer{number}" for number in range(len(tasks)))
    tasks.append({"ansible.builtin.copy": {"content": f"{{{{ [{listed}] | to_json }}}}", "dest": str(answers)}})
    playbook = tmp_path / "playbook.json"
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    result = run_playbook(playbook, {"host": {}})
    assert "Traceback" not in result.stdout
    for (name, (_options, message)), answer in zip(CONNECTIONS.items(), json.loads(answers.read_text()), strict=True):
        assert answer["failed"] and message in answer["msg"], f"{name}: {answer}"


def test_a_ca_that_did_sign_the_certificate(filled: Federation, run_module: RunModule) -> None:
    tls = {"base_url": federation_url(filled), "ca_path": str(filled.lab.ca_file)}
    # An environment that names another CA, as many have, must not win.
    result = run_module(
        "synapse_server_info", {**filled.connection, **tls}, REQUESTS_CA_BUNDLE="/etc/ssl/certs/ca-certificates.crt"
    )
    assert "404: answered with text/html" in result["msg"]


@pytest.mark.parametrize(
    ("name", "user_ids", "message"),
    [
        ("synapse_admin_leave_rooms", ["@nobody:{server}"], "does not exist"),
        ("synapse_admin_leave_rooms", ["@operator:elsewhere.example"], "is not an account of {server}"),
        ("synapse_user_deactivate", None, "set either user_ids or all_users"),
    ],
)
def test_accounts(
    filled: Federation, run_module: RunModule, name: str, user_ids: list[str] | None, message: str
) -> None:
    server = filled.retiring.server_name
    options: dict[str, Any] = dict(filled.connection)
    if user_ids is not None:
        options["user_ids"] = [user_id.format(server=server) for user_id in user_ids]
    result = run_module(name, options)
    assert result["failed"] and "No changes made" in result["msg"]
    assert message.format(server=server) in result["msg"]


ROLE_VARIABLES: dict[str, tuple[dict[str, Any], str]] = {
    "confirm missing": ({"decommission_confirm": None}, "decommission_confirm is not set"),
    "confirm wrong": ({"decommission_confirm": "example.org"}, "decommission_confirm is 'example.org'"),
    "a period without a unit": ({"decommission_propagation_period": "7"}, "a number and one of the units"),
    "a time without a unit": ({"decommission_unreachable_after": "1"}, "decommission_unreachable_after is '1': set it"),
    "no signing key": (
        {"decommission_signing_key_path": "/nowhere/signing.key"},
        "set decommission_ghost_checks: false",
    ),
    "a word for a boolean": ({"decommission_erase": "perhaps"}, "decommission_erase"),
    "a stage that there is not": ({"decommission_stages": ["drian"]}, "drian"),
    "a variable that there is not": (
        {"decommission_poweroff": False},
        "unknown variable decommission_poweroff: correct its spelling",
    ),
    "no tasks to power off with": ({"decommission_power_off_tasks": "nowhere.yml"}, "there is no file"),
    "no tasks, and the host is this machine": (
        {"decommission_power_off_tasks": None},
        "would power off the controller",
    ),
    "wrong password": (
        {
            "decommission_access_token": None,
            "decommission_login_user": "operator",
            "decommission_login_password": "wrong",
        },
        "403 M_FORBIDDEN: Invalid username or password",
    ),
    "a login service without its URL": (
        {"decommission_mas_client_id": "x", "decommission_mas_client_secret": "y"},
        "decommission_mas_url is not set, but decommission_mas_client_id, decommission_mas_client_secret is",
    ),
    "a login service without a secret": (
        {"decommission_mas_url": "http://127.0.0.1:1", "decommission_mas_client_id": "x"},
        "set either decommission_mas_client_id and decommission_mas_client_secret, or decommission_mas_access_token",
    ),
    "a login service that is not to be asked": (
        {
            "decommission_mas_url": "http://127.0.0.1:1",
            "decommission_mas_access_token": "mat_x",
            "decommission_delegated_auth": "synapse_only",
        },
        "remove one of the two",
    ),
    "keep somebody who is not there": (
        {"decommission_keep_users": ["@archvie:{{ decommission_confirm }}"]},
        "does not exist",
    ),
}


def test_role_variables(filled: Federation, run_playbook: RunPlaybook) -> None:
    """In one run, with a host for each."""
    hosts = {}
    for number, (variables, _message) in enumerate(ROLE_VARIABLES.values()):
        host = {**filled.role_variables, **variables}
        hosts[f"host{number}"] = {key: value for key, value in host.items() if value is not None}
    result = run_playbook("matrixops.synapse.decommission", hosts)
    output = result.stdout
    assert result.returncode == 2, output
    for host, (name, (_variables, message)) in zip(hosts, ROLE_VARIABLES.items(), strict=True):
        assert re.search(rf"^{host} .* failed=1 ", output, re.MULTILINE), f"{name}: {output}"
        said = re.findall(rf"^\w+: \[{host}\].*?(?=^\S|\Z)", output, re.MULTILINE | re.DOTALL)
        assert message in " ".join(said).replace("\n", " "), f"{name}: {output}"
    assert PASSWORD not in output and filled.retiring.admin_token not in output
