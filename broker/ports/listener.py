"""The broker's Unix socket: a ROUTER as ZMTP's peers know it, on the loop's own thread.

libzmq would read and write in a thread of its own, and wake it and be woken by it for every
frame. Here a frame costs the system calls that it needs: one wait, one receive, one send.
Sends never block; what a peer does not take stays with whoever sends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from broker.errors import EndpointError
from broker.ports.eagerness import SPIN_S, Eagerness
from shard_node.wire.limits import FRAME_MAX_BYTES
from shard_node.wire.zmtp import GREETING, Reader, ZmtpError, pack, ready

BACKLOG: Final = 1024
ACCEPTS_PER_TURN_MAX: Final = 64
CONNECTIONS_PER_TURN_MAX: Final = 64
"""Read between two sends: an urgent frame waits no longer than these take."""
RECEIVE_BYTES: Final = 256 << 10
"""Read from one connection in its turn: more than the system keeps for it."""
HANDSHAKE_MAX_S: Final = 30.0
DEAF_S: Final = 1.0
"""No more descriptors: so long nobody is let in."""
LINGER_S: Final = 0.2
"""At the end: the last answers, such as that to a stop, still go out."""
SOCKET_MODE: Final = 0o600
FRAME_PARTS: Final = 2
_PEER_TYPES: Final = frozenset({b"DEALER", b"REQ", b"ROUTER"})
_READY: Final = ready(b"ROUTER")
_IN: Final = select.POLLIN
_OUT: Final = select.POLLOUT
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Take = Callable[[bytes, bytes | None, bytes], None]


class PeerGone(Exception):
    """Nobody is connected under a routing id."""


class Connection:
    """One peer's socket. ``unsent`` is the rest of what the system took only a part of."""

    __slots__ = ("reader", "routing_id", "since", "socket", "unsent", "waits")

    def __init__(self, accepted: socket.socket, now: float) -> None:
        self.socket, self.since = accepted, now
        self.reader = Reader(_PEER_TYPES, FRAME_MAX_BYTES)
        self.routing_id = b""
        self.unsent = b""
        self.waits = False
        """Until it takes more."""


