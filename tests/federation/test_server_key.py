# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""matrix_server_key: a new key for a server whose key is lost, and its former keys, as remote servers have them."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible_collections.matrixops.synapse.plugins.module_utils._federation import signing
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import AnswerError
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.notaries import MAX_NOTARIES, Source, merge
from ansible_collections.matrixops.synapse.plugins.modules import matrix_server_key
from stubs import faults
from stubs.answers import Answer
from stubs.helpers import NOW
from stubs.remote_server import RemoteServer
from stubs.rooms import Json, ServerKey, public_keys, verify

from .conftest import OURS, RunModule, StartServer
from .test_connect import has_seen, keys
from .test_modules import assert_documented

MODULE = "matrix_server_key"
NAME = OURS.server_name
OTHER = ServerKey(NAME, "ed25519:a_other")
GENEROUS = 60.0
DAY = 24 * 60 * 60
MS = 1000


class Host:
    """The directory in which the module makes its files."""

    def __init__(self, directory: Path, ca_file: str, run_module: RunModule) -> None:
        self.key, self.answer = directory / "signing.key", directory / "server"
        self.warnings: list[str] = []
        self._ca_file = ca_file
        self._run = run_module

    def run(self, *servers: RemoteServer | str, check: bool = False, diff: bool = False, **more: Any) -> Json:
        """Run the module with these servers, given as stubs or by name."""
        options = {
            "server_name": NAME,
            "path": str(self.key),
            "key_answer_path": str(self.answer),
            "servers": [server if isinstance(server, str) else server.server_name for server in servers],
            "ip_allowlist": ["127.0.0.1"],
            "ca_path": self._ca_file,
            **more,
        }
        options = {key: value for key, value in options.items() if value is not None}
        result = self._run(MODULE, options, check=check, diff=diff)
        if self.key.exists():
            assert self.secret not in json.dumps(result)
        return result

    @property
    def secret(self) -> str:
        return self.key.read_text().split()[-1]

    def published(self) -> Json:
        """The key answer in the file, whose signature is valid."""
        found: Json = json.loads(self.answer.read_text())
        verify(found, NAME, public_keys(found))
        return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time in seconds since 1970."""
    clock = SimpleNamespace(now=NOW)
    monkeypatch.setattr(matrix_server_key, "time", SimpleNamespace(time=lambda: clock.now))
    return clock


@pytest.fixture
def host(
    tmp_path: Path, ca_file: str, run_module: RunModule, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> Host:
    host = Host(tmp_path, ca_file, run_module)
    monkeypatch.setattr(
        matrix_server_key.ServerKeyModule, "warn", lambda _module, message: host.warnings.append(message)
    )
    return host


def old(key: ServerKey, expired: int = NOW) -> Json:
    """A key as a former one that has expired at a time."""
    return {key.key_id: {**key.verify_keys[key.key_id], "expired_ts": expired * MS}}


# The files


def test_a_new_key_and_its_answer(host: Host, remote: StartServer) -> None:
    server = remote()
    result = host.run(server)
    assert result["changed"] and not host.warnings
    key = signing.read_signing_key(host.key.read_text())
    assert re.fullmatch("ed25519:new_[A-Za-z]{6}", key.key_id)
    assert (result["key_id"], result["public_key"]) == (key.key_id, key.public_base64)
    assert result["key_answer"] == host.published()
    answer = host.published()
    assert answer["verify_keys"] == {key.key_id: {"key": key.public_base64}}
    assert answer["old_verify_keys"] == result["old_verify_keys"] == old(OURS)
    assert answer["valid_until_ts"] == (NOW + 3650 * DAY) * MS
    assert [oct(path.stat().st_mode & 0o777) for path in (host.key, host.answer)] == ["0o600", "0o644"]
    assert {path.name for path in host.key.parent.iterdir()} == {host.key.name, host.answer.name}
    assert result["servers"] == [{"server": server.server_name, "key_ids": ["ed25519:a_stub"], "reason": ""}]
    (request,) = server.requests
    assert (request.endpoint, request.arguments) == ("query_keys", (NAME,))


def test_the_result_is_as_documented(host: Host, remote: StartServer) -> None:
    result = host.run(remote())
    del result["changed"]
    assert_documented(yaml.safe_load(matrix_server_key.RETURN), result)


def test_a_second_run_changes_nothing(host: Host, remote: StartServer, clock: SimpleNamespace) -> None:
    server = remote()
    first = host.run(server)
    files = host.key.read_bytes(), host.answer.read_bytes()
    clock.now += DAY
    again = host.run(server, diff=True)
    assert not again["changed"] and again["diff"]["before"] == again["diff"]["after"]
    assert {**again, "changed": True} == {**first, "diff": again["diff"]}
    # By now, the server has the new answer.
    assert not host.run(has_seen(server, host.published()))["changed"]
    assert (host.key.read_bytes(), host.answer.read_bytes()) == files


def test_check_mode_writes_nothing(host: Host, remote: StartServer) -> None:
    planned = host.run(remote(), check=True, diff=True)
    assert planned["changed"] and not list(host.key.parent.iterdir())
    assert planned["diff"]["before"] == "" and json.loads(planned["diff"]["after"]) == planned["key_answer"]
    assert host.run(remote(), check=True, path="/nonexistent/key", key_answer_path="/nonexistent/answer")["changed"]
    done = host.run(remote(), diff=True)
    assert json.loads(done["diff"]["after"]) == host.published()
    assert not host.run(remote(), check=True)["changed"]


def test_without_a_file_for_the_answer(host: Host, remote: StartServer) -> None:
    first = host.run(remote(), key_answer_path=None, diff=True)
    assert first["changed"] and "diff" not in first and not host.answer.exists()
    again = host.run(remote(), key_answer_path=None)
    assert not again["changed"] and again["key_answer"] == first["key_answer"]


def test_an_existing_key_is_never_replaced(host: Host, remote: StartServer) -> None:
    """Its mode is left as it is: Synapse may need it."""
    host.key.write_text(OTHER.key_file)
    host.key.chmod(0o640)
    result = host.run(remote())
    assert result["changed"] and result["key_id"] == OTHER.key_id
    assert (host.key.read_text(), host.key.stat().st_mode & 0o777) == (OTHER.key_file, 0o640)
    assert host.published()["verify_keys"] == OTHER.verify_keys


def test_a_key_that_appears_meanwhile_is_not_replaced(host: Host, remote: StartServer) -> None:
    server = remote()

    def appear(answer: Answer) -> Answer:
        host.key.write_text(OTHER.key_file)
        return answer

    server.inject("query_keys", faults.changed(appear))
    failed = host.run(server)
    assert failed["failed"] and not failed["changed"] and "File exists" in failed["msg"]
    assert host.key.read_text() == OTHER.key_file
    assert [path.name for path in host.key.parent.iterdir()] == [host.key.name]


def test_a_key_that_was_not_lost(host: Host, remote: StartServer) -> None:
    """Remote servers have it under its own ID, so it is not a former one."""
    host.key.write_text(OURS.key_file)
    result = host.run(remote())
    assert (result["key_id"], result["old_verify_keys"]) == (OURS.key_id, {})
    assert not host.warnings


def test_the_mode_of_the_answer_is_corrected(host: Host, remote: StartServer) -> None:
    server = remote()
    host.run(server)
    host.answer.chmod(0o600)
    assert host.run(server, check=True)["changed"]
    assert host.run(server)["changed"] and host.answer.stat().st_mode & 0o777 == 0o644
    assert not host.run(server)["changed"]


def test_owner_and_group(host: Host, remote: StartServer) -> None:
    status = host.key.parent.stat()
    server = remote()
    assert host.run(server, owner=str(status.st_uid), group=str(status.st_gid))["changed"]
    assert not host.run(server, owner=str(status.st_uid), group=str(status.st_gid))["changed"]
    failed = host.run(server, owner="nobody-of-this-name")
    assert failed["failed"] and "nobody-of-this-name" in failed["msg"]


# What is renewed


def test_half_of_the_time_is_left(host: Host, remote: StartServer, clock: SimpleNamespace) -> None:
    server = remote()
    host.run(server, valid_for=10)
    clock.now += 5 * DAY
    assert not host.run(server, valid_for=10)["changed"]
    clock.now += 1
    assert host.run(server, valid_for=10, check=True)["changed"]
    assert host.run(server, valid_for=10)["changed"]
    answer = host.published()
    assert answer["valid_until_ts"] == (clock.now + 10 * DAY) * MS
    assert answer["old_verify_keys"] == old(OURS), "the time at which the former key has expired stays"


def test_an_expired_answer(host: Host, remote: StartServer, clock: SimpleNamespace) -> None:
    host.run(remote(), valid_for=1)
    clock.now += 100 * DAY
    assert host.run(remote(), valid_for=1)["changed"]
    assert host.published()["valid_until_ts"] == (clock.now + DAY) * MS


def test_keys_are_added_and_never_removed(host: Host, remote: StartServer, clock: SimpleNamespace) -> None:
    host.run(remote())
    clock.now += DAY
    result = host.run(has_seen(remote(), keys(OTHER)))
    expected = {**old(OURS), **old(OTHER, clock.now)}
    assert result["changed"] and host.published()["old_verify_keys"] == expected
    # No server has to know them any more.
    assert not host.run()["changed"]
    # A server that has other times does not change them.
    later = keys(OTHER, old_verify_keys=old(OURS, NOW + 100))
    assert not host.run(has_seen(remote(), later))["changed"]
    assert host.published()["old_verify_keys"] == expected


def test_the_new_key_is_lost_as_well(host: Host, remote: StartServer) -> None:
    lost = host.run(remote())
    host.key.unlink()
    result = host.run(remote())
    assert result["key_id"] != lost["key_id"]
    assert set(host.published()["old_verify_keys"]) == {OURS.key_id, lost["key_id"]}


def test_an_answer_with_the_former_id(host: Host) -> None:
    """What the homeserver itself has answered becomes an answer of the new key."""
    host.answer.write_text(json.dumps(OURS.key_answer(old(OTHER, 7))))
    result = host.run()
    assert result["changed"] and result["old_verify_keys"] == {**old(OURS), **old(OTHER, 7)}
    assert set(host.published()["verify_keys"]) == {result["key_id"]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        json.dumps({**OURS.key_answer(), "signatures": {}}),
        json.dumps(ServerKey("other.example").key_answer()),
    ],
    ids=["empty", "cut off", "a list", "nested", "not signed", "another name"],
)
def test_a_file_that_is_no_answer_of_ours_stays(host: Host, remote: StartServer, text: str) -> None:
    host.answer.write_text(text)
    failed = host.run(remote())
    assert failed["failed"] and not failed["changed"] and not host.key.exists()
    assert f"key_answer_path: {host.answer} is not a valid key answer of {NAME}: move it" in failed["msg"]
    assert host.answer.read_text() == text


# What servers say


def test_servers_of_which_some_do_not_answer(host: Host, remote: StartServer) -> None:
    down, empty, good = remote(), has_seen(remote()), remote()
    down.stop()
    result = host.run(down, empty, "b.example\x1b[2J", good, good)
    rows = {row["server"]: row for row in result["servers"]}
    assert list(rows) == [down.server_name, empty.server_name, "b.example\\x1b[2J", good.server_name]
    assert "Connection refused" in rows[down.server_name]["reason"]
    assert rows[empty.server_name] == {"server": empty.server_name, "key_ids": [], "reason": f"no keys of {NAME}"}
    assert "is not a server name" in rows["b.example\\x1b[2J"]["reason"]
    assert set(result["old_verify_keys"]) == {OURS.key_id} and len(good.requests) == 1


def test_no_server_answers(host: Host, remote: StartServer) -> None:
    down = remote()
    down.stop()
    failed = host.run(down, has_seen(remote()), old_verify_keys=OTHER.verify_keys)
    assert failed["failed"] and not failed["changed"] and not list(host.key.parent.iterdir())
    assert f"no server returned keys of {NAME}: name others, or retry. {down.server_name}: " in failed["msg"]


def test_servers_that_are_down_later(host: Host, remote: StartServer) -> None:
    """The former keys are in the file, so that a run again needs no server."""
    server = remote()
    host.run(server)
    server.stop()
    again = host.run(server)
    assert not again.get("failed") and not again["changed"]
    assert f"no server returned keys of {NAME}" in host.warnings[-1]


def test_a_server_may_have_former_keys(host: Host, remote: StartServer) -> None:
    """Of several answers of one server, the newest counts."""
    before = keys(OTHER, valid_until=NOW * MS)
    result = host.run(has_seen(remote(), before, keys(OURS, old_verify_keys=old(OTHER, 7)), before))
    assert result["old_verify_keys"] == {**old(OURS), **old(OTHER, 7)}


@pytest.mark.parametrize(
    ("times", "expected"),
    [((7, 8), 8), ((8, 7), 8), ((7, None), NOW), ((None, 7), NOW), ((7, NOW + 9), NOW), ((7, 10**30), NOW)],
)
def test_when_a_former_key_has_expired(
    host: Host, remote: StartServer, times: tuple[int | None, int | None], expected: int
) -> None:
    """The latest time, and not one in the future: a server that lies can't have events refused by an early time."""
    servers = [
        has_seen(remote(), keys(OTHER) if time is None else keys(OURS, old_verify_keys=old(OTHER, time)))
        for time in times
    ]
    assert host.run(*servers)["old_verify_keys"][OTHER.key_id] == old(OTHER, expected)[OTHER.key_id]


