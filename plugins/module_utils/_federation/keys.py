# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signing keys, signed requests, and the keys that servers publish.

Specified in U(https://spec.matrix.org/latest/server-server-api/), "Retrieving server keys" and "Request
Authentication", and U(https://spec.matrix.org/latest/appendices/), "Signing JSON".
"""

from __future__ import annotations

import re
import time
import traceback
from dataclasses import dataclass
from typing import Any, Dict

from .errors import AnswerError, MissingRequirementError, SigningKeyError

SIGNEDJSON_IMPORT_ERROR: str | None = None
try:
    from canonicaljson import encode_canonical_json
    from signedjson.key import decode_verify_key_bytes, read_signing_keys
    from signedjson.sign import SignatureVerifyException, sign_json, verify_signed_json
    from unpaddedbase64 import decode_base64, encode_base64
except ImportError:
    SIGNEDJSON_IMPORT_ERROR = traceback.format_exc()

JsonDict = Dict[str, Any]

ALGORITHM = "ed25519:"
"""Prefix of the key IDs of the only algorithm in the specification."""
KEY_ID = re.compile(r"ed25519:[A-Za-z0-9_.-]{1,64}")
"""The specification allows letters, digits and C(_) only. A quote or a comma would break the Authorization header."""
DEBIAN_KEY = "/etc/matrix-synapse/homeserver.signing.key"
"""Where Debian's package of Synapse keeps its signing key."""
MAX_KEY_FILE = 64 * 1024
"""How much of a signing key file is read, in characters."""
MAX_KEYS = 100
"""Maximum number of verify_keys, and of old_verify_keys, in a key answer. Bounds the time to verify signatures."""


def require_signedjson() -> None:
    """Assert that signedjson and its own requirements (canonicaljson, PyNaCl, unpaddedbase64) can be imported.

    :raises MissingRequirementError: if one of them cannot be imported.
    """
    if SIGNEDJSON_IMPORT_ERROR is not None:
        raise MissingRequirementError("signedjson")


def canonical_json(value: Any) -> bytes:
    """Encode a value as canonical JSON, the form in which objects are hashed and signed.

    API: U(https://spec.matrix.org/latest/appendices/#canonical-json).

    :raises MissingRequirementError: if signedjson cannot be imported.
    :raises ValueError: if the value cannot be encoded, for example because of a lone surrogate.
    :raises RecursionError: if the value is nested too deeply.
    """
    require_signedjson()
    return encode_canonical_json(value)


class SigningKey:
    """A private ed25519 key; see read_signing_key(). The private part never appears in C(repr()).

    C(key_id) is the key ID (C(ed25519:a_lab)), C(public_base64) the public key in unpadded base64.
    """

    __slots__ = ("_key", "key_id", "public_base64")

    def __init__(self, key: Any) -> None:
        self._key = key
        self.key_id = f"{key.alg}:{key.version}"
        self.public_base64: str = encode_base64(key.verify_key.encode())

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id!r})"

    def sign(self, value: JsonDict, server_name: str) -> JsonDict:
        """Return a copy of an object, signed in the name of our server. Existing signatures are not copied."""
        return sign_json({**value, "signatures": {}}, server_name, self._key)


def read_key_file(path: str, option: str = "signing_key_path") -> str:
    """Return the content of a signing key file, which must not get into any message.

    :param option: the option or variable that names the file, for messages.
    :raises SigningKeyError: if the file can't be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(MAX_KEY_FILE)
    except PermissionError:
        raise SigningKeyError(f"{option}: {path} can't be read by this user: set become: true") from None
    except UnicodeDecodeError:
        raise SigningKeyError(f"{option}: {path} is not a signing key file") from None
    except OSError as error:
        raise SigningKeyError(
            f"{option}: {path}: {error.strerror}: set it to the signing_key_path of homeserver.yaml"
        ) from None


def read_signing_key(text: str) -> SigningKey:
    """Read the content of Synapse's C(signing_key_path): lines of C(ed25519 <version> <key in base64>).

    Of several lines, the first is used: Synapse signs requests and events with that key.

    :raises SigningKeyError: if the text has another form. The message contains no part of the text.
    :raises MissingRequirementError: if signedjson cannot be imported.
    """
    require_signedjson()
    try:
        keys = read_signing_keys(line for line in text.splitlines() if line.strip())
    except (ValueError, TypeError):
        keys = []
    # Not raised in the except clause: the library's error, which contains parts of the text, would be its context.
    if not keys:
        raise SigningKeyError(
            "cannot read the signing key: each line must have the form 'ed25519 <version> <key in base64>'"
        )
    key = SigningKey(keys[0])
    if KEY_ID.fullmatch(key.key_id) is None:
        raise SigningKeyError(
            "cannot use the signing key: its version may only contain letters, digits, '_', '.' and '-'"
        )
    return key


def sign_request(
    server_name: str, key: SigningKey, destination: str, method: str, uri: str, content: JsonDict | None = None
) -> str:
    """Return the value of the C(Authorization) header that authenticates a request.

    API: U(https://spec.matrix.org/latest/server-server-api/#request-authentication).

    :param server_name: the name of our server, already validated.
    :param destination: the name of the remote server, already validated.
    :param uri: path and query exactly as sent.
    :param content: the body, or C(None) for a request without a body.
    """
    request: JsonDict = {"method": method, "uri": uri, "origin": server_name, "destination": destination}
    if content is not None:
        request["content"] = content
    signature = key.sign(request, server_name)["signatures"][server_name][key.key_id]
    return f'X-Matrix origin="{server_name}",destination="{destination}",key="{key.key_id}",sig="{signature}"'


@dataclass(frozen=True)
class KeyAnswer:
    """The keys that a server publishes: unpadded base64 by key ID. C(valid_until_ts) is in ms since 1970."""

    server_name: str
    verify_keys: dict[str, str]
    old_verify_keys: dict[str, str]
    valid_until_ts: int


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
    valid_until_ts = body.get("valid_until_ts")
    if not isinstance(valid_until_ts, int) or isinstance(valid_until_ts, bool):
        raise AnswerError(f"key answer of {server_name}: valid_until_ts is not an integer")
    answer = KeyAnswer(
        server_name,
        verify_keys=_public_keys(body, "verify_keys", server_name),
        old_verify_keys=_public_keys(body, "old_verify_keys", server_name),
        valid_until_ts=valid_until_ts,
    )
    _verify(body, answer)
    return answer


def _public_keys(body: JsonDict, name: str, server_name: str) -> dict[str, str]:
    keys = body.get(name, {})
    if not isinstance(keys, dict) or len(keys) > MAX_KEYS:
        raise AnswerError(f"key answer of {server_name}: {name} is not an object of at most {MAX_KEYS} keys")
    try:
        return {
            key_id: encode_base64(decode_verify_key_bytes(key_id, decode_base64(value["key"])).encode())
            for key_id, value in keys.items()
            if key_id.startswith(ALGORITHM)
        }
    except (KeyError, TypeError, AttributeError, ValueError):
        raise AnswerError(f"key answer of {server_name}: {name} contains an invalid key") from None


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
                f"signing key {key.key_id} is not accepted any more: the key answer of {name} expired at {date} UTC. "
                "Publish a new one, or correct the clock of this host"
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
