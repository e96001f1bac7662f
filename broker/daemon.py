"""The daemon's life, to be read from top to bottom: run, startup, main loop, shutdown.

One loop waits for the next deadline on the peers' sockets, the supervisor, the lifeline, and
the pipe by which signals and the waiting threads (LMDB's commits, Discord's REST) wake it.
All decisions are the machine's.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import queue
import resource
import select
import signal
import sys
import time
from collections import deque
from typing import Final

from broker.config import Config
from broker.core.effects import (
    AskGateway,
    Backup,
    Commit,
    Effect,
    Effects,
    Erase,
    KeepNote,
    KeepState,
    Log,
    Order,
    Quit,
    ResetState,
    Trim,
    WatchProcesses,
)
from broker.core.events import (
    Committed,
    Event,
    Exited,
    SupervisorGone,
    SupervisorHello,
    Tick,
    WrongParts,
)
from broker.errors import FolderError, SupervisorSilent
from broker.ports.folders import check_endpoint, check_folder, take_lock
from broker.ports.gateway_info import GatewayPort
from broker.ports.router import BLOCKED_RETRY_S, RouterPort
from broker.ports.state import StateKeeper
from broker.ports.supervisor import LineError, SupervisorPort, read_line
from broker.ports.wake import Signals, Wake
from broker.services.machine import Broker
from store.environment import Environment
from store.errors import StoreError
from store.writer import Done, Writer

HELLO_MAX_S: Final = 10.0
WRITER_END_S: Final = 2.0
WATCH_S: Final = 0.25
"""How often processes are looked at that nobody reaps for us."""
WAIT_MAX_S: Final = 60.0
DESCRIPTORS_WANTED: Final = 65_536
"""libzmq aborts the process when descriptors run out while it accepts."""
SWITCH_S: Final = 0.001
"""How long the loop keeps the interpreter when another thread wants it: the state's writer
wants it for microseconds, to say that a group is durable."""
_END: Final = (signal.SIGTERM, signal.SIGINT)


def run(config: Config, log: logging.Logger) -> int:
    """Runs the daemon to its end; returns the exit code. Raises BrokerError at the start."""
    sys.setswitchinterval(SWITCH_S)
    with contextlib.ExitStack() as stack:
        daemon = Daemon(config, log, stack)
        daemon.startup()
        daemon.serve()
        log.info("the broker ends: %s", daemon.quit_reason)
    return daemon.exit_code


class Daemon:
    """Ports around one machine. ``stack`` closes what the startup opened, last first."""

    def __init__(self, config: Config, log: logging.Logger, stack: contextlib.ExitStack) -> None:
        self.quit_reason, self.exit_code = "", 0
        self._config = config
        self._log = log
        self._stack = stack
        self._wake = Wake()
        self._signals = Signals(self._wake, _END)
        self._supervisor = SupervisorPort(config.supervisor_fd)
        self._lifeline = config.lifeline_fd
        self._gateway = GatewayPort(config.api_base, config.token, self._wake.wake)
        self._done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._inner: deque[Event] = deque()
        self._watched: dict[int, tuple[str, int]] = {}
        self._interest: tuple[bool, bool, int | None] | None = None
        self._others: dict[int, int] = {}
        self._due = 0.0
        self._greeted = False
        self._orphaned = False

    # --- startup

    def startup(self) -> None:
        """Everything that can be refused, then the socket, then word to the supervisor."""
        raise_descriptor_limit()
        config = self._config
        path = check_endpoint(config.record.endpoint)
        check_folder(config.data_dir, "data", local=True)
        check_folder(path.parent, "run", local=False)
        self._stack.callback(os.close, take_lock(config.data_dir))
        self._open_store()
        self._await_hello()
        self._router = RouterPort(path)
        self._stack.callback(self._router.close)
        self._supervisor.send({"op": "serving"})
        self._log.info("the broker serves at %s", config.record.endpoint)

    def _open_store(self) -> None:
        try:
            environment = Environment.open(self._config.data_dir / "store")
            durable = environment.read()
        except StoreError as error:
            text = f"the store cannot be opened: {error}"
            raise FolderError(text, error.hint, error.code) from error
        self._writer = Writer(environment, self._committed)
        self._stack.callback(self._close_store, environment)
        settings = self._config.settings()
        self._open_state(settings.boot_id)
        self._machine = Broker(settings, durable, time.monotonic(), self._state.shared)

    def _open_state(self, boot_id: str) -> None:
        try:
            self._state = StateKeeper(self._config.data_dir, boot_id, self._wake.wake)
        except StoreError as error:
            text = f"the state cannot be opened: {error}"
            raise FolderError(text, error.hint, error.code) from error
        self._stack.callback(self._state.close, WRITER_END_S)

    def _close_store(self, environment: Environment) -> None:
        """A commit that hangs keeps its environment: closing it under the thread would crash."""
        if self._writer.close(WRITER_END_S):
            environment.close()

    def _await_hello(self) -> None:
        """No frame is read before the living processes are known."""
        deadline = time.monotonic() + HELLO_MAX_S
        poll = select.poll()
        poll.register(self._supervisor.fileno(), select.POLLIN)
        while not self._greeted:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or self._supervisor.gone:
                text = "the supervisor says nothing"
                raise SupervisorSilent(text, "run: shardctl start")
            poll.poll(left_s * 1000)
            self._read_supervisor()

    # --- main loop

    def serve(self) -> None:
        """Until a signal or the machine ends it."""
        collect_no_more_garbage()
        while not self.quit_reason:
            if self._wait():
                self._attend()
            if self._watched:
                self._read_watched()
            self._router.receive(self._frame)
            self._tick()
            self._send()

    def _wait(self) -> bool:
        """Until something is to be done; says whether another than the peers has it."""
        router = self._machine.router
        if router.touched:
            router.touched = False
            self._look_around()
        return self._router.wait(self._timeout_s())

    def _look_around(self) -> None:
        """What frames that only pass through do not change."""
        interest = (self._supervisor.gone, self._supervisor.wants_to_write, self._lifeline)
        if interest != self._interest:
            self._interest = interest
            self._watch()
        deadline = self._machine.next_deadline()
        self._due = time.monotonic() + WAIT_MAX_S if deadline is None else deadline

    def _watch(self) -> None:
        """Beside the peers, wait for whoever there is now."""
        for descriptor in self._others:
            self._router.unwatch(descriptor)
        self._others = {self._wake.fileno(): select.POLLIN}
        if not self._supervisor.gone:
            out = select.POLLOUT if self._supervisor.wants_to_write else 0
            self._others[self._supervisor.fileno()] = select.POLLIN | out
        if self._lifeline is not None:
            self._others[self._lifeline] = select.POLLIN
        for descriptor, events in self._others.items():
            self._router.watch(descriptor, events)

    def _attend(self) -> None:
        """Everybody but the peers: signals, supervisor, lifeline, threads."""
        self._machine.router.touched = True
        self._wake.drain()
        self._read_signals()
        self._read_supervisor()
        self._read_lifeline()
        self._read_threads()

    def _timeout_s(self) -> float:
        machine, now, due = self._machine, time.monotonic(), self._due
        deadline = machine.plane.next_deadline()
        if deadline is not None and deadline < due:
            due = deadline
        if self._router.blocked:
            due = min(due, now + BLOCKED_RETRY_S)
        elif machine.plane.sendable or len(machine.outbox):
            return 0.0
        if self._watched:
            due = min(due, now + WATCH_S)
        return due - now if due > now else 0.0

    def _read_signals(self) -> None:
        received = self._signals.received & set(_END)
        if received:
            self.quit_reason = signal.Signals(min(received)).name

    def _read_supervisor(self) -> None:
        for line in self._supervisor.lines():
            try:
                event = read_line(line)
            except LineError as error:
                self._log.error("the supervisor sent a line without meaning: %s", error)
                continue
            self._greeted |= isinstance(event, SupervisorHello)
            self._take(event)
        self._supervisor.flush()
        if self._supervisor.gone:
            self._orphan()

    def _read_lifeline(self) -> None:
        if self._lifeline is None:
            return
        poll = select.poll()
        poll.register(self._lifeline, select.POLLIN)
        if poll.poll(0) and not os.read(self._lifeline, 1):
            self._lifeline = None
            self._orphan()

    def _orphan(self) -> None:
        if self._greeted and not self._orphaned:
            self._orphaned = True
            self._take(SupervisorGone())

    def _read_threads(self) -> None:
        while not self._done.empty():
            done = self._done.get()
            code, text = (done.error.code, str(done.error)) if done.error else ("", "")
            self._take(Committed(done.token, text, code))
        for end in self._state.ends():
            self._take(end)
        for answer in self._gateway.answers():
            self._take(answer)

    def _read_watched(self) -> None:
        for pid, (name, epoch) in list(self._watched.items()):
            if not lives(pid):
                del self._watched[pid]
                self._take(Exited(name, epoch, pid, None, None))

    def _tick(self) -> None:
        if self._due <= time.monotonic():
            self._take(Tick())

    def _frame(self, routing_id: bytes, head: bytes | None, body: bytes) -> None:
        """Most frames only pass through: no event is made of them."""
        if head is None:
            self._take(WrongParts(routing_id))
            return
        now = time.monotonic()
        effects = self._machine.frame(routing_id, head, body, now)
        plane = self._machine.plane
        if plane.express:
            lost = self._router.express(plane, now)
            if lost:
                self._take_all(lost)
        if effects:
            self._carry_out(effects)
            self._take_inner()

    def _send(self) -> None:
        machine, router, plane = self._machine, self._router, self._machine.plane
        router.blocked = False
        now = time.monotonic()
        if plane.express:
            self._take_all(router.express(plane, now))
        if len(machine.outbox):
            self._take_all(router.send(machine.outbox))
        if not plane.idle:
            plane.senders.now = now
            if plane.sendable:
                self._take_all(router.forward(plane, machine.outbox, now))
            plane.turn(now)
        deadline = plane.senders.next_deadline()
        if deadline is not None and deadline <= now:
            self._take_all(router.tell(plane.senders, machine.outbox, now))
        if len(machine.outbox):
            self._take_all(router.send(machine.outbox))

    def _take_all(self, events: list[Event]) -> None:
        for event in events:
            self._take(event)

    # --- events in, effects out

    def _take(self, event: Event) -> None:
        """Hands an event to the machine, and what follows from it."""
        self._inner.append(event)
        self._take_inner()

    def _take_inner(self) -> None:
        while self._inner:
            self._carry_out(self._machine.on(self._inner.popleft(), time.monotonic()))

    def _carry_out(self, effects: Effects) -> None:
        for effect in effects:
            self._do(effect)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Commit(token=token, changes=changes):
                self._commit(token, changes)
            case KeepState() | KeepNote() | Erase() | Trim():
                self._keep_state(effect)
            case Backup():
                self._state.backup(effect)
            case ResetState():
                self._state.reset()
            case Order(line=line):
                self._supervisor.send(line)
            case AskGateway():
                self._gateway.ask()
            case Log(level=level, text=text, fields=fields):
                number = logging.getLevelNamesMapping()[level]
                self._log.log(number, "%s", text, extra={"fields": fields})
            case WatchProcesses(processes=processes):
                self._watched = {pid: (name, epoch) for name, epoch, pid in processes if pid}
            case Quit(reason=reason, exit_code=exit_code):
                self.quit_reason, self.exit_code = reason, exit_code
            case _:
                msg = f"nobody carries out {type(effect).__name__}"
                raise TypeError(msg)

    def _commit(self, token: int, changes: tuple[object, ...]) -> None:
        try:
            self._writer.submit(token, changes)  # type: ignore[arg-type]
        except StoreError as error:
            self._inner.append(Committed(token, str(error), error.code))

    def _keep_state(self, effect: KeepState | KeepNote | Erase | Trim) -> None:
        keeper = self._state
        refused = keeper.keep(effect) if isinstance(effect, KeepState) else keeper.note(effect)
        if refused is not None:
            self._inner.append(refused)

    def _committed(self, group: tuple[Done, ...]) -> None:
        """On the writer's thread."""
        for done in group:
            self._done.put(done)
        self._wake.wake()


def lives(pid: int) -> bool:
    """Whether a process of this number exists."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


def raise_descriptor_limit() -> None:
    """Lifts the soft limit of descriptors as far as the hard one allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_WANTED)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def collect_no_more_garbage() -> None:
    """The loop makes no cycles; looking for them costs it 4 %."""
    gc.collect()
    gc.freeze()
    gc.disable()
