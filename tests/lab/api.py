# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small client of Synapse, for setting up and for checking.

On purpose it shares nothing with the collection's own client: it is what that one is checked with.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote as url_quote

import requests
from requests.adapters import HTTPAdapter

from .errors import LabError
from .waiting import PATIENCE

Json = dict[str, Any]

PASSWORD = "lab-password"  # of every account that has one
REGISTRATION_SECRET = "lab-registration-secret"
APPSERVICE_TOKEN = "lab-application-service-token"
APPSERVICE_SENDER = "_bridge_bot"
APPSERVICE_PREFIX = "_bridge_"


class ApiError(LabError):
    """An answer other than 2xx."""

    def __init__(self, request: str, status: int, body: Json) -> None:
        super().__init__(f"{request}: {status} {body}")
        self.status = status
        self.errcode: str | None = body.get("errcode")
        self.body = body


@dataclass(frozen=True)
class Account:
    """An account and a token to act as it."""

    user_id: str
    token: str


def quote(identifier: str) -> str:
    """An identifier as one segment of a path."""
    return url_quote(identifier, safe="")


def server_of(user_id: str) -> str:
    """The server name in a user id."""
    return user_id.split(":", 1)[1]


class Api:
    """Calls to one homeserver; safe to use from several threads."""

    def __init__(self, base_url: str, server_name: str) -> None:
        self.base_url = base_url
        self.server_name = server_name
        self.operator = Account("", "")
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, no netrc: it is loopback
        self._session.mount("http://", HTTPAdapter(pool_maxsize=64))

    @property
    def admin_token(self) -> str:
        """The operator's access token."""
        return self.operator.token

    def call(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        json: Json | None = None,
        params: Json | None = None,
        timeout: float = PATIENCE,
    ) -> Json:
        """The JSON answer to one request; ``ApiError`` unless it is 2xx."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        response = self._session.request(
            method, self.base_url + path, headers=headers, json=json, params=params, timeout=timeout
        )
        is_json = response.headers.get("Content-Type", "").startswith("application/json")
        body: Json = response.json() if is_json else {"error": response.text}
        if not response.ok:
            raise ApiError(f"{method} {path}", response.status_code, body)
        return body

    def admin(self, method: str, path: str, *, json: Json | None = None, params: Json | None = None) -> Json:
        """A call below ``/_synapse/admin`` with the operator's token."""
        return self.call(method, f"/_synapse/admin{path}", token=self.admin_token, json=json, params=params)

    def _client(self, method: str, path: str, token: str, json: Json | None = None, **params: Any) -> Json:
        return self.call(method, f"/_matrix/client/v3{path}", token=token, json=json, params=params)

    def _listed(self, path: str, key: str, **params: Any) -> Iterator[Json]:
        while True:
            page = self.admin("GET", path, params={"limit": 1000, **params})
            yield from page[key]
            following = page.get("next_token", page.get("next_batch"))
            if following is None:
                return
            params["from"] = following

    def user_id(self, localpart: str) -> str:
        """The full id of a local user."""
        return f"@{localpart}:{self.server_name}"

    # Accounts

    def register(self, localpart: str, *, admin: bool = False) -> Account:
        """A new account, by the shared secret."""
        path = "/_synapse/admin/v1/register"
        nonce = self.call("GET", path)["nonce"]
        kind = "admin" if admin else "notadmin"
        signed = "\0".join((nonce, localpart, PASSWORD, kind)).encode()
        body = {
            "nonce": nonce,
            "username": localpart,
            "password": PASSWORD,
            "admin": admin,
            "mac": hmac.new(REGISTRATION_SECRET.encode(), signed, hashlib.sha1).hexdigest(),
        }
        answer = self.call("POST", path, json=body)
        return Account(answer["user_id"], answer["access_token"])

    def register_guest(self) -> Account:
        """A new guest; its name is Synapse's choice."""
        answer = self._client("POST", "/register", "", {}, kind="guest")
        return Account(answer["user_id"], answer["access_token"])

    def register_appservice_user(self, localpart: str) -> Account:
        """A new account of the application service."""
        body = {"type": "m.login.application_service", "username": localpart}
        answer = self._client("POST", "/register", APPSERVICE_TOKEN, body)
        return Account(answer["user_id"], answer["access_token"])

    def login(self, localpart: str) -> Account:
        """A new session of an account, by its password."""
        body = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": localpart},
            "password": PASSWORD,
        }
        answer = self._client("POST", "/login", "", body)
        return Account(answer["user_id"], answer["access_token"])

    def login_as(self, user_id: str) -> Account:
        """A token for somebody else's account, through the admin API."""
        answer = self.admin("POST", f"/v1/users/{quote(user_id)}/login", json={})
        return Account(user_id, answer["access_token"])

    def lock(self, user_id: str) -> None:
        """Lock an account."""
        self.admin("PUT", f"/v2/users/{quote(user_id)}", json={"locked": True})

    def suspend(self, user_id: str) -> None:
        """Suspend an account, where this version of Synapse can."""
        try:
            self.admin("PUT", f"/v1/suspend/{quote(user_id)}", json={"suspend": True})
        except ApiError as refused:
            if refused.errcode != "M_UNRECOGNIZED":
                raise

    def deactivate(self, user_id: str, *, erase: bool) -> None:
        """Deactivate an account."""
        self.admin("POST", f"/v1/deactivate/{quote(user_id)}", json={"erase": erase})

    def accounts(self) -> list[Json]:
        """All accounts, as the admin API gives them: guests, locked and deactivated ones, too."""
        everybody = {"guests": "true", "locked": "true", "deactivated": "true"}
        return list(self._listed("/v2/users", "users", **everybody))

    def account(self, user_id: str) -> Json:
        """One account in full; the list leaves out ``suspended`` and ``appservice_id``."""
        return self.admin("GET", f"/v2/users/{quote(user_id)}")

    # Rooms

    def create_room(self, token: str, **options: Any) -> str:
        """A new room; the options are those of ``createRoom``."""
        room_id: str = self._client("POST", "/createRoom", token, options)["room_id"]
        return room_id

    def join(self, token: str, room_id: str, via: str | None = None, as_user: str | None = None) -> None:
        """Join a room; ``as_user`` is for the application service's token."""
        self._client("POST", f"/join/{quote(room_id)}", token, {}, server_name=via, via=via, user_id=as_user)

    def invite(self, token: str, room_id: str, user_id: str) -> None:
        """Invite somebody to a room."""
        self._client("POST", f"/rooms/{quote(room_id)}/invite", token, {"user_id": user_id})

    def knock(self, token: str, room_id: str, via: str | None = None) -> None:
        """Knock on a room."""
        self._client("POST", f"/knock/{quote(room_id)}", token, {}, server_name=via, via=via)

    def leave(self, token: str, room_id: str) -> None:
        """Leave a room, turn down an invite or take back a knock."""
        self._client("POST", f"/rooms/{quote(room_id)}/leave", token, {})

    def send(self, token: str, room_id: str, text: str) -> None:
        """Send a text message."""
        message = {"msgtype": "m.text", "body": text}
        self._client("POST", f"/rooms/{quote(room_id)}/send/m.room.message", token, message)

    def set_state(self, token: str, room_id: str, kind: str, content: Json) -> None:
        """Set a room's state of that type."""
        self._client("PUT", f"/rooms/{quote(room_id)}/state/{quote(kind)}/", token, content)

    def messages(self, token: str, room_id: str) -> list[Json]:
        """The newest events of a room, as a member of it sees them."""
        chunk: list[Json] = self._client("GET", f"/rooms/{quote(room_id)}/messages", token, dir="b", limit=1000)[
            "chunk"
        ]
        return chunk

    def sync(self, token: str) -> Json:
        """An initial sync: what the account is joined to, invited to and knocking at."""
        return self._client("GET", "/sync", token, timeout=0)

    def rooms(self) -> list[Json]:
        """All rooms this server knows of."""
        return list(self._listed("/v1/rooms", "rooms"))

    def joined_members(self, room_id: str) -> list[str]:
        """Who is in a room as this server sees it, sorted."""
        members: list[str] = self.admin("GET", f"/v1/rooms/{quote(room_id)}/members")["members"]
        return sorted(members)

    def joined_rooms(self, user_id: str) -> list[str]:
        """The rooms a local account is in, sorted."""
        rooms: list[str] = self.admin("GET", f"/v1/users/{quote(user_id)}/joined_rooms")["joined_rooms"]
        return sorted(rooms)

    def members_of(self, server_name: str) -> dict[str, list[str]]:
        """By room, the accounts of ``server_name`` that are in it as *this* server sees it."""
        found = {}
        for room in self.rooms():
            members = [user for user in self.joined_members(room["room_id"]) if server_of(user) == server_name]
            if members:
                found[room["room_id"]] = members
        return found

    def background_updates(self) -> list[str]:
        """The databases that Synapse is still updating in the background."""
        return list(self.admin("GET", "/v1/background_updates/status")["current_updates"])

    def undelivered(self) -> dict[str, list[str]]:
        """By destination, the rooms with events that it has not been told of yet."""
        behind = {}
        for destination in self._listed("/v1/federation/destinations", "destinations"):
            name = destination["destination"]
            told = destination["last_successful_stream_ordering"] or 0
            rooms = self._listed(f"/v1/federation/destinations/{quote(name)}/rooms", "rooms")
            if late := [room["room_id"] for room in rooms if room["stream_ordering"] > told]:
                behind[name] = late
        return behind
