# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was collected for a static site while the homeserver still ran: C(content.json) beside C(www/)."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Iterable

from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.files import Directory

from .site import Room, check_boundary

CONTENT = "content.json"


@dataclass(frozen=True)
class Content:
    """The rooms that the site answers for, and the boundary of its multipart answers."""

    rooms: tuple[Room, ...]
    boundary: str


def new_boundary() -> str:
    """Return a boundary that no medium has in it, since it is random."""
    return secrets.token_hex(24)


def rooms_of(values: Iterable[Any]) -> tuple[Room, ...]:
    """Return the rooms in a value that was JSON: a result of the module, or the file.

    :raises KeyError, TypeError: if it has another form.
    """
    return tuple(Room(room["room_id"], tuple(room["servers"]), tuple(room["aliases"]), room["name"]) for room in values)


def read(path: Path) -> Content | None:
    """Return what was collected, or none if nothing was.

    :param path: the directory of the site.
    :raises ValueError: if the file is malformed.
    :raises OSError: if it cannot be read.
    """
    try:
        text = (path / CONTENT).read_bytes()
    except FileNotFoundError:
        return None
    try:
        content = json.loads(text)
        return Content(rooms_of(content["rooms"]), check_boundary(content["boundary"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path / CONTENT} is damaged ({error!r}). Remove it, and run again") from None


def write(path: Path, content: Content) -> bool:
    """Write what was collected, atomically, and return whether that changes anything.

    :raises OSError: if it cannot be written.
    """
    text = json.dumps(asdict(content), indent=1, ensure_ascii=False) + "\n"
    target = path / CONTENT
    if target.exists() and target.read_bytes() == text.encode("utf-8", "replace"):
        return False
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    Directory(str(path)).replace(target, text)
    return True
