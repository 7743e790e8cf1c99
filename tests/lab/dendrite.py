# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One real Dendrite, as a remote server of another implementation."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .api import REGISTRATION_SECRET, Account, ApiError, Json, quote, server_of
from .errors import LabError
from .server import Server

_DATABASES = {
    "federation_api": "database",
    "key_server": "database",
    "media_api": "database",
    "mscs": "database",
    "relay_api": "database",
    "room_server": "database",
    "sync_api": "database",
    "user_api": "account_database",
}


class Dendrite(Server):
    """A Dendrite in a directory.

    It has nothing of Synapse's admin API but the registration; who is in a room is asked as one of its own accounts
    that is in it.
    """

    health_path = "/_dendrite/monitor/health"

    def __init__(
        self, directory: Path, federation_port: int, client_port: int, *, ca_file: Path, programs: Path
    ) -> None:
        """``programs`` is the directory of Dendrite's programs."""
        super().__init__(directory, federation_port, client_port, config_name="dendrite.yaml", ca_file=ca_file)
        self.programs = programs
        self._accounts: dict[str, Account] = {}

    def configure(self) -> None:
        """Write the configuration, and a signing key unless there is one."""
        key_file = self.directory / "signing.pem"
        if not key_file.exists():
            subprocess.run([self.programs / "generate-keys", "--private-key", key_file], check=True)
        # JSON is YAML, too.
        self.config_file.write_text(json.dumps(self._config(key_file), indent=2))

    def _config(self, key_file: Path) -> Json:
        config: Json = {
            "version": 2,
            "global": {
                "server_name": self.server_name,
                "private_key": str(key_file),
                "jetstream": {"storage_path": str(self.directory / "jetstream")},
                "report_stats": {"enabled": False},
            },
            "client_api": {
                "registration_disabled": True,
                "registration_shared_secret": REGISTRATION_SECRET,
                "rate_limiting": {"enabled": False},
            },
            "federation_api": {"key_perspectives": []},
            "media_api": {"base_path": str(self.directory / "media")},
            "sync_api": {"search": {"enabled": False}},
            "user_api": {"bcrypt_cost": 4},
            "logging": [{"type": "std", "level": "info"}],
        }
        for component, database in _DATABASES.items():
            path = self.directory / f"{component}.db"
            config.setdefault(component, {})[database] = {"connection_string": f"file:{path}"}
        return config

    @property
    def command(self) -> list[str | Path]:
        """The program and its arguments."""
        federation_port, client_port = self.ports
        return [
            *(self.programs / "dendrite", "--config", self.config_file),
            *("--http-bind-address", f"127.0.0.1:{client_port}"),
            *("--https-bind-address", f"127.0.0.1:{federation_port}"),
            *("--tls-cert", self.directory / "tls.crt", "--tls-key", self.directory / "tls.key"),
        ]

    @property
    def environment(self) -> dict[str, str]:
        """The authority that it trusts, instead of the system's."""
        return {"SSL_CERT_FILE": str(self.ca_file), "SSL_CERT_DIR": str(self.directory / "no-certificates")}

    def register(self, localpart: str, *, admin: bool = False) -> Account:
        """A new account, by the shared secret."""
        account = super().register(localpart, admin=admin)
        self._accounts[account.user_id] = account
        return account

    def joined_members(self, room_id: str) -> list[str]:
        """Who is in a room as this server sees it, sorted. ``LabError`` if nobody of this server is in it."""
        return sorted(self._as_member(room_id, "joined_members")["joined"])

    def memberships(self, room_id: str) -> dict[str, str]:
        """The membership of each user who has or had one in a room, as this server sees it."""
        members = self._as_member(room_id, "members")["chunk"]
        return {event["state_key"]: event["content"]["membership"] for event in members}

    def _as_member(self, room_id: str, what: str) -> Json:
        for account in self._accounts.values():
            try:
                return self.call("GET", f"/_matrix/client/v3/rooms/{quote(room_id)}/{what}", token=account.token)
            except ApiError as refused:
                if refused.status != 403:
                    raise
        raise LabError(f"no account of {self.server_name} is in {room_id}")

    def joined_rooms(self, user_id: str) -> list[str]:
        """The rooms that one of the accounts registered here is in, sorted."""
        token = self._accounts[user_id].token
        return sorted(self.call("GET", "/_matrix/client/v3/joined_rooms", token=token)["joined_rooms"])

    def members_of(self, server_name: str) -> dict[str, list[str]]:
        """By room, the accounts of ``server_name`` that are in it as *this* server sees it."""
        return dict(self._members_of(server_name))

    def _members_of(self, server_name: str) -> Iterator[tuple[str, list[str]]]:
        for room_id in sorted({room for user in self._accounts for room in self.joined_rooms(user)}):
            members = [user for user in self.joined_members(room_id) if server_of(user) == server_name]
            if members:
                yield room_id, members
