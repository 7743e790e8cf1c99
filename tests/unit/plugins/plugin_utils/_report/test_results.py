# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.record import end_stage, new, start_stage
from ansible_collections.matrixops.synapse.tests.stubs.helpers import NOW, OPERATOR, SERVER, Json, room_id
from ansible_collections.matrixops.synapse.tests.unit.plugins.plugin_utils._report.sample import (
    HOSTILE,
    PROPAGATION,
    RESULTS,
    VERIFIED,
    A,
    B,
    add_results,
    concluded,
    findings,
    of_all_stages,
)


def test_results_of_all_stages() -> None:
    certificate = concluded(of_all_stages())
    failures = {
        stage["stage"]: [(f["subject"], f.get("room"), f["reason"]) for f in stage["failures"]]
        for stage in certificate["stages"]
        if stage["failures"]
    }
    assert failures == {
        "prepare": [(room_id("s"), None, "403")],
        "drain": [
            (A, None, f"{A}: {HOSTILE}"),
            (B, room_id("r"), "is still joined: banned"),
            (room_id("s"), None, f"broken room, 2 accounts cannot leave: {HOSTILE}"),
        ],
        "leave_rooms": [(OPERATOR, room_id("s"), "403")],
    }
    assert [stage["failures_total"] for stage in certificate["stages"]] == [0, 1, 3, 1, 0, 0, 0]
    assert certificate["handed_over_total"] == 1 and certificate["announced"]["sent"] == 2
    assert certificate["milestones"] == {"started": NOW, "left_federated_rooms": NOW + 1}
    assert certificate["accounts"]["deactivated"]["salt"] == certificate["salt"]
    assert certificate["accounts"]["before"]["counts"] == {"user": {"active": 2}, "operator": {"active": 1}}
    (drain,) = certificate["drains"]
    assert (drain["federated_left_after"], drain["all_left_after"], drain["broken_rooms_total"]) == (0.5, 1.25, 1)
    assert (drain["left_all_rooms"], drain["still_joined_total"], drain["proof"]["left_all_rooms"]) == (1, 1, 1)
    # Of the servers that answer: 1 room with ghosts, 2 refused, 3 unconfirmed.
    assert [(proof["checked"], proof["exceptions"]) for proof in certificate["proof"]] == [
        (3, 0),
        (3, 0),
        (0, 0),
        (20, 6),
    ]
    assert certificate["remote_servers"]["servers"] == PROPAGATION["servers"]
    assert certificate["remote_servers"]["broken_rooms"] == PROPAGATION["broken_rooms"]
    assert certificate["propagation"] == PROPAGATION["history"]


def test_results_that_are_missing() -> None:
    for nothing in ({}, {name: {"skipped": True} for name in ("server", "drain", "leave", "open", "gate")}):
        certificate = new(SERVER, NOW)
        for stage in RESULTS:
            start_stage(certificate, stage, NOW)
            add_results(certificate, stage, nothing, NOW)
            end_stage(certificate, stage, "failed", NOW, HOSTILE)
        assert concluded(certificate)["state"] == "failed"
        assert "proof" not in certificate and "remote_servers" not in certificate


def test_a_read_that_is_missing_proves_nothing() -> None:
    for name in ("open", "joined", "occupied", "not_closed", "in_rooms"):
        certificate = new(SERVER, NOW)
        start_stage(certificate, "verify", NOW)
        add_results(certificate, "verify", {key: value for key, value in VERIFIED.items() if key != name}, NOW)
        assert "proof" not in certificate


def test_a_failed_drain_lists_fewer_failures_than_it_counts() -> None:
    certificate = new(SERVER, NOW)
    start_stage(certificate, "drain", NOW)
    result = {**RESULTS["drain"]["drain"], "failures_total": 2000, "still_joined_total": 300}
    add_results(certificate, "drain", {"drain": result}, NOW)
    assert certificate["stages"][0]["failures_total"] == 2301


def test_exceptions_to_the_proof() -> None:
    certificate = new(SERVER, NOW)
    start_stage(certificate, "verify", NOW)
    joined = {"users": [{"name": A}], "total": 3}
    add_results(certificate, "verify", {**VERIFIED, "joined": joined, "not_closed": [B], "in_rooms": [A, B]}, NOW)
    end_stage(certificate, "verify", "failed", NOW, "not drained")
    certificate = concluded(certificate)
    assert [proof["exceptions"] for proof in certificate["proof"]] == [1, 1, 1]
    reasons = [(failure["subject"], failure["reason"]) for failure in certificate["stages"][0]["failures"]]
    assert reasons == [(B, "is still active"), (A, "is still joined"), (B, "is still joined")]
    assert "disproved" in findings(certificate)


