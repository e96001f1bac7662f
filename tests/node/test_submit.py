"""Transactions on their way: coalesced, bounded, resent with their op id, each with its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import shard_node
from shard_node.shared import submit
from shard_node.state.economy import Account
from shard_node.state.keys import Table, key_of
from shard_node.state.rows import read
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.topics import STATE_DO
from tests.node.shared_states import StateBroker
from tests.peer.nodes import make, running, until
from tests.support.aio import async_test


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[StateBroker]:
    with StateBroker(f"ipc://{tmp_path}/b.sock") as broker:
        yield broker


def balance(broker: StateBroker, account: str) -> int:
    row = read(Account, broker.memory.view.get(key_of(Table.ACCOUNT, account)))
    assert row is not None
    return row.balance


@async_test
async def test_a_turn_is_one_request_in_order(broker: StateBroker) -> None:
    node = make(broker.endpoint, "a")
    async with running(node):
        done = await asyncio.gather(*(node.economy.deposit("a", i + 1) for i in range(300)))
        assert [tx.id for tx in done] == list(range(1, 301))
        assert broker.frames == [submit.FRAME_MAX_TXS, 300 - submit.FRAME_MAX_TXS]


@async_test
async def test_one_refusal_spoils_no_other(broker: StateBroker) -> None:
    node = make(broker.endpoint, "a")
    async with running(node):
        found = await asyncio.gather(
            node.economy.deposit("a", 5),
            node.economy.transfer("a", "b", 9),
            node.economy.transfer("a", "b", 5),
            return_exceptions=True,
        )
        assert [type(one).__name__ for one in found] == ["Tx", "InsufficientFunds", "Tx"]
        assert len(broker.frames) == 1


@async_test
async def test_short_cooldowns_wait_for_no_disk(broker: StateBroker) -> None:
    node = make(broker.endpoint, "a")
    async with running(node):
        await asyncio.gather(node.economy.deposit("a", 5), node.cooldowns.acquire("k", 1, 5))
        assert broker.frames == [1, 1]


@async_test
async def test_an_answer_that_is_lost_with_the_broker_is_asked_for_again(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/b.sock"
    node = make(endpoint, "a")
    first = StateBroker(endpoint)
    first.__enter__()
    try:
        async with running(node):
            first.swallow = 1
            waiting = asyncio.ensure_future(node.economy.deposit("a", 5))
            await until(lambda: first.frames)
            first.close()
            with StateBroker(endpoint, first.memory) as second:
                tx = await waiting
                assert (tx.id, balance(second, "a"), second.memory.place.lsn) == (1, 5, 1)
    finally:
        first.close()


@async_test
async def test_busy_is_tried_again_and_full_is_told(broker: StateBroker) -> None:
    node = make(broker.endpoint, "a")
    async with running(node):
        broker.refuse = [ErrorBody("E_BUSY", "wait", retryable=True)] * 3
        assert (await node.economy.deposit("a", 5)).id == 1
        broker.refuse = [ErrorBody("E_STORE_FULL", "not kept", retryable=True)]
        with pytest.raises(shard_node.StoreFull) as full:
            await node.economy.deposit("a", 5)
        assert full.value.retryable and full.value.hint
        assert balance(broker, "a") == 5


@async_test
async def test_a_deadline_is_the_caller_s_own(broker: StateBroker) -> None:
    node = make(broker.endpoint, "a")
    async with running(node):
        broker.swallow = 1
        early = asyncio.ensure_future(node.economy.deposit("a", 1, timeout_s=0.1))
        late = asyncio.ensure_future(node.economy.deposit("a", 1, timeout_s=0.4))
        with pytest.raises(shard_node.RequestTimeout):
            await early
        assert not late.done()
        with pytest.raises(shard_node.RequestTimeout):
            await late
        assert node._fleet_state._submitter.waiting == 0


@async_test
async def test_too_many_are_refused_at_once(
    broker: StateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "WAITING_MAX", 3)
    node = make(broker.endpoint, "a")
    async with running(node):
        found = await asyncio.gather(
            *(node.economy.deposit("a", 1) for _ in range(5)), return_exceptions=True
        )
        assert [type(one).__name__ for one in found].count("QueueFull") == 2
        await node.economy.deposit("a", 1)


@async_test
async def test_without_a_broker_writes_end_and_cooldowns_go_on(tmp_path: Path) -> None:
    node = make(f"ipc://{tmp_path}/nobody.sock", "a")
    node.attach(asyncio.get_running_loop())
    try:
        with pytest.raises(shard_node.ShardNodeError) as gone:
            await node.economy.deposit("a", 1, timeout_s=0.1)
        assert gone.value.retryable
        assert await node.cooldowns.acquire("k", 1, 30)
        assert not await node.cooldowns.acquire("k", 1, 30)
        with pytest.raises(shard_node.ShardNodeError):
            await node.cooldowns.acquire("k", 1, 30, timeout_s=0.1, broker_down="raise")
        with pytest.raises(shard_node.BrokerUnavailable, match="not loaded"):
            node.economy.balance("a")
    finally:
        node.detach()
        node._context.destroy(linger=0)


@async_test
async def test_the_end_of_the_node_ends_what_waits(broker: StateBroker) -> None:
    node = make(broker.endpoint, "a")
    async with running(node):
        broker.swallow = 1
        waiting = asyncio.ensure_future(node.economy.deposit("a", 1))
        await until(lambda: broker.of(STATE_DO))
    with pytest.raises(shard_node.BrokerUnavailable):
        await waiting


@async_test
async def test_outcomes_that_fit_nothing_are_an_error(broker: StateBroker) -> None:
    from shard_node.wire.state import StateDone

    node = make(broker.endpoint, "a")
    broker.answers[STATE_DO] = lambda seen: StateDone(())
    async with running(node):
        with pytest.raises(shard_node.RequestFailed):
            await node.economy.deposit("a", 1)


@async_test
async def test_a_burst_of_events_is_read_to_its_end(broker: StateBroker) -> None:
    """More frames at once than a turn reads, and nothing is sent meanwhile."""
    from shard_node.wire.bodies import ShardReady
    from shard_node.wire.topics import SHARD_READY

    node = make(broker.endpoint, "a")
    heard: list[int] = []
    node.on(SHARD_READY, lambda message: heard.append(message.body.shard))
    async with running(node):
        for shard in range(300):
            broker.send(b"a#1", SHARD_READY, ShardReady(shard, 300, 0, False))
        await until(lambda: len(heard) == 300)
        assert heard == list(range(300))
