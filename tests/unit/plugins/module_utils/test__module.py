# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What all modules have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils import _module
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import lease as policy
from ansible_collections.matrixops.synapse.plugins.module_utils._sealed import new_key, unseal
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    BASE_URL,
    NOW,
    TOKEN,
    USERS,
    WHOAMI,
    Clock,
    Json,
    Server,
    matrix_error,
)

Run = Callable[..., Json]

LOGIN = {
    "type": "m.login.password",
    "identifier": {"type": "m.id.user", "user": "op"},
    "password": "correct horse",
    "initial_device_display_name": "matrixops.synapse",
}
PASSWORD = {"access_token": None, "login_user": "op", "login_password": "correct horse"}
STATE = "/_matrix/client/v3/user/%40op%3Aexample.org/account_data/io.github.matrixops.decommission"


def read_state(server: Server, token: str = TOKEN) -> None:
    server.get(STATE, matrix_error("M_NOT_FOUND", "none"), status=404, token=token)
    server.get("/_matrix/client/versions", {}, headers={"Date": "Mon, 23 Nov 2026 06:40:00 GMT"}, token=token)


def test_options_of_the_connection(server: Server, run: Run) -> None:
    server.whoami(verify=False)
    server.get(USERS, {"users": [], "total": 0}, query=QUERY, verify=False)
    run("synapse_users_info", {"validate_certs": False, "gather": []})


QUERY = {"limit": "10000", "order_by": "name", "locked": "true", "guests": "true", "deactivated": "true"}


def test_a_ca_of_ones_own(server: Server, run: Run, tmp_path: Path) -> None:
    server.whoami(verify=str(tmp_path))
    server.get(USERS, {"users": [], "total": 0}, query=QUERY, verify=str(tmp_path))
    run("synapse_users_info", {"ca_path": str(tmp_path), "gather": []})


def test_no_verification_wins_over_a_ca(server: Server, run: Run, tmp_path: Path) -> None:
    server.whoami(verify=False)
    server.get(USERS, {"users": [], "total": 0}, query=QUERY, verify=False)
    run("synapse_users_info", {"ca_path": str(tmp_path), "validate_certs": False, "gather": []})


def test_url_and_token_from_the_environment(server: Server, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNAPSE_BASE_URL", BASE_URL)
    monkeypatch.setenv("SYNAPSE_ACCESS_TOKEN", "from_the_environment")
    server.whoami(token="from_the_environment")
    server.get(USERS, {"users": [], "total": 0}, query=QUERY, token="from_the_environment")
    run("synapse_users_info", {"server_name": "example.org", "gather": []}, bare=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"access_token": None}, "one of the following is required: access_token, login_user"),
        ({"access_token": None, "login_user": "op"}, "login_user is set, but login_password is not"),
    ],
)
def test_one_way_to_authenticate(run: Run, options: Json, words: str) -> None:
    result = run("synapse_users_info", options)
    assert result["failed"]
    assert words in result["msg"]


def test_login_with_a_password(server: Server, run: Run) -> None:
    server.post("/_matrix/client/v3/login", LOGIN, {"access_token": "fresh"}, token=None)
    server.whoami(token="fresh")
    read_state(server, "fresh")
    server.logout("fresh")
    result = run("synapse_decommission_state", PASSWORD)
    assert not result.get("failed")
    assert "correct horse" not in str(result)


def test_a_failing_module_logs_out(server: Server, run: Run) -> None:
    server.post("/_matrix/client/v3/login", LOGIN, {"access_token": "fresh"}, token=None)
    server.whoami(token="fresh")
    server.get(STATE, matrix_error("M_FORBIDDEN", "no"), status=403, token="fresh")
    server.logout("fresh")
    assert run("synapse_decommission_state", PASSWORD)["errcode"] == "M_FORBIDDEN"


def test_a_wrong_password(server: Server, run: Run) -> None:
    refusal = matrix_error("M_FORBIDDEN", "Invalid username or password")
    server.post("/_matrix/client/v3/login", LOGIN, refusal, status=403, token=None)
    result = run("synapse_decommission_state", PASSWORD)
    assert (result["status"], result["errcode"]) == (403, "M_FORBIDDEN")
    assert "Invalid username or password" in result["msg"]
    assert "correct horse" not in str(result)


