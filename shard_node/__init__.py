"""What a bot's process loads: the node, the bridge to disnake, the wire.

The package is lazy (PEP 562): ``import shard_node.wire`` loads neither disnake nor lmdb,
and ``import shard_node`` alone loads nothing but this file.

Public names:

- ``run(bot, token=None)``: run a bot as a node of the fleet, or alone without one.
- ``connect``: any Python process as a client of the fleet; ``shard_node.sync.connect``
  for code that does not await.
- ``listen``, ``serve``: decorators for methods of cogs, bound while the cog is loaded.
- ``once_per_fleet``: a decorator for ``tasks.loop``; its body runs on one node only.
- ``node``: the node that this process is, or ``None`` outside a fleet: ``on``, ``serve``,
  ``publish``, ``send``, ``request``, ``gather``.
- ``Shard``, ``Guild``, ``Node``, ``Pool``, ``ALL``, ``BROKER``: targets.
- ``Message``, ``Receipt``, ``Gathered``: what handlers and callers get.
- ``ShardReady``, ``MemberUpdate``, ``CommandExec`` and so on: the bodies of the protocol's
  types and categories, which also name their topics.
- ``ShardNodeError`` and its children.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shard_node import sync as sync
    from shard_node.errors import BotLoadError as BotLoadError
    from shard_node.errors import BridgeError as BridgeError
    from shard_node.errors import BrokerUnavailable as BrokerUnavailable
    from shard_node.errors import NoHandler as NoHandler
    from shard_node.errors import QueueFull as QueueFull
    from shard_node.errors import RemoteError as RemoteError
    from shard_node.errors import RequestFailed as RequestFailed
    from shard_node.errors import RequestTimeout as RequestTimeout
    from shard_node.errors import ShardNodeError as ShardNodeError
    from shard_node.errors import Undeliverable as Undeliverable
    from shard_node.leases import once_per_fleet as once_per_fleet
    from shard_node.peer.api import Gathered as Gathered
    from shard_node.peer.api import Receipt as Receipt
    from shard_node.peer.connect import connect as connect
    from shard_node.peer.handlers import Message as Message
    from shard_node.peer.marks import listen as listen
    from shard_node.peer.marks import serve as serve
    from shard_node.runner import run as run
    from shard_node.runtime import Node as _Runtime
    from shard_node.wire.bodies import ShardDisconnect as ShardDisconnect
    from shard_node.wire.bodies import ShardReady as ShardReady
    from shard_node.wire.categories import Broadcast as Broadcast
    from shard_node.wire.categories import CacheInvalidate as CacheInvalidate
    from shard_node.wire.categories import CommandExec as CommandExec
    from shard_node.wire.categories import CommandReply as CommandReply
    from shard_node.wire.categories import CommandResult as CommandResult
    from shard_node.wire.categories import GuildInfo as GuildInfo
    from shard_node.wire.categories import GuildSync as GuildSync
    from shard_node.wire.categories import MemberUpdate as MemberUpdate
    from shard_node.wire.categories import PresenceUpdate as PresenceUpdate
    from shard_node.wire.categories import StateUpdate as StateUpdate
    from shard_node.wire.categories import StatsUpdate as StatsUpdate
    from shard_node.wire.categories import UserUpdate as UserUpdate
    from shard_node.wire.targets import ALL as ALL
    from shard_node.wire.targets import BROKER as BROKER
    from shard_node.wire.targets import Guild as Guild
    from shard_node.wire.targets import Node as Node
    from shard_node.wire.targets import Pool as Pool
    from shard_node.wire.targets import Shard as Shard

    node: _Runtime | None

_BODIES = "shard_node.wire.bodies"
_CATEGORIES = "shard_node.wire.categories"
_TARGETS = "shard_node.wire.targets"
_HOMES = {
    "ALL": _TARGETS,
    "BROKER": _TARGETS,
    "BotLoadError": "shard_node.errors",
    "BridgeError": "shard_node.errors",
    "Broadcast": _CATEGORIES,
    "BrokerUnavailable": "shard_node.errors",
    "CacheInvalidate": _CATEGORIES,
    "CommandExec": _CATEGORIES,
    "CommandReply": _CATEGORIES,
    "CommandResult": _CATEGORIES,
    "Gathered": "shard_node.peer.api",
    "Guild": _TARGETS,
    "GuildInfo": _CATEGORIES,
    "GuildSync": _CATEGORIES,
    "MemberUpdate": _CATEGORIES,
    "Message": "shard_node.peer.handlers",
    "NoHandler": "shard_node.errors",
    "Node": _TARGETS,
    "Pool": _TARGETS,
    "PresenceUpdate": _CATEGORIES,
    "QueueFull": "shard_node.errors",
    "Receipt": "shard_node.peer.api",
    "RemoteError": "shard_node.errors",
    "RequestFailed": "shard_node.errors",
    "RequestTimeout": "shard_node.errors",
    "Shard": _TARGETS,
    "ShardDisconnect": _BODIES,
    "ShardNodeError": "shard_node.errors",
    "ShardReady": _BODIES,
    "StateUpdate": _CATEGORIES,
    "StatsUpdate": _CATEGORIES,
    "Undeliverable": "shard_node.errors",
    "UserUpdate": _CATEGORIES,
    "connect": "shard_node.peer.connect",
    "listen": "shard_node.peer.marks",
    "once_per_fleet": "shard_node.leases",
    "run": "shard_node.runner",
    "serve": "shard_node.peer.marks",
}

__all__ = [
    "ALL",
    "BROKER",
    "BotLoadError",
    "BridgeError",
    "Broadcast",
    "BrokerUnavailable",
    "CacheInvalidate",
    "CommandExec",
    "CommandReply",
    "CommandResult",
    "Gathered",
    "Guild",
    "GuildInfo",
    "GuildSync",
    "MemberUpdate",
    "Message",
    "NoHandler",
    "Node",
    "Pool",
    "PresenceUpdate",
    "QueueFull",
    "Receipt",
    "RemoteError",
    "RequestFailed",
    "RequestTimeout",
    "Shard",
    "ShardDisconnect",
    "ShardNodeError",
    "ShardReady",
    "StateUpdate",
    "StatsUpdate",
    "Undeliverable",
    "UserUpdate",
    "connect",
    "listen",
    "node",
    "once_per_fleet",
    "run",
    "serve",
    "sync",
]


def __getattr__(name: str) -> Any:
    if name == "node":
        return importlib.import_module("shard_node.runtime").current()
    if name == "sync":
        return importlib.import_module("shard_node.sync")
    home = _HOMES.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    found = globals()[name] = getattr(importlib.import_module(home), name)
    return found
