#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: power_off
short_description: Power a host off, and see that it is off
version_added: 1.0.0
description:
  - Has systemd power the host off two seconds later, and connects to it again and again until nothing answers at its
    address any more.
  - That SSH refuses is not enough, as it does so from the first second of a shutdown, which may hang. Where something
    answers in the place of a host that is off, such as a gateway that forwards a port, this fails, although the host is
    off.
  - It must run as root, such as with C(become).
author:
  - matrixops (@matrixops)
options:
  timeout:
    description:
      - How many seconds the host may take to go down.
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
      - A host that is off can't be reached.
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
    - How many seconds it took from the command until nothing answered any more.
  returned: success, but not in check mode
  type: float
"""
