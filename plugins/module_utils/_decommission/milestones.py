# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The milestones of a decommissioning, recorded in the account data of the operator."""

from __future__ import annotations

from typing import Dict, Iterable

from .._synapse.account_data import ACCOUNT_DATA_TYPE, read_data, write_checked
from .._synapse.client import Client

MAX_TIME = 253_402_300_799
"""The end of the year 9999: later times are in no calendar."""
LEFT = "left_federated_rooms"
STARTED = "started"
MILESTONES = (STARTED, LEFT)

Milestones = Dict[str, int]
"""When each milestone was reached, in seconds since 1970 by the clock of the homeserver."""


def read(client: Client) -> Milestones:
    """The recorded milestones; empty if they were recorded for another server."""
    milestones = read_data(client, ACCOUNT_DATA_TYPE).get("milestones")
    if not isinstance(milestones, dict):
        return {}
    return {name: milestones[name] for name in MILESTONES if _is_time(milestones.get(name))}


def _is_time(value: object) -> bool:
    # In Python, True is an int, and would be one second after the start of 1970.
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TIME


def write(client: Client, milestones: Milestones) -> None:
    write_checked(client, ACCOUNT_DATA_TYPE, {"milestones": milestones})


def changed(milestones: Milestones, *, mark: Iterable[str], clear: Iterable[str], now: int) -> Milestones:
    """The milestones without those in I(clear), and with those in I(mark) set to I(now) unless they are set."""
    kept = {name: time for name, time in milestones.items() if name not in clear}
    return {**dict.fromkeys(mark, now), **kept}
