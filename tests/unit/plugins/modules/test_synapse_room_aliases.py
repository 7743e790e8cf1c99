# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Callable

import pytest
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    ROOMS,
    Json,
    Server,
    matrix_error,
    quoted,
    room,
    room_id,
)

Run = Callable[..., Json]

ALIAS = "#one:example.org"
DIRECTORY = f"/_matrix/client/v3/directory/room/{quoted(ALIAS)}"
RECORD = "/_matrix/client/v3/user/%40op%3Aexample.org/account_data/io.github.matrixops.decommission.aliases"
RECORDED = [{"alias": ALIAS, "room_id": room_id("r")}]
CONTENT = {"server_name": "example.org", "aliases": {ALIAS: room_id("r")}}


def begin(server: Server, *aliases: str, recorded: bool = False) -> None:
    server.whoami()
    server.rooms(room("r"))
    server.get(f"/_matrix/client/v3/rooms/{quoted(room_id('r'))}/aliases", {"aliases": list(aliases)})
    if recorded:
        server.get(RECORD, CONTENT)
    else:
        server.get(RECORD, matrix_error("M_NOT_FOUND", "none"), status=404)


def state(server: Server, *events: Json) -> None:
    server.get(f"{ROOMS}/{quoted(room_id('r'))}/state", {"state": list(events)})


def test_released(server: Server, run: Run) -> None:
    begin(server, ALIAS)
    server.put(RECORD, CONTENT)
    state(server)
    server.delete(DIRECTORY)
    result = run("synapse_room_aliases")
    assert (result["changed"], result["aliases"], result["released"]) == (True, RECORDED, [ALIAS])
    assert result["renamed"] == result["not_renamed"] == result["failures"] == []
    assert result["diff"]["before"] == {"directory": {ALIAS: room_id("r")}, "canonical": {}}
    assert result["diff"]["after"] == {"directory": {}, "canonical": {}}


def test_check_mode(server: Server, run: Run) -> None:
    begin(server, ALIAS)
    state(server)
    result = run("synapse_room_aliases", check=True)
    assert (result["changed"], result["aliases"], result["released"]) == (True, RECORDED, [ALIAS])


@pytest.mark.parametrize("check", [True, False])
def test_released_before(server: Server, run: Run, check: bool) -> None:
    begin(server, recorded=True)
    state(server)
    result = run("synapse_room_aliases", {"state": "absent"}, check=check)
    assert (result["changed"], result["aliases"], result["released"]) == (False, RECORDED, [])


@pytest.mark.parametrize("check", [True, False])
def test_a_room_that_cannot_be_renamed_is_no_failure(server: Server, run: Run, check: bool) -> None:
    begin(server, recorded=True)
    state(server, {"type": "m.room.canonical_alias", "state_key": "", "content": {"alias": ALIAS}})
    result = run("synapse_room_aliases", check=check)
    assert not result["changed"] and not result.get("failed")
    reason = "no joined account of this server has the power to change the canonical alias"
    assert result["not_renamed"] == [{"room_id": room_id("r"), "reason": reason}]


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (500, matrix_error("M_UNKNOWN", "broken"), "1 aliases could not be deleted, for example #one:example.org: "),
        (401, matrix_error("M_UNKNOWN_TOKEN", "Invalid access token"), "Stopped after the release of 0 aliases: "),
    ],
)
def test_a_failure(server: Server, run: Run, status: int, error: Any, words: str) -> None:
    begin(server, ALIAS)
    server.put(RECORD, CONTENT)
    state(server)
    server.delete(DIRECTORY, error, status=status)
    result = run("synapse_room_aliases")
    assert result["failed"] and result["msg"].startswith(words)
    assert (result["aliases"], result["released"]) == (RECORDED, [])
    assert [failure["alias"] for failure in result["failures"]] == ([ALIAS] if status == 500 else [])
