# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Callable
from unittest.mock import ANY

import pytest
from ansible_collections.matrixops.synapse.tests.stubs.helpers import (
    OPERATOR,
    ROOMS,
    TOKENS,
    Json,
    Server,
    matrix_error,
    quoted,
    room,
    room_id,
    user,
)

Run = Callable[..., Json]

NOTICE = "/_synapse/admin/v1/send_server_notice"
NOTICES = "@notices:example.org"
OPTIONS = {"text": "Goodbye", "concurrency": 1}
CONTENT = {
    "msgtype": "m.text",
    "body": "Goodbye",
    "io.github.matrixops.announcement": {"name": "decommissioning", "user_id": OPERATOR},
}
# It must be the same for every run.
TRANSACTION = f"{NOTICE}/1f272e19803b0f46882964fa5fe58bf3b70dac6b7c998264c512b5fcf5ee1a4b"


def begin(server: Server, error: str = "Server notices can only be sent to local users") -> None:
    server.whoami()
    sent = {"user_id": "@nobody:matrixops.invalid", "content": {}}
    server.post(NOTICE, sent, matrix_error("M_UNKNOWN", error), status=400)


def rooms(server: Server, *, had: bool) -> None:
    """Declare the look at who has had it."""
    if not had:
        server.rooms()
        return
    server.rooms({**room("n"), "joined_members": 1, "creator": NOTICES})
    event = {"type": "m.room.message", "sender": NOTICES, "content": CONTENT}
    query = {"dir": "f", "limit": "1000", "filter": ANY}
    server.get(f"{ROOMS}/{quoted(room_id('n'))}/messages", {"chunk": [event]}, query=query)
    server.joined(NOTICES, "n")


def send(server: Server, answer: Any = None, **more: Any) -> None:
    server.user(user("op", admin=True))
    server.get(TOKENS, {"registration_tokens": []})
    server.put(TRANSACTION, {"user_id": OPERATOR, "content": CONTENT}, answer, **more)


@pytest.mark.parametrize("diff", [True, False])
def test_sent(server: Server, run: Run, diff: bool) -> None:
    begin(server)
    server.users(user("op", admin=True))
    rooms(server, had=False)
    send(server)
    rooms(server, had=True)
    result = run("synapse_announcement", OPTIONS, diff=diff)
    assert (result["changed"], result["sent"], result["unchanged"]) == (True, 1, 0)
    assert (result["failures"], result["failures_total"]) == ([], 0)
    # It names everybody, and there may be many.
    assert result.get("diff") == (
        {"before": "", "after": f"{OPERATOR} has the announcement decommissioning\n"} if diff else None
    )


@pytest.mark.parametrize("check", [True, False])
def test_had_before(server: Server, run: Run, check: bool) -> None:
    begin(server)
    server.users(user("op", admin=True))
    if check:
        server.user(user("op", admin=True))
    rooms(server, had=True)
    result = run("synapse_announcement", OPTIONS, check=check)
    assert (result["changed"], result["sent"], result["unchanged"]) == (False, 0, 1)
    assert result["diff"] == {"before": "", "after": ""}


def test_check_mode(server: Server, run: Run) -> None:
    begin(server)
    server.users(user("op", admin=True))
    server.user(user("op", admin=True))
    rooms(server, had=False)
    result = run("synapse_announcement", OPTIONS, check=True)
    assert (result["changed"], result["sent"], result["unchanged"]) == (True, 1, 0)


@pytest.mark.parametrize("check", [True, False])
def test_a_server_that_is_not_set_up_for_it(server: Server, run: Run, check: bool) -> None:
    begin(server, "Server notices are not enabled on this server")
    result = run("synapse_announcement", OPTIONS, check=check)
    assert result["failed"] and result["msg"].startswith("No changes made: example.org is not configured")


def test_a_failure(server: Server, run: Run) -> None:
    begin(server)
    server.users(user("op", admin=True))
    rooms(server, had=False)
    send(server, matrix_error("M_UNKNOWN", "broken"), status=500)
    result = run("synapse_announcement", OPTIONS)
    assert result["failed"] and not result["changed"]
    assert "1 accounts could not be sent the notice, for example @op:example.org: " in result["msg"]
    [failure] = result["failures"]
    assert failure["user_id"] == OPERATOR and "500 M_UNKNOWN: broken" in failure["reason"]
    assert result["failures_total"] == 1


def test_stopped(server: Server, run: Run) -> None:
    begin(server)
    server.users(user("op", admin=True))
    rooms(server, had=False)
    send(server, matrix_error("M_UNKNOWN_TOKEN", "Invalid access token"), status=401)
    result = run("synapse_announcement", OPTIONS)
    assert result["failed"] and result["msg"].startswith("Stopped after 0 notices: ")
    assert (result["status"], result["sent"]) == (401, 0)
