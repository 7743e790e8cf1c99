# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils import _media_transfer as module
from ansible_collections.matrixops.synapse.plugins.module_utils._media_transfer import (
    PartWriter,
    new_directory,
    part_path,
    read_files,
    read_listing,
    write_listing,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.media import MAX_FILE, Media

FILES = {
    Media("a", 5, "image/png"): b"a\nb\r\n",
    Media("b", 0, 'odd\n"type"\u202e'): b"",
    Media("c", 30, ""): b"c" * 30,
}


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_SIZE", 8)
    monkeypatch.setattr(module, "CHUNK", 7)


def join(directory: Path, writer: PartWriter) -> io.BytesIO:
    """The stream, as the controller puts it together."""
    parts = [Path(part_path(str(directory), number)).read_bytes() for number in range(writer.parts)]
    assert all(parts) and max(map(len, parts), default=0) <= 8
    assert sum(map(len, parts)) == writer.size
    return io.BytesIO(b"".join(parts))


def stream(directory: Path) -> io.BytesIO:
    """The stream with C(FILES)."""
    with PartWriter(str(directory)) as writer:
        for media, content in FILES.items():
            file = io.BytesIO(content)
            file.seek(0, io.SEEK_END)
            writer.write_file(media, file)
    return join(directory, writer)


def read(content: bytes, *expected: str) -> dict[Media, bytes]:
    return {media: file.read() for media, file in read_files(io.BytesIO(content), expected)}


def test_files_and_back(tmp_path: Path) -> None:
    assert read(stream(tmp_path).getvalue(), "a", "b", "c", "not in this batch") == FILES
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_a_listing_and_back(tmp_path: Path) -> None:
    listed = [Media("a"), Media("b", MAX_FILE, "x" * 255, "quarantined"), Media("c", 0, "\U0010ffff" * 255, "é")]
    with PartWriter(str(tmp_path)) as writer:
        write_listing(writer, listed)
    assert list(read_listing(join(tmp_path, writer))) == listed


def test_nothing(tmp_path: Path) -> None:
    with PartWriter(str(tmp_path)) as writer:
        write_listing(writer, [])
    assert (writer.parts, list(tmp_path.iterdir())) == (0, [])


def test_a_part_that_exists_is_not_written_to(tmp_path: Path) -> None:
    """Nor to what a link of that name leads to."""
    Path(part_path(str(tmp_path), 0)).symlink_to(tmp_path / "elsewhere")
    with PartWriter(str(tmp_path)) as writer, pytest.raises(FileExistsError):
        writer.write(b"content")


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"null\n",
        b'["a"]\n',
        b'["../a", 0, ""]\n',
        b'["", 0, ""]\n',
        b'[["a"], 0, ""]\n',
        b'["a", -1, ""]\n',
        b'["a", "x", ""]\n',
        b'["a", [], ""]\n',
        b'["a", 1e999, ""]\n',
        b'["a", 0, null]\n',
        b'["a", 0, "", 7]\n',
        b'["a", 0, "", "", ""]\n',
        b"[" * 5000,
        json.dumps(["a", MAX_FILE + 1, ""]).encode(),
        json.dumps(["a", 0, "x" * 256]).encode(),
        b"\xff\n",
    ],
)
def test_a_damaged_line(line: bytes) -> None:
    with pytest.raises(ValueError, match="the stream of files is damaged"):
        read(line, "a")
    with pytest.raises(ValueError, match="the stream of files is damaged"):
        list(read_listing(io.BytesIO(line)))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b'["b", 0, ""]\n', "not requested"),
        (b'["a", null, ""]\n', "not requested"),
        (b'["a", 0, ""]\n["a", 0, ""]\n', "not requested"),
        (b'["a", 3, ""]\nab', "not complete"),
        (b'["a", 3, ""]\n', "not complete"),
    ],
)
def test_what_is_not_as_requested(content: bytes, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        read(content, "a")


def test_a_new_directory(tmp_path: Path) -> None:
    path = tmp_path / "new"
    with new_directory(str(path)) as created:
        assert (created, stat.S_IMODE(path.stat().st_mode)) == (str(path), 0o700)
        (path / "part-0").touch()
    assert path.exists()
    with pytest.raises(FileExistsError), new_directory(str(path)):
        pass


def test_a_new_directory_is_removed_after_an_error(tmp_path: Path) -> None:
    def fail(path: Path) -> Any:
        (path / "part-0").touch()
        raise KeyError

    with pytest.raises(KeyError), new_directory(str(tmp_path / "new")) as created:
        fail(Path(created))
    assert list(tmp_path.iterdir()) == []
