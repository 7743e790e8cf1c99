# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible.plugins.action import ActionBase
from ansible_collections.matrixops.synapse.plugins.action import archive as plugin
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.published_keys import parse_key_answer
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.signing import read_signing_key
from ansible_collections.matrixops.synapse.plugins.module_utils._sealed import KEY_SIZE, seal
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _secrets
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.files import Directory
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.record import new
from ansible_collections.matrixops.synapse.tests.stubs.helpers import SERVER, Json

# From the examples of the specification, as is the public part.
SEED = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"
KEYS = f"ed25519 a_1 {SEED}\n".encode()
PUBLIC = "XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI"
OTHER_KEYS = b"ed25519 a_2 " + base64.b64encode(bytes(32)).rstrip(b"=") + b"\n"
# A stand-in for the program: its output differs from its input, and each time.
AGE = """#!/bin/sh
[ "$3" = --recipient=age1friend ] || { echo "unknown recipient" >&2; exit 1; }
echo "-----BEGIN AGE ENCRYPTED FILE-----"; cat | sha256sum; date +%N
"""

Make = Callable[..., Json]


class Host:
    """Answers as the module does: the keys are encrypted with the key of the request."""

    def __init__(self) -> None:
        self.keys = KEYS
        self.answer: Json | None = None
        self.read: list[str] = []
        self.answers: list[Json] = []

    def execute_module(self, *, module_args: Json, task_vars: Json) -> Json:
        self.read.append(module_args["signing_key_path"])
        answer = self.answer if self.answer else {"sealed_keys": seal(module_args["one_time_key"], self.keys)}
        self.answers.append(answer)
        return answer

    def has(self, keys: bytes) -> None:
        self.keys = keys


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "reports"


@pytest.fixture
def archive(directory: Path) -> Path:
    return directory / f"{SERVER}-archive"


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text("correct horse\n")
    return path


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch, directory: Path, host: Host) -> Make:
    monkeypatch.setattr(ActionBase, "run", lambda *_arguments: {})

    def run(variables: Json | None = None, *, check_mode: bool = False, **options: Any) -> Json:
        action = plugin.ActionModule.__new__(plugin.ActionModule)
        action._task = SimpleNamespace(check_mode=check_mode)
        action._loader = DataLoader()
        action._execute_module = host.execute_module
        arguments = {"directory": str(directory), "server_name": SERVER, "signing_key_path": "/keys"}
        arguments.update({"key_valid_for": None, "published_keys": {}, **options})
        action.validate_argument_spec = lambda _spec, **_more: (None, arguments)
        return dict(action.run(task_vars=variables))

    return run


@pytest.fixture
def age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin/age"
    program.parent.mkdir()
    program.write_text(AGE)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    return program


def decrypted(path: Path, password: bytes = b"correct horse") -> bytes:
    return bytes(VaultLib([("default", VaultSecret(password))]).decrypt(path.read_text()))


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def assert_encrypted(directory: Path, result: Json) -> None:
    seed = base64.b64decode(SEED + "=")
    hidden = (SEED.encode(), seed, seed.hex().encode(), base64.b64encode(KEYS)[8:])
    for content in [*contents(directory).values(), json.dumps(result).encode()]:
        assert not [each for each in hidden if each in content]


def test_the_keys_are_archived_with_a_password(make: Make, archive: Path, host: Host, password_file: Path) -> None:
    result = make(vault_password_file=str(password_file))
    assert (result["changed"], result["keys_path"]) == (True, str(archive / "signing.key.vault"))
    assert host.read == ["/keys"]
    assert decrypted(archive / "signing.key.vault") == KEYS
    record = json.loads((archive / "signing.key.json").read_text())
    assert record["verify_keys"] == {"ed25519:a_1": PUBLIC}
    assert_encrypted(archive, result)
    assert {path.stat().st_mode & 0o777 for path in archive.rglob("*") if path.is_file()} == {0o600}
    assert {
        path.stat().st_mode & 0o777 for path in [archive.parent, archive, *archive.rglob("*")] if path.is_dir()
    } == {0o700}


def test_the_keys_are_archived_with_age(make: Make, archive: Path, age: Path) -> None:
    result = make(age_recipient="age1friend")
    assert (archive / "signing.key.age").read_text().startswith("-----BEGIN AGE ENCRYPTED FILE-----\n")
    assert_encrypted(archive, result)


@pytest.mark.parametrize("way", ["vault", "age", "none"])
def test_a_second_run_changes_nothing(make: Make, archive: Path, password_file: Path, age: Path, way: str) -> None:
    options = {"vault": {"vault_password_file": str(password_file)}, "age": {"age_recipient": "age1friend"}, "none": {}}
    assert make(**options[way])["changed"]
    before = contents(archive)
    again = make(**options[way])
    assert (again["changed"], again["files"]) == (False, [])
    assert contents(archive) == before


def test_for_another_password_the_keys_are_encrypted_again(make: Make, archive: Path, password_file: Path) -> None:
    make(vault_password_file=str(password_file))
    password_file.write_text("battery staple")
    assert make(vault_password_file=str(password_file))["files"] == ["signing.key.json", "signing.key.vault"]
    assert decrypted(archive / "signing.key.vault", b"battery staple") == KEYS


