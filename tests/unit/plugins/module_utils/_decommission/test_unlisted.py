# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Iterable

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import unlisted
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.leaving import Departure
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    USERS,
    Json,
    Server,
    matrix_error,
    quoted,
    room,
    room_id,
    user,
)

ALICE, BOB, CAROL = (f"@{name}:example.org" for name in ("alice", "bob", "carol"))
BOT = "@bot:example.org"
REMOTE = "@remote:example.com"
R1, R2, R3 = (room_id(name) for name in ("r1", "r2", "r3"))
FORBIDDEN = matrix_error("M_FORBIDDEN", "You are banned")


def test_unlisted_members(server: Server, client: Client) -> None:
    server.users(user("alice"), user("op", admin=True))
    server.rooms(room("r1", 2), room("r2", 1), room("r3", 1))
    server.members("r1", BOT, ALICE)
    server.members("r2", BOT, REMOTE)
    server.members("r3", "@notices:example.org", BOT)
    no_account(server, BOT, "@notices:example.org")
    assert unlisted.unlisted_members(client) == {R2: [BOT], R3: [BOT, "@notices:example.org"]}


def no_account(server: Server, *user_ids: str) -> None:
    for user_id in user_ids:
        server.get(f"{USERS}/{quoted(user_id)}", matrix_error("M_NOT_FOUND", "User not found"), status=404)


def test_a_member_that_the_listing_has_missed_is_an_error(server: Server, client: Client) -> None:
    server.users(user("op", admin=True))
    server.rooms(room("r1", 1), room("r2", 1))
    server.members("r1", BOT)
    server.members("r2", ALICE)
    server.user(user("alice"))
    no_account(server, BOT)
    with pytest.raises(FatalError, match="the listing of accounts has missed 1 accounts, for example @alice:"):
        unlisted.unlisted_members(client)


def test_a_guest_that_no_listing_has_is_an_unlisted_member(server: Server, client: Client) -> None:
    server.users(user("op", admin=True))
    server.rooms(room("r1", 1))
    server.members("r1", ALICE)
    server.user(user("alice", is_guest=True))
    assert unlisted.unlisted_members(client) == {R1: [ALICE]}


def clear(server: Server, name: str, *statuses: Json) -> None:
    path = "/_synapse/admin/v2/rooms"
    sent = {"purge": False, "block": False}
    server.whoami()
    server.delete(f"{path}/{quoted(room_id(name))}", {"delete_id": "d/1"}, sent=sent)
    for status in statuses:
        server.get(f"{path}/delete_status/d%2F1", status)


@pytest.fixture
def _in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rooms come in the order in which they are listed, also if two are looked into at the same time."""

    def in_order(_client: Client, function: Any, items: Iterable[Any], **_step: str) -> list[tuple[Any, Any]]:
        return [(item, function(item)) for item in items]

    monkeypatch.setattr(Client, "map", in_order)


@pytest.mark.usefixtures("_in_order")
def test_a_shutdown_that_is_refused_does_not_keep_from_the_next(server: Server, client: Client) -> None:
    server.users(user("alice"))
    server.rooms(room("r1", 1), room("r2", 1))
    server.members("r1", BOT)
    server.members("r2", BOT)
    no_account(server, BOT)
    sent = {"purge": False, "block": False}
    server.whoami()
    server.delete(f"/_synapse/admin/v2/rooms/{quoted(R1)}", FORBIDDEN, status=403, sent=sent)
    clear(server, "r2", {"status": "complete"})
    server.members("r2")
    (departure,) = unlisted.make_unlisted_leave(client)
    assert departure.left == [R2]
    assert "banned" in departure.failed[R1]


@pytest.mark.usefixtures("_in_order")
def test_depart_unlisted(server: Server, client: Client) -> None:
    server.users(user("alice"))
    server.rooms(room("r1", 1), room("r2", 1))
    server.members("r1", BOT)
    server.members("r2", BOT)
    no_account(server, BOT)
    clear(server, "r1", {"status": "complete"})
    server.members("r1")
    clear(server, "r2", {"status": "failed", "error": "corrupt"})
    server.members("r2", BOT)
    assert list(unlisted.make_unlisted_leave(client)) == [Departure(BOT, left=[R1], failed={R2: "corrupt"})]


def test_what_would_become_of_the_unlisted(server: Server, client: Client) -> None:
    server.users(user("alice"))
    server.rooms(room("r1", 2), room("r2", 1), room("r3", 2))
    server.members("r1", BOT, "@notices:example.org")
    server.members("r2", BOT, REMOTE)
    server.members("r3", BOT, ALICE)
    no_account(server, BOT, "@notices:example.org")
    planned = sorted(unlisted.plan_unlisted(client), key=lambda departure: departure.user_id)
    assert planned == [Departure(BOT, left=[R1, R2]), Departure("@notices:example.org", left=[R1])]
    assert set(server.methods) == {"GET"}


def test_nobody_unlisted(server: Server, client: Client) -> None:
    server.users(user("alice"))
    server.rooms(room("r1", 1))
    server.members("r1", ALICE)
    assert list(unlisted.make_unlisted_leave(client)) == []
