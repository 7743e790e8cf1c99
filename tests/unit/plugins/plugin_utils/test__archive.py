# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.plugin_utils import _archive
from ansible_collections.matrixops.synapse.tests.stubs.helpers import SERVER

SEED = base64.b64encode(bytes(32)).decode().rstrip("=")


@pytest.mark.parametrize(
    ("name", "server", "listen"),
    [
        ("example.org", "example.org:443", "listen 443 ssl"),
        ("example.org:8448", None, "listen 8448 ssl"),
        ("[2001:db8::1]", None, "listen 8448 ssl"),
        ("192.0.2.1:443", None, "listen 443 ssl"),
    ],
)
def test_well_known_only_where_remote_servers_request_it(name: str, server: str | None, listen: str) -> None:
    texts = _archive.archive_files(name, [], None)
    found = texts.get("www/.well-known/matrix/server")
    assert (json.loads(found)["m.server"] if found else None) == server
    assert listen in texts["nginx.conf"]
    assert texts["nginx.conf"].count("listen 443 ssl") == 1
    answer = f"return 404 '{json.dumps(_archive.ANSWER)}';"
    assert answer in texts["nginx.conf"]
    assert f"respond `{json.dumps(_archive.ANSWER)}` 404" in texts["Caddyfile"]


def test_all_files() -> None:
    texts = _archive.archive_files(SERVER, [], "signing.key.age")
    assert sorted(texts) == [
        "Caddyfile",
        "README.md",
        "aliases.csv",
        "aliases.json",
        "nginx.conf",
        "traefik.yml",
        "www/.well-known/matrix/server",
        "www/.well-known/matrix/support",
        "www/index.html",
    ]
    assert "age --decrypt" in texts["README.md"] and "not archived here" not in texts["README.md"]


@pytest.mark.parametrize(
    "source",
    [None, {}, {"aliases": None}, {"aliases": [7, {}, {"alias": "=1+1"}, {"alias": 1}, {"room_id": "!r:x"}]}],
)
def test_malformed_aliases_are_left_out(source: Any) -> None:
    assert _archive.known_aliases(source) == []


def test_a_known_room_is_not_lost() -> None:
    known, unknown = {"alias": "#a:x", "room_id": "!a:x"}, {"alias": "#a:x", "room_id": None}
    for order in ([known, unknown], [unknown, known]):
        assert _archive.known_aliases(*({"aliases": [each]} for each in order)) == [known]


def test_files_that_differ(tmp_path: Path) -> None:
    texts = {"a": "1", "www/b": "2"}
    _archive.write(tmp_path / "archive", texts, texts)
    assert _archive.changed_files(tmp_path / "archive", texts) == []
    assert _archive.changed_files(tmp_path / "archive", {**texts, "a": "3", "c": "4"}) == ["a", "c"]


@pytest.mark.parametrize(
    "line", ["", "ed25519 a_1", f"rsa a_1 {SEED}", f"ed25519 a-1 {SEED}", f"ed25519 a_1 {SEED[:9]}"]
)
def test_invalid_keys(line: str) -> None:
    with pytest.raises(ValueError, match="contains no valid Synapse signing keys"):
        _archive.verify_keys(f"ed25519 a_0 {SEED}\n{line}\n".encode() if line else b"")


def test_several_keys() -> None:
    keys = _archive.verify_keys(f"ed25519 a_0 {SEED}\ned25519 a_1 {SEED}\n".encode())
    assert list(keys) == ["ed25519:a_0", "ed25519:a_1"]
