"""An asyncio loop in virtual time: one for each simulated process.

A turn is what asyncio's own ``_run_once`` does: descriptors that are readable (the level of
ZeroMQ's signal, not whether frames wait), timers that are due, then what was ready at that
moment, and no more.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.support.plane_sim.world import Process, World


class LoopProcess(Process):
    """A process whose life is an asyncio loop."""

    def __init__(self, world: World, name: str, signalled: Callable[[int], bool]) -> None:
        super().__init__(world, name)
        self.loop = SimLoop(self, signalled)

    def turn(self) -> float | None:
        return self.loop.run_once()

    def end(self) -> None:
        """The process is gone: whatever it had begun stays so for ever."""
        self.alive = False
        loop = self.loop
        loop.dead = True
        loop.ready.clear()
        loop.timers.clear()
        loop.readers.clear()
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            task.get_coro().close()  # type: ignore[union-attr]


class SimLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as a node's shell uses."""

    def __init__(self, process: Process, signalled: Callable[[int], bool]) -> None:
        self.process = process
        self.ready: deque[asyncio.Handle] = deque()
        self.timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self.readers: dict[int, tuple[Callable[..., object], tuple[Any, ...]]] = {}
        self.dead = False
        self._signalled = signalled
        self._count = 0

    def run_once(self) -> float | None:
        """One turn; when the next is due."""
        ready, timers, now = self.ready, self.timers, self.process.now
        for descriptor, (call, args) in list(self.readers.items()):
            if self._signalled(descriptor):
                ready.append(asyncio.Handle(call, args, self))
        while timers and (timers[0][2]._cancelled or timers[0][0] <= now):
            timer = heapq.heappop(timers)[2]
            if not timer._cancelled:
                ready.append(timer)
                self.process.active()
        events._set_running_loop(self)
        try:
            for _ in range(len(ready)):
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
        finally:
            events._set_running_loop(None)
        if ready or any(map(self._signalled, self.readers)):
            return self.process.now
        return timers[0][0] if timers else None

    # --- what tasks, futures and the shell call

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        if not self.dead:
            self.ready.append(handle)
            if self.process.world.running is not self.process:
                self.process.wake()
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self.dead:
            self._count += 1
            heapq.heappush(self.timers, (when, self._count, handle))
            if self.process.world.running is not self.process:
                self.process.wake(when)
        return handle

    def time(self) -> float:
        return self.process.world.clock()

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> Any:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        self.readers[fd] = (callback, args)

    def remove_reader(self, fd: Any) -> bool:
        return self.readers.pop(fd, None) is not None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        text = f"{self.process.name}: {context.get('message')}: {error!r}"
        if not self.dead:
            self.process.world.fault(text)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self.dead

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None: ...
