# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import copy
import re
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import AnswerError
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.published_keys import parse_key_answer
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.signing import read_signing_key
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _server_key
from ansible_collections.matrixops.synapse.tests.stubs.helpers import NOW, SERVER, Json

SEED = base64.b64encode(bytes(32)).decode().rstrip("=")
PUBLIC = _server_key.verify_keys(f"ed25519 a_1 {SEED}\n".encode())
OLDER = {"ed25519:a_0": {"key": PUBLIC["ed25519:a_1"], "expired_ts": 7}}


def answer(new: _server_key.NewKey | None = None, **published: Any) -> Json:
    new = new or _server_key.generate()
    return _server_key.key_answer(SERVER, new, PUBLIC, {**OLDER, **published}, now=NOW, valid_for=9)


def test_remote_servers_accept_it_and_what_the_new_key_signs() -> None:
    """Judged by the library that Synapse uses."""
    new = _server_key.generate()
    body = answer(new)
    parsed = parse_key_answer(body, SERVER)
    key = read_signing_key(new.line.decode())
    assert parsed.verify_keys == {new.key_id: new.public} == {key.key_id: key.public_base64}
    assert parsed.valid_until_ts == (NOW + 9) * 1000
    assert body["old_verify_keys"] == {
        **OLDER,
        "ed25519:a_1": {"key": PUBLIC["ed25519:a_1"], "expired_ts": NOW * 1000},
    }
    body["valid_until_ts"] += 1
    with pytest.raises(AnswerError, match="invalid signature"):
        parse_key_answer(body, SERVER)


def test_each_new_key_has_an_id_of_its_own() -> None:
    ids = {_server_key.generate().key_id for _key in range(9)}
    assert len(ids) == 9
    assert all(re.fullmatch("ed25519:site_[A-Za-z]{6}", key_id) for key_id in ids)


def test_a_published_key_without_a_time_expires_now_and_ours_is_not_replaced() -> None:
    other = {"key": "AAAA"}
    body = answer(**{"ed25519:a_9": other, "ed25519:a_1": {"key": "BBBB", "expired_ts": 1}})
    assert body["old_verify_keys"]["ed25519:a_9"] == {"key": "AAAA", "expired_ts": NOW * 1000}
    assert body["old_verify_keys"]["ed25519:a_1"]["key"] == PUBLIC["ed25519:a_1"]


@pytest.mark.parametrize(
    ("change", "current"),
    [
        ({}, True),
        ({"expired_ts": (NOW - 3600) * 1000}, True),
        ({"expired_ts": (NOW - 3601) * 1000}, False),
        ({"expired_ts": (NOW + 1) * 1000}, False),
        ({"key": "other"}, False),
        ({"expired_ts": None}, False),
    ],
)
def test_which_answer_is_current(change: Json, current: bool) -> None:
    """The homeserver may have signed events since an older answer."""
    body = answer()
    body["old_verify_keys"]["ed25519:a_1"].update(change)
    assert _server_key.is_current(body, PUBLIC, NOW) is current


@pytest.mark.parametrize("body", [{}, {"old_verify_keys": None}, {"old_verify_keys": {"ed25519:a_1": 7}}])
def test_what_is_no_answer_is_not_current(body: Json) -> None:
    assert not _server_key.is_current(copy.deepcopy(body), PUBLIC, NOW)


@pytest.mark.parametrize(
    "line", ["", "ed25519 a_1", f"rsa a_1 {SEED}", f"ed25519 a-1 {SEED}", f"ed25519 a_1 {SEED[:9]}"]
)
def test_invalid_keys(line: str) -> None:
    with pytest.raises(ValueError, match="contains no valid Synapse signing keys"):
        _server_key.verify_keys(f"ed25519 a_0 {SEED}\n{line}\n".encode() if line else b"")


def test_several_keys() -> None:
    keys = _server_key.verify_keys(f"ed25519 a_0 {SEED}\ned25519 a_1 {SEED}\n".encode())
    assert list(keys) == ["ed25519:a_0", "ed25519:a_1"]
