# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates as HTML pages, each in one file. Their contents are never a template, and always escaped."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from typing import Any, Sequence

from ansible_collections.matrixops.synapse.plugins.module_utils._text import date, duration, printable
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .charts import accounts_chart, servers_chart
from .files import file_name
from .schema import ROLE, Certificate
from .state import STATES, is_off_verified
from .summary import figures, servers_total, title, unconfirmed

STAGES = {
    "preflight": "Preflight checks passed",
    "prepare": "Rooms and users prepared",
    "drain": "Accounts deactivated",
    "leave_rooms": "Admins and kept accounts left their rooms",
    "propagate": "Remote servers checked",
    "verify": "Verified that no account is active or joined",
    "power_off": "Powered off",
}
RESULTS = {
    "started": "not ended",
    "done": "done",
    "partial": "done, with exceptions",
    "waiting": "waiting",
    "failed": "failed",
    "interrupted": "interrupted",
}
LISTS = {
    "handed_over": "Rooms handed over",
    "not_handed_over": "Rooms not handed over",
    "aliases": "Released aliases",
    "demoted": "Rooms in which accounts were demoted",
}


def certificate_page(certificate: Certificate) -> str:
    """Return the page of one certificate."""
    name = certificate["server"]["name"]
    return render(
        "certificate.html.j2",
        certificate=certificate,
        name=name,
        charts=[chart for chart in (accounts_chart(certificate), servers_chart(certificate)) if chart],
        figures=figures(certificate),
        json_name=f"{file_name(name)}.json",
    )


def stage_state(certificate: Certificate, stage: dict[str, Any]) -> str:
    """Return the result of a stage's last attempt, or C(partial) if that is C(done), but not for all it is about."""
    result = str(stage["attempts"][-1]["result"])
    complete = not stage["failures_total"]
    if stage["stage"] == "propagate":
        complete = complete and not unconfirmed(certificate["remote_servers"])[1] if _remote(certificate) else complete
    elif stage["stage"] == "power_off":
        complete = complete and is_off_verified(certificate)
    return "partial" if result == "done" and not complete else result


def stage_title(certificate: Certificate, stage: dict[str, Any]) -> str:
    """Return what a stage that is done has done, or else its name."""
    name, remote = stage["stage"], _remote(certificate)
    if stage["attempts"][-1]["result"] != "done" or name not in STAGES:
        return str(name).replace("_", " ").capitalize()
    if name != "propagate" or not remote:
        return STAGES[name]
    if not remote["checked"]:
        return "Remote servers not checked"
    total, missing = servers_total(remote), unconfirmed(remote)[1]
    return f"{STAGES[name]}: {total - missing:,} of {total:,} confirmed"


def seal_class(certificate: Certificate) -> str:
    """Return the classes of the seal, which is not that of success if there is a finding."""
    return f"{certificate['state']} {'qualified' if certificate['findings'] else ''}".strip()


def _remote(certificate: Certificate) -> dict[str, Any]:
    remote: dict[str, Any] = certificate.get("remote_servers", {})
    return remote


def fleet_page(certificates: Sequence[Certificate]) -> str:
    """Return the overview of several certificates."""
    rows = [
        {"certificate": each, "page": f"{file_name(each['server']['name'])}.html", "figures": figures(each)}
        for each in certificates
    ]
    states = [each["state"] for each in certificates]
    return render("fleet.html.j2", rows=rows, counts={state: states.count(state) for state in STATES})


def render(template: str, **variables: Any) -> str:
    """Return one of the role's templates with I(variables) in it, escaped for HTML."""
    return _environment().get_template(template).render(**variables)


@functools.lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(str(ROLE / "templates")),
        autoescape=True,
        finalize=_printable_lines,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(date=date, duration=duration, number=number, cell=cell)
    environment.globals.update(STATES=STATES, RESULTS=RESULTS, LISTS=LISTS)
    environment.globals.update(title=title, seal_class=seal_class, stage_state=stage_state, stage_title=stage_title)
    for name, kind in (("style", "css"), ("script", "js")):
        text = (ROLE / f"files/certificate.{kind}").read_text(encoding="utf-8")
        environment.globals.update({name: Markup(text), f"{name}_hash": _hash(text)})  # noqa: S704 - our own
    return environment


def _hash(text: str) -> str:
    """Return the hash of a script or a style for a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _printable_lines(value: Any) -> Any:
    """Return a text with escapes for characters that a browser hides or obeys, but for the ends of its lines."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\n".join(printable(line) for line in value.split("\n"))


def number(value: float) -> str:
    """Return a number with separators of thousands."""
    return f"{value:,}"


def cell(value: Any) -> str:
    """Return a value of any kind for a table."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
