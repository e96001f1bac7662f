"""Where a BATCH goes: to processes, to wait for a planned one, or back with a reason."""

from __future__ import annotations

from typing import Final, NamedTuple

from broker.core.fleet import Fleet, FleetState, Node
from broker.core.rules import Rule
from broker.core.states import DOWN, NodeState
from broker.core.table import Owner
from shard_node.wire import identity, targets
from shard_node.wire.batch import Flag
from shard_node.wire.header import Header
from shard_node.wire.limits import HEARTBEAT_LOST_S

UNREACHABLE: Final = "E_UNREACHABLE"
NO_HANDLER: Final = "E_NO_HANDLER"


class Route(NamedTuple):
    """One of three: ``owners``; ``park`` (the name to wait for); ``code`` with ``text``.

    ``rerouted``: another process than the first had it before.
    """

    owners: tuple[Owner, ...] = ()
    park: str = ""
    code: str = ""
    text: str = ""
    several: bool = False
    rerouted: bool = False


_NOBODY: Final = Route(code=UNREACHABLE, text="no such shard or guild in this fleet")
_UNHEARD: Final = Route(code=UNREACHABLE, text="nobody listens", several=True)


def _label(peer: identity.Peer) -> str:
    """What a frame for this very process waits under."""
    return f"{peer.name}#{peer.epoch}" if peer.epoch else peer.name


class Resolver:
    """Reads the fleet and its table; changes nothing."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._table = fleet.table
        self._rules = {rule.category: rule for rule in fleet.settings.routes}
        self.ruled = bool(self._rules)

    def rule(self, head: Header) -> Rule | None:
        """The operator's rule for a frame, if there is one."""
        if not self._rules or not isinstance(head.target, targets.Topic):
            return None
        return self._rules.get(head.target.name)

    def route(self, head: Header, sender_name: str, now: float) -> Route:
        """Where the frame goes now."""
        if head.pin:
            pinned = self._pinned(head, now)
            if pinned is not None:
                return pinned
            return self._target(head, sender_name, now)._replace(rerouted=True)
        return self._target(head, sender_name, now)

    def _pinned(self, head: Header, now: float) -> Route | None:
        """None: the process is known to be dead, and a resend may go to another."""
        peer = identity.parse_peer(head.pin.encode())
        if peer is not None:
            owner = self._table.node(head.pin)
            if owner is not None:
                return Route((owner,))
            if self._may_return(peer, now):
                return Route(park=_label(peer))
        if head.flags & Flag.RESENT:
            return None
        return Route(code=UNREACHABLE, text=f"{head.pin[:128]} is gone")

    def _may_return(self, peer: identity.Peer, now: float) -> bool:
        """Whether a process that is not registered may yet register with this broker."""
        if peer.role == "node":
            return self._fleet.lives(peer.name, peer.epoch)
        return now < self._fleet.started_at + HEARTBEAT_LOST_S

    def _target(self, head: Header, sender_name: str, now: float) -> Route:
        match head.target:
            case targets.Node(name=name):
                return self._node(name, now)
            case targets.Shard(id=shard, num_shards=num_shards):
                if num_shards not in (0, self._table.num_shards):
                    return _NOBODY
                return self._holder(self._table.shard(shard), shard)
            case targets.Guild(id=guild):
                return self._guild(guild)
            case targets.Topic(name=topic):
                return self._topic(topic)
            case targets.All():
                owners = tuple(o for o in self._table.everyone() if o.name != sender_name)
                return Route(owners, several=True) if owners else _UNHEARD
            case targets.Pool(name=name):
                return Route(code=NO_HANDLER, text=f"no worker of the pool {name[:128]!r}")
            case _:
                return Route(code="E_BAD_TARGET", text="a BATCH is for peers, not for the broker")

    def _node(self, name: str, now: float) -> Route:
        owner = self._table.node(name)
        if owner is not None:
            return Route((owner,))
        node = self._fleet.nodes.get(name)
        if node is not None and (node.epoch or name in self._fleet.deciding):
            return Route(park=name)  # a process of its lives and has yet to register
        peer = identity.parse_peer(name.encode())
        if peer is not None and peer.role in ("node", "client") and self._may_return(peer, now):
            return Route(park=_label(peer))  # its nodes may be back sooner than the client is
        return Route(code=UNREACHABLE, text=f"no node or client {name[:128]!r} is registered")

    def _guild(self, guild: int) -> Route:
        try:
            place = self._table.guild(guild)
        except ValueError:
            return _NOBODY
        if place.route == "formula":
            return self._holder(place.owner, place.shard)
        name = self._table.overridden(guild)
        return self._of_node(place.owner, self._fleet.nodes.get(name.partition("#")[0]))

    def _holder(self, owner: Owner | None, shard: int) -> Route:
        if owner is not None:
            return self._of_node(owner, self._fleet.nodes.get(owner.name))
        return self._of_node(None, self._fleet.holder(shard))

    def _of_node(self, owner: Owner | None, node: Node | None) -> Route:
        if node is None:
            return _NOBODY if owner is None else Route((owner,))
        draining = node.state is NodeState.STOPPING
        if owner is not None and not draining:
            return Route((owner,))
        if node.state in DOWN or self._fleet.state is FleetState.STOPPING:
            return Route(code=UNREACHABLE, text=f"node {node.name} is down and stays down")
        return Route(park=node.name)

    def _topic(self, topic: str) -> Route:
        rule = self._rules.get(topic)
        if rule is None or (rule.nodes is None and not rule.pool):
            owners = tuple(self._table.subscribers(topic))
        elif rule.pool:
            return Route(code=NO_HANDLER, text=f"no worker of the pool {rule.pool!r}")
        else:
            found = (self._table.node(name) for name in rule.nodes or ())
            owners = tuple(owner for owner in found if owner is not None)
        return Route(owners, several=True) if owners else _UNHEARD
