# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of a decommissioning, derived from the attempts of its stages."""

from __future__ import annotations

from typing import Any

from .schema import Certificate

STATES = {
    "incomplete": ("Incomplete", "Not all stages have been run to their end."),
    "waiting": ("Waiting", "Remote servers are checked until the propagation period ends."),
    "failed": ("Failed", "A stage failed. The homeserver is still on. Fix the cause and run the playbook again."),
    "verified": ("Verified", "The server is drained and verified. The homeserver is still on."),
    "powered_off": ("Powered off", "The server is drained and verified. The homeserver was powered off."),
}
"""The states of a certificate, each with a title and an explanation."""


def is_finished(certificate: Certificate) -> bool:
    """Return whether the homeserver was powered off, after which the certificate is not changed any more."""
    return bool(certificate["state"] == "powered_off")


def is_off_verified(certificate: Certificate) -> bool:
    """Return whether nothing answered any more after the power-off."""
    return bool(certificate.get("power_off", {}).get("verified"))


def current_stage(certificate: Certificate) -> str | None:
    """Return the stage that has started and not ended."""
    names = [stage["stage"] for stage in certificate["stages"] if stage["attempts"][-1]["result"] == "started"]
    return names[-1] if names else None


def last_attempt(certificate: Certificate) -> tuple[str, dict[str, Any]] | None:
    """Return the attempt that was started last, with its stage. A preflight that succeeded changes no state."""
    attempts = [
        (stage["stage"], attempt)
        for stage in certificate["stages"]
        for attempt in stage["attempts"][-1:]
        if len(certificate["stages"]) == 1 or (stage["stage"], attempt["result"]) != ("preflight", "done")
    ]
    return max(reversed(attempts), key=lambda pair: int(pair[1]["started"]), default=None)


def state_of(certificate: Certificate) -> str:
    """Return one of C(STATES)."""
    stage, attempt = last_attempt(certificate) or ("", {"result": "started"})
    result = str(attempt["result"])
    if result in ("failed", "waiting"):
        return result
    checks_finished = certificate.get("remote_servers", {}).get("finished", True)
    stopped = certificate.get("power_off", {}).get("method") != "none"
    by_last_stage = {
        "power_off": "powered_off" if stopped else "verified",
        "verify": "verified" if checks_finished else "waiting",
    }
    return by_last_stage.get(stage, "incomplete") if result == "done" else "incomplete"
