"""``once_per_fleet``: who runs, who asks, what a silent broker means."""

from __future__ import annotations

import asyncio
import types
from typing import Any

import pytest

from shard_node import leases
from shard_node.errors import BotLoadError, BrokerUnavailable
from shard_node.wire import bodies, topics


class Fleet:
    """A node whose broker answers as the test says."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []
        self.broker_up = True
        self.client = object()

    async def ask(self, topic: str, body: Any, **_: Any) -> Any:
        assert topic == topics.LEASE
        self.asked.append(body)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return bodies.LeaseReply(answer, "x")


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    made = Fleet()
    monkeypatch.setattr(leases, "current", lambda: made)
    return made


def decorated() -> tuple[Any, list[int]]:
    calls: list[int] = []

    @leases.once_per_fleet
    async def tick(number: int) -> int:
        calls.append(number)
        return number

    return tick, calls


def run(*coroutines: Any) -> list[Any]:
    async def main() -> list[Any]:
        found = [await coroutine for coroutine in coroutines]
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        return found

    return asyncio.run(main())


def test_alone_it_always_runs() -> None:
    tick, calls = decorated()
    assert run(tick(1), tick(2)) == [1, 2]
    assert calls == [1, 2]


def test_the_holder_runs_and_asks_once(fleet: Fleet) -> None:
    fleet.answers = [True]
    tick, _ = decorated()
    assert run(tick(1), tick(2), tick(3)) == [1, 2, 3]
    assert len(fleet.asked) == 1


def test_the_others_do_nothing_and_ask_each_time(fleet: Fleet) -> None:
    fleet.answers = [False, False, True]
    tick, _ = decorated()
    assert run(tick(1), tick(2), tick(3)) == [None, None, 3]


def test_with_the_broker_away_the_holder_stays_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_TTL_S", 1e-9)
    fleet.answers = [True, BrokerUnavailable("x"), BrokerUnavailable("x")]
    tick, _ = decorated()

    async def main() -> None:
        assert await tick(1) == 1
        fleet.broker_up = False
        assert await tick(2) == 2
        fleet.broker_up = True
        assert await tick(3) is None

    run(main())


def test_without_a_broker_a_newcomer_does_not_run(fleet: Fleet) -> None:
    fleet.answers, fleet.broker_up = [BrokerUnavailable("x")], False
    tick, _ = decorated()
    assert run(tick(1)) == [None]


def test_a_loop_object_is_decorated_by_its_body(fleet: Fleet) -> None:
    async def body() -> int:
        return 5

    loop = types.SimpleNamespace(coro=body)
    assert leases.once_per_fleet(name="mine")(loop) is loop
    fleet.answers = [False]
    assert run(loop.coro()) == [None]
    assert fleet.asked[0].name == "mine"


def test_anything_else_is_told() -> None:
    with pytest.raises(BotLoadError, match="once_per_fleet") as caught:
        leases.once_per_fleet(lambda: None)
    assert "async def" in caught.value.hint
