"""The vocabulary: every built-in topic with its body, lane and delivery class.

The five protocol types and the eight categories come from the protocol's specification.
A built-in topic can be named by its body as well: ``node.on(MemberUpdate, ...)``.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from shard_node.wire import (
    bodies,
    categories,
    guildview,
    handover,
    health,
    lifecycle,
    lingering,
    migration,
    operations,
    state,
)
from shard_node.wire.header import Kind
from shard_node.wire.lanes import Lane

SHARD_READY: Final = "SHARD_READY"
SHARD_DISCONNECT: Final = "SHARD_DISCONNECT"
GUILD_SYNC: Final = "GUILD_SYNC"
STATE_UPDATE: Final = "STATE_UPDATE"
BROADCAST: Final = "BROADCAST"

GUILD_INFO: Final = "GUILD_INFO"
MEMBER_UPDATE: Final = "MEMBER_UPDATE"
COMMAND_SYNC: Final = "COMMAND_SYNC"
STATS_UPDATE: Final = "STATS_UPDATE"
USER_UPDATE: Final = "USER_UPDATE"
PRESENCE_UPDATE: Final = "PRESENCE_UPDATE"
COMMAND_EXEC: Final = "COMMAND_EXEC"
CACHE_INVALIDATE: Final = "CACHE_INVALIDATE"

REGISTER: Final = "node.register"
HEARTBEAT: Final = "node.heartbeat"
FATAL: Final = "node.fatal"
NODE_STOP: Final = "node.stop"
NODE_GONE: Final = "node.gone"
NODE_RECOVERED: Final = "node.recovered"
SUBSCRIBE: Final = "node.subscribe"
SHARD_HEALTH: Final = "shard.health"
SHARD_OTHERS: Final = "shard.others"
SHARD_ARM: Final = "shard.arm"
SHARD_RELEASE: Final = "shard.release"
SHARD_DISARM: Final = "shard.disarm"
SHARD_SETTLE: Final = "shard.settle"
SHARD_MOVED: Final = "shard.moved"
SHARD_RECONNECT: Final = "shard.reconnect"
NODE_RELOAD: Final = "node.reload"
FLEET_READY: Final = "node.fleet-ready"
LINGER_WAITS: Final = "linger.waits"
LINGER_EVENT: Final = "linger.event"
GATEWAY_OP: Final = "gateway.op"
GUILD_TAKE: Final = "guild.take"
GUILD_HOLD: Final = "guild.hold"
GUILD_RELEASE: Final = "guild.release"
GUILD_ROUTE: Final = "guild.route"
GUILD_DROP: Final = "guild.drop"
GUILD_MOVED: Final = "guild.moved"
GUILD_EVENTS: Final = "guild.events"
GUILD_VIEW: Final = "guild.view"
PERMIT: Final = "identify.permit"
IDENTIFY_SENT: Final = "identify.sent"
PERMIT_RETURN: Final = "identify.return"
LEASE: Final = "lease.acquire"
LEASE_RELEASE: Final = "lease.release"
STATUS: Final = "fleet.status"
NODES: Final = "fleet.nodes"
RESPAWN: Final = "fleet.respawn"
STOP: Final = "fleet.stop"
MOVE: Final = "fleet.move"
MIGRATE: Final = "fleet.migrate"
MIGRATIONS: Final = "fleet.migrations"
BALANCE: Final = "fleet.balance"
SCALE: Final = "fleet.scale"
RECONNECT: Final = "fleet.reconnect"
RELOAD: Final = "fleet.reload"
OP_SHOW: Final = "op.show"
OPS: Final = "op.list"
OP_CANCEL: Final = "op.cancel"
WHERE: Final = "fleet.where"
GUILD_HELD: Final = "node.guild"
CLIENT_REGISTER: Final = "client.register"
ROUTES: Final = "routes.show"
STATE_DO: Final = "state.do"
STATE_READ: Final = "state.read"
STATE_SCAN: Final = "state.scan"
STATE_LOG: Final = "state.log"
STATE_MARK: Final = "state.mark"
STATE_GUILD: Final = "state.guild"
STATE_COMMITTED: Final = "state.committed"
STATE_TRIM: Final = "state.trim"
COOLDOWN_ACQUIRE: Final = "cooldown.acquire"
COOLDOWN_SHOW: Final = "cooldown.show"
COOLDOWN_CLEAR: Final = "cooldown.clear"
DEAD_LETTERS: Final = "dead-letters.list"
DEAD_LETTERS_RETRY: Final = "dead-letters.retry"
DEAD_LETTERS_DROP: Final = "dead-letters.drop"


class TopicSpec(NamedTuple):
    """How a built-in topic travels: ``kind`` is its delivery class, ``lane`` the default.

    ``reply`` is the body of its REPLY, if it has one; ``up`` that of the broker's, where it may
    be asked of the broker as well, which is always a request. All bodies are MessagePack.
    """

    kind: Kind
    lane: Lane
    body: type[Any]
    reply: type[Any] | None = None
    up: type[Any] | None = None


TOPICS: Final[dict[str, TopicSpec]] = {
    SHARD_READY: TopicSpec(Kind.EVENT, Lane.CONTROL, bodies.ShardReady),
    SHARD_DISCONNECT: TopicSpec(Kind.EVENT, Lane.CONTROL, bodies.ShardDisconnect),
    GUILD_SYNC: TopicSpec(Kind.MESSAGE, Lane.HIGH, categories.GuildSync, up=state.StateDone),
    STATE_UPDATE: TopicSpec(Kind.MESSAGE, Lane.NORMAL, categories.StateUpdate, up=state.StateDone),
    BROADCAST: TopicSpec(Kind.EVENT, Lane.NORMAL, categories.Broadcast),
    GUILD_INFO: TopicSpec(Kind.MESSAGE, Lane.NORMAL, categories.GuildInfo),
    MEMBER_UPDATE: TopicSpec(Kind.MESSAGE, Lane.NORMAL, categories.MemberUpdate),
    COMMAND_SYNC: TopicSpec(Kind.REQUEST, Lane.HIGH, bodies.CommandSync, bodies.CommandSyncReply),
    STATS_UPDATE: TopicSpec(Kind.EVENT, Lane.LOW, categories.StatsUpdate),
    USER_UPDATE: TopicSpec(Kind.MESSAGE, Lane.NORMAL, categories.UserUpdate),
    PRESENCE_UPDATE: TopicSpec(Kind.EVENT, Lane.LOW, categories.PresenceUpdate),
    COMMAND_EXEC: TopicSpec(
        Kind.REQUEST, Lane.HIGH, categories.CommandExec, categories.CommandResult
    ),
    CACHE_INVALIDATE: TopicSpec(Kind.MESSAGE, Lane.HIGH, categories.CacheInvalidate),
    REGISTER: TopicSpec(Kind.REQUEST, Lane.CONTROL, bodies.Register, bodies.Welcome),
    HEARTBEAT: TopicSpec(Kind.REQUEST, Lane.CONTROL, bodies.Heartbeat, bodies.HeartbeatAck),
    FATAL: TopicSpec(Kind.EVENT, Lane.CONTROL, bodies.NodeFatal),
    NODE_STOP: TopicSpec(Kind.EVENT, Lane.CONTROL, bodies.NodeStop),
    NODE_GONE: TopicSpec(Kind.EVENT, Lane.CONTROL, bodies.NodeGone),
    NODE_RECOVERED: TopicSpec(Kind.EVENT, Lane.CONTROL, lifecycle.Recovered),
    SUBSCRIBE: TopicSpec(Kind.EVENT, Lane.CONTROL, bodies.Subscribe),
    SHARD_HEALTH: TopicSpec(Kind.EVENT, Lane.CONTROL, health.ShardHealth),
    SHARD_OTHERS: TopicSpec(Kind.REQUEST, Lane.CONTROL, health.OthersRequest, health.OthersReply),
    SHARD_ARM: TopicSpec(Kind.EVENT, Lane.CONTROL, handover.ShardArm),
    SHARD_RELEASE: TopicSpec(Kind.EVENT, Lane.CONTROL, handover.ShardRelease),
    SHARD_DISARM: TopicSpec(Kind.EVENT, Lane.CONTROL, handover.ShardDisarm),
    SHARD_SETTLE: TopicSpec(Kind.EVENT, Lane.CONTROL, handover.ShardSettle),
    SHARD_MOVED: TopicSpec(Kind.EVENT, Lane.CONTROL, handover.ShardMoved),
    SHARD_RECONNECT: TopicSpec(Kind.EVENT, Lane.CONTROL, operations.ShardReconnect),
    NODE_RELOAD: TopicSpec(Kind.REQUEST, Lane.HIGH, operations.NodeReload, operations.NodeReloaded),
    FLEET_READY: TopicSpec(Kind.EVENT, Lane.CONTROL, operations.FleetReady),
    LINGER_WAITS: TopicSpec(Kind.MESSAGE, Lane.HIGH, lingering.Waits),
    LINGER_EVENT: TopicSpec(Kind.MESSAGE, Lane.HIGH, lingering.LingerEvent),
    GATEWAY_OP: TopicSpec(Kind.MESSAGE, Lane.HIGH, lingering.GatewayOp),
    GUILD_TAKE: TopicSpec(Kind.EVENT, Lane.CONTROL, migration.GuildTake),
    GUILD_HOLD: TopicSpec(Kind.EVENT, Lane.CONTROL, migration.GuildHold),
    GUILD_RELEASE: TopicSpec(Kind.EVENT, Lane.CONTROL, migration.GuildRelease),
    GUILD_ROUTE: TopicSpec(Kind.EVENT, Lane.CONTROL, migration.GuildRoute),
    GUILD_DROP: TopicSpec(Kind.EVENT, Lane.CONTROL, migration.GuildDrop),
    GUILD_MOVED: TopicSpec(Kind.EVENT, Lane.CONTROL, migration.GuildMoved),
    GUILD_VIEW: TopicSpec(Kind.REQUEST, Lane.HIGH, guildview.GuildAsk, guildview.GuildView),
    GUILD_EVENTS: TopicSpec(Kind.REQUEST, Lane.HIGH, migration.GuildEvents, migration.GuildHandled),
    PERMIT: TopicSpec(Kind.REQUEST, Lane.CONTROL, bodies.PermitRequest, bodies.PermitGrant),
    IDENTIFY_SENT: TopicSpec(Kind.EVENT, Lane.CONTROL, bodies.IdentifySent),
    PERMIT_RETURN: TopicSpec(Kind.EVENT, Lane.CONTROL, bodies.PermitReturn),
    LEASE: TopicSpec(Kind.REQUEST, Lane.HIGH, bodies.LeaseRequest, bodies.LeaseReply),
    LEASE_RELEASE: TopicSpec(Kind.EVENT, Lane.HIGH, bodies.LeaseRelease),
    STATUS: TopicSpec(Kind.REQUEST, Lane.HIGH, bodies.StatusRequest, dict),
    NODES: TopicSpec(Kind.REQUEST, Lane.HIGH, bodies.NodesRequest, bodies.NodesReply),
    RESPAWN: TopicSpec(Kind.REQUEST, Lane.HIGH, bodies.RespawnRequest, bodies.RespawnReply),
    STOP: TopicSpec(Kind.REQUEST, Lane.HIGH, bodies.StopRequest, bodies.StopReply),
    MOVE: TopicSpec(Kind.REQUEST, Lane.HIGH, operations.MoveRequest, operations.OpReply),
    MIGRATE: TopicSpec(Kind.REQUEST, Lane.HIGH, migration.MigrateRequest, operations.OpReply),
    MIGRATIONS: TopicSpec(Kind.REQUEST, Lane.HIGH, migration.MigrationsRequest, dict),
    BALANCE: TopicSpec(Kind.REQUEST, Lane.HIGH, operations.BalanceRequest, operations.OpReply),
    SCALE: TopicSpec(Kind.REQUEST, Lane.HIGH, operations.ScaleRequest, operations.OpReply),
    RECONNECT: TopicSpec(
        Kind.REQUEST, Lane.HIGH, operations.ReconnectRequest, operations.Reconnected
    ),
    RELOAD: TopicSpec(Kind.REQUEST, Lane.HIGH, operations.ReloadRequest, operations.NodeReloaded),
    OP_SHOW: TopicSpec(Kind.REQUEST, Lane.HIGH, operations.OpRequest, dict),
    OPS: TopicSpec(Kind.REQUEST, Lane.HIGH, operations.OpsRequest, dict),
    OP_CANCEL: TopicSpec(Kind.REQUEST, Lane.HIGH, operations.OpRequest, dict),
    WHERE: TopicSpec(Kind.REQUEST, Lane.HIGH, bodies.WhereRequest, bodies.WhereReply),
    CLIENT_REGISTER: TopicSpec(Kind.REQUEST, Lane.CONTROL, bodies.ClientRegister, bodies.Welcome),
    ROUTES: TopicSpec(Kind.REQUEST, Lane.HIGH, bodies.RoutesRequest, dict),
    DEAD_LETTERS: TopicSpec(Kind.REQUEST, Lane.HIGH, bodies.DeadLettersRequest, dict),
    DEAD_LETTERS_RETRY: TopicSpec(
        Kind.REQUEST, Lane.HIGH, bodies.LettersChosen, bodies.LettersDone
    ),
    DEAD_LETTERS_DROP: TopicSpec(Kind.REQUEST, Lane.HIGH, bodies.LettersChosen, bodies.LettersDone),
    STATE_DO: TopicSpec(Kind.REQUEST, Lane.HIGH, state.StateDo, state.StateDone),
    STATE_READ: TopicSpec(Kind.REQUEST, Lane.HIGH, state.StateRead, state.StateRows),
    STATE_SCAN: TopicSpec(Kind.REQUEST, Lane.NORMAL, state.StateScan, state.StateScanned),
    STATE_LOG: TopicSpec(Kind.REQUEST, Lane.NORMAL, state.StateLog, state.StateLogged),
    STATE_GUILD: TopicSpec(Kind.REQUEST, Lane.NORMAL, state.StateGuild, categories.GuildSync),
    STATE_MARK: TopicSpec(Kind.REQUEST, Lane.HIGH, state.StateMark, state.StateAt),
    STATE_TRIM: TopicSpec(Kind.REQUEST, Lane.NORMAL, state.StateTrim, state.StateTrimming),
    COOLDOWN_ACQUIRE: TopicSpec(
        Kind.REQUEST, Lane.HIGH, state.CooldownAcquire, state.CooldownSteps
    ),
    COOLDOWN_SHOW: TopicSpec(Kind.REQUEST, Lane.HIGH, state.CooldownShow, state.CooldownShown),
    COOLDOWN_CLEAR: TopicSpec(Kind.REQUEST, Lane.HIGH, state.CooldownClear, state.CooldownCleared),
    STATE_COMMITTED: TopicSpec(Kind.EVENT, Lane.NORMAL, state.StateAt),
    GUILD_HELD: TopicSpec(Kind.REQUEST, Lane.HIGH, bodies.WhereReply, bodies.WhereReply),
}

PEERS_OWN: Final = frozenset({LINGER_WAITS, LINGER_EVENT, GATEWAY_OP, GUILD_EVENTS, GUILD_VIEW})
"""Lower-case topics that go from one process of the fleet to another."""

BROKERS_OWN: Final = frozenset(
    {SHARD_READY, SHARD_DISCONNECT, COMMAND_SYNC, *(name for name in TOPICS if name.islower())}
)
"""They go to the broker or come from it, or are PEERS_OWN: no rule of an operator holds for
them."""

BY_BODY: Final[dict[type[Any], str]] = {
    spec.body: name for name, spec in TOPICS.items() if name.isupper()
}
"""The protocol's types and categories by the type of their body."""
