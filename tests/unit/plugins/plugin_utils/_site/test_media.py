# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import email
import io
import os
from pathlib import Path

import pytest
from ansible_collections.matrixops.synapse.plugins.plugin_utils._site import media

BOUNDARY = "b0undary" * 4
PNG = b"\x89PNG\r\n\x1a\n"


def store(path: Path, media_id: str = "Ab_1-", content_type: str = "image/png", content: bytes = PNG) -> None:
    media.store(path, media_id, content_type, io.BytesIO(content), len(content), BOUNDARY)


def names(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir()) if path.exists() else []


@pytest.mark.parametrize(
    ("content_type", "extension"),
    [
        ("image/png", "png"),
        ("image/jpeg", "jpg"),
        ("Image/JPEG ; charset=utf-8", "jpg"),
        ("audio/x-wav", "wav"),
        ("image/svg+xml", "bin"),
        ("text/html", "bin"),
        ("application/pdf", "bin"),
        ("application/octet-stream", "bin"),
        ("", "bin"),
        ("../image/png", "bin"),
        ("image/png\r\nX-Evil: 1", "bin"),
    ],
)
def test_names_of_files(content_type: str, extension: str) -> None:
    assert media.file_names("abc", content_type) == (f"abc.{extension}", "abc.multipart")


@pytest.mark.parametrize("media_id", ["", "a/b", "..", "../a", ".a", "a.png", "a\n", "a" * 101, "ä", "a%2f"])
def test_no_media_ids(tmp_path: Path, media_id: str) -> None:
    assert not media.is_media_id(media_id)
    with pytest.raises(ValueError, match="not a media ID"):
        store(tmp_path / "www/media", media_id)
    with pytest.raises(ValueError, match="not a media ID"):
        media.remove(tmp_path, media_id)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content_type", "kept"), [("image/png", "image/png"), ("text/html", "application/octet-stream")]
)
def test_both_files(tmp_path: Path, content_type: str, kept: str) -> None:
    store(tmp_path / "www/media", content_type=content_type)
    plain, multipart = (tmp_path / "www/media" / name for name in media.file_names("Ab_1-", content_type))
    assert plain.read_bytes() == PNG
    head = f"Content-Type: multipart/mixed; boundary={BOUNDARY}\n\n".encode()
    parts = email.message_from_bytes(head + multipart.read_bytes()).get_payload()
    assert [part.get_content_type() for part in parts] == ["application/json", kept]
    assert parts[0].get_payload() == "{}"
    assert parts[1]["Content-Disposition"] == ("inline" if kept == content_type else "attachment")
    assert multipart.read_bytes().endswith(b"\r\n\r\n" + PNG + f"\r\n--{BOUNDARY}--\r\n".encode())
    assert [path.stat().st_mode & 0o777 for path in (plain.parent, plain, multipart)] == [0o700, 0o600, 0o600]


@pytest.mark.parametrize("length", [len(PNG) - 1, len(PNG) + 1, 0])
def test_another_length(tmp_path: Path, length: int) -> None:
    with pytest.raises(ValueError, match="bytes were received"):
        media.store(tmp_path, "abc", "image/png", io.BytesIO(PNG), length, BOUNDARY)
    assert names(tmp_path) == []


def test_what_is_there_stays_if_it_fails(tmp_path: Path) -> None:
    store(tmp_path)
    with pytest.raises(ValueError, match="bytes were received"):
        media.store(tmp_path, "Ab_1-", "image/gif", io.BytesIO(b"GIF"), 4, BOUNDARY)
    assert names(tmp_path) == ["Ab_1-.multipart", "Ab_1-.png"]
    assert (tmp_path / "Ab_1-.png").read_bytes() == PNG


def test_errors_of_the_source(tmp_path: Path) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("connection reset")

    with pytest.raises(OSError, match="connection reset"):
        media.store(tmp_path, "abc", "image/png", Broken(), 4, BOUNDARY)
    assert names(tmp_path) == []


def test_an_invalid_boundary(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="boundary"):
        media.store(tmp_path, "abc", "image/png", io.BytesIO(), 0, "x\r\n" * 10)
    assert names(tmp_path) == []


def test_another_type_replaces_the_files(tmp_path: Path) -> None:
    """Else the web server might find the old one first."""
    store(tmp_path)
    store(tmp_path, content_type="image/gif", content=b"GIF")
    assert names(tmp_path) == ["Ab_1-.gif", "Ab_1-.multipart"]
    assert media.stored(tmp_path) == {"Ab_1-": 3}


def test_more_than_a_chunk(tmp_path: Path) -> None:
    content = os.urandom(media.CHUNK * 2 + 1)
    store(tmp_path, content=content)
    assert (tmp_path / "Ab_1-.png").read_bytes() == content


def test_what_is_stored(tmp_path: Path) -> None:
    assert media.stored(tmp_path / "missing") == {}
    for media_id, content in (("b", b"12"), ("a", b""), ("-", b"1")):
        store(tmp_path, media_id, content=content)
    for name in ("c.png", "d.multipart", "e.html", "f.g.png", ".h.png.new", "e.multipart", "f.g.multipart"):
        (tmp_path / name).touch()
    assert media.stored(tmp_path) == {"-": 1, "a": 0, "b": 2}


def test_removal(tmp_path: Path) -> None:
    media.remove(tmp_path / "missing", "a")
    store(tmp_path, "a")
    store(tmp_path, "ab")
    media.remove(tmp_path, "a")
    assert media.stored(tmp_path) == {"ab": len(PNG)}


def test_unfinished_files(tmp_path: Path) -> None:
    assert media.remove_unfinished(tmp_path / "missing") == []
    store(tmp_path, "a")
    (tmp_path / ".b.png.new").touch()
    assert media.remove_unfinished(tmp_path) == [".b.png.new"]
    assert names(tmp_path) == ["a.multipart", "a.png"]
