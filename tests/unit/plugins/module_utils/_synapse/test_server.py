# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any
from unittest.mock import ANY

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import record
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError, SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.server import (
    LARGEST_BODY,
    server_info,
    token_endpoint,
)
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    LOGIN,
    NO_ROOMS,
    OPERATOR,
    SYNC,
    TOKENS,
    USERS,
    WITH_SLASH,
    Json,
    Server,
    matrix_error,
    user,
)

VERSION = "/_synapse/admin/v1/server_version"
AVAILABLE = "/_matrix/client/v3/register/available"
NAME = {"username": "matrixops.synapse"}
UNRECOGNIZED = matrix_error("M_UNRECOGNIZED", "Unrecognized request")
PASSWORD = {"type": "m.login.password"}


def describe(server: Server, version: str = "1.163.2") -> None:
    server.get(VERSION, {"server_version": version})
    server.get(USERS, {"users": [user("op")]}, query={"limit": "1", "guests": "false"})
    server.way_to_synapse()


def registration_paths(server: Server, client: Client, *flows: Json) -> dict[str, tuple[bool | None, str]]:
    describe(server)
    server.get(TOKENS, {"registration_tokens": []})
    server.get(AVAILABLE, matrix_error("M_FORBIDDEN", "words"), status=403, query=NAME)
    server.get(LOGIN, {"flows": list(flows)})
    return {path["kind"]: (path["open"], path["detail"]) for path in server_info(client)["registration_paths"]}


@pytest.mark.parametrize(
    ("status", "errcode", "registration"),
    [
        (200, None, True),
        (400, "M_USER_IN_USE", True),
        (403, "M_FORBIDDEN", False),
        (404, "M_UNRECOGNIZED", False),
    ],
)
def test_registration(server: Server, client: Client, status: int, errcode: str, registration: bool) -> None:
    describe(server)
    server.get(TOKENS, {"registration_tokens": []})
    server.get(AVAILABLE, matrix_error(errcode, "words"), status=status, query=NAME)
    server.get(LOGIN, {"flows": [PASSWORD]})
    info = server_info(client)
    assert {path["kind"]: path["open"] for path in info.pop("registration_paths")} == {
        "registration": registration,
        "sso": False,
        "jwt": False,
        "guest": None,
        "application_service": None,
    }
    assert info == {
        "server_name": "example.org",
        "version": "1.163.2",
        "operator": OPERATOR,
        "delegated_auth": False,
        "registration": registration,
        "known_issues": [],
    }


def test_single_sign_on(server: Server, client: Client) -> None:
    providers = [{"id": "oidc-one", "name": "One"}, {"id": "cas"}]
    found = registration_paths(server, client, PASSWORD, {"type": "m.login.sso", "identity_providers": providers})
    assert found["sso"][0] is True and "single sign-on by One, cas:" in found["sso"][1]


@pytest.mark.parametrize("flow", [{"type": "m.login.cas"}, {"type": "m.login.sso"}])
def test_single_sign_on_without_names(server: Server, client: Client, flow: Json) -> None:
    is_open, detail = registration_paths(server, client, flow)["sso"]
    assert is_open is True and detail.startswith("single sign-on:")


def test_json_web_tokens(server: Server, client: Client) -> None:
    assert registration_paths(server, client, {"type": "org.matrix.login.jwt"})["jwt"][0] is True


def test_known_issues(server: Server, client: Client) -> None:
    describe(server, "1.154.0")
    server.get(TOKENS, UNRECOGNIZED, status=404)
    (issue,) = server_info(client)["known_issues"]
    assert (issue["fixed_in"], issue["reference"]) == ("1.155.0", "#19617")


def test_delegated_authentication(server: Server, client: Client) -> None:
    """Synapse has neither registration nor login then."""
    describe(server)
    server.get(TOKENS, UNRECOGNIZED, status=404)
    info = server_info(client)
    assert info["delegated_auth"] is True
    assert info["registration"] is False
    assert [(path["kind"], path["open"]) for path in info["registration_paths"]] == [
        ("registration", False),
        ("authentication_service", None),
        ("application_service", None),
    ]


def test_not_an_admin(server: Server, client: Client) -> None:
    server.get(VERSION, {"server_version": "1.163.2"})
    refusal = matrix_error("M_FORBIDDEN", "You are not a server admin")
    server.get(USERS, refusal, status=403, query={"limit": "1", "guests": "false"})
    with pytest.raises(SynapseError, match="not a server admin"):
        server_info(client)


