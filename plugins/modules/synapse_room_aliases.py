#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_room_aliases
short_description: Release the room aliases of a Synapse homeserver
version_added: 1.0.0
description:
  - An alias, for example C(#lounge:example.org), stops resolving once C(example.org) is gone. The next owner of the
    domain can point it to another room.
  - This module removes all aliases of the server from the state of rooms (C(m.room.canonical_alias)), where a joined
    account of the server has the power to do so. Then it deletes them from the room directory of the server. Aliases
    of remote servers are kept.
  - All aliases are recorded before the first is deleted, each with its room. The record is in the account data of the
    operator, with the type C(io.github.matrixops.decommission.aliases), and grows with each run.
  - The aliases of all rooms that Synapse lists are released, with or without a joined local account. Synapse lists no
    rooms if its statistics are disabled. Aliases that an application service creates on request are not in the
    directory.
  - The state of a room is changed as the operator if possible, otherwise as the joined account of the server with the
    highest level.
  - To act as another account, a session is opened through the admin API and ended afterwards. It has no device, and
    expires within an hour if it cannot be ended. A locked account is unlocked for the duration of the session.
  - The message rate limit of the operator is lifted during the run, and restored at the end. If the module is killed,
    the limit stays lifted, and an account may stay unlocked.
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
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - Desired state of the aliases. V(absent) releases them, and is the only choice.
    type: str
    choices: [absent]
    default: absent
  keep_federated:
    description:
      - Whether to keep all aliases of rooms that remote servers are in, for a static site that answers for them. See
        M(matrixops.synapse.synapse_site).
    type: bool
    default: false
  keep:
    description:
      - Aliases of such rooms to keep, if O(keep_federated) is false.
    type: list
    elements: str
    default: []
  concurrency:
    description:
      - Maximum number of requests at the same time.
    type: int
    default: 8
"""

EXAMPLES = r"""
- name: Release all aliases of the server
  matrixops.synapse.synapse_room_aliases:
    access_token: "{{ synapse_access_token }}"
    state: absent
  register: release

- name: Show the rooms whose canonical alias could not be changed
  ansible.builtin.debug:
    var: release.not_renamed
"""

RETURN = r"""
aliases:
  description: All recorded aliases, including those that previous runs released. At most 1,000 are returned.
  returned: when the rooms could be listed
  type: list
  elements: dict
  contains:
    alias:
      description: The alias.
      type: str
      sample: "#lounge:example.org"
    room_id:
      description: ID of the room that it points to, or pointed to before the release.
      type: str
aliases_total:
  description: Number of all of these.
  returned: when the rooms could be listed
  type: int
kept:
  description: The aliases that were kept for a static site. At most 1,000 are returned.
  returned: when the rooms could be listed
  type: list
  elements: str
kept_total:
  description: Number of all of these.
  returned: when the rooms could be listed
  type: int
released:
  description: The aliases that were deleted, or would be in check mode. At most 1,000 are returned.
  returned: when the rooms could be listed
  type: list
  elements: str
released_total:
  description: Number of all of these.
  returned: when the rooms could be listed
  type: int
renamed:
  description:
    - IDs of the rooms from whose state aliases were removed, or would be in check mode. At most 1,000 are returned.
  returned: when the rooms could be listed
  type: list
  elements: str
renamed_total:
  description: Number of all of these.
  returned: when the rooms could be listed
  type: int
not_renamed:
  description:
    - The rooms whose state still names an alias of this server. They do not fail the module. At most 1,000 are
      returned.
  returned: when the rooms could be listed
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    reason:
      description: Why the state could not be changed.
      type: str
not_renamed_total:
  description: Number of all of these.
  returned: when the rooms could be listed
  type: int
failures:
  description: The aliases that could not be deleted. The module fails if there are any. At most 1,000 are returned.
  returned: when the rooms could be listed
  type: list
  elements: dict
  contains:
    alias:
      description: The alias.
      type: str
    reason:
      description: The error.
      type: str
failures_total:
  description: Number of all of these.
  returned: when the rooms could be listed
  type: int
"""

from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.aliases import Kept, Release, release
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._results import first_of


def as_result(outcome: Release) -> dict[str, Any]:
    return {
        "changed": outcome.changed,
        **first_of(
            aliases=[{"alias": alias, "room_id": room_id} for alias, room_id in sorted(outcome.recorded.items())],
            kept=outcome.kept,
            released=sorted(outcome.released),
            renamed=sorted(outcome.renamed),
            not_renamed=[
                {"room_id": room_id, "reason": reason} for room_id, reason in sorted(outcome.not_renamed.items())
            ],
            failures=[{"alias": alias, "reason": reason} for alias, reason in sorted(outcome.failed.items())],
        ),
    }


def as_diff(outcome: Release) -> dict[str, Any]:
    return {
        "before": {
            "directory": {alias: outcome.found[alias] for alias in sorted(outcome.released)},
            "canonical": {room_id: before for room_id, (before, _after) in outcome.renamed.items()},
        },
        "after": {
            "directory": {},
            "canonical": {room_id: after for room_id, (_before, after) in outcome.renamed.items()},
        },
    }


def problem(outcome: Release) -> str:
    """The message of a failed module; empty if nothing failed."""
    if outcome.aborted is not None:
        return f"Stopped after the release of {len(outcome.released)} aliases: {outcome.aborted}. Run again to resume"
    if outcome.failed:
        alias, reason = next(iter(outcome.failed.items()))
        failed = f"{len(outcome.failed)} aliases could not be deleted, for example {alias}: {reason}"
        return f"{failed}. Run again to retry them"
    return ""


def main() -> None:
    module = SynapseModule(
        {
            "state": {"type": "str", "choices": ["absent"], "default": "absent"},
            "keep_federated": {"type": "bool", "default": False},
            "keep": {"type": "list", "elements": "str", "default": []},
            "concurrency": {"type": "int", "default": 8},
        },
        shows_progress=True,
    )
    kept = Kept(module.params["keep_federated"], frozenset(module.params["keep"]))
    with module.client(changes=True) as client:
        outcome = release(client, kept, dry_run=module.check_mode)
    result = as_result(outcome)
    result["diff"] = as_diff(outcome)
    module.end(result, problem(outcome), outcome.aborted)


if __name__ == "__main__":
    main()
