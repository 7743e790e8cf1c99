# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy

from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.record import (
    collection_version,
    end_stage,
    new,
    start_stage,
)
from ansible_collections.matrixops.synapse.tests.stubs.helpers import NOW, SERVER
from ansible_collections.matrixops.synapse.tests.unit.plugins.plugin_utils._report.sample import (
    HOSTILE,
    RESULTS,
    add_results,
    concluded,
    findings,
    of_all_stages,
)


def test_interrupted_at_each_stage_it_is_valid() -> None:
    certificate = new(SERVER, NOW)
    states = []
    for stage, registered in RESULTS.items():
        start_stage(certificate, stage, NOW)
        interrupted = concluded(copy.deepcopy(certificate))
        assert "started" in findings(interrupted)
        # As the next run finds it.
        start_stage(interrupted, "preflight", NOW + 50)
        assert concluded(interrupted)["stages"][-1]["attempts"][-1]["result"] in ("interrupted", "started")
        add_results(certificate, stage, registered, NOW + 1)
        end_stage(certificate, stage, "done", NOW + 2)
        states.append(concluded(certificate)["state"])
    assert states == ["incomplete"] * 5 + ["verified", "powered_off"]


def test_hourly_runs_do_not_make_it_grow() -> None:
    certificate = of_all_stages()
    for number in range(200):
        for stage in ("preflight", "drain", "propagate"):
            start_stage(certificate, stage, NOW + number)
            add_results(certificate, stage, RESULTS[stage], NOW + number)
            end_stage(certificate, stage, "waiting" if stage == "propagate" else "done", NOW + number)
    certificate = concluded(certificate)
    assert certificate["state"] == "waiting"
    attempts = certificate["stages"][0]["attempts"]
    assert len(attempts) == 20 and certificate["stages"][0]["attempts_total"] == 201
    assert (attempts[0]["started"], attempts[1]["started"]) == (NOW, NOW + 181)
    assert [drain["ended"] for drain in certificate["drains"]] == list(range(NOW + 180, NOW + 200))


def test_an_attempt_does_not_end_before_its_start() -> None:
    certificate = new(SERVER, NOW)
    start_stage(certificate, "drain", NOW)
    end_stage(certificate, "drain", "failed", NOW - 60, HOSTILE)
    assert concluded(certificate)["stages"][0]["attempts"] == [
        {"started": NOW, "ended": NOW, "result": "failed", "reason": HOSTILE}
    ]


def test_version_of_a_checkout() -> None:
    assert collection_version() == concluded(of_all_stages())["collection"]["version"]
    assert str(collection_version()).count(".") == 2


def test_the_period_of_the_certificate_has_all_stages_in_it() -> None:
    """The preflight starts before there is a certificate, and the clock of the controller may be set back."""
    certificate = new(SERVER, NOW)
    start_stage(certificate, "preflight", NOW - 70)
    end_stage(certificate, "preflight", "done", NOW + 500)
    certificate = concluded(certificate)
    assert (certificate["created"], certificate["updated"]) == (NOW - 70, NOW + 500)