def test_proof_outside_broken_rooms() -> None:
    """Rooms that only this server is in are known to be broken only when the drain is verified."""
    rooms = [{"room_id": room_id(name), "reason": "500", "accounts": 1, "federated": name == "s"} for name in "st"]
    certificate = new(SERVER, NOW)
    for stage in ("verify", "power_off"):
        start_stage(certificate, stage, NOW)
        add_results(certificate, stage, {**VERIFIED, "rest": {"broken_rooms": rooms}}, NOW)
        end_stage(certificate, stage, "done", NOW)
    certificate = concluded(certificate)
    claims = [proof["claim"] for proof in certificate["proof"]]
    assert [claim.endswith("outside the broken rooms") for claim in claims] == [False, True, True]
    verify, power_off = certificate["stages"]
    assert [failure["subject"] for failure in verify["failures"]] == [room_id("t")]
    assert power_off["failures_total"] == 0


def test_when_the_list_of_servers_is_cut_their_counts_are_exceptions() -> None:
    certificate = concluded(of_all_stages(servers=[], summary={**PROPAGATION["summary"], "refused": 70}))
    assert certificate["proof"][-1]["exceptions"] == 72


def test_accounts_before_are_counted_until_the_drain_starts() -> None:
    certificate = new(SERVER, NOW)
    counts = certificate.setdefault("accounts", {})
    for users, milestones, expected in ((5, {}, 5), (6, {}, 6), (1, {"started": NOW}, 6)):
        start_stage(certificate, "preflight", NOW)
        registered = {"plan": {"plan": {"accounts": {"user": {"active": users}}}}, "state": {"milestones": milestones}}
        add_results(certificate, "preflight", registered, NOW)
        assert counts["before"]["counts"]["user"]["active"] == expected


def test_an_earlier_runs_work_stays_listed() -> None:
    certificate = of_all_stages()
    for remaining in ("vu", "u"):
        not_handed_over = [{"room_id": room_id(name)} for name in remaining]
        handover = {"handed_over": [{"room_id": room_id("t")}], "not_handed_over": not_handed_over}
        handover.update({f"{name}_total": len(rooms) for name, rooms in handover.items()})
        add_results(certificate, "prepare", {"handover": handover}, NOW)
    certificate = concluded(certificate)
    assert [room["room_id"] for room in certificate["handed_over"]] == [room_id("r"), room_id("t")]
    # What is not handed over is as the newest run says.
    assert certificate["not_handed_over"] == [{"room_id": room_id("u")}]
    assert (certificate["handed_over_total"], certificate["not_handed_over_total"]) == (2, 1)


UNVERIFIED: Json = {"verified": False, "reason": "through a jump host"}


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ({"host_off": {"verified": True}}, (True, None)),
        ({"host_off": {"verified": True}, "homeserver_off": {"verified": True}}, (True, None)),
        ({"host_off": UNVERIFIED, "homeserver_off": {"verified": True}}, (False, "through a jump host")),
        ({"host_off": {"skipped": True}, "homeserver_off": UNVERIFIED}, (False, "through a jump host")),
        ({"homeserver_off": {"verified": False, "failed": True}}, (False, "something still answers")),
        ({"host_off": {"changed": True}}, None),
    ],
)
def test_whether_the_host_is_off(checks: Json, expected: tuple[bool, str | None] | None) -> None:
    certificate = new(SERVER, NOW)
    start_stage(certificate, "power_off", NOW)
    add_results(certificate, "power_off", checks, NOW)
    found = certificate.get("power_off")
    by = {"method": "host", "seen": []}
    assert found == (expected and {"at": NOW, "verified": expected[0], "reason": expected[1], **by})


def test_how_the_server_was_powered_off() -> None:
    certificate = new(SERVER, NOW)
    start_stage(certificate, "power_off", NOW)
    seen = ["unit matrix-synapse.service on a: not active, and its start is refused"]
    stopped = {"homeserver_off": {"verified": True}, "off_method_used": "systemd", "off_seen": seen}
    add_results(certificate, "power_off", {**stopped, "off_reasons": []}, NOW)
    assert certificate["power_off"] == {"at": NOW, "verified": True, "reason": None, "method": "systemd", "seen": seen}
    add_results(certificate, "power_off", {**stopped, "off_reasons": ["w: through a jump host"]}, NOW)
    assert (certificate["power_off"]["verified"], certificate["power_off"]["reason"]) == (
        False,
        "w: through a jump host",
    )
    add_results(certificate, "power_off", {"off_method_used": "none"}, NOW)
    assert certificate["power_off"]["method"] == "none" and not certificate["power_off"]["verified"]
