# Copyright (c) 2026 the matrixops.synapse contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A proxy on loopback that passes on late what a server sends: replication lag, if the server is a Redis."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing, suppress
from threading import Thread

_CHUNK = 65536
_PAUSE = 0.02
"""Seconds between two checks whether something is late enough: I(seconds) may change at any time."""


class DelayingProxy:
    """Forwards TCP connections to a port. What clients send is passed on at once."""

    def __init__(self, port: int, upstream: int) -> None:
        self.seconds = 0.0
        """The delay. May be set at any time."""
        self._port = port
        self._upstream = upstream
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None

    def start(self) -> None:
        """Listen, unless it does already."""
        if self._loop is not None:
            return
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._handle, "127.0.0.1", self._port))
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close all connections."""
        if self._loop is None or self._thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = None

    async def _close(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer), suppress(OSError, asyncio.CancelledError):
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
            with closing(upstream_writer):
                directions = {
                    asyncio.create_task(self._pass_on(reader, upstream_writer)),
                    asyncio.create_task(self._pass_on_late(upstream_reader, writer)),
                }
                try:
                    await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for direction in directions:
                        direction.cancel()
                    await asyncio.gather(*directions, return_exceptions=True)

    @staticmethod
    async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()

    async def _pass_on_late(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def send() -> None:
            while True:
                received, chunk = await late.get()
                while time.monotonic() < received + self.seconds:
                    await asyncio.sleep(_PAUSE)
                writer.write(chunk)
                await writer.drain()

        sending = asyncio.create_task(send())
        try:
            while chunk := await reader.read(_CHUNK):
                late.put_nowait((time.monotonic(), chunk))
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
