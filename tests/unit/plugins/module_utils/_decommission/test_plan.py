# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import plan as policy
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.drain_run import Options
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.plan import Plan
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.room_impact import KINDS
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.accounts import USERS
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.rooms import JOINED_ROOMS
from ansible_collections.matrixops.synapse.tests.stubs.helpers import NOW, Server
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import ALICE, HOST, PEER, Homeserver, create

SERVER_INFO = {
    "server_name": "example.org",
    "version": "1.163.2",
    "operator": "@op:example.org",
    "delegated_auth": False,
    "registration": False,
    "registration_paths": [],
    "known_issues": [],
}
QUIET = {"total": 3, "sample": ["a.example", "b.example", "c.example"], "unreachable": {}, "never_contacted": []}


def a_plan(**more: Any) -> Plan:
    site = {"rooms_created": 1, "aliases": 1200, "media_files": 3, "media_bytes": 2_500_000}
    parts = {"erase": True, "servers": QUIET, "site": site, "rooms": {"local": 2, "federated": 1}}
    parts = {**parts, "memberships": {"local": 6, "federated": 3}, **more}
    return Plan({**SERVER_INFO, **parts.pop("server", {})}, **parts)


def warned(plan: Plan, *, has_service: bool = False) -> dict[str, str]:
    return {warning.topic: warning.message for warning in policy._warnings(plan, {}, has_service=has_service)}


def test_nothing_to_warn_of() -> None:
    assert warned(a_plan(impact={kind: [] for kind in policy._IMPACT_WARNINGS})) == {}


@pytest.mark.parametrize("kind", policy._IMPACT_WARNINGS)
def test_a_kind_of_impact(kind: str) -> None:
    messages = warned(a_plan(impact={kind: [f"!{number}:example.org" for number in range(1007)]}))
    assert list(messages) == [kind]
    assert messages[kind].endswith("!3:example.org, !4:example.org and 1,002 more")


def test_registration_paths() -> None:
    paths = [{"kind": "sso", "open": True, "detail": "single sign-on"}, {"kind": "guest", "open": None, "detail": "?"}]
    plan = a_plan(server={"registration_paths": paths}, accounts={"guest": {"erased": 1}, "appservice": {"active": 2}})
    messages = [warning.message for warning in policy._warnings(plan, {})]
    assert messages == [
        "New accounts can be created: single sign-on",
        "Active accounts of class appservice: 2. More of them may be created during the run",
    ]


def test_a_server_that_is_down() -> None:
    (warning,) = policy._warnings(a_plan(servers={**QUIET, "unreachable": {"down.example": 1795416000}}), {})
    assert warning == policy.PlanWarning(
        "unreachable",
        "Remote servers that Synapse cannot reach at present: down.example",
        "They are retried until the end of decommission_propagation_period. After it, remove their ghosts with"
        " matrix_ghosts",
    )


def test_rooms_that_cannot_be_left() -> None:
    (warning,) = policy._warnings(a_plan(impact={"broken": ["!a:example.org"]}), {})
    assert warning.message.endswith("they have no forward extremities: !a:example.org")
    assert warning.advice == (
        "No action needed: the run continues, and removes ghosts in these rooms on the remote servers directly"
    )


def test_remote_servers(client: Client, server: Server) -> None:
    """The sample has those in most rooms, and of the same number those that come first by name."""
    rows = [
        {"destination": "a.example", "retry_last_ts": 0, "retry_interval": 0, "failure_ts": None},
        {"destination": "f.example", "retry_last_ts": 1, "retry_interval": 1, "failure_ts": 1795416000000},
        {"destination": "elsewhere.example", "retry_last_ts": 1, "retry_interval": 1, "failure_ts": 1},
    ]
    answer = {"destinations": rows, "total": len(rows)}
    server.get("/_synapse/admin/v1/federation/destinations", answer, query={"limit": "10000"})
    rooms = {"f.example": 2, "e.example": 1, "d.example": 30, "c.example": 1, "b.example": 1, "a.example": 1}
    assert policy._servers(client, Counter(rooms)) == {
        "total": 6,
        "sample": ["d.example", "f.example", "a.example", "b.example", "c.example"],
        "unreachable": {"f.example": 1795416000},
        "never_contacted": ["b.example", "c.example", "d.example", "e.example"],
    }


