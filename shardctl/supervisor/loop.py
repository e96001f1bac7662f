"""The supervisor's shell: one select loop around the pure core.

It waits for signals (through a wake-up descriptor), for the broker's lines, and for the
core's next deadline; what the core asks for it carries out.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from shardctl import launch
from shardctl.launch import Command, LaunchError, Record
from shardctl.supervisor.children import Children
from shardctl.supervisor.core import Supervisor
from shardctl.supervisor.effects import (
    BROKER,
    SANDBOX,
    Effects,
    Finish,
    Phase,
    Say,
    Send,
    Signal,
    Spawn,
)
from shardctl.supervisor.journal import Notes, Speaker
from shardctl.supervisor.link import Link, LinkBroken

LOG_CHECK_S: Final = 10.0
DISPLAY: Final = "display"
SANDBOX_POLL_S: Final = 0.05
"""The sandbox announces itself by a file; this is how often it is looked for."""
_SIGNALS: Final = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
_INFO_KEYS: Final = frozenset({"rest_url", "token", "witness_url"})


class Loop:
    """One fleet's processes, from the first to the last."""

    def __init__(
        self,
        record: Record,
        record_file: Path,
        environ: Mapping[str, str],
        *,
        foreground: bool,
        quotes: bool = True,
    ) -> None:
        self._record = record
        self._record_file = record_file
        self._environ = environ
        self._foreground = foreground
        self._core = Supervisor(
            sandbox=record.sandbox is not None, drain_s=record.drain_s, pid=os.getpid()
        )
        self._speaker = Speaker(
            record.logs_dir / "supervisor.log", foreground=foreground, quotes=quotes
        )
        self._notes = Notes(record, foreground=foreground)
        self._children = Children(record.logs_dir, environ.get(launch.TOKEN_VARIABLE, ""))
        self._selector = selectors.DefaultSelector()
        self._link: Link | None = None
        self._info: Mapping[str, Any] | None = None
        self._result: Finish | None = None
        self._log_check_at = 0.0
        self._note_due = False
        self._stopping = False

    def run(self, display: Command | None = None) -> Finish:
        """Run the fleet until all its processes have ended.

        ``display`` is a process that shows the start on our terminal; it is no child of
        the fleet and ends when the fleet does.
        """
        with self._signals():
            self._note()
            self._apply(self._core.start(time.monotonic()))
            if display is not None:
                self._children.show(DISPLAY, display)
            while self._result is None:
                self._turn()
        self._close(self._result)
        return self._result

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._timeout_s()):
            key.data()
        now = time.monotonic()
        self._look_for_sandbox()
        self._apply(self._core.tick(now))
        self._check_logs(now)
        if self._core.phase not in (Phase.STARTING, Phase.RUNNING):
            self._children.signal(DISPLAY, 0, "TERM")
            if not self._stopping:
                self._stopping = True
                self._note()

    def _timeout_s(self) -> float:
        now = time.monotonic()
        deadline = self._core.deadline()
        wait_s = LOG_CHECK_S if deadline is None else min(deadline - now, LOG_CHECK_S)
        if self._core.awaits_sandbox:
            wait_s = min(wait_s, SANDBOX_POLL_S)
        return max(wait_s, 0.0)

    # --- signals

    @contextlib.contextmanager
    def _signals(self) -> Any:
        """Signals become bytes in a pipe that the loop waits for."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._selector.register(reader, selectors.EVENT_READ, lambda: self._signalled(reader))
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._selector.unregister(reader)
            os.close(reader)
            os.close(writer)

    def _signalled(self, reader: int) -> None:
        for number in dict.fromkeys(os.read(reader, 4096)):
            match signal.Signals(number):
                case signal.SIGCHLD:
                    self._reap()
                case signal.SIGUSR1:
                    self._speaker.reopen()
                case signal.SIGTERM | signal.SIGINT as asked:
                    self._apply(self._core.stop(asked.name, time.monotonic()))
                case signal.SIGHUP if self._foreground:
                    self._apply(self._core.stop("SIGHUP: the terminal is gone", time.monotonic()))

    def _reap(self) -> None:
        for name, epoch, end in self._children.reap():
            if name == BROKER:
                self._drain_link()
            self._apply(self._core.exited(name, epoch, end, time.monotonic()))
        self._note()

    # --- the broker's line

    def _link_ready(self) -> None:
        link = self._link
        if link is None:
            return
        try:
            link.flush()
            lines, closed = link.receive()
            for line in lines:
                self._asked(line)
        except LinkBroken as error:
            self._close_link()
            self._apply(self._core.link_broken(str(error), time.monotonic()))
            return
        if closed:
            self._close_link()
            self._apply(self._core.link_closed(time.monotonic()))
        elif self._link is link:
            self._watch_link(link)

    def _asked(self, line: Mapping[str, Any]) -> None:
        try:
            effects = self._core.asked(line, time.monotonic())
        except (KeyError, TypeError, ValueError) as error:
            msg = f"it wrote a malformed line {str(line)[:80]}: {error}"
            raise LinkBroken(msg) from None
        self._apply(effects)

    def _watch_link(self, link: Link) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.wants_write else 0)
        self._selector.modify(link, events, self._link_ready)

    def _drain_link(self) -> None:
        """Read what a dead broker had still written, such as why it stopped."""
        if self._link is not None:
            self._link_ready()

    def _close_link(self) -> None:
        if self._link is not None:
            self._selector.unregister(self._link)
            self._link.close()
            self._link = None

    # --- effects

    def _apply(self, effects: Effects) -> None:
        queue = deque(effects)
        while queue:
            match queue.popleft():
                case Spawn() as spawn:
                    queue.extend(self._spawn(spawn))
                case Signal(name, epoch, signal_name):
                    self._children.signal(name, epoch, signal_name)
                case Send(line):
                    queue.extend(self._send(line))
                case Say() as said:
                    self._speaker.say(said)
                case Finish() as result:
                    self._result = result

    def _send(self, line: Mapping[str, Any]) -> Effects:
        if self._link is None:
            return []
        try:
            self._link.send(line)
        except LinkBroken as error:
            self._close_link()
            return self._core.link_broken(str(error), time.monotonic())
        self._watch_link(self._link)
        return []

    def _spawn(self, spawn: Spawn) -> Effects:
        try:
            pid = self._start(spawn)
        except (OSError, LaunchError) as error:
            now = time.monotonic()
            return self._core.spawn_failed(spawn.name, spawn.epoch, str(error), now)
        self._note()
        return self._core.spawned(spawn.name, spawn.epoch, pid, time.monotonic(), spawn.spec)

    def _start(self, spawn: Spawn) -> int:
        record, environ = self._record, self._environ
        if spawn.name == SANDBOX:
            record.sandbox_file.unlink(missing_ok=True)
            command = launch.sandbox_command(record, environ, self._sandbox_port())
            return self._children.spawn(spawn.name, 0, command)
        if spawn.name == BROKER:
            return self._start_broker()
        command = launch.node_command(record, spawn.spec, self._info, environ)
        return self._children.spawn(spawn.name, spawn.epoch, command)

    def _start_broker(self) -> int:
        self._close_link()
        command = launch.broker_command(self._record, self._record_file, self._info, self._environ)
        link = Link()
        try:
            give = {"SHARDCTL_SUPERVISOR_FD": link.peer.fileno()}
            pid = self._children.spawn(BROKER, 0, command, give)
        except OSError:
            link.close()
            raise
        link.peer.close()
        self._link = link
        self._selector.register(link, selectors.EVENT_READ, self._link_ready)
        return pid

    # --- the sandbox

    def _look_for_sandbox(self) -> None:
        if not self._core.awaits_sandbox:
            return
        info = launch.read_json(self._record.sandbox_file)
        if info is not None and info.keys() >= _INFO_KEYS:
            self._info = info
            self._apply(self._core.sandbox_ready(str(info["rest_url"])))

    def _sandbox_port(self) -> int:
        """A restarted sandbox takes the port that the nodes know."""
        return urlsplit(str(self._info["rest_url"])).port or 0 if self._info else 0

    # --- the rest

    def _note(self) -> None:
        """Name the living children. A full disk ends no fleet: it is tried again."""
        try:
            self._notes.children(self._children.known(), stopping=self._stopping)
        except OSError as error:
            if not self._note_due:
                text = f"supervisor.json cannot be written ({error.strerror}); tried again"
                self._speaker.say(Say(text))
            self._note_due = True
        else:
            self._note_due = False

    def _check_logs(self, now: float) -> None:
        if now < self._log_check_at:
            return
        self._log_check_at = now + LOG_CHECK_S
        if self._note_due:
            self._note()
        self._speaker.cap()
        for path in self._children.cap_logs():
            self._speaker.say(Say(f"{path.name} was full and is rotated"))

    def _close(self, result: Finish) -> None:
        self._close_link()
        try:
            self._notes.end(result)
        except OSError as error:
            self._speaker.say(Say(f"why the fleet ended cannot be written ({error.strerror})"))
        self._clear_run_folder()
        self._children.close()
        self._selector.close()
        self._speaker.close()

    def _clear_run_folder(self) -> None:
        """What is ours in it goes, and the folder with it, unless somebody else uses it."""
        socket = Path(self._record.endpoint.removeprefix("ipc://"))
        record = self._record
        for path in (record.sandbox_file, record.sandbox_state_file, socket):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            Path(self._record.run_dir).rmdir()
