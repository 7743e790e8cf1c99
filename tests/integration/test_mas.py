# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Synapse that has handed login over to a Matrix Authentication Service, of which there is a stub."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from lab.api import Json, quote
from lab.authentication import AuthenticationService
from lab.proxy import Proxy
from lab.waiting import wait_until

from .conftest import ROOT, Federation, RunModule, RunPlaybook, StartPlaybook, unchanged
from .test_kill import kill, read_until
from .test_playbook import PLAYBOOK, confirmed_by

LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "decommission_cordon": True}


def accounts(federation: Federation) -> list[Json]:
    """All accounts that are listed there: no guests."""
    everybody = {"guests": "false", "locked": "true", "deactivated": "true", "limit": 1000}
    users: list[Json] = federation.retiring.admin("GET", "/v2/users", params=everybody)["users"]
    return users


def admins(federation: Federation) -> set[str]:
    return {account["name"][1:].partition(":")[0] for account in accounts(federation) if account["admin"]}


def by_operator(federation: Federation, service: AuthenticationService) -> dict[str, Any]:
    """The options of a module that logs in by the service, as the operator."""
    return {"base_url": federation.retiring.base_url, "login_user": "operator", **service.options}


def host_of(federation: Federation, service: AuthenticationService) -> dict[str, Any]:
    """The variables of the host, with the operator's session by the service."""
    variables = {**federation.role_variables, **service.role_variables, "decommission_login_user": "operator"}
    variables.pop("decommission_access_token", None)
    return variables


def assert_closed(federation: Federation, service: AuthenticationService, *, sessions: bool = True) -> None:
    """By Synapse, the service and the remote server: nobody but the admins is active, and nobody is in a room."""
    for account in accounts(federation):
        assert account["deactivated"] is not account["admin"], account
        assert account["erased"] is account["deactivated"], account
    assert service.mas.active == admins(federation)
    assert federation.retiring.members_of(federation.retiring.server_name) == {}
    wait_until(lambda: not federation.ghosts(), "the other server lists nobody")
    assert service.mas.active_sessions == [] or not sessions


def messages_of(federation: Federation, room_id: str, user_id: str) -> list[Json]:
    """What the messages of an account in a room say."""
    query = {"dir": "f", "limit": 1000, "filter": json.dumps({"senders": [user_id], "types": ["m.room.message"]})}
    chunk = federation.retiring.admin("GET", f"/v1/rooms/{quote(room_id)}/messages", params=query)["chunk"]
    return [event["content"] for event in chunk]


def test_modules(migrated: Federation, service: AuthenticationService, run_module: RunModule) -> None:
    connection = by_operator(migrated, service)
    retiring = migrated.retiring
    service.mas.add_user("phantom")
    info = run_module("mas_users_info", connection)
    assert info["personal_sessions"] is True and info["registration"]["open"] is True
    assert info["only_in_service"] == [retiring.user_id("phantom")]
    assert info["only_in_synapse"] and all("_bridge_" in name for name in info["only_in_synapse"])
    assert info["counts"]["active"] == len([user for user in info["users"] if user["status"] == "active"])

    user_id, room_id = migrated.population.users[1], migrated.population.big_room
    retiring.send(service.sign_in("user0001").token, room_id, "a secret")
    assert messages_of(migrated, room_id, user_id) == [{"msgtype": "m.text", "body": "a secret"}]
    redacted = run_module("synapse_user_deactivate", {**connection, "user_ids": [user_id], "redact": True})
    assert redacted["deactivated"] == 1 and redacted["not_redacted"] == []
    assert messages_of(migrated, room_id, user_id) == [{}]

    options = {**connection, "all_users": True}
    before = set(service.mas.active)
    planned = run_module("mas_user_deactivate", options, "--check")
    assert planned["changed"] and service.mas.active == before
    done = run_module("mas_user_deactivate", options)
    assert done["deactivated"] == planned["deactivated"] > 10
    for account in accounts(migrated):
        assert account["deactivated"] is account["erased"] is not account["admin"], account
    assert service.mas.active == admins(migrated)
    again = run_module("mas_user_deactivate", options)
    assert not again["changed"] and again["unchanged"] >= done["deactivated"]
    assert service.mas.active_sessions == []