def test_two_servers_have_different_keys_under_one_id(host: Host, remote: StartServer) -> None:
    evil = ServerKey(NAME, "ed25519:evil")
    fake = {OURS.key_id: {**evil.verify_keys[evil.key_id], "expired_ts": 7}}
    good, liar = remote(), has_seen(remote(), keys(evil, old_verify_keys=fake))
    for servers in ((good, liar), (liar, good)):
        failed = host.run(*servers)
        first, second = (server.server_name for server in servers)
        assert failed["failed"] and not list(host.key.parent.iterdir())
        assert failed["msg"] == (
            f"different keys are known as {OURS.key_id}: set servers to trustworthy servers only. They are from {first}"
            f" and {second}"
        )
    host.run(good)
    assert f"They are from {host.answer} and {liar.server_name}" in host.run(liar)["msg"]
    assert set(host.published()["old_verify_keys"]) == {OURS.key_id}


@pytest.mark.parametrize(
    "fault",
    [
        faults.page(),
        faults.error(404, "M_UNRECOGNIZED", "\x1b]0;owned\x07"),
        faults.big(600),
        faults.instead(Answer.of(200, {"server_keys": [ServerKey("other.example").key_answer()]})),
        faults.instead(Answer.of(200, {"server_keys": [{**OURS.key_answer(), "valid_until_ts": 1}]})),
        faults.instead(Answer.of(200, {"server_keys": ["x"]})),
        faults.redirect("https://127.0.0.1/"),
    ],
    ids=["page", "error", "big", "another name", "wrong signature", "text", "redirect"],
)
def test_an_answer_that_does_not_count(host: Host, remote: StartServer, fault: faults.Fault) -> None:
    server = remote()
    server.inject("query_keys", fault)
    result = host.run(server, remote())
    row = result["servers"][0]
    assert row["key_ids"] == [] and 0 < len(row["reason"]) <= 300 and row["reason"].isprintable()
    assert set(result["old_verify_keys"]) == {OURS.key_id}


