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
  - Makes systemd power off the host after two seconds, and checks the host until nothing answers at its address.
  - The host is off when three consecutive checks, three seconds apart, had no answer. Each check connects by TCP to the
    port of SSH and to the ports 22, 80, 443, 8008 and 8448 of the host. A refused connection is an answer, since SSH
    refuses connections from the first second of a shutdown, which may hang. The module fails if another machine answers
    at the address, for example a gateway that forwards a port.
  - If SSH connects through a jump host or a proxy, the ports cannot be checked. Then RV(verified) is false, and the
    host counts as off when three consecutive connections have found no host.
  - Refuses to power off a host whose address is that of another host of the play, or of the inventory with the variable
    C(decommission_confirm), unless the certificate of that server in O(directory) says that the server is verified or
    powered off.
  - Must run as root, for example with C(become).
author:
  - matrixops (@matrixops)
options:
  timeout:
    description:
      - Maximum time in seconds until the host must be off. Otherwise the module fails.
      - With 0, nothing is checked, and RV(verified) is false.
    type: int
    default: 120
  homeserver_url:
    description:
      - URL of the homeserver. If it is set, the module does not power off the host, but checks that no homeserver
        answers at this URL, after other tasks have powered it off. The URL is requested from the host of the task.
      - Answers of a reverse proxy (502, 503, 504) and of a web site without a homeserver (200, 404, 410) do not count.
    type: str
  directory:
    description:
      - Directory on the controller with the certificates of servers that may have the same address.
    type: path
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

- name: Check that the homeserver was stopped
  matrixops.synapse.power_off:
    homeserver_url: http://localhost:8008
"""

RETURN = r"""
elapsed:
  description:
    - Time in seconds from the command until nothing answered.
  returned: success, but not in check mode, and not if O(timeout=0)
  type: float
verified:
  description: Whether it is verified that the host, or the homeserver, is off.
  returned: not in check mode
  type: bool
reason:
  description: Why it is not verified.
  returned: if RV(verified) is false, and the module has not failed
  type: str
"""
