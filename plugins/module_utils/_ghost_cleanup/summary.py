# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parts of the status that are read from the state file."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Iterable, Mapping, NamedTuple, TypedDict

from .status import WAITING, ServerStatus
from .store import UP, Rows, Store

WORST_FIRST = ("ghosts", "unconfirmed", "unreachable", "refused", WAITING, "confirmed")
SETTLED = ("confirmed", "refused")
"""States in which nothing more can be done, unless something changes on the remote server."""
MAX_SERVERS = 1000
"""Maximum number of servers in the status."""


class Summary(TypedDict):
    """See the fields of C(Status) with the same names."""

    servers: tuple[ServerStatus, ...]
    servers_total: int
    rooms_total: int
    pairs: Mapping[str, int]
    ghosts: int
    removed: int
    last_ghost: int | None
    last_heard: int | None
    can_be_replaced: bool


class _Sums(NamedTuple):
    """The pairs of one server."""

    pairs: Counter[str]
    ghosts: int
    removed: int


def summarize(store: Store, now: float, quiet: float) -> Summary:
    """Return the state of all servers and pairs.

    :param quiet: seconds without a ghost after which a static key answer is enough.
    """
    rows = store.read()
    sums = _sums(rows)
    servers = []
    pairs: Counter[str] = Counter()
    is_settled = True
    for number, name, state, reason, failing_since, woken, heard in rows.servers:
        found = sums.get(number, _Sums(Counter(), 0, 0))
        counted = _with_state_of_server(found.pairs, state)
        pairs.update(counted)
        worst = _worst(counted, state)
        is_long_gone = failing_since is not None and now - failing_since >= quiet
        is_settled &= is_long_gone or not set(counted).difference(SETTLED)
        servers.append(
            (
                WORST_FIRST.index(worst),
                -found.ghosts,
                name,
                number,
                ServerStatus(
                    server=name,
                    rooms=sum(counted.values()),
                    confirmed=counted["confirmed"],
                    ghosts=found.ghosts,
                    removed=found.removed,
                    state=worst,
                    reason=reason,
                    woken=_seconds(woken),
                    heard=_seconds(heard),
                ),
            )
        )
    last_ghost = _seconds(rows.meta.get("last_ghost"))
    quiet_since = max(last_ghost or 0, float(rows.meta.get("created", now)))
    return Summary(
        servers=tuple(_with_reason(store, number, server) for *_order, number, server in sorted(servers)[:MAX_SERVERS]),
        servers_total=len(servers),
        rooms_total=rows.rooms,
        pairs=dict(pairs),
        ghosts=sum(found.ghosts for found in sums.values()),
        removed=sum(found.removed for found in sums.values()),
        last_ghost=last_ghost,
        last_heard=_latest(heard for *_values, heard in rows.servers),
        can_be_replaced=is_settled and now - quiet_since >= quiet,
    )


def _sums(rows: Rows) -> dict[int, _Sums]:
    found: defaultdict[int, list[tuple[str, int, int, int]]] = defaultdict(list)
    for number, state, pairs, ghosts, removed in rows.counts:
        found[number].append((state, pairs, ghosts, removed))
    return {
        number: _Sums(
            Counter({state: pairs for state, pairs, _ghosts, _removed in counts}),
            sum(ghosts for _state, _pairs, ghosts, _removed in counts),
            sum(removed for _state, _pairs, _ghosts, removed in counts),
        )
        for number, counts in found.items()
    }


def _with_state_of_server(pairs: Counter[str], state: str) -> Counter[str]:
    """Return the pairs by state: with a server that does not answer, all that are not confirmed are unreachable."""
    if state in (UP, WAITING):
        return pairs
    counted = Counter({"confirmed": pairs["confirmed"], state: sum(pairs.values()) - pairs["confirmed"]})
    return Counter({name: number for name, number in counted.items() if number})


def _worst(pairs: Counter[str], state: str) -> str:
    found = [name for name in WORST_FIRST if pairs[name]]
    if found:
        return found[0]
    return WAITING if state == UP else state


def _with_reason(store: Store, number: int, server: ServerStatus) -> ServerStatus:
    if server.reason or server.state in ("confirmed", WAITING):
        return server
    return ServerStatus(**{**vars(server), "reason": store.reason(number, server.state)})


def _seconds(time: float | str | None) -> int | None:
    return None if time is None else int(float(time))


def _latest(times: Iterable[float | None]) -> int | None:
    return _seconds(max((time for time in times if time is not None), default=None))
