# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a remote server still lists accounts of ours in a room: one procedure for all implementations.

1. C(state_ids) for an event that does not exist: Synapse and Conduit first look whether anybody of ours is joined.
2. Where that does not settle it, C(make_leave) for each account that is known, and the membership event that the
   template refers to: what the remote server itself believes.
3. Where nobody who is known is listed, although the answer to 1. is not that nobody is joined: the room's state.

What each implementation answers is in C(answers).
"""

from __future__ import annotations

import time
from typing import Callable, Iterable, Iterator, Mapping, NamedTuple

from .answers import MAKE_LEAVE, STATE_IDS, Meaning, meaning_of
from .client import FEDERATION, Answer, FederationClient
from .errors import AnswerError, EventError, FederationError, InvalidNameError, UnreachableError
from .events import ROOM_VERSIONS, LeaveTemplate, read_template
from .names import check_event_id, check_room_id, check_user_id
from .state import LISTED, listed_members

STATES = ("confirmed", "ghosts", "refused", "unreachable", "unconfirmed")
VERSIONS = sorted(ROOM_VERSIONS)
"""What is offered with each C(make_leave): all that a leave can be built for."""
NO_EVENT = "$none"
PENDING = "pending"
"""The membership of an account that is invited or knocking, where the server does not say which."""
UNKNOWN = "unknown"
"""The membership of an account that was invited, where the server does not say whether it still is."""
CONTROL = "@_matrixops.synapse.control"
"""An account that no server has, to compare the answers about others with."""
SETTLED = (Meaning.NOT_JOINED, Meaning.SERVER_NOT_IN_ROOM)
"""Answers about a room after which no account that was joined is looked at."""
STATE_LIMIT = 128 * 1024 * 1024
"""Size limit of a room's state in bytes: 200,000 members."""
STATE_TIMEOUT = 300.0
"""Total time in seconds to read a room's state."""


class Known(NamedTuple):
    """The accounts of ours that are known to have been in a room."""

    joined: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    """Those invited or knocking. No answer about a whole room covers them, so each of them is always asked about."""


class Pair(NamedTuple):
    """One remote server in one room."""

    server: str
    room_id: str


class PairResult(NamedTuple):
    """What a remote server says of a room, or why it can't be said."""

    pair: Pair
    state: str
    """One of C(STATES)."""
    ghosts: dict[str, str]
    """Membership by account: whom it lists."""
    reason: str = ""
    """Why it is not confirmed. Has words of the remote server in it."""
    can_change: bool = False
    """Whether it may be otherwise after some time, with nothing done about it."""
    removed: tuple[str, ...] = ()
    """The accounts that were removed there before this was the answer."""
    has_answered: bool = False
    """Of one that is unreachable: whether it has said something about the room right before, but that nobody is in."""


class RefusedError(FederationError):
    """The remote server answers, but does not say whom it lists, or does not accept a leave."""


class UnclearError(FederationError):
    """The remote server's answer says nothing about whom it lists."""

    def __init__(self, reason: str, *, can_change: bool = False) -> None:
        super().__init__(reason)
        self.can_change = can_change


