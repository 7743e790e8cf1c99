# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan: what decommissioning would do to a server, and what it would break, from read requests only."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Collection, Iterable, Iterator, Mapping, NamedTuple, Sequence

from .._results import MAX_NAMES, sample
from .._synapse.accounts import Account, classified_accounts, count_by_class
from .._synapse.answer import JsonDict
from .._synapse.client import Client
from .._synapse.destinations import list_destinations
from .._synapse.errors import FatalError
from .._synapse.media import count_media
from .._synapse.room_state import is_of
from .._synapse.rooms import joined_rooms, still_joined
from .._synapse.server import server_info
from .._text import duration, join_names, plural, printable
from .announcement import is_recipient
from .drain_run import Options
from .room_impact import ids_by_kind, read_impact

SAMPLE_SERVERS = 5
"""Number of remote servers that the plan names for a connectivity check."""
SAMPLE_ACCOUNTS = 9
"""Number of accounts that are read to measure the response time."""
LEAVE_COST = 13
DEACTIVATION_COST = 11
NOTICE_COST = 100
"""Duration of a leave, of a deactivation, and of a notice, which makes a room, as a multiple of the response time of a
read request. Measured on one machine (docs/maintainers/benchmarks-details.md), so the estimate is an order of
magnitude."""
MAX_NAMES_ON_LINE = 5
"""Maximum number of rooms, servers or accounts that a line of the plan names."""
MAX_NAME = 40
"""Maximum number of characters of the name, or the alias, of a room."""
MAX_ID = 80
"""Maximum number of characters of an ID. An ID of usual length must not be cut, since it is of no use then."""


@dataclass(frozen=True)
class PlanWarning:
    """A consequence that the operator should know before the run, and what to do about it."""

    topic: str
    message: str
    advice: str


class Estimate(NamedTuple):
    """Durations in seconds, of which each may be half or twice as long.

    :ivar announcement: of the announcement.
    :ivar drain: until all accounts have left the federated rooms, and are deactivated.
    :ivar background: until Synapse has made them leave the other rooms.
    """

    announcement: float
    drain: float
    background: float


