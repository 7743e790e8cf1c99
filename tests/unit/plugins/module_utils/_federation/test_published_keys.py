# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import importlib.util
import sys
from typing import Any, Dict

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation import published_keys, signing
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import (
    AnswerError,
    MissingRequirementError,
    SigningKeyError,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.published_keys import (
    KeyAnswer,
    assert_published,
    parse_key_answer,
    unsigned_key_answer,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.signing import SigningKey, read_signing_key

Json = Dict[str, Any]

# A key of the test vectors of the Matrix specification, appendices, "Cryptographic Test Vectors".
KEY_TEXT = "ed25519 1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"
SERVER = "example.org"
NOW = 1_795_416_000.0  # Mon, 23 Nov 2026 06:40:00 GMT
NOW_S = int(NOW)
UNRELATED_SIGNATURE = "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"
OTHER_SEED = base64.b64encode(b"x" * 32).decode()


@pytest.fixture
def key() -> SigningKey:
    return read_signing_key(KEY_TEXT)


def key_answer(key: SigningKey, **changes: Any) -> Json:
    body = {
        "server_name": SERVER,
        "valid_until_ts": 2_000_000_000_000,
        "verify_keys": {key.key_id: {"key": key.public_base64}},
        "old_verify_keys": {},
    }
    body.update(changes)
    body = {name: value for name, value in body.items() if value is not None}
    return key.sign(body, SERVER)


def another_key(version: str) -> SigningKey:
    return read_signing_key(f"ed25519 {version} {OTHER_SEED}")


def test_parse_key_answer(key: SigningKey) -> None:
    other = another_key("old")
    padded = {"key": f"{other.public_base64}=", "expired_ts": 1}
    body = key_answer(key, old_verify_keys={"ed25519:old": padded, "rsa:1": {"key": "?"}})
    answer = parse_key_answer(body, SERVER)
    old = {"ed25519:old": other.public_base64}
    expired = {"ed25519:old": 1}
    assert answer == KeyAnswer(SERVER, {"ed25519:1": key.public_base64}, old, 2_000_000_000_000, expired)
    assert answer.as_json() == {
        "ed25519:1": {"key": key.public_base64},
        "ed25519:old": {"key": other.public_base64, "expired_ts": 1},
    }


def test_a_key_answer_of_ours(key: SigningKey) -> None:
    old = another_key("old").public_base64
    former = {"ed25519:old": {"key": old}, "ed25519:older": {"key": old, "expired_ts": 7, "more": "x"}}
    body = unsigned_key_answer(SERVER, {key.key_id: key.public_base64}, former, now=NOW_S, valid_for=9)
    answer = parse_key_answer(key.sign(body, SERVER), SERVER)
    assert answer.valid_until_ts == (NOW_S + 9) * 1000
    assert answer.as_json() == {
        "ed25519:1": {"key": key.public_base64},
        "ed25519:old": {"key": old, "expired_ts": NOW_S * 1000},
        "ed25519:older": {"key": old, "expired_ts": 7},
    }


def test_under_which_keys_a_key_id_is_known(key: SigningKey) -> None:
    old = {"ed25519:1": {"key": another_key("1").public_base64}, "ed25519:old": {"key": key.public_base64}}
    answer = parse_key_answer(key_answer(key, old_verify_keys=old), SERVER)
    assert answer.known_as("ed25519:1") == [key.public_base64, old["ed25519:1"]["key"]]
    assert (answer.known_as("ed25519:old"), answer.known_as("ed25519:2")) == ([key.public_base64], [])


@pytest.mark.parametrize("expired_ts", [None, True, "1", 1.5])
def test_a_time_of_another_type_is_ignored(key: SigningKey, expired_ts: object) -> None:
    old = {"key": another_key("old").public_base64, "expired_ts": expired_ts}
    assert parse_key_answer(key_answer(key, old_verify_keys={"ed25519:old": old}), SERVER).expired_ts == {}


def test_a_key_answer_without_old_keys(key: SigningKey) -> None:
    assert parse_key_answer(key_answer(key, old_verify_keys=None), SERVER).old_verify_keys == {}


def test_one_signature_is_enough(key: SigningKey) -> None:
    other = another_key("2")
    body = key_answer(key, verify_keys={each.key_id: {"key": each.public_base64} for each in (key, other)})
    body["signatures"]["notary.example"] = {"ed25519:9": "x"}
    assert set(parse_key_answer(body, SERVER).verify_keys) == {"ed25519:1", "ed25519:2"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"server_name": "other.example"}, "server_name"),
        ({"server_name": None}, "server_name"),
        ({"server_name": ["example.org"]}, "server_name"),
        ({"valid_until_ts": None}, "valid_until_ts"),
        ({"valid_until_ts": True}, "valid_until_ts"),
        ({"valid_until_ts": "1"}, "valid_until_ts"),
        ({"valid_until_ts": 1.5}, "valid_until_ts"),
        ({"verify_keys": []}, "verify_keys"),
        ({"verify_keys": None}, "not signed"),
        ({"verify_keys": {}}, "not signed"),
        ({"verify_keys": {"rsa:1": {"key": "x"}}}, "not signed"),
        ({"verify_keys": {f"ed25519:{number}": {"key": OTHER_SEED} for number in range(101)}}, "at most 100 keys"),
        ({"verify_keys": {"ed25519:1": None}}, "verify_keys"),
        ({"verify_keys": {"ed25519:1": "x"}}, "verify_keys"),
        ({"verify_keys": {"ed25519:1": {}}}, "verify_keys"),
        ({"verify_keys": {"ed25519:1": {"key": 5}}}, "verify_keys"),
        ({"verify_keys": {"ed25519:1": {"key": {"a": 1}}}}, "verify_keys"),
        ({"verify_keys": {"ed25519:1": {"key": "short"}}}, "verify_keys"),
        ({"verify_keys": {"ed25519:1": {"key": "é"}}}, "verify_keys"),
        ({"verify_keys": {"ed25519:1": {"key": another_key("1").public_base64}}}, "signature"),
        ({"old_verify_keys": "x"}, "old_verify_keys"),
        ({"old_verify_keys": {"ed25519:0": {"key": "x"}}}, "old_verify_keys"),
    ],
)
def test_unusable_key_answers(key: SigningKey, changes: Json, words: str) -> None:
    with pytest.raises(AnswerError, match=words):
        parse_key_answer(key_answer(key, **changes), SERVER)


