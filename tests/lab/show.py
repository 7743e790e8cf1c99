# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tables for people: who is on each server, and who is in its rooms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .api import Json
from .lab import Lab

_STATES = ("active", "locked", "suspended", "deactivated", "erased")


def show(lab: Lab) -> None:
    """Print what the servers that run have to say."""
    running = {name: server for name, server in lab.servers.items() if server.running}
    for name, server in running.items():
        print(f"Accounts of {name}, {server.server_name}")
        accounts = [server.account(account["name"]) for account in server.accounts()]
        counts = Counter((_class(account), _state(account)) for account in accounts)
        classes = sorted({kind for kind, _name in counts})
        table(["class", *_STATES], [[kind, *(counts[kind, state] for state in _STATES)] for kind in classes])
        print()
    print("Members in rooms (rooms in brackets): each row as that server sees it")
    rows = []
    for name, server in running.items():
        seen = [server.members_of(member.server_name) for member in lab.servers.values()]
        rows.append([name, *(f"{sum(map(len, rooms.values()))} ({len(rooms)})" for rooms in seen)])
    table(["seen by", *(f"of {name}" for name in lab.servers)], rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table."""
    cells = [list(heads), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _class(account: Json) -> str:
    if account["admin"]:
        return "admin"
    if account["is_guest"]:
        return "guest"
    return "appservice" if account["appservice_id"] else "user"


def _state(account: Json) -> str:
    return next((state for state in reversed(_STATES) if account.get(state)), "active")