class Conversation:
    """All that one remote server is asked about one room. What it answers is kept, so that nothing is asked twice."""

    def __init__(
        self,
        client: FederationClient,
        pair: Pair,
        state_limit: int = STATE_LIMIT,
        left_by: Mapping[str, str] | None = None,
    ) -> None:
        """
        :param left_by: the accounts that the server has accepted leaves of, by the IDs of these events: whether it may
            show them to us or not, it lists nobody whose membership is one of them.
        """
        self._client = client
        self.pair = pair
        self._state_limit = state_limit
        self._memberships: dict[str, tuple[str, str] | None] = {
            event_id: (user_id, "leave") for event_id, user_id in (left_by or {}).items()
        }
        """By the ID of each event that was asked for: see C(_read_membership)."""
        self._left = frozenset((left_by or {}).values())
        self._about_room: Meaning | None = None
        self._said = ""
        """Its answer about the whole room."""
        self._is_known_answer = False
        self._newest: list[str] = []
        """Events that the remote server calls the newest ones."""
        self._control: frozenset[str] | None = None
        self._lists_the_gone = False
        """Whether it gives templates for those who have left: only Dendrite does."""
        self.ghosts: dict[str, str] = {}
        """The accounts that it is known to list, with their membership."""

    @property
    def has_answered(self) -> bool:
        """Whether it has said anything about the whole room, but that nobody of ours is joined."""
        return self._about_room is not None and self._about_room not in SETTLED

    def about_room(self) -> Meaning:
        """Whether anybody of ours is joined, as far as the remote server says so at once. It is asked once."""
        if self._about_room is not None:
            return self._about_room
        answer = self._get("state_ids", params={"event_id": NO_EVENT})
        if answer.status == 401:
            raise RefusedError(f"does not accept the signature: {answer}")
        meaning = meaning_of(STATE_IDS, answer.status, answer.errcode, answer.error)
        if meaning is None and answer.status not in (403, 404):
            raise _unclear(answer)
        self._said = str(answer)
        self._is_known_answer = meaning is not None
        self._about_room = self._settled(meaning or Meaning.SAYS_NOTHING, answer)
        return self._about_room

    def listed(self, known: Known) -> Iterator[tuple[str, LeaveTemplate]]:
        """The accounts that are listed, as they are found, each with what a leave would be built on. When this is at
        its end, I(ghosts) has all of them."""
        about_room = self.about_room()
        if about_room is Meaning.SERVER_NOT_IN_ROOM:
            return
        yield from self._listed_of(known.pending, was_invited=True)
        if about_room is Meaning.NOT_JOINED:
            return
        yield from self._listed_of(known.joined)
        if not self.ghosts:
            # Names alone are taken from the state: it is the one before an event, and may be outdated.
            others = self._others(is_known=any(known)) - {*known.joined, *known.pending}
            yield from self._listed_of(others)
            if not self.ghosts and about_room is Meaning.JOINED:
                raise UnclearError("lists an account as joined that its state does not have yet", can_change=True)

    def _listed_of(self, user_ids: Iterable[str], *, was_invited: bool = False) -> Iterator[tuple[str, LeaveTemplate]]:
        problem: FederationError | None = None
        for user_id in user_ids:
            try:
                template = self._look_at(user_id, was_invited)
            except (EventError, InvalidNameError, UnclearError) as error:
                # One account must not keep us from all others.
                problem = problem or error
                continue
            if template is not None:
                yield user_id, template
        if problem is not None:
            raise problem

    def _look_at(self, user_id: str, was_invited: bool) -> LeaveTemplate | None:
        """What a leave of this account would be built on, if the remote server lists it; C(None) if it does not."""
        check_user_id(user_id, self._client.server_name)
        self.ghosts.pop(user_id, None)
        answer = self._make_leave(user_id)
        if answer.status != 200:
            meaning = meaning_of(MAKE_LEAVE, answer.status, answer.errcode, answer.error)
            if meaning is None:
                raise _unclear(answer)
            self._settled(meaning, answer)
            return None
        template = read_template(answer.body, self.pair.room_id, user_id)
        self._newest = [reference.event_id for reference in template.prev_events]
        membership = self._membership(template, user_id, was_invited)
        if membership not in (*LISTED, PENDING, UNKNOWN):
            return None
        self.ghosts[user_id] = membership
        return template

    def _others(self, *, is_known: bool) -> set[str]:
        """Who is listed in the state of the room, as far as that can be read.

        :param is_known: whether accounts were looked at, and are not listed.
        """
        event_id = self._newest_event()
        if event_id is None:
            if is_known and (self._lists_the_gone or not self._is_conduit()):
                return set()
            raise UnclearError(f"lists an account that is not known, or does not say that it lists none: {self._said}")
        try:
            return self._listed_at(event_id)
        except AnswerError as error:
            # Dendrite does not let us see the state of some rooms once all have left.
            if is_known and self._lists_the_gone:
                return set()
            raise UnclearError(f"the state of the room {error}") from error

    def _is_conduit(self) -> bool:
        """Whether it says that it is Conduit itself, whose answer about a room can be relied on."""
        version = self._client.get(self.pair.server, f"{FEDERATION}/v1/version").body.get("server")
        return isinstance(version, dict) and version.get("name") == "Conduit"

    def _newest_event(self) -> str | None:
        now = int(time.time() * 1000)
        answer = self._get("timestamp_to_event", params={"ts": str(now), "dir": "b"})
        if answer.status == 200:
            return check_event_id(answer.body.get("event_id"))
        return self._newest[0] if self._newest else None

    def _listed_at(self, event_id: str) -> set[str]:
        with self._client.stream(
            self.pair.server,
            f"{FEDERATION}/v1/state/{{}}",
            self.pair.room_id,
            params={"event_id": event_id},
            max_bytes=self._state_limit,
            timeout=STATE_TIMEOUT,
        ) as answer:
            return set(listed_members(answer.chunks, self._client.server_name))

    def _membership(self, template: LeaveTemplate, user_id: str, was_invited: bool) -> str:
        """The membership that the remote server believes in, by the event of it that the template refers to.

        Empty for an account that is not in the room, and was not invited either.
        """
        hidden = False
        for event_id, _hash in template.auth_events:
            if event_id not in self._memberships:
                self._memberships[event_id] = self._read_membership(event_id)
            found = self._memberships[event_id]
            if found is None:
                hidden = True
            elif found[0] == user_id:
                self._lists_the_gone |= found[1] not in LISTED
                return found[1]
        if not hidden:
            self._lists_the_gone = True
            return ""
        if not was_invited:
            # Dendrite always shows us an account's own events, such as its join. Of others, that is not known.
            if self._is_known_answer and self._about_room is Meaning.SAYS_NOTHING:
                return ""
            raise UnclearError(f"would let {user_id} leave, and does not show its membership: {self._said}")
        if self._about_room is Meaning.NOT_JOINED:
            # Whoever says so gives no template for an account that it does not list.
            return PENDING
        if user_id in self._left:
            # Dendrite hides the leave after an invite as it hides the invite, and drops a leave that changes nothing.
            # So who is still not known after a leave was accepted had left before.
            self._lists_the_gone = True
            return ""
        is_new = not {event_id for event_id, _hash in template.auth_events} <= self._without_membership()
        return UNKNOWN if is_new else ""

    def _without_membership(self) -> frozenset[str]:
        """What a template refers to for an account that was never in the room: Dendrite gives one for anybody."""
        if self._control is None:
            answer = self._make_leave(user_id := f"{CONTROL}:{self._client.server_name}")
            found = read_template(answer.body, self.pair.room_id, user_id).auth_events if answer.status == 200 else ()
            self._control = frozenset(event_id for event_id, _hash in found)
        return self._control

    def _read_membership(self, event_id: str) -> tuple[str, str] | None:
        """Whose membership an event is, and which; two empty texts if it is none, and C(None) if it is hidden."""
        answer = self._client.get(self.pair.server, f"{FEDERATION}/v1/event/{{}}", event_id)
        if answer.status in (403, 404):
            return None
        pdus = answer.body.get("pdus") if answer.status == 200 else None
        event = pdus[0] if isinstance(pdus, list) and pdus else None
        if not isinstance(event, dict) or event.get("room_id", self.pair.room_id) != self.pair.room_id:
            raise UnclearError(f"does not tell the event {event_id}: {answer}")
        content = event.get("content")
        if event.get("type") != "m.room.member" or not isinstance(content, dict):
            return "", ""
        return str(event.get("state_key")), str(content.get("membership"))

    def _make_leave(self, user_id: str) -> Answer:
        return self._get("make_leave", user_id, params={"ver": VERSIONS})

    def _get(self, what: str, *more: str, params: Mapping[str, str | list[str]]) -> Answer:
        path = f"{FEDERATION}/v1/{what}/" + "/".join("{}" for _segment in (self.pair.room_id, *more))
        return self._client.get(self.pair.server, path, self.pair.room_id, *more, params=params)

    @staticmethod
    def _settled(meaning: Meaning, answer: Answer) -> Meaning:
        if meaning is Meaning.BARRED:
            raise RefusedError(f"a server ACL of the room bars us: {answer}")
        if meaning is Meaning.PARTIAL_STATE:
            raise UnclearError(f"does not know the whole room yet: {answer}", can_change=True)
        return meaning


