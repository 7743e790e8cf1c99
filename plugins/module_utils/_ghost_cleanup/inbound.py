# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Verifies requests of remote servers. Nothing that they say is believed before.

The order is that of the costs: form of the header, rate limit, keys of the origin, body, signature.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, NamedTuple, Sequence, TypeVar

from .._federation.connect import Settings
from .._federation.signing import canonical_json, require_signedjson
from .authorization import AuthorizationError, Claim, parse_authorization
from .bounded_json import JsonDict, JsonError, parse_object
from .limits import OverloadedError, TokenBuckets
from .remote_keys import FetchKeys, KeysUnavailableError, RemoteKeys, key_fetcher

try:
    from nacl.exceptions import CryptoError
    from signedjson.key import decode_verify_key_bytes
    from unpaddedbase64 import decode_base64
except ImportError:
    pass  # require_signedjson() says so

RATE, BURST = 10.0, 50.0
"""Requests in a second from one origin at one client, and at once after a time without."""
CLIENT_RATE, CLIENT_BURST = 100.0, 300.0
"""Requests in a second from one client with any origins, and at once after a time without."""
MAX_BUCKETS = 10_000
WORKERS = 2
"""Threads that verify signatures. They mostly hold Python's global lock, so more would not help."""
MAX_QUEUE = 64
"""Maximum number of requests that are being verified or wait for that."""

Result = TypeVar("Result")


class Admitted(NamedTuple):
    """A request that may send its body.

    :ivar keys: keys of the origin in unpadded base64 by key ID. For each there is a signature.
    """

    claim: Claim
    keys: dict[str, str]


class Verifier:
    """Used in the thread of one event loop.

    :ivar rejected: how many requests were not verified, for any reason.
    """

    def __init__(self, server_name: str, fetch_keys: FetchKeys, *, clock: Callable[[], float] = time.time) -> None:
        """
        :param server_name: the name of the local server.
        :param fetch_keys: see C(key_fetcher()).
        :param clock: returns the time in seconds since 1970.
        :raises MissingRequirementError: if signedjson is not installed.
        """
        require_signedjson()
        self.server_name = server_name
        self.rejected = 0
        self._keys = RemoteKeys(fetch_keys, clock)
        self._origins = TokenBuckets(RATE, BURST, MAX_BUCKETS, clock)
        self._clients = TokenBuckets(CLIENT_RATE, CLIENT_BURST, MAX_BUCKETS, clock)
        self._executor = ThreadPoolExecutor(WORKERS, thread_name_prefix="verify")
        self._queued = 0

    @classmethod
    def open(cls, server_name: str, settings: Settings) -> Verifier:
        """Return a verifier that fetches keys by discovery.

        :raises MissingRequirementError: if a library is not installed.
        :raises ValueError: if a setting is invalid.
        """
        return cls(server_name, key_fetcher(settings))

    def close(self) -> None:
        """Start nothing more. What runs ends by itself, within some seconds."""
        self._keys.close()
        self._executor.shutdown(wait=False)

    async def admit(self, headers: Sequence[str], client: str | None) -> Admitted:
        """Decide by the headers whether to read the body of a request.

        :param headers: all Authorization headers.
        :param client: who has sent the request; C(None) if a proxy does not say that.
        :raises AuthorizationError: if the request cannot be verified.
        :raises LimitError: if too many requests come from there.
        :raises OverloadedError: if there is no room to verify it now.
        """
        try:
            claim = parse_authorization(headers, self.server_name)
            if client is not None:
                self._clients.take(client)
            # With the client: who only claims to be of a server shall not use up what that one may send.
            self._origins.take((claim.origin, client))
            return Admitted(claim, await self._keys.get(claim.origin, claim.signatures, client))
        except KeysUnavailableError as error:
            self.rejected += 1
            raise AuthorizationError(str(error)) from None
        except Exception:
            self.rejected += 1
            raise

    async def verify(
        self, admitted: Admitted, method: str, uri: str, body: bytes, read: Callable[[JsonDict], Result]
    ) -> Result:
        """Verify a request, and return what I(read) makes of its content in a thread.

        :param uri: path and query exactly as received.
        :raises AuthorizationError: if no signature is valid.
        :raises JsonError: if the body is not a JSON object, or exceeds a bound.
        :raises OverloadedError: if too many requests wait.
        """
        try:
            if self._queued >= MAX_QUEUE:
                raise OverloadedError
            self._queued += 1
            try:
                return await asyncio.get_event_loop().run_in_executor(
                    self._executor, self._verified, admitted, method, uri, body, read
                )
            finally:
                self._queued -= 1
        except Exception:
            self.rejected += 1
            raise

    def _verified(
        self, admitted: Admitted, method: str, uri: str, body: bytes, read: Callable[[JsonDict], Result]
    ) -> Result:
        content = parse_object(body)
        signed = {
            "method": method,
            "uri": uri,
            "origin": admitted.claim.origin,
            "destination": self.server_name,
            "content": content,
        }
        try:
            message = canonical_json(signed)
        except (ValueError, RecursionError):
            raise JsonError("the body cannot be encoded as canonical JSON") from None
        if not any(
            _is_valid(message, admitted.claim.signatures[key_id], key_id, key) for key_id, key in admitted.keys.items()
        ):
            raise AuthorizationError(f"the signature of {admitted.claim.origin} is invalid")
        return read(content)


def _is_valid(message: bytes, signature: str, key_id: str, key: str) -> bool:
    try:
        decode_verify_key_bytes(key_id, decode_base64(key)).verify(message, decode_base64(signature))
    except (CryptoError, ValueError):
        return False
    return True
