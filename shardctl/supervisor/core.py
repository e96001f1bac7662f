"""The supervisor's decisions: events and ``now`` in, effects out. No process, no clock.

    starting --sandbox listens--> running --stop asked--> stopping --nodes gone--> ending --> done
        \\________________ a first start that fails ________________________________/

The broker decides which nodes live; this only keeps the broker and the sandbox alive,
carries out what the broker asks, and brings everything down in time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

from shardctl.supervisor import lines
from shardctl.supervisor.backoff import Backoff
from shardctl.supervisor.effects import (
    BROKER,
    SANDBOX,
    Effect,
    Effects,
    Exit,
    Finish,
    Phase,
    Process,
    Say,
    Send,
    Signal,
    Spawn,
    title,
)

FIRST_STARTS_MAX: Final = 3
"""A broker that never served and ends so often will not serve: the fleet does not start."""
SANDBOX_READY_S: Final = 30.0
DRAIN_MARGIN_S: Final = 1.0
"""Nodes get their drain and this; then they are killed."""
END_S: Final = 0.6
"""Broker and sandbox get this long after TERM; 8 + 1 + 0.6 stays below the 10 s of a stop."""
END_EARLY_S: Final = 3.0
"""The same, where the nodes were gone before their time."""
HURRY_S: Final = 0.5
"""What a second Ctrl-C leaves."""
BROKER_MUTE_S: Final = 2.0
"""A broker is killed when it lives on for so long after its link ended, or does not answer a
stop: then the nodes are told directly, while most of their drain is left."""
MISSED_EXITS_MAX: Final = 256
TAIL_SHOWN_LINES: Final = 3
"""Quoted of a daemon that is started again; its log has the rest."""
EXIT_CONFIG: Final = 78


class Supervisor:
    """The state of one fleet's processes. Times are monotonic seconds."""

    def __init__(self, *, sandbox: bool, drain_s: float, pid: int) -> None:
        self.phase = Phase.STARTING
        self.processes: dict[tuple[str, int], Process] = {}
        self.served = False
        self._sandbox = sandbox
        self._sandbox_ready = False
        self._drain_s = drain_s
        self._pid = pid
        self._restarts = {SANDBOX: Backoff(), BROKER: Backoff()}
        self._linked = False
        self._missed: deque[Mapping[str, Any]] = deque(maxlen=MISSED_EXITS_MAX)
        self._failed_node: tuple[str, Exit] | None = None
        self._result = Finish(0)
        self._sandbox_deadline: float | None = None
        self._broker_deadline: float | None = None
        self._stop_deadline: float | None = None
        self._end_deadline: float | None = None
        self._killed = False
        self._signalled = False

    # --- what the shell asks

    def deadline(self) -> float | None:
        """When ``tick`` must be called at the latest; None: nothing is waited for."""
        times = [
            *(restart.at for restart in self._restarts.values()),
            self._sandbox_deadline,
            self._broker_deadline,
            self._stop_deadline,
            self._end_deadline,
        ]
        return min((time for time in times if time is not None), default=None)

    @property
    def awaits_sandbox(self) -> bool:
        """Whether the sandbox's info file is awaited now."""
        return self._sandbox_deadline is not None

    def nodes(self) -> list[Process]:
        """The living nodes."""
        return [p for p in self.processes.values() if p.name not in (SANDBOX, BROKER)]

    # --- events

    def start(self, now: float) -> Effects:
        """The first event."""
        if self._sandbox:
            return self._start_sandbox(now)
        self.phase = Phase.RUNNING
        return [Spawn(BROKER)]

    def sandbox_ready(self, url: str) -> Effects:
        """The sandbox listens and has written its info file."""
        again, self._sandbox_ready = self._sandbox_ready, True
        self._sandbox_deadline = None
        said = Say(f"sandbox listens again at {url}" if again else f"sandbox listens at {url}")
        if self.phase is not Phase.STARTING:
            return [said]
        self.phase = Phase.RUNNING
        return [said, Spawn(BROKER)]

    def spawned(
        self, name: str, epoch: int, pid: int, now: float, spec: Mapping[str, Any] | None = None
    ) -> Effects:
        """A child was started."""
        self.processes[name, epoch] = Process(name, epoch, pid, now, spec or {})
        if name == BROKER:
            self._linked = True
            return [Send(lines.hello(self._pid, self.nodes(), now)), *self._tell_missed()]
        if name == SANDBOX:
            return []
        return self._send({"ev": "spawned", "name": name, "epoch": epoch, "pid": pid})

    def spawn_failed(self, name: str, epoch: int, error: str, now: float) -> Effects:
        """A child could not be started: no memory, no such program."""
        if name in (BROKER, SANDBOX):
            return self._exited_daemon(name, Exit(None, None, (error,)), 0.0, now)
        said = Say(f"{title(name)} could not be started: {error}")
        line = {"ev": "spawn_failed", "name": name, "epoch": epoch, "error": error}
        return [said, *self._send(line)]

    def exited(self, name: str, epoch: int, end: Exit, now: float) -> Effects:
        """A child ended and was reaped."""
        process = self.processes.pop((name, epoch), None)
        if process is None:
            return []
        lived_s = now - process.since
        if name in (BROKER, SANDBOX):
            effects = self._exited_daemon(name, end, lived_s, now)
        else:
            effects = self._exited_node(process, end, lived_s)
        return [*effects, *self._advance(now)]

    def link_closed(self, now: float) -> Effects:
        """The broker's end of the socketpair was closed."""
        was_linked, self._linked = self._linked, False
        if (BROKER, 0) in self.processes and self.phase is Phase.RUNNING:
            self._broker_deadline = now + BROKER_MUTE_S
        if was_linked and self.phase is Phase.STOPPING:
            return [Say("the broker ended during the stop"), *self._term_nodes()]
        return []

    def link_broken(self, why: str, now: float) -> Effects:
        """The broker does not read, or writes what is no line: it is killed."""
        said = Say(f"the broker is killed: {why}")
        return [said, *self.link_closed(now), *self._signal(BROKER, "KILL")]

    def asked(self, line: Mapping[str, Any], now: float) -> Effects:
        """A line of the broker. Raises KeyError or TypeError for a malformed one."""
        match line["op"]:
            case "serving":
                return self._serving()
            case "spawn":
                return self._asked_spawn(line)
            case "signal":
                return self._asked_signal(line)
            case "stopping":
                return self._asked_stop(str(line["reason"]), int(line["exit_code"]), now)
            case "stopped":
                return self._asked_end(str(line["reason"]), int(line["exit_code"]), now)
            case other:
                return [Say(f"the broker asked for {other!r}, which is unknown")]

    def stop(self, reason: str, now: float) -> Effects:
        """The operator wants the fleet down; asked twice, at once."""
        if self.phase is Phase.DONE:
            return []
        again, self._signalled = self._signalled, True
        if self.phase in (Phase.STOPPING, Phase.ENDING):
            if not again:
                return [Say(f"{reason}: the fleet is stopping already")]
            self._hurry(now)
            return [Say("asked again: what is left is killed"), *self._advance(now)]
        said = Say(f"stopping ({reason}); sessions are kept")
        self._begin_stop(now)
        if not self._linked:
            return [said, *self._term_nodes(), *self._advance(now)]
        self._broker_deadline = now + BROKER_MUTE_S
        line = {"ev": "stop", "reason": reason, "discard_sessions": False}
        return [said, Send(line), *self._advance(now)]

    def tick(self, now: float) -> Effects:
        """Some deadline may have passed."""
        effects: Effects = []
        for name, restart in self._restarts.items():
            if restart.at is not None and restart.at <= now:
                restart.at = None
                effects += [Spawn(BROKER)] if name == BROKER else self._start_sandbox(now)
        if _past(self._sandbox_deadline, now):
            self._sandbox_deadline = None
            said = Say(f"the sandbox did not listen within {SANDBOX_READY_S:g} s")
            effects += [said, *self._signal(SANDBOX, "KILL")]
        if _past(self._broker_deadline, now):
            self._broker_deadline = None
            stopping = self.phase is Phase.STOPPING
            why = "it does not answer the stop" if stopping else "its link ended but it lives"
            effects += self.link_broken(why, now)
        return [*effects, *self._advance(now)]

    # --- the broker's wishes

    def _tell_missed(self) -> Effects:
        missed = list(self._missed)
        self._missed.clear()
        return [Send(line) for line in missed]

    def _serving(self) -> Effects:
        again, self.served = self.served, True
        process = self.processes.get((BROKER, 0))
        pid = process.pid if process is not None else 0
        return [Say(f"broker serves {'again ' if again else ''}(pid {pid})")]

    def _asked_spawn(self, line: Mapping[str, Any]) -> Effects:
        name, epoch = str(line["name"]), int(line["epoch"])
        list(line["shards"]), int(line["num_shards"]), int(line["index"])  # or raise
        if self.phase is not Phase.RUNNING:
            return self._refuse(name, epoch, "the fleet is stopping")
        if (name, epoch) in self.processes or name in (BROKER, SANDBOX):
            return self._refuse(name, epoch, f"{name} of this epoch lives already")
        return [*lines.starts_again(line), Spawn(name, epoch, dict(line))]

    def _refuse(self, name: str, epoch: int, error: str) -> Effects:
        return self._send({"ev": "spawn_failed", "name": name, "epoch": epoch, "error": error})

    def _asked_signal(self, line: Mapping[str, Any]) -> Effects:
        name, epoch, signal = str(line["name"]), int(line["epoch"]), str(line["signal"])
        if (name, epoch) not in self.processes or signal not in ("TERM", "KILL"):
            return []
        return [*lines.signalled(line), Signal(name, epoch, signal)]

    def _asked_stop(self, reason: str, exit_code: int, now: float) -> Effects:
        """The broker has begun to stop the nodes: from here on the stop is ours to finish,
        whatever becomes of the broker."""
        if self.phase is not Phase.RUNNING:
            self._broker_deadline = None
            return []
        effects = self._why(reason, exit_code)
        self._begin_stop(now)
        return effects

    def _asked_end(self, reason: str, exit_code: int, now: float) -> Effects:
        """The broker says that all nodes are gone."""
        effects = self._why(reason, exit_code) if self.phase is Phase.RUNNING else []
        if exit_code:
            self._result = Finish(exit_code, reason, self._last_words())
        return [*effects, *self._begin_end(now)]

    def _why(self, reason: str, exit_code: int) -> Effects:
        """The operator's wish, or a fatal reason."""
        if not exit_code:
            return [Say("stopping, as the operator asked")]
        self._result = Finish(exit_code, reason, self._last_words())
        return [Say(f"the fleet stops: {reason}")]

    def _last_words(self) -> tuple[str, ...]:
        return self._failed_node[1].tail if self._failed_node is not None else ()

    # --- ends of children

    def _exited_daemon(self, name: str, end: Exit, lived_s: float, now: float) -> Effects:
        effects: Effects = []
        if name == BROKER:
            effects = self.link_closed(now)
            self._broker_deadline = None
        else:
            self._sandbox_deadline = None
        if self.phase in (Phase.STOPPING, Phase.ENDING, Phase.DONE):
            return effects
        if self._cannot_start(name, end):
            return self._give_up(name, end, now)
        delay_s = self._restarts[name].after(lived_s, now)
        text = f"{title(name)} ended ({end}); started again in {delay_s:g} s"
        return [Say(text, end.tail[-TAIL_SHOWN_LINES:])]

    def _cannot_start(self, name: str, end: Exit) -> bool:
        if name == SANDBOX:
            return not self._sandbox_ready
        if self.served:
            return False
        return end.code == EXIT_CONFIG or self._restarts[BROKER].failures + 1 >= FIRST_STARTS_MAX

    def _give_up(self, name: str, end: Exit, now: float) -> Effects:
        code = EXIT_CONFIG if end.code == EXIT_CONFIG else 1
        reason = f"{title(name)} cannot start ({end})"
        self._result = Finish(code, reason, end.tail)
        return [Say(f"the fleet does not start: {reason}", end.tail), *self._begin_end(now)]

    def _exited_node(self, process: Process, end: Exit, lived_s: float) -> Effects:
        if end.code != 0:
            self._failed_node = (process.name, end)
        line = lines.exited(process, end, lived_s)
        said = Say(
            f"{title(process.name)}#{process.epoch} ended ({end})",
            () if end.code == 0 else end.tail,
        )
        return [said, *self._send(line)]

    def _send(self, line: Mapping[str, Any]) -> Effects:
        """A line to the broker; what ends while it is away is told to the next one."""
        if self._linked:
            return [Send(line)]
        if line["ev"] == "exited":
            self._missed.append(line)
        return []

    # --- the way down

    def _begin_stop(self, now: float) -> None:
        self.phase = Phase.STOPPING
        self._cancel_starts()
        self._stop_deadline = now + self._drain_s + DRAIN_MARGIN_S

    def _cancel_starts(self) -> None:
        for restart in self._restarts.values():
            restart.at = None
        self._sandbox_deadline = self._broker_deadline = None

    def _hurry(self, now: float) -> None:
        if self.phase is Phase.STOPPING:
            self._stop_deadline = now
        else:
            self._end_deadline = now + HURRY_S

    def _advance(self, now: float) -> Effects:
        """Go on as far as the deaths and deadlines so far allow."""
        if self.phase is Phase.STOPPING:
            late = _past(self._stop_deadline, now)
            waits_for_broker = self._linked and (BROKER, 0) in self.processes
            if late or not (self.nodes() or waits_for_broker):
                return self._begin_end(now, late=late)
        elif self.phase is Phase.ENDING:
            if not self.processes or (self._killed and _past(self._end_deadline, now)):
                return self._finish()
            if _past(self._end_deadline, now):
                self._killed, self._end_deadline = True, now + END_EARLY_S
                return [effect for key in list(self.processes) for effect in _kill(key)]
        return []

    def _finish(self) -> Effects:
        self.phase, self._end_deadline = Phase.DONE, None
        if not self.processes:
            return [self._result]
        left = ", ".join(f"{title(p.name)} (pid {p.pid})" for p in self.processes.values())
        return [Finish(1, f"killed, but not gone: {left}")]

    def _begin_end(self, now: float, *, late: bool = False) -> Effects:
        """Nodes that still live are killed; broker and sandbox are told to end."""
        if self.phase in (Phase.ENDING, Phase.DONE):
            return []
        self.phase, self._stop_deadline = Phase.ENDING, None
        self._cancel_starts()
        self._end_deadline = now + (END_S if late else END_EARLY_S)
        effects = self._kill_nodes()
        for name in (BROKER, SANDBOX):
            effects += self._signal(name, "TERM")
        return [*effects, *self._advance(now)]

    def _kill_nodes(self) -> Effects:
        effects: Effects = []
        for process in self.nodes():
            effects.append(Say(f"{title(process.name)} did not stop in time and is killed"))
            effects.append(Signal(process.name, process.epoch, "KILL"))
        return effects

    def _term_nodes(self) -> Effects:
        return [Signal(process.name, process.epoch, "TERM") for process in self.nodes()]

    def _signal(self, name: str, signal: str) -> Effects:
        return [Signal(name, 0, signal)] if (name, 0) in self.processes else []

    def _start_sandbox(self, now: float) -> Effects:
        self._sandbox_deadline = now + SANDBOX_READY_S
        return [Spawn(SANDBOX)]


def _past(deadline: float | None, now: float) -> bool:
    return deadline is not None and deadline <= now


def _kill(key: tuple[str, int]) -> Iterator[Effect]:
    name, epoch = key
    yield Say(f"{title(name)} did not end in time and is killed")
    yield Signal(name, epoch, "KILL")
