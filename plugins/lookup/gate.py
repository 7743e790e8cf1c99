# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the gate is open for a host: for conditions, which a variable could not hold."""

from __future__ import annotations

DOCUMENTATION = r"""
name: gate
short_description: Read whether a host may be powered off
version_added: 1.0.0
author:
  - matrixops (@matrixops)
description:
  - Returns V(true) if M(matrixops.synapse.synapse_decommission_gate) has found, in this run and not long ago, that the
    host may be powered off, and V(false) if it has found that the host has to wait.
  - Fails if there is no such result, for example because the task has failed, was skipped, or is of another run.
  - Unlike a registered variable, it cannot be set on the command line.
options:
  _terms:
    description:
      - The name of the host in the inventory, and the name of its server.
    type: list
    elements: str
    required: true
seealso:
  - module: matrixops.synapse.synapse_decommission_gate
"""

EXAMPLES = r"""
- name: Power off the virtual machine
  ansible.builtin.include_tasks: power_off.yml
  when: lookup('matrixops.synapse.gate', inventory_hostname, decommission_confirm)
"""

RETURN = r"""
_raw:
  description: Whether the host may be powered off.
  type: list
  elements: bool
"""

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _gate_ticket


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_options: Any) -> list[bool]:
        del variables
        host, server_name = terms
        return [_gate_ticket.is_open(host, server_name)]
