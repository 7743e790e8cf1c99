# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What C(synapse_propagation) returns, made from the record: states, counts and lines for the terminal."""

from __future__ import annotations

from collections import Counter
from heapq import nsmallest
from itertools import islice
from typing import Any, Collection, Iterable, Mapping

from .._federation.checks import STATES
from .._synapse.answer import JsonDict
from .._text import date, plural, printable
from .idle_parts import describe as describe_idle_parts
from .record import UNCHECKED, RecordedResult, RecordedRoom, Retry

SEVERITY = ("ghosts", "refused", "unreachable", "unconfirmed", "confirmed")
"""The states of a pair, worst first. The state of a server is the worst one of its pairs."""
STATE_TEXTS = {
    "ghosts": "lists accounts",
    "refused": "refused",
    "unreachable": "unreachable",
    "unconfirmed": "unconfirmed",
}
MAX_SERVERS = 1000
"""Maximum number of servers or rooms in a list of the result."""
MAX_ROOMS = 5
"""Maximum number of rooms of a server in the result."""
MAX_NAMES = 10
"""Maximum number of servers or accounts of a room in the result."""
MAX_REASON_IN_TEXT = 80
"""Maximum length of a remote server's reason in a line for the terminal, in characters."""

Rooms = Mapping[str, RecordedResult]
"""The recorded results of one server, by room ID."""


def severity(recorded: RecordedResult) -> int:
    return SEVERITY.index(recorded.state or "unconfirmed")


def state_of(rooms: Rooms) -> str:
    """Return the state of a server: the worst one of its rooms."""
    return SEVERITY[min(map(severity, rooms.values()))]


def worst_rooms(rooms: Rooms) -> list[tuple[str, RecordedResult]]:
    """Return the first C(MAX_ROOMS) rooms that are not confirmed, worst first."""
    unconfirmed = ((severity(found), room_id) for room_id, found in rooms.items() if found.state != "confirmed")
    return [(room_id, rooms[room_id]) for _severity, room_id in nsmallest(MAX_ROOMS, unconfirmed)]


def server_row(
    server: str, rooms: Rooms, retry: Retry | None, *, unchecked: str, can_kick: Mapping[str, list[str]]
) -> JsonDict:
    """Return what the module returns of one remote server.

    :param unchecked: the reason of rooms that were not checked.
    :param can_kick: the accounts that can kick others, by room ID.
    """
    open_rooms = [
        _room_row(room_id, found, unchecked, can_kick.get(room_id, [])) for room_id, found in worst_rooms(rooms)
    ]
    counts = Counter(found.state or "unconfirmed" for found in rooms.values())
    open_total = len(rooms) - counts["confirmed"]
    row = {
        "server": server,
        "state": state_of(rooms),
        "rooms": len(rooms),
        "confirmed_rooms": counts["confirmed"],
        "removed": sum(found.removed for found in rooms.values()),
        "confirmed_at": None if open_total else max((found.time for found in rooms.values()), default=None),
        "unreachable_since": None if retry is None else retry.unreachable_since,
        # The first one is the worst.
        "reason": open_rooms[0]["reason"] if open_rooms else "",
        "open_rooms": open_rooms,
        "open_rooms_total": open_total,
    }
    return {**row, "text": describe(row, counts)}


def _room_row(room_id: str, recorded: RecordedResult, unchecked: str, can_kick: list[str]) -> JsonDict:
    return {
        "room_id": room_id,
        "state": recorded.state or "unconfirmed",
        "reason": unchecked if recorded.state == UNCHECKED else printable(recorded.reason),
        "ghosts": recorded.ghosts,
        "can_kick": can_kick,
    }


def describe(row: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    """Return a line about a remote server: C(b.example: ghosts removed (12); confirmed, 10 of 10 rooms).

    :param row: as in the result.
    :param counts: how many rooms there are by state.
    """
    parts = [f"ghosts removed ({row['removed']:,})"] if row["removed"] else []
    parts += [_describe_state(row, state, counts[state]) for state in STATE_TEXTS if counts[state]]
    parts.append(f"confirmed, {row['confirmed_rooms']:,} of {plural(row['rooms'], 'room', 'rooms')}")
    return printable(f"{row['server']}: {'; '.join(parts)}")


def _describe_state(row: Mapping[str, Any], state: str, count: int) -> str:
    """Return in how many rooms a server has a state, and the reason in one of them."""
    text = f"{STATE_TEXTS[state]} in {plural(count, 'room', 'rooms')}"
    if state == "unreachable" and row["unreachable_since"]:
        text += f" since {date(row['unreachable_since'])}"
    example = next((room for room in row["open_rooms"] if room["state"] == state), None)
    if example is None:
        return text
    if example["reason"]:
        text += f": {_shortened(example['reason'])}"
    return text + (f" (can be kicked by {', '.join(example['can_kick'])})" if example["can_kick"] else "")


def _shortened(reason: str) -> str:
    return reason if len(reason) <= MAX_REASON_IN_TEXT else f"{reason[: MAX_REASON_IN_TEXT - 1]}…"


def summary_of(states: Mapping[str, str], by_server: Mapping[str, Rooms], ignored: Collection[str]) -> JsonDict:
    """Return the numbers of servers by state, of pairs, and of removed ghosts.

    :param states: by server, without those that are ignored.
    """
    counts = Counter(states.values())
    pairs = [found for server in states for found in by_server[server].values()]
    return {
        "servers": len(states),
        **{state: counts[state] for state in STATES},
        "ignored": len(ignored),
        "pairs": len(pairs),
        "pairs_confirmed": sum(found.state == "confirmed" for found in pairs),
        "removed": sum(found.removed for found in pairs),
    }


def broken_rooms_of(rooms: Mapping[str, RecordedRoom], ignore: Collection[str]) -> list[JsonDict]:
    """Return the rooms that could not be left here, with the servers in them."""
    broken = ((room_id, room) for room_id, room in sorted(rooms.items()) if room.broken)
    return [
        {
            "room_id": room_id,
            "reason": printable(room.broken),
            "servers": _first(server for server in room.servers if server not in ignore),
            "not_confirmed_by": _first(
                server for server, found in room.servers.items() if found.state != "confirmed" and server not in ignore
            ),
        }
        for room_id, room in islice(broken, MAX_SERVERS)
    ]


def _first(names: Iterable[str]) -> list[str]:
    return sorted(names)[:MAX_NAMES]


def message(result: Mapping[str, Any]) -> str:
    """Return the result of a poll in one line."""
    summary = result["summary"]
    parts = [f"{summary['confirmed']:,} of {summary['servers']:,} remote servers confirmed"]
    parts += [f"{summary[state]:,} {state}" for state in SEVERITY[1:-1] if summary[state]]
    endings = {"ghosts": "with ghosts", "removed": "ghosts removed", "ignored": "ignored"}
    parts += [f"{summary[key]:,} {text}" for key, text in endings.items() if summary[key]]
    if not result["finished"]:
        parts.append(f"the propagation period ends {date(result['ends'])}")
    parts += describe_idle_parts(result["not_sent_to"], result["stale_rooms"])
    return "; ".join(parts)
