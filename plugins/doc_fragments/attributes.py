# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode), and predicts its changes without making them.
  diff_mode:
    description: Returns its changes, or predicted changes, in diff mode.
  idempotent:
    description: Makes no changes when run again with the same options.
  platform:
    description: Platforms of the host that runs the module.
    platforms: posix
    support: full
"""

    INFO_MODULE = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - The module only reads.
  diff_mode:
    support: N/A
    details:
      - The module only reads.
  idempotent:
    support: full
    details:
      - The module only reads.
"""

    SYNAPSE = r"""
options: {}
attributes:
  action_group:
    description: Supports this group in C(module_defaults).
    support: full
    membership:
      - matrixops.synapse.synapse
"""

    FEDERATION = r"""
options: {}
attributes:
  action_group:
    description: Supports this group in C(module_defaults).
    support: full
    membership:
      - matrixops.synapse.federation
"""
