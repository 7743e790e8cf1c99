#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: archive
short_description: Write the archive of a decommissioned server on the controller
version_added: 1.0.0
description:
  - Writes a directory C(<server>-archive) on the controller. It has the encrypted signing keys, the released aliases,
    the rooms that remote servers have not confirmed, and a README file. Nothing in it is to be published.
  - The signing keys are read on the host, and encrypted there with a key for this task, since Ansible prints what comes
    from a host with C(-vvv). On the controller, they are encrypted again in memory. They are not archived if neither
    O(vault_password_file) nor O(age_recipient) is set. They are not read if C(ANSIBLE_DEBUG) is set, with which Ansible
    prints that key.
  - The aliases are those in the certificate in O(directory), and those that the role
    P(matrixops.synapse.decommission#role) has registered. The rooms are from its result of the gate.
author:
  - matrixops (@matrixops)
options:
  directory:
    description:
      - Directory of the certificates. A relative path is relative to the directory that Ansible was started in.
    type: path
    required: true
  server_name:
    description:
      - Name of the server.
    type: str
    required: true
  signing_key_path:
    description:
      - Path of Synapse's signing keys on the host. The default is the path of Debian's package. The task needs
        permission to read it, for example with C(become).
    type: str
    default: /etc/matrix-synapse/homeserver.signing.key
  vault_password_file:
    description:
      - Path of a file on the controller with the password to encrypt the signing keys with ansible-vault, or of a
        program that prints the password.
      - Mutually exclusive with O(age_recipient).
    type: path
  age_recipient:
    description:
      - Recipient to encrypt the signing keys to with the program C(age), which must be installed on the controller.
      - Mutually exclusive with O(vault_password_file).
    type: str
  key_valid_for:
    description:
      - Seconds for which the key answer of the static site is valid. With it, the signing keys are archived with a new
        key before them, which removes ghosts later, and RV(key_answer) is returned. Either O(vault_password_file) or
        O(age_recipient) is required then.
    type: int
  published_keys:
    description:
      - Other keys that the server has published, for the key answer, as
        RV(matrixops.synapse.matrix_federation_info#module:published_keys) has them.
    type: dict
    default: {}
  one_time_key:
    description:
      - Key that the signing keys are encrypted with on their way from the host. The action plugin of this module
        generates it. It cannot be set in a task.
    type: str
attributes:
  check_mode:
    description: Can run in C(check_mode) and say what it would change, without changing it.
    support: full
    details:
      - Reads the keys and encrypts them as well, so that it fails where a real run would.
  diff_mode:
    description: Says in diff mode what it changed, or in check mode would change.
    support: none
  idempotent:
    description: Run again with the same options, with nothing else changed in between, it changes nothing.
    support: full
    details:
      - An encrypted file of the same keys for the same recipient stays as it is. The module fails if there is one that
        may have other keys. With O(key_valid_for), after an hour a new key replaces the one before.
  platform:
    description: Where it can be run.
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: Archive the signing keys and aliases of example.org
  matrixops.synapse.archive:
    directory: ./decommission-reports
    server_name: example.org
    vault_password_file: ~/.vault-password
  become: true
"""

RETURN = r"""
path:
  description: Path of the archive.
  returned: always
  type: str
keys_path:
  description: Path of the encrypted signing keys, or null if they are not archived.
  returned: always
  type: str
key_answer:
  description:
    - The key answer of the static site. The signing keys of the server are expired in it, and the new key signs it. An
      answer in the archive that is less than an hour old is returned again. It is also in the file C(server_key.json).
  returned: with O(key_valid_for)
  type: dict
files:
  description: Files that were written or, in check mode, would be, relative to RV(path).
  returned: success
  type: list
  elements: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.signing import DEBIAN_KEY, MAX_KEY_FILE
from ansible_collections.matrixops.synapse.plugins.module_utils._sealed import seal


def read_keys(path: str) -> bytes:
    """Read the signing keys.

    :raises OSError: if there is no file, or if it cannot be read.
    :raises ValueError: if the file is too large.
    """
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size > MAX_KEY_FILE:
            raise ValueError(f"the file has more than {MAX_KEY_FILE:,} bytes")
        return file.read(MAX_KEY_FILE)


def main() -> None:
    """Return the signing keys to the action plugin, which does the rest."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "server_name": {"type": "str", "required": True},
            # Paths are no secrets.
            "signing_key_path": {"type": "str", "default": DEBIAN_KEY, "no_log": False},
            "vault_password_file": {"type": "path", "no_log": False},
            "age_recipient": {"type": "str"},
            "key_valid_for": {"type": "int", "no_log": False},
            "published_keys": {"type": "dict", "default": {}, "no_log": False},
            "one_time_key": {"type": "str", "no_log": True},
        },
        supports_check_mode=True,
    )
    try:
        keys = read_keys(module.params["signing_key_path"])
    except (OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, sealed_keys=seal(module.params["one_time_key"], keys))


if __name__ == "__main__":
    main()
