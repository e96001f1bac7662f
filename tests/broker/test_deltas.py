"""What is told of the state is numbered for each receiver, and costs what changed."""

from __future__ import annotations

from typing import Any

import pytest

from broker.core import queues
from broker.core.events import FrameReceived, NodeGone
from shard_node.state.guild_config import UpdateConfig
from shard_node.state.values import DeleteValue, SetValue
from shard_node.wire import topics
from shard_node.wire.bodies import Heartbeat, HeartbeatAck, Register, Welcome
from shard_node.wire.codec import decode_body, encode_body, encode_header
from shard_node.wire.header import Kind, header
from shard_node.wire.identity import client_id, heartbeat_id
from shard_node.wire.state import StateDone
from shard_node.wire.targets import BROKER
from tests.support.state_world import A, B, Heard, StateWorld

GUILD_OF_A, GUILD_OF_B = 1 << 22, 2 << 22


def told(world: StateWorld, peer: bytes, topic: str = topics.STATE_UPDATE) -> list[Heard]:
    return [f for f in world.heard if f.peer == peer and f.head.topic == topic]


def numbers(world: StateWorld, peer: bytes, topic: str = topics.STATE_UPDATE) -> list[int]:
    return [frame.head.correlation for frame in told(world, peer, topic)]


def beat(world: StateWorld) -> HeartbeatAck:
    head = header(Kind.REQUEST, BROKER, topics.HEARTBEAT, correlation=7)
    frame = FrameReceived(
        heartbeat_id("a", 1), encode_header(head), encode_body(Heartbeat(1, 0.0, 0, 0, ()))
    )
    world.give(frame)
    ack: HeartbeatAck = told(world, heartbeat_id("a", 1), topics.HEARTBEAT)[-1].read()
    return ack


def config(guild: int, **fields: Any) -> UpdateConfig:
    return UpdateConfig(guild=guild, fields=fields)


def test_each_receiver_has_its_own_numbers() -> None:
    world = StateWorld(auto=True)
    world.subscribe(B, "state:config")
    for number in range(3):
        world.outcome(config(GUILD_OF_A, n=number))
        world.outcome(config(GUILD_OF_B, n=number))
    assert numbers(world, A) == [1, 2, 3]
    assert numbers(world, B) == [1, 2, 3, 4, 5, 6]


def test_commits_and_heartbeats_say_the_last_number() -> None:
    world = StateWorld(auto=True)
    world.subscribe(A, topics.STATE_COMMITTED)
    world.subscribe(B, topics.STATE_COMMITTED)
    assert beat(world).told == 0
    world.outcome(config(GUILD_OF_A, n=1))
    world.outcome(config(GUILD_OF_A, n=2))
    world.tick(1)
    assert numbers(world, A, topics.STATE_COMMITTED) == [1, 2]
    assert numbers(world, B, topics.STATE_COMMITTED) == [0, 0]
    assert beat(world).told == 2


def test_who_registers_again_hears_where_the_numbers_stand() -> None:
    world = StateWorld(auto=True)
    world.outcome(config(GUILD_OF_A, n=1))
    number = world.send(A, topics.REGISTER, Register("a", 1, 1, 4, ()))
    welcome = world.answer(number)
    assert isinstance(welcome, Welcome)
    assert (welcome.accepted, welcome.told) == (True, 1)
    world.outcome(config(GUILD_OF_A, n=2))
    assert numbers(world, A) == [1, 2]


def test_who_registers_or_asks_hears_of_which_era_the_state_is() -> None:
    world = StateWorld(auto=True)
    world.shared.era = "one"
    welcome = world.ask(topics.REGISTER, Register("a", 1, 1, 4, ()))
    client = world.ask(topics.CLIENT_REGISTER, ["bank", []], client_id("bank", 1, 2))
    assert (welcome.era, client.era, world.ask(topics.STATE_MARK, [0]).era) == ("one",) * 3


def test_a_client_counts_too_and_is_forgotten() -> None:
    world = StateWorld(auto=True)
    me = client_id("bank", 1, 2)
    number = world.send(me, topics.CLIENT_REGISTER, ["bank", ["state:value"]])
    assert world.answer(number).told == 0
    world.outcome(SetValue("x", 1))
    number = world.send(me, topics.HEARTBEAT, Heartbeat(1, 0.0, 0, 0, ()))
    assert world.answer(number).told == 1
    world.tick(60)
    assert me.decode() not in world.shared.told


