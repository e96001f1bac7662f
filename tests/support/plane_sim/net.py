"""ZeroMQ as the two sides meet it: one ROUTER, many DEALERs, frames that take their time.

Within a connection frames keep their order; across peers nothing does. A pipe is bounded
(both high-water marks in one number). When a connection breaks, a part of what was on its
way still comes, the rest is lost, and both ends notice at different times; until then they
send into nothing. What had come before is still read afterwards, in turn with the frames of
the next connection. A socket's descriptor tells of changes only (zmq_getsockopt(3), ZMQ_FD):
it is raised when a frame comes while the reader had found nothing, or when a full pipe has
room again, and any look at the socket lowers it.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import Any

import zmq

from tests.support.plane_sim.world import Process, World

Parts = tuple[bytes, ...]

EVENTS = int(zmq.EVENTS)
RCVMORE = int(zmq.RCVMORE)
FD = int(zmq.FD)
POLLIN = int(zmq.POLLIN)
POLLOUT = int(zmq.POLLOUT)
MORE = int(zmq.SNDMORE)
IDENTITY = int(zmq.IDENTITY)
RECONNECT_S = (0.05, 0.1, 0.2, 0.4, 0.5)
NOTICE_MAX_S = 0.4
FRAME_S = 1e-6
"""What reading a frame takes of its process' time."""


class Part:
    """What ``recv(copy=False)`` gives."""

    __slots__ = ("bytes", "more")

    def __init__(self, data: bytes, more: bool) -> None:
        self.bytes, self.more = data, more

    def __len__(self) -> int:
        return len(self.bytes)


class Pipe:
    """One direction of a connection."""

    __slots__ = ("arrived", "broken", "cap", "flight", "last_at", "name", "net", "reader", "wanted",
                 "writer")  # fmt: skip

    def __init__(self, net: Network, name: str, writer: Socket, reader: Socket, cap: int) -> None:
        self.net, self.name, self.writer, self.reader, self.cap = net, name, writer, reader, cap
        self.flight: deque[tuple[float, Parts]] = deque()
        self.arrived: deque[Parts] = deque()
        self.last_at = 0.0
        self.wanted = self.broken = False

    @property
    def room(self) -> bool:
        if len(self.flight) + len(self.arrived) < self.cap:
            return True
        self.wanted = True
        return False

    def push(self, parts: Parts) -> None:
        if self.broken:
            return
        world = self.net.world
        at = max(self.last_at, world.clock() + self.net.delay_s(self.name))
        self.last_at = at
        self.flight.append((at, parts))
        if len(self.flight) == 1:
            world.at(at, self._arrive)

    def tear(self) -> None:
        """The connection breaks: the later part of what was on its way is lost."""
        self.broken = True
        kept = self.net.world.random.randint(0, len(self.flight))
        while len(self.flight) > kept:
            self.flight.pop()

    def taken(self) -> None:
        """The reader took a frame."""
        if self.wanted and len(self.flight) + len(self.arrived) <= self.cap // 2:
            self.wanted = False
            self.net.world.after(self.net.delay_s(self.name), self.writer.raise_signal)

    def _arrive(self) -> None:
        flight, now = self.flight, self.net.world.now
        while flight and flight[0][0] <= now:
            self.reader.take(self, flight.popleft()[1])
        if flight:
            self.net.world.at(flight[0][0], self._arrive)


