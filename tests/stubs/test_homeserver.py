# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fake homeserver: paging, sessions, faults, background leaves and power levels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Iterator
from urllib.parse import quote

import pytest
import requests

from stubs.helpers import BASE_URL, NOW, OPERATOR, SERVER, TOKEN, Json, message, user
from stubs.homeserver import (
    BROKEN,
    CONNECTION_LOST,
    GATEWAY_TIMEOUT,
    IGNORED_USERS,
    NOTICES,
    After,
    Homeserver,
    stripped,
    too_many_requests,
)

ALICE, BOB = f"@alice:{SERVER}", f"@bob:{SERVER}"
REMOTE = "@someone:other.example"
R = f"!r:{SERVER}"
ADMIN, CLIENT = "/_synapse/admin", "/_matrix/client/v3"


class Caller:
    """Sends requests to a server, and returns the JSON bodies of its answers."""

    def __init__(self, url: str = BASE_URL, token: str = TOKEN) -> None:
        self.url = url
        self.token = token

    def __call__(self, method: str, path: str, *segments: str, status: int = 200, token: str = "", **more: Any) -> Json:
        url = self.url + path.format(*(quote(segment, safe="") for segment in segments))
        headers = {"Authorization": f"Bearer {token or self.token}"}
        answer = requests.request(method, url, headers=headers, timeout=60, **more)
        assert answer.status_code == status, answer.text
        body: Json = answer.json()
        return body

    def log_in_as(self, user_id: str, **body: Any) -> str:
        return str(self("POST", f"{ADMIN}/v1/users/{{}}/login", user_id, json=body)["access_token"])

    def names(self, **query: str) -> list[str]:
        """The accounts of all pages."""
        found, following = [], {"from": "0"}
        while following:
            answer = self("GET", f"{ADMIN}/v2/users", params={"deactivated": "true", **query, **following})
            found += [account["name"] for account in answer["users"]]
            assert answer.get("next_token") != following["from"], "without end"
            following = {"from": answer["next_token"]} if "next_token" in answer else {}
        return found


@pytest.fixture
def homeserver() -> Iterator[Homeserver]:
    with Homeserver.mocked() as homeserver:
        yield homeserver


@pytest.fixture
def call(homeserver: Homeserver) -> Caller:
    return Caller()


# Listings


@pytest.mark.parametrize("limit", [2, 3, 100])
def test_pages(homeserver: Homeserver, call: Caller, limit: int) -> None:
    homeserver.register("c", "a", "b")
    assert call.names(limit=str(limit)) == [f"@{name}:{SERVER}" for name in ("a", "b", "c", "op")]


def test_a_change_between_two_pages_shifts_what_comes_later(homeserver: Homeserver, call: Caller) -> None:
    homeserver.register("b", "c", "d")
    homeserver.faults["GET users v2"] = [None, lambda: homeserver.register("a")]
    assert call.names(limit="2") == [f"@{name}:{SERVER}" for name in ("b", "c", "c", "d", "op")]
    homeserver.faults["GET users v2"] = [None, lambda: homeserver.accounts.pop(f"@a:{SERVER}")]
    assert f"@c:{SERVER}" not in call.names(limit="2")


def test_pages_are_no_larger_than_the_server_allows(homeserver: Homeserver, call: Caller) -> None:
    homeserver.register("a", "b")
    homeserver.page_size = 1
    assert len(call.names(limit="1000")) == 3
    assert homeserver.requests == ["GET users v2"] * 3


def test_filters_of_accounts(homeserver: Homeserver, call: Caller) -> None:
    homeserver.accounts.clear()
    homeserver.add_accounts(
        user("op", admin=True),
        user("closed", deactivated=True),
        user("guest", is_guest=True),
        user("locked", locked=True),
    )
    plain = [f"@guest:{SERVER}", OPERATOR]
    assert call.names(deactivated="false") == plain
    assert call.names() == [f"@closed:{SERVER}", *plain]
    assert call.names(locked="true", guests="false", deactivated="false") == [f"@locked:{SERVER}", OPERATOR]
    assert call.names(name="ues") == [f"@guest:{SERVER}"]
    homeserver.delegated = True
    call("GET", f"{ADMIN}/v2/users", status=400, params={"guests": "true"})


