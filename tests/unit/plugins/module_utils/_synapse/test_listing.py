# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError, SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.listing import list_all, list_pages
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Json, Server, matrix_error

QUERY = {"limit": "10000"}
EVERYBODY = "abcde"


def numbers(client: Client, **more: Any) -> list[Any]:
    return [item["n"] for page in list_pages(client, "/list", **more) for item in page.objects("items")]


def names(client: Client, **more: Any) -> str:
    return "".join(item["name"] for item in list_all(client, "/list", "items", name_key="name", **more))


def pages(server: Server, *found: tuple[str, int], more: int = 0) -> None:
    """Declare one listing: the names and the total of each page."""
    for number, (items, total) in enumerate(found, 1):
        answer: Json = {"items": [{"name": name} for name in items], "total": total}
        if number < len(found) + more:
            answer["next_token"] = str(number)
        server.get("/list", answer, query=QUERY if number == 1 else {**QUERY, "from": str(number - 1)})


# Pages


def test_pages(server: Server, fresh_client: Client) -> None:
    query = {"limit": "10000", "name": "a"}
    server.get("/list", {"items": [{"n": 1}, {"n": 2}], "next_token": "2"}, query=query)
    server.get("/list", {"items": [], "next_token": 3}, query={**query, "from": "2"})
    server.get("/list", {"items": [{"n": 3}]}, query={**query, "from": "3"})
    assert numbers(fresh_client, params={"name": "a"}) == [1, 2, 3]


def test_pages_are_read_as_needed(server: Server, fresh_client: Client) -> None:
    server.get("/list", {"items": [{"n": 1}, {"n": 2}], "next_token": "2"}, query=QUERY)
    assert next(list_pages(fresh_client, "/list"))["items"] == [{"n": 1}, {"n": 2}]


def test_another_name_for_the_token(server: Server, fresh_client: Client) -> None:
    server.get("/list", {"items": [{"n": 1}], "next_batch": 0}, query={"limit": "5"})
    server.get("/list", {"items": [{"n": 2}], "next_token": "not this"}, query={"limit": "5", "from": "0"})
    assert numbers(fresh_client, params={"limit": 5}, next_key="next_batch") == [1, 2]


def test_pages_without_end(server: Server, fresh_client: Client) -> None:
    server.get("/list", {"items": [], "next_token": "0"}, query=QUERY)
    server.get("/list", {"items": [], "next_token": "0"}, query={**QUERY, "from": "0"})
    with pytest.raises(SynapseError, match="has '0' for a page token"):
        numbers(fresh_client)


@pytest.mark.parametrize("answer", [{}, {"items": None}, {"items": 3}, {"items": {}}, {"items": "abc"}, {"items": [1]}])
def test_a_page_without_its_list(server: Server, fresh_client: Client, answer: dict[str, Any]) -> None:
    server.get("/list", {"total": 1, **answer}, query=QUERY)
    with pytest.raises(SynapseError, match="'items'"):
        names(fresh_client)


def test_an_error_on_a_later_page(server: Server, fresh_client: Client) -> None:
    server.get("/list", {"items": [{"n": 1}], "next_token": "1"}, query=QUERY)
    server.get("/list", matrix_error("M_UNKNOWN", "broken"), status=500, query={**QUERY, "from": "1"})
    with pytest.raises(SynapseError, match="broken"):
        numbers(fresh_client)


# Complete listings


def test_a_complete_listing_is_read_once(server: Server, fresh_client: Client) -> None:
    pages(server, ("abc", 5), ("de", 5))
    assert names(fresh_client) == EVERYBODY


def test_an_item_that_moves_to_the_next_page_comes_once(server: Server, fresh_client: Client) -> None:
    pages(server, ("abd", 4), ("de", 5), ("", 5))
    pages(server, ("abc", 5), ("de", 5))
    assert names(fresh_client) == "abdec"


def test_fewer_items_than_the_total_are_listed_again(server: Server, fresh_client: Client) -> None:
    pages(server, ("abc", 5), ("e", 5))
    pages(server, ("abc", 5), ("de", 5))
    assert names(fresh_client) == "abced"


def test_an_item_that_is_removed_may_hide_another(server: Server, fresh_client: Client) -> None:
    # After the first page, "a" is removed, and "d" moves to the first page: four of four, but not the right ones.
    pages(server, ("abc", 5), ("e", 4))
    pages(server, ("bcd", 4), ("e", 4))
    assert names(fresh_client) == "abced"


def test_a_listing_that_stays_short_is_fatal(server: Server, fresh_client: Client) -> None:
    for _listing in range(4):
        pages(server, ("abc", 5), ("e", 5))
    with pytest.raises(FatalError, match=r"lists 4 items, but there are 5, in each of 4 listings") as caught:
        names(fresh_client)
    assert "stop what changes them, then run again" in caught.value.advice


def test_a_page_without_a_total_is_an_error(server: Server, fresh_client: Client) -> None:
    server.get("/list", {"items": []}, query=QUERY)
    with pytest.raises(SynapseError, match="has no int 'total'"):
        names(fresh_client)


def test_other_names_for_the_keys(server: Server, fresh_client: Client) -> None:
    server.get("/list", {"items": [{"id": "a"}], "all": 1}, query={**QUERY, "order_by": "id"})
    found = list_all(fresh_client, "/list", "items", name_key="id", total_key="all", params={"order_by": "id"})
    assert list(found) == [{"id": "a"}]