def test_delegated_authentication() -> None:
    assert "stay active" in warned(a_plan(server={"delegated_auth": True}))["delegated_auth"]
    assert warned(a_plan(server={"delegated_auth": True}), has_service=True) == {}


def test_known_issues() -> None:
    issues = [{"summary": f"broken {n}", "reference": f"#{n}", "fixed_in": f"1.{n}.0"} for n in (1, 2)]
    warnings = list(policy._warnings(a_plan(server={"known_issues": issues}), {}))
    assert [(warning.topic, warning.advice) for warning in warnings] == [
        ("version", "Upgrade Synapse to 1.2.0 or later before the run")
    ] * 2
    assert warnings[0].message == "Synapse 1.163.2: broken 1 (#1, fixed in 1.1.0)"


@pytest.mark.parametrize(
    ("fields", "label"),
    [
        ({"name": "Lounge", "canonical_alias": "#lounge:example.org"}, "Lounge (#lounge:example.org)"),
        ({"name": "Lounge", "canonical_alias": None}, "Lounge"),
        ({"name": "", "canonical_alias": "#lounge:example.org"}, "#lounge:example.org"),
        ({"name": None, "canonical_alias": 7}, "!r:example.org"),
        ({"name": " two\nlines\x1b[31m \u202e"}, "two lines\\x1b[31m \\u202e"),
        ({"name": "n" * 41, "canonical_alias": "#" * 40}, f"{'n' * 39}… ({'#' * 40})"),
        ({"room_id": "!" * 300}, f"{'!' * 79}…"),
    ],
)
def test_the_label_of_a_room(fields: dict[str, Any], label: str) -> None:
    assert policy._room_label({"room_id": "!r:example.org", **fields}) == label


def test_rooms_are_shown_with_their_labels() -> None:
    (warning,) = policy._warnings(a_plan(impact={"orphaned": ["!a", "!b"]}), {"!a": "Lounge (#lounge:example.org)"})
    assert warning.message.endswith("no administrator: Lounge (#lounge:example.org), !b")


def test_text() -> None:
    plan = a_plan(
        accounts={"operator": {"active": 1}, "user": {"active": 1297, "erased": 3}},
        to_deactivate=1297,
        staying_active=["@op:example.org"],
        memberships={"federated": 3000, "local": 1000},
        estimate=policy.Estimate(announcement=0.0, drain=600.0, background=60.0),
        warnings=[
            policy.PlanWarning("cordon", "One", "Close it"),
            policy.PlanWarning("cordon", "Two", "Close it"),
            policy.PlanWarning("cordon", "Three", "Stop it"),
            policy.PlanWarning("orphaned", "Rooms: Lounge\x1b", "Hand them over"),
        ],
    )
    assert policy.as_text(plan) == [
        "Server: example.org, Synapse 1.163.2, operator @op:example.org",
        "Accounts: 1 operator (1 active), 1,300 user (1,297 active, 3 erased)",
        "  to deactivate and erase: 1,297",
        "  to leave all rooms and stay active: @op:example.org",
        "Rooms: 1 federated, 2 local; 3,000 and 1,000 memberships to end",
        "Remote servers in these rooms: 3; 0 unreachable, 0 never contacted",
        "For a static site: 1 federated room created here, 1,200 aliases of federated rooms, 3 media files (2.5 MB)",
        "Estimate: the drain takes 5 min to 20 min at the current response time, and Synapse leaves the local rooms in"
        " another 30 s to 2 min",
        "Warnings:",
        "  cordon: One; Two. Close it. Three. Stop it",
        "  orphaned: Rooms: Lounge\\x1b. Hand them over",
    ]


