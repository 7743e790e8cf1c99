# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Generated events, compared with what Synapse's own package computes for them. No server is started."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.leave_events import (
    ROOM_VERSIONS,
    build_leave,
    event_id,
    read_template,
    redact,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.signing import SigningKey, read_signing_key
from lab.lab import default_python

Json = dict[str, Any]
Compute = Callable[[list[Json]], list[Json]]

SEED = 20
LEAVES_PER_VERSION = 300
EVENTS_PER_TYPE = 20

#: Synapse 1.163 has a definition of this version, but no option that enables it.
NEVER_ENABLED = {"org.matrix.msc3389.10"}
SERVER_NAMES = ("example.org", "xn--bcher-kva.example:8448", "192.0.2.7", "[2001:db8::1]:443", f"{'a' * 60}.example")
#: Historical localparts as well: the specification allows any character but the colon and NUL.
LOCALPARTS = (
    "a",
    "_bridge_=40x=2fy",
    "Straße",
    "日本語",
    "a/b?c#d%2F e",
    '"\\',
    "é",
    "e\u0301",
    "🦊",
    "<&'>",
    "\u00a0",
    "",
)
WIDEST = {version: ROOM_VERSIONS[version].max_depth for version in ROOM_VERSIONS}


@pytest.fixture(scope="module")
def synapse(skip_or_fail: Callable[[str], None]) -> tuple[Compute, set[str]]:
    """A function that has Synapse compute answers to requests, and the room versions that Synapse defines."""
    python = default_python()
    if not python.exists():
        skip_or_fail(f"{python} is missing: run make .cache/synapse.installed")

    def run(requests: list[Json]) -> list[Any]:
        command = [python, Path(__file__).with_name("synapse_events.py")]
        lines = "".join(f"{json.dumps(request)}\n" for request in requests)
        finished = subprocess.run(command, input=lines, capture_output=True, text=True, check=False, timeout=600)
        assert finished.returncode == 0, finished.stderr
        return [json.loads(line) for line in finished.stdout.splitlines()]

    return lambda requests: run(requests)[1:], set(run([])[0])


@pytest.fixture
def key() -> SigningKey:
    return read_signing_key(f"ed25519 a_test {base64.b64encode(bytes(range(32))).decode()}")


def hashed(random: Random, altchars: str) -> str:
    return base64.b64encode(random.randbytes(32), altchars.encode()).rstrip(b"=").decode()


def reference(random: Random, room_version: str) -> Any:
    """A reference to an event in the form of a room version."""
    altchars = ROOM_VERSIONS[room_version].altchars
    if altchars is not None:
        return "$" + hashed(random, altchars)
    opaque = "".join(random.choices("abcXYZ0189-_/=+é🦊", k=random.randint(1, 40)))
    return [f"${opaque}{random.randrange(10**9)}:{random.choice(SERVER_NAMES)}", {"sha256": hashed(random, "+/")}]


def room_id_of(random: Random, room_version: str) -> str:
    hashes = not ROOM_VERSIONS[room_version].create_has_room_id
    return "!" + (hashed(random, "-_") if hashes else f"{random.randrange(10**12)}:{random.choice(SERVER_NAMES)}")


def leave(random: Random, room_version: str, key: SigningKey) -> tuple[str, Json]:
    """A request for the comparison, and the event ID that build_leave() computes."""
    server_name = random.choice(SERVER_NAMES)
    user_id = f"@{random.choice(LOCALPARTS)}{random.choice(LOCALPARTS)}:{server_name}"
    room_id = room_id_of(random, room_version)
    proposal = {
        "prev_events": [reference(random, room_version) for _number in range(random.choice((1, 1, 2, 20)))],
        ROOM_VERSIONS[room_version].auth_key: [
            reference(random, room_version) for _number in range(random.choice((0, 3, 10)))
        ],
        "depth": random.choice((1, 2, random.randint(3, 10**6), 2**31, WIDEST[room_version])),
        "hashes": {"sha256": "of somebody else"},
        "origin": "remote.example",
    }
    template = read_template({"room_version": room_version, "event": proposal}, room_id, user_id)
    now_ms = random.randint(0, 2**42)
    computed, event = build_leave(template, room_id, user_id, server_name, key, now_ms)
    request = {"room_version": room_version, "event": event, "server_name": server_name}
    return computed, {**request, "key_id": key.key_id, "public_base64": key.public_base64}


