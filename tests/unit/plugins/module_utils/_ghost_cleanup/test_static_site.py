# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading a static site. tests/integration/test_site_servers.py asks for all that it answers."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.static_answers import VERSION
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.static_site import (
    MISSING_FILE,
    UNKNOWN,
    SiteError,
    StaticSite,
    open_file,
)
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site import layout
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site.site import Room, Site

NAME = "old.example"
KEYS = b'{"keys": 1}'
DIRECTORY = "/_matrix/federation/v1/query/directory?room_alias="


@pytest.fixture
def www(tmp_path: Path) -> Path:
    rooms = (Room("!a:b", ("b",), (f"#a b~:{NAME}",)), Room("!c:d", ("d",), (f"#\N{GRINNING FACE}:{NAME}",)))
    layout.write(tmp_path / "site", Site(NAME, {}, rooms, 1_700_000_000, "b0undary" * 4))
    return tmp_path / "site" / layout.WWW


def read(www: Path | None, name: str = NAME) -> StaticSite:
    return StaticSite.read(name, KEYS, None if www is None else str(www))


def test_without_a_site() -> None:
    site = read(None)
    assert site.answer("/_matrix/key/v2/server").body == KEYS
    assert json.loads(site.answer("/_matrix/federation/v1/version").body) == VERSION
    assert site.answer(f"{DIRECTORY}%23a%3A{NAME}") is MISSING_FILE
    assert site.answer(f"/_matrix/media/v3/download/{NAME}/x") is MISSING_FILE
    assert site.answer("/") is MISSING_FILE
    assert site.answer("/_matrix/client/versions") is UNKNOWN


def test_the_key_answer_is_not_that_of_the_site(www: Path) -> None:
    assert read(www).answer("/_matrix/key/v2/server?x=1").body == KEYS


@pytest.mark.parametrize("query", ["%23a+b~%3Aold.example", "%23a+b%7E%3Aold.example", "#a%20b~:old.example"])
def test_aliases(www: Path, query: str) -> None:
    found = read(www).answer(f"{DIRECTORY}{query}")
    assert found.path is not None and json.loads(found.path.read_bytes())["room_id"] == "!a:b"


def test_only_files_of_the_site(www: Path) -> None:
    (www.parent / "secret.png").write_bytes(b"secret")
    (www / "media").mkdir()
    (www / "media/kept.png").write_bytes(b"public")
    site = read(www)
    assert site.answer(f"/_matrix/media/v3/download/{NAME}/kept").path == www / "media/kept.png"
    assert site.answer("/_matrix/media/v3/download/other.example/kept").path is None
    for path in ("../secret", "..%2fsecret", "%2e%2e%2fsecret", "x/../../../secret", "\0", "x" * 101):
        for api in ("/_matrix/federation/v1/media/download", f"/_matrix/media/v3/download/{NAME}"):
            assert site.answer(f"{api}/{path}").path is None


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("site.json", None, "site.json is missing or malformed"),
        ("site.json", b"{", "site.json is missing or malformed"),
        ("site.json", b"[]", "site.json is missing or malformed"),
        ("site.json", b'{"server_name": "other.example", "boundary": "x"}', "of another server"),
        ("site.json", b'{"server_name": "old.example", "boundary": "x\\r\\nX: 1"}', "invalid boundary"),
        ("site.json", b'{"server_name": "old.example", "boundary": 1}', "invalid boundary"),
        ("Caddyfile-aliases", None, "Caddyfile-aliases is missing"),
        ("Caddyfile-aliases", b"%23a 1\n%23b ../../x\n", "invalid line"),
        ("Caddyfile-aliases", b"%23a 0\n", "invalid line"),
        ("www/.well-known/matrix/server", b"x" * 2_000_000, "more than 1,048,576 bytes"),
    ],
)
def test_invalid_sites(www: Path, file: str, content: bytes | None, message: str) -> None:
    path = www.parent / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(SiteError, match=message):
        read(www)


def test_a_missing_site(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="is not a directory: set it to the directory www"):
        read(tmp_path / "none")


def test_open_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_bytes(b"x")
    assert open_file(tmp_path / "fifo") is None
    assert open_file(tmp_path) is None
    assert open_file(tmp_path / "missing") is None
    assert open_file(tmp_path / ("x" * 300)) is None
    file = open_file(tmp_path / "file")
    assert file is not None
    with file:
        assert file.read() == b"x"
