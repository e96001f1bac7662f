"""Permits to IDENTIFY: one for each rate-limit key and window, and never over the budget.

A permit is durable before it is granted, so that a broker that dies forgets none.
"""

from __future__ import annotations

import math
from typing import Final

from broker.core.backoff import delay_s
from broker.core.effects import AskGateway, Effects, Keep, Log, Refuse, Reply
from broker.core.events import (
    Asked,
    Event,
    GatewayFailed,
    GatewayInfo,
    InfoWanted,
    NodeGone,
    PermitStored,
    Process,
    SupervisorHello,
)
from broker.core.fleet import Budget, Fleet, FleetState
from broker.core.inflight import Ref
from broker.core.ledger import MARGIN_S, RECENT_S, USE_WITHIN_S, Ledger, Permit
from broker.core.procs import Role
from shard_node.wire.bodies import (
    ErrorBody,
    IdentifySent,
    PermitGrant,
    PermitRequest,
    PermitReturn,
)
from store.records import Durable, LedgerRecord, PermitRecord

INFO_MAX_AGE_S: Final = 60.0
INFO_EXHAUSTED_S: Final = 15.0
"""With no start left, Discord is asked again after this."""
INFO_FRESH_MIN_S: Final = 1.0
"""Discord is not asked more often, however short a window a test has."""
INFO_AHEAD_S: Final = 1.0
"""Asked so long before a key gets free, Discord's answer is there when it does."""
WARNING: Final = "gateway_info"