def _unclear(answer: Answer) -> UnclearError:
    return UnclearError(f"answers {answer}", can_change=answer.status == 429 or answer.status >= 500)


def check(client: FederationClient, pair: Pair, known: Known, *, state_limit: int = STATE_LIMIT) -> PairResult:
    """Ask a remote server whether it lists accounts of ours in a room. Only reads.

    :param known: what is known of our accounts there. With nothing known, the room's state is read.
    :param state_limit: size limit of the room's state in bytes.
    """
    conversation = Conversation(client, pair, state_limit)
    return result_of(conversation, lambda: [None for _account in conversation.listed(known)])


def check_if_joined(client: FederationClient, pair: Pair, known: Known) -> PairResult | None:
    """Ask a remote server in one request, if it can be; C(None) if each account must be asked about."""
    conversation = Conversation(client, pair)
    undecided = False

    def ask() -> None:
        nonlocal undecided
        undecided = conversation.about_room() not in SETTLED
        if not undecided:
            list(conversation.listed(known))

    result = result_of(conversation, ask)
    return None if undecided or result.ghosts else result


def result_of(conversation: Conversation, ask: Callable[[], object]) -> PairResult:
    """The result of asking, whatever comes of it."""
    pair, ghosts = conversation.pair, conversation.ghosts
    try:
        check_room_id(pair.room_id)
        ask()
    except UnreachableError as error:
        has_answered = conversation.has_answered or bool(ghosts)
        return PairResult(pair, "unreachable", ghosts, str(error), can_change=True, has_answered=has_answered)
    except RefusedError as error:
        return PairResult(pair, "refused", ghosts, str(error))
    except FederationError as error:
        can_change = isinstance(error, UnclearError) and error.can_change
        return PairResult(pair, "unconfirmed", ghosts, str(error), can_change)
    unknown = [user_id for user_id, membership in ghosts.items() if membership == UNKNOWN]
    if unknown and len(unknown) == len(ghosts):
        return PairResult(pair, "unconfirmed", ghosts, f"does not tell whether {unknown[0]} is still invited")
    return PairResult(pair, "ghosts" if ghosts else "confirmed", ghosts)
