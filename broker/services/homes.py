"""Where guilds are that were given away, against where they shall be: a guild whose process died
is its shard's again, follows its node's next process, and goes along with the shard it was given
to."""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Final

from msgspec import structs

from broker.core.effects import Effects, Emit, Keep, Log, Reply, Tell
from broker.core.events import (
    Asked,
    Event,
    Exited,
    Given,
    NodeGone,
    NodeRegistered,
    Promoted,
    Tick,
)
from broker.core.fleet import Fleet, FleetState, Node
from broker.core.guilds import OVER, GuildHome, Who, label_of, process_of
from broker.core.operation import GUILD_KINDS, OpState, Step, guild_claim
from broker.core.opevents import GuildSaid, OperationEnded, OperationWanted
from broker.core.states import DOWN, NodeState
from shard_node.wire.bodies import ShardState
from shard_node.wire.handover import NO_JOURNAL
from shard_node.wire.migration import (
    GuildDrop,
    GuildMoved,
    GuildPart,
    GuildPhase,
    GuildRoute,
    MigrationsRequest,
)
from shard_node.wire.targets import shard_of_guild
from shard_node.wire.topics import GUILD_DROP, GUILD_ROUTE
from store.records import Durable, Forget, GuildRecord

LOOK_S: Final = 1.0
AGAIN_S: Final = 5.0
"""A way that failed is tried again after so long."""
DRAIN_S: Final = 0.1
PAGE: Final = 256
FOLLOW: Final = "follow"
_WAITS: Final = frozenset({GuildPhase.HELD, GuildPhase.ROUTED, GuildPhase.BURST})
_HAS: Final = frozenset({GuildPhase.WARMING, GuildPhase.WARM, GuildPhase.OWNED})
_PAST: Final = OVER | {GuildPhase.RELEASED, GuildPhase.FAILED}


