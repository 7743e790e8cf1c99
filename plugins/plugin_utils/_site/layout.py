# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The directory of a static site on the controller."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Collection, Mapping

from ansible_collections.matrixops.synapse.plugins.module_utils._federation.static_answers import VERSION
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.files import Directory, to_json
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.page import render

from .aliases import caddy_lines, kept_rooms, nginx_lines
from .media import is_unfinished, open_private, stored
from .site import Address, Room, Site, contact_kind, support
from .web_servers import caddy_paths, caddyfile, directory_name, nginx_conf, nginx_paths, traefik_yml

WWW = "www"
MEDIA = f"{WWW}/media"
ROOMS = f"{WWW}/rooms"
SUMMARY = "site.json"
NGINX, NGINX_ALIASES = "nginx.conf", "nginx-aliases.conf"
CADDY, CADDY_ALIASES = "Caddyfile", "Caddyfile-aliases"
TRAEFIK = "traefik.yml"
README = "README.md"
WELL_KNOWN = f"{WWW}/.well-known/matrix"
CHUNK = 1024 * 1024


def site_path(directory: str, server_name: str) -> Path:
    """Return the directory of a server's site, which is beside its certificate.

    :param directory: the directory of the certificates.
    """
    return Directory(directory).path / directory_name(server_name)


def media_path(path: Path) -> Path:
    """Return the directory of the media in that of a site."""
    return path / MEDIA


def changed(path: Path, site: Site) -> list[str]:
    """Return what C(write) would return, without writing anything.

    :raises OSError: if a file cannot be read.
    """
    texts, removed = _changes(path, site)
    return sorted([*texts, *removed])


def write(path: Path, site: Site) -> list[str]:
    """Write the site but for its media, and return the sorted paths of files that are new, changed or removed.

    Each file is replaced atomically. Files of C(rooms/) that are not wanted any more are removed, C(media/) stays.
    C(site.json) counts the media that are there: write again after C(media.store).

    :raises OSError: if a file cannot be read or written.
    """
    texts, removed = _changes(path, site)
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in texts.items():
        _make_parents(path, name)
        if name.startswith(f"{ROOMS}/"):
            _replace(path / name, text)
        else:
            Directory(str((path / name).parent)).replace(path / name, text)
    for name in removed:
        (path / name).unlink()
    return sorted([*texts, *removed])


def digest(path: Path) -> str:
    """Return the SHA-256 over C(www/): of the path and the SHA-256 of each file, sorted.

    :raises OSError: if a file cannot be read.
    """
    return _digest(path, {}, ())


def read_summary(path: Path) -> dict[str, Any] | None:
    """Return C(site.json), or none if there is none.

    :raises ValueError: if it is malformed.
    :raises OSError: if it cannot be read.
    """
    try:
        summary = json.loads((path / SUMMARY).read_bytes())
    except FileNotFoundError:
        return None
    if not isinstance(summary, dict):
        raise ValueError(f"{path / SUMMARY} has no object")
    return summary


def _changes(path: Path, site: Site) -> tuple[dict[str, str], list[str]]:
    """Return the contents of files that are new or changed, in the order to write them, and files to remove."""
    rooms = kept_rooms(site)
    texts = _texts(site, rooms)
    directory = path / ROOMS
    names = [f"{ROOMS}/{each.name}" for each in directory.iterdir()] if directory.is_dir() else []
    removed = [name for name in names if name not in texts]
    texts[SUMMARY] = to_json(_summary(path, site, rooms, _digest(path, texts, removed)))
    return {name: text for name, text in texts.items() if _read(path / name) != text.encode()}, removed


def _texts(site: Site, rooms: list[Room]) -> dict[str, str]:
    """Return the contents of all files but for C(SUMMARY) and the media."""
    address = Address.of(site.server_name)
    texts = {f"{ROOMS}/{number}.json": _answer(room) for number, room in enumerate(rooms, start=1)}
    if address.has_well_known:
        texts[f"{WELL_KNOWN}/server"] = to_json({"m.server": f"{address.host}:443"})
    return {
        **texts,
        f"{WELL_KNOWN}/support": to_json(support(site.server_name, site.contact)),
        f"{WWW}/_matrix/key/v2/server": to_json(site.key_answer),
        f"{WWW}/_matrix/federation/v1/version": to_json(VERSION),
        f"{WWW}/index.html": _page(site, rooms),
        **_configurations(site, rooms),
    }


def _configurations(site: Site, rooms: list[Room]) -> dict[str, str]:
    settings = {"server_name": site.server_name, "boundary": site.boundary}
    return {
        NGINX_ALIASES: "".join(f"{line}\n" for line in nginx_lines(rooms)),
        CADDY_ALIASES: "".join(f"{line}\n" for line in caddy_lines(rooms)),
        NGINX: nginx_conf(settings),
        CADDY: caddyfile(settings),
        TRAEFIK: traefik_yml(settings),
        README: _render(
            README,
            name=site.server_name,
            address=Address.of(site.server_name),
            nginx=nginx_paths(site.server_name),
            caddy=caddy_paths(site.server_name),
            directory=directory_name(site.server_name),
        ),
    }


def _page(site: Site, rooms: list[Room]) -> str:
    return _render(
        "index.html",
        site=site,
        rooms=rooms if site.list_rooms else [],
        contact_kind=contact_kind(site.contact) if site.contact else None,
        keeps_aliases=bool(rooms),
    )


def _render(template: str, **variables: Any) -> str:
    return render(f"site/{template}.j2", **variables) + "\n"


def _answer(room: Room) -> str:
    return json.dumps({"room_id": room.room_id, "servers": room.servers}) + "\n"


def _summary(path: Path, site: Site, rooms: list[Room], sha256: str) -> dict[str, Any]:
    address, media = Address.of(site.server_name), stored(media_path(path))
    return {
        "server_name": site.server_name,
        "host": address.host,
        "port": address.port,
        "created": site.closed,
        "boundary": site.boundary,
        "rooms": len(rooms),
        "aliases": sum(len(room.aliases) for room in rooms),
        "media_files": len(media),
        "media_bytes": sum(media.values()),
        "sha256": sha256,
    }


def _digest(path: Path, texts: Mapping[str, str], removed: Collection[str]) -> str:
    """Return the digest of C(www/) as it is after these changes.

    It is the SHA-256 of what C(sha256sum) prints for all files.
    """
    without = {*texts, *removed}
    digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items() if _is_public(name)}
    for file in (path / WWW).rglob("*"):
        name = file.relative_to(path).as_posix()
        if name not in without and file.is_file() and not is_unfinished(file):
            digests[name] = _sha256(file)
    lines = (f"{digests[name]}  {name[len(WWW) + 1 :]}\n" for name in sorted(digests))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _is_public(name: str) -> bool:
    return name.startswith(f"{WWW}/")


def _sha256(path: Path) -> str:
    result = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            result.update(chunk)
    return result.hexdigest()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _make_parents(path: Path, name: str) -> None:
    for parent in reversed(Path(name).parents):
        (path / parent).mkdir(mode=0o700, exist_ok=True)


def _replace(path: Path, text: str) -> None:
    """Replace a file atomically, but do not wait for the disk: there may be 100,000, and the next run compares them."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        with open(temporary, "wb", opener=open_private) as file:
            file.write(text.encode())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
