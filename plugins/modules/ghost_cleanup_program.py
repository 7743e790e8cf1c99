#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ghost_cleanup_program
short_description: Put the program of the service ghost_cleanup onto a host
version_added: 1.0.0
description:
  - Builds the program on the controller, and transfers it if the host has another one. The role
    P(matrixops.synapse.ghost_cleanup#role) calls it; it has no use elsewhere.
  - If O(config) is set, the configuration and the files with rooms are validated first, on the controller.
  - The program is one file, which Python runs without Ansible. It requires C(aiohttp), C(requests), C(signedjson) and
    C(dnspython) on the host. The same version of the collection builds the same file on each controller.
author:
  - matrixops (@matrixops)
options:
  path:
    description:
      - Path of the program on the host. Its directory must exist.
    type: path
    required: true
  config:
    description:
      - Configuration to validate first, with the keys of the file that the service reads. It is not written. By
        default, nothing is validated.
    type: dict
  rooms_paths:
    description:
      - Files with rooms on the controller to validate, if O(config) is set. In a directory, C(not_confirmed.json) is
        meant.
    type: list
    elements: path
    default: []
attributes:
  check_mode:
    description: Can run in C(check_mode) and say what it would change, without changing it.
    support: full
  diff_mode:
    description: Says in diff mode what it changed, or in check mode would change.
    support: partial
    details:
      - Says that the file differs, but not how.
  idempotent:
    description: Run again with the same options, with nothing else changed in between, it changes nothing.
    support: full
  platform:
    description: Where it can be run.
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: Write the program
  matrixops.synapse.ghost_cleanup_program:
    path: /usr/local/lib/matrix-ghost-cleanup/matrix-ghost-cleanup.pyz
  become: true
"""

RETURN = r"""
sha256:
  description: Digest of the program.
  returned: success
  type: str
size:
  description: Size of the program in bytes.
  returned: success
  type: int
rooms_paths:
  description: Paths of the files with rooms.
  returned: success
  type: list
  elements: path
"""
