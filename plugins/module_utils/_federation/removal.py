# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remove ghosts on a remote server: C(make_leave), and a leave that is built and signed here, with C(send_leave)."""

from __future__ import annotations

import time
from typing import Callable, Mapping, Sequence

from .answers import MAKE_LEAVE, Meaning, meaning_of
from .checks import STATE_LIMIT, KnownAccounts, Pair, PairCheck, PairResult, RefusedError, UnconfirmedError, result_of
from .client import FEDERATION, FederationClient
from .leave_events import LeaveTemplate, build_leave
from .room_members import RoomMembers

CHECK_DELAYS = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Delays in seconds before the checks of a removal. A remote server may accept a leave before it acts on it."""

MayLeave = Callable[[str, str, str], bool]
"""Whether an account may be removed from a room: called right before a leave is sent, with user ID, room ID and the
membership that the remote server lists."""


class _Removal:
    """The leaves of one pair: which were accepted, and which accounts must stay."""

    def __init__(
        self, client: FederationClient, pair: Pair, may_leave: MayLeave, on_leave: Callable[[str, str, str], None]
    ) -> None:
        self._client = client
        self._pair = pair
        self._may_leave = may_leave
        self._on_leave = on_leave
        self.accepted: dict[str, str] = {}
        """User IDs by the IDs of the accepted leave events."""
        self.kept: set[str] = set()
        """The accounts that may not leave."""
        self._found: dict[str, str] = {}
        """Memberships of the accounts that were listed, by user ID."""

    def known(self, known: KnownAccounts) -> KnownAccounts:
        """Return the known accounts, with those that were found to be listed."""
        joined = (user_id for user_id, membership in self._found.items() if membership == "join")
        pending = (user_id for user_id, membership in self._found.items() if membership != "join")
        return KnownAccounts(
            tuple(dict.fromkeys([*known.joined, *joined])), tuple(dict.fromkeys([*known.pending, *pending]))
        )

    def send_leaves(self, pair_check: PairCheck, known: KnownAccounts) -> None:
        """Send a leave for each listed account that has had none. Raises the first error after all were sent."""
        first_error: UnconfirmedError | None = None
        left = set(self.accepted.values())
        for user_id, template in pair_check.listed(self.known(known)):
            self._found[user_id] = pair_check.ghosts[user_id]
            if user_id in left or user_id in self.kept:
                continue
            if not self._may_leave(user_id, self._pair.room_id, pair_check.ghosts[user_id]):
                self.kept.add(user_id)
                continue
            try:
                event_id = send_leave(self._client, self._pair, user_id, template)
            except UnconfirmedError as error:
                first_error = first_error or error
                continue
            self.accepted[event_id] = user_id
            self._on_leave(user_id, event_id, self._found[user_id])
        if first_error is not None:
            raise first_error

    def reason(self, result: PairResult) -> str:
        """Return why accounts are still listed; an empty text for another result."""
        listed = set(result.ghosts)
        if result.state != "ghosts" or not listed:
            return ""
        if listed <= self.kept:
            return "still joined on this server, so not removed"
        number = len(listed & set(self.accepted.values()))
        return f"{number} account{'' if number == 1 else 's'} still listed after an accepted leave"


def remove(
    client: FederationClient,
    pair: Pair,
    known: KnownAccounts,
    may_leave: MayLeave,
    *,
    state_limit: int = STATE_LIMIT,
    event_ids: Sequence[str] = (),
    earlier_leaves: Mapping[str, str] | None = None,
    on_members: Callable[[RoomMembers], None] | None = None,
    on_leave: Callable[[str, str, str], None] = lambda *_leave: None,
    pause: Callable[[float], None] | None = None,
) -> PairResult:
    """Remove the local accounts that a remote server lists in a room, and check until it has confirmed.

    A leave is only sent for an account that is listed at that moment, and once: Dendrite accepts leaves of accounts
    that have left, and forwards them to all other servers in the room.

    :param known: local accounts there.
    :param event_ids: see C(PairCheck), as for I(on_members).
    :param earlier_leaves: C(accepted_leaves) of earlier runs. Their accounts may be listed again, and have a new leave.
    :param on_leave: is called after each accepted leave, with user ID, event ID and the membership before it.
    :param pause: is called instead of C(time.sleep).
    :returns: the last check, with all accounts whose leave the server has accepted before it.
    """
    removal = _Removal(client, pair, may_leave, on_leave)
    for delay in CHECK_DELAYS:
        (pause or time.sleep)(delay)
        before = len(removal.accepted)
        leaves = {**(earlier_leaves or {}), **removal.accepted}
        pair_check = PairCheck(client, pair, state_limit, leaves, event_ids, on_members)
        result = result_of(pair_check, lambda: removal.send_leaves(pair_check, known))  # noqa: B023
        is_pending = removal.accepted and (result.is_transient or set(result.ghosts) - removal.kept)
        if len(removal.accepted) == before and not is_pending:
            break
    return result._replace(removed=tuple(removal.accepted.values()), reason=result.reason or removal.reason(result))


def send_leave(client: FederationClient, pair: Pair, user_id: str, template: LeaveTemplate) -> str:
    """Send the leave of an account to a remote server. Return the ID of the leave event.

    :raises RefusedError: a server ACL denies access.
    :raises UnconfirmedError: the server does not accept the leave for another reason.

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
    if meaning is Meaning.DENIED_BY_ACL:
        raise RefusedError(f"denied by a server ACL of the room: {answer}")
    raise UnconfirmedError(f"does not accept the leave of {user_id}: {answer}", is_transient=True)
