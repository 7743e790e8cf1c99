# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fake Synapse homeserver in memory, for tests of what is done with its client and admin API.

It behaves as docs/explanation/synapse.md says that Synapse does. Its listings are paged by offset, and what changes
between two pages shifts what comes later. Accounts that are deactivated leave their rooms in the background: one room
of one account with each request. Requests can fail, or lose their answer before or after they were carried out.
"""

from __future__ import annotations

from .answers import (
    BROKEN,
    CONNECTION_LOST,
    GATEWAY_TIMEOUT,
    INVALID_TOKEN,
    NOT_FOUND,
    UNRECOGNIZED,
    After,
    Reply,
    too_many_requests,
)
from .events import ALICE, BOB, HOST, MEMBER, PEER, create, event, joins, levels
from .homeserver import Homeserver
from .request import Request
from .state import CANONICAL_ALIAS, IGNORED_USERS, NOTICES, RECORD, stripped

__all__ = [
    "ALICE",
    "BOB",
    "BROKEN",
    "CANONICAL_ALIAS",
    "CONNECTION_LOST",
    "GATEWAY_TIMEOUT",
    "HOST",
    "IGNORED_USERS",
    "INVALID_TOKEN",
    "MEMBER",
    "NOTICES",
    "NOT_FOUND",
    "PEER",
    "RECORD",
    "UNRECOGNIZED",
    "After",
    "Homeserver",
    "Reply",
    "Request",
    "create",
    "event",
    "joins",
    "levels",
    "stripped",
    "too_many_requests",
]
