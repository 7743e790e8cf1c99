# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of a retirement, kept on the homeserver itself, in the operator's account data."""

from __future__ import annotations

from typing import Dict, Iterable

from ._client import CLIENT, Client, JsonDict, SynapseError

ACCOUNT_DATA_TYPE = "io.github.matrixops.decommission"
ALIASES_TYPE = f"{ACCOUNT_DATA_TYPE}.aliases"
LEASE_TYPE = f"{ACCOUNT_DATA_TYPE}.lease"
"""By themselves, since they may be as large as a megabyte, and are written by other modules."""
MILESTONES = ("started", "left_federated_rooms")
PATH = f"{CLIENT}/v3/user/{{}}/account_data/{{}}"

Milestones = Dict[str, int]
"""When each milestone was reached: seconds since 1970 by the homeserver's clock."""


def read(client: Client) -> Milestones:
    """What is recorded; nothing, if it was recorded for a server of another name."""
    milestones = read_data(client, ACCOUNT_DATA_TYPE).get("milestones")
    if not isinstance(milestones, dict):
        return {}
    return {name: milestones[name] for name in MILESTONES if _is_time(milestones.get(name))}


def read_data(client: Client, kind: str) -> JsonDict:
    """The operator's account data of this type; nothing, if it was recorded for a server of another name."""
    try:
        content = client.get(PATH, client.user_id, kind)
    except SynapseError as error:
        if error.status != 404:
            raise
        return {}
    if content and "server_name" not in content:
        # Not written by this collection: taken for nothing, it would be overwritten.
        raise content.error(f"the account data {kind} is not what was recorded")
    return content if content.get("server_name") == client.server_name else {}


def write_data(client: Client, kind: str, content: JsonDict) -> None:
    client.put(PATH, client.user_id, kind, json={**content, "server_name": client.server_name})


def _is_time(value: object) -> bool:
    # To Python, true is an int, and would be a second after the start of 1970.
    return isinstance(value, int) and not isinstance(value, bool)


def write(client: Client, milestones: Milestones) -> None:
    write_data(client, ACCOUNT_DATA_TYPE, {"milestones": milestones})


def read_aliases(client: Client) -> dict[str, str]:
    """The recorded aliases with the room ID of each; none, if they were recorded for a server of another name."""
    aliases = read_data(client, ALIASES_TYPE).get("aliases")
    if not isinstance(aliases, dict):
        return {}
    return {alias: room_id for alias, room_id in aliases.items() if isinstance(room_id, str)}


def write_aliases(client: Client, aliases: dict[str, str]) -> None:
    write_data(client, ALIASES_TYPE, {"aliases": aliases})


def changed(milestones: Milestones, *, mark: Iterable[str], clear: Iterable[str], now: int) -> Milestones:
    """The record with the milestones in I(clear) struck out, and those in I(mark) set to I(now) unless they are set."""
    kept = {name: time for name, time in milestones.items() if name not in clear}
    return {**dict.fromkeys(mark, now), **kept}
