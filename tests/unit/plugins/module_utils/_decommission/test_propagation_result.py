# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections import Counter

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.propagation_result import (
    MAX_REASON_IN_TEXT,
    describe,
    server_row,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.record import RecordedResult, Retry
from ansible_collections.matrixops.synapse.tests.stubs.helpers import NOW, room_id

NOT_CHECKED = "not checked"


def text_of(*results: RecordedResult) -> str:
    """The line about a server with these results, one a room."""
    rooms = {room_id(str(number)): result for number, result in enumerate(results)}
    text: str = server_row("a.example", rooms, Retry(NOW, NOW, 1), unchecked=NOT_CHECKED, can_kick={})["text"]
    return text


@pytest.mark.parametrize(
    ("results", "text"),
    [
        ([RecordedResult("confirmed", removed=1234)], "ghosts removed (1,234); confirmed, 1 of 1 room"),
        ([RecordedResult()], f"unconfirmed in 1 room: {NOT_CHECKED}; confirmed, 0 of 1 room"),
        (
            [
                RecordedResult("unreachable", reason="down"),
                RecordedResult("refused", reason="no"),
                RecordedResult("ghosts"),
                RecordedResult("confirmed"),
            ],
            "lists accounts in 1 room; refused in 1 room: no; unreachable in 1 room since 2026-11-23 06:40:00 UTC:"
            " down; confirmed, 1 of 4 rooms",
        ),
        (
            [RecordedResult("ghosts", reason="2 accounts still listed after an accepted leave")],
            "lists accounts in 1 room: 2 accounts still listed after an accepted leave; confirmed, 0 of 1 room",
        ),
        ([RecordedResult("refused")] * 2000, "refused in 2,000 rooms; confirmed, 0 of 2,000 rooms"),
    ],
)
def test_describe_a_server(results: list[RecordedResult], text: str) -> None:
    assert text_of(*results) == f"a.example: {text}"


def test_describe_a_server_without_rooms() -> None:
    row = {"server": "a.example", "removed": 0, "open_rooms": [], "confirmed_rooms": 0, "rooms": 0}
    assert describe({**row, "unreachable_since": None}, Counter()) == "a.example: confirmed, 0 of 0 rooms"


def test_a_line_for_the_terminal_is_short() -> None:
    reason = "x" * (MAX_REASON_IN_TEXT + 1)
    assert text_of(RecordedResult("refused", reason=reason[1:])) == (
        f"a.example: refused in 1 room: {reason[1:]}; confirmed, 0 of 1 room"
    )
    text = text_of(RecordedResult("unreachable", reason=reason))
    assert text == (
        f"a.example: unreachable in 1 room since 2026-11-23 06:40:00 UTC: {reason[2:]}…; confirmed, 0 of 1 room"
    )
    assert len(text) <= 180
