#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_room_aliases
short_description: Release the room aliases of a Synapse homeserver that is to be retired
version_added: 1.0.0
description:
  - An alias such as C(#lounge:example.org) can't be resolved any more once C(example.org) is gone. Whoever gets the
    domain name next can give it to another room.
  - This takes all aliases of the server out of what the rooms say that they are called (C(m.room.canonical_alias)),
    where an account of this server is in the room and has the power to, and deletes them from the server's directory.
    Aliases of other servers stay.
  - Before the first is deleted, all are put on record, with the room that each points to. The record is in the account
    data of the operator, under the type C(io.github.matrixops.decommission.aliases), and grows with each run.
  - It finds the aliases of all rooms that the server lists, those too that nobody of the server is in any more. Synapse
    lists none if its statistics are switched off. An alias that an application service makes up when it is asked for is
    in no directory before.
  - The state of a room is changed by the operator, or else by the account with the most power. Such an account is
    logged in to with the admin API, if need be unlocked for the moment, and the session is ended again. Meanwhile the
    message rate limit of the operator is lifted, and put back in the end.
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
    support: full
options:
  state:
    description:
      - V(absent) releases the aliases. There is nothing else yet.
    type: str
    choices: [absent]
    default: absent
  concurrency:
    description:
      - How many rooms to deal with at the same time.
    type: int
    default: 8
"""

EXAMPLES = r"""
- name: Release all aliases of the server
  matrixops.synapse.synapse_room_aliases:
    access_token: "{{ synapse_access_token }}"
    state: absent
  register: released
"""

RETURN = r"""
aliases:
  description: The aliases that are on record, those included that were released by runs before.
  returned: when the rooms could be listed
  type: list
  elements: dict
  contains:
    alias:
      description: The alias.
      type: str
      sample: "#lounge:example.org"
    room_id:
      description: The ID of the room that it points to, or pointed to.
      type: str
released:
  description: The aliases that were deleted now.
  returned: when the rooms could be listed
  type: list
  elements: str
renamed:
  description: The IDs of the rooms that were made to say another canonical alias, or none.
  returned: when the rooms could be listed
  type: list
  elements: str
not_renamed:
  description: The rooms that go on saying that an alias of this server is theirs. That is not a failure.
  returned: when the rooms could be listed
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    reason:
      description: Why it could not be changed.
      type: str
failures:
  description: The aliases that could not be deleted.
  returned: when the rooms could be listed
  type: list
  elements: dict
  contains:
    alias:
      description: The alias.
      type: str
    reason:
      description: What the server said.
      type: str
"""

from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._aliases import Release, release
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule


def as_result(outcome: Release) -> dict[str, Any]:
    return {
        "changed": outcome.changed,
        "aliases": [{"alias": alias, "room_id": room_id} for alias, room_id in sorted(outcome.recorded.items())],
        "released": sorted(outcome.released),
        "renamed": sorted(outcome.renamed),
        "not_renamed": [
            {"room_id": room_id, "reason": reason} for room_id, reason in sorted(outcome.not_renamed.items())
        ],
        "failures": [{"alias": alias, "reason": reason} for alias, reason in sorted(outcome.failed.items())],
        "diff": as_diff(outcome),
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
    """What went wrong, and what to do about it; empty if nothing did."""
    if outcome.aborted is not None:
        return f"Stopped after {len(outcome.released)} aliases: {outcome.aborted}. Run this again to go on."
    if outcome.failed:
        alias, reason = next(iter(outcome.failed.items()))
        failed = f"{len(outcome.failed)} aliases could not be deleted, such as {alias}: {reason}"
        return f"{failed}. Run this again for what is left"
    return ""


def main() -> None:
    module = SynapseModule(
        {
            "state": {"type": "str", "choices": ["absent"], "default": "absent"},
            "concurrency": {"type": "int", "default": 8},
        }
    )
    concurrency = module.params["concurrency"]
    with module.client(connections=concurrency, changes=True) as client:
        outcome = release(client, concurrency, dry_run=module.check_mode)
    module.end(as_result(outcome), problem(outcome), outcome.aborted)


if __name__ == "__main__":
    main()
