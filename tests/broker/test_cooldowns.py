"""Short cooldowns in the broker: at once, on one place, kept now and then."""

from __future__ import annotations

import msgspec
import pytest

from broker.core.effects import KeepNote
from broker.core.events import Tick
from broker.services import cooldowns
from shard_node.state.buckets import Buckets
from shard_node.state.cooldowns import AcquireCooldown, ClearCooldown
from shard_node.state.economy import Deposit
from shard_node.wire import topics
from shard_node.wire.state import (
    CooldownAcquire,
    CooldownClear,
    CooldownShow,
    CooldownStep,
    CooldownUse,
    StateOutcome,
)
from tests.support.state_world import A, B, StateWorld


def acquire(world: StateWorld, key: str, rate: int = 1, per_ms: int = 30_000) -> StateOutcome:
    outcome = world.outcome(AcquireCooldown(key, rate, per_ms))
    assert isinstance(outcome, StateOutcome)
    return outcome


def test_a_short_cooldown_is_answered_at_once_and_leaves_no_record() -> None:
    world = StateWorld()
    assert acquire(world, "x") == StateOutcome(0, ({"remaining": 0},))
    refused = acquire(world, "x")
    assert refused.error is not None
    assert (refused.error.code, refused.error.retryable) == ("E_COOLDOWN", True)
    assert refused.error.details["retry_after_s"] == 30.0
    world.now += 30
    assert acquire(world, "x").error is None
    assert not world.keeps


def test_it_waits_for_no_commit_of_others() -> None:
    world = StateWorld()
    world.do(world.tx(Deposit("ann", 1)))
    assert acquire(world, "x").error is None


def test_beside_a_transaction_it_is_answered_with_it() -> None:
    world = StateWorld()
    number = world.do(world.tx(AcquireCooldown("x", 1, 1000)), world.tx(Deposit("ann", 1)))
    assert world.answer(number) is None
    world.commit()
    assert [outcome.lsn for outcome in world.answer(number).outcomes] == [0, 1]


def test_among_other_operations_it_is_refused() -> None:
    """It would be counted twice over: once in memory, once in the log."""
    world = StateWorld(auto=True)
    outcome = world.outcome(AcquireCooldown("x", 1, 60_000), Deposit("a", 1))
    assert outcome.error is not None and outcome.error.code == "E_BAD_VALUE"
    assert "before the transaction" in outcome.error.hint
    outcome = world.outcome(AcquireCooldown("x", 1, 60_001), Deposit("a", 1))
    assert (outcome.error, outcome.lsn) == (None, 1)


def test_a_long_one_is_in_the_log() -> None:
    world = StateWorld(auto=True)
    assert acquire(world, "daily", per_ms=86_400_000).lsn == 1
    refused = acquire(world, "daily", per_ms=86_400_000)
    assert refused.error is not None
    assert refused.error.details["retry_after_ms"] == 86_400_000


def test_nodes_share_them() -> None:
    world = StateWorld()
    use = CooldownAcquire((CooldownUse("x", 2, 1000),))
    steps = [world.ask(topics.COOLDOWN_ACQUIRE, use, peer).steps[0] for peer in (A, B, A)]
    assert steps == [CooldownStep(0, 1), CooldownStep(0, 0), CooldownStep(1000, 0)]


@pytest.mark.parametrize(
    "use", [CooldownUse("", 1, 1), CooldownUse("x", 0, 1), CooldownUse("x", 1, 0),
            CooldownUse("x", 1, 60_001), CooldownUse("x", -1, 5), CooldownUse("x\0", 1, 5)],
)  # fmt: skip
def test_a_use_without_sense_has_an_error_and_spoils_no_other(use: CooldownUse) -> None:
    world = StateWorld()
    good = CooldownUse("y", 5, 1000)
    body = CooldownAcquire((good, use, good))
    first, odd, last = world.ask(topics.COOLDOWN_ACQUIRE, body).steps
    assert (first.remaining, last.remaining) == (4, 3)
    assert odd.error.code in {"E_BAD_VALUE", "E_BAD_NAME"}


def test_too_many_uses_are_refused() -> None:
    body = CooldownAcquire((CooldownUse("y", 5, 1000),) * 2000)
    assert StateWorld().ask(topics.COOLDOWN_ACQUIRE, body).code == "E_TOO_LARGE"


def test_they_are_shown_and_cleared() -> None:
    world = StateWorld()
    for key in ("a:1", "a:2", "b:1"):
        acquire(world, key)
    shown = world.ask(topics.COOLDOWN_SHOW, CooldownShow("a:", 1))
    assert ([window[0] for window in shown.windows], shown.more) == (["a:1"], True)
    assert world.ask(topics.COOLDOWN_CLEAR, CooldownClear(("a:1", "zz"))).count == 1
    assert acquire(world, "a:1").error is None
    assert world.outcome(ClearCooldown("a:2")) == StateOutcome(0, ({},))
    assert world.outcome(ClearCooldown("a:2")).error.code == "E_NOT_THERE"


def note(world: StateWorld) -> list[KeepNote]:
    world.now += cooldowns.CHECKPOINT_S
    effects = world.broker.on(Tick(), world.now)
    return [effect for effect in effects if isinstance(effect, KeepNote)]


def test_a_checkpoint_is_kept_where_something_changed() -> None:
    world = StateWorld()
    world.tick()
    assert note(world) == []
    acquire(world, "x", per_ms=60_000)
    (kept,) = note(world)
    assert note(world) == []
    restored = Buckets()
    at_ms = world.shared.clock.at_ms(world.now)
    assert restored.restore(msgspec.msgpack.decode(kept.data), at_ms) == 1
    assert restored.acquire("x", 1, 60_000, at_ms)[0] > 0


def test_too_many_windows_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooldowns, "CHECKPOINT_KEYS_MAX", 2)
    world = StateWorld()
    world.tick()
    for number in range(3):
        acquire(world, str(number), per_ms=60_000)
    assert note(world) == []
