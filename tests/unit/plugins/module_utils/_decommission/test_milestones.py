# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import aliases
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import milestones as store
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Json, Server, matrix_error

PATH = "/_matrix/client/v3/user/%40op%3Aexample.org/account_data/io.github.matrixops.decommission"


def test_nothing_recorded(server: Server, client: Client) -> None:
    server.get(PATH, matrix_error("M_NOT_FOUND", "Account data not found"), status=404)
    assert store.read(client) == {}


@pytest.mark.parametrize(
    ("content", "milestones"),
    [
        ({"server_name": "example.org", "milestones": {"started": 1}}, {"started": 1}),
        (
            {"server_name": "example.org", "milestones": {"started": 1, "left_federated_rooms": 2}},
            {"started": 1, "left_federated_rooms": 2},
        ),
        ({"server_name": "example.com", "milestones": {"started": 1}}, {}),
        ({"server_name": "example.org"}, {}),
        ({"server_name": "example.org", "milestones": None}, {}),
        ({"server_name": "example.org", "milestones": ["started"]}, {}),
        ({"server_name": "example.org", "milestones": {"started": "1", "left_federated_rooms": None}}, {}),
        ({"server_name": "example.org", "milestones": {"started": 1.5, "unknown": 1}}, {}),
        ({"server_name": "example.org", "milestones": {"left_federated_rooms": 3}}, {"left_federated_rooms": 3}),
        ({}, {}),
        ({"server_name": "example.org", "milestones": {"started": 10**30, "left_federated_rooms": -1}}, {}),
        ({"server_name": "example.org", "milestones": {"left_federated_rooms": True}}, {}),
    ],
)
def test_what_is_recorded(server: Server, client: Client, content: Json, milestones: dict[str, int]) -> None:
    server.get(PATH, content)
    assert store.read(client) == milestones


def test_an_error_is_not_an_empty_record(server: Server, client: Client) -> None:
    server.get(PATH, matrix_error("M_FORBIDDEN", "no"), status=403)
    with pytest.raises(SynapseError, match="M_FORBIDDEN"):
        store.read(client)


def test_write(server: Server, client: Client) -> None:
    server.put(PATH, {"server_name": "example.org", "milestones": {"started": 1}})
    server.get(PATH, {"server_name": "example.org", "milestones": {"started": 1}})
    store.write(client, {"started": 1})


def test_aliases(server: Server, client: Client) -> None:
    path = f"{PATH}.aliases"
    server.get(path, matrix_error("M_NOT_FOUND", "Account data not found"), status=404)
    assert aliases.read_aliases(client) == {}
    content = {"server_name": "example.org", "aliases": {"#a:example.org": "!r"}}
    server.put(path, content)
    aliases.write_aliases(client, {"#a:example.org": "!r"})
    for found in (content, {**content, "aliases": {"#a:example.org": "!r", "#b:example.org": None}}):
        server.get(path, found)
        assert aliases.read_aliases(client) == {"#a:example.org": "!r"}
    for found in ({**content, "server_name": "example.com"}, {**content, "aliases": [1]}):
        server.get(path, found)
        assert aliases.read_aliases(client) == {}


@pytest.mark.parametrize(
    ("before", "mark", "clear", "after"),
    [
        ({}, [], [], {}),
        ({}, ["started"], [], {"started": 9}),
        ({"started": 1}, ["started"], [], {"started": 1}),
        ({"started": 1}, ["left_federated_rooms"], [], {"started": 1, "left_federated_rooms": 9}),
        ({"started": 1, "left_federated_rooms": 2}, [], ["left_federated_rooms"], {"started": 1}),
        (
            {"started": 1, "left_federated_rooms": 2},
            ["left_federated_rooms"],
            ["left_federated_rooms"],
            {"started": 1, "left_federated_rooms": 9},
        ),
        ({}, [], ["started"], {}),
    ],
)
def test_changes(before: dict[str, int], mark: list[str], clear: list[str], after: dict[str, int]) -> None:
    original = dict(before)
    assert store.changed(before, mark=mark, clear=clear, now=9) == after
    assert before == original
