# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verifier: requests that are signed, and requests that are not what was signed."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import closing
from typing import Any, Awaitable, Callable

import pytest
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.errors import UnreachableError
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.published_keys import (
    KeyAnswer,
    parse_key_answer,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._federation.signing import (
    SigningKey,
    read_signing_key,
    sign_request,
)
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup import inbound
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.authorization import AuthorizationError
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.bounded_json import JsonError
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.inbound import Verifier
from ansible_collections.matrixops.synapse.plugins.module_utils._ghost_cleanup.limits import LimitError, OverloadedError
from stubs.rooms import ServerKey

OURS = "gone.example"
FAR, OTHER = ServerKey("far.example"), ServerKey("other.example")
URI = "/_matrix/federation/v1/send/1%2F?x=%20y"
CONTENT = {"pdus": [], "edus": [], "ä": 1.5}
BODY = json.dumps(CONTENT).encode()
CLIENT = "192.0.2.1"


def key_of(server: ServerKey) -> SigningKey:
    return read_signing_key(server.key_file)


def signed(server: ServerKey = FAR, destination: str = OURS, method: str = "PUT", uri: str = URI) -> str:
    return sign_request(server.server_name, key_of(server), destination, method, uri, CONTENT)


def fetch(server: str) -> KeyAnswer:
    if server == FAR.server_name:
        return parse_key_answer(FAR.key_answer(), server)
    raise UnreachableError("no such server")


def run(steps: Callable[[Verifier], Awaitable[None]], now: Callable[[], float] = lambda: 1_700_000_000.0) -> None:
    async def main() -> None:
        with closing(Verifier(OURS, fetch, clock=now)) as verifier:
            await steps(verifier)

    asyncio.run(main())


async def verify(verifier: Verifier, *headers: str, method: str = "PUT", uri: str = URI, body: bytes = BODY) -> Any:
    return await verifier.verify(await verifier.admit(headers, CLIENT), method, uri, body, lambda content: content)


def test_signed_requests() -> None:
    async def steps(verifier: Verifier) -> None:
        assert await verify(verifier, signed()) == CONTENT
        assert await verify(verifier, signed(), body=json.dumps(CONTENT, indent=4).encode()) == CONTENT
        # Older servers sign the destination, but do not send it.
        assert await verify(verifier, signed().replace(f'destination="{OURS}",', "")) == CONTENT
        assert verifier.rejected == 0

    run(steps)


def test_one_valid_signature_of_several_is_enough() -> None:
    invalid = signed().replace("a_stub", "unknown")

    async def steps(verifier: Verifier) -> None:
        assert await verify(verifier, invalid, signed()) == CONTENT
        assert await verify(verifier, signed(), invalid) == CONTENT

    run(steps)


@pytest.mark.parametrize(
    ("header", "request_", "message"),
    [
        (signed(), {"uri": URI.replace("1", "2")}, "signature of far.example is invalid"),
        (signed(), {"uri": URI.replace("%2F", "/")}, "signature of far.example is invalid"),
        (signed(), {"uri": URI.replace("%20", "+")}, "signature of far.example is invalid"),
        (signed(), {"uri": URI.partition("?")[0]}, "signature of far.example is invalid"),
        (signed(), {"method": "POST"}, "signature of far.example is invalid"),
        (signed(), {"body": b'{"pdus": []}'}, "signature of far.example is invalid"),
        (signed(), {"body": BODY.replace(b"1.5", b"1.6")}, "signature of far.example is invalid"),
        (signed(ServerKey(FAR.server_name, "ed25519:other")), {}, "does not publish this key"),
        (signed(OTHER), {}, "cannot get the keys of other.example"),
        (signed(OTHER).replace("other.example", "far.example"), {}, "signature of far.example is invalid"),
        (signed(destination="other.example"), {}, "not the destination"),
        (signed(destination="other.example").replace('destination="other.example",', ""), {}, "signature"),
        ("garbage", {}, "does not begin with X-Matrix"),
    ],
)
def test_requests_that_are_not_what_was_signed(header: str, request_: dict[str, Any], message: str) -> None:
    async def steps(verifier: Verifier) -> None:
        with pytest.raises(AuthorizationError, match=message):
            await verify(verifier, header, **request_)
        assert verifier.rejected == 1

    run(steps)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"a": "\\ud800"}', b'{"a": 1e999}', b'{"a":[' + b"[]," * 200_000])
def test_bodies_that_are_not_json(body: bytes) -> None:
    async def steps(verifier: Verifier) -> None:
        with pytest.raises(JsonError):
            await verify(verifier, signed(), body=body)
        assert verifier.rejected == 1

    run(steps)


def test_errors_of_reading_the_content() -> None:
    def read(_content: Any) -> None:
        raise KeyError("x")

    async def steps(verifier: Verifier) -> None:
        admitted = await verifier.admit([signed()], CLIENT)
        with pytest.raises(KeyError):
            await verifier.verify(admitted, "PUT", URI, BODY, read)

    run(steps)


class Clock:
    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def test_the_rate_of_an_origin() -> None:
    clock = Clock()

    async def steps(verifier: Verifier) -> None:
        for _number in range(int(inbound.BURST)):
            await verifier.admit([signed()], CLIENT)
        with pytest.raises(LimitError) as error:
            await verifier.admit([signed()], CLIENT)
        assert error.value.retry_after == pytest.approx(1 / inbound.RATE)
        # Who only claims to be that server is somewhere else.
        await verifier.admit([signed()], "198.51.100.1")
        clock.now += 1.1 / inbound.RATE
        await verifier.admit([signed()], CLIENT)

    run(steps, clock)


def test_the_rate_of_a_client_with_many_origins() -> None:
    async def steps(verifier: Verifier) -> None:
        errors = []
        for number in range(int(inbound.CLIENT_BURST) + 1):
            with pytest.raises((AuthorizationError, LimitError, OverloadedError)) as error:
                await verifier.admit([signed(ServerKey(f"{number}.example"))], CLIENT)
            errors.append(error.type)
        assert errors[-1] is LimitError and errors[-2] is not LimitError

    run(steps)


def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbound, "MAX_QUEUE", 3)
    may_end = threading.Event()

    async def steps(verifier: Verifier) -> None:
        admitted = await verifier.admit([signed()], CLIENT)
        waiting = [
            asyncio.ensure_future(verifier.verify(admitted, "PUT", URI, BODY, lambda _content: may_end.wait(60)))
            for _number in range(3)
        ]
        await asyncio.sleep(0)
        try:
            with pytest.raises(OverloadedError):
                await verify(verifier, signed())
        finally:
            may_end.set()
        assert await asyncio.gather(*waiting) == [True] * 3
        assert await verify(verifier, signed()) == CONTENT

    run(steps)
