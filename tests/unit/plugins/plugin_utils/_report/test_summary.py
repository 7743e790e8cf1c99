# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.record import end_stage, start_stage
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.summary import figures, summary
from ansible_collections.matrixops.synapse.tests.stubs.helpers import NOW, SERVER
from ansible_collections.matrixops.synapse.tests.unit.plugins.plugin_utils._report.sample import (
    HOSTILE,
    concluded,
    of_all_stages,
    server,
)


def test_all_confirmed() -> None:
    rows = [server("b.example", "confirmed", confirmed=4)]
    propagation = {"servers": rows, "servers_total": 1, "summary": {"confirmed": 1, "pairs": 4}, "broken_rooms": []}
    line = summary(concluded(of_all_stages(**propagation)))
    assert line == f"{SERVER}: powered off; 2 accounts deactivated; 1 of 1 remote server confirmed; 5 failures"


def test_few_names() -> None:
    rows = [server(f"{number}.example", "unreachable") for number in range(9)]
    counts = {"confirmed": 91, "unreachable": 2000, "pairs": 8364}
    certificate = concluded(of_all_stages(servers=rows, servers_total=2091, summary=counts))
    names = "0.example, 1.example, 2.example, 3.example, 4.example and 1,995 more"
    assert f"; 91 of 2,091 remote servers confirmed, not {names}; " in summary(certificate)


def test_without_checks() -> None:
    assert "; 5 remote servers not checked; " in summary(concluded(of_all_stages(checked=False)))


def test_a_failure_is_shown_without_characters_that_a_terminal_obeys() -> None:
    certificate = of_all_stages()
    start_stage(certificate, "drain", NOW + 3)
    end_stage(certificate, "drain", "failed", NOW + 4, HOSTILE)
    line = summary(concluded(certificate))
    assert f"{SERVER}: failed; " in line
    assert line.endswith("; Stage drain failed: {{ 1234 * 4321 }}{% raw %}<script>alert(1)</script>\\u202e\\x1b[2J")


def test_figures() -> None:
    certificate = concluded(of_all_stages())
    assert {figure.key: figure.value for figure in figures(certificate)} == {
        "deactivated": "2",
        "joined": "0",
        "confirmed": "1 / 5",
        "unconfirmed": "4",
        "handed_over": "1",
        "failures": "5",
    }
    # Before the verification, the last drain is all that is known.
    del certificate["accounts"]["deactivated"]
    certificate["drains"][-1].update(deactivated=1200, unchanged=34)
    assert next(figure.value for figure in figures(certificate) if figure.key == "deactivated") == "1,234"
