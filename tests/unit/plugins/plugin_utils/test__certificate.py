# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json
import os
import stat
from pathlib import Path
from typing import Any, Iterator

import jsonschema
import pytest
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _certificate, _page
from ansible_collections.matrixops.synapse.plugins.plugin_utils._certificate import (
    SCHEMA,
    Directory,
    Redaction,
    begin_stage,
    conclude,
    departure,
    end_stage,
    file_name,
    new,
)
from ansible_collections.matrixops.synapse.tests.unit.helpers import NOW, OPERATOR, SERVER, Json, room_id
from markupsafe import escape

A, B = f"@a:{SERVER}", f"@b:{SERVER}"
HOSTILE = "{{ 1234 * 4321 }}{% raw %}<script>alert(1)</script>\u202e\x1b[2J"
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def server(name: str, state: str, *, confirmed: int = 0, **more: Any) -> Json:
    """A remote server with four rooms."""
    open_room = {"room_id": room_id("r"), "state": state, "reason": HOSTILE, "ghosts": 2, "can_kick": [f"@x:{name}"]}
    return {
        "server": name,
        "state": state,
        "rooms": 4,
        "confirmed_rooms": confirmed,
        "removed": 0,
        "confirmed_at": None,
        "unreachable_since": None,
        "reason": None,
        "text": f"{name}: {state}; {confirmed} of 4 rooms",
        "open_rooms": [] if state == "confirmed" else [open_room],
        "open_rooms_total": 4 - confirmed,
        **more,
    }


PROPAGATION: Json = {
    "summary": {
        "servers": 5,
        "confirmed": 1,
        "ghosts": 1,
        "refused": 1,
        "unreachable": 1,
        "unconfirmed": 1,
        "ignored": 1,
        "pairs": 20,
        "pairs_confirmed": 7,
        "removed": 3,
    },
    "message": "1 of 5 remote servers confirmed",
    "checked": True,
    "history": [[NOW, 0, 0, 0, 0, 5], [NOW + 5, 1, 1, 1, 1, 1]],
    "now": NOW + 9,
    "ends": NOW + 9,
    "next_poll": None,
    "finished": True,
    "early": False,
    "servers": [
        server(HOSTILE, "ghosts", confirmed=3),
        server("d.example", "refused", confirmed=2),
        server("c.example", "unreachable", unreachable_since=NOW - 9),
        server("e.example", "unconfirmed", confirmed=1),
        server("b.example", "confirmed", confirmed=4, confirmed_at=NOW, removed=3),
    ],
    "servers_total": 5,
    "ignored": ["f.example"],
    "broken_rooms": [
        {"room_id": room_id("s"), "reason": HOSTILE, "servers": ["b.example", "c.example"], "not_confirmed_by": []}
    ],
    "unreadable_rooms": [],
}
VERIFIED: Json = {
    "open": {"counts": {"operator": {"active": 1}}},
    "joined": {"users": [], "total": 3},
    "occupied": {"rooms": []},
    "not_closed": [],
    "in_rooms": [],
    "closed": {"states": {"deactivated": 0, "erased": 2}, "total": 2, "digests": "x" * 20, "width": 10, "rounds": 10},
}
FACTS: dict[str, Json] = {
    "preflight": {
        "server": {"server_name": SERVER, "version": "1.163.0", "operator": OPERATOR, "registration": True},
        "plan": {"plan": {"accounts": {"user": {"active": 2, "erased": 5}, "operator": {"active": 1}}}},
        "state": {"milestones": {}},
    },
    "prepare": {
        "announcement": {"sent": 2, "unchanged": 0, "failures": [], "failures_total": 0},
        "handover": {"handed_over": [{"room_id": room_id("r"), "name": HOSTILE}], "not_handed_over": []},
        "aliases": {"aliases": [{"alias": f"#r:{SERVER}", "room_id": room_id("r")}], "failures": []},
        "demotion": {"demoted": [room_id("r")], "failures": [{"room_id": room_id("s"), "reason": "403"}]},
    },
    "drain": {
        "drain": {
            "deactivated": 1,
            "unchanged": 0,
            "parted": 1,
            "failures": [{"user_id": A, "reason": f"{A}: {HOSTILE}"}],
            "failures_total": 1,
            "not_parted": [{"user_id": B, "rooms": [{"room_id": room_id("r"), "reason": "banned"}]}],
            "not_parted_total": 1,
            "elapsed": 1.5,
            "passes": 1,
            "timeline": [[0.0, 0, 0], [1.0, 1, 1]],
            "proof": {"parted": 1, "read": "GET", "requests": 2},
            "federated_left_after": 0.5,
            "all_left_after": 1.25,
            "broken_rooms": [{"room_id": room_id("s"), "reason": HOSTILE, "accounts": 2, "federated": True}],
            "broken_rooms_total": 1,
        },
    },
    "leave_rooms": {
        "leave": {
            "accounts": [
                {
                    "user_id": OPERATOR,
                    "left": [room_id("r")],
                    "rejected": [],
                    "retracted": [],
                    "error": None,
                    "failed": [{"room_id": room_id("s"), "reason": "403"}],
                }
            ]
        },
        "state": {"milestones": {"started": NOW, "left_federated_rooms": NOW + 1}},
    },
    "propagate": {"propagation": PROPAGATION},
    "verify": VERIFIED,
    "power_off": {**VERIFIED, "gate": PROPAGATION},
}


