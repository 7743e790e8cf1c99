#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_federation_retry
short_description: Make a Synapse homeserver try again to reach other servers
version_added: 1.0.0
description:
  - When Synapse can't reach another server, it waits before it tries again, at first ten minutes, in the end a week.
    This ends the wait, so that Synapse tries at once. A server that has come back is told within seconds.
  - Synapse enters a wait only some ten minutes after a server has gone down, and until then has nothing to end.
  - To a server whose wait exceeds an hour, Synapse later sends only the newest event of each room. Used every half
    hour, this also keeps the wait below that.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - A server that still can't be reached is in a wait again some time later.
options:
  destinations:
    description:
      - The names of the servers to try again. By default all that Synapse waits for.
      - If Synapse has never tried to send anything to one of them, nothing is changed.
    type: list
    elements: str
  rate:
    description:
      - How many servers to try again in a second, at most. Synapse opens a connection to each.
    type: int
    default: 10
"""

EXAMPLES = r"""
- name: Try all again that could not be reached
  matrixops.synapse.synapse_federation_retry:
    access_token: "{{ synapse_access_token }}"

- name: Two have come back
  matrixops.synapse.synapse_federation_retry:
    access_token: "{{ synapse_access_token }}"
    destinations:
      - matrix.example.com
      - example.net
"""

RETURN = r"""
reset:
  description: The names of the servers that Synapse was waiting for, and tries again; no more than 1,000 of them.
  returned: when the destinations could be listed
  type: list
  elements: str
reset_total:
  description: How many servers these are.
  returned: when the destinations could be listed
  type: int
unchanged:
  description: How many of O(destinations) Synapse was not waiting for, or no longer when their turn came.
  returned: when the destinations could be listed
  type: int
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._client import SynapseError
from ansible_collections.matrixops.synapse.plugins.module_utils._destinations import in_back_off, reset_all
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule

SHOWN = 1000


def main() -> None:
    module = SynapseModule(
        {"destinations": {"type": "list", "elements": "str"}, "rate": {"type": "int", "default": 10}}
    )
    names = module.params["destinations"]
    done: list[str] = []
    problem = None
    with module.client(changes=True) as client:
        waiting = in_back_off(client, names)
        try:
            if module.check_mode:
                done.extend(row.name for row in waiting)
            else:
                done.extend(row.name for row, was in reset_all(client, waiting, module.params["rate"]) if was)
        except SynapseError as error:
            problem = error

    result = {
        "changed": bool(done),
        "reset": done[:SHOWN],
        "reset_total": len(done),
        "unchanged": len(waiting if names is None else set(names)) - len(done),
        "diff": {"before": "".join(f"{name} waiting\n" for name in done[:SHOWN]), "after": ""},
    }
    module.end(result, str(problem or ""), problem)


if __name__ == "__main__":
    main()