def test_faults(migrated: Federation, service: AuthenticationService, run_module: RunModule) -> None:
    """First what is refused without a change, and then all accounts, while jobs are late and the service stops."""
    connection = by_operator(migrated, service)
    everybody = {**connection, "server_name": migrated.retiring.server_name, "all_users": True}
    before = set(service.mas.active)

    def refused(name: str = "mas_user_deactivate", **options: Any) -> str:
        result = run_module(name, {**everybody, **options})
        assert result["failed"] and not result["changed"] and service.mas.active == before
        return str(result["msg"])

    service.mas.server_name = "other.example"
    assert "is for other.example, not 'localhost" in refused()
    service.mas.server_name = migrated.retiring.server_name
    service.mas.admin_clients = False
    assert "add the ID of the client to policy: data: admin_clients" in refused()
    service.mas.admin_clients = True
    assert "add the resource adminapi" in refused(mas_url=f"{service.url}elsewhere")
    assert "Check that the Matrix Authentication Service is running" in refused(mas_url="http://127.0.0.1:19190")
    wrong = service.mas.issue_token("urn:matrix:client:api:*")
    message = refused(mas_access_token=wrong, mas_client_id=None, mas_client_secret=None)
    assert "Missing urn:mas:admin scope" in message and wrong not in message

    service.mas.job_delay, service.mas.failing_jobs = 0.5, 2
    service.outage = ("/deactivate", 3.0)
    done = run_module("mas_user_deactivate", everybody)
    assert not done.get("failed"), done
    assert service.outage is None
    assert service.mas.active == admins(migrated)
    for account in accounts(migrated):
        assert account["deactivated"] is account["erased"] is not account["admin"], account


@pytest.mark.nightly(category="variations")
def test_old_service(migrated: Federation, service: AuthenticationService, run_playbook: RunPlaybook) -> None:
    """Before version 1.5: no personal sessions. The operator has a token, and Synapse makes the accounts leave."""
    service.mas.version = "1.4.0"
    service.mas.add_user("phantom")
    host = {**migrated.role_variables, **service.role_variables, "decommission_require_cordon": True}
    refused = run_playbook(PLAYBOOK, {"a": host})
    assert "accounts can still register in the Matrix Authentication Service" in refused.stdout
    # With neither passwords nor upstream providers, there is no way to register.
    service.mas.registration_enabled = False
    done = run_playbook(PLAYBOOK, {"a": host})
    assert done.returncode == 0, done.stdout
    assert service.mas.policy_data == []
    assert "It is older than 1.5: accounts leave their rooms only after their deactivation" in done.stdout
    assert Path(host["off_marker"]).exists()
    assert_closed(migrated, service)
    assert service.mas.personal_sessions == {}


@pytest.mark.nightly(category="variations")
@pytest.mark.parametrize("where", ["/oauth2/introspect", "/personal-sessions", "/deactivate"])
def test_service_that_stops(
    migrated: Federation,
    service: AuthenticationService,
    proxy: Proxy,
    start_playbook: StartPlaybook,
    where: str,
) -> None:
    """For half a minute in the middle of a drain: Synapse answers 503, for example to the leaves of accounts."""
    host = {**host_of(migrated, service), "decommission_base_url": proxy.base_url}
    with start_playbook(PLAYBOOK, {"a": host}) as process:
        read_until(process, "Deactivate accounts and wait until they have left the federated rooms")
        service.outage = (where, 30.0)
        output, _nothing = process.communicate()
    assert process.returncode == 0, output
    assert service.outage is None
    refused = [exchange for exchange in proxy.exchanges if exchange.status == 503]
    assert refused or where != "/oauth2/introspect"
    assert Path(host["off_marker"]).exists()
    assert_closed(migrated, service)


@pytest.mark.nightly(category="variations")
def test_dropped_jobs(migrated: Federation, service: AuthenticationService, run_playbook: RunPlaybook) -> None:
    """The service is asked again; the accounts whose jobs are dropped each time are deactivated in Synapse."""
    service.mas.dropped_jobs = 20
    host = host_of(migrated, service)
    done = run_playbook(PLAYBOOK, {"a": host})
    assert done.returncode == 0, done.stdout
    assert service.mas.dropped_jobs == 0
    assert Path(host["off_marker"]).exists()
    assert_closed(migrated, service)


@pytest.mark.nightly(category="variations")
def test_redaction(migrated: Federation, service: AuthenticationService, run_playbook: RunPlaybook) -> None:
    """Also of a locked account; one of a bridge stays active, until a second run without redaction."""
    made, staying = migrated.population, migrated.staying
    locked = made.locked[1:].partition(":")[0]
    service.mas.sign_in(locked)
    host = {**host_of(migrated, service), "decommission_redact": True}
    first = run_playbook(PLAYBOOK, {"a": host})
    assert first.returncode == 2, first.stdout
    assert "the Matrix Authentication Service has no user '_bridge_someone'" in first.stdout
    assert service.mas.active == admins(migrated) and service.mas.open_sessions(locked) == []
    for user_id in (made.users[0], made.locked):
        for room_id in (*made.shared_by_retiring, *made.shared_by_other):
            events = staying.messages(made.tokens[made.other_users[0]], room_id)
            joins = [event["content"] for event in events if event["sender"] == user_id if "displayname" in str(event)]
            assert not [content for content in joins if content.get("membership") == "join"], joins
    done = run_playbook(PLAYBOOK, {"a": {**host, "decommission_redact": False}})
    assert done.returncode == 0, done.stdout
    assert_closed(migrated, service)