class Identify:
    """Waiting requests in order of arrival for each key, and the ledger."""

    def __init__(self, fleet: Fleet, durable: Durable) -> None:
        self._fleet = fleet
        self._ledger = _restored(fleet, durable.ledger)
        self._waiting: dict[int, Ref] = {}
        self._granting: dict[int, Ref] = {}
        self._wanted = False
        self._asking = False
        self._asked_at = 0.0
        self._ask_at = fleet.started_at
        self._retry_at = -math.inf
        self._seen_at = fleet.started_at
        self._failures = 0
        self._recommended = 0
        fleet.permit_waiter = self._waiter
        self._show()

    def on(self, event: Event, now: float) -> Effects:
        self._seen_at = now
        effects: Effects = []
        match event:
            case Asked(ref=ref, body=PermitRequest() as body):
                effects = self._request(ref, body, now)
            case Asked(body=IdentifySent() as body):
                effects = self._sent(body, now)
            case Asked(body=PermitReturn() as body):
                effects = self._returned(body)
            case PermitStored():
                effects = self._stored(event)
            case NodeGone():
                effects = self._gone(event, now)
            case SupervisorHello(processes=processes):
                effects = self._greeted(processes, now)
            case InfoWanted():
                self._wanted = True
                self._ask_at = max(now, self._retry_at)
            case GatewayInfo():
                effects = self._learn(event, now)
            case GatewayFailed():
                effects = self._failed(event, now)
        effects += self._pump(now)
        self._fleet.permits_wanted = len(self._waiting)
        return effects

    def next_deadline(self) -> float | None:
        """When a key gets free, a permit lapses, or Discord is to be asked."""
        ledger = self._ledger
        times = [permit.lapses_at for permit in ledger.permits.values()]
        if self._spent() and not self._asking:
            times.append(max(ledger.reset_at, self._ask_at))
        if self._idle():
            return min(times, default=None)
        times.append(self._question_at())
        ready_at = self._ready_at()
        if ready_at <= self._fleet.info_until:
            times.append(ready_at)
        return min(times)

    # --- what nodes say

    def _request(self, ref: Ref, body: PermitRequest, now: float) -> Effects:
        name, epoch = ref.peer.name, ref.peer.epoch
        proc = self._fleet.procs.get((name, epoch))
        mine = self._fleet.concerns(name, epoch, body.shard)
        if proc is not None and proc.role is not Role.SUCCESSOR:
            mine = False
        if body.num_shards != self._fleet.num_shards or not mine:
            text = f"shard {body.shard} of {body.num_shards} is not of node {name}"
            return [Refuse(ref, ErrorBody("E_BAD_REQUEST", text))]
        permit = self._ledger.held(body.shard, ref.peer.name, ref.peer.epoch)
        if permit is not None and permit.number in self._granting:
            return _superseded(self._granting.pop(permit.number)) + self._grant(permit, ref)
        older = self._waiting.pop(body.shard, None)
        self._waiting[body.shard] = ref
        effects = _superseded(older)
        if permit is not None:
            # Either our grant never came, or the word that it was used: an IDENTIFY more
            # costs the budget and, too early, the session; so it was used just now.
            self._ledger.doubt(permit, now)
            effects.append(self._keep())
        return effects

    def _sent(self, body: IdentifySent, now: float) -> Effects:
        if not 0 <= body.shard < self._fleet.num_shards:
            self._fleet.reject("shard")
            return []
        # In this order a NaN is 0: compared with anything it is False.
        ago_s = min(max(0.0, body.ago_ms) / 1000, USE_WITHIN_S)
        self._ledger.sent(body.permit, body.shard, now - ago_s, now)
        if not self._waiting:
            # The last answer may have counted this one already: the next one surely has.
            self._wanted, self._ask_at = True, now + RECENT_S
        return [self._keep()]

    def _returned(self, body: PermitReturn) -> Effects:
        if body.shard < 0 or not self._ledger.give_back(body.permit, body.shard):
            self._fleet.reject("permit")
            return []
        return [self._keep()]

    def _gone(self, event: NodeGone, now: float) -> Effects:
        for shard, ref in list(self._waiting.items()):
            if (ref.peer.name, ref.peer.epoch) == (event.name, event.epoch):
                del self._waiting[shard]
        return [self._keep()] if self._ledger.died(event.name, event.epoch, now) else []

    def _greeted(self, living: tuple[Process, ...], now: float) -> Effects:
        """Permits of processes that died with an earlier broker, or before this one."""
        alive = {(process.name, process.epoch) for process in living}
        held = {(permit.node, permit.epoch) for permit in self._ledger.permits.values()}
        dead = held - alive
        for node, epoch in dead:
            self._ledger.died(node, epoch, now)
        return [self._keep()] if dead else []

    def _waiter(self, shard: int) -> tuple[str, int] | None:
        ref = self._waiting.get(shard)
        return (ref.peer.name, ref.peer.epoch) if ref is not None else None

    # --- what Discord says

    def _learn(self, info: GatewayInfo, now: float) -> Effects:
        self._asking = self._wanted = False
        self._failures = 0
        self._retry_at = -math.inf
        self._fleet.info_until = now + max(self._fleet.settings.identify_window_s, INFO_FRESH_MIN_S)
        self._recommended = info.shards
        self._ledger.learn(
            total=info.total,
            remaining=info.remaining,
            reset_at=now + info.reset_after_s,
            max_concurrency=info.max_concurrency,
            asked_at=self._asked_at,
        )
        self._plan_next_question(now)
        uncounted = info.remaining > len(self._ledger.permits) and not self._ledger.remaining
        if uncounted:
            self._ask_at = min(self._ask_at, now + RECENT_S)
        self._fleet.warn(WARNING, None)
        return [self._keep()]

    def _failed(self, event: GatewayFailed, now: float) -> Effects:
        self._asking = False
        self._failures += 1
        wait_s = delay_s(self._failures, self._fleet.settings.seed, self._failures)
        self._ask_at = self._retry_at = now + max(wait_s, event.retry_after_s)
        text = f"GET /gateway/bot failed: {event.message}"
        self._fleet.warn(WARNING, text)
        return [Log("WARNING", text, {"code": event.code, "hint": event.hint})]

    def _plan_next_question(self, now: float) -> None:
        exhausted = not self._ledger.remaining
        self._ask_at = now + (INFO_EXHAUSTED_S if exhausted else INFO_MAX_AGE_S)
        if self._ledger.reset_at > now:
            self._ask_at = min(self._ask_at, self._ledger.reset_at)

    def _question_at(self) -> float:
        """When Discord is to be asked, where somebody waits for it or for a permit.

        Something else may use the token: no permit is granted by an answer that is older
        than one window, so Discord is asked shortly before the next key gets free.
        """
        ready_at = self._ready_at()
        if self._wanted or not self._ledger.remaining or ready_at <= self._fleet.info_until:
            return self._ask_at
        return max(ready_at - self._ahead_s, self._retry_at)

    @property
    def _ahead_s(self) -> float:
        return min(INFO_AHEAD_S, self._fleet.settings.identify_window_s / 2)

    def _ready_at(self) -> float:
        """When the first key that is waited for gets free; inf where none ever does."""
        ledger = self._ledger
        if not ledger.remaining:
            return math.inf
        keys = {ledger.key(shard) for shard in self._waiting}
        first = min((ledger.ready_at(key) for key in keys), default=math.inf)
        return max(first, self._seen_at)

    # --- granting

    def _pump(self, now: float) -> Effects:
        lapsed = self._ledger.lapse(now)
        effects: Effects = [self._keep()] if lapsed else []
        self._wanted |= self._spent() and now >= max(self._ledger.reset_at, self._ask_at)
        if self._idle():
            return effects
        if now >= self._question_at():
            self._asking, self._asked_at = True, now
            return [*effects, AskGateway()]
        if now <= self._fleet.info_until:
            effects += self._grant_free(now)
        return effects

    def _spent(self) -> bool:
        """Whether a reset gives starts back: then Discord is asked, so that nobody is told
        (or refused a respawn) by a count of yesterday."""
        stopping = self._fleet.state is FleetState.STOPPING
        ledger = self._ledger
        return not stopping and ledger.remaining is not None and ledger.remaining < ledger.total

    def _idle(self) -> bool:
        """Whether nothing can be done now but wait for an event."""
        stopping = self._fleet.state is FleetState.STOPPING
        return stopping or self._asking or not (self._wanted or self._waiting)

    def _grant_free(self, now: float) -> Effects:
        effects: Effects = []
        for shard, ref in list(self._waiting.items()):
            permit = self._ledger.grant(shard, ref.peer.name, ref.peer.epoch, now)
            if permit is not None:
                del self._waiting[shard]
                effects += self._grant(permit, ref)
        if effects and not self._ledger.remaining:
            self._plan_next_question(now)
        return effects

    def _grant(self, permit: Permit, ref: Ref) -> Effects:
        self._granting[permit.number] = ref
        return [self._keep(PermitStored(permit.number))]

    def _stored(self, event: PermitStored) -> Effects:
        ref = self._granting.pop(event.permit, None)
        if ref is None:
            return []
        if not event.error:
            return [Reply(ref, PermitGrant(event.permit, USE_WITHIN_S))]
        for permit in list(self._ledger.permits.values()):
            if permit.number == event.permit:
                self._ledger.give_back(permit.number, permit.shard)
        return [Refuse(ref, ErrorBody("E_STORE", event.error, "retry", retryable=True))]

    def _keep(self, then: PermitStored | None = None) -> Keep:
        self._show()
        return Keep((_record(self._fleet, self._ledger),), then)

    def _show(self) -> None:
        ledger = self._ledger
        if ledger.remaining is not None:
            self._fleet.budget = Budget(
                ledger.total,
                ledger.remaining,
                ledger.reset_at,
                ledger.max_concurrency,
                self._recommended,
            )


