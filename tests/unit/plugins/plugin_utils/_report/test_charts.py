# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.charts import (
    Scale,
    accounts_chart,
    drain_timeline,
    servers_chart,
)
from ansible_collections.matrixops.synapse.tests.stubs.helpers import NOW
from ansible_collections.matrixops.synapse.tests.unit.plugins.plugin_utils._report.sample import (
    concluded,
    of_all_stages,
)


@pytest.mark.parametrize("seconds", [0, 0.5, 1, 59, 61, 3600, 86399, 86400, 604800, 1e7])
@pytest.mark.parametrize("most", [1, 2, 7, 40, 488, 200_000])
def test_ticks_are_few_and_apart(seconds: float, most: int) -> None:
    scale = Scale(seconds, most)
    times, numbers = scale.time_ticks(), scale.number_ticks()
    assert 1 <= len(times) <= 8 and 2 <= len(numbers) <= 5
    assert all(b["at"] - a["at"] >= 70 for a, b in zip(times, times[1:]))
    assert all(64 <= tick["at"] <= 620 for tick in times)


def test_drains_follow_one_another() -> None:
    drains = [
        {"timeline": [[0.0, 0, 0], [2.0, 3, 1]], "federated_left_after": 1.5, "all_left_after": None},
        {"timeline": [], "federated_left_after": None, "all_left_after": None},
        {"timeline": [[1.0, 1, 4]], "federated_left_after": 0.5, "all_left_after": 1.0},
    ]
    timeline = drain_timeline(drains)
    assert timeline.points == [(0.0, 0, 0), (2.0, 3, 1), (3.0, 4, 5)]
    assert timeline.starts == [2.0, 2.0]
    assert timeline.ends == {"last federated membership": 2.5, "last membership": 3.0}


def test_accounts() -> None:
    certificate = concluded(of_all_stages())
    chart = accounts_chart(certificate)
    assert chart is not None
    assert chart["description"] == (
        "After 1 s of draining, 1 account had been deactivated, and 1 had left all rooms, 1.0 per second."
        " The last federated membership ended after 0.5 s. The last membership ended after 1 s."
    )
    assert chart["lines"][1]["d"] == "M64 256 L620 16"
    certificate["drains"][0]["timeline"] = [[0.0, 0, 0]]
    assert accounts_chart(certificate) is None
    assert accounts_chart({}) is None


def test_servers() -> None:
    certificate = concluded(of_all_stages())
    chart = servers_chart(certificate)
    assert chart is not None
    # Since the first check, which the sample has before the milestone.
    assert chart["scale"].span == 9 and [row[0] for row in chart["rows"]] == [0, 5]
    assert chart["description"] == (
        "After 9 s, 1 of 5 remote servers had confirmed that no account is joined; 4 not confirmed."
    )
    assert chart["tail"]["label"] == "4 not confirmed"
    unfinished = servers_chart(concluded(of_all_stages(finished=False)))
    assert unfinished is not None and unfinished["tail"]["label"] == "4 not confirmed yet"
    confirmed = concluded(of_all_stages(history=[[NOW, 5, 0, 0, 0, 0]]))
    chart = servers_chart(confirmed)
    assert chart is not None and chart["tail"] is None and chart["description"].endswith("no account is joined.")


def test_without_checks_there_is_no_chart_of_servers() -> None:
    assert servers_chart(concluded(of_all_stages(checked=False))) is None
    assert servers_chart(concluded(of_all_stages(history=[]))) is None
    assert servers_chart(concluded(of_all_stages(history=[[NOW, 0, 0, 0, 0, 0]]))) is None
