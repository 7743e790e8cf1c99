# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Encryption of secrets in the result of a module, for one task.

Ansible prints the standard output of a module with C(-vvv) over SSH, and callbacks and log files keep it. So a module
that returns a secret encrypts it with a key that its action plugin has generated, and the action plugin decrypts it in
memory. The key travels as the access token does: in the arguments of the module, which are not printed, but for
C(ANSIBLE_DEBUG), with which these actions refuse to run.

A key encrypts one text: the key stream is the output of SHAKE-256 of the key, and HMAC-SHA-256 authenticates the
result. Only the standard library is needed, on the host and on the controller.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

KEY_SIZE = 32
"""Size of a key, and of the authentication code, in bytes."""


def new_key() -> str:
    """Return a key for one secret, in base64."""
    return base64.b64encode(secrets.token_bytes(KEY_SIZE)).decode()


def seal(key: str, secret: bytes) -> str:
    """Encrypt a secret. Each key must be used once.

    :raises ValueError: if the key is invalid.
    """
    raw = _decode_key(key)
    masked = _mask(raw, secret)
    return base64.b64encode(_authenticate(raw, masked) + masked).decode()


def unseal(key: str, sealed: str) -> bytes:
    """Decrypt what C(seal) has returned.

    :raises ValueError: if the key is invalid, or if the text was not encrypted with it.
    """
    raw = _decode_key(key)
    try:
        content = base64.b64decode(sealed, validate=True)
    except (binascii.Error, ValueError):
        content = b""
    code, masked = content[:KEY_SIZE], content[KEY_SIZE:]
    if not hmac.compare_digest(code, _authenticate(raw, masked)):
        raise ValueError("the encrypted secret is damaged")
    return _mask(raw, masked)


def _decode_key(key: str) -> bytes:
    raw = base64.b64decode(key, validate=True)
    if len(raw) != KEY_SIZE:
        raise ValueError(f"the key has {len(raw)} bytes, not {KEY_SIZE}")
    return raw


def _mask(key: bytes, text: bytes) -> bytes:
    stream = hashlib.shake_256(b"stream" + key).digest(len(text))
    return bytes(a ^ b for a, b in zip(text, stream))


def _authenticate(key: bytes, masked: bytes) -> bytes:
    return hmac.new(b"code" + key, masked, hashlib.sha256).digest()
