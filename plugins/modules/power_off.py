#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: power_off
short_description: Power off a host and wait until it is off
version_added: 1.0.0
description:
  - Makes systemd power off the host after two seconds, and connects to the host until nothing answers at its address.
  - A refused connection does not count as off, since SSH refuses connections from the first second of a shutdown, which
    may hang. The module fails if another machine answers at the address, for example a gateway that forwards a port.
  - Must run as root, for example with C(become).
author:
  - matrixops (@matrixops)
options:
  timeout:
    description:
      - Maximum time in seconds until the host must be off. Otherwise the module fails.
    type: int
    default: 120
attributes:
  check_mode:
    description: Can run in C(check_mode) and say what it would change, without changing it.
    support: full
  diff_mode:
    description: Says in diff mode what it changed, or in check mode would change.
    support: none
  idempotent:
    description: Run again with the same options, with nothing else changed in between, it changes nothing.
    support: N/A
    details:
      - A host that is off cannot be reached.
  platform:
    description: Where it can be run.
    platforms: posix
    support: full
    details:
      - Hosts with systemd, over SSH.
"""

EXAMPLES = r"""
- name: Power the host off
  matrixops.synapse.power_off:
    timeout: 300
  become: true
"""

RETURN = r"""
elapsed:
  description:
    - Time in seconds from the command until nothing answered.
  returned: success, but not in check mode
  type: float
"""
