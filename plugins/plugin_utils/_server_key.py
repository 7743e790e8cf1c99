# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The answer for the keys of a server after its power-off: the old keys, expired, and a new one that signs it.

Remote servers verify the events of the server with the old keys. The new key removes ghosts later. It needs a key ID of
its own: a remote server that has stored a key ID accepts no other key for it.

API: C(GET /_matrix/key/v2/server), U(https://spec.matrix.org/latest/server-server-api/#retrieving-server-keys).
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Mapping, NamedTuple

from ansible_collections.matrixops.synapse.plugins.module_utils._federation.published_keys import unsigned_key_answer
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.signing import random_version

MAX_AGE = 3600
"""Maximum age in seconds of an answer that is kept. The homeserver may have signed events since its keys expired."""


class NewKey(NamedTuple):
    """A private key. I(line) is its line in a file of Synapse's signing keys."""

    key_id: str
    public: str
    line: bytes


def generate() -> NewKey:
    """Return a new key with a new key ID."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    version = random_version("site")
    seed = Ed25519PrivateKey.generate().private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    line = b"ed25519 %s %s\n" % (version.encode(), _base64(seed).encode())
    return NewKey(f"ed25519:{version}", verify_keys(line)[f"ed25519:{version}"], line)


def verify_keys(signing_keys: bytes) -> dict[str, str]:
    """Return the public part of each key in a file of Synapse's signing keys, by its key ID.

    :raises ValueError: if one of them is invalid, or there is none. The message has nothing of the contents.
    """
    public = {}
    try:
        for line in signing_keys.decode("ascii").splitlines():
            algorithm, version, seed = line.split()
            if algorithm != "ed25519" or not re.fullmatch(r"\w+", version):
                raise ValueError
            public[f"ed25519:{version}"] = _base64(_public_part(_private_key(seed)))
    except ValueError:
        public = {}
    if not public:
        raise ValueError("contains no valid Synapse signing keys")
    return public


def key_answer(
    server_name: str,
    new: NewKey,
    public: Mapping[str, str],
    published: Mapping[str, Mapping[str, Any]],
    *,
    now: int,
    valid_for: int,
) -> dict[str, Any]:
    """Return the signed key answer.

    :param public: the public parts of the keys that the homeserver signs with until now, by key ID.
    :param published: C(key) and C(expired_ts), in milliseconds since 1970, of the other keys that the server has
        published, by key ID. Without C(expired_ts), a key expires now as well.
    :param now: seconds since 1970.
    :param valid_for: seconds for which the answer is valid.
    """
    expired = {key_id: {"key": key} for key_id, key in public.items()}
    answer = unsigned_key_answer(
        server_name, {new.key_id: new.public}, {**published, **expired}, now=now, valid_for=valid_for
    )
    signature = _private_key(new.line.split()[2].decode()).sign(_canonical(answer))
    return {**answer, "signatures": {server_name: {new.key_id: _base64(signature)}}}


def current_keys(answer: Mapping[str, Any]) -> dict[str, str]:
    """Return the public keys that sign for the server by an earlier key answer of ours; empty without one."""
    return {key_id: key["key"] for key_id, key in answer.get("verify_keys", {}).items()}


def all_keys(answer: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return all keys of an earlier key answer of ours, those that were valid without C(expired_ts)."""
    return {**answer.get("old_verify_keys", {}), **answer.get("verify_keys", {})}


def is_current(answer: Any, public: Mapping[str, str], now: int) -> bool:
    """Whether a key answer has these keys as old ones, and was made within the last C(MAX_AGE) seconds."""
    try:
        old = {key_id: answer["old_verify_keys"][key_id] for key_id in public}
        return all(
            old[key_id]["key"] == key and now - MAX_AGE <= old[key_id]["expired_ts"] // 1000 <= now
            for key_id, key in public.items()
        )
    except (KeyError, TypeError):
        return False


def _canonical(value: dict[str, Any]) -> bytes:
    # For a value without fractions, this is canonical JSON as the specification has it.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def _private_key(seed: str) -> Any:
    # Ansible requires it for ansible-vault; ansible-test, which imports this file, does not have it.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(base64.b64decode(seed + "=" * (-len(seed) % 4), validate=True))


def _public_part(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return bytes(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode().rstrip("=")
