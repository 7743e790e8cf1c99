# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json
import re
from typing import Any, Callable, Dict, Iterator

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import (
    EventError,
    InvalidNameError,
    MissingRequirementError,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.leave_events import (
    ROOM_VERSIONS,
    EventReference,
    LeaveTemplate,
    build_leave,
    content_hash,
    event_id,
    read_template,
    redact,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.signing import SigningKey, read_signing_key

Json = Dict[str, Any]

SERVER = "example.org"
ALICE = f"@alice:{SERVER}"
ROOM = "!room:remote.example"
NOW = 1_700_000_000_000
FOREIGN = "FOREIGN"
"""A mark in all that must never be signed."""

MODERN = "$" + "Ab-_" * 10 + "xyz"
HASH = "Ab+/" * 10 + "xyz"
EVENT_IDS = {"1": f"$chosen:{SERVER}", "3": "$" + HASH, "10": MODERN, "12": MODERN}
"""An event ID of each format."""


class CountingKey(SigningKey):
    """Keeps what it was asked to sign."""

    __slots__ = ("signed",)

    def __init__(self) -> None:
        real = read_signing_key("ed25519 1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1")
        super().__init__(real._key)
        self.signed: list[Json] = []

    def sign(self, value: Json, server_name: str) -> Json:
        self.signed.append(copy.deepcopy(value))
        return super().sign(value, server_name)


@pytest.fixture
def key() -> CountingKey:
    return CountingKey()


def reference(version: str, number: int = 0) -> Any:
    """The reference with this number, in the form of a room version."""
    if version in ("1", "2"):
        return [f"$event{number}:remote.example", {"sha256": HASH}]
    return f"${number:02}" + EVENT_IDS.get(version, MODERN)[3:]


def answer(version: str = "10", **changes: Any) -> Json:
    """A make_leave answer as a normal server gives it."""
    event = {
        "type": "m.room.member",
        "room_id": ROOM,
        "sender": ALICE,
        "state_key": ALICE,
        "content": {"membership": "leave"},
        "prev_events": [reference(version, number) for number in range(2)],
        ROOM_VERSIONS[version].auth_key: [reference(version, number) for number in range(2, 5)],
        "depth": 12,
        **changes,
    }
    return {"room_version": version, "event": event}


def leave(proposal: Json, key: CountingKey) -> Json:
    """What is sent when a remote server answers with this to make_leave."""
    template = read_template(proposal, ROOM, ALICE)
    _event_id, event = build_leave(template, ROOM, ALICE, SERVER, key, NOW)
    return event


def assert_refused(proposal: Any, key: CountingKey, words: str = "make_leave template") -> None:
    with pytest.raises(EventError, match=words) as raised:
        leave(proposal, key)
    assert key.signed == []
    assert len(str(raised.value)) <= 300


# Templates


@pytest.mark.parametrize("version", ROOM_VERSIONS)
def test_read_template(version: str) -> None:
    sha256 = HASH if version in ("1", "2") else None
    ids = [f"$event{number}:remote.example" if sha256 else reference(version, number) for number in range(5)]
    expected = [EventReference(event_id, sha256) for event_id in ids]
    template = read_template(answer(version), ROOM, ALICE)
    assert template == LeaveTemplate(version, tuple(expected[:2]), tuple(expected[2:]), 12)


def test_a_template_without_what_we_know_anyway() -> None:
    proposal = answer("1")
    for name in ("type", "room_id", "sender", "state_key", "content"):
        del proposal["event"][name]
    del proposal["room_version"]
    assert read_template(proposal, ROOM, ALICE) == read_template(answer("1"), ROOM, ALICE)
    assert read_template(answer(content={}), ROOM, ALICE) == read_template(answer(), ROOM, ALICE)


def test_the_limits_themselves_are_allowed(key: CountingKey) -> None:
    event = leave(
        answer(
            prev_events=[reference("10", number) for number in range(20)],
            auth_events=[reference("10", number) for number in range(10)],
        ),
        key,
    )
    assert len(event["prev_events"]) == 20 and len(event["auth_events"]) == 10
    assert leave(answer(auth_events=[]), key)["auth_events"] == []


def test_nothing_else_of_a_template_is_signed(key: CountingKey) -> None:
    """Extra content, other keys, and keys that servers give a meaning to."""
    extra = dict.fromkeys(
        ("hashes", "signatures", "origin", "unsigned", "event_id", "redacts", "origin_server_ts", "membership"), FOREIGN
    )
    content = {"membership": "leave", "displayname": FOREIGN, "reason": FOREIGN, "m.relates_to": {"event_id": FOREIGN}}
    proposal = {**answer(content=content, **extra, other=[FOREIGN]), "other": FOREIGN}
    event = leave(proposal, key)
    assert event == leave(answer(), key)
    assert FOREIGN not in json.dumps([event, key.signed])


# What is refused. A key would sign nothing of it.


DEEP: Any = "x"
for _level in range(100_000):
    DEEP = [DEEP]

WRONG: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    1.5,
    float("nan"),
    "",
    FOREIGN,
    "\ud800",
    [],
    [None],
    {},
    {FOREIGN: 1},
    DEEP,
]
"""Values of all types."""


@pytest.mark.parametrize("name", ["type", "room_id", "sender", "state_key", "content"])
def test_templates_of_another_event(key: CountingKey, name: str) -> None:
    others = ["m.room.message", "!other:remote.example", f"@bob:{SERVER}", "@alice:remote.example", ALICE.upper()]
    for value in [*WRONG, *others, [ALICE], {"membership": "join"}, {"membership": ["leave"]}]:
        if name == "content" and value in ({}, {FOREIGN: 1}):
            continue  # these only lack the membership, or have more beside it
        assert_refused(answer(**{name: value}), key, name if name != "content" else "content|membership")


@pytest.mark.parametrize("membership", [*WRONG, "join", "ban", "invite", "knock", "Leave", "leave "])
def test_templates_of_another_membership(key: CountingKey, membership: Any) -> None:
    assert_refused(answer(content={"membership": membership}), key, "membership")


@pytest.mark.parametrize("version", [*WRONG, 10, "0", "13", " 10", "org.matrix.msc9999", "x" * 10_000])
def test_unknown_room_versions(key: CountingKey, version: Any) -> None:
    assert_refused({**answer(), "room_version": version}, key, "room version .* is not supported")


@pytest.mark.parametrize("event", [value for value in WRONG if not isinstance(value, dict)])
def test_events_that_are_none(key: CountingKey, event: Any) -> None:
    assert_refused({"room_version": "10", "event": event}, key, "event is not an object")


def test_an_empty_answer(key: CountingKey) -> None:
    assert_refused({}, key)
    assert_refused({"event": {}}, key)


@pytest.mark.parametrize(
    ("version", "allowed", "too_large"),
    [("1", 2**63 - 1, 2**63), ("5", 2**63 - 1, 2**63), ("6", 2**53 - 1, 2**53), ("12", 2**53 - 1, 2**53)],
)
def test_depth(key: CountingKey, version: str, allowed: int, too_large: int) -> None:
    for depth in (too_large, 10**5000, 0, -1, *(value for value in WRONG if value != 1 or value is True)):
        assert_refused(answer(version, depth=depth), key, "depth")
    assert leave(answer(version, depth=allowed), key)["depth"] == allowed
    assert leave(answer(version, depth=1), key)["depth"] == 1


@pytest.mark.parametrize("version", ["1", "3", "10", "org.matrix.msc4242.12"])
@pytest.mark.parametrize("name", ["prev_events", "auth_events"])
def test_references_that_are_no_list(key: CountingKey, version: str, name: str) -> None:
    name = ROOM_VERSIONS[version].auth_key if name == "auth_events" else name
    for value in WRONG:
        if value == [] and name != "prev_events":
            continue
        assert_refused(answer(version, **{name: value}), key, name)
    without = answer(version)
    del without["event"][name]
    assert_refused(without, key, name)


@pytest.mark.parametrize("version", ["1", "3", "10", "org.matrix.msc4242.12"])
def test_too_many_references(key: CountingKey, version: str) -> None:
    auth_key = ROOM_VERSIONS[version].auth_key
    for name, limit in (("prev_events", 20), (auth_key, 10 if auth_key == "auth_events" else 20)):
        for count in (limit + 1, 100_000):
            many = [reference("1", number) if version == "1" else reference(version) for number in range(count)]
            assert_refused(answer(version, **{name: many}), key, f"{name} is not a list of at most {limit}")
        assert_refused(answer(version, **{name: [reference(version)] * 2}), key, f"{name} contains duplicates")


def hashed_ids() -> Iterator[tuple[str, Any]]:
    """Room versions in which event IDs are hashes, and invalid references in them."""
    for version in ("3", "10", "12"):
        good = EVENT_IDS[version]
        wrong = [
            good[1:],
            good[:-1],
            f"{good}x",
            f"{good}\n",
            f" {good}",
            f"{good}=",
            f"!{good[1:]}",
            f"{good}:{SERVER}",
        ]
        wrong += [f"{good[:-1]}{char}" for char in "\n\0.:%é٣\ud800"]
        for value in [*wrong, reference("1"), f"$x:{SERVER}", [good], {"event_id": good}]:
            yield version, value
    # The alphabets of the other versions.
    yield "3", MODERN
    yield "4", "$" + HASH


def chosen_ids() -> Iterator[tuple[str, Any]]:
    """The same for versions in which servers choose event IDs."""
    good, hashes = reference("1")
    ids = [
        "$x",
        "x:y",
        "",
        "$",
        "!x:y",
        f"${'x' * 255}:y",
        f"${'é' * 127}:y",
        "$x\n:y",
        "$x\0:y",
        "$\ud800:y",
        "$\u202e:y",
    ]
    for value in [*WRONG, *ids]:
        yield "1", [value, hashes]
    wrong = [{"sha256": HASH[1:]}, {"sha256": f"{HASH}="}, {"sha256": f"{HASH}\n"}, {"sha256": MODERN[1:]}]
    wrong += [
        {"sha256": HASH, "sha1": FOREIGN},
        {"sha256": [HASH]},
        {"sha256": {"a": HASH}},
        {"sha256": DEEP},
        HASH,
        [HASH],
    ]
    for value in [*WRONG, *wrong]:
        yield "2", [good, value]
    for value in (good, [good], [good, hashes, hashes], {good: hashes}, MODERN):
        yield "2", value


@pytest.mark.parametrize("generate", [hashed_ids, chosen_ids])
def test_references_of_a_wrong_form(key: CountingKey, generate: Callable[[], Iterator[tuple[str, Any]]]) -> None:
    for version, value in generate():
        assert_refused(answer(version, prev_events=[value]), key, "prev_events contains an invalid reference")
        assert_refused(answer(version, prev_events=[reference(version), value]), key, "prev_events contains an invalid")
        assert_refused(answer(version, auth_events=[value]), key, "auth_events contains an invalid reference")


# Leave events


@pytest.mark.parametrize("version", ROOM_VERSIONS)
def test_build_leave(key: CountingKey, version: str) -> None:
    """Which keys the event has. Their values are compared with Synapse's in tests/integration/test_leave_events.py."""
    template = read_template(answer(version), ROOM, ALICE)
    computed, event = build_leave(template, ROOM, ALICE, SERVER, key, NOW, "random")
    assert event.pop("signatures") == key.sign(key.signed[0], SERVER)["signatures"]
    assert key.signed[0] == event
    assert event.pop("hashes") == {"sha256": content_hash(event)}
    assert computed == event_id(event, version) or version not in ("1", "2")
    if version in ("1", "2"):
        assert event.pop("event_id") == computed == f"$random:{SERVER}"
    auth_key = ROOM_VERSIONS[version].auth_key
    assert event == {
        "type": "m.room.member",
        "room_id": ROOM,
        "sender": ALICE,
        "state_key": ALICE,
        "content": {"membership": "leave"},
        "depth": 12,
        "origin_server_ts": NOW,
        "prev_events": answer(version)["event"]["prev_events"],
        auth_key: answer(version)["event"][auth_key],
    }


def test_random_event_ids(key: CountingKey) -> None:
    name = "x" * 226 + ".org"  # the longest that the specification recommends
    user_id = f"@a:{name}"
    template = read_template(answer("1", sender=user_id, state_key=user_id), ROOM, user_id)
    ids = {build_leave(template, ROOM, user_id, name, key, NOW)[0] for _number in range(10)}
    assert len(ids) == 10
    assert all(re.fullmatch(rf"\$[A-Za-z0-9_-]{{20}}:{name}", event_id) for event_id in ids)


@pytest.mark.parametrize(
    ("room_id", "user_id"),
    [
        (ROOM, "@alice:remote.example"),
        (ROOM, f"@alice:x:{SERVER}"),
        (ROOM, "alice"),
        (ROOM, f"@a\ud800:{SERVER}"),
        ("#alias:remote.example", ALICE),
        ("", ALICE),
    ],
)
def test_leaves_that_are_not_ours_to_make(key: CountingKey, room_id: str, user_id: str) -> None:
    template = read_template(answer(), ROOM, ALICE)
    with pytest.raises(InvalidNameError):
        build_leave(template, room_id, user_id, SERVER, key, NOW)
    assert key.signed == []


def test_without_signedjson(key: CountingKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        build_leave.__module__.replace("leave_events", "signing") + ".SIGNEDJSON_IMPORT_ERROR", "Traceback"
    )
    with pytest.raises(MissingRequirementError):
        leave(answer(), key)
    assert key.signed == []


# Any events


def test_the_example_of_the_specification(key: CountingKey) -> None:
    """Appendices, "Cryptographic Test Vectors", "Event Signing"."""
    event = {
        "room_id": "!x:domain",
        "sender": "@a:domain",
        "origin": "domain",
        "origin_server_ts": 1000000,
        "signatures": {},
        "hashes": {},
        "type": "X",
        "content": {},
        "prev_events": [],
        "auth_events": [],
        "depth": 3,
        "unsigned": {"age_ts": 1000000},
    }
    assert content_hash(event) == "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos"
    event["hashes"] = {"sha256": content_hash(event)}
    assert key.sign(redact(event, ROOM_VERSIONS["1"]), "domain")["signatures"]["domain"]["ed25519:1"] == (
        "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg"
    )


def test_formats_of_event_ids() -> None:
    event = {"type": "m.room.member", "content": {}, "event_id": "$chosen:remote.example"}
    assert event_id(event, "2") == "$chosen:remote.example"
    del event["event_id"]
    assert re.fullmatch(r"\$[A-Za-z0-9+/]{43}", event_id(event, "3"))
    assert event_id(event, "3").replace("+", "-").replace("/", "_") == event_id(event, "4")


@pytest.mark.parametrize(
    ("event", "version"),
    [
        ({"type": "m.room.member", "content": {}}, "13"),
        ({"type": "m.room.member", "content": {}}, ["10"]),
        ({"type": "m.room.member", "content": {}}, "1"),
        ({"type": "m.room.member", "content": {}, "event_id": ["$x:y"]}, "1"),
        ({"type": "m.room.member", "content": {}, "event_id": MODERN}, "1"),
        ({"content": {}}, "10"),
        ({"type": ["m.room.member"], "content": {}}, "10"),
        ({"type": "m.room.member"}, "10"),
        ({"type": "m.room.member", "content": []}, "10"),
        ({"type": "m.room.member", "content": {"membership": "\ud800"}}, "10"),
        ({"type": "m.room.member", "content": {}, "depth": float("inf")}, "10"),
        ({"type": "m.room.create", "content": {"x": DEEP}}, "12"),
    ],
)
def test_malformed_events(event: Json, version: Any) -> None:
    with pytest.raises(EventError):
        event_id(event, version)
