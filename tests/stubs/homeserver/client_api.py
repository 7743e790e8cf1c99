# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client API of the fake homeserver, below C(/_matrix/client), and downloads of media."""

from __future__ import annotations

import json

from ..helpers import Json
from . import admin_api
from .answers import BROKEN, NOT_FOUND, UNRECOGNIZED, File, RefusalError, Reply
from .power_levels import may_send
from .request import Endpoints, Request
from .state import IGNORED_USERS, State

endpoints = Endpoints()


# The server, for anybody


@endpoints("GET client/versions")
def versions(state: State, request: Request) -> Reply:
    return 200, {"versions": ["v1.11"]}


@endpoints("GET client/v3/login")
def login_flows(state: State, request: Request) -> Reply:
    return 200, {"flows": [{"type": "m.login.password"}]}


@endpoints("GET client/v1/auth_metadata")
def auth_metadata(state: State, request: Request) -> Reply:
    return (200, {"issuer": "https://account.example.org/"}) if state.delegated else UNRECOGNIZED


@endpoints("GET client/v3/register/available")
def available(state: State, request: Request) -> Reply:
    if not state.registration_open:
        return 403, {"errcode": "M_FORBIDDEN", "error": "Registration has been disabled"}
    return 200, {"available": True}


# The account of the access token


@endpoints("GET client/v3/account/whoami")
def whoami(state: State, request: Request) -> Reply:
    return 200, {"user_id": request.user_id}


@endpoints("POST client/v3/logout")
def logout(state: State, request: Request) -> Reply:
    if state.accounts[request.user_id]["is_guest"]:
        return 403, {"errcode": "M_GUEST_ACCESS_FORBIDDEN", "error": "Guest access not allowed"}
    del state.sessions[request.token]
    return 200, {}


@endpoints("POST client/v3/logout/all")
def logout_everywhere(state: State, request: Request) -> Reply:
    """End an account's own sessions. Those that admins opened as the account belong to the admin."""
    for token, session in list(state.sessions.items()):
        if session.user_id == request.user_id and not session.by_admin:
            del state.sessions[token]
    return 200, {}


@endpoints("GET client/v3/user/{}/account_data/{}")
def read_account_data(state: State, request: Request, user_id: str, kind: str) -> Reply:
    own_account(request, user_id)
    found = state.account_data.get((user_id, kind))
    return NOT_FOUND if found is None else (200, found)


@endpoints("PUT client/v3/user/{}/account_data/{}")
def write_account_data(state: State, request: Request, user_id: str, kind: str) -> Reply:
    own_account(request, user_id)
    state.account_data[user_id, kind] = request.body
    if user_id == state.operator:
        state.puts.append((kind, len(json.dumps(request.body))))
    return 200, {}


def own_account(request: Request, user_id: str) -> None:
    if user_id != request.user_id:
        raise RefusalError(403, "M_FORBIDDEN", "Cannot get account data for other users")


@endpoints("GET client/v3/sync")
def sync(state: State, request: Request) -> Reply:
    """The rooms of an account, without the invites and knocks of ignored users."""
    user_id = request.user_id
    rooms: dict[str, Json] = {"join": {}, "invite": {}, "knock": {}}
    for room, members in state.members.items():
        if members.get(user_id) in rooms:
            rooms[members[user_id]][room] = {}
    ignored = state.account_data.get((user_id, IGNORED_USERS), {}).get("ignored_users", {})
    for kind, pending in state.pending.get(user_id, {}).items():
        for room, events in pending.items():
            if not any(event.get("sender") in ignored for event in events):
                rooms[kind][room] = {f"{kind}_state": {"events": events}}
    return 200, {"rooms": rooms}


# Rooms


def in_room(state: State, room: str, user_id: str) -> None:
    if state.members.get(room, {}).get(user_id) != "join":
        raise RefusalError(403, "M_FORBIDDEN", f"User {user_id} not in room {room}")


@endpoints("POST client/v3/createRoom")
def create_room(state: State, request: Request) -> Reply:
    return 200, {"room_id": state.add_room(f"created{len(state.members)}", [request.user_id])}


@endpoints("POST client/v3/join/{}")
def join(state: State, request: Request, room: str) -> Reply:
    """Accept an invite."""
    pending = state.pending.get(request.user_id, {}).get("invite", {})
    if state.members.get(room, {}).get(request.user_id) != "invite" and room not in pending:
        return 403, {"errcode": "M_FORBIDDEN", "error": "You are not invited to this room."}
    pending.pop(room, None)
    state.members.setdefault(room, {})[request.user_id] = "join"
    return 200, {"room_id": room}


