# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The most important numbers of a certificate: in one line, and as figures of a page."""

from __future__ import annotations

from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import STATES as REMOTE_STATES
from ansible_collections.matrixops.synapse.plugins.module_utils._text import join_names, plural, printable

from .schema import Certificate
from .state import STATES, is_finished, is_off_verified

MAX_NAMES = 5
"""Maximum number of names in one text: a finding or a summary is read at a glance, and the tables have the others."""
USERS = "GET /_synapse/admin/v2/users"
JOINED_ROOMS = "GET /_synapse/admin/v1/users/<user_id>/joined_rooms"
ROOMS = "GET /_synapse/admin/v1/rooms"
REMOTE_CHECKS = "GET /_matrix/federation/v1/state_ids, make_leave"


class Figure(NamedTuple):
    """One number of a page, with its label."""

    key: str
    value: str
    label: str


def some_of(names: Sequence[str], total: int) -> str:
    """Return the first of I(total) names, of which I(names) may have only some."""
    return join_names(names, most=MAX_NAMES, total=total)


def servers_total(remote: Mapping[str, Any]) -> int:
    """Return the number of remote servers, without those that are ignored."""
    return sum(remote["summary"].get(state, 0) for state in REMOTE_STATES)


def unconfirmed(remote: Mapping[str, Any]) -> tuple[list[str], int]:
    """Return the names of servers that have not confirmed, at most as many as are listed, and their number."""
    names = [row["server"] for row in remote["servers"] if row["state"] != "confirmed"]
    return names, servers_total(remote) - remote["summary"].get("confirmed", 0)


def title(certificate: Certificate) -> str:
    """Return the state of a certificate as a title."""
    unverified = is_finished(certificate) and not is_off_verified(certificate)
    return STATES[certificate["state"]][0] + (" (not verified)" if unverified else "")


def failures_total(certificate: Certificate) -> int:
    """Return the number of failures of the last attempts of all stages."""
    return sum(stage["failures_total"] for stage in certificate["stages"])


def summary(certificate: Certificate) -> str:
    """Return one line for a terminal."""
    accounts, remote = certificate.get("accounts", {}), certificate.get("remote_servers")
    parts = [f"{certificate['server']['name']}: {title(certificate).lower()}"]
    if "deactivated" in accounts:
        parts.append(f"{plural(accounts['deactivated']['total'], 'account', 'accounts')} deactivated")
    if remote:
        parts.append(_remote_summary(remote))
    parts.append(plural(failures_total(certificate), "failure", "failures"))
    if certificate["state"] == "failed":
        parts += [finding["text"] for finding in certificate["findings"] if finding["kind"] == "failed"]
    return printable("; ".join(parts))


def _remote_summary(remote: Mapping[str, Any]) -> str:
    total = servers_total(remote)
    servers = plural(total, "remote server", "remote servers")
    if not remote["checked"]:
        return f"{servers} not checked"
    names, missing = unconfirmed(remote)
    return f"{total - missing:,} of {servers} confirmed" + (f", not {some_of(names, missing)}" if missing else "")


def figures(certificate: Certificate) -> list[Figure]:
    """Return the numbers at the top of a page."""
    return [
        Figure(key, value if isinstance(value, str) else f"{value:,}", label)
        for key, value, label in _figures(certificate)
    ]


def _figures(certificate: Certificate) -> Iterator[tuple[str, int | str, str]]:
    accounts, remote = certificate.get("accounts", {}), certificate.get("remote_servers")
    if "deactivated" in accounts:
        yield "deactivated", accounts["deactivated"]["total"], "accounts deactivated"
    elif certificate.get("drains"):
        drain = certificate["drains"][-1]
        yield "deactivated", drain["deactivated"] + drain["unchanged"], "accounts deactivated"
    for proof in certificate.get("proof", []):
        if proof["read"] == JOINED_ROOMS:
            yield "joined", proof["exceptions"], "accounts still joined"
    if remote:
        total, missing = servers_total(remote), unconfirmed(remote)[1]
        yield "confirmed", f"{total - missing:,} / {total:,}", "remote servers confirmed"
        yield "unconfirmed", missing, "not confirmed"
    if "handed_over_total" in certificate:
        yield "handed_over", certificate["handed_over_total"], "rooms handed over"
    yield "failures", failures_total(certificate), "failures"