def _superseded(older: Ref | None) -> Effects:
    if older is None:
        return []
    return [Refuse(older, ErrorBody("E_SUPERSEDED", "the shard's permit was asked for anew"))]


def _record(fleet: Fleet, ledger: Ledger) -> LedgerRecord:
    return LedgerRecord(
        fleet.settings.application,
        fleet.settings.boot_id,
        ledger.total,
        ledger.remaining or 0,
        ledger.reset_at,
        ledger.max_concurrency,
        ledger.next_number,
        dict(ledger.free_at),
        tuple(
            PermitRecord(p.number, p.shard, p.node, p.epoch, p.lapses_at)
            for p in ledger.permits.values()
        ),
    )


def _restored(fleet: Fleet, record: LedgerRecord | None) -> Ledger:
    """The ledger as kept. After another boot its times mean nothing: all keys as just used."""
    window_s, now = fleet.settings.identify_window_s, fleet.started_at
    if record is None or record.application != fleet.settings.application:
        return Ledger(window_s)
    if record.boot_id != fleet.settings.boot_id:
        used = now + window_s + MARGIN_S
        return Ledger(window_s, next_number=record.next_permit, floor_at=used)
    ledger = Ledger(
        window_s,
        record.max_concurrency,
        total=record.total,
        remaining=record.remaining if record.total else None,
        reset_at=record.reset_at_s,
        next_number=record.next_permit,
        free_at=dict(record.free_at_s),
    )
    for kept in record.permits:
        granted_at = kept.lapses_at_s - USE_WITHIN_S
        permit = Permit(
            kept.permit, kept.shard, kept.node, kept.epoch, granted_at, kept.lapses_at_s
        )
        ledger.permits[ledger.key(kept.shard)] = permit
    return ledger