def test_a_key_id_that_is_none(host: Host, remote: StartServer) -> None:
    """It would break a header, or obey a terminal."""
    odd = {'ed25519:",\x1b[2J': OTHER.verify_keys[OTHER.key_id]}
    result = host.run(has_seen(remote(), keys(OURS, old_verify_keys=odd)))
    assert set(result["old_verify_keys"]) == {OURS.key_id}


def test_a_server_with_too_many_keys(host: Host, remote: StartServer) -> None:
    many = [
        keys(OURS, old_verify_keys={f"ed25519:{n}_{m}": OTHER.verify_keys[OTHER.key_id] for m in range(60)})
        for n in range(2)
    ]
    result = host.run(has_seen(remote(), *many), remote())
    assert "121 keys, but only 1 to 100 are allowed" in result["servers"][0]["reason"]
    assert "key_answer_path" not in host.run(has_seen(remote(), many[0]))
    # What is in the file already counts as well.
    failed = host.run(has_seen(remote(), many[1]))
    assert "are more than 100: set servers to trustworthy servers only" in failed["msg"]


def test_servers_are_asked_side_by_side(host: Host, remote: StartServer) -> None:
    """No server answers before all were asked."""
    servers = [remote() for _number in range(MAX_NOTARIES)]
    barrier = threading.Barrier(len(servers))

    def wait(answer: Any) -> Any:
        barrier.wait(GENEROUS)
        return answer

    for server in servers:
        server.inject("query_keys", faults.changed(wait))
    assert not any(row["reason"] for row in host.run(*servers)["servers"])


