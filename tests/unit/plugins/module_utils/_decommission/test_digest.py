# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import hashlib

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission import digest

SALT = "5f1d7a84db00d2fc8d0f4c9e8c3b7a61"


def test_200_000_accounts_take_up_a_megabyte(monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(user_id: str, salt: str) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256((salt + user_id).encode()).digest()).decode()

    monkeypatch.setattr(digest, "digest", quick)
    width, digests = digest.digest_all([f"@user{number}:example.org" for number in range(200_000)], SALT)
    assert (width, len(digests)) == (5, 1_000_000)
    found = {digests[i : i + width] for i in range(0, len(digests), width)}
    assert quick("@user7:example.org", SALT)[:width] in found
    strangers = sum(quick(f"@stranger{number}:example.org", SALT)[:width] in found for number in range(10_000))
    assert strangers < 20
