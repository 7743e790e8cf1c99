# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.matrixops.synapse.tests.stubs.helpers import room_id
from ansible_collections.matrixops.synapse.tests.unit.plugins.plugin_utils._report.sample import (
    HOSTILE,
    PROPAGATION,
    concluded,
    findings,
    of_all_stages,
    server,
)


def test_findings_name_servers_and_the_next_step() -> None:
    certificate = concluded(of_all_stages())
    found = findings(certificate)
    assert list(found) == ["failures", "ghosts", "refused", "unreachable", "unconfirmed", "broken_rooms"]
    assert found["unreachable"].startswith("Unreachable: 1 of 5 remote servers (c.example). Check again later with")
    assert "matrixops.synapse.ghosts" in found["unreachable"] and "matrixops.synapse.ghosts" in found["ghosts"]
    assert found["refused"].startswith("Refused: 1 of 5 remote servers (d.example). Ask a user who can kick")
    assert found["broken_rooms"].endswith("All remote servers in them have confirmed.")
    rooms = [{**PROPAGATION["broken_rooms"][0], "not_confirmed_by": ["c.example"]}]
    text = findings(concluded(of_all_stages(broken_rooms=rooms)))["broken_rooms"]
    assert "Not confirmed by c.example. Check again" in text
    unreadable = [{"room_id": room_id("t"), "reason": HOSTILE}]
    assert room_id("t") in findings(concluded(of_all_stages(unreadable_rooms=unreadable)))["unreadable_rooms"]
    assert "decommission_early_exit" in findings(concluded(of_all_stages(ended_early=True)))["ended_early"]


def test_a_finding_has_few_names() -> None:
    rows = [server(f"{number}.example", "unreachable") for number in range(9)]
    counts = {"confirmed": 91, "unreachable": 2000, "pairs": 8364}
    certificate = concluded(of_all_stages(servers=rows, servers_total=2091, summary=counts))
    names = "0.example, 1.example, 2.example, 3.example, 4.example and 1,995 more"
    assert f"2,000 of 2,091 remote servers ({names})" in findings(certificate)["unreachable"]
    assert certificate["proof"][-1]["exceptions"] == 0


def test_before_the_end_of_the_checks_there_is_no_final_finding() -> None:
    certificate = concluded(of_all_stages(finished=False, ended_early=True))
    assert set(findings(certificate)) == {"failures", "not_confirmed_yet", "broken_rooms"}
    assert "Not confirmed yet: 4 of 5 remote servers (" in findings(certificate)["not_confirmed_yet"]


def test_without_checks() -> None:
    certificate = concluded(of_all_stages(checked=False, broken_rooms=[]))
    assert set(findings(certificate)) == {"failures", "not_checked"}
    assert "decommission_ghost_checks: false" in findings(certificate)["not_checked"]
    assert len(certificate["proof"]) == 3


def test_all_confirmed() -> None:
    rows = [server("b.example", "confirmed", confirmed=4)]
    propagation = {"servers": rows, "servers_total": 1, "summary": {"confirmed": 1, "pairs": 4}, "broken_rooms": []}
    certificate = concluded(of_all_stages(**propagation))
    assert set(findings(certificate)) == {"failures"} and certificate["proof"][-1]["exceptions"] == 0


def test_powered_off_without_proof() -> None:
    certificate = of_all_stages()
    del certificate["proof"]
    assert "unproven" in findings(concluded(certificate))


def test_open_registration_matters_until_the_power_off() -> None:
    certificate = of_all_stages()
    certificate["stages"].pop()
    assert "enable_registration: false" in findings(concluded(certificate))["registration"]
    assert "registration" not in findings(concluded(of_all_stages()))


def test_what_a_service_that_handles_login_keeps() -> None:
    certificate = of_all_stages()
    certificate["settings"] = {"mas_url": "http://localhost:8080", "erase": True}
    text = findings(concluded(certificate))["login_service"]
    assert "deactivated and erased, but the Matrix Authentication Service keeps their usernames" in text
    certificate["settings"] = {"mas_url": "", "erase": True}
    certificate["server"]["delegated_auth"] = True
    assert "still active in the Matrix Authentication Service" in findings(concluded(certificate))["login_service"]
    certificate["server"]["delegated_auth"] = False
    assert "login_service" not in findings(concluded(certificate))
