# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._text import printable
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.page import (
    certificate_page,
    fleet_page,
)
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.summary import summary
from ansible_collections.matrixops.synapse.tests.stubs.helpers import NOW, SERVER, Json
from ansible_collections.matrixops.synapse.tests.unit.plugins.plugin_utils._report.sample import (
    PROPAGATION,
    concluded,
    findings,
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


def stages(page: str) -> dict[str, tuple[str, str]]:
    """The class and the title of each stage."""
    found = re.findall(r'<li class="(\w+)">\s*<h3>(.*?)\s*<span class="result">.*?<code>(\w+)</code>', page, re.DOTALL)
    return {name: (kind, title) for kind, title, name in found}


def test_a_stage_with_exceptions_does_not_look_like_one_without() -> None:
    found = stages(certificate_page(concluded(of_all_stages())))
    assert found["propagate"] == ("partial", "Remote servers checked: 1 of 5 confirmed")
    assert found["drain"][0] == "partial", "of its failures"
    assert found["verify"] == ("done", "Verified that no account is active or joined")
    assert found["power_off"] == ("done", "Powered off")


def test_a_stage_that_has_not_checked_says_so() -> None:
    found = stages(certificate_page(concluded(of_all_stages(checked=False))))
    assert found["propagate"] == ("partial", "Remote servers not checked")


def test_a_stage_with_all_confirmed() -> None:
    counts = {**PROPAGATION["summary"], **dict.fromkeys(("ghosts", "refused", "unreachable", "unconfirmed"), 0)}
    found = stages(certificate_page(concluded(of_all_stages(summary=counts))))
    assert found["propagate"] == ("done", "Remote servers checked: 1 of 1 confirmed")


def test_the_seal_of_success_is_for_certificates_without_findings() -> None:
    certificate = concluded(of_all_stages())
    assert '<svg class="seal powered_off qualified"' in certificate_page(certificate)
    assert '<svg class="seal powered_off qualified"' in fleet_page([certificate])
    assert '<svg class="seal powered_off"' in certificate_page({**certificate, "findings": []})


@pytest.mark.parametrize("power_off", [None, {"at": NOW, "verified": False, "reason": "through a jump host"}])
def test_a_power_off_that_is_not_verified(power_off: Json | None) -> None:
    certificate = of_all_stages()
    del certificate["power_off"]
    certificate = concluded({**certificate, **({"power_off": power_off} if power_off else {})})
    reason = "through a jump host" if power_off else "it was not checked"
    assert findings(certificate)["not_verified"].startswith(f"It is not verified that the host is off: {reason}. ")
    for page in (certificate_page(certificate), fleet_page([certificate])):
        assert "Powered off (not verified)" in page
    assert stages(certificate_page(certificate))["power_off"][0] == "partial"
    assert summary(certificate).startswith(f"{SERVER}: powered off (not verified); ")
