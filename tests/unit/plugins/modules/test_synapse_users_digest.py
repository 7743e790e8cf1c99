# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import hashlib
from typing import Callable

import pytest
from ansible_collections.matrixops.synapse.tests.stubs.helpers import Json, Server, user

Run = Callable[..., Json]

SALT = "5f1d7a84db00d2fc8d0f4c9e8c3b7a61"
ACCOUNTS = [
    user("op", admin=True),
    user("a"),
    user("b", deactivated=True),
    user("c", deactivated=True, erased=True),
    user("l", locked=True),
]


def test_digests_are_what_the_documentation_says(server: Server, run: Run) -> None:
    server.whoami()
    server.users(*ACCOUNTS)
    result = run("synapse_users_digest", {"salt": SALT})
    assert (result["states"], result["total"], result["changed"]) == ({"deactivated": 1, "erased": 1}, 2, False)
    assert "user_ids" not in result
    raw = (
        hashlib.pbkdf2_hmac("sha256", user_id, bytes.fromhex(SALT), result["rounds"])
        for user_id in (b"@b:example.org", b"@c:example.org")
    )
    expected = sorted(base64.urlsafe_b64encode(each).decode()[:10] for each in raw)
    assert (result["width"], result["digests"]) == (10, "".join(expected))


def test_ids_only_if_asked_for(server: Server, run: Run) -> None:
    server.whoami()
    server.users(*ACCOUNTS)
    result = run("synapse_users_digest", {"salt": SALT, "ids": True})
    assert result["user_ids"] == ["@b:example.org", "@c:example.org"]
    assert "digests" not in result


@pytest.mark.parametrize("salt", ["", "abc", "5f1d7a84db00d2f", "XX1d7a84db00d2fc8d"])
def test_a_salt_that_is_none(run: Run, salt: str) -> None:
    assert "salt must be" in run("synapse_users_digest", {"salt": salt})["msg"]


def test_nobody(server: Server, run: Run) -> None:
    server.whoami()
    server.users(ACCOUNTS[0])
    result = run("synapse_users_digest", {"salt": SALT})
    assert (result["total"], result["digests"]) == (0, "")