def test_the_new_id_is_not_a_known_one(host: Host, remote: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = ["request", OURS.key_id.partition(":")[2], "given", "free"]
    monkeypatch.setattr(signing, "random_version", lambda _prefix: versions.pop(0))
    given = {"ed25519:given": OTHER.verify_keys[OTHER.key_id]}
    assert host.run(remote(), old_verify_keys=given)["key_id"] == "ed25519:free"


def test_an_existing_key_with_the_former_id(host: Host, remote: StartServer) -> None:
    server = remote()
    text = OTHER.key_file.replace("a_other", "a_stub")
    host.key.write_text(text)
    failed = host.run(server)
    assert failed["failed"] and not failed["changed"] and not host.answer.exists() and host.key.read_text() == text
    assert failed["msg"] == (
        f"path: {server.server_name} has another key as ed25519:a_stub. Remote servers that have stored it reject all"
        f" requests: move {host.key} to another directory, and run the task again to create a key with a new ID"
    )


# Options


@pytest.mark.parametrize("form", ["dictionary", "text", "padded"])
def test_keys_from_elsewhere(host: Host, form: str) -> None:
    key = OTHER.verify_keys[OTHER.key_id]
    given: dict[str, Any] = {"dictionary": key, "text": key["key"], "padded": f"{key['key']}="}
    assert host.run(old_verify_keys={OTHER.key_id: given[form]})["old_verify_keys"] == old(OTHER)


def test_the_time_of_a_key_from_elsewhere(host: Host) -> None:
    assert host.run(old_verify_keys=old(OTHER, 7))["old_verify_keys"] == old(OTHER, 7)


def test_no_former_key_is_known(host: Host) -> None:
    result = host.run()
    assert result["changed"] and result["old_verify_keys"] == {}
    assert not host.run()["changed"]
    assert host.warnings == 2 * [
        f"No former key of {NAME} is known, without which remote servers can't join rooms that were created on it: set"
        " servers or old_verify_keys"
    ]


KEY = "Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw"
FAILURES: dict[str, tuple[Json, str]] = {
    "server_name": ({"server_name": "old example"}, "'old example' is not a server name"),
    "valid_for": ({"valid_for": 0}, "valid_for is 0: set it to 1 or more"),
    "valid_for, too long": ({"valid_for": 36501}, "valid_for is 36501: set it to 36500 or less"),
    "timeout": ({"timeout": 0}, "timeout is 0: set it to 1 or more"),
    "ip_allowlist": ({"ip_allowlist": ["10.0.0.0/33"]}, "'10.0.0.0/33' is not an IP address or a CIDR"),
    "a key": ({"old_verify_keys": {"ed25519:1": "x"}}, "old_verify_keys contains an invalid key"),
    "a key of another type": ({"old_verify_keys": {"ed25519:1": 7}}, "old_verify_keys contains an invalid key"),
    "a key ID": ({"old_verify_keys": {"rsa:1": KEY}}, "old_verify_keys: 'rsa:1' is not a key ID"),
    "a time": (
        {"old_verify_keys": {"ed25519:1": {"key": KEY, "expired_ts": "1"}}},
        "expired_ts of ed25519:1 is not an integer",
    ),
    "directory": ({"path": "/nonexistent/key"}, "path: the directory of /nonexistent/key does not exist: create it"),
    "directory of the answer": (
        {"key_answer_path": "/nonexistent/server"},
        "key_answer_path: the directory of /nonexistent/server does not exist: create it",
    ),
}


@pytest.mark.parametrize("change", FAILURES)
def test_failures(host: Host, change: str) -> None:
    options, message = FAILURES[change]
    failed = host.run(**options)
    assert failed["failed"] and not failed["changed"] and message in failed["msg"]
    assert not list(host.key.parent.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot read the signing key: each line must have the form"),
        (b"hunter2", "cannot read the signing key: each line must have the form"),
        (b"\xff\xfe", "is not a signing key file"),
    ],
)
def test_a_key_that_cannot_be_read(host: Host, remote: StartServer, content: bytes, message: str) -> None:
    server = remote()
    host.key.write_bytes(content)
    failed = host._run(MODULE, {"server_name": NAME, "path": str(host.key), "servers": [server.server_name]})
    assert failed["failed"] and message in failed["msg"] and "hunter2" not in str(failed)
    assert host.key.read_bytes() == content and not server.requests


