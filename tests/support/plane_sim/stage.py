"""Puts the real shells on a stage: their clock, sockets, threads and store are the world's.

Everything is replaced where the modules look it up, by what it *is* (the module ``time``,
``Listener``, ...) and not by where it is used, so that code may move between modules.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import zmq

import broker.daemon
import shard_node.heartbeat
import shard_node.memory
import shard_node.peer.connect
import shard_node.peer.lines
import shard_node.runtime
from tests.support.plane_sim.net import Dealer, Monitor, Network, Router, Socket
from tests.support.plane_sim.world import WALL_S, Process, World

PID = 4242
RSS_BYTES = 1 << 20
STOPPED_S = 0.02
ROOMS = ("broker", "shard_node")


class Stage:
    """Whose world is played now. One at a time."""

    world: World
    net: Network
    owner: Process | None = None
    """Whose sockets are made now, where nobody runs."""


class Time:
    """The module ``time``."""

    @staticmethod
    def monotonic() -> float:
        return Stage.world.clock()

    perf_counter = process_time = monotonic

    @staticmethod
    def time() -> float:
        return WALL_S + Stage.world.clock()

    def __getattr__(self, name: str) -> Any:
        msg = f"time.{name} is not virtual"
        raise AttributeError(msg)


class Os:
    """The module ``os``, of a process whose number does not change from run to run."""

    def getpid(self) -> int:
        return PID

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


class Context:
    """A ZeroMQ context."""

    def __init__(self, *args: Any, **options: Any) -> None: ...

    def socket(self, kind: int) -> Socket:
        owner = Stage.world.running or Stage.owner
        assert owner is not None
        made = {zmq.ROUTER: Router, zmq.DEALER: Dealer, zmq.PAIR: Monitor}[zmq.SocketType(kind)]
        return made(Stage.net, owner)

    def term(self) -> None: ...

    def destroy(self, linger: int | None = None) -> None: ...


class Heart(shard_node.heartbeat.HeartbeatThread):
    """The heartbeat without its thread: each beat is an entry of the agenda."""

    def __init__(
        self,
        context: Any,
        endpoint: str,
        identity: bytes,
        vitals: Any,
        *,
        on_ack: Callable[..., None],
        ask_touch: Callable[[], bool],
        on_orphaned: Callable[[], None],
        lifeline_fd: int | None = None,
        interval_s: float = 1.0,
        hang_s: float = math.inf,
    ) -> None:
        del on_orphaned, lifeline_fd, hang_s  # its loops turn, or their process stands still
        self._context, self._endpoint, self._identity = context, endpoint, identity
        self.vitals = vitals
        self._on_ack, self._ask_touch, self._interval_s = on_ack, ask_touch, interval_s
        self._counter = 0
        self._process = Stage.world.running
        self._thread = _Ears(Stage.world, self)  # type: ignore[assignment]

    def start(self) -> None:
        Stage.owner, running = self._thread, Stage.world.running  # type: ignore[assignment]
        Stage.world.running = None
        self.socket = shard_node.heartbeat.connect(self._context, self._endpoint, self._identity)
        Stage.owner, Stage.world.running = None, running
        Stage.world.after(Stage.world.random.uniform(0.0, 0.1), self.pulse)

    def stop(self, timeout_s: float = 1.0) -> None:
        self.socket.close(0)

    def pulse(self) -> None:
        process = self._process
        if process is None or not process.alive:
            return
        if not process.stalled:
            self._beat(self.socket, Stage.world.clock())
        Stage.world.after(self._interval_s, self.pulse)

    def listen(self) -> None:
        process = self._process
        if process is not None and process.stalled:
            Stage.world.after(STOPPED_S, self.listen)
        elif process is not None and process.alive:
            self._take_acks(self.socket)


class _Ears(Process):
    """The heartbeat thread as one that frames come to."""

    def __init__(self, world: World, heart: Heart) -> None:
        super().__init__(world, "heart")
        self.heart = heart

    def turn(self) -> None:
        self.heart.listen()


@contextlib.contextmanager
def staged(broker_parts: dict[str, Any], ends: list[tuple[Any, Any]]) -> Iterator[None]:
    """All of it, for as long as the block runs. ``broker_parts`` replace names of the daemon,
    ``ends`` the classes that hold sockets."""
    undo: list[tuple[Any, str, Any]] = []

    def put(place: Any, name: str, value: Any) -> None:
        undo.append((place, name, getattr(place, name)))
        setattr(place, name, value)

    virtual = Time()
    swaps = [
        (time, virtual),
        (time.monotonic, virtual.monotonic),
        (time.perf_counter, virtual.perf_counter),
        (time.time, virtual.time),
        (shard_node.memory.rss_bytes, lambda: RSS_BYTES),
        (shard_node.heartbeat.HeartbeatThread, Heart),
        *ends,
    ]
    rooms = [m for n, m in list(sys.modules.items()) if n.partition(".")[0] in ROOMS and m]
    try:
        for module in rooms:
            for name, value in list(vars(module).items()):
                for old, new in swaps:
                    if value is old and module is not shard_node.memory:
                        put(module, name, new)
        put(zmq, "Context", Context)
        for module in (shard_node.peer.connect, shard_node.runtime):
            put(module, "os", Os())
        put(shard_node.peer.connect, "_token", itertools.count(1).__next__)
        for name, value in broker_parts.items():
            put(broker.daemon, name, value)
        yield
    finally:
        for place, name, value in reversed(undo):
            setattr(place, name, value)


def fresh_counter() -> None:
    """Each world counts its clients from 1."""
    shard_node.peer.connect._token = itertools.count(1).__next__


@contextlib.contextmanager
def limited(limits: dict[str, Any], of_outbox: dict[str, int]) -> Iterator[None]:
    """Declared limits made small: wherever a module, or a default of its functions, has them."""
    undo: list[Callable[[], None]] = []
    wire = sys.modules["shard_node.wire.limits"]
    olds = {name: getattr(wire, name) for name in limits}
    rooms = [m for n, m in list(sys.modules.items()) if n.partition(".")[0] in ROOMS and m]
    try:
        for module in rooms:
            for name, new in limits.items():
                if vars(module).get(name) == olds[name]:
                    undo.append(_undo(module, name))
                    setattr(module, name, new)
            for kind in [k for k in vars(module).values() if isinstance(k, type)]:
                if kind.__module__ == module.__name__:
                    _limit_defaults(kind, olds, limits, undo)
        for name, new in of_outbox.items():
            undo.append(_undo(shard_node.peer.lines, name))
            setattr(shard_node.peer.lines, name, new)
        yield
    finally:
        for step in reversed(undo):
            step()


def _undo(place: Any, name: str) -> Callable[[], None]:
    value = getattr(place, name)
    return lambda: setattr(place, name, value)


def _limit_defaults(
    kind: type, olds: dict[str, Any], limits: dict[str, Any], undo: list[Callable[[], None]]
) -> None:
    init = vars(kind).get("__init__")
    defaults = getattr(init, "__defaults__", None)
    if not defaults:
        return
    lists = {name: old for name, old in olds.items() if isinstance(old, tuple)}
    new = tuple(
        next((limits[name] for name, old in lists.items() if old is value), value)
        for value in defaults
    )
    if new != defaults:
        undo.append(_undo(init, "__defaults__"))
        init.__defaults__ = new  # type: ignore[union-attr]
