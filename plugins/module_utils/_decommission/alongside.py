# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which of the accounts that a remote server lists are members on their own homeserver, so that they are no ghosts.

The homeserver is the one that the accounts were on, or another one that was set up anew under the same name. Removing a
member makes remote servers disagree with it from then on.
"""

from __future__ import annotations

from .._synapse.accounts import existing_accounts
from .._synapse.client import Client
from .._synapse.rooms import joined_rooms

JOIN = "join"


def is_joined(client: Client, user_id: str, room_id: str, _membership: str) -> bool:
    """Whether an account is joined to a room by the word of its own homeserver."""
    return room_id in joined_rooms(client, user_id)


def may_be_member(client: Client, user_id: str, room_id: str, membership: str) -> bool:
    """Whether an account of a homeserver that was set up anew is joined to a room, or may be invited or knocking.

    Its admin API does not list invites and knocks. So one of an account that exists may be new, and is kept.

    :param membership: the one that the remote server lists.
    """
    if is_joined(client, user_id, room_id, membership):
        return True
    return membership != JOIN and user_id in existing_accounts(client, [user_id])
