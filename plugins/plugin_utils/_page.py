# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The certificate as a page of HTML, of one file. What is in it is never a template, and always escaped."""

from __future__ import annotations

import base64
import datetime
import functools
import hashlib
import json
import math
from typing import Any, Iterable, Sequence

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ._certificate import ROLE, Certificate, file_name, plural

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 16, 44
LOGARITHMIC_FROM = 7200
"""From how many seconds on an axis of time is logarithmic: most happens in the first minutes, the rest takes a week."""
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
LOGARITHMIC_STEPS = ((60, "1 min"), (600, "10 min"), (3600, "1 h"), (6 * 3600, "6 h"), (86400, "1 d"), (604800, "7 d"))

STATES = {
    "begun": ("Not finished", "It has begun, and was not gone through to its end."),
    "waiting": ("Waiting", "Other servers are given time to hear that everybody has left."),
    "failed": ("Failed", "A stage could not be gone through. The host stays on until it is run again."),
    "verified": ("Verified", "Everybody has left, and the host is still on."),
    "powered_off": ("Retired", "Everybody has left, and the host was powered off."),
}
STAGES = {
    "preflight": "The server was looked at",
    "prepare": "Rooms and people were prepared",
    "drain": "Accounts were closed, and left their rooms",
    "leave_rooms": "Admins left their rooms",
    "propagate": "Other servers were told",
    "verify": "It was proven that nobody is left",
    "power_off": "The host was powered off",
}
RESULTS = {
    "started": "not ended",
    "done": "done",
    "waiting": "not due yet",
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
    """What a policy of contents calls a script or a style by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# Words


def visible(value: Any) -> Any:
    """The same with a code for each character that can't be seen, or would turn around what comes after it."""
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
    """The numbers that matter most, with what they are."""
    accounts, ledger = certificate.get("accounts", {}), certificate.get("ledger")
    figures = []
    if "closed" in accounts:
        figures.append({"key": "closed", "value": number(accounts["closed"]["total"]), "label": "accounts closed"})
    elif certificate.get("drains"):
        closed = certificate["drains"][-1]["deactivated"] + certificate["drains"][-1]["unchanged"]
        figures.append({"key": "closed", "value": number(closed), "label": "accounts closed"})
    proofs = [proof for proof in certificate.get("proof", []) if "joined" in proof["claim"]]
    if proofs:
        figures.append({"key": "in_rooms", "value": number(proofs[0]["found"]), "label": "of them left in a room"})
    if ledger:
        summary = ledger["summary"]
        told = f"{number(summary.get('delivered', 0))} / {number(summary.get('total', 0))}"
        figures.append({"key": "told", "value": told, "label": "other servers told"})
        label = "never told" if ledger["finished"] else "not told yet"
        figures.append({"key": "not_told", "value": number(ledger["destinations_total"]), "label": label})
    if "handed_over_total" in certificate:
        handed = number(certificate["handed_over_total"])
        figures.append({"key": "handed_over", "value": handed, "label": "rooms handed over"})
    failures = sum(stage["failures_total"] for stage in certificate["stages"])
    figures.append({"key": "failures", "value": number(failures), "label": "failures"})
    return figures


# Charts


class _Scale:
    """Where in a chart a time and a number are."""

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
        # Labels that would run into the edge, or into each other.
        kept: list[dict[str, Any]] = []
        for tick in ticks:
            if tick["at"] <= WIDTH - RIGHT and (not kept or tick["at"] - kept[-1]["at"] >= 70):
                kept.append({**tick, "anchor": "end" if tick["at"] > WIDTH - RIGHT - 30 else "middle"})
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
    """How many accounts were deactivated and had parted, over the time that was spent in drains."""
    points: list[tuple[float, int, int]] = []
    begins: list[float] = []
    seconds, deactivated, parted = 0.0, 0, 0
    for drain in certificate.get("drains", []):
        begins.append(seconds)
        # Each begins at nothing.
        points += [(seconds + at, deactivated + int(d), parted + int(p)) for at, d, p in drain["timeline"]]
        seconds, deactivated, parted = points[-1] if points else (seconds, deactivated, parted)
    if not points or not (deactivated or parted):
        return None
    scale = _Scale(seconds, max(deactivated, parted))
    parting = [(scale.x(at), scale.y(p)) for at, _d, p in points]
    closing = [(scale.x(at), scale.y(d)) for at, d, _p in points]
    floor = [(x, scale.y(0)) for x, _y in parting]
    rate = f", {parted / seconds:.1f} per second" if seconds else ""
    return {
        "id": "accounts",
        "title": "Accounts out of every room",
        "description": f"After {duration(seconds)} of draining, {plural(deactivated, 'account', 'accounts')} had been"
        f" deactivated, and {parted:,} had been seen to have left every room{rate}.",
        "scale": scale,
        "axis": "time spent draining",
        "areas": [{"kind": "told", "d": _area(parting, floor)}],
        "lines": [{"kind": "second", "d": _line(closing)}, {"kind": "first", "d": _line(parting)}],
        "marks": [scale.x(begin) for begin in begins[1:]],
        "tail": None,
        "legend": [("told", "has left every room"), ("second", "is deactivated")],
        "headers": ["seconds", "deactivated", "left every room"],
        "rows": points,
    }


def servers_chart(certificate: Certificate) -> dict[str, Any] | None:
    """How many destinations had been told, and the tail of those that had not, over the time since the first wave."""
    history = certificate.get("propagation", [])
    totals = [sum(point[1:5]) for point in history]
    if not history or not max(totals):
        return None
    start = min(certificate.get("milestones", {}).get("first_wave_ended", history[0][0]), history[0][0])
    end = max(certificate.get("ledger", {}).get("at", 0), history[-1][0])
    points = [(max(at - start, 0), *numbers) for at, *numbers in history]
    scale = _Scale(end - start, max(totals))
    told: list[tuple[float, float]] = []
    answering: list[tuple[float, float]] = []
    everybody: list[tuple[float, float]] = []
    # What was seen stands until the next look.
    for (at, delivered, pending, unreachable, unknown, _anchored), until in zip(
        points, [point[0] for point in points[1:]] + [end - start]
    ):
        total = delivered + pending + unreachable + unknown
        for x in (scale.x(at), scale.x(until)):
            told.append((x, scale.y(delivered)))
            answering.append((x, scale.y(total - unreachable)))
            everybody.append((x, scale.y(total)))
    floor = [(x, scale.y(0)) for x, _y in told]
    _at, delivered, pending, unreachable, unknown, _anchored = points[-1]
    not_told = totals[-1] - delivered
    never = "never" if certificate.get("ledger", {}).get("finished") else "not yet"
    tail = f" {not_told:,} {'was' if not_told == 1 else 'were'} {never} told." if not_told else ""
    return {
        "id": "servers",
        "title": "Other servers told",
        "description": f"After {duration(end - start)}, {delivered:,} of {plural(totals[-1], 'server', 'servers')} had"
        f" been told that everybody has left.{tail}",
        "scale": scale,
        "axis": "since everybody but the anchors had left" + (", logarithmic" if scale.logarithmic else ""),
        "areas": [
            {"kind": "told", "d": _area(told, floor)},
            {"kind": "pending", "d": _area(answering, told)},
            {"kind": "unreachable", "d": _area(everybody, answering)},
        ],
        "lines": [{"kind": "first", "d": _line(told)}],
        "marks": [],
        "tail": {"at": min(scale.y(delivered) + 24, HEIGHT - BOTTOM - 8), "label": f"{not_told:,} {never} told"}
        if not_told
        else None,
        "legend": [("told", "told"), ("pending", "not told yet, or not known"), ("unreachable", "can't be reached")],
        "headers": ["seconds", "told", "pending", "unreachable", "unknown", "anchored rooms"],
        "rows": points,
    }
