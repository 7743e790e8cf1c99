# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stream in which the module C(synapse_media) passes files to the controller: in parts, each a small file.

Before each file comes a line of JSON with its media ID, length and type.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, Collection, Iterable, Iterator

from ._synapse.media import MAX_FILE, MAX_TYPE, MEDIA_ID, Media

PART_SIZE = 8 * 1024**2
"""Maximum size of a part in bytes: Ansible reads a part into memory if C(become) is set."""
MAX_LINE = 4096
"""Maximum length of a line in bytes. A content type may take six bytes for each character."""
CHUNK = 256 * 1024


def part_path(directory: str, number: int) -> str:
    return f"{directory}/part-{number}"


class PartWriter:
    """Writes a stream to new files in a directory, which only this user may read.

    :ivar parts: number of files.
    :ivar size: of the stream in bytes.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._part: BinaryIO | None = None
        self._left = 0
        self.parts = 0
        self.size = 0

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, *_error: object) -> None:
        self._close()

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            part = self._part if self._part is not None and self._left else self._open_next()
            written = view[: self._left]
            part.write(written)
            self._left -= len(written)
            self.size += len(written)
            view = view[len(written) :]

    def write_line(self, content: object) -> None:
        self.write(json.dumps(content).encode() + b"\n")

    def write_file(self, media: Media, file: BinaryIO) -> None:
        """Write a file, from its beginning."""
        self.write_line([media.media_id, media.length, media.content_type])
        file.seek(0)
        for chunk in iter(lambda: file.read(CHUNK), b""):
            self.write(chunk)

    def _open_next(self) -> BinaryIO:
        self._close()
        path = part_path(self._directory, self.parts)
        part = self._part = os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")
        self._left = PART_SIZE
        self.parts += 1
        return part

    def _close(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None


@contextmanager
def new_directory(path: str) -> Iterator[str]:
    """Create a directory that only this user may read. It is removed if there is an error."""
    Path(path).mkdir(mode=0o700)
    try:
        yield path
    except BaseException:
        for name in os.listdir(path):
            os.unlink(os.path.join(path, name))
        os.rmdir(path)
        raise


def write_listing(writer: PartWriter, listed: Iterable[Media]) -> None:
    """Write what is known of files, without their content."""
    for media in listed:
        writer.write_line(list(media))


def read_listing(stream: BinaryIO) -> Iterator[Media]:
    """Read what C(write_listing) has written.

    :raises ValueError: the stream is something else.
    """
    for line in iter(lambda: stream.readline(MAX_LINE), b""):
        yield _media(line)


def read_files(stream: BinaryIO, expected: Collection[str]) -> Iterator[tuple[Media, IO[bytes]]]:
    """Yield the files of a stream. Each is closed before the next.

    :param expected: the media IDs that may be in the stream, each once.
    :raises ValueError: something else is in the stream, or a file is not complete.
    """
    left = set(expected)
    for line in iter(lambda: stream.readline(MAX_LINE), b""):
        media = _media(line)
        if media.media_id not in left or media.length is None:
            raise ValueError("the stream of files has one that was not requested")
        left.remove(media.media_id)
        with tempfile.TemporaryFile() as file:
            _copy(stream, file, media.length)
            file.seek(0)
            yield media, file


def _copy(stream: BinaryIO, file: IO[bytes], length: int) -> None:
    while length > 0:
        chunk = stream.read(min(CHUNK, length))
        if not chunk:
            raise ValueError("the stream of files is not complete")
        file.write(chunk)
        length -= len(chunk)


def _media(line: bytes) -> Media:
    try:
        media_id, length, content_type, *problem = json.loads(line)
        if not MEDIA_ID.fullmatch(media_id) or len(content_type) > MAX_TYPE or not all(map(_is_text, problem)):
            raise ValueError
        if length is not None and not (isinstance(length, int) and 0 <= length <= MAX_FILE):
            raise ValueError
        return Media(media_id, length, content_type, *problem)
    except (ValueError, TypeError, RecursionError):
        raise ValueError("the stream of files is damaged") from None


def _is_text(value: object) -> bool:
    return isinstance(value, str)
