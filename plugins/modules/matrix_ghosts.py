#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: matrix_ghosts
short_description: Remove accounts of a Matrix homeserver from rooms on remote servers
version_added: 1.0.0
description:
  - Removes ghosts, which are accounts of a homeserver that remote servers list in rooms although they have left, or
    although their homeserver is gone. To do so it asks each remote server for a template of the leave event, signs what
    it builds on that, and sends it back. No homeserver is needed for this, only its signing key.
  - Each server is asked whom it lists at that moment, and asked again after the removal. In a room, one server after
    the other is cleared, since each passes the leave events on to the others.
  - Where a homeserver answers under the name, O(base_url) is required, and an account that is joined to a room by the
    homeserver's own word is never removed from it. A homeserver that runs, but can't be reached from where the module
    runs, is taken for one that is gone. Set O(base_url) whenever there is one.
  - The task fails if a server still lists an account after it has accepted the account's leave. That a server can't be
    reached or refuses is not a failure. See RV(not_confirmed).
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.federation
  - matrixops.synapse.federation.ghosts
  - matrixops.synapse.attributes.federation
  - matrixops.synapse.attributes
attributes:
  check_mode:
    support: full
    details:
      - It asks all servers, and sends no leave.
  diff_mode:
    support: full
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Remove ghosts that two servers list
  matrixops.synapse.matrix_ghosts:
    server_name: old.example
    signing_key: "{{ lookup('ansible.builtin.file', 'old.example.signing.key') }}"
    rooms:
      - room_id: "!lounge:matrix.example"
        servers:
          - matrix.example
          - chat.example
        accounts:
          - "@alice:old.example"
        pending:
          - "@bob:old.example"
  delegate_to: localhost

- name: Remove all ghosts, in rooms that Synapse knows of
  matrixops.synapse.matrix_ghosts:
    server_name: old.example
    base_url: http://localhost:8008
    access_token: "{{ synapse_access_token }}"
    record_path: /var/lib/ghosts.jsonl
  become: true
"""

RETURN = r"""
key_id:
  description: The ID of the key that the requests were signed with.
  returned: success
  type: str
  sample: "ed25519:a_abcd"
pairs:
  description: How many pairs of server and room there are.
  returned: success
  type: int
counts:
  description: How many pairs there are by state.
  returned: success
  type: dict
  contains:
    confirmed:
      description: The server answered that no account of ours is joined, invited or knocking.
      type: int
    ghosts:
      description: The server lists accounts of ours.
      type: int
    refused:
      description: The server answers, but does not say or accept anything, for example because of a server ACL.
      type: int
    unreachable:
      description: There was no answer.
      type: int
    unconfirmed:
      description: The answer says nothing about whom the server lists.
      type: int
ghosts:
  description: How many accounts are listed, each counted once for each server and room.
  returned: success
  type: int
removed:
  description: How many accounts were removed, each counted once for each server and room. None in check mode.
  returned: success
  type: int
requests:
  description: How many requests were sent to remote servers.
  returned: success
  type: int
servers:
  description:
    - The remote servers, those with most pairs that are not confirmed first.
    - No more than 1,000 of them, or 200 kB.
  returned: success
  type: list
  elements: dict
  contains:
    server:
      description: The server name.
      type: str
    rooms:
      description: In how many rooms it was asked about.
      type: int
    confirmed:
      description: In how many rooms it has confirmed.
      type: int
    ghosts:
      description: In how many rooms it lists accounts of ours.
      type: int
    refused:
      description: In how many rooms it refuses.
      type: int
    unreachable:
      description: In how many rooms there was no answer.
      type: int
    unconfirmed:
      description: In how many rooms its answer says nothing.
      type: int
    removed:
      description: How many accounts were removed on it.
      type: int
not_confirmed:
  description:
    - The pairs that are not confirmed.
    - No more than 1,000 of them, or 200 kB. O(record_path) has all.
  returned: success
  type: list
  elements: dict
  contains:
    server:
      description: The server name.
      type: str
    room_id:
      description: The room ID.
      type: str
    state:
      description: The state.
      type: str
    reason:
      description: Why the pair is not confirmed. Quotes the server.
      type: str
    ghosts:
      description: The accounts that are listed, with their membership; no more than 10 of them.
      type: list
      elements: dict
      sample: [{"user_id": "@alice:example.org", "membership": "join"}]
    ghosts_total:
      description: How many accounts are listed.
      type: int
"""

from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import GhostRun
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import SigningKeyError
from ansible_collections.matrixops.synapse.plugins.module_utils._ghosts_module import (
    GhostsModule,
    Run,
    as_result,
    shown,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._rooms import joined_rooms


def remove(run: Run) -> None:
    """Remove the ghosts of all rooms, but no account that has not left by the word of its own homeserver."""
    synapse = run.synapse
    if synapse is None:
        if run.homeserver:
            raise SigningKeyError(f"{run.homeserver} answers under this name: set base_url and access_token")
        run.ghosts.remove(run.rooms, lambda _user_id, _room_id: True)
    else:
        run.ghosts.remove(run.rooms, lambda user_id, room_id: room_id not in joined_rooms(synapse, user_id))


def as_diff(ghosts: GhostRun, *, dry_run: bool) -> dict[str, str]:
    """The ghosts before, one on a line; after a removal there are those left. Of very many, the first ones."""
    results = sorted(ghosts.results.values())
    left = [f"{r.pair.server} {r.pair.room_id} {user_id}\n" for r in results for user_id in r.ghosts]
    removed = [f"{r.pair.server} {r.pair.room_id} {user_id}\n" for r in results for user_id in r.removed]
    return {"before": _lines(sorted({*left, *removed})), "after": "" if dry_run else _lines(left)}


def _lines(lines: list[str]) -> str:
    found = shown(lines)
    more = len(lines) - len(found)
    return "".join(found) + (f"... and {more} more\n" if more else "")


def main() -> None:
    module = GhostsModule()
    with module.open() as run:
        if module.check_mode:
            run.ghosts.check(run.rooms)
        else:
            remove(run)
        result: dict[str, Any] = as_result(run)
    results = run.ghosts.results.values()
    result["removed"] = sum(len(found.removed) for found in results)
    result["changed"] = any(found.ghosts if module.check_mode else found.removed for found in results)
    if module._diff:
        result["diff"] = as_diff(run.ghosts, dry_run=module.check_mode)
    stuck = [found for found in results if found.state == "ghosts" and not module.check_mode]
    if stuck:
        pair, reason = stuck[0].pair, stuck[0].reason
        module.fail_json(
            msg=f"{len(stuck)} pairs of server and room still list accounts, for example {pair.server} in"
            f" {pair.room_id}: it {reason}. Run this again; see not_confirmed for the others",
            **result,
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
