# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.messages import (
    ADMIN_MESSAGES,
    MESSAGES,
    list_events,
    newest_event,
)
from ansible_collections.matrixops.synapse.tests.stubs.helpers import TOKEN, Json, Server, matrix_error, quoted, room_id

FILTER = {"types": ["m.room.message"]}
QUERY = {"dir": "f", "filter": json.dumps(FILTER), "limit": "1000"}


def page(server: Server, *event_ids: str, path: str = MESSAGES, query: Json | None = None, **more: Any) -> None:
    """Declare a page of the events of the room."""
    events = [{"event_id": event_id} for event_id in event_ids]
    options = {"token": more.pop("token", TOKEN)}
    url = path.format(quoted(room_id("r")))
    asked = {key: value for key, value in {**QUERY, **(query or {})}.items() if value is not None}
    server.get(url, {"chunk": events, **more}, query=asked, **options)


def events(client: Client, path: str = MESSAGES, token: str | None = None) -> list[object]:
    return [event["event_id"] for event in list_events(client, path, room_id("r"), FILTER, token)]


@pytest.mark.parametrize("path", [MESSAGES, ADMIN_MESSAGES])
def test_all_pages_are_read(server: Server, client: Client, path: str) -> None:
    page(server, "$1", "$2", path=path, end="p1")
    page(server, path=path, query={"from": "p1"}, end="p2")
    page(server, "$3", path=path, query={"from": "p2"})
    assert events(client, path) == ["$1", "$2", "$3"]


def test_a_page_that_is_its_own_successor_is_the_last(server: Server, client: Client) -> None:
    page(server, "$1", end="p1")
    page(server, query={"from": "p1"}, end="p1")
    assert events(client) == ["$1"]


def test_another_token(server: Server, client: Client) -> None:
    page(server, "$1", token="as_alice")
    assert events(client, token="as_alice") == ["$1"]


def test_an_error(server: Server, client: Client) -> None:
    page(server, "$1", end="p1")
    path = MESSAGES.format(quoted(room_id("r")))
    server.get(path, matrix_error("M_FORBIDDEN", "no"), status=403, query={**QUERY, "from": "p1"})
    with pytest.raises(SynapseError, match="M_FORBIDDEN"):
        events(client)


@pytest.mark.parametrize(
    ("end", "number"),
    [("t8-22_0_0_0", 23), ("t8-22", 23), ("s22_0_0", None), ("t-5-22", None), ("", None), (None, None)],
)
def test_the_number_of_the_newest_event(server: Server, client: Client, end: str | None, number: int | None) -> None:
    page(server, "$1", path=ADMIN_MESSAGES, query={"dir": "b", "limit": "1", "filter": None}, end=end)
    found = newest_event(client, room_id("r"))
    assert (found and (found[0]["event_id"], found[1])) == (number and ("$1", number))


def test_a_room_without_events(server: Server, client: Client) -> None:
    page(server, path=ADMIN_MESSAGES, query={"dir": "b", "limit": "1", "filter": None}, end="t8-22")
    assert newest_event(client, room_id("r")) is None


def test_a_room_that_was_purged(server: Server, client: Client) -> None:
    path = ADMIN_MESSAGES.format(quoted(room_id("r")))
    server.get(path, matrix_error("M_NOT_FOUND", "no room"), status=404, query={"dir": "b", "limit": "1"})
    assert newest_event(client, room_id("r")) is None
