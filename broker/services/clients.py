"""Programs outside a bot: they register, beat on their main socket, and are forgotten."""

from __future__ import annotations

from broker.core.effects import Effects, Emit, Log, Refuse, Reply
from broker.core.events import Asked, ClientGone, ClientJoined, Event
from broker.core.fleet import Fleet
from broker.core.inflight import Ref
from broker.services.membership import troubles
from shard_node.wire import identity
from shard_node.wire.bodies import (
    ClientRegister,
    ErrorBody,
    Heartbeat,
    HeartbeatAck,
    Subscribe,
    Welcome,
)
from shard_node.wire.limits import (
    CLIENT_BEATS_MAX_S,
    CLIENT_INTERVAL_MAX_S,
    CLIENTS_MAX,
    HEARTBEAT_INTERVAL_S,
    HEARTBEAT_LOST_S,
)
from store.records import Durable


class Clients:
    """Who is registered, and when each was heard last."""

    def __init__(self, fleet: Fleet, _durable: Durable) -> None:
        self._fleet = fleet
        self._heard_at: dict[str, float] = {}  # the most silent one first

    def on(self, event: Event, now: float) -> Effects:
        match event:
            case Asked(ref=ref, body=ClientRegister() as body):
                return self._register(ref, body, now)
            case Asked(ref=ref, body=Heartbeat() as body) if ref.peer.role == "client":
                return self._heartbeat(ref, body, now)
            case Asked(ref=ref, body=Subscribe() as body) if ref.peer.role == "client":
                self._fleet.subscribe(ref.peer.name, body.topics)
        return self._forget(now)

    def next_deadline(self) -> float | None:
        """When the most silent client is forgotten."""
        for heard_at in self._heard_at.values():
            return heard_at + HEARTBEAT_LOST_S
        return None

    def _register(self, ref: Ref, body: ClientRegister, now: float) -> Effects:
        name = ref.peer.name
        if not identity.is_node_name(body.name) or not name.startswith(f"cl-{body.name}-"):
            return [Refuse(ref, ErrorBody("E_BAD_REQUEST", "not the name of its socket"))]
        if body.name in self._fleet.nodes:
            text = f"{body.name} is a node of this fleet"
            return [Refuse(ref, ErrorBody("E_NAME_TAKEN", text, "connect under another name"))]
        again = name in self._heard_at
        if not again and len(self._heard_at) >= CLIENTS_MAX:
            text = f"{CLIENTS_MAX} clients are registered"
            return [Refuse(ref, ErrorBody("E_BUSY", text, "retry later", retryable=True))]
        self._hear(name, now)
        self._fleet.table.join_client(name, body.name)
        self._fleet.subscribe(name, body.topics)
        said = [] if again else [Log("INFO", f"client {name} registered")]
        return [*said, Reply(ref, self._welcome(name)), Emit(ClientJoined(name))]

    def _welcome(self, name: str) -> Welcome:
        settings = self._fleet.settings
        return Welcome(
            True,
            settings.fleet,
            settings.broker_pid,
            self._interval_s(),
            settings.drain_s,
            told=self._fleet.shared.told.get(name, 0),
            era=self._fleet.shared.era,
        )

    def _heartbeat(self, ref: Ref, body: Heartbeat, now: float) -> Effects:
        registered = ref.peer.name in self._heard_at
        if registered:
            self._hear(ref.peer.name, now)
            if body.troubles:
                self._fleet.client_troubles[ref.peer.name] = troubles(body)
        ack = HeartbeatAck(
            body.counter,
            registered,
            self._fleet.settings.broker_pid,
            self._interval_s(),
            self._fleet.shared.told.get(ref.peer.name, 0),
        )
        return [Reply(ref, ack)]

    def _interval_s(self) -> float:
        """The pace of each: together they beat no more than CLIENT_BEATS_MAX_S times a second,
        as far as CLIENT_INTERVAL_MAX_S lets them."""
        fair_s = len(self._heard_at) / CLIENT_BEATS_MAX_S
        return min(max(fair_s, HEARTBEAT_INTERVAL_S), CLIENT_INTERVAL_MAX_S)

    def _hear(self, name: str, now: float) -> None:
        self._heard_at.pop(name, None)
        self._heard_at[name] = now

    def _forget(self, now: float) -> Effects:
        silent = []
        for name, heard_at in self._heard_at.items():
            if heard_at + HEARTBEAT_LOST_S > now:
                break
            silent.append(name)
        effects: Effects = []
        for name in silent:
            del self._heard_at[name]
            self._fleet.client_troubles.pop(name, None)
            self._fleet.shared.told.pop(name, None)
            self._fleet.table.leave(name)
            effects += [Log("INFO", f"client {name} is silent"), Emit(ClientGone(name))]
        return effects
