#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: matrix_server_key
short_description: Create a new signing key for a Matrix homeserver whose key is lost
version_added: 1.0.0
description:
  - Creates a signing key with a new key ID on the host where the module runs, and a signed key answer. A web server
    that serves the key answer as a static file at C(/_matrix/key/v2/server) under O(server_name) is enough for
    M(matrixops.synapse.matrix_ghosts).
  - The key answer also has the former public keys, with which remote servers verify the events of the homeserver.
    Without them, remote servers can't join a room that was created on the homeserver.
  - The former public keys are gathered from remote servers that have federated with the homeserver. The module sends
    them one request each, and no other ones.
  - A signing key that exists is never replaced. A former key in the key answer is never removed, and its C(expired_ts)
    never changes.
  - The key answer is written again if former keys were added, or if less than half of O(valid_for) is left.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.federation.remote
  - matrixops.synapse.attributes
requirements:
  - python >= 3.8
  - requests
  - signedjson
  - dnspython
options:
  server_name:
    description:
      - Name of the homeserver, which is the domain of its accounts.
    type: str
    required: true
  path:
    description:
      - Path of the signing key, in the form of Synapse. If the file does not exist, it is created with mode C(0600).
        The key never leaves the host.
    type: path
    required: true
  key_answer_path:
    description:
      - Path of the key answer, which has mode C(0644). By default, no file is written.
      - An existing file must be a valid key answer of O(server_name).
    type: path
  valid_for:
    description:
      - Time in days for which a new key answer is valid, at most V(36500).
    type: int
    default: 3650
  servers:
    description:
      - Names of the remote servers to ask for the former public keys.
      - A server could return keys that the homeserver never had, and whose owner can then sign events in its name. Set
        trustworthy servers only. The module fails if two of them return different keys under one key ID, or if none of
        them returns a key.
    type: list
    elements: str
    default: []
  old_verify_keys:
    description:
      - Former public keys from elsewhere, for example from an archive, by key ID. Each is the key in base64, or a
        dictionary with C(key) and optionally C(expired_ts), in milliseconds since 1970. A key without C(expired_ts)
        expires now.
    type: dict
    default: {}
  owner:
    description:
      - Name or ID of the user that owns the files.
    type: str
  group:
    description:
      - Name or ID of the group that owns the files.
    type: str
attributes:
  check_mode:
    support: full
    details:
      - In check mode, a new key is random as well. The key that is created later is another one.
  diff_mode:
    support: full
    details:
      - The difference is that of the key answer. The signing key is not in it.
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Create a signing key and a key answer for old.example
  matrixops.synapse.matrix_server_key:
    server_name: old.example
    path: /etc/matrix-ghosts/old.example.signing.key
    key_answer_path: /var/www/old.example/_matrix/key/v2/server
    servers:
      - matrix.example
      - chat.example
  become: true
"""

RETURN = r"""
key_id:
  description: ID of the signing key.
  returned: success
  type: str
  sample: "ed25519:new_AbcDef"
public_key:
  description: Public key of the signing key in unpadded base64.
  returned: success
  type: str
  sample: XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI
old_verify_keys:
  description: The former public keys in the key answer, by key ID, with C(expired_ts) in milliseconds since 1970.
  returned: success
  type: dict
  sample: {"ed25519:a_abcd": {"key": "Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw", "expired_ts": 1795416000000}}
key_answer:
  description: The signed key answer for C(/_matrix/key/v2/server).
  returned: success
  type: dict
servers:
  description: The servers of O(servers), in the same order, without duplicates.
  returned: success
  type: list
  elements: dict
  contains:
    server:
      description: Server name.
      type: str
    key_ids:
      description: IDs of the keys that the server has returned, the signing key included.
      type: list
      elements: str
    reason:
      description: Why the server has returned no keys, in at most 300 characters. May quote the server.
      type: str
  sample:
    - server: matrix.example
      key_ids: ["ed25519:a_abcd"]
      reason: ""