def add_facts(certificate: Json, stage: str, facts: Json, now: int) -> None:
    variables = {f"_decommission_{name}": fact for name, fact in copy.deepcopy(facts).items()}
    _certificate.add_facts(certificate, stage, variables, now)


def valid(certificate: Json) -> Json:
    """The concluded certificate: valid for the library and for us, and both pages can be rendered."""
    certificate = conclude(certificate, NOW + 99)
    VALIDATOR.validate(certificate)
    assert departure(certificate, SCHEMA) is None
    page = _page.certificate_page(certificate)
    assert "<script>alert" not in page and str(1234 * 4321) not in page
    assert "<script>alert" not in _page.fleet_page([certificate, certificate])
    assert _certificate.summary(certificate).isprintable()
    return certificate


def whole(**propagation: Any) -> Json:
    certificate = new(SERVER, NOW)
    result = {**PROPAGATION, **propagation}
    changed = {"propagate": {"propagation": result}, "power_off": {**VERIFIED, "gate": result}}
    for stage, facts in {**FACTS, **changed}.items():
        begin_stage(certificate, stage, NOW)
        add_facts(certificate, stage, facts, NOW + 1)
        end_stage(certificate, stage, "done", NOW + 2)
    return certificate


def findings(certificate: Json) -> dict[str, str]:
    return {warning["kind"]: warning["text"] for warning in certificate["warnings"]}


# Contents


def test_after_a_kill_at_each_stage_it_is_valid() -> None:
    certificate = new(SERVER, NOW)
    states = []
    for stage, facts in FACTS.items():
        begin_stage(certificate, stage, NOW)
        killed = valid(copy.deepcopy(certificate))
        assert "started" in findings(killed)
        # As the next run finds it.
        begin_stage(killed, "preflight", NOW + 50)
        assert valid(killed)["stages"][-1]["attempts"][-1]["result"] in ("interrupted", "started")
        add_facts(certificate, stage, facts, NOW + 1)
        end_stage(certificate, stage, "done", NOW + 2)
        states.append(valid(certificate)["state"])
    assert states == ["begun"] * 5 + ["verified", "powered_off"]


def test_what_it_says() -> None:
    certificate = valid(whole())
    failures = {
        stage["stage"]: [(f["subject"], f.get("room"), f["reason"]) for f in stage["failures"]]
        for stage in certificate["stages"]
        if stage["failures"]
    }
    assert failures == {
        "prepare": [(room_id("s"), None, "403")],
        "drain": [
            (A, None, f"{A}: {HOSTILE}"),
            (B, room_id("r"), "is still joined: banned"),
            (room_id("s"), None, f"broken room, 2 accounts cannot leave: {HOSTILE}"),
        ],
        "leave_rooms": [(OPERATOR, room_id("s"), "403")],
    }
    assert certificate["handed_over_total"] == 1 and certificate["announced"]["sent"] == 2
    assert certificate["milestones"] == {"started": NOW, "left_federated_rooms": NOW + 1}
    assert certificate["accounts"]["deactivated"]["salt"] == certificate["salt"]
    (drain,) = certificate["drains"]
    assert (drain["federated_left_after"], drain["all_left_after"], drain["broken_rooms_total"]) == (0.5, 1.25, 1)
    # Of the servers that answer: 1 room with ghosts, 2 refused, 3 unconfirmed.
    assert [(proof["looked_at"], proof["found"]) for proof in certificate["proof"]] == [(3, 0), (3, 0), (0, 0), (20, 6)]
    assert [warning["kind"] for warning in certificate["warnings"]] == [
        "failures",
        "ghosts",
        "refused",
        "unreachable",
        "unconfirmed",
        "broken_rooms",
    ]


