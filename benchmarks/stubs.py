# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-ins for very large servers that the tests have, as processes of their own."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from integration import test_federation_scale, test_memory


@contextmanager
def accounts_stub(accounts: int) -> Iterator[str]:
    """The base URL of a server with so many accounts, all of them open."""
    with _process(_serve_accounts, accounts) as base_url:
        yield base_url


@contextmanager
def destinations_stub(destinations: int) -> Iterator[str]:
    """The base URL of a server with so many destinations, of 20 rooms each; ``/stub/N`` says how many are behind."""
    with _process(_serve_destinations, destinations) as base_url:
        yield base_url


def _serve_accounts(pipe: Any, accounts: int) -> None:
    test_memory.ACCOUNTS = accounts

    class Stub(test_memory.Stub):
        def _page(self, start: int) -> dict[str, Any]:
            return {**super()._page(start), "total": accounts}

    async def serve() -> None:
        stub = Stub(accounts)
        start = asyncio.get_running_loop().create_server(lambda: test_memory.Connection(stub), "127.0.0.1")
        async with await start as server:
            pipe.send(server.sockets[0].getsockname()[1])
            await server.serve_forever()

    asyncio.run(serve())


def _serve_destinations(pipe: Any, destinations: int) -> None:
    test_federation_scale.DESTINATIONS = destinations
    test_federation_scale.serve(pipe)


@contextmanager
def _process(serve: Callable[[Any, int], None], size: int) -> Iterator[str]:
    context = multiprocessing.get_context("fork")
    ours, its = context.Pipe()
    process = context.Process(target=serve, args=(its, size), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()
