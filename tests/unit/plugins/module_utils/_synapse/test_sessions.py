# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.sessions import RENEWAL_AGE, Session, end_all
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    OPERATOR,
    TOKEN,
    USERS,
    VERSIONS,
    Clock,
    Server,
    matrix_error,
    quoted,
    user,
)

ALICE, BOB = "@alice:example.org", "@bob:example.org"
LOGOUT = "/_matrix/client/v3/logout"
FORBIDDEN = matrix_error("M_FORBIDDEN", "no")


def lock(server: Server, user_id: str, locked: bool) -> None:
    server.put(f"{USERS}/{quoted(user_id)}", {"locked": locked})


def test_a_session_lasts_an_hour_by_the_clock_of_the_server(server: Server, client: Client) -> None:
    server.can_act_as(ALICE, "fresh")
    server.get("/path", token="fresh")
    server.get("/path", token="fresh")
    server.logout("fresh")
    with Session(client, ALICE, locked=False) as session:
        client.get("/path", token=session.token)
        client.get("/path", token=session.token)


def test_a_session_that_is_not_used_is_not_opened(server: Server, client: Client) -> None:
    with Session(client, ALICE):
        pass
    assert server.methods == ["GET"]


def test_a_session_is_ended_after_an_error(server: Server, client: Client) -> None:
    server.can_act_as(ALICE, "fresh")
    server.logout("fresh")
    with pytest.raises(ValueError, match="in the middle"), Session(client, ALICE, locked=False) as session:
        raise ValueError(f"in the middle of {session.token}")


def test_a_session_that_has_expired_is_no_error(server: Server, client: Client) -> None:
    server.can_act_as(ALICE, "fresh")
    server.post(LOGOUT, {}, matrix_error("M_UNKNOWN_TOKEN", "gone"), status=401, token="fresh")
    with Session(client, ALICE, locked=False) as session:
        assert session.token == "fresh"


def test_a_session_is_replaced_before_it_expires(server: Server, client: Client, clock: Clock) -> None:
    server.can_act_as(ALICE, "first")
    with Session(client, ALICE, locked=False) as session:
        assert session.token == "first"
        clock.now += RENEWAL_AGE - 1
        assert session.token == "first"
        clock.now += 1
        server.can_act_as(ALICE, "second", date=False, age=RENEWAL_AGE)
        assert session.token == "second"
        server.logout("first")
        server.logout("second")


def test_the_operator_needs_no_session(server: Server, client: Client) -> None:
    server.get("/path", token=TOKEN)
    with Session(client, OPERATOR) as session:
        client.get("/path", token=session.token)


def test_no_session_is_opened_without_the_time_of_the_server(server: Server, client: Client) -> None:
    server.get(VERSIONS)
    session = Session(client, ALICE, locked=False)
    with pytest.raises(SynapseError, match="Date"):
        assert session.token


def test_the_session_of_a_guest_cannot_be_ended(server: Server, client: Client) -> None:
    server.can_act_as(ALICE, "fresh")
    refusal = matrix_error("M_GUEST_ACCESS_FORBIDDEN", "Guest access not allowed")
    server.post(LOGOUT, {}, refusal, status=403, token="fresh")
    with Session(client, ALICE, locked=False) as session:
        assert session.token == "fresh"


def test_a_locked_account_is_unlocked_while_its_session_is_open(server: Server, client: Client) -> None:
    server.user(user(ALICE, locked=True))
    lock(server, ALICE, False)
    server.can_act_as(ALICE, "fresh")
    server.get("/path", token="fresh")
    server.logout("fresh")
    lock(server, ALICE, True)
    with Session(client, ALICE) as session:
        client.get("/path", token=session.token)


def test_a_locked_account_is_locked_again_if_its_session_cannot_be_opened(server: Server, client: Client) -> None:
    lock(server, ALICE, False)
    server.can_act_as(ALICE, "fresh", FORBIDDEN, status=403)
    lock(server, ALICE, True)
    with pytest.raises(SynapseError, match="M_FORBIDDEN"), Session(client, ALICE, locked=True) as session:
        assert session.token


def test_a_locked_account_is_locked_again_if_its_session_cannot_be_ended(server: Server, client: Client) -> None:
    lock(server, ALICE, False)
    server.can_act_as(ALICE, "fresh")
    server.post(LOGOUT, {}, FORBIDDEN, status=403, token="fresh")
    lock(server, ALICE, True)
    with pytest.raises(SynapseError, match="M_FORBIDDEN"), Session(client, ALICE, locked=True) as session:
        assert session.token


@pytest.mark.parametrize("fields", [{}, {"locked": False}, {"locked": None}])
def test_an_account_that_is_not_locked_stays_as_it_is(
    server: Server, client: Client, fields: dict[str, bool | None]
) -> None:
    server.get(f"{USERS}/{quoted(ALICE)}", {"name": ALICE, "admin": 0, "is_guest": 0, "deactivated": 1, **fields})
    server.can_act_as(ALICE, "fresh")
    server.logout("fresh")
    with Session(client, ALICE) as session:
        assert session.token == "fresh"
    assert "PUT" not in server.methods


def test_an_account_that_cannot_be_unlocked(server: Server, client: Client) -> None:
    server.user(user(ALICE, locked=True))
    server.put(f"{USERS}/{quoted(ALICE)}", {"locked": False}, FORBIDDEN, status=403)
    with pytest.raises(SynapseError, match="M_FORBIDDEN"), Session(client, ALICE) as session:
        assert session.token


def test_a_session_that_cannot_be_ended_does_not_keep_the_others_open(server: Server, client: Client) -> None:
    sessions = [Session(client, user_id, locked=False) for user_id in (ALICE, BOB)]
    server.can_act_as(ALICE, "a")
    server.can_act_as(BOB, "b", date=False)
    assert [session.token for session in sessions] == ["a", "b"]
    server.post(LOGOUT, {}, FORBIDDEN, status=403, token="a")
    server.logout("b")
    (problem,) = end_all(client, sessions)
    assert problem.startswith(f"the session as {ALICE} could not be ended: ")
