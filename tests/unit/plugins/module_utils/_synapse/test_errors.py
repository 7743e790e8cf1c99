# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import (
    FatalError,
    SynapseError,
    request_error,
)
from ansible_collections.matrixops.synapse.tests.stubs.helpers import BASE_URL, TOKEN, Server, matrix_error


@pytest.mark.parametrize(("token", "fatal"), [(None, True), ("other", False)])
def test_a_401_is_fatal_unless_it_is_about_a_borrowed_token(
    server: Server, fresh_client: Client, token: str | None, fatal: bool
) -> None:
    server.get("/path", matrix_error("M_USER_LOCKED", "locked"), status=401, token=token or TOKEN)
    with pytest.raises(SynapseError, match="401 M_USER_LOCKED") as caught:
        fresh_client.get("/path", token=token)
    assert isinstance(caught.value, FatalError) is fatal


def test_an_error_says_everything(server: Server, fresh_client: Client) -> None:
    path = "/_synapse/admin/v2/users/%40a%3Aexample.org"
    server.get(path, matrix_error("M_NOT_FOUND", "User not found"), status=404)
    with pytest.raises(SynapseError) as caught:
        fresh_client.get("/_synapse/admin/v2/users/{}", "@a:example.org")
    error = caught.value
    assert (error.method, error.url, error.status) == ("GET", BASE_URL + path, 404)
    assert (error.errcode, error.error) == ("M_NOT_FOUND", "User not found")
    assert str(error) == f"GET {BASE_URL}{path}: 404 M_NOT_FOUND: User not found"


def test_an_error_does_not_say_the_token(server: Server, fresh_client: Client) -> None:
    server.get("/path", matrix_error("M_UNKNOWN_TOKEN", "Invalid access token"), status=401)
    with pytest.raises(SynapseError) as caught:
        fresh_client.get("/path")
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "fatal"),
    [
        (request_error("no connection", method="GET", url=BASE_URL), True),
        (request_error("dead token", method="GET", url=BASE_URL, status=401), True),
        (request_error("no answer", method="GET", url=BASE_URL, unanswered=True), False),
        (request_error("forbidden", method="GET", url=BASE_URL, status=403), False),
    ],
)
def test_which_errors_are_fatal(error: SynapseError, fatal: bool) -> None:
    assert isinstance(error, FatalError) is fatal


@pytest.mark.parametrize(
    ("status", "errcode", "advice", "fatal"),
    [
        (401, "M_UNKNOWN_TOKEN", "set access_token", True),
        (401, "M_USER_LOCKED", "PUT /_synapse/admin/v2/users/<user_id>", True),
        (403, "M_USER_SUSPENDED", "/_synapse/admin/v1/suspend/<user_id>", False),
        (403, "ORG_MATRIX_EXPIRED_ACCOUNT", "extend its validity", True),
        (403, "M_CONSENT_NOT_GIVEN", "remove user_consent from homeserver.yaml", False),
        (403, "M_RESOURCE_LIMIT_EXCEEDED", "set hs_disabled to false or raise max_mau_value", False),
        (403, "M_FORBIDDEN", "an admin of the server", False),
        (413, None, "client_max_body_size", False),
        (413, "M_TOO_LARGE", "", False),
        (404, "M_NOT_FOUND", "", False),
        (404, "M_UNRECOGNIZED", "", False),
    ],
)
def test_the_advice_goes_by_the_errcode(status: int, errcode: str | None, advice: str, fatal: bool) -> None:
    error = request_error("no", method="GET", url=BASE_URL, status=status, errcode=errcode)
    assert advice in error.advice and bool(advice) is bool(error.advice)
    assert isinstance(error, FatalError) is fatal


@pytest.mark.parametrize(
    ("status", "errcode", "advice"),
    [
        (403, "ORG_MATRIX_EXPIRED_ACCOUNT", "The account has expired: extend its validity"),
        (403, "M_RESOURCE_LIMIT_EXCEEDED", "set hs_disabled to false or raise max_mau_value"),
        (403, "M_CONSENT_NOT_GIVEN", "has not accepted the privacy policy"),
        (403, "M_USER_SUSPENDED", "is suspended"),
        (403, "M_FORBIDDEN", ""),
        (401, "M_USER_LOCKED", ""),
    ],
)
def test_an_error_of_another_account_is_not_fatal_and_says_what_to_do(status: int, errcode: str, advice: str) -> None:
    error = request_error("no", method="GET", url=BASE_URL, status=status, errcode=errcode, borrowed=True)
    assert not isinstance(error, FatalError)
    assert error.advice.partition(":")[0] in error.reason
    assert advice in error.advice and bool(advice) is bool(error.advice)
    assert error.reason == (f"{error}. {error.advice}" if advice else str(error))


@pytest.mark.parametrize("token", [None, "other"])
def test_a_proxy_that_decodes_slashes(server: Server, fresh_client: Client, token: str | None) -> None:
    path = "/_synapse/admin/v2/users/%40a%2Fb%3Aexample.org"
    server.get(path, matrix_error("M_UNRECOGNIZED", "Unrecognized request"), status=404, token=token or TOKEN)
    with pytest.raises(SynapseError) as caught:
        fresh_client.get("/_synapse/admin/v2/users/{}", "@a/b:example.org", token=token)
    assert "decodes or refuses %2F" in caught.value.advice
    assert "for example http://localhost:8008" in caught.value.reason


def test_a_fatal_error_keeps_its_advice() -> None:
    error = request_error("no", method="GET", url=BASE_URL, status=413)
    assert FatalError.of(error).advice == error.advice != ""


def test_another_server_behind_the_same_url(server: Server, fresh_client: Client) -> None:
    path = "/_synapse/admin/v2/users/%40a%3Aexample.org"
    server.get(path, matrix_error("M_UNKNOWN", "Can only look up local users"), status=400)
    with pytest.raises(FatalError) as caught:
        fresh_client.get("/_synapse/admin/v2/users/{}", "@a:example.org")
    assert "Another homeserver answers at that URL: correct base_url" in caught.value.advice