@dataclass
class Plan:
    """The plan. C(synapse_decommission_plan) documents the fields."""

    server: JsonDict
    erase: bool
    accounts: dict[str, dict[str, int]] = field(default_factory=dict)
    to_deactivate: int = 0
    staying_active: list[str] = field(default_factory=list)
    rooms: dict[str, int] = field(default_factory=dict)
    memberships: dict[str, int] = field(default_factory=dict)
    servers: JsonDict = field(default_factory=dict)
    impact: Mapping[str, list[str]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    site: dict[str, int] = field(default_factory=dict)
    estimate: Estimate | None = None
    notices: int = 0
    warnings: list[PlanWarning] = field(default_factory=list)

    def as_json(self) -> JsonDict:
        """The plan as the module returns it: with the first C(MAX_NAMES) names of each list, and their number."""
        return {
            **asdict(self),
            "estimate": self.estimate and self.estimate._asdict(),
            "staying_active": self.staying_active[:MAX_NAMES],
            "servers": {
                **self.servers,
                "unreachable": dict(islice(self.servers["unreachable"].items(), MAX_NAMES)),
                "unreachable_total": len(self.servers["unreachable"]),
                "never_contacted": self.servers["never_contacted"][:MAX_NAMES],
                "never_contacted_total": len(self.servers["never_contacted"]),
            },
            "impact": {kind: room_ids[:MAX_NAMES] for kind, room_ids in self.impact.items()},
            "impact_total": {kind: len(room_ids) for kind, room_ids in self.impact.items()},
            "aliases": dict(islice(sorted(self.aliases.items()), MAX_NAMES)),
            "aliases_total": len(self.aliases),
        }


def make_plan(client: Client, options: Options, *, announce: bool = False) -> Plan:
    """Read the accounts, rooms and destinations of the server.

    :param announce: whether notices are to be sent.
    :raises FatalError: if the listing lacks rooms: it could not be verified later that all accounts have left.
    """
    plan = Plan(server_info(client), options.erase)
    accounts = classified_accounts(client)
    plan.accounts = count_by_class(Counter((account.account_class, account.state) for account in accounts))
    to_deactivate = [a.user_id for a in options.eligibility.select_all(client, accounts) if not options.is_done(a)]
    plan.to_deactivate = len(to_deactivate)
    plan.staying_active = _staying_active(accounts, options.eligibility.keep)
    plan.notices = sum(map(is_recipient, accounts)) if announce else 0

    rooms = _Rooms(client.server_name)
    for room, kinds in read_impact(client):
        rooms.add(room, kinds)
    _check_statistics(client, rooms.room_ids, accounts)
    plan.impact = ids_by_kind(rooms.affected)
    plan.rooms, plan.memberships, plan.aliases = dict(rooms.number), dict(rooms.memberships), rooms.aliases
    plan.servers = _servers(client, rooms.shared)
    files, size = count_media(client)
    plan.site = {
        "rooms_created": rooms.created,
        "aliases": rooms.kept_aliases,
        "media_files": files,
        "media_bytes": size,
    }
    plan.estimate = _estimate(client, sorted(to_deactivate), plan)
    labels = {room["room_id"]: _room_label(room) for room, _kinds in rooms.affected}
    plan.warnings = list(_warnings(plan, labels, has_service=client.service is not None))
    return plan


def _is_admin(account: Account) -> bool:
    return account.account_class in ("operator", "admin")


def _staying_active(accounts: Iterable[Account], keep: Collection[str]) -> list[str]:
    kept = (a.user_id for a in accounts if not a.is_deactivated and (_is_admin(a) or a.user_id in keep))
    return sorted(kept)


def _check_statistics(client: Client, room_ids: set[str], accounts: Sequence[Account]) -> None:
    """Compare the listing of rooms, which Synapse makes from statistics, with the exact rooms of the admins.

    :raises FatalError: if the listing lacks a room. Without statistics it is empty; then all accounts are checked.
    """
    to_check = [account.user_id for account in accounts if _is_admin(account) or not room_ids]
    joined = {room_id for joined_ids in still_joined(client, to_check).values() for room_id in joined_ids}
    if not joined.issubset(room_ids):
        raise FatalError(
            "No changes made: Synapse does not list all rooms that accounts are joined to, since its statistics are"
            " disabled or incomplete. Without them, the rooms of accounts that cannot be acted as, for example of"
            " bridges, are unknown. Set stats: enabled: true in homeserver.yaml, restart Synapse, and run again"
        )


class _Rooms:
    """What the plan has of the rooms. A server may have 50,000 of them, so few are kept.

    :ivar affected: the rooms with an impact, each with its kinds.
    :ivar shared: the remote servers, each with the number of rooms that it shares with this server.
    :ivar created: number of federated rooms that were created here.
    :ivar kept_aliases: number of aliases of federated rooms.
    """

    def __init__(self, server_name: str) -> None:
        self._server_name = server_name
        self.room_ids: set[str] = set()
        self.number: Counter[str] = Counter(local=0, federated=0)
        self.memberships: Counter[str] = Counter(local=0, federated=0)
        self.affected: list[tuple[JsonDict, list[str]]] = []
        self.aliases: dict[str, str] = {}
        self.shared: Counter[str] = Counter()
        self.created = self.kept_aliases = 0

    def add(self, room: JsonDict, kinds: list[str]) -> None:
        room_id, aliases = room["room_id"], room.get("aliases", ())
        self.room_ids.add(room_id)
        self.aliases.update(dict.fromkeys(aliases, room_id))
        if kinds:
            self.affected.append(({key: room.get(key) for key in ("room_id", *_LABEL_FIELDS)}, kinds))
        if "federated" not in room:
            return
        kind = "federated" if room["federated"] else "local"
        self.number[kind] += 1
        members = room.get("local_members")
        self.memberships[kind] += room["joined_local_members"] if members is None else len(members)
        if room["federated"]:
            self.shared.update(room["remote_servers"])
            self.kept_aliases += len(aliases)
            self.created += is_of(self._server_name, str(room.get("creator")))


def _servers(client: Client, shared: Counter[str]) -> JsonDict:
    """The remote servers of a plan. Unreachable are those with a failure that Synapse has recorded.

    :param shared: the number of shared rooms by server name.
    """
    known = {row.name: row for row in list_destinations(client) if row.name in shared}
    return {
        "total": len(shared),
        "sample": sorted(shared, key=lambda name: (-shared[name], name))[:SAMPLE_SERVERS],
        "unreachable": {name: row.failing_since for name, row in sorted(known.items()) if row.failing},
        "never_contacted": sorted(shared.keys() - known.keys()),
    }


def _estimate(client: Client, user_ids: Sequence[str], plan: Plan) -> Estimate | None:
    """The durations of a run, estimated from the median response time of a small request."""
    times = []
    for user_id in sample(user_ids, SAMPLE_ACCOUNTS):
        start = time.monotonic()
        joined_rooms(client, user_id)
        times.append(time.monotonic() - start)
    if not times:
        return None
    response = statistics.median(times)
    return Estimate(
        announcement=response * NOTICE_COST * plan.notices,
        drain=response * (LEAVE_COST * plan.memberships["federated"] + DEACTIVATION_COST * len(user_ids)),
        # An account that gets a notice is joined to, or invited to, another room, with the sender of the notice.
        background=response * LEAVE_COST * (plan.memberships["local"] + 2 * plan.notices),
    )


def _room_label(room: JsonDict) -> str:
    """A readable label of a room, for example C(Lounge (#lounge:example.org)).

    Names and aliases are set by users, also remote ones, so they are escaped and cut.
    """
    name, alias = (_cut(text, MAX_NAME) if isinstance(text, str) else "" for text in map(room.get, _LABEL_FIELDS))
    if name and alias:
        return f"{name} ({alias})"
    return name or alias or _cut(room["room_id"], MAX_ID)


_LABEL_FIELDS = ("name", "canonical_alias")


def _cut(text: str, most: int) -> str:
    """At most I(most) characters of a text, printable and on one line."""
    text = printable(" ".join(text.split()))
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _warnings(plan: Plan, labels: Mapping[str, str], *, has_service: bool = False) -> Iterator[PlanWarning]:
    """All warnings.

    :param labels: the labels of rooms by ID. Rooms without a label are named by ID.
    :param has_service: whether the service that handles login is asked as well, if there is one.
    """
    yield from _registration_warnings(plan)
    yield from _server_warnings(plan.server, has_service=has_service)
    for kind, (message, advice) in _IMPACT_WARNINGS.items():
        room_ids = plan.impact.get(kind, [])
        if room_ids:
            names = _names(labels.get(room_id, room_id) for room_id in room_ids)
            yield PlanWarning(kind, f"{message}: {names}", advice)
    unreachable = plan.servers["unreachable"]
    if unreachable:
        yield PlanWarning(
            "unreachable",
            f"Remote servers that Synapse cannot reach at present: {_names(unreachable)}",
            "They are retried until the end of decommission_propagation_period. After it, remove their ghosts with"
            " matrix_ghosts",
        )


def _registration_warnings(plan: Plan) -> Iterator[PlanWarning]:
    for path in plan.server["registration_paths"]:
        if path["open"]:
            yield PlanWarning("cordon", f"New accounts can be created: {path['detail']}", _PATH_ADVICE[path["kind"]])
    # Synapse does not report whether guests and application services can register; only their accounts can be seen.
    for kind, advice in _CLASS_ADVICE.items():
        count = sum(plan.accounts.get(kind, {}).get(state, 0) for state in ("active", "suspended"))
        if count:
            message = f"Active accounts of class {kind}: {count:,}. More of them may be created during the run"
            yield PlanWarning("cordon", message, advice)


def _server_warnings(server: JsonDict, *, has_service: bool) -> Iterator[PlanWarning]:
    issues = server["known_issues"]
    for issue in issues:
        reference = f"{issue['reference']}, fixed in {issue['fixed_in']}"
        yield PlanWarning(
            "version",
            f"Synapse {server['version']}: {issue['summary']} ({reference})",
            f"Upgrade Synapse to {issues[-1]['fixed_in']} or later before the run",
        )
    if server["delegated_auth"] and not has_service:
        yield PlanWarning(
            "delegated_auth",
            "A Matrix Authentication Service handles login. Accounts that are deactivated in Synapse stay active there",
            "Set decommission_mas_url, or decommission_delegated_auth: synapse_only",
        )


_PATH_ADVICE = {
    "registration": "Set decommission_cordon: true, or enable_registration: false in homeserver.yaml",
    "sso": "Set enable_registration: false for each provider in homeserver.yaml, and restart Synapse",
    "jwt": "Remove jwt_config from homeserver.yaml, and restart Synapse",
}
_CLASS_ADVICE = {
    "appservice": "Stop bridges and other application services, and keep them stopped",
    "guest": "Set allow_guest_access: false in homeserver.yaml, and restart Synapse",
}
_IMPACT_WARNINGS = {
    "broken": (
        "Rooms that no account of this server can leave, since they have no forward extremities",
        "No action needed: the run continues, and removes ghosts in these rooms on the remote servers directly",
    ),
    "unreadable": (
        "Rooms that could not be read, so the impact on them is unknown",
        "Read the error of each with synapse_rooms_info (impact: true), and the log of Synapse",
    ),
    "orphaned": (
        "Rooms that only accounts of this server can administer, and that will have no administrator",
        "Set decommission_handover: true and decommission_handover_to",
    ),
    "empowered": (
        "Rooms that give power to accounts of this server, which the next owner of its domain could use",
        "Set decommission_demote: true, or keep the domain",
    ),
    "creators": (
        "Rooms of version 12 or later with a creator on this server, whose power cannot be given up",
        "Keep the domain, or have a remote administrator upgrade these rooms",
    ),
    "canonical_alias": (
        "Rooms whose canonical or alternative alias belongs to this server, and stops resolving",
        "Set decommission_release_aliases: true, and have a remote administrator set another alias",
    ),
    "aliased": (
        "Rooms with aliases of this server, which stop resolving",
        "Announce another alias to the members. decommission_release_aliases: true records and deletes the aliases",
    ),
    "published": (
        "Rooms in the public room directory of this server, which goes offline",
        "Have a remote administrator publish them on another server",
    ),
    "space_parents": (
        "Rooms that link to their space through this server only",
        "Have a remote administrator add the space again",
    ),
    "space_children": (
        "Spaces that link to one of their rooms through this server only",
        "Have a remote administrator add the rooms again",
    ),
    "upgraded": (
        "Upgraded rooms that remote accounts are still joined to",
        "Ask the members to join the new room",
    ),
}
"""The message and the advice of each kind of impact. Rooms that have no administrator now are not a consequence."""


def as_text(plan: Plan) -> list[str]:
    """The plan as lines for a terminal, at most 26: one for each topic of warnings, and at most nine others."""
    lines = [
        f"Server: {plan.server['server_name']}, Synapse {plan.server['version']}, operator {plan.server['operator']}",
        f"Accounts: {', '.join(_class(kind, states) for kind, states in plan.accounts.items())}",
        f"  to deactivate{' and erase' if plan.erase else ''}: {plan.to_deactivate:,}",
        f"  to leave all rooms and stay active: {_names(plan.staying_active) or 'none'}",
        f"Rooms: {plan.rooms['federated']:,} federated, {plan.rooms['local']:,} local;"
        f" {plan.memberships['federated']:,} and {plan.memberships['local']:,} memberships to end",
        f"Remote servers in these rooms: {plan.servers['total']:,}; {len(plan.servers['unreachable']):,} unreachable,"
        f" {len(plan.servers['never_contacted']):,} never contacted",
    ]
    site = plan.site
    lines.append(
        f"For a static site: {plural(site['rooms_created'], 'federated room', 'federated rooms')} created here,"
        f" {plural(site['aliases'], 'alias', 'aliases')} of federated rooms,"
        f" {plural(site['media_files'], 'media file', 'media files')} ({site['media_bytes'] / 1e6:,.1f} MB)"
    )
    if plan.estimate is not None:
        lines.append(_estimate_line(plan.estimate, plan.notices))
    return [printable(line) for line in (*lines, *_warning_lines(plan.warnings))]


def _estimate_line(estimate: Estimate, notices: int) -> str:
    def about(seconds: float) -> str:
        return f"{duration(seconds / 2)} to {duration(2 * seconds)}"

    announcement = (
        f"; the announcement takes {about(estimate.announcement)}, and adds {notices:,} rooms" if notices else ""
    )
    return (
        f"Estimate: the drain takes {about(estimate.drain)} at the current response time, and Synapse leaves the local"
        f" rooms in another {about(estimate.background)}{announcement}"
    )


def _warning_lines(warnings: Sequence[PlanWarning]) -> Iterator[str]:
    """A heading, and one line for each topic: what its warnings are about, each followed by what to do."""
    yield "Warnings:" if warnings else "Warnings: none"
    for topic in dict.fromkeys(warning.topic for warning in warnings):
        messages: dict[str, list[str]] = defaultdict(list)
        for warning in warnings:
            if warning.topic == topic:
                messages[warning.advice].append(warning.message)
        parts = (f"{join_names(found, '; ', most=MAX_NAMES_ON_LINE)}. {advice}" for advice, found in messages.items())
        yield f"  {topic}: {'. '.join(parts)}"


def _class(kind: str, states: Mapping[str, int]) -> str:
    return f"{sum(states.values()):,} {kind} ({', '.join(f'{count:,} {state}' for state, count in states.items())})"


def _names(names: Iterable[str]) -> str:
    return join_names([_cut(name, 2 * MAX_ID) for name in names], most=MAX_NAMES_ON_LINE)
