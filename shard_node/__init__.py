"""What a bot's process loads: the node, the bridge to disnake, the wire.

The package is lazy (PEP 562): ``import shard_node.wire`` loads neither disnake nor lmdb,
and ``import shard_node`` alone loads nothing but this file.

Public names:

- ``run(bot, token=None)``: run a bot as a node of the fleet, or alone without one.
- ``connect``: any Python process as a client of the fleet; ``shard_node.sync.connect``
  for code that does not await.
- ``listen``, ``serve``: decorators for methods of cogs, bound while the cog is loaded.
- ``once_per_fleet``: a decorator for ``tasks.loop``; its body runs on one node only.
- ``node``: the node that this process is; ``None`` outside a fleet before ``run``, and then
  one that is alone: ``on``, ``serve``, ``publish``, ``send``, ``request``, ``gather``,
  ``fetch_guild``; and the
  shared state: ``guild_config``, ``members``, ``permissions``, ``users``, ``premium``,
  ``cooldowns``, ``economy``, ``moderation``, ``state``, ``transaction``.
- ``cooldown``: a decorator for commands, one cooldown for all shards.
- ``GuildConfigChanged`` and the other changes of the shared state, for ``node.on``.
- ``Tx``, ``LogRecord``, ``LogPage``, ``Allowed``, ``RetryAfter``, ``BanInfo``: what it returns.
- ``Shard``, ``Guild``, ``Node``, ``Pool``, ``ALL``, ``BROKER``: targets.
- ``Message``, ``Receipt``, ``Gathered``, ``GuildView``: what handlers and callers get.
- ``ShardReady``, ``MemberUpdate``, ``CommandExec`` and so on: the bodies of the protocol's
  types and categories, which also name their topics.
- ``ShardNodeError`` and its children; those of ``StateError`` are the state's refusals.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shard_node import sync as sync
    from shard_node.bridge.cooldowns import cooldown as cooldown
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
    from shard_node.shared.backend import Tx as Tx
    from shard_node.shared.changes import AccountChanged as AccountChanged
    from shard_node.shared.changes import BanChanged as BanChanged
    from shard_node.shared.changes import GuildConfigChanged as GuildConfigChanged
    from shard_node.shared.changes import MemberChanged as MemberChanged
    from shard_node.shared.changes import PermissionsChanged as PermissionsChanged
    from shard_node.shared.changes import PremiumChanged as PremiumChanged
    from shard_node.shared.changes import UserChanged as UserChanged
    from shard_node.shared.changes import ValueChanged as ValueChanged
    from shard_node.shared.cooldowns import Allowed as Allowed
    from shard_node.shared.cooldowns import RetryAfter as RetryAfter
    from shard_node.shared.log import LogPage as LogPage
    from shard_node.shared.log import LogRecord as LogRecord
    from shard_node.shared.moderation import BanInfo as BanInfo
    from shard_node.state.errors import AlreadyUndone as AlreadyUndone
    from shard_node.state.errors import BadAmount as BadAmount
    from shard_node.state.errors import BadName as BadName
    from shard_node.state.errors import BadValue as BadValue
    from shard_node.state.errors import InsufficientFunds as InsufficientFunds
    from shard_node.state.errors import NotThere as NotThere
    from shard_node.state.errors import NotUndoable as NotUndoable
    from shard_node.state.errors import OpIdReused as OpIdReused
    from shard_node.state.errors import ReasonRequired as ReasonRequired
    from shard_node.state.errors import SelfTransfer as SelfTransfer
    from shard_node.state.errors import StateError as StateError
    from shard_node.state.errors import StoreDamaged as StoreDamaged
    from shard_node.state.errors import StoreFailed as StoreFailed
    from shard_node.state.errors import StoreFull as StoreFull
    from shard_node.state.errors import Throttled as Throttled
    from shard_node.state.errors import TooLarge as TooLarge
    from shard_node.state.errors import UndoConflict as UndoConflict
    from shard_node.state.errors import UnknownAccount as UnknownAccount
    from shard_node.state.errors import UnknownTransaction as UnknownTransaction
    from shard_node.state.errors import VersionConflict as VersionConflict
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
    from shard_node.wire.guildview import GuildView as GuildView
    from shard_node.wire.targets import ALL as ALL
    from shard_node.wire.targets import BROKER as BROKER
    from shard_node.wire.targets import Guild as Guild
    from shard_node.wire.targets import Node as Node
    from shard_node.wire.targets import Pool as Pool
    from shard_node.wire.targets import Shard as Shard

    node: _Runtime  # None outside a fleet before `run`

_BODIES = "shard_node.wire.bodies"
_CATEGORIES = "shard_node.wire.categories"
_TARGETS = "shard_node.wire.targets"
_STATE_ERRORS = "shard_node.state.errors"
_CHANGES = "shard_node.shared.changes"
_HOMES = {
    "ALL": _TARGETS,
    "AccountChanged": _CHANGES,
    "Allowed": "shard_node.shared.cooldowns",
    "AlreadyUndone": _STATE_ERRORS,
    "BROKER": _TARGETS,
    "BadAmount": _STATE_ERRORS,
    "BadName": _STATE_ERRORS,
    "BadValue": _STATE_ERRORS,
    "BanChanged": _CHANGES,
    "BanInfo": "shard_node.shared.moderation",
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
    "GuildConfigChanged": _CHANGES,
    "GuildInfo": _CATEGORIES,
    "GuildView": "shard_node.wire.guildview",
    "GuildSync": _CATEGORIES,
    "InsufficientFunds": _STATE_ERRORS,
    "LogPage": "shard_node.shared.log",
    "LogRecord": "shard_node.shared.log",
    "MemberChanged": _CHANGES,
    "MemberUpdate": _CATEGORIES,
    "Message": "shard_node.peer.handlers",
    "NoHandler": "shard_node.errors",
    "Node": _TARGETS,
    "NotThere": _STATE_ERRORS,
    "NotUndoable": _STATE_ERRORS,
    "OpIdReused": _STATE_ERRORS,
    "PermissionsChanged": _CHANGES,
    "Pool": _TARGETS,
    "PremiumChanged": _CHANGES,
    "PresenceUpdate": _CATEGORIES,
    "QueueFull": "shard_node.errors",
    "ReasonRequired": _STATE_ERRORS,
    "Receipt": "shard_node.peer.api",
    "RemoteError": "shard_node.errors",
    "RequestFailed": "shard_node.errors",
    "RequestTimeout": "shard_node.errors",
    "RetryAfter": "shard_node.shared.cooldowns",
    "SelfTransfer": _STATE_ERRORS,
    "Shard": _TARGETS,
    "ShardDisconnect": _BODIES,
    "ShardNodeError": "shard_node.errors",
    "ShardReady": _BODIES,
    "StateError": _STATE_ERRORS,
    "StateUpdate": _CATEGORIES,
    "StatsUpdate": _CATEGORIES,
    "StoreDamaged": _STATE_ERRORS,
    "StoreFailed": _STATE_ERRORS,
    "StoreFull": _STATE_ERRORS,
    "Throttled": _STATE_ERRORS,
    "TooLarge": _STATE_ERRORS,
    "Tx": "shard_node.shared.backend",
    "Undeliverable": "shard_node.errors",
    "UndoConflict": _STATE_ERRORS,
    "UnknownAccount": _STATE_ERRORS,
    "UnknownTransaction": _STATE_ERRORS,
    "UserChanged": _CHANGES,
    "UserUpdate": _CATEGORIES,
    "ValueChanged": _CHANGES,
    "VersionConflict": _STATE_ERRORS,
    "connect": "shard_node.peer.connect",
    "cooldown": "shard_node.bridge.cooldowns",
    "listen": "shard_node.peer.marks",
    "once_per_fleet": "shard_node.leases",
    "run": "shard_node.runner",
    "serve": "shard_node.peer.marks",
}

__all__ = [
    "ALL",
    "BROKER",
    "AccountChanged",
    "Allowed",
    "AlreadyUndone",
    "BadAmount",
    "BadName",
    "BadValue",
    "BanChanged",
    "BanInfo",
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
    "GuildConfigChanged",
    "GuildInfo",
    "GuildSync",
    "InsufficientFunds",
    "LogPage",
    "LogRecord",
    "MemberChanged",
    "MemberUpdate",
    "Message",
    "NoHandler",
    "Node",
    "NotThere",
    "NotUndoable",
    "OpIdReused",
    "PermissionsChanged",
    "Pool",
    "PremiumChanged",
    "PresenceUpdate",
    "QueueFull",
    "ReasonRequired",
    "Receipt",
    "RemoteError",
    "RequestFailed",
    "RequestTimeout",
    "RetryAfter",
    "SelfTransfer",
    "Shard",
    "ShardDisconnect",
    "ShardNodeError",
    "ShardReady",
    "StateError",
    "StateUpdate",
    "StatsUpdate",
    "StoreDamaged",
    "StoreFailed",
    "StoreFull",
    "Throttled",
    "TooLarge",
    "Tx",
    "Undeliverable",
    "UndoConflict",
    "UnknownAccount",
    "UnknownTransaction",
    "UserChanged",
    "UserUpdate",
    "ValueChanged",
    "VersionConflict",
    "connect",
    "cooldown",
    "listen",
    "node",
    "once_per_fleet",
    "run",
    "serve",
    "sync",
]


def __getattr__(name: str) -> Any:
    if name == "node":
        found = importlib.import_module("shard_node.runtime").current()
        return found or importlib.import_module("shard_node.lone").current()
    if name == "sync":
        return importlib.import_module("shard_node.sync")
    home = _HOMES.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    found = globals()[name] = getattr(importlib.import_module(home), name)
    return found
