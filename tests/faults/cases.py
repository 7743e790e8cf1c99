# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sequences of faults that ``make test`` tries: some for each kind of fault, and those that failed once.

A nightly run prints each of its sequences as a case. One that fails is added here together with its correction.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One decommissioning with faults.

    :ivar start: what the chance starts from that decides on the details of the faults.
    :ivar steps: stage, name of the fault, and name of the task at which it strikes; empty for the end of the stage.
    """

    start: str
    steps: list[tuple[str, str, str]]

    def __str__(self) -> str:
        return ", ".join(f"{stage}: {name}" for stage, name, _task in self.steps)


DEACTIVATE = "Deactivate accounts and wait until they have left the federated rooms"
LEAVE = "Leave all rooms as admins and kept accounts"
PROPAGATE = "Check remote servers and remove ghosts until the propagation period is over"

HAND_OVER = "Hand over rooms without another administrator"

CASES = [
    # The homeserver, and what is between it and the controller.
    Case("1", [("prepare", "request torn", "Delete the aliases"), ("drain", "homeserver killed", DEACTIVATE)]),
    # Failed once: "Can only look up local users" was shown without a next step.
    Case("1171346333 6", [("prepare", "URL leads to another server", HAND_OVER)]),
    # The controller, and what it writes.
    Case("2", [("drain", "controller killed", DEACTIVATE), ("report", "certificate can't be written", "")]),
    # A remote server: back by itself during the drain, and down until the next run.
    Case("4", [("drain", "remote server killed", DEACTIVATE), ("propagate", "remote server down", PROPAGATE)]),
    # People.
    Case("3", [("drain", "token revoked", DEACTIVATE), ("leave_rooms", "newcomers", LEAVE)]),
]
