"""``node.economy``, alone and behind a broker."""

from __future__ import annotations

from pathlib import Path

import pytest

import shard_node
from tests.node.shared_states import API, api
from tests.support.aio import async_test

pytestmark = pytest.mark.parametrize("kind", API)


@async_test
async def test_money_moves_and_is_read_at_once(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        first = await node.economy.deposit("user:1", 100)
        tx = await node.economy.transfer("user:1", "user:2", 40, user=7, reason="a gift")
        assert (first.id, tx.id, tx.lsn) == (1, 2, 2)
        assert tx.results == ({"source": 60, "target": 40},)
        assert node.economy.balance("user:1") == 60
        assert await node.economy.fetch("user:2") == 40
        await node.economy.withdraw("user:2", 40)
        assert node.economy.balance("user:2") == 0


@async_test
async def test_the_same_key_is_the_same_transfer(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        await node.economy.deposit("a", 100)
        one = await node.economy.transfer("a", "b", 10, idempotency_key="order 1")
        two = await node.economy.transfer("a", "b", 10, idempotency_key="order 1")
        assert one == two
        assert node.economy.balance("a") == 90
        with pytest.raises(shard_node.OpIdReused) as reused:
            await node.economy.transfer("a", "b", 11, idempotency_key="order 1")
        assert reused.value.details == {"tx": one.id}
        assert "new key" in reused.value.hint
        with pytest.raises(shard_node.OpIdReused):
            async with node.transaction(idempotency_key="order 1") as tx:
                tx.economy.transfer("a", "b", 10)
                tx.economy.transfer("a", "b", 10)
        assert node.economy.balance("a") == 90


@async_test
async def test_a_key_may_be_an_interaction_s_id(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        one = await node.economy.deposit("a", 100, idempotency_key=1081223344556677889)
        assert await node.economy.deposit("a", 100, idempotency_key="1081223344556677889") == one
        async with node.transaction(idempotency_key=5) as tx:
            tx.economy.deposit("a", 1)
        assert node.economy.balance("a") == 101


@async_test
async def test_an_account_s_name_has_192_bytes(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        longest = "a" * 192
        await node.economy.deposit(longest, 1)
        await node.economy.transfer(longest, "\u00e9" * 96, 1)
        assert len(await node.economy.history(longest)) == 2
        with pytest.raises(shard_node.BadName, match="193 bytes; the limit is 192") as long:
            await node.economy.deposit("a" * 193, 1)
        assert "192" in long.value.hint


@async_test
async def test_refusals_are_classes_and_write_nothing(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        economy = node.economy
        await economy.deposit("a", 10)
        for amount in (0, -1, 1 << 63, 1.5, True, "1"):
            with pytest.raises(shard_node.BadAmount):
                await economy.transfer("a", "b", amount)  # type: ignore[arg-type]
        with pytest.raises(shard_node.SelfTransfer):
            await economy.transfer("a", "a", 1)
        with pytest.raises(shard_node.BadName):
            await economy.transfer("a", "", 1)
        with pytest.raises(shard_node.UnknownAccount):
            await economy.transfer("x", "a", 1)
        with pytest.raises(shard_node.UnknownAccount):
            economy.balance("x")
        with pytest.raises(shard_node.InsufficientFunds) as short:
            await economy.transfer("a", "b", 11)
        assert short.value.details["balance"] == 10
        assert isinstance(short.value, shard_node.ShardNodeError)
        assert short.value.code == "E_FUNDS"
        with pytest.raises(shard_node.UnknownAccount):
            economy.balance("b")
        assert len(await node.state.log()) == 1


@async_test
async def test_history_and_rollback(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        economy = node.economy
        await economy.deposit("a", 100)
        tx = await economy.transfer("a", "b", 30, user=5, reason="why")
        await economy.deposit("c", 1)
        records = await economy.history("a")
        assert [record.kinds for record in records] == [("Deposit",), ("Transfer",)]
        assert (records[1].user, records[1].reason, records[1].node) == (5, "why", node.name)
        assert records[1].ops[0]["amount"] == 30
        back = await economy.rollback(tx.id, "a mistake")
        assert (economy.balance("a"), economy.balance("b")) == (100, 0)
        with pytest.raises(shard_node.AlreadyUndone):
            await economy.rollback(tx.id, "again")
        await node.state.rollback(back.id, "it was right")
        assert economy.balance("b") == 30


@async_test
async def test_an_overdraft_is_allowed_first(kind: str, tmp_path: Path) -> None:
    async with api(kind, tmp_path) as node:
        await node.economy.deposit("a", 1)
        await node.economy.allow_overdraft("a", -50)
        await node.economy.transfer("a", "b", 51)
        assert node.economy.balance("a") == -50


@async_test
async def test_a_transaction_has_none_in_it(kind: str, tmp_path: Path) -> None:
    """It would be committed whatever became of the one around it."""
    async with api(kind, tmp_path) as node:
        await node.economy.deposit("a", 100)
        with pytest.raises(shard_node.BadValue) as refused:
            async with node.transaction() as tx:
                tx.economy.withdraw("a", 90)
                async with tx.transaction() as inner:
                    inner.economy.withdraw("a", 5)
        assert refused.value.hint
        assert node.economy.balance("a") == 100
