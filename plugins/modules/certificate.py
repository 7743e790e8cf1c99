#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate
short_description: Add to the certificate of a retirement, on the controller
version_added: 1.0.0
description:
  - Keeps a record of one retirement in O(directory) on the controller, as JSON and as a page of HTML. The role
    P(matrixops.synapse.decommission#role) calls it at each stage; there is little use in calling it elsewhere.
  - The files are replaced as a whole, so that there are valid ones at any time. What is there and is no valid
    certificate of this server is set aside under another name.
  - What the role has registered is taken from the variables that begin with C(_decommission_), as it is.
  - Nothing is written for a server that has never been in the stage C(preflight) to its end.
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
      - The server that it is about. Required unless O(state=fleet).
    type: str
  stage:
    description:
      - The stage that has begun or ended.
    type: str
  state:
    description:
      - V(started), V(done) and V(waiting), for which there is nothing to do but to come again, are about a stage.
      - V(failed) is for a C(rescue). It records the failure, and fails with the same message.
      - V(written) writes it once more.
      - V(fleet) writes nothing, and returns how O(server_names) stand.
    type: str
    choices: [started, done, waiting, failed, written, fleet]
    default: written
  settings:
    description:
      - What was asked for, to be in the certificate.
    type: dict
    default: {}
  ids:
    description:
      - Whether user IDs of this server may be in the certificate. Otherwise digests of them are.
    type: bool
    default: false
  server_names:
    description:
      - The servers to say something of with O(state=fleet).
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
- name: The drain begins
  matrixops.synapse.certificate:
    directory: ./decommission-reports
    server_name: example.org
    stage: drain
    state: started
"""

RETURN = r"""
path:
  description: The certificate.
  returned: when it was written
  type: str
html_path:
  description: The same as a page of HTML. With O(state=fleet), the overview of all, if there is one.
  returned: when it was written
  type: str
summary:
  description: How things stand, in one line.
  returned: when it was written, or with O(state=fleet)
  type: str
servers:
  description: How each server stands, in one line.
  returned: with O(state=fleet)
  type: list
  elements: str
salt:
  description: What to make digests of user IDs with, see M(matrixops.synapse.synapse_users_digest).
  returned: when it was written
  type: str
began:
  description: The time in seconds since 1970.
  returned: not in check mode
  type: int
aside:
  description: What was in the way, and is called that now.
  returned: when something was
  type: str
"""
