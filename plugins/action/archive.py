# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the archive of a decommissioned server on the controller. The signing keys are never on disk unencrypted."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from pathlib import Path
from typing import Any, Mapping, Protocol

from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, get_file_vault_secret
from ansible.plugins.action import ActionBase
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.signing import DEBIAN_KEY
from ansible_collections.matrixops.synapse.plugins.module_utils._sealed import new_key, unseal
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _archive, _server_key
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.files import Directory, to_json
from ansible_collections.matrixops.synapse.plugins.plugin_utils._secrets import debug_refusal

KEYS_FILES = {"vault_password_file": "signing.key.vault", "age_recipient": "signing.key.age"}
"""The name of the encrypted file, by the option that says how to encrypt it."""
RECORD = "signing.key.json"
"""Describes the encrypted file in the clear: its digest, the public keys, and the recipient."""
KEY_ANSWER = "server_key.json"
"""The key answer of the static site."""
AGE_TIMEOUT = 60
"""In seconds, after which the program age is ended."""
AGE_HEADER = "-----BEGIN AGE ENCRYPTED FILE-----"


class ActionModule(ActionBase):
    """Reads the signing keys over the host's own connection, into memory only."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(
            {
                "directory": {"type": "path", "required": True},
                "server_name": {"type": "str", "required": True},
                "signing_key_path": {"type": "str", "default": DEBIAN_KEY},
                # It names a file, and is no secret.
                "vault_password_file": {"type": "path", "no_log": False},
                "age_recipient": {"type": "str"},
                "key_valid_for": {"type": "int", "no_log": False},
                "published_keys": {"type": "dict", "default": {}, "no_log": False},
            },
            mutually_exclusive=[tuple(KEYS_FILES)],
        )
        variables = task_vars or {}
        name = str(arguments["server_name"])
        path = _archive.archive_path(arguments["directory"], name)
        keys_file = next((file for option, file in KEYS_FILES.items() if arguments.get(option)), None)
        result.update(path=str(path), keys_path=str(path / keys_file) if keys_file else None)
        try:
            certificate = Directory(arguments["directory"]).read(name)
            aliases = _archive.known_aliases(certificate, variables.get("_decommission_aliases"))
            has_site = arguments["key_valid_for"] is not None
            texts = _archive.archive_files(name, aliases, keys_file, has_site=has_site)
            texts.update(_archive.not_confirmed(variables.get("_decommission_gate")))
            if keys_file:
                texts.update(self._encrypted_keys(path, arguments, variables))
                if has_site:
                    result["key_answer"] = json.loads(texts[KEY_ANSWER])
            elif has_site:
                raise ValueError("key_valid_for needs vault_password_file or age_recipient. Set one of them")
            else:
                result["warnings"] = [
                    f"The signing keys of {name} are not archived: set vault_password_file or age_recipient, or back up"
                    f" {arguments['signing_key_path']} yourself"
                ]
            names = _archive.changed_files(path, texts)
            if not self._task.check_mode:
                _archive.write(path, texts, names)
        except (AnsibleError, OSError, ValueError) as error:
            return {**result, "failed": True, "msg": f"Cannot write the archive of {name}: {error}"}
        return {**result, "changed": bool(names), "files": names}

    def _encrypted_keys(self, path: Path, arguments: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, str]:
        password_file, key_path = arguments.get("vault_password_file"), arguments["signing_key_path"]
        encryption: _Encryption
        if password_file:
            encryption = _VaultEncryption(password_file, self._loader)
        else:
            encryption = _AgeEncryption(arguments["age_recipient"])
        keys = self._read_keys(arguments, variables)
        try:
            archived = _Archived(path, encryption, keys, _server_key.verify_keys(keys))
        except ValueError as error:
            raise ValueError(f"{key_path} {error}. Set signing_key_path as in homeserver.yaml") from None
        if arguments["key_valid_for"] is None:
            return archived.encrypted()
        return archived.with_new_key(arguments["server_name"], arguments["published_keys"], arguments["key_valid_for"])

    def _read_keys(self, arguments: Mapping[str, Any], variables: Mapping[str, Any]) -> bytes:
        """Read the signing keys on the host. They are encrypted on their way here: Ansible may print that."""
        refusal = debug_refusal("the key that the signing keys are encrypted with")
        if refusal:
            raise ValueError(refusal["msg"])
        path, one_time_key = arguments["signing_key_path"], new_key()
        options = {name: arguments[name] for name in ("directory", "server_name", "signing_key_path")}
        options["one_time_key"] = one_time_key
        answer = self._execute_module(module_args=options, task_vars=dict(variables))
        if answer.get("failed") or "sealed_keys" not in answer:
            step = "Check that become works on the host" if "module_stdout" in answer else "Correct signing_key_path"
            raise ValueError(f"cannot read {path} on the host: {answer.get('msg')}. {step}")
        return unseal(one_time_key, answer["sealed_keys"])


class _Encryption(Protocol):
    file_name: str
    recipient: str | None

    def encrypt(self, keys: bytes) -> str: ...

    def decrypt(self, text: str, /) -> bytes | None:
        """Return the keys, empty if I(text) is not for the same recipient, or C(None) if only the recipient can."""


class _VaultEncryption:
    """By ansible-vault, with the password in a file, or the one that a program prints."""

    file_name = KEYS_FILES["vault_password_file"]
    recipient: str | None = None

    def __init__(self, password_file: str, loader: Any) -> None:
        self._secret = get_file_vault_secret(filename=password_file, loader=loader)
        self._secret.load()
        self._vault = VaultLib([("default", self._secret)])

    def encrypt(self, keys: bytes) -> str:
        return str(self._vault.encrypt(keys, secret=self._secret).decode())

    def decrypt(self, text: str, /) -> bytes | None:
        try:
            return bytes(self._vault.decrypt(text))
        except AnsibleError:
            return b""


class _AgeEncryption:
    """By the program age, to a recipient. Only the recipient can decrypt it again."""

    file_name = KEYS_FILES["age_recipient"]

    def __init__(self, recipient: str) -> None:
        self.recipient: str | None = recipient

    def encrypt(self, keys: bytes) -> str:
        command = ["age", "--encrypt", "--armor", f"--recipient={self.recipient}"]
        try:
            done = subprocess.run(command, input=keys, capture_output=True, check=False, timeout=AGE_TIMEOUT)
        except FileNotFoundError:
            raise ValueError("no program 'age' on the controller, which age_recipient requires. Install age") from None
        except subprocess.TimeoutExpired:
            raise ValueError(f"age did not end within {AGE_TIMEOUT} s. Check age_recipient") from None
        text = done.stdout.decode("ascii", "replace")
        if done.returncode != 0 or not text.startswith(AGE_HEADER):
            reason = done.stderr.decode("utf-8", "replace").strip()
            raise ValueError(f"age cannot encrypt to {self.recipient!r}: {reason}. Correct age_recipient")
        return text

    def decrypt(self, _text: str, /) -> bytes | None:
        return None


class _Archived:
    """The encrypted keys in the archive, and their record."""

    def __init__(self, path: Path, encryption: _Encryption, keys: bytes, public: Mapping[str, str]) -> None:
        """
        :param keys: the signing keys of the homeserver.
        :param public: their public parts by key ID.
        :raises ValueError: if there is a file that may have other keys.
        """
        self._path, self._encryption, self._keys, self._public = path, encryption, keys, public
        target = path / encryption.file_name
        self._text, self._record = _archive.read(target), _parse(_archive.read(path / RECORD))
        recorded = self._record.get("verify_keys")
        self._recorded: dict[str, str] = recorded if isinstance(recorded, dict) else {}
        decrypted = None if self._text is None else encryption.decrypt(self._text)
        # A new key of the static site may precede those of the homeserver.
        has_keys = decrypted is not None and decrypted.endswith(keys)
        is_described = public.items() <= self._recorded.items() and self._record.get("sha256") == _sha256(self._text)
        if self._text is not None and not (has_keys or is_described):
            raise ValueError(f"{target} exists and may contain other keys. Move it to another directory")
        self._is_complete = is_described if decrypted is None else has_keys

    def encrypted(self) -> dict[str, str]:
        """Return the encrypted keys and their record. A file of the same keys for the same recipient stays."""
        if self._text is not None and self._is_complete and self._is_recorded(self._recorded):
            return self._files(self._text, self._recorded)
        return self._files(self._encryption.encrypt(self._keys), self._public)

    def with_new_key(self, server_name: str, published: Mapping[str, Any], valid_for: int) -> dict[str, str]:
        """Return the encrypted keys with a new one, their record, and the key answer. A current answer stays."""
        now = int(time.time())
        before = _parse(_archive.read(self._path / KEY_ANSWER))
        public = {**_server_key.current_keys(before), **self._public}
        is_current = (
            self._is_complete and self._is_recorded(public) and _server_key.is_current(before, self._public, now)
        )
        if self._text is not None and is_current:
            return {**self._files(self._text, public), KEY_ANSWER: to_json(before)}
        new = _server_key.generate()
        known = {**_server_key.all_keys(before), **published}
        answer = _server_key.key_answer(server_name, new, self._public, known, now=now, valid_for=valid_for)
        text = self._encryption.encrypt(new.line + self._keys)
        return {**self._files(text, {new.key_id: new.public, **self._public}), KEY_ANSWER: to_json(answer)}

    def _is_recorded(self, public: Mapping[str, str]) -> bool:
        return self._text is not None and self._record == self._described(self._text, public)

    def _files(self, text: str, public: Mapping[str, str]) -> dict[str, str]:
        # The record first: one without its encrypted file does no harm.
        return {RECORD: to_json(self._described(text, public)), self._encryption.file_name: text}

    def _described(self, text: str, public: Mapping[str, str]) -> dict[str, Any]:
        described = {"file": self._encryption.file_name, "sha256": _sha256(text)}
        return {**described, "recipient": self._encryption.recipient, "verify_keys": dict(public)}


def _parse(text: str | None) -> dict[str, Any]:
    """Return an object in a JSON file, empty if there is none."""
    try:
        value = json.loads(text or "")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _sha256(text: str | None) -> str:
    return hashlib.sha256((text or "").encode()).hexdigest()
