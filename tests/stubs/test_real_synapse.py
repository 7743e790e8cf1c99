# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fake homeserver answers as a real Synapse does: the same requests to both."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, NamedTuple
from urllib.parse import quote

import requests
from lab import Homeserver as RealServer
from lab import Lab, MissingError, Settings
from lab.waiting import wait_until

from stubs.helpers import BASE_URL, OPERATOR, SERVER, TOKEN, Json, message
from stubs.homeserver import Homeserver, create, levels

ROOT = Path(__file__).parents[2]
ADMIN, CLIENT = "/_synapse/admin", "/_matrix/client/v3"
USERS, ROOMS = f"{ADMIN}/v2/users", f"{ADMIN}/v1/rooms"


class Place(NamedTuple):
    """A server with the operator, alice, bob and carol, a guest, and a room that alice has made and carol is in.

    Bob is locked. The room has an alias, and a message by alice. She has uploaded two files, one of which is
    quarantined, and the other is the avatar of the room.
    """

    url: str
    server_name: str
    token: str
    operator: str
    guest: str
    room: str
    event: str
    media: str
    quarantined: str

    def user(self, name: str) -> str:
        return f"@{name}:{self.server_name}"


class Asked:
    """Sends requests, and keeps of each answer the status and what is compared, by the name of the question."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.found: dict[str, Any] = {}

    def __call__(
        self,
        what: str,
        method: str,
        path: str,
        *segments: str,
        of: Callable[[Json], Any] = lambda answer: None,
        token: str | None = None,
        **more: Any,
    ) -> Json:
        """Send a request. I(of) makes of the answer what both servers must agree on, beside status and errcode."""
        token = self.place.token if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = self.place.url + path.format(*(quote(segment, safe="") for segment in segments))
        answer = requests.request(method, url, headers=headers, timeout=60, **more)
        body: Json = answer.json()
        compared = of(body) if answer.status_code == 200 else body["errcode"]
        assert what not in self.found
        self.found[what] = self._without_name((answer.status_code, compared))
        return body

    def _without_name(self, value: Any) -> Any:
        """The same without the names of the server, the room, the guest and the files."""
        if isinstance(value, str):
            place = self.place
            names = {place.guest: "guest", place.room: "room", place.operator: "op", place.media: "media"}
            for name, plain in names.items():
                value = value.replace(name, plain)
            return value.replace(self.place.server_name, "server")
        if isinstance(value, dict):
            return {self._without_name(key): self._without_name(each) for key, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._without_name(each) for each in value]
        return value

    def log_in_as(self, what: str, name: str, **body: Any) -> str:
        answer = self(what, "POST", f"{ADMIN}/v1/users/{{}}/login", self.place.user(name), json=body)
        return str(answer.get("access_token", ""))


def names(answer: Json) -> list[str]:
    return sorted(account["name"] for account in answer["users"])


def flags(answer: Json) -> list[bool]:
    return [bool(answer[key]) for key in ("admin", "is_guest", "deactivated", "erased", "locked")]


def ask_of_accounts(ask: Asked) -> None:
    place = ask.place
    for guests in ("true", "false"):
        query = {"guests": guests, "locked": "true", "deactivated": "true"}
        ask(f"accounts with guests={guests}", "GET", USERS, params=query, of=names)
    ask("accounts by default", "GET", USERS, params={"limit": "100"}, of=names)
    ask("accounts by name", "GET", USERS, params={"name": "ali"}, of=names)
    first = ask("first page", "GET", USERS, params={"limit": "2"}, of=lambda a: [len(a["users"]), a["next_token"]])
    query = {"limit": "2", "from": first["next_token"]}
    ask("second page", "GET", USERS, params=query, of=lambda a: len(a["users"]))
    for name in ("alice", "bob", "nobody"):
        ask(name, "GET", f"{USERS}/{{}}", place.user(name), of=flags)
    ask("no token", "GET", USERS, token="")
    ask("a wrong token", "GET", USERS, token="syt_wrong")
    ask("deactivate nobody", "POST", f"{ADMIN}/v1/deactivate/{{}}", place.user("nobody"), json={})
    ask("deactivate elsewhere", "POST", f"{ADMIN}/v1/deactivate/{{}}", "@a:elsewhere.example", json={})


def ask_of_sessions(ask: Asked) -> str:
    """Returns a session of alice."""
    whoami, place = f"{CLIENT}/account/whoami", ask.place
    ask("act as oneself", "POST", f"{ADMIN}/v1/users/{{}}/login", place.operator, json={})
    ask.log_in_as("act as nobody", "nobody")
    alice, again, bob = (ask.log_in_as(f"act as {n}", n.split()[0]) for n in ("alice", "alice again", "bob"))
    ask("an admin's request by alice", "GET", USERS, token=alice)
    ask("whoami of alice", "GET", whoami, token=alice, of=lambda answer: answer["user_id"])
    ask("whoami of bob, who is locked", "GET", whoami, token=bob)
    ask("logout of bob, who is locked", "POST", f"{CLIENT}/logout", token=bob, json={})
    ask("logout of alice everywhere", "POST", f"{CLIENT}/logout/all", token=alice, json={})
    ask("whoami after that", "GET", whoami, token=alice)
    ask("logout of alice", "POST", f"{CLIENT}/logout", token=again, json={})
    ask("whoami after that, too", "GET", whoami, token=again)
    expired = ask.log_in_as("act as alice for no time", "alice", valid_until_ms=1)
    ask("an expired session", "GET", whoami, token=expired)
    path = f"{ADMIN}/v1/users/{{}}/login"
    guest = str(ask("act as a guest", "POST", path, place.guest, json={})["access_token"])
    ask("logout of a guest", "POST", f"{CLIENT}/logout", token=guest, json={})
    return alice


def ask_of_the_operator(ask: Asked) -> None:
    place = ask.place
    data = f"{CLIENT}/user/{{}}/account_data/{{}}"
    ask("no account data", "GET", data, place.operator, "x")
    ask("write account data", "PUT", data, place.operator, "x", json={"a": [1]}, of=dict)
    ask("read account data", "GET", data, place.operator, "x", of=dict)
    ask("account data of another", "GET", data, place.user("alice"), "x")
    limit = f"{ADMIN}/v1/users/{{}}/override_ratelimit"
    unlimited = {"messages_per_second": 0, "burst_count": 0}
    ask("no override", "GET", limit, place.operator, of=dict)
    ask("override", "POST", limit, place.operator, json=unlimited, of=dict)
    ask("the override", "GET", limit, place.operator, of=dict)
    ask("delete the override", "DELETE", limit, place.operator, of=dict)
    ask("no override again", "GET", limit, place.operator, of=dict)


def ask_of_rooms(ask: Asked, alice: str) -> None:
    place = ask.place
    keys = ("room_id", "joined_members", "joined_local_members", "public", "room_type", "creator", "canonical_alias")
    ask("rooms", "GET", ROOMS, of=lambda answer: [[room[key] for key in keys] for room in answer["rooms"]])
    for what, room in (("members", place.room), ("members of a room that is not", "!none:elsewhere.example")):
        ask(what, "GET", f"{ROOMS}/{{}}/members", room, of=lambda a: sorted(a["members"]))
    kinds = {"m.room.create", "m.room.power_levels", "m.room.member"}
    ask("state", "GET", f"{ROOMS}/{{}}/state", place.room, of=lambda a: sorted(kinds & {e["type"] for e in a["state"]}))
    query = {"type": "m.room.power_levels"}
    ask("state of one type", "GET", f"{ROOMS}/{{}}/state", place.room, params=query, of=lambda a: len(a["state"]))
    for name in ("alice", "bob"):
        path = f"{ADMIN}/v1/users/{{}}/joined_rooms"
        ask(f"rooms of {name}", "GET", path, place.user(name), of=lambda answer: answer["joined_rooms"])
    ask("memberships", "GET", f"{ADMIN}/v1/users/{{}}/memberships", place.user("carol"), of=lambda a: a["memberships"])
    ask("sync", "GET", f"{CLIENT}/sync", token=alice, of=lambda a: list(a["rooms"]["join"]))
    state = f"{CLIENT}/rooms/{{}}/state/{{}}"
    carol = ask.log_in_as("act as carol", "carol")
    ask("a name by carol", "PUT", state, place.room, "m.room.name", token=carol, json={"name": "n"})
    ask("a name by the operator", "PUT", state, place.room, "m.room.name", json={"name": "n"})
    ask("a name by alice", "PUT", state, place.room, "m.room.name", token=alice, json={"name": "n"})
    content = levels({place.user("alice"): 100, place.user("carol"): 101})["content"]
    ask("more power than one has", "PUT", state, place.room, "m.room.power_levels", token=alice, json=content)
    path = f"{CLIENT}/rooms/{{}}/redact/{{}}/{{}}"
    ask("redact", "PUT", path, place.room, place.event, "1", token=alice, json={})
    sent = f"{ROOMS}/{{}}/messages"
    query = {"dir": "f", "limit": "1000", "filter": '{"types":["m.room.message"]}'}
    ask("messages", "GET", sent, place.room, params=query, of=lambda a: [event["content"] for event in a["chunk"]])
    ask("aliases", "GET", f"{CLIENT}/rooms/{{}}/aliases", place.room, of=lambda answer: answer["aliases"])
    alias = f"#alias:{place.server_name}"
    for time in ("first", "second"):
        ask(f"delete an alias the {time} time", "DELETE", f"{CLIENT}/directory/room/{{}}", alias)
        ask(f"leave the {time} time", "POST", f"{CLIENT}/rooms/{{}}/leave", place.room, token=carol, json={})
    ask("leave a room of others", "POST", f"{CLIENT}/rooms/{{}}/leave", "!none:elsewhere.example", json={})


def ask_of_notices(ask: Asked, alice: str) -> None:
    place, send = ask.place, f"{ADMIN}/v1/send_server_notice"
    notice: Json = {"user_id": place.user("alice"), "content": {"msgtype": "m.text", "body": "Goodbye"}}
    ask("a notice for another server", "POST", send, json={**notice, "user_id": "@a:elsewhere.example"})
    for time in ("first", "second"):
        ask(f"a notice the {time} time", "PUT", f"{send}/{{}}", "transaction", json=notice)
    # Synapse has the answer to the same sync in its cache.
    query = {"filter": '{"event_fields": ["another"]}'}
    synced = ask(
        "sync after that", "GET", f"{CLIENT}/sync", token=alice, params=query, of=lambda a: len(a["rooms"]["invite"])
    )
    (room,) = synced["rooms"]["invite"]
    leave = f"{CLIENT}/rooms/{{}}/leave"
    ask("turn a notice down", "POST", leave, room, token=alice, json={})
    ask("accept it", "POST", f"{CLIENT}/join/{{}}", room, token=alice, json={})
    ask("and leave", "POST", leave, room, token=alice, json={})


def ask_of_media(ask: Asked) -> None:
    place = ask.place
    in_room = f"{ADMIN}/v1/room/{{}}/media"
    ask("media of the room", "GET", in_room, place.room, of=dict)
    ask("media of a room that is not", "GET", in_room, "!none:elsewhere.example", of=dict)
    info, download = f"{ADMIN}/v1/media/{{}}/{{}}", "/_matrix/client/v1/media/download/{}/{}"
    old_download = "/_matrix/media/v3/download/{}/{}"
    described = ("media_id", "media_type", "media_length", "quarantined_by")
    for what, media_id in (("a file", place.media), ("a missing file", "missing")):
        ask(what, "GET", info, place.server_name, media_id, of=lambda a: [a["media_info"][key] for key in described])
        ask(f"download {what} by the old way", "GET", old_download, place.server_name, media_id)
    ask("download a missing file", "GET", download, place.server_name, "missing")
    ask("a quarantined file", "GET", info, place.server_name, place.quarantined, of=is_quarantined)
    ask("download a quarantined file", "GET", download, place.server_name, place.quarantined)
    ask("download without a token", "GET", download, place.server_name, place.media, token="")
    headers = {"Authorization": f"Bearer {place.token}"}
    url = place.url + download.format(quote(place.server_name), place.media)
    answer = requests.get(url, headers=headers, timeout=60)
    kept = [answer.headers[name] for name in ("Content-Type", "Content-Disposition", "Content-Length")]
    ask.found["download a file"] = (answer.status_code, answer.content, kept)


def is_quarantined(answer: Json) -> bool:
    return bool(answer["media_info"]["quarantined_by"])


def ask_of_deactivation(ask: Asked, alice: str) -> None:
    place = ask.place
    ask("deactivate", "POST", f"{ADMIN}/v1/deactivate/{{}}", place.user("alice"), json={"erase": True})

    def is_out() -> bool:
        headers = {"Authorization": f"Bearer {place.token}"}
        url = f"{place.url}{ADMIN}/v1/users/{quote(place.user('alice'))}/joined_rooms"
        return not requests.get(url, headers=headers, timeout=60).json()["joined_rooms"]

    wait_until(is_out, "alice has left all rooms")
    ask("alice after that", "GET", f"{USERS}/{{}}", place.user("alice"), of=flags)
    ask("a session that the operator opened", "GET", f"{CLIENT}/account/whoami", token=alice)
    room = f"{ROOMS}/{{}}"
    ask("media of an empty room", "GET", f"{ADMIN}/v1/room/{{}}/media", place.room, of=dict)
    ask("members of an empty room", "GET", f"{room}/members", place.room, of=lambda answer: answer["members"])
    ask("state of an empty room", "GET", f"{room}/state", place.room, of=lambda answer: answer["state"])
    newest = ask("newest event", "GET", f"{room}/forward_extremities", place.room, of=times_of_events)
    event = newest["results"][0]["event_id"]
    context = f"{room}/context/{{}}"
    ask("state at it", "GET", context, place.room, event, params={"limit": "0"}, of=memberships)


def times_of_events(answer: Json) -> list[bool]:
    return [isinstance(event["received_ts"], int) for event in answer["results"]]


def memberships(answer: Json) -> list[list[str]]:
    members = [event for event in answer["state"] if event["type"] == "m.room.member"]
    return sorted([event["state_key"], event["content"]["membership"]] for event in members)


def ask_everything(place: Place) -> dict[str, Any]:
    ask = Asked(place)
    ask_of_accounts(ask)
    alice = ask_of_sessions(ask)
    ask_of_the_operator(ask)
    ask_of_rooms(ask, alice)
    ask_of_notices(ask, alice)
    ask_of_media(ask)
    ask_of_deactivation(ask, alice)
    return ask.found


def fake(homeserver: Homeserver) -> Place:
    homeserver.register("alice", "carol")
    homeserver.register("bob", locked=True)
    (guest,) = homeserver.register("1", is_guest=True)
    alice, carol, alias = f"@alice:{SERVER}", f"@carol:{SERVER}", f"#alias:{SERVER}"
    room = homeserver.add_room("r", [alice, carol], create("10", alice), levels({alice: 100}), aliases=[alias])
    homeserver.set_content(room, "m.room.canonical_alias", {"alias": alias})
    homeserver.events[room] = [message("$event", alice)]
    homeserver.set_content(room, "m.room.avatar", {"url": homeserver.upload("media", b"content", "text/plain")})
    homeserver.upload("quarantined", quarantined=True)
    return Place(BASE_URL, SERVER, TOKEN, OPERATOR, guest, room, "$event", "media", "quarantined")


def real(lab: Lab) -> Place:
    server = lab["a"]
    alice, bob, carol = (server.register(name) for name in ("alice", "bob", "carol"))
    server.lock(bob.user_id)
    guest = server.register_guest()
    options = {"room_version": "10", "room_alias_name": "alias", "preset": "public_chat", "visibility": "private"}
    room = server.create_room(alice.token, **options)
    server.join(carol.token, room)
    server.send(alice.token, room, "hello")
    (event,) = (e["event_id"] for e in server.messages(alice.token, room) if e["type"] == "m.room.message")
    # With the same content, both would be quarantined.
    media, quarantined = (upload(server, alice.token, content) for content in (b"content", b"other"))
    server.set_state(alice.token, room, "m.room.avatar", {"url": f"mxc://{server.server_name}/{media}"})
    server.admin("POST", f"/v1/media/quarantine/{quote(server.server_name)}/{quarantined}", json={})
    return Place(
        server.base_url,
        server.server_name,
        server.admin_token,
        server.operator.user_id,
        guest.user_id,
        room,
        event,
        media,
        quarantined,
    )


def upload(server: RealServer, token: str, content: bytes) -> str:
    """Upload a file; return its media ID."""
    url = f"{server.base_url}/_matrix/media/v3/upload"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "text/plain"}
    answer = requests.post(url, data=content, headers=headers, timeout=60)
    return str(answer.json()["content_uri"]).rpartition("/")[2]


def test_both_answer_the_same(skip_or_fail: Callable[[str], None]) -> None:
    with Homeserver.mocked() as homeserver:
        answers = ask_everything(fake(homeserver))
    try:
        settings = Settings(server_notices=True)
        with Lab(ROOT / ".cache/tests/stubs", ("a",), base_port=18380, settings=settings) as lab:
            found = ask_everything(real(lab))
    except MissingError as missing:
        skip_or_fail(str(missing))
    assert answers == found
