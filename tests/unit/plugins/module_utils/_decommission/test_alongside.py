# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.alongside import (
    is_joined,
    may_be_member,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.tests.stubs.helpers import SERVER, USERS, Server, quoted, room_id, user

ALICE, R = f"@alice:{SERVER}", room_id("r")


@pytest.mark.parametrize("listed", ["join", "invite"])
def test_an_account_that_is_joined(server: Server, client: Client, listed: str) -> None:
    server.joined(ALICE, "r")
    server.joined(ALICE, "r")
    assert is_joined(client, ALICE, R, listed)
    assert may_be_member(client, ALICE, R, listed)


def test_an_account_that_is_not_joined(server: Server, client: Client) -> None:
    server.joined(ALICE, "another")
    server.joined(ALICE, "another")
    assert not is_joined(client, ALICE, R, "join")
    assert not may_be_member(client, ALICE, R, "join")


@pytest.mark.parametrize("listed", ["invite", "knock", "pending", "unknown"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_new_invite_cannot_be_distinguished(server: Server, client: Client, listed: str, exists: bool) -> None:
    server.joined(ALICE)
    if exists:
        server.user(user("alice"))
    else:
        server.get(f"{USERS}/{quoted(ALICE)}", {"errcode": "M_NOT_FOUND", "error": "User not found"}, status=404)
    assert may_be_member(client, ALICE, R, listed) is exists