class Socket:
    """What DEALER, ROUTER and monitor have in common: both kinds of the API at once."""

    def __init__(self, net: Network, process: Process) -> None:
        self.net, self.process = net, process
        self.descriptor = net.add(self)
        self.signal = False
        self.asleep = True
        self.closed = False
        self.underlying = self
        self._active: deque[Pipe] = deque()
        self._parts: deque[bytes] = deque()
        self._out: list[bytes] = []

    # --- the network's side

    def raise_signal(self) -> None:
        if not self.closed:
            self.signal = True
            self.process.wake()

    def take(self, pipe: Pipe, parts: Parts) -> None:
        if self.closed:
            return
        if not pipe.arrived:
            self._active.append(pipe)
        pipe.arrived.append(parts)
        if self.asleep:
            self.asleep = False
            self.raise_signal()

    # --- the program's side

    def setsockopt(self, option: int, value: Any) -> None: ...

    def getsockopt(self, option: int) -> int:
        return self.descriptor if option == FD else 0

    def get(self, option: int) -> int:
        if option == RCVMORE:
            return bool(self._parts)
        if option != EVENTS:
            return self.getsockopt(option)
        self.signal = False
        found = POLLIN if self._parts or self._active else 0
        if not found:
            self.asleep = True
        return found | (POLLOUT if self._writable() else 0)

    def recv(self, flags: int = 0, copy: bool = True, track: bool = False) -> Any:
        if not self._parts:
            self._next()
        part = self._parts.popleft()
        return part if copy else Part(part, bool(self._parts))

    def recv_multipart(self, flags: int = 0) -> list[bytes]:
        parts = [self.recv(flags)]
        while self._parts:
            parts.append(self._parts.popleft())
        return parts

    def send(self, part: bytes, flags: int = 0, copy: bool = True, track: bool = False) -> None:
        if not self._out:
            self.signal = False
            self._check(bytes(part))
        self._out.append(bytes(part))
        if not flags & MORE:
            parts, self._out = tuple(self._out), []
            self.process.active()
            self._commit(parts)

    def send_multipart(self, parts: Any, flags: int = 0) -> None:
        for part in parts[:-1]:
            self.send(part, flags | MORE)
        self.send(parts[-1], flags)

    def close(self, linger: int | None = None) -> None:
        self.closed = True
        self.net.sockets.pop(self.descriptor, None)

    def _next(self) -> None:
        if not self._active:
            self.asleep, self.signal = True, False
            raise zmq.Again
        pipe = self._active.popleft()
        parts = pipe.arrived.popleft()
        if pipe.arrived:
            self._active.append(pipe)
        pipe.taken()
        self.process.now += FRAME_S
        self.process.active()
        self._parts.extend(self._seen(pipe, parts))

    def _seen(self, pipe: Pipe, parts: Parts) -> Parts:
        return parts

    def _writable(self) -> bool:
        return False

    def _check(self, first: bytes) -> None:
        raise zmq.Again

    def _commit(self, parts: Parts) -> None: ...


class Connection:
    """A DEALER's way to the ROUTER, and back."""

    __slots__ = ("broken", "dealer", "down", "identity", "router", "up")

    def __init__(self, dealer: Dealer, router: Router, cap: tuple[int, int]) -> None:
        net, name = dealer.net, dealer.identity.decode()
        self.dealer, self.router, self.identity = dealer, router, dealer.identity
        self.up = Pipe(net, name, dealer, router, cap[0])
        self.down = Pipe(net, name, router, dealer, cap[1])
        self.broken = False

    def tear(self, dealer_s: float, router_s: float) -> None:
        """It breaks; each end notices after its time."""
        if self.broken:
            return
        self.broken = True
        self.up.tear()
        self.down.tear()
        world = self.dealer.net.world
        world.after(dealer_s, self.dealer.lost, self)
        world.after(router_s, self.router.lost, self)


class Dealer(Socket):
    """A peer's socket. It connects again by itself, and keeps nothing meanwhile."""

    def __init__(self, net: Network, process: Process) -> None:
        super().__init__(net, process)
        self.identity = b""
        self.connection: Connection | None = None
        self.monitors: list[Monitor] = []
        self._tries = 0

    def setsockopt(self, option: int, value: Any) -> None:
        if option == IDENTITY:
            self.identity = value

    def connect(self, endpoint: str) -> None:
        self.net.dealers[self.identity] = self
        self._try()

    def monitor(self, address: str, events: int) -> None:
        self.net.monitored[address] = self

    def disable_monitor(self) -> None:
        self.monitors.clear()

    def attach(self, connection: Connection) -> None:
        if connection.broken or self.closed:
            return
        self._tries = 0
        self.connection = connection
        self.raise_signal()

    def lost(self, connection: Connection) -> None:
        if self.closed or self.connection is not connection:
            if not self.closed and self.connection is None:
                self._again()  # it broke before the handshake was over
            return
        self.connection = None
        for monitor in self.monitors:
            monitor.tell()
        self._again()

    def close(self, linger: int | None = None) -> None:
        """What is on its way still comes; then the broker sees the end."""
        if self.closed:
            return
        super().close(linger)
        connection = self.connection
        if connection is not None:
            last_s = max(0.0, connection.up.last_at - self.net.world.clock())
            self.net.world.after(last_s + 1e-3, connection.tear, 0.0, 1e-3)

    def _again(self) -> None:
        wait_s = RECONNECT_S[min(self._tries, len(RECONNECT_S) - 1)]
        self._tries += 1
        self.net.world.after(wait_s * self.net.world.random.uniform(0.5, 1.0), self._try)

    def _try(self) -> None:
        router = self.net.router
        if self.closed or self.connection is not None:
            return
        if router is None:
            self._again()
            return
        connection = Connection(self, router, self.net.caps)
        router.connections.append(connection)
        world = self.net.world
        there_s = self.net.delay_s(self.identity.decode())
        world.after(there_s, router.attach, connection)
        world.after(there_s * world.random.uniform(1.1, 3.0), self.attach, connection)

    def _seen(self, pipe: Pipe, parts: Parts) -> Parts:
        self.net.got_down(self.identity, parts)
        return parts

    def _writable(self) -> bool:
        return self.connection is not None and self.connection.up.room

    def _check(self, first: bytes) -> None:
        if not self._writable():
            raise zmq.Again

    def _commit(self, parts: Parts) -> None:
        assert self.connection is not None
        self.net.sent_up(self.identity, parts)
        for altered in self.net.alter(True, self.identity, parts):
            self.connection.up.push(altered)