def test_an_error_is_told_in_full(server: Server, run: Run) -> None:
    server.get(WHOAMI, matrix_error("M_UNKNOWN_TOKEN", "Invalid access token"), status=401)
    result = run("synapse_server_info")
    assert result["failed"]
    assert (result["status"], result["errcode"]) == (401, "M_UNKNOWN_TOKEN")
    assert result["msg"] == (
        f"GET {BASE_URL}{WHOAMI}: 401 M_UNKNOWN_TOKEN: Invalid access token. The access token is invalid or"
        " expired: set access_token (in the role: decommission_access_token)"
    )


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "an admin of the server"), (500, "Check that Synapse is running"), (429, "Check that Synapse is running")],
)
def test_an_error_says_what_to_do(server: Server, run: Run, clock: Clock, status: int, words: str) -> None:
    server.whoami()
    answer = {**matrix_error("M_UNKNOWN", "no"), "retry_after_ms": 3_600_000}
    server.get(STATE, answer, status=status)
    message = run("synapse_decommission_state")["msg"]
    assert words in message and "then run again" in message


def test_an_error_that_repeats_the_token_does_not_show_it(server: Server, run: Run) -> None:
    server.get(WHOAMI, matrix_error("M_UNKNOWN_TOKEN", f"Unknown token {TOKEN}"), status=401)
    assert TOKEN not in str(run("synapse_server_info"))


MINIMAL: dict[str, Json] = {
    "synapse_admin_deactivate": {"user_ids": []},
    "synapse_admin_leave_rooms": {},
    "synapse_announcement": {"text": "Goodbye"},
    "synapse_decommission_plan": {},
    "synapse_decommission_state": {"mark": ["started"]},
    "synapse_federated_rooms": {},
    "synapse_propagation": {"period": 1},
    "synapse_room_aliases": {},
    "synapse_room_demotion": {},
    "synapse_room_handover": {"to": [{"user_id": "@alice:other.example"}]},
    "synapse_rooms_info": {},
    "synapse_server_info": {},
    "synapse_user_deactivate": {"all_users": True},
    "synapse_users_digest": {"salt": "00" * 16},
    "synapse_users_info": {},
}


@pytest.mark.parametrize("name", MINIMAL)
@pytest.mark.parametrize("check", [True, False])
def test_on_another_server_nothing_is_done(server: Server, run: Run, name: str, check: bool) -> None:
    server.whoami("@op:example.com")
    result = run(name, MINIMAL[name], check=check)
    assert result["failed"]
    assert result["msg"] == (
        f"No changes made: the server at {BASE_URL} is example.com, not 'example.org'. Correct base_url"
        " (decommission_base_url) or server_name (decommission_confirm)"
    )
    assert result["errcode"] == "INVALID_OPTION"


@pytest.mark.parametrize("name", MINIMAL)
def test_no_module_shows_the_token(server: Server, run: Run, name: str) -> None:
    server.get(WHOAMI, b"<html>", status=404, content_type="text/html")
    result = run(name, MINIMAL[name])
    assert result["failed"]
    assert result["status"] == 404
    assert TOKEN not in str(result)


def test_without_requests(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_module, "REQUESTS_IMPORT_ERROR", "Traceback")
    result = run("synapse_server_info")
    assert result["failed"]
    assert "(requests)" in result["msg"]


# What a person may type


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"access_token": "syt_secret\n"}, "access token"),
        ({"access_token": "syt_secretł"}, "access token"),
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": -1}, "timeout is -1"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"concurrency": -1}, "concurrency is -1"),
        ({"max_passes": 0}, "max_passes is 0"),
        ({"wait_timeout": 0}, "wait_timeout is 0"),
        ({"base_url": "http://synapse..test"}, "synapse..test"),
        ({"base_url": "synapse.test"}, "synapse.test"),
        ({"base_url": "https://127.0.0.1:9", "ca_path": "/nowhere/ca.pem"}, "/nowhere/ca.pem"),
    ],
)
def test_nonsense_is_refused_in_words(run: Run, options: Json, words: str) -> None:
    result = run("synapse_user_deactivate", {"all_users": True, **options})
    assert result["failed"]
    assert words in result["msg"]
    assert "syt_secret" not in str(result)