def test_supported_room_versions(synapse: tuple[Compute, set[str]]) -> None:
    _compute, defined = synapse
    assert set(ROOM_VERSIONS) == defined - NEVER_ENABLED


def test_leave_events(synapse: tuple[Compute, set[str]], key: SigningKey) -> None:
    """Content hash, redaction, event ID and signature are what Synapse computes, and Synapse can parse the event."""
    compute, _defined = synapse
    random = Random(SEED)
    leaves = [leave(random, version, key) for version in ROOM_VERSIONS for _number in range(LEAVES_PER_VERSION)]
    answers = compute([request for _event_id, request in leaves])
    assert len(leaves) > 5000
    for (computed, request), answer in zip(leaves, answers, strict=True):
        redacted = redact(request["event"], ROOM_VERSIONS[request["room_version"]])
        assert answer == {"event_id": computed, "redacted": redacted, "content_hash_matches": True}, request


def any_content(random: Random, event_type: str) -> Json:
    """A content with keys that some versions keep in a redaction, and others."""
    keys = sorted({key for version in ROOM_VERSIONS.values() for key in version.content.get(event_type) or ()})
    keys += ["body", "room_version", "allow", "third_party_invite", "m.relates_to"]
    values = (
        "text 🦊",
        1,
        True,
        None,
        [],
        ["x"],
        {},
        {"signed": {"token": "é"}, "display_name": "x"},
        {"rel_type": "x"},
    )
    return {key: random.choice(values) for key in random.sample(keys, random.randint(0, len(keys)))}


def any_event(random: Random, room_version: str, event_type: str) -> Json:
    version = ROOM_VERSIONS[room_version]
    event = {
        "type": event_type,
        "content": any_content(random, event_type),
        "room_id": room_id_of(random, room_version),
        "sender": "@remote:remote.example",
        "depth": random.randint(1, 10**6),
        "origin_server_ts": random.randint(0, 2**42),
        "prev_events": [reference(random, room_version)],
        version.auth_key: [reference(random, room_version)],
        "hashes": {"sha256": hashed(random, "+/")},
        "signatures": {"remote.example": {"ed25519:a": hashed(random, "+/")}},
    }
    if version.altchars is None:
        event["event_id"] = reference(random, room_version)[0]
    others = {
        "state_key": "",
        "origin": "remote.example",
        "prev_state": [],
        "membership": "join",
        "redacts": "$x",
        "unsigned": {"age": 1},
        "extra": {"nested": [1]},
    }
    event.update({key: others[key] for key in random.sample(sorted(others), random.randint(0, len(others)))})
    if event_type == "m.room.create" and not version.create_has_room_id:
        event["state_key"] = ""
        del event["room_id"]
    return event


def test_other_events(synapse: tuple[Compute, set[str]]) -> None:
    """The IDs of events that others made are what Synapse computes."""
    compute, _defined = synapse
    random = Random(SEED)
    types = [*ROOM_VERSIONS["11"].content, "m.room.message"]
    requests = [
        {"room_version": version, "event": any_event(random, version, event_type)}
        for version in ROOM_VERSIONS
        for event_type in types
        for _number in range(EVENTS_PER_TYPE)
    ]
    for request, answer in zip(requests, compute(requests), strict=True):
        version = ROOM_VERSIONS[request["room_version"]]
        computed = {
            "event_id": event_id(request["event"], request["room_version"]),
            "redacted": redact(request["event"], version),
        }
        assert answer == computed, request
