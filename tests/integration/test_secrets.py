# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nothing that anybody could log in with is left anywhere: every module, and the playbook, as talkative as can be."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from lab.api import PASSWORD, quote
from lab.authentication import AuthenticationService
from lab.database import Sqlite
from lab.proxy import Fault, Proxy
from lab.waiting import PATIENCE, wait_until
from stubs.mas import ADMIN_SCOPE

from .conftest import ROOT, Federation, RunPlaybook, StartPlaybook
from .test_kill import kill
from .test_playbook import PLAYBOOK, assert_drained

pytestmark = pytest.mark.own_process

MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("synapse_*.py"))
FEDERATION = {
    "server_name": "{{ decommission_confirm }}",
    "ca_path": "{{ decommission_federation_ca_path }}",
    "ip_allowlist": "{{ decommission_federation_ip_allowlist }}",
}
KEY_FILE = {"signing_key_path": "{{ decommission_signing_key_path }}"}
ROOM = {"room_id": "!nowhere:{{ staying }}", "servers": ["{{ staying }}"], "accounts": ["{{ user_id }}"]}
KEY = {"signing_key": "{{ lookup('ansible.builtin.file', decommission_signing_key_path) }}"}
SIGNING: dict[str, dict[str, Any]] = {
    "matrix_federation_info": {**FEDERATION, **KEY_FILE},
    "matrix_ghosts_info": {**FEDERATION, **KEY},
    # Accounts that are joined here are not removed, which would be a failure.
    "matrix_ghosts": {**FEDERATION, **KEY_FILE, "rooms": [ROOM]},
    "synapse_propagation": {
        "period": 0,
        "wait": False,
        **KEY_FILE,
        "federation_ca_path": FEDERATION["ca_path"],
        "federation_ip_allowlist": FEDERATION["ip_allowlist"],
    },
}
"""The modules that read the signing key, each of which must succeed."""
OPTIONS: dict[str, dict[str, Any]] = {
    **SIGNING,
    "synapse_decommission_state": {"mark": ["started", "left_federated_rooms"], "lease": "me"},
    "synapse_media": {"select": "all", "directory": "{{ media }}", "boundary": "0123456789abcdef"},
    "synapse_session": {"login_user": "operator", "login_password": "{{ password }}"},
    "synapse_user_deactivate": {"user_ids": ["{{ user_id }}"], "redact": True},
    "synapse_users_info": {"gather": ["details", "joined_rooms"]},
}
"""For the modules that do too little without; one that is not named here is run with none."""
SESSIONS = "SELECT count(*) FROM access_tokens WHERE puppets_user_id IS NOT NULL"


@contextmanager
def processes() -> Iterator[set[bytes]]:
    """What everybody can see of the processes that run meanwhile, and what root can: arguments and environments."""
    seen: set[bytes] = set()
    ended = Event()

    def look() -> None:
        while not ended.wait(0.1):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    command = (process / "cmdline").read_bytes()
                    if command not in seen:
                        seen.update((command, (process / "environ").read_bytes()))

    thread = Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


@pytest.fixture
def talkative(tmp_path: Path) -> dict[str, str]:
    """An environment in which Ansible keeps whatever it can be made to keep. Not with ANSIBLE_DISPLAY_ARGS_TO_STDOUT,
    which shows the arguments of all tasks, secret or not."""
    places = {
        "ANSIBLE_LOG_PATH": "ansible.log",
        "ANSIBLE_CACHE_PLUGIN_CONNECTION": "facts",
        "ANSIBLE_CALLBACK_TREE_DIR": "tree",
        "JUNIT_OUTPUT_DIR": "junit",
        "ANSIBLE_LOCAL_TEMP": "local_tmp",
        "ANSIBLE_REMOTE_TMP": "remote_tmp",
        "ANSIBLE_RETRY_FILES_SAVE_PATH": "retry",
    }
    return {
        **{name: str(tmp_path / place) for name, place in places.items()},
        "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
        "ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.junit,ansible.builtin.tree",
        "ANSIBLE_RETRY_FILES_ENABLED": "1",
        "ANSIBLE_DIFF_ALWAYS": "1",
        "ANSIBLE_PIPELINING": "false",  # which would put nothing on disk
    }


