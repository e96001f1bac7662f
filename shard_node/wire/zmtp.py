"""ZMTP 3.0 with the NULL mechanism, as byte strings (rfc.zeromq.org/spec/23). Pure.

libzmq speaks it from a thread of its own, so that every hop costs two more wake-ups than the
socket's own; whoever is on the fast path speaks it here, on the socket that its loop waits
for. Both kinds of peers understand each other.
"""

from __future__ import annotations

import struct
from typing import Final

MORE: Final = 1
LONG: Final = 2
COMMAND: Final = 4
GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
SIGNATURE_BYTES: Final = 10
"""Before any other byte they tell a ZMTP peer from anything else."""
PARTS_KEPT_MAX: Final = 3
"""A frame of ours has two parts; of any other message no more than this is kept."""
COMMAND_MAX_BYTES: Final = 4096
IDENTITY_MAX_BYTES: Final = 255
_SHORT_MAX: Final = 255
_TRAFFIC_MAX: Final = MORE | LONG
_FIRST: Final = tuple(bytes((MORE, size)) for size in range(_SHORT_MAX + 1))
_LAST: Final = tuple(bytes((0, size)) for size in range(_SHORT_MAX + 1))
_MAJOR_OLDEST: Final = 3
_READY: Final = b"\x05READY"
_PING: Final = b"\x04PING"
_TTL_BYTES: Final = 2
_HEAD_SHORT: Final = 2
_HEAD_LONG: Final = 9
_size: Final = struct.Struct(">Q")
_length: Final = struct.Struct(">I")

Parts = list[bytes]


class ZmtpError(Exception):
    """The other side breaks the protocol: the connection ends."""


def pack(head: bytes, body: bytes) -> bytes:
    """A message of two parts."""
    count, size = len(head), len(body)
    first = _FIRST[count] if count <= _SHORT_MAX else b"\x03" + _size.pack(count)
    second = _LAST[size] if size <= _SHORT_MAX else b"\x02" + _size.pack(size)
    return b"%b%b%b%b" % (first, head, second, body)


def ready(socket_type: bytes, identity: bytes = b"") -> bytes:
    """The command that ends the handshake. An empty ``identity`` asks the peer for one."""
    body = _READY + _property(b"Socket-Type", socket_type) + _property(b"Identity", identity)
    return _command(body)


def _property(name: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + _length.pack(len(value)) + value


def _command(body: bytes) -> bytes:
    size = len(body)
    if size <= _SHORT_MAX:
        return bytes((COMMAND, size)) + body
    return bytes((COMMAND | LONG,)) + _size.pack(size) + body


class Reader:
    """What one connection brings, from its first byte on.

    ``peer_types`` are the socket types that may be at the other end, ``part_max_bytes`` is
    the limit on one part. ``identity`` is None until the handshake is over; ``replies`` is
    what has to be sent because of what came.
    """

    __slots__ = ("_greeted", "_held", "_needed", "_part_max", "_parts", "_types", "identity",
                 "replies")  # fmt: skip

    def __init__(self, peer_types: frozenset[bytes], part_max_bytes: int) -> None:
        self._types, self._part_max = peer_types, part_max_bytes
        self.identity: bytes | None = None
        self.replies: list[bytes] = []
        self._greeted = False
        self._held = bytearray()
        self._needed = SIGNATURE_BYTES
        self._parts: Parts = []

    def feed(self, data: bytes) -> list[Parts]:
        """The messages that are whole now, each a list of at most PARTS_KEPT_MAX parts.

        Raises ZmtpError.
        """
        if self._held or not self._greeted:
            data = self._begun(data)
        messages: list[Parts] = []
        parts, end, at, most = self._parts, len(data), 0, self._part_max
        needed = _HEAD_SHORT
        while end - at >= _HEAD_SHORT:
            flags = data[at]
            if flags & LONG:
                first = at + _HEAD_LONG
                if first > end:
                    needed = _HEAD_LONG
                    break
                size = _size.unpack_from(data, at + 1)[0]
            else:
                first, size = at + _HEAD_SHORT, data[at + 1]
            after = first + size
            if size > most:
                raise ZmtpError(f"a part of {size} bytes")
            if after > end:
                needed = after - at
                break
            if flags > _TRAFFIC_MAX or self.identity is None:
                self._other(flags, data[first:after])
            else:
                if len(parts) < PARTS_KEPT_MAX:
                    parts.append(data[first:after])
                if not flags & MORE:
                    messages.append(parts)
                    parts = []
            at = after
        self._parts = parts
        if at < end:
            self._held += data[at:] if at else data
            self._needed = needed
        return messages

    def _begun(self, data: bytes) -> bytes:
        """What goes on from before: empty where it is not whole yet."""
        if self._held:
            self._held += data
            if len(self._held) < self._needed:
                return b""
            data = bytes(self._held)
            self._held.clear()
        return data if self._greeted else self._greeting(data)

    def _greeting(self, data: bytes) -> bytes:
        """What follows the greeting; empty where it is not whole yet."""
        if len(data) < len(GREETING):
            if data[:1] != b"\xff" or (len(data) >= SIGNATURE_BYTES and not data[9] & 1):
                raise ZmtpError("no ZMTP greeting")
            self._held += data
            self._needed = len(GREETING)
            return b""
        if data[0] != GREETING[0] or not data[9] & 1 or data[10] < _MAJOR_OLDEST:
            raise ZmtpError("no greeting of ZMTP 3")
        if data[12:32] != GREETING[12:32]:
            raise ZmtpError("another mechanism than NULL")
        self._greeted = True
        return data[len(GREETING) :]

    def _other(self, flags: int, body: bytes) -> None:
        """A command, or what is out of turn."""
        if not flags & COMMAND or flags & MORE or flags > (COMMAND | LONG):
            raise ZmtpError(f"a frame with the flags {flags}")
        if len(body) > COMMAND_MAX_BYTES:
            raise ZmtpError(f"a command of {len(body)} bytes")
        if self.identity is None:
            self._handshake(body)
        elif body.startswith(_PING):
            context = body[len(_PING) + _TTL_BYTES :][:16]
            self.replies.append(_command(b"\x04PONG" + context))

    def _handshake(self, body: bytes) -> None:
        if not body.startswith(_READY):
            raise ZmtpError("no READY")
        found: dict[bytes, bytes] = {}
        at = len(_READY)
        while at < len(body):
            name_end = at + 1 + body[at]
            if name_end + _length.size > len(body):
                raise ZmtpError("a property that is not whole")
            value_end = name_end + _length.size + _length.unpack_from(body, name_end)[0]
            if value_end > len(body):
                raise ZmtpError("a property that is not whole")
            found[body[at + 1 : name_end].lower()] = body[name_end + _length.size : value_end]
            at = value_end
        if found.get(b"socket-type") not in self._types:
            raise ZmtpError("a socket of another type")
        identity = found.get(b"identity", b"")
        if len(identity) > IDENTITY_MAX_BYTES:
            raise ZmtpError("a routing id that is too long")
        self.identity = identity
