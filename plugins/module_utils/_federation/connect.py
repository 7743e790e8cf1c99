# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Open a client whose signatures remote servers accept: with the published key of the homeserver."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Iterable, Iterator, NamedTuple

from .._text import printable
from .addresses import AddressFilter
from .client import FEDERATION, KEY, REQUEST_TIMEOUT, FederationClient
from .discovery import Discovery, Resolver, SystemResolver
from .errors import MAX_MESSAGE, AnswerError, FederationError, SigningKeyError
from .names import ServerName
from .pacing import Limiters, Pacing
from .published_keys import KeyAnswer, assert_published, parse_key_answer
from .signing import read_signing_key
from .transport import Transport

MAX_NOTARIES = 5
"""Maximum number of remote servers to ask for the keys of the homeserver."""
MAX_KEY_ANSWERS = 20
"""Maximum number of key answers to read from one remote server."""
EVERYWHERE = ("0.0.0.0/0", "::/0")
STATIC_SITE = "matrixops.synapse"
"""Name of the static site in its answer to C(/_matrix/federation/v1/version)."""


@dataclass(frozen=True)
class Settings:
    """How to reach remote servers.

    :ivar ca_path: file with CA certificates, instead of the default ones.
    :ivar proxy: URL of an HTTP proxy for all connections.
    :ivar ip_allowlist: addresses and ranges to allow although they are not public.
    :ivar timeout: total time of a request in seconds.
    """

    ca_path: str | None = None
    proxy: str | None = None
    ip_allowlist: tuple[str, ...] = ()
    timeout: float = REQUEST_TIMEOUT
    pacing: Pacing = field(default_factory=Pacing)


class Connection(NamedTuple):
    """A client, and the homeserver that answers under the same name.

    :ivar homeserver: for example C(Synapse 1.163.2). Empty if only keys are served there, or if this host can't reach
        the homeserver under its name.
    :ivar published: the keys that are published under the server name, or that a remote server has stored.
    """

    client: FederationClient
    homeserver: str
    published: KeyAnswer


@contextmanager
def connect(
    server_name: str,
    key_text: str,
    settings: Settings,
    remote_servers: Iterable[str],
    *,
    resolver: Resolver | None = None,
) -> Iterator[Connection]:
    """Open a client for the federation API, after a check that the key is the published one.

    :param key_text: content of a signing key file of Synapse.
    :param remote_servers: servers to ask for the keys if nothing answers under I(server_name).
    :raises SigningKeyError: the key is not usable, or not the published one.
    """
    ServerName.parse(server_name)
    key = read_signing_key(key_text)
    resolver = resolver or SystemResolver()
    with closing(Transport(ca_path=settings.ca_path, proxy=settings.proxy)) as transport:

        def client(ip_allowlist: Iterable[str]) -> FederationClient:
            discovery = Discovery(transport, resolver, AddressFilter(ip_allowlist))
            limiters = Limiters(settings.pacing)
            return FederationClient(server_name, key, transport, discovery, limiters, timeout=settings.timeout)

        remote = client(settings.ip_allowlist)
        # The name of the homeserver may resolve to this host, or into a private network.
        own = client(EVERYWHERE)
        published = _assert_published(own, remote, remote_servers)
        yield Connection(remote, _homeserver(own), published)


def _assert_published(own: FederationClient, remote: FederationClient, remote_servers: Iterable[str]) -> KeyAnswer:
    """Assert that the key is published under its server name, or that a remote server has stored it.

    :returns: the answer with the key.
    :raises SigningKeyError: if not.
    """
    name = own.server_name
    try:
        published = parse_key_answer(own.get(name, f"{KEY}/server").body, name)
    except FederationError as error:
        problems = [str(error)]
    else:
        assert_published(own.key, published, time.time())
        return published
    refusals = []
    for server in islice(remote_servers, MAX_NOTARIES):
        try:
            seen = _seen_by(remote, server)
            assert_published(own.key, seen, time.time())
            return seen
        except SigningKeyError as error:
            # Any server can invent keys and sign them. One such server must not prevent the check at others.
            refusals.append(SigningKeyError(f"according to {server}, {error}"))
        except FederationError as error:
            problems.append(f"{server}: {error}")
    if refusals:
        raise refusals[0]
    raise SigningKeyError(
        f"signing key {own.key.key_id} can't be verified: serve /_matrix/key/v2/server under {name} (a static file is"
        f" enough) and retry. No server returned its keys: {'; '.join(problems)}"
    )


def _seen_by(remote: FederationClient, server: str) -> KeyAnswer:
    """Return the newest key answer of the homeserver that a remote server has stored, to verify signatures."""
    name = remote.server_name
    answers = remote.get(server, f"{KEY}/query/{{}}", name).body.get("server_keys")
    if not isinstance(answers, list) or not all(isinstance(answer, dict) for answer in answers):
        raise AnswerError("server_keys is not a list of objects")
    parsed = [parse_key_answer(answer, name) for answer in answers[:MAX_KEY_ANSWERS]]
    if not parsed:
        raise AnswerError(f"no keys of {name}")
    return max(parsed, key=lambda answer: answer.valid_until_ts)


def _homeserver(own: FederationClient) -> str:
    """Return name and version of the homeserver that answers under the server name, if any."""
    try:
        answer = own.get(own.server_name, f"{FEDERATION}/v1/version")
    except FederationError:
        return ""
    server = answer.body.get("server")
    if answer.status != 200 or not isinstance(server, dict) or server.get("name") == STATIC_SITE:
        return ""
    return printable(f"{server.get('name')} {server.get('version')}"[:MAX_MESSAGE])
