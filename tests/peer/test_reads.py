"""The socket's descriptor tells of changes only: what a turn leaves unread is read in the next."""

from __future__ import annotations

import zmq


class Full:
    """A socket with so many frames, as zmq.backend.Socket has them."""

    def __init__(self, frames: int) -> None:
        self.parts = 2 * frames

    def get(self, option: int) -> int:
        if option == zmq.EVENTS:
            return int(zmq.POLLIN) if self.parts else 0
        return self.parts % 2

    def recv(self, flags: int) -> bytes:
        if not self.parts:
            raise zmq.Again
        self.parts -= 1
        return b""
