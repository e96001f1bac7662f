"""The shared state's writes: transactions are applied as they come, committed in groups, and
answered once they are durable; others are told of them once the state's file shows them.

While one commit runs, the next one is collected.
What was computed on top of a commit that failed fails with it; nobody has seen any of it.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple

import msgspec

from broker.core.effects import Effects, Emit, KeepState, Log, Refuse, Reply, ResetState
from broker.core.events import Asked, Event, Forgotten, StateCommitted, StateSettled
from broker.core.fleet import Fleet
from broker.core.inflight import Ref
from broker.core.overlay import Layer, Overlay
from broker.core.stateport import Forgetting, SharedState
from broker.services.deltas import Change, Deltas, changes_of
from broker.services.stopping import PANIC, given_up
from broker.services.upward import ops_of, tx_of
from shard_node.state.erasing import ForgetUser
from shard_node.state.errors import StateError
from shard_node.state.machine import Place, apply, read_tx
from shard_node.state.quick import quick
from shard_node.state.sweeping import Sweep
from shard_node.state.tx import Actor, Tx
from shard_node.wire.bodies import ErrorBody
from shard_node.wire.categories import GuildSync, StateUpdate
from shard_node.wire.limits import (
    STATE_OPS_MAX,
    STATE_OWN_ROWS_MAX_BYTES,
    STATE_TXS_MAX,
    STATE_WAITING_MAX,
    STATE_WAITING_MAX_BYTES,
)
from shard_node.wire.state import StateAt, StateDo, StateDone, StateOutcome
from store.records import Durable

GROUP_MAX_TXS: Final = 1024
GROUP_MAX_BYTES: Final = 4 << 20
"""Of one commit, about: its puts hold up the loop, some 2 us for each transaction."""
COMMITTED_TELL_S: Final = 0.005
"""How often subscribers of ``state.committed`` are told at most."""
NOTE: Final = 0
"""The token of what is kept beside the state: a failure of it is the writer's as well."""
OPERATOR: Final = "shardctl"
"""How the log names every command line."""
_ACTOR_OF_ROLE: Final = {"operator": OPERATOR}

_encode = msgspec.msgpack.Encoder().encode


class Answer(NamedTuple):
    """A request that waits for a commit, and what it will be told."""

    ref: Ref
    outcomes: list[StateOutcome]


class Group:
    """What one commit takes with it: who waits for it, and what it changes."""

    __slots__ = (
        "answers",
        "began_at",
        "changes",
        "forgotten",
        "full",
        "layer",
        "place",
        "size_bytes",
        "token",
        "txs",
    )

    def __init__(self, place: Place) -> None:
        self.answers: list[Answer] = []
        self.changes: list[Change] = []
        self.forgotten: list[Forgetting] = []
        self.full = False
        self.txs = self.size_bytes = self.token = 0
        self.place = place
        self.layer = Layer()
        self.began_at = 0.0


