"""On the sandbox: tells it of every dispatch when its handlers start and end.

REST alone cannot show that an event without an answer was handled, so each audited event
carries a nonce, and this reports it. Never installed off the sandbox.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import aiohttp

_log = logging.getLogger(__name__)

NONCE: Final = "sandbox_nonce"
QUEUE_MAX_REPORTS: Final = 100_000
BATCH_MAX_REPORTS: Final = 500
RECONNECT_S: Final = 0.2
FLUSH_TIMEOUT_S: Final = 1.0


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

    def __init__(self, url: str, who: str) -> None:
        self._url, self._who = url, who
        self.dropped = 0
        self._untold = 0
        self._queue: deque[dict[str, Any]] = deque()
        self._event: _Event | None = None
        self._waiting = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._task: asyncio.Task[None] | None = None

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

    # --- standing in the way of events

    def tap(self, state: Any) -> None:
        """Stand in for the parsers and for ``dispatch`` of one connection state."""
        state.parsers = _Tapped(self, state.parsers)
        dispatch = state.dispatch

        def seen(event: str, *args: Any) -> None:
            if event == "guild_join":
                self._put({"kind": "guild_join", "node": self._who, "at": time.monotonic()})
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
        self._put({"nonce": event.nonce, "node": self._who, "phase": phase, "at": time.monotonic()})

    def _passed(self, event: _Event) -> None:
        self._phase(event, "start")
        self._phase(event, "end")

    def _put(self, report: dict[str, Any]) -> None:
        if len(self._queue) >= QUEUE_MAX_REPORTS:
            self._queue.popleft()
            self.dropped += 1
            self._untold += 1
        self._queue.append(report)
        self._drained.clear()
        self._waiting.set()

    async def _report(self) -> None:
        while True:
            try:
                async with aiohttp.ClientSession() as http, http.ws_connect(self._url) as ws:
                    await self._send_all(ws)
            except (OSError, aiohttp.ClientError) as error:
                _log.debug("the witness connects again: %r", error)
                await asyncio.sleep(RECONNECT_S)

    async def _send_all(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        while not ws.closed:
            await self._waiting.wait()
            self._waiting.clear()
            while self._queue:
                await self._send_batch(ws)
            self._drained.set()

    async def _send_batch(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        size = min(len(self._queue), BATCH_MAX_REPORTS)
        batch = [self._queue.popleft() for _ in range(size)]
        untold, self._untold = self._untold, 0
        lost = [{"kind": "dropped", "node": self._who, "count": untold}] if untold else []
        try:
            await ws.send_str(json.dumps(lost + batch))
        except Exception:
            self._untold += untold
            self._queue.extendleft(reversed(batch))
            self._waiting.set()
            raise


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