@pytest.mark.parametrize("way", ["vault", "age"])
def test_other_keys_are_never_replaced(
    make: Make, archive: Path, host: Host, password_file: Path, age: Path, way: str
) -> None:
    options = {"vault": {"vault_password_file": str(password_file)}, "age": {"age_recipient": "age1friend"}}
    make(**options[way])
    before = contents(archive)
    host.has(OTHER_KEYS)
    result = make(**options[way])
    assert result["failed"] and "Move it to another directory" in result["msg"]
    host.has(KEYS)
    (archive / "signing.key.json").unlink()
    password_file.write_text("battery staple")
    result = make(**options[way])
    assert result["failed"] and "Move it to another directory" in result["msg"]
    assert contents(archive) == {name: text for name, text in before.items() if name != "signing.key.json"}


def test_interrupted_after_the_record(make: Make, archive: Path, age: Path) -> None:
    make(age_recipient="age1friend")
    (archive / "signing.key.age").unlink()
    assert make(age_recipient="age1friend")["files"] == ["signing.key.json", "signing.key.age"]


def test_with_neither_no_key_is_read_but_a_warning_shown(make: Make, archive: Path, host: Host) -> None:
    result = make()
    assert "not archived" in result["warnings"][0]
    assert result["keys_path"] is None and not host.read
    assert "not archived here" in (archive / "README.md").read_text()


@pytest.mark.parametrize("way", ["vault", "none"])
def test_check_mode_writes_nothing(make: Make, directory: Path, host: Host, password_file: Path, way: str) -> None:
    options = {"vault_password_file": str(password_file)} if way == "vault" else {}
    result = make(check_mode=True, **options)
    assert result["changed"] and "README.md" in result["files"]
    assert bool(host.read) == (way == "vault")
    assert not directory.exists()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"failed": True, "msg": "file not found", "module_stdout": SEED}, "cannot read /keys on the host: file not"),
        ({"module_stdout": SEED}, "cannot read /keys on the host: None. Check that become"),
        ({"sealed_keys": base64.b64encode(KEYS).decode()}, "the encrypted secret is damaged"),
    ],
)
def test_unreadable_keys(make: Make, directory: Path, host: Host, password_file: Path, answer: Json, text: str) -> None:
    host.answer = answer
    result = make(vault_password_file=str(password_file))
    assert result["failed"] and text in result["msg"]
    assert SEED[:9] not in str(result)
    assert not directory.exists()


@pytest.mark.parametrize("keys", [f"ed25519 a_1 {SEED[:9]}".encode(), f"rsa a_1 {SEED}".encode(), b"\xff" + KEYS, b""])
def test_invalid_keys(make: Make, directory: Path, host: Host, password_file: Path, keys: bytes) -> None:
    host.has(keys)
    result = make(vault_password_file=str(password_file))
    assert result["failed"] and "/keys contains no valid Synapse" in result["msg"]
    assert SEED[:9] not in str(result)
    assert not directory.exists()


def test_the_keys_are_encrypted_on_their_way(make: Make, host: Host, password_file: Path) -> None:
    """Ansible prints what comes from a host with -vvv."""
    make(vault_password_file=str(password_file))
    assert [list(answer) for answer in host.answers] == [["sealed_keys"]]
    assert len(base64.b64decode(host.answers[0]["sealed_keys"])) == KEY_SIZE + len(KEYS)