class Listener:
    """Binds ``path``. ``watch`` adds descriptors of others to what it waits for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._socket = _bound(path)
        self._descriptor = self._socket.fileno()
        self._poll = select.epoll() if hasattr(select, "epoll") else _Poll()
        self._poll.register(self._descriptor, _IN)
        self._deaf_until = 0.0
        self._connections: dict[int, Connection] = {}
        self._strangers: dict[int, Connection] = {}  # in the order they came
        self._peers: dict[bytes, Connection] = {}
        self._unnamed = 0
        self._eagerness = Eagerness()
        self._found: list[Connection] = []
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))

    # --- waiting

    def watch(self, descriptor: int, events: int) -> None:
        """Wait for another descriptor too."""
        self._poll.register(descriptor, events)

    def unwatch(self, descriptor: int) -> None:
        """Wait for it no longer; it may be closed already."""
        with contextlib.suppress(OSError, KeyError, ValueError):
            self._poll.unregister(descriptor)

    def wait(self, timeout_s: float) -> bool:
        """Until something is to be done; says whether a watched descriptor has it."""
        if self._deaf_until:
            timeout_s = min(timeout_s, self._hear())
        others = False
        for descriptor, events in self._next(timeout_s):
            connection = self._connections.get(descriptor)
            if connection is not None:
                if events & _OUT:
                    self._flush(connection)
                if events != _OUT:
                    self._found.append(connection)
            elif descriptor == self._descriptor:
                self._accept()
            else:
                others = True
        return others

    def _next(self, timeout_s: float) -> list[tuple[int, int]]:
        poll, eagerness = self._poll.poll, self._eagerness
        if timeout_s > SPIN_S and eagerness.wanted():
            end = time.monotonic() + SPIN_S
            while time.monotonic() < end:
                found = poll(0, CONNECTIONS_PER_TURN_MAX)
                if found:
                    eagerness.tried(True)
                    return found
            eagerness.tried(False)
        return poll(timeout_s, CONNECTIONS_PER_TURN_MAX)

    # --- receiving

    def receive(self, take: Take) -> None:
        """Hand over what the last wait found.

        ``take`` gets the routing id, the header and the body; None for the header of a
        message that has not the parts of a frame.
        """
        found = self._found
        if not found:
            return
        buffer, frames, size_bytes = self._buffer, 0, 0
        for connection in found:
            try:
                count = connection.socket.recv_into(buffer)
                if not count:
                    self._drop(connection)
                    continue
                messages = connection.reader.feed(bytes(buffer[:count]))
            except BlockingIOError:
                continue
            except (OSError, ZmtpError):
                self._drop(connection)
                continue
            frames += len(messages)
            size_bytes += count
            routing_id = connection.routing_id or self._greeted(connection)
            for parts in messages:
                if len(parts) == FRAME_PARTS:
                    take(routing_id, parts[0], parts[1])
                else:
                    take(routing_id, None, b"")
            if connection.reader.replies:
                self._reply(connection)
        self._eagerness.turn(frames, size_bytes)
        found.clear()

    def _accept(self) -> None:
        now = time.monotonic()
        for _ in range(ACCEPTS_PER_TURN_MAX):
            try:
                accepted, _ = self._socket.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._deaf_until = now + DEAF_S
                    self.unwatch(self._descriptor)
                break
            accepted.setblocking(False)
            connection = Connection(accepted, now)
            descriptor = accepted.fileno()
            self._connections[descriptor] = self._strangers[descriptor] = connection
            self._poll.register(descriptor, _IN)
            self._write(connection, GREETING)
        for connection in list(self._strangers.values()):
            if connection.since > now - HANDSHAKE_MAX_S:
                break
            self._drop(connection)

    def _hear(self) -> float:
        """Lets peers in again after a while; else says how long that is."""
        left_s = self._deaf_until - time.monotonic()
        if left_s > 0:
            return left_s
        self._deaf_until = 0.0
        self._poll.register(self._descriptor, _IN)
        return DEAF_S

    def _greeted(self, connection: Connection) -> bytes:
        """The handshake is over: a newer connection takes its routing id over."""
        routing_id = connection.reader.identity
        if routing_id is None:
            return b""
        if not routing_id:
            self._unnamed += 1
            routing_id = b"\0" + self._unnamed.to_bytes(4)
        self._strangers.pop(connection.socket.fileno(), None)
        old = self._peers.get(routing_id)
        if old is not None:
            self._drop(old)
        connection.routing_id = routing_id
        self._peers[routing_id] = connection
        self._write(connection, _READY)
        return routing_id

    def _reply(self, connection: Connection) -> None:
        for reply in connection.reader.replies:
            self._write(connection, reply)
        connection.reader.replies.clear()

    # --- sending

    def send(self, routing_id: bytes, head: bytes, body: bytes) -> bool:
        """False where the peer takes no frame now. Raises PeerGone."""
        connection = self._peers.get(routing_id)
        if connection is None:
            raise PeerGone
        if connection.waits:
            return False
        data = pack(head, body)
        try:
            count = connection.socket.send(data)
        except BlockingIOError:
            self._await_room(connection)
            return False
        except OSError:
            self._drop(connection)
            raise PeerGone from None
        if count != len(data):
            connection.unsent = data[count:]
            self._await_room(connection)
        return True

    def _write(self, connection: Connection, data: bytes) -> None:
        """Send what is not a frame; a peer that takes not even that is dropped."""
        try:
            if connection.waits:
                raise BlockingIOError
            whole = connection.socket.send(data) == len(data)
        except OSError:
            whole = False
        if not whole:
            self._drop(connection)

    def _await_room(self, connection: Connection) -> None:
        connection.waits = True
        self._poll.modify(connection.socket.fileno(), _IN | _OUT)

    def _flush(self, connection: Connection) -> None:
        """It takes more."""
        try:
            if connection.unsent:
                count = connection.socket.send(connection.unsent)
                connection.unsent = connection.unsent[count:]
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)
            return
        if not connection.unsent:
            connection.waits = False
            self._poll.modify(connection.socket.fileno(), _IN)

    def _drop(self, connection: Connection) -> None:
        descriptor = connection.socket.fileno()
        if descriptor < 0:
            return
        self._strangers.pop(descriptor, None)
        self._connections.pop(descriptor, None)
        if self._peers.get(connection.routing_id) is connection:
            del self._peers[connection.routing_id]
        self.unwatch(descriptor)
        connection.socket.close()

    def close(self) -> None:
        """Closes all; what a peer does not take within LINGER_S is lost."""
        self._path.unlink(missing_ok=True)
        deadline = time.monotonic() + LINGER_S
        for connection in list(self._connections.values()):
            with contextlib.suppress(OSError):
                if connection.unsent:
                    connection.socket.settimeout(max(0.001, deadline - time.monotonic()))
                    connection.socket.sendall(connection.unsent)
            connection.socket.close()
        self._socket.close()
        if isinstance(self._poll, select.epoll):
            self._poll.close()


class _Poll:
    """As much of epoll as is needed where there is none."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self.register, self.modify = self._poll.register, self._poll.modify
        self.unregister = self._poll.unregister

    def poll(self, timeout_s: float, most: int) -> list[tuple[int, int]]:
        return self._poll.poll(timeout_s * 1000)[:most]


def _bound(path: Path) -> socket.socket:
    """A socket that listens, for its owner alone. What an earlier broker left makes room."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.setblocking(False)
    mask = os.umask(0o777 & ~SOCKET_MODE)
    try:
        path.unlink(missing_ok=True)
        made.bind(str(path))
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        text = f"the socket ipc://{path} cannot be bound: {error.strerror}"
        raise EndpointError(text, "check the run folder; another fleet may use it") from error
    finally:
        os.umask(mask)
    return made
