# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A certificate of all stages, made of results with hostile texts, for the tests of this package."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report import page, record, results
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.schema import SCHEMA, violation
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.summary import summary
from ansible_collections.matrixops.synapse.tests.stubs.helpers import NOW, OPERATOR, SERVER, Json, room_id

A, B = f"@a:{SERVER}", f"@b:{SERVER}"
HOSTILE = "{{ 1234 * 4321 }}{% raw %}<script>alert(1)</script>\u202e\x1b[2J"
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def server(name: str, state: str, *, confirmed: int = 0, **more: Any) -> Json:
    """A remote server with four rooms."""
    open_room = {"room_id": room_id("r"), "state": state, "reason": HOSTILE, "ghosts": 2, "can_kick": [f"@x:{name}"]}
    return {
        "server": name,
        "state": state,
        "rooms": 4,
        "confirmed_rooms": confirmed,
        "removed": 0,
        "confirmed_at": None,
        "unreachable_since": None,
        "reason": None,
        "text": f"{name}: {state}; {confirmed} of 4 rooms",
        "open_rooms": [] if state == "confirmed" else [open_room],
        "open_rooms_total": 4 - confirmed,
        **more,
    }


PROPAGATION: Json = {
    "summary": {
        "servers": 5,
        "confirmed": 1,
        "ghosts": 1,
        "refused": 1,
        "unreachable": 1,
        "unconfirmed": 1,
        "ignored": 1,
        "pairs": 20,
        "pairs_confirmed": 7,
        "removed": 3,
    },
    "message": "1 of 5 remote servers confirmed",
    "checked": True,
    "history": [[NOW, 0, 0, 0, 0, 5], [NOW + 5, 1, 1, 1, 1, 1]],
    "now": NOW + 9,
    "ends": NOW + 9,
    "next_poll": None,
    "finished": True,
    "ended_early": False,
    "servers": [
        server(HOSTILE, "ghosts", confirmed=3),
        server("d.example", "refused", confirmed=2),
        server("c.example", "unreachable", unreachable_since=NOW - 9),
        server("e.example", "unconfirmed", confirmed=1),
        server("b.example", "confirmed", confirmed=4, confirmed_at=NOW, removed=3),
    ],
    "servers_total": 5,
    "ignored": ["f.example"],
    "broken_rooms": [
        {"room_id": room_id("s"), "reason": HOSTILE, "servers": ["b.example", "c.example"], "not_confirmed_by": []}
    ],
    "unreadable_rooms": [],
}
VERIFIED: Json = {
    "open": {"counts": {"operator": {"active": 1}}},
    "joined": {"users": [], "total": 3},
    "occupied": {"rooms": []},
    "not_closed": [],
    "in_rooms": [],
    "closed": {"states": {"deactivated": 0, "erased": 2}, "total": 2, "digests": "x" * 20, "width": 10, "rounds": 10},
}
RESULTS: dict[str, Json] = {
    "preflight": {
        "server": {"server_name": SERVER, "version": "1.163.0", "operator": OPERATOR, "registration": True},
        "plan": {"plan": {"accounts": {"user": {"active": 2, "erased": 5}, "operator": {"active": 1}}}},
        "state": {"milestones": {}},
    },
    "prepare": {
        "announcement": {"sent": 2, "unchanged": 0, "failures": [], "failures_total": 0},
        "handover": {
            "handed_over": [{"room_id": room_id("r"), "name": HOSTILE}],
            "handed_over_total": 1,
            "not_handed_over": [],
            "not_handed_over_total": 0,
        },
        "aliases": {
            "aliases": [{"alias": f"#r:{SERVER}", "room_id": room_id("r")}],
            "aliases_total": 1,
            "failures": [],
        },
        "demotion": {
            "demoted": [room_id("r")],
            "demoted_total": 1,
            "failures": [{"room_id": room_id("s"), "reason": "403"}],
        },
    },
    "drain": {
        "drain": {
            "deactivated": 1,
            "unchanged": 0,
            "left_all_rooms": 1,
            "failures": [{"user_id": A, "reason": f"{A}: {HOSTILE}"}],
            "failures_total": 1,
            "still_joined": [{"user_id": B, "rooms": [{"room_id": room_id("r"), "reason": "banned"}]}],
            "still_joined_total": 1,
            "elapsed": 1.5,
            "passes": 1,
            "timeline": [[0.0, 0, 0], [1.0, 1, 1]],
            "proof": {"left_all_rooms": 1, "read": "GET", "requests": 2},
            "federated_left_after": 0.5,
            "all_left_after": 1.25,
            "broken_rooms": [{"room_id": room_id("s"), "reason": HOSTILE, "accounts": 2, "federated": True}],
            "broken_rooms_total": 1,
        },
    },
    "leave_rooms": {
        "leave": {
            "accounts": [
                {
                    "user_id": OPERATOR,
                    "left": [room_id("r")],
                    "rejected": [],
                    "retracted": [],
                    "error": None,
                    "failed": [{"room_id": room_id("s"), "reason": "403"}],
                }
            ],
            "left_total": 1,
            "rejected_total": 0,
            "retracted_total": 0,
        },
        "state": {"milestones": {"started": NOW, "left_federated_rooms": NOW + 1}},
    },
    "propagate": {"propagation": PROPAGATION},
    "verify": VERIFIED,
    "power_off": {**VERIFIED, "gate": PROPAGATION, "host_off": {"verified": True}},
}


def add_results(certificate: Json, stage: str, registered: Json, now: int) -> None:
    variables = {f"_decommission_{name}": result for name, result in copy.deepcopy(registered).items()}
    results.add_results(certificate, stage, variables, now)


def concluded(certificate: Json) -> Json:
    """The concluded certificate: valid for the library and for us, and both pages can be rendered."""
    certificate = record.conclude(certificate, NOW + 99)
    VALIDATOR.validate(certificate)
    assert violation(certificate, SCHEMA) is None
    html = page.certificate_page(certificate)
    assert "<script>alert" not in html and str(1234 * 4321) not in html
    assert "<script>alert" not in page.fleet_page([certificate, certificate])
    assert summary(certificate).isprintable()
    return certificate


def of_all_stages(**propagation: Any) -> Json:
    """The certificate of a run of all stages.

    :param propagation: what differs in the results of the checks of remote servers.
    """
    certificate = record.new(SERVER, NOW)
    result = {**PROPAGATION, **propagation}
    changed = {"propagate": {"propagation": result}, "power_off": {**RESULTS["power_off"], "gate": result}}
    for stage, registered in {**RESULTS, **changed}.items():
        record.start_stage(certificate, stage, NOW)
        add_results(certificate, stage, registered, NOW + 1)
        record.end_stage(certificate, stage, "done", NOW + 2)
    return certificate


def findings(certificate: Json) -> dict[str, str]:
    return {finding["kind"]: finding["text"] for finding in certificate["findings"]}
