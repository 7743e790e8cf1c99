# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One real Synapse and its configuration."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .api import APPSERVICE_PREFIX, APPSERVICE_SENDER, APPSERVICE_TOKEN, REGISTRATION_SECRET
from .database import VOLATILE, Database
from .files import write_private
from .server import Server

_UNLIMITED = {"per_second": 100_000, "burst_count": 100_000}
_RATE_LIMITS: dict[str, Any] = {
    "rc_message": _UNLIMITED,
    "rc_registration": _UNLIMITED,
    "rc_registration_token_validity": _UNLIMITED,
    "rc_login": {"address": _UNLIMITED, "account": _UNLIMITED, "failed_attempts": _UNLIMITED},
    "rc_admin_redaction": _UNLIMITED,
    "rc_joins": {"local": _UNLIMITED, "remote": _UNLIMITED},
    "rc_joins_per_room": _UNLIMITED,
    "rc_key_requests": _UNLIMITED,
    "rc_3pid_validation": _UNLIMITED,
    "rc_invites": {"per_room": _UNLIMITED, "per_user": _UNLIMITED, "per_issuer": _UNLIMITED},
    "rc_third_party_invite": _UNLIMITED,
    "rc_media_create": _UNLIMITED,
    "rc_delayed_event_mgmt": _UNLIMITED,
    "rc_room_creation": _UNLIMITED,
    "rc_reports": _UNLIMITED,
    "rc_user_directory": _UNLIMITED,
    "rc_profile": _UNLIMITED,
    "rc_federation": {
        "window_size": 1000,
        "sleep_limit": 100_000,
        "reject_limit": 100_000,
        "concurrent": 100,
    },
}
FEDERATION = {
    "client_timeout": "5s",
    "max_short_retries": 1,
    "max_long_retries": 1,
    "max_short_retry_delay": 100,
    "max_long_retry_delay": "1s",
    "destination_min_retry_interval": "2s",
    "destination_retry_multiplier": 1,
    "destination_max_retry_interval": "2s",
}
DEFAULT_BACKOFF: dict[str, Any] = {
    "federation": {name: value for name, value in FEDERATION.items() if not name.startswith("destination_")}
}
"""The ``extra_config`` of a server that sends nothing to one that does not answer for as long as Synapse does by
default: first ten minutes. Only the tries before that take less time."""


@dataclass(frozen=True)
class Settings:
    """How a server differs from the lab's usual one."""

    #: Names of the ``rc_*`` settings to leave at Synapse's default; all others are raised out of the way.
    default_limits: tuple[str, ...] = ()
    server_notices: bool = False
    #: Whether anybody can register; guests always can.
    open_registration: bool = False
    #: Whether ``Homeserver.veto`` works. It makes every event slower.
    veto: bool = False
    #: Top-level keys of homeserver.yaml, over everything else.
    extra_config: Mapping[str, Any] = field(default_factory=dict)


class Homeserver(Server):
    """A Synapse in a directory."""

    health_path = "/health"

    def __init__(
        self,
        directory: Path,
        federation_port: int,
        client_port: int,
        *,
        ca_file: Path,
        database: Database,
        python: Path,
    ) -> None:
        super().__init__(directory, federation_port, client_port, config_name="homeserver.yaml", ca_file=ca_file)
        self.database = database
        self.python = python
        self._veto_file = directory / "veto.json"

    def configure(self, settings: Settings) -> None:
        """Write the configuration; a running server needs a restart to see it."""
        write_files(self.directory, self._config(settings))

    def _config(self, settings: Settings) -> dict[str, Any]:
        config = configuration(
            self.server_name,
            self.directory,
            settings,
            listeners=self._listeners(),
            database=self.database,
            ca_file=self.ca_file,
        )
        if settings.veto:
            config["modules"] = [{"module": "lab_veto.Veto", "config": {"file": str(self._veto_file)}}]
        return config | self._own_config() | dict(settings.extra_config)

    def _listeners(self) -> list[dict[str, Any]]:
        federation_port, client_port = self.ports
        return [listener(federation_port, "federation", tls=True), listener(client_port, "client", tls=False)]

    def _own_config(self) -> dict[str, Any]:
        """What this kind of homeserver has besides."""
        return {}

    @property
    def command(self) -> list[str | Path]:
        """The program and its arguments."""
        return [self.python, "-m", "synapse.app.homeserver", "--config-path", self.config_file]

    @property
    def environment(self) -> dict[str, str]:
        """Where Synapse finds the lab's modules."""
        return {"PYTHONPATH": str(Path(__file__).with_name("synapse_modules"))}

    @property
    def role_variables(self) -> dict[str, Any]:
        """What the role needs to know of this server, on loopback and as whoever runs the tests."""
        return {
            "decommission_base_url": self.base_url,
            "decommission_access_token": self.admin_token,
            "decommission_confirm": self.server_name,
            "decommission_signing_key_path": str(self.directory / "signing.key"),
            "decommission_signing_key_become": False,
            "decommission_federation_ca_path": str(self.ca_file),
            "decommission_federation_ip_allowlist": ["127.0.0.0/8", "::1"],
        }

    def veto(self, *, leave: Iterable[str] = (), deactivate: Iterable[str] = ()) -> None:
        """From now on, Synapse forbids these accounts to leave rooms, or to be deactivated."""
        write_private(self._veto_file, {"leave": list(leave), "deactivate": list(deactivate)})

    def database_fingerprint(self, ignore: frozenset[str] = VOLATILE) -> dict[str, str]:
        """Rows and digest by table; equal before and after whatever wrote nothing."""
        return self.database.fingerprint(ignore)


