# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any, Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.ghosts import Room
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.record import (
    Record,
    read_pieces,
    read_record,
    write_pieces,
    write_record,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._decommission.site_media import (
    AVATARS_KIND,
    SELECTIONS,
    SiteMedia,
    record_avatars,
    select_media,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.checks import KnownAccounts
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.client import Client
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.errors import FatalError
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.media import Media
from ansible_collections.matrixops.synapse.tests.stubs.helpers import SERVER, Json, room_id
from ansible_collections.matrixops.synapse.tests.stubs.homeserver import (
    BROKEN,
    INVALID_TOKEN,
    Homeserver,
    event,
)

ALICE, BOB, REMOTE = f"@alice:{SERVER}", f"@bob:{SERVER}", "@someone:other.example"
PRIVATE, PUBLIC, READABLE, OURS = map(room_id, ("private", "public", "readable", "ours"))


def uri(media_id: str) -> str:
    return f"mxc://{SERVER}/{media_id}"


def avatar(media_id: str) -> Json:
    return event("m.room.avatar", {"url": uri(media_id)})


def picture(media_id: str) -> Json:
    return event("m.room.message", {"url": uri(media_id)})


def member(user_id: Any, content: Any, **more: Any) -> Json:
    return {"type": "m.room.member", "state_key": user_id, "sender": ALICE, "content": content, **more}


@pytest.fixture
def client(homeserver: Homeserver, lone_client: Client) -> Iterator[Client]:
    """A server with rooms of all kinds; every file is named by its room and what it is there."""
    homeserver.register("alice", "bob")
    state = {
        "private": [event("m.room.join_rules", {"join_rule": "invite"})],
        "public": [event("m.room.join_rules", {"join_rule": "public"})],
        "readable": [event("m.room.history_visibility", {"history_visibility": "world_readable"})],
        "ours": [event("m.room.join_rules", {"join_rule": "public"})],
    }
    for name, events in state.items():
        members = [ALICE] if name == "ours" else [ALICE, REMOTE]
        room = homeserver.add_room(name, members, avatar(f"{name}-avatar"), *events)
        homeserver.events[room] = [picture(f"{name}-picture")]
        for kind in ("avatar", "picture"):
            homeserver.upload(f"{name}-{kind}")
    record(lone_client, homeserver)
    homeserver.log.clear()
    return lone_client


def record(client: Client, homeserver: Homeserver) -> None:
    rooms = [room for room, members in homeserver.members.items() if REMOTE in members]
    recorded = Record()
    recorded.add(Room(room, ("other.example",), KnownAccounts((ALICE,))) for room in rooms)
    write_record(client, recorded)


def selected(client: Client, selection: str = "all") -> list[str]:
    return [media.media_id for media in select_media(client, selection).files]


EXPECTED = {
    "none": [],
    "avatars": ["private-avatar", "public-avatar", "readable-avatar"],
    "public": ["private-avatar", "public-avatar", "public-picture", "readable-avatar", "readable-picture"],
    "all": [
        "private-avatar",
        "private-picture",
        "public-avatar",
        "public-picture",
        "readable-avatar",
        "readable-picture",
    ],
}


@pytest.mark.parametrize("selection", EXPECTED)
@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("recorded", [False, True])
def test_selections(homeserver: Homeserver, client: Client, selection: str, left: bool, recorded: bool) -> None:
    """Before the accounts leave and after, with and without the record."""
    assert set(EXPECTED) == {"none", *SELECTIONS}
    if left:
        homeserver.leave_all()
    if not recorded:
        homeserver.account_data.clear()
    expected = [Media(media_id, 7, "image/png") for media_id in EXPECTED[selection]]
    assert select_media(client, selection) == SiteMedia(expected)


def test_none_sends_no_request(homeserver: Homeserver, client: Client) -> None:
    select_media(client, "none")
    assert homeserver.requests == []


def test_a_recorded_room_that_no_remote_server_is_in(client: Client) -> None:
    recorded = read_record(client)
    for room in recorded.rooms.values():
        room.servers.clear()
    write_record(client, recorded)
    assert selected(client) == []


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"url": None},
        {"url": ["x"]},
        {"url": "mxc://other.example/theirs"},
        {"url": uri("../x")},
        {"url": uri("x" * 101)},
    ],
)
def test_hostile_avatars(homeserver: Homeserver, client: Client, content: Json) -> None:
    homeserver.set_content(PUBLIC, "m.room.avatar", content)
    assert "public-avatar" not in selected(client, "avatars")


