# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of certificates on the controller."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import re
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Iterator

from .schema import SCHEMA, Certificate, violation

FLEET_PAGE = "fleet.html"
MAX_FILE_NAME = 200
"""Maximum number of characters of a base name. File systems allow 255 bytes, and suffixes follow."""


def file_name(server_name: str) -> str:
    """Return the base name of a server's files.

    It is the server's name if that is safe on any file system, else one with a part of a digest, so that no two servers
    share a file.
    """
    safe = re.sub(r"[^a-zA-Z0-9.-]", "_", server_name).strip(".") or "_"
    if safe == server_name and safe != Path(FLEET_PAGE).stem and len(safe) <= MAX_FILE_NAME:
        return safe
    return f"{safe[:MAX_FILE_NAME]}-{hashlib.sha256(server_name.encode()).hexdigest()[:6]}"


def to_json(value: Any) -> str:
    """Return a value as the contents of a JSON file."""
    return json.dumps(value, indent=2) + "\n"


class Directory:
    """The directory of the certificates. All methods may raise C(OSError)."""

    def __init__(self, path: str) -> None:
        self.path = Path(os.path.abspath(os.path.expanduser(path)))
        self.fleet_path = self.path / FLEET_PAGE

    def json_path(self, server_name: str) -> Path:
        """Return the path of a server's certificate."""
        return self.path / f"{file_name(server_name)}.json"

    def html_path(self, server_name: str) -> Path:
        """Return the path of the HTML page of a server's certificate."""
        return self.path / f"{file_name(server_name)}.html"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock on the directory, which the hosts of one run share."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.path / ".lock", "a", opener=_open_private) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self, server_name: str) -> Certificate | None:
        """Return the certificate of a server, or none if there is no valid one."""
        try:
            content = self.json_path(server_name).read_bytes()
        except FileNotFoundError:
            return None
        certificate = _parse(content)
        return certificate if certificate and certificate["server"]["name"] == server_name else None

    def read_all(self) -> list[Certificate]:
        """Return all valid certificates that have the file name of their server, sorted by that."""
        found = []
        for path in sorted(self.path.glob("*.json")):
            with suppress(OSError):
                certificate = _parse(path.read_bytes())
                if certificate and path == self.json_path(certificate["server"]["name"]):
                    found.append(certificate)
        return found

    def rename_invalid(self, server_name: str, now: int) -> Path | None:
        """Rename a file that is no valid certificate but has its name, and return the new path.

        :returns: none if there is no file of that name.
        """
        path = self.json_path(server_name)
        if not os.path.lexists(path):
            return None
        free = _first_free(path.with_name(f"{path.name}.{now}"), ".invalid")
        path.rename(free)
        return free

    def rename_finished(self, certificate: Certificate) -> Path:
        """Rename the files of a finished certificate, whose contents stay as they are, and return the new path."""
        path = self.json_path(certificate["server"]["name"])
        free = _first_free(path.with_name(f"{path.stem}.finished-{certificate['updated']}"), ".json")
        with suppress(FileNotFoundError):
            path.with_suffix(".html").rename(free.with_suffix(".html"))
        path.rename(free)
        return free

    def write(self, certificate: Certificate, html: str) -> None:
        """Replace the two files of a certificate.

        :raises AssertionError: if the certificate violates the schema.
        """
        name = certificate["server"]["name"]
        problem = violation(certificate, SCHEMA)
        if problem:
            raise AssertionError(f"the certificate violates its schema: {problem}")
        # JSON first: the page can be made from it.
        self.replace(self.json_path(name), to_json(certificate))
        self.replace(self.html_path(name), html)

    def replace(self, path: Path, text: str) -> None:
        """Replace a file atomically: readers see the old or the new one, also after a power failure."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
        with suppress(FileNotFoundError):
            temporary.unlink()
        try:
            with open(temporary, "xb", opener=_open_private) as file:
                file.write(text.encode("utf-8", "replace"))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        directory = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _first_free(path: Path, suffix: str) -> Path:
    """Return the first path without a file: with the suffix only, or with a number as well."""
    names = (path.with_name(f"{path.name}{f'.{n}' if n else ''}{suffix}") for n in itertools.count())
    return next(name for name in names if not os.path.lexists(name))


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _parse(content: bytes) -> Certificate | None:
    """Return the certificate in a file, or none if the file is no valid one."""
    try:
        certificate = json.loads(content)
        return None if violation(certificate, SCHEMA) else dict(certificate)
    except (ValueError, RecursionError):
        return None
