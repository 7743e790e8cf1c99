# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remove ghosts on a remote server: make_leave, and a leave that we build and sign, by send_leave."""

from __future__ import annotations

import time
from typing import Callable

from .answers import MAKE_LEAVE, Meaning, meaning_of
from .checks import STATE_LIMIT, Conversation, Known, Pair, PairResult, RefusedError, UnclearError, result_of
from .client import FEDERATION, FederationClient
from .events import LeaveTemplate, build_leave

CHECK_DELAYS = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Seconds to wait before each check after a removal. A remote server may acknowledge a leave before it acts on it."""

MayLeave = Callable[[str, str], bool]
"""Whether an account may be removed from a room: called with both IDs right before a leave is sent."""


def remove(
    client: FederationClient, pair: Pair, known: Known, may_leave: MayLeave, *, state_limit: int = STATE_LIMIT
) -> PairResult:
    """Remove the accounts of ours that a remote server lists in a room, and check until it has confirmed.

    A leave is only sent for who is listed at that moment, and once: Dendrite accepts one for who has left, and passes
    it on to all other servers in the room.

    :param known: what is known of our accounts there.
    :returns: the last check, with all accounts for which the server has accepted a leave before it.
    """
    left_by: dict[str, str] = {}
    kept: set[str] = set()

    def remove_listed(conversation: Conversation) -> None:
        problem: UnclearError | None = None
        left = set(left_by.values())
        for user_id, template in conversation.listed(known):
            if user_id in left or user_id in kept:
                continue
            if not may_leave(user_id, pair.room_id):
                kept.add(user_id)
                continue
            try:
                left_by[send_leave(client, pair, user_id, template)] = user_id
            except UnclearError as error:
                problem = problem or error
        if problem is not None:
            raise problem

    for delay in CHECK_DELAYS:
        time.sleep(delay)
        before = len(left_by)
        conversation = Conversation(client, pair, state_limit, left_by)
        result = result_of(conversation, lambda: remove_listed(conversation))  # noqa: B023
        is_waited_for = left_by and (result.can_change or set(result.ghosts) - kept)
        if len(left_by) == before and not is_waited_for:
            break
    removed = tuple(left_by.values())
    return result._replace(removed=removed, reason=result.reason or _why_still_listed(result, removed, kept))


def send_leave(client: FederationClient, pair: Pair, user_id: str, template: LeaveTemplate) -> str:
    """Have a remote server accept that an account leaves a room. Return the ID of the leave event.

    :raises RefusedError: a server ACL bars us.
    :raises UnclearError: it does not accept the leave, for another reason.

    API: C(PUT /_matrix/federation/v2/send_leave/{roomId}/{eventId}).
    """
    event_id, event = build_leave(
        template, pair.room_id, user_id, client.server_name, client.key, int(time.time() * 1000)
    )
    path = f"{FEDERATION}/v2/send_leave/{{}}/{{}}"
    answer = client.put(pair.server, path, pair.room_id, event_id, json=event)
    if answer.status == 200:
        return event_id
    meaning = meaning_of(MAKE_LEAVE, answer.status, answer.errcode, answer.error)
    if meaning is Meaning.BARRED:
        raise RefusedError(f"a server ACL of the room bars us: {answer}")
    raise UnclearError(f"does not accept that {user_id} leaves: {answer}", can_change=True)


def _why_still_listed(result: PairResult, removed: tuple[str, ...], kept: set[str]) -> str:
    listed = set(result.ghosts)
    if result.state != "ghosts" or not listed:
        return ""
    if listed <= kept:
        return "lists accounts that are joined on this server as well, which are not removed"
    return f"has accepted the leaves of {len(listed & set(removed))} accounts that it still lists"