@endpoints("POST client/v3/rooms/{}/leave")
def leave(state: State, request: Request, room: str) -> Reply:
    """Leave a room, turn an invite down, or take a knock back. To leave a room twice is no error."""
    user_id = request.user_id
    membership = state.members.get(room, {}).get(user_id)
    if user_id in state.banned or membership == "ban":
        return 403, {"errcode": "M_FORBIDDEN", "error": "cannot leave"}
    if room in state.broken:
        return BROKEN
    if membership == "invite" and state.members[room].get(state.notices_user) == "join":
        return 403, {"errcode": "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM", "error": "You cannot reject this invite"}
    kinds = [rooms for rooms in state.pending.get(user_id, {}).values() if room in rooms]
    if membership is None and not kinds:
        return 404, {"errcode": "M_UNKNOWN", "error": "Not a known room"}
    for rooms in kinds:
        del rooms[room]
    if membership is not None:
        state.members[room][user_id] = "leave"
    return 200, {}


@endpoints("PUT client/v3/rooms/{}/state/{}")
def send_state(state: State, request: Request, room: str, kind: str) -> Reply:
    user_id = request.user_id
    account = state.accounts[user_id]
    if account.get("suspended"):
        return 403, {"errcode": "M_USER_SUSPENDED", "error": "Sending messages while account is suspended"}
    in_room(state, room, user_id)
    if not may_send(state.state.get(room, []), user_id, kind, request.body):
        return 403, {"errcode": "M_FORBIDDEN", "error": "You don't have permission to post that to the room"}
    if not account.get("shadow_banned"):
        # Of what a shadow-banned account sends, nothing happens, and it gets the same answer.
        state.set_content(room, kind, request.body, user_id)
    return 200, {"event_id": "$state"}


@endpoints("GET client/v3/rooms/{}/messages")
def messages(state: State, request: Request, room: str) -> Reply:
    in_room(state, room, request.user_id)
    return admin_api.messages(state, request, room)


@endpoints("PUT client/v3/rooms/{}/redact/{}/{}")
def redact_once(state: State, request: Request, room: str, event_id: str, transaction: str) -> Reply:
    if request.token.startswith("mpt_"):
        raise RefusalError(500, "M_UNKNOWN", "Internal server error")
    return redact(state, request, room, event_id)


@endpoints("POST client/v3/rooms/{}/redact/{}")
def redact(state: State, request: Request, room: str, event_id: str) -> Reply:
    in_room(state, room, request.user_id)
    for event in state.events.get(room, ()):
        if event.get("event_id") == event_id:
            event["content"] = {}
    return 200, {"event_id": "$redaction"}


@endpoints("POST client/v3/keys/query")
def query_keys(state: State, request: Request) -> Reply:
    return 200, {"device_keys": {}, "failures": {}}


# Aliases


@endpoints("GET client/v3/rooms/{}/aliases")
def aliases(state: State, request: Request, room: str) -> Reply:
    return 200, {"aliases": [alias for alias, target in state.directory.items() if target == room]}


@endpoints("GET client/v3/directory/room/{}")
def resolve_alias(state: State, request: Request, alias: str) -> Reply:
    if alias not in state.directory:
        return 404, {"errcode": "M_NOT_FOUND", "error": f"Room alias {alias} not found"}
    return 200, {"room_id": state.directory[alias], "servers": [state.server_name]}


@endpoints("DELETE client/v3/directory/room/{}")
def delete_alias(state: State, request: Request, alias: str) -> Reply:
    if alias not in state.directory:
        return 404, {"errcode": "M_NOT_FOUND", "error": f"Room alias {alias} not found"}
    del state.directory[alias]
    return 200, {"message": "OK"}


# Media


@endpoints("GET client/v1/media/download/{}/{}")
def download(state: State, request: Request, server: str, media_id: str) -> Reply:
    return file_of(state, server, media_id) if state.is_at_least(1, 111) else UNRECOGNIZED


@endpoints("GET media/v3/download/{}/{}")
def old_download(state: State, request: Request, server: str, media_id: str) -> Reply:
    """Newer versions do not give it what was uploaded since, which is everything here."""
    return NOT_FOUND if state.is_at_least(1, 120) else file_of(state, server, media_id)


def file_of(state: State, server: str, media_id: str) -> Reply:
    upload = state.media.get(media_id)
    if server != state.server_name or upload is None or upload.quarantined:
        return NOT_FOUND
    if upload.length is None:
        return 504, {"errcode": "M_NOT_YET_UPLOADED", "error": "Media has not been uploaded yet"}
    kind = upload.content_type
    headers = {
        "Content-Type": f"{kind}; charset=UTF-8" if kind == "text/plain" else kind,
        "Content-Disposition": "inline" if kind.startswith(("image/", "text/plain")) else "attachment",
        "Content-Length": str(upload.length),
    }
    return 200, File(upload.content, headers)
