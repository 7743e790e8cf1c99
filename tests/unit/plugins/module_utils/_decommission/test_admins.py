# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
import requests
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.admins import deactivate_admins
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.closing import ClosingResult
from ansible_collections.matrixops.synapse.plugins.module_utils._mas.service import MasService
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import (
    FatalError,
    RefusedError,
)
from ansible_collections.matrixops.synapse.tests.stubs.helpers import TOKEN
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import Homeserver
from ansible_collections.matrixops.synapse.tests.stubs.mas import MasStub

ALICE, BOB, CHIEF, OP = (f"@{name}:example.org" for name in ("alice", "bob", "chief", "op"))
NO_ANSWER = requests.exceptions.ReadTimeout()


@pytest.fixture(autouse=True)
def population(homeserver: Homeserver) -> None:
    """Two admins besides the operator, and a user."""
    homeserver.register("alice", "bob", "chief")
    for user_id in (BOB, CHIEF):
        homeserver.accounts[user_id]["admin"] = True


def deactivate(client: Client, *user_ids: str, **options: Any) -> ClosingResult:
    return deactivate_admins(client, user_ids, **options)


def erased(homeserver: Homeserver) -> list[str]:
    return sorted(name for name, account in homeserver.accounts.items() if account.get("erased"))


def test_operator_is_last(homeserver: Homeserver, lone_client: Client) -> None:
    planned = deactivate(lone_client, OP, CHIEF, BOB, dry_run=True)
    assert sorted(planned.deactivated) == [BOB, CHIEF, OP] and homeserver.writes == []
    done = deactivate(lone_client, OP, CHIEF, BOB)
    assert done.deactivated == planned.deactivated
    assert erased(homeserver) == [BOB, CHIEF, OP]
    assert list(done.deactivated)[-1] == OP and OP in homeserver.writes[-1]
    with pytest.raises(FatalError, match="401"):
        deactivate(lone_client, OP)


def test_kept_admins_stay(homeserver: Homeserver, lone_client: Client) -> None:
    deactivate(lone_client, BOB, OP, keep=[CHIEF], erase=False)
    assert {u for u, a in homeserver.accounts.items() if a["deactivated"]} == {BOB, OP} and erased(homeserver) == []


def test_a_kept_operator_stays(homeserver: Homeserver, lone_client: Client) -> None:
    done = deactivate(lone_client, BOB, CHIEF, keep=[OP])
    assert sorted(done.deactivated) == erased(homeserver) == [BOB, CHIEF]
    # And may be named in a later run.
    assert deactivate(lone_client, BOB, CHIEF, OP).unchanged == 2


@pytest.mark.parametrize(
    ("user_ids", "keep", "message"),
    [
        ([], [], rf'does not name {BOB}, {CHIEF}, {OP}. Set it to \["{BOB}", "{CHIEF}", "{OP}"\]'),
        ([BOB, OP], [], f"does not name {CHIEF}"),
        ([BOB, CHIEF], [], f"does not name {OP}"),
        ([BOB, CHIEF, OP, ALICE], [], f"{ALICE} is not an admin"),
        ([BOB, CHIEF, OP], [CHIEF], f"{CHIEF} is to be kept"),
        ([BOB, CHIEF, OP, "@nobody:example.org"], [], "does not exist"),
        ([BOB, CHIEF, OP, "@bob:example.com"], [], "is not an account of example.org"),
    ],
)
def test_what_is_refused(
    homeserver: Homeserver, lone_client: Client, user_ids: list[str], keep: list[str], message: str
) -> None:
    with pytest.raises(FatalError, match=f"^No changes made: .*{message}"):
        deactivate(lone_client, *user_ids, keep=keep)
    assert homeserver.writes == []


def test_an_admin_that_cannot_be_deactivated(homeserver: Homeserver, lone_client: Client) -> None:
    homeserver.faults[f"POST deactivate {BOB}"] = [(403, {"errcode": "M_FORBIDDEN", "error": "no"})]
    done = deactivate(lone_client, BOB, CHIEF, OP)
    assert list(done.failed) == [BOB] and erased(homeserver) == [CHIEF]
    assert list(deactivate(lone_client, BOB, CHIEF, OP).deactivated) == [BOB, OP]


def test_an_account_that_becomes_an_admin_meanwhile(homeserver: Homeserver, lone_client: Client) -> None:
    deactivating = homeserver.deactivate

    def promote(user_id: str, **options: Any) -> None:
        deactivating(user_id, **options)
        homeserver.accounts[ALICE]["admin"] = True

    homeserver.deactivate = promote  # type: ignore[method-assign]
    with pytest.raises(FatalError, match=f"the operator, is still active, since other admins are: {ALICE}"):
        deactivate(lone_client, BOB, CHIEF, OP)
    assert erased(homeserver) == [BOB, CHIEF]
    assert list(deactivate(lone_client, ALICE, BOB, CHIEF, OP).deactivated) == [ALICE, OP]


def test_a_lost_answer(homeserver: Homeserver, lone_client: Client) -> None:
    """The token is invalid when the account is to be read."""
    deactivating = homeserver.deactivate

    def lose(user_id: str, **options: Any) -> None:
        deactivating(user_id, **options)
        if user_id == OP:
            raise NO_ANSWER

    homeserver.deactivate = lose  # type: ignore[method-assign]
    assert OP in deactivate(lone_client, BOB, CHIEF, OP).deactivated
    assert OP in erased(homeserver)


def test_a_token_that_is_invalid_before(homeserver: Homeserver, lone_client: Client) -> None:
    deactivating = homeserver.deactivate

    def revoke(user_id: str, **options: Any) -> None:
        deactivating(user_id, **options)
        if user_id == CHIEF:
            homeserver.sessions.pop(TOKEN)

    homeserver.deactivate = revoke  # type: ignore[method-assign]
    done = deactivate(lone_client, CHIEF, OP, keep=[BOB])
    assert done.aborted is not None and done.aborted.status == 401
    assert OP not in done.deactivated and OP not in erased(homeserver)


def test_admins_of_the_login_service(
    homeserver: Homeserver, mas: MasStub, service: MasService, lone_client: Client
) -> None:
    _id, alice = mas.user_of("alice")
    alice["admin"] = True
    mas.add_user("phantom", admin=True)
    phantom = "@phantom:example.org"
    with pytest.raises(FatalError, match=f"does not name {ALICE}, {phantom}"):
        deactivate(lone_client, BOB, CHIEF, OP)
    done = deactivate(lone_client, ALICE, BOB, CHIEF, phantom, OP)
    assert sorted(done.deactivated) == [ALICE, BOB, CHIEF, OP, phantom]
    assert mas.active == set() and erased(homeserver) == [ALICE, BOB, CHIEF, OP]


def test_a_service_that_does_not_deactivate_the_operator(
    mas: MasStub, service: MasService, lone_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = service.deactivate
    monkeypatch.setattr(service, "deactivate", lambda name, **options: name == "op" or really(name, **options))
    with pytest.raises(RefusedError, match="still active in the Matrix Authentication Service"):
        deactivate(lone_client, BOB, CHIEF, OP)
    assert mas.active == {"alice", "op"}
