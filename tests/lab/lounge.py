# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A room that was created on a server, with an alias and a picture of it, as remote servers can use them."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import requests

from .api import Account, Api, ApiError, quote
from .waiting import PATIENCE


class Lounge:
    """The room ``#lounge`` of a server, which another server is in as well."""

    def __init__(self, home: Api, staying: Api, **options: Any) -> None:
        """
        :param options: of the room, as ``createRoom`` has them.
        """
        self.home = home
        self.staying = staying
        self.accounts: dict[str, Account] = {}
        self.picture = picture(200)
        token = self.account(home).token
        self.room_id = home.create_room(token, preset="public_chat", room_alias_name="lounge", name="Lounge", **options)
        self.media_id = self._upload(token)
        home.set_state(token, self.room_id, "m.room.avatar", {"url": f"mxc://{home.server_name}/{self.media_id}"})
        staying.join(self.account(staying).token, self.room_id, via=home.server_name)

    @property
    def alias(self) -> str:
        return f"#lounge:{self.home.server_name}"

    def account(self, server: Api) -> Account:
        """An account of a server, registered on the first call."""
        if server.server_name not in self.accounts:
            self.accounts[server.server_name] = server.register("somebody")
        return self.accounts[server.server_name]

    def add_alias(self, localpart: str) -> str:
        """Another alias of the room."""
        alias = f"#{localpart}:{self.home.server_name}"
        path = f"/_matrix/client/v3/directory/room/{quote(alias)}"
        self.home.call("PUT", path, token=self.account(self.home).token, json={"room_id": self.room_id})
        return alias

    def _upload(self, token: str) -> str:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "image/png"}
        url = f"{self.home.base_url}/_matrix/media/v3/upload"
        answer = requests.post(url, data=self.picture, headers=headers, timeout=PATIENCE)
        return str(answer.json()["content_uri"]).rpartition("/")[2]

    def resolve(self, server: Api, alias: str | None = None) -> Any:
        """The room ID that a server resolves an alias to. It asks the home server."""
        return server.call("GET", f"/_matrix/client/v3/directory/room/{quote(alias or self.alias)}")["room_id"]

    def load(self, server: Api, kind: str = "download", query: str = "") -> bytes:
        """The picture by way of a server. It asks the home server unless it has the picture."""
        headers = {"Authorization": f"Bearer {self.account(server).token}"}
        # Old servers have only the second one.
        for start in ("/_matrix/client/v1/media", "/_matrix/media/v3"):
            path = f"{start}/{kind}/{self.home.server_name}/{self.media_id}{query}"
            answer = requests.get(server.base_url + path, headers=headers, timeout=PATIENCE)
            if answer.status_code != 404 or answer.json()["errcode"] != "M_UNRECOGNIZED":
                break
        if not answer.ok:
            raise ApiError(f"GET {path}", answer.status_code, answer.json())
        return answer.content

    def join(self, server: Api, room: str) -> None:
        """Join by room ID through the server that stays, or by alias."""
        via = self.staying.server_name if room == self.room_id else None
        server.join(self.account(server).token, room, via=via)

    def has_member(self, server: Api) -> bool:
        """Whether the server that stays lists the account of another one."""
        return self.account(server).user_id in self.staying.joined_members(self.room_id)

    def end_backoff(self, server: Api) -> None:
        """Let a server forget that the home server did not answer, as it does after some time."""
        path = "/v1/federation/destinations"
        known = server.admin("GET", path, params={"destination": self.home.server_name})["destinations"]
        if any(destination["retry_interval"] for destination in known):
            server.admin("POST", f"{path}/{quote(self.home.server_name)}/reset_connection", json={})


def picture(size: int) -> bytes:
    """A PNG image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes((x * 7 + y) % 256 for x in range(3 * size)) for y in range(size))
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
