"""What `status --verbose` says of the message plane: queues, credit, refusals, ends. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from shardctl.cli.beside import COUNTS, counts_line
from shardctl.cli.report import counted, size

REASONS: Final = {
    "batch": "a batch's header that cannot be true",
    "body": "a body that is not of its type",
    "busy": "too many requests in flight",
    "credit": "more credit than was taken",
    "identity": "no routing id of ours",
    "kind": "the wrong kind for its topic",
    "limit": "a number beyond its limit",
    "malformed": "bytes that are no header",
    "old_epoch": "from an older process",
    "oversized": "too large",
    "parts": "not two parts",
    "permit": "a permit that was not given",
    "queue_full": "the receiver's queue was full",
    "role": "not for its role",
    "shard": "a shard that is not its own",
    "shard_state": "a shard's state that cannot follow",
    "stray_reply": "a reply to no request",
    "target": "a target that cannot be",
    "topic": "nothing that the broker serves",
    "topics": "too many topics, or too long ones",
    "unreachable": "nobody there",
    "unregistered": "not registered",
    "unsupported": "a kind that peers do not send",
    "version": "an unknown version",
}
"""Why frames were refused, in words; a reason that is not here stands for itself."""
TROUBLES: Final = {
    "events_dropped": "of its events dropped",
    "frames_dropped": "frames to the broker dropped",
    "handlers_failed": "handlers failed",
    "messages_refused": "messages refused that could not be read",
    "messages_unheard": "messages that nothing handles",
    "no_journal": "journal missing, so that each start IDENTIFYs",
}
"""What a node or client has dropped and refused, in words."""
_DROPS: Final = "dropped_"
_MESSAGES: Final = {"messages_forwarded": "forwarded", "unrouted": "to nobody"}
_FRAMES: Final = {
    "forwarded": "of single messages forwarded",
    "parked": "waited for an absent node",
    "bounced": "went back to their senders",
    "bounces_lost": "bounces lost",
    "credits_lost": "credits lost",
    "letters_answered": "answers to retried letters",
}
_REQUESTS: Final = {"requests_expired": "expired"}


def plane_lines(broker: Mapping[str, Any]) -> Iterator[str]:
    """The broker's counts since its start; nothing of a broker that tells none."""
    if "rejected" not in broker:
        return
    counts, refused = broker["counts"], broker["rejected"]
    total = sum(refused.values())
    yield f"refused frames: {total}"
    for reason, count in _most(refused):
        yield f"    {count} {reason}" + (f": {REASONS[reason]}" if reason in REASONS else "")
    drops = {name: n for name, n in counts.items() if name.startswith(_DROPS) and n}
    dropped = ", ".join(f"{name.removeprefix(_DROPS)} {n}" for name, n in _most(drops))
    yield "messages: " + ", ".join(
        [
            *(f"{counts.get(name, 0)} {words}" for name, words in _MESSAGES.items()),
            f"{sum(drops.values())} dropped" + (f" ({dropped})" if dropped else ""),
        ]
    )
    told = {*_MESSAGES, *_FRAMES, *_REQUESTS, *drops, *COUNTS, "dead_letters_total"}
    yield from counts_line(counts)
    frames = [f"{counts[name]} {words}" for name, words in _FRAMES.items() if counts.get(name)]
    yield f"frames: {', '.join(frames) or 'none'}"
    others = [f"{name} {counts[name]}" for name in sorted(counts.keys() - told) if counts[name]]
    requests = counts.get("requests_expired", 0)
    yield "; ".join([f"requests: {requests} expired", *others])
    ended = [f"{code} {count}" for code, count in _most(broker.get("dead_letters_by_code", {}))]
    since = f"; since the broker's start {', '.join(ended)}" if ended else ""
    look = " (shardctl dead-letters list)" if broker["dead_letters"] else ""
    yield f"dead letters: {broker['dead_letters']}{look}{since}"
    if "clients" in broker:
        yield f"clients: {broker['clients']}; routing table version {broker['routes_version']}"
    if broker.get("client_troubles"):
        yield f"    the clients that are there: {_troubles(broker['client_troubles'])}"


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The largest first."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def node_lines(node: Mapping[str, Any]) -> Iterator[str]:
    """What waits in the broker for a node, its credit, and what it has dropped itself."""
    queue = node.get("broker_queue")
    if queue:
        yield from _queue_lines(queue)
    if node.get("troubles"):
        yield f"    since it began: {_troubles(node['troubles'])}"


def _troubles(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {TROUBLES.get(name, name)}" for name, count in _most(counts))


def _queue_lines(queue: Mapping[str, Any]) -> Iterator[str]:
    waiting = queue["waiting_messages"]
    by_lane = f" ({', '.join(f'{lane} {n}' for lane, n in waiting.items())})" if waiting else ""
    parts = [f"{counted(sum(waiting.values()), 'message')} waiting in the broker{by_lane}"]
    if queue["parked_messages"]:
        parts.append(f"{queue['parked_messages']} until it is back")
    if queue["control_frames"]:
        parts.append(counted(queue["control_frames"], "control frame"))
    credit = queue.get("credit")
    if credit:
        used, window = credit["used_messages"], credit["window_messages"]
        stuck = ", stuck" if credit["stuck"] else ""
        used_bytes = size(credit["used_bytes"]) if credit["used_bytes"] else "0 B"
        room = f"{used_bytes} of {size(credit['window_bytes'])}"
        parts.append(f"credit in use: {used} of {window} messages, {room}{stuck}")
    yield "    " + "; ".join(parts)
