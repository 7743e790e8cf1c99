# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.matrixops.synapse.plugins.module_utils._text import printable
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.page import certificate_page
from ansible_collections.matrixops.synapse.tests.unit.plugins.plugin_utils._report.sample import (
    concluded,
    of_all_stages,
)
from markupsafe import escape


def test_headings() -> None:
    page = certificate_page(concluded(of_all_stages()))
    headings = ("Findings", "Timeline", "Stages", "Proof", "Failures", "Remote servers", "Accounts")
    for heading in headings:
        assert f">{heading}</h2>" in page


def test_remote_servers_have_the_text_of_the_module() -> None:
    certificate = concluded(of_all_stages())
    page = certificate_page(certificate)
    for row in certificate["remote_servers"]["servers"]:
        assert str(escape(printable(row["text"]))) in page
    assert "@x:d.example" in page and "f.example" in page
    assert "The last federated membership ended after 0.5 s. The last membership ended after 1 s." in page


def test_before_the_end_of_the_checks() -> None:
    assert "4 not confirmed yet" in certificate_page(concluded(of_all_stages(finished=False)))


def test_without_checks() -> None:
    page = certificate_page(concluded(of_all_stages(checked=False, broken_rooms=[])))
    assert "No remote server was checked, since" in page and "chart-servers" not in page


def test_characters_that_a_browser_hides_are_escaped() -> None:
    certificate = concluded(of_all_stages())
    certificate["server"]["version"] = "1\u202e2\x1b3\n4"
    page = certificate_page(certificate)
    assert "1\\u202e2\\x1b3\n4" in page
    assert "\u202e" not in page and "\x1b" not in page