def test_a_text_of_all_warnings_has_26_lines_at_most() -> None:
    issue = {"summary": "broken", "reference": "#1", "fixed_in": "1.2.0"}
    paths = [{"kind": kind, "open": True, "detail": kind} for kind in ("registration", "sso", "jwt")]
    plan = a_plan(
        server={"known_issues": [issue] * 9, "registration_paths": paths, "delegated_auth": True},
        accounts={kind: {"active": 9} for kind in ("operator", "admin", "appservice", "guest", "user")},
        staying_active=[f"@{number}:example.org" for number in range(9)],
        impact={kind: [f"!{number}" for number in range(9)] for kind in KINDS},
        servers={**QUIET, "unreachable": dict.fromkeys(map(str, range(9)), 1)},
        estimate=policy.Estimate(announcement=1.0, drain=1.0, background=1.0),
    )
    plan.warnings = list(policy._warnings(plan, {}))
    lines = policy.as_text(plan)
    assert len(lines) <= 26
    assert all(any(line.startswith(f"  {warning.topic}: ") for line in lines) for warning in plan.warnings)
    assert lines[3].endswith("@4:example.org and 4 more")


def test_no_warnings() -> None:
    assert policy.as_text(a_plan())[-1] == "Warnings: none"


def test_nobody_to_deactivate() -> None:
    assert not any("Estimate" in line for line in policy.as_text(a_plan()))


def test_an_announcement_has_a_cost() -> None:
    estimate = policy.Estimate(announcement=3600.0, drain=600.0, background=60.0)
    line = policy.as_text(a_plan(estimate=estimate, notices=1297))[-2]
    assert line.endswith("; the announcement takes 30 min to 2 h, and adds 1,297 rooms")


def test_the_module_returns_the_first_names() -> None:
    unreachable = {f"{number}.example": 1 for number in range(3000)}
    plan = a_plan(
        impact={"orphaned": [f"!{number}" for number in range(50_000)]},
        aliases={f"#{number}:example.org": "!r" for number in range(50_000)},
        staying_active=[f"@{number}:example.org" for number in range(5000)],
        servers={**QUIET, "unreachable": unreachable, "never_contacted": list(unreachable)},
        estimate=policy.Estimate(1.0, 2.0, 3.0),
    )
    result = plan.as_json()
    assert result["impact_total"] == {"orphaned": 50_000}
    assert (result["aliases_total"], result["servers"]["unreachable_total"]) == (50_000, 3000)
    assert result["servers"]["never_contacted_total"] == 3000
    assert result["estimate"] == {"announcement": 1.0, "drain": 2.0, "background": 3.0}
    assert len(json.dumps(result)) < 2**18


@pytest.fixture
def large(homeserver: Homeserver, client: Client) -> Homeserver:
    """A server with 300 accounts, of which 20 were never seen, 50 federated rooms and 200 that only it is in."""
    homeserver.attach(client)
    for number in range(300):
        seen = {"last_seen_ts": None if number < 20 else NOW, "appservice_id": "bridge" if number < 5 else None}
        homeserver.register(str(number), **seen)
    for number in range(250):
        homeserver.add_room(f"!{number}", [PEER, HOST, *([ALICE] if number < 50 else ())], create("10"))
    return homeserver


def test_the_number_of_requests(large: Homeserver, client: Client) -> None:
    """None for each account, and none for each room that only this server is in."""
    plan = policy.make_plan(client, Options())
    assert plan.accounts["appservice"] == {"active": 5}
    assert plan.rooms == {"local": 200, "federated": 50}
    assert plan.memberships == {"local": 400, "federated": 100}
    by_end = Counter({path.rpartition("/")[2]: number for path, number in client.sent.items()})
    assert {end: by_end[end] for end in ("users", "rooms", "aliases", "state", "forward_extremities", "members")} == {
        "users": 2,
        "rooms": 1,
        "aliases": 50,
        "state": 50,
        "forward_extremities": 50,
        "members": 0,
    }
    # Of the accounts: those that were never seen, with the operator, and an unknown one with a slash.
    assert client.sent[f"{USERS}/{{}}"] == 20 + 2
    assert client.sent[JOINED_ROOMS] == policy.SAMPLE_ACCOUNTS + 1