def test_a_login_wins_over_a_token(server: Server, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNAPSE_ACCESS_TOKEN", "from the environment")
    server.post("/_matrix/client/v3/login", LOGIN, {"access_token": "fresh"}, token=None)
    server.whoami(token="fresh")
    key = new_key()
    sealed = run("synapse_session", {**PASSWORD, "one_time_key": key})["sealed_token"]
    assert unseal(key, sealed) == b"fresh"


# Two controllers

MODULES = sorted(path.stem for path in (Path(__file__).parents[4] / "plugins/modules").glob("synapse_*.py"))
READERS = {
    "synapse_decommission_plan",
    "synapse_media",
    "synapse_session",
    "synapse_site",
    "synapse_users_digest",
}
"""Those that change nothing that another run might be changing at the same time, beside C(*_info)."""


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("_info") and name not in READERS])
def test_whatever_changes_something_holds_the_lease(name: str) -> None:
    source = (Path(__file__).parents[4] / f"plugins/modules/{name}.py").read_text()
    assert "changes=" in source, "say in module.client() when it changes something, or that it is one of READERS"


def lease(holder: str, until: int, *former: str) -> Json:
    return {"holder": holder, "until": until, "former": list(former), "server_name": "example.org"}


@pytest.fixture
def no_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A renewal would be an unexpected request."""
    monkeypatch.setattr(policy, "RENEWAL", 3600.0)


def acquire(server: Server) -> None:
    """Declare the requests by which a run of the ID C(me) acquires the lease."""
    server.whoami()
    server.get(f"{STATE}.lease", lease("me", 0))
    server.date()
    server.put(f"{STATE}.lease", lease("me", NOW + policy.LENGTH))
    server.get(f"{STATE}.lease", lease("me", NOW + policy.LENGTH))


def mark(server: Server) -> None:
    server.get(STATE, matrix_error("M_NOT_FOUND", "none"), status=404)
    then = NOW + int(policy.SETTLING)
    server.put(STATE, {"server_name": "example.org", "milestones": {"started": then}})
    server.get(STATE, {"server_name": "example.org", "milestones": {"started": then}})


def test_a_module_holds_the_lease(server: Server, run: Run, no_renewals: None) -> None:
    acquire(server)
    mark(server)
    assert run("synapse_decommission_state", {"mark": ["started"], "lease": "me"})["changed"]


def test_release_of_the_lease(server: Server, run: Run, no_renewals: None) -> None:
    acquire(server)
    mark(server)
    server.get(f"{STATE}.lease", lease("me", NOW + policy.LENGTH))
    server.put(f"{STATE}.lease", lease("me", 0))
    assert run("synapse_decommission_state", {"mark": ["started"], "lease": "me", "release_lease": True})["changed"]


def test_release_of_the_lease_alone(server: Server, run: Run) -> None:
    server.whoami()
    read_state(server)
    server.get(f"{STATE}.lease", lease("me", NOW + policy.LENGTH))
    server.put(f"{STATE}.lease", lease("me", 0))
    assert not run("synapse_decommission_state", {"lease": "me", "release_lease": True})["changed"]


def test_a_release_needs_the_id(run: Run) -> None:
    assert "lease" in run("synapse_decommission_state", {"release_lease": True})["msg"]


def test_a_module_without_the_lease_does_nothing(server: Server, run: Run) -> None:
    server.whoami()
    server.get(f"{STATE}.lease", lease("other", NOW, "me"))
    result = run("synapse_user_deactivate", {"all_users": True, "lease": "me"})
    assert result["failed"] and result["errcode"] == "LEASE_TAKEN"
    assert "Another run has taken over the lease on example.org" in result["msg"]


@pytest.mark.parametrize(
    ("options", "check"), [({}, False), ({"mark": ["started"]}, True), ({"release_lease": True}, True)]
)
def test_who_only_reads_needs_no_lease(server: Server, run: Run, options: Json, check: bool) -> None:
    server.whoami()
    read_state(server)
    assert not run("synapse_decommission_state", {**options, "lease": "me"}, check=check).get("failed")


@pytest.mark.parametrize(("options", "expected"), [({}, 8), ({"concurrency": 3}, 3)])
def test_concurrency_is_the_number_of_connections(
    monkeypatch: pytest.MonkeyPatch, run: Run, options: Json, expected: int
) -> None:
    opened = []

    def client(*_args: object, connections: int, **_more: object) -> None:
        opened.append(connections)
        raise OSError("not needed")

    monkeypatch.setattr(_module, "Client", client)
    assert run("synapse_federated_rooms", options)["msg"] == "not needed"
    assert opened == [expected]
