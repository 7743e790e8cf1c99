# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  action_group:
    description: Can be used in C(module_defaults) by the name of this group.
    support: full
    membership:
      - matrixops.synapse.synapse
  check_mode:
    description: Can run in C(check_mode) and say what it would change, without changing it.
  diff_mode:
    description: Says in diff mode what it changed, or in check mode would change.
  idempotent:
    description: Run again with the same options, with nothing else changed in between, it changes nothing.
  platform:
    description: Where it can be run.
    platforms: posix
    support: full
"""

    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - It only reads.
  diff_mode:
    support: N/A
    details:
      - It only reads.
  idempotent:
    support: full
    details:
      - It only reads.
"""

    FEDERATION = r"""
options: {}
attributes:
  action_group:
    description: Can be used in C(module_defaults) by the name of this group.
    support: full
    membership:
      - matrixops.synapse.federation
"""
