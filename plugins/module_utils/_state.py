# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The record of a retirement, kept on the homeserver itself, in the operator's account data."""

from __future__ import annotations

from typing import Dict, Iterable

from ._client import CLIENT, Client, JsonDict, SynapseError

ACCOUNT_DATA_TYPE = "io.github.matrixops.decommission"
ANCHORS_TYPE = f"{ACCOUNT_DATA_TYPE}.anchors"
PROPAGATION_TYPE = f"{ACCOUNT_DATA_TYPE}.propagation"
ALIASES_TYPE = f"{ACCOUNT_DATA_TYPE}.aliases"
LEASE_TYPE = f"{ACCOUNT_DATA_TYPE}.lease"
"""By themselves, since they may be as large as a megabyte, and are written by other modules."""
MILESTONES = ("started", "first_wave_ended", "second_wave_ended")
PATH = f"{CLIENT}/v3/user/{{}}/account_data/{{}}"

Milestones = Dict[str, int]
"""When each milestone was reached: seconds since 1970 by the homeserver's clock."""


def read(client: Client) -> Milestones:
    """What is recorded; nothing, if it was recorded for a server of another name."""
    milestones = _read(client, ACCOUNT_DATA_TYPE).get("milestones")
    if not isinstance(milestones, dict):
        return {}
    return {name: milestones[name] for name in MILESTONES if _is_time(milestones.get(name))}


def _read(client: Client, kind: str) -> JsonDict:
    try:
        content = client.get(PATH, client.user_id, kind)
    except SynapseError as error:
        if error.status != 404:
            raise
        return {}
    return content if content.get("server_name") == client.server_name else {}


def _is_time(value: object) -> bool:
    # To Python, true is an int, and would be a second after the start of 1970.
    return isinstance(value, int) and not isinstance(value, bool)


def write(client: Client, milestones: Milestones) -> None:
    content = {"server_name": client.server_name, "milestones": milestones}
    client.put(PATH, client.user_id, ACCOUNT_DATA_TYPE, json=content)


def read_anchors(client: Client) -> JsonDict:
    """What is recorded of the anchors, as it was written; nothing, if that was for a server of another name."""
    return dict(_read(client, ANCHORS_TYPE))


def write_anchors(client: Client, content: JsonDict) -> None:
    client.put(PATH, client.user_id, ANCHORS_TYPE, json={**content, "server_name": client.server_name})


def read_propagation(client: Client) -> JsonDict:
    """What the poll before has left, as it was written; nothing, if that was for a server of another name."""
    return dict(_read(client, PROPAGATION_TYPE))


def write_propagation(client: Client, content: JsonDict) -> None:
    client.put(PATH, client.user_id, PROPAGATION_TYPE, json={**content, "server_name": client.server_name})


def read_aliases(client: Client) -> dict[str, str]:
    """The recorded aliases with the room ID of each; none, if they were recorded for a server of another name."""
    aliases = _read(client, ALIASES_TYPE).get("aliases")
    if not isinstance(aliases, dict):
        return {}
    return {alias: room_id for alias, room_id in aliases.items() if isinstance(room_id, str)}


def write_aliases(client: Client, aliases: dict[str, str]) -> None:
    content = {"server_name": client.server_name, "aliases": aliases}
    client.put(PATH, client.user_id, ALIASES_TYPE, json=content)


def read_lease(client: Client) -> JsonDict:
    """Who may change something, as it was written; nothing, if that was for a server of another name."""
    return dict(_read(client, LEASE_TYPE))


def write_lease(client: Client, content: JsonDict) -> None:
    client.put(PATH, client.user_id, LEASE_TYPE, json={**content, "server_name": client.server_name})


def changed(milestones: Milestones, *, mark: Iterable[str], clear: Iterable[str], now: int) -> Milestones:
    """The record with the milestones in I(clear) struck out, and those in I(mark) set to I(now) unless they are set."""
    kept = {name: time for name, time in milestones.items() if name not in clear}
    return {**dict.fromkeys(mark, now), **kept}
