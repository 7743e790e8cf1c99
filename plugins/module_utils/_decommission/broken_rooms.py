# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rooms that cannot be left."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import islice
from typing import Callable, Iterable

from .._results import MAX_NAMES
from .._synapse.answer import JsonDict

MAX_REASON = 500
"""Maximum length of the reason of a room in characters."""


@dataclass
class BrokenRoom:
    """A room that accounts cannot leave.

    :ivar reason: the error of the server for the first of the accounts.
    :ivar federated: whether remote servers are, or may be, in the room.
    :ivar accounts: number of the accounts.
    """

    room_id: str
    reason: str
    federated: bool
    accounts: int = 0


def broken_rooms(failed: Iterable[dict[str, str]], federated: Callable[[str], bool]) -> dict[str, BrokenRoom]:
    """The rooms that cannot be left, by ID.

    :param failed: for each account, the rooms that it cannot leave with the reason of each.
    """
    found: dict[str, BrokenRoom] = {}
    for reasons in failed:
        for room_id, reason in reasons.items():
            if room_id not in found:
                found[room_id] = BrokenRoom(room_id, reason[:MAX_REASON], federated(room_id))
            found[room_id].accounts += 1
    return found


def broken_rooms_result(broken: dict[str, BrokenRoom]) -> JsonDict:
    """What a module returns of rooms that cannot be left."""
    rooms = [asdict(room) for _room_id, room in islice(sorted(broken.items()), MAX_NAMES)]
    return {"broken_rooms": rooms, "broken_rooms_total": len(broken)}