def configuration(
    server_name: str,
    directory: Path,
    settings: Settings,
    *,
    listeners: Sequence[Mapping[str, Any]],
    database: Database,
    ca_file: Path,
) -> dict[str, Any]:
    """What homeserver.yaml says in a directory that has the files of ``write_files`` and ``tls.*``."""
    config: dict[str, Any] = {
        "server_name": server_name,
        "listeners": list(listeners),
        "database": database.config,
        "log_config": str(directory / "log.yaml"),
        "media_store_path": str(directory / "media"),
        "signing_key_path": str(directory / "signing.key"),
        "tls_certificate_path": str(directory / "tls.crt"),
        "tls_private_key_path": str(directory / "tls.key"),
        "federation_custom_ca_list": [str(ca_file)],
        "federation": FEDERATION,
        "ip_range_blacklist": [],
        "federation_ip_range_blacklist": [],
        "trusted_key_servers": [],
        "registration_shared_secret": REGISTRATION_SECRET,
        "macaroon_secret_key": "lab-macaroon-secret",
        "form_secret": "lab-form-secret",
        "bcrypt_rounds": 4,
        # A new Synapse has some 50 of them, and dawdles over them for a minute.
        "background_updates": {"sleep_enabled": False},
        "presence": {"enabled": False},
        "report_stats": False,
        "allow_guest_access": True,
        # Nobody could be suspended before 1.122 otherwise.
        "experimental_features": {"msc3823_account_suspension": True},
        "app_service_config_files": [str(directory / "appservice.yaml")],
        **{name: limit for name, limit in _RATE_LIMITS.items() if name not in settings.default_limits},
    }
    if settings.open_registration:
        config |= {"enable_registration": True, "enable_registration_without_verification": True}
    if settings.server_notices:
        config["server_notices"] = {"system_mxid_localpart": "notices", "room_name": "Notices"}
    return config


def write_files(directory: Path, config: Mapping[str, Any]) -> None:
    """Write homeserver.yaml and what belongs to it, with a signing key unless there is one."""
    key_file = directory / "signing.key"
    if not key_file.exists():
        seed = base64.b64encode(secrets.token_bytes(32)).decode().rstrip("=")
        key_file.write_text(f"ed25519 a_lab {seed}\n")
    appservice = {
        "id": "lab-bridge",
        "url": None,  # nobody listens: the lab only acts as the service
        "as_token": APPSERVICE_TOKEN,
        "hs_token": "lab-homeserver-token",
        "sender_localpart": APPSERVICE_SENDER,
        "namespaces": {
            "users": [{"exclusive": True, "regex": f"@{APPSERVICE_PREFIX}.*:{config['server_name']}"}],
            "rooms": [],
            "aliases": [],
        },
    }
    # JSON is YAML, too.
    for name, content in {"homeserver": config, "appservice": appservice, "log": _LOGGING}.items():
        (directory / f"{name}.yaml").write_text(json.dumps(content, indent=2))


_LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(request)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": "INFO", "handlers": ["stderr"]},
}


def listener(port: int, *resources: str, tls: bool, address: str = "127.0.0.1") -> dict[str, Any]:
    """One of the ``listeners`` of homeserver.yaml."""
    return {
        "port": port,
        "bind_addresses": [address],
        "type": "http",
        "tls": tls,
        "resources": [{"names": list(resources)}],
    }