def test_remote_servers_are_in_the_words_of_the_module() -> None:
    certificate = valid(whole())
    remote = certificate["remote_servers"]
    assert remote["servers"] == PROPAGATION["servers"] and remote["broken_rooms"] == PROPAGATION["broken_rooms"]
    assert certificate["propagation"] == PROPAGATION["history"]
    page = _page.certificate_page(certificate)
    for row in remote["servers"]:
        assert str(escape(_page.visible(row["text"]))) in page
    assert "@x:d.example" in page and "f.example" in page
    assert "The last federated membership ended after 0.5 s. The last membership ended after 1 s." in page


def test_findings_name_servers_and_the_next_step() -> None:
    found = findings(valid(whole()))
    assert found["unreachable"].startswith("Unreachable: 1 of 5 remote servers (c.example). Check again later with")
    assert "matrix_ghosts" in found["unreachable"] and "matrix_ghosts" in found["ghosts"]
    assert found["refused"].startswith("Refused: 1 of 5 remote servers (d.example). Ask a user who can kick")
    assert found["broken_rooms"].endswith("All remote servers in them have confirmed.")
    rooms = [{**PROPAGATION["broken_rooms"][0], "not_confirmed_by": ["c.example"]}]
    assert "Not confirmed by c.example. Check again" in findings(valid(whole(broken_rooms=rooms)))["broken_rooms"]
    unreadable = [{"room_id": room_id("t"), "reason": HOSTILE}]
    assert room_id("t") in findings(valid(whole(unreadable_rooms=unreadable)))["unreadable_rooms"]
    assert "decommission_early_exit" in findings(valid(whole(early=True)))["early"]


def test_a_finding_has_few_names() -> None:
    rows = [server(f"{number}.example", "unreachable") for number in range(9)]
    counts = {"confirmed": 91, "unreachable": 2000, "pairs": 8364}
    certificate = valid(whole(servers=rows, servers_total=2091, summary=counts))
    names = "0.example, 1.example, 2.example, 3.example, 4.example and 1,995 more"
    assert f"2,000 of 2,091 remote servers ({names})" in findings(certificate)["unreachable"]
    assert f"; 91 of 2,091 remote servers confirmed, not {names}; " in _certificate.summary(certificate)
    assert certificate["proof"][-1]["found"] == 0


def test_when_the_list_of_servers_is_cut_the_counts_are_proof() -> None:
    certificate = valid(whole(servers=[], summary={**PROPAGATION["summary"], "refused": 70}))
    assert certificate["proof"][-1]["found"] == 72


def test_before_the_end_of_the_checks_there_is_no_final_finding() -> None:
    certificate = valid(whole(finished=False))
    assert set(findings(certificate)) == {"failures", "not_confirmed_yet", "broken_rooms"}
    assert "Not confirmed yet: 4 of 5 remote servers (" in findings(certificate)["not_confirmed_yet"]
    assert "4 not confirmed yet" in _page.certificate_page(certificate)


def test_without_checks_it_says_so() -> None:
    certificate = valid(whole(checked=False, broken_rooms=[]))
    assert set(findings(certificate)) == {"failures", "not_checked"}
    assert "decommission_ghost_checks: false" in findings(certificate)["not_checked"]
    assert "; 5 remote servers not asked; " in _certificate.summary(certificate)
    assert len(certificate["proof"]) == 3
    page = _page.certificate_page(certificate)
    assert "No remote server was asked, since" in page and "chart-servers" not in page


