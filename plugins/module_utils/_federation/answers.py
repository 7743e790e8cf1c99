# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The known answers of remote servers, by implementation, and the meaning of each.

Only this module knows the wording of an implementation. docs/explanation/federation.md says how each row was found. An
answer without a row is not conclusive: the check sends another request, or its result is C(unconfirmed).
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple


class Meaning(Enum):
    """What an answer says about the local accounts in a room."""

    NOT_JOINED = "no local account is joined"
    SERVER_NOT_IN_ROOM = "the remote server is not in the room, so the accounts that it may list have no effect"
    JOINED = "a local account is joined"
    INCONCLUSIVE = "the answer is the same whether or not a local account is joined"
    DENIED_BY_ACL = "a server ACL of the room denies access"
    PARTIAL_STATE = "the remote server does not know all members of the room yet"
    NOTHING_TO_LEAVE = "the account is not joined, invited or knocking"


class Row(NamedTuple):
    """One known answer. I(words) is searched for in the error text."""

    seen_on: str
    status: int
    errcode: str | None
    words: str
    meaning: Meaning


STATE_IDS = (
    Row("Synapse", 403, "M_FORBIDDEN", r"^Host not in room", Meaning.NOT_JOINED),
    Row("Conduit, tuwunel, Continuwuity", 403, "M_FORBIDDEN", r"\bServer is not in room\b", Meaning.NOT_JOINED),
    Row("Dendrite", 404, "M_NOT_FOUND", r"^This server is not joined to room", Meaning.SERVER_NOT_IN_ROOM),
    Row("Synapse", 404, "M_NOT_FOUND", r"^Could not find event", Meaning.JOINED),
    # Conduit first checks whether a local account is joined. Its forks don't, where the room is world-readable.
    Row("Conduit", 404, "M_NOT_FOUND", r"\bPdu state not found\b", Meaning.INCONCLUSIVE),
    Row("Dendrite, tuwunel, Continuwuity", 404, "M_NOT_FOUND", r"\bEvent not found\b", Meaning.INCONCLUSIVE),
)
"""C(GET /_matrix/federation/v1/state_ids/{roomId}) for an event that does not exist."""

MAKE_LEAVE = (
    Row("Synapse", 403, None, r"\bnot in room\b", Meaning.NOTHING_TO_LEAVE),
    Row("Conduit, tuwunel, Continuwuity", 403, "M_FORBIDDEN", r"\bEvent is not authorized\b", Meaning.NOTHING_TO_LEAVE),
    Row("Dendrite", 403, "M_FORBIDDEN", r"\bthe user is banned\b", Meaning.NOTHING_TO_LEAVE),
    Row("Synapse", 404, "M_NOT_FOUND", r"^Could not find room_version", Meaning.NOTHING_TO_LEAVE),
    Row("Conduit, tuwunel, Continuwuity", 404, "M_NOT_FOUND", r"\bRoom is unknown\b", Meaning.NOTHING_TO_LEAVE),
)
"""C(GET /_matrix/federation/v1/make_leave/{roomId}/{userId}), but for 200."""

ANY_REQUEST = (
    Row("Synapse", 403, "M_FORBIDDEN", r"^Server is banned from room", Meaning.DENIED_BY_ACL),
    Row("Dendrite", 403, "M_FORBIDDEN", r"^Forbidden by server ACLs", Meaning.DENIED_BY_ACL),
    Row("tuwunel, Continuwuity", 403, "M_FORBIDDEN", r"\bServer access denied\b", Meaning.DENIED_BY_ACL),
    Row("Conduit, tuwunel", 403, "M_FORBIDDEN", r"\bServer was denied by (?:room )?ACL\b", Meaning.DENIED_BY_ACL),
    Row("Synapse", 403, "M_UNABLE_DUE_TO_PARTIAL_STATE", "", Meaning.PARTIAL_STATE),
    Row("Synapse", 403, "ORG.MATRIX.MSC3895_UNABLE_DUE_TO_PARTIAL_STATE", "", Meaning.PARTIAL_STATE),
)
"""Possible answers to any request about a room."""


def meaning_of(table: tuple[Row, ...], status: int, errcode: str, error: str) -> Meaning | None:
    """Return the meaning of an answer by the table, or by C(ANY_REQUEST); C(None) without a row for it."""
    for row in (*table, *ANY_REQUEST):
        if row.status == status and row.errcode in (None, errcode) and re.search(row.words, error):
            return row.meaning
    return None
