# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.record import (
    end_stage,
    new,
    start_stage,
)
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.state import is_finished, is_off_verified
from ansible_collections.matrixops.synapse.tests.stubs.helpers import NOW, SERVER, Json
from ansible_collections.matrixops.synapse.tests.unit.plugins.plugin_utils._report.sample import (
    concluded,
    findings,
    of_all_stages,
)


def test_a_preflight_that_succeeded_changes_no_state() -> None:
    certificate = of_all_stages()
    start_stage(certificate, "propagate", NOW + 3)
    end_stage(certificate, "propagate", "waiting", NOW + 4)
    start_stage(certificate, "preflight", NOW + 5)
    end_stage(certificate, "preflight", "done", NOW + 6)
    assert concluded(certificate)["state"] == "waiting"


@pytest.mark.parametrize(("finished", "state"), [(True, "verified"), (False, "waiting")])
def test_verified_before_the_checks_have_finished_it_is_waiting(finished: bool, state: str) -> None:
    certificate = of_all_stages(finished=finished)
    start_stage(certificate, "verify", NOW + 3)
    end_stage(certificate, "verify", "done", NOW + 3)
    assert concluded(certificate)["state"] == state


def test_a_server_that_was_not_stopped_is_not_powered_off() -> None:
    certificate = of_all_stages()
    found = {"verified": False, "reason": "nothing was stopped", "method": "none", "seen": []}
    certificate = concluded({**certificate, "power_off": {"at": NOW, **found}})
    assert certificate["state"] == "verified" and not is_finished(certificate)
    assert "Nothing was stopped" in findings(certificate)["not_stopped"]


def test_a_certificate_is_finished_after_the_power_off() -> None:
    assert is_finished(concluded(of_all_stages()))
    assert not is_finished(concluded(new(SERVER, NOW)))


@pytest.mark.parametrize(
    ("power_off", "verified"),
    [({}, False), ({"power_off": {"verified": False}}, False), ({"power_off": {"verified": True}}, True)],
)
def test_off_is_verified_only_if_it_was_checked(power_off: Json, verified: bool) -> None:
    assert is_off_verified({**new(SERVER, NOW), **power_off}) is verified
