# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a remote server still lists local accounts in a room: one procedure for all implementations.

A local account is one of the homeserver that signs the requests.

1. C(state_ids) for an event that does not exist: Synapse and Conduit first check whether a local account is joined.
2. Where that is not conclusive, C(make_leave) for each known account, and the membership event that the template
   refers to: the membership in the remote server's own view.
3. Where no known account is listed, although the answer to 1. does not say so: the room's state.

The module C(answers) has what each implementation answers.
"""

from __future__ import annotations

import time
from typing import Callable, Collection, Iterator, Mapping, NamedTuple, Sequence

from .answers import MAKE_LEAVE, STATE_IDS, Meaning, meaning_of
from .client import FEDERATION, Answer, FederationClient
from .errors import AnswerError, EventError, FederationError, InvalidNameError, UnreachableError
from .leave_events import ROOM_VERSIONS, LeaveTemplate, read_template
from .names import check_event_id, check_room_id, check_user_id, is_server_name
from .room_members import LISTED, RoomMembers, read_members

STATES = ("confirmed", "ghosts", "refused", "unreachable", "unconfirmed")
VERSIONS = sorted(ROOM_VERSIONS)
"""The room versions to offer with C(make_leave): all that a leave can be built for."""
NONEXISTENT_EVENT = "$none"
PENDING = "pending"
"""The membership of an account that is invited or knocking, where the server does not say which of the two."""
UNKNOWN = "unknown"
"""The membership of an account that was invited, where the server does not say whether it still is."""
NONEXISTENT_USER = "@_matrixops.synapse.control"
"""The localpart of an account that does not exist, to compare answers with."""
CONCLUSIVE = (Meaning.NOT_JOINED, Meaning.SERVER_NOT_IN_ROOM)
"""Answers about a room after which accounts that were joined need no check."""
STATE_LIMIT = 128 * 1024 * 1024
"""Maximum size of a room's state in bytes: 200,000 members."""
MAX_EVENT_IDS = 3
"""Maximum number of events that are known from elsewhere at which the state is tried to be read."""
STATE_TIMEOUT = 300.0
"""Total time in seconds to read a room's state."""


class KnownAccounts(NamedTuple):
    """The local accounts that are known to have been in a room."""

    joined: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    """Accounts that were invited or knocking. No answer about a whole room covers them, so each has a check."""


class Pair(NamedTuple):
    """One remote server in one room."""

    server: str
    room_id: str


class PairResult(NamedTuple):
    """What a remote server answers about a room."""

    pair: Pair
    state: str
    """One of C(STATES)."""
    ghosts: dict[str, str]
    """Memberships of the listed accounts, by user ID."""
    reason: str = ""
    """Why the pair is not confirmed. Quotes the remote server."""
    is_transient: bool = False
    """Whether a later check may have another result although nothing was done."""
    removed: tuple[str, ...] = ()
    """The ghosts that were removed before this result."""
    has_answered: bool = False
    """With the state C(unreachable): whether the server gave an answer in this check that is no confirmation."""


class RefusedError(FederationError):
    """The remote server answers, but neither says which accounts it lists nor accepts a leave."""


class UnconfirmedError(FederationError):
    """The remote server's answer does not say which accounts it lists."""

    def __init__(self, reason: str, *, is_transient: bool = False) -> None:
        super().__init__(reason)
        self.is_transient = is_transient


