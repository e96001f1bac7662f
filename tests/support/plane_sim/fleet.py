"""A fleet in one world: the broker and its lives, nodes and theirs, clients, the supervisor."""

from __future__ import annotations

from typing import Any

from broker.core.settings import Settings
from broker.core.stateport import MemoryPort
from broker.services.machine import Broker
from shard_node.wire.bodies import RespawnRequest
from shard_node.wire.codec import encode_body, encode_header
from shard_node.wire.header import Kind, header
from shard_node.wire.identity import operator_id
from shard_node.wire.targets import BROKER
from shard_node.wire.topics import RESPAWN
from shard_node.wire.topics import TOPICS as BUILT_IN
from store.records import Durable
from tests.support.plane_sim import looks
from tests.support.plane_sim.book import EVERYBODY, Book, Say
from tests.support.plane_sim.host import Host, keep
from tests.support.plane_sim.net import IDENTITY, Dealer, Network
from tests.support.plane_sim.peers import TOPICS, ClientProcess, NodeProcess, PeerProcess
from tests.support.plane_sim.stage import Stage, fresh_counter
from tests.support.plane_sim.watch import Watch
from tests.support.plane_sim.world import Process, World

LOOK_S = 0.1
"""How often queues are looked at."""
ANSWER_S = 0.1
"""How long an operator stays for an answer."""
BEHAVIOURS = ("now",) * 12 + ("burn", "yield", "yield", "sleep", "raise", "late raise",
                              "nobody", "tell", "ask")  # fmt: skip


class Operator(Process):
    """The command line: it asks, and reads no answer."""

    def __init__(self, world: World, net: Network) -> None:
        super().__init__(world, "operator")
        self._net = net
        self._count = 0

    def turn(self) -> None: ...

    def ask(self, topic: str, body: Any) -> None:
        """A socket for each question, as each command has."""
        self._count += 1
        socket = Dealer(self._net, self)
        socket.setsockopt(IDENTITY, operator_id(1, self._count))
        socket.connect("")
        self.world.after(ANSWER_S, socket.close)
        head = header(
            Kind.REQUEST, BROKER, topic, lane=BUILT_IN[topic].lane, correlation=1, ttl_ms=1000
        )
        parts = (encode_header(head), encode_body(body))
        self.world.after(ANSWER_S / 2, self._say, socket, parts)

    def _say(self, socket: Dealer, parts: tuple[bytes, bytes]) -> None:
        if socket.connection is not None:
            socket.send_multipart(parts)


