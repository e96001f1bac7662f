"""The routing table: which peer stands behind a node, shard, guild or topic.

A node is in the table from its registration to its exit. ``version`` grows with each change,
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
        self._shards: dict[int, str] = {}
        self._overrides: dict[int, str] = {}
        self._topics: dict[str, frozenset[str]] = {}
        self._subscribers: dict[str, set[str]] = {}

    def resize(self, num_shards: int) -> None:
        """Sets the number of shards of the fleet."""
        self.num_shards = num_shards
        self.version += 1

    def join(self, name: str, epoch: int, shards: tuple[int, ...]) -> Owner:
        """A node's process has registered; it replaces an older one of its name."""
        self.leave(name)
        owner = self._owners[name] = Owner(name, epoch, node_id(name, epoch))
        for shard in shards:
            self._shards[shard] = name
        self.version += 1
        return owner

    def join_client(self, name: str, called: str) -> Owner:
        """A client has registered: under its routing id, and the short name it goes by."""
        self.leave(name)
        owner = self._owners[name] = self._called[called] = Owner(name, 0, name.encode())
        self.version += 1
        return owner

    def leave(self, name: str) -> None:
        """A peer's process has ended; a node's guild overrides stay."""
        gone = self._owners.pop(name, None)
        if gone is None:
            return
        for called in [short for short, owner in self._called.items() if owner == gone]:
            del self._called[called]
        for shard in [shard for shard, owner in self._shards.items() if owner == name]:
            del self._shards[shard]
        self.subscribe(name, frozenset())
        self.version += 1

    def subscribe(self, name: str, topics: frozenset[str]) -> None:
        """Replaces the whole set of topics that a node listens to."""
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

    def override(self, guild: int, name: str | None) -> None:
        """Makes a node own a guild, or (None) gives it back to its shard's node."""
        if name is None:
            self._overrides.pop(guild, None)
        else:
            self._overrides[guild] = name
        self.version += 1

    def node(self, name: str) -> Owner | None:
        """The process of a node, or a client by either of its names."""
        return self._owners.get(name) or self._called.get(name)

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
            return Place(shard, self._owners.get(name), "override")
        return Place(shard, self.shard(shard), "formula")

    def subscribers(self, topic: str) -> list[Owner]:
        """The processes that listen to a topic, by name."""
        names = self._subscribers.get(topic)
        return [self._owners[name] for name in sorted(names)] if names else []

    def topics(self, name: str) -> frozenset[str]:
        """What a node listens to."""
        return self._topics.get(name, frozenset())

    def everyone(self) -> list[Owner]:
        """All nodes' processes."""
        return [owner for owner in self._owners.values() if owner.epoch]

    def peers(self) -> list[Owner]:
        """All nodes' processes and all clients."""
        return list(self._owners.values())

    def topics_heard(self) -> dict[str, list[str]]:
        """Each topic with the names of its subscribers."""
        return {topic: sorted(names) for topic, names in sorted(self._subscribers.items())}

    def overridden(self, guild: int) -> str:
        """The node that a guild was given to, or the empty string."""
        return self._overrides.get(guild, "")

    def overrides(self) -> dict[int, str]:
        """Guilds that an operator or a migration gave to a node."""
        return dict(self._overrides)