class PairCheck:
    """The requests to one remote server about one room. Answers are kept, so that no request is sent twice.

    :ivar ghosts: memberships of the accounts that the server is known to list, by user ID.
    """

    def __init__(
        self,
        client: FederationClient,
        pair: Pair,
        state_limit: int = STATE_LIMIT,
        accepted_leaves: Mapping[str, str] | None = None,
        event_ids: Sequence[str] = (),
        on_members: Callable[[RoomMembers], None] | None = None,
    ) -> None:
        """
        :param accepted_leaves: user IDs by the IDs of the leave events that the server has accepted. An account whose
            membership is one of these events is not listed, also where the server hides the event.
        :param event_ids: events of the room that the server has, at which its state may be read.
        :param on_members: is called with the members of the room. With it, they are read before accounts are checked,
            unless the server confirms that no account is joined.
        """
        self._client = client
        self.pair = pair
        self._state_limit = state_limit
        self._event_ids = event_ids
        self._on_members = on_members
        self._in_state: dict[str, str] | None = None
        """The accounts that the state of the room lists, once it was read."""
        self._is_state_old = False
        """Whether that is the state at an event that is not known to be the newest one."""
        accepted = accepted_leaves or {}
        self._memberships: dict[str, tuple[str, str] | None] = {
            event_id: (user_id, "leave") for event_id, user_id in accepted.items()
        }
        """Results of C(_read_membership) by event ID."""
        self._has_left = frozenset(accepted.values())
        self._about_room: Meaning | None = None
        self._room_answer = ""
        """The answer about the whole room, for messages."""
        self._is_known_answer = False
        self._newest: list[str] = []
        """The newest events of the room in the remote server's view."""
        self._control_events: frozenset[str] | None = None
        self._offers_any_leave = False
        """Whether the server also gives templates for accounts that have left. Only Dendrite does."""
        self.ghosts: dict[str, str] = {}

    @property
    def has_answered(self) -> bool:
        """Whether the server has given an answer about the whole room that is no confirmation."""
        return self._about_room is not None and self._about_room not in CONCLUSIVE

    def about_room(self) -> Meaning:
        """Return what one request about the whole room says. It is sent once."""
        if self._about_room is not None:
            return self._about_room
        answer = self._get("state_ids", params={"event_id": NONEXISTENT_EVENT})
        if answer.status == 401:
            raise RefusedError(f"does not accept the signature: {answer}")
        meaning = meaning_of(STATE_IDS, answer.status, answer.errcode, answer.error)
        if meaning is None and answer.status not in (403, 404):
            raise _unconfirmed(answer)
        self._room_answer = str(answer)
        self._is_known_answer = meaning is not None
        self._about_room = _assert_answered(meaning or Meaning.INCONCLUSIVE, answer)
        return self._about_room

    def listed(self, known: KnownAccounts) -> Iterator[tuple[str, LeaveTemplate]]:
        """Yield the listed accounts as they are found, with their leave templates. In the end, I(ghosts) has all."""
        about_room = self.about_room()
        if about_room is Meaning.SERVER_NOT_IN_ROOM:
            return
        yield from self._listed_of(KnownAccounts((), known.pending))
        if about_room is Meaning.NOT_JOINED:
            return
        first = KnownAccounts(known.joined) if self._on_members is None else self._known_by_state(known)
        yield from self._listed_of(first)
        if not self.ghosts:
            # Only names are taken from the state: it is the one before an event, and may be outdated.
            in_state = self._listed_in_state(has_checked=any(known))
            checked = {*first.joined, *first.pending, *known.pending}
            yield from self._listed_of(_by_membership({**dict.fromkeys(known.joined, "join"), **in_state}, checked))
            if not self.ghosts and (about_room is Meaning.JOINED or self._is_state_old):
                raise UnconfirmedError("lists a joined account that is not in its room state yet", is_transient=True)

    def _listed_of(self, accounts: KnownAccounts) -> Iterator[tuple[str, LeaveTemplate]]:
        first_error: FederationError | None = None
        # Conduit shows the event of an invite only while an account is joined.
        memberships = {**dict.fromkeys(accounts.pending, True), **dict.fromkeys(accounts.joined, False)}
        for user_id, was_invited in memberships.items():
            try:
                template = self._check_account(user_id, was_invited)
            except (EventError, InvalidNameError, UnconfirmedError) as error:
                # An error with one account must not prevent the checks of the others.
                first_error = first_error or error
                continue
            if template is not None:
                yield user_id, template
        if first_error is not None:
            raise first_error

    def _check_account(self, user_id: str, was_invited: bool) -> LeaveTemplate | None:
        """Return the leave template of an account that the server lists; C(None) for one that it does not list."""
        check_user_id(user_id, self._client.server_name)
        self.ghosts.pop(user_id, None)
        answer = self._make_leave(user_id)
        if answer.status != 200:
            meaning = meaning_of(MAKE_LEAVE, answer.status, answer.errcode, answer.error)
            if meaning is None:
                raise _unconfirmed(answer)
            _assert_answered(meaning, answer)
            return None
        template = read_template(answer.body, self.pair.room_id, user_id)
        self._newest = [reference.event_id for reference in template.prev_events]
        membership = self._membership(template, user_id, was_invited)
        if membership not in (*LISTED, PENDING, UNKNOWN):
            return None
        self.ghosts[user_id] = membership
        return template

    def _known_by_state(self, known: KnownAccounts) -> KnownAccounts:
        """Return the accounts to check after the state of the room was read, if the server shows it."""
        try:
            in_state = self._listed_in_state(has_checked=False)
        except UnconfirmedError:
            return KnownAccounts(known.joined)
        if self._about_room is not Meaning.JOINED:
            # The newest change may be missing, and nothing else says that an account is joined.
            in_state = {**dict.fromkeys(known.joined, "join"), **in_state}
        return _by_membership(in_state, known.pending)

    def _listed_in_state(self, *, has_checked: bool) -> dict[str, str]:
        """Return the accounts that the room's state lists, as far as the server shows it, with memberships.

        :param has_checked: whether known accounts were checked, and none is listed.
        """
        if self._in_state is None:
            self._in_state = self._read_state(has_checked)
        return self._in_state

    def _read_state(self, has_checked: bool) -> dict[str, str]:
        event_ids = self._newest_events()
        if not event_ids:
            if has_checked and (self._offers_any_leave or not self._is_conduit()):
                return {}
            raise UnconfirmedError(f"may list accounts that are not known here: {self._room_answer}")
        for event_id in event_ids:
            try:
                return self._listed_at(event_id)
            except AnswerError as error:
                problem = error
        # Dendrite hides the state of some rooms once all local accounts have left.
        if has_checked and self._offers_any_leave:
            return {}
        raise UnconfirmedError(f"the state of the room {problem}") from problem

    def _is_conduit(self) -> bool:
        """Whether the server is Conduit itself, whose answer about a room is reliable."""
        version = self._client.get(self.pair.server, f"{FEDERATION}/v1/version").body.get("server")
        return isinstance(version, dict) and version.get("name") == "Conduit"

    def _newest_events(self) -> list[str]:
        """Return events at which the state may be read, the newest first."""
        now = int(time.time() * 1000)
        answer = self._get("timestamp_to_event", params={"ts": str(now), "dir": "b"})
        if answer.status == 200:
            return [check_event_id(answer.body.get("event_id"))]
        if not self._newest and (template := self._control_template()) is not None:
            self._offers_any_leave = True
            self._newest = [reference.event_id for reference in template.prev_events]
        return self._newest[:1] or list(self._event_ids[:MAX_EVENT_IDS])

    def _listed_at(self, event_id: str) -> dict[str, str]:
        with self._client.stream(
            self.pair.server,
            f"{FEDERATION}/v1/state/{{}}",
            self.pair.room_id,
            params={"event_id": event_id},
            max_bytes=self._state_limit,
            timeout=STATE_TIMEOUT,
        ) as answer:
            members = read_members(answer.chunks, self._client.server_name)
        self._is_state_old = event_id in self._event_ids
        if self._on_members is not None or (not members.listed and self._about_room is Meaning.JOINED):
            members = self._with_member(members, event_id)
        if self._on_members is not None:
            self._on_members(members)
        return members.listed

    def _with_member(self, members: RoomMembers, event_id: str) -> RoomMembers:
        """Add the member that has joined with an event: the state at an event is the one before it."""
        try:
            user_id, membership = self._read_membership(event_id) or ("", "")
        except UnconfirmedError:
            return members
        server = user_id.partition(":")[2]
        if membership != "join":
            return members
        if server == self._client.server_name:
            return members._replace(listed={**members.listed, user_id: membership})
        if server in members.servers or not is_server_name(server):
            return members
        return members._replace(servers=(*members.servers, server))

    def _membership(self, template: LeaveTemplate, user_id: str, was_invited: bool) -> str:
        """Return the membership of an account in the remote server's view: that of an event in the template.

        Empty for an account that is not in the room, and was not invited either.
        """
        if self._about_room is Meaning.JOINED and self._in_state is not None and user_id in self._in_state:
            # A server that answers this gives no template for an account that it does not list.
            return self._in_state[user_id]
        membership, is_hidden = self._shown_membership(template, user_id)
        if membership is not None:
            self._offers_any_leave |= membership not in LISTED
            return membership
        if not is_hidden:
            self._offers_any_leave = True
            return ""
        return self._hidden_invite(template, user_id) if was_invited else self._hidden_join(user_id)

    def _shown_membership(self, template: LeaveTemplate, user_id: str) -> tuple[str | None, bool]:
        """Return the membership that an event of the template shows, if any, and whether an event is hidden."""
        is_hidden = False
        for event_id, _hash in template.auth_events:
            if event_id not in self._memberships:
                self._memberships[event_id] = self._read_membership(event_id)
            shown = self._memberships[event_id]
            if shown is None:
                is_hidden = True
            elif shown[0] == user_id:
                return shown[1], is_hidden
        return None, is_hidden

    def _hidden_join(self, user_id: str) -> str:
        """Return the membership of an account that was joined, and whose membership event may be hidden."""
        # Dendrite always shows an account's own events, for example its join. Of other servers, that is not known.
        if self._is_known_answer and self._about_room is Meaning.INCONCLUSIVE:
            return ""
        raise UnconfirmedError(f"offers a leave of {user_id}, and hides its membership: {self._room_answer}")

    def _hidden_invite(self, template: LeaveTemplate, user_id: str) -> str:
        """Return the membership of an account that was invited or knocking, and whose event may be hidden."""
        if self._about_room is Meaning.NOT_JOINED:
            # A server that answers this gives no template for an account that it does not list.
            return PENDING
        if user_id in self._has_left:
            # Dendrite hides the leave after an invite as it hides the invite, and drops a leave that changes nothing.
            # So an account that is still not known after an accepted leave had left before.
            self._offers_any_leave = True
            return ""
        is_new = not {event_id for event_id, _hash in template.auth_events} <= self._events_without_membership()
        return UNKNOWN if is_new else ""

    def _events_without_membership(self) -> frozenset[str]:
        """Return the events in the template of an account that was never in the room. Dendrite gives such templates."""
        if self._control_events is None:
            template = self._control_template()
            found = () if template is None else template.auth_events
            self._control_events = frozenset(event_id for event_id, _hash in found)
        return self._control_events

    def _control_template(self) -> LeaveTemplate | None:
        """Return the leave template of an account that does not exist. Only Dendrite gives one."""
        answer = self._make_leave(user_id := f"{NONEXISTENT_USER}:{self._client.server_name}")
        return read_template(answer.body, self.pair.room_id, user_id) if answer.status == 200 else None

    def _read_membership(self, event_id: str) -> tuple[str, str] | None:
        """Return user ID and membership of an event: two empty texts for another event, C(None) for a hidden one."""
        answer = self._client.get(self.pair.server, f"{FEDERATION}/v1/event/{{}}", event_id)
        if answer.status in (403, 404):
            return None
        pdus = answer.body.get("pdus") if answer.status == 200 else None
        event = pdus[0] if isinstance(pdus, list) and pdus else None
        if not isinstance(event, dict) or event.get("room_id", self.pair.room_id) != self.pair.room_id:
            raise UnconfirmedError(f"does not return the event {event_id}: {answer}")
        content = event.get("content")
        if event.get("type") != "m.room.member" or not isinstance(content, dict):
            return "", ""
        return str(event.get("state_key")), str(content.get("membership"))

    def _make_leave(self, user_id: str) -> Answer:
        return self._get("make_leave", user_id, params={"ver": VERSIONS})

    def _get(self, endpoint: str, *more: str, params: Mapping[str, str | list[str]]) -> Answer:
        path = f"{FEDERATION}/v1/{endpoint}/" + "/".join("{}" for _segment in (self.pair.room_id, *more))
        return self._client.get(self.pair.server, path, self.pair.room_id, *more, params=params)


