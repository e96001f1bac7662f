"""What only a bot without a fleet has: a state in memory, whose log and its books do not grow."""

from __future__ import annotations

from collections import Counter

import pytest

import shard_node
from shard_node.lone import LoneNode
from shard_node.shared import alone
from shard_node.state.economy import RECENT_MAX
from shard_node.state.keys import Table
from tests.support.aio import async_test


@async_test
async def test_the_log_and_its_books_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "LOG_KEPT", 20)
    node = LoneNode()
    memory = node._backend.memory
    await node.economy.deposit("a", 10_000)
    for number in range(1, 200):
        await node.economy.transfer("a", "b", 1)
        await node.moderation.ban(number, "global", "why")
        made = await node.state.set("v", number)
        await node.state.rollback(made.id, "why")
    kept = Counter(Table(key[1]) for key in memory.view.rows)
    assert len(memory.entries) == 20
    assert kept[Table.HISTORY] <= 3 * 20 and kept[Table.UNDONE] <= 20
    page = await node.economy.history("a")
    assert page and page[0].id >= page.first == memory.place.lsn - 19
    last = made.id
    await node.state.rollback(last + 1, "do it again")
    assert node.state.get("v") == 199


@async_test
async def test_ever_new_names_take_no_room_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "LOG_KEPT", 20)
    node = LoneNode()
    memory = node._backend.memory
    rare = 0
    for number in range(2000):
        await node.state.set(f"n{number}", number)
        await node.state.set(f"n{number}", -number)
        await node.state.delete(f"n{number}")
        if number % 40 == 0:
            await node.economy.deposit("rare", 1)
            rare += 1
    assert rare > RECENT_MAX
    kept = Counter(Table(key[1]) for key in memory.view.rows)
    assert kept[Table.GONE] <= 20 and kept[Table.SWEPT] <= 256 and not kept[Table.HISTORY]
    await node.state.set("n0", "again")
    assert node.state.version("n0") > 2


@async_test
async def test_the_history_of_a_trimmed_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "LOG_KEPT", 3)
    node = LoneNode()
    for number in range(3):
        await node.moderation.ban(5, "global", f"{number}")
    await node.economy.deposit("a", 1)
    await node.moderation.ban(5, "global", "last")
    for _ in range(2):
        await node.economy.deposit("a", 1)
    page = await node.moderation.history(5)
    assert ([record.id for record in page], page.first, page.more) == ([5], 5, False)


@async_test
async def test_waiting_for_what_never_comes_is_a_timeout_of_ours() -> None:
    node = LoneNode()
    with pytest.raises(shard_node.RequestTimeout, match="has not reached 999"):
        await node.state.sync(999, timeout_s=0.01)
    await node.economy.deposit("a", 1)
    assert await node.state.sync(1, timeout_s=0.01) == 1
