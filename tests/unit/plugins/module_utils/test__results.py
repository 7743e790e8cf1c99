# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.matrixops.synapse.plugins.module_utils._results import MAX_NAMES, with_reasons


def test_reasons_in_a_result_are_bounded() -> None:
    names = {f"@{number}": "why" for number in range(MAX_NAMES + 1)}
    assert len(with_reasons("user_id", names)) == MAX_NAMES
    assert with_reasons("user_id", names, 10) == with_reasons("user_id", names)[:10]
    assert with_reasons("user_id", {"@alice:example.org": "why"}) == [
        {"user_id": "@alice:example.org", "reason": "why"}
    ]
