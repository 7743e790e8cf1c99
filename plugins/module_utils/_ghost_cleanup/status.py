# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the service has heard and done: as JSON, as a page, and as metrics of Prometheus. All times are in seconds since
1970."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from html import escape
from typing import Any, Iterator, Mapping, NamedTuple

from .._federation.checks import STATES
from .._federation.names import is_server_name
from .._text import date, duration, plural, printable

WAITING = "waiting"
"""State of a server that was not asked yet. The others are C(checks.STATES)."""
MAX_LABELS = 100
"""Maximum number of servers in the metrics."""
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "matrix_ghost_cleanup"
REFRESH = 30
"""Seconds after which a browser loads the page again."""
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid #8886; padding: .3em .8em .3em 0; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
td { overflow-wrap: anywhere; }
.next { border-left: .3em solid #888; padding-left: 1em; }
"""


class Heard(NamedTuple):
    """One room that a verified request names. All IDs are valid.

    :ivar event_ids: events of the room that the remote server has: I(prev_events) of its events. May be empty.
    :ivar pending: local accounts that the request invites.
    """

    room_id: str
    event_ids: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServerStatus:
    """One remote server.

    :ivar rooms: rooms that are shared with it, of which I(confirmed) are confirmed.
    :ivar ghosts: local accounts that it still lists, in all rooms.
    :ivar removed: those that were removed on it.
    :ivar state: the worst of its rooms: one of C(checks.STATES), or C(WAITING).
    :ivar reason: why it is not confirmed. May quote the remote server.
    :ivar woken: when a signed request was last sent to it and answered.
    :ivar heard: when a verified request of it last came.
    """

    server: str
    rooms: int
    confirmed: int
    ghosts: int
    removed: int
    state: str
    reason: str
    woken: int | None
    heard: int | None


@dataclass(frozen=True)
class Status:
    """The service as a whole.

    :ivar problem: why nothing is sent yet. Empty if all is well.
    :ivar servers: at most 1,000, the worst first. I(servers_total) counts all.
    :ivar pairs: pairs of server and room by state.
    :ivar ghosts: accounts that a server still lists, counted once for each room and server.
    :ivar transactions: verified requests of remote servers; I(rejected) those that were not verified.
    :ivar dropped: what verified requests named and did not fit into the queues.
    :ivar requests: requests that were sent to remote servers.
    :ivar last_ghost: when a ghost was last seen.
    :ivar last_heard: when a verified request last came.
    :ivar can_be_replaced: whether a static key answer is enough from now on.
    """

    server_name: str
    key_id: str
    started: int
    now: int
    problem: str
    servers: tuple[ServerStatus, ...]
    servers_total: int
    rooms_total: int
    pairs: Mapping[str, int]
    ghosts: int
    removed: int
    transactions: int
    rejected: int
    dropped: int
    requests: int
    last_ghost: int | None
    last_heard: int | None
    can_be_replaced: bool


def to_json(status: Status) -> dict[str, Any]:
    """Return the status as JSON, with the names of the attributes."""
    return asdict(replace(status, pairs=dict(status.pairs)))


def next_step(status: Status) -> str:
    """Return what to do now."""
    if status.problem:
        return f"Nothing is sent yet: {status.problem}"
    if status.can_be_replaced:
        return (
            "No ghost was seen for a long time: this service can be replaced by a static answer to"
            " /_matrix/key/v2/server, which must stay."
        )
    if status.ghosts:
        return "Nothing to do: the service removes the ghosts that are left. Servers that refuse have the reason below."
    waiting = sum(status.pairs.get(state, 0) for state in (WAITING, "unreachable", "unconfirmed"))
    if waiting:
        return "Nothing to do: the service asks servers that have not confirmed yet again."
    return "Nothing to do: keep the service running for rooms that were quiet so far."


def to_html(status: Status) -> str:
    """Return the status as a page, without scripts."""
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta http-equiv="refresh"'
        f' content="{REFRESH}"><title>{_text(status.server_name)}: {status.ghosts:,} ghosts left</title>'
    )
    rows = "".join(f"<tr><th scope=row>{_text(name)}<td>{_text(value)}" for name, value in _summary(status))
    names = ("Server", "State", "Rooms", "Confirmed", "Ghosts left", "Removed", "Last heard", "Reason")
    columns = "".join(f"<th scope=col>{name}" for name in names)
    servers = "".join(_row(server, status.now) for server in status.servers)
    more = status.servers_total - len(status.servers)
    return (
        f"<!DOCTYPE html><html lang=en><head>{head}<style>{STYLE}</style></head><body>"
        f"<h1>Ghosts of {_text(status.server_name)}</h1><p class=next>{_text(next_step(status))}</p>"
        f"<table>{rows}</table><h2>Servers</h2><table><thead><tr>{columns}</thead><tbody>{servers}</tbody></table>"
        + (f"<p>{more:,} more servers are not shown.</p>" if more > 0 else "")
        + "</body></html>\n"
    )


def _summary(status: Status) -> Iterator[tuple[str, str]]:
    """Yield the names and values of the table about the service."""
    yield "Ghosts left", f"{status.ghosts:,}"
    yield "Ghosts removed", f"{status.removed:,}"
    yield "Last ghost seen", _ago(status.last_ghost, status.now)
    yield "Last heard of a server", _ago(status.last_heard, status.now)
    yield "Servers and rooms", f"{plural(status.servers_total, 'server', 'servers')} in {status.rooms_total:,} rooms"
    yield "Checks", ", ".join(f"{status.pairs[state]:,} {state}" for state in status.pairs) or "none"
    yield "Requests", f"{status.requests:,} sent, {status.transactions:,} verified, {status.rejected:,} rejected"
    if status.dropped:
        yield "Dropped", f"{status.dropped:,} hints, because the queues were full"
    yield "Running since", date(status.started)
    yield "Signing key", status.key_id


def _row(server: ServerStatus, now: int) -> str:
    numbers = (server.rooms, server.confirmed, server.ghosts, server.removed)
    return (
        f"<tr><th scope=row>{_text(server.server)}<td>{_text(server.state)}"
        + "".join(f"<td class=number>{number:,}" for number in numbers)
        + f"<td>{_text(_ago(server.heard, now))}<td>{_text(server.reason)}"
    )


def _ago(then: int | None, now: int) -> str:
    return "never" if then is None else f"{duration(now - then)} ago"


def _text(text: str) -> str:
    return escape(printable(text))


def to_metrics(status: Status) -> str:
    """Return the status in the text format of Prometheus (version 0.0.4)."""
    return "".join(f"{line}\n" for line in _metrics(status))


def _metrics(status: Status) -> Iterator[str]:
    yield from _metric(
        "info",
        "gauge",
        "The server name and the key ID",
        {_labels(server_name=status.server_name, key_id=status.key_id): 1},
    )
    for name, kind, about, value in (
        ("start_time_seconds", "gauge", "Start of the service in seconds since 1970", status.started),
        ("ready", "gauge", "Whether the self-test has succeeded, so that requests are sent", int(not status.problem)),
        ("can_be_replaced", "gauge", "Whether a static key answer is enough from now on", int(status.can_be_replaced)),
        ("servers", "gauge", "Remote servers that are known", status.servers_total),
        ("rooms", "gauge", "Rooms that are known", status.rooms_total),
        ("ghosts", "gauge", "Ghosts that remote servers still list", status.ghosts),
        ("ghosts_removed_total", "counter", "Ghosts that were removed", status.removed),
        ("transactions_total", "counter", "Verified requests of remote servers", status.transactions),
        ("rejected_total", "counter", "Requests of remote servers that were not verified", status.rejected),
        ("dropped_total", "counter", "Hints of remote servers that did not fit into the queues", status.dropped),
        ("requests_total", "counter", "Requests that were sent to remote servers", status.requests),
        ("last_ghost_timestamp_seconds", "gauge", "When a ghost was last seen, 0 if never", status.last_ghost or 0),
        ("last_heard_timestamp_seconds", "gauge", "When a server was last heard, 0 if never", status.last_heard or 0),
    ):
        yield from _metric(name, kind, about, {"": value})
    pairs = {_labels(state=state): status.pairs.get(state, 0) for state in (*STATES, WAITING)}
    yield from _metric("pairs", "gauge", "Pairs of remote server and room by state", pairs)
    # Labels are for ever in the memory of Prometheus, and servers choose their names.
    worst = [server for server in status.servers if is_server_name(server.server)][:MAX_LABELS]
    for name, about, values in (
        ("server_ghosts", "Ghosts that a remote server still lists", [server.ghosts for server in worst]),
        ("server_rooms", "Rooms that are shared with a remote server", [server.rooms for server in worst]),
        ("server_confirmed_rooms", "Rooms that a remote server has confirmed", [each.confirmed for each in worst]),
    ):
        by_server = {_labels(server=server.server): value for server, value in zip(worst, values)}
        yield from _metric(name, "gauge", f"{about}, for the {MAX_LABELS} worst servers", by_server)


def _metric(name: str, kind: str, about: str, values: Mapping[str, int]) -> Iterator[str]:
    """Yield the lines of a metric.

    :param values: values by labels.
    """
    yield f"# HELP {PREFIX}_{name} {about}."
    yield f"# TYPE {PREFIX}_{name} {kind}"
    for labels, value in values.items():
        yield f"{PREFIX}_{name}{labels} {value}"


def _labels(**labels: str) -> str:
    escaped = ((name, printable(value).replace("\\", "\\\\").replace('"', '\\"')) for name, value in labels.items())
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
