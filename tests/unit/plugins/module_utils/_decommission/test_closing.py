# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.closing import (
    ClosingResult,
    Options,
    close_accounts,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.eligibility import Eligibility
from ansible_collections.matrixops.synapse.plugins.module_utils._mas.service import MasService
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver
from ansible_collections.matrixops.synapse.tests.stubs.mas import MasStub

TIMEOUT = 10.0
ALICE, BOB, CHIEF, PHANTOM, BRIDGED = (f"@{n}:example.org" for n in ("alice", "bob", "chief", "phantom", "_bridge"))


@pytest.fixture(autouse=True)
def population(homeserver: Homeserver, mas: MasStub, service: MasService) -> None:
    """Two users, an admin of the service alone, a user that Synapse does not have, and one of a bridge."""
    homeserver.register("alice", "bob", "chief", "_bridge")
    for name in ("alice", "bob", "phantom"):
        mas.add_user(name)
    mas.add_user("chief", admin=True)


def close(client: Client, *user_ids: str, dry_run: bool = False, erase: bool = True, **rule: object) -> ClosingResult:
    eligibility = Eligibility(**rule)  # type: ignore[arg-type]
    options = Options(eligibility, erase=erase, wait_timeout=TIMEOUT, dry_run=dry_run)
    return close_accounts(client, list(user_ids) or None, options)


def test_all_accounts_of_both(homeserver: Homeserver, mas: MasStub, lone_client: Client) -> None:
    planned = close(lone_client, keep=[BOB], dry_run=True)
    assert sorted(planned.deactivated) == [BRIDGED, ALICE, PHANTOM] and homeserver.writes == []
    done = close(lone_client, keep=[BOB])
    assert done.deactivated == planned.deactivated and not done.failed
    assert mas.active == {"op", "bob", "chief"}
    assert {name for name, account in homeserver.accounts.items() if account["erased"]} == {ALICE, BRIDGED}
    again = close(lone_client, keep=[BOB])
    assert again.deactivated == {} and again.unchanged == 3


def test_named_accounts(homeserver: Homeserver, mas: MasStub, lone_client: Client) -> None:
    done = close(lone_client, ALICE, PHANTOM, BRIDGED, CHIEF, allow_admins=True, erase=False)
    assert sorted(done.deactivated) == [BRIDGED, ALICE, CHIEF, PHANTOM]
    assert mas.active == {"op", "bob"} and not homeserver.accounts[ALICE]["erased"]


def test_accounts_are_out_of_all_rooms(homeserver: Homeserver, mas: MasStub, lone_client: Client) -> None:
    homeserver.populate(alice=["r1", "r2", "r3"], _bridge=["r1"])
    done = close(lone_client, ALICE, BRIDGED, PHANTOM)
    assert len(done.deactivated) == 3 and not done.failed
    assert not homeserver.joined.get(ALICE) and not homeserver.joined.get(BRIDGED)


def test_an_account_that_does_not_leave(homeserver: Homeserver, lone_client: Client) -> None:
    homeserver.populate(alice=["r1", "r2"], bob=["r1"])
    homeserver.broken.add("!r2:example.org")
    done = close(lone_client, ALICE, BOB)
    assert list(done.failed) == [ALICE] and "still joined to !r2:example.org. To make it leave" in done.failed[ALICE]
    assert homeserver.accounts[ALICE]["erased"] and not homeserver.joined.get(BOB)


@pytest.mark.parametrize("state", [{}, {"deactivated": True}])
def test_an_old_synapse_erases_only_accounts_in_no_room(
    homeserver: Homeserver, mas: MasStub, lone_client: Client, state: dict[str, object]
) -> None:
    homeserver.version = "1.149.0"
    homeserver.populate(alice=["r1"])
    homeserver.accounts[ALICE].update(state)
    if state:
        mas.user_of("alice")[1]["deactivated_at"] = "before"
        homeserver.leaving.append(ALICE)
    done = close(lone_client, ALICE, PHANTOM)
    assert set(done.deactivated) == {ALICE, PHANTOM} and homeserver.accounts[ALICE]["erased"]
    assert homeserver.rejoining == {} and not homeserver.joined.get(ALICE)
    assert close(lone_client, ALICE, PHANTOM).deactivated == {}


@pytest.mark.parametrize(
    ("user_ids", "message"),
    [
        ([CHIEF], "is an admin"),
        (["@op:example.org"], "is the operator"),
        (["@nobody:example.org"], "does not exist"),
        ([BOB], "is to be kept"),
    ],
)
def test_what_is_refused(mas: MasStub, lone_client: Client, user_ids: list[str], message: str) -> None:
    before = set(mas.active)
    with pytest.raises(FatalError, match=f"No changes made: .*{message}"):
        close(lone_client, ALICE, *user_ids, keep=[BOB])
    assert mas.active == before


def test_an_account_to_keep_that_does_not_exist(lone_client: Client) -> None:
    with pytest.raises(FatalError, match="to be kept, but does not exist"):
        close(lone_client, keep=["@typo:example.org"])


@pytest.mark.parametrize("name", ["alice", "phantom"])
def test_an_account_that_becomes_an_admin_meanwhile(mas: MasStub, lone_client: Client, name: str) -> None:
    _id, user = mas.user_of(name)
    listed = mas._page

    def promote(kind: str, *arguments: object) -> object:
        page = listed(kind, *arguments)  # type: ignore[arg-type]
        promote.listings += 1  # type: ignore[attr-defined]
        # After the last listing.
        user["admin"] = promote.listings == LISTINGS  # type: ignore[attr-defined]
        return page

    promote.listings = 0  # type: ignore[attr-defined]
    mas._page = promote  # type: ignore[assignment, method-assign]
    done = close(lone_client)
    assert "is an admin" in done.failed[f"@{name}:example.org"] and name in mas.active


LISTINGS = 2
"""How many times the users are listed: for those that only the service has, and with the accounts of Synapse."""


def test_a_service_that_stops(mas: MasStub, lone_client: Client) -> None:
    change = mas._change_user

    def stop(*arguments: object) -> None:
        change(*arguments)  # type: ignore[arg-type]
        mas.down = True

    mas._change_user = stop  # type: ignore[assignment, method-assign]
    done = close(lone_client)
    assert done.aborted is not None or len(done.failed) >= 2
    mas.down = False
    mas._change_user = change  # type: ignore[method-assign]
    assert close(lone_client).aborted is None
    assert mas.active == {"op", "chief"}
