"""What every contender brings: a server, and a peer that the same roles drive.

A contender is one module with two classes. `Server` runs in the harness, `Peer` in a worker.
Bodies are the same 256-byte dict for all, encoded at the sender and decoded at the receiver.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from shardctl.bench.measure import body_of, now_ns

BODY: Final = body_of()
encode: Final = msgspec.msgpack.Encoder().encode
decode: Final = msgspec.msgpack.Decoder().decode
ARRIVED_MAX_S: Final = 25.0
ENCODED: Final = encode(BODY)


class Server(Protocol):
    """The process in the middle. ``pid`` is what costs are read from."""

    pid: int

    def start(self) -> str:
        """Starts it and returns its address once it serves."""

    def stop(self) -> None:
        """Ends it by its pid."""


class Peer(Protocol):
    """One connection. ``name`` is the subject that it receives and serves at."""

    async def open(self, address: str, name: str) -> None:
        """Connects."""

    async def subscribe(self, inbox: Inbox) -> None:
        """Counts what arrives in the inbox; returns once the server knows."""

    async def received(self, inbox: Inbox) -> None:
        """Until the inbox has all that it expects."""

    async def publish(self, targets: Sequence[str], count: int) -> None:
        """``count`` messages, to the targets in turn, as fast as it can."""

    async def serve(self) -> None:
        """Answers every request with a body of the same size."""

    async def request(self, target: str) -> None:
        """One request and its decoded reply."""

    async def close(self) -> None:
        """Disconnects."""


class ReadsInBackground:
    """A peer whose library calls its handler: nothing to do but wait."""

    async def received(self, inbox: Inbox) -> None:
        try:
            async with asyncio.timeout(ARRIVED_MAX_S):
                await inbox.done.wait()
        except TimeoutError:
            text = f"{inbox.count} of {inbox.expected} messages came in {ARRIVED_MAX_S:g} s"
            raise AssertionError(text) from None


class Inbox:
    """Counts decoded messages up to ``expected``."""

    def __init__(self, expected: int) -> None:
        self.count = 0
        self.expected = expected
        self.last_ns = 0
        self.done = asyncio.Event()

    def take(self, body: Any) -> None:
        """One more."""
        self.count += 1
        if self.count == self.expected:
            assert body == BODY
            self.last_ns = now_ns()
            self.done.set()