@pytest.mark.parametrize("kind", ["m.room.join_rules", "m.room.history_visibility"])
@pytest.mark.parametrize("content", [{}, {"join_rule": ["public"], "history_visibility": {"world_readable": 1}}])
def test_hostile_rules(homeserver: Homeserver, client: Client, kind: str, content: Json) -> None:
    homeserver.set_content(PUBLIC, "m.room.join_rules", {"join_rule": "knock"})
    homeserver.set_content(PUBLIC, kind, content)
    assert "public-picture" not in selected(client, "public")


# Avatars of people


def test_avatars_in_the_state(homeserver: Homeserver, client: Client) -> None:
    """In the membership of an account, or in the one before that; in any room."""
    before = {"prev_content": {"membership": "join", "avatar_url": uri("public-picture")}}
    homeserver.state[PRIVATE] += [
        member(ALICE, {"membership": "join", "avatar_url": uri("private-picture")}),
        member(BOB, {"membership": "leave"}, unsigned=before),
        member(BOB, {"membership": "ban", "avatar_url": uri("readable-avatar")}),
    ]
    assert selected(client) == ["private-avatar", "public-avatar", "readable-picture"]


def test_avatars_in_the_history(homeserver: Homeserver, client: Client) -> None:
    homeserver.events[PUBLIC] += [
        member(ALICE, {"membership": "join", "avatar_url": uri("public-avatar")}),
        member(ALICE, {"membership": "leave"}),
    ]
    homeserver.leave_all()
    assert "public-avatar" not in selected(client)
    filters = [request.query["filter"] for request in homeserver.log if request.parts[-1] == "messages"]
    assert filters == [f'{{"types": ["m.room.member"], "senders": ["{ALICE}"]}}'] * 3


def test_the_filter_of_a_room_with_many_accounts_is_short(homeserver: Homeserver, client: Client) -> None:
    recorded = read_record(client)
    recorded.rooms[PUBLIC].joined.update(f"@{'x' * 200}{number}:{SERVER}" for number in range(50))
    write_record(client, recorded)
    selected(client, "avatars")
    filters = {r.query["filter"] for r in homeserver.log if r.parts[-2:] == (PUBLIC, "messages")}
    assert filters == {'{"types": ["m.room.member"]}'}


def test_avatars_of_profiles(homeserver: Homeserver, client: Client) -> None:
    homeserver.accounts[BOB]["avatar_url"] = uri("public-picture")
    assert "public-picture" not in selected(client)


def test_hostile_memberships(homeserver: Homeserver, client: Client) -> None:
    """Remote accounts can't keep media out, and nothing in an event ends the run."""
    url = {"membership": "join", "avatar_url": uri("public-avatar")}
    homeserver.state[PUBLIC] += [
        member(REMOTE, url),
        member(7, url),
        member("no account", url),
        member(ALICE, {"membership": "join", "avatar_url": ["x"]}),
        member(ALICE, {"membership": "join", "avatar_url": uri("\u202e")}),
        member(ALICE, {"membership": "join"}, unsigned={"prev_content": [7]}),
    ]
    assert "public-avatar" in selected(client)


def test_a_membership_with_a_file(homeserver: Homeserver, client: Client) -> None:
    """Synapse lists the media of any event."""
    content = {"membership": "join", "url": uri("face"), "avatar_url": uri("face")}
    homeserver.upload("face")
    homeserver.events[PUBLIC].append(member(ALICE, content))
    assert "face" not in selected(client)


