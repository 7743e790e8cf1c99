# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse import account_data
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError, SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.unanswered import CHECK_PAUSES
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Clock, Server, matrix_error

PATH = "/_matrix/client/v3/user/%40op%3Aexample.org/account_data/io.github.matrixops.decommission"


def test_what_is_kept_by_itself(server: Server, client: Client) -> None:
    path = f"{PATH}.some%2Fkind"
    kind = f"{account_data.ACCOUNT_DATA_TYPE}.some/kind"
    server.get(path, matrix_error("M_NOT_FOUND", "Account data not found"), status=404)
    assert account_data.read_data(client, kind) == {}
    content = {"since": 7, "server_name": "example.org"}
    server.put(path, content)
    account_data.write_data(client, kind, {"since": 7})
    server.get(path, content)
    assert account_data.read_data(client, kind) == content
    for other in ({**content, "server_name": "example.com"}, {}):
        server.get(path, other)
        assert account_data.read_data(client, kind) == {}


def test_an_answer_of_another_shape_is_not_an_empty_record(server: Server, client: Client) -> None:
    """What was recorded would be overwritten."""
    server.get(PATH, {"milestones": {"started": 1}})
    with pytest.raises(SynapseError, match="was not written by this collection"):
        account_data.read_data(client, account_data.ACCOUNT_DATA_TYPE)


def test_what_cannot_be_read_is_not_an_empty_record(server: Server, client: Client) -> None:
    server.get(f"{PATH}.kind", matrix_error("M_FORBIDDEN", "no"), status=403)
    with pytest.raises(SynapseError, match="M_FORBIDDEN"):
        account_data.read_data(client, f"{account_data.ACCOUNT_DATA_TYPE}.kind")


def test_a_write_is_read_back(server: Server, client: Client, clock: Clock) -> None:
    kind, content = account_data.ACCOUNT_DATA_TYPE, {"since": 7, "server_name": "example.org"}
    server.put(PATH, content)
    server.get(PATH, content)
    account_data.write_checked(client, kind, {"since": 7})
    assert clock.waits == []


def test_a_write_that_is_behind_is_read_again(server: Server, client: Client, clock: Clock) -> None:
    kind, content = account_data.ACCOUNT_DATA_TYPE, {"since": 7, "server_name": "example.org"}
    server.put(PATH, content)
    server.get(PATH, {**content, "since": 6})
    server.get(PATH, content)
    account_data.write_checked(client, kind, {"since": 7})
    assert sum(clock.waits) < 1


def test_a_write_that_was_dropped_is_an_error(server: Server, client: Client, clock: Clock) -> None:
    server.put(PATH, {"since": 7, "server_name": "example.org"})
    for _read in range(1 + len(CHECK_PAUSES)):
        server.get(PATH, {"since": 6, "server_name": "example.org"})
    with pytest.raises(FatalError, match="was written, but the server returns other content"):
        account_data.write_checked(client, account_data.ACCOUNT_DATA_TYPE, {"since": 7})