def _by_membership(memberships: Mapping[str, str], without: Collection[str]) -> KnownAccounts:
    """Return accounts as joined and pending ones, but for some of them."""
    names = [user_id for user_id in memberships if user_id not in without]
    joined = tuple(user_id for user_id in names if memberships[user_id] == "join")
    return KnownAccounts(joined, tuple(user_id for user_id in names if memberships[user_id] != "join"))


def _assert_answered(meaning: Meaning, answer: Answer) -> Meaning:
    """Return the meaning of an answer, but for those that say nothing about accounts.

    :raises RefusedError: a server ACL denies access.
    :raises UnconfirmedError: the server has only a part of the room's state yet.
    """
    if meaning is Meaning.DENIED_BY_ACL:
        raise RefusedError(f"denied by a server ACL of the room: {answer}")
    if meaning is Meaning.PARTIAL_STATE:
        raise UnconfirmedError(f"has only a part of the room state yet: {answer}", is_transient=True)
    return meaning


def _unconfirmed(answer: Answer) -> UnconfirmedError:
    return UnconfirmedError(f"unexpected answer {answer}", is_transient=answer.status == 429 or answer.status >= 500)


def check(client: FederationClient, pair: Pair, known: KnownAccounts, *, state_limit: int = STATE_LIMIT) -> PairResult:
    """Check whether a remote server lists local accounts in a room. Only reads.

    :param known: local accounts there. Where none is known, the room's state is read.
    :param state_limit: maximum size of the room's state in bytes.
    """
    pair_check = PairCheck(client, pair, state_limit)
    return result_of(pair_check, lambda: [None for _account in pair_check.listed(known)])


