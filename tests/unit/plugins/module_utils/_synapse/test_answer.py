# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answers with status 200 that no Synapse gives, but whatever else listens at base_url may."""

from __future__ import annotations

import re
from typing import Any, Callable

import pytest
import responses
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import eligibility
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse import (
    accounts,
    aliases,
    room_state,
    rooms,
    server,
    sessions,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import BASE_URL, OPERATOR, TOKEN

A, ROOM = "@a:example.org", "!r:example.org"
CREATE = room_state.CREATE
NO_SENDER = {"type": CREATE, "state_key": "", "content": {"room_version": "12"}}
NO_CONTENT = {"type": CREATE, "state_key": "", "content": None}


def enter(manager: Any) -> None:
    with manager:
        pass


@pytest.mark.parametrize(
    ("end", "answer", "call"),
    [
        ("whoami", {}, lambda client: client.user_id),
        ("whoami", {"user_id": None}, lambda client: client.server_name),
        ("whoami", {"user_id": "op"}, lambda client: client.server_name),
        ("login", {}, lambda client: client.login("op", "secret")),
        ("login", {}, lambda client: sessions.Session(client, A, locked=False).token),
        ("server_version", {}, server.server_info),
        ("users", {"users": [None], "total": 1}, lambda client: list(accounts.list_users(client))),
        ("users", {"users": [{}], "total": 1}, lambda client: list(accounts.list_users(client))),
        ("users", {"users": [{"name": []}], "total": 1}, lambda client: list(accounts.list_users(client))),
        ("users", {"users": [], "total": 0, "next_token": []}, lambda client: list(accounts.list_users(client))),
        ("%40a%3Aexample.org", {}, lambda client: eligibility.find_accounts(client, [A])),
        ("%40a%3Aexample.org", {"name": A}, lambda client: eligibility.find_accounts(client, [A])),
        ("users", {"users": []}, lambda client: list(accounts.list_users(client))),
        ("rooms", {"rooms": [7], "total_rooms": 1}, lambda client: list(rooms.list_rooms(client, occupied=True))),
        ("rooms", {"rooms": [{}], "total_rooms": 1}, lambda client: list(rooms.list_rooms(client, occupied=True))),
        ("members", {}, lambda client: rooms.local_members(client, ROOM)),
        ("members", {"members": None}, lambda client: rooms.local_members(client, ROOM)),
        ("members", {"members": [7]}, lambda client: rooms.local_members(client, ROOM)),
        ("joined_rooms", {}, lambda client: rooms.joined_rooms(client, A)),
        ("joined_rooms", {"joined_rooms": None}, lambda client: rooms.joined_rooms(client, A)),
        ("joined_rooms", {"joined_rooms": 7}, lambda client: rooms.joined_rooms(client, A)),
        ("joined_rooms", {"joined_rooms": {}}, lambda client: rooms.joined_rooms(client, A)),
        ("joined_rooms", {"joined_rooms": "abc"}, lambda client: rooms.joined_rooms(client, A)),
        ("sync", {"rooms": None}, lambda client: rooms.memberships(client, OPERATOR)),
        ("sync", {"rooms": {"invite": None}}, lambda client: rooms.memberships(client, OPERATOR)),
        ("memberships", {}, lambda client: rooms.visible_memberships(client, A)),
        ("memberships", {"memberships": []}, lambda client: rooms.visible_memberships(client, A)),
        ("%21r%3Aexample.org", {}, lambda client: rooms.shut_down(client, ROOM)),
        ("aliases", {}, lambda client: aliases.local_aliases(client, ROOM)),
        ("aliases", {"aliases": [7]}, lambda client: aliases.local_aliases(client, ROOM)),
        ("state", {}, lambda client: room_state.read_state(client, ROOM, [CREATE], 1)),
        ("state", {"state": [7]}, lambda client: room_state.read_state(client, ROOM, [CREATE], 1)),
        ("state", {"state": [NO_SENDER]}, lambda client: room_state.read_state(client, ROOM, [CREATE], 1)),
        ("state", {"state": [NO_CONTENT]}, lambda client: room_state.read_state(client, ROOM, [CREATE], 1)),
    ],
)
def test_an_answer_of_another_shape(end: str, answer: Any, call: Callable[[Client], object]) -> None:
    known = {"whoami": {"user_id": OPERATOR}, "versions": {}, "joined_rooms": {"joined_rooms": []}, end: answer}
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock, Client(BASE_URL, TOKEN) as client:
        for last, body in known.items():
            for method in ("GET", "POST", "DELETE"):
                pattern = re.compile(f".*/{last}([?].*)?$")
                mock.add(method, pattern, json=body, headers={"Date": "Mon, 23 Nov 2026 06:40:00 GMT"})
        with pytest.raises(SynapseError, match="the answer has"):
            call(client)