def nested(depth: int) -> Any:
    value: Any = None
    for _level in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "signatures",
    [
        None,
        [],
        {},
        {SERVER: None},
        {SERVER: ["ed25519:1"]},
        {SERVER: {}},
        {SERVER: {"ed25519:2": "x"}},
        {SERVER: {"ed25519:1": None}},
        {SERVER: {"ed25519:1": {"x": 1}}},
        {SERVER: {"ed25519:1": "é"}},
        {SERVER: {"ed25519:1": ""}},
        {SERVER: {"ed25519:1": UNRELATED_SIGNATURE}},
        {"other.example": {"ed25519:1": "x"}},
    ],
)
def test_unusable_signatures(key: SigningKey, signatures: Any) -> None:
    with pytest.raises(AnswerError, match="sign"):
        parse_key_answer({**key_answer(key), "signatures": signatures}, SERVER)


@pytest.mark.parametrize("extra", ["\ud800", float("nan"), nested(100_000)])
def test_key_answers_that_cannot_be_encoded(key: SigningKey, extra: Any) -> None:
    with pytest.raises(AnswerError, match="invalid signature"):
        parse_key_answer({**key_answer(key), "extra": extra}, SERVER)


def test_a_changed_key_answer(key: SigningKey) -> None:
    with pytest.raises(AnswerError, match="invalid signature"):
        parse_key_answer({**key_answer(key), "valid_until_ts": 2}, SERVER)


def test_every_signature_by_a_current_key_must_be_valid(key: SigningKey) -> None:
    other = another_key("2")
    body = key_answer(key, verify_keys={each.key_id: {"key": each.public_base64} for each in (key, other)})
    body["signatures"][SERVER]["ed25519:2"] = body["signatures"][SERVER]["ed25519:1"]
    with pytest.raises(AnswerError, match="ed25519:2"):
        parse_key_answer(body, SERVER)


# Is the key the one that is published?


def test_the_published_key_is_accepted(key: SigningKey) -> None:
    assert_published(key, parse_key_answer(key_answer(key), SERVER), NOW)


def test_another_key_id_is_refused(key: SigningKey) -> None:
    with pytest.raises(SigningKeyError) as raised:
        assert_published(another_key("a_new"), parse_key_answer(key_answer(key), SERVER), NOW)
    assert str(raised.value) == (
        "signing key ed25519:a_new is not published by example.org, which publishes ed25519:1: use that key, or "
        "publish this key"
    )


def test_another_key_under_the_same_id_is_refused(key: SigningKey) -> None:
    with pytest.raises(SigningKeyError) as raised:
        assert_published(another_key("1"), parse_key_answer(key_answer(key), SERVER), NOW)
    assert str(raised.value) == (
        "signing key ed25519:1 differs from the ed25519:1 that example.org publishes: use that key, or publish this "
        "key under a new key ID"
    )


def test_a_retired_key_is_refused(key: SigningKey) -> None:
    old = another_key("old")
    answer = parse_key_answer(key_answer(key, old_verify_keys={old.key_id: {"key": old.public_base64}}), SERVER)
    with pytest.raises(
        SigningKeyError, match=r"ed25519:old is not published .*\(only in old_verify_keys\).* ed25519:1"
    ):
        assert_published(old, answer, NOW)


@pytest.mark.parametrize(
    ("valid_until_ts", "date"),
    [(1_795_415_999_000, "2026-11-23 06:39"), (-1, "1970-01-01 00:00"), (-(2**53) + 1, "1970-01-01 00:00")],
)
def test_an_expired_answer_is_refused(key: SigningKey, valid_until_ts: int, date: str) -> None:
    answer = parse_key_answer(key_answer(key, valid_until_ts=valid_until_ts), SERVER)
    with pytest.raises(SigningKeyError) as raised:
        assert_published(key, answer, NOW)
    assert str(raised.value) == (
        f"signing key ed25519:1 is no longer accepted, since the key answer of example.org expired at {date} UTC: "
        "publish a new one, or correct the clock of this host"
    )


@pytest.mark.parametrize("valid_until_ts", [1_795_416_000_000, 10**400])
def test_an_answer_that_is_valid_for_long_is_accepted(key: SigningKey, valid_until_ts: int) -> None:
    assert_published(key, KeyAnswer(SERVER, {key.key_id: key.public_base64}, {}, valid_until_ts), NOW)


def test_without_signedjson(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing works; the first use names the packages of Debian and of pip."""
    monkeypatch.setitem(sys.modules, "signedjson.key", None)
    monkeypatch.setattr(signing, "SIGNEDJSON_IMPORT_ERROR", "ImportError")
    spec = importlib.util.spec_from_file_location(published_keys.__name__, published_keys.__file__)
    assert spec is not None and spec.loader is not None
    without: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(without)
    with pytest.raises(MissingRequirementError, match=r"python3-signedjson \(Debian.*signedjson \(pip"):
        without.parse_key_answer({}, SERVER)
