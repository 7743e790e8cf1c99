#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_site
short_description: Collect from a Synapse homeserver what a static site answers for it
version_added: 1.0.0
description:
  - After the power-off, a static site can answer for the aliases of rooms that remote servers are in. Each answer names
    the room, and the servers to join it through.
  - This module reads these aliases and servers while Synapse still runs, and writes them on the controller, into
    C(content.json) in the directory C(<server>-site). M(matrixops.synapse.site) makes the site of it, and
    M(matrixops.synapse.synapse_media) adds the media.
  - The rooms and servers are those of the record that M(matrixops.synapse.synapse_federated_rooms) and
    M(matrixops.synapse.synapse_propagation) keep. Servers that have confirmed come first.
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.connection
  - matrixops.synapse.progress
  - matrixops.synapse.attributes
  - matrixops.synapse.attributes.synapse
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  directory:
    description:
      - Directory of the certificates on the controller. A relative path is relative to the directory that Ansible was
        started in.
    type: path
    required: true
  keep_federated:
    description:
      - Whether the site answers for all aliases of rooms that remote servers are in.
    type: bool
    default: true
  keep:
    description:
      - The aliases that it answers for, if O(keep_federated) is false.
    type: list
    elements: str
    default: []
  ignore:
    description:
      - Names of servers that are decommissioned as well. No account can join through them.
    type: list
    elements: str
    default: []
  concurrency:
    description:
      - Maximum number of requests at the same time.
    type: int
    default: 8
seealso:
  - module: matrixops.synapse.site
  - module: matrixops.synapse.synapse_media
"""

EXAMPLES = r"""
- name: Collect the aliases that the static site answers for
  matrixops.synapse.synapse_site:
    access_token: "{{ synapse_access_token }}"
    server_name: example.org
    directory: ./decommission-reports
  register: collected

- name: Show the aliases that will not resolve
  ansible.builtin.debug:
    var: collected.not_kept
"""

RETURN = r"""
path:
  description: Path of the site on the controller.
  returned: success
  type: str
boundary:
  description: The boundary of multipart answers of the site, for M(matrixops.synapse.synapse_media).
  returned: success
  type: str
rooms:
  description: Number of rooms that the site answers for.
  returned: success
  type: int
aliases:
  description: Number of aliases that the site answers for.
  returned: success
  type: int
not_kept:
  description:
    - Aliases of O(keep) that the site does not answer for, and rooms whose aliases could not be read; at most 1,000 of
      them.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The alias, or the room ID.
      type: str
    reason:
      description: Why the site does not answer for it.
      type: str
not_kept_total:
  description: Number of these.
  returned: success
  type: int
"""

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.aliases import Kept
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.site_rooms import list_site_rooms
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._results import with_reasons


def main() -> None:
    """Return the rooms to the action plugin, which writes them on the controller."""
    module = SynapseModule(
        {
            "directory": {"type": "path", "required": True},
            "keep_federated": {"type": "bool", "default": True},
            "keep": {"type": "list", "elements": "str", "default": []},
            "ignore": {"type": "list", "elements": "str", "default": []},
            "concurrency": {"type": "int", "default": 8},
        },
        shows_progress=True,
    )
    kept = Kept(module.params["keep_federated"], frozenset(module.params["keep"]))
    with module.client() as client:
        found = list_site_rooms(client, kept, module.params["ignore"])
    module.exit_json(
        changed=False,
        content=found.rooms,
        rooms=len(found.rooms),
        aliases=found.aliases,
        not_kept=with_reasons("name", found.not_kept),
        not_kept_total=len(found.not_kept),
    )


if __name__ == "__main__":
    main()
