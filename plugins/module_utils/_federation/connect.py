# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Open a client that other servers will believe: with the key that is published under our name."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Iterable, Iterator, NamedTuple

from .addresses import AddressFilter
from .client import FEDERATION, KEY, REQUEST_TIMEOUT, FederationClient
from .discovery import Discovery, Resolver, SystemResolver
from .errors import MAX_MESSAGE, AnswerError, FederationError, SigningKeyError, printable
from .keys import KeyAnswer, assert_published, parse_key_answer, read_signing_key
from .names import ServerName
from .pacing import Limiters, Pacing
from .transport import Transport

MAX_NOTARIES = 5
"""How many remote servers are asked for our keys, at most."""
MAX_KEY_ANSWERS = 20
EVERYWHERE = ("0.0.0.0/0", "::/0")
STATIC_SITE = "matrixops.synapse"
"""What the static site calls itself in the answer to C(/_matrix/federation/v1/version)."""


@dataclass(frozen=True)
class Settings:
    """How to reach remote servers.

    :ivar ca_path: file with CA certificates, instead of the usual ones.
    :ivar proxy: URL of an HTTP proxy through which all connections go.
    :ivar ip_allowlist: addresses and ranges to connect to although they are not public.
    :ivar timeout: total time of a request in seconds.
    """

    ca_path: str | None = None
    proxy: str | None = None
    ip_allowlist: tuple[str, ...] = ()
    timeout: float = REQUEST_TIMEOUT
    pacing: Pacing = field(default_factory=Pacing)


class Connection(NamedTuple):
    """A client, and the homeserver that answers under our own name.

    :ivar homeserver: for example C(Synapse 1.163.2). Empty if only keys are served there, and also if a homeserver runs
        that cannot be reached under its name from this host.
    """

    client: FederationClient
    homeserver: str


@contextmanager
def connect(
    server_name: str,
    key_text: str,
    settings: Settings,
    remote_servers: Iterable[str],
    *,
    resolver: Resolver | None = None,
) -> Iterator[Connection]:
    """Open a client for the federation API, after a look whether the key is the published one.

    :param key_text: content of a signing key file of Synapse.
    :param remote_servers: where to ask for our keys when nothing answers under our own name.
    :raises SigningKeyError: the key is not usable, or not the one that is published.
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
        # Our own name may lead to this very host, or into a network of our own.
        own = client(EVERYWHERE)
        _assert_published(own, remote, remote_servers)
        yield Connection(remote, _homeserver(own))


def _assert_published(own: FederationClient, remote: FederationClient, remote_servers: Iterable[str]) -> None:
    """See that the key is published under our name, or that remote servers have it from there."""
    name = own.server_name
    try:
        published = parse_key_answer(own.get(name, f"{KEY}/server").body, name)
    except FederationError as error:
        problems = [str(error)]
    else:
        assert_published(own.key, published, time.time())
        return
    refusals = []
    for server in islice(remote_servers, MAX_NOTARIES):
        try:
            assert_published(own.key, _seen_by(remote, server), time.time())
            return
        except SigningKeyError as error:
            # Anybody can make up keys, and sign them with these: one liar must not keep us from all others.
            refusals.append(SigningKeyError(f"{error} (as {server} says)"))
        except FederationError as error:
            problems.append(f"{server}: {error}")
    if refusals:
        raise refusals[0]
    raise SigningKeyError(
        f"signing key {own.key.key_id} can't be verified: serve /_matrix/key/v2/server under {name}, a static file is"
        f" enough, and retry. Now nothing answers with its keys: {'; '.join(problems)}"
    )


def _seen_by(remote: FederationClient, server: str) -> KeyAnswer:
    """The newest of our keys that a remote server has seen: what it verifies our signatures with."""
    name = remote.server_name
    answers = remote.get(server, f"{KEY}/query/{{}}", name).body.get("server_keys")
    if not isinstance(answers, list) or not all(isinstance(answer, dict) for answer in answers):
        raise AnswerError("server_keys is not a list of objects")
    parsed = [parse_key_answer(answer, name) for answer in answers[:MAX_KEY_ANSWERS]]
    if not parsed:
        raise AnswerError(f"has no keys of {name}")
    return max(parsed, key=lambda answer: answer.valid_until_ts)


def _homeserver(own: FederationClient) -> str:
    """Which homeserver answers under our own name, if there is one."""
    try:
        answer = own.get(own.server_name, f"{FEDERATION}/v1/version")
    except FederationError:
        return ""
    server = answer.body.get("server")
    if answer.status != 200 or not isinstance(server, dict) or server.get("name") == STATIC_SITE:
        return ""
    return printable(f"{server.get('name')} {server.get('version')}"[:MAX_MESSAGE])