@pytest.mark.nightly(category="variations")
def test_howto(migrated: Federation, service: AuthenticationService, tmp_path: Path) -> None:
    """Each command of docs/howto/mas.md, as it stands there, in the order of the page."""
    inventory = {"matrix_decommission": {"hosts": {"matrix.example.org": {**LOCAL, **host_of(migrated, service)}}}}
    (tmp_path / "inventory.yml").write_text(json.dumps(inventory))
    token = service.mas.add_registration_token("welcome")
    policies = []
    commands = [command for command in fenced_commands() if not command.endswith("matrixops.synapse.decommission")]
    assert len(commands) == 3, commands
    for command in [*commands, fenced_commands()[-1]]:
        words = shlex.split(command.replace("01HFVBY12TMNTYTBV8W921M5FB", token))
        words.remove("--ask-vault-pass")
        program = Path(sys.executable).with_name(words[0])
        done = subprocess.run(
            [program, *words[1:]],
            cwd=tmp_path,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        valid = service.mas.registration_tokens[token]["valid"]
        policies.append((bool(service.mas.latest_policy), valid, len(service.mas.active) > 3))
    # The plan, the cordon, the cordon undone, the run.
    assert policies == [(False, True, True), (True, False, True), (False, True, True), (True, False, False)]
    assert_closed(migrated, service)


def fenced_commands() -> list[str]:
    page = (ROOT / "docs/howto/mas.md").read_text()
    return re.findall(r"^\$ (.*)$", page, re.MULTILINE)


KILLED_IN = (
    "Read the accounts of the Matrix Authentication Service",
    "Close the registration of the Matrix Authentication Service",
    *["Deactivate accounts and wait until they have left the federated rooms"] * 4,
    "Deactivate the remaining accounts of the Matrix Authentication Service",
    "Leave all rooms",
    "Check remote servers and remove ghosts",
    "Assert that no account is active or joined",
)
"""The tasks in which, or a moment after, a run is killed, in their order."""


@pytest.mark.parametrize(
    "tasks",
    [KILLED_IN[3:7:3], pytest.param(KILLED_IN, marks=pytest.mark.nightly(category="kills"))],
    ids=["some", "all"],
)
def test_kill(
    migrated: Federation,
    service: AuthenticationService,
    start_playbook: StartPlaybook,
    run_playbook: RunPlaybook,
    chance: random.Random,
    tasks: tuple[str, ...],
) -> None:
    service.mas.add_user("phantom")
    host = {**host_of(migrated, service), "decommission_cordon": True}
    for task in tasks:
        with start_playbook(PLAYBOOK, {"a": host}) as process:
            read_until(process, task)
            # Not to wait for anything: to be killed anywhere.
            time.sleep(chance.uniform(0, 2))
            kill(process)
        assert admins(migrated) <= service.mas.active
        if Path(host["off_marker"]).exists():
            assert_closed(migrated, service, sessions=False)
    done = run_playbook(PLAYBOOK, {"a": host})
    assert done.returncode == 0, done.stdout
    assert Path(host["off_marker"]).exists()
    assert_closed(migrated, service)


def test_playbook(migrated: Federation, service: AuthenticationService, run_playbook: RunPlaybook) -> None:
    """Check mode, a run, and a second run."""
    service.mas.add_user("phantom")
    service.mas.add_registration_token("welcome")
    service.mas.add_provider("corporate")
    service.mas.begun.add("latecomer")
    staying = migrated.staying.operator.user_id
    host = {
        **host_of(migrated, service),
        "decommission_cordon": True,
        "decommission_announce": True,
        "decommission_handover": True,
        "decommission_handover_to": [{"user_id": staying}],
        "decommission_demote": True,
    }
    with unchanged(migrated.retiring):
        planned = run_playbook(PLAYBOOK, {"a": host}, "--check")
    assert planned.returncode == 0, planned.stdout
    assert f"only there: {migrated.retiring.user_id('phantom')}" in planned.stdout
    assert "registration open, upstream providers: corporate" in planned.stdout
    assert service.mas.policy_data == [] and service.mas.active_sessions == []

    done = run_playbook(PLAYBOOK, {"a": host})
    assert done.returncode == 0, done.stdout
    assert "Sent the announcement decommissioning to" in done.stdout
    assert Path(host["off_marker"]).exists()
    assert re.search(confirmed_by(migrated.staying), done.stdout), done.stdout
    assert_closed(migrated, service)
    assert not service.mas.register("newcomer")
    assert not [token for token in service.mas.registration_tokens.values() if token["valid"]]

    # Somebody who had begun to register before.
    assert service.mas.register("latecomer")
    Path(host["off_marker"]).unlink()
    again = run_playbook(PLAYBOOK, {"a": host}, "-vvv")
    assert again.returncode == 0, again.stdout
    secrets = [service.options["mas_client_secret"], *service.mas.tokens]
    assert not [secret for secret in secrets if secret in again.stdout]
    assert "deactivated 1 accounts" in again.stdout
    assert Path(host["off_marker"]).exists()
    assert_closed(migrated, service)
