# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The local media of Synapse: which a room has, what is known of each, and its content.

With a worker for media, only that worker answers these requests.
"""

from __future__ import annotations

import os
import re
from typing import BinaryIO, NamedTuple

from .client import ADMIN, CLIENT, NOT_YET_UPLOADED, Client
from .connection import Sink
from .errors import FatalError, RefusedError
from .listing import list_pages

MAX_FILE = 1024**3
"""Maximum size of a file in bytes."""
MAX_TYPE = 255
"""Maximum length of a content type in characters."""
MEDIA_ID = re.compile("[A-Za-z0-9_-]{1,100}")
DOWNLOAD = f"{CLIENT}/v1/media/download/{{}}/{{}}"
OLD_DOWNLOAD = "/_matrix/media/v3/download/{}/{}"
"""The only download of Synapse before 1.111. Newer versions do not give it new media."""

MISSING = "Synapse does not have the file"
QUARANTINED = "the file is quarantined"
NOT_UPLOADED = "the file was never uploaded"
TOO_LARGE = f"the file has more than {MAX_FILE // 1024**3} GiB"


class Media(NamedTuple):
    """A file of this server.

    :ivar length: in bytes, C(None) if it is not known.
    :ivar content_type: as it was uploaded, which may be any text; empty if it is not known.
    :ivar problem: why it can't be downloaded; empty if nothing says so.
    """

    media_id: str
    length: int | None = None
    content_type: str = ""
    problem: str = ""


def local_media_id(uri: object, server_name: str) -> str | None:
    """Return the media ID of an C(mxc://) URI of this server; C(None) for anything else."""
    prefix = f"mxc://{server_name}/"
    if not isinstance(uri, str) or not uri.startswith(prefix):
        return None
    media_id = uri[len(prefix) :]
    return media_id if MEDIA_ID.fullmatch(media_id) else None


class MediaRepository:
    """The local media of a server. May be shared between threads."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._can_describe = True
        self._download_path = DOWNLOAD

    def list_in_room(self, room_id: str) -> set[str]:
        """Return the IDs of the local media in the events of a room, avatars of the room included.

        Also after all local accounts have left. Synapse does not see media in encrypted events, and lists media of
        redacted events until it removes their content after seven days (C(redaction_retention_period)).

        API: C(GET /_synapse/admin/v1/room/<room_id>/media).
        """
        try:
            uris = self._client.get(f"{ADMIN}/v1/room/{{}}/media", room_id).texts("local")
        except RefusedError as error:
            if _is_unrecognized(error) and "/" not in room_id:
                raise self._elsewhere() from error
            raise
        return {media_id for uri in uris for media_id in [local_media_id(uri, self._client.server_name)] if media_id}

    def describe(self, media_id: str) -> Media:
        """Return what Synapse knows of a file. Before 1.140, that is nothing.

        API: C(GET /_synapse/admin/v1/media/<server_name>/<media_id>).
        """
        if not self._can_describe:
            return Media(media_id)
        try:
            answer = self._client.get(f"{ADMIN}/v1/media/{{}}/{{}}", self._client.server_name, media_id)
            info = answer.object("media_info")
            length, content_type = info.get("media_length"), info.get("media_type")
            if info.get("quarantined_by"):
                return Media(media_id, problem=QUARANTINED)
            if length is None:
                return Media(media_id, problem=NOT_UPLOADED)
            if info.take("media_length", int) > MAX_FILE:
                return Media(media_id, problem=TOO_LARGE)
            return Media(media_id, length, str(content_type or "")[:MAX_TYPE])
        except RefusedError as error:
            if _is_unrecognized(error):
                # The path exists in old versions, for DELETE.
                self._can_describe = False
            elif error.status == 404:
                return Media(media_id, problem=MISSING)
            raise_if_unauthorized(error)
            # The download will show it.
            return Media(media_id)

    def download(self, media_id: str, file: BinaryIO) -> Media:
        """Write a file to I(file), and return its length and type.

        :raises RefusedError: it is missing, quarantined, too large, or not complete.

        API: C(GET /_matrix/client/v1/media/download/<server_name>/<media_id>), before 1.111 C(GET
        /_matrix/media/v3/download/<server_name>/<media_id>).
        """
        sink = Sink(file, MAX_FILE)
        try:
            headers = self._download(sink, media_id)
        except RefusedError as error:
            raise_if_unauthorized(error)
            reason = {"M_NOT_FOUND": f"{MISSING}, or it is quarantined", NOT_YET_UPLOADED: NOT_UPLOADED}
            if error.errcode in reason:
                raise RefusedError(reason[error.errcode]) from error
            raise
        if "content-disposition" not in headers:
            # Synapse sends it with every file. A page of a reverse proxy would be stored otherwise.
            raise RefusedError("the answer is not a file of Synapse: check the reverse proxy in front of Synapse")
        return Media(media_id, file.seek(0, os.SEEK_CUR), headers.get("content-type", "")[:MAX_TYPE])

    def _download(self, sink: Sink, media_id: str) -> dict[str, str]:
        while True:
            path = self._download_path
            # Without a wait for files that are not uploaded yet.
            query = {"timeout_ms": 0}
            try:
                return dict(self._client.download(sink, path, self._client.server_name, media_id, params=query))
            except RefusedError as error:
                if not _is_unrecognized(error):
                    raise
                if path == OLD_DOWNLOAD:
                    raise self._elsewhere() from error
                self._download_path = OLD_DOWNLOAD

    def _elsewhere(self) -> FatalError:
        return FatalError(
            f"{self._client.base_url} does not serve media: probably a worker of Synapse does. Set base_url (in the"
            " role: decommission_base_url) to a URL that forwards /_matrix/client/v1/media,"
            " /_synapse/admin/v1/media and /_synapse/admin/v1/room/<room_id>/media to that worker"
        )


def count_media(client: Client) -> tuple[int, int]:
    """Return the number of local media, and their size in bytes.

    API: C(GET /_synapse/admin/v1/statistics/users/media).
    """
    files = size = 0
    for page in list_pages(client, f"{ADMIN}/v1/statistics/users/media"):
        for user in page.objects("users"):
            files += user.take("media_count", int)
            size += user.take("media_length", int)
    return files, size


def raise_if_unauthorized(error: RefusedError) -> None:
    """
    :raises FatalError: the error is about the operator, and not about one room or file.
    """
    if error.status in (401, 403):
        raise FatalError.of(error) from error


def _is_unrecognized(error: RefusedError) -> bool:
    return error.status in (404, 405) and error.errcode == "M_UNRECOGNIZED"
