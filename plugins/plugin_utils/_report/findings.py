# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The findings of a certificate: what its reader must know, each with the next step where there is one."""

from __future__ import annotations

from typing import Any, Callable, Iterator, Mapping, Tuple

from ansible_collections.matrixops.synapse.plugins.module_utils._text import date, plural

from .schema import Certificate
from .state import is_finished, is_off_verified, last_attempt
from .summary import REMOTE_CHECKS, failures_total, servers_total, some_of, unconfirmed

Finding = Tuple[str, str]
"""The kind of a finding, and its text."""

CHECK_AGAIN = "Check again later with the playbook matrixops.synapse.ghosts, from any machine that has the signing key."
STEPS = {
    "ghosts": ("Accounts still listed", CHECK_AGAIN),
    "refused": ("Refused", "Ask a user who can kick the accounts (see Unconfirmed rooms) to do so, then check again."),
    "unreachable": ("Unreachable", CHECK_AGAIN),
    "unconfirmed": ("Unconfirmed", f"The reasons are under Remote servers. {CHECK_AGAIN}"),
}
"""What to do about remote servers in each state after the last check."""


def findings(certificate: Certificate) -> list[dict[str, str]]:
    """Return the findings, of the stages first. The certificate must have its state."""
    found = [finding for find in FINDERS for finding in find(certificate)]
    remote = certificate.get("remote_servers")
    if remote:
        found += [finding for find_remote in REMOTE_FINDERS for finding in find_remote(remote)]
    return [{"kind": kind, "text": text} for kind, text in found]


# Of the stages


def _attempts(certificate: Certificate) -> Iterator[Finding]:
    last = last_attempt(certificate)
    for stage in certificate["stages"]:
        attempt, name = stage["attempts"][-1], stage["stage"]
        if attempt["result"] == "failed":
            yield "failed", f"Stage {name} failed: {attempt['reason'] or 'no reason was given'}"
        elif attempt["result"] == "interrupted":
            yield "interrupted", f"Stage {name} was interrupted and has not been run again."
        elif attempt["result"] == "started" and last and last[0] == name:
            yield "started", f"Stage {name} has started and not ended. Unless it is still running, it was interrupted."


def _proof(certificate: Certificate) -> Iterator[Finding]:
    for proof in certificate.get("proof", []):
        # Remote servers have findings of their own, with names.
        if proof["exceptions"] and proof["read"] != REMOTE_CHECKS:
            yield "disproved", f"Disproved: {proof['claim']}. Exceptions: {proof['exceptions']:,}."
    if is_finished(certificate) and not certificate.get("proof"):
        yield "unproven", "The homeserver was powered off without a proof that no account is active or joined."


def _power_off(certificate: Certificate) -> Iterator[Finding]:
    if certificate["state"] == "verified" and certificate.get("power_off", {}).get("method") == "none":
        yield (
            "not_stopped",
            "Nothing was stopped (decommission_power_off_method: none): the homeserver still runs. Stop it, and make"
            " sure that it is not started again.",
        )
    if is_finished(certificate) and not is_off_verified(certificate):
        reason = certificate.get("power_off", {}).get("reason") or "it was not checked"
        yield "not_verified", f"It is not verified that the host is off: {reason}. Check that the homeserver is off."


def _admins(certificate: Certificate) -> Iterator[Finding]:
    admins = certificate.get("admins")
    if not admins or is_finished(certificate):
        return
    by_hand = f"power off by hand: {admins['power_off']}"
    if admins["ended"] is None:
        yield (
            "admins",
            f"The deactivation of the admins, the operator last, has started on {date(admins['started'])}, and its end"
            " is not recorded. If the access token of the operator still works, run again. If not, all admins are"
            f" deactivated, and only the power-off is left: {by_hand}",
        )
    else:
        yield (
            "admins",
            f"All admins are deactivated, the operator as well ({date(admins['ended'])}), so that no run can log in any"
            f" more, but it is not recorded that the homeserver is off. If it is not, {by_hand}",
        )