def test_all_confirmed() -> None:
    rows = [server("b.example", "confirmed", confirmed=4)]
    certificate = valid(whole(servers=rows, servers_total=1, summary={"confirmed": 1, "pairs": 4}, broken_rooms=[]))
    assert set(findings(certificate)) == {"failures"} and certificate["proof"][-1]["found"] == 0
    summary = _certificate.summary(certificate)
    assert summary.startswith(f"{SERVER}: powered off; 2 accounts deactivated; 1 of 1 remote server confirmed; ")


def test_what_is_too_long_is_cut() -> None:
    rows = [server("x" * 9000, "unreachable", text=HOSTILE * 20, reason="y" * 9000) for _row in range(1100)]
    rows[0]["open_rooms"] *= 30
    certificate = valid(whole(servers=rows, message="z" * 9000, ignored=["i"] * 2000))
    remote = certificate["remote_servers"]
    assert len(remote["servers"]) == 1000 and len(remote["servers"][0]["open_rooms"]) == 5
    assert {len(str(remote["servers"][0][key])) for key in ("server", "text", "reason")} == {
        255,
        1000,
        len(HOSTILE) * 20,
    }
    assert len(findings(certificate)["unreachable"]) < 2000


def test_facts_that_are_not_there() -> None:
    for nothing in ({}, {name: {"skipped": True} for name in ("server", "drain", "leave", "open", "gate")}):
        certificate = new(SERVER, NOW)
        for stage in FACTS:
            begin_stage(certificate, stage, NOW)
            add_facts(certificate, stage, nothing, NOW)
            end_stage(certificate, stage, "failed", NOW, HOSTILE)
        assert valid(certificate)["state"] == "failed"
        assert "proof" not in certificate and "remote_servers" not in certificate


def test_proof_against() -> None:
    certificate = new(SERVER, NOW)
    begin_stage(certificate, "verify", NOW)
    joined = {"users": [{"name": A}], "total": 3}
    add_facts(certificate, "verify", {**VERIFIED, "joined": joined, "not_closed": [B], "in_rooms": [A]}, NOW)
    end_stage(certificate, "verify", "failed", NOW, "not drained")
    certificate = valid(certificate)
    assert [proof["found"] for proof in certificate["proof"]] == [1, 1, 0]
    assert "disproved" in findings(certificate)


def test_proof_outside_broken_rooms() -> None:
    """Rooms that only this server is in are known to be broken only when the drain is verified."""
    rooms = [{"room_id": room_id(name), "reason": "500", "accounts": 1, "federated": name == "s"} for name in "st"]
    certificate = new(SERVER, NOW)
    for stage in ("verify", "power_off"):
        begin_stage(certificate, stage, NOW)
        add_facts(certificate, stage, {**VERIFIED, "rest": {"broken_rooms": rooms}}, NOW)
        end_stage(certificate, stage, "done", NOW)
    certificate = valid(certificate)
    claims = [proof["claim"] for proof in certificate["proof"]]
    assert [claim.endswith("outside the broken rooms") for claim in claims] == [False, True, True]
    verify, power_off = certificate["stages"]
    assert [failure["subject"] for failure in verify["failures"]] == [room_id("t")]
    assert power_off["failures_total"] == 0


def test_accounts_before_are_those_before_anybody_was_closed() -> None:
    certificate = new(SERVER, NOW)
    counts = certificate.setdefault("accounts", {})
    for users, milestones, expected in ((5, {}, 5), (6, {}, 6), (1, {"started": NOW}, 6)):
        begin_stage(certificate, "preflight", NOW)
        facts = {"plan": {"plan": {"accounts": {"user": {"active": users}}}}, "state": {"milestones": milestones}}
        add_facts(certificate, "preflight", facts, NOW)
        assert counts["before"]["counts"]["user"]["active"] == expected


def test_runs_without_end() -> None:
    """From cron, every hour: it does not grow."""
    certificate = whole()
    for number in range(200):
        for stage in ("preflight", "drain", "propagate"):
            begin_stage(certificate, stage, NOW + number)
            add_facts(certificate, stage, FACTS[stage], NOW + number)
            end_stage(certificate, stage, "waiting" if stage == "propagate" else "done", NOW + number)
    certificate = valid(certificate)
    assert certificate["state"] == "waiting"
    assert len(certificate["stages"][0]["attempts"]) == 20 and certificate["stages"][0]["attempts_total"] == 201
    assert certificate["stages"][0]["attempts"][0]["started"] == NOW


