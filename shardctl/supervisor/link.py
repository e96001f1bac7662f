"""The line to the broker: JSON lines over a socketpair, bounded in both directions."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any, Final

LINE_MAX_BYTES: Final = 1 << 20
OUT_MAX_BYTES: Final = 4 << 20
_READ_BYTES: Final = 1 << 16


class LinkBroken(Exception):
    """The broker does not read what it is sent, or sends what is no line."""


class Link:
    """Our end of the socketpair; the broker's end is given to its process."""

    def __init__(self) -> None:
        self._socket, self.peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._in = bytearray()
        self._out = bytearray()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def wants_write(self) -> bool:
        """Whether lines wait until the broker reads."""
        return bool(self._out)

    def send(self, line: Mapping[str, Any]) -> None:
        """Queue one line and write what fits. Raises LinkBroken over the limit."""
        self._out += json.dumps(line, separators=(",", ":")).encode() + b"\n"
        if len(self._out) > OUT_MAX_BYTES:
            raise LinkBroken(f"it left {len(self._out)} bytes unread")
        self.flush()

    def flush(self) -> None:
        """Write as much as the socket takes now."""
        try:
            while self._out:
                del self._out[: self._socket.send(self._out)]
        except BlockingIOError:
            return
        except OSError:
            self._out.clear()  # the broker is gone; its exit is reported elsewhere

    def receive(self) -> tuple[list[Mapping[str, Any]], bool]:
        """The whole lines that have come, and whether the broker closed its end.

        Raises LinkBroken for a line that is no JSON object or exceeds LINE_MAX_BYTES.
        """
        closed = self._fill()
        *lines, rest = bytes(self._in).split(b"\n")
        self._in[:] = rest
        if len(rest) > LINE_MAX_BYTES:
            raise LinkBroken(f"it wrote a line of over {LINE_MAX_BYTES} bytes")
        return [_parse(line) for line in lines if line], closed

    def _fill(self) -> bool:
        """Read what is there, at most one line's limit a turn."""
        for _ in range(LINE_MAX_BYTES // _READ_BYTES):
            try:
                data = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                return False
            except OSError:
                return True
            if not data:
                return True
            self._in += data
        return False

    def close(self) -> None:
        """Close both ends that this process holds."""
        self._socket.close()
        self.peer.close()


def _parse(line: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise LinkBroken(f"it wrote {line[:80]!r}, which is no JSON object")
    return value