def test_rooms_with_most_local_members_come_first(homeserver: Homeserver, call: Caller) -> None:
    homeserver.register("alice", "bob")
    homeserver.add_room("small", [ALICE, REMOTE])
    homeserver.add_room("large", [ALICE, BOB])
    homeserver.add_room("empty", [REMOTE])
    homeserver.page_size = 2
    first = call("GET", f"{ADMIN}/v1/rooms")
    assert [room["joined_local_members"] for room in first["rooms"]] == [2, 1]
    assert first["rooms"][1]["joined_members"] == 2
    second = call("GET", f"{ADMIN}/v1/rooms", params={"from": first["next_batch"]})
    assert [room["room_id"] for room in second["rooms"]] == [f"!empty:{SERVER}"] and "next_batch" not in second
    homeserver.unlisted_rooms.add(f"!large:{SERVER}")
    assert call("GET", f"{ADMIN}/v1/rooms")["total_rooms"] == 2


# Sessions


def test_a_session_expires_by_the_clock_of_the_server(homeserver: Homeserver, call: Caller) -> None:
    homeserver.register("alice")
    token = call.log_in_as(ALICE, valid_until_ms=(NOW + 60) * 1000)
    assert call("GET", f"{CLIENT}/account/whoami", token=token) == {"user_id": ALICE}
    homeserver.now += 60
    assert call("GET", f"{CLIENT}/account/whoami", token=token, status=401)["soft_logout"] is True
    assert call("GET", f"{CLIENT}/account/whoami")["user_id"] == OPERATOR


def test_a_session_can_be_ended_by_a_test(homeserver: Homeserver, call: Caller) -> None:
    homeserver.register("alice")
    token = call.log_in_as(ALICE)
    homeserver.expire_sessions(ALICE)
    call("GET", f"{CLIENT}/account/whoami", token=token, status=401)
    call("GET", f"{CLIENT}/account/whoami", token=call.log_in_as(ALICE))


def test_logging_out(homeserver: Homeserver, call: Caller) -> None:
    homeserver.register("alice")
    homeserver.register("guest", is_guest=True)
    first, second = call.log_in_as(ALICE), call.log_in_as(ALICE)
    guest = call.log_in_as(f"@guest:{SERVER}")
    call("POST", f"{CLIENT}/logout/all", token=first)
    assert first != second and homeserver.borrowed == [ALICE, ALICE, f"@guest:{SERVER}"]
    call("POST", f"{CLIENT}/logout", token=first)
    assert homeserver.borrowed == [ALICE, f"@guest:{SERVER}"]
    call("GET", f"{CLIENT}/account/whoami", token=first, status=401)
    call("POST", f"{CLIENT}/logout", token=guest, status=403)


def test_who_may_log_in_and_do_what(homeserver: Homeserver, call: Caller) -> None:
    homeserver.register("alice")
    homeserver.register("bob", locked=True)
    call("POST", f"{ADMIN}/v1/users/{{}}/login", OPERATOR, json={}, status=400)
    call("POST", f"{ADMIN}/v1/users/{{}}/login", f"@nobody:{SERVER}", json={}, status=404)
    alice, bob = call.log_in_as(ALICE), call.log_in_as(BOB)
    assert "admin" in call("GET", f"{ADMIN}/v2/users", token=alice, status=403)["error"]
    assert call("GET", f"{CLIENT}/sync", token=bob, status=401)["errcode"] == "M_USER_LOCKED"
    call("POST", f"{CLIENT}/logout", token=bob)
    homeserver.delegated = True
    assert call("POST", f"{ADMIN}/v1/users/{{}}/login", ALICE, status=404)["errcode"] == "M_UNRECOGNIZED"


# Faults


def test_an_answer_is_lost_after_or_before_the_request_was_carried_out(homeserver: Homeserver, call: Caller) -> None:
    homeserver.register("alice", "bob")
    homeserver.faults[f"POST deactivate {ALICE}"] = [After(GATEWAY_TIMEOUT), After(CONNECTION_LOST)]
    homeserver.faults[f"POST deactivate {BOB}"] = [GATEWAY_TIMEOUT, CONNECTION_LOST, None]
    for user_id, is_deactivated in ((ALICE, True), (BOB, False)):
        path = f"{ADMIN}/v1/deactivate/{{}}"
        call("POST", path, user_id, status=504)
        assert homeserver.accounts[user_id]["deactivated"] is is_deactivated
        with pytest.raises(requests.exceptions.ConnectionError):
            call("POST", path, user_id)
        assert homeserver.accounts[user_id]["deactivated"] is is_deactivated
        call("POST", path, user_id)
        assert homeserver.accounts[user_id]["deactivated"]


