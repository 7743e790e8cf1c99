# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.redaction import Redaction
from ansible_collections.matrixops.synapse.tests.stubs.helpers import OPERATOR, SERVER
from ansible_collections.matrixops.synapse.tests.unit.plugins.plugin_utils._report.sample import A, B


def redaction(**more: Any) -> Redaction:
    return Redaction(SERVER, "ab" * 16, **{"secrets": [], "ids": False, "spared": OPERATOR, **more})


@pytest.mark.parametrize(
    "text",
    [A, f"{A}.", f"for example {A}: no", f"['{A}', '{B}']", "GET /users/%40a%3Aexample.org/x", f"({A})"],
)
def test_ids_of_local_accounts_are_replaced(text: str) -> None:
    found = redaction()({"reason": [text]})["reason"][0]
    assert "@a" not in found and "%40a" not in found and redaction()(A) in found
    assert redaction(ids=True)(text) == text


OLD_IDS = [
    f"@a b:{SERVER}",
    f"@ a :{SERVER}",
    f"@a@mail.example:{SERVER}",
    f"@a@mail.example or so:{SERVER}",
    f"@a/b%:{SERVER}",
    f"@a!#$b c:{SERVER}",
    f"@a\nb:{SERVER}",
]


@pytest.mark.parametrize("user_id", OLD_IDS)
def test_old_ids_with_blanks_and_other_characters(user_id: str) -> None:
    redact = redaction()
    pseudonym = redact(user_id)
    assert re.fullmatch("#[A-Za-z0-9_-]{10}", pseudonym)
    assert redact({"user_id": user_id, user_id: 1}) == {"user_id": pseudonym, pseudonym: 1}
    path = f"GET /_synapse/admin/v2/users/{quote(user_id, safe='')}/joined_rooms: 403"
    assert redact(path) == f"GET /_synapse/admin/v2/users/{pseudonym}/joined_rooms: 403"


@pytest.mark.parametrize("user_id", [OLD_IDS[0], OLD_IDS[2], OLD_IDS[4], OLD_IDS[5]])
def test_old_ids_among_words(user_id: str) -> None:
    redact = redaction()
    text = f"3 accounts failed, for example {user_id}: no. Ask {A}"
    assert redact(text) == f"3 accounts failed, for example {redact(user_id)}: no. Ask {redact(A)}"


def test_words_and_the_operator_are_kept() -> None:
    text = f"mail bob@example.com or {OPERATOR} about !r:{SERVER}, @someone of other.example: yes"
    assert redaction()(text) == text


@pytest.mark.parametrize("text", [OPERATOR, "@a:example.org.uk", "@a:example.org:8448", "@a:other.org", "a@b", "#r:x"])
def test_other_names_are_not(text: str) -> None:
    assert redaction()(text) == text


def test_lists_of_ids_and_digests() -> None:
    found = redaction(secrets=["abc"])({"user_ids": [A], "digests": "xabcx", "salt": "abc"})
    assert "@a" not in str(found["user_ids"])
    assert (found["digests"], found["salt"]) == ("xabcx", "abc")


def test_secrets_are_replaced() -> None:
    found = redaction(secrets=["syt_x", ""], ids=True)({"a syt_x": [1, None, "with syt_x in it"]})
    assert found == {"a ********": [1, None, "with ******** in it"]}
