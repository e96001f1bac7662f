"""Programs outside a bot: how often they beat, and when they are forgotten."""

from __future__ import annotations

from broker.core.effects import Emit, Reply
from broker.core.events import Asked, ClientGone, Tick
from broker.core.fleet import Fleet
from broker.core.inflight import Ref
from broker.core.settings import Settings
from broker.services.clients import Clients
from broker.services.status import Status
from shard_node.wire.bodies import ClientRegister, Heartbeat, HeartbeatAck, Welcome
from shard_node.wire.identity import client_id, parse_peer
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import (
    CLIENT_BEATS_MAX_S,
    CLIENT_INTERVAL_MAX_S,
    CLIENTS_MAX,
    HEARTBEAT_INTERVAL_S,
    HEARTBEAT_LOST_S,
)
from store.records import Durable


class World:
    def __init__(self) -> None:
        self.fleet = Fleet(Settings("f", "app", "boot"), 0.0)
        self.clients = Clients(self.fleet, Durable())

    def ask(self, number: int, body: object, now: float) -> object:
        routing_id = client_id(f"p{number}", 7, number)
        peer = parse_peer(routing_id)
        assert peer is not None
        ref = Ref(1, routing_id, peer, "x", Lane.CONTROL, 1, now + 1)
        (reply,) = (e for e in self.clients.on(Asked(ref, "x", body), now) if isinstance(e, Reply))
        return reply.body

    def join(self, number: int, now: float = 0.0) -> Welcome:
        answer = self.ask(number, ClientRegister(f"p{number}", ()), now)
        assert isinstance(answer, Welcome)
        return answer

    def beat(self, number: int, now: float) -> HeartbeatAck:
        answer = self.ask(number, Heartbeat(1, 0.0, 0, 0, ()), now)
        assert isinstance(answer, HeartbeatAck)
        return answer


def test_of_many_clients_each_beats_less_often() -> None:
    world = World()
    assert world.join(0).heartbeat_interval_s == HEARTBEAT_INTERVAL_S
    paces = [world.join(number).heartbeat_interval_s for number in range(1, CLIENTS_MAX)]
    assert paces == sorted(paces)
    assert paces[CLIENT_BEATS_MAX_S - 2] == HEARTBEAT_INTERVAL_S
    assert paces[2 * CLIENT_BEATS_MAX_S - 2] == 2.0
    assert paces[-1] == CLIENT_INTERVAL_MAX_S < HEARTBEAT_LOST_S / 2
    # Who came first hears of it too.
    assert world.beat(0, 1.0).heartbeat_interval_s == CLIENT_INTERVAL_MAX_S


def test_the_most_silent_are_forgotten_and_the_others_stay() -> None:
    world = World()
    for number in range(4):
        world.join(number, now=float(number))
    world.beat(0, 10.0)  # the first one is the last one now
    assert world.clients.next_deadline() == 1.0 + HEARTBEAT_LOST_S
    gone = [
        effect.event
        for effect in world.clients.on(Tick(), 2.0 + HEARTBEAT_LOST_S)
        if isinstance(effect, Emit)
    ]
    assert gone == [ClientGone("cl-p1-7-1"), ClientGone("cl-p2-7-2")]
    assert world.clients.next_deadline() == 3.0 + HEARTBEAT_LOST_S
    assert not world.beat(1, 18.0).registered
    assert world.beat(3, 18.0).registered
    assert world.clients.next_deadline() == 10.0 + HEARTBEAT_LOST_S


def test_what_clients_drop_is_summed_while_they_are_there() -> None:
    world = World()
    world.join(1)
    world.join(2)
    world.ask(1, Heartbeat(1, 0.0, 0, 0, (), {"events_dropped": 2}), 1.0)
    world.ask(2, Heartbeat(1, 0.0, 0, 0, (), {"events_dropped": 3, "frames_dropped": 1}), 9.0)
    status = Status(world.fleet, Durable())
    assert status._broker(9.0)["client_troubles"] == {"events_dropped": 5, "frames_dropped": 1}
    world.clients.on(Tick(), 1.0 + HEARTBEAT_LOST_S)
    assert status._broker(20.0)["client_troubles"] == {"events_dropped": 3, "frames_dropped": 1}