@pytest.mark.parametrize("status", [404, 500])
def test_what_cannot_be_found_out_is_an_error(server: Server, client: Client, status: int) -> None:
    """A proxy's 404 is no answer either."""
    describe(server)
    server.get(TOKENS, matrix_error("M_UNKNOWN", "broken"), status=status)
    with pytest.raises(SynapseError, match="broken"):
        server_info(client)


# The way to Synapse


def admin(server: Server) -> None:
    server.get(VERSION, {"server_version": "1.163.2"})
    server.get(USERS, {"users": [user("op")]}, query={"limit": "1", "guests": "false"})


@pytest.mark.parametrize("found", [0, 1])
@pytest.mark.parametrize(("answer", "status"), [(UNRECOGNIZED, 404), (b"<html></html>", 404), (b"<html></html>", 400)])
def test_a_proxy_that_decodes_slashes(server: Server, client: Client, found: int, answer: Any, status: int) -> None:
    admin(server)
    for path in WITH_SLASH[:found]:
        server.get(path, matrix_error("M_NOT_FOUND", "not found"), status=404)
    server.get(WITH_SLASH[found], answer, status=status)
    with pytest.raises(FatalError) as caught:
        server_info(client)
    assert "A reverse proxy in front of Synapse decodes or refuses %2F" in caught.value.advice
    assert "set base_url (in the role: decommission_base_url) to the listener of Synapse" in caught.value.advice


def test_an_account_and_an_alias_with_that_name_show_that_slashes_are_kept(server: Server, client: Client) -> None:
    admin(server)
    server.get(WITH_SLASH[0], user("matrixops/synapse"))
    server.get(WITH_SLASH[1], {"room_id": "!r:example.org", "servers": []})
    server.post("/_matrix/client/v3/keys/query", ANY)
    server.get(SYNC, query=NO_ROOMS)
    server.get(TOKENS, UNRECOGNIZED, status=404)
    assert server_info(client)["server_name"] == "example.org"


def test_a_check_of_slashes_that_is_refused_for_another_reason(server: Server, client: Client) -> None:
    admin(server)
    server.get(WITH_SLASH[0], matrix_error("M_FORBIDDEN", "words"), status=403)
    with pytest.raises(FatalError) as caught:
        server_info(client)
    assert "reverse proxy" not in caught.value.advice


def test_a_proxy_with_a_limit_for_the_size(server: Server, client: Client) -> None:
    admin(server)
    for path in WITH_SLASH:
        server.get(path, matrix_error("M_NOT_FOUND", "not found"), status=404)
    server.post("/_matrix/client/v3/keys/query", ANY, b"<html>413</html>", status=413)
    with pytest.raises(FatalError, match=r": 413: answered with application/json") as caught:
        server_info(client)
    assert "raise its limit (nginx: client_max_body_size 10m)" in caught.value.advice


def test_a_server_that_blocks_its_accounts(server: Server, client: Client) -> None:
    admin(server)
    for path in WITH_SLASH:
        server.get(path, matrix_error("M_NOT_FOUND", "not found"), status=404)
    server.post("/_matrix/client/v3/keys/query", ANY)
    server.get(SYNC, matrix_error("M_RESOURCE_LIMIT_EXCEEDED", ""), status=403, query=NO_ROOMS)
    with pytest.raises(FatalError, match="403 M_RESOURCE_LIMIT_EXCEEDED") as caught:
        server_info(client)
    assert "set hs_disabled to false or raise max_mau_value" in caught.value.advice


def test_the_largest_piece_of_a_record_is_smaller_than_what_is_tested() -> None:
    assert record.MAX_PIECE + 100_000 < LARGEST_BODY


def test_where_tokens_are_issued(server: Server, client: Client) -> None:
    path = "/_matrix/client/v1/auth_metadata"
    for answer in ({"token_endpoint": "https://account.example.org/oauth2/token"}, {"token_endpoint": 7}, {}):
        server.get(path, answer)
    server.get(path, matrix_error("M_UNRECOGNIZED", "no"), status=404)
    found = [token_endpoint(client) for _time in range(4)]
    assert found == ["https://account.example.org/oauth2/token", None, None, None]