class State:
    """The one that applies. Owns the overlay; whoever reads the port sees what is durable."""

    def __init__(self, fleet: Fleet, _durable: Durable) -> None:
        self._fleet, self._shared = fleet, fleet.shared
        self._overlay = Overlay(fleet.shared.port)
        self._deltas = Deltas(fleet)
        self._group = Group(self._overlay.place)
        self._sealed: deque[Group] = deque()
        self._unsettled: deque[Group] = deque()
        """Durable ones that the file does not show yet."""
        self._reached = 0
        self._waiting_bytes = 0
        self._read = False
        self._unread: tuple[int, ...] = ()
        self._next_token = 1
        self._told = self._shared.shown
        self._told_at = 0.0
        self._go_on()

    def _go_on(self) -> None:
        """Behind what the file lacked at the start."""
        shared = self._shared
        told = changes_of(shared.settled.view, shared.behind)
        for one, changes in zip(shared.behind, told, strict=True):
            group = Group(one.place)
            group.token, group.txs, group.changes = one.token, len(one.entries), changes
            self._unsettled.append(group)
            self._next_token = one.token + 1
            shared.unsettled += group.txs
        shared.behind = ()
        self._overlay.load()  # before anybody is served

    def on(self, event: Event, now: float) -> Effects:
        match event:
            case Asked(ref=ref, body=StateDo() as body):
                return self._do(ref, body, now)
            case Asked(ref=ref, body=StateUpdate() | GuildSync() as body):
                return self._up(ref, body, now)
            case StateCommitted():
                return self._committed(event, now)
            case StateSettled():
                return self._settled(event, now)
        lost = self._lost() if self._overlay.unread != self._unread else []
        return lost + (self._tell(now) if self._told is not self._shared.shown else [])

    def next_deadline(self) -> float | None:
        """When subscribers hear of the last commit."""
        if self._told is self._shared.shown:
            return None
        return self._told_at + COMMITTED_TELL_S

    # --- transactions in

    def _up(self, ref: Ref, body: StateUpdate | GuildSync, now: float) -> Effects:
        """A record's fields, or a guild's: a transaction, unless nothing differs."""
        overlay, shared = self._overlay, self._shared
        try:
            ops = ops_of(body, overlay)
            key, at_ms = shared.secret, shared.clock.at_ms(now)
            txs = (tx_of(ops, body, ref, overlay.place, at_ms, key),) if ops else ()
        except StateError as error:
            return [Reply(ref, StateDone((StateOutcome(0, error=body_of(error)),)))]
        return self._do(ref, StateDo(txs), now, read=True)

    def _do(self, ref: Ref, body: StateDo, now: float, *, read: bool = False) -> Effects:
        """``read``: the answer may rest on what waits for its commit, in any case."""
        size_bytes = sum(map(len, body.txs))
        refusal = self._refusal(len(body.txs), size_bytes)
        if refusal is not None:
            return [Refuse(ref, refusal)]
        actor = _ACTOR_OF_ROLE.get(ref.peer.role, ref.peer.name)
        at_ms = self._shared.clock.at_ms(now)
        self._read = read
        outcomes, effects = self._apply_all(body, actor, at_ms, own=not ref.routing_id)
        if self._overlay.unread != self._unread:
            effects += self._lost()
        group = self._group
        # Where nothing waits, or nothing was read, no failure can take the answer back.
        if not self._read or (not group.full and not self._sealed):
            return [*effects, Reply(ref, StateDone(tuple(outcomes)))]
        if not group.full:
            group = self._sealed[-1]
        group.answers.append(Answer(ref, outcomes))
        group.size_bytes += size_bytes
        group.txs += len(outcomes)
        if group.txs >= GROUP_MAX_TXS or group.size_bytes >= GROUP_MAX_BYTES:
            self._seal()
        self._shared.waiting += len(outcomes)
        self._waiting_bytes += size_bytes
        return effects + self._send(now)

    def _lost(self) -> Effects:
        """Records are damaged that should tell whether a transaction was applied."""
        self._unread = self._overlay.unread
        first, count = self._unread[0], len(self._unread)
        which = f"record {first}" if count == 1 else f"{count} records, the first {first},"
        text = (
            f"{which} of the state's log cannot be read: of a transaction there that is sent again"
            " it is not known that it was applied"
            " (run: shardctl state check --copy, then: shardctl backup restore)"
        )
        self._fleet.warn("state_log", text)
        return [Log("ERROR", text)]

    def _refusal(self, count: int, size_bytes: int) -> ErrorBody | None:
        if count > STATE_TXS_MAX:
            text = f"{count} transactions in one request; the limit is {STATE_TXS_MAX}"
            return ErrorBody("E_TOO_LARGE", text, "send them in several requests")
        if (
            self._shared.waiting + self._shared.unsettled + count > STATE_WAITING_MAX
            or self._waiting_bytes + size_bytes > STATE_WAITING_MAX_BYTES
        ):
            text = f"{self._shared.waiting + self._shared.unsettled} transactions wait for the disk"
            return ErrorBody("E_BUSY", text, "retry later", retryable=True)
        return None

    def _apply_all(
        self, body: StateDo, actor: str, at_ms: int, *, own: bool
    ) -> tuple[list[StateOutcome], Effects]:
        """``own``: asked by the broker itself."""
        outcomes: list[StateOutcome] = []
        effects: Effects = []
        ops_left = STATE_OPS_MAX
        for data in body.txs:
            try:
                tx = read_tx(data)
                ops_left -= len(tx.ops)
                if ops_left < 0:
                    outcomes.append(_TOO_MANY)
                elif not own and tx.ops and type(tx.ops[0]) is Sweep:
                    outcomes.append(_NOT_YOURS)
                else:
                    outcomes.append(self._apply(tx, actor, at_ms, rows=body.rows))
            except StateError as error:
                outcomes.append(StateOutcome(0, error=body_of(error)))
            except Exception as error:
                # A bug of ours in one operation must not end the broker, nor spoil the others.
                text = f"a transaction could not be applied: {type(error).__name__}: {error}"
                effects.append(Log("ERROR", text))
                outcomes.append(StateOutcome(0, error=ErrorBody("E_STATE", text)))
        return outcomes, effects

    def _apply(self, tx: Tx, actor: str, at_ms: int, *, rows: bool) -> StateOutcome:
        result = quick(self._shared.buckets, tx, at_ms)
        if result is not None:
            return StateOutcome(0, (result,))
        self._read = True
        if tx.actor.node != actor:  # who it was is the socket's word, not the sender's
            tx = Tx(tx.op_id, tx.salt, tx.ops, Actor(actor, tx.actor.user, tx.actor.reason))
        overlay = self._overlay
        applied = apply(overlay, overlay, tx, at_ms, overlay.place)
        if applied.entry is not None:
            overlay.add(applied)
            self._group.full = True
            if type(tx.ops[0]) is ForgetUser:  # it is alone in its transaction
                forgetting = Forgetting(tx.ops[0].user, applied.lsn, 0)
                self._group.forgotten.append(forgetting)
                self._shared.forgetting_soon.append(forgetting)
            if self._deltas.wanted(applied.writes):
                self._group.changes += self._deltas.of(applied)
        own = _own_rows(applied.writes) if rows and applied.entry is not None else None
        return StateOutcome(applied.lsn, applied.results, rows=own)

    # --- commits

    def _send(self, now: float) -> Effects:
        """Gives the writer what was collected, where it has room in its hand."""
        if not self._sealed:
            self._seal()
        if not self._sealed or self._sealed[0].token:
            return []
        group = self._sealed[0]
        group.token, group.began_at = self._next_token, now
        self._next_token += 1
        layer = group.layer
        mark = self._shared.clock.mark(now)._replace(at_ms=layer.entries[-1].at_ms)
        shared = self._shared
        left = None
        if group.forgotten:
            soon = [one for one in shared.forgetting_soon if one.up_to <= group.place.lsn]
            left = (*shared.forgetting, *soon)
        return [KeepState(group.token, layer.writes, layer.entries, mark, left)]

    def _seal(self) -> None:
        """What was collected is one commit; what is applied from now on is another."""
        if self._group.full:
            self._group.place = self._overlay.place
            self._group.layer = self._overlay.seal()
            self._sealed.append(self._group)
            self._group = Group(self._overlay.place)

    def _committed(self, event: StateCommitted, now: float) -> Effects:
        mine = bool(self._sealed) and self._sealed[0].token == event.token
        if event.code and (mine or event.token == NOTE):
            return self._failed(event)
        if not mine:
            return given_up(event)  # it failed with one before it, or is another service's
        self._fleet.warn("state", None)
        group = self._sealed.popleft()
        shared, layer = self._shared, group.layer
        shared.port.add(group.token, layer.writes, layer.entries, group.place)
        self._overlay.committed()
        self._unsettled.append(group)
        shared.commits += 1
        shared.unsettled += group.txs
        shared.commit_ms = (now - group.began_at) * 1000
        shared.waiting -= group.txs
        effects = self._send(now)
        for ref, outcomes in group.answers:
            effects.append(Reply(ref, StateDone(tuple(outcomes))))
        group.answers.clear()
        if group.token <= self._reached:  # the word of the file came before that of the journal
            effects += self._show(now)
        return effects + [Emit(Forgotten(one.user, one.up_to)) for one in group.forgotten]

    def _settled(self, event: StateSettled, now: float) -> Effects:
        if event.error:
            text = f"the state's file takes nothing for now: {event.error}"
            self._fleet.warn("state_file", f"{text}; what is confirmed lies in its journal")
            return given_up(event)
        self._fleet.warn("state_file", None)
        self._reached = max(self._reached, event.token)
        return self._show(now)

    def _show(self, now: float) -> Effects:
        """The file shows all up to the token that it reached: others may know of it."""
        self._shared.port.settle(self._reached)
        changes: list[Change] = []
        while self._unsettled and self._unsettled[0].token <= self._reached:
            group = self._unsettled.popleft()
            self._shared.shown = group.place
            self._shared.unsettled -= group.txs
            self._waiting_bytes -= group.size_bytes
            changes += group.changes
        return (self._deltas.told(changes) if changes else []) + self._tell(now)

    def _failed(self, event: StateCommitted) -> Effects:
        """All that waits was computed on top of what is not kept."""
        groups = [*self._sealed, self._group]
        self._sealed.clear()
        self._overlay.reset()
        self._group = Group(self._overlay.place)
        self._shared.failed += 1
        self._fleet.warn("state", f"the state keeps nothing: {event.error}")
        kept = "not known to be kept" if event.code == PANIC else "not kept"
        error = ErrorBody(event.code, f"{kept}: {event.error}", event.hint, retryable=True)
        effects: Effects = [ResetState(), Log("ERROR", f"a commit of the state failed: {event}")]
        for group in groups:
            self._shared.waiting -= group.txs
            self._waiting_bytes -= group.size_bytes
            effects += [Refuse(ref, error) for ref, _ in group.answers]
            for one in group.forgotten:
                self._shared.forgetting_soon.remove(one)
        return effects + given_up(event)

    # --- who listens

    def _tell(self, now: float) -> Effects:
        if now < self._told_at + COMMITTED_TELL_S:
            return []
        self._told, self._told_at = self._shared.shown, now
        return self._deltas.committed(at(self._shared, now))


def at(shared: SharedState, now: float) -> StateAt:
    """Where the log stands as far as the file shows it and all changes were told."""
    place = shared.shown
    first, now_ms = shared.port.first_lsn(), shared.clock.at_ms(now)
    return StateAt(place.lsn, place.at_ms, first, now_ms, shared.era)


def _own_rows(writes: dict[bytes, bytes | None]) -> bytes | None:
    """What a transaction wrote, for its sender; None where that is too much."""
    data = _encode(writes)
    return data if len(data) <= STATE_OWN_ROWS_MAX_BYTES else None


def body_of(error: StateError) -> ErrorBody:
    """An error as it travels."""
    details: dict[str, Any] = error.details
    return ErrorBody(error.code, str(error), error.hint or "", error.retryable, details)


_NOT_YOURS: Final = StateOutcome(
    0, error=ErrorBody("E_BAD_VALUE", "rows are swept by the broker itself, once no log needs them")
)
_TOO_MANY: Final = StateOutcome(
    0,
    error=ErrorBody(
        "E_BUSY",
        f"more than {STATE_OPS_MAX} operations in one request",
        "send the rest again",
        retryable=True,
    ),
)
