# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Leaves that Synapse drops, and accounts that it won't close: on a real server that fails on cue."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lab import Settings
from lab.proxy import Proxy

from .conftest import Federation, RunModule


@pytest.fixture
def vetoing(federation: Federation) -> Federation:
    """The federation, with a server to retire that can be told what to forbid."""
    retiring = federation.retiring
    retiring.configure(Settings(veto=True))
    retiring.restart()
    return federation


def results(log: Path, user_id: str) -> list[str]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line["result"] for line in lines if line["user_id"] == user_id]


def test_stragglers(vetoing: Federation, run_module: RunModule, tmp_path: Path) -> None:
    """One test, since each part goes on from where the one before has left the server."""
    retiring = vetoing.retiring
    stubborn, vetoed, *_others = vetoing.population.users
    log = tmp_path / "log.jsonl"
    options = {**vetoing.connection, "all_users": True, "wait_timeout": 3, "log_path": str(log)}

    # Neither Synapse nor anybody else gets this one out, nor closes that one: both are named, with the reason.
    retiring.veto(leave=[stubborn], deactivate=[vetoed])
    rooms = retiring.joined_rooms(stubborn)
    failed = run_module("synapse_user_deactivate", options)
    assert failed["failed"]
    assert [failure["user_id"] for failure in failed["failures"]] == [vetoed]
    assert "403 M_FORBIDDEN: Deactivation of this user is forbidden" in failed["failures"][0]["reason"]
    (not_parted,) = failed["still_joined"]
    assert not_parted["user_id"] == stubborn
    assert {room["room_id"] for room in not_parted["rooms"]} == set(rooms)
    assert all("403 M_FORBIDDEN" in room["reason"] for room in not_parted["rooms"])
    assert stubborn in failed["msg"] and vetoed in failed["msg"]
    assert results(log, stubborn) == ["not_left", "deactivated", "queued_again", "still_joined"]
    assert retiring.account(stubborn)["deactivated"] and retiring.joined_rooms(stubborn) == rooms
    for account in retiring.accounts():
        if not account["admin"] and account["name"] not in (stubborn, vetoed):
            assert account["deactivated"] and not retiring.joined_rooms(account["name"])

    # Deactivated before, but still in rooms, and Synapse has no memory of it: found, and made to leave.
    retiring.veto(deactivate=[vetoed])
    log.unlink()
    mended = run_module("synapse_user_deactivate", options)
    assert [failure["user_id"] for failure in mended["failures"]] == [vetoed] and mended["still_joined"] == []
    assert retiring.joined_rooms(stubborn) == []
    assert results(log, stubborn) == ["left", "queued_again", "left_all_rooms"]

    # Only leaving by hand helps one who may leave again only after Synapse has given up twice.
    retiring.veto(leave=[vetoed])
    log.unlink()
    with Proxy(retiring) as proxy:
        # With this request, the module begins to leave by hand.
        proxy.before("/sync$", retiring.veto)
        done = run_module("synapse_user_deactivate", {**options, "base_url": proxy.base_url})
    assert (done["deactivated"], done["failures"], done["still_joined"]) == (1, [], [])
    assert results(log, vetoed) == ["left", "deactivated", "queued_again", "left_all_rooms"]
    assert retiring.joined_rooms(vetoed) == []
