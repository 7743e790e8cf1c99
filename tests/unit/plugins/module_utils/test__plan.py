# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils import _plan
from ansible_collections.matrixops.synapse.plugins.module_utils._client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._plan import Plan
from ansible_collections.matrixops.synapse.tests.unit.helpers import Server

SERVER_INFO = {
    "server_name": "example.org",
    "version": "1.163.2",
    "operator": "@op:example.org",
    "delegated_auth": False,
    "registration": False,
    "ways_in": [],
    "known_issues": [],
}
QUIET = {"total": 3, "sample": ["a.example", "b.example", "c.example"], "unreachable": {}, "never_contacted": []}


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
        "There are 2 active accounts of class appservice, so more may come",
    ]


def test_a_server_that_is_down() -> None:
    (warning,) = _plan._warnings(a_plan(servers={**QUIET, "unreachable": {"down.example": 1795416000}}))
    assert warning == _plan.Concern(
        "unreachable",
        "Remote servers that Synapse cannot reach at present: down.example",
        "They are retried until the propagation period ends. Ghosts on them can be removed later with matrix_ghosts",
    )


def test_rooms_that_cannot_be_left() -> None:
    (warning,) = _plan._warnings(a_plan(findings={"broken": ["!a:example.org"]}))
    assert warning.message.endswith("the rooms have no forward extremities: !a:example.org")
    assert warning.advice == ("Ghosts in them are removed on the remote servers directly. This does not stop the run")


def test_remote_servers(client: Client, server: Server) -> None:
    """The sample has those in most rooms, and of the same number those that come first by name."""
    rows = [
        {"destination": "a.example", "retry_last_ts": 0, "retry_interval": 0, "failure_ts": None},
        {"destination": "f.example", "retry_last_ts": 1, "retry_interval": 1, "failure_ts": 1795416000000},
        {"destination": "elsewhere.example", "retry_last_ts": 1, "retry_interval": 1, "failure_ts": 1},
    ]
    answer = {"destinations": rows, "total": len(rows)}
    server.get("/_synapse/admin/v1/federation/destinations", answer, query={"limit": "1000"})
    rooms = {"f.example": 2, "e.example": 1, "d.example": 30, "c.example": 1, "b.example": 1, "a.example": 1}
    assert _plan._servers(client, Counter(rooms)) == {
        "total": 6,
        "sample": ["d.example", "f.example", "a.example", "b.example", "c.example"],
        "unreachable": {"f.example": 1795416000},
        "never_contacted": ["b.example", "c.example", "d.example", "e.example"],
    }


def test_delegated_authentication() -> None:
    assert "stay active" in warned(a_plan(server={"delegated_auth": True}))["delegated_auth"]


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
        "To leave their rooms, and stay active: @op:example.org",
        "Rooms: 2 that only this server is in, 1 that remote servers are in, too. Memberships to end: 4,000",
        "Remote servers in these rooms: 3, of which 0 are unreachable, and 0 were never sent anything",
        "The drain may take 5 min to 20 min: an estimate, from how fast the server has just answered",
        "WARNING (orphaned): Rooms: !a:example.org. Hand them over",
    ]


def test_nobody_to_deactivate() -> None:
    assert not any("may take" in line for line in _plan.as_text(a_plan()))


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (5400, "1.5 h")])
def test_durations(seconds: float, text: str) -> None:
    assert _plan._duration(seconds) == text
