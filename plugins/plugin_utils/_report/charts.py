# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The charts of a certificate: their geometry and their texts. The templates draw them as SVG."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any, Dict, Iterable, Mapping, NamedTuple, Sequence, Tuple

from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import STATES as REMOTE_STATES
from ansible_collections.matrixops.synapse.plugins.module_utils._text import duration, plural

from .schema import Certificate

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 16, 44
LABEL_WIDTH = 70
"""Minimum distance of two labels of an axis."""
LOGARITHMIC_FROM = 7200
"""Span in seconds above which an axis of time is logarithmic: most happens in the first minutes of a week."""
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
LOGARITHMIC_STEPS = ((60, "1 min"), (600, "10 min"), (3600, "1 h"), (6 * 3600, "6 h"), (86400, "1 d"), (604800, "7 d"))
ENDS = {"federated_left_after": "last federated membership", "all_left_after": "last membership"}
"""What ends in a drain, by the key of the seconds until then."""

Point = Tuple[float, float]
Chart = Dict[str, Any]


class Scale:
    """The coordinates of a time and a number in a chart.

    :param span: the longest time, in seconds.
    :param most: the highest number.
    """

    def __init__(self, span: float, most: float) -> None:
        self.span = span or 1
        self.most = most or 1
        self.logarithmic = span > LOGARITHMIC_FROM

    def x(self, seconds: float) -> float:
        """Return where a time is."""
        part = math.log1p(seconds / 60) / math.log1p(self.span / 60) if self.logarithmic else seconds / self.span
        return round(LEFT + part * (WIDTH - LEFT - RIGHT), 2)

    def y(self, value: float) -> float:
        """Return where a number is."""
        return round(HEIGHT - BOTTOM - value / self.most * (HEIGHT - TOP - BOTTOM), 2)

    def time_ticks(self) -> list[dict[str, Any]]:
        """Return the labels of the axis of time, without those that would overlap, or cross the edge."""
        ticks: list[dict[str, Any]] = []
        for at, label in [(float(LEFT), "0"), *((self.x(step), label) for step, label in self._time_steps())]:
            if at <= WIDTH - RIGHT and (not ticks or at - ticks[-1]["at"] >= LABEL_WIDTH):
                align = "end" if at > WIDTH - RIGHT - 30 else "middle"
                ticks.append({"at": at, "label": label, "align": align})
        return ticks

    def _time_steps(self) -> list[tuple[float, str]]:
        if self.logarithmic:
            return [(step, label) for step, label in LOGARITHMIC_STEPS if step <= self.span * 1.001]
        size = next((step for step in STEPS if self.span / step <= 5), STEPS[-1])
        return [(i * size, duration(i * size)) for i in range(1, int(self.span / size + 0.001) + 1)]

    def number_ticks(self) -> list[dict[str, Any]]:
        """Return the labels of the axis of numbers."""
        size = next(
            base * 10**power for power in range(12) for base in (1, 2, 5) if self.most / (base * 10**power) <= 4
        )
        values = range(0, int(self.most) + 1, size)
        return [{"at": self.y(value), "label": short(value)} for value in values]


def short(value: float) -> str:
    """Return a number for the label of an axis: C(20k)."""
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:,}"


def _line(points: Iterable[Point]) -> str:
    return "M" + " L".join(f"{x:g} {y:g}" for x, y in points)


def _area(upper: Sequence[Point], lower: Sequence[Point]) -> str:
    return _line([*upper, *reversed(lower)]) + " Z"


# Accounts


class DrainTimeline(NamedTuple):
    """All drains one after the other. Times are in seconds that were spent draining."""

    points: list[tuple[float, int, int]]
    """The time, and how many accounts were deactivated and had left all rooms by then."""
    starts: list[float]
    """When each drain but the first has started."""
    ends: dict[str, float]
    """When the last membership of a kind has ended."""


def drain_timeline(drains: Sequence[Mapping[str, Any]]) -> DrainTimeline:
    """Return the timelines of drains, each of which begins at zero, as one."""
    timeline = DrainTimeline([], [], {})
    seconds, deactivated, left = 0.0, 0, 0
    for number, drain in enumerate(drains):
        if number:
            timeline.starts.append(seconds)
        timeline.ends.update({what: seconds + drain[key] for key, what in ENDS.items() if drain.get(key) is not None})
        timeline.points.extend((seconds + at, deactivated + int(d), left + int(p)) for at, d, p in drain["timeline"])
        if timeline.points:
            seconds, deactivated, left = timeline.points[-1]
    return timeline


