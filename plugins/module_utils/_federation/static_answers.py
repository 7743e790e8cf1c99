# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What answers under the name of a homeserver that is gone, the same from each web server: constants."""

from __future__ import annotations

STATIC_SITE = "matrixops.synapse"
"""Name of the static site in C(VERSION). By it, the federation client knows that no homeserver answers."""
VERSION = {"server": {"name": STATIC_SITE, "version": "1"}}
"""Answer to C(/_matrix/federation/v1/version)."""
UNRECOGNIZED = {"errcode": "M_UNRECOGNIZED", "error": "This Matrix server has been decommissioned."}
NOT_FOUND = {"errcode": "M_NOT_FOUND", "error": "The static site of this Matrix server does not have it."}
MEDIA_POLICY = (
    "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; style-src 'unsafe-inline';"
    " media-src 'self'; object-src 'self';"
)
"""As Synapse has it."""
# SVG and everything else that may contain scripts or pages is missing on purpose.
EXTENSIONS: dict[str, str] = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/jpg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/apng": "apng",
    "image/avif": "avif",
    "image/heic": "heic",
    "image/bmp": "bmp",
    "video/mp4": "mp4",
    "video/webm": "webm",
    "video/ogg": "ogv",
    "video/quicktime": "mov",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/mp4": "m4a",
    "audio/aac": "aac",
    "audio/ogg": "ogg",
    "audio/webm": "weba",
    "audio/flac": "flac",
    "audio/x-flac": "flac",
    "audio/wav": "wav",
    "audio/wave": "wav",
    "audio/x-wav": "wav",
}
"""File extension by content type. Everything else is C(BINARY)."""
BINARY = "bin"
CONTENT_TYPES: dict[str, str] = {
    **{
        extension: next(name for name, each in EXTENSIONS.items() if each == extension)
        for extension in EXTENSIONS.values()
    },
    BINARY: "application/octet-stream",
}
"""Content type by file extension, including C(BINARY), but not C(MULTIPART)."""
MULTIPART = "multipart"


def disposition(extension: str) -> str:
    """Return the C(Content-Disposition) of a plain file: browsers may only show images, audio and video."""
    return "attachment" if extension == BINARY else "inline"
