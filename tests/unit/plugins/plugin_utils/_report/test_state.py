# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.record import end_stage, start_stage
from ansible_collections.matrixops.synapse.tests.stubs.helpers import NOW
from ansible_collections.matrixops.synapse.tests.unit.plugins.plugin_utils._report.sample import (
    concluded,
    of_all_stages,
)


def test_a_preflight_that_succeeded_changes_no_state() -> None:
    certificate = of_all_stages()
    start_stage(certificate, "propagate", NOW + 3)
    end_stage(certificate, "propagate", "waiting", NOW + 4)
    start_stage(certificate, "preflight", NOW + 5)
    end_stage(certificate, "preflight", "done", NOW + 6)
    assert concluded(certificate)["state"] == "waiting"


@pytest.mark.parametrize(
    ("result", "state"), [("failed", "powered_off"), ("started", "powered_off"), ("done", "incomplete")]
)
def test_a_preflight_that_fails_after_the_power_off_changes_no_state(result: str, state: str) -> None:
    certificate = of_all_stages()
    start_stage(certificate, "preflight", NOW + 3)
    end_stage(certificate, "preflight", result, NOW + 3)
    # The host is on again.
    if result == "done":
        start_stage(certificate, "drain", NOW + 4)
    assert concluded(certificate)["state"] == state


@pytest.mark.parametrize(("finished", "state"), [(True, "verified"), (False, "waiting")])
def test_verified_before_the_checks_have_finished_it_is_waiting(finished: bool, state: str) -> None:
    certificate = of_all_stages(finished=finished)
    start_stage(certificate, "verify", NOW + 3)
    end_stage(certificate, "verify", "done", NOW + 3)
    assert concluded(certificate)["state"] == state
