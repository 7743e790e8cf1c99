# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The admin API of the fake homeserver, below C(/_synapse/admin)."""

from __future__ import annotations

from typing import Any, Iterable

from ..helpers import Json
from .answers import NOT_FOUND, UNRECOGNIZED, RefusalError, Reply
from .power_levels import CREATE
from .request import Endpoints, Request
from .state import CANONICAL_ALIAS, State

endpoints = Endpoints()
NOT_LISTED = ("appservice_id", "suspended")
"""The fields of an account that the listing lacks."""


def page(state: State, request: Request, key: str, items: Iterable[Any], next_key: str = "next_token") -> Reply:
    """A page of a listing, by offset: what is added or taken away in between shifts everything behind it."""
    listed = list(items)
    start = int(request.query.get("from", 0))
    end = start + min(int(request.query.get("limit", 100)), state.page_size)
    # As Synapse has it: a token is text in the listing of accounts, and a number in the listing of rooms.
    following = {next_key: end if next_key == "next_batch" else str(end)} if end < len(listed) else {}
    total_key = "total_rooms" if next_key == "next_batch" else "total"
    return 200, {key: listed[start:end], total_key: len(listed), **following}


def existing(state: State, user_id: str) -> Json:
    if user_id not in state.accounts:
        raise RefusalError(404, "M_NOT_FOUND", "User not found")
    return state.accounts[user_id]


def known(state: State, room: str) -> str:
    if room not in state.members:
        raise RefusalError(404, "M_NOT_FOUND", "Room not found")
    return room


# The server


@endpoints("GET admin/v1/server_version")
def server_version(state: State, request: Request) -> Reply:
    return 200, {"server_version": state.version}


@endpoints("GET admin/v1/registration_tokens")
def registration_tokens(state: State, request: Request) -> Reply:
    return UNRECOGNIZED if state.delegated else (200, {"registration_tokens": []})


@endpoints("GET admin/v1/federation/destinations")
def destinations(state: State, request: Request) -> Reply:
    rows = [{"destination": name, "retry_last_ts": 0, "retry_interval": 0} for name in sorted(state.destinations)]
    return page(state, request, "destinations", rows)


@endpoints("GET admin/v1/federation/destinations/{}/rooms")
def destination_rooms(state: State, request: Request, name: str) -> Reply:
    rows = [{"room_id": room, "stream_ordering": 1} for room in state.destinations.get(name, ())]
    return page(state, request, "rooms", rows)


# Accounts


@endpoints("GET admin/v2/users")
def users(state: State, request: Request) -> Reply:
    query = request.query
    if state.delegated and query.get("guests", "true") == "true":
        return 400, {"errcode": "M_INVALID_PARAM", "error": "The guests parameter is not supported"}
    shown = [
        {key: value for key, value in account.items() if key not in NOT_LISTED}
        for _user_id, account in sorted(state.accounts.items())
        if (query.get("deactivated") == "true" or not account["deactivated"])
        and (query.get("locked") == "true" or not account.get("locked"))
        and (query.get("guests", "true") == "true" or not account["is_guest"])
        and query.get("name", "") in account["name"]
    ]
    return page(state, request, "users", shown)


@endpoints("GET admin/v2/users/{}")
def read_user(state: State, request: Request, user_id: str) -> Reply:
    return 200, existing(state, user_id)


@endpoints("PUT admin/v2/users/{}")
def change_user(state: State, request: Request, user_id: str) -> Reply:
    account = existing(state, user_id)
    if "locked" in request.body:
        state.locks.append((user_id, request.body["locked"]))
    account.update(request.body)
    return 200, account


@endpoints("PUT admin/v1/suspend/{}")
def suspend(state: State, request: Request, user_id: str) -> Reply:
    existing(state, user_id)["suspended"] = request.body["suspend"]
    return 200, {f"user_{user_id}_suspended": request.body["suspend"]}


