# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import builtins
import copy
import importlib.util
import re
import sys
import traceback
from pathlib import Path
from typing import Any, Dict

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation import signing
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import (
    MissingRequirementError,
    SigningKeyError,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.signing import (
    SigningKey,
    canonical_json,
    create_key_file,
    new_signing_key,
    random_version,
    read_key_file,
    read_signing_key,
    sign_request,
)

Json = Dict[str, Any]

# The test vectors of the Matrix specification, appendices, "Cryptographic Test Vectors".
SEED = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"
KEY_TEXT = f"ed25519 1 {SEED}"
SIGNED = [
    ({}, "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"),
    (
        {"one": 1, "two": "Two"},
        "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
    ),
]
SERVER = "example.org"
NOW = 1_795_416_000.0  # Mon, 23 Nov 2026 06:40:00 GMT
OTHER_SEED = base64.b64encode(b"x" * 32).decode()


@pytest.fixture
def key() -> SigningKey:
    return read_signing_key(KEY_TEXT)


# The key file


def test_read_key_file(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    path.write_text(KEY_TEXT)
    assert read_key_file(str(path)) == KEY_TEXT
    # A device or a log by mistake is not read whole.
    path.write_text("x" * (signing.MAX_KEY_FILE + 1))
    assert len(read_key_file(str(path))) == signing.MAX_KEY_FILE


def test_a_key_file_that_is_not_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "signing.key"

    def message() -> str:
        with pytest.raises(SigningKeyError) as raised:
            read_key_file(str(path), "some_path")
        assert SEED not in "".join(traceback.format_exception(None, raised.value, None))
        return str(raised.value)

    fix = "set it to the signing_key_path of homeserver.yaml"
    assert message() == f"some_path: {path}: No such file or directory: {fix}"
    path.write_bytes(KEY_TEXT.encode() + b"\xff")
    assert message() == f"some_path: {path} is not a signing key file"

    def denied(*arguments: Any, **_more: Any) -> Any:
        raise PermissionError(13, "Permission denied", arguments[0])

    monkeypatch.setattr(builtins, "open", denied)
    assert message() == f"some_path: {path} can't be read by this user: set become: true"


# Signing


def test_a_new_key() -> None:
    keys = [new_signing_key("new") for _number in range(9)]
    assert len({key.key_id for key in keys}) == len({key.public_base64 for key in keys}) == 9
    assert all(re.fullmatch("ed25519:new_[A-Za-z]{6}", key.key_id) for key in keys)
    assert re.fullmatch("site_[A-Za-z]{6}", random_version("site"))


def test_create_key_file(key: SigningKey, tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    create_key_file(str(path), key, "path")
    assert read_signing_key(path.read_text()).public_base64 == key.public_base64
    assert re.fullmatch("ed25519 1 [A-Za-z0-9+/]{43}\n", path.read_text())
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_key_file_that_exists_is_not_replaced(key: SigningKey, tmp_path: Path) -> None:
    path, dangling = tmp_path / "signing.key", tmp_path / "link"
    path.write_text("other")
    dangling.symlink_to(tmp_path / "nothing")
    for each in (path, dangling):
        with pytest.raises(SigningKeyError, match=r"^path: .*: File exists: set it to a new file"):
            create_key_file(str(each), key, "path")
    assert path.read_text() == "other" and sorted(tmp_path.iterdir()) == [dangling, path]


def test_a_key_file_that_cannot_be_written(key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SigningKeyError, match="No such file or directory: set it to"):
        create_key_file(str(tmp_path / "nothing/signing.key"), key, "path")

    def refuse(*_arguments: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(signing.os, "link", refuse)
    with pytest.raises(SigningKeyError, match="can't be written by this user: set become: true") as raised:
        create_key_file(str(tmp_path / "signing.key"), key, "path")
    assert SEED not in "".join(traceback.format_exception(None, raised.value, None)) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("value", "signature"), SIGNED)
def test_sign(key: SigningKey, value: Json, signature: str) -> None:
    assert key.sign(value, "domain") == {**value, "signatures": {"domain": {"ed25519:1": signature}}}
    assert "signatures" not in value


def test_signatures_of_others_are_not_copied(key: SigningKey) -> None:
    value = {"signatures": {"domain": {"ed25519:2": "x"}, "other": {"ed25519:1": "x"}}}
    original = copy.deepcopy(value)
    assert key.sign(value, "domain")["signatures"] == {"domain": {"ed25519:1": SIGNED[0][1]}}
    assert value == original


def test_sign_request_without_a_body(key: SigningKey) -> None:
    uri = "/_matrix/federation/v1/state_ids/%21r%3Ar.example?event_id=%24none"
    header = sign_request(SERVER, key, "r.example:8448", "GET", uri)
    signed = {"method": "GET", "uri": uri, "origin": SERVER, "destination": "r.example:8448"}
    signature = key.sign(signed, SERVER)["signatures"][SERVER]["ed25519:1"]
    assert header == f'X-Matrix origin="example.org",destination="r.example:8448",key="ed25519:1",sig="{signature}"'


@pytest.mark.parametrize("content", [{}, {"a": {"b": ["🦊", None]}}])
def test_sign_request_with_a_body(key: SigningKey, content: Json) -> None:
    signed = {"method": "PUT", "uri": "/x", "origin": SERVER, "destination": "r", "content": content}
    signature = key.sign(signed, SERVER)["signatures"][SERVER]["ed25519:1"]
    assert sign_request(SERVER, key, "r", "PUT", "/x", content).endswith(f',sig="{signature}"')


def test_canonical_json() -> None:
    assert canonical_json({"b": "é🦊\n", "a": [1, None, True]}) == '{"a":[1,null,true],"b":"é🦊\\n"}'.encode()


# Reading the signing key


def test_read_signing_key(key: SigningKey) -> None:
    assert key.key_id == "ed25519:1"
    assert re.fullmatch("[A-Za-z0-9+/]{43}", key.public_base64)


@pytest.mark.parametrize(
    "text",
    [
        f"{KEY_TEXT}\n",
        f"\r\n  {KEY_TEXT}=\r\n",
        f"ed25519\t1\t{SEED}",
        f"\n{KEY_TEXT}\n\ned25519 second {OTHER_SEED}\n",
    ],
)
def test_the_first_key_is_used(key: SigningKey, text: str) -> None:
    assert vars_of(read_signing_key(text)) == vars_of(key)


def vars_of(key: SigningKey) -> tuple[str, str]:
    return key.key_id, key.public_base64


SECRET = "c2VjcmV0"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n \n",
        SECRET,
        f"ed25519 {SECRET}",
        f"ed25519 1 {SECRET}",  # too short
        f"ed25519 1 {SECRET}{SEED}",  # too long
        f"ed25519 1 {SEED} {SECRET}",
        f"rsa 1 {SECRET}",
        f"{SECRET} 1 {SEED}",
        f"ed25519 1 {SECRET}\udcff{SEED}",
        f"ed25519 1 {SECRET}é{SEED}",
        f"ed25519 1 {SECRET}*",
        f'ed25519 {SECRET}" {SEED}',
        f"ed25519 {SECRET},x {SEED}",
        f"ed25519 {SECRET}é {SEED}",
        f"ed25519 {SECRET * 10} {SEED}",
        f"{KEY_TEXT}\n{SECRET}",
        f"-----BEGIN MATRIX PRIVATE KEY-----\nKey-ID: ed25519:1\n\n{SECRET}\n-----END MATRIX PRIVATE KEY-----\n",
        f"\0{SECRET}",
    ],
)
def test_an_unreadable_key_is_not_quoted(text: str) -> None:
    with pytest.raises(SigningKeyError) as raised:
        read_signing_key(text)
    shown = "".join(traceback.format_exception(raised.type, raised.value, raised.tb))
    assert SECRET not in shown + repr(raised.value)
    assert raised.value.__context__ is None
    assert "signing key" in str(raised.value)


def test_the_private_key_is_in_no_representation(key: SigningKey) -> None:
    assert repr(key) == str(key) == "SigningKey('ed25519:1')"
    assert not hasattr(key, "__dict__")
    assert SEED not in f"{key!r} {[key]}"


# Without signedjson


def test_without_signedjson(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing works; the first use names the packages of Debian and of pip."""
    monkeypatch.setitem(sys.modules, "signedjson.key", None)
    spec = importlib.util.spec_from_file_location(signing.__name__, signing.__file__)
    assert spec is not None and spec.loader is not None
    without: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(without)
    assert "signedjson.key" in without.SIGNEDJSON_IMPORT_ERROR
    for use in (
        lambda: without.read_signing_key(KEY_TEXT),
        lambda: without.canonical_json({}),
        without.require_signedjson,
    ):
        with pytest.raises(MissingRequirementError, match=r"python3-signedjson \(Debian.*signedjson \(pip"):
            use()
