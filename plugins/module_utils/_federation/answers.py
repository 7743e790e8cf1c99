# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What remote servers are known to answer, by implementation, and what each answer means.

The only place that knows the wording of an implementation. docs/federation.md says how each row was seen. An answer
that no row has means nothing: the check then asks in another way, or says C(unconfirmed).
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple


class Meaning(Enum):
    """What an answer says of a room and our accounts in it."""

    NOT_JOINED = "no account of ours is joined"
    SERVER_NOT_IN_ROOM = "the remote server itself is not in the room: whom it listed once, nobody sees"
    JOINED = "an account of ours is joined"
    SAYS_NOTHING = "the answer is the same whether or not an account of ours is joined"
    BARRED = "a server ACL of the room bars us"
    PARTIAL_STATE = "the server does not know all members of the room yet"
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
    # Conduit looks first whether we are in the room. What descends from it doesn't, where the room is world-readable.
    Row("Conduit", 404, "M_NOT_FOUND", r"\bPdu state not found\b", Meaning.SAYS_NOTHING),
    Row("Dendrite, tuwunel, Continuwuity", 404, "M_NOT_FOUND", r"\bEvent not found\b", Meaning.SAYS_NOTHING),
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
    Row("Synapse", 403, "M_FORBIDDEN", r"^Server is banned from room", Meaning.BARRED),
    Row("Dendrite", 403, "M_FORBIDDEN", r"^Forbidden by server ACLs", Meaning.BARRED),
    Row("tuwunel, Continuwuity", 403, "M_FORBIDDEN", r"\bServer access denied\b", Meaning.BARRED),
    Row("Conduit, tuwunel", 403, "M_FORBIDDEN", r"\bServer was denied by (?:room )?ACL\b", Meaning.BARRED),
    Row("Synapse", 403, "M_UNABLE_DUE_TO_PARTIAL_STATE", "", Meaning.PARTIAL_STATE),
    Row("Synapse", 403, "ORG.MATRIX.MSC3895_UNABLE_DUE_TO_PARTIAL_STATE", "", Meaning.PARTIAL_STATE),
)
"""What may be answered to any request about a room."""


def meaning_of(table: tuple[Row, ...], status: int, errcode: str, error: str) -> Meaning | None:
    """What an answer means by the table, or by C(ANY_REQUEST); C(None) if no row has it."""
    for row in (*table, *ANY_REQUEST):
        if row.status == status and row.errcode in (None, errcode) and re.search(row.words, error):
            return row.meaning
    return None
