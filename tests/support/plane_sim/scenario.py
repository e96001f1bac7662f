"""From a seed: a small fleet, what it says, what breaks; then calm, and nothing may be left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from shard_node.wire.targets import Guild, Node, Shard, Target
from tests.support.plane_sim.book import ABSENT, EVERYBODY
from tests.support.plane_sim.fleet import Fleet
from tests.support.plane_sim.host import PARTS
from tests.support.plane_sim.peers import PeerProcess
from tests.support.plane_sim.stage import limited, staged
from tests.support.plane_sim.wire import ENDS
from tests.support.plane_sim.world import Process

BOOT_S = 0.4
CALM_MAX_S = 100.0
CALM_STEP_S = 0.5
TRACE_SHOWN = 60
STORM_BURSTS = 6
GATHERED_MAX = 10
TIGHT: dict[str, Any] = {
    "QUEUE_MAX_FRAMES": (1024, 8, 8, 8),
    "QUEUE_MAX_MESSAGES": (16_384, 30, 30, 30),
    "QUEUE_MAX_BYTES": (4 << 20, 4000, 4000, 4000),
    "SEND_WINDOW_MESSAGES": 40,
    "SEND_WINDOW_BYTES": 4000,
    "PARKED_MAX_BYTES": 2000,
    "CREDIT_RESERVE_MESSAGES": 8,
    "BATCH_MAX_MESSAGES": 16,
    "LINE_WINDOW_MESSAGES": 24,
}
"""Limits that a small fleet reaches."""
TIGHT_OUTBOX = {"ROOM_MESSAGES": 40, "QUEUE_MAX_MESSAGES": 60}


@dataclass
class Plan:
    """What is played. ``faults`` is how many things break."""

    nodes: int
    clients: int
    says: int
    faults: int
    seconds: float
    guilds: list[int] = field(default_factory=list)


class Failed(AssertionError):
    """A seed that does not hold: what it is, what was seen last, how to see it again."""

    def __init__(self, fleet: Fleet, tight: bool) -> None:
        self.faults = list(fleet.world.faults)
        lines = [f"{at:12.6f} {text}" for at, text in list(fleet.world.trace)[-TRACE_SHOWN:]]
        seed = f"{fleet.seed}{' --tight' if tight else ''}"
        super().__init__(
            "\n".join(
                [
                    f"seed {fleet.seed}: {self.faults[0]}",
                    *lines,
                    f"replay: python -m tests.support.plane_sim.replay {seed}",
                ]
            )
        )


@contextlib.contextmanager
def played(*, tight: bool = False) -> Iterator[Callable[..., Fleet]]:
    """Gives what plays a seed; the stage is set once for many of them."""
    with staged(PARTS, ENDS), limited(*((TIGHT, TIGHT_OUTBOX) if tight else ({}, {}))):

        def play(
            seed: int, *, plant: Callable[[Fleet], None] | None = None, large: bool = False
        ) -> Fleet:
            try:
                return _play(seed, tight, plant, large)
            finally:
                gc.collect()

        # A world is one knot of cycles: it is let go whole, and what was there before stays.
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            yield play
        finally:
            gc.enable()
            gc.unfreeze()


def small(seed: int) -> tuple[Fleet, Plan]:
    """2 to 5 nodes, 1 or 2 clients, 100 to 400 messages, up to 8 faults."""
    nodes = 2 + seed % 4
    fleet = Fleet(seed, nodes=nodes, shards=2 * nodes)
    random = fleet.world.random
    faults = random.choice((0, 1, 1, 2, 3, 5, 8))
    says = random.choice((100, 120, 150, 200, 250, 300, 400))
    plan = Plan(nodes, random.randint(1, 2), says, faults, random.uniform(0.5, 3.0))
    fleet.padding_max = random.choice((0, 64, 64, 600, 30_000))
    fleet.net.spikes = random.choice((0.0, 0.002, 0.05))
    if random.random() < 0.3:
        fleet.net.caps = (random.randint(2, 40), random.randint(2, 40))
    return fleet, plan


def whole(seed: int) -> tuple[Fleet, Plan]:
    """10,000 shards on 500 nodes."""
    fleet = Fleet(seed, nodes=500, shards=10_000)
    fleet.listening = 0.02
    return fleet, Plan(500, 4, 6000, 12, 2.0)


def _play(seed: int, tight: bool, plant: Callable[[Fleet], None] | None, large: bool) -> Fleet:
    fleet, plan = whole(seed) if large else small(seed)
    plan.guilds = [fleet.world.random.getrandbits(40) for _ in range(4)]
    talk = Talk(fleet, plan)
    fleet.book.tight = tight
    if tight:
        fleet.padding_max = min(fleet.padding_max, 600)
    fleet.start_broker()
    for number in range(plan.clients):
        fleet.add_client(f"py{number}")
    Faults(fleet, plan, talk)
    fleet.look_on()
    if plant is not None:
        plant(fleet)
    world = fleet.world
    world.run(world.now + BOOT_S + plan.seconds)
    _become_calm(fleet)
    fleet.last = fleet.living()
    for process in fleet.last:
        process.end()
    if world.faults:
        raise Failed(fleet, tight)
    return fleet


def _become_calm(fleet: Fleet) -> None:
    """Until nothing is open: everything has its deadline, so this has an end too."""
    world, left = fleet.world, ["all"]
    end = world.now + CALM_MAX_S
    while left and world.now < end and not world.faults:
        world.run(world.now + CALM_STEP_S)
        left = fleet.open()
    for text in left if not world.faults else ():
        world.fault(f"left when all is calm: {text}")


class Talk:
    """What peers say: each process that begins says its share, in bursts; and shortly before
    something breaks, several at once."""

    def __init__(self, fleet: Fleet, plan: Plan) -> None:
        self.fleet, self.plan = fleet, plan
        self.storms = plan.says * 2 // 3 if plan.faults else 0
        self.storm = self.storms // max(1, plan.faults * STORM_BURSTS)
        self.left = plan.says - self.storms
        self.share = max(5, self.left // (plan.nodes + plan.clients))
        fleet.on_began = lambda process: process.task(self._talk(process))

    async def _talk(self, process: PeerProcess) -> None:
        random, plan = self.fleet.world.random, self.plan
        end = 1000.0 + BOOT_S + plan.seconds
        says = min(self.left, self.share)
        self.left -= says
        while says > 0 and process.loop.time() < end:
            await asyncio.sleep(random.uniform(0.0, plan.seconds * 12 / self.share))
            burst = min(says, random.choice((1, 1, 3, 8, 30, 60)))
            says -= burst
            self._burst(process, burst)

    def burst(self) -> None:
        """Somebody says a good deal now."""
        up = [process for process in self.fleet.living() if process.up]
        if up and self.storms > 0:
            count = self.fleet.world.random.randint(1, 2 * self.storm)
            self.storms -= count
            self._burst(self.fleet.world.random.choice(up), count)

    def _burst(self, process: PeerProcess, count: int) -> None:
        random, fleet = self.fleet.world.random, self.fleet
        draw = random.random()
        if draw < 0.25:
            lane = "normal" if draw < 0.2 else "low"
            process.task(process.publish([fleet.new_event(process, lane) for _ in range(count)]))
            return
        if draw > 0.97 and len(fleet.names) < GATHERED_MAX:
            process.task(process.call_roll())
        one = self._target(process) if random.random() < 0.8 else None
        lane = "normal" if random.random() < 0.75 else ""
        for _ in range(count):
            say = fleet.new_say(process, "message" if draw < 0.75 else "request")
            say.lane = lane or say.lane
            target = one or self._target(process)
            timeout_s = random.choice((0.2, 1.0, 3.0, 3.0, 6.0))
            verb = process.send if say.kind == "message" else process.request
            process.task(verb(say, target, timeout_s))

    def _target(self, process: PeerProcess) -> Target:
        random, fleet = self.fleet.world.random, self.fleet
        draw = random.random()
        if draw < 0.4 and fleet.names:
            return Node(random.choice(fleet.names))
        if draw < 0.6 and fleet.clients:
            client = random.choice(fleet.clients)
            return Node(random.choice((client.short, client.called)))
        if draw < 0.8:
            return Shard(random.randrange(fleet.settings.shards or 1))
        if draw < 0.98:
            return Guild(random.choice(self.plan.guilds))
        return ABSENT


class Faults:
    """What breaks, and when."""

    def __init__(self, fleet: Fleet, plan: Plan, talk: Talk) -> None:
        self.fleet, self.plan = fleet, plan
        random = fleet.world.random
        kinds = (self._kill_broker, self._kill_broker, self._kill_node, self._kill_client,
                 self._break, self._break, self._stall, self._stall_broker, self._move,
                 self._move, self._respawn)  # fmt: skip
        for _ in range(plan.faults):
            at = fleet.world.now + BOOT_S + random.uniform(-0.2, plan.seconds)
            fleet.world.at(at, random.choice(kinds))
            for _ in range(STORM_BURSTS):
                fleet.world.at(at - random.choice((0.002, 0.02)) * random.random(), talk.burst)

    def _peer(self) -> PeerProcess | None:
        living = self.fleet.living()
        return self.fleet.world.random.choice(living) if living else None

    def _kill_broker(self) -> None:
        self.fleet.kill_broker(self.fleet.world.random.uniform(0.05, 0.6))

    def _kill_node(self) -> None:
        if self.fleet.names:
            self.fleet.kill_node(self.fleet.nodes[self.fleet.world.random.choice(self.fleet.names)])

    def _respawn(self) -> None:
        self.fleet.respawn(self.fleet.world.random.randrange(self.fleet.settings.shards or 1))

    def _kill_client(self) -> None:
        fleet = self.fleet
        if fleet.clients:
            client = fleet.world.random.choice(fleet.clients)
            fleet.kill_client(client)
            fleet.world.after(fleet.world.random.uniform(0.0, 1.0), fleet.add_client, client.short)

    def _break(self) -> None:
        process, random = self._peer(), self.fleet.world.random
        if process is None:
            return
        beat = b"!hb" if random.random() < 0.2 else b""
        self.fleet.book.disturbed(process.called)
        noticed = random.choice(((0.0, 0.3), (0.3, 0.0), (0.01, 0.01)))
        self.fleet.break_connection(
            process.identity + beat, noticed[0] * random.random(), noticed[1] * random.random()
        )

    def _stall(self) -> None:
        process, random = self._peer(), self.fleet.world.random
        if process is not None:
            self.fleet.world.note(f"{process.name} is stopped")
            process.stall()
            self.fleet.book.stopped += 1
            seconds = random.choice((0.06, 0.2, 1.0, 4.0, 17.0)) * random.random()
            self.fleet.world.after(seconds, self._resume, process)

    def _stall_broker(self) -> None:
        host, random = self.fleet.host, self.fleet.world.random
        if host is not None:
            self.fleet.world.note("the broker is stopped")
            host.stall()
            self.fleet.book.stopped += 1
            seconds = random.choice((0.1, 1.0, 5.0)) * random.random()
            self.fleet.world.after(seconds, self._resume, host)

    def _resume(self, process: Process) -> None:
        process.resume()
        self.fleet.book.stopped -= 1
        name = process.called if isinstance(process, PeerProcess) else EVERYBODY
        self.fleet.book.disturbed(name)

    def _move(self) -> None:
        random, fleet = self.fleet.world.random, self.fleet
        guild = random.choice(self.plan.guilds)
        name = random.choice([*fleet.names, None]) if fleet.names else None
        fleet.move(guild, name, Guild(guild))
