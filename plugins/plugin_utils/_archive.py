# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The archive of a decommissioned server: the files that its operator needs afterwards, on the controller."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping

from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.files import Directory, file_name
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.page import render
from markupsafe import Markup

SERVER_NAME = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z.-]{1,255})(:(?P<port>[0-9]{1,5}))?")
"""As in U(https://spec.matrix.org/latest/appendices/#server-name). Nothing else gets into a configuration file."""
ADDRESS = re.compile(r"\[.*|[0-9]{1,3}(\.[0-9]{1,3}){3}")
ANSWER = {"errcode": "M_UNRECOGNIZED", "error": "This Matrix server has been decommissioned."}
TEMPLATES = ("README.md", "nginx.conf", "Caddyfile", "traefik.yml")
WWW = "www"
WELL_KNOWN = f"{WWW}/.well-known/matrix"
FEDERATION_PORT = "8448"


def archive_path(path: str, server_name: str) -> Path:
    """Return the directory of a server's archive, which is beside its certificate.

    :param path: the directory of the certificates.
    """
    return Directory(path).path / f"{file_name(server_name)}-archive"


def archive_files(server_name: str, aliases: list[dict[str, Any]], keys_file: str | None) -> dict[str, str]:
    """Return the contents of the archive by path, but for the encrypted signing keys.

    :param keys_file: the name of the file with the signing keys, if they are archived.
    :raises ValueError: if that is no valid server name.
    """
    found = SERVER_NAME.fullmatch(server_name)
    if not found:
        raise ValueError(f"{server_name!r} is not a valid Matrix server name. Correct server_name")
    host, port = found["host"], found["port"]
    variables = {
        "name": server_name,
        "host": host,
        # Remote servers request a well-known only if the name has no port and is no address.
        "port": port or (FEDERATION_PORT if ADDRESS.fullmatch(host) else None),
        "answer": Markup(json.dumps(ANSWER)),  # noqa: S704 - our own
        "aliases": len(aliases),
        "keys_file": keys_file,
    }
    texts = {
        name: render(f"archive/{Path(name).name}.j2", **variables) + "\n" for name in (*TEMPLATES, f"{WWW}/index.html")
    }
    texts[f"{WELL_KNOWN}/support"] = to_json({"support_page": f"https://{host}/"})
    if not variables["port"]:
        texts[f"{WELL_KNOWN}/server"] = to_json({"m.server": f"{host}:443"})
    texts["aliases.json"] = to_json(aliases)
    texts["aliases.csv"] = _csv(aliases)
    return texts


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


def verify_keys(signing_keys: bytes) -> dict[str, str]:
    """Return the public part of each key in a file of Synapse's signing keys, by its key ID.

    :raises ValueError: if one of them is invalid, or there is none. The message has nothing of the contents.
    """
    # Ansible requires it for ansible-vault; ansible-test, which imports this file, does not have it.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = {}
    try:
        for line in signing_keys.decode("ascii").splitlines():
            algorithm, version, seed = line.split()
            if algorithm != "ed25519" or not re.fullmatch(r"\w+", version):
                raise ValueError
            key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(seed + "=" * (-len(seed) % 4), validate=True))
            raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
            public[f"ed25519:{version}"] = base64.b64encode(raw).decode().rstrip("=")
    except ValueError:
        public = {}
    if not public:
        raise ValueError("contains no valid Synapse signing keys")
    return public


def to_json(value: Any) -> str:
    """Return a value as the contents of a JSON file."""
    return json.dumps(value, indent=2) + "\n"


def _csv(aliases: list[dict[str, Any]]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["alias", "room_id"])
    writer.writerows([each["alias"], each["room_id"] or ""] for each in aliases)
    return table.getvalue()