class Fleet:
    """Everything of one seed. ``busy`` until the faults are over."""

    def __init__(self, seed: int, *, nodes: int, shards: int) -> None:
        self.seed = seed
        self.world = Stage.world = World(seed)
        self.net = Stage.net = Network(self.world)
        fresh_counter()
        self.endpoint = "ipc:///simulated/broker.sock"
        self.settings = Settings(
            "sim", "app", "boot", shards=shards, nodes=nodes, nodes_max=nodes, seed=seed
        )
        self.durable = Durable()
        self.state = MemoryPort()
        self.book = Book(self.world)
        self.watch = Watch(self.world, self.net, self.book.disturbed)
        self.host: Host | None = None
        self.machine: Broker | None = None
        self.nodes: dict[str, NodeProcess] = {}
        self.clients: list[ClientProcess] = []
        self.overrides: dict[int, str] = {}
        self.names: list[str] = []
        self.on_began: Any = lambda process: None
        self.padding_max = 64
        self.listening = 0.7
        """How many of the peers listen to a topic."""
        self.last: list[PeerProcess] = []
        """Who lived when all was calm."""
        self.operator = Operator(self.world, self.net)
        self._missed: list[dict[str, Any]] = []
        self._pid = 100
        self._uid = 0

    # --- the broker

    def start_broker(self) -> None:
        """The supervisor starts it."""
        self.world.note("the broker starts")
        procs = [
            {
                "name": n.line["name"],
                "pid": n.pid,
                "epoch": n.epoch,
                "index": n.line["index"],
                "shards": n.line["shards"],
                "num_shards": n.line["num_shards"],
                "uptime_s": self.world.now - n.born_at,
            }
            for n in self.nodes.values()
            if n.alive
        ]
        self.host = Host(self)
        self.host.boot({"ev": "hello", "supervisor_pid": 1, "procs": procs})
        missed, self._missed = self._missed, []
        for line in missed:
            self.host.lines.append(line)

    def broker_born(self, machine: Broker) -> None:
        self.machine = machine
        for guild, name in self.overrides.items():
            looks.override(machine, guild, name)

    def kill_broker(self, away_s: float) -> None:
        """kill -9; the supervisor starts the next one."""
        if self.host is None:
            return
        self.world.note("the broker is killed")
        self.host.kill()
        self.host = self.machine = None
        self.watch.forget()
        self.book.disturbed(EVERYBODY)
        self.world.after(away_s, self.start_broker)

    def keep(self, changes: tuple[Any, ...]) -> None:
        keep(self.durable, changes)

    # --- the supervisor

    def ordered(self, line: dict[str, Any]) -> None:
        """The broker wants something of the supervisor."""
        if line["op"] == "spawn":
            self._spawn(line)
        elif line["op"] == "signal":
            node = self.nodes.get(line["name"].removeprefix("node:"))
            if node is not None and node.alive and node.epoch == line["epoch"]:
                self.world.note(f"signal {line['signal']} for {node.name}")
                self.kill_node(node)
        elif line["op"] == "stopped":
            self.world.fault(f"the broker stops the fleet: {line}")

    def _spawn(self, line: dict[str, Any]) -> None:
        name = line["name"].removeprefix("node:")
        old = self.nodes.get(name)
        if old is not None and old.alive:
            self.world.fault(f"{line['name']} is started while {old.name} lives")
        self._pid += 1
        node = self.nodes[name] = NodeProcess(self, line, self._pid)
        self.names = sorted(self.nodes)
        self.tell({"ev": "spawned", "name": line["name"], "epoch": line["epoch"], "pid": self._pid})
        node.wake(self.world.now + self.world.random.uniform(0.005, 0.05))

    def kill_node(self, node: NodeProcess, signal: int = 9) -> None:
        """The process dies."""
        if node.alive:
            self.world.note(f"{node.name} is killed")
            self.book.disturbed(node.called)
            node.kill()
            self.world.after(self.world.random.uniform(0.0, 0.05), self.exited, node, None, signal)

    def exited(self, node: NodeProcess, code: int | None, signal: int | None) -> None:
        """The supervisor has reaped it."""
        if node.alive:  # it ended by itself
            self.book.disturbed(node.called)
            node.kill()
        self.tell(
            {
                "ev": "exited",
                "name": node.line["name"],
                "epoch": node.epoch,
                "pid": node.pid,
                "code": code,
                "signal": signal,
                "uptime_s": 1.0,
                "tail": ["last words"],
            }
        )

    def tell(self, line: dict[str, Any]) -> None:
        if self.host is None:
            if line["ev"] == "exited":
                self._missed.append(line)
            return
        self.host.say(line)

    def respawn(self, shard: int) -> None:
        """``shardctl respawn``: its node ends in order, and is started again."""
        self.world.note(f"respawn shard {shard}")
        self.operator.ask(RESPAWN, RespawnRequest((shard,), in_sequence=True))

    # --- peers

    def add_client(self, short: str) -> ClientProcess:
        client = ClientProcess(self, short)
        self.clients.append(client)
        client.wake()
        return client

    def kill_client(self, client: ClientProcess) -> None:
        if client.alive:
            self.world.note(f"{client.name} is killed")
            self.book.disturbed(client.called)
            client.kill()
            self.clients.remove(client)

    def client_identity(self, process: ClientProcess) -> bytes:
        mine = [d for d in self.net.dealers.values() if d.process is process and not d.closed]
        return mine[-1].identity

    def began(self, process: PeerProcess) -> None:
        self.world.note(f"{process.name} begins")
        self.on_began(process)

    def living(self) -> list[PeerProcess]:
        nodes = [self.nodes[name] for name in self.names]
        return [p for p in [*nodes, *self.clients] if p.alive]

    def break_connection(self, identity: bytes, dealer_s: float, router_s: float) -> None:
        dealer = self.net.dealers.get(identity)
        if dealer is not None and dealer.connection is not None:
            self.world.note(f"the connection of {identity.decode()} breaks")
            dealer.connection.tear(dealer_s, router_s)

    def move(self, guild: int, name: str | None, target: Any) -> None:
        """An override: durable in its own way, as a migration's will be."""
        self.world.note(f"guild {guild} moves to {name}")
        self.book.moved(target)
        self.overrides.pop(guild, None)
        if name is not None:
            self.overrides[guild] = name
        if self.machine is not None:
            looks.override(self.machine, guild, name)

    # --- says

    def new_say(self, sender: PeerProcess, kind: str, behaviour: str = "") -> Say:
        random = self.world.random
        self._uid += 1
        lane = random.choice(("control", "high", "normal", "normal", "normal", "low"))
        if not behaviour:
            behaviour = random.choice(BEHAVIOURS)
        return Say(self._uid, sender, kind, None, lane, behaviour)

    def padding(self) -> bytes:
        return b"x" * int(self.padding_max * self.world.random.random() ** 3)

    def new_event(self, sender: PeerProcess, lane: str = "normal") -> Say:
        say = self.new_say(sender, "event", "now")
        say.target, say.lane = self.world.random.choice(TOPICS), lane
        return say

    def planned(self) -> list[str]:
        """The names of all nodes of the plan."""
        plan = self.durable.plan
        return sorted(node.name for node in plan.nodes) if plan is not None else []

    # --- checks

    def look_at_broker(self) -> None:
        """The broker's queues, now."""
        for text in looks.broker_limits(self.machine) if self.machine is not None else ():
            self.world.fault(f"over the limit: {text}")

    def look(self) -> None:
        """Peers' queues and deadlines, now."""
        for process in self.living():
            if process.peer is not None:
                for text in looks.peer_limits(process.peer):
                    self.world.fault(f"over the limit: {process.name}: {text}")
        self.book.look_for_late()

    def look_on(self) -> None:
        self.look()
        self.world.after(LOOK_S, self.look_on)

    def open(self) -> list[str]:
        """What is not over yet."""
        if self.machine is None:
            return ["no broker"]
        found = looks.broker_open(self.machine)
        for process in self.living():
            if not process.up or process.peer is None:
                found.append(f"{process.name} is not registered")
            else:
                found += [f"{process.name} has {text}" for text in looks.peer_open(process.peer)]
        return [*found, *self.watch.open(), *(f"{say} is open" for say in self.book.open.values())]
