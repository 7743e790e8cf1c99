# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Callable

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._sealed import new_key, unseal
from ansible_collections.matrixops.synapse.tests.stubs.helpers import TOKEN, Json, Server, matrix_error
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver
from ansible_collections.matrixops.synapse.tests.stubs.mas import MasStub

Run = Callable[..., Json]

KEY = new_key()
PASSWORD = {"access_token": None, "login_user": "op", "login_password": "correct horse", "one_time_key": KEY}
SENT = {
    "type": "m.login.password",
    "identifier": {"type": "m.id.user", "user": "op"},
    "password": "correct horse",
    "initial_device_display_name": "matrixops.synapse",
}
DEAD = matrix_error("M_UNKNOWN_TOKEN", "Invalid access token")


@pytest.mark.parametrize("check", [True, False])
def test_a_session_is_opened_and_stays_open(server: Server, run: Run, check: bool) -> None:
    server.post("/_matrix/client/v3/login", SENT, {"access_token": "fresh"}, token=None)
    server.whoami(token="fresh")
    result = run("synapse_session", PASSWORD, check=check)
    assert result["changed"]
    # Ansible prints the output of a module with -vvv.
    assert unseal(KEY, result["sealed_token"]) == b"fresh"
    assert not [secret for secret in ("fresh", KEY, "correct horse") if secret in str(result)]


def test_a_session_on_another_server_is_closed_again(server: Server, run: Run) -> None:
    server.post("/_matrix/client/v3/login", SENT, {"access_token": "fresh"}, token=None)
    server.whoami("@op:example.com", token="fresh")
    server.logout("fresh")
    result = run("synapse_session", PASSWORD)
    assert result["failed"]
    assert "access_token" not in result and "sealed_token" not in result


@pytest.mark.parametrize("check", [True, False])
def test_a_session_is_closed(server: Server, run: Run, check: bool) -> None:
    server.logout(TOKEN)
    assert run("synapse_session", {"state": "absent"}, check=check)["changed"]


@pytest.mark.parametrize("server_name", ["example.org", None])
def test_a_session_that_is_closed_already(server: Server, run: Run, server_name: str | None) -> None:
    server.post("/_matrix/client/v3/logout", {}, DEAD, status=401)
    result = run("synapse_session", {"state": "absent", "server_name": server_name})
    assert not result.get("failed")
    assert not result["changed"]


def test_the_session_that_was_meant_is_closed(server: Server, run: Run) -> None:
    server.logout(TOKEN)
    assert run("synapse_session", {**PASSWORD, "access_token": TOKEN, "state": "absent"})["changed"]


@pytest.mark.parametrize(
    ("options", "missing"),
    [({"state": "present"}, "login_user"), ({**PASSWORD, "state": "absent"}, "access_token")],
)
def test_each_state_has_its_credentials(run: Run, options: Json, missing: str) -> None:
    result = run("synapse_session", options)
    assert result["failed"]
    assert missing in result["msg"]


def test_a_wrong_password(server: Server, run: Run) -> None:
    refusal = matrix_error("M_FORBIDDEN", "Invalid username or password")
    server.post("/_matrix/client/v3/login", SENT, refusal, status=403, token=None)
    result = run("synapse_session", PASSWORD)
    assert (result["status"], result["errcode"]) == (403, "M_FORBIDDEN")


def test_too_many_logins(server: Server, run: Run) -> None:
    refusal = {**matrix_error("M_LIMIT_EXCEEDED", "Too Many Requests"), "retry_after_ms": 333_000}
    server.post("/_matrix/client/v3/login", SENT, refusal, status=429, token=None)
    result = run("synapse_session", PASSWORD)
    assert result["status"] == 429
    assert "the server asks to wait 333 s" in result["msg"]


def test_a_session_by_a_service(homeserver: Homeserver, mas: MasStub, run: Run, mas_options: Json) -> None:
    """It is closed by its lease ID, also if the module that closes it knows no other secret."""
    options = {"access_token": None, "login_user": "@op:example.org", "one_time_key": KEY, "lease": "77", "lifetime": 9}
    opened = run("synapse_session", {**mas_options, **options})
    token = unseal(KEY, opened["sealed_token"]).decode()
    known = mas.introspect(token)
    assert known["username"] == "op" and "urn:synapse:admin:*" in known["scope"] and "device_id" not in known
    assert mas.active_sessions == ["matrixops.synapse 77"] and token not in str(opened)
    closing = {**mas_options, "access_token": token, "state": "absent"}
    assert not run("synapse_session", {**closing, "lease": "78"})["changed"]
    assert run("synapse_session", {**closing, "lease": "77"})["changed"]
    assert not run("synapse_session", {**closing, "lease": "77"})["changed"]
    assert mas.active_sessions == []


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda mas: mas.users.clear(), "has no user 'op'"),
        (lambda mas: mas.user_of("op")[1].update(locked_at="now"), "is locked"),
        (lambda mas: mas.user_of("op")[1].update(deactivated_at="now"), "410"),
        (lambda mas: setattr(mas, "version", "1.4.0"), "update it to 1.5"),
    ],
)
def test_a_session_that_the_service_refuses(
    homeserver: Homeserver, mas: MasStub, run: Run, mas_options: Json, prepare: Callable[[MasStub], None], message: str
) -> None:
    prepare(mas)
    result = run("synapse_session", {**mas_options, "access_token": None, "login_user": "op", "one_time_key": KEY})
    assert result["failed"] and message in result["msg"]
