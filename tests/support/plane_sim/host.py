"""The broker's process: the real daemon, whose waiting is a turn's end.

``Daemon.serve`` runs as it is; what it would wait in (``select.poll``) ends the turn by an
exception and tells when the next one is due. Its supervisor, store and gateway are models.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import broker.daemon
from broker.core.effects import KeepNote, KeepState
from broker.core.events import GatewayInfo, StateCommitted, StateSettled
from broker.core.logtime import LogClock, LogMark
from broker.core.settings import Settings
from broker.core.stateport import SharedState
from broker.services.machine import Broker
from store.records import Durable, Forget, LeaseRecord, collect
from store.writer import Done
from tests.support.plane_sim.net import POLLIN, Router
from tests.support.plane_sim.stage import Stage
from tests.support.plane_sim.world import WALL_S, Process

if TYPE_CHECKING:
    from tests.support.plane_sim.fleet import Fleet

_WAKE, _SUPERVISOR = -1, -2
COMMIT_MAX_S = 0.004
GATEWAY_S = 0.01
LOOK_TURNS = 4
"""The broker's queues are looked at after so many of its turns."""


class TurnOver(Exception):
    """The daemon would wait now."""


class Host(Process):
    """One life of the broker."""

    current: ClassVar[Host]

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet.world, "broker")
        self.fleet = fleet
        self.machine: Broker | None = None
        self.lines: deque[dict[str, Any]] = deque()
        self.done: Callable[[tuple[Done, ...]], None] = _nothing
        self.info: list[GatewayInfo] = []
        self.woken = self.serving = self._polled = False
        self._timeout_s = 0.0
        self._turns = 0
        self.turn_s = fleet.world.random.uniform(10e-6, 80e-6)
        self.frame_s = fleet.world.random.uniform(0.5e-6, 4e-6)
        self.router: Router | None = None

    def boot(self, hello: dict[str, Any]) -> None:
        """The process starts, and has its supervisor's first line to read."""
        self.lines.append(hello)
        self.wake()

    def turn(self) -> float | None:
        Host.current = self
        self._polled = False
        if not self.serving:
            self._start()
        try:
            self._daemon.serve()
        except TurnOver:
            pass
        else:
            self.world.fault(f"the broker ended by itself: {self._daemon.quit_reason}")
            return None
        self._turns += 1
        if self._turns % LOOK_TURNS == 0:
            self.fleet.look_at_broker()
        if self.woken or (self.router is not None and self.router.signal):
            return self.now
        return self.now + self._timeout_s

    def _start(self) -> None:
        config = SimpleNamespace(
            record=SimpleNamespace(endpoint=self.fleet.endpoint),
            data_dir=Path("/simulated"),
            supervisor_fd=_SUPERVISOR,
            lifeline_fd=None,
            api_base="",
            token="",
            settings=lambda: self.fleet.settings,
        )
        log = logging.Logger("simulated", logging.CRITICAL)
        self._daemon = broker.daemon.Daemon(config, log, contextlib.ExitStack())  # type: ignore[arg-type]
        self._daemon.startup()
        self.router = Stage.net.router
        self.serving = True

    def poll(self, timeout_ms: float) -> list[tuple[int, int]]:
        """Where the daemon waits: the first look of a turn finds, the second ends it."""
        if not self.serving or not self._polled:
            self._polled = self.serving
            attention, self.woken = self.woken, False
            return [(_WAKE, POLLIN)] if attention else []
        self._timeout_s = timeout_ms / 1000
        raise TurnOver

    def say(self, line: dict[str, Any]) -> None:
        """The supervisor tells it something."""
        self.lines.append(line)
        self.attend()

    def attend(self) -> None:
        self.woken = True
        self.wake()

    def kill(self) -> None:
        """kill -9."""
        self.alive = False
        if self.router is not None:
            self.router.die()

    # --- the models around it

    def commit(self, token: int, changes: tuple[Any, ...]) -> None:
        """LMDB's writer: what it was handed is kept, or dies with the broker."""
        random = self.world.random
        kept_s = random.uniform(0.0005, COMMIT_MAX_S)
        survives = random.random() < 0.5

        def keep() -> None:
            if self.alive or survives:
                self.fleet.keep(changes)
            if self.alive:
                self.done((Done(token, None),))

        self.world.after(kept_s, keep)

    def ask_gateway(self) -> None:
        self.world.after(GATEWAY_S, self._answer)

    def _answer(self) -> None:
        shards = self.fleet.settings.shards or 1
        self.info.append(GatewayInfo(shards, 100_000, 90_000, 3600.0, 1))
        if self.alive:
            self.attend()


