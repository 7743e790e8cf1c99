# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The members of a room, read from a stream.

The state of a room has about 650 bytes for each member (65 MB with 100,000 members), and remote servers are hostile. So
at most one event is in memory at a time.
"""

from __future__ import annotations

import codecs
import json
from typing import Any, Iterable, Iterator, NamedTuple

from .errors import AnswerError
from .names import is_server_name

MAX_EVENT = 128 * 1024
"""Maximum size of an event in characters. The specification allows 64 KiB, without the escapes of JSON."""

MIN_PIECE = 16 * 1024
"""Minimum number of bytes to decode at once."""

LISTED = ("join", "invite", "knock")
"""The memberships of ghosts: those that a leave ends."""

MAX_LISTED = 100_000
MAX_SERVERS = 10_000
"""Maximum numbers of accounts and of servers to keep of one room. Further ones are ignored."""


class RoomMembers(NamedTuple):
    """What the state of a room says about the accounts of one server, and which servers are in the room.

    :ivar listed: the accounts that are joined, invited or knocking, with memberships, by user ID.
    :ivar servers: those servers, except that one.
    """

    listed: dict[str, str]
    servers: tuple[str, ...]


def read_members(chunks: Iterable[bytes], server_name: str) -> RoomMembers:
    """Return the accounts of I(server_name) that the state of a room lists, and the servers of the joined members.

    :param chunks: the answer to C(GET /_matrix/federation/v1/state/{roomId}).
    :raises AnswerError: the answer is invalid, or an event is too large.
    """
    listed: dict[str, str] = {}
    servers: dict[str, None] = {}
    for user_id, membership in _memberships(chunks):
        server = user_id.partition(":")[2]
        if server == server_name:
            if len(listed) < MAX_LISTED:
                listed[user_id] = membership
        elif membership == "join" and server not in servers and len(servers) < MAX_SERVERS and is_server_name(server):
            servers[server] = None
    return RoomMembers(listed, tuple(servers))


def _memberships(chunks: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """Yield user ID and membership of each account that the state of a room lists."""
    for event in _elements(chunks, "pdus"):
        if not isinstance(event, dict) or event.get("type") != "m.room.member":
            continue
        user_id, content = event.get("state_key"), event.get("content")
        if isinstance(user_id, str) and isinstance(content, dict) and content.get("membership") in LISTED:
            yield user_id, str(content["membership"])


def _elements(chunks: Iterable[bytes], key: str) -> Iterator[Any]:
    """Yield the elements of one array of a JSON object. Values of other keys are skipped."""
    reader = _Reader(chunks)
    reader.expect("{")
    if reader.peek() == "}":
        return
    while True:
        name = reader.value()
        reader.expect(":")
        if reader.peek() == "[":
            for element in reader.array():
                if name == key:
                    yield element
        else:
            reader.value()
        if not reader.continues("}"):
            return


class _Reader:
    """Reads JSON values from a stream. A library for this (ijson) would be one more package on each host."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._decode_bytes = codecs.getincrementaldecoder("utf-8")()
        self._decode = json.JSONDecoder().raw_decode
        self._buffer = ""
        self._at = 0

    def _more(self) -> None:
        rest = self._buffer[self._at :]
        if len(rest) > MAX_EVENT:
            raise AnswerError("contains an event that is too large")
        # A value is decoded again with each piece, so small chunks are collected.
        piece = b""
        for chunk in self._chunks:
            piece += chunk
            if len(piece) >= MIN_PIECE:
                break
        if not piece:
            raise AnswerError("is incomplete")
        try:
            self._buffer, self._at = rest + self._decode_bytes.decode(piece), 0
        except UnicodeDecodeError:
            raise AnswerError("is not UTF-8") from None

    def peek(self) -> str:
        """Return the next character that is no blank."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in " \t\r\n":
                    return self._buffer[self._at]
                self._at += 1
            self._more()

    def take(self) -> str:
        character = self.peek()
        self._at += 1
        return character

    def expect(self, character: str) -> None:
        if self.take() != character:
            raise _not_json()

    def continues(self, end: str) -> bool:
        """Read a comma or the end. Return whether it was a comma."""
        character = self.take()
        if character not in (",", end):
            raise _not_json()
        return character == ","

    def value(self) -> Any:
        """Return the next value."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._buffer, self._at)
            except RecursionError:
                raise AnswerError("is nested too deep") from None
            except ValueError:
                self._more()
                continue
            if end == len(self._buffer) and isinstance(value, (int, float)):
                self._more()  # more digits may follow
                continue
            self._at = end
            return value

    def array(self) -> Iterator[Any]:
        """Yield the elements of the next value, which is an array."""
        self.expect("[")
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            yield self.value()
            if not self.continues("]"):
                return


def _not_json() -> AnswerError:
    return AnswerError("is not valid JSON of the specified form")
