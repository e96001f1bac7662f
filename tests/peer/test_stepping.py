"""Coroutines run up to where they first wait, on each loop and in each way that there is."""

from __future__ import annotations

import asyncio
import contextvars
import importlib.util
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import shard_node
from shard_node.peer.stepping import Stepper
from shard_node.wire.targets import Node
from tests.peer.nodes import make, running
from tests.peer.stand_in import StandIn

DEADLINE_S = 10.0
NO_UVLOOP = importlib.util.find_spec("uvloop") is None
LOOPS = [
    "asyncio",
    pytest.param("uvloop", marks=pytest.mark.skipif(NO_UVLOOP, reason="uvloop is an extra")),
]
WAYS = [
    "_step",
    pytest.param(
        "_start_eagerly",
        marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are of 3.12"),
    ),
]
Main = Coroutine[Any, Any, None]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Callable[[Main], None]]:
    """Runs a coroutine on one kind of loop."""
    factory: Any = asyncio.new_event_loop
    if request.param == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        yield lambda main: runner.run(asyncio.wait_for(main, DEADLINE_S))


class Steps:
    """A Stepper whose coroutines are started in a callback of the loop, as the plane does."""

    def __init__(self, way: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.stepper = Stepper(self.loop)
        self.ends: list[tuple[Any, Any]] = []
        self._start = getattr(self.stepper, way)

    async def start(self, *coros: Coroutine[Any, Any, Any]) -> int:
        """Start them in one callback; how many have ended within it."""
        begun: asyncio.Future[int] = self.loop.create_future()

        def callback() -> None:
            before = len(self.ends)
            for coro in coros:
                self._start(coro, lambda result, error: self.ends.append((result, error)))
            begun.set_result(len(self.ends) - before)

        self.loop.call_soon(callback)
        return await begun

    async def ended(self, count: int) -> list[tuple[Any, Any]]:
        while len(self.ends) < count:
            await asyncio.sleep(0)
        return self.ends


def test_the_way_is_that_of_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    ways: list[str] = []
    monkeypatch.setattr(Stepper, "_step", lambda *_: ways.append("_step"))
    monkeypatch.setattr(Stepper, "_start_eagerly", lambda *_: ways.append("_start_eagerly"))
    loop: Any = None
    for version in ((3, 11), (3, 12), (3, 13)):
        monkeypatch.setattr("shard_node.peer.stepping.sys.version_info", version)
        Stepper(loop).start(None, None)  # type: ignore[arg-type]
    assert ways == ["_step", "_start_eagerly", "_start_eagerly"]


def test_an_eager_task_is_asked_for_as_python_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below 3.12 too: a task that has ended at once is not watched, another is."""
    given: list[Any] = []

    class Eager:
        over = True

        def __init__(self, coro: Any, *, loop: Any, eager_start: bool) -> None:
            coro.close()
            given.append((loop, eager_start))

        def done(self) -> bool:
            return self.over

        def add_done_callback(self, call: Any) -> None:
            given.append(call)

    async def nothing() -> None: ...

    monkeypatch.setattr("shard_node.peer.stepping.asyncio.Task", Eager)
    loop: Any = object()
    stepper = Stepper(loop)
    for over in (True, False):
        Eager.over = over
        coro = nothing()
        stepper._start_eagerly(coro, lambda *_: None)
        coro.close()
    assert given == [(loop, True), (loop, True), stepper.running.discard]
    assert len(stepper.running) == 1


@pytest.mark.parametrize("way", WAYS)
def test_what_does_not_wait_ends_at_once(run: Callable[[Main], None], way: str) -> None:
    async def main() -> None:
        steps = Steps(way)

        async def quick(value: int) -> int:
            if value == 2:
                raise KeyError(value)
            return value

        assert await steps.start(quick(1), quick(2), quick(3)) == 3
        (one, _), (_, error), (three, none) = steps.ends
        assert (one, three, none) == (1, 3, None) and isinstance(error, KeyError)
        assert not steps.stepper.running
        steps.stepper.close()

    run(main())


@pytest.mark.parametrize("way", WAYS)
def test_what_waits_goes_on_as_the_same_task(run: Callable[[Main], None], way: str) -> None:
    """In its own context, while the next one starts."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")

    async def main() -> None:
        steps = Steps(way)
        futures = [steps.loop.create_future() for _ in range(3)]

        async def waits(number: int) -> tuple[bool, str, int]:
            before = asyncio.current_task()
            variable.set(f"of {number}")
            got = await futures[number]
            await asyncio.sleep(0)
            return before is asyncio.current_task(), variable.get(), got

        assert await steps.start(*map(waits, range(3))) == 0
        assert len(steps.stepper.running) == 3 and variable.get() == ""
        for number in (2, 0, 1):
            futures[number].set_result(number)
        ends = await steps.ended(3)
        assert sorted(ends, key=str) == [((True, f"of {n}", n), None) for n in range(3)]
        assert await steps.start(waits(0)) == 0
        await steps.ended(4)
        await asyncio.sleep(0)
        assert not steps.stepper.running
        steps.stepper.close()

    run(main())


@pytest.mark.parametrize("way", WAYS)
def test_deadlines_hold_from_the_first_step(run: Callable[[Main], None], way: str) -> None:
    async def main() -> None:
        steps = Steps(way)

        async def slow() -> str:
            try:
                async with asyncio.timeout(0.01):
                    await asyncio.Event().wait()
            except TimeoutError:
                await asyncio.sleep(0)
            return "in time"

        async def at_once() -> None:
            async with asyncio.timeout(-1):
                await asyncio.sleep(0)

        assert await steps.start(slow(), at_once()) == 0
        ends = await steps.ended(2)
        assert ("in time", None) in ends
        assert [type(error) for _, error in ends if error] == [TimeoutError]
        steps.stepper.close()

    run(main())


@pytest.mark.parametrize("way", WAYS)
def test_what_runs_is_cancelled_at_the_end(run: Callable[[Main], None], way: str) -> None:
    async def main() -> None:
        steps = Steps(way)
        cleaned: list[str] = []

        async def forever(name: str) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cleaned.append(name)

        assert await steps.start(forever("old")) == 0
        await asyncio.sleep(0)
        assert await steps.start(forever("new")) == 0
        tasks = list(steps.stepper.running)
        steps.stepper.close()
        ends = await steps.ended(2)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert sorted(cleaned) == ["new", "old"]
        assert [type(error) for _, error in ends] == [asyncio.CancelledError] * 2
        assert all(task.cancelled() for task in tasks)

    run(main())


def test_nodes_talk_on_each_loop(run: Callable[[Main], None], tmp_path: Path) -> None:
    async def main() -> None:
        a, b = make(broker.endpoint, "a"), make(broker.endpoint, "b")
        b.serve("double", lambda message: message.body * 2)
        got: list[int] = []

        @b.serve("slow")
        async def slow(message: Any) -> str:
            async with asyncio.timeout(DEADLINE_S):
                await asyncio.sleep(0.001)
            return "done"

        b.on("n", lambda message: got.append(message.body))
        async with running(a, b):
            for number in range(2000):
                await a.publish("n", number)
            answers = [a.request(Node("b"), name, 4) for name in ("double", "slow") * 20]
            assert await asyncio.gather(*answers) == [8, "done"] * 20
            assert await a.send(Node("b"), "n", 2000) == shard_node.Receipt("delivered")
            assert got == list(range(2001))
            with pytest.raises(shard_node.RequestTimeout):
                await a.request(Node("b"), "slow", timeout_s=0.0001)

    with StandIn(f"ipc://{tmp_path}/b.sock") as broker:
        run(main())