"""

import json
import os
import time
from typing import Any, Iterable, NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.client import MAX_ANSWER
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.connect import open_client
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import (
    AnswerError,
    FederationError,
    SigningKeyError,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.notaries import (
    Keys,
    Source,
    ask,
    merge,
    no_answer,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.published_keys import (
    KeyAnswer,
    is_integer,
    parse_key_answer,
    public_keys,
    unsigned_key_answer,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.signing import (
    KEY_ID,
    SigningKey,
    create_key_file,
    new_signing_key,
    read_key_file,
    read_signing_key,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation_module import REMOTE_OPTIONS, settings
from ansible_collections.matrixops.synapse.plugins.module_utils._text import printable

OPTIONS: dict[str, dict[str, Any]] = {
    "server_name": {"type": "str", "required": True},
    "path": {"type": "path", "required": True},
    "key_answer_path": {"type": "path"},
    "valid_for": {"type": "int", "default": 3650},
    "servers": {"type": "list", "elements": "str", "default": []},
    "old_verify_keys": {"type": "dict", "default": {}, "no_log": False},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    **REMOTE_OPTIONS,
}
DAY = 24 * 60 * 60
MAX_VALID_FOR = 36500
"""In days, so that times can be shown as dates."""
PREFIX = "new"
"""The beginning of the version of a new key."""


class Earlier(NamedTuple):
    """The key answer in the file."""

    body: dict[str, Any]
    keys: KeyAnswer


class ServerKeyModule(AnsibleModule):
    """Creates the signing key and the key answer."""

    changed = False

    def __init__(self) -> None:
        super().__init__(argument_spec=OPTIONS, supports_check_mode=True)
        for option in ("valid_for", "timeout"):
            if self.params[option] < 1:
                self.fail_json(msg=f"{option} is {self.params[option]}: set it to 1 or more")
        if self.params["valid_for"] > MAX_VALID_FOR:
            self.fail_json(msg=f"valid_for is {self.params['valid_for']}: set it to {MAX_VALID_FOR} or less")

    def fail_json(self, msg: str, **result: Any) -> None:
        super().fail_json(msg=printable(msg), **{**result, "changed": self.changed})

    def create(self) -> dict[str, Any]:
        """Create what is missing, and return the result.

        :raises FederationError: if an option is invalid, no server returns a key, or a file can't be read or written.
        """
        params, now = self.params, int(time.time())
        path, answer_path, name = params["path"], params["key_answer_path"], params["server_name"]
        self._assert_paths()
        existing = read_signing_key(read_key_file(path, "path")) if os.path.exists(path) else None
        earlier = None if answer_path is None else read_answer(answer_path, name)
        given = Source("old_verify_keys", given_keys(params["old_verify_keys"]))
        # Servers do not verify the signatures of these requests.
        with open_client(name, existing or new_signing_key(PREFIX), settings(params)) as client:
            asked = ask(client, params["servers"])
        if problem := no_answer(asked, name):
            # The file has what servers have returned before.
            if existing is None or earlier is None:
                raise AnswerError(problem)
            self.warn(problem)
        known = [given, *asked]
        if earlier is not None:
            known.insert(0, Source(answer_path, earlier.keys.as_json()))
        if existing is not None:
            assert_id_is_unused(existing, known, path)
        keys = merge(known)
        key = existing or unused_key(keys)
        old = former_keys(keys, key, earlier, now)
        if not old and not any(source.keys for source in asked):
            self.warn(
                f"No former key of {name} is known, without which remote servers can't join rooms that were created on"
                " it: set servers or old_verify_keys"
            )
        if existing is None:
            self._write_key(key)
        answer = self._answer(key, old, earlier, now)
        self._set_attributes()
        return {
            "changed": self.changed,
            "key_id": key.key_id,
            "public_key": key.public_base64,
            "old_verify_keys": answer["old_verify_keys"],
            "key_answer": answer,
            "servers": [
                {"server": source.name, "key_ids": sorted(source.keys), "reason": source.problem} for source in asked
            ],
            **self._diff_of(earlier, answer),
        }

    def _assert_paths(self) -> None:
        paths = {option: self.params[option] for option in ("path", "key_answer_path") if self.params[option]}
        if len({os.path.realpath(path) for path in paths.values()}) < len(paths):
            raise SigningKeyError("path and key_answer_path are the same file: set them to different ones")
        for option, path in paths.items():
            # In check mode, an earlier task may not have created it.
            if not self.check_mode and not os.path.isdir(os.path.dirname(path) or "."):
                raise SigningKeyError(f"{option}: the directory of {path} does not exist: create it")

    def _write_key(self, key: SigningKey) -> None:
        if not self.check_mode:
            create_key_file(self.params["path"], key, "path")
        self.changed = True

    def _answer(self, key: SigningKey, old: Keys, earlier: Earlier | None, now: int) -> dict[str, Any]:
        """Return the key answer in the file if it is current, or a new one that is written to the file."""
        valid_for, path = self.params["valid_for"] * DAY, self.params["key_answer_path"]
        if earlier is not None and is_current(earlier.keys, key, old, now=now, valid_for=valid_for):
            return earlier.body
        name = self.params["server_name"]
        body = unsigned_key_answer(name, {key.key_id: key.public_base64}, old, now=now, valid_for=valid_for)
        answer = key.sign(body, name)
        if path is not None:
            if not self.check_mode:
                self._write_answer(path, as_text(answer))
            self.changed = True
        return answer

    def _write_answer(self, path: str, text: str) -> None:
        temporary = os.path.join(self.tmpdir, "key_answer")
        with open(temporary, "w", encoding="ascii") as file:
            file.write(text)
        self.atomic_move(temporary, path)

    def _set_attributes(self) -> None:
        """Set the owners of the files, and the mode of the key answer. The key was created with its mode."""
        answer_path, owner, group = (self.params[option] for option in ("key_answer_path", "owner", "group"))
        for path in filter(None, (self.params["path"], answer_path)):
            if owner is not None:
                self.changed = self.set_owner_if_different(path, owner, self.changed)
            if group is not None:
                self.changed = self.set_group_if_different(path, group, self.changed)
        if answer_path is not None:
            self.changed = self.set_mode_if_different(answer_path, 0o644, self.changed)

    def _diff_of(self, earlier: Earlier | None, answer: dict[str, Any]) -> dict[str, Any]:
        path = self.params["key_answer_path"]
        if not self._diff or path is None:
            return {}
        before = "" if earlier is None else as_text(earlier.body)
        header = printable(path)
        return {
            "diff": {"before": before, "after": as_text(answer), "before_header": header, "after_header": header},
        }


def read_answer(path: str, server_name: str) -> Earlier | None:
    """Return the key answer in a file, or C(None) if there is no such file.

    :raises AnswerError: if it is not a valid one. It may have keys that are nowhere else, so it is not replaced.
    """
    try:
        with open(path, encoding="utf-8") as file:
            body = json.loads(file.read(MAX_ANSWER))
        if not isinstance(body, dict):
            raise ValueError("not a JSON object")
        return Earlier(body, parse_key_answer(body, server_name))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AnswerError(f"key_answer_path: {path}: {error.strerror}: set become: true, or correct the path") from None
    except (ValueError, RecursionError, AnswerError) as error:
        raise AnswerError(
            f"key_answer_path: {path} is not a valid key answer of {server_name}: move it to another directory, or"
            f" correct server_name. {error}"
        ) from None


def given_keys(option: dict[str, Any]) -> Keys:
    """Validate the keys of C(old_verify_keys).

    :raises AnswerError: if a key ID, a key or a time is invalid.
    """
    keys = {key_id: {"key": value} if isinstance(value, str) else value for key_id, value in option.items()}
    public = public_keys(keys, "old_verify_keys")
    for key_id in keys:
        if KEY_ID.fullmatch(key_id) is None:
            raise AnswerError(f"old_verify_keys: '{key_id}' is not a key ID: set it to ed25519:<version>")
        if not is_integer(keys[key_id].get("expired_ts", 0)):
            raise AnswerError(f"old_verify_keys: expired_ts of {key_id} is not an integer: set it in milliseconds")
    return {key_id: {**keys[key_id], "key": public[key_id]} for key_id in keys}


def unused_key(known: Keys) -> SigningKey:
    """Return a new key with a key ID that is not known anywhere."""
    while True:
        key = new_signing_key(PREFIX)
        if key.key_id not in known:
            return key


def assert_id_is_unused(key: SigningKey, sources: Iterable[Source], path: str) -> None:
    """Assert that no source has another key under the ID of the signing key.

    :raises SigningKeyError: if one has.
    """
    for source in sources:
        known = source.keys.get(key.key_id)
        if known is not None and known["key"] != key.public_base64:
            raise SigningKeyError(
                f"path: {source.name} has another key as {key.key_id}. Remote servers that have stored it reject all"
                f" requests: move {path} to another directory, and run the task again to create a key with a new ID"
            )


def former_keys(known: Keys, key: SigningKey, earlier: Earlier | None, now: int) -> Keys:
    """Return the former keys with the times when they have expired. Those of the earlier answer stay."""
    expired = {} if earlier is None else earlier.keys.expired_ts
    return {
        key_id: {
            "key": each["key"],
            # Another server may have any time in its answer.
            "expired_ts": expired.get(key_id, min(each.get("expired_ts", now * 1000), now * 1000)),
        }
        for key_id, each in known.items()
        if key_id != key.key_id
    }


def is_current(answer: KeyAnswer, key: SigningKey, old: Keys, *, now: int, valid_for: int) -> bool:
    """Whether a key answer has these keys, and at least half of the time in seconds is left."""
    has_key = answer.verify_keys == {key.key_id: key.public_base64}
    has_old = set(answer.old_verify_keys) == set(answer.expired_ts) == set(old)
    return has_key and has_old and 2 * (answer.valid_until_ts // 1000 - now) >= valid_for


def as_text(answer: dict[str, Any]) -> str:
    """Return a key answer as printable text."""
    return json.dumps(answer, indent=2, sort_keys=True) + "\n"


def main() -> None:
    module = ServerKeyModule()
    try:
        result = module.create()
    except (FederationError, OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
