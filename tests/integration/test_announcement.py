# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server notice once to each account, counted in the database of the server."""

from __future__ import annotations

import itertools
from threading import Event

import pytest
from lab import Homeserver, Settings
from lab.proxy import Proxy
from lab.waiting import PATIENCE

from .conftest import Federation, RunModule, RunPlaybook, StartPlaybook, unchanged
from .test_kill import kill

PLAYBOOK = "matrixops.synapse.announce"
MESSAGES = "FROM events JOIN local_current_membership USING (room_id) WHERE type = 'm.room.message'"


@pytest.fixture
def notices(federation: Federation) -> Federation:
    """The federation, with a server to decommission that can send notices."""
    retiring = federation.retiring
    retiring.configure(Settings(server_notices=True))
    retiring.restart()
    return federation


def addressed(federation: Federation) -> set[str]:
    made = federation.population
    return {made.operator, made.second_admin, made.suspended, *made.users, *made.odd_users}


def sent(retiring: Homeserver, more: str = "") -> int:
    sender = retiring.user_id("notices")
    return retiring.database.count(f"SELECT count(*) {MESSAGES} AND sender = '{sender}' AND user_id != sender {more}")


def by_account(federation: Federation) -> dict[str, int]:
    """How many notices each account has, if any; also in rooms that it has left."""
    retiring = federation.retiring
    names = [account["name"] for account in retiring.accounts()]
    counts = {name: sent(retiring, f"AND user_id = '{name}'") for name in names}
    assert sum(counts.values()) == sent(retiring)
    return {name: count for name, count in counts.items() if count}


def test_each_account_receives_one_notice(notices: Federation, run_module: RunModule) -> None:
    retiring, made = notices.retiring, notices.population
    once = dict.fromkeys(addressed(notices), 1)
    options = {**notices.connection, "text": "Goodbye, and thanks."}
    with unchanged(retiring):
        predicted = run_module("synapse_announcement", options, "--check", "--diff")
    assert (predicted["changed"], predicted["sent"], predicted["unchanged"]) == (True, len(once), 0)
    done = run_module("synapse_announcement", options, "--diff")
    assert {**done, "diff": None} == {**predicted, "diff": None}
    assert done["diff"] == predicted["diff"]
    assert by_account(notices) == once

    user_id = made.users[0]
    token = made.tokens[user_id]
    [room] = [
        room
        for room, invited in retiring.sync(token)["rooms"]["invite"].items()
        if any(event["sender"] == retiring.user_id("notices") for event in invited["invite_state"]["events"])
    ]
    retiring.join(token, room)
    said = [event["content"]["body"] for event in retiring.messages(token, room) if event["type"] == "m.room.message"]
    assert said == ["Goodbye, and thanks."]
    # The account itself does not list the room any more.
    retiring.leave(token, room)
    retiring.call("POST", f"/_matrix/client/v3/rooms/{room}/forget", token=token, json={})

    again = run_module("synapse_announcement", {**options, "text": "Other words"})
    assert (again["changed"], again["sent"], again["unchanged"]) == (False, 0, len(once))
    assert by_account(notices) == once


@pytest.mark.parametrize("victim", ["controller", "homeserver"])
def test_killed_in_the_middle(
    notices: Federation, proxy: Proxy, start_playbook: StartPlaybook, run_playbook: RunPlaybook, victim: str
) -> None:
    retiring = notices.retiring
    everybody = addressed(notices)
    hosts = {"a": {**notices.role_variables, "decommission_base_url": proxy.base_url, "decommission_concurrency": 2}}
    half_are_sent, resume = Event(), Event()
    numbers = itertools.count()

    def pause() -> None:
        """Hold back the requests of the second half. One of the first half may still be running."""
        if next(numbers) >= len(everybody) // 2:
            half_are_sent.set()
            resume.wait(PATIENCE)
            if victim == "controller":
                raise ConnectionAbortedError

    proxy.before("/send_server_notice/.", pause)
    with start_playbook(PLAYBOOK, hosts) as process:
        assert half_are_sent.wait(PATIENCE)
        assert sent(retiring) <= len(everybody) // 2
        if victim == "controller":
            kill(process)
            proxy.clear()
            resume.set()
        else:
            retiring.kill()
            retiring.start()
            resume.set()
            output, _nothing = process.communicate()
            assert process.returncode == 0, output
            assert (
                f"Sent the announcement decommissioning to {len(everybody)} accounts; 0 had received it before"
                in output
            )
    again = run_playbook(PLAYBOOK, hosts)
    assert again.returncode == 0, again.stdout
    assert by_account(notices) == dict.fromkeys(everybody, 1)
    texts = f"FROM event_json WHERE json LIKE '%The Matrix server {retiring.server_name} will be switched off%'"
    assert retiring.database.count(f"SELECT count(*) {texts}") == len(everybody)


def test_a_server_without_server_notices(filled: Federation, run_module: RunModule) -> None:
    with unchanged(filled.retiring):
        result = run_module("synapse_announcement", {**filled.connection, "text": "Goodbye"})
    assert result["failed"] and "No changes made" in result["msg"]
    assert "Set server_notices in homeserver.yaml" in result["msg"] and "restart Synapse" in result["msg"]


def test_without_confirmation_nothing_is_sent(filled: Federation, run_playbook: RunPlaybook) -> None:
    variables = {**filled.role_variables}
    del variables["decommission_confirm"]
    done = run_playbook(PLAYBOOK, {"a": variables})
    assert done.returncode == 2
    assert f"is {filled.retiring.server_name}, not ''" in done.stdout