def keep(durable: Durable, changes: tuple[Any, ...]) -> None:
    """A commit."""
    for change in changes:
        if isinstance(change, Forget):
            assert change.kind is LeaseRecord
            durable.leases.pop(change.name, None)
        else:
            collect(durable, change)


# --- what the daemon finds under the names that it imports


class _Poll:
    def register(self, descriptor: int, events: int) -> None: ...

    def poll(self, timeout_ms: float = 0.0) -> list[tuple[int, int]]:
        return Host.current.poll(timeout_ms)


class _Wake:
    def fileno(self) -> int:
        return _WAKE

    def wake(self) -> None:
        Host.current.attend()

    def drain(self) -> None: ...


class _Signals:
    def __init__(self, wake: Any, numbers: Any) -> None:
        self.received: set[int] = set()


class _Supervisor:
    gone = wants_to_write = False

    def __init__(self, descriptor: int) -> None:
        self._host = Host.current

    def fileno(self) -> int:
        return _SUPERVISOR

    def lines(self) -> list[bytes]:
        lines = [json.dumps(line).encode() for line in self._host.lines]
        self._host.lines.clear()
        return lines

    def send(self, line: dict[str, Any]) -> None:
        host = self._host
        host.world.after(0.001, host.fleet.ordered, line)

    def flush(self) -> None: ...


class _Gateway:
    def __init__(self, base: str, token: str, wake: Any) -> None:
        self._host = Host.current

    def ask(self) -> None:
        self._host.ask_gateway()

    def answers(self) -> list[GatewayInfo]:
        found, self._host.info = self._host.info, []
        return found


class _Environment:
    @classmethod
    def open(cls, path: Path) -> _Environment:
        return cls()

    def read(self) -> Durable:
        kept = Host.current.fleet.durable
        return Durable(
            dict(kept.epochs), kept.plan, kept.ledger, dict(kept.digests), dict(kept.leases)
        )

    def close(self) -> None: ...


class _Writer:
    def __init__(self, environment: Any, done: Callable[[tuple[Done, ...]], None]) -> None:
        self._host = Host.current
        self._host.done = self._done
        self._tell = done

    def _done(self, group: tuple[Done, ...]) -> None:
        Host.current = self._host
        self._tell(group)

    def submit(self, token: int, changes: tuple[Any, ...]) -> None:
        self._host.commit(token, changes)

    def close(self, timeout_s: float) -> bool:
        return True


class _Keeper:
    """The state's store: kept on dicts, as ``Host.commit`` keeps the other records."""

    def __init__(self, data_dir: Path, boot_id: str, wake: Callable[[], None]) -> None:
        del data_dir, boot_id
        self._host, self._wake = Host.current, wake
        self._port = self._host.fleet.state
        now = self._host.world.clock()
        mark = LogMark(self._port.place().at_ms)
        self.shared = SharedState(self._port, clock=LogClock(mark, now, wall_ms=int(WALL_S * 1000)))
        self._ends: deque[StateCommitted | StateSettled] = deque()

    def keep(self, effect: KeepState) -> None:
        host = self._host
        kept_s = host.world.random.uniform(0.0005, COMMIT_MAX_S)
        survives = host.world.random.random() < 0.5

        def done() -> None:
            if host.alive or survives:
                self._port.commit(effect.writes, effect.entries)
            if host.alive:
                self._ends.append(StateCommitted(effect.token))
                self._ends.append(StateSettled(effect.token))
                host.attend()

        host.world.after(kept_s, done)

    def note(self, effect: KeepNote) -> None: ...

    def reset(self) -> None: ...

    def ends(self) -> Iterator[StateCommitted | StateSettled]:
        while self._ends:
            yield self._ends.popleft()

    def close(self, timeout_s: float) -> None: ...


def _machine(settings: Settings, durable: Durable, now: float, shared: SharedState) -> Broker:
    host = Host.current
    host.machine = Broker(settings, durable, now, shared)
    host.fleet.broker_born(host.machine)
    return host.machine


def _nothing(*args: object, **options: object) -> None: ...


PARTS: dict[str, Any] = {
    "Wake": _Wake,
    "Signals": _Signals,
    "SupervisorPort": _Supervisor,
    "GatewayPort": _Gateway,
    "Environment": _Environment,
    "StateKeeper": _Keeper,
    "Writer": _Writer,
    "Broker": _machine,
    "select": SimpleNamespace(poll=_Poll, POLLIN=1, POLLOUT=4),
    "check_endpoint": lambda endpoint: Path("/simulated/broker.sock"),
    "check_folder": _nothing,
    "take_lock": lambda folder: -1,
    "raise_descriptor_limit": _nothing,
    "collect_no_more_garbage": _nothing,
}
