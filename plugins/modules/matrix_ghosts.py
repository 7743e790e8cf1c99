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
    although their homeserver is gone. This only requires the signing key of the homeserver, which may be gone.
  - Checks each remote server, builds and signs a leave event for each listed account, sends it to that server, and
    checks again. The servers of a room are processed one after the other, since each forwards leaves to the others.
  - If a homeserver answers under O(server_name), O(base_url) is required. An account that is joined to a room on its
    own homeserver is never removed from it. Always set O(base_url) if the homeserver runs. One that the module can't
    reach counts as gone. See O(alongside) for a homeserver that was set up anew under the name of an earlier one.
  - The task fails if a server still lists an account after it has accepted the leave. A server that is unreachable or
    denies access is not a failure. See RV(not_confirmed).
author:
  - matrixops (@matrixops)
extends_documentation_fragment:
  - matrixops.synapse.federation
  - matrixops.synapse.federation.remote
  - matrixops.synapse.federation.ghosts
  - matrixops.synapse.progress
  - matrixops.synapse.attributes.federation
  - matrixops.synapse.attributes
attributes:
  check_mode:
    support: full
    details:
      - Checks all servers, and sends no leave.
  diff_mode:
    support: full
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Remove ghosts from one room on two servers
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

- name: Remove the ghosts of a server that is gone, wherever a certificate or an account elsewhere knows of them
  matrixops.synapse.matrix_ghosts:
    server_name: old.example
    signing_key: "{{ lookup('ansible.builtin.file', 'decommission-reports/old.example-archive/signing.key.vault') }}"
    rooms_paths:
      - decommission-reports/old.example.json
    witness_url: https://matrix.example
    witness_token: "{{ witness_token }}"
    record_path: old.example.jsonl
  delegate_to: localhost

- name: Remove ghosts from all rooms that Synapse knows
  matrixops.synapse.matrix_ghosts:
    server_name: old.example
    base_url: http://localhost:8008
    access_token: "{{ synapse_access_token }}"
    record_path: /var/lib/ghosts.jsonl
  become: true
"""

RETURN = r"""
message:
  description: The result in one line.
  returned: success
  type: str
  sample: 14 of 15 pairs of server and room confirmed; 1 unreachable
sources:
  description: Number of rooms by source, C(rooms), C(rooms_paths), C(homeserver), C(witness) or C(log).
  returned: success
  type: dict
  sample: {"rooms_paths": 12, "witness": 3}
key_id:
  description: ID of the key that signed the requests.
  returned: success
  type: str
  sample: "ed25519:a_abcd"
pairs:
  description: Number of pairs of server and room.
  returned: success
  type: int
counts:
  description: Number of pairs by state.
  returned: success
  type: dict
  contains:
    confirmed:
      description: The server answered that no account is joined, invited or knocking.
      type: int
    ghosts:
      description: The server lists accounts.
      type: int
    refused:
      description: The server denies access, for example by a server ACL.
      type: int
    unreachable:
      description: The server did not answer.
      type: int
    unconfirmed:
      description: The answer does not say whether the server lists accounts.
      type: int
ghosts:
  description: Number of listed accounts, each counted once for each server and room.
  returned: success
  type: int
removed:
  description: Number of removed accounts, each counted once for each server and room. 0 in check mode.
  returned: success
  type: int
requests:
  description: Number of requests to remote servers.
  returned: success
  type: int
servers:
  description:
    - The remote servers, those with most pairs that are not confirmed first.
    - At most 1,000, and at most 200 kB.
  returned: success
  type: list
  elements: dict
  contains:
    server:
      description: Server name.
      type: str
    rooms:
      description: Number of rooms to check.
      type: int
    confirmed:
      description: Number of confirmed rooms.
      type: int
    ghosts:
      description: Number of rooms in which the server lists accounts.
      type: int
    refused:
      description: Number of rooms in which the server denies access.
      type: int
    unreachable:
      description: Number of rooms without an answer.
      type: int
    unconfirmed:
      description: Number of rooms in which the answer is not conclusive.
      type: int
    removed:
      description: Number of accounts that were removed on the server.
      type: int
not_confirmed:
  description:
    - The pairs that are not confirmed.
    - At most 1,000, and at most 200 kB. The file O(record_path) has all.
  returned: success
  type: list
  elements: dict
  contains:
    server:
      description: Server name.
      type: str
    room_id:
      description: Room ID.
      type: str
    state:
      description: State, one of the keys of RV(counts).
      type: str
    reason:
      description: Why the pair is not confirmed. Quotes the server.
      type: str
    ghosts:
      description: The listed accounts with their membership. At most 10.
      type: list
      elements: dict
      sample: [{"user_id": "@alice:example.org", "membership": "join"}]
    ghosts_total:
      description: Number of listed accounts.
      type: int
"""

from functools import partial
from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.alongside import is_joined
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import GhostRun
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import SigningKeyError
from ansible_collections.matrixops.synapse.plugins.module_utils._federation_module import (
    GhostsModule,
    Run,
    as_result,
    shown,
)


def remove(run: Run) -> None:
    """Remove the ghosts of all rooms, except for accounts that are joined on their own homeserver."""
    synapse = run.synapse
    if synapse is None:
        if run.homeserver:
            raise SigningKeyError(f"{run.homeserver} answers under server_name: set base_url and access_token")
        run.ghosts.remove(run.rooms, lambda *_account: True)
    else:
        # Asked again right before each leave.
        is_member = run.ghosts.is_member or partial(is_joined, synapse)
        run.ghosts.remove(run.rooms, lambda *account: not is_member(*account))


def as_diff(ghosts: GhostRun, *, dry_run: bool) -> dict[str, str]:
    """Return the ghosts before and after the removal, one on a line. Of very many, the first ones."""
    results = sorted(ghosts.results.values())
    listed = [f"{r.pair.server} {r.pair.room_id} {user_id}\n" for r in results for user_id in r.ghosts]
    removed = [f"{r.pair.server} {r.pair.room_id} {user_id}\n" for r in results for user_id in r.removed]
    return {"before": _lines(sorted({*listed, *removed})), "after": "" if dry_run else _lines(listed)}


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
    result["removed"] = run.removed
    result["changed"] = any(found.ghosts if module.check_mode else found.removed for found in results)
    if module._diff:
        result["diff"] = as_diff(run.ghosts, dry_run=module.check_mode)
    stuck = [found for found in results if found.state == "ghosts" and not module.check_mode]
    if stuck:
        pair, reason = stuck[0].pair, stuck[0].reason
        module.fail_json(
            msg=f"Ghosts remain in {len(stuck)} rooms of remote servers, for example on {pair.server} in"
            f" {pair.room_id}: {reason}. Run the task again, and see not_confirmed for the others",
            **result,
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
