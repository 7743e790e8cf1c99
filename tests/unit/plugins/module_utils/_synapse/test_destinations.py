# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse import destinations
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.destinations import (
    Destination,
    destination_rooms,
    list_destinations,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Json, Server, room_id

DESTINATIONS = "/_synapse/admin/v1/federation/destinations"
DOWN = {"retry_last_ts": 5_000, "retry_interval": 60_000, "failure_ts": 1_000}


def row(name: Any, **more: Any) -> Json:
    return {"destination": name, "retry_last_ts": 0, "retry_interval": 0, "failure_ts": None, **more}


def listing(server: Server, *rows: Json) -> None:
    server.get(DESTINATIONS, {"destinations": list(rows), "total": len(rows)}, query={"limit": "10000"})


@pytest.mark.parametrize(
    ("more", "failing_since", "next_retry"),
    [
        ({}, None, None),
        ({"retry_last_ts": None, "retry_interval": None}, None, None),
        (DOWN, 1, 65),
        ({**DOWN, "failure_ts": None}, None, 65),
        ({"failure_ts": 1_000}, 1, None),
    ],
)
def test_times_are_in_seconds(
    server: Server, client: Client, more: Json, failing_since: int | None, next_retry: int | None
) -> None:
    listing(server, row("a", **more))
    (found,) = list_destinations(client)
    assert found == Destination("a", failing_since, next_retry)
    assert found.failing is (failing_since is not None or next_retry is not None)


def test_a_destination_that_moves_to_the_next_page_comes_once(server: Server, client: Client) -> None:
    query = {"limit": "10000"}
    server.get(DESTINATIONS, {"destinations": [row("a"), row("b")], "next_token": "2", "total": 2}, query=query)
    server.get(DESTINATIONS, {"destinations": [row("b", **DOWN), row("c")], "total": 3}, query={**query, "from": "2"})
    found = list(list_destinations(client))
    assert [destination.name for destination in found] == ["a", "b", "c"]
    assert not any(destination.failing for destination in found)


@pytest.mark.parametrize("wrong", [row(None), row(7), {}, row("a", failure_ts="1"), row("a", retry_last_ts=[1])])
def test_answers_that_are_not_synapses(server: Server, client: Client, wrong: Json) -> None:
    listing(server, wrong)
    with pytest.raises(SynapseError, match="the answer has"):
        list(list_destinations(client))


def rooms(server: Server, start: int, *names: str, total: int, **more: Any) -> None:
    """Declare a page of the rooms of x.net:8448, of which two are asked for at once."""
    rows = [{"room_id": room_id(name), "stream_ordering": ord(name)} for name in names]
    query = {"limit": "2", "from": str(start)}
    server.get(f"{DESTINATIONS}/x.net%3A8448/rooms", {"rooms": rows, "total": total, **more}, query=query)


@pytest.fixture
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destinations, "ROOMS_PER_PAGE", 2)


@pytest.mark.usefixtures("_small_pages")
def test_rooms_come_in_pages(server: Server, client: Client) -> None:
    rooms(server, 0, "a", "b", total=3, next_token="2")
    rooms(server, 2, "c", total=3)
    assert destination_rooms(client, "x.net:8448") == {room_id("a"): 97, room_id("b"): 98, room_id("c"): 99}


@pytest.mark.usefixtures("_small_pages")
def test_a_destination_without_rooms(server: Server, client: Client) -> None:
    rooms(server, 0, total=0)
    assert destination_rooms(client, "x.net:8448") == {}


@pytest.mark.usefixtures("_small_pages")
def test_rooms_that_vanish_between_pages(server: Server, client: Client) -> None:
    """A room is purged after the first page, and another moves out of sight."""
    rooms(server, 0, "a", "b", total=4, next_token="2")
    rooms(server, 2, "d", total=4)
    with pytest.raises(SynapseError, match="lists fewer rooms than its total"):
        destination_rooms(client, "x.net:8448")


@pytest.mark.usefixtures("_small_pages")
def test_an_empty_page_is_the_last(server: Server, client: Client) -> None:
    """Also with a token for the next one, which would go on for ever."""
    rooms(server, 0, "a", "b", total=2, next_token="2")
    rooms(server, 2, total=2, next_token="2")
    assert destination_rooms(client, "x.net:8448") == {room_id("a"): 97, room_id("b"): 98}
