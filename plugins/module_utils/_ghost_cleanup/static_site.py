# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files of a static site, and which request is answered with which, as its nginx and Caddy configurations have it.

Paths are compared as they were sent. Only media IDs and numbers become parts of file names.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Mapping
from urllib.parse import unquote, unquote_plus

from .._federation.static_answers import (
    CONTENT_TYPES,
    MEDIA_POLICY,
    MULTIPART,
    NOT_FOUND,
    UNRECOGNIZED,
    VERSION,
    disposition,
)
from .._synapse.media import MEDIA_ID

ALIASES = "Caddyfile-aliases"
SUMMARY = "site.json"
"""Files beside the directory C(www/) of a site."""
MAX_FILE = 1024 * 1024
"""Maximum size in bytes of a file that is kept in memory."""
MAX_ALIASES_FILE = 128 * 1024 * 1024
"""Maximum size of the file with the aliases in bytes. Each of 100,000 has at most two lines of 800."""
ALIAS_LINE = re.compile(rb"([!-~]{1,1024}) ([1-9][0-9]{0,8})")
NO_ALIAS = b"%23 0"
BOUNDARY = re.compile("[0-9A-Za-z'()+_,./:=?-]{1,70}")
JSON = "application/json"
KEY = re.compile("/_matrix/key/v2/server(?:/(?:[A-Za-z0-9_.:-]|%3[Aa])*)?")
FEDERATION_MEDIA = re.compile("/_matrix/federation/v1/media/(?:download|thumbnail)/([^/]+)")
MEDIA = re.compile("/_matrix/media/(?:v3|r0|v1)/(?:download|thumbnail)/([^/]+)/([^/]+)(?:/.*)?")
MISSING = re.compile(
    r"/(?:_matrix/(?:media/(?:v3|r0|v1)|federation/v1/media)/(?:download|thumbnail)|\.well-known/matrix)/.*"
)
"""Paths below which something is not found, and not unrecognized."""
FILES = ("/.well-known/matrix/server", "/.well-known/matrix/support")
"""Files to keep in memory. C(client) is missing on purpose: clients then find no homeserver."""
PAGE_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}
MEDIA_HEADERS = {
    "Content-Security-Policy": MEDIA_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "cross-origin",
}


class SiteError(Exception):
    """The site cannot be served. The message names the file and what to do."""