def test_what_is_pushed_out_of_a_full_queue_has_had_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = StateWorld(auto=True)
    world._drain = lambda: None  # type: ignore[method-assign]
    monkeypatch.setattr(world.broker.outbox, "_spare", [])
    monkeypatch.setattr(queues, "QUEUE_MAX_FRAMES", (4, 4, 4, 4))
    monkeypatch.setattr(world.broker.outbox, "_queue_for", lambda _peer: queues.Queue((4, 4, 4, 4)))
    for number in range(10):
        world.outcome(config(GUILD_OF_A, n=number))
    StateWorld._drain(world)
    assert numbers(world, A) == [7, 8, 9, 10]
    assert beat_after(world) == 10


def beat_after(world: StateWorld) -> int:
    world._drain = lambda: StateWorld._drain(world)  # type: ignore[method-assign]
    return beat(world).told


def test_an_owner_that_is_gone_hears_nothing_and_its_successor_goes_on() -> None:
    world = StateWorld(auto=True)
    world.outcome(config(GUILD_OF_A, n=1))
    world.give(NodeGone("a", 1))
    world.broker.fleet.table.leave("a")
    world.outcome(config(GUILD_OF_A, n=2))
    assert numbers(world, A) == [1]


def test_a_guild_that_moved_is_told_to_its_new_owner() -> None:
    world = StateWorld(auto=True)
    world.outcome(config(GUILD_OF_A, n=1))
    world.broker.fleet.table.override(GUILD_OF_A, "b")
    world.outcome(config(GUILD_OF_A, n=2))
    world.broker.fleet.table.override(GUILD_OF_A, None)
    world.outcome(config(GUILD_OF_A, n=3))
    assert [f.read().changed for f in told(world, A)] == [{"n": 1}, {"n": 3}]
    assert [f.read().changed for f in told(world, B)] == [{"n": 2}]


def delta_bytes(fields: int) -> tuple[int, int]:
    """The frame of one changed field of so many, and of the whole configuration, in bytes."""
    world = StateWorld(auto=True)
    whole = {f"setting_{n:02}": f"value number {n}" for n in range(fields)}
    world.outcome(config(GUILD_OF_A, **whole))
    world.outcome(config(GUILD_OF_A, setting_07="another value"))
    first, one = told(world, A)
    size = len(encode_header(one.head)) + len(one.body)
    return size, len(encode_header(first.head)) + len(first.body)


def test_one_field_of_thirty_costs_one_field() -> None:
    one, whole = delta_bytes(30)
    assert one < 150
    assert whole > 6 * one


# --- an answer that does not fit


def test_an_answer_that_is_too_large_says_what_was_committed() -> None:
    world = StateWorld(auto=True)
    names = [f"{n:03}" + "x" * 190 for n in range(1024)]
    world.do(*(world.tx(SetValue(name, 1)) for name in names[:500]))
    txs = [world.tx(DeleteValue(name, 5 if n < 500 else None)) for n, name in enumerate(names)]
    txs[3] = world.tx(SetValue("kept", 1))
    number = world.do(*txs)
    answer = world.answer(number)
    assert isinstance(answer, StateDone)
    assert answer.outcomes[3].lsn == 501
    assert {o.error.code for n, o in enumerate(answer.outcomes) if n != 3} == {
        "E_VERSION", "E_NOT_THERE",
    }  # fmt: skip
    small = decode_body(encode_body(answer.smaller()), StateDone)
    assert [o.lsn for o in small.outcomes] == [o.lsn for o in answer.outcomes]
    assert all(o.cut for o in small.outcomes)


def test_an_answer_is_cut_where_it_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    from shard_node.wire import codec

    monkeypatch.setattr(codec, "BODY_MAX_BYTES", 2600)
    world = StateWorld(auto=True)
    txs = [world.tx(SetValue("y" * 150, n)) for n in range(5)]
    txs += [world.tx(DeleteValue("z" * 150 + str(n))) for n in range(5)]
    answer = world.answer(world.do(*txs))
    assert isinstance(answer, StateDone)
    assert [o.lsn for o in answer.outcomes] == [1, 2, 3, 4, 5, 0, 0, 0, 0, 0]
    assert {o.error.code for o in answer.outcomes[5:]} == {"E_NOT_THERE"}