def assert_none_found(secrets: set[str], output: str, seen: set[bytes], federation: Federation, place: Path) -> None:
    assert len(secrets) >= 3
    files = {path: path.read_bytes() for path in place.rglob("*") if path.is_file() and path.name != "inventory.json"}
    assert any(path.name == "ansible.log" for path in files) and any(path.parent.name == "tree" for path in files)
    database = federation.retiring.database
    assert isinstance(database, Sqlite)
    with closing(sqlite3.connect(f"{database.path.as_uri()}?mode=ro", uri=True)) as connection:
        # There Synapse itself keeps them.
        own = ('INSERT INTO "access_tokens"', 'INSERT INTO "user_ips"')
        rows = [row for row in connection.iterdump() if not row.startswith(own)]
    everything = {"output": output.encode(), "processes": b"\n".join(seen), "database": "\n".join(rows).encode()}
    everything |= {str(path): content for path, content in files.items()}
    for where, content in everything.items():
        for secret in secrets:
            assert secret.encode() not in content, f"a secret is in {where}"


def tokens_given(proxy: Proxy) -> set[str]:
    """The access tokens that the homeserver has given out meanwhile."""
    logins = [e for e in proxy.exchanges if e.method == "POST" and e.path.endswith("/login") and e.status == 200]
    return {json.loads(login.body)["access_token"] for login in logins}


def seed(federation: Federation) -> str:
    """The secret of the signing key."""
    return (federation.retiring.directory / "signing.key").read_text().split()[2]


def test_modules(
    federation: Federation, proxy: Proxy, run_playbook: RunPlaybook, tmp_path: Path, talkative: dict[str, str]
) -> None:
    """With a token; and one with a password, and with a token that is refused, which is the same for all."""
    retiring = federation.retiring
    ways: list[tuple[dict[str, Any], list[str]]] = [
        # Those of matrix_* are before an account is deactivated.
        ({"access_token": "{{ token }}"}, ["matrix_federation_info", "matrix_ghosts_info", "matrix_ghosts", *MODULES]),
        ({"login_user": "operator", "login_password": "{{ password }}"}, ["synapse_users_info"]),
        ({"access_token": "{{ token }}x"}, ["synapse_users_info"]),
    ]
    tasks = [
        {
            "module_defaults": {
                group: {"base_url": proxy.base_url, **way}
                for group in (
                    "group/matrixops.synapse.synapse",
                    "matrixops.synapse.matrix_ghosts",
                    "matrixops.synapse.matrix_ghosts_info",
                )
            },
            "block": [
                {
                    "name": module,
                    f"matrixops.synapse.{module}": OPTIONS.get(module, {}),
                    "ignore_errors": module not in SIGNING,
                    # As its documentation says.
                    "no_log": module == "synapse_session",
                }
                for module in modules
            ],
        }
        for way, modules in ways
    ]
    playbook = tmp_path / "playbook.json"
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": True, "tasks": tasks}]))
    host = {
        **retiring.role_variables,
        "token": retiring.admin_token,
        "password": PASSWORD,
        "user_id": federation.population.users[0],
        "staying": federation.staying.server_name,
        "media": str(tmp_path / "media"),
    }
    with processes() as seen:
        result = run_playbook(playbook, {"a": host}, "-vvvv", **talkative)
    assert result.returncode == 0, result.stdout
    secrets = {retiring.admin_token, PASSWORD, seed(federation), *tokens_given(proxy)}
    assert_none_found(secrets, result.stdout, seen, federation, tmp_path)


