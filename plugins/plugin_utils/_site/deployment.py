# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a static site is put onto the host of a web server, and where."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Iterator, Mapping, Sequence
from urllib.parse import unquote_plus

from ansible_collections.matrixops.synapse.plugins.module_utils._results import sample as sample_of
from ansible_collections.matrixops.synapse.plugins.module_utils._site_release import TASK_OPTIONS

from . import layout, media, web_servers
from .site import Address

OWN_FILES = (layout.SUMMARY, layout.NGINX_ALIASES, layout.CADDY_ALIASES)
"""Files that make a release together with C(www/)."""
CURRENT = "current"
NGINX_CONF_D = "/etc/nginx/conf.d"
TEST = ["nginx", "-t", "-q"]
RELOAD = ["nginx", "-s", "reload"]
COMPRESSION = 1
"""Level of gzip. Media are compressed already; the files of 100,000 rooms are mostly padding in an archive."""


@dataclass(frozen=True)
class SiteFiles:
    """A site on the controller whose files are those that were written.

    :ivar release: digest over all files that are put onto the host.
    :ivar size: number of bytes of these files.
    :ivar aliases: sample of aliases, with their room IDs.
    :ivar media: sample of media IDs, with their lengths.
    """

    path: Path
    summary: dict[str, Any]
    release: str
    size: int
    number_of_files: int
    aliases: dict[str, str]
    media: dict[str, int]

    @property
    def name(self) -> str:
        """The base name of the site, which is unique among servers."""
        return web_servers.directory_name(str(self.summary["server_name"]))


def read_site(directory: str, server_name: str | None, sample: int) -> SiteFiles:
    """Read a site, and check that its files are those that were written.

    :param server_name: name of the server that the site must be of, or none.
    :param sample: maximum number of aliases, and of media, to return.
    :raises ValueError: if it is no site, the site of another server, or was changed.
    :raises OSError: if a file cannot be read.
    """
    path = Path(os.path.abspath(os.path.expanduser(directory)))
    summary = layout.read_summary(path)
    if summary is None:
        raise ValueError(
            f"{path} has no {layout.SUMMARY}: set site_directory to a directory that the role decommission has written"
            " with decommission_site: true"
        )
    found = str(summary["server_name"])
    Address.of(found)
    if server_name is not None and server_name != found:
        raise ValueError(f"{path} is the site of {found}, not of {server_name}: correct site_directory")
    digest = layout.digest(path)
    if digest != summary["sha256"]:
        raise ValueError(
            f"the files in {path / layout.WWW} differ from the digest in {layout.SUMMARY}: they were changed later."
            f" Write the site again, or restore the directory from a backup. To publish it as it is, set sha256 in"
            f' {layout.SUMMARY} to "{digest}", and run again'
        )
    sizes = [file.lstat().st_size for file in _files(path)]
    release = _release(path, digest)
    return SiteFiles(path, summary, release, sum(sizes), len(sizes), _aliases(path, sample), _media(path, sample))


def _release(path: Path, digest: str) -> str:
    """The digest in C(site.json) does not cover the aliases."""
    total = hashlib.sha256(digest.encode())
    for name in OWN_FILES:
        total.update(hashlib.sha256((path / name).read_bytes()).digest())
    return total.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    """Yield the files to put onto the host, sorted.

    :raises ValueError: if there is something else than files and directories.
    """
    for file in [path / name for name in OWN_FILES] + sorted((path / layout.WWW).rglob("*")):
        mode = file.lstat().st_mode
        if media.is_unfinished(file):
            continue
        if stat.S_ISREG(mode):
            yield file
        elif not stat.S_ISDIR(mode):
            raise ValueError(f"{file} is neither a file nor a directory: remove it")


def write_archive(site: SiteFiles, file: IO[bytes]) -> None:
    """Write all files of a site as a compressed archive, without names and times of this machine.

    :raises ValueError: if there is something else than files and directories.
    :raises OSError: if a file cannot be read or written.
    """
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=COMPRESSION) as archive:
        for path in _files(site.path):
            entry = tarfile.TarInfo(str(path.relative_to(site.path)))
            with path.open("rb") as source:
                entry.size = os.fstat(source.fileno()).st_size
                archive.addfile(entry, source)


def _aliases(path: Path, most: int) -> dict[str, str]:
    """Return a sample of aliases with their room IDs."""
    rooms: dict[str, str] = {}
    for line in (path / layout.CADDY_ALIASES).read_text("ascii").splitlines():
        encoded, _blank, number = line.strip().partition(" ")
        # Room 0 is none: see caddy_lines().
        if number.isdigit() and number != "0":
            rooms[unquote_plus(encoded)] = number
    return {
        alias: str(json.loads((path / layout.ROOMS / f"{number}.json").read_bytes())["room_id"])
        for alias, number in sample_of(list(rooms.items()), most)
    }


