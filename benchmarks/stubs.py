# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stub of a very large server that the tests have, as a process of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from integration import test_memory


@contextmanager
def accounts_stub(accounts: int) -> Iterator[str]:
    """The base URL of a server with so many accounts, all of them active."""
    context = multiprocessing.get_context("fork")
    ours, its = context.Pipe()
    process = context.Process(target=_serve_accounts, args=(its, accounts), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


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
