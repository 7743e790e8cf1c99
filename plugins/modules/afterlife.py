#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: afterlife
short_description: Keep what is needed when a server is gone, on the controller
version_added: 1.0.0
description:
  - Makes a directory C(<server>-afterlife) on the controller with snippets for web servers that answer for the old
    name, a page to put there, the aliases that were released, a text on what still comes, and the server's signing
    keys.
  - The signing keys are read from the host and encrypted in memory. They are not archived if neither
    O(vault_password_file) nor O(age_recipient) is given. They are not read if C(ANSIBLE_DEBUG) is set, which would log
    them.
  - The aliases are taken from the certificate in O(directory), and from what the role
    P(matrixops.synapse.decommission#role) has registered.
author:
  - matrixops (@matrixops)
options:
  directory:
    description:
      - Where the certificates are. Relative to the directory that Ansible was started in.
    type: path
    required: true
  server_name:
    description:
      - The server that it is about.
    type: str
    required: true
  signing_key_path:
    description:
      - Where Synapse has its signing keys, on the host. Whoever the task becomes must be able to read it.
    type: str
    default: /etc/matrix-synapse/homeserver.signing.key
  vault_password_file:
    description:
      - File on the controller with the password to encrypt the keys with, by ansible-vault, or a program that prints
        it.
      - Mutually exclusive with O(age_recipient).
    type: path
  age_recipient:
    description:
      - Whom to encrypt the keys to, by the program C(age), which must be on the controller.
    type: str
attributes:
  check_mode:
    description: Can run in C(check_mode) and say what it would change, without changing it.
    support: full
    details:
      - Reads the keys and encrypts them, too.
  diff_mode:
    description: Says in diff mode what it changed, or in check mode would change.
    support: none
  idempotent:
    description: Run again with the same options, with nothing else changed in between, it changes nothing.
    support: full
    details:
      - An archive of the same keys, for the same reader, is kept. Where one is that is not known to be of the same
        keys, it fails.
  platform:
    description: Where it can be run.
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: Keep what is needed afterwards
  matrixops.synapse.afterlife:
    directory: ./decommission-reports
    server_name: example.org
    vault_password_file: ~/.vault-password
  become: true
"""

RETURN = r"""
path:
  description: The directory of the kit.
  returned: always
  type: str
archive:
  description: Where the signing keys are, if they are archived.
  returned: always
  type: str
files:
  description: What was written, or in check mode would be, relative to RV(path).
  returned: success
  type: list
  elements: str
"""
