# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What remote servers have stored of the keys of the homeserver. Each answers for all servers that it federated with.

API: C(GET /_matrix/key/v2/query/{serverName}), U(https://spec.matrix.org/latest/server-server-api/#publishing-keys).
Servers do not verify signatures of this request.
"""

from __future__ import annotations

from itertools import islice
from typing import Dict, Iterable, NamedTuple, Sequence

from .._concurrency import results_by_item
from .._text import join_names, printable
from .client import KEY, FederationClient, JsonDict
from .errors import AnswerError, FederationError, SigningKeyError
from .published_keys import MAX_KEYS, KeyAnswer, parse_key_answer
from .signing import KEY_ID

MAX_NOTARIES = 5
"""Maximum number of remote servers to ask whether they accept a key, and of those to ask at once."""
MAX_KEY_ANSWERS = 20
"""Maximum number of key answers to read from one remote server."""

Keys = Dict[str, JsonDict]
"""Public keys by key ID, in the form of C(old_verify_keys). Those that may be valid have no C(expired_ts)."""


class Source(NamedTuple):
    """Keys of the homeserver, and where they are from.

    :ivar name: server name, option or path. Printable.
    :ivar problem: why a server has returned no keys.
    """

    name: str
    keys: Keys
    problem: str = ""


def key_answers(client: FederationClient, server: str) -> list[KeyAnswer]:
    """Return the key answers of the homeserver that a remote server has stored, at least one, the newest first.

    :raises FederationError: if it has none, does not answer, or one of them is invalid.
    """
    name = client.server_name
    answer = client.get(server, f"{KEY}/query/{{}}", name)
    if answer.status != 200:
        raise AnswerError(f"unexpected answer {answer}")
    answers = answer.body.get("server_keys")
    if not isinstance(answers, list) or not all(isinstance(each, dict) for each in answers):
        raise AnswerError("server_keys is not a list of objects")
    parsed = [parse_key_answer(each, name) for each in answers[:MAX_KEY_ANSWERS]]
    if not parsed:
        raise AnswerError(f"no keys of {name}")
    return sorted(parsed, key=lambda each: each.valid_until_ts, reverse=True)


def ask(client: FederationClient, servers: Iterable[str]) -> list[Source]:
    """Ask remote servers for all keys of the homeserver, former ones as well. A source without keys has a problem."""

    def source(server: str) -> Source:
        try:
            return Source(printable(server), _keys(key_answers(client, server)))
        except FederationError as error:
            return Source(printable(server), {}, str(error))

    return list(results_by_item(source, servers, MAX_NOTARIES).values())


def no_answer(sources: Sequence[Source], server_name: str) -> str:
    """Return why no server that was asked has returned a key; an empty text if one has, or if none was asked."""
    if not sources or any(not each.problem for each in sources):
        return ""
    problems = "; ".join(f"{each.name}: {each.problem}" for each in sources)
    return f"no server returned keys of {server_name}: name others, or retry. {problems}"


def _keys(answers: list[KeyAnswer]) -> Keys:
    """Return the keys of one server. Of answers that differ, the newest counts."""
    keys: Keys = {}
    for answer in reversed(answers):
        keys.update({key_id: key for key_id, key in answer.as_json().items() if KEY_ID.fullmatch(key_id)})
    if not 0 < len(keys) <= MAX_KEYS:
        raise AnswerError(f"{len(keys)} keys, but only 1 to {MAX_KEYS} are allowed")
    return keys


def merge(sources: Iterable[Source]) -> Keys:
    """Return the keys of all sources. If these differ on when a key has expired, the latest time counts.

    :raises AnswerError: if two of them have different keys under one key ID, or there are more than C(MAX_KEYS).
    """
    merged: Keys = {}
    first: dict[str, str] = {}
    for source in sources:
        for key_id, key in source.keys.items():
            known = merged.get(key_id, key)
            if known["key"] != key["key"]:
                raise AnswerError(
                    f"different keys are known as {key_id}: set servers to trustworthy servers only. They are from"
                    f" {first[key_id]} and {source.name}"
                )
            merged[key_id] = _latest(known, key)
            first.setdefault(key_id, source.name)
    if len(merged) > MAX_KEYS:
        raise AnswerError(f"{len(merged)} keys are more than {MAX_KEYS}: set servers to trustworthy servers only")
    return merged


def _latest(one: JsonDict, other: JsonDict) -> JsonDict:
    if "expired_ts" not in one or "expired_ts" not in other:
        return {"key": one["key"]}
    return max(one, other, key=lambda key: int(key["expired_ts"]))


def assert_not_known_otherwise(client: FederationClient, servers: Iterable[str]) -> None:
    """Assert that remote servers have not stored another key under the ID of the key of the client.

    Any server can invent keys and sign them. So it is enough if one of them has stored this key.

    :param servers: of these, the first C(MAX_NOTARIES) are asked. Those that do not know the key ID do not count.
    :raises SigningKeyError: if all that know the key ID have another key.
    """
    key = client.key

    def has_key(server: str) -> bool | None:
        try:
            stored = [each for answer in key_answers(client, server) for each in answer.known_as(key.key_id)]
        except FederationError:
            return None
        return key.public_base64 in stored if stored else None

    found = results_by_item(has_key, islice(dict.fromkeys(servers), MAX_NOTARIES), MAX_NOTARIES)
    others = [printable(server) for server, known in found.items() if known is False]
    if others and True not in found.values():
        raise SigningKeyError(
            f"remote servers know another key as {key.key_id}, and reject all requests (401): create a key with a new"
            f" ID, and publish that. Asked: {join_names(others)}"
        )
