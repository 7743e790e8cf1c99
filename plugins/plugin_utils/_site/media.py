# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Media of a static site: which files there are for one, and how they are stored."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Iterator

from ansible_collections.matrixops.synapse.plugins.module_utils._federation.static_answers import (
    BINARY,
    CONTENT_TYPES,
    EXTENSIONS,
    MULTIPART,
    disposition,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.media import MEDIA_ID

from .site import check_boundary

UNFINISHED = ".new"
CHUNK = 1024 * 1024


def is_media_id(text: str) -> bool:
    """Return whether a text is a media ID that a file can be named by."""
    return MEDIA_ID.fullmatch(text) is not None


def file_names(media_id: str, content_type: str) -> tuple[str, str]:
    """Return the names of the plain and of the multipart file. Parameters and case of I(content_type) do not matter.

    :raises ValueError: if I(media_id) is none.
    """
    if not is_media_id(media_id):
        raise ValueError(f"{media_id!r} is not a media ID that a file can be named by")
    extension = EXTENSIONS.get(content_type.partition(";")[0].strip().lower(), BINARY)
    return f"{media_id}.{extension}", f"{media_id}.{MULTIPART}"


def store(directory: Path, media_id: str, content_type: str, source: BinaryIO, length: int, boundary: str) -> None:
    """Write the two files of a medium. Other files with this media ID are removed.

    If it fails, there are no files with this media ID, or the previous ones.

    :param directory: C(www/media) of the site (C(layout.media_path)), created if it is missing.
    :param source: is read to its end, or up to one byte more than I(length).
    :param length: expected number of bytes.
    :raises ValueError: if I(source) has another length, or I(media_id) or I(boundary) is invalid.
    :raises OSError: if a file cannot be written, or from I(source).
    """
    plain, multipart = file_names(media_id, content_type)
    head, tail = _envelope(plain, boundary)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = [directory / f".{name}{UNFINISHED}" for name in (plain, multipart)]
    try:
        _write(temporary, head, tail, source, length)
        # The plain file last: C(stored) wants both.
        temporary[1].replace(directory / multipart)
        temporary[0].replace(directory / plain)
    except BaseException:
        for path in temporary:
            with suppress(OSError):
                path.unlink()
        raise
    for path in _files(directory, media_id):
        if path.name not in (plain, multipart):
            path.unlink()


def _envelope(plain: str, boundary: str) -> tuple[bytes, bytes]:
    """Return what is before and after a file in C(multipart/mixed), as the federation API has it."""
    extension = plain.rpartition(".")[2]
    head = (
        f"--{check_boundary(boundary)}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{boundary}\r\n"
        f"Content-Type: {CONTENT_TYPES[extension]}\r\nContent-Disposition: {disposition(extension)}\r\n\r\n"
    )
    return head.encode(), f"\r\n--{boundary}--\r\n".encode()


def _write(paths: list[Path], head: bytes, tail: bytes, source: BinaryIO, length: int) -> None:
    with open(paths[0], "wb", opener=open_private) as plain, open(paths[1], "wb", opener=open_private) as multipart:
        multipart.write(head)
        for chunk in _chunks(source, length):
            plain.write(chunk)
            multipart.write(chunk)
        multipart.write(tail)


def _chunks(source: BinaryIO, length: int) -> Iterator[bytes]:
    """Yield what I(source) has.

    :raises ValueError: if its length is another one.
    """
    left = length
    while left > 0:
        chunk = source.read(min(CHUNK, left))
        if not chunk:
            raise ValueError(f"{length - left:,} of {length:,} bytes were received")
        left -= len(chunk)
        yield chunk
    if source.read(1):
        raise ValueError(f"more than {length:,} bytes were received")


def stored(directory: Path) -> dict[str, int]:
    """Return the number of bytes by media ID for all media with both files."""
    plain, multipart = {}, set()
    for path in _files(directory):
        media_id, _dot, extension = path.name.rpartition(".")
        if is_media_id(media_id) and extension == MULTIPART:
            multipart.add(media_id)
        elif is_media_id(media_id) and extension in CONTENT_TYPES:
            plain[media_id] = path.stat().st_size
    return {media_id: plain[media_id] for media_id in sorted(plain) if media_id in multipart}


def remove(directory: Path, media_id: str) -> None:
    """Remove the files of a medium, if there are any.

    :raises ValueError: if I(media_id) is none.
    """
    if not is_media_id(media_id):
        raise ValueError(f"{media_id!r} is not a media ID that a file can be named by")
    for path in _files(directory, media_id):
        path.unlink()


def remove_unfinished(directory: Path) -> list[str]:
    """Remove what an interrupted C(store) has left, and return the names of these files."""
    names = sorted(path.name for path in _files(directory) if is_unfinished(path))
    for name in names:
        (directory / name).unlink()
    return names


def is_unfinished(path: Path) -> bool:
    """Return whether a file is one that C(store) has not completed."""
    return path.name.startswith(".") and path.name.endswith(UNFINISHED)


def _files(directory: Path, media_id: str | None = None) -> list[Path]:
    """Return the files of a medium, or all files."""
    if media_id is None:
        return list(directory.iterdir()) if directory.is_dir() else []
    names = (f"{media_id}.{extension}" for extension in (*CONTENT_TYPES, MULTIPART))
    return [directory / name for name in names if (directory / name).exists()]


def open_private(path: str, flags: int) -> int:
    """Open a file that only its owner may read."""
    return os.open(path, flags, 0o600)
