#!/usr/bin/python
# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: synapse_user_deactivate
short_description: Deactivate accounts of a Synapse homeserver, and wait until they have left their rooms
version_added: 1.0.0
description:
  - Deactivates and erases accounts, many side by side. Each account first leaves the rooms that remote servers are in.
  - Locked accounts and guests leave their rooms only after their deactivation, by Synapse itself.
  - All accounts are read before the first is changed. If one does not exist, belongs to another server or must not be
    deactivated, no changes are made. Right before its deactivation, each account is read once more, since it may have
    become an admin.
  - B(This cannot be undone.) A deactivated account can be reactivated, but has lost its rooms, password, sessions and
    keys, and with O(erase=true) its profile.
  - A remote server that is down at that time may miss the leaves, and keep the accounts as ghosts. See
    M(matrixops.synapse.synapse_propagation).
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
  user_ids:
    description:
      - User IDs of the accounts to deactivate.
      - Mutually exclusive with O(all_users). One of the two is required.
    type: list
    elements: str
  all_users:
    description:
      - Deactivate every account of the server except admins, the operator and the accounts in O(keep).
      - The accounts are listed again after each pass, and those that were created or reactivated in the meantime are
        deactivated as well, until none is found.
    type: bool
    default: false
  keep:
    description:
      - User IDs of accounts that stay active. With O(all_users=true), each must exist; in O(user_ids), each is refused.
    type: list
    elements: str
    default: []
  erase:
    description:
      - Also erase the accounts. Their profiles are deleted, and this server hides their messages from users that join a
        room later. An account that was deactivated but not erased before is erased now.
      - Before Synapse 1.150, an account that is erased while it leaves may join public rooms again. There, an account
        is erased when it has left all rooms, unless with O(wait_for=none).
    type: bool
    default: true
  allow_admins:
    description:
      - Allow admins in O(user_ids). The operator, whose access token the module uses, is never deactivated.
    type: bool
    default: false
  only_deactivated:
    description:
      - Whether to leave active accounts alone, with O(all_users). Only accounts that are deactivated already are waited
        for, and erased if O(erase) is set.
    type: bool
    default: false
  redact:
    description:
      - Redact all that an account has sent to its rooms before it leaves them, on all servers in these rooms. This
        includes messages and joins, which have the display name, but not the state of the room, for example its name.
      - An account with events that are still to be redacted stays active and in its rooms, since nothing can be
        redacted later. This applies to locked accounts as well, which the operator cannot act as, unless O(mas_url) is
        set. See RV(not_redacted) for events that can never be redacted.
      - With O(mas_url), all sessions of a locked account are ended, and it is unlocked while its events are redacted.
      - B(Slow, and cannot be undone.) One more event is sent for each message. For the cost, see
        U(https://github.com/matrixops/synapse/blob/main/docs/explanation/synapse.md).
    type: bool
    default: false
  suspend:
    description:
      - Suspend each account before its deactivation. Where a Matrix Authentication Service handles login and O(mas_url)
        is not set, an account that is only deactivated in Synapse is not shut out.
      - A suspended account can leave rooms, but not join, create or send to any.
    type: bool
    default: false
  wait_for:
    description:
      - Rooms to wait for, also for accounts that were deactivated before.
      - V(all) waits until the accounts have left all rooms, V(federated) until they have left the rooms that remote
        servers are in, and V(none) does not wait.
    type: str
    choices: [all, federated, none]
    default: all
  wait_timeout:
    description:
      - Number of seconds without a leave on the whole server, after which Synapse is assumed to have dropped the
        remaining leaves. These accounts are deactivated once more, which makes Synapse retry. If that has no effect
        either, the operator acts as each account and leaves its rooms.
      - The total time is not limited.
    type: int
    default: 60
  allow_broken_rooms:
    description:
      - Succeed although there are rooms that cannot be left, for example because their state is damaged. They are
        returned in RV(broken_rooms).
      - All other accounts and rooms are handled in either case.
    type: bool
    default: false
  record:
    description:
      - Add the rooms that both remote servers and accounts of the homeserver are joined to to the record of
        M(matrixops.synapse.synapse_federated_rooms), before the first account leaves. This includes accounts that are
        not deactivated.
      - Also add the rooms that accounts are invited to or knocking at, after they have left their federated rooms and
        before they are deactivated. Remote servers may keep listing the accounts there.
      - For invites and knocks, the operator acts as each account except guests. The list of ignored users of the
        account is empty for a moment, since Synapse hides the invites of ignored users. Under delegated authentication,
        this is possible for the operator only.
    type: bool
    default: false
  max_passes:
    description:
      - With O(all_users=true), maximum number of times that the accounts are listed and deactivated.
    type: int
    default: 5
  concurrency:
    description:
      - Maximum number of concurrent requests. The module starts with two, and adapts to how fast the server answers.
    type: int
    default: 16
  log_path:
    description:
      - File on the managed host to which a line of JSON is appended for each event of an account.
      - A line has C(time) (seconds since 1970), C(user_id) and C(result), which is C(left) or C(not_left) (all
        federated rooms), C(deactivated), C(left_all_rooms), C(failed), C(not_redacted), C(queued_again),
        C(not_queued_again) or C(still_joined). An account that has C(left) by the server's answer may be C(not_left)
        when its rooms are read.
      - Where it applies, a line also has C(rooms_left) (number), C(not_left) and C(not_redacted) (IDs with reasons),
        C(rooms) (rooms that the account is still joined to, with reasons) and C(error).
    type: path
"""

EXAMPLES = r"""
- name: Deactivate and erase two accounts
  matrixops.synapse.synapse_user_deactivate:
    access_token: "{{ synapse_access_token }}"
    user_ids:
      - "@alice:example.org"
      - "@bob:example.org"

- name: Deactivate all accounts of the server except admins and the archive
  matrixops.synapse.synapse_user_deactivate:
    access_token: "{{ synapse_access_token }}"
    server_name: example.org
    all_users: true
    keep:
      - "@archive:example.org"
    log_path: /var/log/synapse-drain.jsonl
"""

RETURN = r"""
deactivated:
  description: Number of accounts that were deactivated or erased.
  returned: when the accounts could be read
  type: int
unchanged:
  description: Number of accounts that were deactivated before.
  returned: when the accounts could be read
  type: int
left_federated:
  description: Number of accounts that left the last of their federated rooms.
  returned: when the accounts could be read
  type: int
left_all_rooms:
  description:
    - Number of accounts that left the last of their rooms, or were in none when they were deactivated. Includes
      accounts that were deactivated before, but were in rooms until now.
  returned: when the accounts could be read
  type: int
federated_left_after:
  description:
    - Seconds from the start until the last account had left its last federated room; V(none) if not all have.
  returned: when the accounts could be read
  type: float
all_left_after:
  description: The same for all rooms; V(none) if not all accounts have left, or without O(wait_for=all).
  returned: when the accounts could be read
  type: float
failures:
  description: The accounts that could not be deactivated; at most 1,000 of them.
  returned: when the accounts could be read
  type: list
  elements: dict
  contains:
    user_id:
      description: User ID of the account.
      type: str
    reason:
      description: The error of the server.
      type: str
failures_total:
  description: Number of accounts that could not be deactivated.
  returned: when the accounts could be read
  type: int
still_joined:
  description: The accounts that are deactivated but still in rooms that were waited for; at most 1,000 of them.
  returned: when the accounts could be read
  type: list
  elements: dict
  contains:
    user_id:
      description: User ID of the account.
      type: str
    rooms:
      description: The rooms that it is still joined to; at most 10 of them.
      type: list
      elements: dict
      contains:
        room_id:
          description: The room ID.
          type: str
        reason:
          description: The error of the server.
          type: str
still_joined_total:
  description: Number of accounts that are deactivated but still in rooms that were waited for.
  returned: when the accounts could be read
  type: int
left_to_deactivation:
  description:
    - The accounts whose leaves got no answer, for example because a worker of Synapse does not run, each with the
      C(reason); at most 1,000 of them. They leave with their deactivation.
  returned: when the accounts could be read
  type: list
  elements: dict
broken_rooms:
  description:
    - The rooms that the accounts in RV(still_joined) could not be made to leave; at most 1,000 of them. Rooms that an
      account joined again are not included.
  returned: when the accounts could be read
  type: list
  elements: dict
  contains:
    room_id:
      description: The room ID.
      type: str
    reason:
      description: The error of the server for the first of the accounts.
      type: str
    accounts:
      description: Number of these accounts in the room.
      type: int
    federated:
      description: Whether remote servers are, or may be, in the room.
      type: bool
broken_rooms_total:
  description: Number of such rooms.
  returned: when the accounts could be read
  type: int
not_redacted:
  description:
    - The accounts with events that could not be redacted; at most 1,000 of them. O(log_path) has the reasons.
    - An account is deactivated only if all these events can never be redacted, since the server answers 403
      M_FORBIDDEN, 403 M_GUEST_ACCESS_FORBIDDEN or 404 M_NOT_FOUND. Otherwise it has failed, and stays active and in
      its rooms.
  returned: with O(redact=true), when the accounts could be read
  type: list
  elements: dict
  contains:
    user_id:
      description: User ID of the account.
      type: str
    events:
      description: Number of its events that could not be redacted.
      type: int
    reason:
      description: The error of the server for the first of them.
      type: str
proof:
  description: How many accounts were read to be out of their rooms, and how.
  returned: unless O(wait_for=none), when not in check mode
  type: dict
  contains:
    left_all_rooms:
      description:
        - Number of accounts that were read to be in none of the rooms that were waited for, each by a request of its
          own, after the deactivation.
      type: int
    read:
      description: The endpoint of the admin API for these requests. Unlike the lists of rooms, it is exact.
      type: str
    requests:
      description: Number of these requests, polls included.
      type: int
recorded:
  description: The numbers of all recorded rooms, servers, memberships, and invites and knocks, in one line.
  returned: with O(record=true)
  type: str
unreadable_rooms:
  description:
    - The rooms that Synapse can't read, each with the C(reason); at most 1,000 of them. They are not recorded, since
      the remote servers in them are unknown.
  returned: with O(record=true)
  type: list
  elements: dict
pending_unlisted:
  description:
    - The accounts whose invites and knocks could not be listed, each with the C(reason); at most 1,000 of them.
  returned: with O(record=true)
  type: list
  elements: dict
passes:
  description: Number of passes in which anything was done.
  returned: when the accounts could be read
  type: int
elapsed:
  description: Total time in seconds.
  returned: when the accounts could be read
  type: float
timeline:
  description:
    - At most 100 points of this run. Each is a list of the seconds since the start, the number of accounts that were
      deactivated, and the number of accounts that had left all rooms by then.
  returned: when not in check mode
  type: list
  elements: list
  sample: [[0.0, 0, 0], [12.3, 120, 114], [50.1, 488, 488]]
rate:
  description: Number of accounts deactivated per second, including the time to leave the rooms that were waited for.
  returned: when the accounts could be read
  type: float
"""

import time
from itertools import islice
from typing import Any

from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.broken_rooms import broken_rooms_result
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.drain import drain
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.drain_run import DrainResult, Options
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.eligibility import Eligibility
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.progress import DrainLog
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.recorder import Recorder
from ansible_collections.matrixops.synapse.plugins.module_utils._module import SynapseModule
from ansible_collections.matrixops.synapse.plugins.module_utils._results import MAX_NAMES, with_reasons
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.rooms import JOINED_ROOMS

MAX_ROOMS = 10
"""Maximum number of rooms that the result lists for an account."""
OPTIONS: dict[str, dict[str, Any]] = {
    "user_ids": {"type": "list", "elements": "str"},
    "all_users": {"type": "bool", "default": False},
    "keep": {"type": "list", "elements": "str", "default": []},
    "erase": {"type": "bool", "default": True},
    "allow_admins": {"type": "bool", "default": False},
    "only_deactivated": {"type": "bool", "default": False},
    "suspend": {"type": "bool", "default": False},
    "redact": {"type": "bool", "default": False},
    "wait_for": {"type": "str", "choices": ["all", "federated", "none"], "default": "all"},
    "wait_timeout": {"type": "int", "default": 60},
    "allow_broken_rooms": {"type": "bool", "default": False},
    "record": {"type": "bool", "default": False},
    "max_passes": {"type": "int", "default": 5, "no_log": False},
    "concurrency": {"type": "int", "default": 16},
    "log_path": {"type": "path"},
}


def drain_options(params: dict[str, Any]) -> Options:
    """The options of the drain."""
    return Options(
        eligibility=Eligibility(frozenset(params["keep"]), params["allow_admins"], params["only_deactivated"]),
        erase=params["erase"],
        suspend=params["suspend"],
        redact=params["redact"],
        wait_for=params["wait_for"],
        wait_timeout=params["wait_timeout"],
        max_passes=params["max_passes"],
    )


def as_result(outcome: DrainResult, elapsed: float) -> dict[str, Any]:
    """What the module always returns."""
    return {
        "changed": bool(outcome.deactivated or outcome.left_federated or outcome.left_all_rooms),
        "deactivated": len(outcome.deactivated),
        "unchanged": outcome.unchanged,
        "left_federated": outcome.left_federated,
        "left_all_rooms": outcome.left_all_rooms,
        "federated_left_after": _rounded(outcome.federated_left_after),
        "all_left_after": _rounded(outcome.all_left_after),
        "failures": with_reasons("user_id", outcome.failed),
        "failures_total": len(outcome.failed),
        "still_joined": [
            {"user_id": user_id, "rooms": with_reasons("room_id", rooms, MAX_ROOMS)}
            for user_id, rooms in islice(sorted(outcome.still_joined.items()), MAX_NAMES)
        ],
        "still_joined_total": len(outcome.still_joined),
        "left_to_deactivation": with_reasons("user_id", outcome.left_to_deactivation),
        **broken_rooms_result(outcome.broken),
        "passes": outcome.passes,
        "elapsed": _rounded(elapsed),
        "rate": round(len(outcome.deactivated) / elapsed, 2) if elapsed else 0.0,
    }


def redaction_result(outcome: DrainResult) -> dict[str, Any]:
    """What the module returns if it redacts."""
    failed = islice(sorted(outcome.not_redacted.items()), MAX_NAMES)
    events = [{"user_id": user_id, "events": number, "reason": reason} for user_id, (number, reason) in failed]
    return {"not_redacted": events}


def record_result(recorder: Recorder) -> dict[str, Any]:
    """What the module returns if it records the federated rooms."""
    return {
        "recorded": recorder.message,
        "unreadable_rooms": with_reasons("room_id", recorder.unreadable),
        "pending_unlisted": with_reasons("user_id", recorder.unlisted),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def as_diff(outcome: DrainResult, erase: bool) -> dict[str, str]:
    """The accounts that were deactivated, with their state before and after."""
    after = "erased" if erase else "deactivated"
    return {
        "before": "".join(f"{user_id} {state}\n" for user_id, state in sorted(outcome.deactivated.items())),
        "after": "".join(f"{user_id} {after}\n" for user_id in sorted(outcome.deactivated)),
    }


def problem(outcome: DrainResult, *, allow_broken_rooms: bool) -> str:
    """What failed, with an example and what to do; an empty text if nothing did."""
    if outcome.aborted is not None:
        return f"Stopped after {len(outcome.deactivated)} accounts: {outcome.aborted}. Run again to resume"
    problems = []
    if outcome.failed:
        user_id, reason = next(iter(outcome.failed.items()))
        problems.append(
            f"{len(outcome.failed)} accounts could not be deactivated, for example {user_id}: {reason}."
            " Remove the cause, then run again"
        )
    allowed = outcome.broken.keys() if allow_broken_rooms else set()
    still_joined = {user_id: rooms for user_id, rooms in outcome.still_joined.items() if not rooms.keys() <= allowed}
    if still_joined:
        user_id, rooms = next(iter(still_joined.items()))
        room_id, reason = next(iter(rooms.items()))
        problems.append(
            f"{len(still_joined)} accounts are deactivated but still in rooms, for example {user_id} in {room_id}:"
            f" {reason}. Repair the room or set allow_broken_rooms, then run again"
        )
    return ". ".join(problems)


def main() -> None:
    module = SynapseModule(OPTIONS, shows_progress=True)
    params = module.params
    if params["all_users"] is (params["user_ids"] is not None):
        module.fail_json(msg="No changes made: set either user_ids or all_users=true")
    paths = (None, None) if module.check_mode else (params["log_path"], params["progress_path"])
    started = time.monotonic()
    with module.client(changes=True) as client, DrainLog(*paths) as log:
        recorder = Recorder(client) if params["record"] else None
        outcome = drain(
            client, params["user_ids"], drain_options(params), log, recorder=recorder, dry_run=module.check_mode
        )
    result = as_result(outcome, time.monotonic() - started)
    if params["redact"]:
        result.update(redaction_result(outcome))
    if recorder is not None:
        result.update(record_result(recorder), changed=result["changed"] or recorder.changed)
    if not module.check_mode:
        result["timeline"] = log.timeline
        if params["wait_for"] != "none":
            read = f"GET {JOINED_ROOMS}"
            result["proof"] = {"left_all_rooms": outcome.verified, "read": read, "requests": outcome.reads}
    result["diff"] = as_diff(outcome, params["erase"])
    module.end(result, problem(outcome, allow_broken_rooms=params["allow_broken_rooms"]), outcome.aborted)


if __name__ == "__main__":
    main()
