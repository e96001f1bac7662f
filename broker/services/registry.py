"""All services, and who serves which topic to whom. Literal, so that it can be read."""

from __future__ import annotations

from typing import Final, Protocol

from broker.core.effects import Effects
from broker.core.events import Event
from broker.core.fleet import Fleet
from broker.core.router import Served
from broker.services.balancing import Balancer
from broker.services.beside import Beside
from broker.services.clients import Clients
from broker.services.commands import Commands
from broker.services.cooldowns import Cooldowns
from broker.services.forgetting import Forgettings
from broker.services.homes import Homes
from broker.services.identify import Identify
from broker.services.leases import Leases
from broker.services.lifecycle import Lifecycle
from broker.services.membership import Membership
from broker.services.operations import Operations
from broker.services.operators import Operators
from broker.services.planning import Planning
from broker.services.readiness import Readiness
from broker.services.reconnects import Reconnects
from broker.services.recovery import Recovery
from broker.services.resuming import Resuming
from broker.services.retention import Retention
from broker.services.state import State
from broker.services.statereads import StateReads
from broker.services.status import Status
from broker.services.stopping import Stopping
from broker.services.survivors import Survivors
from broker.services.where import Where
from shard_node.wire import topics
from store.records import Durable


class Service(Protocol):
    """What every service is."""

    def __init__(self, fleet: Fleet, durable: Durable, /) -> None: ...

    def on(self, event: Event, now: float) -> Effects:
        """Takes an event and the time in seconds; returns what is to be done."""

    def next_deadline(self) -> float | None:
        """When the service wants a Tick at the latest."""


SERVICES: Final[dict[str, type[Service]]] = {
    # Each event goes through in this order: who is there, what may be spent, what to do.
    "membership": Membership,
    "recovery": Recovery,
    "resuming": Resuming,
    "clients": Clients,
    "identify": Identify,
    "planning": Planning,
    # Before those who carry out what a death means: an operation may want to decide.
    "balancing": Balancer,
    "homes": Homes,
    "operations": Operations,
    "lifecycle": Lifecycle,
    "survivors": Survivors,
    "beside": Beside,
    "reconnects": Reconnects,
    "stopping": Stopping,
    "readiness": Readiness,
    "leases": Leases,
    "commands": Commands,
    "operators": Operators,
    "status": Status,
    "where": Where,
    "state": State,
    "statereads": StateReads,
    "cooldowns": Cooldowns,
    "forgetting": Forgettings,
    "retention": Retention,
}

_NODE = frozenset({"node"})
_HEARTBEAT = frozenset({"heartbeat"})
_OPERATOR = frozenset({"operator"})
_CLIENT = frozenset({"client"})
_ANYBODY = frozenset({"node", "operator", "client"})

SERVED: Final[dict[str, tuple[str, Served]]] = {
    topics.REGISTER: ("membership", Served(_NODE, fenced=False)),
    topics.HEARTBEAT: ("membership", Served(_HEARTBEAT | _CLIENT, fenced=False)),
    topics.SUBSCRIBE: ("membership", Served(_NODE | _CLIENT)),
    topics.SHARD_READY: ("membership", Served(_NODE)),
    topics.SHARD_DISCONNECT: ("membership", Served(_NODE)),
    topics.SHARD_HEALTH: ("recovery", Served(_NODE)),
    topics.SHARD_OTHERS: ("recovery", Served(_NODE)),
    topics.NODE_RECOVERED: ("resuming", Served(_NODE)),
    topics.FATAL: ("stopping", Served(_NODE)),
    topics.PERMIT: ("identify", Served(_NODE)),
    topics.IDENTIFY_SENT: ("identify", Served(_NODE)),
    topics.PERMIT_RETURN: ("identify", Served(_NODE)),
    topics.LEASE: ("leases", Served(_NODE)),
    topics.LEASE_RELEASE: ("leases", Served(_NODE)),
    topics.COMMAND_SYNC: ("commands", Served(_NODE)),
    topics.STATUS: ("status", Served(_ANYBODY)),
    topics.NODES: ("status", Served(_ANYBODY)),
    topics.WHERE: ("where", Served(_ANYBODY)),
    topics.RESPAWN: ("operations", Served(_OPERATOR)),
    topics.MOVE: ("operations", Served(_OPERATOR)),
    topics.MIGRATE: ("operations", Served(_OPERATOR)),
    topics.MIGRATIONS: ("homes", Served(_OPERATOR)),
    topics.BALANCE: ("balancing", Served(_OPERATOR)),
    topics.SCALE: ("operations", Served(_OPERATOR)),
    topics.OP_SHOW: ("operations", Served(_OPERATOR)),
    topics.OPS: ("operations", Served(_OPERATOR)),
    topics.OP_CANCEL: ("operations", Served(_OPERATOR)),
    topics.STOP: ("stopping", Served(_OPERATOR)),
    topics.RECONNECT: ("reconnects", Served(_OPERATOR)),
    topics.RELOAD: ("reconnects", Served(_OPERATOR)),
    topics.SHARD_MOVED: ("operations", Served(_NODE)),
    topics.GUILD_MOVED: ("homes", Served(_NODE)),
    topics.ROUTES: ("operators", Served(_ANYBODY)),
    topics.DEAD_LETTERS: ("operators", Served(_OPERATOR)),
    topics.DEAD_LETTERS_RETRY: ("operators", Served(_OPERATOR)),
    topics.DEAD_LETTERS_DROP: ("operators", Served(_OPERATOR)),
    topics.CLIENT_REGISTER: ("clients", Served(_CLIENT)),
    topics.STATE_DO: ("state", Served(_ANYBODY)),
    topics.STATE_UPDATE: ("state", Served(_ANYBODY)),
    topics.GUILD_SYNC: ("state", Served(_ANYBODY)),
    topics.STATE_GUILD: ("statereads", Served(_ANYBODY)),
    topics.STATE_READ: ("statereads", Served(_ANYBODY)),
    topics.STATE_SCAN: ("statereads", Served(_ANYBODY)),
    topics.STATE_LOG: ("statereads", Served(_ANYBODY)),
    topics.STATE_MARK: ("statereads", Served(_ANYBODY)),
    topics.STATE_TRIM: ("retention", Served(_OPERATOR)),
    topics.COOLDOWN_ACQUIRE: ("cooldowns", Served(_ANYBODY)),
    topics.COOLDOWN_SHOW: ("cooldowns", Served(_ANYBODY)),
    topics.COOLDOWN_CLEAR: ("cooldowns", Served(_ANYBODY)),
}

SERVED_TO_CLIENTS: Final[dict[str, tuple[str, Served]]] = {
    # What means something else to a program outside a bot.
    topics.HEARTBEAT: ("clients", Served(_CLIENT)),
    topics.SUBSCRIBE: ("clients", Served(_CLIENT)),
}
