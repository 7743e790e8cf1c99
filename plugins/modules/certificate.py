#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate
short_description: Write the certificate of a decommissioning on the controller
version_added: 1.0.0
description:
  - Keeps a record of the decommissioning of one server in O(directory) on the controller, as JSON and as an HTML page.
    The role P(matrixops.synapse.decommission#role) calls it at each stage; it has no use elsewhere.
  - The files are replaced atomically. A file that is not a valid certificate of this server is renamed.
  - The results that the role has registered are read from the variables C(_decommission_*).
  - Nothing is written before the stage C(preflight) has succeeded once for the server.
author:
  - matrixops (@matrixops)
options:
  directory:
    description:
      - The directory of the certificates. A relative path is relative to the directory that Ansible was started in.
    type: path
    required: true
  server_name:
    description:
      - The name of the server. Required unless O(state=fleet).
    type: str
  stage:
    description:
      - The stage that O(state) applies to.
    type: str
  state:
    description:
      - V(started), V(done) and V(waiting) record the state of a stage. V(waiting) is for a stage to be run again later.
      - V(failed) is for a C(rescue). It records the failure, and fails with the same message.
      - V(written) writes the certificate again.
      - V(fleet) writes nothing, and returns the state of O(server_names).
    type: str
    choices: [started, done, waiting, failed, written, fleet]
    default: written
  settings:
    description:
      - The configuration to record.
    type: dict
    default: {}
  ids:
    description:
      - Whether to record user IDs of this server. By default, digests are recorded instead.
    type: bool
    default: false
  server_names:
    description:
      - The servers to summarize with O(state=fleet).
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Can run in C(check_mode) and say what it would change, without changing it.
    support: full
    details:
      - Does nothing.
  diff_mode:
    description: Says in diff mode what it changed, or in check mode would change.
    support: none
  idempotent:
    description: Run again with the same options, with nothing else changed in between, it changes nothing.
    support: none
    details:
      - It records that it was run.
  platform:
    description: Where it can be run.
    platforms: posix
    support: full
"""

EXAMPLES = r"""
- name: Record that the drain has started
  matrixops.synapse.certificate:
    directory: ./decommission-reports
    server_name: example.org
    stage: drain
    state: started
"""

RETURN = r"""
path:
  description: The path of the certificate.
  returned: when it was written
  type: str
html_path:
  description: The path of the HTML page. With O(state=fleet), the path of the overview, if there is one.
  returned: when it was written
  type: str
summary:
  description: The state in one line.
  returned: when it was written, or with O(state=fleet)
  type: str
servers:
  description: The state of each server in one line.
  returned: with O(state=fleet)
  type: list
  elements: str
salt:
  description: The salt for digests of user IDs, see M(matrixops.synapse.synapse_users_digest).
  returned: when it was written
  type: str
began:
  description: The time in seconds since 1970.
  returned: not in check mode
  type: int
aside:
  description: The new path of a file that was not a valid certificate.
  returned: when there was such a file
  type: str
"""