def test_errors_once_or_always(homeserver: Homeserver, call: Caller) -> None:
    homeserver.faults = {"GET users v2": [too_many_requests(2.5)], "GET rooms v1": BROKEN}
    assert call("GET", f"{ADMIN}/v2/users", status=429)["retry_after_ms"] == 2500
    call("GET", f"{ADMIN}/v2/users")
    for _request in range(3):
        call("GET", f"{ADMIN}/v1/rooms", status=500)


def test_a_token_that_dies(homeserver: Homeserver, call: Caller) -> None:
    homeserver.last_write = 1
    path = f"{CLIENT}/user/{{}}/account_data/x"
    call("PUT", path, OPERATOR, json={"a": 1})
    call("GET", path, OPERATOR)
    call("PUT", path, OPERATOR, json={"a": 2}, status=401)
    call("GET", path, OPERATOR, status=401)
    assert homeserver.account_data[OPERATOR, "x"] == {"a": 1}
    assert (homeserver.puts, homeserver.writes) == ([("x", 8)], ["PUT x account_data"] * 2)


def test_what_there_is_not_fails_the_test(call: Caller) -> None:
    with pytest.raises(AssertionError, match="has no GET admin/v1/nothing"):
        call("GET", f"{ADMIN}/v1/nothing")


@pytest.mark.parametrize("fault", [None, BROKEN, CONNECTION_LOST])
def test_a_direct_session_answers_the_same(homeserver: Homeserver, fault: Any) -> None:
    """As with I(requests), but for what takes time."""

    homeserver.add_room("r", [OPERATOR])
    client = SimpleNamespace(_connections=SimpleNamespace(_session=requests.Session()))
    found: list[Any] = []
    for attach in (False, True):
        if attach:
            homeserver.attach(client)
        homeserver.faults = {"GET rooms v1": fault}
        try:
            answer = client._connections._session.request(
                "GET", f"{BASE_URL}{ADMIN}/v1/rooms", params={"from": "0"}, json={"a": 1}, auth=authorize
            )
            found.append((answer.status_code, answer.json(), answer.headers["Date"], answer.is_redirect))
        except requests.exceptions.ConnectionError as error:
            found.append(str(error))
    assert found[0] == found[1] and homeserver.log[0] == homeserver.log[1]


def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
    request.headers["Authorization"] = f"Bearer {TOKEN}"
    return request


def test_over_a_socket() -> None:
    server = Homeserver(server_name="another.example")
    server.faults["GET rooms v1"] = [None, CONNECTION_LOST]
    with server.serve() as url:
        call = Caller(url)
        assert call("GET", f"{CLIENT}/account/whoami") == {"user_id": "@op:another.example"}
        assert call("GET", f"{ADMIN}/v1/rooms")["rooms"] == []
        with pytest.raises(requests.exceptions.ConnectionError):
            call("GET", f"{ADMIN}/v1/rooms")
        call("PUT", f"{CLIENT}/user/{{}}/account_data/x", "@op:another.example", json={"a": 1})
    assert server.puts == [("x", 8)]


# Leaving


def test_deactivated_accounts_leave_one_room_with_each_request(homeserver: Homeserver, call: Caller) -> None:
    homeserver.register("alice", "bob")
    homeserver.join(ALICE, "r", "s")
    homeserver.join(BOB, "r")
    for user_id in (ALICE, BOB):
        call("POST", f"{ADMIN}/v1/deactivate/{{}}", user_id, json={"erase": True})
    assert homeserver.accounts[ALICE]["erased"] and homeserver.joined[ALICE] == [R]
    looks = [call("GET", f"{ADMIN}/v1/users/{{}}/joined_rooms", BOB)["total"] for _request in range(2)]
    assert looks == [1, 0]
    assert homeserver.joined == {ALICE: [], BOB: []}


