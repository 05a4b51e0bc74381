"""A TCP balancer in front of several coordinator processes, as simple as those that houses have."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Self

_AT_ONCE = 1 << 16


class Balancer:
    """Take connections on a port of the loopback address and pass them to whichever target answers, in turns."""

    def __init__(self, targets: Sequence[int]) -> None:
        """Pass to these ports."""
        self._targets = targets
        self._turns = count()
        self._server: asyncio.Server | None = None
        self._lines: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for line in self._lines:
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)

    @property
    def port(self) -> int:
        """Return the port."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._lines.add(task)
        try:
            with suppress(OSError):
                onward = await self._dial()
                await _join((reader, writer), onward)
        finally:
            writer.close()
            self._lines.discard(task)

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Reach a target; raise OSError when none answers."""
        first = next(self._turns)
        for number in range(len(self._targets)):
            target = self._targets[(first + number) % len(self._targets)]
            with suppress(ConnectionError):
                return await asyncio.open_connection("127.0.0.1", target)
        raise ConnectionRefusedError


Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _join(one: Line, other: Line) -> None:
    """Carry bytes both ways until either side ends."""
    ways = [asyncio.create_task(_carry(one[0], other[1])), asyncio.create_task(_carry(other[0], one[1]))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        other[1].close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_AT_ONCE):
        writer.write(data)
        await writer.drain()
