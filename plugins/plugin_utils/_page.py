# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The certificate as an HTML page in one file. Its contents are never a template, and always escaped."""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import json
import math
from itertools import accumulate
from typing import Any, Iterable, Sequence

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ._certificate import (
    JOINED_ROOMS,
    REMOTE_STATES,
    ROLE,
    STATES,
    Certificate,
    file_name,
    plural,
    servers_total,
    unconfirmed,
)

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 16, 44
LOGARITHMIC_FROM = 7200
"""Span in seconds above which an axis of time is logarithmic: most happens in the first minutes of a week."""
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
LOGARITHMIC_STEPS = ((60, "1 min"), (600, "10 min"), (3600, "1 h"), (6 * 3600, "6 h"), (86400, "1 d"), (604800, "7 d"))

STAGES = {
    "preflight": "Preflight checks passed",
    "prepare": "Rooms and users prepared",
    "drain": "Accounts deactivated",
    "leave_rooms": "Admins and kept accounts left their rooms",
    "propagate": "Remote servers checked",
    "verify": "Verified that no account is active or joined",
    "power_off": "Host powered off",
}
RESULTS = {
    "started": "not ended",
    "done": "done",
    "waiting": "waiting",
    "failed": "failed",
    "interrupted": "interrupted",
}
LISTS = {
    "handed_over": "Rooms handed over",
    "not_handed_over": "Rooms not handed over",
    "aliases": "Aliases released",
    "demoted": "Rooms in which power was given up",
}


def certificate_page(certificate: Certificate) -> str:
    name = certificate["server"]["name"]
    return render(
        "certificate.html.j2",
        certificate=certificate,
        name=name,
        charts=[chart for chart in (accounts_chart(certificate), servers_chart(certificate)) if chart],
        figures=_figures(certificate),
        json_name=f"{file_name(name)}.json",
    )


def fleet_page(certificates: Sequence[Certificate]) -> str:
    rows = [
        {"certificate": each, "page": f"{file_name(each['server']['name'])}.html", "figures": _figures(each)}
        for each in certificates
    ]
    states = [each["state"] for each in certificates]
    return render("fleet.html.j2", rows=rows, counts={state: states.count(state) for state in STATES})


def render(template: str, **variables: Any) -> str:
    return _environment().get_template(template).render(**variables)


@functools.lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(str(ROLE / "templates")),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(date=date, duration=duration, number=number, cell=cell)
    environment.globals.update(STATES=STATES, STAGES=STAGES, RESULTS=RESULTS, LISTS=LISTS)
    for name, kind in (("style", "css"), ("script", "js")):
        text = (ROLE / f"files/certificate.{kind}").read_text(encoding="utf-8")
        environment.globals.update({name: Markup(text), f"{name}_hash": _hash(text)})  # noqa: S704 - our own
    return environment


def _hash(text: str) -> str:
    """The hash of a script or a style in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# Texts


def visible(value: Any) -> Any:
    """The same with an escape for each character that is invisible or reverses the text after it."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(each if each.isprintable() or each == "\n" else f"\\u{ord(each):04x}" for each in value)


