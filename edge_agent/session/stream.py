"""What comes over a stream of instructions, message by message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from grpc import aio

from ravan.codec.instructions import watch_from_wire
from ravan.errors import ProtocolError
from ravan.manifest.instructions import Greeting, Numbered
from ravan.wire.v1 import site_service_pb2 as wire


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An instruction in the stream that has not the form of one; to ask for it again would not help."""

    sequence: int
    error: ProtocolError


async def until_moved(
    call: aio.UnaryStreamCall[Any, wire.WatchResponse], moved: asyncio.Event
) -> AsyncGenerator[wire.WatchResponse, None]:
    """Yield what the call brings until it ends, or until the agent has moved to another channel."""
    leaving = asyncio.create_task(moved.wait())
    reading: asyncio.Future[Any] | None = None
    try:
        while True:
            reading = asyncio.ensure_future(call.read())
            await asyncio.wait({reading, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done() or (message := reading.result()) is aio.EOF:
                return
            yield message
    finally:
        open_ends = [each for each in (leaving, reading) if each is not None]
        for each in open_ends:
            each.cancel()
        await asyncio.gather(*open_ends, return_exceptions=True)


def read_message(message: wire.WatchResponse) -> Greeting | Numbered | Unreadable:
    """Return what a message says."""
    try:
        return watch_from_wire(message)
    except ProtocolError as error:
        return Unreadable(message.sequence, error)
