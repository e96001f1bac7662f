"""The node's end of the wire: a DEALER as ZMTP's peers know it, on the bot's own loop.

A Unix socket that the loop waits for, as for any other; see ``wire.zmtp`` for why it is not
libzmq's. It connects again by itself and keeps nothing for a broker that is not there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import select
import socket
from collections.abc import Callable
from typing import Final

from shard_node.wire.limits import FRAME_MAX_BYTES
from shard_node.wire.zmtp import GREETING, Parts, Reader, ZmtpError, pack, ready

SCHEME: Final = "ipc://"
PATH_MAX_BYTES: Final = 107
RECEIVE_BYTES: Final = 256 << 10
"""Read in one turn of the loop: more than the system keeps for a socket."""
RECONNECT_MIN_S: Final = 0.05
RECONNECT_MAX_S: Final = 0.5
HANDSHAKE_MAX_S: Final = 30.0
LINGER_S: Final = 0.5
_PEER_TYPES: Final = frozenset({b"ROUTER"})


class Dealer:
    """One connection to the broker at a time. All belongs to the loop.

    ``on_frames`` gets what came, each message a list of its parts; ``on_room`` is called when
    a connection stands, and when frames are taken again after ``send`` said no; ``on_lost``
    when the broker's end closed.
    """

    def __init__(
        self,
        endpoint: str,
        identity: bytes,
        *,
        on_frames: Callable[[list[Parts]], None],
        on_room: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._path = endpoint.removeprefix(SCHEME)
        if self._path == endpoint or len(os.fsencode(self._path)) > PATH_MAX_BYTES:
            msg = f"{endpoint!r}: an endpoint is {SCHEME} and a path of {PATH_MAX_BYTES} bytes"
            raise ValueError(msg)
        self._hello = GREETING + ready(b"DEALER", identity)
        self._on_frames, self._on_room, self._on_lost = on_frames, on_room, on_lost
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket: socket.socket | None = None
        self._descriptor = -1
        self._reader = Reader(_PEER_TYPES, FRAME_MAX_BYTES)
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._look = select.poll()
        self._unsent = b""
        self._up = False
        self._waits = False
        self._tries = 0
        self._timer: asyncio.TimerHandle | None = None

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Connect, now or as soon as somebody listens."""
        self._loop = loop
        self._connect()

    def close(self) -> None:
        """Give the descriptor back; what was begun to be sent goes out within LINGER_S."""
        made, unsent = self._socket, self._unsent
        if made is not None:
            self._forget()
            with contextlib.suppress(OSError):
                if unsent:
                    made.settimeout(LINGER_S)
                    made.sendall(unsent)
            made.close()
        if self._timer is not None:
            self._timer.cancel()
        self._loop = self._timer = None

    def send(self, head: bytes, body: bytes) -> bool:
        """Send a frame. False where it is not taken now: ``on_room`` tells when it may be."""
        if self._waits or not self._up:
            return False
        assert self._socket is not None
        data = pack(head, body)
        try:
            count = self._socket.send(data)
        except BlockingIOError:
            self._await_room()
            return False
        except OSError:  # the reader finds the end behind what has come before it
            return False
        if count != len(data):
            self._unsent = data[count:]
            self._await_room()
        return True

    def readable(self) -> bool:
        """Whether something has come."""
        return bool(self._look.poll(0))

    # --- the connection

    def _connect(self) -> None:
        self._timer = None
        if self._loop is None:
            return
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.setblocking(False)
        try:
            made.connect(self._path)
            made.send(self._hello)
        except OSError:
            made.close()
            self._again()
            return
        self._socket, self._descriptor = made, made.fileno()
        self._reader = Reader(_PEER_TYPES, FRAME_MAX_BYTES)
        self._look.register(self._descriptor, select.POLLIN)
        self._loop.add_reader(self._descriptor, self._readable)
        self._timer = self._loop.call_later(HANDSHAKE_MAX_S, self._lost)

    def _again(self) -> None:
        assert self._loop is not None
        wait_s = min(RECONNECT_MIN_S * 2**self._tries, RECONNECT_MAX_S)
        self._tries += 1
        self._timer = self._loop.call_later(wait_s * random.uniform(0.5, 1.0), self._connect)

    def _lost(self) -> None:
        """The connection broke, or never stood."""
        made, was_up = self._socket, self._up
        if made is None or self._loop is None:
            return
        self._forget()
        made.close()
        if self._timer is not None:
            self._timer.cancel()
        self._again()
        if was_up:
            self._on_lost()

    def _forget(self) -> None:
        assert self._loop is not None
        self._loop.remove_reader(self._descriptor)
        if self._waits:
            self._loop.remove_writer(self._descriptor)
        self._look.unregister(self._descriptor)
        self._socket, self._descriptor, self._unsent = None, -1, b""
        self._up = self._waits = False

    # --- what the loop calls

    def _readable(self) -> None:
        made = self._socket
        if made is None:
            return
        try:
            count = made.recv_into(self._buffer)
            if not count:
                self._lost()
                return
            frames = self._reader.feed(bytes(self._buffer[:count]))
        except BlockingIOError:
            return
        except (OSError, ZmtpError):
            self._lost()
            return
        if not self._up or self._reader.replies:
            self._unusual(made)
        if frames:
            self._on_frames(frames)

    def _unusual(self, made: socket.socket) -> None:
        """The handshake is over, or the peer wants a sign of life."""
        reader = self._reader
        with contextlib.suppress(OSError):
            for reply in reader.replies:
                if not self._waits:
                    made.send(reply)
        reader.replies.clear()
        if not self._up and reader.identity is not None:
            self._up, self._tries = True, 0
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._on_room()

    def _await_room(self) -> None:
        assert self._loop is not None
        self._waits = True
        self._loop.add_writer(self._descriptor, self._writable)

    def _writable(self) -> None:
        made = self._socket
        if made is None or self._loop is None:
            return
        try:
            if self._unsent:
                self._unsent = self._unsent[made.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._unsent = b""
        if not self._unsent:
            self._waits = False
            self._loop.remove_writer(self._descriptor)
            self._on_room()
