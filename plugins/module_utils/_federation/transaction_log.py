# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which remote servers have sent transactions to a static site, by the log of its web server.

Each line is a JSON object with the time of a transaction (C(ts)), and the origin that its Authorization header claims
(C(user_id), which is a field of Caddy's log). Nothing verifies the origin, so lines are hostile input.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from typing import Any, Iterable

from .errors import InvalidNameError
from .names import ServerName

MAX_LINE = 4096
"""Maximum length of a line in bytes. Longer ones are invalid."""
MAX_TIME = 1 << 36
"""Maximum time in seconds since 1970."""
NO_ORIGIN = "-"
"""What web servers log without an origin. It has the form of a server name."""
ROTATED = ".1"
"""Suffix of the file that the log was last rotated to."""


@dataclass
class Origin:
    """A remote server that has sent transactions. Times are in seconds since 1970."""

    server: str
    count: int
    first: int
    last: int


@dataclass
class Transactions:
    """The content of a log.

    :ivar origins: those that have sent a transaction last, first.
    :ivar invalid: number of lines without a valid time and origin.
    :ivar truncated: whether older lines were not read.
    """

    origins: list[Origin]
    invalid: int
    truncated: bool


def read_log(path: str, max_bytes: int) -> Transactions:
    """Read the end of a log, and of the file that it was last rotated to.

    :param max_bytes: maximum number of bytes to read of both.
    :raises OSError: if a file cannot be read. Files that do not exist are not an error.
    """
    content, truncated = _tail(path, max_bytes)
    if not truncated:
        older, truncated = _tail(path + ROTATED, max_bytes - len(content))
        content = b"\n".join((older, content))
    origins, invalid = _count(line for line in content.split(b"\n") if line)
    return Transactions(sorted(origins, key=lambda origin: (-origin.last, origin.server)), invalid, truncated)


def _tail(path: str, most: int) -> tuple[bytes, bool]:
    """Return the complete lines in the last bytes of a file, and whether there are more before them."""
    try:
        # A FIFO would not block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return b"", False
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a regular file")
        skipped = max(status.st_size - most, 0)
        # With the byte before them: it may be the end of a line.
        start = max(skipped - 1, 0)
        file.seek(start)
        content = file.read(status.st_size - start)
    return (content.partition(b"\n")[2], True) if skipped else (content, False)


def _count(lines: Iterable[bytes]) -> tuple[list[Origin], int]:
    origins: dict[str, Origin] = {}
    invalid = 0
    for line in lines:
        found = parse_line(line)
        if found is None:
            invalid += 1
            continue
        when, server = found
        origin = origins.setdefault(server, Origin(server, 0, when, when))
        origin.count += 1
        origin.first, origin.last = min(origin.first, when), max(origin.last, when)
    return list(origins.values()), invalid


def parse_line(line: bytes) -> tuple[int, str] | None:
    """Return the time in seconds since 1970, and the origin; C(None) if one of them is invalid."""
    try:
        entry: Any = json.loads(line) if len(line) <= MAX_LINE else None
        when, origin = entry["ts"], ServerName.parse(entry["user_id"])
    except (ValueError, TypeError, KeyError, RecursionError, InvalidNameError):
        return None
    # Not NaN either.
    is_time = isinstance(when, (int, float)) and not isinstance(when, bool) and 0 <= when < MAX_TIME
    return (int(when), origin.text) if is_time and origin.text != NO_ORIGIN else None
