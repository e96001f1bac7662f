"""A copy of the rows in memory is what the broker has, whatever happened while it was away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from shard_node.errors import RequestTimeout
from shard_node.shared.backend import Logged
from shard_node.shared.intake import Intake
from shard_node.shared.replica import Replica
from shard_node.state.deltas import delta_of, name_of
from shard_node.state.economy import Deposit
from shard_node.state.erasing import ForgetUser
from shard_node.state.keys import BOOKKEEPING, Table, key_of
from shard_node.state.log import erased
from shard_node.state.machine import Applied
from shard_node.state.moderation import BanUser
from shard_node.state.values import DeleteValue, SetValue
from shard_node.wire.categories import StateUpdate
from shard_node.wire.state import StateAt
from tests.support.aio import async_test
from tests.support.state import World


class Broker:
    """What an Intake and a Replica ask, answered from a ``World``; ``fails`` answers are late."""

    def __init__(self) -> None:
        self.world = World()
        self.era, self.first, self.fails = "one", 1, 0
        self.told: list[StateUpdate] = []
        self.intake = Intake(self, self.told.append)
        self.replica: Any = None
        self.task: asyncio.Task[None] | None = None

    def copy(self) -> Replica:
        """Keep one."""
        self.replica = self.intake.replica = Replica(self)  # type: ignore[arg-type]
        return self.intake.replica

    async def where(self) -> StateAt:
        place = self.world.place
        return StateAt(place.lsn, place.at_ms, self.first, place.at_ms, self.era)

    async def read_log(self, after: int, limit: int) -> Logged:
        last = self.world.place.lsn
        found = range(max(after + 1, self.first), min(last, after + limit) + 1)
        entries = tuple(self.world.entries[lsn] for lsn in found)
        return Logged(entries, entries[-1].lsn if entries else last, self.first, last, False)

    async def rows(self, keys: Sequence[bytes]) -> list[tuple[bytes | None, int]]:
        await asyncio.sleep(0)
        if keys and self.fails:
            self.fails -= 1
            raise RequestTimeout("late")
        return [(self.world.view.get(key), self.world.place.lsn) for key in keys]

    async def all_there(self) -> AsyncIterator[tuple[bytes, bytes]]:
        for row in list(self.world.view.scan(b"")):
            await asyncio.sleep(0)
            yield row

    def missed(self) -> None:
        self.intake.again()
        if self.task is None or self.task.done():
            self.task = asyncio.ensure_future(self._catch_up())

    async def _catch_up(self) -> None:
        while True:
            try:
                await self.intake.catch_up()
                return
            except RequestTimeout:
                await asyncio.sleep(0)

    def tell(self, applied: Applied) -> None:
        """A change comes."""
        for key, row in applied.writes.items():
            delta = delta_of(key, applied.before[key], row) if key in applied.before else None
            if delta is not None:
                self.intake.heard(update_of(key, delta, applied.lsn))
        self.intake.reached(applied.lsn)

    def restore(self, backup: World, *more: Any) -> None:
        """A backup takes the place of the state, and this is done to it."""
        self.world, self.era = World(), "two"
        self.world._ids = iter(range(1000, 2000))  # type: ignore[assignment]
        self.world.view.write(backup.view.rows)
        self.world.entries, self.world.place = dict(backup.entries), backup.place
        for op in more:
            self.world.do(op)

    def backup(self) -> World:
        kept = World()
        kept.view.write(self.world.view.rows)
        kept.entries, kept.place = dict(self.world.entries), self.world.place
        return kept

    def check(self) -> None:
        """The copy has what the broker has, and shows where that stands."""
        there = dict(self.world.view.scan(b""))
        wanted = {key: row for key, row in there.items() if key[1] not in BOOKKEEPING}
        found = {key: row for key, row in self.replica.scan(b"") if key[1] not in BOOKKEEPING}
        # sums are rows as well, of which nobody is told
        assert strip(found) == strip(wanted)
        assert (self.replica.lsn, self.intake.lsn) == (self.world.place.lsn,) * 2

    def names(self) -> list[tuple[str, str, int, int]]:
        """What was told since the last time."""
        found = [(u.table, u.key, u.old_version, u.new_version) for u in self.told]
        self.told.clear()
        return sorted(found)


def strip(rows: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {key: row for key, row in rows.items() if key[1] != Table.TOTAL}


def update_of(key: bytes, delta: Any, lsn: int) -> StateUpdate:
    return StateUpdate(
        delta.table.name.lower(), key[0], name_of(delta.parts), delta.changed,
        delta.old_version, delta.new_version, lsn, "", delta.removed,
    )  # fmt: skip


HIM = 81384788765712384
HIS = [("account", f"user:{HIM}", 1, 0), ("ban", f"{HIM}/global", 1, 0)]


async def broker_with_him() -> Broker:
    broker = Broker()
    broker.copy()
    broker.intake.listen(True)
    broker.world.do(Deposit(f"user:{HIM}", 5))
    broker.world.do(BanUser(HIM, "global", "a secret reason"))
    broker.world.do(SetValue("kept", 1))
    await broker.intake.catch_up()
    broker.told.clear()
    return broker


@pytest.mark.parametrize("left", ["log", "erased", "trimmed"])
@async_test
async def test_who_was_forgotten_meanwhile_is_in_no_copy(left: str) -> None:
    broker = await broker_with_him()
    broker.world.do(BanUser(HIM, 5, "another"))
    broker.world.do(ForgetUser(HIM))
    broker.world.do(SetValue("after", 1))
    if left == "erased":
        for lsn in (1, 2, 4):
            broker.world.entries[lsn] = erased(broker.world.entries[lsn])
    broker.first = 6 if left == "trimmed" else 1
    await broker.intake.catch_up()
    broker.check()
    assert broker.replica.get(key_of(Table.BAN, HIM, "global")) is None
    assert broker.names() == [*HIS, ("value", "after", 0, 1)]
    broker.world.do(SetValue("more", 1))
    await broker.intake.catch_up()
    broker.check()
    assert broker.names() == [("value", "more", 0, 1)]


@async_test
async def test_what_cannot_be_read_while_all_is_compared_is_told_the_next_time() -> None:
    broker = await broker_with_him()
    broker.world.do(ForgetUser(HIM))
    broker.fails = 1
    with pytest.raises(RequestTimeout):
        await broker.intake.catch_up()
    assert not broker.told
    await broker.intake.catch_up()
    broker.check()
    assert broker.names() == HIS


@pytest.mark.parametrize("more", [0, 3, 9], ids=["shorter", "longer", "far-longer"])
@async_test
async def test_after_a_restored_backup_the_copy_is_the_backup(more: int) -> None:
    broker = Broker()
    broker.copy()
    broker.intake.listen(True)
    broker.world.do(SetValue("a", "of the backup"))
    backup = broker.backup()
    for number in range(3):
        broker.world.do(SetValue("a", number))
    broker.world.do(SetValue("lost", 1))
    await broker.intake.catch_up()
    broker.told.clear()
    broker.restore(backup, *(SetValue("b", number) for number in range(more)))
    broker.intake.registered(0, "two")
    assert broker.replica.lsn == 0  # who waits for what he wrote now is not to be let go
    await broker.intake.catch_up()
    broker.check()
    news = [("value", "b", 0, more)] if more else []
    assert broker.names() == [("value", "a", 4, 1), *news, ("value", "lost", 1, 0)]
    broker.tell(broker.world.do(SetValue("a", "again")))
    broker.check()
    assert broker.names() == [("value", "a", 1, 2)]
    await broker.intake.catch_up()
    assert not broker.told


@async_test
async def test_a_process_without_a_copy_is_told_all_of_a_restored_backup() -> None:
    broker = Broker()
    broker.intake.listen(True)
    await broker.intake.catch_up()
    broker.tell(broker.world.do(SetValue("a", 1)))
    backup = broker.backup()
    broker.tell(broker.world.do(SetValue("a", 2)))
    broker.told.clear()
    broker.restore(backup, SetValue("b", 1), SetValue("b", 2))
    await broker.intake.catch_up()
    assert broker.names() == [("value", "a", 0, 1), ("value", "b", 0, 2)]
    await broker.intake.catch_up()
    assert not broker.told


@async_test
async def test_one_late_answer_does_not_end_a_copy() -> None:
    broker = Broker()
    copy = broker.copy()
    broker.world.do(SetValue("a", 1))
    await broker.intake.catch_up()
    broker.world.do(SetValue("a", 2))  # this change is lost
    broker.fails = 3
    broker.tell(broker.world.do(SetValue("a", 3)))
    await copy.reach(3, 5)
    assert broker.fails == 0
    broker.check()
    broker.tell(broker.world.do(SetValue("a", 4)))
    broker.check()


@async_test
async def test_an_answer_that_is_older_than_what_was_told_since_is_asked_for_again() -> None:
    broker = Broker()
    copy = broker.copy()
    broker.world.do(SetValue("a", 1))
    await broker.intake.catch_up()
    broker.world.do(SetValue("a", 2))
    broker.tell(broker.world.do(SetValue("a", 3)))
    answered, rows = asyncio.Event(), broker.rows

    async def late(keys: Sequence[bytes]) -> list[tuple[bytes | None, int]]:
        found = await rows(keys)
        await answered.wait()
        return found

    broker.rows = late  # type: ignore[method-assign]
    await asyncio.sleep(0.01)
    broker.tell(broker.world.do(DeleteValue("a")))  # newer than the answer, which is on its way
    answered.set()
    await copy.reach(4, 5)
    broker.check()
    assert copy.get(key_of(Table.VALUE, "a")) is None


@async_test
async def test_who_listens_later_loses_nothing_of_the_copy() -> None:
    broker = Broker()
    broker.copy()
    broker.world.do(SetValue("a", 1))
    await broker.intake.catch_up()
    broker.world.do(SetValue("a", 2))  # while no broker is there
    broker.intake.listen(True)
    await broker.intake.catch_up()
    broker.check()
    assert broker.names() == [("value", "a", 1, 2)]


@async_test
async def test_an_account_that_was_missed_is_told_whole() -> None:
    broker = Broker()
    broker.intake.listen(True)
    broker.world.do(Deposit("a", 5))
    await broker.intake.catch_up()
    broker.world.do(Deposit("a", 5))
    await broker.intake.catch_up()
    (update,) = broker.told
    assert (update.old_version, update.new_version) == (0, 2)
    assert update.changed["balance"] == 10
