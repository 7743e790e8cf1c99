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
