"""What `shardctl where` prints: who gets what is sent somewhere, and by which rule."""

from __future__ import annotations

from typing import Final

from broker.core.effects import Ask, Effects, Refuse, Reply
from broker.core.events import Asked, Event
from broker.core.fleet import Fleet
from broker.core.inflight import Ref
from broker.core.plan import ranges
from broker.core.resolve import Resolver, Route
from broker.core.rules import Rule
from broker.core.table import Owner
from shard_node.wire import targets
from shard_node.wire.bodies import ErrorBody, WhereReply, WhereRequest
from shard_node.wire.header import Kind, header
from shard_node.wire.limits import PARKED_MAX_S, TOPIC_MAX_CHARS
from shard_node.wire.shard_states import SERVING
from shard_node.wire.topics import BROKERS_OWN, GUILD_HELD
from store.records import Durable

GUILD_MAX: Final = (1 << 64) - 1
NODES_SHOWN_MAX: Final = 256
EXISTING_SHOWN_MAX: Final = 1024
_SHARD_DIGITS_MAX: Final = 9


class Where:
    """Reads the fleet and its table; changes nothing."""

    def __init__(self, fleet: Fleet, _durable: Durable) -> None:
        self._fleet = fleet
        self._resolver = Resolver(fleet)

    def on(self, event: Event, now: float) -> Effects:
        match event:
            case Asked(ref=ref, body=WhereRequest(guild=guild, what="")):
                return self._guild(ref, guild, now)
            case Asked(ref=ref, body=WhereRequest(what=what)):
                return [self._of(ref, what, now)]
        return []

    def next_deadline(self) -> float | None:
        """None: nothing waits here."""
        return None

    # --- a guild

    def _guild(self, ref: Ref, guild: int, now: float) -> Effects:
        fleet = self._fleet
        if not 0 <= guild <= GUILD_MAX:
            return [_bad(ref, f"{guild} is no id of a guild")]
        if not fleet.num_shards:
            return [_no_plan(ref)]
        place = fleet.table.guild(guild)
        owner = place.owner
        why = f"(guild >> 22) % {fleet.num_shards} = {place.shard}"
        if place.route != "formula":
            why = f"an override gives it to node {fleet.table.overridden(guild)}; {why}"
        if owner is None:
            why = f"{why}; {self._absent(self._route(targets.Guild(guild), now))}"
        answer = WhereReply(
            guild,
            place.shard,
            fleet.num_shards,
            owner.name if owner is not None else None,
            place.route,
            fleet.table.version,
            why,
        )
        if owner is not None and self._is_ready(place.shard):
            # Only the node's cache tells a guild of the bot from a number.
            return [Ask(ref, owner.name, owner.epoch, GUILD_HELD, answer)]
        return [Reply(ref, answer)]

    def _is_ready(self, shard: int) -> bool:
        rows = (row for _, row in self._fleet.shard_rows() if row.id == shard)
        return any(row.state in SERVING for row in rows)

    # --- anything else

    def _of(self, ref: Ref, what: str, now: float) -> Reply | Refuse:
        kind, _, name = what.partition(":")
        if not 0 < len(name) <= TOPIC_MAX_CHARS:
            return _bad(ref, _forms(what))
        match kind:
            case "shard":
                return self._shard(ref, what, name, now)
            case "node":
                return self._node(ref, what, name, now)
            case "topic":
                return self._topic(ref, what, name, now)
            case "pool":
                route = self._route(targets.Pool(name), now)
                return self._reply(ref, what, route, "pool", route.text)
        return _bad(ref, _forms(what))

    def _shard(self, ref: Ref, what: str, text: str, now: float) -> Reply | Refuse:
        if not (text.isascii() and text.isdecimal() and len(text) <= _SHARD_DIGITS_MAX):
            return _bad(ref, f"{text!r} is no number of a shard")
        shard, count = int(text), self._fleet.num_shards
        if not count:
            return _no_plan(ref)
        if shard >= count:
            error = ErrorBody(
                "E_NOT_FOUND", f"no shard {shard}", details={"exists": [f"shards 0-{count - 1}"]}
            )
            return Refuse(ref, error)
        route = self._route(targets.Shard(shard), now)
        owner = self._fleet.table.shard(shard)
        why = f"node {owner.name} registered with it" if owner is not None else ""
        return self._reply(ref, what, route, "registration", why, shard=shard)

    def _node(self, ref: Ref, what: str, name: str, now: float) -> Reply | Refuse:
        fleet = self._fleet
        owner = fleet.table.node(name)
        if owner is None and name not in fleet.nodes:
            peers = [*fleet.nodes, *(peer.name for peer in fleet.table.peers() if not peer.epoch)]
            text = f"no node or client {name!r}"
            details = {"exists": peers[:EXISTING_SHOWN_MAX]}
            return Refuse(ref, ErrorBody("E_NOT_FOUND", text, details=details))
        why = ""
        if owner is not None:
            why = self._registered(owner)
        return self._reply(ref, what, self._route(targets.Node(name), now), "registration", why)

    def _registered(self, owner: Owner) -> str:
        proc = self._fleet.procs.get((owner.name, owner.epoch))
        if proc is not None:
            return (
                f"registered, beside the current process of node {owner.name} ({proc.role.value})"
            )
        node = self._fleet.nodes.get(owner.name) if owner.epoch else None
        return f"registered, with {_shards(node.shards)}" if node else "registered as a client"

    def _topic(self, ref: Ref, what: str, name: str, now: float) -> Reply:
        target = targets.Topic(name)
        route = self._route(target, now)
        rule = self._resolver.rule(header(Kind.BATCH, target, ""))
        if name in BROKERS_OWN:
            heard = self._fleet.table.subscribers(name)
            route = Route(tuple(heard), several=True)
            why = "it goes to the broker or comes from it; no rule holds for it"
            return self._reply(ref, what, route, "broker", why)
        lane = rule.lane.name.lower() if rule is not None and rule.lane is not None else ""
        if rule is None or (rule.nodes is None and not rule.pool):
            count = len(route.owners)
            none = "nobody subscribes: events are dropped and counted, messages come back"
            why = "subscribed to it" if count else none
            if lane:
                why += "; an operator's rule sets its lane"
            return self._reply(ref, what, route, "subscriptions", why, lane=lane)
        return self._reply(ref, what, route, "rule", self._ruled(rule), lane=lane)

    def _ruled(self, rule: Rule) -> str:
        why = "an operator's rule sends it to " + _in_words(rule)
        absent = [name for name in rule.nodes or () if self._fleet.table.node(name) is None]
        if absent:
            why += f"; not registered: {', '.join(absent[:NODES_SHOWN_MAX])}"
        return why

    # --- answers

    def _route(self, target: targets.Target, now: float) -> Route:
        return self._resolver.route(header(Kind.BATCH, target, ""), "", now)

    def _absent(self, route: Route) -> str:
        """Why nobody gets it now, and what becomes of what is sent."""
        if route.park:
            node = self._fleet.nodes.get(route.park)
            state = f" ({node.shown_state})" if node is not None else ""
            return (
                f"node {route.park} is not there{state}: what is sent waits for it, until its own "
                f"deadline or {PARKED_MAX_S:.0f} s"
            )
        return route.text

    def _reply(
        self,
        ref: Ref,
        what: str,
        route: Route,
        by: str,
        why: str,
        *,
        shard: int = -1,
        lane: str = "",
    ) -> Reply:
        owners = route.owners
        first = owners[0].name if len(owners) == 1 and not route.several else None
        fleet = self._fleet
        reasons = (why, "" if owners or route.several else self._absent(route))
        answer = WhereReply(
            0,
            shard,
            fleet.num_shards,
            first,
            by,
            fleet.table.version,
            "; ".join(dict.fromkeys(filter(None, reasons))),
            what,
            tuple(owner.routing_id.decode() for owner in owners[:NODES_SHOWN_MAX]),
            max(0, len(owners) - NODES_SHOWN_MAX),
            lane,
        )
        return Reply(ref, answer)


def _shards(shards: tuple[int, ...]) -> str:
    if not shards:
        return "no shard"
    return f"shard{'s' if len(shards) > 1 else ''} {ranges(shards)}"


def _in_words(rule: Rule) -> str:
    if rule.pool:
        return f"the pool {rule.pool}"
    if not rule.nodes:
        return "nobody"
    return ("node " if len(rule.nodes) == 1 else "nodes ") + ", ".join(rule.nodes[:NODES_SHOWN_MAX])


def _forms(what: str) -> str:
    return f"{what[:TOPIC_MAX_CHARS]!r} is none of shard:N, node:NAME, topic:NAME, pool:NAME"


def _bad(ref: Ref, text: str) -> Refuse:
    return Refuse(ref, ErrorBody("E_BAD_REQUEST", text))


def _no_plan(ref: Ref) -> Refuse:
    text = "the fleet has no plan yet"
    return Refuse(ref, ErrorBody("E_NOT_READY", text, "retry", retryable=True))
