# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration of the service: a JSON file with one object. Each error names the key and what to do."""

from __future__ import annotations

import ipaddress
import json
import os
import re
from dataclasses import MISSING, dataclass, fields
from typing import Any, NamedTuple

from .._federation.addresses import AddressFilter
from .._federation.errors import FederationError, InvalidNameError
from .._federation.names import ServerName
from .._federation.transport import PROXY
from .._synapse.base_url import check_base_url
from .._synapse.errors import SynapseError

MAX_SIZE = 4 * 1024 * 1024
"""Maximum size of the configuration in bytes."""
ADDRESS = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<ipv4>[0-9.]+)):(?P<port>[0-9]{1,5})")


class ConfigError(FederationError):
    """The configuration is wrong. The message names the key."""


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse C(address:port), with an IPv6 address in brackets.

        :raises ValueError: if it has another form.
        """
        found = ADDRESS.fullmatch(text)
        if found is None or not 0 < int(found["port"]) < 65536:
            raise ValueError(f"{text!r} is not an address and a port: set it to, for example, 127.0.0.1:8448")
        host = found["ipv6"] or found["ipv4"]
        ipaddress.ip_address(host)
        return cls(host, int(found["port"]))


@dataclass(frozen=True)
class Config:
    """What the service does. All paths are absolute.

    :ivar server_name: the name whose homeserver is gone.
    :ivar signing_key_path: signing key, in the form of Synapse.
    :ivar key_answer_path: signed answer for C(/_matrix/key/v2/server), which has the signing key.
    :ivar state_path: SQLite file with everything that is to survive a restart.
    :ivar servers: remote servers to begin with.
    :ivar rooms_paths: files with rooms to begin with.
    :ivar witness_url: client API of a homeserver with an account in rooms to begin with.
    :ivar witness_token_path: file with the access token of that account.
    :ivar site_path: directory C(www) of a static site.
    :ivar listen: where the public part listens, C(address:port).
    :ivar tls_certificate: PEM file; without it, the public part speaks plain HTTP to a reverse proxy.
    :ivar status_listen: where the status is, C(address:port) on loopback.
    :ivar timeout: total time of a request to a remote server in seconds.
    :ivar max_concurrent: most concurrent requests to one remote server.
    :ivar max_rate: most requests to one remote server in a second.
    :ivar max_servers: most remote servers that are followed.
    :ivar max_rooms: most rooms that are followed.
    :ivar max_state_size: maximum size of the state of a room in MiB.
    :ivar quiet_days: after so many days without a ghost, the status says that a static key answer is enough.
    """

    server_name: str
    signing_key_path: str
    key_answer_path: str
    state_path: str
    servers: tuple[str, ...] = ()
    rooms_paths: tuple[str, ...] = ()
    witness_url: str | None = None
    witness_token_path: str | None = None
    site_path: str | None = None
    listen: tuple[str, ...] = ("127.0.0.1:8448",)
    tls_certificate: str | None = None
    tls_certificate_key: str | None = None
    status_listen: str | None = "127.0.0.1:8449"
    ca_path: str | None = None
    proxy: str | None = None
    ip_allowlist: tuple[str, ...] = ()
    timeout: int = 30
    max_concurrent: int = 3
    max_rate: int = 8
    max_servers: int = 10_000
    max_rooms: int = 100_000
    max_state_size: int = 128
    quiet_days: int = 30


def read_config(path: str) -> Config:
    """Read and validate a configuration.

    :raises ConfigError: if it can't be read, or a value is wrong.
    """
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_SIZE + 1)
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}: set --config to the file of the service") from None
    if len(text) > MAX_SIZE:
        raise ConfigError(f"{path} has more than {MAX_SIZE} bytes: put rooms into files, and list these in rooms_paths")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} is not a JSON object: write one with server_name, signing_key_path and so on")
    return parse_config(values)


def parse_config(values: dict[str, Any]) -> Config:
    """Validate the values of a configuration.

    :raises ConfigError: if one is missing, unknown or wrong.
    """
    known = {field.name: field for field in fields(Config)}
    for key in values:
        if key not in known:
            raise ConfigError(f"{key}: no such key: remove it, or correct the spelling")
    for name, field in known.items():
        if field.default is MISSING and name not in values:
            raise ConfigError(f"{name} is missing: set it")
    config = Config(**{key: _typed(key, str(known[key].type), value) for key, value in values.items()})
    _check_names(config)
    _check_paths(config)
    _check_network(config)
    return config


def _typed(key: str, kind: str, value: Any) -> Any:
    """Return a value in the type of its key: the annotations of C(Config) have four of them."""
    if kind == "int":
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{key} is {json.dumps(value)[:80]}: set it to an integer, 1 or more")
        return value
    if kind.startswith("tuple"):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{key} is not a list of strings: set it to one")
        return tuple(dict.fromkeys(value))
    if value is None and kind.endswith("None"):
        return None
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{key} is not a string: set it to one")
    return value


def _check_names(config: Config) -> None:
    for key, names in (("server_name", (config.server_name,)), ("servers", config.servers)):
        for name in names:
            try:
                ServerName.parse(name)
            except InvalidNameError as error:
                raise ConfigError(f"{key}: {error}: correct the spelling") from None
    if config.server_name in config.servers:
        raise ConfigError(f"servers: {config.server_name} is server_name itself: list remote servers only")


def _check_paths(config: Config) -> None:
    paths = {field.name: getattr(config, field.name) for field in fields(Config) if field.name.endswith("_path")}
    paths.update(tls_certificate=config.tls_certificate, tls_certificate_key=config.tls_certificate_key)
    for key, path in [*paths.items(), *(("rooms_paths", path) for path in config.rooms_paths)]:
        if path is not None and not os.path.isabs(path):
            raise ConfigError(f"{key}: {path} is not an absolute path: set it to one")
    if (config.tls_certificate is None) != (config.tls_certificate_key is None):
        raise ConfigError("tls_certificate and tls_certificate_key belong together: set both, or none of them")


def _check_network(config: Config) -> None:
    if (config.witness_url is None) != (config.witness_token_path is None):
        raise ConfigError("witness_url and witness_token_path belong together: set both, or none of them")
    try:
        if config.witness_url is not None:
            check_base_url(config.witness_url)
    except SynapseError as error:
        raise ConfigError(f"witness_url: {error}") from None
    if not config.listen:
        raise ConfigError("listen is empty: set it to, for example, 127.0.0.1:8448")
    for text in config.listen:
        _address("listen", text)
    if config.status_listen is not None:
        status = _address("status_listen", config.status_listen)
        if not ipaddress.ip_address(status.host).is_loopback:
            raise ConfigError(
                f"status_listen: {status.host} is no loopback address, and the status needs no login: set it to"
                " 127.0.0.1:8449, and let a reverse proxy with a login pass it on"
            )
        if config.status_listen in config.listen:
            raise ConfigError(f"status_listen: {config.status_listen} is in listen as well: set another port")
    try:
        AddressFilter(config.ip_allowlist)
    except ValueError as error:
        raise ConfigError(f"ip_allowlist: {error}") from None
    if config.proxy is not None and PROXY.fullmatch(config.proxy) is None:
        # Not quoted, since it may contain a password.
        raise ConfigError("proxy: set it to a URL of the form http://[user:password@]host:port")


def _address(key: str, text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise ConfigError(f"{key}: {error}") from None