def date(timestamp: int) -> str:
    try:
        moment = datetime.datetime.fromtimestamp(timestamp, datetime.timezone.utc)
    except (ValueError, OverflowError, OSError):
        return str(timestamp)
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def duration(seconds: float) -> str:
    for size, unit, smaller_size, smaller in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if seconds >= size:
            rest = int(seconds % size // smaller_size)
            return f"{int(seconds // size)} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds:.0f} s" if seconds >= 1 or not seconds else f"{seconds:.1f} s"


def number(value: float) -> str:
    return f"{value:,}"


def cell(value: Any) -> str:
    """A value of no known kind in a table."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _figures(certificate: Certificate) -> list[dict[str, str]]:
    """The most important numbers, each with a label."""
    accounts, remote = certificate.get("accounts", {}), certificate.get("remote_servers")
    figures: list[tuple[str, int | str, str]] = []
    if "deactivated" in accounts:
        figures.append(("deactivated", accounts["deactivated"]["total"], "accounts deactivated"))
    elif certificate.get("drains"):
        drain = certificate["drains"][-1]
        figures.append(("deactivated", drain["deactivated"] + drain["unchanged"], "accounts deactivated"))
    figures += [
        ("joined", proof["found"], "accounts still joined")
        for proof in certificate.get("proof", [])
        if proof["read"] == JOINED_ROOMS
    ]
    if remote:
        total, missing = servers_total(remote), unconfirmed(remote)[1]
        figures.append(("confirmed", f"{total - missing:,} / {total:,}", "remote servers confirmed"))
        figures.append(("unconfirmed", missing, "not confirmed"))
    if "handed_over_total" in certificate:
        figures.append(("handed_over", certificate["handed_over_total"], "rooms handed over"))
    figures.append(("failures", sum(stage["failures_total"] for stage in certificate["stages"]), "failures"))
    return [
        {"key": key, "value": value if isinstance(value, str) else number(value), "label": label}
        for key, value, label in figures
    ]


# Charts


class _Scale:
    """The coordinates of a time and a number in a chart."""

    def __init__(self, span: float, most: float) -> None:
        self.span = span or 1
        self.most = most or 1
        self.logarithmic = span > LOGARITHMIC_FROM

    def x(self, seconds: float) -> float:
        part = math.log1p(seconds / 60) / math.log1p(self.span / 60) if self.logarithmic else seconds / self.span
        return round(LEFT + part * (WIDTH - LEFT - RIGHT), 2)

    def y(self, value: float) -> float:
        return round(HEIGHT - BOTTOM - value / self.most * (HEIGHT - TOP - BOTTOM), 2)

    def time_ticks(self) -> list[dict[str, Any]]:
        if self.logarithmic:
            steps = [(step, label) for step, label in LOGARITHMIC_STEPS if step <= self.span * 1.001]
        else:
            size = next((step for step in STEPS if self.span / step <= 5), STEPS[-1])
            steps = [(i * size, duration(i * size)) for i in range(1, int(self.span / size + 0.001) + 1)]
        ticks: list[dict[str, Any]] = [{"at": LEFT, "label": "0"}]
        ticks += [{"at": self.x(step), "label": label} for step, label in steps]
        # Leave out labels that would overlap, or cross the edge.
        kept: list[dict[str, Any]] = []
        for tick in ticks:
            if tick["at"] <= WIDTH - RIGHT and (not kept or tick["at"] - kept[-1]["at"] >= 70):
                kept.append({**tick, "align": "end" if tick["at"] > WIDTH - RIGHT - 30 else "middle"})
        return kept

    def number_ticks(self) -> list[dict[str, Any]]:
        size = next(
            base * 10**power for power in range(12) for base in (1, 2, 5) if self.most / (base * 10**power) <= 4
        )
        values = range(0, int(self.most) + 1, size)
        return [{"at": self.y(value), "label": short(value)} for value in values]


def short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:,}"


def _line(points: Iterable[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x:g} {y:g}" for x, y in points)


def _area(upper: Sequence[tuple[float, float]], lower: Sequence[tuple[float, float]]) -> str:
    return _line([*upper, *reversed(lower)]) + " Z"


def accounts_chart(certificate: Certificate) -> dict[str, Any] | None:
    """How many accounts were deactivated and had left all rooms, over the time that was spent in drains."""
    points: list[tuple[float, int, int]] = []
    begins: list[float] = []
    ends: dict[str, float] = {}
    seconds, deactivated, left = 0.0, 0, 0
    for drain in certificate.get("drains", []):
        begins.append(seconds)
        for key, what in (("federated_left_after", "last federated membership"), ("all_left_after", "last membership")):
            if drain.get(key) is not None:
                ends[what] = seconds + drain[key]
        # The timeline of each drain begins at zero.
        points += [(seconds + at, deactivated + int(d), left + int(p)) for at, d, p in drain["timeline"]]
        seconds, deactivated, left = points[-1] if points else (seconds, deactivated, left)
    if not points or not (deactivated or left):
        return None
    scale = _Scale(seconds, max(deactivated, left))
    leaving = [(scale.x(at), scale.y(p)) for at, _d, p in points]
    deactivating = [(scale.x(at), scale.y(d)) for at, d, _p in points]
    rate = f", {left / seconds:.1f} per second" if seconds else ""
    return {
        "id": "accounts",
        "title": "Accounts deactivated and out of all rooms",
        "description": f"After {duration(seconds)} of draining, {plural(deactivated, 'account', 'accounts')} had been"
        f" deactivated, and {left:,} had left all rooms{rate}."
        + "".join(f" The {what} ended after {duration(after)}." for what, after in ends.items()),
        "scale": scale,
        "axis": "time spent draining",
        "areas": [{"kind": "left", "d": _area(leaving, [(x, scale.y(0)) for x, _y in leaving])}],
        "lines": [{"kind": "second", "d": _line(deactivating)}, {"kind": "first", "d": _line(leaving)}],
        "marks": [scale.x(begin) for begin in begins[1:]],
        "tail": None,
        "legend": [("left", "has left all rooms"), ("second", "is deactivated")],
        "headers": ["seconds", "deactivated", "left all rooms"],
        "rows": points,
    }


def servers_chart(certificate: Certificate) -> dict[str, Any] | None:
    """How many remote servers were in which state, over the time since all accounts had left federated rooms."""
    history, remote = certificate.get("propagation", []), certificate.get("remote_servers", {})
    totals = [sum(point[1:]) for point in history]
    if not history or not max(totals) or not remote.get("checked"):
        return None
    start = min(certificate.get("milestones", {}).get("left_federated_rooms", history[0][0]), history[0][0])
    end = max(remote["at"], history[-1][0])
    points = [(max(at - start, 0), *numbers) for at, *numbers in history]
    scale = _Scale(end - start, max(totals))
    # The upper edge of each state, from the floor. A state holds until the next check.
    edges: list[list[tuple[float, float]]] = [[] for _edge in range(len(REMOTE_STATES) + 1)]
    for (at, *numbers), until in zip(points, [point[0] for point in points[1:]] + [end - start]):
        for edge, height in zip(edges, accumulate(numbers, initial=0)):
            edge += [(scale.x(at), scale.y(height)), (scale.x(until), scale.y(height))]
    confirmed = history[-1][1]
    missing = totals[-1] - confirmed
    tail = f"{missing:,} not confirmed" + ("" if remote["finished"] else " yet")
    return {
        "id": "servers",
        "title": "Remote servers by state",
        "description": f"After {duration(end - start)}, {confirmed:,} of"
        f" {plural(totals[-1], 'remote server', 'remote servers')} had confirmed that no account is joined"
        + (f"; {tail}." if missing else "."),
        "scale": scale,
        "axis": "since all accounts had left federated rooms" + (", logarithmic" if scale.logarithmic else ""),
        "areas": [
            {"kind": state, "d": _area(upper, lower)} for state, lower, upper in zip(REMOTE_STATES, edges, edges[1:])
        ],
        "lines": [{"kind": "first", "d": _line(edges[1])}],
        "marks": [],
        "tail": {"at": min(scale.y(confirmed) + 24, HEIGHT - BOTTOM - 8), "label": tail} if missing else None,
        "legend": [(state, state) for state in REMOTE_STATES],
        "headers": ["seconds", *REMOTE_STATES],
        "rows": points,
    }