def accounts_chart(certificate: Certificate) -> Chart | None:
    """Return how many accounts were deactivated and had left all rooms, over the time that was spent in drains."""
    points, starts, ends = drain_timeline(certificate.get("drains", []))
    seconds, deactivated, left = points[-1] if points else (0.0, 0, 0)
    if not deactivated and not left:
        return None
    scale = Scale(seconds, max(deactivated, left))
    leaving = [(scale.x(at), scale.y(number)) for at, _deactivated, number in points]
    deactivating = [(scale.x(at), scale.y(number)) for at, number, _left in points]
    rate = f", {left / seconds:.1f} per second" if seconds else ""
    return {
        "id": "accounts",
        "title": "Accounts by state",
        "description": f"After {duration(seconds)} of draining, {plural(deactivated, 'account', 'accounts')} had been"
        f" deactivated, and {left:,} had left all rooms{rate}."
        + "".join(f" The {what} ended after {duration(after)}." for what, after in ends.items()),
        "scale": scale,
        "axis": "time spent draining",
        "areas": [{"kind": "left", "d": _area(leaving, [(x, scale.y(0)) for x, _y in leaving])}],
        "lines": [{"kind": "second", "d": _line(deactivating)}, {"kind": "first", "d": _line(leaving)}],
        "marks": [scale.x(start) for start in starts],
        "tail": None,
        "legend": [("left", "left all rooms"), ("second", "deactivated")],
        "headers": ["seconds", "deactivated", "left all rooms"],
        "rows": points,
    }


# Remote servers


def _edges(points: Sequence[Sequence[float]], end: float, scale: Scale) -> list[list[Point]]:
    """Return the upper edge of each state, from the floor. A state holds until the next check."""
    edges: list[list[Point]] = [[] for _edge in range(len(REMOTE_STATES) + 1)]
    for (at, *numbers), until in zip(points, [*(point[0] for point in points[1:]), end]):
        for edge, height in zip(edges, accumulate(numbers, initial=0.0)):
            edge += [(scale.x(at), scale.y(height)), (scale.x(until), scale.y(height))]
    return edges


def _servers_description(seconds: float, confirmed: int, total: int, tail: str) -> str:
    servers = plural(total, "remote server", "remote servers")
    text = f"After {duration(seconds)}, {confirmed:,} of {servers} had confirmed that no account is joined"
    return f"{text}; {tail}." if confirmed < total else f"{text}."


def servers_chart(certificate: Certificate) -> Chart | None:
    """Return how many remote servers were in which state, over the time since all accounts had left federated rooms."""
    history, remote = certificate.get("propagation", []), certificate.get("remote_servers", {})
    totals = [sum(point[1:]) for point in history]
    if not any(totals) or not remote.get("checked"):
        return None
    start = min(certificate.get("milestones", {}).get("left_federated_rooms", history[0][0]), history[0][0])
    seconds = max(remote["at"], history[-1][0]) - start
    points = [(max(at - start, 0), *numbers) for at, *numbers in history]
    scale = Scale(seconds, max(totals))
    edges = _edges(points, seconds, scale)
    confirmed, total = history[-1][1], totals[-1]
    tail = f"{total - confirmed:,} not confirmed" + ("" if remote["finished"] else " yet")
    tail_at = min(scale.y(confirmed) + 24, HEIGHT - BOTTOM - 8)
    return {
        "id": "servers",
        "title": "Remote servers by state",
        "description": _servers_description(seconds, confirmed, total, tail),
        "scale": scale,
        "axis": "since all accounts had left federated rooms" + (", logarithmic" if scale.logarithmic else ""),
        "areas": [
            {"kind": state, "d": _area(upper, lower)} for state, lower, upper in zip(REMOTE_STATES, edges, edges[1:])
        ],
        "lines": [{"kind": "first", "d": _line(edges[1])}],
        "marks": [],
        "tail": {"at": tail_at, "label": tail} if confirmed < total else None,
        "legend": [(state, state) for state in REMOTE_STATES],
        "headers": ["seconds", *REMOTE_STATES],
        "rows": points,
    }