def test_that_the_server_was_looked_at_again_is_no_state() -> None:
    certificate = whole()
    begin_stage(certificate, "propagate", NOW + 3)
    end_stage(certificate, "propagate", "waiting", NOW + 4)
    begin_stage(certificate, "preflight", NOW + 5)
    end_stage(certificate, "preflight", "done", NOW + 6)
    assert valid(certificate)["state"] == "waiting"


@pytest.mark.parametrize(
    ("result", "state"), [("failed", "powered_off"), ("started", "powered_off"), ("done", "begun")]
)
def test_that_nobody_answers_when_the_host_is_off_is_no_failure(result: str, state: str) -> None:
    certificate = whole()
    begin_stage(certificate, "preflight", NOW + 3)
    end_stage(certificate, "preflight", result, NOW + 3)
    # It is there again.
    if result == "done":
        begin_stage(certificate, "drain", NOW + 4)
    assert valid(certificate)["state"] == state


# The schema


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(schema_version=2),
        lambda c: c.update(schema_version=True),
        lambda c: c.pop("salt"),
        lambda c: c.update(salt="x"),
        lambda c: c.update(more=1),
        lambda c: c.update(state="gone"),
        lambda c: c["server"].update(name=""),
        lambda c: c["stages"][0].update(attempts=None),
        lambda c: c["stages"][0]["attempts"][0].update(started=-1),
        lambda c: c["stages"][0]["attempts"][0].update(started="then"),
        lambda c: c["stages"].append({}),
        lambda c: c["drains"][0]["timeline"].append([1, 2]),
        lambda c: c["accounts"]["before"]["counts"].update(user={"active": True}),
        lambda c: c["drains"].extend(c["drains"] * 30),
        lambda c: c["remote_servers"]["servers"][0].update(state="told"),
        lambda c: c["remote_servers"]["servers"][0].update(text="x" * 4001),
        lambda c: c.update(ledger={}),
    ],
)
def test_ours_finds_what_the_library_finds(change: Any) -> None:
    certificate = valid(whole())
    change(certificate)
    assert not VALIDATOR.is_valid(certificate)
    assert departure(certificate, SCHEMA)


def test_ours_knows_all_that_the_schema_makes_use_of() -> None:
    known = {"type", "const", "enum", "minLength", "maxLength", "pattern", "minimum", "minItems", "maxItems", "items"}
    known |= {"properties", "required", "additionalProperties", "$schema", "$id", "title", "description"}

    def words(schema: Any) -> Iterator[str]:
        if isinstance(schema, dict):
            yield from schema
            for name in ("items", "additionalProperties"):
                yield from words(schema.get(name))
            for inner in schema.get("properties", {}).values():
                yield from words(inner)

    assert set(words(SCHEMA)) <= known


# Redaction


def redaction(**more: Any) -> Redaction:
    return Redaction(SERVER, "ab" * 16, **{"secrets": [], "ids": False, "spared": OPERATOR, **more})


@pytest.mark.parametrize(
    "text",
    [A, f"{A}.", f"for example {A}: no", f"['{A}', '{B}']", "GET /users/%40a%3Aexample.org/x", f"({A})"],
)
def test_names_of_local_accounts(text: str) -> None:
    found = redaction()({"reason": [text]})["reason"][0]
    assert "@a" not in found and "%40a" not in found and redaction()(A) in found
    assert redaction(ids=True)(text) == text


@pytest.mark.parametrize("text", [OPERATOR, "@a:example.org.uk", "@a:example.org:8448", "@a:other.org", "a@b", "#r:x"])
def test_names_of_others(text: str) -> None:
    assert redaction()(text) == text


def test_lists_of_names_and_digests() -> None:
    found = redaction(secrets=["abc"])({"user_ids": [A], "digests": "xabcx", "salt": "abc"})
    assert "@a" not in str(found["user_ids"])
    assert (found["digests"], found["salt"]) == ("xabcx", "abc")


def test_secrets() -> None:
    found = redaction(secrets=["syt_x", ""], ids=True)({"a syt_x": [1, None, "with syt_x in it"]})
    assert found == {"a ********": [1, None, "with ******** in it"]}


