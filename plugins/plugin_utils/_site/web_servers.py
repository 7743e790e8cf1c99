# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configurations of web servers for a static site."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from dataclasses import dataclass
from typing import Any, Mapping

from ansible_collections.matrixops.synapse.plugins.module_utils._federation.static_answers import (
    BINARY,
    CONTENT_TYPES,
    MEDIA_POLICY,
    NOT_FOUND,
    UNRECOGNIZED,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._synapse.media import MEDIA_ID
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.files import file_name
from ansible_collections.matrixops.synapse.plugins.plugin_utils._report.page import render
from markupsafe import Markup

from .site import Address, check_boundary

PATH = re.compile(r"/[A-Za-z0-9/._@+-]+")
ORIGINS = tuple(
    rf"^X-Matrix +(?:.*?[ ,])?origin *= *{value}"
    for value in (r"\"(NAME[A-Za-z0-9.:[\]-]{1,230})\"", r"(NAME[A-Za-z0-9.:[\]-]{1,230})(?:[ ,]|$)")
)
"""Find the origin in an Authorization header, without case. Nothing else gets into the log. C(NAME) stands for the name
of the group."""


@dataclass(frozen=True)
class Paths:
    """Where the files are on the host, and where the web server listens.

    Paths may have letters, digits and ``/._@+-`` only. The defaults are those of C(nginx_paths) and C(caddy_paths).
    """

    www: str
    """Directory with the contents of C(www/)."""
    aliases_file: str
    """C(nginx-aliases.conf) or C(Caddyfile-aliases)."""
    log_file: str
    """One line for each transaction, see C(_federation/transaction_log.py)."""
    ports: tuple[int, ...]
    certificate: str = ""
    """TLS certificate with its chain (PEM). Caddy obtains one by ACME if there is none here; nginx needs one."""
    certificate_key: str = ""
    tls: bool = True
    """Without: plain HTTP, for another proxy (Traefik)."""
    addresses: tuple[str, ...] = ()
    """IP addresses to listen at. None: all."""
    map_hash: bool = True
    """nginx: whether the configuration sets C(map_hash_max_size) and C(map_hash_bucket_size), which C(http) may have
    only once, before its first C(map)."""

    def __post_init__(self) -> None:
        """
        :raises ValueError: if a path or an address has other characters, or a port is none.
        """
        for path in filter(None, (self.www, self.aliases_file, self.log_file, self.certificate, self.certificate_key)):
            if not PATH.fullmatch(path):
                raise ValueError(f"{path!r} must be an absolute path of letters, digits and /._@+-")
        for address in self.addresses:
            ipaddress.ip_address(address)
        if not self.ports or not all(0 < port < 65536 for port in self.ports):
            raise ValueError(f"{self.ports} are not ports")


def nginx_paths(server_name: str) -> Paths:
    """Return the paths that the shipped C(nginx.conf) has.

    With C(NAME), that of the site's directory: C(/var/www/NAME), C(/etc/nginx/NAME/nginx-aliases.conf),
    C(/etc/ssl/NAME/fullchain.pem), C(/etc/ssl/NAME/privkey.pem), C(/var/log/nginx/NAME-transactions.log).
    C(nginx.conf) itself goes to C(/etc/nginx/conf.d/00-NAME.conf).
    """
    name, address = directory_name(server_name), Address.of(server_name)
    return Paths(
        www=f"/var/www/{name}",
        aliases_file=f"/etc/nginx/{name}/nginx-aliases.conf",
        log_file=f"/var/log/nginx/{name}-transactions.log",
        ports=address.ports,
        certificate=f"/etc/ssl/{name}/fullchain.pem",
        certificate_key=f"/etc/ssl/{name}/privkey.pem",
    )


def caddy_paths(server_name: str) -> Paths:
    """Return the paths that the shipped C(Caddyfile) has.

    C(/var/www/NAME), C(/etc/caddy/NAME/Caddyfile-aliases), C(/var/log/caddy/NAME-transactions.log), and no certificate.
    C(Caddyfile) itself goes to C(/etc/caddy/NAME/Caddyfile), which C(/etc/caddy/Caddyfile) imports.
    """
    name, address = directory_name(server_name), Address.of(server_name)
    return Paths(
        www=f"/var/www/{name}",
        aliases_file=f"/etc/caddy/{name}/Caddyfile-aliases",
        log_file=f"/var/log/caddy/{name}-transactions.log",
        ports=address.ports,
    )


def nginx_conf(summary: Mapping[str, Any], paths: Paths | None = None) -> str:
    """Return the configuration of nginx, to include in C(http).

    :param summary: C(site.json), of which I(server_name) and I(boundary) are used.
    :param paths: by default C(nginx_paths).
    :raises ValueError: if I(summary) has an invalid value.
    """
    paths = paths or nginx_paths(str(summary["server_name"]))
    if paths.tls and not (paths.certificate and paths.certificate_key):
        raise ValueError("nginx needs a TLS certificate and its key")
    return _render("nginx.conf", summary, paths)


def caddyfile(summary: Mapping[str, Any], paths: Paths | None = None) -> str:
    """Return the configuration of Caddy, which has no global options.

    :param summary: C(site.json), of which I(server_name) and I(boundary) are used.
    :param paths: by default C(caddy_paths).
    :raises ValueError: if I(summary) has an invalid value.
    """
    return _render("Caddyfile", summary, paths or caddy_paths(str(summary["server_name"])))


def traefik_yml(summary: Mapping[str, Any]) -> str:
    """Return the dynamic configuration of Traefik.

    :raises ValueError: if I(summary) has an invalid value.
    """
    return _render("traefik.yml", summary, caddy_paths(str(summary["server_name"])))


def directory_name(server_name: str) -> str:
    """Return the name of a site's directory, here and on the host."""
    return f"{file_name(server_name)}-site"


def _render(template: str, summary: Mapping[str, Any], paths: Paths) -> str:
    name = str(summary["server_name"])
    address = Address.of(name)
    # Several sites may be on one host.
    prefix = f"site_{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return (
        render(
            f"site/{template}.j2",
            name=name,
            directory=directory_name(name),
            id=prefix,
            address=address,
            pattern=Markup(re.escape(name)),  # noqa: S704 - a valid server name
            boundary=check_boundary(str(summary["boundary"])),
            paths=paths,
            types=CONTENT_TYPES,
            binary=BINARY,
            media_id=MEDIA_ID.pattern,
            origins_nginx=_origins(f"?<{prefix}_origin_name>"),
            origins_caddy=_origins(""),
            policy=Markup(MEDIA_POLICY),  # noqa: S704 - our own
            unrecognized=Markup(json.dumps(UNRECOGNIZED)),  # noqa: S704 - our own
            not_found=Markup(json.dumps(NOT_FOUND)),  # noqa: S704 - our own
        )
        + "\n"
    )


def _origins(group: str) -> list[Markup]:
    return [Markup(pattern.replace("NAME", group)) for pattern in ORIGINS]  # noqa: S704 - our own