@endpoints("POST admin/v1/deactivate/{}")
def deactivate(state: State, request: Request, user_id: str) -> Reply:
    if not state.is_local(user_id):
        return 400, {"errcode": "M_UNKNOWN", "error": "Can only deactivate local users"}
    existing(state, user_id)
    state.deactivate(user_id, erase=bool(request.body.get("erase")))
    return 200, {"id_server_unbind_result": "success"}


@endpoints("POST admin/v1/users/{}/login")
def log_in_as(state: State, request: Request, user_id: str) -> Reply:
    if state.delegated:
        return UNRECOGNIZED
    if user_id == request.user_id:
        return 400, {"errcode": "M_UNKNOWN", "error": "Cannot use admin API to login as self"}
    existing(state, user_id)
    return 200, {"access_token": state.log_in_as(user_id, request.body.get("valid_until_ms"))}


@endpoints("GET admin/v1/users/{}/joined_rooms")
def joined_rooms(state: State, request: Request, user_id: str) -> Reply:
    rooms = state.joined.get(user_id, [])
    return 200, {"joined_rooms": rooms, "total": len(rooms)}


@endpoints("GET admin/v1/users/{}/memberships")
def memberships(state: State, request: Request, user_id: str) -> Reply:
    """All but the invites and knocks that only remote servers know the rooms of."""
    return 200, {"memberships": {room: who[user_id] for room, who in state.members.items() if user_id in who}}


@endpoints("GET admin/v1/users/{}/override_ratelimit")
def read_rate_limit(state: State, request: Request, user_id: str) -> Reply:
    return 200, state.overrides.get(user_id, {})


@endpoints("POST admin/v1/users/{}/override_ratelimit")
def override_rate_limit(state: State, request: Request, user_id: str) -> Reply:
    state.overrides[user_id] = request.body
    return 200, request.body


@endpoints("DELETE admin/v1/users/{}/override_ratelimit")
def reset_rate_limit(state: State, request: Request, user_id: str) -> Reply:
    state.overrides.pop(user_id, None)
    return 200, {}


@endpoints("POST admin/v1/send_server_notice", "PUT admin/v1/send_server_notice/{}")
def send_server_notice(state: State, request: Request, transaction: str = "") -> Reply:
    """Send a notice; the second with the same transaction ID is answered and not sent."""
    if not state.notices_enabled:
        return 400, {"errcode": "M_UNKNOWN", "error": "Server notices are not enabled on this server"}
    user_id = request.body["user_id"]
    if not state.is_local(user_id):
        return 400, {"errcode": "M_UNKNOWN", "error": "Server notices can only be sent to local users"}
    existing(state, user_id)
    if not transaction or transaction not in state.transactions:
        state.transactions.add(transaction)
        state.notify(user_id, request.body["content"])
    return 200, {"event_id": "$notice"}


# Rooms


@endpoints("GET admin/v1/rooms")
def rooms(state: State, request: Request) -> Reply:
    """In one of the two orders that the client asks for: by version, here the same for all, or by local members."""
    listed = [listed_room(state, room) for room in sorted(state.members) if room not in state.unlisted_rooms]
    if request.query.get("order_by") != "version":
        listed.sort(key=lambda room: -int(room["joined_local_members"]))
    return page(state, request, "rooms", listed, "next_batch")


def listed_room(state: State, room: str) -> Json:
    """A room as the listing has it."""
    joined, events = state.joined_to(room), state.state.get(room, [])
    created = state.content(room, CREATE)
    senders = [event.get("sender") for event in events if event["type"] == CREATE]
    return {
        "room_id": room,
        "joined_members": len(joined),
        "joined_local_members": len(list(filter(state.is_local, joined))),
        "state_events": len(events),
        "public": room in state.published,
        "room_type": created.get("type"),
        "creator": created.get("creator", senders[0] if senders else None),
        "canonical_alias": state.content(room, CANONICAL_ALIAS).get("alias"),
    }


