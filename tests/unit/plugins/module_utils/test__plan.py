# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils import _plan
from ansible_collections.matrixops.synapse.plugins.module_utils._plan import Plan

SERVER_INFO = {
    "server_name": "example.org",
    "version": "1.163.2",
    "operator": "@op:example.org",
    "delegated_auth": False,
    "registration": False,
    "ways_in": [],
    "known_issues": [],
}
QUIET = {"total": 3, "unreachable": {}, "never_contacted": []}


def a_plan(**more: Any) -> Plan:
    parts = {"erase": True, "servers": QUIET, "rooms": {"local": 2, "federated": 1}, **more}
    return Plan({**SERVER_INFO, **parts.pop("server", {})}, **parts)


def warned(plan: Plan) -> dict[str, str]:
    return {warning.about: warning.message for warning in _plan._warnings(plan)}


def test_nothing_to_warn_of() -> None:
    assert warned(a_plan(findings={kind: [] for kind in _plan._FINDINGS})) == {}


@pytest.mark.parametrize("kind", _plan._FINDINGS)
def test_a_finding(kind: str) -> None:
    messages = warned(a_plan(findings={kind: [f"!{number}:example.org" for number in range(1007)]}))
    assert list(messages) == [kind]
    assert messages[kind].endswith("!3:example.org, !4:example.org and 1,002 more")


def test_ways_in() -> None:
    ways = [{"kind": "sso", "open": True, "detail": "single sign-on"}, {"kind": "guest", "open": None, "detail": "?"}]
    plan = a_plan(server={"ways_in": ways}, accounts={"guest": {"erased": 1}, "appservice": {"active": 2}})
    messages = [warning.message for warning in _plan._warnings(plan)]
    assert messages == [
        "New accounts can come: single sign-on",
        "There are 2 open accounts of class appservice, so more may come",
    ]


def test_a_server_that_is_down() -> None:
    plan = a_plan(servers={**QUIET, "unreachable": {"down.example": 1795416000}})
    assert "down.example" in warned(plan)["unreachable"]


def test_delegated_authentication() -> None:
    assert "stay open" in warned(a_plan(server={"delegated_auth": True}))["delegated_auth"]


def test_text() -> None:
    plan = a_plan(
        accounts={"operator": {"active": 1}, "user": {"active": 1297, "erased": 3}},
        to_deactivate=1297,
        staying=["@op:example.org"],
        memberships=4000,
        seconds=600.0,
        warnings=[_plan.Concern("orphaned", "Rooms: !a:example.org", "Hand them over")],
    )
    assert _plan.as_text(plan) == [
        "example.org, Synapse 1.163.2, as @op:example.org",
        "Accounts: 1 operator (1 active); 1,300 user (1,297 active, 3 erased)",
        "To deactivate and erase: 1,297 accounts",
        "To leave their rooms, and stay open: @op:example.org",
        "Rooms: 2 that only this server is in, 1 that others are in, too. Memberships to end: 4,000",
        "Other servers in these rooms: 3, of which 0 can't be reached just now, and 0 were never sent anything",
        "The drain may take 5 min to 20 min: an estimate, from how fast the server has just answered",
        "WARNING (orphaned): Rooms: !a:example.org. Hand them over",
    ]


def test_nobody_to_deactivate() -> None:
    assert not any("may take" in line for line in _plan.as_text(a_plan()))


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (5400, "1.5 h")])
def test_durations(seconds: float, text: str) -> None:
    assert _plan._duration(seconds) == text
