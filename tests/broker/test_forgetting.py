"""The log forgets a person in pieces, over crashes, while all else goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker.core.events import StateCommitted
from broker.core.stateport import ERASED, Forgetting
from broker.services import forgetting
from shard_node.state.cooldowns import AcquireCooldown
from shard_node.state.erasing import ForgetUser
from shard_node.state.errors import StoreDamaged
from shard_node.state.log import GENESIS, Entry, fault
from shard_node.state.tx import Actor
from shard_node.state.values import SetValue
from shard_node.wire import topics
from shard_node.wire.state import CooldownShow
from tests.support.state_world import OP, StateWorld

HIM, OTHER = 4_242_424_242, 77
COUNT = 350


def filled() -> StateWorld:
    """Each seventh record is his."""
    world = StateWorld(auto=True)
    for lsn in range(1, COUNT + 1):
        world.outcome(SetValue(f"v{lsn % 9}", lsn), actor=Actor("a", OTHER if lsn % 7 else HIM))
    return world


def run(world: StateWorld) -> list[int]:
    """Until nobody is left; which records were erased."""
    found: list[int] = []
    for _ in range(500):
        if not world.shared.forgetting:
            return found
        if world.erases:
            found += world.erases[0].lsns
            world.erase()
        world.tick(forgetting.PIECE_S)
    raise AssertionError("it does not end")


def test_all_that_tells_of_him_is_erased_and_the_chain_is_whole() -> None:
    world = filled()
    world.outcome(ForgetUser(HIM))
    assert world.ask(topics.STATUS, [], OP)["state"]["forgetting"] == 1
    assert run(world) == [lsn for lsn in range(1, COUNT + 1) if lsn % 7 == 0]
    previous = GENESIS
    for lsn in range(1, COUNT + 2):
        entry = world.port.entry(lsn)
        assert entry is not None
        assert fault(entry, previous) == ""
        assert (entry.body is None) == (lsn % 7 == 0 and lsn <= COUNT)
        previous = entry.digest


def test_it_does_nothing_where_nobody_is_to_be_forgotten() -> None:
    world = filled()
    world.tick(10)
    assert not world.erases


def test_two_persons_one_after_the_other() -> None:
    world = filled()
    world.outcome(ForgetUser(HIM))
    world.outcome(ForgetUser(OTHER))
    assert sorted(run(world)) == list(range(1, COUNT + 1))


def test_what_is_left_is_kept_with_each_step() -> None:
    world = StateWorld()
    for lsn in range(1, 251):
        world.do(world.tx(SetValue("x", lsn), actor=Actor("a", HIM)))
    while world.keeps:
        world.commit()
    world.do(world.tx(ForgetUser(HIM)))
    assert world.keeps[0].forgetting == (Forgetting(HIM, 251, 0),)
    world.commit()
    world.tick(forgetting.PIECE_S)
    assert world.erases[0].forgetting == (Forgetting(HIM, 251, 100),)
    world.tick(10)
    assert len(world.erases) == 1  # one at a time
    again = StateWorld(world.port)  # the broker died, and the erasing with it
    again.shared.forgetting = list((world.keeps and []) or [Forgetting(HIM, 251, 0)])
    again.tick()
    assert run(again) == list(range(1, 251))


def test_an_erasing_that_is_not_kept_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = filled()
    world.outcome(ForgetUser(HIM))
    world.tick(forgetting.PIECE_S)
    first = world.erases.popleft()
    world.give(StateCommitted(ERASED, "E_STORE_FULL", "no room"))
    assert world.resets == 0  # rows and records were kept
    world.tick(forgetting.RETRY_S / 2)
    assert not world.erases
    world.tick(forgetting.RETRY_S)
    assert world.erases[0] == first
    assert len(run(world)) == COUNT // 7


def test_his_short_cooldowns_go_at_once() -> None:
    world = StateWorld(auto=True)
    for key in (f"daily:{HIM}", f"daily:{OTHER}"):
        world.outcome(AcquireCooldown(key, 1, 60_000))
    world.outcome(ForgetUser(HIM))
    shown = world.ask(topics.COOLDOWN_SHOW, CooldownShow())
    assert [window[0] for window in shown.windows] == [f"daily:{OTHER}"]


def test_a_log_that_is_trimmed_meanwhile() -> None:
    world = filled()
    world.outcome(ForgetUser(HIM))
    world.port.trim(200)
    found = [lsn for lsn in run(world) if lsn >= 200]
    assert found == [lsn for lsn in range(200, COUNT + 1) if lsn % 7 == 0]
    left = [entry for lsn in range(200, COUNT + 1) if (entry := world.port.entry(lsn))]
    assert [entry.lsn for entry in left if entry.body is None] == found


def test_an_erasing_keeps_who_is_forgotten_by_a_commit_that_is_under_way() -> None:
    world = filled()
    world.auto = False
    world.do(world.tx(ForgetUser(HIM)))
    world.commit()
    world.do(world.tx(ForgetUser(OTHER)))
    assert [one.user for one in world.keeps[0].forgetting or ()] == [HIM, OTHER]
    world.erase()  # it was given to the writer before
    while not world.erases:
        world.tick(forgetting.PIECE_S)
    assert [one.user for one in world.erases[0].forgetting] == [HIM, OTHER]
    world.commit()
    assert world.shared.forgetting_soon == []
    run(world)
    every = [world.port.entry(lsn) for lsn in range(1, COUNT + 1)]
    assert [entry for entry in every if entry is None or entry.body is not None] == []


def test_a_commit_keeps_who_was_forgotten_by_the_one_before() -> None:
    world = StateWorld()
    world.do(world.tx(ForgetUser(HIM)))
    world.do(world.tx(ForgetUser(OTHER)))
    world.commit()  # the next one is sent before anybody hears of this one's end
    assert [one.user for one in world.keeps[0].forgetting or ()] == [HIM, OTHER]


def test_who_was_not_forgotten_after_all_is_not_kept_any_more() -> None:
    world = filled()
    world.auto = False
    world.do(world.tx(ForgetUser(HIM)))
    world.commit()
    world.do(world.tx(ForgetUser(OTHER)))
    world.fail()
    world.erase()
    world.tick(forgetting.PIECE_S)
    assert [one.user for one in world.erases[0].forgetting] == [HIM]


def test_a_damaged_record_is_the_only_one_that_is_skipped() -> None:
    world = filled()
    read = world.port.entry

    def entry(lsn: int) -> Entry | None:
        if lsn == 14:
            raise StoreDamaged("record 14 of the log cannot be read")
        return read(lsn)

    def entries(after: int, limit: int) -> Iterator[Entry]:
        for lsn in range(after + 1, after + limit + 1):
            found = entry(lsn)
            assert found is not None
            yield found

    world.port.entry = entry  # type: ignore[method-assign]
    world.port.entries = entries  # type: ignore[method-assign]
    world.outcome(ForgetUser(HIM))
    assert run(world) == [lsn for lsn in range(1, COUNT + 1) if lsn % 7 == 0 and lsn != 14]
