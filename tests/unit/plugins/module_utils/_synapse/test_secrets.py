# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse import secrets
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.secrets import Secrets


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("the token is opaque", "the token is ********"),
        ("opaque opaque-2", "******** ********"),
        ("Authorization: Bearer whatever.it-is, and more", "Authorization: Bearer ******** and more"),
        ("AUTHORIZATION: BEARER x", "AUTHORIZATION: BEARER ********"),
        ("syt_b3A_abcDEF123 is invalid", "******** is invalid"),
        ("'mat_abc', mct_d.e, mpt_f or mar_x", "'********', ********, ******** or ********"),
        ("nothing of it: system, matter", "nothing of it: system, matter"),
        ("", ""),
    ],
)
def test_secrets_are_hidden(text: str, hidden: str) -> None:
    known = Secrets()
    known.add("opaque")
    known.add("opaque-2")
    known.add(None)
    known.add("")
    assert known.hide(text) == hidden


def test_the_number_of_secrets_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "MAX_SECRETS", 2)
    known = Secrets()
    for secret in ("first", "second", "third"):
        known.add(secret)
    assert known.hide("first second third") == "first ******** ********"
