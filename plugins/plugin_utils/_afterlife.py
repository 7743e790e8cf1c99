# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The after-life kit: what is needed when a server is gone, as files on the controller."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from pathlib import Path
from typing import Any, Iterable, Mapping

from ansible_collections.matrixops.synapse.plugins.plugin_utils import _page
from ansible_collections.matrixops.synapse.plugins.plugin_utils._certificate import Directory, file_name
from markupsafe import Markup

SERVER_NAME = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z.-]{1,255})(:(?P<port>[0-9]{1,5}))?")
"""As the specification has it. Nothing else gets into the configuration of a web server."""
ADDRESS = re.compile(r"\[.*|[0-9]{1,3}(\.[0-9]{1,3}){3}")
ANSWER = {"errcode": "M_UNRECOGNIZED", "error": "This Matrix server has been switched off for good."}
TEMPLATES = ("README.md", "nginx.conf", "Caddyfile", "traefik.yml")
WWW = "www"
WELL_KNOWN = f"{WWW}/.well-known/matrix"


def directory(path: str, server_name: str) -> Path:
    """Where the kit of a server is: beside its certificate."""
    return Directory(path).path / f"{file_name(server_name)}-afterlife"


def files(server_name: str, aliases: list[dict[str, Any]], archive: str | None) -> dict[str, str]:
    """What is in the kit, by its path there, but for the signing keys, which are in the file C(archive).

    Raises C(ValueError) if that is no server's name.
    """
    found = SERVER_NAME.fullmatch(server_name)
    if not found:
        raise ValueError(f"{server_name!r} can't be the name of a Matrix server")
    host, port = found["host"], found["port"]
    variables = {
        "name": server_name,
        "host": host,
        # Other servers look for a well-known only if the name has no port, and is no address.
        "port": port or ("8448" if ADDRESS.fullmatch(host) else None),
        "answer": Markup(json.dumps(ANSWER)),  # noqa: S704 - our own
        "aliases": len(aliases),
        "archive": archive,
    }
    texts = {
        name: _page.render(f"afterlife/{Path(name).name}.j2", **variables) + "\n"
        for name in (*TEMPLATES, f"{WWW}/index.html")
    }
    texts[f"{WELL_KNOWN}/support"] = _json({"support_page": f"https://{host}/"})
    if not variables["port"]:
        texts[f"{WELL_KNOWN}/server"] = _json({"m.server": f"{host}:443"})
    texts["aliases.json"] = _json(aliases)
    texts["aliases.csv"] = _csv(aliases)
    return texts


def known_aliases(*sources: Any) -> list[dict[str, Any]]:
    """Each alias with its room, sorted, of whatever results and certificates there are."""
    rooms: dict[str, str | None] = {}
    for source in sources:
        items = source.get("aliases") if isinstance(source, Mapping) else None
        for item in items if isinstance(items, list) else []:
            alias, room = (item.get("alias"), item.get("room_id")) if isinstance(item, Mapping) else (None, None)
            # Whatever begins otherwise is no alias, and a spreadsheet might take it for a formula.
            if isinstance(alias, str) and alias.startswith("#"):
                room = str(room) if isinstance(room, str) and room.startswith("!") else None
                rooms[str(alias)] = room or rooms.get(alias)
    return [{"alias": alias, "room_id": rooms[alias]} for alias in sorted(rooms)]


def differing(path: Path, texts: Mapping[str, str]) -> list[str]:
    """The names of files that are not there, or have another content."""
    return [name for name, text in texts.items() if read(path / name) != text]


def write(path: Path, texts: Mapping[str, str], names: Iterable[str]) -> None:
    """Each is the old one or the new one at any time. May raise C(OSError)."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in names:
        target = path / name
        for parent in reversed(Path(name).parents):
            (path / parent).mkdir(mode=0o700, exist_ok=True)
        Directory(str(target.parent)).replace(target, texts[name])


def read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return None


def verify_keys(signing_keys: bytes) -> dict[str, str]:
    """The public part of each key in one of Synapse's files of signing keys, by its ID.

    Raises C(ValueError), with nothing of what is secret, if it is no such file.
    """
    # Ansible has it for ansible-vault; ansible-test, which imports this, has not.
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
        raise ValueError("has no signing keys of Synapse in it")
    return public


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"


def _csv(aliases: list[dict[str, Any]]) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["alias", "room_id"])
    writer.writerows([each["alias"], each["room_id"] or ""] for each in aliases)
    return table.getvalue()
