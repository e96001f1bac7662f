"""Which handlers run: told to the journal when an event's first one starts and its last ends.

A handler belongs to the event during whose parsing disnake scheduled it. What is scheduled
elsewhere (`on_ready`, loops) belongs to none. READY and RESUMED have none either: their
handlers answer nobody, and often hold a loop of the author's that never ends.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from disnake.client import Client
from disnake.ui.modal import Modal
from disnake.ui.view import View

from shard_node.bridge.gateway import hold_of

if TYPE_CHECKING:
    from shard_node.journal.writer import ShardJournal

NONCE: Final = "sandbox_nonce"
"""How the sandbox names an event (bridge.witness)."""


class Line:
    """One session in a shard's journal, or in a guild's: its sequence numbers mean nothing in
    the next one."""

    __slots__ = ("alive", "first_at", "journal", "last_at")

    def __init__(self, journal: ShardJournal) -> None:
        self.journal = journal
        self.alive = True
        self.first_at = self.last_at = 0.0
        """When handlers of an event started; monotonic."""


class Running:
    """An event whose handlers run."""

    __slots__ = ("_line", "_open", "_seq", "_tracking", "channel", "guild")

    def __init__(self, line: Line, seq: int, channel: int, guild: int, tracking: Tracking) -> None:
        self._line, self._seq, self.channel, self.guild = line, seq, channel, guild
        self._tracking = tracking
        tracking.all.add(self)
        self._open = 1
        """The parsing counts as one, so that a handler that ends at once is not the last."""

    def begins(self) -> None:
        """One more handler."""
        self._open += 1

    def ended(self) -> None:
        """One less."""
        self._open -= 1
        if self._open:
            return
        if self._line.alive:
            self._line.journal.done(self._seq)
        self._tracking.ended(self)


class Tracking:
    """The event that is being parsed now, and who takes note of its handlers."""

    def __init__(self) -> None:
        self._line: Line | None = None
        self._seq = 0
        self._event = ""
        self._data: Any = None
        self._running: Running | None = None
        self.all = set[Running]()
        """The events whose handlers run."""
        self._awaited = dict[int, list[asyncio.Future[None]]]()

    def begin(
        self, line: Line, seq: int, event: str, data: Any, running: Running | None = None
    ) -> None:
        """Parsing begins. ``running``: of an event that was to be handled elsewhere."""
        self._line, self._seq, self._event, self._data = line, seq, event, data
        self._running = running

    def elsewhere(self, line: Line, seq: int, event: str, data: Any) -> Running:
        """An event goes to another process: it runs until ``Running.ended``."""
        self.begin(line, seq, event, data)
        running = self._start(line)
        self._line = self._data = self._running = None
        return running

    def channels(self) -> set[int]:
        """Where the events came from whose handlers run."""
        return {running.channel for running in self.all} - {0}

    def busy(self, guild: int) -> int:
        """How many events of a guild have handlers that run."""
        return sum(running.guild == guild for running in self.all)

    async def quiet(self, guild: int, timeout_s: float) -> bool:
        """Until no handler of a guild runs. False: some still do when the time is over."""
        if not self.busy(guild):
            return True
        future = asyncio.get_running_loop().create_future()
        waiting = self._awaited.setdefault(guild, [])
        waiting.append(future)
        try:
            await asyncio.wait({future}, timeout=timeout_s)
        finally:
            waiting.remove(future)
            if not waiting and self._awaited.get(guild) is waiting:
                del self._awaited[guild]
        return future.done()

    def ended(self, running: Running) -> None:
        """The last handler of an event has ended."""
        self.all.discard(running)
        awaited = self._awaited.get(running.guild)
        if awaited and not self.busy(running.guild):
            for future in awaited:
                if not future.done():
                    future.set_result(None)

    def end(self) -> None:
        """Parsing is over."""
        running = self._running
        self._line = self._data = self._running = None
        if running is not None:
            running.ended()

    def take(self) -> Running | None:
        """A handler is scheduled: what it belongs to. Written before it can take a step."""
        line = self._line
        if line is None:
            return None
        running = self._running
        if running is None:
            running = self._start(line)
        running.begins()
        return running

    def _start(self, line: Line) -> Running:
        channel = int(self._data.get("channel_id") or 0)
        guild = int(self._data.get("guild_id") or 0)
        running = self._running = Running(line, self._seq, channel, guild, self)
        line.last_at = time.monotonic()
        line.first_at = line.first_at or line.last_at
        self._started(line.journal)
        return running

    def _started(self, journal: ShardJournal) -> None:
        data = self._data
        journal.started(self._seq, self._event, int(data.get("guild_id") or 0), _key(data))
        if asyncio.get_running_loop().get_task_factory() is not None:
            journal.flush()  # an eager one takes the first step before any callback


def _key(data: Any) -> str:
    """What names the event for people: the sandbox's nonce, or the message or interaction."""
    return str(data.get(NONCE) or data.get("id") or "")


async def _tracked(
    run: Callable[..., Coroutine[Any, Any, Any]], running: Running, *args: Any, **kwargs: Any
) -> Any:
    try:
        return await run(*args, **kwargs)
    finally:
        running.ended()


def install() -> None:
    """Patch disnake: handlers of events, of views and of modals."""
    run, view, modal = Client._run_event, View._scheduled_task, Modal._scheduled_task

    @functools.wraps(run)
    def held_run(self: Client, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, None]:
        running = _taken(self)
        if running is None:
            return run(self, *args, **kwargs)
        return _tracked(run, running, self, *args, **kwargs)

    @functools.wraps(view)
    def held_view(self: View, item: Any, interaction: Any) -> Coroutine[Any, Any, None]:
        running = _taken(interaction.client)
        if running is None:
            return view(self, item, interaction)
        return _tracked(view, running, self, item, interaction)

    @functools.wraps(modal)
    def held_modal(self: Modal, interaction: Any) -> Coroutine[Any, Any, None]:
        running = _taken(interaction.client)
        if running is None:
            return modal(self, interaction)
        return _tracked(modal, running, self, interaction)

    Client._run_event = held_run  # type: ignore[method-assign]
    View._scheduled_task = held_view  # type: ignore[method-assign]
    Modal._scheduled_task = held_modal  # type: ignore[method-assign]


def _taken(client: Any) -> Running | None:
    hold = hold_of(client)
    return None if hold is None else hold.tracking.take()
