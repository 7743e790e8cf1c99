# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rooms that remote servers send events of, although this Synapse is not in them, by its log.

A homeserver that was set up anew under the name of an earlier one gets these until the ghosts of that one are removed.
"""

from __future__ import annotations

import os
import re
import stat
from collections import OrderedDict
from typing import BinaryIO, Iterator

MAX_LINE = 8192
"""Maximum length of a line in bytes. The rest of a longer one is skipped."""
MAX_REQUESTS = 10_000
"""Maximum number of requests whose origin is kept. The lines of one request are close to each other."""

REQUEST = re.compile(r"\bPUT-\d+\b")
"""The request that a line belongs to, in each log format that has C(%(request)s)."""
TRANSACTION = re.compile(r"Received txn \S+ from (\S+)\. \(PDUs: ")
UNKNOWN_ROOM = re.compile(r"Ignoring PDU for unknown room_id: (\S+)")
NOT_IN_ROOM = re.compile(r"Ignoring (?:receipt|typing update) for room '(\S+)' from server (\S+) as we're not in")


class LogError(Exception):
    """A log can't be read."""


def read_log(path: str) -> Iterator[tuple[str, str]]:
    """Yield room ID and remote server of each line that names a room which this Synapse is not in.

    The server is empty if no line shows it. Both are hostile, and are not validated.

    :raises LogError: the file can't be read.

    Messages of Synapse 1.163: C(federation_server.py), C(receipts.py) and C(typing.py).
    """
    origins: OrderedDict[str, str] = OrderedDict()
    try:
        with _open(path) as file:
            for line in _lines(file):
                request = REQUEST.search(line)
                number = request.group() if request else ""
                transaction = TRANSACTION.search(line)
                if transaction:
                    origins[number] = transaction.group(1)
                    if len(origins) > MAX_REQUESTS:
                        origins.popitem(last=False)
                    continue
                named = NOT_IN_ROOM.search(line)
                if named:
                    yield named.group(1), named.group(2)
                    continue
                unknown = UNKNOWN_ROOM.search(line)
                if unknown:
                    yield unknown.group(1), origins.get(number, "") if number else ""
    except OSError as error:
        raise LogError(f"log_paths: {path} can't be read: {error.strerror}: correct the path, or set become") from error


def _open(path: str) -> BinaryIO:
    # A FIFO would not end.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise OSError(0, "not a regular file")
    return file


def _lines(file: BinaryIO) -> Iterator[str]:
    is_start = True
    while line := file.readline(MAX_LINE):
        if is_start:
            yield line.decode("utf-8", "replace")
        is_start = line.endswith(b"\n")
