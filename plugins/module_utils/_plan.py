# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What decommissioning would do to a server, and what it would break, from reads alone."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Collection, Iterable, Iterator, Mapping, Sequence

from ._client import Client, JsonDict, SynapseError
from ._destinations import list_destinations
from ._drain import Options, drain
from ._findings import find
from ._journal import Journal
from ._pool import each
from ._rooms import joined_rooms, still_joined
from ._server import server_info
from ._users import CLASSES, STATES, Account, account_class, account_state, get_user, list_users

SHOWN = 5
"""How many of the rooms or servers that a warning is about its message names. The plan has all."""
SAMPLE_SERVERS = 5
"""How many remote servers the plan names to ask whether they answer."""
SAMPLES = 9
"""How many accounts are looked at to see how fast the server answers."""
LEAVE = 13
CLOSE = 11
"""What a leave, and closing an account with all that belongs to it, cost a server, in looks at an account: by
docs/benchmarks.md, on one machine, so that no more than the order of magnitude can come of it."""


@dataclass(frozen=True)
class Concern:
    """Something that whoever decommissions the server should know before, and what to do about it."""

    about: str
    message: str
    advice: str


@dataclass
class Plan:
    """What there is, and what would happen to it.

    I(accounts) has the number of accounts by class and state, I(staying) those that leave their rooms and stay active,
    I(servers) the number of remote servers in rooms of ours, with the names of unreachable ones and of a sample,
    I(findings) the rooms by what would become of them. I(seconds) is how long the drain may take, by the server's
    answers just now.
    """

    server: JsonDict
    erase: bool
    accounts: dict[str, dict[str, int]] = field(default_factory=dict)
    to_deactivate: int = 0
    staying: list[str] = field(default_factory=list)
    rooms: dict[str, int] = field(default_factory=dict)
    memberships: int = 0
    servers: JsonDict = field(default_factory=dict)
    findings: Mapping[str, list[str]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None
    warnings: list[Concern] = field(default_factory=list)

    def as_json(self) -> JsonDict:
        return asdict(self)


def make_plan(client: Client, keep: Collection[str], options: Options) -> Plan:
    """Look at everything that decommissioning touches.

    :param keep: accounts that are not to be deactivated.
    :raises SynapseError: if what Synapse says does not fit together, so that nobody could tell whether all have left.
    """
    plan = Plan(server_info(client), options.erase)
    accounts = _look_at_accounts(client, options.concurrency)
    plan.accounts = _counts(accounts)
    with Journal() as journal:
        to_close = drain(client, None, options, journal, keep=keep, dry_run=True).closed
    plan.to_deactivate = len(to_close)
    spared = (account.user_id for account in accounts if account.account_class in ("operator", "admin"))
    open_accounts = {account.user_id for account in accounts if not account.is_deactivated}
    plan.staying = sorted(open_accounts.intersection([*spared, *keep]))

    found = find(client, options.concurrency)
    plan.findings = found.kinds
    _check_statistics(client, {room["room_id"] for room in found.rooms}, accounts, options.concurrency)
    occupied = [room for room in found.rooms if room.get("local_members")]
    federated = [room for room in occupied if room["federated"]]
    plan.rooms = {"local": len(occupied) - len(federated), "federated": len(federated)}
    plan.memberships = sum(len(room["local_members"]) for room in occupied)
    plan.aliases = {alias: room["room_id"] for room in found.rooms for alias in room.get("aliases", ())}
    plan.servers = _servers(client, Counter(server for room in federated for server in room["remote_servers"]))
    plan.seconds = _estimate(client, sorted(to_close), plan.memberships)
    plan.warnings = list(_warnings(plan))
    return plan


def _look_at_accounts(client: Client, concurrency: int) -> list[Account]:
    def look(listed: JsonDict) -> Account:
        # Only this tells who is suspended, or an application service's. Of those that are closed it does not matter.
        user = listed if listed["deactivated"] else get_user(client, listed["name"])
        return Account(user["name"], account_class(user, client.user_id), account_state(user))

    return [account for _listed, account in each(look, list_users(client), concurrency)]


def _counts(accounts: Iterable[Account]) -> dict[str, dict[str, int]]:
    counter = Counter((account.account_class, account.state) for account in accounts)
    counts = {kind: {state: counter[kind, state] for state in STATES if counter[kind, state]} for kind in CLASSES}
    return {kind: states for kind, states in counts.items() if states}


def _check_statistics(client: Client, room_ids: set[str], accounts: Sequence[Account], concurrency: int) -> None:
    """Synapse lists rooms by its statistics. Where these are switched off, it lists none, whoever is in them."""
    admins = [account.user_id for account in accounts if account.account_class in ("operator", "admin")]
    looked_at = admins if room_ids else [account.user_id for account in accounts]
    joined = still_joined(client, looked_at, concurrency)
    if not room_ids.issuperset(room_id for joined_ids in joined.values() for room_id in joined_ids):
        raise SynapseError(
            "Nothing was changed: accounts are in rooms that Synapse does not list, since its statistics are switched"
            " off (stats: enabled: false in homeserver.yaml) or not complete. Then nobody can tell where the accounts"
            " are whom nobody can log in as, such as those of bridges. Switch them on, and restart Synapse"
        )


def _servers(client: Client, shared: Counter[str]) -> JsonDict:
    """The remote servers, given with the number of rooms. Unreachable are those that Synapse has found to be."""
    known = {row.name: row for row in list_destinations(client) if row.name in shared}
    return {
        "total": len(shared),
        "sample": sorted(shared, key=lambda name: (-shared[name], name))[:SAMPLE_SERVERS],
        "unreachable": {name: row.failing_since for name, row in sorted(known.items()) if row.failing},
        "never_contacted": sorted(shared.keys() - known.keys()),
    }


def _estimate(client: Client, user_ids: Sequence[str], memberships: int) -> float | None:
    """How many seconds the drain may take, from how long this server takes to answer something small."""
    step = max(1, len(user_ids) // SAMPLES)
    times = []
    for user_id in user_ids[::step][:SAMPLES]:
        began = time.monotonic()
        joined_rooms(client, user_id)
        times.append(time.monotonic() - began)
    if not times:
        return None
    return statistics.median(times) * (LEAVE * memberships + CLOSE * len(user_ids))


def _warnings(plan: Plan) -> Iterator[Concern]:
    server = plan.server
    for way in server["ways_in"]:
        if way["open"]:
            yield Concern("cordon", f"New accounts can come: {way['detail']}", "Close that before: docs/orphans.md")
    # Of guests and application services nothing can be seen but their accounts.
    for kind in ("appservice", "guest"):
        count = sum(plan.accounts.get(kind, {}).get(state, 0) for state in ("active", "suspended"))
        if count:
            message = f"There are {count:,} active accounts of class {kind}, so more may come"
            yield Concern("cordon", message, _CLOSE[kind])
    for issue in server["known_issues"]:
        yield Concern(
            "version",
            f"Synapse {server['version']}: {issue['summary']} ({issue['reference']})",
            f"Fixed in {issue['mended_in']}",
        )
    if server["delegated_auth"]:
        yield Concern(
            "delegated_auth",
            "A Matrix Authentication Service handles login. Accounts that are deactivated in Synapse stay active there",
            "Deactivate them there, too. To continue, set decommission_delegated_auth to synapse_only",
        )
    for kind, (message, advice) in _FINDINGS.items():
        room_ids = plan.findings.get(kind, [])
        if room_ids:
            yield Concern(kind, f"{message}: {shown(room_ids)}", advice)
    unreachable = plan.servers["unreachable"]
    if unreachable:
        yield Concern(
            "unreachable",
            f"Remote servers that Synapse cannot reach at present: {shown(unreachable)}",
            "They are retried until the propagation period ends. Ghosts on them can be removed later with"
            " matrix_ghosts",
        )


_CLOSE = {
    "appservice": "Stop bridges and other application services, and leave them off",
    "guest": "Set allow_guest_access to false, and restart Synapse",
}
_FINDINGS = {
    "broken": (
        "Rooms that accounts of this server cannot leave, since the rooms have no forward extremities",
        "Ghosts in them are removed on the remote servers directly. This does not stop the run",
    ),
    "unreadable": (
        "Rooms that could not be read, so that nothing is known of them",
        "See the error of each in the findings of synapse_rooms_info, and Synapse's log",
    ),
    "orphaned": (
        "Rooms that only accounts of this server can administer, and that will be without an administrator for good",
        "Hand them over: decommission_handover, with decommission_handover_to",
    ),
    "empowered": (
        "Rooms that give power to accounts of this server, and so to whoever has its domain name next",
        "Set decommission_demote, or keep the domain",
    ),
    "creators": (
        "Rooms of version 12 or later that accounts of this server have created: that power can't be given up",
        "Keep the domain, or have somebody who stays upgrade these rooms",
    ),
    "canonical_alias": (
        "Rooms that name an address of this server as theirs, which dies with it",
        "Set decommission_release_aliases, and have somebody who stays give them an address elsewhere",
    ),
    "aliased": (
        "Rooms that addresses of this server point to, which die with it",
        "Tell their members another address. decommission_release_aliases deletes these, and keeps a list",
    ),
    "published": (
        "Rooms in the public directory of this server, which dies with it",
        "Have somebody who stays publish them elsewhere",
    ),
    "space_parents": (
        "Rooms of a space that they know of no other way to than this server",
        "Have somebody who stays add the space anew",
    ),
    "space_children": (
        "Spaces that know of no other way than this server to one of their rooms",
        "Have somebody who stays add the rooms anew",
    ),
    "upgraded": (
        "Rooms that were upgraded, and that people of other servers are still in",
        "Tell them. Who follows the upgrade is in the new room",
    ),
}
"""The kinds of C(findings) that somebody should know of. Rooms without any administrator have none now, either."""


def shown(names: Iterable[str]) -> str:
    """Some of many names, for a message."""
    everything = list(names)
    more = f" and {len(everything) - SHOWN:,} more" if len(everything) > SHOWN else ""
    return ", ".join(everything[:SHOWN]) + more


def as_text(plan: Plan) -> list[str]:
    """The plan, a line for each thing, for a person."""
    lines = [
        f"{plan.server['server_name']}, Synapse {plan.server['version']}, as {plan.server['operator']}",
        "Accounts: " + "; ".join(_class(kind, states) for kind, states in plan.accounts.items()),
        f"To deactivate{' and erase' if plan.erase else ''}: {plan.to_deactivate:,} accounts",
        f"To leave their rooms, and stay active: {', '.join(plan.staying)}",
        f"Rooms: {plan.rooms['local']:,} that only this server is in, {plan.rooms['federated']:,} that remote servers"
        f" are in, too. Memberships to end: {plan.memberships:,}",
        f"Remote servers in these rooms: {plan.servers['total']:,}, of which {len(plan.servers['unreachable']):,} are"
        f" unreachable, and {len(plan.servers['never_contacted']):,} were never sent anything",
    ]
    if plan.seconds is not None:
        lines.append(
            f"The drain may take {_duration(plan.seconds / 2)} to {_duration(2 * plan.seconds)}: an estimate, from how"
            " fast the server has just answered"
        )
    lines += [f"WARNING ({warning.about}): {warning.message}. {warning.advice}" for warning in plan.warnings]
    return lines


def _class(kind: str, states: Mapping[str, int]) -> str:
    return f"{sum(states.values()):,} {kind} ({', '.join(f'{count:,} {state}' for state, count in states.items())})"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
