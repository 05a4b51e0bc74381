"""A small HTTP proxy that knows CONNECT alone, and finds every host on loopback."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

HOST = "127.0.0.1"


class ConnectProxy:
    """Let through what names this user and password; nobody needs them when they are empty."""

    def __init__(self, user: str = "", password: str = "", *, refuses_with: int = 0) -> None:
        self.refuses_with = refuses_with
        self.asked: list[str] = []
        """`host:port` of each CONNECT."""
        self.unproven = 0
        """Requests without user and password, or with others."""
        self.lines = 0
        """Connections that were let through."""
        self._proof = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}" if user else ""
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[int]:
        """Yield the port."""
        server = await asyncio.start_server(self._take, HOST, 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._answer(reader, writer)
        self._tasks.discard(task)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        method, target, version = request.split()
        assert (method, version) == ("CONNECT", "HTTP/1.1")
        self.asked.append(target)
        proofs = [value.strip() for name, _, value in (line.partition(":") for line in headers) if "Auth" in name]
        if self._proof and proofs != [self._proof]:
            self.unproven += 1
            writer.write(b'HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic realm="test"\r\n\r\n')
        elif self.refuses_with:
            writer.write(f"HTTP/1.1 {self.refuses_with} No\r\n\r\n".encode())
        else:
            up_reader, up_writer = await asyncio.open_connection(HOST, int(target.rpartition(":")[2]))
            self.lines += 1
            writer.write(b"HTTP/1.1 200 Here you are\r\n\r\n")
            await asyncio.gather(_pass_on(reader, up_writer), _pass_on(up_reader, writer))
        await writer.drain()


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
    finally:
        target.close()