class Homes:
    """Of one fleet: hears the processes, and asks for operations where something is amiss."""

    def __init__(self, fleet: Fleet, durable: Durable) -> None:
        self._fleet = fleet
        self._limits = fleet.settings.guilds
        for kept in durable.guilds.values():
            record = GuildHome(*structs.astuple(kept))
            fleet.guilds.put(record, record.guild)
            fleet.table.override(record.guild, record.label or None)
        self._looked_at = -math.inf
        self._not_before: dict[int, float] = {}
        self._died: dict[int, deque[float]] = {}
        """When a guild's process died, of those that were given back lately."""

    def on(self, event: Event, now: float) -> Effects:
        match event:
            case Asked(ref=ref, body=GuildMoved() as body):
                return self._heard((ref.peer.name, ref.peer.epoch), body)
            case Asked(ref=ref, body=MigrationsRequest(page=page)):
                return [Reply(ref, self._page(page))]
            case OperationEnded(kind=kind, state=state, args=args) if kind in GUILD_KINDS:
                if state != OpState.DONE:
                    self._not_before[int(args["guild"])] = now + AGAIN_S
                return self._look(now)
            case NodeGone() | NodeRegistered() | Promoted() | Given() | Exited():
                return self._look(now)
            case Tick() if now >= self._looked_at + LOOK_S:
                return self._look(now)
        return []

    def next_deadline(self) -> float | None:
        """When the next look is due; None: no guild is away."""
        guilds = self._fleet.guilds
        idle = not guilds.records and not guilds.any_said
        if idle or self._fleet.state is FleetState.STOPPING:
            return None
        return max(self._looked_at, self._fleet.started_at) + LOOK_S

    # --- what processes say

    def _heard(self, who: Who, body: GuildMoved) -> Effects:
        fleet, guild = self._fleet, body.guild
        if not fleet.lives(*who):
            return []
        if not fleet.guilds.heard(who, body):
            fleet.counts["guilds_unheard"] += 1
            return []
        effects: Effects = [Emit(GuildSaid(*who, body))]
        record = fleet.guilds.records.get(guild)
        if record is None or not record.label or self._is_busy(guild):
            return effects
        if body.phase is GuildPhase.LEFT and label_of(who) == record.label:
            text = f"guild {guild} is not the bot's any more: it was given to {record.label}"
            effects += [Log("INFO", text), *self._keep(guild, None)]
        at_home = body.part is GuildPart.FEEDER and body.phase is GuildPhase.HOME
        if at_home and who == self._feeder(guild) and body.version >= record.version:
            text = f"guild {guild} is handled by its shard's holder {label_of(who)} again"
            back = record._replace(label="", version=body.version, given_back=record.given_back + 1)
            effects += [Log("WARNING", text), *self._drop(record.label, guild, body.version)]
            effects += self._keep(guild, back)
        return effects

    def _keep(self, guild: int, record: GuildHome | None) -> Effects:
        self._fleet.guilds.put(record, guild)
        self._fleet.table.override(guild, record.label or None if record is not None else None)
        if record is None:
            return [Keep((Forget(GuildRecord, str(guild)),))]
        return [Keep((GuildRecord(*record),))]

    def _drop(self, label: str, guild: int, version: int) -> Effects:
        who = process_of(label)
        if not self._fleet.lives(*who):
            return []
        return [Tell(*who, GUILD_DROP, GuildDrop(guild, version, "it is handled elsewhere"))]

    # --- a look

    def _look(self, now: float) -> Effects:
        fleet = self._fleet
        fleet.guilds.forget(fleet.lives)
        if fleet.state is FleetState.STOPPING:
            return []
        effects: Effects = []
        if now >= self._looked_at + LOOK_S:
            self._looked_at = now
            effects += self._tidy()
        room = self._limits.at_once
        for record in list(fleet.guilds.records.values()):
            if room <= 0:
                break
            found = self._look_at(record, now)
            room -= bool(found)
            effects += found
        return effects

    def _look_at(self, record: GuildHome, now: float) -> Effects:
        fleet, guild = self._fleet, record.guild
        if now < self._not_before.get(guild, now) or self._is_busy(guild):
            return []
        self._not_before.pop(guild, None)
        if self._is_stale(record):
            return self._keep(guild, None)
        has = process_of(record.label)
        died = bool(record.label) and not fleet.lives(*has)
        wanted = self._wanted(record, now, died=died)
        if wanted is None or (wanted == record.label and not self._is_lost(record)):
            return []
        if died and not wanted:
            self._died.setdefault(guild, deque(maxlen=self._limits.again_max + 1)).append(now)
        feeder = self._feeder(guild)
        target = process_of(wanted)[0] if wanted != record.label and wanted else feeder[0]
        home = target == feeder[0]
        args = {"guild": guild, "home": home, "died": died, "drain_s": DRAIN_S}
        step = Step(has[0] or feeder[0], (), target=target)
        return [Emit(OperationWanted(FOLLOW, (step,), args))]

    def _wanted(self, record: GuildHome, now: float, *, died: bool) -> str | None:
        """The process that shall have it, "": the holder of its shard; None: that is not to be
        said now."""
        fleet, feeder = self._fleet, self._feeder(record.guild)
        if not feeder[1]:
            return None
        node = fleet.nodes.get(record.node) if record.node else fleet.holder(record.shard)
        if node is None:
            return ""
        if node.state is NodeState.UP and not node.reported:
            return None  # this broker has yet to hear it
        if not _takes(node):
            starts = died and fleet.state is FleetState.STARTING and node.state not in DOWN
            return None if starts and now < fleet.started_at + self._limits.start_s else ""
        if not self._may_again(record, node, now):
            return ""
        label = label_of((node.name, node.epoch))
        return "" if (node.name, node.epoch) == feeder else label

    def _may_again(self, record: GuildHome, node: Node, now: float) -> bool:
        """Whether a node whose process died with the guild is to have it again."""
        limits, times = self._limits, self._died.get(record.guild)
        if not times:
            return True
        while times and now >= times[0] + limits.again_window_s:
            times.popleft()
        key = f"guild_{record.guild}"
        if len(times) > limits.again_max:
            text = f"guild {record.guild} stays with its shard's holder: node {node.name} died "
            text += f"{len(times)} times with it; again: shardctl migrate-guild"
            self._fleet.warn(key, text)
            return False
        self._fleet.warn(key, None)
        return record.label != "" or now >= node.spawned_at + limits.steady_s

    def _is_stale(self, record: GuildHome) -> bool:
        """It was given to a node that is not in the fleet any more, and is at home."""
        fleet = self._fleet
        return bool(
            not record.label and record.node and fleet.nodes and record.node not in fleet.nodes
        )

    def _is_lost(self, record: GuildHome) -> bool:
        """Its process lives, and does not have it; its shard's holder waits for it."""
        if not record.label:
            return False
        feeder, owner = self._feeder(record.guild), process_of(record.label)
        node, proc = self._fleet.current(*owner), self._fleet.procs.get(owner)
        if not (node.reported if node is not None else proc is not None and proc.registered):
            return False
        waits = self._fleet.guilds.said(feeder, record.guild, GuildPart.FEEDER)
        has = self._fleet.guilds.said(owner, record.guild, GuildPart.OWNER)
        held = waits is not None and waits.phase in (GuildPhase.HELD, GuildPhase.BURST)
        return held and (has is None or has.phase not in (GuildPhase.OWNED, GuildPhase.DRAINING))

    # --- what is left over

    def _tidy(self) -> Effects:
        """Processes that have, hold or send what they should not."""
        fleet, effects = self._fleet, Effects()
        for who, body in fleet.guilds.all_said():
            guild = body.guild
            if self._is_busy(guild):
                continue
            record = fleet.guilds.records.get(guild)
            label = record.label if record is not None else ""
            version = max(body.version, record.version if record is not None else 0)
            if body.phase in _PAST:
                fleet.guilds.over(who, body)
            elif body.part is GuildPart.OWNER:
                if body.phase in _HAS and label_of(who) != label:
                    effects += self._drop(label_of(who), guild, version)
            elif self._is_misled(who, body, label):
                route = GuildRoute(guild, version, label)
                effects.append(Tell(*who, GUILD_ROUTE, route))
        fleet.counts["migrations_leftover"] += len(effects)
        return effects

    def _is_misled(self, who: Who, body: GuildMoved, label: str) -> bool:
        """Whether a shard's holder sends a guild's events to another than it should."""
        if body.phase not in _WAITS or who != self._feeder(body.guild):
            return False
        if body.phase is GuildPhase.ROUTED and body.owner == label:
            return False
        if not label:
            return True
        has = self._fleet.guilds.said(process_of(label), body.guild, GuildPart.OWNER)
        return has is not None and has.phase is GuildPhase.OWNED

    def _is_busy(self, guild: int) -> bool:
        return self._fleet.conflict(-1, guild_claim(guild)) is not None

    def _feeder(self, guild: int) -> Who:
        """The process that holds its shard, ready; ("", 0) for none."""
        fleet = self._fleet
        if not fleet.num_shards:
            return "", 0
        shard = shard_of_guild(guild, fleet.num_shards)
        node = fleet.holder(shard)
        if node is None or not node.reported or node.state is not NodeState.UP:
            return "", 0
        ready = node.rows[shard].state is ShardState.READY
        return (node.name, node.epoch) if ready else ("", 0)

    # --- shown

    def _page(self, page: int) -> dict[str, Any]:
        records = sorted(self._fleet.guilds.records.values(), key=lambda one: one.guild)
        pages = max(1, math.ceil(len(records) / PAGE))
        at = min(max(0, page), pages - 1)
        shown = [self._shown(one) for one in records[at * PAGE : (at + 1) * PAGE]]
        return {"guilds": shown, "page": at, "pages": pages}

    def _shown(self, record: GuildHome) -> dict[str, Any]:
        fleet, guild = self._fleet, record.guild
        shard = shard_of_guild(guild, fleet.num_shards) if fleet.num_shards else -1
        holder = fleet.holder(shard)
        feeder = self._feeder(guild)
        said = fleet.guilds.said(feeder, guild, GuildPart.FEEDER)
        return {
            "guild": str(guild),
            "shard": shard,
            "gateway_node": holder.name if holder is not None else "",
            "node": process_of(record.label)[0] or (holder.name if holder is not None else ""),
            "process": record.label or label_of(feeder) if feeder[1] or record.label else "",
            "wanted": record.node or f"shard:{record.shard}",
            "since_ms": record.since_ms,
            "by": record.by,
            "waiting": said.held if said is not None else 0,
            "given_back": record.given_back,
        }


def _takes(node: Node) -> bool:
    """Whether a node's process can be given a guild."""
    return (
        node.state is NodeState.UP
        and node.reported
        and not node.retired
        and not node.troubles.get(NO_JOURNAL)
    )