def test_with_ansible_debug_no_key_is_read(make: Make, host: Host, password_file: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(_secrets.constants, "DEFAULT_DEBUG", True)
    result = make(vault_password_file=str(password_file))
    assert result["failed"] and "ANSIBLE_DEBUG" in result["msg"] and not host.read


def test_a_missing_password_file(make: Make, host: Host, tmp_path: Path) -> None:
    result = make(vault_password_file=str(tmp_path / "none"))
    assert result["failed"] and "was not found" in result["msg"] and not host.read


def test_without_age(make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = make(age_recipient="age1friend")
    assert result["failed"] and "no program 'age'" in result["msg"]


def test_age_refuses(make: Make, directory: Path, age: Path) -> None:
    result = make(age_recipient="-o/tmp/x")
    assert result["failed"] and "unknown recipient" in result["msg"]
    assert not directory.exists()


def test_aliases_of_the_certificate_and_of_this_run(make: Make, directory: Path, archive: Path) -> None:
    certificate = new(SERVER, 0)
    certificate["aliases"] = [
        {"alias": f"#b:{SERVER}", "room_id": "!b:x"},
        {"alias": f"#a:{SERVER}", "room_id": "!a:x"},
    ]
    Directory(str(directory)).path.mkdir()
    Directory(str(directory)).write(certificate, "")
    hostile = f'#{{{{ 7 * 6 }}}}",<b>:{SERVER}'
    make({"_decommission_aliases": {"aliases": [{"alias": hostile, "room_id": "=1+1"}, {"alias": "=1"}, 7]}})
    assert json.loads((archive / "aliases.json").read_text()) == [
        {"alias": f"#a:{SERVER}", "room_id": "!a:x"},
        {"alias": f"#b:{SERVER}", "room_id": "!b:x"},
        {"alias": hostile, "room_id": None},
    ]
    assert (archive / "aliases.csv").read_text().splitlines()[:2] == ["alias,room_id", f"#a:{SERVER},!a:x"]


@pytest.mark.parametrize("name", ["<b>.example", "a;b", "a b", "a\nb", "{{ 1 }}", "", "../x", "a`b"])
def test_an_invalid_server_name_gets_into_no_configuration(make: Make, directory: Path, name: str) -> None:
    result = make(server_name=name)
    assert result["failed"] and "is not a valid Matrix server name" in result["msg"]
    assert not directory.exists()


def test_a_directory_that_is_not_writable(make: Make, directory: Path) -> None:
    directory.write_text("no directory")
    assert make()["failed"]


@pytest.mark.parametrize("gate", [None, {}, {"not_confirmed": None}, {"skipped": True}])
def test_without_the_gate_no_file_of_rooms_is_written(make: Make, archive: Path, gate: Any) -> None:
    make({"_decommission_gate": gate})
    assert not (archive / "not_confirmed.json").exists()


def test_rooms_that_were_not_confirmed(make: Make, archive: Path) -> None:
    rooms = [{"room_id": "!{{ 7 * 6 }}:x", "servers": ["a.example"], "accounts": [f"@a:{SERVER}"], "pending": []}]
    make({"_decommission_gate": {"not_confirmed": rooms}})
    assert json.loads((archive / "not_confirmed.json").read_text()) == rooms


# With a static site


@pytest.mark.parametrize("way", ["vault", "age"])
def test_a_new_key_for_the_static_site(make: Make, archive: Path, password_file: Path, age: Path, way: str) -> None:
    options: Json = {"vault": {"vault_password_file": str(password_file)}, "age": {"age_recipient": "age1friend"}}[way]
    result = make(key_valid_for=9, **options)
    answer = parse_key_answer(result["key_answer"], SERVER)
    (new_id,) = answer.verify_keys
    assert answer.old_verify_keys == {"ed25519:a_1": PUBLIC}
    assert json.loads((archive / "server_key.json").read_text()) == result["key_answer"]
    if way == "vault":
        line, rest = decrypted(archive / "signing.key.vault").split(b"\n", 1)
        assert rest == KEYS
        key = read_signing_key(line.decode())
        assert (key.key_id, key.public_base64) == (new_id, answer.verify_keys[new_id])
        assert line.split()[2] not in b"".join([*contents(archive).values(), json.dumps(result).encode()])
    assert_encrypted(archive, result)
    again = make(key_valid_for=9, **options)
    assert (again["changed"], again["key_answer"]) == (False, result["key_answer"])
    # Without the site, the new key is not lost.
    assert make(**options)["files"] == ["README.md"]
    assert make(key_valid_for=9, **options)["key_answer"] == result["key_answer"]


@pytest.mark.parametrize("lost", ["server_key.json", "signing.key.json", "signing.key.vault"])
def test_a_run_that_ended_in_between_makes_another_new_key(
    make: Make, archive: Path, password_file: Path, lost: str
) -> None:
    options = {"vault_password_file": str(password_file), "key_valid_for": 9}
    first = make(**options)["key_answer"]
    (archive / lost).unlink()
    second = make(**options)["key_answer"]
    (new_id,) = second["verify_keys"]
    assert new_id not in first["verify_keys"]
    assert decrypted(archive / "signing.key.vault").startswith(b"ed25519 " + new_id[8:].encode())
    # Remote servers may have seen the answer before.
    assert lost == "server_key.json" or first["verify_keys"].keys() <= second["old_verify_keys"].keys()
    assert not make(**options)["changed"]


def test_an_old_key_answer_is_replaced(make: Make, password_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The homeserver was on since, and has signed events."""
    options = {"vault_password_file": str(password_file), "key_valid_for": 9}
    first = make(**options)["key_answer"]
    monkeypatch.setattr(plugin.time, "time", lambda: first["valid_until_ts"] / 1000 + 3600)
    second = make(**options)["key_answer"]
    assert (
        second["old_verify_keys"]["ed25519:a_1"]["expired_ts"] > first["old_verify_keys"]["ed25519:a_1"]["expired_ts"]
    )


def test_published_keys_are_carried_over(make: Make, password_file: Path) -> None:
    older = {"ed25519:a_0": {"key": PUBLIC, "expired_ts": 7}}
    options = {"vault_password_file": str(password_file), "key_valid_for": 9, "published_keys": older}
    assert make(**options)["key_answer"]["old_verify_keys"]["ed25519:a_0"] == older["ed25519:a_0"]


def test_a_site_needs_encryption(make: Make, directory: Path) -> None:
    result = make(key_valid_for=9)
    assert result["failed"] and "needs vault_password_file or age_recipient" in result["msg"]
    assert not directory.exists()
