"""On the sandbox: tells it of every dispatch when its handlers start and end.

REST alone cannot show that an event without an answer was handled, so each audited event
carries a nonce, and this reports it. Never installed off the sandbox. With a folder, what a
killed process had not told yet is told by another one (`spool`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import aiohttp

from shard_node.bridge.spool import Remains, Spool, remains

_log = logging.getLogger(__name__)

NONCE: Final = "sandbox_nonce"
QUEUE_MAX_REPORTS: Final = 100_000
BATCH_MAX_REPORTS: Final = 500
RECONNECT_S: Final = 0.2
FLUSH_TIMEOUT_S: Final = 1.0
REMAINS_S: Final = 0.5
"""How often files of dead processes are looked for."""
MEMBERSHIP: Final = ("guild_join", "guild_remove")
"""What the bot is told of its guilds; the audit counts it."""


class _Event:
    """One dispatch: how many of its handlers are still to end."""

    __slots__ = ("nonce", "open", "scheduled", "started")

    def __init__(self, nonce: str) -> None:
        self.nonce = nonce
        self.open = 0
        self.scheduled = 0
        self.started = False


class Witness:
    """Reports to ``url`` in order. ``who`` is the node's ``name#epoch``."""

    def __init__(self, url: str, who: str, folder: Path | None = None) -> None:
        self._url, self._who = url, who
        self.dropped = 0
        self._untold = 0
        self._queue: deque[dict[str, Any]] = deque()
        self._first = 0
        """Number of the first report of the queue; they count from 0."""
        self._told = 0
        """So many the sandbox has."""
        self._spool: Spool | None = None
        self._remains: list[Remains] = []
        self._folder = folder
        if folder is not None:
            self._keep(folder)
        self._event: _Event | None = None
        self._waiting = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._task: asyncio.Task[None] | None = None

    def _keep(self, folder: Path) -> None:
        try:
            self._spool = Spool(folder, self._who)
        except OSError as error:
            _log.warning("what the witness sees does not survive a kill: %s", error)

    def start(self) -> None:
        """Begin to report, on the running loop."""
        self._task = asyncio.create_task(self._report(), name="shardctl: witness")

    async def close(self) -> None:
        """Let what is queued leave, at most FLUSH_TIMEOUT_S long."""
        if self._task is None:
            return
        try:
            await asyncio.wait_for(self._drained.wait(), FLUSH_TIMEOUT_S)
        except TimeoutError:
            _log.warning("the witness still held %d reports", len(self._queue))
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for left in self._remains:
            left.leave()
        if self._spool is not None:
            self._spool.close(self._told)

    # --- standing in the way of events

    def tap(self, state: Any) -> None:
        """Stand in for the parsers and for ``dispatch`` of one connection state."""
        state.parsers = _Tapped(self, state.parsers)
        dispatch = state.dispatch

        def seen(event: str, *args: Any) -> None:
            if event in MEMBERSHIP:
                at = time.monotonic()
                if self._spool is not None:
                    self._spool.other(event, at)
                self._put({"kind": event, "node": self._who, "at": at})
            dispatch(event, *args)

        state.dispatch = seen

    def parse(self, parser: Callable[[Any], Any] | None, data: Any) -> None:
        """Run a parser; its handlers are scheduled meanwhile, synchronously."""
        nonce = data.get(NONCE) if isinstance(data, dict) else None
        if nonce is None:
            if parser is not None:
                parser(data)
            return
        event = _Event(str(nonce))
        before, self._event = self._event, event
        try:
            if parser is not None:
                parser(data)
        finally:
            self._event = before
        # Not reached when the parser failed: then nothing handled the event, and none says so.
        if not event.scheduled:
            # In a turn of its own, as a handler's first step would be: else it would
            # overtake the handlers that an earlier event has scheduled.
            asyncio.get_running_loop().call_soon(self._passed, event)

    def wrap(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """``handler``, reporting as one of the handlers of the event being parsed."""
        event = self._event
        if event is None:
            return handler
        event.scheduled += 1
        event.open += 1

        async def witnessed(*args: Any, **kwargs: Any) -> Any:
            if not event.started:
                event.started = True
                self._phase(event, "start")
            try:
                return await handler(*args, **kwargs)
            finally:
                event.open -= 1
                if not event.open:
                    self._phase(event, "end")

        return witnessed

    # --- sending

    def _phase(self, event: _Event, phase: str) -> None:
        at = time.monotonic()
        if self._spool is not None:
            self._spool.phase(phase[0], at, event.nonce)
        self._put({"nonce": event.nonce, "node": self._who, "phase": phase, "at": at})

    def _passed(self, event: _Event) -> None:
        self._phase(event, "start")
        self._phase(event, "end")

    def _put(self, report: dict[str, Any]) -> None:
        if len(self._queue) >= QUEUE_MAX_REPORTS:
            self._queue.popleft()
            self._first += 1
            self.dropped += 1
            self._untold += 1
        self._queue.append(report)
        self._drained.clear()
        self._waiting.set()

    async def _report(self) -> None:
        while True:
            try:
                async with aiohttp.ClientSession() as http, http.ws_connect(self._url) as ws:
                    await self._converse(ws)
            except (OSError, aiohttp.ClientError) as error:
                _log.debug("the witness connects again: %r", error)
                await asyncio.sleep(RECONNECT_S)

    async def _converse(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        sending = asyncio.gather(self._send_all(ws), self._send_remains(ws))
        try:
            async for message in ws:
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._answered(json.loads(message.data))
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    def _answered(self, answer: dict[str, Any]) -> None:
        """The sandbox says how many reports of a source it has."""
        source, told = answer["source"], answer["told"]
        if self._spool is not None and source == self._spool.source:
            self._told = told
            self._spool.told(told)
            self._note_drained()
        for left in [one for one in self._remains if one.source == source and told >= one.end]:
            self._remains.remove(left)
            left.over()

    async def _send_all(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        while not ws.closed:
            await self._waiting.wait()
            self._waiting.clear()
            while self._queue:
                await self._send_batch(ws)
            self._note_drained()

    async def _send_remains(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        """What dead processes did not tell; one beside this may die at any time."""
        sent = set[str]()
        while self._folder is not None and self._spool is not None:
            known = {self._spool.source, *(left.source for left in self._remains)}
            with contextlib.suppress(OSError):
                self._remains += remains(self._folder, known)
            for left in [one for one in self._remains if one.source not in sent]:
                sent.add(left.source)
                for at in range(0, max(1, len(left.reports)), BATCH_MAX_REPORTS):
                    batch = left.reports[at : at + BATCH_MAX_REPORTS]
                    await ws.send_str(json.dumps([_from(left.source, left.first + at), *batch]))
            await asyncio.sleep(REMAINS_S)

    def _note_drained(self) -> None:
        """With a spool, all is out when the sandbox has said that it has it."""
        if not self._queue and (self._spool is None or self._told == self._spool.count):
            self._drained.set()

    async def _send_batch(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        size = min(len(self._queue), BATCH_MAX_REPORTS)
        batch = [self._queue.popleft() for _ in range(size)]
        first, self._first = self._first, self._first + size
        untold, self._untold = self._untold, 0
        head = [{"kind": "dropped", "node": self._who, "count": untold}] if untold else []
        if self._spool is not None:
            head.append(_from(self._spool.source, first))
        try:
            await ws.send_str(json.dumps(head + batch))
        except BaseException:
            self._untold += untold
            self._first = first
            self._queue.extendleft(reversed(batch))
            self._waiting.set()
            raise


def _from(source: str, first: int) -> dict[str, Any]:
    """Says whose the reports behind it are, and the number of the first."""
    return {"kind": "from", "source": source, "first": first}


class _Tapped(dict[str, Any]):
    """The parsers, each behind the witness; an event without a parser is seen too."""

    def __init__(self, witness: Witness, parsers: dict[str, Any]) -> None:
        super().__init__({event: _behind(witness, parser) for event, parser in parsers.items()})
        self._witness = witness

    def __missing__(self, event: str) -> Any:
        return _behind(self._witness, None)


def _behind(witness: Witness, parser: Callable[[Any], Any] | None) -> Callable[[Any], None]:
    def seen(data: Any) -> None:
        witness.parse(parser, data)

    return seen
