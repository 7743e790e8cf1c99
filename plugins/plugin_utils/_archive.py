# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The archive of a decommissioned server: the files that its operator needs afterwards, on the controller."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping

from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import InvalidNameError
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.names import ServerName
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.files import Directory, file_name, to_json
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.page import render

README = "README.md"
NOT_CONFIRMED = "not_confirmed.json"


def archive_path(path: str, server_name: str) -> Path:
    """Return the directory of a server's archive, which is beside its certificate.

    :param path: the directory of the certificates.
    """
    return Directory(path).path / f"{file_name(server_name)}-archive"


def archive_files(
    server_name: str, aliases: list[dict[str, Any]], keys_file: str | None, *, has_site: bool = False
) -> dict[str, str]:
    """Return the contents of the archive by path, but for the encrypted signing keys.

    :param keys_file: the name of the file with the signing keys, if they are archived.
    :raises ValueError: if that is no valid server name.
    """
    try:
        host = ServerName.parse(server_name).host
    except InvalidNameError:
        raise ValueError(f"{server_name!r} is not a valid Matrix server name. Correct server_name") from None
    variables = {"name": server_name, "host": host, "aliases": len(aliases)}
    readme = render("archive/README.md.j2", **variables, keys_file=keys_file, has_site=has_site)
    return {README: readme + "\n", "aliases.json": to_json(aliases), "aliases.csv": _csv(aliases)}


def known_aliases(*sources: Any) -> list[dict[str, Any]]:
    """Return each alias with its room, sorted, of any results and certificates. What is malformed is left out."""
    rooms: dict[str, str | None] = {}
    for source in sources:
        for alias, room in _aliases(source):
            rooms[alias] = room or rooms.get(alias)
    return [{"alias": alias, "room_id": rooms[alias]} for alias in sorted(rooms)]


def _aliases(source: Any) -> Iterator[tuple[str, str | None]]:
    items = source.get("aliases") if isinstance(source, Mapping) else None
    for item in items if isinstance(items, list) else []:
        alias, room = (item.get("alias"), item.get("room_id")) if isinstance(item, Mapping) else (None, None)
        # A spreadsheet might take a text that begins otherwise for a formula.
        if isinstance(alias, str) and alias.startswith("#"):
            # Without Ansible's own types of texts.
            yield str(alias), str(room) if isinstance(room, str) and room.startswith("!") else None


def not_confirmed(gate: Any) -> dict[str, str]:
    """Return the file of the rooms that were not confirmed, by the result of the gate; empty without that."""
    rooms = gate.get("not_confirmed") if isinstance(gate, Mapping) else None
    # Without Ansible's own types of texts.
    return {NOT_CONFIRMED: to_json(json.loads(json.dumps(rooms, default=str)))} if isinstance(rooms, list) else {}


def changed_files(path: Path, texts: Mapping[str, str]) -> list[str]:
    """Return the names of files that are missing or have other contents."""
    return [name for name, text in texts.items() if read(path / name) != text]


def write(path: Path, texts: Mapping[str, str], names: Iterable[str]) -> None:
    """Replace files atomically, in this order.

    :raises OSError: if one cannot be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in names:
        target = path / name
        for parent in reversed(Path(name).parents):
            (path / parent).mkdir(mode=0o700, exist_ok=True)
        Directory(str(target.parent)).replace(target, texts[name])


def read(path: Path) -> str | None:
    """Return the contents of a file, or none if there is no such file."""
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return None


def _csv(aliases: list[dict[str, Any]]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["alias", "room_id"])
    writer.writerows([each["alias"], each["room_id"] or ""] for each in aliases)
    return table.getvalue()
