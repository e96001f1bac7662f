"""Guilds handed from process to process: asked for, and their steps carried out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from broker.core.effects import Effects, Emit, Keep, Log, Refuse, Reply, Tell
from broker.core.events import StepFlipped
from broker.core.fleet import Fleet, FleetState, Node
from broker.core.guilds import GuildHome, label_of, process_of
from broker.core.handover import Flipped
from broker.core.inflight import Ref
from broker.core.migration import Command, End, Flip, GuildFacts, Migration, Say, Way
from broker.core.operation import Operation, OpState, Step, guild_claim
from broker.core.opevents import OperationWanted
from broker.core.states import NodeState
from broker.services.moving import no_journal, no_target, unknown_shard
from broker.services.oprecords import kept
from broker.services.transfers import Transfers
from shard_node.wire.bodies import ErrorBody, ShardState
from shard_node.wire.migration import GuildMoved, GuildPart, MigrateRequest
from shard_node.wire.operations import OpReply
from shard_node.wire.targets import shard_of_guild
from store.records import Change, Forget, GuildRecord

GUILD_MAX: Final = (1 << 64) - 1
DRAIN_MAX_S: Final = 60.0


@dataclass(slots=True)
class Going:
    """A guild under way."""

    operation: Operation
    step: Step
    migration: Migration
    flipped: Flipped = Flipped.NO


class Migrating:
    """Of one fleet. How a step ended it says as the transfers do."""

    def __init__(self, fleet: Fleet, transfers: Transfers) -> None:
        self._fleet = fleet
        self._limits = fleet.settings.guilds
        self._ended = transfers.ended
        self._going: dict[str, Going] = {}
        self._looked_at = fleet.started_at

    def next_deadline(self) -> float | None:
        """When somebody is to be told again, or has taken too long."""
        times = (going.migration.next_deadline() for going in self._going.values())
        return min((time for time in times if time is not None), default=None)

    # --- asked for

    def asked(self, ref: Ref, body: MigrateRequest) -> Effects:
        """An operator wants a guild handled elsewhere."""
        found = self._bad(body) or self._target(body)
        if isinstance(found, ErrorBody):
            return [Refuse(ref, found)]
        problem = self._problem(body, found)
        if problem is not None:
            return [Refuse(ref, problem)]
        guild, owner = body.guild, self._owner(body.guild)
        shard = shard_of_guild(guild, self._fleet.num_shards)
        plan = {"guild": str(guild), "shard": shard, "from": owner.name, "to": found.name}
        reply = OpReply("", plan | {"back": body.back})
        if body.dry_run:
            conflict = None if body.queue else self._fleet.conflict(-1, guild_claim(guild))
            return [Reply(ref, reply) if conflict is None else Refuse(ref, conflict)]
        args = {"guild": guild, "node": body.node, "shard": body.shard, "back": body.back}
        args |= {"home": body.back, "drain_s": body.drain_s}
        step = Step(owner.name, (), target=found.name)
        return [Emit(OperationWanted("migrate", (step,), args, ref, reply, queue=body.queue))]

    def _bad(self, body: MigrateRequest) -> ErrorBody | None:
        fleet = self._fleet
        if fleet.state is FleetState.STOPPING:
            return ErrorBody("E_STOPPING", "the fleet is stopping")
        if not fleet.num_shards:
            return ErrorBody("E_NOT_READY", "the fleet has no plan yet", "retry", True)
        if not 0 < body.guild <= GUILD_MAX:
            return ErrorBody("E_BAD_REQUEST", f"{body.guild} is no id of a guild")
        if sum((bool(body.node), body.shard >= 0, body.back)) != 1:
            text = "name a node, or a shard, or back: one of them"
            return ErrorBody("E_BAD_REQUEST", text)
        if not 0 <= body.drain_s <= DRAIN_MAX_S:
            return ErrorBody("E_BAD_REQUEST", f"drain_s is from 0 to {DRAIN_MAX_S:g} seconds")
        records = fleet.guilds.records
        if len(records) >= self._limits.overrides_max and body.guild not in records:
            text = f"{len(records)} guilds were given away already, that is the most"
            return ErrorBody("E_LIMIT", text, "give some back: shardctl migrate-guild GUILD --back")
        return None

    def _target(self, body: MigrateRequest) -> Node | ErrorBody:
        fleet = self._fleet
        if body.back or body.shard >= 0:
            count = fleet.num_shards
            shard = shard_of_guild(body.guild, count) if body.back else body.shard
            return fleet.holder(shard) or unknown_shard(fleet, shard)
        if (node := fleet.nodes.get(body.node)) is not None:
            return node
        text = f"no node {body.node[:64]!r} in the fleet"
        hint = f"choose one of these: {', '.join(list(fleet.nodes)[:16])}"
        return ErrorBody("E_NOT_FOUND", text, hint, details={"exists": list(fleet.nodes)})

    def _owner(self, guild: int) -> Node:
        """The node that handles it now; its shard's where that has no process any more."""
        fleet, record = self._fleet, self._fleet.guilds.records.get(guild)
        shard = shard_of_guild(guild, fleet.num_shards)
        holder = fleet.holder(shard)
        assert holder is not None, shard
        if record is None or not fleet.lives(*process_of(record.label)):
            return holder
        return fleet.nodes.get(process_of(record.label)[0], holder)

    def _problem(self, body: MigrateRequest, target: Node) -> ErrorBody | None:
        fleet, guild = self._fleet, body.guild
        record = fleet.guilds.records.get(guild)
        shard = shard_of_guild(guild, fleet.num_shards)
        feeder = fleet.holder(shard)
        if feeder is None:
            return unknown_shard(fleet, shard)
        if body.back and record is None:
            text = f"guild {guild} is at home: node {feeder.name} has it, and its shard {shard}"
            return ErrorBody("E_SAME", text, "shardctl migrate-guild --list shows who is not")
        wished = record is not None and (record.node, record.shard) == (body.node, body.shard)
        if not body.back and self._owner(guild) is target and (wished or record is None):
            text = f"guild {guild} is handled by node {target.name} already"
            return ErrorBody("E_SAME", text, f"shardctl where {guild} says why")
        problem = no_target(target) or no_journal(target) or no_journal(feeder)
        if problem is not None:
            return problem
        row = feeder.rows[shard]
        if row.state is not ShardState.READY:
            text = f"shard {shard} of guild {guild} is {row.state.value} on node {feeder.name}"
            return ErrorBody("E_NOT_READY", text, "retry", retryable=True)
        return None

    # --- steps

    def begin(self, operation: Operation, step: Step, now: float) -> Effects:
        """A step's turn has come: who has the guild now, and who shall, by their processes."""
        fleet, args = self._fleet, operation.args
        guild = int(args["guild"])
        feeder = fleet.holder(shard_of_guild(guild, fleet.num_shards))
        if args.get("home") and feeder is not None:
            step.target = feeder.name
        elif int(args.get("shard", -1)) >= 0:
            holder = fleet.holder(int(args["shard"]))
            step.target = holder.name if holder is not None else step.target
        target = fleet.nodes.get(step.target)
        if feeder is None or target is None or not (_is_up(feeder) and _is_up(target)):
            down = step.target if target is None or not _is_up(target) else step.node
            self._ended.append((operation, step, OpState.FAILED, f"node {down} is not up"))
            return []
        record = fleet.guilds.records.get(guild)
        has = process_of(record.label) if record is not None and record.label else None
        step.node, step.old_epoch = has or (feeder.name, feeder.epoch)
        step.target_epoch = target.epoch
        args["version"] = self._version(operation, guild, record)
        args["feeder"] = label_of((feeder.name, feeder.epoch))
        self._start(operation, step, now)
        return self.look(now)

    def resume(self, operation: Operation, step: Step, now: float) -> Effects:
        """Goes on with a step that runs, as its record says."""
        if not step.target_epoch or "version" not in operation.args:
            return self.begin(operation, step, now)
        going = self._start(operation, step, now)
        going.flipped = Flipped.YES if step.flipped else Flipped.NO
        going.migration.resume(now, flipped=step.flipped)
        return []

    def cancel(self, operation: Operation, _step: Step, reason: str) -> Effects | None:
        """Takes it back; None where it is too late."""
        going = self._going.get(operation.id)
        if going is None or not going.migration.cancel(reason, self._looked_at):
            return None
        return self._look(going, self._looked_at)

    def forget(self) -> None:
        """The fleet stops."""
        self._going.clear()

    def look(self, now: float) -> Effects:
        """Looks at all of them."""
        self._looked_at = now
        return [effect for one in list(self._going.values()) for effect in self._look(one, now)]

    def flipped(self, event: StepFlipped, now: float) -> Effects:
        """The record has it now (or has it not)."""
        going = self._going.get(event.op)
        if going is None:
            return []
        going.flipped = Flipped.NO if event.error else Flipped.YES
        if not event.error:
            going.step.flipped = True
            self._fleet.guilds.put(self._record(going, now), self._guild(going))
            self._override(self._guild(going))
        return self._look(going, now)

    def _start(self, operation: Operation, step: Step, now: float) -> Going:
        fleet, args = self._fleet, operation.args
        guild, count = int(args["guild"]), fleet.num_shards
        way = Way(
            guild,
            int(args["version"]),
            shard_of_guild(guild, count),
            count,
            str(args["feeder"]),
            label_of((step.node, step.old_epoch)),
            label_of((step.target, step.target_epoch)),
        )
        drain_s = float(args.get("drain_s", 0.0))
        migration = Migration(way, self._limits, now, drain_s=drain_s)
        going = self._going[operation.id] = Going(operation, step, migration)
        return going

    def _version(self, operation: Operation, guild: int, record: GuildHome | None) -> int:
        """Greater than any that a process may remember of this guild."""
        said = (body.version for _, body in self._fleet.guilds.all_said() if body.guild == guild)
        before = record.version if record is not None else 0
        return max(operation.number, before + 1, max(said, default=0) + 1)

    # --- a look

    def _look(self, going: Going, now: float) -> Effects:
        effects: Effects = []
        for command in going.migration.look(self._facts(going), now):
            effects += self._do(going, command, now)
        return effects

    def _facts(self, going: Going) -> GuildFacts:
        fleet, way = self._fleet, going.migration.way
        owner, target = process_of(way.owner), process_of(way.target)
        holder = fleet.holder(way.shard)
        feeder = (holder.name, holder.epoch) if holder is not None and holder.reported else ("", 0)
        return GuildFacts(
            label_of(feeder) if feeder[1] else "",
            fleet.lives(*owner),
            fleet.lives(*target),
            self._said(way, feeder, GuildPart.FEEDER),
            self._said(way, owner, GuildPart.OWNER),
            self._said(way, target, GuildPart.OWNER),
            going.flipped,
        )

    def _said(self, way: Way, who: tuple[str, int], part: GuildPart) -> GuildMoved | None:
        said = self._fleet.guilds.said(who, way.guild, part)
        return said if said is not None and said.version == way.version else None

    def _do(self, going: Going, command: Command, now: float) -> Effects:
        match command:
            case Say(to=to, topic=topic, body=body):
                return [Tell(*process_of(to), topic, body)]
            case Flip():
                return self._flip(going, now)
            case End(state=state, reason=reason):
                return self._end(going, state, reason)

    def _flip(self, going: Going, now: float) -> Effects:
        going.flipped = Flipped.ASKED
        operation, step = going.operation, going.step
        after = replace(operation, steps=[replace(step, flipped=True)])
        record = self._record(going, now)
        guild = str(self._guild(going))
        change: Change = GuildRecord(*record) if record is not None else Forget(GuildRecord, guild)
        changes = (change, kept(after, self._fleet.settings.boot_id))
        return [Keep(changes, StepFlipped(operation.id, 0))]

    def _record(self, going: Going, now: float) -> GuildHome | None:
        """What is kept of it from now on; None: it is at home for good."""
        operation, way, fleet = going.operation, going.migration.way, self._fleet
        args: dict[str, Any] = operation.args
        label = "" if way.target == way.feeder else way.target
        if operation.kind == "migrate":
            if args["back"]:
                return None
            since_ms = fleet.shared.clock.at_ms(now)
            wish = (str(args["node"]), int(args["shard"]))
            return GuildHome(way.guild, way.version, *wish, label, since_ms=since_ms)
        before = fleet.guilds.records.get(way.guild) or GuildHome(way.guild, 0)
        given_back = before.given_back + bool(args.get("died"))
        return GuildHome(
            way.guild, way.version, before.node, before.shard, label, before.by, before.since_ms,
            given_back,
        )  # fmt: skip

    def _end(self, going: Going, state: OpState, reason: str) -> Effects:
        operation, migration = going.operation, going.migration
        del self._going[operation.id]
        self._fleet.counts[f"migrations_{state.value}"] += 1
        operation.args |= {"held": migration.held, "held_ms": migration.held_ms}
        self._ended.append((operation, going.step, state, reason))
        said = self._said(migration.way, process_of(migration.way.target), GuildPart.OWNER)
        if said is None or not said.interrupted:
            return []
        named = ", ".join(one.words() for one in said.interrupted)
        operation.args["interrupted"] = named
        text = f"{operation.id}: not handled to the end, and not again: {named}"
        return [Log("WARNING", text)]

    def _override(self, guild: int) -> None:
        record = self._fleet.guilds.records.get(guild)
        label = record.label if record is not None else ""
        self._fleet.table.override(guild, label or None)

    def _guild(self, going: Going) -> int:
        return going.migration.way.guild


def _is_up(node: Node) -> bool:
    return node.state is NodeState.UP and node.reported
