# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes the after-life kit of a server, on the controller. The signing keys are never in the clear on its disk."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any, Mapping

from ansible import constants
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, get_file_vault_secret
from ansible.plugins.action import ActionBase
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _afterlife, _certificate

RECORD = "signing.key.json"
"""What is said of the archive in the clear: its digest, the public keys, and to whom it is encrypted."""
AGE_TIMEOUT = 60


class ActionModule(ActionBase):
    """Reads the keys over the host's own connection, into memory only."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validated, arguments = self.validate_argument_spec(
            {
                "directory": {"type": "path", "required": True},
                "server_name": {"type": "str", "required": True},
                "signing_key_path": {"type": "str", "default": "/etc/matrix-synapse/homeserver.signing.key"},
                # It names a file, and is no secret.
                "vault_password_file": {"type": "path", "no_log": False},
                "age_recipient": {"type": "str"},
            },
            mutually_exclusive=[("vault_password_file", "age_recipient")],
        )
        variables = task_vars or {}
        name = str(arguments["server_name"])
        path = _afterlife.directory(arguments["directory"], name)
        archive = self._archive_name(arguments)
        result.update(path=str(path), archive=str(path / archive) if archive else None)
        try:
            certificate = _certificate.Directory(arguments["directory"]).read(name)
            aliases = _afterlife.known_aliases(certificate, variables.get("_decommission_aliases"))
            texts = _afterlife.files(name, aliases, archive)
            if archive:
                texts.update(self._archive(path, archive, arguments, variables))
            else:
                result["warnings"] = [
                    f"The signing keys of {name} are not archived, since neither a password file of ansible-vault nor a"
                    " recipient for age is given: keep them yourself"
                ]
            names = _afterlife.differing(path, texts)
            if not self._task.check_mode:
                _afterlife.write(path, texts, names)
        except (AnsibleError, OSError, ValueError) as error:
            return {**result, "failed": True, "msg": f"The after-life kit of {name} can't be made: {error}"}
        return {**result, "changed": bool(names), "files": names}

    def _archive_name(self, arguments: Mapping[str, Any]) -> str | None:
        if arguments.get("vault_password_file"):
            return "signing.key.vault"
        return "signing.key.age" if arguments.get("age_recipient") else None

    def _archive(
        self, path: Path, archive: str, arguments: Mapping[str, Any], variables: Mapping[str, Any]
    ) -> dict[str, str]:
        """The archive and what is said of it, as they are if they are of the same keys, and for the same reader."""
        password_file, recipient = arguments.get("vault_password_file"), arguments.get("age_recipient")
        vault, secret = None, None
        if password_file:
            secret = get_file_vault_secret(filename=password_file, loader=self._loader)
            secret.load()
            vault = VaultLib([("default", secret)])
        keys = self._read_keys(arguments["signing_key_path"], variables)
        try:
            public = _afterlife.verify_keys(keys)
        except ValueError as error:
            raise ValueError(f"{arguments['signing_key_path']} {error}") from None

        def record(text: str) -> str:
            digest = hashlib.sha256(text.encode()).hexdigest()
            found = {"archive": archive, "sha256": digest, "recipient": recipient, "verify_keys": public}
            return json.dumps(found, indent=2) + "\n"

        before, known = _afterlife.read(path / archive), _afterlife.read(path / RECORD)
        kept = before is not None and (_decrypted(vault, before) == keys if vault else known == record(before))
        if before is not None and not kept and not _is_of(known, before, public):
            raise ValueError(f"{path / archive} is there, and not known to be of the host's keys: move it away")
        if before is None or not kept:
            before = vault.encrypt(keys, secret=secret).decode() if vault else _age(keys, str(recipient))
        # The record first: one of an archive that is not there yet does no harm.
        return {RECORD: record(before), archive: before}

    def _read_keys(self, path: str, variables: Mapping[str, Any]) -> bytes:
        if constants.DEFAULT_DEBUG:
            raise ValueError("ANSIBLE_DEBUG is set, which logs whatever is read from a host, here the signing keys")
        answer = self._execute_module("ansible.builtin.slurp", module_args={"src": path}, task_vars=dict(variables))
        # Of an answer that can't be read, only its message: what it came with may be the keys.
        if answer.get("failed") or "content" not in answer:
            hint = "; can Ansible become another user there?" if "module_stdout" in answer else ""
            raise ValueError(f"can't read {path} on the host: {answer.get('msg')}{hint}")
        return base64.b64decode(answer["content"])


def _is_of(known: str | None, archive: str, verify_keys: dict[str, str]) -> bool:
    """Whether that archive is said to be of these keys."""
    try:
        record = json.loads(known or "")
    except ValueError:
        return False
    digest = hashlib.sha256(archive.encode()).hexdigest()
    return isinstance(record, dict) and (record.get("sha256"), record.get("verify_keys")) == (digest, verify_keys)


def _decrypted(vault: VaultLib, text: str) -> bytes | None:
    try:
        return bytes(vault.decrypt(text))
    except AnsibleError:
        return None


def _age(keys: bytes, recipient: str) -> str:
    command = ["age", "--encrypt", "--armor", f"--recipient={recipient}"]
    try:
        done = subprocess.run(command, input=keys, capture_output=True, check=False, timeout=AGE_TIMEOUT)
    except FileNotFoundError:
        raise ValueError("age_recipient is given, but there is no program 'age' on the controller") from None
    except subprocess.TimeoutExpired:
        raise ValueError(f"age did not end within {AGE_TIMEOUT} s") from None
    text = done.stdout.decode("ascii", "replace")
    if done.returncode != 0 or not text.startswith("-----BEGIN AGE ENCRYPTED FILE-----"):
        raise ValueError(f"age does not encrypt to {recipient!r}: {done.stderr.decode('utf-8', 'replace').strip()}")
    return text