def test_a_session_that_an_admin_opened_outlives_the_deactivation(homeserver: Homeserver, call: Caller) -> None:
    homeserver.register("alice")
    token = call.log_in_as(ALICE)
    call("POST", f"{ADMIN}/v1/deactivate/{{}}", ALICE)
    call("GET", f"{CLIENT}/account/whoami", token=token)
    call("POST", f"{ADMIN}/v1/deactivate/{{}}", OPERATOR)
    call("GET", f"{CLIENT}/account/whoami", status=401)


def test_leaves_that_are_dropped(homeserver: Homeserver, call: Caller) -> None:
    homeserver.register("alice")
    homeserver.join(ALICE, "r")
    homeserver.dropped_leaves[ALICE] = 1
    for rooms in ([R], []):
        call("POST", f"{ADMIN}/v1/deactivate/{{}}", ALICE)
        call("GET", f"{CLIENT}/account/whoami")
        assert homeserver.joined[ALICE] == rooms


def test_an_old_version_lets_the_erased_join_again(homeserver: Homeserver, call: Caller) -> None:
    homeserver.version = "1.120.2"
    homeserver.register("alice")
    homeserver.join(ALICE, "r")
    call("POST", f"{ADMIN}/v1/deactivate/{{}}", ALICE, json={"erase": True})
    call("GET", f"{CLIENT}/account/whoami")
    assert homeserver.joined[ALICE] == [R] and not homeserver.leaving


def test_leaving_by_hand(homeserver: Homeserver, call: Caller) -> None:
    path = f"{CLIENT}/rooms/{{}}/leave"
    homeserver.join(OPERATOR, "r", "broken")
    homeserver.broken.add(f"!broken:{SERVER}")
    for _time in range(2):
        call("POST", path, R)
    call("POST", path, f"!broken:{SERVER}", status=500)
    call("POST", path, "!nowhere:other.example", status=404)
    homeserver.banned.add(OPERATOR)
    call("POST", path, R, status=403)
    assert homeserver.joined == {OPERATOR: [f"!broken:{SERVER}"]}


def test_a_room_without_local_members_says_nothing(homeserver: Homeserver, call: Caller) -> None:
    homeserver.add_room("r", [OPERATOR, REMOTE], {"type": "x", "state_key": "", "content": {}})
    path = f"{ADMIN}/v1/rooms/{{}}"
    assert call("GET", f"{path}/members", R)["members"] == [OPERATOR, REMOTE]
    assert len(call("GET", f"{path}/state", R)["state"]) == 3
    assert [event["type"] for event in call("GET", f"{path}/state", R, params={"type": "x"})["state"]] == ["x"]
    homeserver.leave_all()
    assert call("GET", f"{path}/members", R)["members"] == call("GET", f"{path}/state", R)["state"] == []
    newest = call("GET", f"{path}/forward_extremities", R)["results"][0]["event_id"]
    memberships = [e["content"].get("membership") for e in call("GET", f"{path}/context/{{}}", R, newest)["state"]]
    assert memberships == ["leave", "join", None]


def test_shutdown(homeserver: Homeserver, call: Caller) -> None:
    homeserver.add_room("r", [OPERATOR, REMOTE])
    body = {"purge": False, "block": False}
    delete_id = call("DELETE", f"{ADMIN}/v2/rooms/{{}}", R, json=body)["delete_id"]
    assert call("GET", f"{ADMIN}/v2/rooms/delete_status/{{}}", delete_id) == {"status": "complete"}
    assert homeserver.members[R] == {OPERATOR: "leave", REMOTE: "join"}
    with pytest.raises(AssertionError, match="nothing is ever purged"):
        call("DELETE", f"{ADMIN}/v2/rooms/{{}}", R, json={"purge": True, "block": False})


# Invites and notices


def test_invites_of_ignored_accounts_are_hidden(homeserver: Homeserver, call: Caller) -> None:
    homeserver.pending = {OPERATOR: {"invite": {"!x:other.example": [stripped(REMOTE)]}}}
    homeserver.members = {R: {OPERATOR: "knock"}}
    rooms = call("GET", f"{CLIENT}/sync")["rooms"]
    assert (list(rooms["invite"]), list(rooms["knock"])) == (["!x:other.example"], [R])
    homeserver.account_data[OPERATOR, IGNORED_USERS] = {"ignored_users": {REMOTE: {}}}
    assert call("GET", f"{CLIENT}/sync")["rooms"]["invite"] == {}
    call("POST", f"{CLIENT}/rooms/{{}}/leave", "!x:other.example")
    assert homeserver.pending[OPERATOR]["invite"] == {}