def check_if_joined(client: FederationClient, pair: Pair, known: KnownAccounts) -> PairResult | None:
    """Check a pair with one request, where that is possible; C(None) where each account needs a check."""
    pair_check = PairCheck(client, pair)
    is_undecided = False

    def ask() -> None:
        nonlocal is_undecided
        is_undecided = pair_check.about_room() not in CONCLUSIVE
        if not is_undecided:
            list(pair_check.listed(known))

    result = result_of(pair_check, ask)
    return None if is_undecided or result.ghosts else result


def result_of(pair_check: PairCheck, ask: Callable[[], object]) -> PairResult:
    """Return the result of a check, errors included."""
    pair, ghosts = pair_check.pair, pair_check.ghosts
    try:
        check_room_id(pair.room_id)
        ask()
    except UnreachableError as error:
        has_answered = pair_check.has_answered or bool(ghosts)
        return PairResult(pair, "unreachable", ghosts, str(error), is_transient=True, has_answered=has_answered)
    except RefusedError as error:
        return PairResult(pair, "refused", ghosts, str(error))
    except FederationError as error:
        is_transient = isinstance(error, UnconfirmedError) and error.is_transient
        return PairResult(pair, "unconfirmed", ghosts, str(error), is_transient)
    return _result_of_answers(pair, ghosts)


def _result_of_answers(pair: Pair, ghosts: dict[str, str]) -> PairResult:
    if not ghosts:
        return PairResult(pair, "confirmed", ghosts)
    if set(ghosts.values()) == {UNKNOWN}:
        return PairResult(pair, "unconfirmed", ghosts, f"does not say whether {next(iter(ghosts))} is still invited")
    return PairResult(pair, "ghosts", ghosts)