def _media(path: Path, most: int) -> dict[str, int]:
    directory = layout.media_path(path)
    return dict(sample_of(sorted(media.stored(directory).items()), most)) if directory.is_dir() else {}


def _key_id(path: Path) -> str | None:
    """Return the first key that the site publishes as valid."""
    answer = json.loads((path / layout.WWW / "_matrix/key/v2/server").read_bytes())
    return next(iter(answer.get("verify_keys") or {}), None)


def _root(site: SiteFiles, arguments: Mapping[str, Any]) -> str:
    return f"{arguments['path'].rstrip('/')}/{site.name}"


def _log_path(site: SiteFiles, arguments: Mapping[str, Any]) -> str:
    if arguments["log_path"]:
        return str(arguments["log_path"])
    return web_servers.nginx_paths(str(site.summary["server_name"])).log_file


def module_options(site: SiteFiles, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with which the module runs on the host.

    :raises ValueError: if an option cannot be in a configuration.
    """
    for option in ("path", "tls_certificate", "tls_certificate_key", "acme_webroot", "log_path"):
        value = arguments[option]
        if value is not None and web_servers.PATH.fullmatch(value) is None:
            raise ValueError(f"{option} is {value!r}: set it to an absolute path of letters, digits and ._@+-")
    root = _root(site, arguments)
    uses_nginx = arguments["web_server"] == "nginx"
    return {
        **{name: arguments[name] for name in TASK_OPTIONS},
        "path": root,
        "release": site.release,
        "size": site.size,
        "number_of_files": site.number_of_files,
        "files": _configuration(site, root, arguments),
        "test": TEST if uses_nginx else [],
        "reload": RELOAD if uses_nginx else [],
    }


def _configuration(site: SiteFiles, root: str, arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return the configuration files by their paths on the host."""
    has_certificate = bool(arguments["tls_certificate"] and arguments["tls_certificate_key"])
    if arguments["web_server"] == "nginx":
        if not has_certificate:
            raise ValueError("nginx needs a certificate: set site_tls_certificate and site_tls_certificate_key")
        return {f"{NGINX_CONF_D}/00-{site.name}.conf": _nginx(site, root, arguments)}
    caddy = web_servers.caddyfile(site.summary, _paths(site, root, layout.CADDY_ALIASES, arguments))
    files = {f"{root}/{layout.CADDY}": caddy}
    if has_certificate:
        files[f"{root}/{layout.NGINX}"] = _nginx(site, root, arguments)
    return files


def _paths(site: SiteFiles, root: str, aliases: str, arguments: Mapping[str, Any]) -> web_servers.Paths:
    name = str(site.summary["server_name"])
    default = web_servers.caddy_paths(name) if aliases == layout.CADDY_ALIASES else web_servers.nginx_paths(name)
    return web_servers.Paths(
        www=f"{root}/{CURRENT}/{layout.WWW}",
        aliases_file=f"{root}/{CURRENT}/{aliases}",
        log_file=arguments["log_path"] or default.log_file,
        ports=Address.of(name).ports,
        certificate=arguments["tls_certificate"] or "",
        certificate_key=arguments["tls_certificate_key"] or "",
        addresses=tuple(arguments["listen_addresses"]),
        map_hash=arguments["map_hash"],
    )


def _nginx(site: SiteFiles, root: str, arguments: Mapping[str, Any]) -> str:
    text = web_servers.nginx_conf(site.summary, _paths(site, root, layout.NGINX_ALIASES, arguments))
    webroot = arguments["acme_webroot"]
    return text if webroot is None else text + _acme(site, webroot, arguments["listen_addresses"])


def _acme(site: SiteFiles, webroot: str, addresses: Sequence[str]) -> str:
    """Return the server at port 80, where a CA verifies that the certificate may be renewed."""
    host = Address.of(str(site.summary["server_name"])).host
    hosts = [f"[{address}]" if ":" in address else address for address in addresses]
    listen = "\n".join(f"    listen {place};" for place in [f"{host}:80" for host in hosts] or ("80", "[::]:80"))
    return f"""
server {{
{listen}
    server_name "{host}";
    location /.well-known/acme-challenge/ {{
        root {webroot};
        default_type text/plain;
    }}
    location / {{
        return 301 https://{host}$request_uri;
    }}
}}
"""


def described(site: SiteFiles, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the module returns about a site."""
    counts = {name: site.summary.get(name) for name in ("created", "rooms", "aliases", "media_files", "media_bytes")}
    uses_nginx = arguments["web_server"] == "nginx"
    return {
        "server_name": site.summary["server_name"],
        "path": _root(site, arguments),
        "sha256": site.summary["sha256"],
        "key_id": _key_id(site.path),
        "log_path": _log_path(site, arguments) if uses_nginx or arguments["log_path"] else None,
        **counts,
        "sample_aliases": [{"alias": alias, "room_id": room_id} for alias, room_id in site.aliases.items()],
        "sample_media": [{"media_id": media_id, "length": length} for media_id, length in site.media.items()],
    }
