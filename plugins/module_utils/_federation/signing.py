# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is signed with the signing key of the homeserver: requests to remote servers, here, and leave events.

C(leave_events) builds these events. Nothing else is signed, and nothing as a remote server proposes it.

Specified in U(https://spec.matrix.org/latest/server-server-api/), "Request Authentication", and
U(https://spec.matrix.org/latest/appendices/), "Signing JSON".
"""

from __future__ import annotations

import os
import re
import secrets
import string
import tempfile
import traceback
from typing import Any, Dict

from .errors import MissingRequirementError, SigningKeyError

SIGNEDJSON_IMPORT_ERROR: str | None = None
try:
    from canonicaljson import encode_canonical_json
    from signedjson.key import encode_signing_key_base64, generate_signing_key, read_signing_keys
    from signedjson.sign import sign_json
    from unpaddedbase64 import encode_base64
except ImportError:
    SIGNEDJSON_IMPORT_ERROR = traceback.format_exc()

JsonDict = Dict[str, Any]

KEY_ID = re.compile(r"ed25519:[A-Za-z0-9_.-]{1,64}")
"""The specification allows letters, digits and C(_) only. A quote or a comma would break the Authorization header."""
DEBIAN_KEY = "/etc/matrix-synapse/homeserver.signing.key"
"""Path of the signing key in Debian's package of Synapse."""
MAX_KEY_FILE = 64 * 1024
"""Maximum length of a signing key file in characters."""


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

    def file_content(self) -> str:
        """Return the content of a signing key file of Synapse with this key. It is secret."""
        return f"{self._key.alg} {self._key.version} {encode_signing_key_base64(self._key)}\n"

    def sign(self, value: JsonDict, server_name: str) -> JsonDict:
        """Return a copy of an object, signed in the name of the homeserver. Existing signatures are not copied."""
        return sign_json({**value, "signatures": {}}, server_name, self._key)


def random_version(prefix: str) -> str:
    """Return a version for a new key. A remote server that has stored a key ID accepts no other key for it."""
    return f"{prefix}_" + "".join(secrets.choice(string.ascii_letters) for _letter in range(6))


def new_signing_key(prefix: str) -> SigningKey:
    """Return a new key with a random key ID.

    :param prefix: the beginning of the version in the key ID.
    :raises MissingRequirementError: if signedjson cannot be imported.
    """
    require_signedjson()
    return SigningKey(generate_signing_key(random_version(prefix)))


def create_key_file(path: str, key: SigningKey, option: str) -> None:
    """Write a key to a new file of mode 0600, in the form of Synapse. The file is complete from the beginning.

    :param option: the option that names the file, for messages.
    :raises SigningKeyError: if there is a file already, or it can't be written.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path) or ".", prefix=".signing.key.")
        try:
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(key.file_content())
                file.flush()
                os.fsync(file.fileno())
            # Unlike a rename, this never replaces a file.
            os.link(temporary, path)
        finally:
            os.unlink(temporary)
    except PermissionError:
        raise SigningKeyError(f"{option}: {path} can't be written by this user: set become: true") from None
    except OSError as error:
        raise SigningKeyError(f"{option}: {path}: {error.strerror}: set it to a new file in a directory") from None


def read_key_file(path: str, option: str = "signing_key_path") -> str:
    """Return the content of a signing key file. It must not appear in any message.

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

    :param server_name: the name of the homeserver, already validated.
    :param destination: the name of the remote server, already validated.
    :param uri: path and query exactly as sent.
    :param content: the body, or C(None) for a request without a body.
    """
    request: JsonDict = {"method": method, "uri": uri, "origin": server_name, "destination": destination}
    if content is not None:
        request["content"] = content
    signature = key.sign(request, server_name)["signatures"][server_name][key.key_id]
    return f'X-Matrix origin="{server_name}",destination="{destination}",key="{key.key_id}",sig="{signature}"'