def test_one_file_for_both(host: Host) -> None:
    link = host.key.parent / "link"
    link.symlink_to(host.key)
    for path in (host.key, link):
        failed = host.run(key_answer_path=str(path))
        assert "path and key_answer_path are the same file" in failed["msg"] and not host.key.exists()


def test_the_answer_cannot_be_written(host: Host, remote: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is there by then, and the next run goes on with it."""

    def fail(*_arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    server = remote()
    with monkeypatch.context() as patch:
        patch.setattr(matrix_server_key.ServerKeyModule, "atomic_move", fail)
        failed = host.run(server)
    assert failed["failed"] and failed["changed"] and "No space left on device" in failed["msg"]
    key = host.key.read_bytes()
    assert host.run(server)["changed"] and host.key.read_bytes() == key


# Merging


def test_sources_agree() -> None:
    one = Source("b.example", {"ed25519:1": {"key": "A"}, "ed25519:2": {"key": "B", "expired_ts": 7}})
    other = Source(
        "c.example", {"ed25519:1": {"key": "A", "expired_ts": 9}, "ed25519:2": {"key": "B", "expired_ts": 8}}
    )
    expected = {"ed25519:1": {"key": "A"}, "ed25519:2": {"key": "B", "expired_ts": 8}}
    assert merge([one, other]) == merge([other, one]) == expected
    assert merge([]) == {}


def test_the_third_source_differs_from_the_first() -> None:
    first, second, third = (
        Source(f"{name}.example", {f"ed25519:{key_id}": {"key": key}})
        for name, key_id, key in (("b", 1, "A"), ("c", 2, "B"), ("d", 1, "C"))
    )
    with pytest.raises(AnswerError, match=r"as ed25519:1: .* from b\.example and d\.example$"):
        merge([first, second, third])
