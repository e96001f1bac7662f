"""The routing table: which peer stands behind a node, shard, guild or topic.

A node is in the table from its registration to its exit. It may have several registered
processes: the current one is called by the node's name, has its shards and hears what it
subscribed to; the others are reached as ``name#epoch`` alone. ``version`` grows with each change,
so that whoever caches what it read can tell.
"""

from __future__ import annotations

from typing import NamedTuple

from shard_node.wire.identity import node_id
from shard_node.wire.targets import shard_of_guild


class Owner(NamedTuple):
    """A node's process and its routing id; a client has the epoch 0."""

    name: str
    epoch: int
    routing_id: bytes

    @property
    def label(self) -> str:
        """What no other process is called, ever."""
        return self.routing_id.decode()


class Place(NamedTuple):
    """Where a guild is. ``route`` is ``formula`` or ``override``."""

    shard: int
    owner: Owner | None
    route: str


class Table:
    """Mutable; everything in it is rebuilt from registrations after a broker's restart."""

    def __init__(self) -> None:
        self.version = 0
        self.num_shards = 0
        self._owners: dict[str, Owner] = {}
        self._called: dict[str, Owner] = {}
        self._processes: dict[str, Owner] = {}
        self._beside: dict[str, frozenset[str]] = {}
        self._shards: dict[int, str] = {}
        self._overrides: dict[int, str] = {}
        self._topics: dict[str, frozenset[str]] = {}
        self._subscribers: dict[str, set[str]] = {}

    def resize(self, num_shards: int) -> None:
        """Sets the number of shards of the fleet."""
        self.num_shards = num_shards
        self.version += 1

    # --- who is there

    def join(self, name: str, epoch: int, shards: tuple[int, ...]) -> Owner:
        """A node's current process has registered; it replaces an older one of its name."""
        self.leave(name)
        owner = self._enter(Owner(name, epoch, node_id(name, epoch)))
        self._owners[name] = owner
        self._beside.pop(owner.label, None)
        for shard in shards:
            self._shards[shard] = name
        return owner

    def join_beside(self, name: str, epoch: int, topics: frozenset[str]) -> Owner:
        """A process beside its node's current one has registered. What it subscribed to is its
        own from the moment that it is the current one."""
        owner = self._enter(Owner(name, epoch, node_id(name, epoch)))
        self._beside[owner.label] = topics
        return owner

    def promote(self, name: str, epoch: int, shards: tuple[int, ...]) -> None:
        """A registered process becomes the current one; the one before is beside it from now
        on."""
        new = self._processes[node_id(name, epoch).decode()]
        old = self._owners.get(name)
        before = self._topics.get(name, frozenset())
        topics = self._beside.get(new.label, before)
        self.join(name, epoch, shards)
        self.subscribe(name, topics)
        if old is not None and old != new:
            self.join_beside(name, old.epoch, before)

    def give(self, shards: tuple[int, ...], name: str) -> None:
        """Shards go to another node's process, or to nobody's where it has none."""
        for shard in shards:
            self._shards.pop(shard, None)
            if name in self._owners:
                self._shards[shard] = name
        self.version += 1

    def join_client(self, name: str, called: str) -> Owner:
        """A client has registered: under its routing id, and the short name it goes by."""
        self.leave(name)
        owner = self._owners[name] = self._called[called] = Owner(name, 0, name.encode())
        self.version += 1
        return owner

    def leave(self, name: str, epoch: int | None = None) -> None:
        """A peer's process has ended (None: the current one); a node's guild overrides stay."""
        gone = self._owners.get(name)
        if epoch is not None and (gone is None or gone.epoch != epoch):
            gone = self.process(name, epoch)
        if gone is None:
            return
        self.version += 1
        self._processes.pop(gone.label, None)
        if self._beside.pop(gone.label, None) is not None:
            return
        del self._owners[name]
        for called in [short for short, owner in self._called.items() if owner == gone]:
            del self._called[called]
        for shard in [shard for shard, owner in self._shards.items() if owner == name]:
            del self._shards[shard]
        self.subscribe(name, frozenset())

    def _enter(self, owner: Owner) -> Owner:
        self._processes[owner.label] = owner
        self.version += 1
        return owner

    # --- what each listens to

    def subscribe(self, name: str, topics: frozenset[str]) -> None:
        """Replaces the whole set of topics that a peer listens to."""
        if name in self._beside:
            self._beside[name] = topics
            return
        old = self._topics.pop(name, frozenset())
        for topic in old - topics:
            names = self._subscribers[topic]
            names.discard(name)
            if not names:
                del self._subscribers[topic]
        for topic in topics - old:
            self._subscribers.setdefault(topic, set()).add(name)
        if topics:
            self._topics[name] = topics
        self.version += 1

    def subscribers(self, topic: str) -> list[Owner]:
        """The peers that listen to a topic, by name; of a node its current process."""
        names = self._subscribers.get(topic)
        return [self._owners[name] for name in sorted(names)] if names else []

    def listeners(self, topic: str) -> list[Owner]:
        """The same with the processes beside the current ones: what is the broker's to tell
        concerns them all."""
        beside = [self._processes[label] for label, heard in self._beside.items() if topic in heard]
        return self.subscribers(topic) + beside

    def topics(self, name: str) -> frozenset[str]:
        """What a node listens to."""
        return self._topics.get(name, frozenset())

    def topics_heard(self) -> dict[str, list[str]]:
        """Each topic with the names of its subscribers."""
        return {topic: sorted(names) for topic, names in sorted(self._subscribers.items())}

    # --- who has what

    def override(self, guild: int, name: str | None) -> None:
        """Makes a node, or a process ``name#epoch``, own a guild, or (None) gives it back to its
        shard's node."""
        if name is None:
            self._overrides.pop(guild, None)
        else:
            self._overrides[guild] = name
        self.version += 1

    def node(self, name: str) -> Owner | None:
        """The current process of a node, any process as ``name#epoch``, or a client by either
        of its names."""
        return self._owners.get(name) or self._called.get(name) or self._processes.get(name)

    def process(self, name: str, epoch: int) -> Owner | None:
        """A registered process of a node, the current one or not."""
        return self._processes.get(f"{name}#{epoch}")

    def beside(self, name: str) -> list[Owner]:
        """The registered processes of a node beside its current one."""
        if not self._beside:
            return []
        found = (self._processes[label] for label in self._beside)
        return [owner for owner in found if owner.name == name]

    def shard(self, shard: int, num_shards: int = 0) -> Owner | None:
        """The process that holds a shard; ``num_shards`` 0 is the fleet's own number."""
        if num_shards not in (0, self.num_shards):
            return None
        name = self._shards.get(shard)
        return self._owners.get(name) if name is not None else None

    def guild(self, guild: int) -> Place:
        """Where a guild is. Raises ValueError for a negative id or a fleet without shards."""
        shard = shard_of_guild(guild, self.num_shards)
        name = self._overrides.get(guild)
        if name is not None:
            return Place(shard, self.node(name), "override")
        return Place(shard, self.shard(shard), "formula")

    def everyone(self) -> list[Owner]:
        """The current processes of all nodes."""
        return [owner for owner in self._owners.values() if owner.epoch]

    def peers(self) -> list[Owner]:
        """The current processes of all nodes, and all clients."""
        return list(self._owners.values())

    def all_peers(self) -> list[Owner]:
        """All processes of all nodes, and all clients."""
        clients = (owner for owner in self._owners.values() if not owner.epoch)
        return [*self._processes.values(), *clients]

    def overridden(self, guild: int) -> str:
        """The node or process that a guild was given to, or the empty string."""
        return self._overrides.get(guild, "")

    def overrides(self) -> dict[int, str]:
        """Guilds that an operator or a migration gave to a node."""
        return dict(self._overrides)