@dataclass(frozen=True)
class Content:
    """An answer: the bytes of I(body), or those of the file I(path) if there is one."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    path: Path | None = None


def json_answer(status: int, body: object) -> Content:
    """Return an answer with JSON."""
    return Content(status, {"Content-Type": JSON}, json.dumps(body).encode() + b"\n")


UNKNOWN = json_answer(404, UNRECOGNIZED)
"""Status 404 and not 410 or 405: remote servers back off after a 404, but send each new event again after a 410."""
MISSING_FILE = json_answer(404, NOT_FOUND)


@dataclass(frozen=True)
class StaticSite:
    """What a site answers to GET. The key answer and the version are answered without a site as well.

    :ivar files: small files by path.
    :ivar rooms: numbers of rooms by alias.
    """

    server_name: str
    key_answer: bytes
    www: Path | None = None
    boundary: str = ""
    files: Mapping[str, Content] = field(default_factory=dict)
    rooms: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, server_name: str, key_answer: bytes, site_path: str | None) -> StaticSite:
        """Read the small files and the aliases of a site. Media and rooms stay on the disk.

        :param site_path: the directory C(www/). The files C(ALIASES) and C(SUMMARY) are beside it.
        :raises SiteError: if a file is missing or invalid.
        """
        if site_path is None:
            return cls(server_name, key_answer)
        www = Path(site_path)
        if not www.is_dir():
            raise SiteError(f"site_path: {www} is not a directory: set it to the directory www of a static site")
        files = {path: Content(200, {"Content-Type": JSON}, body) for path, body in _small_files(www).items()}
        # On the disk: it lists the rooms, of which there may be 100,000.
        files["/"] = Content(200, PAGE_HEADERS, path=www / "index.html")
        return cls(server_name, key_answer, www, _boundary(www.parent, server_name), files, _aliases(www.parent))

    def answer(self, target: str) -> Content:
        """Return the answer to GET.

        :param target: path and query as they were sent.
        """
        path, _question_mark, query = target.partition("?")
        if KEY.fullmatch(path):
            return Content(200, {"Content-Type": JSON}, self.key_answer)
        if path == "/_matrix/federation/v1/version":
            return json_answer(200, VERSION)
        if path == "/_matrix/federation/v1/query/directory":
            return self._room(query)
        if path in self.files:
            return self.files[path]
        return self._media(path) or (MISSING_FILE if path == "/" or MISSING.fullmatch(path) else UNKNOWN)

    def _room(self, query: str) -> Content:
        sent = next((value for name, _equals, value in _parameters(query) if name == "room_alias"), "")
        number = self.rooms.get(_decoded(sent))
        if number is None or self.www is None:
            return MISSING_FILE
        return Content(200, {"Content-Type": JSON}, path=self.www / "rooms" / f"{number}.json")

    def _media(self, path: str) -> Content | None:
        if self.www is None:
            return None
        multipart = FEDERATION_MEDIA.fullmatch(path)
        if multipart is not None and MEDIA_ID.fullmatch(multipart[1]):
            headers = {**MEDIA_HEADERS, "Content-Type": f"multipart/mixed; boundary={self.boundary}"}
            return Content(200, headers, path=self.www / "media" / f"{multipart[1]}.{MULTIPART}")
        found = MEDIA.fullmatch(path)
        if found is None or unquote(found[1]) != self.server_name or not MEDIA_ID.fullmatch(found[2]):
            return None
        for extension, content_type in CONTENT_TYPES.items():
            file = self.www / "media" / f"{found[2]}.{extension}"
            if file.is_file():
                headers = {
                    **MEDIA_HEADERS,
                    "Content-Type": content_type,
                    "Content-Disposition": disposition(extension),
                }
                return Content(200, headers, path=file)
        return None


def _parameters(query: str) -> list[tuple[str, str, str]]:
    return [parameter.partition("=") for parameter in query.split("&")]


def _decoded(value: str) -> str:
    try:
        return unquote_plus(value, errors="strict")
    except UnicodeDecodeError:
        return ""


def _small_files(www: Path) -> dict[str, bytes]:
    found = {path: _read(www / path.lstrip("/")) for path in FILES}
    return {path: body for path, body in found.items() if body is not None}


def _read(path: Path, most: int = MAX_FILE) -> bytes | None:
    """Return the content of a file; C(None) if there is none."""
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SiteError(f"site_path: {path}: {error.strerror}") from error
    if len(content) > most:
        raise SiteError(f"site_path: {path} has more than {most:,} bytes: write the site again")
    return content


def _boundary(site: Path, server_name: str) -> str:
    """Return the boundary of multipart files, from the summary of the site of this server."""
    path = site / SUMMARY
    try:
        summary = json.loads(_read(path) or b"")
        name, boundary = summary["server_name"], summary["boundary"]
    except (ValueError, KeyError, TypeError):
        raise SiteError(
            f"site_path: {path} is missing or malformed: copy the whole site, of which {SUMMARY}, {ALIASES} and www/"
            " are needed"
        ) from None
    if name != server_name:
        raise SiteError(f"site_path: {path} is of another server, not of {server_name}: correct site_path")
    if not isinstance(boundary, str) or BOUNDARY.fullmatch(boundary) is None:
        raise SiteError(f"site_path: {path} has an invalid boundary: write the site again")
    return boundary


def _aliases(site: Path) -> dict[str, int]:
    """Return the numbers of rooms by alias. The file has each spelling of an alias."""
    path = site / ALIASES
    content = _read(path, MAX_ALIASES_FILE)
    if content is None:
        raise SiteError(f"site_path: {path} is missing: copy the whole site, of which {ALIASES} is needed")
    rooms: dict[str, int] = {}
    for line in content.split(b"\n"):
        found = ALIAS_LINE.fullmatch(line)
        if found is not None:
            rooms[_decoded(found[1].decode("ascii"))] = int(found[2])
        elif line not in (b"", NO_ALIAS):
            raise SiteError(f"site_path: {path} has an invalid line: write the site again")
    return rooms


def open_file(path: Path) -> BinaryIO | None:
    """Open a regular file; C(None) if there is none."""
    try:
        # A FIFO would not block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return open(descriptor, "rb")
