# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._mas.service import MasService
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.accounts import (
    deactivate,
    get_user,
    list_users,
    set_locked,
    unknown_to_synapse,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import RefusedError
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.rooms import leave
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.sessions import Session, can_act_as_others
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver
from ansible_collections.matrixops.synapse.tests.stubs.mas import MasStub

ALICE = "@alice:example.org"
BRIDGED = "@_bridge_1:example.org"


@pytest.fixture(autouse=True)
def alice(homeserver: Homeserver, mas: MasStub, service: MasService) -> None:
    homeserver.populate(alice=["room"])
    homeserver.register("alice", "_bridge_1")
    mas.add_user("alice")


def test_sessions(homeserver: Homeserver, mas: MasStub, lone_client: Client) -> None:
    assert can_act_as_others(lone_client)
    with Session(lone_client, ALICE) as session:
        leave(lone_client, "!room:example.org", session.token)
        # A limit of the operator does not apply to such a session.
        assert homeserver.overrides[ALICE] == {"messages_per_second": 0, "burst_count": 0}
        assert mas.active_sessions == ["matrixops.synapse 1234"]
    assert mas.active_sessions == [] and homeserver.overrides == {}
    assert homeserver.joined.get(ALICE, []) == []


def test_a_locked_account_is_unlocked_first(mas: MasStub, lone_client: Client) -> None:
    _user_id, user = mas.user_of("alice")
    user["locked_at"] = "now"
    with Session(lone_client, ALICE) as session:
        assert session.token and user["locked_at"] is None
        assert [request.split("/")[-1] for request in mas.log if request.startswith("POST users/")] == ["unlock"]
    assert user["locked_at"] is not None
    # The drain leaves such an account to Synapse, also if Synapse does not know of the lock.
    with pytest.raises(RefusedError, match="locked in the Matrix"), Session(
        lone_client, ALICE, locked=False
    ) as session:
        session.token  # noqa: B018 opens it


def test_all_sessions_of_an_account_are_ended(mas: MasStub, service: MasService) -> None:
    mas.sign_in("alice")
    service.end_all_sessions("alice")
    assert mas.open_sessions("alice") == []
    with pytest.raises(RefusedError, match="has no user 'nobody'"):
        service.end_all_sessions("nobody")


def test_an_account_that_the_service_does_not_know(
    homeserver: Homeserver, mas: MasStub, lone_client: Client, service: MasService
) -> None:
    with pytest.raises(RefusedError, match="has no user"), Session(lone_client, BRIDGED, locked=False) as session:
        session.token  # noqa: B018 opens it
    set_locked(lone_client, BRIDGED, True)
    deactivate(lone_client, BRIDGED, erase=True)
    assert homeserver.locks == [(BRIDGED, True)] and homeserver.accounts[BRIDGED]["erased"]
    assert service.account("_bridge_1") is None


def test_deactivation_is_seen_on_the_homeserver(homeserver: Homeserver, mas: MasStub, lone_client: Client) -> None:
    deactivate(lone_client, ALICE, erase=True)
    assert homeserver.accounts[ALICE]["erased"] and "alice" not in mas.active
    assert homeserver.count("v1/deactivate") == 0
    mas.add_user("phantom")
    listings = mas.log.count("GET users")
    assert [account.username for account in unknown_to_synapse(lone_client)] == ["phantom"]
    assert mas.log.count("GET users") == listings + 1
    deactivate(lone_client, "@phantom:example.org", erase=True)
    assert "phantom" not in mas.active


def test_jobs_without_effect(homeserver: Homeserver, mas: MasStub, lone_client: Client) -> None:
    mas.dropped_jobs = 99
    deactivate(lone_client, ALICE, erase=True)
    assert homeserver.accounts[ALICE]["erased"] and "POST deactivate " + ALICE in homeserver.steps


def test_accounts_are_what_both_say(homeserver: Homeserver, mas: MasStub, lone_client: Client) -> None:
    """An account is deactivated only if it is so in both, and an admin if it is one in either."""
    _id, user = mas.user_of("alice")
    homeserver.accounts[ALICE].update(deactivated=True, erased=True)
    assert get_user(lone_client, ALICE)["deactivated"] is False
    user["deactivated_at"] = "now"
    assert get_user(lone_client, ALICE)["deactivated"] is True
    user.update(admin=True, locked_at="now")
    listed = {found["name"]: found for found in list_users(lone_client)}
    assert listed[ALICE]["admin"] and listed[ALICE]["locked"] and listed[ALICE]["deactivated"]
    assert [found["name"] for found in list_users(lone_client, active=True)] == [BRIDGED, homeserver.operator]
    assert [found["name"] for found in list_users(lone_client, active=False)] == [ALICE]


def test_guests_are_known_to_the_service_alone(homeserver: Homeserver, mas: MasStub, lone_client: Client) -> None:
    homeserver.register("guest1", is_guest=True)
    mas.add_user("guest1", legacy_guest=True)
    mas.add_user("guest2", legacy_guest=True)
    assert "@guest1:example.org" in [found["name"] for found in list_users(lone_client)]
    assert [account.username for account in unknown_to_synapse(lone_client)] == ["guest2"]
