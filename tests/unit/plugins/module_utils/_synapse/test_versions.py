# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.versions import (
    KNOWN_ISSUES,
    OLDEST,
    known_issues,
    rejoins_when_erased,
)


def references(version: str) -> set[str]:
    return {issue.reference for issue in known_issues(version)}


@pytest.mark.parametrize(
    ("reference", "affected", "not_affected"),
    [
        ("#17077", ["1.52.0", "1.106.0", "1.107.0rc1"], ["1.51.0", "1.107.0", "1.107.1"]),
        ("#19617", ["1.26.0", "1.154.1", "1.155.0rc1", "1.140.0+git.abc (b=main)"], ["1.155.0", "1.155"]),
        ("CVE-2025-61672, #17097", ["1.98.0", "1.138.3", "1.139.1"], ["1.138.4", "1.138.5", "1.139.2", "1.140.0"]),
        ("#19416", ["1.140.0rc1", "1.140.0", "1.146.0"], ["1.139.0", "1.147.0"]),
        ("#18091", ["1.122.0"], ["1.121.1", "1.123.0"]),
        ("#16328, #15488", ["1.92.3"], [OLDEST]),
    ],
)
def test_which_versions(reference: str, affected: list[str], not_affected: list[str]) -> None:
    assert [version for version in affected if reference not in references(version)] == []
    assert [version for version in not_affected if reference in references(version)] == []


@pytest.mark.parametrize("version", ["1.155.0", "1.163.2", "2.0.0", "1.163.2 (b=main,7fe1de8)"])
def test_nothing_is_known_of_new_ones(version: str) -> None:
    assert known_issues(version) == []


@pytest.mark.parametrize("version", ["", "1", "unknown", "v1.98.0", "1.9999999999.0", "-1.2.3"])
def test_a_version_that_makes_no_sense(version: str) -> None:
    assert known_issues(version) == []


@pytest.mark.parametrize(
    ("version", "rejoins"),
    [("1.98.0", True), ("1.149.1", True), ("1.150.0rc1", True), ("1.150.0", False), ("1.163.2", False), ("?", False)],
)
def test_who_rejoins_when_erased(version: str, rejoins: bool) -> None:
    assert rejoins_when_erased(version) is rejoins


def test_each_has_what_a_reader_needs() -> None:
    for issue in KNOWN_ISSUES:
        assert re.fullmatch(r"(#\d+|CVE-\d+-\d+)(, #\d+)*", issue.reference)
        assert issue.summary and not issue.summary.endswith(".")
        assert list(issue.fixed) == sorted(issue.fixed)


def test_the_last_issue_names_the_release_with_all_fixes() -> None:
    fixes = [tuple(map(int, issue.fixed[-1].split("."))) for issue in KNOWN_ISSUES]
    assert fixes == sorted(fixes)