def _failures(certificate: Certificate) -> Iterator[Finding]:
    failures = failures_total(certificate)
    if failures:
        yield "failures", f"{plural(failures, 'failure', 'failures')}: see the table under Failures."


def _registration(certificate: Certificate) -> Iterator[Finding]:
    if certificate["server"].get("registration") and not is_finished(certificate):
        yield "registration", "Registration was open at the preflight. Set enable_registration: false in Synapse."


def _login_service(certificate: Certificate) -> Iterator[Finding]:
    settings = certificate.get("settings", {})
    if settings.get("mas_url"):
        erased = " and erased" if settings.get("erase") else ""
        yield (
            "login_service",
            f"The accounts are deactivated{erased}, but the Matrix Authentication Service keeps their usernames, hashes"
            " of passwords and links to upstream providers. Delete its database when it is not needed any more.",
        )
    elif certificate["server"].get("delegated_auth"):
        yield (
            "login_service",
            "The accounts are still active in the Matrix Authentication Service (decommission_delegated_auth:"
            " synapse_only). In Synapse, they were suspended and deactivated. Stop the service after Synapse.",
        )


# Of the remote servers


def _checks(remote: Mapping[str, Any]) -> Iterator[Finding]:
    servers = plural(servers_total(remote), "remote server", "remote servers")
    names, missing = unconfirmed(remote)
    if not remote["checked"]:
        text = f"No remote server was checked (decommission_ghost_checks: false), 0 of {servers} confirmed."
        yield "not_checked", f"{text} {CHECK_AGAIN}"
    elif missing and not remote["finished"]:
        text = f"Not confirmed yet: {missing:,} of {servers} ({some_of(names, missing)})."
        yield "not_confirmed_yet", f"{text} Run the stage propagate again."


def _states(remote: Mapping[str, Any]) -> Iterator[Finding]:
    if not remote["checked"] or not remote["finished"]:
        return
    servers = plural(servers_total(remote), "remote server", "remote servers")
    for state, (label, step) in STEPS.items():
        number = remote["summary"].get(state, 0)
        names = [row["server"] for row in remote["servers"] if row["state"] == state]
        if number:
            yield state, f"{label}: {number:,} of {servers} ({some_of(names, number)}). {step}"


def _early_end(remote: Mapping[str, Any]) -> Iterator[Finding]:
    if remote["finished"] and remote["ended_early"]:
        yield "ended_early", "The checks ended before the propagation period was over (decommission_early_exit: true)."


def _broken_rooms(remote: Mapping[str, Any]) -> Iterator[Finding]:
    rooms = [room["room_id"] for room in remote["broken_rooms"]]
    if not rooms:
        return
    names = sorted({name for room in remote["broken_rooms"] for name in room["not_confirmed_by"]})
    text = f"Broken rooms, which could not be left on this server: {len(rooms):,} ({some_of(rooms, len(rooms))})."
    step = f"Not confirmed by {some_of(names, len(names))}. {CHECK_AGAIN}"
    yield "broken_rooms", f"{text} {step if names else 'All remote servers in them have confirmed.'}"


def _unreadable_rooms(remote: Mapping[str, Any]) -> Iterator[Finding]:
    rooms = [room["room_id"] for room in remote.get("unreadable_rooms", [])]
    if rooms:
        text = f"Rooms whose remote servers are unknown: {len(rooms):,} ({some_of(rooms, len(rooms))})."
        yield "unreadable_rooms", f"{text} Synapse could not read them before they were recorded."


FINDERS: tuple[Callable[[Certificate], Iterator[Finding]], ...] = (
    _attempts,
    _proof,
    _power_off,
    _admins,
    _failures,
    _registration,
    _login_service,
)
REMOTE_FINDERS: tuple[Callable[[Mapping[str, Any]], Iterator[Finding]], ...] = (
    _checks,
    _states,
    _early_end,
    _broken_rooms,
    _unreadable_rooms,
)