def test_modules_with_a_login_service(
    migrated: Federation,
    service: AuthenticationService,
    run_playbook: RunPlaybook,
    tmp_path: Path,
    talkative: dict[str, str],
) -> None:
    """With the secret of a client, with a token, and with one that is refused."""
    user_id = migrated.population.users[1]
    given, refused = service.mas.issue_token(ADMIN_SCOPE), service.mas.issue_token("openid")
    token = {"mas_client_id": "{{ omit }}", "mas_client_secret": "{{ omit }}", "mas_access_token": "{{ mas_token }}"}
    ways: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("mas_users_info", {}, {}),
        ("mas_cordon", {}, {}),
        ("mas_user_deactivate", {"user_ids": [user_id]}, {}),
        ("synapse_session", {}, {}),
        ("mas_users_info", token, {"mas_token": given}),
        ("mas_users_info", token, {"mas_token": refused}),
    ]
    tasks = [
        {
            "name": module,
            f"matrixops.synapse.{module}": options,
            "vars": variables,
            "ignore_errors": refused in variables.values(),
            "no_log": module == "synapse_session",
        }
        for module, options, variables in ways
    ]
    assert {module for module, _options, _variables in ways} >= {
        path.stem for path in (ROOT / "plugins/modules").glob("mas_*.py")
    }
    defaults = {"base_url": migrated.retiring.base_url, "login_user": "operator"}
    connection = {key: f"{{{{ decommission_{key} }}}}" for key in service.options}
    play = {
        "hosts": "all",
        "gather_facts": False,
        "module_defaults": {"group/matrixops.synapse.synapse": {**defaults, **connection}},
        "tasks": tasks,
    }
    playbook = tmp_path / "playbook.json"
    playbook.write_text(json.dumps([play]).replace(given, "{{ given }}").replace(refused, "{{ refused }}"))
    host = {**service.role_variables, "given": given, "refused": refused}
    with processes() as seen:
        result = run_playbook(playbook, {"a": host}, "-vvvv", **talkative)
    assert result.returncode == 0, result.stdout
    assert "Missing urn:mas:admin scope" in result.stdout
    used = {token for token in service.mas.tokens if token != migrated.retiring.admin_token}
    assert len(used) > 8
    assert_none_found({service.options["mas_client_secret"], *used}, result.stdout, seen, migrated, tmp_path)


def test_playbook(
    federation: Federation, proxy: Proxy, run_playbook: RunPlaybook, tmp_path: Path, talkative: dict[str, str]
) -> None:
    """Logged in with a password; and nobody is logged in any more when it has ended."""
    retiring = federation.retiring
    host = {
        **federation.role_variables,
        "decommission_base_url": proxy.base_url,
        "decommission_login_user": "operator",
        "decommission_login_password": PASSWORD,
        "decommission_log_path": str(tmp_path / "drain.jsonl"),
    }
    del host["decommission_access_token"]
    before = retiring.admin("GET", f"/v2/users/{quote(retiring.operator.user_id)}/devices")["total"]
    with processes() as seen:
        result = run_playbook(PLAYBOOK, {"a": host}, "-vvvv", **talkative)
    assert result.returncode == 0, result.stdout
    assert_drained(federation)
    given = tokens_given(proxy)
    assert len(given) > 10
    assert_none_found({PASSWORD, seed(federation), *given}, result.stdout, seen, federation, tmp_path)
    assert retiring.database.count(SESSIONS) == 0
    assert retiring.admin("GET", f"/v2/users/{quote(retiring.operator.user_id)}/devices")["total"] == before


def test_sessions_of_a_run_that_was_killed_expire(
    federation: Federation, proxy: Proxy, start_playbook: StartPlaybook
) -> None:
    database = federation.retiring.database
    # A leave that takes so long keeps the session open that it is made with.
    leaving = proxy.rule(Fault.DELAY_BEFORE, path="/leave$", seconds=PATIENCE)
    with start_playbook(PLAYBOOK, {"a": {**federation.role_variables, "decommission_base_url": proxy.base_url}}) as run:
        wait_until(lambda: leaving.injected > 0, "an account is leaving a room")
        kill(run)
    assert database.count(SESSIONS) > 0
    # In an hour, at most.
    later = "(valid_until_ms IS NULL OR valid_until_ms >= (strftime('%s', 'now') + 3601) * 1000)"
    assert database.count(f"{SESSIONS} AND {later}") == 0


def test_a_token_that_expires(federation: Federation) -> None:
    """As in docs/explanation/security.md."""
    retiring = federation.retiring
    (text,) = re.findall(
        r"^ *\$ (curl .*?)^ *```", (ROOT / "docs/explanation/security.md").read_text(), re.MULTILINE | re.DOTALL
    )
    user_id = federation.population.users[0]
    command = text.replace("http://localhost:8008", retiring.base_url).replace("@decommission:example.org", user_id)
    environment = {"PATH": os.environ["PATH"], "OTHER_ADMINS_TOKEN": retiring.admin_token}
    assert json.loads(subprocess.check_output(["bash", "-c", command], env=environment))["access_token"]
    expires = retiring.database.count("SELECT max(valid_until_ms) FROM access_tokens")
    assert expires / 1000 - time.time() == pytest.approx(8 * 86400, abs=3600)