class Router(Socket):
    """The broker's socket: ROUTER_MANDATORY and ROUTER_HANDOVER."""

    def __init__(self, net: Network, process: Process) -> None:
        super().__init__(net, process)
        self.connections: list[Connection] = []
        self._peers: dict[bytes, Connection] = {}

    def bind(self, endpoint: str) -> None:
        self.net.router = self

    def attach(self, connection: Connection) -> None:
        if connection.broken or self.closed:
            return
        old = self._peers.get(connection.identity)
        self._peers[connection.identity] = connection
        if old is not None:
            old.tear(0.0, 0.0)

    def lost(self, connection: Connection) -> None:
        if self._peers.get(connection.identity) is connection:
            del self._peers[connection.identity]
        if connection in self.connections:
            self.connections.remove(connection)

    def die(self) -> None:
        """The broker is killed: its peers notice soon."""
        self.net.router = None
        self.close()
        for connection in list(self.connections):
            connection.tear(self.net.world.random.uniform(0.0, 0.02), 0.0)

    def _seen(self, pipe: Pipe, parts: Parts) -> Parts:
        identity = pipe.name.encode()
        self.net.got_up(identity, parts, pipe.broken)
        return (identity, *parts)

    def _check(self, first: bytes) -> None:
        connection = self._peers.get(first)
        if connection is None:
            self.net.unreachable(first)
            raise zmq.ZMQError(errno.EHOSTUNREACH)
        if not connection.down.room:
            raise zmq.Again

    def _commit(self, parts: Parts) -> None:
        identity, *rest = parts
        self.net.sent_down(identity, tuple(rest))
        for altered in self.net.alter(False, identity, tuple(rest)):
            self._peers[identity].down.push(altered)


class Monitor(Socket):
    """Tells that a DEALER lost its connection."""

    def __init__(self, net: Network, process: Process) -> None:
        super().__init__(net, process)
        self._pipe = Pipe(net, "", self, self, 1 << 30)

    def connect(self, address: str) -> None:
        self.net.monitored[address].monitors.append(self)

    def tell(self) -> None:
        self.take(self._pipe, (b"disconnected",))


class Network:
    """All sockets of one world. ``watch`` sees every frame; ``plant`` may alter one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sockets: dict[int, Socket] = {}
        self.router: Router | None = None
        self.dealers: dict[bytes, Dealer] = {}
        self.monitored: dict[str, Dealer] = {}
        self.caps = (2000, 1000)
        self.base_s: dict[str, float] = {}
        self.spikes = 0.002
        self.plant: Callable[[bool, bytes, Parts], list[Parts]] | None = None
        self.got_up: Callable[[bytes, Parts, bool], None] = _nothing
        self.got_down: Callable[[bytes, Parts], None] = _nothing
        self.sent_up: Callable[[bytes, Parts], None] = _nothing
        self.sent_down: Callable[[bytes, Parts], None] = _nothing
        self.unreachable: Callable[[bytes], None] = _nothing
        self._count = 0

    def add(self, socket: Socket) -> int:
        self._count += 1
        self.sockets[self._count] = socket
        return self._count

    def signalled(self, descriptor: int) -> bool:
        socket = self.sockets.get(descriptor)
        return socket is not None and socket.signal

    def delay_s(self, name: str) -> float:
        """How long one frame of a peer takes; now and then far longer than usual."""
        random = self.world.random
        base_s = self.base_s.get(name)
        if base_s is None:
            base_s = self.base_s[name] = random.uniform(20e-6, 400e-6)
        draw = random.random()
        return base_s * (1 + draw) if draw > self.spikes else base_s + 0.03 * random.random()

    def alter(self, up: bool, identity: bytes, parts: Parts) -> list[Parts]:
        return [parts] if self.plant is None else self.plant(up, identity, parts)


def _nothing(*seen: object) -> None:
    """Nobody watches."""