def test_recorded_avatars(homeserver: Homeserver, client: Client) -> None:
    homeserver.accounts[ALICE]["avatar_url"] = uri("private-picture")
    homeserver.accounts[BOB]["avatar_url"] = uri("unrelated")
    homeserver.events[PUBLIC].append(member(ALICE, {"avatar_url": uri("public-avatar")}))
    rooms = {PUBLIC: [ALICE], PRIVATE: [ALICE]}
    written = homeserver.written
    assert record_avatars(client, rooms, dry_run=True) == (True, 3)
    assert homeserver.written == written
    assert record_avatars(client, rooms) == (True, 3)
    homeserver.accounts[ALICE].update(erased=True, avatar_url=None)
    homeserver.events[PUBLIC].pop()
    found = select_media(client, "all")
    assert {media.media_id for media in found.files} == {*EXPECTED["all"]} - {"private-picture", "public-avatar"}
    assert found.lacks_avatars is False
    # None is ever removed.
    assert record_avatars(client, rooms) == (False, 3)


def test_a_room_whose_avatars_can_not_be_recorded(homeserver: Homeserver, client: Client) -> None:
    homeserver.faults[f"GET admin/v1/rooms/{PUBLIC}/messages"] = BROKEN
    assert record_avatars(client, {PUBLIC: []}) == (True, 0)
    homeserver.faults[f"GET admin/v1/rooms/{PUBLIC}/messages"] = INVALID_TOKEN
    with pytest.raises(FatalError):
        record_avatars(client, {PUBLIC: []})


@pytest.mark.parametrize("content", [b"null", b"7", b"no JSON", b"\xff"])
def test_a_damaged_record_of_avatars_is_none(homeserver: Homeserver, client: Client, content: bytes) -> None:
    write_pieces(client, AVATARS_KIND, content)
    assert read_pieces(client, AVATARS_KIND) == content
    homeserver.accounts[ALICE]["erased"] = True
    assert select_media(client, "avatars").lacks_avatars is True


def test_avatars_lack_only_if_accounts_are_erased(homeserver: Homeserver, client: Client) -> None:
    assert select_media(client, "avatars").lacks_avatars is False
    homeserver.accounts[ALICE]["erased"] = True
    assert select_media(client, "avatars").lacks_avatars is True


# What can't be read


@pytest.mark.parametrize("what", ["state", "messages", "media"])
def test_rooms_that_can_not_be_read(homeserver: Homeserver, client: Client, what: str) -> None:
    """The other rooms are read, and nothing of that one is selected: its people are not known."""
    kind = "room" if what == "media" else "rooms"
    homeserver.faults[f"GET admin/v1/{kind}/{PUBLIC}/{what}"] = BROKEN
    found = select_media(client, "all")
    assert [*found.unreadable] == [PUBLIC]
    assert "500" in found.unreadable[PUBLIC]
    assert [media.media_id for media in found.files] == [
        media_id for media_id in EXPECTED["all"] if not media_id.startswith("public")
    ]


def test_a_room_that_is_gone(homeserver: Homeserver, client: Client) -> None:
    del homeserver.members[PUBLIC]
    assert [*select_media(client, "avatars").unreadable] == [PUBLIC]


def test_rooms_that_were_unreadable_before(client: Client) -> None:
    recorded = read_record(client)
    recorded.unreadable["!x:example.org"] = "broken"
    write_record(client, recorded)
    assert select_media(client, "avatars").unreadable == {"!x:example.org": "broken"}


def test_without_a_record_unreadable_rooms_are_named(homeserver: Homeserver, client: Client) -> None:
    homeserver.account_data.clear()
    homeserver.faults[f"GET admin/v1/rooms/{PUBLIC}/state"] = BROKEN
    assert [*select_media(client, "avatars").unreadable] == [PUBLIC]


def test_an_invalid_token_ends_the_run(homeserver: Homeserver, client: Client) -> None:
    homeserver.faults[f"GET admin/v1/rooms/{PUBLIC}/state"] = INVALID_TOKEN
    with pytest.raises(FatalError):
        select_media(client, "avatars")


def test_problems_of_files(homeserver: Homeserver, client: Client) -> None:
    homeserver.upload("public-avatar", quarantined=True)
    del homeserver.media["private-avatar"]
    problems = {media.media_id: media.problem for media in select_media(client, "avatars").files}
    assert problems == {
        "private-avatar": "Synapse does not have the file",
        "public-avatar": "the file is quarantined",
        "readable-avatar": "",
    }
