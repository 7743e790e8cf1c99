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
  - Writes the record of the decommissioning of one server to O(directory) on the controller, as JSON and as an HTML
    page. The role P(matrixops.synapse.decommission#role) calls it at each stage; it has no use elsewhere.
  - The files are replaced atomically. A file that is not a valid certificate of this server is renamed.
  - The results that the role has registered are read from the variables C(_decommission_*).
  - Nothing is written before the stage C(preflight) has succeeded once for the server.
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
      - Name of the server. Required unless O(state=fleet).
    type: str
  stage:
    description:
      - Stage that O(state) applies to. Required if O(state) is V(started), V(done) or V(waiting).
    type: str
  state:
    description:
      - V(started), V(done) and V(waiting) record the state of a stage. V(waiting) is for a stage to be run again later.
      - V(written) writes the certificate again. If a stage has started in this run and not ended, or if an assertion
        has failed, it records the failure with the message of the task that failed.
      - V(admins_started) and V(admins_ended) record the deactivation of the admins, after which no run can log in any
        more. Until the certificate says that the host is off, it says O(power_off_by_hand), also on the terminal when a
        run fails.
      - V(fleet) writes nothing, and returns the state of O(server_names).
    type: str
    choices: [started, done, waiting, written, admins_started, admins_ended, fleet]
    default: written
  settings:
    description:
      - Configuration to record.
    type: dict
    default: {}
  ids:
    description:
      - Whether to record user IDs of this server. By default, digests are recorded instead.
    type: bool
    default: false
  power_off_by_hand:
    description:
      - How to power off without this collection, for O(state=admins_started).
    type: str
    default: ""
  show:
    description:
      - Lines to show on the terminal. They are not recorded. They are not shown if the run has failed.
    type: list
    elements: str
    default: []
  show_summary:
    description:
      - Whether to show the state and the path of the certificate on the terminal. They are shown in any case if the run
        has failed, without the reason.
    type: bool
    default: false
  server_names:
    description:
      - Names of the servers to summarize with O(state=fleet).
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
      - Each run is recorded.
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
  description: Path of the certificate.
  returned: when it was written
  type: str
html_path:
  description: Path of the HTML page. With O(state=fleet), path of the overview, if there is one.
  returned: when it was written
  type: str
summary:
  description: State in one line.
  returned: when it was written, or with O(state=fleet)
  type: str
servers:
  description: State of each server in one line.
  returned: with O(state=fleet)
  type: list
  elements: str
salt:
  description: Salt for digests of user IDs, see M(matrixops.synapse.synapse_users_digest).
  returned: when it was written
  type: str
msg:
  description: Lines that were shown.
  returned: when lines were shown
  type: list
  elements: str
running:
  description: The stage.
  returned: with O(state=started), when it was written
  type: str
failed_stage:
  description: Stage in which the run failed.
  returned: with O(state=written), when a failure was recorded
  type: str
started_at:
  description: Time of this task in seconds since 1970.
  returned: not in check mode, nor with O(state=fleet)
  type: int
renamed_to:
  description: New path of a file that had the name of the certificate but was not a valid one.
  returned: when there was such a file
  type: str
"""
