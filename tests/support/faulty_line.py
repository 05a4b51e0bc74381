"""A TCP line between one client and a server whose faults a test sets, also while bytes are on their way.

line.delay_s, line.bytes_per_s     everything takes longer
line.cut_after(count)              both ends are cut off once so many more bytes have gone up
line.cut_answer(size)             both ends are cut off instead of the next so many bytes that come down at once
line.stall(), line.flow()          nothing moves, and both ends stay connected
line.reset()                       both ends are reset now (RST)
line.repeat()                      another connection sends again what the last one sent
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

HOST = "127.0.0.1"
PIECE = 16384
_RESET_WHEN_CLOSED = struct.pack("ii", 1, 0)


@dataclass(eq=False)
class _Connection:
    """One client and its way to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    sent: bytearray = field(default_factory=bytearray)
    """The first bytes of the client."""

    def abort(self) -> None:
        for writer in (self.client, self.server):
            ends = writer.get_extra_info("socket")
            if ends is not None and ends.fileno() >= 0:
                ends.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_WHEN_CLOSED)
            writer.transport.abort()


class FaultyLine:
    """Relay connections to a port; sound until told otherwise."""

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        self.bytes_per_s = 0
        """0: as fast as it goes."""
        self.connections = 0
        self.bytes_up = 0
        """From the client to the server, over all connections."""
        self.cuts = 0
        self.repeated = 0
        """Connections that sent again what another had sent, and were ended by the server."""
        self._port = port
        self._counts: list[int] = []
        self._answer_size = 0
        self._flows = asyncio.Event()
        self._flows.set()
        self._open: list[_Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[int]:
        """Yield the port to dial."""
        server = await asyncio.start_server(self._relay, HOST, 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            self.reset()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def heal(self) -> None:
        """Be sound again."""
        self.delay_s, self.bytes_per_s, self._counts, self._answer_size = 0.0, 0, [], 0
        self._flows.set()

    def cut_after(self, *counts: int) -> None:
        """Cut what is connected when so many further bytes have gone up; then count for the next cut."""
        self._counts = list(counts)

    def cut_answer(self, size: int) -> None:
        """Cut what is connected instead of passing on the next piece of at least this size that comes down."""
        self._answer_size = size

    def stall(self) -> None:
        """Move nothing on."""
        self._flows.clear()

    def flow(self) -> None:
        """Go on after a stall."""
        self._flows.set()

    def reset(self) -> None:
        """Reset all connections."""
        self.cuts += bool(self._open)
        for connection in self._open:
            connection.abort()
        self._open.clear()

    async def repeat(self) -> None:
        """Send the newest connection's first bytes once more, and wait until the server hangs up."""
        reader, writer = await asyncio.open_connection(HOST, self._port)
        with suppress(OSError):
            writer.write(bytes(self._open[-1].sent))
            # Half of a connection: the server has all that the client had said, and no more comes.
            writer.write_eof()
            while await reader.read(PIECE):
                pass
        self.repeated += 1
        writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            up_reader, up_writer = await asyncio.open_connection(HOST, self._port)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(writer, up_writer)
        self._open.append(connection)
        for source, target, is_up in ((reader, up_writer, True), (up_reader, writer, False)):
            task = asyncio.create_task(self._pump(source, target, connection, is_up=is_up))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, connection: _Connection, *, is_up: bool
    ) -> None:
        with suppress(OSError):
            while data := await source.read(PIECE):
                await self._hold_up(len(data))
                if self._is_cut_by(data, connection) if is_up else self._is_cut_answer(data):
                    break
                target.write(data)
                await target.drain()
        connection.abort()
        if connection in self._open:
            self._open.remove(connection)

    async def _hold_up(self, count: int) -> None:
        await self._flows.wait()
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.bytes_per_s:
            await asyncio.sleep(count / self.bytes_per_s)

    def _is_cut_by(self, data: bytes, connection: _Connection) -> bool:
        if len(connection.sent) < PIECE:
            connection.sent += data
        if self._counts:
            self._counts[0] -= len(data)
            if self._counts[0] < 0:
                del self._counts[0]
                self.cuts += 1
                return True
        self.bytes_up += len(data)
        return False

    def _is_cut_answer(self, data: bytes) -> bool:
        is_cut = 0 < self._answer_size <= len(data)
        if is_cut:
            self._answer_size = 0
            self.cuts += 1
        return is_cut