@endpoints("GET admin/v1/rooms/{}/members")
def members(state: State, request: Request, room: str) -> Reply:
    joined = state.joined_to(room) if state.is_occupied(known(state, room)) else []
    return 200, {"members": joined, "total": len(joined)}


def state_of(state: State, room: str) -> list[Json]:
    """All state events of a room, memberships included."""
    memberships = [
        {"type": "m.room.member", "state_key": user_id, "sender": user_id, "content": {"membership": membership}}
        for user_id, membership in state.members[room].items()
    ]
    return [*memberships, *state.state.get(room, ())]


@endpoints("GET admin/v1/rooms/{}/state")
def room_state(state: State, request: Request, room: str) -> Reply:
    wanted = request.query.get("type")
    events = state_of(state, room) if state.is_occupied(known(state, room)) else []
    return 200, {"state": [event for event in events if wanted in (None, event["type"])]}


@endpoints("GET admin/v1/rooms/{}/forward_extremities")
def forward_extremities(state: State, request: Request, room: str) -> Reply:
    newest = {"event_id": "$newest", "received_ts": state.received.get(room, 0)}
    results = [] if known(state, room) in state.broken else [newest]
    return 200, {"count": len(results), "results": results}


@endpoints("GET admin/v1/rooms/{}/context/{}")
def context(state: State, request: Request, room: str, event_id: str) -> Reply:
    """The state at an event, which Synapse also has after the last local account has left."""
    return 200, {"state": state_of(state, known(state, room))}


@endpoints("GET admin/v1/rooms/{}/messages")
def messages(state: State, request: Request, room: str) -> Reply:
    """The events of a room. Filters are not applied, so that the client must select the events itself."""
    return page(state, request, "chunk", state.events.get(known(state, room), ()), "end")


@endpoints("GET admin/v1/room/{}/media")
def media_in_room(state: State, request: Request, room: str) -> Reply:
    """The media of all events, whether an account is in the room or not. An unknown room has none."""
    local: list[str] = []
    remote: list[str] = []
    for event in [*state.state.get(room, ()), *state.events.get(room, ())]:
        info = event["content"].get("info")
        thumbnail = info.get("thumbnail_url") if isinstance(info, dict) else None
        for uri in filter(None, (event["content"].get("url"), thumbnail)):
            (local if uri.startswith(f"mxc://{state.server_name}/") else remote).append(uri)
    return 200, {"local": local, "remote": remote}


@endpoints("GET admin/v1/statistics/users/media")
def media_statistics(state: State, request: Request) -> Reply:
    """As if the operator had uploaded everything."""
    lengths = [upload.length for upload in state.media.values() if upload.length is not None]
    user = {"user_id": state.operator, "media_count": len(lengths), "media_length": sum(lengths)}
    return page(state, request, "users", [user] if lengths else [])


@endpoints("GET admin/v1/media/{}/{}")
def media_info(state: State, request: Request, server: str, media_id: str) -> Reply:
    if not state.is_at_least(1, 140):
        return 405, UNRECOGNIZED[1]
    upload = state.media.get(media_id)
    if server != state.server_name or upload is None:
        return 404, {"errcode": "M_NOT_FOUND", "error": "Unknown media"}
    quarantined_by = state.operator if upload.quarantined else None
    info = {"media_id": media_id, "media_length": upload.length, "quarantined_by": quarantined_by}
    return 200, {"media_info": {**info, "media_type": None if upload.length is None else upload.content_type}}


@endpoints("DELETE admin/v2/rooms/{}")
def shut_down(state: State, request: Request, room: str) -> Reply:
    assert request.body == {"purge": False, "block": False}, "nothing is ever purged"
    return 200, {"delete_id": known(state, room)}


@endpoints("GET admin/v2/rooms/delete_status/{}")
def shutdown_status(state: State, request: Request, room: str) -> Reply:
    if room not in state.members:
        return NOT_FOUND
    if state.shut_down(room):
        return 200, {"status": "complete"}
    return 200, {"status": "failed", "error": "Internal server error"}