# Files


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    directory = Directory(str(tmp_path / "reports"))
    with directory.locked():
        return directory


def write(directory: Directory, certificate: Json) -> Json:
    certificate = conclude(certificate, NOW)
    directory.write(certificate, _page.certificate_page(certificate))
    return certificate


def test_file_names() -> None:
    names = ["example.org", "example.org:8448", "[2001:db8::1]:8448", "..", "a/../../b", "fleet", "x" * 300, HOSTILE]
    found = [file_name(name) for name in names]
    assert found[0] == "example.org" and len(set(found)) == len(found)
    for name in found:
        assert "/" not in name and len(name) < 220 and not name.startswith(".") and name != "fleet"


def test_written_and_read(directory: Directory) -> None:
    certificate = write(directory, whole())
    assert directory.read(SERVER) == certificate
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.path.iterdir()} == {0o600}
    assert sorted(path.name for path in directory.path.iterdir()) == [".lock", f"{SERVER}.html", f"{SERVER}.json"]
    assert directory.read("other.org") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"schema_version": 1}', b"\xff", b"[" * 100_000])
def test_what_is_no_certificate_is_set_aside(directory: Directory, content: bytes) -> None:
    path = directory.json_path(SERVER)
    for number in range(2):
        path.write_bytes(content)
        assert directory.read(SERVER) is None
        aside = directory.set_aside(SERVER, NOW)
        assert aside and aside.read_bytes() == content and not path.exists()
        assert len(list(directory.path.glob("*.aside"))) == number + 1
    assert directory.set_aside(SERVER, NOW) is None


def test_that_of_another_server_is_not_ours(directory: Directory) -> None:
    write(directory, new("other.org", NOW))
    directory.json_path("other.org").rename(directory.json_path(SERVER))
    assert directory.read(SERVER) is None
    assert directory.read_all() == []


def test_a_disk_that_is_full_leaves_the_old(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = whole()
    write(directory, certificate)
    before = {path.name: path.read_bytes() for path in directory.path.iterdir()}

    def fsync(_number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    end_stage(certificate, "drain", "failed", NOW, "x")
    with pytest.raises(OSError, match="No space"):
        write(directory, certificate)
    assert {path.name: path.read_bytes() for path in directory.path.iterdir()} == before


def test_what_is_not_as_the_schema_says_is_not_written(directory: Directory) -> None:
    certificate = whole()
    certificate["drains"] = "many"
    with pytest.raises(AssertionError, match="drains"):
        directory.write(certificate, "")
    assert not directory.json_path(SERVER).exists()


# The page


@pytest.mark.parametrize("seconds", [0, 0.5, 1, 59, 61, 3600, 86399, 86400, 604800, 1e7])
@pytest.mark.parametrize("most", [1, 2, 7, 40, 488, 200_000])
def test_ticks_are_few_and_apart(seconds: float, most: int) -> None:
    scale = _page._Scale(seconds, most)
    times, numbers = scale.time_ticks(), scale.number_ticks()
    assert 1 <= len(times) <= 8 and 2 <= len(numbers) <= 5
    assert all(b["at"] - a["at"] >= 70 for a, b in zip(times, times[1:]))
    assert all(64 <= tick["at"] <= 620 for tick in times)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0 s"), (0.4, "0.4 s"), (59, "59 s"), (60, "1 min"), (90, "1 min 30 s"), (3600, "1 h"), (90_000, "1 d 1 h")],
)
def test_durations(seconds: float, expected: str) -> None:
    assert _page.duration(seconds) == expected


def test_what_cannot_be_seen_is_shown() -> None:
    certificate = valid(whole())
    certificate["server"]["version"] = "1\u202e2\x1b3"
    page = _page.certificate_page(certificate)
    assert "1\\u202e2\\u001b3" in page
    assert "\u202e" not in page and "\x1b" not in page


def test_200_000_accounts(directory: Directory) -> None:
    certificate = whole()
    certificate["accounts"]["deactivated"].update(digests="x" * 1_000_000, width=5, total=200_000)
    write(directory, certificate)
    assert directory.json_path(SERVER).stat().st_size < 1_100_000
    assert json.loads(directory.json_path(SERVER).read_text())["accounts"]["deactivated"]["total"] == 200_000
