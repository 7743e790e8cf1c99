# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._client import Client, SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._server import server_info
from ansible_collections.matrixops.synapse.tests.unit.helpers import OPERATOR, USERS, Server, matrix_error, user

VERSION = "/_synapse/admin/v1/server_version"
METADATA = "/_matrix/client/v1/auth_metadata"
AVAILABLE = "/_matrix/client/v3/register/available"
NAME = {"username": "matrixops.synapse"}
UNRECOGNIZED = matrix_error("M_UNRECOGNIZED", "Unrecognized request")


def describe(server: Server) -> None:
    server.get(VERSION, {"server_version": "1.163.2"})
    server.get(USERS, {"users": [user("op")]}, query={"limit": "1", "guests": "false"})


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
    server.get(METADATA, UNRECOGNIZED, status=404)
    server.get(AVAILABLE, matrix_error(errcode, "words"), status=status, query=NAME)
    assert server_info(client) == {
        "server_name": "example.org",
        "version": "1.163.2",
        "operator": OPERATOR,
        "delegated_auth": False,
        "registration": registration,
    }


def test_delegated_authentication(server: Server, client: Client) -> None:
    describe(server)
    server.get(METADATA, {"issuer": "https://account.example.org/"})
    server.get(AVAILABLE, UNRECOGNIZED, status=404, query=NAME)
    info = server_info(client)
    assert info["delegated_auth"] is True
    assert info["registration"] is False


def test_not_an_admin(server: Server, client: Client) -> None:
    server.get(VERSION, {"server_version": "1.163.2"})
    refusal = matrix_error("M_FORBIDDEN", "You are not a server admin")
    server.get(USERS, refusal, status=403, query={"limit": "1", "guests": "false"})
    with pytest.raises(SynapseError, match="not a server admin"):
        server_info(client)


def test_what_cannot_be_found_out_is_an_error(server: Server, client: Client) -> None:
    describe(server)
    server.get(METADATA, matrix_error("M_UNKNOWN", "broken"), status=500)
    with pytest.raises(SynapseError, match="broken"):
        server_info(client)
