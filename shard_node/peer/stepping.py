"""Running a coroutine up to where it first waits, at once and without a task for each.

CPython 3.12 has tasks that start eagerly. Before it, one spare task at a time stands ready:
it is the current task while a coroutine takes its first step, so that ``asyncio.timeout``
and ``asyncio.current_task`` work in it, and only when the coroutine waits does the task take
it over, with what it waits for.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import types
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from typing import Any

Finish = Callable[[Any, BaseException | None], None]
"""Called once with the result, or with what was raised."""
Coro = Coroutine[Any, Any, Any]


class Stepper:
    """Starts coroutines on one loop. ``running`` are those that wait for something."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._spare: _Spare | None = None
        self.running: set[asyncio.Task[None]] = set()

    def start(self, coro: Coro, finish: Finish) -> None:
        """Take the first step; ``finish`` is called when the coroutine ends, maybe at once."""
        if sys.version_info >= (3, 12):
            self._start_eagerly(coro, finish)
        else:
            self._step(coro, finish)

    def close(self) -> None:
        """Cancel what runs."""
        if self._spare is not None:
            self._spare.task.cancel()
            self._spare = None
        for task in list(self.running):
            task.cancel()

    def _start_eagerly(self, coro: Coro, finish: Finish) -> None:
        task: asyncio.Task[None] = asyncio.Task(
            _to_the_end(coro, finish),
            loop=self._loop,
            eager_start=True,  # type: ignore[call-arg,unused-ignore]
        )
        if not task.done():
            self._watch(task)

    def _step(self, coro: Coro, finish: Finish) -> None:
        spare = self._spare or _Spare(self._loop)
        self._spare = None
        error: BaseException | None = None
        result = None
        _enter_task(self._loop, spare.task)
        try:
            waited = spare.context.run(coro.send, None)
        except StopIteration as end:
            result = end.value
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as raised:
            error = raised
        else:
            spare.take_over(coro, waited, finish)
            self._watch(spare.task)
            return
        finally:
            _leave_task(self._loop, spare.task)
        if not spare.task.cancelling():
            self._spare = spare
        finish(result, error)

    def _watch(self, task: asyncio.Task[None]) -> None:
        self.running.add(task)
        task.add_done_callback(self.running.discard)


class _Spare:
    """A task that waits for a coroutine that has taken its first step."""

    __slots__ = ("_baton", "_coro", "_finish", "_waited", "context", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.context = contextvars.copy_context()
        self._baton: asyncio.Future[None] = loop.create_future()
        self._coro: Coro | None = None
        self._finish: Finish | None = None
        self._waited: Any = None
        self.task = asyncio.Task(self._drive(), loop=loop, context=self.context)

    def take_over(self, coro: Coro, waited: Any, finish: Finish) -> None:
        """Go on with a coroutine that waits for ``waited``."""
        self._coro, self._waited, self._finish = coro, waited, finish
        if not self._baton.done():
            self._baton.set_result(None)
        self.task.add_done_callback(self._done)

    async def _drive(self) -> None:
        cancelled = None
        try:
            await self._baton
        except asyncio.CancelledError as error:
            if self._coro is None:
                raise
            cancelled = error
        coro, self._coro = self._coro, None
        finish = self._finish
        assert coro is not None and finish is not None
        await _to_the_end(_rest(coro, self._waited, cancelled), finish)

    def _done(self, task: asyncio.Task[None]) -> None:
        """Cancelled before it began: the coroutine must not vanish."""
        if self._coro is not None and self._finish is not None:
            self._coro.close()
            self._finish(None, asyncio.CancelledError())
        elif not task.cancelled():
            task.exception()


async def _to_the_end(coro: Coro, finish: Finish) -> None:
    try:
        result = await coro
    except (KeyboardInterrupt, SystemExit):
        raise
    except asyncio.CancelledError as error:
        finish(None, error)
        raise
    except BaseException as error:
        finish(None, error)
    else:
        finish(result, None)


@types.coroutine
def _rest(coro: Coro, waited: Any, error: BaseException | None) -> Generator[Any, Any, Any]:
    """A coroutine from where its first step left it: it waits for ``waited``.

    ``error`` is thrown in first. A future's ``_asyncio_future_blocking`` is still set, so
    the task takes it as if its own coroutine had yielded it.
    """
    while True:
        if error is None:
            try:
                yield waited
            except BaseException as caught:
                error = caught
            else:
                break
        try:
            waited = coro.throw(error)
        except StopIteration as end:
            return end.value
        error = None
    return (yield from coro)
