# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Open a client whose signatures remote servers accept: with the published key of the homeserver."""

from __future__ import annotations

import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Iterable, Iterator, NamedTuple

from .._text import printable
from .addresses import AddressFilter
from .client import FEDERATION, KEY, REQUEST_TIMEOUT, FederationClient
from .discovery import Discovery, Resolver, SystemResolver
from .errors import MAX_MESSAGE, FederationError, SigningKeyError
from .names import ServerName
from .notaries import MAX_NOTARIES, assert_not_known_otherwise, key_answers
from .pacing import Limiters, Pacing
from .published_keys import KeyAnswer, assert_published, parse_key_answer
from .signing import SigningKey, read_signing_key
from .static_answers import STATIC_SITE
from .transport import Transport

EVERYWHERE = ("0.0.0.0/0", "::/0")


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
    require_key_answer: bool = False,
    resolver: Resolver | None = None,
) -> Iterator[Connection]:
    """Open a client for the federation API, after a check that the key is the published one.

    :param key_text: content of a signing key file of Synapse.
    :param remote_servers: servers to ask for the keys if nothing answers under I(server_name).
    :param require_key_answer: fail if nothing answers under I(server_name), and ask I(remote_servers) whether they have
        stored another key under the same key ID.
    :raises SigningKeyError: the key is not usable, or not the published one.
    """
    key = read_signing_key(key_text)
    servers = list(islice(remote_servers, MAX_NOTARIES))
    with open_client(server_name, key, settings, resolver=resolver) as remote:
        # The name of the homeserver may resolve to this host, or into a private network.
        with open_client(server_name, key, replace(settings, ip_allowlist=EVERYWHERE), resolver=resolver) as own:
            published = _published(own)
            if isinstance(published, KeyAnswer):
                assert_published(key, published, time.time())
                if require_key_answer:
                    assert_not_known_otherwise(remote, servers)
            elif require_key_answer:
                raise SigningKeyError(
                    f"require_key_answer: serve /_matrix/key/v2/server with {key.key_id} under {server_name} (a static"
                    f" file is enough) and retry. {published}"
                )
            else:
                published = _seen_by_one(remote, servers, str(published))
            homeserver = _homeserver(own)
        yield Connection(remote, homeserver, published)


@contextmanager
def open_client(
    server_name: str, key: SigningKey, settings: Settings, *, resolver: Resolver | None = None
) -> Iterator[FederationClient]:
    """Open a client for the federation API, without a check of the key. For this, see C(connect).

    :raises InvalidNameError: if I(server_name) is not a server name.
    """
    ServerName.parse(server_name)
    with closing(Transport(ca_path=settings.ca_path, proxy=settings.proxy)) as transport:
        discovery = Discovery(transport, resolver or SystemResolver(), AddressFilter(settings.ip_allowlist))
        limiters = Limiters(settings.pacing)
        yield FederationClient(server_name, key, transport, discovery, limiters, timeout=settings.timeout)


def _published(own: FederationClient) -> KeyAnswer | FederationError:
    """Return the keys that are published under the server name, or why there is no valid answer."""
    try:
        return parse_key_answer(own.get(own.server_name, f"{KEY}/server").body, own.server_name)
    except FederationError as error:
        return error


def _seen_by_one(remote: FederationClient, servers: Iterable[str], problem: str) -> KeyAnswer:
    """Assert that a remote server has stored the key.

    :param problem: why there is no answer under the server name.
    :returns: the answer with the key.
    :raises SigningKeyError: if not.
    """
    problems, refusals = [problem], []
    for server in servers:
        try:
            seen = key_answers(remote, server)[0]
            assert_published(remote.key, seen, time.time())
            return seen
        except SigningKeyError as error:
            # Any server can invent keys and sign them. One such server must not prevent the check at others.
            refusals.append(SigningKeyError(f"according to {server}, {error}"))
        except FederationError as error:
            problems.append(f"{server}: {error}")
    if refusals:
        raise refusals[0]
    raise SigningKeyError(
        f"signing key {remote.key.key_id} can't be verified: serve /_matrix/key/v2/server under {remote.server_name} (a"
        f" static file is enough) and retry. No server returned its keys: {'; '.join(problems)}"
    )


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
