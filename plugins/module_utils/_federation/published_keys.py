# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys that servers publish, and the check that a signing key is among them.

Specified in U(https://spec.matrix.org/latest/server-server-api/), "Retrieving server keys".
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Mapping

from .errors import AnswerError, SigningKeyError
from .signing import JsonDict, SigningKey, require_signedjson

try:
    from signedjson.key import decode_verify_key_bytes
    from signedjson.sign import SignatureVerifyException, verify_signed_json
    from unpaddedbase64 import decode_base64, encode_base64
except ImportError:
    pass  # require_signedjson() says so

ALGORITHM = "ed25519:"
"""Prefix of the key IDs of the only algorithm in the specification."""
MAX_KEYS = 100
"""Maximum number of verify_keys, and of old_verify_keys, in a key answer. Bounds the time to verify signatures."""


@dataclass(frozen=True)
class KeyAnswer:
    """The keys that a server publishes: unpadded base64 by key ID. All times are in ms since 1970.

    :ivar expired_ts: when each of C(old_verify_keys) has expired, as far as the server says.
    """

    server_name: str
    verify_keys: dict[str, str]
    old_verify_keys: dict[str, str]
    valid_until_ts: int
    expired_ts: dict[str, int] = field(default_factory=dict)

    def known_as(self, key_id: str) -> list[str]:
        """Return the keys under a key ID, valid or not."""
        return [keys[key_id] for keys in (self.verify_keys, self.old_verify_keys) if key_id in keys]

    def as_json(self) -> JsonDict:
        """Return all keys in the form of C(old_verify_keys). Those that are valid have no C(expired_ts)."""
        keys: JsonDict = {key_id: {"key": key} for key_id, key in {**self.old_verify_keys, **self.verify_keys}.items()}
        for key_id, expired_ts in self.expired_ts.items():
            keys[key_id]["expired_ts"] = expired_ts
        return keys


def parse_key_answer(body: JsonDict, server_name: str) -> KeyAnswer:
    """Validate the answer to C(GET /_matrix/key/v2/server), or one entry of a notary's answer.

    Keys of unknown algorithms are ignored.

    :raises AnswerError: if a type is wrong, if C(server_name) differs, or unless one of the C(verify_keys) has signed
        the answer and all signatures by C(verify_keys) are valid.
    :raises MissingRequirementError: if signedjson cannot be imported.
    """
    require_signedjson()
    if body.get("server_name") != server_name:
        raise AnswerError(f"key answer of {server_name}: server_name is missing or differs")
    valid_until_ts: Any = body.get("valid_until_ts")
    if not is_integer(valid_until_ts):
        raise AnswerError(f"key answer of {server_name}: valid_until_ts is not an integer")
    valid, old = (
        public_keys(body.get(field_name, {}), f"key answer of {server_name}: {field_name}")
        for field_name in ("verify_keys", "old_verify_keys")
    )
    expired = {key_id: body["old_verify_keys"][key_id].get("expired_ts") for key_id in old if key_id not in valid}
    times = {key_id: expired_ts for key_id, expired_ts in expired.items() if is_integer(expired_ts)}
    answer = KeyAnswer(server_name, valid, old, valid_until_ts, times)
    _verify(body, answer)
    return answer


def unsigned_key_answer(
    server_name: str,
    verify_keys: Mapping[str, str],
    old_verify_keys: Mapping[str, Mapping[str, Any]],
    *,
    now: int,
    valid_for: int,
) -> JsonDict:
    """Return a key answer that is yet to be signed with one of its I(verify_keys).

    :param verify_keys: public keys by key ID.
    :param old_verify_keys: C(key) and C(expired_ts), in ms since 1970, of each former key by key ID. Without
        C(expired_ts), a key expires now.
    :param now: seconds since 1970.
    :param valid_for: time in seconds for which the answer is valid.
    """
    old = {
        key_id: {"key": key["key"], "expired_ts": key.get("expired_ts", now * 1000)}
        for key_id, key in old_verify_keys.items()
    }
    return {
        "server_name": server_name,
        "verify_keys": {key_id: {"key": key} for key_id, key in verify_keys.items()},
        "old_verify_keys": old,
        "valid_until_ts": (now + valid_for) * 1000,
    }


def is_integer(value: object) -> bool:
    """Return whether a value of JSON is an integer."""
    # In Python, True is an int.
    return isinstance(value, int) and not isinstance(value, bool)


def public_keys(keys: Any, where: str) -> dict[str, str]:
    """Validate C(verify_keys) or C(old_verify_keys), and return the public keys in unpadded base64 by key ID.

    :param where: where the keys are from, for messages.
    :raises AnswerError: if a type is wrong, or a key is invalid.
    """
    if not isinstance(keys, dict) or len(keys) > MAX_KEYS:
        raise AnswerError(f"{where} is not an object of at most {MAX_KEYS} keys")
    try:
        return {
            key_id: encode_base64(decode_verify_key_bytes(key_id, decode_base64(value["key"])).encode())
            for key_id, value in keys.items()
            if key_id.startswith(ALGORITHM)
        }
    except (KeyError, TypeError, AttributeError, ValueError):
        raise AnswerError(f"{where} contains an invalid key") from None


def _verify(body: JsonDict, answer: KeyAnswer) -> None:
    signatures = body.get("signatures")
    by_key = signatures.get(answer.server_name) if isinstance(signatures, dict) else None
    signed_by = [key_id for key_id in answer.verify_keys if key_id in by_key] if isinstance(by_key, dict) else []
    if not signed_by:
        raise AnswerError(f"key answer of {answer.server_name}: not signed by any of its verify_keys")
    for key_id in signed_by:
        key = decode_verify_key_bytes(key_id, decode_base64(answer.verify_keys[key_id]))
        try:
            verify_signed_json(body, answer.server_name, key)
        except (SignatureVerifyException, ValueError, RecursionError):
            raise AnswerError(f"key answer of {answer.server_name}: invalid signature by {key_id}") from None


def assert_published(key: SigningKey, answer: KeyAnswer, now: float) -> None:
    """Assert that a signing key is the one that the server publishes, so that remote servers can verify signatures.

    :param now: the time in seconds since 1970.
    :raises SigningKeyError: if the server publishes another key under this key ID, does not publish the key ID, or the
        answer has expired.
    """
    published = answer.verify_keys.get(key.key_id)
    name = answer.server_name
    if published == key.public_base64:
        valid_until = max(answer.valid_until_ts // 1000, 0)
        if valid_until < now:
            date = time.strftime("%Y-%m-%d %H:%M", time.gmtime(valid_until))
            raise SigningKeyError(
                f"signing key {key.key_id} is no longer accepted, since the key answer of {name} expired at {date} "
                "UTC: publish a new one, or correct the clock of this host"
            )
        return
    if published is not None:
        raise SigningKeyError(
            f"signing key {key.key_id} differs from the {key.key_id} that {name} publishes: use that key, or publish "
            "this key under a new key ID"
        )
    current = ", ".join(sorted(answer.verify_keys)[:3])
    retired = " (only in old_verify_keys)" if key.key_id in answer.old_verify_keys else ""
    raise SigningKeyError(
        f"signing key {key.key_id} is not published by {name}{retired}, which publishes {current}: use that key, or "
        "publish this key"
    )
