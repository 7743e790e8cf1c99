# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._sealed import new_key, seal, unseal

SECRET = b"ed25519 a_1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1\n" * 5


@pytest.mark.parametrize("secret", [b"", b"x", SECRET, bytes(range(256))])
def test_a_secret_is_decrypted_again(secret: bytes) -> None:
    key = new_key()
    assert unseal(key, seal(key, secret)) == secret


def test_nothing_of_the_secret_is_in_the_text() -> None:
    key, other = new_key(), new_key()
    assert key != other and seal(key, SECRET) != seal(other, SECRET)
    assert len({seal(new_key(), bytes(64)) for _attempt in range(20)}) == 20
    content = base64.b64decode(seal(key, SECRET))
    assert b"YJDBA9" not in content and base64.b64decode(key) not in content


@pytest.mark.parametrize("damage", ["", "AA==", "no base64", None])
def test_a_damaged_text_is_refused(damage: str | None) -> None:
    key = new_key()
    sealed = seal(key, SECRET)
    last = "A" if sealed[60] != "A" else "B"
    with pytest.raises(ValueError, match="is damaged"):
        unseal(key, damage if damage is not None else sealed[:60] + last + sealed[61:])
    with pytest.raises(ValueError, match="is damaged"):
        unseal(new_key(), sealed)


@pytest.mark.parametrize("key", ["", "AAAA", "no base64"])
def test_an_invalid_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)key|base64|character|padding"):
        seal(key, SECRET)
