# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the archive of a decommissioned server on the controller. The signing keys are never on disk unencrypted."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any, Mapping, Protocol

from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, get_file_vault_secret
from ansible.plugins.action import ActionBase
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.signing import DEBIAN_KEY
from ansible_collections.matrixops.synapse.plugins.module_utils._sealed import new_key, unseal
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _archive
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.files import Directory
from ansible_collections.matrixops.synapse.plugins.plugin_utils._secrets import debug_refusal

KEYS_FILES = {"vault_password_file": "signing.key.vault", "age_recipient": "signing.key.age"}
"""The name of the encrypted file, by the option that says how to encrypt it."""
RECORD = "signing.key.json"
"""Describes the encrypted file in the clear: its digest, the public keys, and the recipient."""
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
            texts = _archive.archive_files(name, aliases, keys_file)
            if keys_file:
                texts.update(self._encrypted_keys(path, arguments, variables))
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
            public = _archive.verify_keys(keys)
        except ValueError as error:
            raise ValueError(f"{key_path} {error}. Set signing_key_path as in homeserver.yaml") from None
        return _encrypted(path, encryption, keys, public)

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

    def decrypts_to(self, text: str, keys: bytes, /) -> bool | None:
        """Return whether I(text) is of these keys for the same recipient, or C(None) if only the recipient knows."""


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

    def decrypts_to(self, text: str, keys: bytes, /) -> bool | None:
        try:
            return bool(self._vault.decrypt(text) == keys)
        except AnsibleError:
            return False


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

    def decrypts_to(self, _text: str, _keys: bytes, /) -> bool | None:
        return None


def _encrypted(path: Path, encryption: _Encryption, keys: bytes, public: dict[str, str]) -> dict[str, str]:
    """Return the encrypted keys and their record. An encrypted file of the same keys for the same recipient stays.

    :raises ValueError: if there is a file that may have other keys.
    """
    target = path / encryption.file_name
    text, record = _archive.read(target), _archive.read(path / RECORD)
    if text is None or not _is_current(encryption, text, keys, record == _record(encryption, text, public)):
        if text is not None and not _describes(record, text, public):
            raise ValueError(f"{target} exists and may contain other keys. Move it to another directory")
        text = encryption.encrypt(keys)
    # The record first: one without its encrypted file does no harm.
    return {RECORD: _record(encryption, text, public), encryption.file_name: text}


def _is_current(encryption: _Encryption, text: str, keys: bytes, recorded: bool) -> bool:
    decrypted = encryption.decrypts_to(text, keys)
    return recorded if decrypted is None else decrypted


def _record(encryption: _Encryption, text: str, public: dict[str, str]) -> str:
    described = {"file": encryption.file_name, "sha256": _sha256(text)}
    return _archive.to_json({**described, "recipient": encryption.recipient, "verify_keys": public})


def _describes(record: str | None, text: str, public: dict[str, str]) -> bool:
    """Return whether a record says that the encrypted file is of these keys."""
    try:
        described = json.loads(record or "")
    except ValueError:
        return False
    found = (described.get("sha256"), described.get("verify_keys")) if isinstance(described, dict) else ()
    return found == (_sha256(text), public)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
