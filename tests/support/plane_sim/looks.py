"""Looks into the broker and the nodes. Every inner name that the simulation needs stands here."""

from __future__ import annotations

from broker.core.batches import Lanes
from broker.services.machine import Broker
from shard_node.peer import asks as asks_of
from shard_node.peer import lines as lines_of
from shard_node.peer.api import Peer
from shard_node.wire import limits


def override(machine: Broker, guild: int, name: str | None) -> None:
    """A guild gets another owner."""
    machine.fleet.table.override(guild, name)


def broker_limits(machine: Broker) -> list[str]:
    """Queues of the broker that are longer than they may be."""
    plane = machine.plane
    found = []
    for name, lanes in [*plane._destinations.items(), *plane.parking._lanes.items()]:
        found += [f"the broker has {text} for {name!r}" for text in _too_long(lanes)]
    if plane.parking.size_bytes > limits.PARKED_MAX_BYTES:
        found.append(f"the broker has parked {plane.parking.size_bytes} bytes")
    letters = machine.fleet.letters
    if len(letters) > limits.DEAD_LETTERS_MAX or letters.size_bytes > limits.DEAD_LETTERS_MAX_BYTES:
        found.append(f"the broker has {len(letters)} letters")
    for routing_id, queue in machine.outbox._queues.items():
        for number, lane in enumerate(queue.lanes):
            if lane.frames > limits.QUEUE_MAX_FRAMES[number]:
                found.append(f"the broker has {lane.frames} control frames for {routing_id!r}")
    return found


def _too_long(lanes: Lanes) -> list[str]:
    return [
        f"{lane.frames} frames, {lane.messages} messages, {lane.size_bytes} bytes in lane {number}"
        for number, lane in enumerate(lanes.lanes)
        if lane.frames > limits.QUEUE_MAX_FRAMES[number]
        or lane.messages > limits.QUEUE_MAX_MESSAGES[number]
        or lane.size_bytes > limits.QUEUE_MAX_BYTES[number]
    ]


def peer_limits(peer: Peer) -> list[str]:
    """The same of a node or client. What is put at the limit may fill a batch beyond it, and
    what comes back from a lost broker is a window's worth at most."""
    plane = peer._plane
    outbox, found = plane.outbox, []
    again = limits.SEND_WINDOW_MESSAGES + limits.CREDIT_RESERVE_MESSAGES + limits.BATCH_MAX_MESSAGES
    if max(outbox._waiting) > lines_of.QUEUE_MAX_MESSAGES + again:
        found.append(f"{outbox._waiting} messages wait to be sent")
    most = limits.SEND_WINDOW_BYTES + limits.BODY_MAX_BYTES
    for size, limit in zip(outbox._waiting_bytes, limits.QUEUE_MAX_BYTES, strict=True):
        if size > limit + most:
            found.append(f"{size} bytes wait to be sent")
    if len(plane.asks) > asks_of.ASKS_MAX:
        found.append(f"{len(plane.asks)} are asked")
    most = limits.CREDIT_MAX_MESSAGES + limits.CREDIT_RESERVE_MESSAGES + limits.BATCH_MAX_MESSAGES
    if plane.inbox.waiting > most:
        found.append(f"{plane.inbox.waiting} messages wait to be handled")
    return found


def broker_open(machine: Broker) -> list[str]:
    """What the broker still has when all should be calm."""
    plane = machine.plane
    found = []
    for name, lanes in [*plane._destinations.items(), *plane.parking._lanes.items()]:
        if len(lanes):
            found.append(f"the broker has {len(lanes)} frames for {name!r}")
    if plane.parking.size_bytes:
        found.append(f"the broker has {plane.parking.size_bytes} bytes parked")
    if len(plane.senders):
        found.append("the broker has credit that senders were not told of")
    if len(machine.outbox):
        found.append(f"the broker has control frames for {machine.outbox.waiting()}")
    if not plane.idle and not plane.next_deadline():
        found.append("the broker's plane is not idle")
    return found


def peer_open(peer: Peer) -> list[str]:
    """The same of a node or client."""
    plane = peer._plane
    outbox = plane.outbox
    values = {
        "asks": len(plane.asks),
        "messages that wait to be sent": outbox.waiting,
        "messages in its window": outbox._out_messages,
        "bytes in its window": outbox._out_bytes,
        "kept frames": len(outbox._kept),
        "messages that wait to be handled": plane.inbox.waiting,
        "handlers": len(plane._stepper.running) if plane._stepper is not None else 0,
    }
    return [f"{count} {what}" for what, count in values.items() if count]
