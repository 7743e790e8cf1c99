# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of a decommissioning: its beginning, the attempts of its stages, and its conclusion."""

from __future__ import annotations

import json
import re
import secrets
from contextlib import suppress

from .findings import findings
from .schema import COLLECTION, SCHEMA, VERSION, Certificate, truncate
from .state import state_of

MAX_ATTEMPTS = 20


def new(server_name: str, now: int) -> Certificate:
    """Return the certificate of a decommissioning that starts at I(now), in seconds since 1970."""
    return {
        "schema_version": VERSION,
        "server": {"name": server_name, "software": "Synapse"},
        "collection": {"name": "matrixops.synapse", "version": collection_version()},
        "created": now,
        "updated": now,
        "state": "incomplete",
        "salt": secrets.token_hex(16),
        "stages": [],
        "findings": [],
    }


def collection_version() -> str | None:
    """Return the version in the manifest of an installed collection, or in galaxy.yml of a checkout."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads((COLLECTION / "MANIFEST.json").read_text("utf-8"))["collection_info"]["version"])
    with suppress(OSError):
        found = re.search(r"^version: *(\S+)", (COLLECTION / "galaxy.yml").read_text("utf-8"), re.MULTILINE)
        return found and found[1]
    return None


def start_stage(certificate: Certificate, name: str, now: int) -> None:
    """Add an attempt. An earlier one that has no end was interrupted."""
    for stage in certificate["stages"]:
        for attempt in stage["attempts"]:
            if attempt["result"] == "started":
                attempt["result"] = "interrupted"
    stages = {stage["stage"]: stage for stage in certificate["stages"]}
    if name not in stages:
        stages[name] = {"stage": name, "attempts": [], "attempts_total": 0, "failures": [], "failures_total": 0}
        certificate["stages"].append(stages[name])
    stage = stages[name]
    stage["attempts"].append({"started": now, "ended": None, "result": "started", "reason": None})
    stage["attempts_total"] += 1
    # The first attempt stays, since it shows when the stage was run for the first time.
    if len(stage["attempts"]) > MAX_ATTEMPTS:
        del stage["attempts"][1]


def end_stage(certificate: Certificate, name: str, result: str, now: int, reason: str | None = None) -> None:
    """End the last attempt of a stage that has started."""
    attempt = next(stage for stage in certificate["stages"] if stage["stage"] == name)["attempts"][-1]
    attempt.update(ended=max(now, attempt["started"]), result=result, reason=reason)


def record_admins(certificate: Certificate, now: int, *, ended: bool, by_hand: str) -> None:
    """Record that the deactivation of the admins starts, or has ended. Afterwards, no run can log in any more.

    :param by_hand: how to power off without this collection.
    """
    started = certificate["admins"]["started"] if ended and "admins" in certificate else now
    certificate["admins"] = {"started": started, "ended": now if ended else None, "power_off": by_hand}


def conclude(certificate: Certificate, now: int) -> Certificate:
    """Return the certificate as far as the schema has room for it, with its state and its findings."""
    certificate = truncate(certificate, SCHEMA)
    attempts = [attempt for stage in certificate["stages"] for attempt in stage["attempts"]]
    # The period of the certificate has all stages in it: the first begins before there is a certificate.
    certificate["created"] = min([certificate["created"], *(attempt["started"] for attempt in attempts)])
    ends = (attempt["ended"] or attempt["started"] for attempt in attempts)
    certificate["updated"] = max([now, certificate["created"], *ends])
    certificate["collection"]["version"] = collection_version()
    certificate["state"] = state_of(certificate)
    certificate["findings"] = findings(certificate)
    return certificate