def test_server_notices(homeserver: Homeserver, call: Caller) -> None:
    homeserver.register("alice")
    notice: Json = {"user_id": ALICE, "content": {"body": "Goodbye"}}
    for transaction in ("1", "1", "2"):
        call("PUT", f"{ADMIN}/v1/send_server_notice/{{}}", transaction, json=notice)
    assert homeserver.notices == {ALICE: 2}
    (room,) = homeserver.joined[NOTICES]
    assert call("GET", f"{ADMIN}/v1/rooms")["rooms"][0]["creator"] == NOTICES
    assert len(call("GET", f"{ADMIN}/v1/rooms/{{}}/messages", room)["chunk"]) == 2
    token = call.log_in_as(ALICE)
    call("POST", f"{CLIENT}/rooms/{{}}/leave", room, token=token, status=403)
    call("POST", f"{CLIENT}/join/{{}}", room, token=token)
    call("POST", f"{CLIENT}/rooms/{{}}/leave", room, token=token)
    call("POST", f"{ADMIN}/v1/send_server_notice", json={**notice, "user_id": REMOTE}, status=400)
    homeserver.notices_enabled = False
    assert "not enabled" in call("POST", f"{ADMIN}/v1/send_server_notice", json=notice, status=400)["error"]


# State


def powers(**users: int) -> Json:
    levels = {f"@{name}:{SERVER}": level for name, level in users.items()}
    content = {"users": levels, "events": {"m.room.power_levels": 100}}
    return {"type": "m.room.power_levels", "state_key": "", "content": content}


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        ({"op": 100, "alice": 50}, {"op": 100, "alice": 100}, 200),
        ({"op": 100, "alice": 50}, {"op": 100}, 200),
        ({"op": 100, "alice": 100}, {"alice": 100}, 200),
        ({"op": 100, "alice": 100}, {"op": 100, "alice": 50}, 403),
        ({"op": 100}, {"op": 101}, 403),
        ({"op": 50, "alice": 100}, {"op": 0, "alice": 100}, 403),
    ],
)
def test_power_levels(homeserver: Homeserver, call: Caller, before: Json, after: Json, status: int) -> None:
    homeserver.add_room("r", [OPERATOR], powers(**before))
    content = powers(**after)["content"]
    call("PUT", f"{CLIENT}/rooms/{{}}/state/m.room.power_levels", R, json=content, status=status)
    assert homeserver.content(R) == powers(**(after if status == 200 else before))["content"]
    assert homeserver.state_changes == [(OPERATOR, R)]


@pytest.mark.parametrize(("fields", "status"), [({"shadow_banned": True}, 200), ({"suspended": True}, 403)])
def test_who_cannot_send_state(homeserver: Homeserver, call: Caller, fields: Json, status: int) -> None:
    homeserver.accounts[OPERATOR].update(fields)
    homeserver.add_room("r", [OPERATOR])
    call("PUT", f"{CLIENT}/rooms/{{}}/state/m.room.name", R, json={"name": "n"}, status=status)
    assert homeserver.content(R, "m.room.name") == {}


def test_aliases(homeserver: Homeserver, call: Caller) -> None:
    alias = f"#a:{SERVER}"
    homeserver.add_room("r", [OPERATOR], aliases=[alias])
    assert call("GET", f"{CLIENT}/rooms/{{}}/aliases", R) == {"aliases": [alias]}
    call("DELETE", f"{CLIENT}/directory/room/{{}}", alias)
    call("DELETE", f"{CLIENT}/directory/room/{{}}", alias, status=404)
    assert homeserver.directory == {}


def test_redaction(homeserver: Homeserver, call: Caller) -> None:
    homeserver.add_room("r", [OPERATOR])
    homeserver.events[R] = [message("$1", OPERATOR)]
    call("PUT", f"{CLIENT}/rooms/{{}}/redact/{{}}/{{}}", R, "$1", "txn", json={})
    assert homeserver.events[R][0]["content"] == {} and homeserver.requests == ["PUT redact $1"]
