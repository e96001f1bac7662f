"""A hand-over of shards: every death at every step, lost words, brokers that begin again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core import transfer
from broker.core.handover import Arm, Disarm, Flipped, Kill, Release, Settle, State, leftover
from shard_node.wire.handover import Phase
from tests.support import transfer_world
from tests.support.transfer_world import SHARDS, Play, World


def kinds(world: World) -> list[str]:
    """What was said, each kind once in a row."""
    names = [type(command).__name__ for command in world.said]
    return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]


def ticks_in(state: State, play: Play) -> int:
    """The first tick of an undisturbed play after which a transfer is in ``state``."""
    world = World(play)
    while world.transfer.state is not state:
        world.tick()
        assert world.ticks < 1000, state
    return world.ticks


def slow() -> Play:
    """Everything takes a while, so that each step can be met."""
    return Play(slow_take_s=2.0)


def test_a_respawn_hands_over_in_order() -> None:
    world = World(Play()).run()
    world.check()
    assert kinds(world) == ["Arm", "Release", "Flip", "Settle", "End"]
    assert world.end == ("done", "")
    assert world.owner is world.target


def test_a_move_flips_at_once_and_kills_nobody() -> None:
    world = World(Play(warms=False, settle_s=0.0)).run()
    world.check()
    assert kinds(world) == ["Arm", "Release", "Flip", "Settle", "End"]
    assert world.source.alive
    assert world.target.alive


@pytest.mark.parametrize(
    ("step", "who", "end", "owner"),
    [
        (State.WARMING, "source", "done", "target"),
        (State.TAKING, "source", "done", "target"),
        (State.SETTLING, "source", "done", "target"),
        (State.WARMING, "target", "failed", "source"),
        (State.TAKING, "target", "reverted", "source"),
        (State.SETTLING, "target", "reverted", "source"),
        (State.SETTLED, "target", "done", "target"),
        (State.SETTLED, "source", "done", "target"),
        (State.WARMING, "both", "failed", "source"),
        (State.TAKING, "both", "failed", "source"),
        (State.SETTLING, "both", "failed", "source"),
    ],
    ids=str,
)
def test_who_dies_at_which_step(step: State, who: str, end: str, owner: str) -> None:
    play = slow()
    tick = ticks_in(step, slow())
    world = World(play)
    while world.ticks < tick:
        world.tick()
    for name in ("source", "target") if who == "both" else (who,):
        getattr(world, name).die()
    world.run()
    world.check()
    assert world.end is not None
    assert world.end.state == end
    assert world.owner is getattr(world, owner)
    if who == "target" and owner == "source":
        assert "a#6 ended" in world.end.reason


@pytest.mark.parametrize("lost", [Arm, Release], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("who", ["source", "target", "both"])
def test_deaths_while_a_command_is_under_way(lost: type, who: str) -> None:
    world = World(Play(lost=(lost,)))
    while not any(isinstance(command, lost) for command in world.said):
        world.tick()
    for name in ("source", "target") if who == "both" else (who,):
        getattr(world, name).die()
    world.play.lost = ()
    world.run()
    world.check()
    assert world.end is not None
    assert world.end.state == ("done" if who == "source" else "failed")


def test_a_dead_source_is_not_waited_for_and_the_target_is_told_that_it_is_dead() -> None:
    world = World(Play(dies={1: "source"})).run()
    assert world.said[0] == Arm(SHARDS, "")
    assert kinds(world) == ["Arm", "Flip", "End"]


def test_a_source_that_does_not_give_up_is_killed_and_the_target_goes_on() -> None:
    world = World(Play(hangs={3: "source"})).run()
    world.check()
    assert [command.who for command in world.said if isinstance(command, Kill)] == ["source"]
    assert world.end == ("done", "")


def test_a_target_that_does_not_let_go_is_killed() -> None:
    world = World(Play(slow_take_s=2.0, hang_s=60.0))
    while world.target.phases[2] is not Phase.TAKING:
        world.tick()
    world.target.hung_at = world.now
    world.run()
    world.check()
    assert [command.who for command in world.said if isinstance(command, Kill)] == ["target"]
    assert world.end is not None
    assert world.end.state == "reverted"


def test_a_target_that_cannot_connect_is_tried_twice() -> None:
    world = World(Play(refuses=frozenset({3}), warms=False)).run()
    world.check()
    assert kinds(world) == ["Arm", "Disarm", "Arm", "Disarm", "End"]
    assert world.end == ("failed", "a#6 could not connect")
    assert world.target.phases == dict.fromkeys(SHARDS, Phase.NONE)


def test_a_target_that_never_gets_ready_leaves_the_source_alone() -> None:
    world = World(Play(warm_s=1000.0)).run()
    world.check()
    assert not [command for command in world.said if isinstance(command, Release | Kill)]
    assert world.end == ("failed", "a#6 did not become ready within 60 s ([lifecycle] ready_s)")


def test_a_cancelled_transfer_goes_back_before_the_flip_and_not_after_it() -> None:
    for tick in range(0, 40, 2):
        world = World(Play(cancels=tick, slow_take_s=1.0)).run()
        world.check()
        assert world.end is not None
        assert world.cancelled == (world.end.state != "done")
        if world.cancelled:
            assert world.end.reason == "cancelled"
            assert any(isinstance(command, Disarm) for command in world.said)


def test_voice_is_waited_for_but_not_longer_than_was_asked() -> None:
    world = World(Play(voice=17, voice_s=20.0))
    while world.transfer.state in (State.WARMING, State.VOICE):
        world.tick()
    assert world.now >= 20.0
    world = World(Play(voice=17, voice_s=20.0))
    while world.now < 5.0:
        world.tick()
    assert world.transfer.state is State.VOICE
    world.play.voice = 0
    world.run()
    assert world.end == ("done", "")


def test_a_permit_that_is_waited_for_is_no_delay_of_the_target() -> None:
    world = World(Play(slow_take_s=1000.0))
    while world.transfer.state is not State.TAKING:
        world.tick()
    for second in range(100):
        facts = world.facts()._replace(permit=True)
        assert world.transfer.look(facts, world.now + second) == []
        assert world.transfer.state is State.TAKING
    said = world.transfer.look(world.facts(), world.now + 120)
    assert [type(command) for command in said] == [Disarm]


def test_a_store_that_takes_nothing_is_asked_again() -> None:
    world = World(Play(store_fails=5)).run()
    world.check()
    assert [type(c).__name__ for c in world.said].count("Flip") == 6
    assert world.end == ("done", "")


def test_a_source_that_took_back_what_is_the_targets_for_good_is_killed() -> None:
    """The target died, and the word that it is over did not come through."""
    world = World(Play(lost=(Settle,)))
    while world.flipped is not Flipped.YES:
        world.tick()
    world.target.die()
    world.run()
    world.check()
    assert [command.who for command in world.said if isinstance(command, Kill)] == ["source"]
    assert world.end == ("done", "")


def test_nothing_is_said_before_all_that_live_have_reported_to_a_new_broker() -> None:
    world = World(slow())
    while world.transfer.state is not State.TAKING:
        world.tick()
    world.transfer = world._new_transfer()
    facts = world.facts()._replace(source={})
    for second in range(60):
        assert world.transfer.look(facts, world.now + second) == []
    said = world.transfer.look(world.facts(), world.now + 61)
    assert not [command for command in said if isinstance(command, Kill | Disarm)]


def test_settle_is_told_until_it_is_heard() -> None:
    world = World(Play(lost=(Settle,)))
    while sum(isinstance(command, Settle) for command in world.said) < 3:
        world.tick()
    world.play.lost = ()
    world.run()
    assert world.source.alive
    assert world.source.settled == set(SHARDS)


# --- random


def _plays() -> st.SearchStrategy[Play]:
    ticks, who = st.integers(0, 90), st.sampled_from(["source", "target"])
    return st.builds(
        Play,
        dies=st.dictionaries(ticks, who, max_size=2),
        hangs=st.dictionaries(ticks, who, max_size=1),
        broker=st.frozensets(ticks, max_size=3),
        cancels=st.one_of(st.just(-1), ticks),
        lossy=st.sampled_from([0.0, 0.3, 0.8]),
        warm_s=st.sampled_from([0.5, 3.0, 100.0]),
        refuses=st.sampled_from([frozenset(), frozenset(), frozenset({3})]),
        slow_take_s=st.sampled_from([0.25, 3.0, 20.0]),
        store_fails=st.integers(0, 3),
        warms=st.booleans(),
        settle_s=st.sampled_from([0.0, 3.0]),
        voice=st.sampled_from([0, 3]),
        voice_s=st.sampled_from([0.0, 5.0]),
        seed=st.integers(0, 1 << 30),
    )


def test_who_has_what_is_not_his_after_the_end_is_told() -> None:
    assert leftover(Phase.ARMED, owns=False) is Disarm
    assert leftover(Phase.RETAKEN, owns=False) is Disarm
    assert leftover(Phase.RELEASED, owns=False) is Settle
    for phase in Phase:
        assert leftover(phase, owns=True) is None
    for phase in (Phase.NONE, Phase.WARMING, Phase.WARM, Phase.FAILED):
        assert leftover(phase, owns=False) is None


@settings(max_examples=300, deadline=None)
@given(_plays())
def test_it_always_ends_and_each_shard_has_its_owner(play: Play) -> None:
    World(play).run().check()


FAULTS: dict[str, Callable[..., object]] = {
    "_settled": lambda self, _facts, _now: self._end("done"),
    "_undoing": lambda self, _facts, _now: self._end("failed"),
    "_deaths": lambda _self, _facts, _now: [],
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the words about what is over, which would mend most of them later."""
    monkeypatch.setattr(transfer_world, "leftover", lambda _phase, owns: None)
    monkeypatch.setattr(transfer.Transfer, name, FAULTS[name])
    for seed in range(500):
        play = Play(
            dies={seed % 60: "target"} if seed % 3 else {},
            hangs={seed % 50: "source"} if seed % 5 == 0 else {},
            lossy=0.5 if seed % 2 else 0.0,
            slow_take_s=(0.25, 3.0, 20.0)[seed % 3],
            cancels=seed % 20 if seed % 7 == 0 else -1,
            broker=frozenset({seed % 31, seed % 13}),
            warms=seed % 4 > 0,
            seed=seed,
        )
        try:
            World(play).run().check()
        except AssertionError:
            return
    pytest.fail(f"nobody noticed {name}")
